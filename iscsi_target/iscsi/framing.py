"""Cuts a byte stream into PDUs and makes buffers from PDUs: lengths, padding, digests, limits.

A PDU that lies whole in what has come is handed out as views of it, without a copy, so it is valid only until the next
one is asked for. A PDU that arrives in pieces gets a buffer of exactly its size, allocated only after its header passed
the digest and the limits, or its data is laid where it is to be in the end; whoever receives may put the rest of a long
one there directly. What the header means is not decided here.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from iscsi_target.iscsi.errors import RejectReason, StreamLost
from iscsi_target.iscsi.header import BasicHeader
from iscsi_target.iscsi.requests import BASIC_HEADERS, AnyRequest
from iscsi_target.wire.choice import Choice
from iscsi_target.wire.crc32c import digest
from iscsi_target.wire.layout import Layout

Buffer = bytes | bytearray | memoryview

DIGEST_BYTES = 4
LOGIN_DATA_BYTES = 8192  # MaxRecvDataSegmentLength of both sides until the full feature phase, RFC7143 13.12
MAX_AHS_WORDS = 64  # a CDB of 260 bytes and a bidirectional read length take them; more is refused
HEADER_BYTES = BasicHeader.size
LONG_BYTES = 16 * 1024  # of the rest of a PDU: from here on it is worth a receive of its own
MAX_LOST = 3  # PDUs in a row whose header digest is wrong: then it is not known where the next one begins
NOTHING = memoryview(b"")
_PADDING = (b"", bytes(3), bytes(2), bytes(1))


class RawPdu(NamedTuple):
    """One PDU whose digests and sizes are right.

    basic        the basic header segment
    header       its 48 bytes
    additional   additional header segments, 0..1020 bytes
    data         the data segment without padding
    lasting      True when the views stay valid, because the PDU came in pieces and has a buffer of its own
    damaged      True when the data digest is wrong, where the connection outlives that
    """

    basic: AnyRequest
    header: memoryview
    additional: memoryview
    data: memoryview
    lasting: bool = False
    damaged: bool = False

    def kept(self) -> "RawPdu":
        """Returns the PDU as one that stays valid."""
        if self.lasting:
            return self
        header, additional, data = (memoryview(bytes(part)) for part in (self.header, self.additional, self.data))
        return RawPdu(self.basic, header, additional, data, lasting=True, damaged=self.damaged)


class Digests(NamedTuple):
    """What the PDUs of a connection have beside header and data.

    Source: RFC7143 11.2.3
    """

    header: bool
    data: bool

    def bounds(self, begin: int, end: int) -> tuple[int, int]:
        """Returns where the data of a PDU begins, and where the next PDU does.

        begin, end   where it and its padding would be without digests
        """
        of_header, of_data = DIGEST_BYTES * self.header, DIGEST_BYTES * (self.data and end > begin)
        return begin + of_header, end + of_header + of_data

    def are_right(self, header: memoryview, data: memoryview) -> bool:
        """Returns False when a digest is wrong.

        header, data   with their digests
        """
        return (not self.header or _is_intact(header)) and (not (self.data and data) or _is_intact(data))

    def added_to(self, header: Buffer, data: Buffer = NOTHING) -> list[Buffer]:
        """Returns the buffers of a PDU whose header is packed; they are to be sent in order.

        header   with additional header segments; its lengths are those of what comes here
        data     the data segment without padding; not copied
        """
        buffers: list[Buffer] = [header]
        if self.header:
            buffers.append(digest(header))
        if data:
            buffers.append(data)
            padding = _PADDING[len(data) % 4]
            if padding:
                buffers.append(padding)
            if self.data:
                buffers.append(digest(data, padding))
        return buffers


NO_DIGESTS = Digests(header=False, data=False)


class Incoming:
    """Bytes that have come, and how far they have been taken.

    view       the bytes
    position   where what was not taken begins
    end        where it ends
    lasting    True when they stay as they are
    laid       the data of the only PDU, when that lies elsewhere
    """

    __slots__ = ("end", "laid", "lasting", "position", "view")

    def __init__(self, received: Buffer, *, lasting: bool = False, laid: memoryview = NOTHING) -> None:
        self.view = memoryview(received)
        self.position = 0
        self.end = len(self.view)
        self.lasting = lasting
        self.laid = laid

    def take(self, most: int) -> memoryview:
        """Takes what is there, but not more than so many bytes."""
        begin = self.position
        self.position = min(begin + most, self.end)
        return self.view[begin : self.position]


class PduReader:
    """Turns bytes in any pieces into PDUs.

    Digests are off, and the data segment limited to what a login may carry, until `enter_full_feature_phase`.

    headers    reads the basic header segments

    has_part   True when there is some of a PDU that is not whole, for `gather`; False when the next byte begins one
    recovers   whether the connection outlives a wrong digest
    lay        returns where the data of a PDU with a header is to be in the end, None when that is not known
    """

    def __init__(self, headers: Choice[AnyRequest] = BASIC_HEADERS) -> None:
        self._unpack = headers.unpack
        self._limit_bytes = LOGIN_DATA_BYTES
        self._header_digest = False
        self._data_digest = False
        self.recovers = False
        self._header_wrong = False  # the digest of the header that was looked at last, where that is outlived
        self._lost = 0  # PDUs in a row
        self.lay: Callable[[AnyRequest], memoryview | None] = nowhere
        self.has_part = False
        self._partial = bytearray()  # of a PDU that is not whole, as far as it is known and without data that is laid
        self._missing = NOTHING  # where the next bytes go
        self._laid = NOTHING
        self._tail = NOTHING  # where what follows the data that is laid goes

    def enter_full_feature_phase(
        self, *, limit_bytes: int, header_digest: bool, data_digest: bool, recovers: bool = False
    ) -> None:
        """Sets what holds from the next PDU on.

        limit_bytes   this side's MaxRecvDataSegmentLength
        recovers      whether the connection outlives a wrong digest
        """
        self.recovers = recovers
        self._limit_bytes = limit_bytes
        self._header_digest = header_digest
        self._data_digest = data_digest

    @property
    def place(self) -> memoryview | None:
        """Where the rest of a long PDU may be put, so that `gather` need not copy it; None when nothing long waits."""
        return None if len(self._missing) < LONG_BYTES else self._missing

    def feed(self, received: Buffer) -> Iterator[RawPdu]:
        """Yields the PDUs that are complete with these bytes; the iterator must be used up or closed for good.

        Every PDU must be done with before the next is asked for.

        raises    as `take`
        """
        incoming = Incoming(received)
        while incoming.position < incoming.end:
            source = self.gather(incoming) if self.has_part else incoming
            pdu = None if source is None else self.take(source)
            if pdu is not None:
                yield pdu

    def gather(self, incoming: Incoming) -> Incoming | None:
        """Adds to a PDU that has begun; returns it when it is whole, or so wrong that `take` refuses it.

        incoming   may be bytes that were put into `place`
        """
        while incoming.position < incoming.end:
            missing = self._missing
            taken = incoming.take(len(missing))
            if taken.obj is not missing.obj:
                missing[: len(taken)] = taken
            self._missing = missing[len(taken) :]
            if not self._missing:
                self._missing, self._tail = self._tail, NOTHING
            if not self._missing and self._is_whole():
                whole = Incoming(self._partial, lasting=True, laid=self._laid)
                self._forget_part()
                return whole
        return None

    def _forget_part(self) -> None:
        self.has_part = False
        self._partial = bytearray()
        self._missing = self._laid = self._tail = NOTHING

    def _is_whole(self) -> bool:
        """Makes room for more of the partial PDU when there is more of it."""
        if self._laid:
            return True
        part = self._partial
        try:
            basic = self._unpack(part, 0)
            needed = self._needed(basic, memoryview(part), 0)
        except StreamLost:
            return True
        if needed == len(part):
            return True
        is_known = not self._header_wrong and not basic.total_ahs_length
        if is_known and needed - len(part) >= LONG_BYTES:  # which is no header digest: data comes next
            self._laid = self.lay(basic) or NOTHING
        self._partial = bytearray(needed - len(self._laid))
        self._partial[: len(part)] = part
        rest = memoryview(self._partial)[len(part) :]
        self._missing, self._tail = (self._laid, rest) if self._laid else (rest, NOTHING)
        return False

    def take(self, incoming: Incoming) -> RawPdu | None:
        """Takes the next PDU; what there is of one that is not whole is kept for `gather`, and a lost one is not told.

        A PDU must be done with before the next is taken.

        raises    StreamLost for a wrong digest or a length beyond the limits; the reader is of no use afterwards
        Source: RFC7143 11.2
        """
        view, position = incoming.view, incoming.position
        there = incoming.end - position
        if there >= HEADER_BYTES:
            basic = self._unpack(view, position)
            needed = self._needed(basic, view, position) - len(incoming.laid)
            if needed <= there:
                incoming.position = position + needed
                if self._header_wrong:
                    self._lose()
                    return None
                self._lost = 0
                if needed == HEADER_BYTES and not incoming.laid:
                    return RawPdu(basic, view[position : position + needed], NOTHING, NOTHING, incoming.lasting)
                return self._pdu(basic, view, position, incoming.laid)._replace(lasting=incoming.lasting)
        self.has_part = True
        self._partial = bytearray(HEADER_BYTES)
        self._missing = memoryview(self._partial)
        self.gather(incoming)
        return None

    def _lose(self) -> None:
        """Lets a PDU fall away whose header digest is wrong; raises StreamLost when there are too many in a row."""
        self._header_wrong = False
        self._lost += 1
        if self._lost > MAX_LOST:
            raise StreamLost(RejectReason.PROTOCOL_ERROR, f"{self._lost} header digests in a row are wrong")

    def _needed(self, basic: AnyRequest, view: memoryview, start: int) -> int:
        """Returns how many bytes are needed to know more: the header with its digest, then all.

        view, start   where the PDU begins
        """
        if basic.total_ahs_length > MAX_AHS_WORDS:
            raise _too_long(view[start:], f"TotalAHSLength {basic.total_ahs_length} is over {MAX_AHS_WORDS}")
        needed = HEADER_BYTES + 4 * basic.total_ahs_length
        if self._header_digest:
            needed += DIGEST_BYTES
            if len(view) - start < needed:
                return needed
            self._header_wrong = not _is_intact(view[start : start + needed])
            if self._header_wrong and (not self.recovers or basic.data_segment_length > self._limit_bytes):
                raise wrong_header_digest()
        length = basic.data_segment_length
        if not length:
            return needed
        if length > self._limit_bytes:
            raise _too_long(view[start:], f"DataSegmentLength {length} is over {self._limit_bytes}")
        return needed + length + -length % 4 + (DIGEST_BYTES if self._data_digest else 0)

    def _pdu(self, basic: AnyRequest, view: memoryview, start: int, laid: memoryview) -> RawPdu:
        header_end = start + HEADER_BYTES
        header = view[start:header_end]
        length = basic.data_segment_length
        data_start = additional_end = header_end + 4 * basic.total_ahs_length
        if self._header_digest:
            data_start += DIGEST_BYTES
        if length and self._data_digest:
            digest_end = data_start + length + -length % 4 + DIGEST_BYTES - len(laid)
            if not _is_intact(view[data_start:digest_end], laid):
                if self.recovers:
                    return RawPdu(basic, header, view[header_end:additional_end], NOTHING, damaged=True)
                raise wrong_data_digest(header)
        return RawPdu(basic, header, view[header_end:additional_end], laid or view[data_start : data_start + length])


def nowhere(_: AnyRequest) -> None:
    """Leaves it open where the data of a PDU is to be: it gets a buffer of its own."""


def wrong_header_digest() -> StreamLost:
    """Returns what to raise when nothing in a header can be trusted.

    Source: RFC7143 7.8
    """
    return StreamLost(RejectReason.PROTOCOL_ERROR, "the header digest is wrong")


def wrong_data_digest(header: memoryview) -> StreamLost:
    """Returns what to raise when the data of a PDU with this header cannot be trusted.

    Source: RFC7143 7.8
    """
    return StreamLost(RejectReason.DATA_DIGEST_ERROR, "the data digest is wrong", bytes(header))


def _too_long(view: memoryview, text: str) -> StreamLost:
    return StreamLost(RejectReason.INVALID_PDU_FIELD, text, bytes(view[: BasicHeader.size]))


def _is_intact(part: memoryview, before: memoryview = NOTHING) -> bool:
    """Returns True when the last four bytes are the CRC-32C of all before."""
    return digest(before, part[:-DIGEST_BYTES]) == part[-DIGEST_BYTES:]


def frame(
    header: Layout,
    data: Buffer = b"",
    additional: bytes = b"",
    *,
    header_digest: bool = False,
    data_digest: bool = False,
) -> list[Buffer]:
    """Makes the buffers of one PDU; they are to be sent in order.

    header       with both lengths zero: they are filled here
    data         the data segment without padding, 0..2**24 - 1 bytes; not copied
    additional   additional header segments, a multiple of four bytes
    raises       LayoutError when a length or a field does not fit
    Source: RFC7143 11.2
    """
    lengths = header.replace(total_ahs_length=len(additional) // 4, data_segment_length=len(data))
    return Digests(header_digest, data_digest).added_to(lengths.pack() + additional, data)
