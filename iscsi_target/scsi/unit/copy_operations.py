"""What copy operations are to the unit that carries them out: tasks that outlive their commands and ask other units.

What each of them does, step by step, is in `token_copy`; how it is told, in `copy_status`.
"""

from dataclasses import replace

from iscsi_target.scsi.commands.command import Command
from iscsi_target.scsi.operations import Buffer, Operation, extents, writes
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Bring, Fetch, StartCopy, Task, UnitAction
from iscsi_target.scsi.unit.endings import Endings
from iscsi_target.scsi.unit.open_task import NO_IDENTIFIER, READY, Fetching, OpenTask
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
        going_on.copying = NO_IDENTIFIER if start.identifier is None else start.identifier
        return going_on

    def serve(self, task: Task, command: Command, data_out: Buffer) -> None:
        """Takes in what the copy of another unit wants in the name of a nexus; it is checked as if the nexus wanted it.

        It is in nobody's order, and ends with what the nexus has in the background here.

        command    of `copy_rows.ASKED`
        Source: SPC4r37 5.17.3
        """
        cdb = command.unpack(task.cdb)
        entry = OpenTask(task, command, cdb, 0, READY, data_out, enabled=True, background=True, foreign=True)
        self._tasks.enter_background(entry)
        self._tasks.make_startable(entry)

    def fetch(self, entry: OpenTask, fetch: Fetch) -> None:
        """Has another unit asked, or this one."""
        entry.phase = Fetching(fetch)
        self._outbox.append(Bring(entry, fetch.unit, fetch.cdb, fetch.data_out, fetch.visit))

    def cancel_tokens(self, operation: Operation, now_s: float) -> None:
        """Cancels the tokens that represent what an operation may change, before it does.

        Source: SPC4r37 5.17.6.2.3.3
        """
        before = self._device.tokens
        after = before.after_change(extents(operation), now_s) if writes(operation) else before
        if after is not before:
            self._device.tokens = after
