"""ACA conditions from their beginning to their end. Nodes A and B; port P; unit 0 (see unit_bench).

What task management functions do to tasks is in test_task_management, what reservations do in test_fencing.
"""

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.block_cdb import CompareAndWrite, Write10
from iscsi_target.scsi.layouts.cdb import RequestSense
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.state.task import Aborted, Function, Task, TaskAttribute
from iscsi_target.scsi.status import Status
from tests.unit.scsi.unit_bench import BLOCK, READY, A, B, Bench, give_page

NACA, OBSOLETE = 0x04, 0x01  # bits of CONTROL
FAILS = READY.replace(control=NACA | OBSOLETE)
ACA, ORDERED = TaskAttribute.ACA, TaskAttribute.ORDERED
ENDS_IT = [
    (Function.CLEAR_ACA, A),
    (Function.NEXUS_LOSS, A),
    (Function.NEXUS_RESET, A),
    (Function.LOGICAL_UNIT_RESET, B),
    (Function.TARGET_RESET, B),
]
LEAVES_IT = [
    (Function.CLEAR_ACA, B),
    (Function.NEXUS_LOSS, B),
    (Function.NEXUS_RESET, B),
    (Function.ABORT_TASK_SET, A),
    (Function.CLEAR_TASK_SET, B),
]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def fault(bench: Bench, nexus: Nexus = A) -> Task:
    """Lets a command fail that asks for an ACA condition."""
    task = bench.send(nexus, FAILS)
    assert bench.sense(task) == (5, 0x2400)
    return task


def is_open(bench: Bench, *tasks: Task) -> bool:
    return all(bench.outcome(task) is None for task in tasks)


@pytest.mark.clause("SAM5r21 5.9.2")
def test_tasks_at_the_medium_keep_their_end_to_themselves(bench: Bench):
    writes = [bench.write(A, 0), bench.write(B, 1)]
    fault(bench)
    bench.end()
    assert is_open(bench, *writes)
    assert bench.memory.read(0, 1) == b"\x55", "what is at the medium cannot be stopped"
    bench.manage(Function.CLEAR_ACA, A)
    assert [bench.status(task) for task in writes] == [Status.GOOD] * 2


@pytest.mark.clause("SAM5r21 5.9.2")
def test_tasks_that_have_not_begun_do_not(bench: Bench):
    waiting = bench.send(B, Write10(lba=0, transfer_length=1), expects_data=True)
    first, second = bench.write(A, 1), bench.write(B, 1)  # of the same block
    fault(bench)
    bench.give(waiting, bytes(512))
    bench.end()
    assert is_open(bench, waiting, first, second)
    bench.manage(Function.CLEAR_ACA, A)
    bench.end()
    assert [bench.status(task) for task in (waiting, first, second)] == [Status.GOOD] * 3


@pytest.mark.clause("SAM5r21 5.9.2")
def test_a_dormant_task_stays_dormant(bench: Bench):
    first, ordered = bench.write(B, 0), bench.write(B, 1, attribute=ORDERED)
    fault(bench)
    bench.perform()
    bench.manage(Function.CLEAR_ACA, A)
    assert bench.status(first) is Status.GOOD
    bench.end()
    assert bench.status(ordered) is Status.GOOD


@pytest.mark.clause("SPC4r37 7.5.8")
def test_another_task_set_goes_on(bench: Bench):
    give_page(bench, ControlPage(tst=1))
    write = bench.write(B, 0)
    fault(bench)
    bench.end()
    assert bench.status(write) is Status.GOOD
    assert bench.status(bench.send(B, READY)) is Status.GOOD
    assert bench.status(bench.send(A, READY)) is Status.ACA_ACTIVE


@pytest.mark.clause("SAM5r21 5.9.2")
@pytest.mark.parametrize(
    "page, aborted",
    [
        (ControlPage(), []),
        (ControlPage(qerr=1), [A, B]),
        (ControlPage(qerr=3), [A]),
        (ControlPage(tst=1, qerr=1), [A]),
        (ControlPage(tst=1, qerr=3), [A]),
    ],
)
def test_qerr_says_which_tasks_are_aborted(bench: Bench, page: ControlPage, aborted: list[Nexus]):
    give_page(bench, page)
    tasks = {nexus: bench.send(nexus, Write10(transfer_length=1), expects_data=True) for nexus in (A, B)}
    fault(bench)
    assert [nexus for nexus, task in tasks.items() if bench.outcome(task) == Aborted(task)] == aborted


@pytest.mark.clause("SAM5r21 5.9.5")
@pytest.mark.parametrize("function, nexus", ENDS_IT)
def test_functions_that_end_it(bench: Bench, function: Function, nexus: Nexus):
    fault(bench)
    bench.manage(function, nexus)
    assert bench.managed[0].found
    assert bench.device.faulted == frozenset()
    bench.attention(B)
    assert bench.status(bench.send(B, READY)) is Status.GOOD


@pytest.mark.clause("SAM5r21 7.4")
@pytest.mark.clause("SAM5r21 5.9.5")
@pytest.mark.parametrize("function, nexus", LEAVES_IT)
def test_functions_that_leave_it(bench: Bench, function: Function, nexus: Nexus):
    fault(bench)
    bench.manage(function, nexus)
    assert bench.managed[0].found == (function is not Function.CLEAR_ACA)
    assert bench.device.faulted == {A}


@pytest.mark.clause("SAM5r21 7.4")
def test_clear_aca_without_a_condition_is_no_error(bench: Bench):
    bench.manage(Function.CLEAR_ACA, A)
    assert bench.managed[0].found
    give_page(bench, ControlPage(tst=1))
    fault(bench, B)
    bench.manage(Function.CLEAR_ACA, A)
    assert bench.managed[0].found
    assert bench.device.faulted == {B}


@pytest.mark.clause("SAM5r21 5.9.3")
def test_one_aca_task_at_a_time_does_its_work_before_the_others(bench: Bench):
    held = bench.write(A, 0)
    fault(bench)
    write = bench.write(A, 1, attribute=ACA)
    assert bench.status(bench.send(A, READY, ACA)) is Status.ACA_ACTIVE
    bench.end()
    assert bench.status(write) is Status.GOOD
    assert is_open(bench, held)
    assert bench.status(bench.send(A, READY, ACA)) is Status.GOOD


@pytest.mark.clause("SAM5r21 5.9.5")
def test_clear_aca_aborts_the_aca_task_and_is_over_when_that_is(bench: Bench):
    fault(bench)
    write = bench.write(A, 1, attribute=ACA)
    bench.manage(Function.CLEAR_ACA, A)
    assert not bench.managed
    assert bench.status(bench.send(B, READY)) is None, "the ACA task is at the head of the queue until it is over"
    bench.end()
    assert bench.outcome(write) == Aborted(write)
    assert bench.managed[0].found


@pytest.mark.clause("SAM5r21 5.9.3")
@pytest.mark.parametrize("naca, faulted", [(0, set()), (NACA, {A})])
def test_an_aca_task_that_fails_ends_the_condition_and_may_begin_another(bench: Bench, naca: int, faulted: set[Nexus]):
    held = bench.write(B, 0)
    fault(bench)
    bench.end()
    task = bench.send(A, READY.replace(control=naca | OBSOLETE), ACA)
    assert bench.sense(task) == (5, 0x2400)
    assert bench.device.faulted == faulted
    assert is_open(bench, held) == bool(faulted)


@pytest.mark.clause("SAM5r21 5.9.5")
def test_what_was_held_may_fail_and_begin_another(bench: Bench):
    differs = bench.send(B, CompareAndWrite(number_of_logical_blocks=1, control=NACA), expects_data=True)
    bench.give(differs, b"\1" * 2 * BLOCK)
    after = bench.write(A, 5)
    fault(bench)
    bench.end()
    assert is_open(bench, differs, after)
    bench.manage(Function.CLEAR_ACA, A)
    assert bench.sense(differs) == (0xE, 0x1D00)
    assert bench.device.faulted == {B}
    assert is_open(bench, after)
    bench.manage(Function.CLEAR_ACA, B)
    assert bench.status(after) is Status.GOOD


@pytest.mark.clause("SAM5r21 5.9.3")
def test_an_aca_task_does_not_wait_for_a_turn_that_one_has_that_is_held_up(bench: Bench):
    first, held = bench.write(A, 0, 1), bench.write(A, 0, 2)
    fault(bench)
    bench.end()
    assert is_open(bench, first, held)
    mends = bench.write(A, 0, 3, ACA)
    bench.end()
    assert bench.status(mends) is Status.GOOD
    bench.manage(Function.CLEAR_ACA, A)
    bench.end()
    assert [bench.status(task) for task in (first, held)] == [Status.GOOD] * 2
    assert bench.memory.read(0, 1) == b"\2"
    assert not bench.unit._tasks.turns


@pytest.mark.clause("SAM5r21 5.9.2")
def test_what_is_held_up_in_one_task_set_does_not_hold_up_another(bench: Bench):
    give_page(bench, ControlPage(tst=1))
    bench.write(A, 0, 1)
    held = bench.write(A, 0, 2)
    other = bench.write(B, 0, 3)
    fault(bench)
    bench.end()
    assert bench.status(other) is Status.GOOD
    assert is_open(bench, held)
    bench.manage(Function.ABORT_TASK_SET, A)
    assert bench.outcome(held) == Aborted(held)


def test_turns_are_taken_one_after_the_other_again_when_the_condition_is_over(bench: Bench):
    writes = [bench.write(A, 0, byte) for byte in (1, 2, 3)]
    fault(bench)
    bench.end()
    bench.manage(Function.CLEAR_ACA, A)
    assert [bench.status(task) for task in writes] == [Status.GOOD, None, None]
    assert len(bench.at_medium) == 1
    bench.end()
    assert [bench.status(task) for task in writes] == [Status.GOOD] * 3
    assert bench.memory.read(0, 1) == b"\3"


# When TST changes under an ACA condition


def separate(bench: Bench, tst: int, nexus: Nexus = A) -> None:
    """Lets the faulted nexus change TST by an ACA task."""
    page = ControlPage(ps=False, tst=tst).pack()
    assert bench.status(bench.select(nexus, page, attribute=ACA)) is Status.GOOD


@pytest.mark.clause("SPC4r37 7.5.8")
def test_a_nexus_that_gets_a_task_set_of_its_own_goes_on(bench: Bench):
    held = bench.write(B, 0)
    blocked = bench.send(B, Write10(lba=1, transfer_length=1), expects_data=True)
    own = bench.write(A, 2)
    fault(bench)
    bench.give(blocked, bytes(BLOCK))
    bench.end()
    assert is_open(bench, held, blocked, own)
    separate(bench, 1)
    bench.end()
    assert bench.status(held) is Status.GOOD
    assert bench.sense(blocked) == (6, AttentionCode.MODE_PARAMETERS_CHANGED)
    assert is_open(bench, own)
    bench.manage(Function.CLEAR_ACA, A)
    assert bench.status(own) is Status.GOOD


@pytest.mark.clause("SPC4r37 7.5.8")
@pytest.mark.clause("SAM5r21 5.9.5")
def test_conditions_that_come_together_are_cleared_each_by_its_own_nexus(bench: Bench):
    give_page(bench, ControlPage(tst=1))
    writes = [bench.write(A, 0), bench.write(B, 1)]
    fault(bench)
    fault(bench, B)
    separate(bench, 0)
    bench.end()
    bench.manage(Function.CLEAR_ACA, A)
    assert is_open(bench, *writes)
    assert bench.status(bench.send(B, RequestSense(allocation_length=18), ACA)) is Status.GOOD
    bench.manage(Function.CLEAR_ACA, B)
    assert [bench.status(task) for task in writes] == [Status.GOOD] * 2
    assert bench.device.faulted == frozenset()


@pytest.mark.clause("SAM5r21 5.9.4")
def test_commands_that_were_kept_out_may_be_told_of_later(bench: Bench):
    give_page(bench, ControlPage(ua_intlck_ctrl=3))
    bench.send(B, RequestSense(allocation_length=18))
    fault(bench)
    assert bench.status(bench.send(B, READY)) is Status.BUSY
    bench.manage(Function.CLEAR_ACA, A)
    assert bench.attention(B) == AttentionCode.PREVIOUS_BUSY_STATUS


@pytest.mark.clause("SAM5r21 5.12")
@pytest.mark.clause("SAM5r21 8.6.5")
def test_an_aca_task_without_a_condition_is_refused(bench: Bench):
    assert bench.sense(bench.send(A, READY, ACA)) == (5, 0x4900)


@pytest.mark.clause("SPC4r37 7.5.8")
def test_clear_task_set_clears_the_own_one_of_separate_task_sets(bench: Bench):
    give_page(bench, ControlPage(tst=1))
    tasks = {nexus: bench.send(nexus, Write10(transfer_length=1), expects_data=True) for nexus in (A, B)}
    bench.manage(Function.CLEAR_TASK_SET, A)
    assert bench.outcome(tasks[A]) == Aborted(tasks[A])
    assert is_open(bench, tasks[B])


@pytest.mark.clause("SPC4r37 7.5.8")
def test_ordered_tasks_do_not_wait_for_another_task_set(bench: Bench):
    give_page(bench, ControlPage(tst=1))
    bench.write(A, 0)
    bench.write(B, 1, attribute=ORDERED)
    assert len(bench.at_medium) == 2


def test_tasks_stay_in_the_task_set_that_they_entered(bench: Bench):
    bench.write(A, 0)
    shared = bench.write(B, 1, attribute=ORDERED)
    assert len(bench.at_medium) == 1
    bench.device.modes = bench.device.modes.select(ControlPage(ps=False, tst=1).pack(), 0)
    bench.write(B, 2, attribute=ORDERED)
    assert len(bench.at_medium) == 2
    bench.end()
    assert bench.status(shared) is Status.GOOD
