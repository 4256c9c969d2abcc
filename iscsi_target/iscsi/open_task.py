"""One SCSI command as the session sees it between the command PDU and its response: tags, expectations, transfer.

Here a response becomes PDUs: Data-In with the status in the last one where the standard lets it be there, or a SCSI
Response.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.keys import Parameters
from iscsi_target.iscsi.responses import DataIn, ScsiResponse
from iscsi_target.iscsi.transfer import Buffer, DataInPart, DataOutTransfer, Residual, residual, split
from iscsi_target.wire.layout import U16, Layout

STATUS_GOOD = 0


class SenseLength(Layout):
    """What stands before sense data in a SCSI Response.

    Source: RFC7143 11.4.7
    """

    sense_length: U16 = 0


class Ending(Protocol):
    """What a command came to, as whoever performed it puts it."""

    @property
    def status(self) -> int:
        """The SCSI status."""

    @property
    def sense(self) -> bytes:
        """Sense data, or empty."""

    @property
    def data_in(self) -> Buffer:
        """All the data that the command returns; cut here to what the initiator expects."""

    @property
    def wanted(self) -> int:
        """Bytes of Data-Out that the command asks for."""

    @property
    def about(self) -> object:
        """What is to be known of it where it goes out, or None; it is not looked at here."""


@dataclass(slots=True)
class Response:
    """What a command came to that nobody performed; the fields of an `Ending`."""

    status: int
    sense: bytes = b""
    data_in: Buffer = b""
    wanted: int = 0
    about: object = None


@dataclass(slots=True, eq=False)
class OpenTask:
    """A command whose response has not gone out.

    connection        its allegiance
    tag, lun          the initiator task tag and the LUN field of the command PDU
    read, write       its flags
    expected_read     bytes of Data-In that the initiator has room for
    expected_write    bytes of Data-Out that it has
    transfer          collects the Data-Out
    immediate         immediate data that has not been taken
    collecting        True while Data-Out is wanted and not complete
    response          what waits for the initiator's last data
    under_way_bytes   what it counts for among all that the session may have under way
    """

    connection: Connection
    tag: int
    lun: bytes
    read: bool
    write: bool
    expected_read: int
    expected_write: int
    transfer: DataOutTransfer
    immediate: Buffer = b""
    collecting: bool = False
    response: Ending | None = None
    under_way_bytes: int = 0

    def take_immediate(self) -> Buffer:
        """Returns the immediate data, which is valid while the command PDU is being handled, and forgets it."""
        immediate, self.immediate = self.immediate, b""
        return immediate

    def send(self, response: Ending, parameters: Parameters) -> None:
        """Queues the PDUs of the response.

        Source: RFC7143 11.4, 11.7
        """
        data = response.data_in if self.read else b""
        if len(data) > self.expected_read:
            # A view would keep all of a large read until an initiator that asked for little of it has it.
            data = bytes(memoryview(data)[: self.expected_read])
        data_sn = self.transfer.r2ts  # R2Ts and Data-In of a bidirectional command are numbered together, 11.8.1
        if not data:
            self._send_status(response, data_sn)
            return
        *parts, last = split(data, parameters.max_burst_length, parameters.initiator_max_recv)
        if self.write or response.status != STATUS_GOOD:
            self._send_data([*parts, last], data_sn)
            self._send_status(response, data_sn + len(parts) + 1)
            return
        if parts:
            self._send_data(parts, data_sn)
        self._send_last(last, data_sn + len(parts), response)

    def _send_data(self, parts: Sequence[DataInPart], data_sn: int) -> None:
        """Queues Data-In PDUs without status.

        Source: RFC7143 11.7
        """
        for number, (offset, data, final) in enumerate(parts, data_sn):
            header = DataIn(final=final, initiator_task_tag=self.tag, data_sn=number, buffer_offset=offset)
            self.connection.send(header, data, status=False)

    def _send_last(self, part: DataInPart, data_sn: int, response: Ending) -> None:
        """Queues the last Data-In PDU, which carries the status GOOD.

        Nearly every read ends here with its only PDU, so the header is packed from its fields without being made first.
        Source: RFC7143 11.7.3
        """
        offset, data, _ = part
        overflow, underflow, count = self._residual(response)
        stat_sn, exp_cmd_sn, max_cmd_sn = self.connection.stamp(status=True)
        header = DataIn.encode(
            final=True,
            status_present=True,
            overflow=overflow,
            underflow=underflow,
            data_segment_length=len(data),
            initiator_task_tag=self.tag,
            stat_sn=stat_sn,
            exp_cmd_sn=exp_cmd_sn,
            max_cmd_sn=max_cmd_sn,
            data_sn=data_sn,
            buffer_offset=offset,
            residual_count=count,
        )
        self.connection.queue(header, data)

    def _send_status(self, response: Ending, data_sn: int) -> None:
        overflow, underflow, count = self._residual(response)
        both = self.read and self.write
        back = residual(self.expected_read, len(response.data_in))
        sense = b""
        if response.sense:
            sense = SenseLength(sense_length=len(response.sense)).pack() + response.sense
        header = ScsiResponse(
            initiator_task_tag=self.tag,
            status=response.status,
            overflow=overflow,
            underflow=underflow,
            residual_count=count,
            bidirectional_read_overflow=both and back.overflow,
            bidirectional_read_underflow=both and back.underflow,
            bidirectional_read_residual_count=back.residual_count if both else 0,
            exp_data_sn=data_sn,
        )
        self.connection.send(header, sense, about=response.about)

    def _residual(self, response: Ending) -> Residual:
        """Returns overflow, underflow and count in the direction that the command PDU's flags name.

        A command with neither flag is compared with what it would have returned.
        """
        if self.write:
            return residual(self.expected_write, response.wanted)
        return residual(self.expected_read, len(response.data_in) or response.wanted)
