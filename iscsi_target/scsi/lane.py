"""The short way of a command: what is decided already is not decided again.

As long as nothing changes, the commands of a nexus are alike: the reservations admit them, no unit attention is
pending, and nothing is ordered before them. A lane answers such a command when the medium can do at once what it asks,
in a few calls and without a record of it, since a task that ends in the moment in which it comes is never in anybody's
way. Whatever is not so plain, an error included, it leaves to the unit, having done nothing, but for a part of a write
that the medium is to do in a thread then: such a command goes on at once, so that check and write stay together.

It decides nothing itself. What a nexus may send is what `checks` has admitted since the last change, and row, handler
and operation are those of the long way. So a lane is the long way with its answers remembered, and
tests/property/test_lane.py holds the one against the other.
"""

from iscsi_target.scsi.device import Device
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.nexus_table import NexusTable
from iscsi_target.scsi.open_tasks import OpenTasks
from iscsi_target.scsi.operations import BLOCKS, Attempt, Buffer, MediumError
from iscsi_target.scsi.status import StatusError
from iscsi_target.scsi.task import Call, Done, TaskAttribute, Work
from iscsi_target.scsi.task_set import MAX_TASKS_PER_NEXUS
from iscsi_target.wire.layout import LayoutError


class Lane:
    """Answers plain commands of one attached nexus at one logical unit.

    nexus, device, tasks, attempt   of the unit
    nexuses                         where the nexus is attached
    """

    def __init__(self, nexus: Nexus, device: Device, nexuses: NexusTable, tasks: OpenTasks, attempt: Attempt) -> None:
        self._nexus = nexus
        self._nexuses = nexuses
        self._standing = nexuses.standing(nexus)
        self._device = device
        self._tasks = tasks
        self._attempt = attempt
        self._call = Call(nexus, b"", (), attached=nexuses)  # of every command without Data-Out

    def answer(self, cdb: bytes, attribute: TaskAttribute, data_out: Buffer | None, expected: int) -> Done | None:
        """Returns what a command comes to, or None when nothing is done and it is to go the long way.

        cdb        16..260 bytes
        data_out   all the Data-Out that the initiator has; None when some is still to come
        expected   how many bytes that is or will be
        """
        device, tasks = self._device, self._tasks
        command = self._standing.admitted.get(cdb[:1])
        if command is None or self._standing.epoch is not device.epoch or data_out is None:
            return None
        if len(tasks.order) >= MAX_TASKS_PER_NEXUS or not tasks.order.enables(attribute):
            return None
        try:
            fields = command.unpack(cdb)
            call = self._call
            if expected or command.wants_data:
                if command.data_out(device, fields) != expected:
                    return None
                call = Call(self._nexus, data_out, (), expected, attached=self._nexuses)
            reply = command.handler(device, fields, call)
            if isinstance(reply, Work):
                return self._perform(reply)
        except (StatusError, LayoutError):
            return None
        return reply if isinstance(reply, Done) else None

    def _perform(self, work: Work) -> Done | None:
        if not self._tasks.turns.are_quiet(work.operation):
            return None
        result = self._attempt(work.operation)
        if result is BLOCKS or isinstance(result, MediumError):
            return None
        return work.finish(result)
