"""The messages of SLP: a header of fixed width, and behind it texts with their lengths, which construct declares.

Source: RFC2608 8, 9, 10
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

import construct

from iscsi_target.wire.layout import B6, B7, U8, U16, U24, Bit, Layout, LayoutError

VERSION: Final = 2
MAX_LANGUAGE_BYTES: Final = 64  # of a language tag; ours
MAX_LENGTH: Final = (1 << 24) - 1  # of a message
MANDATORY: Final = range(0x4000, 0x8000)  # extensions that have to be understood; RFC2608 9.1


class Function(IntEnum):
    """What a message is.

    Source: RFC2608 8
    """

    SRV_RQST = 1
    SRV_RPLY = 2
    SRV_REG = 3
    SRV_DEREG = 4
    SRV_ACK = 5
    ATTR_RQST = 6
    ATTR_RPLY = 7
    DA_ADVERT = 8
    SRV_TYPE_RQST = 9
    SRV_TYPE_RPLY = 10
    SA_ADVERT = 11


class ErrorCode(IntEnum):
    """What a reply says of a request.

    Source: RFC2608 7
    """

    SUCCESS = 0
    LANGUAGE_NOT_SUPPORTED = 1
    PARSE_ERROR = 2
    SCOPE_NOT_SUPPORTED = 4
    AUTHENTICATION_UNKNOWN = 5
    VERSION_NOT_SUPPORTED = 9
    INTERNAL_ERROR = 10
    OPTION_NOT_UNDERSTOOD = 12
    MESSAGE_NOT_SUPPORTED = 14


class SlpHeader(Layout):
    """What every message begins with; the language tag follows.

    Source: RFC2608 8
    """

    version: U8 = VERSION
    function_id: U8
    length: U24
    overflow: Bit = False
    fresh: Bit = False
    request_mcast: Bit = False
    _reserved_1: B6 = 0
    _reserved_2: B7 = 0
    next_extension_offset: U24 = 0
    xid: U16
    language_tag_length: U16


class ExtensionHeader(Layout):
    """What an extension begins with.

    Source: RFC2608 9.1
    """

    extension_id: U16
    next_extension_offset: U24


class Packet(NamedTuple):
    """A message.

    body          what follows the language tag
    extensions    identifiers of those that it has
    """

    header: SlpHeader
    language: str
    body: bytes
    extensions: tuple[int, ...] = ()


class ServiceRequest(NamedTuple):
    """Asks for the URLs of services.

    Source: RFC2608 8.1
    """

    previous_responders: str
    service_type: str
    scopes: str
    predicate: str
    spi: str


class AttributeRequest(NamedTuple):
    """Asks for the attributes of a service, or of all of a type.

    Source: RFC2608 10.3
    """

    previous_responders: str
    url: str
    scopes: str
    tags: str
    spi: str


class ServiceTypeRequest(NamedTuple):
    """Asks for the types of services; a naming authority of None asks for those of all.

    Source: RFC2608 10.1
    """

    previous_responders: str
    naming_authority: str | None
    scopes: str


Request = ServiceRequest | AttributeRequest | ServiceTypeRequest

_TEXT = construct.PascalString(construct.Int16ub, "utf8")
_SERVICE_REQUEST = construct.Struct(*(name / _TEXT for name in ServiceRequest._fields))
_ATTRIBUTE_REQUEST = construct.Struct(*(name / _TEXT for name in AttributeRequest._fields))
_ALL_AUTHORITIES: Final = 0xFFFF
_SERVICE_TYPE_REQUEST = construct.Struct(
    "previous_responders" / _TEXT,
    "authority_length" / construct.Int16ub,
    "naming_authority"
    / construct.If(
        construct.this.authority_length != _ALL_AUTHORITIES,
        construct.StringEncoded(construct.Bytes(construct.this.authority_length), "utf8"),
    ),
    "scopes" / _TEXT,
)
_URL_ENTRY = construct.Struct(
    construct.Const(0, construct.Int8ub),
    "lifetime" / construct.Int16ub,
    "url" / _TEXT,
    construct.Const(0, construct.Int8ub),  # no authentication blocks
)
_SERVICE_REPLY = construct.Struct(
    "error_code" / construct.Int16ub,
    "entries" / construct.PrefixedArray(construct.Int16ub, _URL_ENTRY),
)
_ATTRIBUTE_REPLY = construct.Struct(
    "error_code" / construct.Int16ub, "attributes" / _TEXT, construct.Const(0, construct.Int8ub)
)
_SERVICE_TYPE_REPLY = construct.Struct("error_code" / construct.Int16ub, "service_types" / _TEXT)
_SA_ADVERT = construct.Struct(
    "url" / _TEXT, "scopes" / _TEXT, "attributes" / _TEXT, construct.Const(0, construct.Int8ub)
)


class PacketError(Exception):
    """Says that a message cannot be answered with what it asks for.

    code    what a reply says
    """

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def unpack(message: bytes) -> Packet:
    """Takes a message apart.

    raises    PacketError when it is none
    """
    try:
        header = SlpHeader.unpack(message)
    except LayoutError as error:
        raise PacketError(ErrorCode.PARSE_ERROR, str(error)) from None
    if header.version != VERSION:
        raise PacketError(ErrorCode.VERSION_NOT_SUPPORTED, f"version {header.version}")
    start = SlpHeader.size + header.language_tag_length
    if (
        header.length != len(message)
        or not 0 < header.language_tag_length <= MAX_LANGUAGE_BYTES
        or start > len(message)
    ):
        raise PacketError(ErrorCode.PARSE_ERROR, "a length that is not that of the message")
    try:
        language = message[SlpHeader.size : start].decode("ascii")
    except UnicodeDecodeError:
        raise PacketError(ErrorCode.PARSE_ERROR, "a language tag that is not ASCII") from None
    return Packet(header, language, message[start:], tuple(_extensions(message, header.next_extension_offset)))


def _extensions(message: bytes, offset: int) -> Iterator[int]:
    """Yields the identifiers of the extensions of a message; each stands behind the one before."""
    while offset:
        try:
            found = ExtensionHeader.unpack(message, offset)
        except LayoutError as error:
            raise PacketError(ErrorCode.PARSE_ERROR, str(error)) from None
        yield found.extension_id
        if 0 < found.next_extension_offset <= offset:
            raise PacketError(ErrorCode.PARSE_ERROR, "extensions that go round in circles")
        offset = found.next_extension_offset


def unpack_request(packet: Packet) -> Request:
    """Reads the body of a request; extensions that need not be understood are passed over.

    raises    PacketError when it is none
    """
    if any(identifier in MANDATORY for identifier in packet.extensions):
        raise PacketError(ErrorCode.OPTION_NOT_UNDERSTOOD, "an extension")
    try:
        match packet.header.function_id:
            case Function.SRV_RQST:
                found = _SERVICE_REQUEST.parse(packet.body)
                return ServiceRequest(*(str(found[name]) for name in ServiceRequest._fields))
            case Function.ATTR_RQST:
                found = _ATTRIBUTE_REQUEST.parse(packet.body)
                return AttributeRequest(*(str(found[name]) for name in AttributeRequest._fields))
            case Function.SRV_TYPE_RQST:
                found = _SERVICE_TYPE_REQUEST.parse(packet.body)
                authority = None if found.naming_authority is None else str(found.naming_authority)
                return ServiceTypeRequest(str(found.previous_responders), authority, str(found.scopes))
    except (construct.ConstructError, UnicodeDecodeError) as error:
        raise PacketError(ErrorCode.PARSE_ERROR, str(error)) from None
    raise PacketError(ErrorCode.MESSAGE_NOT_SUPPORTED, f"function {packet.header.function_id}")


def pack(function: Function, body: bytes, xid: int, language: str, *, overflow: bool = False) -> bytes:
    """Returns a message."""
    tag = language.encode("ascii")
    header = SlpHeader(
        function_id=function,
        length=SlpHeader.size + len(tag) + len(body),
        overflow=overflow,
        xid=xid,
        language_tag_length=len(tag),
    )
    return header.pack() + tag + body


def service_reply(code: ErrorCode, urls: tuple[str, ...] = (), lifetime_s: int = 0) -> bytes:
    """Returns the body of a reply with the URLs of services.

    Source: RFC2608 8.2
    """
    entries = [{"lifetime": lifetime_s, "url": url} for url in urls]
    return bytes(_SERVICE_REPLY.build({"error_code": code, "entries": entries}))


def attribute_reply(code: ErrorCode, attributes: str = "") -> bytes:
    """Returns the body of a reply with attributes.

    Source: RFC2608 10.4
    """
    return bytes(_ATTRIBUTE_REPLY.build({"error_code": code, "attributes": attributes}))


def service_type_reply(code: ErrorCode, service_types: str = "") -> bytes:
    """Returns the body of a reply with the types of services.

    Source: RFC2608 10.2
    """
    return bytes(_SERVICE_TYPE_REPLY.build({"error_code": code, "service_types": service_types}))


def agent_advertisement(url: str, *, scopes: str, attributes: str) -> bytes:
    """Returns the body of what a service agent says of itself.

    Source: RFC2608 8.6
    """
    return bytes(_SA_ADVERT.build({"url": url, "scopes": scopes, "attributes": attributes}))
