"""iSCSI TransportIDs: how an initiator port is named in parameter lists and parameter data.

A TransportID is a header and a text that ends with NUL and is padded with NULs to a multiple of four bytes: the name of
an initiator device (format 00b), or of one of its ports (format 01b), which is the name, `,i,0x` and the ISID in hex.
Names are compared as RFC 7143 has it, so what is read is normalised.
"""

import re
from typing import NamedTuple

from iscsi_target.scsi.layouts.reservation_pages import TransportIdHeader
from iscsi_target.scsi.nexus import InitiatorPort
from iscsi_target.wire.layout import LayoutError
from iscsi_target.wire.names import InadmissibleValue, iscsi_name

DEVICE_FORMAT, PORT_FORMAT = 0, 1
ISCSI = 5  # PROTOCOL IDENTIFIER; SPC4r37 7.6.1
MIN_ADDITIONAL_LENGTH = 20  # SPC4r37 7.6.4.6
MAX_TRANSPORT_ID_BYTES = 4 + 223 + len(",i,0x") + 12 + 1 + 3  # header, name, separator, ISID, NUL and padding
MIN_TRANSPORT_ID_BYTES = TransportIdHeader.size + MIN_ADDITIONAL_LENGTH
SEPARATOR = ",i,0x"

_PORT = re.compile(r"(?P<name>[^,]+),i,0x(?P<isid>[0-9A-Fa-f]{12})")


class InvalidTransportId(ValueError):
    """Says that bytes are no TransportID of an iSCSI initiator port.

    what     the reason
    cut      True when the bytes end before the TransportID does
    """

    def __init__(self, what: str, *, cut: bool = False) -> None:
        super().__init__(what)
        self.cut = cut


class TransportId(NamedTuple):
    """A TransportID that was read.

    name           the iSCSI name, normalised
    isid           6 bytes, or None in the format that names a device
    length_bytes   how long it was, a multiple of four
    Source: SPC4r37 7.6.4.6
    """

    name: str
    isid: bytes | None
    length_bytes: int


def transport_id_bytes(port: InitiatorPort) -> int:
    """Returns how long the TransportID of an initiator port is, without making it.

    Source: SPC4r37 7.6.4.6
    """
    return TransportIdHeader.size + _padded(len(port.name.encode()) + len(SEPARATOR) + 2 * len(port.isid) + 1)


def _padded(length: int) -> int:
    return max(MIN_ADDITIONAL_LENGTH, (length + 3) // 4 * 4)


def pack_transport_id(port: InitiatorPort) -> bytes:
    """Returns the TransportID of an initiator port.

    Source: SPC4r37 7.6.4.6
    """
    text = f"{port.name}{SEPARATOR}{port.isid.hex()}".encode() + b"\0"
    length = _padded(len(text))
    header = TransportIdHeader(format_code=PORT_FORMAT, protocol_identifier=ISCSI, additional_length=length)
    return header.pack() + text.ljust(length, b"\0")


def pack_device_transport_id(port: InitiatorPort) -> bytes:
    """Returns the TransportID of an initiator device as COMSTAR has it: without NUL, a multiple of eight bytes long.

    Source: SPC4r37 7.6.4.6, which demands a NUL and the format of a port
    """
    text = port.name.encode()
    length = (len(text) + 7) // 8 * 8
    header = TransportIdHeader(format_code=DEVICE_FORMAT, protocol_identifier=ISCSI, additional_length=length)
    return header.pack() + text.ljust(length, b"\0")


def unpack_transport_id(buffer: bytes, offset: int = 0) -> TransportId:
    """Reads the TransportID at offset; what follows its first NUL is ignored.

    raises    InvalidTransportId
    Source: SPC4r37 7.6.4.6
    """
    try:
        header = TransportIdHeader.unpack(buffer, offset)
    except LayoutError:
        raise InvalidTransportId("it ends within its header", cut=True) from None
    start = offset + TransportIdHeader.size
    text = buffer[start : start + header.additional_length]
    if header.protocol_identifier != ISCSI:
        raise InvalidTransportId("its protocol is not iSCSI")
    if header.format_code not in (DEVICE_FORMAT, PORT_FORMAT):
        raise InvalidTransportId("its format code is reserved")
    if header.additional_length < MIN_ADDITIONAL_LENGTH or header.additional_length % 4:
        raise InvalidTransportId("its ADDITIONAL LENGTH is not a multiple of four of at least 20")
    if header.additional_length + TransportIdHeader.size > MAX_TRANSPORT_ID_BYTES:
        raise InvalidTransportId("it is longer than any iSCSI name")
    if len(text) < header.additional_length:
        raise InvalidTransportId("it ends within its name", cut=True)
    name, isid = _read(text, header.format_code)
    return TransportId(name, isid, TransportIdHeader.size + header.additional_length)


def _read(text: bytes, format_code: int) -> tuple[str, bytes | None]:
    content, nul, _ = text.partition(b"\0")
    if not nul:
        raise InvalidTransportId("its name does not end with NUL")
    try:
        name = content.decode()
    except UnicodeDecodeError:
        raise InvalidTransportId("its name is not UTF-8") from None
    isid = None
    if format_code == PORT_FORMAT:
        match = _PORT.fullmatch(name)
        if match is None:
            raise InvalidTransportId("its name is not NAME,i,0xISID")
        name, isid = match["name"], bytes.fromhex(match["isid"])
    try:
        return iscsi_name(name), isid
    except InadmissibleValue as error:
        raise InvalidTransportId(f"it holds {error}") from None
