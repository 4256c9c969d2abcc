"""Aborts, resets and the fencing law. Nodes A and B; port P; unit 0 (see unit_bench)."""

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.block_cdb import PreventAllowMediumRemoval, StartStopUnit, Write10
from iscsi_target.scsi.layouts.cdb import Reserve6
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.state.task import Aborted, Completed, Function, Managed, TaskAttribute
from iscsi_target.scsi.status import Status
from tests.unit.scsi.unit_bench import BLOCK, READY, A, B, Bench, give_page

ORDERED = TaskAttribute.ORDERED
CLEARED = AttentionCode.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR
UNIT_RESET = AttentionCode.BUS_DEVICE_RESET_FUNCTION_OCCURRED
ALL_FUNCTIONS = [each for each in Function if each not in (Function.ABORT_TASK, Function.CLEAR_ACA)]
RESETS = [Function.LOGICAL_UNIT_RESET, Function.TARGET_RESET]


@pytest.fixture
def bench() -> Bench:
    return Bench()


# The fencing law


@pytest.mark.clause("SAM5r21 7.1")
@pytest.mark.parametrize("function", ALL_FUNCTIONS)
def test_no_function_is_over_while_an_operation_of_its_scope_is_at_the_medium(bench: Bench, function: Function):
    task = bench.write(A, 0)
    assert bench.manage(function, A) == []
    bench.perform()
    assert bench.actions[-2:] == [Aborted(task), Managed(bench.managed[0].number, True)]
    assert bench.unit.open_tasks == 0


@pytest.mark.parametrize("function", ALL_FUNCTIONS)
def test_a_function_with_nothing_in_its_scope_is_over_at_once(bench: Bench, function: Function):
    assert [type(action) for action in bench.manage(function, A)] == [Managed]


def test_a_failing_operation_of_an_aborted_task_ends_the_wait_too(bench: Bench):
    task = bench.write(A, 0)
    bench.manage(Function.ABORT_TASK_SET, A)
    bench.perform(error=MediumError(Fault.WRITE_FAILED))
    assert bench.outcome(task) == Aborted(task)
    assert len(bench.managed) == 1


def test_an_aborted_task_that_waits_for_its_turn_never_goes_to_the_medium(bench: Bench):
    bench.write(B, 0)
    waiting = bench.write(A, 0, byte=0xAA)
    assert bench.manage(Function.ABORT_TASK_SET, A)[0] == Aborted(waiting)
    assert len(bench.managed) == 1
    bench.perform()
    assert not bench.at_medium
    assert bench.memory.content[0] == 0x55


def test_an_aborted_task_that_waits_for_data_ends_at_once_and_late_data_is_ignored(bench: Bench):
    task = bench.send(A, Write10(lba=0, transfer_length=1), expects_data=True)
    bench.manage(Function.ABORT_TASK, A, task.tag)
    assert bench.outcome(task) == Aborted(task)
    assert bench.unit.data_received(task, bytes(BLOCK)) == []
    assert not bench.at_medium


def test_an_aborted_dormant_task_never_starts(bench: Bench):
    bench.read(B, 0)
    dormant = bench.write(A, 1, attribute=ORDERED)
    bench.manage(Function.ABORT_TASK_SET, A)
    bench.perform()
    assert bench.outcome(dormant) == Aborted(dormant)
    assert not bench.at_medium


def test_aborting_everything_starts_nothing_of_the_scope_in_between(bench: Bench):
    first, second, third = (bench.write(A, 0) for _ in range(3))
    last = bench.write(A, 5, attribute=ORDERED)
    bench.manage(Function.CLEAR_TASK_SET, A)
    assert [bench.outcome(task) for task in (second, third, last)] == [Aborted(t) for t in (second, third, last)]
    bench.perform()
    assert bench.outcome(first) == Aborted(first)
    assert not bench.at_medium
    assert len(bench.managed) == 1


def test_tasks_that_arrive_after_the_request_are_not_in_its_scope(bench: Bench):
    bench.write(A, 0)
    bench.manage(Function.ABORT_TASK_SET, A)
    late = bench.write(A, 1)
    other = bench.send(B, READY)
    assert bench.status(other) is Status.GOOD
    bench.perform()
    assert len(bench.managed) == 1
    bench.perform()
    assert bench.status(late) is Status.GOOD


def test_two_requests_wait_for_the_same_task(bench: Bench):
    task = bench.write(A, 0)
    bench.manage(Function.ABORT_TASK, A, task.tag)
    bench.manage(Function.LOGICAL_UNIT_RESET, B)
    assert not bench.managed
    bench.perform()
    assert len(bench.managed) == 2
    assert bench.outcome(task) == Aborted(task)


# Scopes


def test_abort_task_finds_its_task_only(bench: Bench):
    first, second = bench.write(A, 0), bench.write(A, 1)
    bench.manage(Function.ABORT_TASK, A, second.tag)
    bench.perform(), bench.perform()
    assert bench.status(first) is Status.GOOD
    assert bench.outcome(second) == Aborted(second)


@pytest.mark.clause("SAM5r21 7.2")
def test_abort_task_of_a_task_that_is_over_finds_nothing(bench: Bench):
    task = bench.send(A, READY)
    bench.manage(Function.ABORT_TASK, A, task.tag)
    assert [managed.found for managed in bench.managed] == [False]
    assert bench.status(task) is Status.GOOD


def test_abort_task_does_not_reach_a_task_of_another_nexus(bench: Bench):
    task = bench.write(B, 0)
    bench.manage(Function.ABORT_TASK, A, task.tag)
    assert [managed.found for managed in bench.managed] == [False]


@pytest.mark.parametrize("function", [Function.ABORT_TASK_SET, Function.NEXUS_LOSS])
def test_the_tasks_of_other_nexuses_stay(bench: Bench, function: Function):
    mine, other = bench.write(A, 0), bench.write(B, 1)
    bench.manage(function, A)
    bench.perform(), bench.perform()
    assert bench.outcome(mine) == Aborted(mine)
    assert bench.status(other) is Status.GOOD
    assert bench.attention(B) is None


# TAS and the attentions of the others


@pytest.mark.clause("SAM5r21 7.4")
def test_clear_task_set_without_tas_gives_the_others_an_attention(bench: Bench):
    mine, other = bench.write(A, 0), bench.write(B, 1)
    bench.manage(Function.CLEAR_TASK_SET, A)
    bench.perform(), bench.perform()
    assert [bench.outcome(task) for task in (mine, other)] == [Aborted(mine), Aborted(other)]
    assert bench.attention(A) is None
    assert bench.attention(B) == CLEARED


@pytest.mark.clause("SPC4r37 7.5.8")
@pytest.mark.clause("SAM5r21 5.7")
@pytest.mark.parametrize("function", [Function.CLEAR_TASK_SET, *RESETS])
def test_with_tas_the_tasks_of_others_end_with_task_aborted(bench: Bench, function: Function):
    give_page(bench, ControlPage(tas=True))
    mine, other = bench.write(A, 0), bench.write(B, 1)
    bench.manage(function, A)
    assert bench.outcome(other) is None
    bench.perform(), bench.perform()
    assert bench.outcome(mine) == Aborted(mine)
    assert bench.outcome(other) == Completed(other, Status.TASK_ABORTED, wanted=BLOCK)
    assert bench.attention(B) != CLEARED


def test_clear_task_set_gives_no_attention_to_a_nexus_without_tasks(bench: Bench):
    bench.write(A, 0)
    bench.manage(Function.CLEAR_TASK_SET, A)
    assert bench.attention(B) is None


@pytest.mark.parametrize("own_first", [False, True])
def test_a_task_that_its_own_nexus_aborts_too_ends_in_silence(bench: Bench, own_first: bool):
    give_page(bench, ControlPage(tas=True))
    task = bench.write(B, 0)
    requests = [(Function.CLEAR_TASK_SET, A), (Function.NEXUS_LOSS, B)]
    for function, nexus in reversed(requests) if own_first else requests:
        bench.manage(function, nexus)
    bench.perform()
    assert bench.outcome(task) == Aborted(task)


# QERR


@pytest.mark.clause("SPC4r37 7.5.8")
@pytest.mark.parametrize("qerr, ends", [(0, (False, False)), (1, (True, True)), (3, (True, False))])
def test_a_check_condition_aborts_what_qerr_says(bench: Bench, qerr: int, ends: tuple[bool, bool]):
    give_page(bench, ControlPage(qerr=qerr))
    waiting_a = bench.send(A, Write10(lba=0, transfer_length=1), expects_data=True)
    waiting_b = bench.send(B, Write10(lba=0, transfer_length=1), expects_data=True)
    bench.send(A, READY.replace(control=1))
    assert (bench.outcome(waiting_a) is not None, bench.outcome(waiting_b) is not None) == ends
    assert bench.attention(B) == (CLEARED if qerr == 1 else None)


def test_qerr_lets_an_operation_end_before_its_task_does(bench: Bench):
    give_page(bench, ControlPage(qerr=1, tas=True))
    at_medium = bench.write(B, 0)
    failing = bench.read(A, 3)
    ticket = list(bench.at_medium)[1]
    bench.perform(ticket, MediumError(Fault.READ_FAILED))
    assert bench.sense(failing) == (3, 0x1100)
    assert bench.outcome(at_medium) is None
    bench.perform()
    assert bench.status(at_medium) is Status.TASK_ABORTED


# Resets


@pytest.mark.clause("SAM5r21 6.3.3")
def test_logical_unit_reset_tells_everybody_the_sender_too(bench: Bench):
    bench.manage(Function.LOGICAL_UNIT_RESET, A)
    assert bench.attention(A) == UNIT_RESET
    assert bench.attention(B) == UNIT_RESET


@pytest.mark.clause("SAM5r21 6.3.2")
def test_target_reset_has_an_attention_of_its_own(bench: Bench):
    bench.manage(Function.TARGET_RESET, A)
    assert bench.attention(A) == AttentionCode.SCSI_BUS_RESET_OCCURRED


@pytest.mark.parametrize("function", RESETS)
def test_a_reset_frees_the_unit(function: Function):
    bench = Bench(removable=True)
    bench.send(A, Reserve6())
    bench.send(A, PreventAllowMediumRemoval(prevent=1))
    bench.manage(function, B)
    assert bench.device.preventing == set()
    bench.attention(B)
    assert bench.status(bench.send(B, Reserve6())) is Status.GOOD


@pytest.mark.clause("SPC4r37 7.5.2")
def test_a_reset_restores_the_saved_mode_pages(bench: Bench):
    bench.select(A, ControlPage(ps=False, swp=True).pack())
    assert bench.device.software_write_protect
    bench.manage(Function.LOGICAL_UNIT_RESET, A)
    assert not bench.device.software_write_protect


@pytest.mark.clause("SBC3r36 4.20")
def test_a_reset_starts_a_stopped_unit(bench: Bench):
    bench.send(A, StartStopUnit(start=False))
    bench.perform()
    bench.manage(Function.LOGICAL_UNIT_RESET, A)
    assert not bench.device.stopped


@pytest.mark.parametrize("function", [Function.ABORT_TASK_SET, Function.CLEAR_TASK_SET, Function.NEXUS_LOSS])
def test_what_is_no_reset_leaves_the_unit_as_it_is(bench: Bench, function: Function):
    bench.send(A, Reserve6())
    bench.manage(function, A)
    assert bench.device.spc2_reservation.holder == A
    assert bench.attention(A) is None
