"""Times at which connections are looked at."""

from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.target.alarms import MAX_OUTDATED, NEVER, Alarms


def test_nothing_is_ever_due_without_connections():
    alarms = Alarms()
    assert alarms.next == NEVER
    assert alarms.take(1e9) == []


def test_connections_are_taken_once_in_the_order_of_their_times():
    alarms = Alarms()
    for number, at in ((1, 30.0), (2, 10.0), (3, 20.0)):
        alarms.set(number, at)
    assert alarms.next == 10.0
    assert alarms.take(20.0) == [2, 3]
    assert alarms.take(20.0) == []
    assert alarms.next == 30.0


def test_earlier_time_counts():
    alarms = Alarms()
    for at in (30.0, 10.0, 20.0):
        alarms.set(1, at)
    assert alarms.next == 10.0
    assert alarms.take(30.0) == [1]
    assert alarms.next == NEVER


def test_forgotten_connection_is_not_due():
    alarms = Alarms()
    alarms.set(1, 10.0)
    alarms.forget(1)
    assert alarms.next == NEVER
    alarms.forget(1)


def test_storm_of_connections_leaves_no_growing_heap_of_entries():
    alarms = Alarms()
    alarms.set(0, 5.0)
    for number in range(1, 3 * MAX_OUTDATED):
        alarms.set(number, 30.0)
        alarms.forget(number)
        assert len(alarms._queue) <= MAX_OUTDATED + 4
    assert alarms.take(30.0) == [0]


times = st.floats(0, 100)


@given(st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), times))), times)
def test_taken_are_those_whose_least_time_has_come(entries, now):
    """Law: of what was set since a connection was forgotten, the least time counts."""
    alarms = Alarms()
    least: dict[int, float] = {}
    for number, at in entries:
        if at is None:
            alarms.forget(number)
            least.pop(number, None)
        else:
            alarms.set(number, at)
            least[number] = min(at, least.get(number, NEVER))
    assert alarms.next == min(least.values(), default=NEVER)
    assert sorted(alarms.take(now)) == sorted(number for number, at in least.items() if at <= now)
