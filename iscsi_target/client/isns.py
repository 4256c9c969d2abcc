"""Asks an iSNS server for targets, as an initiator that is not registered itself does.

What the server shows to such a one is its policy; many show everything when no discovery domains are configured.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from iscsi_target.client.failures import QueryRefused
from iscsi_target.client.targets import DiscoveredTarget
from iscsi_target.client.url import parse_portal
from iscsi_target.discovery.isns.attributes import (
    MAX_PORT,
    UDP,
    Attribute,
    Tag,
    number,
    read_address,
    read_number,
    read_text,
)
from iscsi_target.discovery.isns.faults import Refused, Status, status_text
from iscsi_target.discovery.isns.messages import (
    Answer,
    Function,
    NodeType,
    Request,
    pack_request,
    unpack_answer,
)
from iscsi_target.discovery.isns.objects import Kind, Object, read_objects
from iscsi_target.discovery.isns.pdu import FramingError, Message, MessageReader, pack

SCHEME: Final = "isns://"
DEFAULT_PORT: Final = 3205  # RFC4171 2.9
TRANSACTION: Final = 1
RECEIVE_BYTES: Final = 1 << 16
WANTED: Final = (
    Tag.ISCSI_NAME,
    Tag.PG_ISCSI_NAME,
    Tag.PG_PORTAL_IP_ADDRESS,
    Tag.PG_PORTAL_PORT,
    Tag.PORTAL_GROUP_TAG,
)


async def find_targets(url: str, initiator_name: str) -> list[DiscoveredTarget]:
    """Returns the targets that an iSNS server shows, each with the portals that lead to it.

    url       isns://host[:port]
    raises    QueryRefused; OSError when nobody is there; ValueError for a wrong URL
    Source: RFC4171 5.6.5.2
    """
    host, port = parse_portal(url.removeprefix(SCHEME).removesuffix("/"), DEFAULT_PORT)
    key = (number(Tag.ISCSI_NODE_TYPE, NodeType.TARGET),)
    request = Request(Function.DEV_ATTR_QRY, initiator_name, key, tuple(Attribute(tag) for tag in WANTED))
    try:
        answer = unpack_answer(await _ask(host, port, pack(pack_request(request, TRANSACTION))))
        return _targets(_objects(answer))
    except (FramingError, Refused) as error:
        raise QueryRefused(0, f"what the iSNS server answers is not understood: {error}") from error


async def _ask(host: str, port: int, request: bytes) -> Message:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        messages = MessageReader()
        while received := await reader.read(RECEIVE_BYTES):
            for message in messages.feed(received):
                if message.transaction_id == TRANSACTION:
                    return message
        raise QueryRefused(0, "the iSNS server closes the connection without an answer")
    finally:
        writer.close()


def _objects(answer: Answer) -> list[Object]:
    if answer.status != Status.SUCCESSFUL:
        raise QueryRefused(answer.status, f"the iSNS server refuses the query: {status_text(answer.status)}")
    return read_objects(attribute for attribute in answer.operating if attribute.tag in WANTED)


def _targets(objects: Iterable[Object]) -> list[DiscoveredTarget]:
    """Puts nodes and portal groups together; a node without any is a target that nobody reaches."""
    addresses: dict[str, dict[str, None]] = {}
    for found in objects:
        if found.kind is Kind.NODE:
            addresses.setdefault(read_text(found.key[0]), {})
        elif found.kind is Kind.GROUP and (address := _address(found)):
            addresses.setdefault(read_text(found.key[0]), {})[address] = None
    return [DiscoveredTarget(name, tuple(found)) for name, found in addresses.items()]


def _address(group: Object) -> str:
    """Returns "host:port,tag"; nothing for a portal that is none for iSCSI."""
    _, host, port = group.key
    place, tag = read_number(port), group.values.get(Tag.PORTAL_GROUP_TAG)
    if not tag or place & UDP:
        return ""
    address = read_address(host)
    shown = f"[{address}]" if ":" in address else address
    return f"{shown}:{place & MAX_PORT},{read_number(tag)}"
