"""When what rests goes on."""

from functools import partial

from iscsi_target.target.alarms import NEVER
from iscsi_target.target.rests import Rests


def rest_all(rests: Rests, gone_on: list[str], *times: float) -> None:
    for name, at in zip("abc", times, strict=True):
        rests.add(name, partial(gone_on.append, name), at)


def go_on(rests: Rests, now: float) -> None:
    for each in rests.take(now):
        each()


def test_nothing_rests_at_first():
    rests = Rests()
    assert rests.next == NEVER
    assert rests.take(1e9) == []


def test_each_goes_on_once_in_the_order_of_their_times():
    rests = Rests()
    gone_on: list[str] = []
    rest_all(rests, gone_on, 30.0, 10.0, 20.0)
    assert rests.next == 10.0
    go_on(rests, 20.0)
    assert gone_on == ["b", "c"]
    assert rests.take(20.0) == []
    assert rests.next == 30.0


def test_of_the_same_time_the_first_comes_first():
    rests = Rests()
    gone_on: list[str] = []
    rest_all(rests, gone_on, 5.0, 5.0, 5.0)
    go_on(rests, 5.0)
    assert gone_on == ["a", "b", "c"]


def test_what_is_dropped_leaves_nothing_behind():
    rests = Rests()
    gone_on: list[str] = []
    rest_all(rests, gone_on, 5.0, 5.0, 5.0)
    rests.drop("b")
    rests.drop("b")
    go_on(rests, 5.0)
    assert gone_on == ["a", "c"]
    assert not len(rests)
    assert not rests._rests
    assert not rests._place_of
    rests.drop("a")
    rests.add("a", partial(gone_on.append, "a"), 6.0)
    assert rests.next == 6.0
