"""The machine of a service agent: a request in, a reply or nothing out.

To a multicast request only who has something to say replies; one that was sent to us alone is always answered, with an
error where it is wrong. A reply that is longer than a datagram may be is cut and marked, so that the asker comes again
by TCP.

Source: RFC2608 6, 7, 8, 10
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from iscsi_target.discovery.slp.packets import (
    MAX_LENGTH,
    AttributeRequest,
    ErrorCode,
    Function,
    Packet,
    PacketError,
    ServiceRequest,
    ServiceTypeRequest,
    SlpHeader,
    agent_advertisement,
    attribute_reply,
    pack,
    service_reply,
    service_type_reply,
    unpack,
    unpack_request,
)
from iscsi_target.discovery.slp.predicate import Predicate, parse
from iscsi_target.discovery.slp.services import SERVICE_TYPE, Service
from iscsi_target.discovery.slp.strings import StringError, attribute_list, chosen, folded, merged, split_list

LANGUAGE: Final = "en"
SERVICE_AGENT: Final = "service:service-agent"
DIRECTORY_AGENT: Final = "service:directory-agent"
MAX_DATAGRAM_BYTES: Final = 1400  # RFC2608 7
MAX_URLS: Final = 65535  # what a reply can count
MAX_TEXT_BYTES: Final = 65535  # what the length of a text can say
URL_ENTRY_BYTES: Final = len(service_reply(ErrorCode.SUCCESS, ("",))) - len(service_reply(ErrorCode.SUCCESS))

TYPES: Final = (SERVICE_TYPE, "service:iscsi")  # and the abstract type of it; RFC2608 4.1
REQUESTS: Final = frozenset({Function.SRV_RQST, Function.ATTR_RQST, Function.SRV_TYPE_RQST})


class Offer(NamedTuple):
    """What an agent advertises.

    scopes        in which it does
    lifetime_s    how long a URL may be kept, 1..65535
    """

    services: tuple[Service, ...]
    scopes: tuple[str, ...]
    lifetime_s: int


class Asking(NamedTuple):
    """How a request came.

    local_host     the address at which the asker reaches us
    multicast      whether others were asked too
    max_bytes      of a reply
    """

    local_host: str
    multicast: bool = False
    max_bytes: int = MAX_LENGTH


class Reply(NamedTuple):
    """What is replied.

    is_empty     whether there is nothing in it
    overflow     whether it is not all
    """

    function: Function
    body: bytes
    is_empty: bool = False
    overflow: bool = False


def answer(message: bytes, offer: Offer, asking: Asking) -> bytes:
    """Returns the reply to a message, and nothing when there is none to be sent.

    Source: RFC2608 7
    """
    try:
        packet = unpack(message)
    except PacketError:
        return b""  # it is not known what the reply to it would be
    if packet.header.function_id not in REQUESTS:
        return b""
    multicast = asking.multicast or packet.header.request_mcast
    try:
        reply = _Answering(packet, offer, asking).reply()
    except PacketError as error:
        reply = _error(packet, error.code)
    except StringError:
        reply = _error(packet, ErrorCode.PARSE_ERROR)
    if reply is None or (multicast and reply.is_empty):
        return b""
    return pack(reply.function, reply.body, packet.header.xid, packet.language, overflow=reply.overflow)


def _error(packet: Packet, code: ErrorCode) -> Reply:
    match packet.header.function_id:
        case Function.SRV_RQST:
            return Reply(Function.SRV_RPLY, service_reply(code), is_empty=True)
        case Function.ATTR_RQST:
            return Reply(Function.ATTR_RPLY, attribute_reply(code), is_empty=True)
        case _:
            return Reply(Function.SRV_TYPE_RPLY, service_type_reply(code), is_empty=True)


class _Answering:
    """One request, and what is known when it is answered."""

    def __init__(self, packet: Packet, offer: Offer, asking: Asking) -> None:
        self._packet = packet
        self._offer = offer
        self._host = asking.local_host
        self._room_bytes = asking.max_bytes - SlpHeader.size - len(packet.language)

    def reply(self) -> Reply | None:
        """Returns the reply; None when there is none.

        raises    PacketError, StringError
        """
        request = unpack_request(self._packet)
        if folded(self._host) in split_list(request.previous_responders):
            return None
        match request:
            case ServiceRequest():
                return self._services(request)
            case AttributeRequest():
                return self._attributes(request)
            case ServiceTypeRequest():
                return self._types(request)

    def _services(self, request: ServiceRequest) -> Reply | None:
        """Source: RFC2608 8.1"""
        _refuse_spi(request.spi)
        predicate = parse(request.predicate)
        kind = folded(request.service_type)
        if kind == DIRECTORY_AGENT:
            return None
        if kind == SERVICE_AGENT:
            return self._agent(request, predicate)
        self._check_scopes(request.scopes)
        if request.predicate:
            self._check_language()
        found = [
            each.url(self._host) for each in self._offer.services if kind in TYPES and predicate.holds(each.searchable)
        ]
        urls = tuple(self._fitting(dict.fromkeys(found)))
        body = service_reply(ErrorCode.SUCCESS, urls, self._offer.lifetime_s)
        return Reply(Function.SRV_RPLY, body, not found, len(urls) < len(set(found)))

    def _fitting(self, urls: Iterable[str]) -> Iterator[str]:
        """Yields as many URLs as a reply has room for."""
        room_bytes = self._room_bytes - len(service_reply(ErrorCode.SUCCESS))
        for url in islice(urls, MAX_URLS):
            room_bytes -= URL_ENTRY_BYTES + len(url)
            if room_bytes < 0:
                return
            yield url

    def _agent(self, request: ServiceRequest, predicate: Predicate) -> Reply | None:
        """Returns what the agent says of itself, to who asks in one of its scopes or in none.

        Source: RFC2608 8.6
        """
        attributes = {"service-type": (SERVICE_TYPE,)}
        asked = set(split_list(request.scopes))
        if (asked and not asked & self._scopes) or not predicate.holds(attributes):
            return None
        url = f"{SERVICE_AGENT}://{f'[{self._host}]' if ':' in self._host else self._host}"
        body = agent_advertisement(url, scopes=",".join(self._offer.scopes), attributes=attribute_list(attributes))
        return Reply(Function.SA_ADVERT, body)

    def _attributes(self, request: AttributeRequest) -> Reply:
        """Source: RFC2608 10.3"""
        _refuse_spi(request.spi)
        self._check_scopes(request.scopes)
        self._check_language()
        asked = folded(request.url)
        of_type = asked in TYPES
        found = [each for each in self._offer.services if of_type or folded(each.url(self._host)) == asked]
        text = attribute_list(chosen(merged(each.attributes for each in found), split_list(request.tags)))
        empty = attribute_reply(ErrorCode.SUCCESS)
        if len(text.encode()) > min(self._room_bytes - len(empty), MAX_TEXT_BYTES):
            return Reply(Function.ATTR_RPLY, empty, overflow=True)
        return Reply(Function.ATTR_RPLY, attribute_reply(ErrorCode.SUCCESS, text), not text)

    def _types(self, request: ServiceTypeRequest) -> Reply:
        """Source: RFC2608 10.1"""
        self._check_scopes(request.scopes)
        asked = not request.naming_authority  # all, or that of the types here: IANA, which has no name
        found = SERVICE_TYPE if asked and self._offer.services else ""
        return Reply(Function.SRV_TYPE_RPLY, service_type_reply(ErrorCode.SUCCESS, found), not found)

    @property
    def _scopes(self) -> set[str]:
        return set(map(folded, self._offer.scopes))

    def _check_scopes(self, scopes: str) -> None:
        if not set(split_list(scopes)) & self._scopes:
            raise PacketError(ErrorCode.SCOPE_NOT_SUPPORTED, f"scopes {scopes!r}")

    def _check_language(self) -> None:
        """Refuses a language in which there are no attributes.

        Source: RFC2608 7
        """
        if folded(self._packet.language).partition("-")[0] != LANGUAGE:
            raise PacketError(ErrorCode.LANGUAGE_NOT_SUPPORTED, f"language {self._packet.language!r}")


def _refuse_spi(spi: str) -> None:
    if spi:
        raise PacketError(ErrorCode.AUTHENTICATION_UNKNOWN, "nothing here is signed")
