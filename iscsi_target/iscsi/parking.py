"""Holds commands back while an initiator has much data under way, or does not fetch what it has asked for already.

Asking for data, or announcing it, costs an initiator 48 bytes and the target the data, so what one session may have
under way is limited. A command beyond the limit is not refused: it waits here, before it becomes a task, and everything
behind it waits too, so that the order of the commands stays. Nothing that is in a task set ever waits for this room: it
might have to wait for a task that waits for it. Task management functions of the same session find it here.
"""

from iscsi_target.iscsi.events import CommandReceived
from iscsi_target.iscsi.open_task import OpenTask

LIMIT_BYTES = 16 << 20  # of data that one session's commands expect to transfer; one command may exceed it


class Parking:
    """Decides which commands of a session may go on."""

    def __init__(self) -> None:
        self._parked: dict[int, tuple[CommandReceived, OpenTask]] = {}  # by tag, in order; the window bounds them
        self._under_way_bytes = 0

    def __len__(self) -> int:
        return len(self._parked)

    def __contains__(self, tag: int) -> bool:
        return tag in self._parked

    def admits(self, received: CommandReceived, task: OpenTask) -> bool:
        """Returns True when the command may go on at once; otherwise it is kept."""
        if self._parked or not self._start(task):
            self._parked[received.tag] = received, task
            return False
        return True

    def is_clear(self, received: CommandReceived) -> bool:
        """Returns True when `admits` would let a command go on that is no task yet."""
        return not self._parked and self._has_room(received)

    @property
    def room_bytes(self) -> int:
        """How much a command may transfer that goes on at once, ends at once, and whose connection has room."""
        if self._parked:
            return 0
        return LIMIT_BYTES - self._under_way_bytes

    def release(self) -> CommandReceived | None:
        """Returns the next command that may go on now, or None."""
        for tag, (received, task) in self._parked.items():
            if not self._start(task):
                return None
            del self._parked[tag]
            return received
        return None

    def leave(self, task: OpenTask) -> None:
        """Notes that a command is over, whether it went on or was kept."""
        if self._parked:
            self._parked.pop(task.received.tag, None)
        self._under_way_bytes -= task.under_way_bytes
        task.under_way_bytes = 0

    def _start(self, task: OpenTask) -> bool:
        """Counts a command in when there is room for it."""
        if not self._has_room(task.received):
            return False
        wanted = task.received.expected_read + task.received.expected
        self._under_way_bytes += wanted
        task.under_way_bytes = wanted
        return True

    def _has_room(self, received: CommandReceived) -> bool:
        if received.connection.congested or received.connection.full:
            return False
        wanted = received.expected_read + received.expected
        return not self._under_way_bytes or self._under_way_bytes + wanted <= LIMIT_BYTES
