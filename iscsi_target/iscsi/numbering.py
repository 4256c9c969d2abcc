"""The command window of a session: which CmdSN is taken, in what order, and how many more may come.

The window closes by one for every open task, so an initiator never has more than `size` tasks at the target; MaxCmdSN
never goes back, as the standard demands.
"""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from iscsi_target.wire.serial import MODULUS, advance, before, distance

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
        self._waiting: dict[int, T] = {}  # CmdSN -> what waits for its turn; at most `size` entries
        self._deferred: dict[int, list[T]] = {}  # CmdSN -> immediate requests that wait until it is due
        self._skipped: set[int] = set()  # numbers that ABORT TASK declared received; `expected` is never one

    def pass_on(self, cmd_sn: int) -> bool:
        """Returns True for a number whose turn it is, and ExpCmdSN has moved past it; what waited for it comes next."""
        if cmd_sn != self.expected or cmd_sn == advance(self.maximum):  # the window is closed then
            return False
        self.expected = advance(cmd_sn)
        if self._waiting:  # what waits under the same number is a duplicate
            self._waiting.pop(cmd_sn, None)
        if self._skipped:
            self._pass_skipped()
        return True

    def is_steady(self, tasks: int) -> bool:
        """Returns True when commands that end at once move both ends of the window, and nothing else does anything.

        tasks   how many are open
        """
        if self._waiting or self._deferred or self._skipped:
            return False
        return tasks < self._size and self.maximum == (self.expected + self._size - tasks - 1) % MODULUS

    def admit(self, cmd_sn: int, request: T) -> bool:
        """Takes a request in, to be released in its turn; returns False for a duplicate, and outside the window."""
        if not self.holds(cmd_sn) or cmd_sn in self._skipped:
            return False
        return self._waiting.setdefault(cmd_sn, request) is request

    def release(self) -> Iterator[T]:
        """Yields the requests whose turn it is; ExpCmdSN has moved past a request when it is yielded."""
        yield from self._release_deferred()
        while self.expected in self._waiting:
            request = self._waiting.pop(self.expected)
            self.expected = advance(self.expected)
            self._pass_skipped()
            yield request
            yield from self._release_deferred()

    def defer(self, cmd_sn: int, request: T) -> None:
        """Takes in an immediate request that is to be released when everything before its CmdSN has been."""
        self._deferred.setdefault(cmd_sn, []).append(request)

    def _release_deferred(self) -> Iterator[T]:
        for number in [number for number in self._deferred if distance(self.expected, number) <= 0]:
            yield from self._deferred.pop(number, ())

    @property
    def early(self) -> int:
        """How many requests wait for their turn."""
        if not self._waiting and not self._deferred:
            return 0
        return len(self._waiting) + sum(len(requests) for requests in self._deferred.values())

    @property
    def waiting(self) -> Iterator[T]:
        """What waits for its turn, in no order."""
        yield from self._waiting.values()
        for requests in self._deferred.values():
            yield from requests

    def discard(self, concerns: Callable[[T], bool]) -> None:
        """Drops some of what waits for its turn; the numbers are still to come."""
        self._waiting = {number: request for number, request in self._waiting.items() if not concerns(request)}
        kept = {
            number: [each for each in requests if not concerns(each)] for number, requests in self._deferred.items()
        }
        self._deferred = {number: requests for number, requests in kept.items() if requests}

    def is_early(self, cmd_sn: int) -> bool:
        """Returns True when the number would have to wait for others.

        That of an immediate request behind a full window is MaxCmdSN + 1.
        """
        return 0 < distance(self.expected, cmd_sn) <= distance(self.expected, self.maximum) + 1

    def holds(self, cmd_sn: int) -> bool:
        """Returns True when the number lies between ExpCmdSN and MaxCmdSN."""
        return 0 <= distance(self.expected, cmd_sn) <= distance(self.expected, self.maximum)

    def skip(self, cmd_sn: int) -> bool:
        """Drops a number whose turn has not come, whether it is here or still to arrive; returns False outside.

        What waited for it is released next.
        """
        if not self.holds(cmd_sn):
            return False
        self._waiting.pop(cmd_sn, None)
        self._skipped.add(cmd_sn)
        self._pass_skipped()
        return True

    def _pass_skipped(self) -> None:
        while self.expected in self._skipped:
            self._skipped.remove(self.expected)
            self.expected = advance(self.expected)

    def open(self, tasks: int) -> None:
        """Moves MaxCmdSN as far as the number of open tasks allows."""
        candidate = (self.expected + self._size - tasks - 1) % MODULUS
        if before(self.maximum, candidate):
            self.maximum = candidate
