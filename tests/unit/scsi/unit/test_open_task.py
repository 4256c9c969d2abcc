"""What waits for tasks: fences. Node A; port P (see unit_bench)."""

import pytest

from iscsi_target.scsi.commands.command_lookup import find
from iscsi_target.scsi.state.task import Task
from iscsi_target.scsi.unit.open_task import Collecting, Fate, Fence, OpenTask, Ready
from tests.unit.scsi.unit_bench import READY, A

CDB = READY.pack()


def open_task(tag: int) -> OpenTask:
    command = find(CDB)
    return OpenTask(Task(A, tag, CDB), command, command.unpack(CDB), 0, Ready())


@pytest.fixture
def over() -> list[str]:
    """What has followed."""
    return []


def end(entry: OpenTask) -> None:
    """Ends a task as its unit does."""
    for fence in entry.fences:
        fence.lower()


def test_a_new_task_will_end_as_its_command_comes_out():
    entry = open_task(1)
    assert entry.fate is Fate.ITS_OWN
    assert not entry.enabled
    assert entry.fences == []


def test_a_fence_around_nothing_is_down_as_soon_as_all_is_known(over: list[str]):
    fence = Fence.around([], lambda: over.append("down"))
    assert not over
    fence.lower()
    assert over == ["down"]


@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_a_fence_stands_until_the_last_task_is_over(over: list[str]):
    tasks = [open_task(tag) for tag in range(3)]
    fence = Fence.around(tasks, lambda: over.append("down"))
    fence.lower()
    for entry in tasks:
        assert not over
        end(entry)
    assert over == ["down"]


def test_a_fence_whose_tasks_end_while_they_are_aborted_stands_until_all_of_them_are(over: list[str]):
    tasks = [open_task(tag) for tag in range(2)]
    fence = Fence.around(tasks, lambda: over.append("down"))
    for entry in tasks:
        end(entry)
    assert not over
    fence.lower()
    assert over == ["down"]


def test_one_task_can_hold_several_fences_up(over: list[str]):
    shared, own = open_task(1), open_task(2)
    for name, scope in (("first", [shared]), ("second", [shared, own])):
        Fence.around(scope, lambda name=name: over.append(name)).lower()  # type: ignore[misc]  # bound in the loop
    end(shared)
    assert over == ["first"]
    end(own)
    assert over == ["first", "second"]


def test_a_fence_may_wait_for_a_task_that_itself_waits_for_one(over: list[str]):
    at_medium, preempting = open_task(1), open_task(2)
    Fence.around([at_medium], lambda: end(preempting)).lower()
    Fence.around([preempting], lambda: over.append("down")).lower()
    assert not over
    end(at_medium)
    assert over == ["down"]


def test_tasks_are_told_apart_by_identity_and_not_by_value():
    entry = open_task(1)
    twin = OpenTask(entry.task, entry.command, entry.cdb, 0, Collecting())
    twin.phase = Ready()
    assert entry != twin
