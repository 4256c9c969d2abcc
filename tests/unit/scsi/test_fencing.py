"""PREEMPT AND ABORT, which waits for tasks and may itself be aborted, and orders of the operator.

Nodes A and B; port P; unit 0 (see unit_bench). Node B holds the reservation.
"""

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.commands.table import OVERRULING
from iscsi_target.scsi.layouts.block_cdb import Write10
from iscsi_target.scsi.layouts.cdb import PersistentReserveOut
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.layouts.reservation_pages import BasicParameterList
from iscsi_target.scsi.nexus import OPERATOR, Nexus
from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.reservations.personality import OutAction, ReservationType
from iscsi_target.scsi.state.task import Aborted, Function, Managed, Task, TaskAttribute
from iscsi_target.scsi.status import Status
from tests.unit.scsi.token_bench import TokenBench
from tests.unit.scsi.unit_bench import A, B, Bench, give_page

ORDERED = TaskAttribute.ORDERED
CLEARED = AttentionCode.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR
RESETS = [Function.LOGICAL_UNIT_RESET, Function.TARGET_RESET]
KEY_A, KEY_B = 0xA1, 0xB2
WERO = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
HEAD = TaskAttribute.HEAD_OF_QUEUE
# What ends a PREEMPT AND ABORT of node A; ABORT TASK takes its tag
ENDS_IT = [
    *((function, A) for function in Function if function is not Function.CLEAR_ACA),
    *((function, B) for function in (Function.CLEAR_TASK_SET, *RESETS)),
]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def out(bench: Bench, nexus: Nexus, action: OutAction, parameters: BasicParameterList) -> Task:
    """Sends PERSISTENT RESERVE OUT of type WERO."""
    cdb = PersistentReserveOut(service_action=action, type=WERO, parameter_list_length=parameters.size)
    task = bench.send(nexus, cdb, expects_data=True)
    bench.give(task, parameters.pack())
    return task


def register(bench: Bench, nexus: Nexus, key: int, *, aptpl: bool = False) -> Task:
    parameters = BasicParameterList(service_action_reservation_key=key, aptpl=aptpl)
    task = out(bench, nexus, OutAction.REGISTER_AND_IGNORE_EXISTING_KEY, parameters)
    if bench.saving:
        bench.persist()
    assert bench.status(task) is Status.GOOD
    return task


def fence(bench: Bench, nexus: Nexus = A, key: int = KEY_A, victim: int = KEY_B) -> Task:
    """Starts PREEMPT AND ABORT."""
    parameters = BasicParameterList(reservation_key=key, service_action_reservation_key=victim)
    return out(bench, nexus, OutAction.PREEMPT_AND_ABORT, parameters)


def order(bench: Bench, action: OutAction, key: int = 0) -> Task:
    """Gives an order of the operator."""
    parameters = BasicParameterList(service_action_reservation_key=key)
    cdb = PersistentReserveOut(service_action=action, parameter_list_length=parameters.size)
    task = Task(OPERATOR, 1, cdb.pack(), HEAD)
    bench.record(bench.unit.operate(task, OVERRULING[action], parameters.pack()))
    return task


def reserved(bench: Bench, *, aptpl: bool = False) -> Bench:
    """Lets both nodes register and node B hold the reservation."""
    register(bench, A, KEY_A, aptpl=aptpl)
    register(bench, B, KEY_B, aptpl=aptpl)
    reserve = out(bench, B, OutAction.RESERVE, BasicParameterList(reservation_key=KEY_B))
    if bench.saving:
        bench.persist()
    assert bench.status(reserve) is Status.GOOD
    bench.actions.clear()
    return bench


def holder(bench: Bench) -> Nexus | None:
    reservation = bench.device.reservations.reservation
    return None if reservation is None else reservation.holder


@pytest.mark.clause("SPC4r37 5.13.11.2.6")
@pytest.mark.parametrize("function, nexus", ENDS_IT)
def test_what_it_changed_stays_when_it_is_aborted_while_it_waits(bench: Bench, function: Function, nexus: Nexus):
    reserved(bench)
    victim = bench.write(B, 0)
    fencing = fence(bench)
    assert bench.device.reservations.registrations == {A: KEY_A}
    bench.manage(function, nexus, fencing.tag)
    assert not bench.managed, "it is over no sooner than the tasks that it waits for"
    assert (bench.outcome(fencing), bench.outcome(victim)) == (None, None)
    bench.perform()
    assert (bench.outcome(fencing), bench.outcome(victim)) == (Aborted(fencing), Aborted(victim))
    assert bench.actions[-1] == bench.managed[0] == Managed(bench.managed[0].number, True)
    assert bench.unit.open_tasks == 0
    assert (bench.device.reservations.registrations, holder(bench)) == ({A: KEY_A}, A)


@pytest.mark.clause("SPC4r37 7.5.8")
def test_with_tas_it_ends_with_task_aborted_when_another_nexus_aborts_it(bench: Bench):
    give_page(bench, ControlPage(tas=True))
    reserved(bench)
    bench.write(B, 0)
    fencing = fence(bench)
    bench.manage(Function.LOGICAL_UNIT_RESET, B)
    bench.perform()
    assert bench.status(fencing) is Status.TASK_ABORTED
    assert holder(bench) == A


@pytest.mark.clause("SPC4r37 5.13.5.1")
@pytest.mark.parametrize("function, nexus", ENDS_IT)
def test_what_is_on_disk_holds_when_it_is_aborted_during_its_save(bench: Bench, function: Function, nexus: Nexus):
    reserved(bench, aptpl=True)
    victim = bench.write(B, 0)
    fencing = fence(bench)
    assert holder(bench) == B
    bench.manage(function, nexus, fencing.tag)
    assert not bench.managed
    bench.persist()
    assert (bench.device.reservations.registrations, holder(bench)) == ({A: KEY_A}, A)
    assert not bench.managed
    assert (bench.outcome(fencing), bench.outcome(victim)) == (None, None)
    bench.perform()
    assert (bench.outcome(fencing), bench.outcome(victim)) == (Aborted(fencing), Aborted(victim))
    assert len(bench.managed) == 1
    assert bench.unit.open_tasks == 0


@pytest.mark.parametrize("function, nexus", ENDS_IT)
def test_nothing_changes_when_it_is_aborted_and_its_save_fails(bench: Bench, function: Function, nexus: Nexus):
    reserved(bench, aptpl=True)
    before = bench.device.reservations
    fencing = fence(bench)
    bench.manage(function, nexus, fencing.tag)
    bench.persist(MediumError(Fault.NO_SPACE))
    assert bench.outcome(fencing) == Aborted(fencing)
    assert len(bench.managed) == 1
    assert bench.device.reservations == before
    assert bench.unit.open_tasks == 0


@pytest.mark.parametrize("function, nexus", ENDS_IT)
def test_nothing_changes_when_it_is_aborted_before_it_starts(bench: Bench, function: Function, nexus: Nexus):
    reserved(bench, aptpl=True)
    parameters = BasicParameterList(reservation_key=KEY_A, service_action_reservation_key=KEY_A)
    first = out(bench, A, OutAction.REGISTER, parameters)
    fencing = fence(bench)
    bench.manage(function, nexus, fencing.tag)
    assert bench.outcome(fencing) == Aborted(fencing)
    bench.persist()
    assert not bench.saving
    assert len(bench.managed) == 1
    assert bench.outcome(first) is not None
    assert (bench.device.reservations.registrations, holder(bench)) == ({A: KEY_A, B: KEY_B}, B)
    assert bench.unit.open_tasks == 0


@pytest.mark.clause("SPC4r37 5.13.11.2.4.3")
def test_a_write_that_comes_while_it_is_being_saved_is_aborted_too(bench: Bench):
    reserved(bench, aptpl=True)
    fencing = fence(bench)
    victim = bench.write(B, 0)
    assert len(bench.at_medium) == 1
    bench.persist()
    assert bench.outcome(fencing) is None
    late = bench.write(B, 1)
    assert bench.status(late) is Status.RESERVATION_CONFLICT
    bench.perform()
    assert (bench.outcome(victim), bench.status(fencing)) == (Aborted(victim), Status.GOOD)
    assert not bench.at_medium


def test_one_that_aborts_another_of_its_own_nexus_waits_for_it(bench: Bench):
    reserved(bench)
    victim = bench.write(B, 0)
    first = fence(bench)
    own = bench.write(A, 1)
    second = fence(bench, victim=KEY_A)
    by_b, by_a = bench.at_medium
    bench.perform(by_a)
    assert bench.outcome(own) == Aborted(own)
    assert (bench.outcome(first), bench.outcome(second)) == (None, None)
    bench.perform(by_b)
    assert [bench.outcome(task) for task in (victim, first)] == [Aborted(victim), Aborted(first)]
    assert bench.status(second) is Status.GOOD
    assert (bench.device.reservations.registrations, holder(bench)) == ({A: KEY_A}, A)


def test_two_that_abort_each_others_nexus_do_not_wait_for_each_other(bench: Bench):
    reserved(bench)
    victim = bench.write(B, 0)
    by_a = fence(bench)
    assert bench.attention(B) == AttentionCode.REGISTRATIONS_PREEMPTED
    assert bench.attention(B) == CLEARED
    register(bench, B, KEY_B)
    by_b = fence(bench, B, KEY_B, KEY_A)
    assert (bench.outcome(by_a), bench.outcome(by_b)) == (None, None)
    bench.perform()
    assert [bench.outcome(task) for task in (victim, by_a)] == [Aborted(victim), Aborted(by_a)]
    assert bench.status(by_b) is Status.GOOD
    assert (bench.device.reservations.registrations, holder(bench)) == ({B: KEY_B}, B)
    assert bench.unit.open_tasks == 0


# Orders of the operator


def test_an_order_waits_for_the_save_that_is_under_way(bench: Bench):
    reserved(bench, aptpl=True)
    fencing = fence(bench)
    clearing = order(bench, OutAction.CLEAR)
    assert len(bench.saving) == 1
    bench.persist()
    assert bench.status(fencing) is Status.GOOD
    assert (holder(bench), bench.outcome(clearing)) == (A, None)
    bench.persist()
    assert bench.status(clearing) is Status.GOOD
    assert (bench.device.reservations.registrations, holder(bench)) == ({}, None)


def test_an_order_is_answered_when_the_tasks_that_it_aborts_are_over(bench: Bench):
    reserved(bench)
    at_medium, in_turn = bench.write(B, 0), bench.write(B, 0)
    mine = bench.write(A, 1)
    fencing = order(bench, OutAction.PREEMPT_AND_ABORT, KEY_B)
    assert bench.outcome(in_turn) == Aborted(in_turn)
    assert bench.outcome(fencing) is None
    bench.perform()
    assert (bench.outcome(at_medium), bench.status(fencing)) == (Aborted(at_medium), Status.GOOD)
    assert bench.outcome(mine) is None
    bench.perform()
    assert bench.status(mine) is Status.GOOD
    assert (bench.device.reservations.registrations, holder(bench)) == ({A: KEY_A}, None)


def test_an_order_waits_for_tasks_that_were_aborted_before_it(bench: Bench):
    reserved(bench)
    victim = bench.write(B, 0)
    bench.manage(Function.ABORT_TASK_SET, B)
    fencing = order(bench, OutAction.PREEMPT_AND_ABORT, KEY_B)
    assert (bench.managed, bench.outcome(fencing)) == ([], None)
    bench.perform()
    assert len(bench.managed) == 1
    assert (bench.outcome(victim), bench.status(fencing)) == (Aborted(victim), Status.GOOD)


def test_an_order_does_not_wait_for_what_is_dormant(bench: Bench):
    reserved(bench)
    bench.send(B, Write10(lba=0, transfer_length=1), expects_data=True)
    dormant = bench.write(B, 1, attribute=ORDERED)
    assert bench.status(order(bench, OutAction.PREEMPT_AND_ABORT, KEY_B)) is Status.GOOD
    assert bench.outcome(dormant) == Aborted(dormant)
    assert bench.unit.open_tasks == 0


@pytest.mark.parametrize("tas", [False, True])
@pytest.mark.parametrize("function, nexus", ENDS_IT)
def test_no_function_of_a_nexus_ends_an_order(bench: Bench, function: Function, nexus: Nexus, tas: bool):
    give_page(bench, ControlPage(tas=tas))
    reserved(bench, aptpl=True)
    victim = bench.write(B, 0)
    fencing, clearing = order(bench, OutAction.PREEMPT_AND_ABORT, KEY_B), order(bench, OutAction.CLEAR)
    bench.manage(function, nexus, fencing.tag)
    bench.persist()
    assert bench.device.reservations.registrations == {A: KEY_A}
    bench.manage(function, nexus, fencing.tag)
    assert (bench.outcome(fencing), bench.outcome(clearing)) == (None, None)
    bench.persist()
    assert bench.status(clearing) is Status.GOOD
    bench.perform()
    assert bench.outcome(victim) is not None
    assert bench.status(fencing) is Status.GOOD
    assert len(bench.managed) == 2
    assert bench.device.reservations.registrations == {}
    assert bench.unit.open_tasks == 0


@pytest.mark.clause("SPC4r37 7.5.8")
def test_nor_does_qerr(bench: Bench):
    give_page(bench, ControlPage(qerr=1))
    reserved(bench)
    victim = bench.write(B, 0)
    reading = bench.read(A, 5)
    fencing = order(bench, OutAction.PREEMPT_AND_ABORT, KEY_B)
    bench.perform(list(bench.at_medium)[1], MediumError(Fault.READ_FAILED))
    assert bench.sense(reading) == (3, 0x1100)
    assert bench.outcome(fencing) is None
    bench.perform()
    assert (bench.outcome(victim), bench.status(fencing)) == (Aborted(victim), Status.GOOD)


@pytest.mark.clause("SPC4r37 7.5.8")
@pytest.mark.parametrize("qerr", [1, 3])
def test_an_order_that_fails_ends_nothing_else(bench: Bench, qerr: int):
    give_page(bench, ControlPage(qerr=qerr))
    reserved(bench, aptpl=True)
    waiting = bench.write(B, 0)
    failing, next_one = order(bench, OutAction.PREEMPT, KEY_A), order(bench, OutAction.PREEMPT, KEY_B)
    bench.persist(MediumError(Fault.NO_SPACE))
    assert bench.sense(failing) == (4, 0x4400)
    assert (bench.outcome(waiting), bench.outcome(next_one)) == (None, None)
    bench.persist()
    assert bench.status(next_one) is Status.GOOD
    bench.perform()
    assert bench.status(waiting) is Status.GOOD


@pytest.mark.parametrize("attribute", [TaskAttribute.SIMPLE, TaskAttribute.HEAD_OF_QUEUE])
def test_an_order_that_waits_holds_up_nobody(bench: Bench, attribute: TaskAttribute):
    reserved(bench)
    bench.write(B, 0)
    fencing = order(bench, OutAction.PREEMPT_AND_ABORT, KEY_B)
    assert bench.attention(A) == AttentionCode.RESERVATIONS_RELEASED
    reading = bench.read(A, 5, attribute)
    bench.perform(list(bench.at_medium)[1])
    assert bench.status(reading) is Status.GOOD
    assert bench.outcome(fencing) is None
    bench.perform()
    assert bench.status(fencing) is Status.GOOD


@pytest.mark.clause("SPC4r37 5.13.11.2.6")
@pytest.mark.clause("SPC4r37 5.17.4.6")
@pytest.mark.parametrize("lost", [False, True])
def test_a_copy_in_the_background_writes_nothing_after_the_fence(lost: bool):
    bench = TokenBench()
    reserved(bench)
    bench.use(bench.token([(10, 1), (20, 1)], B), [(100, 1), (200, 1)], B, immed=True)
    others = bench.use(bench.token([(30, 1)], A), [(300, 1)], B, identifier=3, immed=True)
    assert bench.status(others) is Status.GOOD
    if lost:
        bench.manage(Function.NEXUS_LOSS, B)
        bench.unit.detach(B)
    bench.perform()
    bench.perform()
    fencing = fence(bench)
    assert bench.status(fencing) is None, "writes of the copies are at the medium"
    bench.perform()
    assert bench.status(fencing) is None
    bench.perform()
    assert bench.status(fencing) is Status.GOOD
    assert not bench.at_medium
    assert bench.block(200) == bench.was(200)
    assert bench.unit.open_tasks == 0


def test_a_copy_of_the_node_that_fences_goes_on():
    bench = TokenBench()
    reserved(bench)
    token = bench.token([(10, 1)], B)
    bench.use(token, [(100, 1)], B, immed=True)
    assert bench.status(fence(bench, B, KEY_B, KEY_A)) is Status.GOOD
    bench.end()
    assert bench.block(100) == bench.was(10)
