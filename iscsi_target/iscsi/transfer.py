"""Data of one task: collecting Data-Out (immediate, unsolicited, solicited by R2T), splitting Data-In, residuals.

A Data-Out transfer is told at the start how much the initiator has, and later how much the command wants. It asks for
the rest sequence by sequence, and throws away what nobody wants. Its buffer grows with what the initiator may send
next, not with what a command announces: a command costs an initiator nothing, so it must not cost the target a
megabyte. It is quiet when the initiator owes no more data; only then may a response go out.

With DataPDUInOrder=Yes a gap is an error; with No the parts of one sequence may come in any order, but not twice.
"""

from bisect import bisect
from typing import ClassVar, NamedTuple

from iscsi_target.iscsi.errors import ProtocolError, RejectReason
from iscsi_target.iscsi.events import Condition
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.keys import Parameters
from iscsi_target.iscsi.requests import DataOut, ScsiCommand

Buffer = bytes | bytearray | memoryview

MAX_FRAGMENTS = 1024  # of one sequence whose PDUs come out of order
AHEAD_BYTES = 1 << 20  # of room that is made when the first long data of a transfer comes


class TransferFailed(Exception):
    """Says that an initiator broke a rule of data transfer; it costs the task, not the connection.

    condition    what the task is to end with
    Source: RFC7143 11.4.7.2
    """

    condition: ClassVar[Condition]


class UnexpectedUnsolicitedData(TransferFailed):
    """Says that an initiator sent data with or after a command that it had not been allowed to send unasked.

    Source: RFC7143 11.4.7.2
    """

    condition = Condition.UNEXPECTED_UNSOLICITED_DATA


class DataLost(TransferFailed):
    """Says that Data-Out PDUs of a sequence are missing, came twice or came out of order.

    Source: RFC7143 7.9
    """

    condition = Condition.PROTOCOL_SERVICE_CRC_ERROR


class IncorrectAmountOfData(TransferFailed):
    """Says that an initiator sent more or less data than it was asked for or allowed to send unasked.

    Source: RFC7143 11.4.7.2
    """

    condition = Condition.INCORRECT_AMOUNT_OF_DATA


class DataInPart(NamedTuple):
    """One Data-In PDU: its data, where that belongs, and whether it ends a sequence."""

    offset: int
    data: Buffer
    final: bool


def split(data: Buffer, burst: int, segment: int) -> list[DataInPart]:
    """Cuts read data into Data-In sequences and PDUs.

    data      the whole response, 0..expected_data_transfer_length bytes
    burst     MaxBurstLength, bytes; a sequence never exceeds it
    segment   the initiator's MaxRecvDataSegmentLength, bytes
    returns   parts in order; the last has final=True; one empty part when data is empty
    raises    nothing
    Source: RFC7143 11.7, 13.13
    """
    if len(data) <= segment and len(data) <= burst:
        return [DataInPart(0, data, True)]
    parts = []
    view = memoryview(data)
    offset = 0
    while offset < len(view):
        end = min(offset + segment, offset - offset % burst + burst, len(view))
        parts.append(DataInPart(offset, view[offset:end], end == len(view) or end % burst == 0))
        offset = end
    return parts


class Residual(NamedTuple):
    """By how much a transfer differed from what the initiator expected.

    Source: RFC7143 11.4.5.1
    """

    overflow: bool
    underflow: bool
    residual_count: int


NO_RESIDUAL = Residual(False, False, 0)


def residual(expected: int, actual: int) -> Residual:
    """Compares what the initiator expected to transfer with what the command transfers, both in bytes."""
    if actual == expected:
        return NO_RESIDUAL
    return Residual(actual > expected, actual < expected, min(abs(actual - expected), 0xFFFFFFFF))


def check_unsolicited(header: ScsiCommand, immediate: int, parameters: Parameters) -> None:
    """Refuses data that came with a command, or is announced, and was not allowed.

    immediate   how many bytes came with it
    raises      UnexpectedUnsolicitedData
    Source: RFC7143 11.3.4, 13.10, 13.11, 13.14
    """
    expected = header.expected_data_transfer_length if header.write else 0
    if immediate > min(expected, parameters.first_burst_length):
        raise UnexpectedUnsolicitedData(f"{immediate} bytes of immediate data are more than allowed")
    if immediate and not parameters.immediate_data:
        raise UnexpectedUnsolicitedData("immediate data came although ImmediateData=No was negotiated")
    if not header.final and (parameters.initial_r2t or not header.write):
        raise UnexpectedUnsolicitedData("unsolicited data is announced although InitialR2T=Yes was negotiated")


class Solicitation(NamedTuple):
    """What one R2T asks for."""

    target_transfer_tag: int
    r2t_sn: int
    offset: int
    length: int


class Ordering(NamedTuple):
    """What was negotiated about Data-Out.

    max_burst              MaxBurstLength, bytes
    max_outstanding        MaxOutstandingR2T
    pdus_in_order          DataPDUInOrder
    """

    max_burst: int
    max_outstanding: int
    pdus_in_order: bool


class DataOutSequence:
    """A run of Data-Out PDUs that ends with the F bit.

    offset, length    the bytes that it must carry, no fewer and no more
    """

    def __init__(self, offset: int, length: int) -> None:
        self.offset = offset
        self.end = offset + length
        self._data_sn = 0
        self._received = 0
        self._fragments: list[tuple[int, int]] = []

    def accept(self, header: DataOut, length: int, *, in_order: bool) -> None:
        """Checks one PDU; raises DataLost for a lost one, IncorrectAmountOfData for too much or too little."""
        if header.data_sn != self._data_sn:
            raise DataLost(f"DataSN {header.data_sn} came, {self._data_sn} was due")
        start, end = header.buffer_offset, header.buffer_offset + length
        if start < self.offset or end > self.end:
            raise IncorrectAmountOfData(
                f"Data-Out for bytes {start} to {end} came, {self.offset} to {self.end} were allowed"
            )
        if in_order and start != self.offset + self._received:
            raise DataLost(f"BufferOffset {start} leaves a gap or overlaps")
        if not in_order and length:
            self._note(start, end)
        self._data_sn += 1
        self._received += length
        if header.final and self.offset + self._received != self.end:
            raise IncorrectAmountOfData(f"a sequence of {self.end - self.offset} bytes ended after {self._received}")

    def _note(self, start: int, end: int) -> None:
        if len(self._fragments) >= MAX_FRAGMENTS:
            raise DataLost(f"a sequence came in over {MAX_FRAGMENTS} fragments")
        index = bisect(self._fragments, (start, end))
        overlaps_next = index < len(self._fragments) and self._fragments[index][0] < end
        overlaps_last = index > 0 and self._fragments[index - 1][1] > start
        if overlaps_next or overlaps_last:
            raise DataLost(f"Data-Out for bytes {start} to {end} came twice")
        self._fragments.insert(index, (start, end))


class DataOutTransfer:
    """Collects the Data-Out of one task.

    ordering       what was negotiated
    expected       what the initiator has, bytes: its expected data transfer length
    immediate      how much of it the command PDU carried
    unsolicited    how many bytes must follow without an R2T; 0 when the command's F bit was set
    """

    __slots__ = (
        "_asked",
        "_buffer",
        "_expected",
        "_failed",
        "_ordering",
        "_r2t_sn",
        "_sequences",
        "_unsolicited",
        "_wanted",
    )

    def __init__(self, ordering: Ordering, expected: int, *, immediate: int, unsolicited: int) -> None:
        self._expected = expected
        self._ordering = ordering
        self._wanted = 0
        self._failed = False
        self._buffer = bytearray()
        self._asked = immediate  # up to here the initiator sent, or was asked
        self._r2t_sn = 0
        self._sequences: dict[int, DataOutSequence] = {}
        self._unsolicited = [self._open(immediate, unsolicited)] if unsolicited else []

    def _open(self, offset: int, length: int) -> DataOutSequence:
        """Returns a sequence that begins now."""
        return DataOutSequence(offset, length)

    def want(self, length: int, immediate: Buffer) -> None:
        """Says how many bytes the command wants, at most what the initiator has, and hands over what already came.

        A transfer may be told again, before the first R2T, that less is wanted.
        """
        self._wanted = min(length, self._expected)
        had = self._buffer or immediate
        self._buffer = bytearray(had[: self._wanted])

    def receive(self, header: DataOut, data: Buffer) -> None:
        """Takes one unsolicited or solicited Data-Out PDU.

        raises    ProtocolError when it belongs to no sequence; TransferFailed, once, when it breaks a rule
        Source: RFC7143 11.7
        """
        sequence = self._sequence(header)
        try:
            if not self._failed:
                sequence.accept(header, len(data), in_order=self._ordering.pdus_in_order)
                self._store(header.buffer_offset, data)
        except TransferFailed:
            self.fail()
            raise
        finally:
            if header.final:
                self._end(header.target_transfer_tag, sequence)

    def lose(self, header: DataOut) -> bool:
        """Takes a PDU whose data is lost, and gives up; returns False when it had given up already."""
        had_failed = self._failed
        self.fail()
        self.receive(header, b"")
        return not had_failed

    def room(self, header: DataOut) -> memoryview | None:
        """Returns where the data of a Data-Out PDU that comes is to be put, or None when that is not plain.

        Only its header has come, so it gets no more room than its sequence has, and little ahead of what has come. What
        is there may be overwritten by a PDU that breaks a rule, which ends the transfer.
        """
        start, end = header.buffer_offset, header.buffer_offset + header.data_segment_length
        if end > min(self._wanted, len(self._buffer) + AHEAD_BYTES) or not self.expects(header.target_transfer_tag):
            return None
        sequence = self._sequence(header)
        if start < sequence.offset or end > sequence.end:
            return None
        self._reach(end, AHEAD_BYTES)
        return memoryview(self._buffer)[start:end]

    def _reach(self, end: int, least: int = 0) -> None:
        """Makes the buffer longer, by another one, since data may be on its way to where it was."""
        had = self._buffer
        if len(had) < end:
            self._buffer = bytearray(min(self._wanted, max(end, 2 * len(had), least)))
            self._buffer[: len(had)] = had

    def _store(self, start: int, data: Buffer) -> None:
        """Keeps what is wanted of some data, unless it came where it is to be."""
        kept = max(0, min(len(data), self._wanted - start))
        if kept and not (isinstance(data, memoryview) and data.obj is self._buffer):
            self._reach(start + kept)
            self._buffer[start : start + kept] = data[:kept]

    def fail(self) -> None:
        """Gives up: nothing more is wanted, and what the initiator still owes is thrown away unchecked."""
        self._failed = True
        self._wanted = 0
        self._buffer = bytearray()

    def abandon(self) -> None:
        """Expects nothing more, not even what the initiator owes."""
        self.fail()
        self._sequences.clear()
        self._unsolicited.clear()

    def forgo(self) -> None:
        """Takes it that what is owed does not come any more, because the connection is gone that it was asked for on.

        Source: RFC7143 7.2.2
        """
        self.abandon()

    def expects(self, target_transfer_tag: int) -> bool:
        """Returns True when a sequence of that tag is open; NO_TAG means unsolicited data."""
        return target_transfer_tag in self._sequences or (target_transfer_tag == NO_TAG and bool(self._unsolicited))

    def _sequence(self, header: DataOut) -> DataOutSequence:
        if not self.expects(header.target_transfer_tag):
            raise ProtocolError(RejectReason.PROTOCOL_ERROR, "Data-Out came that was not asked for")
        return self._sequences.get(header.target_transfer_tag) or self._unsolicited[0]

    def _end(self, target_transfer_tag: int, sequence: DataOutSequence) -> None:
        if self._sequences.pop(target_transfer_tag, None) is None:
            self._unsolicited.clear()
            self._asked = sequence.end

    def solicit(self, tag: int) -> Solicitation | None:
        """Returns what the next R2T asks for, under the given target transfer tag, or None when none may go out now.

        Source: RFC7143 11.8, 13.17
        """
        if self._unsolicited or self._asked >= self._wanted:
            return None
        if len(self._sequences) >= self._ordering.max_outstanding:
            return None
        offset, length = self._asked, min(self._ordering.max_burst, self._wanted - self._asked)
        self._asked += length
        return self._ask(tag, offset, length=length)

    def _ask(self, tag: int, offset: int, *, length: int) -> Solicitation:
        self._sequences[tag] = self._open(offset, length)
        solicitation = Solicitation(tag, self._r2t_sn, offset, length)
        self._r2t_sn += 1
        return solicitation

    def resume(self, seen: int) -> None:
        """Goes on on another connection.

        seen    how many R2Ts the initiator says that it has had; the next one is numbered so
        Source: RFC7143 11.5.6
        """

    @property
    def r2ts(self) -> int:
        """How many R2Ts went out; the next R2TSN."""
        return self._r2t_sn

    @property
    def quiet(self) -> bool:
        """True when the initiator owes no data: no sequence is open."""
        return not self._unsolicited and not self._sequences

    @property
    def whole(self) -> bool:
        """True when everything that is wanted has come."""
        return self.quiet and self._asked >= self._wanted

    @property
    def wanted(self) -> int:
        """How many bytes there are to be in the end."""
        return self._wanted

    @property
    def data(self) -> bytearray:
        """What has been collected; as long as what is wanted when it is whole."""
        return self._buffer


class _NoDataOut(DataOutTransfer):
    """The transfer of every command whose initiator has no Data-Out; it holds nothing, so one serves all of them."""

    __slots__ = ()

    def want(self, length: int, immediate: Buffer) -> None:
        pass

    def fail(self) -> None:
        pass

    def forgo(self) -> None:
        pass


NO_DATA_OUT: DataOutTransfer = _NoDataOut(Ordering(1, 1, True), 0, immediate=0, unsolicited=0)
