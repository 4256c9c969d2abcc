"""The numbers of an initiator: CmdSN and the window of a session, ExpStatSN of a connection."""

from iscsi_target.initiator.errors import violation
from iscsi_target.wire.serial import advance, before, distance


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
