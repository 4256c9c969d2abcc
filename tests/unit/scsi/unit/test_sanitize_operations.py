"""A logical unit that is being sanitized: what becomes of commands, of tasks and of the operation.

Nodes A and B; port P; unit 0 (see unit_bench), whose medium is sanitized in eight steps.
"""

import pytest

from iscsi_target.scsi.commands.sanitize import EXIT_FAILURE_MODE, Sanitize
from iscsi_target.scsi.commands.table import OVERRULING
from iscsi_target.scsi.layouts.block_cdb import Read10, ReadCapacity10, StartStopUnit, Write10
from iscsi_target.scsi.layouts.cdb import (
    Inquiry,
    LogSense,
    ModeSense10,
    PersistentReserveIn,
    PersistentReserveOut,
    ReportLuns,
    ReportSupportedOperationCodes,
    RequestSense,
)
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.layouts.reservation_pages import BasicParameterList
from iscsi_target.scsi.nexus import OPERATOR, Nexus
from iscsi_target.scsi.operations import Erase, Fault, MediumError
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.scsi.state.task import (
    Aborted,
    Function,
    Milestone,
    Perform,
    Rest,
    Task,
    TaskAttribute,
    UnitState,
)
from iscsi_target.scsi.status import Status
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.scsi.unit.task_manager import RESETS
from iscsi_target.wire.layout import Layout
from tests.unit.scsi.sanitize_bench import FAILED, IN_PROGRESS, LENGTH, STEPS, SanitizeBench
from tests.unit.scsi.unit_bench import BLOCK, READY, A, B, give_page, make_device

PROCESSED = [
    Inquiry(allocation_length=36),
    ReportLuns(allocation_length=16),
    RequestSense(allocation_length=18),
    ReadCapacity10(),
    ReportSupportedOperationCodes(allocation_length=255),
    ModeSense10(page_code=0x08, allocation_length=255),
    LogSense(page_code=0x0D, pc=1, allocation_length=255),
]
REFUSED = [
    READY,
    Read10(transfer_length=1),
    Write10(transfer_length=1),
    StartStopUnit(start=True),
    ModeSense10(page_code=0x3F, allocation_length=255),
    LogSense(page_code=0x02, pc=1, allocation_length=255),
    PersistentReserveIn(allocation_length=8),
]


@pytest.fixture
def bench() -> SanitizeBench:
    made = SanitizeBench()
    made.memory.content[:] = b"u" * LENGTH
    return made


# From the beginning to the end


@pytest.mark.clause("SBC3r36 5.24.1")
@pytest.mark.parametrize("method", [Method.BLOCK_ERASE, Method.CRYPTOGRAPHIC_ERASE])
def test_the_command_ends_with_the_operation_and_nothing_is_left(bench: SanitizeBench, method: Method):
    task = bench.sanitize(action=method)
    bench.carry_on()
    assert bench.status(task) is None
    bench.persist()
    assert bench.status(task) is Status.GOOD
    assert bench.memory.content == bytes(LENGTH)
    assert bench.refusal(READY) is None
    assert bench.milestones == [Milestone.BEGUN, Milestone.ENDED]


@pytest.mark.clause("SBC3r36 5.24.2.2")
def test_an_overwrite_leaves_its_pattern(bench: SanitizeBench):
    task = bench.overwrite()
    bench.end()
    assert bench.status(task) is Status.GOOD
    assert bench.memory.content == b"x" * LENGTH


@pytest.mark.clause("SBC3r36 5.24.1")
def test_with_immed_the_command_ends_when_the_operation_is_stored(bench: SanitizeBench):
    task = bench.send(A, Sanitize(service_action=Method.BLOCK_ERASE, immed=True))
    assert bench.status(task) is None
    bench.persist()
    assert bench.status(task) is Status.GOOD
    assert bench.refusal(READY) == IN_PROGRESS
    bench.end()
    assert bench.memory.content == bytes(LENGTH)


def test_what_cannot_be_stored_is_not_begun(bench: SanitizeBench):
    task = bench.send(A, Sanitize(service_action=Method.BLOCK_ERASE))
    bench.persist(MediumError(Fault.NO_SPACE))
    assert bench.sense(task) == (4, 0x4400)
    assert not bench.at_medium
    assert bench.refusal(READY) is None


def test_one_step_is_at_the_medium_at_a_time(bench: SanitizeBench):
    bench.sanitize()
    for _ in range(STEPS):
        assert len(bench.at_medium) == 1
        bench.perform()


@pytest.mark.clause("SBC3r36 4.11.2")
def test_nobody_is_given_a_unit_attention_by_it(bench: SanitizeBench):
    bench.sanitize()
    bench.end()
    assert bench.attention(A) is None
    assert bench.attention(B) is None


# What is processed meanwhile


@pytest.mark.clause("SBC4r22 4.11.2")
@pytest.mark.parametrize("cdb", PROCESSED, ids=lambda cdb: type(cdb).__name__)
@pytest.mark.parametrize("failed", [True, False])
def test_some_commands_are_processed(bench: SanitizeBench, cdb: Layout, failed: bool):
    if failed:
        bench.fail()
    else:
        bench.sanitize()
    assert bench.refusal(cdb) is None


@pytest.mark.clause("SBC3r36 4.11.2")
@pytest.mark.parametrize(
    "cdb", [*REFUSED, Sanitize(service_action=Method.BLOCK_ERASE)], ids=lambda cdb: type(cdb).__name__
)
def test_all_others_are_refused_while_it_is_under_way(bench: SanitizeBench, cdb: Layout):
    bench.sanitize()
    assert bench.refusal(cdb) == IN_PROGRESS


def test_the_short_way_is_closed_too(bench: SanitizeBench):
    bench.read(A, 0)
    bench.end()
    lane = bench.unit.lane(A)
    cdb = Read10(transfer_length=1).pack().ljust(16, b"\0")
    bench.sanitize()
    assert lane.answer(cdb, BLOCK, b"") is None


@pytest.mark.clause("SBC3r36 4.11.2")
def test_progress_is_told_by_refusals_and_by_request_sense(bench: SanitizeBench):
    bench.sanitize()
    told = []
    for _ in range(STEPS):
        refused = bench.send(B, READY)
        end = bench.outcome(refused)
        assert end is not None
        assert not isinstance(end, Aborted)
        key, code, progress = bench.polled()
        assert (key, code) == IN_PROGRESS
        assert end.sense[15] & 0x80
        assert int.from_bytes(end.sense[16:18]) == progress
        told.append(progress)
        bench.perform()
    assert told == [number * 0x10000 // STEPS for number in range(STEPS)]
    bench.end()
    assert bench.polled() == (0, 0, -1)


@pytest.mark.clause("SAM5r21 5.14")
def test_an_attention_is_told_first(bench: SanitizeBench):
    bench.sanitize()
    bench.manage(Function.LOGICAL_UNIT_RESET, A)
    assert bench.refusal(READY) == (6, 0x2903)
    assert bench.refusal(READY) == IN_PROGRESS


def test_an_operator_can_still_fence(bench: SanitizeBench):
    bench.sanitize()
    parameters = BasicParameterList().pack()
    cdb = PersistentReserveOut(service_action=OutAction.CLEAR, parameter_list_length=len(parameters))
    task = Task(OPERATOR, 99, cdb.pack(), TaskAttribute.HEAD_OF_QUEUE)
    bench.record(bench.unit.operate(task, OVERRULING[OutAction.CLEAR], parameters))
    assert bench.status(task) is Status.GOOD


# The tasks that were there before


@pytest.mark.clause("SBC3r36 4.11.2")
def test_what_was_begun_before_is_ended_and_the_operation_waits_for_the_medium(bench: SanitizeBench):
    read, write = bench.read(A, 0), bench.write(B, 0)
    collecting = bench.send(B, Write10(lba=9, transfer_length=1), expects_data=True)
    task = bench.sanitize()
    assert bench.sense(write) == IN_PROGRESS  # it had not come to the medium yet
    assert bench.sense(collecting) == IN_PROGRESS
    assert bench.status(read) is None
    [operation] = bench.at_medium.values()
    assert not isinstance(operation, Erase)
    bench.perform()
    assert bench.sense(read) == IN_PROGRESS
    bench.end()
    assert bench.status(task) is Status.GOOD
    assert bench.memory.content == bytes(LENGTH)


@pytest.mark.clause("SBC3r36 5.24.1")
def test_it_goes_to_the_head_of_the_queue(bench: SanitizeBench):
    bench.read(A, 0)
    ordered = bench.read(B, 0, TaskAttribute.ORDERED)
    bench.sanitize(B)
    assert bench.milestones == [Milestone.BEGUN]
    assert bench.sense(ordered) == IN_PROGRESS


def test_its_command_holds_up_no_other_once_it_has_begun(bench: SanitizeBench):
    task = bench.sanitize()
    ordered = bench.send(B, READY, TaskAttribute.ORDERED)
    assert bench.status(task) is None
    assert bench.sense(ordered) == IN_PROGRESS


def test_a_second_one_that_waited_for_the_first_is_refused(bench: SanitizeBench):
    first = bench.send(A, Sanitize(service_action=Method.BLOCK_ERASE))
    second = bench.send(B, Sanitize(service_action=Method.BLOCK_ERASE))
    assert bench.status(second) is None
    bench.persist()
    assert bench.sense(second) == IN_PROGRESS
    bench.end()
    assert bench.status(first) is Status.GOOD


@pytest.mark.parametrize("qerr", [1, 3])
def test_ending_others_is_no_error_that_aborts_more(qerr: int):
    bench = SanitizeBench()
    give_page(bench, ControlPage(qerr=qerr))
    bench.read(A, 0)
    task = bench.sanitize()
    bench.end()
    assert bench.status(task) is Status.GOOD


@pytest.mark.clause("SAM5r21 5.9.2")
def test_ending_one_that_asked_for_it_begins_an_aca_condition():
    bench = SanitizeBench()
    ended = bench.send(B, Write10(transfer_length=1, control=4), expects_data=True)
    task = bench.sanitize()
    assert bench.sense(ended) == IN_PROGRESS
    assert bench.device.faulted == {B}
    bench.end()
    assert bench.outcome(task) is None
    bench.manage(Function.CLEAR_ACA, B)
    assert bench.status(task) is Status.GOOD


@pytest.mark.clause("SAM5r21 5.9.2")
@pytest.mark.clause("SAM5r21 5.9.3")
def test_one_that_an_aca_condition_holds_up_is_ended_when_that_is_over():
    bench = SanitizeBench()
    give_page(bench, ControlPage(tst=1))
    held, done = bench.send(A, Write10(transfer_length=1), expects_data=True), bench.read(A, 0)
    bench.send(A, READY.replace(control=5))
    bench.perform()
    mends = bench.write(A, 1, attribute=TaskAttribute.ACA)
    task = bench.sanitize(B)
    assert [bench.outcome(each) for each in (held, done, mends)] == [None] * 3
    bench.perform()
    assert [bench.sense(each) for each in (mends, held)] == [IN_PROGRESS] * 2
    assert bench.status(done) is Status.GOOD
    assert bench.device.faulted == frozenset()
    bench.end()
    assert bench.status(task) is Status.GOOD


# Task management


@pytest.mark.clause("SBC3r36 4.11.2")
@pytest.mark.parametrize("function", [each for each in Function if each is not Function.CLEAR_ACA])
@pytest.mark.parametrize("nexus", [A, B])
def test_it_goes_on_whatever_is_aborted_or_reset(bench: SanitizeBench, function: Function, nexus: Nexus):
    task = bench.sanitize()
    bench.carry_on(3)
    bench.manage(function, nexus, task.tag)
    [managed] = bench.managed
    in_scope = nexus is A or function in (Function.CLEAR_TASK_SET, *RESETS)
    assert managed.found == (in_scope or function is not Function.ABORT_TASK)
    assert (bench.outcome(task) is not None) == in_scope
    assert len(bench.at_medium) == 1
    bench.end()
    assert bench.memory.content == bytes(LENGTH)
    assert bench.device.sanitization is None
    assert bench.milestones == [Milestone.BEGUN, Milestone.ENDED]


@pytest.mark.clause("SBC3r36 4.11.2")
def test_a_command_that_is_aborted_while_it_is_stored_has_begun_it(bench: SanitizeBench):
    task = bench.send(A, Sanitize(service_action=Method.BLOCK_ERASE))
    bench.manage(Function.ABORT_TASK_SET, A)
    assert bench.outcome(task) is None
    bench.persist()
    assert isinstance(bench.outcome(task), Aborted)
    assert len(bench.managed) == 1
    bench.end()
    assert bench.memory.content == bytes(LENGTH)


def test_it_goes_on_when_nobody_is_there_any_more(bench: SanitizeBench):
    bench.sanitize()
    for nexus in (A, B):
        bench.manage(Function.NEXUS_LOSS, nexus)
        bench.unit.detach(nexus)
    assert bench.unit.open_tasks == 0
    bench.end()
    assert bench.memory.content == bytes(LENGTH)


# A failure


@pytest.mark.clause("SBC3r36 4.11.3")
@pytest.mark.parametrize("ause", [True, False])
def test_a_fault_of_the_medium_ends_command_and_operation(bench: SanitizeBench, ause: bool):
    task = bench.fail(ause=ause)
    assert bench.sense(task) == FAILED
    assert not bench.at_medium
    assert bench.milestones == [Milestone.BEGUN, Milestone.FAILED]
    for cdb in REFUSED:
        assert bench.refusal(cdb) == FAILED
    assert bench.polled() == (*FAILED, -1)


@pytest.mark.clause("SBC3r36 4.11.1")
def test_without_ause_only_another_operation_mends_it(bench: SanitizeBench):
    bench.fail()
    assert bench.refusal(Sanitize(service_action=EXIT_FAILURE_MODE)) == (5, 0x2400)
    assert bench.refusal(Sanitize(service_action=Method.BLOCK_ERASE, ause=True)) == (5, 0x2400)
    task = bench.sanitize(B)
    bench.end()
    assert bench.status(task) is Status.GOOD
    assert bench.memory.content == bytes(LENGTH)
    assert bench.refusal(READY) is None


@pytest.mark.clause("SBC3r36 5.24.2.5")
def test_with_ause_exit_failure_mode_takes_the_unit_as_it_is(bench: SanitizeBench):
    bench.fail(ause=True)
    task = bench.sanitize(B, EXIT_FAILURE_MODE)
    assert bench.status(task) is Status.GOOD
    assert bench.refusal(READY) is None
    assert bench.memory.content.count(b"u") == LENGTH * (STEPS - 1) // STEPS
    assert bench.milestones[-1] is Milestone.FAILURE_LEFT


def test_a_failure_mode_that_cannot_be_left_durably_stays(bench: SanitizeBench):
    bench.fail(ause=True)
    task = bench.send(B, Sanitize(service_action=EXIT_FAILURE_MODE))
    bench.persist(MediumError(Fault.NO_SPACE))
    assert bench.sense(task) == (4, 0x4400)
    assert bench.refusal(READY) == FAILED


def test_exit_failure_mode_holds_although_it_is_aborted_meanwhile(bench: SanitizeBench):
    bench.fail(ause=True)
    task = bench.send(B, Sanitize(service_action=EXIT_FAILURE_MODE))
    bench.manage(Function.ABORT_TASK_SET, B)
    bench.persist()
    assert isinstance(bench.outcome(task), Aborted)
    assert bench.refusal(READY) is None


@pytest.mark.clause("SBC3r36 4.11.3")
def test_a_reset_mends_nothing(bench: SanitizeBench):
    bench.fail()
    bench.manage(Function.TARGET_RESET, A)
    assert bench.refusal(READY) == (6, 0x2902)
    assert bench.refusal(READY) == FAILED


# Reservations and what is stored


@pytest.mark.clause("SBC3r36 4.17")
@pytest.mark.parametrize("action", [Method.BLOCK_ERASE, EXIT_FAILURE_MODE])
def test_a_conflict_comes_first(bench: SanitizeBench, action: int):
    bench.device.spc2_reservation = bench.device.spc2_reservation._replace(holder=A)
    task = bench.send(B, Sanitize(service_action=action))
    assert bench.status(task) is Status.RESERVATION_CONFLICT


def test_what_is_stored_is_the_operation_and_with_its_end_nothing(bench: SanitizeBench):
    bench.send(A, Sanitize(service_action=Method.BLOCK_ERASE, ause=True))
    [begun] = bench.saving.values()
    assert begun.sanitization == Sanitization(Method.BLOCK_ERASE, LENGTH, unrestricted=True)
    bench.persist()
    bench.carry_on()
    [ended] = bench.saving.values()
    assert ended == UnitState(bench.device.modes.saved)


def test_a_command_that_stores_something_waits_while_the_operation_does(bench: SanitizeBench):
    bench.sanitize()
    bench.carry_on()
    assert len(bench.saving) == 1
    select = bench.select(B, ControlPage(ps=False).pack(), save=True)
    assert bench.outcome(select) is None
    assert len(bench.saving) == 1
    bench.persist()
    assert len(bench.saving) == 1
    bench.persist()
    assert bench.status(select) is Status.GOOD


# Time, and other lives of the unit


def test_it_rests_when_it_is_to_last_and_goes_on_when_it_has_rested(bench: SanitizeBench):
    bench.device.features = bench.device.features._replace(sanitize_s=8.0)
    bench.sanitize()
    for _ in range(STEPS):
        rest = bench.actions[-1]
        assert isinstance(rest, Rest)
        assert rest.seconds == 1.0
        assert not bench.at_medium
        assert bench.refusal(READY) == IN_PROGRESS
        bench.record(bench.unit.rested(rest.ticket))
        bench.perform()
        bench.persist()
    assert bench.refusal(READY) is None


def test_a_unit_that_was_left_unfinished_goes_on():
    device = make_device()
    device.sanitization = Sanitization(Method.BLOCK_ERASE, LENGTH, done_bytes=LENGTH // 2)
    unit = LogicalUnit("unit0", device)
    [action] = unit.resume()
    assert isinstance(action, Perform)
    assert action.operation == Erase(LENGTH // 2, LENGTH // STEPS, deallocate=True)
    assert unit.resume() == []


def test_a_halted_unit_goes_no_further_and_does_not_fail(bench: SanitizeBench):
    bench.sanitize()
    bench.unit.halt()
    bench.perform(error=MediumError(Fault.GONE))
    assert not bench.at_medium
    assert not bench.saving
    assert bench.milestones == [Milestone.BEGUN]
