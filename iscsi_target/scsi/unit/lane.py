"""The short way of a command: what is decided already is not decided again.

As long as nothing changes, the commands of a nexus are alike: the reservations admit them, no unit attention is
pending, and nothing is ordered before them. A lane answers a READ or WRITE of that kind when the medium can do at once
what it asks, in a few calls and without a record of it, since a task that ends in the moment in which it comes is never
in anybody's way. Whatever is not so plain, an error included, it leaves to the unit, having done nothing, but for a
part of a write that the medium is to do in a thread then: such a command goes on at once, so that check and write stay
together.

It decides nothing itself. What a nexus may send is what `checks` has admitted since the last change, and what it comes
to is the shortcut of its row. So a lane is the long way with its answers remembered, and tests/property/test_lane.py
holds the one against the other.
"""

from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.operations import Attempt, Buffer, Operation
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import TaskAttribute
from iscsi_target.scsi.unit.nexus_table import NexusTable
from iscsi_target.scsi.unit.open_tasks import OpenTasks
from iscsi_target.scsi.unit.task_set import MAX_TASKS_PER_NEXUS

NOTHING = b""


class Lane:
    """Answers plain commands of one attached nexus at one logical unit.

    nexus, device, tasks, attempt   of the unit
    nexuses                         where the nexus is attached
    """

    def __init__(self, nexus: Nexus, device: Device, nexuses: NexusTable, tasks: OpenTasks, attempt: Attempt) -> None:
        self._standing = nexuses.standing(nexus)
        self._device = device
        self._tasks = tasks
        self._entries = tasks.entries
        self._attempt = attempt
        self._statistics = device.statistics

    def answer(self, cdb: bytes, expected: int, data_out: Buffer) -> Buffer | None:
        """Does a command with the attribute SIMPLE.

        cdb        at least 16 bytes
        expected   how many bytes the initiator expects to be transferred
        data_out   all its Data-Out
        returns    `expected` bytes that were read, nothing when it was a write, and the status is GOOD; None when
                   nothing is done and the command is to go the long way
        """
        standing = self._standing
        shortcut = standing.admitted.get(cdb[:1])
        if shortcut is None or standing.epoch is not self._device.epoch:
            return None
        operation = shortcut(cdb, expected, data_out)
        if operation is None or (self._entries and not self._is_clear(operation)):
            return None
        result = self._attempt(operation)
        statistics = self._statistics
        if result is None:
            statistics.written_bytes += expected
            statistics.write_hits += 1
            return NOTHING
        if isinstance(result, (bytes, bytearray)):
            statistics.read_bytes += expected
            statistics.read_hits += 1
            return result
        return None

    def _is_clear(self, operation: Operation) -> bool:
        """Returns True when no open task is in the way of an operation."""
        order, turns = self._tasks.order, self._tasks.turns
        is_next = order.enables(TaskAttribute.SIMPLE, self._standing.owner)
        return len(order) < MAX_TASKS_PER_NEXUS and is_next and turns.are_quiet(operation)
