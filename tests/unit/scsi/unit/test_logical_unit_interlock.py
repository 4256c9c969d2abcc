"""UA_INTLCK_CTRL of the control mode page: what clears a unit attention, and whether refusals make one.

A selects the mode; B has read since, so that it was told of the change.
"""

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts import cdb as spc
from iscsi_target.scsi.layouts.cdb import RequestSense, Reserve6
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.state.task import Completed
from iscsi_target.scsi.status import Status
from tests.unit.scsi.unit_bench import A, B, Bench

pytestmark = pytest.mark.clause("SPC4r37 7.5.8")

CLEARED, INTERLOCKED, WITH_REFUSALS = 0b00, 0b10, 0b11
RESERVED = 0b01
READY, SENSE = spc.TestUnitReady(), RequestSense(allocation_length=18)
CAPACITY_CHANGED = (6, AttentionCode.CAPACITY_DATA_HAS_CHANGED)
CONFLICT_BEFORE = (6, AttentionCode.PREVIOUS_RESERVATION_CONFLICT_STATUS)


def bench_with(control: int) -> Bench:
    bench = Bench()
    bench.select(A, ControlPage(ps=False, ua_intlck_ctrl=control).pack())
    bench.send(B, SENSE)
    return bench


def told(bench: Bench) -> tuple[int, int]:
    """Returns the sense key and code that B is told by CHECK CONDITION, zeros for GOOD."""
    task = bench.send(B, READY)
    return (0, 0) if bench.status(task) is Status.GOOD else bench.sense(task)


def asked(bench: Bench) -> int:
    """Returns the code that REQUEST SENSE of B reports."""
    end = bench.outcome(bench.send(B, SENSE))
    assert isinstance(end, Completed)
    return int.from_bytes(end.data_in[12:14])


def test_the_report_clears_it_unless_it_is_interlocked():
    bench = bench_with(CLEARED)
    bench.unit.resize(7)
    assert [told(bench), told(bench)] == [CAPACITY_CHANGED, (0, 0)]


@pytest.mark.parametrize("control", [INTERLOCKED, WITH_REFUSALS])
def test_an_interlocked_one_is_reported_until_request_sense_clears_it(control: int):
    bench = bench_with(control)
    bench.unit.resize(7)
    assert [told(bench), told(bench)] == [CAPACITY_CHANGED] * 2
    assert asked(bench) == AttentionCode.CAPACITY_DATA_HAS_CHANGED
    assert told(bench) == (0, 0)


def test_an_interlocked_one_pre_empts_commands_that_would_be_refused_anyway():
    bench = bench_with(INTERLOCKED)
    bench.unit.resize(7)
    for _ in range(2):
        assert bench.sense(bench.send(B, READY.replace(control=1))) == CAPACITY_CHANGED


@pytest.mark.parametrize(
    ("control", "then"), [(CLEARED, (0, 0)), (INTERLOCKED, (0, 0)), (WITH_REFUSALS, CONFLICT_BEFORE)]
)
def test_a_reservation_conflict_is_an_attention_when_that_is_wanted(control: int, then: tuple[int, int]):
    bench = bench_with(control)
    bench.send(A, Reserve6())
    for _ in range(3):
        assert bench.status(bench.send(B, READY)) is Status.RESERVATION_CONFLICT
    bench.device.spc2_reservation = bench.device.spc2_reservation.release(A)
    assert told(bench) == then
    asked(bench)
    assert told(bench) == (0, 0)  # it was established once


def test_a_full_task_set_is_an_attention_when_that_is_wanted(monkeypatch):
    bench = bench_with(WITH_REFUSALS)
    with monkeypatch.context() as full:
        full.setattr("iscsi_target.scsi.unit.task_set.MAX_TASKS_PER_NEXUS", 0)
        assert bench.status(bench.send(B, READY)) is Status.TASK_SET_FULL
    assert told(bench) == (6, AttentionCode.PREVIOUS_TASK_SET_FULL_STATUS)


def test_one_refusal_after_another_is_one_attention(monkeypatch):
    bench = bench_with(WITH_REFUSALS)
    bench.send(A, Reserve6())
    bench.send(B, READY)
    with monkeypatch.context() as full:
        full.setattr("iscsi_target.scsi.unit.task_set.MAX_TASKS_PER_NEXUS", 0)
        bench.send(B, READY)
    bench.device.spc2_reservation = bench.device.spc2_reservation.release(A)
    assert asked(bench) == AttentionCode.PREVIOUS_RESERVATION_CONFLICT_STATUS
    assert told(bench) == (0, 0)


def test_the_reserved_value_is_refused():
    bench = Bench()
    task = bench.select(A, ControlPage(ps=False, ua_intlck_ctrl=RESERVED).pack())
    assert bench.sense(task) == (5, 0x2600)


def test_a_reset_brings_back_the_saved_value():
    bench = bench_with(INTERLOCKED)
    bench.device.modes = bench.device.modes.reset()
    bench.unit.resize(7)
    assert [told(bench), told(bench)] == [CAPACITY_CHANGED, (0, 0)]
