"""What ends copy operations, in the foreground and in the background; drawing in unit_bench."""

import pytest

from iscsi_target.scsi.commands.sanitize import Sanitize
from iscsi_target.scsi.layouts.cdb import PersistentReserveOut
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.layouts.reservation_pages import BasicParameterList
from iscsi_target.scsi.layouts.token_cdb import CopyOperationAbort
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.state.copy_log import MAX_RUNNING, CopyState
from iscsi_target.scsi.state.task import Aborted, Function, Task
from iscsi_target.scsi.status import Status
from tests.unit.scsi.token_bench import ZERO_TOKEN, TokenBench
from tests.unit.scsi.unit_bench import A, B, give_page

ABORT = CopyOperationAbort(list_identifier=2)


def state(bench: TokenBench) -> CopyState:
    return CopyState(bench.told(2)[0].copy_operation_status)


def going_on(bench: TokenBench, *, immed: bool) -> None:
    """Begins a copy of node A, of which the first write is at the medium."""
    token = bench.token([(10, 1), (20, 1)])
    bench.use(token, [(100, 1), (200, 1)], immed=immed)
    bench.perform()
    assert len(bench.at_medium) == 1


@pytest.mark.clause("SPC4r37 5.17.4.7")
@pytest.mark.clause("SPC4r37 6.3")
def test_a_copy_in_the_background_is_aborted_by_its_identifier():
    bench = TokenBench()
    going_on(bench, immed=True)
    others, own = bench.send(B, ABORT), bench.send(A, ABORT)
    assert bench.sense(others) == (5, 0x2400)
    assert bench.status(own) is None, "what is at the medium is waited for"
    bench.perform()
    assert bench.status(own) is Status.GOOD
    assert not bench.at_medium
    status = bench.told(2)[0]
    assert (status.copy_operation_status, status.transfer_count) == (CopyState.TERMINATED, 0)
    assert status.extended_copy_completion_status == Status.TASK_ABORTED
    assert bench.sense(bench.send(A, ABORT)) == (5, 0x2400)


def test_a_copy_that_waits_for_its_source_is_aborted_when_that_has_come():
    bench = TokenBench()
    token = bench.token([(10, 1)])
    task = bench.use(token, [(100, 1)])
    abort = bench.send(A, ABORT)
    bench.end()
    assert bench.sense(task) == (0xA, 0x2F02)
    assert bench.status(abort) is Status.GOOD
    assert bench.block(100) == bench.was(100)


@pytest.mark.clause("SPC4r37 5.17.5")
@pytest.mark.parametrize("function", [Function.LOGICAL_UNIT_RESET, Function.TARGET_RESET])
def test_a_reset_ends_every_copy_and_waits_for_it(function: Function):
    bench = TokenBench()
    going_on(bench, immed=True)
    bench.manage(function, B)
    assert not bench.managed
    bench.perform()
    assert bench.managed
    assert not bench.at_medium
    assert bench.device.copies.find(A, 2) is None
    assert bench.unit.open_tasks == 0


def reserve_out(bench: TokenBench, nexus: Nexus, action: OutAction, key: int, victim: int) -> Task:
    data = BasicParameterList(reservation_key=key, service_action_reservation_key=victim).pack()
    cdb = PersistentReserveOut(service_action=action, parameter_list_length=len(data))
    task = bench.send(nexus, cdb, expects_data=True)
    bench.give(task, data)
    return task


@pytest.mark.clause("SPC4r37 5.13.11.2.6")
@pytest.mark.parametrize("immed", [False, True])
@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("leaves", [False, True])
def test_after_preempt_and_abort_no_copy_of_the_nexus_changes_a_block(steps: int, immed: bool, leaves: bool):
    """Each step is a read or a write of one of two pieces; the nexus may have left its copy in the background."""
    bench = TokenBench()
    for nexus, key in ((A, 0xA), (B, 0xB)):
        reserve_out(bench, nexus, OutAction.REGISTER, 0, key)
    bench.use(bench.token([(10, 1), (20, 1)]), [(100, 1), (200, 1)], immed=immed)
    for _ in range(steps):
        bench.perform()
    if leaves and immed:
        bench.manage(Function.NEXUS_LOSS, A)
        bench.unit.detach(A)
    preempting = reserve_out(bench, B, OutAction.PREEMPT_AND_ABORT, 0xB, 0xA)
    while bench.status(preempting) is None:
        bench.perform()
    assert bench.status(preempting) is Status.GOOD
    after = bytes(bench.memory.content)
    bench.end()
    assert bench.memory.content == after
    assert bench.unit.open_tasks == 0
    assert bench.block(200) == bench.was(20 if steps == 3 else 200), "only a write that was at the medium is waited for"


@pytest.mark.clause("SPC4r37 5.17.5")
@pytest.mark.parametrize("function", [Function.ABORT_TASK_SET, Function.CLEAR_TASK_SET, Function.NEXUS_LOSS])
def test_a_function_about_tasks_leaves_a_copy_in_the_background(function: Function):
    bench = TokenBench()
    going_on(bench, immed=True)
    bench.manage(function, A)
    assert bench.managed
    if function is Function.NEXUS_LOSS:
        bench.unit.detach(A)
    bench.end()
    assert (bench.block(100), bench.block(200)) == (bench.was(10), bench.was(20))


@pytest.mark.clause("SPC4r37 5.17.4.6")
@pytest.mark.parametrize("function", [Function.ABORT_TASK_SET, Function.CLEAR_TASK_SET, Function.NEXUS_LOSS])
def test_a_copy_in_the_foreground_ends_with_its_command(function: Function):
    bench = TokenBench()
    going_on(bench, immed=False)
    bench.manage(function, A)
    assert not bench.managed
    bench.end()
    assert bench.managed
    assert [type(action) for action in bench.actions].count(Aborted) == 1
    assert bench.block(200) == bench.was(200)
    assert state(bench) is CopyState.TERMINATED


@pytest.mark.clause("SBC3r36 4.11.2")
def test_sanitizing_begins_when_what_a_copy_has_at_the_medium_is_over():
    bench = TokenBench()
    going_on(bench, immed=True)
    sanitize = bench.send(B, Sanitize(service_action=2, immed=True))
    bench.persist()
    assert bench.status(sanitize) is Status.GOOD
    bench.perform()
    assert bench.unit.open_tasks == 0
    assert not bench.device.tokens.live
    bench.end()
    assert bench.device.copies.find(A, 2).state is CopyState.TERMINATED  # type: ignore[union-attr]  # it is known


def test_an_aca_condition_holds_up_no_copy_in_the_background():
    bench = TokenBench()
    token = bench.token([(10, 1)])
    bench.use(token, [(100, 1)], immed=True)
    bench.device.faulted = frozenset({A})
    bench.end()
    assert bench.block(100) == bench.was(10)


def test_an_error_of_another_command_ends_no_copy_in_the_background():
    bench = TokenBench()
    give_page(bench, ControlPage(qerr=1))
    going_on(bench, immed=True)
    assert bench.sense(bench.send(A, ABORT.replace(list_identifier=77))) == (5, 0x2400)
    bench.end()
    assert state(bench) is CopyState.DONE


def test_too_many_copies_are_refused():
    bench = TokenBench()
    for identifier in range(MAX_RUNNING):
        bench.use(ZERO_TOKEN, [(identifier, 1)], identifier=identifier, immed=True)
    assert bench.status(bench.use(ZERO_TOKEN, [(100, 1)], B)) is Status.BUSY
    bench.perform()
    assert bench.status(bench.use(ZERO_TOKEN, [(100, 1)], B)) is None
