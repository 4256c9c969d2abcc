"""When units that rest go on."""

from iscsi_target.scsi.logical_unit import LogicalUnit
from iscsi_target.target.alarms import NEVER
from iscsi_target.target.rests import Rests
from tests.unit.scsi.unit_bench import make_device


def unit(name: str) -> LogicalUnit:
    return LogicalUnit(name, make_device())


def test_nobody_rests_at_first():
    rests = Rests()
    assert rests.next == NEVER
    assert rests.take(1e9) == []


def test_units_go_on_once_in_the_order_of_their_times():
    rests, units = Rests(), [unit(name) for name in "abc"]
    for each, at in zip(units, (30.0, 10.0, 20.0), strict=True):
        rests.add(each, each, each.resume, at)
    assert rests.next == 10.0
    assert [each.name for each, _ in rests.take(20.0)] == ["b", "c"]
    assert rests.take(20.0) == []
    assert rests.next == 30.0


def test_of_the_same_time_the_first_comes_first():
    rests, units = Rests(), [unit(name) for name in "abc"]
    for each in units:
        rests.add(each, each, each.resume, 5.0)
    assert [(each.name, go_on) for each, go_on in rests.take(5.0)] == [(each.name, each.resume) for each in units]


def test_what_is_dropped_leaves_nothing_behind():
    rests, units = Rests(), [unit(name) for name in "abc"]
    for each in units:
        rests.add(each, each, each.resume, 5.0)
    rests.drop(units[1])
    rests.drop(units[1])
    assert [each.name for each, _ in rests.take(5.0)] == ["a", "c"]
    assert not len(rests)
    assert not rests._rests
    assert not rests._place_of
    rests.drop(units[0])
    rests.add(units[0], units[0], units[0].resume, 6.0)
    assert rests.next == 6.0
