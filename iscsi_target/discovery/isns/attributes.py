"""Attributes: a tag, a length and a value, of which everything in a message is made.

A value is kept as the bytes that were sent, so that what is not understood can be passed on or compared all the same;
the functions here make values of numbers, texts and addresses and read them again.
"""

from collections.abc import Iterable, Iterator
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from iscsi_target.discovery.isns.faults import Refused, Status
from iscsi_target.wire.layout import U32, U64, Layout

MAX_ATTRIBUTES: Final = 1 << 16  # of a message; ours
MAX_TEXT_BYTES: Final = 256  # with the NUL; RFC4171 6.1
MAX_NAME_BYTES: Final = 224  # of an iSCSI name with its NUL; RFC4171 6.4.1
UDP: Final = 1 << 16  # in a port: UDP rather than TCP; RFC4171 6.3.2
MAX_PORT: Final = 65535


class Tag(IntEnum):
    """What an attribute tells.

    Source: RFC4171 6.1
    """

    DELIMITER = 0
    ENTITY_IDENTIFIER = 1
    ENTITY_PROTOCOL = 2
    MANAGEMENT_IP_ADDRESS = 3
    TIMESTAMP = 4
    PROTOCOL_VERSION_RANGE = 5
    REGISTRATION_PERIOD = 6
    ENTITY_INDEX = 7
    PORTAL_IP_ADDRESS = 16
    PORTAL_PORT = 17
    PORTAL_SYMBOLIC_NAME = 18
    ESI_INTERVAL = 19
    ESI_PORT = 20
    PORTAL_INDEX = 22
    SCN_PORT = 23
    PORTAL_SECURITY_BITMAP = 27
    ISCSI_NAME = 32
    ISCSI_NODE_TYPE = 33
    ISCSI_ALIAS = 34
    ISCSI_SCN_BITMAP = 35
    ISCSI_NODE_INDEX = 36
    ISCSI_AUTH_METHOD = 42
    PG_ISCSI_NAME = 48
    PG_PORTAL_IP_ADDRESS = 49
    PG_PORTAL_PORT = 50
    PORTAL_GROUP_TAG = 51
    DDS_ID = 2049
    DDS_SYMBOLIC_NAME = 2050
    DDS_STATUS = 2051
    DD_ID = 2065
    DD_SYMBOLIC_NAME = 2066
    DD_MEMBER_ISCSI_NAME = 2068


class AttributeHeader(Layout):
    """What an attribute begins with.

    Source: RFC4171 5.3
    """

    attribute_tag: U32
    attribute_length: U32


class Word(Layout):
    """A number of four bytes: a value, or the status that an answer begins with."""

    number: U32


class DoubleWord(Layout):
    """A number of eight bytes: a time stamp."""

    number: U64


class Attribute(NamedTuple):
    """One attribute; an empty value asks for one, or says that there is none."""

    tag: int
    value: bytes = b""


DELIMITER: Final = Attribute(Tag.DELIMITER)


def number(tag: int, value: int) -> Attribute:
    """Returns an attribute of four bytes."""
    return Attribute(tag, Word(number=value).pack())


def text(tag: int, value: str) -> Attribute:
    """Returns an attribute of text, which ends with at least one NUL and fills whole words; none when it is empty.

    Source: RFC4171 5.3.1
    """
    encoded = value.encode() + b"\0" if value else b""
    return Attribute(tag, encoded + bytes(-len(encoded) % 4))


def address(tag: int, host: str) -> Attribute:
    """Returns an attribute of an IP address; one of IPv4 is mapped to IPv6.

    raises    ValueError when the host is no address
    Source: RFC4171 6.3.1
    """
    found = ip_address(host.partition("%")[0])
    mapped = IPv6Address(b"\0" * 10 + b"\xff\xff" + found.packed) if isinstance(found, IPv4Address) else found
    return Attribute(tag, mapped.packed)


def timestamp(seconds: int) -> Attribute:
    """Returns the time of an event, in seconds since 1970.

    Source: RFC4171 6.2.4
    """
    return Attribute(Tag.TIMESTAMP, DoubleWord(number=seconds).pack())


def read_number(value: bytes) -> int:
    """Returns the number that a value of four bytes is; raises Refused when it has another length."""
    if len(value) != Word.size:
        raise Refused(Status.MESSAGE_FORMAT_ERROR, f"a number of {len(value)} bytes")
    return Word.unpack(value).number


def read_text(value: bytes, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Returns the text that a value is; raises Refused when it is none, or too long."""
    if len(value) > max_bytes:
        raise Refused(Status.MESSAGE_FORMAT_ERROR, f"a text of {len(value)} bytes")
    try:
        found = value.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        raise Refused(Status.MESSAGE_FORMAT_ERROR, "a text that is not UTF-8") from None
    if not found.isprintable():
        raise Refused(Status.MESSAGE_FORMAT_ERROR, "a text with control characters")
    return found


def read_address(value: bytes) -> str:
    """Returns the IP address that a value is, IPv4 as such; raises Refused when it has not 16 bytes."""
    if len(value) != 16:
        raise Refused(Status.MESSAGE_FORMAT_ERROR, f"an address of {len(value)} bytes")
    found = IPv6Address(value)
    return str(found.ipv4_mapped or found)


def pack(attributes: Iterable[Attribute]) -> bytes:
    """Returns attributes one after the other."""
    parts: list[bytes] = []
    for tag, value in attributes:
        parts += (AttributeHeader.encode(attribute_tag=tag, attribute_length=len(value)), value)
    return b"".join(parts)


def unpack(payload: bytes, offset: int = 0) -> Iterator[Attribute]:
    """Yields the attributes that stand from an offset to the end.

    raises    Refused when they are cut short, not of whole words, or too many
    Source: RFC4171 5.3
    """
    count = 0
    while offset < len(payload):
        count += 1
        if count > MAX_ATTRIBUTES or len(payload) - offset < AttributeHeader.size:
            raise Refused(Status.MESSAGE_FORMAT_ERROR, "attributes that are cut short, or too many")
        header = AttributeHeader.unpack(payload, offset)
        offset += AttributeHeader.size
        length = header.attribute_length
        if length % 4 or length > len(payload) - offset:
            raise Refused(Status.MESSAGE_FORMAT_ERROR, f"an attribute of {length} bytes")
        yield Attribute(header.attribute_tag, payload[offset : offset + length])
        offset += length
