"""Lets the sanitize operations of one logical unit begin, go on and end, and ends the commands that wait for them.

What a sanitize operation does to the medium is in `sanitizer`.
"""

from iscsi_target.scsi.operations import MediumError, Outcome
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.sanitization import Sanitization
from iscsi_target.scsi.state.task import Begin, Done, Milestone, Persist, Reached, Ticket, UnitAction
from iscsi_target.scsi.unit.endings import Endings
from iscsi_target.scsi.unit.open_task import SANITIZING, Fate, OpenTask
from iscsi_target.scsi.unit.open_tasks import OpenTasks
from iscsi_target.scsi.unit.sanitizer import Sanitizer


class SanitizeOperations:
    """The sanitize operations of one unit, of which one at most is under way.

    name                     the unit's name
    device, tasks, endings   of the unit
    outbox                   where the actions go
    """

    def __init__(self, name: str, device: Device, tasks: OpenTasks, endings: Endings, outbox: list[UnitAction]) -> None:
        self._device = device
        self._tasks = tasks
        self._endings = endings
        self._outbox = outbox
        self._sanitizer = Sanitizer(name, device)

    def waits_for(self, ticket: Ticket) -> bool:
        """Returns True when a ticket stands for a step of an operation."""
        return ticket is self._sanitizer

    def begin(self, entry: OpenTask, begin: Begin) -> None:
        """Lets an operation begin; its command holds up no other any more.

        Source: SBC3r36 4.11.2, 5.24.1
        """
        self._device.sanitization = begin.sanitization
        self._device.tokens = self._device.tokens.cancelled()
        self._sanitizer.begin()
        self._outbox.append(Reached(Milestone.BEGUN, begin.sanitization, entry.task.nexus))
        self._endings.make_way(entry, begin.sanitization)
        self._tasks.stand_back(entry)
        if entry.fate is not Fate.ITS_OWN:
            self._endings.end_aborted(entry)
        elif begin.immediate:
            self._endings.complete(entry, Done())
        else:
            entry.phase = SANITIZING

    def leave_failure(self, entry: OpenTask, failed: Sanitization) -> None:
        """Forgets an operation that has failed, as EXIT FAILURE MODE wants."""
        self._device.sanitization = None
        self._outbox.append(Reached(Milestone.FAILURE_LEFT, failed, entry.task.nexus))
        if entry.fate is Fate.ITS_OWN:
            self._endings.complete(entry, Done())
        else:
            self._endings.end_aborted(entry)

    def go_on(self) -> None:
        """Has the next step done, when there is one and nothing is in its way."""
        action = self._sanitizer.step(quiet=not self._tasks.turns, storing=self._tasks.saving)
        if action is not None:
            self._tasks.saving = self._tasks.saving or isinstance(action, Persist)
            self._outbox.append(action)

    def finished(self, result: Outcome | MediumError) -> None:
        """Takes in what became of a step; with the last one, the command ends that waits for it."""
        if self._sanitizer.stores:
            self._tasks.end_save()
        before = self._device.sanitization
        self._sanitizer.finished(result)
        now = self._device.sanitization
        if before is None or before.failed or (now is not None and not now.failed):
            return
        self._outbox.append(Reached(Milestone.ENDED if now is None else Milestone.FAILED, before))
        for entry in self._tasks.sanitizing():
            if now is None:
                self._endings.complete(entry, Done())
            else:
                self._endings.fail(entry, now.failure)

    def refit(self) -> None:
        """Takes in that the unit has got another capacity."""
        self._sanitizer.refit()

    def halt(self) -> None:
        """Goes no further, because the medium is to be closed."""
        self._sanitizer.halt()
