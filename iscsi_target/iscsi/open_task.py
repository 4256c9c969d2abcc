"""One SCSI command as the session sees it between the command PDU and its response: tags, expectations, transfer.

Here a response becomes PDUs: Data-In with the status in the last one where the standard lets it be there, or a SCSI
Response.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.events import CommandReceived
from iscsi_target.iscsi.responses import DataIn, ScsiResponse
from iscsi_target.iscsi.transfer import NO_RESIDUAL, Buffer, DataInPart, DataOutTransfer, Residual, residual, split
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

    received          the command
    transfer          collects the Data-Out
    immediate         immediate data that has not been taken
    collecting        True while Data-Out is wanted and not complete
    response          what waits for the initiator's last data
    under_way_bytes   what it counts for among all that the session may have under way
    held              True while it is kept from whoever would perform it
    fenced            True when no other response may overtake its own
    """

    received: CommandReceived
    transfer: DataOutTransfer
    immediate: Buffer = b""
    collecting: bool = False
    response: Ending | None = None
    under_way_bytes: int = 0
    held: bool = False
    fenced: bool = False

    @property
    def connection(self) -> Connection:
        """Its allegiance."""
        return self.received.connection

    def take_immediate(self) -> Buffer:
        """Returns the immediate data, which is valid while the command PDU is being handled, and forgets it."""
        immediate, self.immediate = self.immediate, b""
        return immediate


def send(command: CommandReceived, response: Ending, data_sn: int = 0) -> None:
    """Queues the PDUs of a response.

    data_sn   how many R2Ts the command has had: they are numbered together with the Data-In of a bidirectional one
    Source: RFC7143 11.4, 11.7, 11.8.1
    """
    data = response.data_in if command.read else b""
    if len(data) > command.expected_read:
        # A view would keep all of a large read until an initiator that asked for little of it has it.
        data = bytes(memoryview(data)[: command.expected_read])
    parameters = command.connection.parameters
    if not data:
        _send_status(command, response, data_sn)
    elif command.write or response.status != STATUS_GOOD:
        parts = split(data, parameters.max_burst_length, parameters.initiator_max_recv)
        _send_data(command, parts, data_sn)
        _send_status(command, response, data_sn + len(parts))
    elif len(data) <= command.connection.most_in:
        _send_last(command, response, data, 0, data_sn)
    else:
        *parts, (offset, last, _) = split(data, parameters.max_burst_length, parameters.initiator_max_recv)
        _send_data(command, parts, data_sn)
        _send_last(command, response, last, offset, data_sn=data_sn + len(parts))


def _send_data(command: CommandReceived, parts: Sequence[DataInPart], data_sn: int) -> None:
    """Queues Data-In PDUs without status; where they are kept, the initiator is asked to acknowledge each sequence.

    Source: RFC7143 11.7
    """
    for number, (offset, data, final) in enumerate(parts, data_sn):
        header = DataIn(final=final, initiator_task_tag=command.tag, data_sn=number, buffer_offset=offset)
        if final and command.connection.retention is not None:
            header = header.replace(acknowledge=True, lun=command.lun, target_transfer_tag=command.tag)
        command.connection.send(header, data, status=False)


def _send_last(command: CommandReceived, response: Ending, data: Buffer, offset: int, data_sn: int) -> None:
    """Queues the last Data-In PDU, which carries the status GOOD.

    Nearly every read ends here with its only PDU, so the header is packed from its fields without being made first.
    Source: RFC7143 11.7.3
    """
    overflow, underflow, count = residual(command.expected_read, len(response.data_in))
    connection = command.connection
    stat_sn, exp_cmd_sn, max_cmd_sn = connection.stamp()
    header = DataIn.encode(
        final=True,
        status_present=True,
        overflow=overflow,
        underflow=underflow,
        data_segment_length=len(data),
        initiator_task_tag=command.tag,
        stat_sn=stat_sn,
        exp_cmd_sn=exp_cmd_sn,
        max_cmd_sn=max_cmd_sn,
        data_sn=data_sn,
        buffer_offset=offset,
        residual_count=count,
    )
    connection.queue(header, data)


def _send_status(command: CommandReceived, response: Ending, data_sn: int) -> None:
    """Queues a SCSI Response.

    Source: RFC7143 11.4
    """
    overflow, underflow, count = _residual(command, response)
    stat_sn, exp_cmd_sn, max_cmd_sn = command.connection.stamp()
    back = NO_RESIDUAL
    if command.read and command.write:
        back = residual(command.expected_read, len(response.data_in))
    sense = b""
    if response.sense:
        sense = SenseLength(sense_length=len(response.sense)).pack() + response.sense
    header = ScsiResponse.encode(
        bidirectional_read_overflow=back.overflow,
        bidirectional_read_underflow=back.underflow,
        overflow=overflow,
        underflow=underflow,
        status=response.status,
        data_segment_length=len(sense),
        initiator_task_tag=command.tag,
        stat_sn=stat_sn,
        exp_cmd_sn=exp_cmd_sn,
        max_cmd_sn=max_cmd_sn,
        exp_data_sn=data_sn,
        bidirectional_read_residual_count=back.residual_count,
        residual_count=count,
    )
    connection = command.connection
    begin = connection.queued
    connection.queue(header, sense)
    if response.about is not None:
        connection.remark(begin, response.about)


def _residual(command: CommandReceived, response: Ending) -> Residual:
    """Returns overflow, underflow and count in the direction that the command PDU's flags name.

    A command with neither flag is compared with what it would have returned.
    """
    if command.write:
        return residual(command.expected, response.wanted)
    return residual(command.expected_read, len(response.data_in) or response.wanted)
