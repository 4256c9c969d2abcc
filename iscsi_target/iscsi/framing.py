"""Cuts a byte stream into PDUs and makes buffers from PDUs: lengths, padding, digests, limits.

A PDU that lies whole in what was fed is handed out as views of it, without a copy, so it is valid only until the next
one is asked for. A PDU that arrives in pieces gets a buffer of exactly its size, allocated only after its header passed
the digest and the limits. What the header means is not decided here.
"""

from collections.abc import Iterator
from typing import NamedTuple

from iscsi_target.iscsi.errors import RejectReason, StreamLost
from iscsi_target.iscsi.header import BasicHeader
from iscsi_target.wire.crc32c import crc32c
from iscsi_target.wire.layout import U8, U24, U32, Layout

Buffer = bytes | bytearray | memoryview

DIGEST_BYTES = 4
LOGIN_DATA_BYTES = 8192  # MaxRecvDataSegmentLength of both sides until the full feature phase, RFC7143 13.12
MAX_AHS_WORDS = 64  # a CDB of 260 bytes and a bidirectional read length take them; more is refused
_LENGTHS_AT = BasicHeader.location("total_ahs_length").byte
_PADDING = (b"", bytes(3), bytes(2), bytes(1))


class _Lengths(Layout):
    """Bytes 4 to 7 of every header."""

    total_ahs_length: U8 = 0
    data_segment_length: U24 = 0


class _Digest(Layout):
    """A CRC as this machine computes it, most significant byte first; the wire has it the other way around."""

    crc: U32 = 0


class RawPdu(NamedTuple):
    """One PDU whose digests and sizes are right.

    basic        opcode, immediate bit, initiator task tag
    header       the 48 bytes
    additional   additional header segments, 0..1020 bytes
    data         the data segment without padding
    """

    basic: BasicHeader
    header: memoryview
    additional: memoryview
    data: memoryview


class PduReader:
    """Turns bytes in any pieces into PDUs.

    Digests are off, and the data segment limited to what a login may carry, until `enter_full_feature_phase`.
    """

    def __init__(self) -> None:
        self._limit_bytes = LOGIN_DATA_BYTES
        self._header_digest = False
        self._data_digest = False
        self._partial = bytearray()  # of the length that is known to be needed so far
        self._filled = 0

    def enter_full_feature_phase(self, *, limit_bytes: int, header_digest: bool, data_digest: bool) -> None:
        """Sets what holds from the next PDU on; limit_bytes is this side's MaxRecvDataSegmentLength."""
        self._limit_bytes = limit_bytes
        self._header_digest = header_digest
        self._data_digest = data_digest

    def feed(self, received: Buffer) -> Iterator[RawPdu]:
        """Yields the PDUs that are complete with these bytes; the rest is kept for the next call.

        Every PDU must be done with before the next is asked for; the iterator must be used up or closed for good.

        raises    StreamLost for a wrong digest or a length beyond the limits; the reader is of no use afterwards
        Source: RFC7143 11.2
        """
        view = memoryview(received)
        position = 0
        while position < len(view):
            if not self._filled:
                needed = self._needed(view[position:])
                if needed <= len(view) - position:
                    yield self._pdu(view[position : position + needed])
                    position += needed
                    continue
                self._partial = bytearray(needed)
            taken = min(len(self._partial) - self._filled, len(view) - position)
            self._partial[self._filled : self._filled + taken] = view[position : position + taken]
            self._filled += taken
            position += taken
            if self._filled == len(self._partial) and self._completed():
                whole = memoryview(self._partial)
                self._partial, self._filled = bytearray(), 0
                yield self._pdu(whole)

    def _completed(self) -> bool:
        """Returns True when the partial PDU is whole; otherwise makes room for what its next part needs."""
        needed = self._needed(memoryview(self._partial))
        if needed == len(self._partial):
            return True
        grown = bytearray(needed)
        grown[: self._filled] = self._partial
        self._partial = grown
        return False

    def _needed(self, view: memoryview) -> int:
        """Returns how many bytes are needed to know more: the header, then the header with its digest, then all."""
        if len(view) < BasicHeader.size:
            return BasicHeader.size
        basic = BasicHeader.unpack(view)
        if basic.total_ahs_length > MAX_AHS_WORDS:
            raise _too_long(view, f"TotalAHSLength {basic.total_ahs_length} is over {MAX_AHS_WORDS}")
        header = BasicHeader.size + 4 * basic.total_ahs_length
        if self._header_digest:
            header += DIGEST_BYTES
            if len(view) < header:
                return header
            if not _intact(view[:header]):
                raise StreamLost(RejectReason.PROTOCOL_ERROR, "the header digest is wrong")
        if basic.data_segment_length > self._limit_bytes:
            raise _too_long(view, f"DataSegmentLength {basic.data_segment_length} is over {self._limit_bytes}")
        if not basic.data_segment_length:
            return header
        data = basic.data_segment_length + -basic.data_segment_length % 4
        return header + data + (DIGEST_BYTES if self._data_digest else 0)

    def _pdu(self, view: memoryview) -> RawPdu:
        basic = BasicHeader.unpack(view)
        header_end = BasicHeader.size + 4 * basic.total_ahs_length
        start = header_end + (DIGEST_BYTES if self._header_digest else 0)
        if self._data_digest and basic.data_segment_length and not _intact(view[start:]):
            header = bytes(view[: BasicHeader.size])
            raise StreamLost(RejectReason.DATA_DIGEST_ERROR, "the data digest is wrong", header)
        return RawPdu(
            basic,
            view[: BasicHeader.size],
            view[BasicHeader.size : header_end],
            view[start : start + basic.data_segment_length],
        )


def _too_long(view: memoryview, text: str) -> StreamLost:
    return StreamLost(RejectReason.INVALID_PDU_FIELD, text, bytes(view[: BasicHeader.size]))


def _intact(part: memoryview) -> bool:
    """Returns True when the last four bytes are the CRC-32C of those before."""
    return _digest(part[:-DIGEST_BYTES]) == part[-DIGEST_BYTES:]


def _digest(*buffers: Buffer) -> bytes:
    return _Digest(crc=crc32c(*buffers)).pack()[::-1]


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
    packed = header.pack()
    if data or additional:
        lengths = _Lengths(total_ahs_length=len(additional) // 4, data_segment_length=len(data))
        packed = b"".join((packed[:_LENGTHS_AT], lengths.pack(), packed[_LENGTHS_AT + lengths.size :], additional))
    buffers: list[Buffer] = [packed]
    if header_digest:
        buffers.append(_digest(packed))
    if data:
        padding = _PADDING[len(data) % 4]
        buffers.append(data)
        if padding:
            buffers.append(padding)
        if data_digest:
            buffers.append(_digest(data, padding))
    return buffers
