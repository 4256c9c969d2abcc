"""Additional header segments of a SCSI Command: extended CDB and bidirectional read length, both directions."""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from iscsi_target.iscsi.errors import ProtocolError, RejectReason
from iscsi_target.wire.layout import U8, U16, U32, Layout

MAX_EXTENDED_CDB_BYTES = 244  # a CDB has 260 bytes at most, 16 of them in the basic header


class AhsType(IntEnum):
    """Names the kinds of additional header segments.

    Source: RFC7143 11.2.2.2
    """

    EXTENDED_CDB = 1
    BIDIRECTIONAL_READ_LENGTH = 2


class AhsHeader(Layout):
    """What every additional header segment starts with; `length` counts the bytes after `kind`, padding excluded.

    Source: RFC7143 11.2.2
    """

    length: U16 = 0
    kind: U8 = 0


class BidirectionalReadLength(Layout):
    """The expected length of the read data of a bidirectional command.

    Source: RFC7143 11.2.2.4
    """

    length: U16 = 5
    kind: U8 = AhsType.BIDIRECTIONAL_READ_LENGTH
    _1: U8 = 0
    expected_read_data_length: U32 = 0


class AdditionalHeaders(NamedTuple):
    """What the additional header segments of one SCSI Command say.

    extended_cdb             the CDB's bytes from the 17th on, or empty
    expected_read_length     of a bidirectional command, or None
    """

    extended_cdb: bytes = b""
    expected_read_length: int | None = None


NO_AHS = AdditionalHeaders()


def unpack_additional_headers(segment: bytes | memoryview) -> AdditionalHeaders:
    """Reads the additional header segments of a SCSI Command.

    segment    all of them, 0..1020 bytes, a multiple of four
    raises     ProtocolError when they overrun the segment, repeat, or are of an unknown kind
    Source: RFC7143 11.2.2
    """
    extended_cdb, read_length = b"", None
    offset = 0
    while offset < len(segment):
        if len(segment) - offset < AhsHeader.size:
            raise ProtocolError(RejectReason.INVALID_PDU_FIELD, "an additional header segment is cut short")
        header = AhsHeader.unpack(segment, offset)
        end = offset + AhsHeader.size + header.length
        if end > len(segment) or not header.length:
            raise ProtocolError(RejectReason.INVALID_PDU_FIELD, f"AHSLength {header.length} overruns TotalAHSLength")
        longest = 1 + MAX_EXTENDED_CDB_BYTES  # a reserved byte stands before the CDB's
        if header.kind == AhsType.EXTENDED_CDB and not extended_cdb and 1 < header.length <= longest:
            extended_cdb = bytes(segment[offset + AhsHeader.size + 1 : end])
        elif header.kind == AhsType.BIDIRECTIONAL_READ_LENGTH and read_length is None and header.length == 5:
            read_length = BidirectionalReadLength.unpack(segment, offset).expected_read_data_length
        else:
            raise ProtocolError(
                RejectReason.INVALID_PDU_FIELD, f"AHSType {header.kind} is unknown, repeated or malformed"
            )
        offset = end + -end % 4
    return AdditionalHeaders(extended_cdb, read_length)


def pack_additional_headers(headers: AdditionalHeaders) -> bytes:
    """Returns the additional header segments of a SCSI Command, padded to a multiple of four bytes.

    raises    LayoutError when the extended CDB does not fit
    Source: RFC7143 11.2.2
    """
    segments: Sequence[bytes] = ()
    if headers.extended_cdb:
        length = 1 + len(headers.extended_cdb)
        body = AhsHeader(length=length, kind=AhsType.EXTENDED_CDB).pack() + bytes(1) + headers.extended_cdb
        segments = [body + bytes(-len(body) % 4)]
    if headers.expected_read_length is not None:
        segments = [
            *segments,
            BidirectionalReadLength(expected_read_data_length=headers.expected_read_length).pack(),
        ]
    return b"".join(segments)
