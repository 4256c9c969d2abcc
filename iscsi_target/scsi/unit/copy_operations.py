"""What copy operations are to the unit that carries them out: tasks that outlive their commands and ask other units.

What each of them does, step by step, is in `token_copy`; how it is told, in `copy_status`.
"""

from dataclasses import replace

from iscsi_target.scsi.operations import Operation, extents, writes
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Bring, Fetch, StartCopy, UnitAction
from iscsi_target.scsi.unit.endings import Endings
from iscsi_target.scsi.unit.open_task import READY, Fetching, OpenTask
from iscsi_target.scsi.unit.open_tasks import OpenTasks


class CopyOperations:
    """The copy operations of one unit, and what becomes of its tokens.

    device, tasks, endings   of the unit
    outbox                   where the actions go
    """

    def __init__(self, device: Device, tasks: OpenTasks, endings: Endings, outbox: list[UnitAction]) -> None:
        self._device = device
        self._tasks = tasks
        self._endings = endings
        self._outbox = outbox

    def begin(self, entry: OpenTask, start: StartCopy) -> OpenTask:
        """Returns what goes on: the command, or with IMMED a copy operation in the background, and the command is over.

        Source: SPC4r37 5.17.4.3
        """
        going_on = entry
        if start.immediate is not None:
            task = replace(entry.task, data_out=None)
            going_on = OpenTask(task, entry.command, entry.cdb, 0, READY, enabled=True, background=True)
            self._tasks.enter_background(going_on)
            self._endings.complete(entry, start.immediate)
        going_on.copying = start.identifier
        return going_on

    def fetch(self, entry: OpenTask, fetch: Fetch) -> None:
        """Has what a token represents brought."""
        entry.phase = Fetching(fetch)
        self._outbox.append(Bring(entry, fetch.unit, fetch.cdb, fetch.token))

    def cancel_tokens(self, operation: Operation, now_s: float) -> None:
        """Cancels the tokens that represent what an operation may change, before it does.

        Source: SPC4r37 5.17.6.2.3.3
        """
        before = self._device.tokens
        after = before.after_change(extents(operation), now_s) if writes(operation) else before
        if after is not before:
            self._device.tokens = after
