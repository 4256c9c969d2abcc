"""Requests that come before their turn, because others before them are still on their way on other connections.

A command that waits has its unsolicited Data-Out wait with it, which comes right behind it and has no CmdSN. What
waits is bounded in number by the window, and in bytes here; one TCP connection does not reorder, so who has only one
gets little room.
"""

from collections.abc import Iterator
from typing import NamedTuple

from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.errors import RejectReason, StreamLost
from iscsi_target.iscsi.framing import RawPdu
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.numbering import WINDOW_COMMANDS, CommandWindow
from iscsi_target.iscsi.requests import (
    DataOut,
    LoginRequest,
    LogoutRequest,
    NopOut,
    ScsiCommand,
    TaskManagementRequest,
    TextRequest,
)

MAX_REQUESTS = 16  # that wait where there is one connection
MAX_REQUESTS_WHERE_REORDERED = 2 * WINDOW_COMMANDS  # likewise; some of them are immediate
MAX_BYTES = 32 << 20  # of what waits: a window of commands with the default FirstBurstLength
COST_BYTES = 1024  # of keeping a PDU with its header, beside its data

Numbered = NopOut | ScsiCommand | TaskManagementRequest | LoginRequest | TextRequest | LogoutRequest
NUMBERED = (ScsiCommand, NopOut, TaskManagementRequest, LoginRequest, TextRequest, LogoutRequest)  # have a CmdSN


class Early(NamedTuple):
    """A request that waits, where it came, and its Data-Out that has come."""

    connection: Connection
    pdu: RawPdu
    data_out: list[RawPdu]

    @property
    def size_bytes(self) -> int:
        """What it counts for."""
        return sum(_size(pdu) for pdu in (self.pdu, *self.data_out))


class EarlyRequests:
    """Keeps the requests of a session that wait for their turn.

    numbers    decides whose turn it is
    reorders   whether requests may overtake others, because there are several connections, or some may be lost
    """

    def __init__(self, numbers: CommandWindow[Early], *, reorders: bool) -> None:
        self._numbers = numbers
        self._most = MAX_REQUESTS_WHERE_REORDERED if reorders else MAX_REQUESTS
        self._size_bytes = 0

    def keep(self, connection: Connection, pdu: RawPdu, request: Numbered) -> bool:
        """Keeps a request until those before it have come; returns False for a duplicate, which falls away.

        raises    StreamLost when there is no room
        Source: RFC7143 4.2.2.1
        """
        if self._numbers.early >= self._most:
            raise StreamLost(RejectReason.PROTOCOL_ERROR, f"{self._most} requests came before their turn")
        early = Early(connection, pdu.kept(), [])
        if request.immediate:
            self._numbers.defer(request.cmd_sn, early)
        elif not self._numbers.admit(request.cmd_sn, early):
            return False
        self._take_room(pdu)
        return True

    def keep_data_out(self, connection: Connection, pdu: RawPdu, header: DataOut) -> bool:
        """Keeps unsolicited Data-Out of a command that waits; returns False when there is no such command.

        raises    StreamLost when there is no room
        """
        if header.target_transfer_tag != NO_TAG:
            return False
        for early in self._numbers.waiting:
            waiting = early.pdu.basic
            its_own = early.connection is connection and waiting.initiator_task_tag == header.initiator_task_tag
            if its_own and isinstance(waiting, ScsiCommand):
                self._take_room(pdu)
                early.data_out.append(pdu.kept())
                return True
        return False

    def _take_room(self, pdu: RawPdu) -> None:
        self._size_bytes += _size(pdu)
        if self._size_bytes > MAX_BYTES:
            raise StreamLost(RejectReason.PROTOCOL_ERROR, f"over {MAX_BYTES} bytes came before their turn")

    def release(self) -> Iterator[Early]:
        """Yields the requests whose turn it is."""
        for early in self._numbers.release():
            self._size_bytes -= early.size_bytes
            yield early

    def discard(self, connection: Connection) -> None:
        """Drops what waits of one connection; the numbers are still to come."""
        self._numbers.discard(lambda early: early.connection is connection)
        self._count_again()

    def forget(self, connection: Connection, tag: int) -> None:
        """Drops a command whose data is lost while it waits: it is to come again."""
        self._numbers.discard(
            lambda early: early.connection is connection and early.pdu.basic.initiator_task_tag == tag
        )
        self._count_again()

    def command(self, cmd_sn: int) -> ScsiCommand | None:
        """Returns the command of a number that waits, if there is one."""
        for early in self._numbers.waiting:
            if isinstance(early.pdu.basic, ScsiCommand) and early.pdu.basic.cmd_sn == cmd_sn:
                return early.pdu.basic
        return None

    def skip(self, cmd_sn: int) -> bool:
        """Has a number skipped, and drops what waits for it; returns False for one that cannot come."""
        skipped = self._numbers.skip(cmd_sn)
        self._count_again()
        return skipped

    def _count_again(self) -> None:
        self._size_bytes = sum(early.size_bytes for early in self._numbers.waiting)


def _size(pdu: RawPdu) -> int:
    return COST_BYTES + len(pdu.additional) + len(pdu.data)
