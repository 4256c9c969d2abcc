"""How the tasks of a logical unit end: with what they came to, refused, or aborted; and what the others learn of it.

A task that is aborted while its operation is at the medium, or while something is stored for it, only gets its fate
here. It ends when that is over. One whose end comes while an ACA condition holds it up keeps that until `conclude`.
"""

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.commands.command import Command
from iscsi_target.scsi.nexus import OPERATOR, Nexus
from iscsi_target.scsi.reservations.reservation_request import Transition
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.sanitization import Sanitization
from iscsi_target.scsi.state.task import Aborted, Completed, Done, Forget, Task, UnitAction, Work
from iscsi_target.scsi.status import (
    CheckCondition,
    MediumNotPresent,
    SanitizeInProgress,
    Sense,
    SenseKey,
    Status,
    StatusError,
)
from iscsi_target.scsi.unit import allegiance
from iscsi_target.scsi.unit.chronicle import Chronicle
from iscsi_target.scsi.unit.nexus_table import NexusTable
from iscsi_target.scsi.unit.open_task import (
    Blocked,
    Collecting,
    Fate,
    Fencing,
    Fetching,
    Held,
    Moving,
    OpenTask,
    Over,
    Performing,
    Ready,
    Rested,
    Resting,
    Sanitizing,
    Saving,
    Waiting,
    WaitingToSave,
)
from iscsi_target.scsi.unit.open_tasks import OpenTasks

QERR_ABORT_ALL = 1  # QERR = 01b
QERR_ABORT_NEXUS = 3  # QERR = 11b
COMMANDS_CLEARED_BY_DEVICE_SERVER = 0x2F02


class Endings:
    """Ends the tasks of one logical unit.

    device, nexuses, tasks, chronicle   of the unit
    outbox                              where the actions go
    """

    def __init__(
        self, device: Device, nexuses: NexusTable, tasks: OpenTasks, chronicle: Chronicle, outbox: list[UnitAction]
    ) -> None:
        self._device = device
        self._nexuses = nexuses
        self._tasks = tasks
        self._chronicle = chronicle
        self._outbox = outbox

    # By themselves

    def complete(self, entry: OpenTask, done: Done) -> None:
        """Ends a task with what its command came to."""
        self.tell_others(entry, done)
        sense = b"" if done.sense is None else self._device.sense_data(CheckCondition(done.sense))
        self._end(entry, Completed(entry.task, done.status, sense, done.data_in, entry.wanted), None)

    def tell_others(self, entry: OpenTask, reply: Done | Work) -> None:
        """Gives every other nexus the unit attention that a reply has for them."""
        if reply.attention is not None:
            self._nexuses.establish(reply.attention, except_nexus=entry.task.nexus)

    def fail(self, entry: OpenTask, error: StatusError) -> None:
        """Ends a task with what its command raised."""
        self.note_refusal(entry.task, entry.command, error)
        self._end_with(entry, error)

    def _end_with(self, entry: OpenTask, error: StatusError) -> None:
        sense = self._device.sense_data(error)
        self._end(entry, Completed(entry.task, error.status, sense, wanted=entry.wanted), error)

    def _end(self, entry: OpenTask, completed: Completed, error: StatusError | None) -> None:
        if self._device.faulted and self.is_blocked(entry):
            self._tasks.hold(entry, completed, error)
        else:
            self.conclude(entry, completed, error)

    def is_blocked(self, entry: OpenTask) -> bool:
        """Returns True when an ACA condition holds a task up.

        Source: SAM5r21 5.9.2
        """
        nexus = entry.task.nexus
        return not (entry.permitted or entry.background) and nexus != OPERATOR and self._device.blocks(nexus)

    def conclude(self, entry: OpenTask, completed: Completed, error: StatusError | None) -> None:
        """Sends off how a task ended."""
        if entry.is_told:
            self._outbox.append(completed)
        self._leave(entry)
        if error is not None and not entry.background:
            self._note_error(entry.task, error)
            if entry.fate is Fate.ITS_OWN:  # what is ended from outside takes no others with it
                self._abort_others(entry.task, error)

    def refuse(self, task: Task, error: StatusError) -> None:
        """Ends a task that was never taken in."""
        self._outbox.append(Completed(task, error.status, self._device.sense_data(error)))
        self._note_error(task, error)
        self._abort_others(task, error)

    def note_refusal(self, task: Task, command: Command, error: StatusError) -> None:
        """Adds a refusal that concerns the reservations to their timeline."""
        noted = self._chronicle.refused(task, command, error)
        if noted is not None:
            self._outbox.append(noted)

    def note_change(self, entry: OpenTask, transition: Transition) -> None:
        """Adds a change of the reservations to their timeline."""
        self._outbox.append(self._chronicle.changed(entry.task, entry.command, transition))

    def _note_error(self, task: Task, error: StatusError) -> None:
        """Does what NACA wants done after CHECK CONDITION, and UA_INTLCK_CTRL after refusals.

        Source: SPC4r37 7.5.8, SAM5r21 5.9.2
        """
        if task.nexus == OPERATOR:
            return
        if self._device.modes.attends_to_refusals:
            self._nexuses.establish_refused(task.nexus, error.status)
        if error.status is Status.CHECK_CONDITION:
            allegiance.failed(task, self._device)

    def _abort_others(self, task: Task, error: StatusError) -> None:
        """Does what QERR wants done after CHECK CONDITION.

        Source: SPC4r37 7.5.8, SAM5r21 5.8
        """
        nexus = task.nexus
        if nexus == OPERATOR or error.status is not Status.CHECK_CONDITION:
            return
        if self._device.qerr == QERR_ABORT_ALL and not self._device.modes.separates_task_sets:
            self.abort_all(self._tasks.all(), nexus, tell_others=True)
        elif self._device.qerr in (QERR_ABORT_ALL, QERR_ABORT_NEXUS):
            self.abort_all(self._tasks.of(nexus), nexus, tell_others=False)

    def _leave(self, entry: OpenTask) -> None:
        self._tasks.leave(entry)
        for fence in entry.fences:
            fence.lower()

    # Aborted

    def abort_all(self, scope: list[OpenTask], cause: Nexus, *, tell_others: bool) -> None:
        """Aborts tasks on account of a nexus.

        cause         its own tasks end in silence, those of others as TAS says
        tell_others   True gives a unit attention to the others whose tasks end in silence
        Source: SAM5r21 5.7, SPC4r37 7.5.8 (TAS)
        """
        others = Fate.TASK_ABORTED if self._device.task_aborted_status else Fate.SILENCE
        hushed: dict[Nexus, None] = {}
        for entry in scope:
            foreign = entry.task.nexus != cause
            if foreign and entry.fate is Fate.ITS_OWN and others is Fate.SILENCE and not entry.background:
                hushed[entry.task.nexus] = None
            self._abort(entry, others if foreign else Fate.SILENCE)
        if tell_others:
            for nexus in hushed:
                self._nexuses.establish_for(nexus, AttentionCode.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR)

    def stop_copy(self, entry: OpenTask) -> None:
        """Ends a copy operation that COPY OPERATION ABORT means. Source: SPC4r37 5.17.4.7"""
        self._abort(entry, Fate.COPY_ABORTED)

    def make_way(self, sanitizing: OpenTask, begun: Sanitization) -> None:
        """Ends every command that is not processed while the medium is sanitized, but the one that began that.

        So it does with copy operations in the background.

        What has done its work is left to its end: a PERSISTENT RESERVE OUT that only waits for others, and what an ACA
        condition holds.
        Source: SBC3r36 4.11.2, SBC4r22 4.11.2
        """
        self._device.end_visits()
        for other in self._tasks.all() + self._tasks.in_background():
            is_left = isinstance(other.phase, Fencing | Held | Over) or other.command.passes(other.cdb, begun)
            if other is not sanitizing and other.fate is Fate.ITS_OWN and not is_left:
                self._abort(other, Fate.SANITIZED)

    def unload(self) -> None:
        """Ends every command that needs the medium, which is removed, but those whose operation is at it already.

        None of them may go on at another medium, which may be there before they start; a copy would after its
        operation.
        Source: SBC3r36 4.9
        """
        self._device.end_visits()
        for entry in self._tasks.all() + self._tasks.in_background():
            is_left = isinstance(entry.phase, Sanitizing | Saving | Held | Over)
            is_left |= isinstance(entry.phase, Performing) and entry.copying is None
            if entry.command.medium_access and entry.fate is Fate.ITS_OWN and not is_left:
                self._abort(entry, Fate.UNLOADED)

    def _abort(self, entry: OpenTask, fate: Fate) -> None:
        if entry.fate is not Fate.SILENCE:
            entry.fate = fate
        match entry.phase:
            case Performing() | Fetching() | Saving() | Fencing():
                pass
            case Waiting(turn):
                self._tasks.leave_turn(turn)
                self.end_aborted(entry)
            case Resting():
                self._outbox.append(Forget(entry))
                self.end_aborted(entry)
            case Collecting() | Ready() | WaitingToSave() | Sanitizing() | Rested() | Moving():
                self.end_aborted(entry)
            case Blocked() | Held():
                self.end_aborted(entry)
            case Over():
                raise AssertionError("a task that has ended cannot be aborted")

    def end_aborted(self, entry: OpenTask) -> None:
        """Ends an aborted task that nothing is under way for any more."""
        match entry.phase:
            case Waiting(_, begun) | Performing(_, begun) | Fetching(begun) | Blocked(Work() as begun):
                begun.abandon(None)
            case _:
                pass
        match entry.fate:
            case Fate.TASK_ABORTED:
                self._leave_with(entry, Completed(entry.task, Status.TASK_ABORTED, wanted=entry.wanted))
            case Fate.SANITIZED | Fate.UNLOADED | Fate.COPY_ABORTED:
                self._end_with(entry, self._condition(entry.fate))
            case _:
                self._leave_with(entry, Aborted(entry.task))

    def _leave_with(self, entry: OpenTask, last: Completed | Aborted) -> None:
        if entry.is_told:
            self._outbox.append(last)
        self._leave(entry)

    def _condition(self, fate: Fate) -> CheckCondition:
        """Returns what a command is told that was ended for one of these reasons."""
        under_way = self._device.sanitization
        match fate:
            case Fate.UNLOADED:
                return MediumNotPresent()
            case Fate.COPY_ABORTED:
                return CheckCondition(Sense(SenseKey.COPY_ABORTED, COMMANDS_CLEARED_BY_DEVICE_SERVER))
            case _:
                return SanitizeInProgress(0) if under_way is None else under_way.refusal
