"""The numbers of an initiator: CmdSN and the window of a session, ExpStatSN of a connection."""

from typing import Final, NamedTuple

from iscsi_target.initiator.errors import violation
from iscsi_target.wire.serial import advance, before, distance

MAX_AHEAD: Final = 4096  # numbers behind the first that is missing: a target that has lost more is given up


class CommandNumbers:
    """Gives out CmdSN, as far as the target has opened its window.

    next        CmdSN of the next request
    expected    ExpCmdSN, as the target last said
    maximum     MaxCmdSN, likewise; before it said anything the window is closed
    Source: RFC7143 4.2.2.1
    """

    def __init__(self, first: int) -> None:
        self.next = first
        self.expected = first
        self.maximum = advance(first, -1)

    @property
    def is_open(self) -> bool:
        """True when the target takes another request that is not immediate."""
        return distance(self.next, self.maximum) >= 0

    def take(self) -> int:
        """Returns the next CmdSN and moves on; whether the window is open is the caller's business."""
        number = self.next
        self.next = advance(number)
        return number

    def update(self, expected: int, maximum: int) -> None:
        """Takes over what a PDU of the target says; older words, and a MaxCmdSN that cannot be, are ignored.

        Source: RFC7143 4.2.2.1
        """
        if before(maximum, advance(expected, -1)):
            return
        if before(self.expected, expected):
            self.expected = expected
        if before(self.maximum, maximum):
            self.maximum = maximum


class StatusNumbers:
    """Follows the StatSN of a connection.

    expected    ExpStatSN; of no meaning before the first response
    Source: RFC7143 4.2.2.2
    """

    def __init__(self) -> None:
        self.expected = 0
        self._begun = False

    def take(self, stat_sn: int) -> None:
        """Takes the StatSN of a PDU that has one of its own.

        raises    ProtocolError when one is missing or repeated: at ErrorRecoveryLevel 0 a status is lost then
        Source: RFC7143 4.2.2.2, 7.1.5
        """
        if self._begun and stat_sn != self.expected:
            raise violation(f"StatSN is {stat_sn}, {self.expected} was expected")
        self._begun = True
        self.expected = advance(stat_sn)


class Run(NamedTuple):
    """Numbers that are missing; a length of 0 means all from the first on, as in a SNACK.

    Source: RFC7143 11.16
    """

    begin: int
    length: int


class Arrivals:
    """Follows numbers that come in any order, some of them late, again or never.

    first    the first that has not come
    end      the number after the last that is known to exist
    """

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.end = first
        self._came: set[int] = set()  # behind the first that has not

    def announce(self, end: int) -> Run | None:
        """Takes note that all numbers before one exist; returns those that nobody knew of before.

        raises    ProtocolError when that is too far ahead
        """
        ahead = distance(self.end, end)
        if ahead <= 0:
            return None
        if distance(self.first, end) > MAX_AHEAD:
            raise violation(f"a number is {MAX_AHEAD} ahead of one that is missing")
        run = Run(self.end, ahead)
        self.end = end
        return run

    def take(self, number: int) -> bool:
        """Takes a number that exists; returns False when it has come before."""
        if before(number, self.first) or number in self._came:
            return False
        self._came.add(number)
        while self.first in self._came:
            self._came.remove(self.first)
            self.first = advance(self.first)
        return True

    @property
    def missing(self) -> list[Run]:
        """The runs of numbers that have not come, in their order."""
        runs: list[Run] = []
        for ahead in range(distance(self.first, self.end)):
            number = advance(self.first, ahead)
            if number in self._came:
                continue
            if runs and advance(*runs[-1]) == number:
                runs[-1] = Run(runs[-1].begin, runs[-1].length + 1)
            else:
                runs.append(Run(number, 1))
        return runs

    def is_missing(self, number: int) -> bool:
        """Says whether a number exists and has not come."""
        inside = 0 <= distance(self.first, number) < distance(self.first, self.end)
        return inside and number not in self._came


class RecoverableStatusNumbers(StatusNumbers):
    """Follows the StatSN of a connection that outlives lost statuses.

    A status is acknowledged when all that belongs to it is there, because the target keeps the data until then.

    arrivals    which statuses have come
    Source: RFC7143 4.2.2.2, 7.2.1, 11.16
    """

    def __init__(self, expected: int) -> None:
        super().__init__()
        self.expected = expected
        self.arrivals = Arrivals(expected)
        self._settled: set[int] = set()

    def settle(self, stat_sn: int) -> None:
        """Takes note that a status that has come may be acknowledged."""
        self._settled.add(stat_sn)
        while self.expected in self._settled:
            self._settled.remove(self.expected)
            self.expected = advance(self.expected)
