"""Times of many keys."""

from iscsi_target.discovery.isns.schedule import NEVER, Schedule


def test_keys_are_due_in_the_order_of_their_last_times():
    schedule: Schedule[str] = Schedule()
    assert schedule.deadline() == NEVER
    schedule.put("a", 3.0)
    schedule.put("b", 2.0)
    schedule.put("c", 1.0)
    schedule.put("a", 1.5)
    schedule.drop("c")
    schedule.drop("nothing")
    assert "a" in schedule
    assert schedule.deadline() == 1.5
    assert schedule.take(2.0) == ["a", "b"]
    assert ("a" in schedule, schedule.deadline()) == (False, NEVER)


def test_times_that_do_not_count_any_more_take_no_room():
    schedule: Schedule[int] = Schedule()
    for at in range(10_000):
        schedule.put(at % 10, at)
    assert len(schedule._heap) < 200
    assert schedule.take(1e9) == [(9990 + key) % 10 for key in range(10)]
