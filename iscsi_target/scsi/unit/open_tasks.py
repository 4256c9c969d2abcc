"""The open tasks of one logical unit: who has which, in which order they may go on, and which tickets are theirs.

It keeps the books and decides nothing of commands: no handlers, no statuses, no attentions.
"""

from collections import deque
from collections.abc import Collection

from iscsi_target.scsi.nexus import OPERATOR, Nexus
from iscsi_target.scsi.state.task import Completed, Function, ManagementRequest, Task, TaskAttribute, Ticket, Work
from iscsi_target.scsi.status import StatusError
from iscsi_target.scsi.unit.open_task import (
    OVER,
    READY,
    Blocked,
    Fetching,
    Held,
    OpenTask,
    Performing,
    Ready,
    Rested,
    Sanitizing,
    Saving,
    Waiting,
    WaitingToSave,
)
from iscsi_target.scsi.unit.task_set import TaskSets, Turn, Turns

_UNDER_WAY = (Performing, Fetching, Saving)


class OpenTasks:
    """The tasks that have not ended.

    order        in which they start
    turns        in which their operations go to the medium
    startable    those that may go on by themselves, oldest first; whoever lets one go on takes it out
    entries      all of them, oldest first; only read by others
    saving       True while the state file is written for this unit
    """

    def __init__(self) -> None:
        self.order = TaskSets()
        self.turns = Turns()
        self.entries: dict[Task, OpenTask] = {}
        self.startable: deque[OpenTask] = deque()
        self.saving = False
        self._savers: list[OpenTask] = []
        self._stalled = False  # True when an ACA condition may hold up some

    def __len__(self) -> int:
        return len(self.entries)

    def find(self, task: Task) -> OpenTask | None:
        """Returns the entry of a task, or None when it has ended."""
        return self.entries.get(task)

    def count(self, nexus: Nexus) -> int:
        """Returns how many tasks of a nexus are open."""
        return self.order.open_tasks(nexus)

    def has_aca_task(self, nexus: Nexus) -> bool:
        """Returns True when a task of a nexus with the ACA attribute is open."""
        return any(entry.task.attribute is TaskAttribute.ACA for entry in self.of(nexus))

    def enter(self, entry: OpenTask, owner: Nexus | None = None) -> None:
        """Takes in a task, which becomes startable when it is enabled at once.

        owner    as in `TaskSets.enter`
        Source: SAM5r21 8.5, 8.6
        """
        self.entries[entry.task] = entry
        if self.order.enter(entry.task, owner, first=entry.command.row.head_of_queue or entry.permitted):
            self._enable(entry)

    def enter_background(self, entry: OpenTask) -> None:
        """Takes in a copy operation that goes on in the background, which is beside the order of the tasks.

        Source: SPC4r37 5.17.4.3
        """
        self.entries[entry.task] = entry

    def leave(self, entry: OpenTask) -> None:
        """Takes out a task that is over; those that are enabled by that become startable.

        Source: SAM5r21 8.5, 8.6
        """
        entry.phase = OVER
        del self.entries[entry.task]
        if entry.background:
            return
        for task in self.order.leave(entry.task):
            self._enable(self.entries[task])

    def stand_back(self, entry: OpenTask) -> None:
        """Lets a task that is not over hold up no other; those that are enabled by that become startable."""
        for task in self.order.stand_back(entry.task):
            self._enable(self.entries[task])

    def _enable(self, entry: OpenTask) -> None:
        entry.enabled = True
        if isinstance(entry.phase, Ready):
            self.startable.append(entry)

    # What may go on

    def make_startable(self, entry: OpenTask) -> None:
        """Notes that a task may go on by itself, when it is enabled."""
        if entry.enabled:
            self.startable.append(entry)

    def leave_turn(self, turn: Turn) -> None:
        """Takes out a turn; the tasks whose turn it is now become startable."""
        for free in self.turns.leave(turn):
            self.startable.append(self.entries[free.task])

    def wait_to_save(self, entry: OpenTask) -> None:
        """Lets a startable task wait for another one's save."""
        entry.phase = WaitingToSave()
        self._savers.append(entry)

    def end_save(self) -> None:
        """Takes in that a save is over; those become startable that waited for it and have not ended meanwhile."""
        self.saving = False
        savers, self._savers = self._savers, []
        for entry in savers:
            if isinstance(entry.phase, WaitingToSave):
                entry.phase = READY
                self.startable.append(entry)

    # Under an ACA condition

    def block(self, entry: OpenTask) -> None:
        """Lets a startable task wait until `unblock`; it gives up its turn, as others may go on that would wait for it.

        Source: SAM5r21 5.9.2
        """
        self._stalled = True
        match entry.phase:
            case Waiting(turn, work):
                entry.phase = Blocked(work)
                self.leave_turn(turn)
            case Ready() | Rested():
                entry.phase = Blocked(entry.phase)
            case _:
                pass  # what has come to its end has nothing to give up

    def hold(self, entry: OpenTask, completed: Completed, error: StatusError | None) -> None:
        """Lets a task keep its end to itself until `unblock`.

        Source: SAM5r21 5.9.2
        """
        self._stalled = True
        entry.phase = Held(completed, error)

    def unblock(self) -> None:
        """Makes those startable, oldest first, that wait for it and have no others before them at the medium."""
        stalled, self._stalled = self._stalled, False
        if stalled:
            for entry in self.entries.values():
                self._unblock(entry)

    def _unblock(self, entry: OpenTask) -> None:
        match entry.phase:
            case Blocked(Work() as work):
                turn = Turn(entry.task, work.operation)
                entry.phase = Waiting(turn, work)
                if self.turns.enter(turn):
                    self.startable.append(entry)
            case Blocked(Ready() | Rested() as before):
                entry.phase = before
                self.startable.append(entry)
            case Held():
                self.startable.append(entry)
            case _:
                pass  # nothing holds it up

    # Tickets

    def redeem(self, ticket: Ticket) -> OpenTask:
        """Returns the task that waits for what the ticket stands for."""
        assert isinstance(ticket, OpenTask)
        assert isinstance(ticket.phase, _UNDER_WAY), f"{ticket.task} has nothing under way"
        return ticket

    # Scopes

    def sanitizing(self) -> list[OpenTask]:
        """Returns the tasks that end with the sanitize operation."""
        return [entry for entry in self.entries.values() if isinstance(entry.phase, Sanitizing)]

    def all(self) -> list[OpenTask]:
        """Returns every open task of a nexus, oldest first; orders of the operator are out of everybody's reach."""
        return [each for each in self.entries.values() if each.task.nexus != OPERATOR and not each.background]

    def of(self, *nexuses: Nexus) -> list[OpenTask]:
        """Returns the open tasks of nexuses, oldest first."""
        wanted = frozenset(nexuses)
        return [each for each in self.entries.values() if each.task.nexus in wanted and not each.background]

    def in_background(self) -> list[OpenTask]:
        """Returns the copy operations that go on in the background."""
        return [entry for entry in self.entries.values() if entry.background]

    def _visiting(self, nexus: Nexus) -> list[OpenTask]:
        """Returns what copy operations of other units want in the name of a nexus."""
        return [each for each in self.entries.values() if each.foreign and each.task.nexus == nexus]

    def copying(self, nexus: Nexus, identifier: int) -> list[OpenTask]:
        """Returns the copy operation of a nexus that has a list identifier, if it goes on."""
        return [each for each in self.entries.values() if each.copying == identifier and each.task.nexus == nexus]

    def preempted(self, nexuses: Collection[Nexus], relieved: Collection[Nexus]) -> list[OpenTask]:
        """Returns the tasks that PREEMPT AND ABORT ends, oldest first, and then copy operations in the background.

        The clause has all copy operations aborted, among commands of the nexuses that are preempted; it is read as
        those of these nexuses, since the others have done nothing that they should be kept from.

        nexuses    that are preempted
        relieved   whose ACA conditions end
        Source: SPC4r37 5.13.11.2.6
        """
        aca = TaskAttribute.ACA
        tasks = self.of(*nexuses, *relieved)
        aborted = [each for each in tasks if each.task.nexus in nexuses or each.task.attribute is aca]
        return aborted + [each for each in self.in_background() if each.task.nexus in nexuses]

    def in_scope(self, request: ManagementRequest, *, separate: bool = False) -> list[OpenTask]:
        """Returns the tasks that a management request ends; a reset ends copy operations in the background too.

        separate   True when every nexus has a task set of its own
        Source: SAM5r21 7, SPC4r37 5.17.5
        """
        scope, nexus, spared = self._in_scope(request, separate=separate), request.nexus, request.spared
        if not spared:
            return scope
        return [entry for entry in scope if entry.task.nexus != nexus or entry.task.tag not in spared]

    def _in_scope(self, request: ManagementRequest, *, separate: bool) -> list[OpenTask]:
        match request.function:
            case Function.ABORT_TASK:
                return [entry for entry in self.of(request.nexus) if entry.task.tag == request.tag]
            case Function.CLEAR_ACA:
                return [entry for entry in self.of(request.nexus) if entry.task.attribute is TaskAttribute.ACA]
            case Function.ABORT_TASK_SET:
                return self.of(request.nexus)
            case Function.NEXUS_LOSS | Function.NEXUS_RESET:
                return self.of(request.nexus) + self._visiting(request.nexus)
            case Function.CLEAR_TASK_SET:
                return self.of(request.nexus) if separate else self.all()
            case Function.LOGICAL_UNIT_RESET | Function.TARGET_RESET:
                return self.all() + self.in_background()
