"""The books of open tasks: order, tickets and scopes. Nodes A and B; port P; unit 0 (see unit_bench)."""

import pytest

from iscsi_target.scsi.commands.command_lookup import find
from iscsi_target.scsi.layouts.block_cdb import Write10
from iscsi_target.scsi.nexus import OPERATOR, Nexus
from iscsi_target.scsi.operations import Write
from iscsi_target.scsi.state.task import (
    Done,
    Function,
    ManagementRequest,
    Save,
    Task,
    TaskAttribute,
    Ticket,
    UnitState,
    Work,
)
from iscsi_target.scsi.unit import task_set
from iscsi_target.scsi.unit.open_task import (
    SANITIZING,
    Collecting,
    OpenTask,
    Over,
    Performing,
    Phase,
    Ready,
    Saving,
    Waiting,
    WaitingToSave,
)
from iscsi_target.scsi.unit.open_tasks import OpenTasks
from iscsi_target.scsi.unit.task_set import Turn
from tests.unit.scsi.unit_bench import BLOCK, A, B

SIMPLE, ORDERED, HEAD = TaskAttribute.SIMPLE, TaskAttribute.ORDERED, TaskAttribute.HEAD_OF_QUEUE
WORK = Work(Write(0, bytes(BLOCK)))
SAVE = Save(UnitState(), Done)


@pytest.fixture
def tasks() -> OpenTasks:
    return OpenTasks()


def enter(
    tasks: OpenTasks,
    tag: int,
    nexus: Nexus = A,
    *,
    phase: Phase | None = None,
    attribute: TaskAttribute = SIMPLE,
) -> OpenTask:
    cdb = Write10(transfer_length=1)
    entry = OpenTask(Task(nexus, tag, cdb.pack(), attribute), find(cdb.pack()), cdb, BLOCK, phase or Ready())
    tasks.enter(entry)
    return entry


def startable(tasks: OpenTasks) -> list[OpenTask]:
    """Takes out all that may go on."""
    found = list(tasks.startable)
    tasks.startable.clear()
    return found


def wait_for_turn(tasks: OpenTasks, entry: OpenTask) -> Turn:
    turn = Turn(entry.task, WORK.operation)
    entry.phase = Waiting(turn, WORK)
    if tasks.turns.enter(turn):
        entry.phase = Performing(turn, WORK)
    return turn


# What may go on


@pytest.mark.clause("SAM5r21 4.5.6")
def test_a_task_is_found_from_its_entry_to_its_end(tasks: OpenTasks):
    entry = enter(tasks, 1)
    assert (tasks.find(entry.task), len(tasks)) == (entry, 1)
    tasks.leave(entry)
    assert (tasks.find(entry.task), len(tasks)) == (None, 0)
    assert isinstance(entry.phase, Over)


@pytest.mark.clause("SAM5r21 5.3.1")
def test_room_is_counted_by_nexus(tasks: OpenTasks, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(task_set, "MAX_TASKS_PER_NEXUS", 1)
    entry = enter(tasks, 1)
    assert (tasks.order.has_room(A), tasks.order.has_room(B)) == (False, True)
    tasks.leave(entry)
    assert tasks.order.has_room(A)


def test_what_is_ready_and_enabled_may_go_on_oldest_first(tasks: OpenTasks):
    first, second = enter(tasks, 1), enter(tasks, 2, B)
    assert startable(tasks) == [first, second]
    assert startable(tasks) == []


def test_what_waits_for_data_goes_on_when_it_is_made_to(tasks: OpenTasks):
    entry = enter(tasks, 1, phase=Collecting())
    assert startable(tasks) == []
    entry.phase = Ready()
    tasks.make_startable(entry)
    assert startable(tasks) == [entry]


@pytest.mark.clause("SAM5r21 8.6")
@pytest.mark.clause("SAM5r21 8.7")
def test_what_is_dormant_goes_on_when_the_tasks_before_it_are_over(tasks: OpenTasks):
    first = enter(tasks, 1)
    ordered = enter(tasks, 2, attribute=ORDERED, phase=Collecting())
    last = enter(tasks, 3)
    assert startable(tasks) == [first]
    ordered.phase = Ready()
    tasks.make_startable(ordered)
    assert startable(tasks) == []
    tasks.leave(first)
    assert startable(tasks) == [ordered]
    tasks.leave(ordered)
    assert startable(tasks) == [last]


@pytest.mark.clause("SAM5r21 8.6")
def test_head_of_queue_goes_on_before_what_is_dormant(tasks: OpenTasks):
    enter(tasks, 1, phase=Collecting())
    enter(tasks, 2, attribute=ORDERED)
    head = enter(tasks, 3, B, attribute=HEAD)
    assert startable(tasks) == [head]


def test_a_turn_that_is_over_lets_those_behind_it_go_on(tasks: OpenTasks):
    first, second, third = (enter(tasks, tag) for tag in range(3))
    startable(tasks)
    turns = [wait_for_turn(tasks, entry) for entry in (first, second, third)]
    assert [type(entry.phase) for entry in (first, second, third)] == [Performing, Waiting, Waiting]
    tasks.leave_turn(turns[1])
    tasks.leave(second)
    assert startable(tasks) == []
    tasks.leave_turn(turns[0])
    assert startable(tasks) == [third]


def test_what_waits_for_a_save_goes_on_in_its_order_unless_it_has_ended(tasks: OpenTasks):
    first, second, third = (enter(tasks, tag) for tag in range(3))
    for entry in startable(tasks):
        tasks.wait_to_save(entry)
    assert isinstance(second.phase, WaitingToSave)
    assert startable(tasks) == []
    tasks.leave(second)
    tasks.end_save()
    assert startable(tasks) == [first, third]
    assert isinstance(first.phase, Ready)
    assert isinstance(second.phase, Over)
    tasks.end_save()
    assert startable(tasks) == []


# Tickets


def test_a_ticket_leads_to_its_task_while_something_is_under_way(tasks: OpenTasks):
    performing, saving = enter(tasks, 1), enter(tasks, 2)
    wait_for_turn(tasks, performing)
    saving.phase = Saving(SAVE)
    tickets: list[Ticket] = [performing, saving]
    assert [tasks.redeem(ticket) for ticket in reversed(tickets)] == [saving, performing]


def test_a_ticket_of_a_task_with_nothing_under_way_is_a_bug(tasks: OpenTasks):
    ready, over = enter(tasks, 1), enter(tasks, 2)
    tasks.leave(over)
    for ticket in (ready, over):
        with pytest.raises(AssertionError, match="nothing under way"):
            tasks.redeem(ticket)


# Scopes


def scope(tasks: OpenTasks, function: Function, nexus: Nexus = A, tag: int | None = None) -> list[OpenTask]:
    return tasks.in_scope(ManagementRequest(0, function, nexus, tag))


def test_tasks_are_listed_oldest_first_whatever_their_order(tasks: OpenTasks):
    first, second = enter(tasks, 1), enter(tasks, 1, B)
    third = enter(tasks, 2, attribute=HEAD)
    enter(tasks, 3, OPERATOR, attribute=HEAD)
    assert tasks.all() == [first, second, third], "no nexus reaches an order of the operator"
    assert tasks.of(A) == [first, third]
    assert tasks.of(B, A) == [first, second, third]
    assert tasks.of() == []


@pytest.mark.clause("SAM5r21 7.2")
def test_abort_task_means_the_task_of_its_own_nexus(tasks: OpenTasks):
    first = enter(tasks, 1)
    enter(tasks, 1, B), enter(tasks, 2)
    assert scope(tasks, Function.ABORT_TASK, tag=1) == [first]
    assert scope(tasks, Function.ABORT_TASK, tag=9) == []


@pytest.mark.parametrize("function", [Function.ABORT_TASK_SET, Function.NEXUS_LOSS])
def test_functions_of_a_nexus_mean_all_its_tasks(tasks: OpenTasks, function: Function):
    first = enter(tasks, 1)
    enter(tasks, 1, B)
    third = enter(tasks, 2, phase=Collecting())
    assert scope(tasks, function) == [first, third]


@pytest.mark.parametrize("function", [Function.CLEAR_TASK_SET, Function.LOGICAL_UNIT_RESET, Function.TARGET_RESET])
def test_functions_of_the_unit_mean_the_tasks_of_everybody(tasks: OpenTasks, function: Function):
    entries = [enter(tasks, 1), enter(tasks, 1, B), enter(tasks, 2, attribute=ORDERED)]
    assert scope(tasks, function) == entries


def test_a_task_that_stands_back_lets_others_start(tasks: OpenTasks):
    head, waiting = enter(tasks, 1, attribute=HEAD), enter(tasks, 2, B)
    assert startable(tasks) == [head]
    tasks.stand_back(head)
    assert startable(tasks) == [waiting]
    assert tasks.find(head.task) is head


def test_those_that_end_with_the_sanitize_operation_are_told_apart(tasks: OpenTasks):
    enter(tasks, 1)
    waiting = enter(tasks, 2, phase=SANITIZING)
    assert tasks.sanitizing() == [waiting]
