"""One SCSI command of an initiator, from its first PDU to its response: Data-Out in sequences, Data-In collected.

With DataPDUInOrder and DataSequenceInOrder the data must come in order; without, as many bytes must come all the same.
ExpDataSN and the residual count tell whether something is missing.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from iscsi_target.initiator.errors import violation
from iscsi_target.initiator.events import CommandCompleted
from iscsi_target.iscsi.ahs import AdditionalHeaders, pack_additional_headers
from iscsi_target.iscsi.framing import Buffer
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.open_task import STATUS_GOOD, SenseLength
from iscsi_target.iscsi.parameters import Parameters
from iscsi_target.iscsi.requests import DataOut, ScsiCommand
from iscsi_target.iscsi.responses import DataIn, ReadyToTransfer, ScsiResponse
from iscsi_target.iscsi.transfer import NO_RESIDUAL, Residual
from iscsi_target.wire.serial import advance

CDB_BYTES: Final = 16  # in the basic header; the rest goes into an additional one
MAX_CDB_BYTES: Final = 260  # SPC4r37 4.2.3
LUN_BYTES: Final = 8
MAX_ATTRIBUTES: Final = 0b111  # of a field of three bits
MAX_TRANSFER_BYTES: Final = 0xFFFF_FFFF  # Expected Data Transfer Length has 32 bits
SIMPLE: Final = 1  # RFC7143 11.3.1
COMPLETED_AT_TARGET: Final = 0  # RFC7143 11.4.3


class Command(NamedTuple):
    """What a command is sent with.

    lun            8 bytes
    cdb            1 to 260 bytes
    data_out       what there is to write; not copied, so it must stay until the command is completed
    read_length    for how many bytes of Data-In there is room
    attributes     the task attribute field, 0..4; 7 is the most that there is room for
    immediate      whether it goes out of CmdSN order
    Source: RFC7143 11.3
    """

    lun: bytes
    cdb: bytes
    data_out: Buffer = b""
    read_length: int = 0
    attributes: int = SIMPLE
    immediate: bool = False


class DataPart(NamedTuple):
    """A Data-Out PDU."""

    header: DataOut
    data: Buffer


class OpenCommand:
    """A command that has no response yet.

    command    what was asked for
    tag        its initiator task tag
    raises     ValueError when the command cannot be sent
    """

    def __init__(self, command: Command, tag: int, parameters: Parameters) -> None:
        self.command = command
        self.tag = tag
        self._parameters = parameters
        self._out = memoryview(command.data_out).cast("B")
        _check(command, len(self._out))
        self._in = bytearray()
        self._received = 0  # bytes of Data-In
        self._data_sn = 0  # of the next Data-In or R2T, which share their numbers
        limits = parameters
        first_burst = min(limits.first_burst_length, len(self._out))
        self._immediate = min(limits.most_out, first_burst)
        self._unsolicited = self._immediate if limits.initial_r2t else first_burst  # where unsolicited data ends
        self._unasked = len(self._out) - self._unsolicited  # how many bytes no R2T has asked for

    def open(self) -> tuple[ScsiCommand, Buffer, bytes]:
        """Returns the command PDU: header, immediate data, additional headers.

        Source: RFC7143 11.3, 13.10, 13.11, 13.14
        """
        command, length = self.command, len(self._out)
        bidirectional = command.read_length if length and command.read_length else None
        header = ScsiCommand(
            immediate=command.immediate,
            final=self._unsolicited == self._immediate,
            read=command.read_length > 0,
            write=length > 0,
            attributes=command.attributes,
            lun=command.lun,
            initiator_task_tag=self.tag,
            expected_data_transfer_length=length or command.read_length,
            cdb=command.cdb[:CDB_BYTES].ljust(CDB_BYTES, b"\0"),
        )
        additional = pack_additional_headers(AdditionalHeaders(command.cdb[CDB_BYTES:], bidirectional))
        return header, self._out[: self._immediate], additional

    def unsolicited(self) -> Iterator[DataPart]:
        """Yields the Data-Out that follows the command unasked.

        Source: RFC7143 11.7, 13.10
        """
        if self._unsolicited > self._immediate:
            yield from self._sequence(DataOut(), self._immediate, self._unsolicited)

    @property
    def answered(self) -> bool:
        """Says whether the status is there, so that the command is over at the target."""
        return False

    def solicited(self, asked: ReadyToTransfer) -> Iterator[DataPart]:
        """Yields the Data-Out that an R2T asks for.

        raises    ProtocolError when it asks for what there is not, for too much or again, or one before it is missing
        Source: RFC7143 11.7, 11.8
        """
        self._count(asked.r2t_sn)
        parts = self._answer(asked)
        length = asked.desired_data_transfer_length
        if length > self._unasked:
            raise violation(f"an R2T asks again for some of {length} bytes at {asked.buffer_offset}")
        self._unasked -= length
        return parts

    def _answer(self, asked: ReadyToTransfer) -> Iterator[DataPart]:
        start, length = asked.buffer_offset, asked.desired_data_transfer_length
        if not 0 < length <= self._parameters.max_burst_length or start + length > len(self._out):
            raise violation(f"an R2T asks for {length} bytes at {start} of {len(self._out)}")
        if asked.target_transfer_tag == NO_TAG:
            raise violation("an R2T has no target transfer tag")
        first = DataOut(lun=self.command.lun, target_transfer_tag=asked.target_transfer_tag)
        return self._sequence(first, start, start + length)

    def _sequence(self, template: DataOut, start: int, end: int) -> Iterator[DataPart]:
        step = self._parameters.target_max_recv
        for data_sn, offset in enumerate(range(start, end, step)):
            part = self._out[offset : min(offset + step, end)]
            header = template.replace(
                final=offset + len(part) == end,
                initiator_task_tag=self.tag,
                data_sn=data_sn,
                buffer_offset=offset,
            )
            yield DataPart(header, part)

    def _count(self, number: int) -> None:
        if number != self._data_sn:
            raise violation(f"DataSN or R2TSN is {number}, {self._data_sn} was expected")
        self._data_sn = advance(self._data_sn)

    def take(self, header: DataIn, data: Buffer) -> CommandCompleted | None:
        """Takes a Data-In PDU; returns what the command came to when its status is in it.

        raises    ProtocolError when the data does not belong there, or something is missing
        Source: RFC7143 11.7
        """
        self._count(header.data_sn)
        start = header.buffer_offset
        if start + len(data) > self.command.read_length:
            raise violation(f"Data-In of {len(data)} bytes at {start} of {self.command.read_length}")
        ordered = self._parameters.data_pdu_in_order and self._parameters.data_sequence_in_order
        if ordered and start != self._received:
            raise violation(f"Data-In is for offset {start}, {self._received} was expected")
        self._in += bytes(max(0, start - len(self._in)))
        self._in[start : start + len(data)] = data
        self._received += len(data)
        if not header.status_present:
            return None
        residual = Residual(header.overflow, header.underflow, header.residual_count)
        return self._complete(COMPLETED_AT_TARGET, header.status, b"", residual, NO_RESIDUAL)

    def finish(self, header: ScsiResponse, data: bytes) -> CommandCompleted | None:
        """Takes the SCSI Response.

        raises    ProtocolError when something is missing
        Source: RFC7143 11.4
        """
        completed = header.response == COMPLETED_AT_TARGET
        if completed and header.status == STATUS_GOOD and header.exp_data_sn not in (0, self._data_sn):
            raise violation(f"ExpDataSN is {header.exp_data_sn}, {self._data_sn} have come")
        return self._complete(header.response, header.status, *self._described(header, data))

    def _described(self, header: ScsiResponse, data: bytes) -> tuple[bytes, Residual, Residual]:
        """Returns sense data and residuals of a SCSI Response."""
        back = Residual(
            header.bidirectional_read_overflow,
            header.bidirectional_read_underflow,
            header.bidirectional_read_residual_count,
        )
        residual = Residual(header.overflow, header.underflow, header.residual_count)
        return _sense(data), residual, back

    def _complete(
        self, response: int, status: int, sense: bytes, residual: Residual, back: Residual
    ) -> CommandCompleted:
        due = self._due(residual, back)
        if response == COMPLETED_AT_TARGET and status == STATUS_GOOD and self._received != due:
            raise violation(f"{self._received} bytes of Data-In have come, not {due}")
        return CommandCompleted(self.tag, response, status, sense, bytes(self._in), residual, back)

    def _due(self, residual: Residual, back: Residual) -> int:
        """Returns how many bytes of Data-In a command that ends with GOOD has."""
        returned = back if self._out else residual
        return self.command.read_length - (returned.residual_count if returned.underflow else 0)


def _check(command: Command, length_bytes: int) -> None:
    if len(command.lun) != LUN_BYTES:
        raise ValueError(f"a LUN of {len(command.lun)} bytes; it has {LUN_BYTES}")
    if not 0 < len(command.cdb) <= MAX_CDB_BYTES:
        raise ValueError(f"a CDB of {len(command.cdb)} bytes; it has 1 to {MAX_CDB_BYTES}")
    if not 0 <= command.read_length <= MAX_TRANSFER_BYTES:
        raise ValueError(f"read_length {command.read_length} is not 0 to {MAX_TRANSFER_BYTES}")
    if length_bytes > MAX_TRANSFER_BYTES:
        raise ValueError(f"{length_bytes} bytes to write are more than {MAX_TRANSFER_BYTES}")
    if not 0 <= command.attributes <= MAX_ATTRIBUTES:
        raise ValueError(f"attributes {command.attributes} are not 0 to {MAX_ATTRIBUTES}")


def _sense(data: bytes) -> bytes:
    """Returns the sense data of a response; what is behind it is response data, of which SCSI has none here.

    raises    ProtocolError when its length is wrong
    Source: RFC7143 11.4.7
    """
    if len(data) < SenseLength.size:
        return b""
    length = SenseLength.unpack(data).sense_length
    if SenseLength.size + length > len(data):
        raise violation(f"SenseLength {length} is more than there is")
    return data[SenseLength.size : SenseLength.size + length]
