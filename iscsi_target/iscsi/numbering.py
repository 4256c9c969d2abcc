"""The command window of a session: which CmdSN is taken, in what order, and how many more may come.

The window closes by one for every open task, so an initiator never has more than `size` tasks at the target; MaxCmdSN
never goes back, as the standard demands.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

from iscsi_target.wire.serial import advance, distance

T = TypeVar("T")

WINDOW_COMMANDS = 128  # open-iscsi's cmds_max; a larger window only lengthens the queue at the medium


class CommandWindow(Generic[T]):
    """Puts the non-immediate requests of a session into CmdSN order.

    expected    ExpCmdSN: the next number to be delivered
    maximum     MaxCmdSN: the last number that will be taken
    Source: RFC7143 4.2.2.1
    """

    def __init__(self, first: int, size: int = WINDOW_COMMANDS) -> None:
        self.expected = first
        self.maximum = advance(first, size - 1)
        self._size = size
        self._early: dict[int, T] = {}  # CmdSN -> what came before its turn; at most `size` entries
        self._skipped: set[int] = set()  # numbers that ABORT TASK declared received

    def admit(self, cmd_sn: int, request: T) -> Iterator[T]:
        """Yields the requests whose turn it is now; nothing when this one is early, a duplicate or outside the window.

        ExpCmdSN has moved past a request when it is yielded.
        """
        if not self.holds(cmd_sn) or cmd_sn in self._early or cmd_sn in self._skipped:
            return
        self._early[cmd_sn] = request
        while self.expected in self._early or self.expected in self._skipped:
            number = self.expected
            self.expected = advance(number)
            if number in self._skipped:
                self._skipped.remove(number)
            else:
                yield self._early.pop(number)

    def is_early(self, cmd_sn: int) -> bool:
        """Returns True when the number would have to wait for others."""
        return self.holds(cmd_sn) and cmd_sn != self.expected

    def holds(self, cmd_sn: int) -> bool:
        """Returns True when the number lies between ExpCmdSN and MaxCmdSN."""
        return 0 <= distance(self.expected, cmd_sn) <= distance(self.expected, self.maximum)

    def skip(self, cmd_sn: int) -> bool:
        """Declares a number that has not come yet received, so that a late arrival is ignored; returns False outside."""
        if not self.holds(cmd_sn) or cmd_sn in self._early:
            return False
        self._skipped.add(cmd_sn)
        return True

    def open(self, tasks: int) -> None:
        """Moves MaxCmdSN as far as the number of open tasks allows."""
        candidate = advance(self.expected, self._size - tasks - 1)
        if distance(self.maximum, candidate) > 0:
            self.maximum = candidate
