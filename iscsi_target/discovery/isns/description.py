"""What a target tells an iSNS server about itself: a network entity with its portals, nodes and portal groups."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from iscsi_target.discovery.isns.attributes import UDP, Attribute, Tag, address, number, text
from iscsi_target.discovery.isns.messages import Function, NodeType, Request, Scn

PROTOCOL_ISCSI: Final = 2  # RFC4171 6.2.2
SCN_WANTED: Final = Scn.INITIATOR_AND_SELF_ONLY | Scn.OBJECT_REMOVED  # that of our own objects is what matters


class PortalEntry(NamedTuple):
    """A portal.

    host, port     where initiators find it; an IP address
    tag            of its portal group
    status_port    where it takes ESI and SCN; 0: nowhere
    """

    host: str
    port: int
    tag: int
    status_port: int = 0


class NodeEntry(NamedTuple):
    """A target.

    tags            of the portal groups that lead to it
    auth_methods    what it takes to log in, as in the key AuthMethod
    """

    name: str
    alias: str
    tags: tuple[int, ...]
    auth_methods: str


class Description(NamedTuple):
    """All of it.

    entity             the entity identifier, which nobody else has
    period_s           how long the server keeps it without hearing of us
    esi_interval_s     how often the server is to look after us; 0: never
    status_by_udp      whether ESI and SCN come by UDP rather than TCP
    """

    entity: str
    nodes: tuple[NodeEntry, ...]
    portals: tuple[PortalEntry, ...]
    period_s: int
    esi_interval_s: int = 0
    status_by_udp: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the targets."""
        return tuple(node.name for node in self.nodes)

    @property
    def notifiable(self) -> bool:
        """Whether there is a portal that takes notifications."""
        return any(portal.status_port for portal in self.portals)


def registration(wanted: Description, source: str) -> Request:
    """Returns the request that registers what is wanted, instead of all that the entity had before.

    source    one of the names; the server must not know it as another entity's
    Source: RFC4171 5.6.5.1
    """
    entity = text(Tag.ENTITY_IDENTIFIER, wanted.entity)
    operating = [
        entity,
        number(Tag.ENTITY_PROTOCOL, PROTOCOL_ISCSI),
        number(Tag.REGISTRATION_PERIOD, wanted.period_s),
    ]
    for portal in wanted.portals:
        operating += _portal(portal, wanted)
    for node in wanted.nodes:
        operating += _node(node, wanted.portals)
    return Request(Function.DEV_ATTR_REG, source, (entity,), tuple(operating), replace=True)


def subscription(name: str) -> Request:
    """Returns the request to be told when objects of a node are removed.

    Source: RFC4171 5.6.5.5
    """
    return Request(Function.SCN_REG, name, (text(Tag.ISCSI_NAME, name),), (number(Tag.ISCSI_SCN_BITMAP, SCN_WANTED),))


def inquiry(name: str, entity: str) -> Request:
    """Returns a query for the nodes of our own entity, which keeps them registered and shows which are there.

    Source: RFC4171 6.2.6
    """
    key = text(Tag.ENTITY_IDENTIFIER, entity)
    return Request(Function.DEV_ATTR_QRY, name, (key,), (Attribute(Tag.ENTITY_IDENTIFIER), Attribute(Tag.ISCSI_NAME)))


def deregistration(name: str, entity: str) -> Request:
    """Returns the request that removes an entity and all that is in it.

    Source: RFC4171 5.6.5.4
    """
    return Request(Function.DEV_DEREG, name, (), (text(Tag.ENTITY_IDENTIFIER, entity),))


def _portal(portal: PortalEntry, wanted: Description) -> Iterator[Attribute]:
    yield address(Tag.PORTAL_IP_ADDRESS, portal.host)
    yield number(Tag.PORTAL_PORT, portal.port)
    if portal.status_port:
        place = portal.status_port | (UDP if wanted.status_by_udp else 0)
        if wanted.esi_interval_s:
            yield number(Tag.ESI_INTERVAL, wanted.esi_interval_s)
            yield number(Tag.ESI_PORT, place)
        yield number(Tag.SCN_PORT, place)


def _node(node: NodeEntry, portals: Sequence[PortalEntry]) -> Iterator[Attribute]:
    yield text(Tag.ISCSI_NAME, node.name)
    yield number(Tag.ISCSI_NODE_TYPE, NodeType.TARGET)
    if node.alias:
        yield text(Tag.ISCSI_ALIAS, node.alias)
    yield text(Tag.ISCSI_AUTH_METHOD, node.auth_methods)
    yield from _groups(node, portals)


def _groups(node: NodeEntry, portals: Sequence[PortalEntry]) -> Iterator[Attribute]:
    """Yields each portal group tag with the portals of the group; an empty one with those that do not lead here.

    Source: RFC4171 5.6.5.1
    """

    def tag_of(portal: PortalEntry) -> int:
        return portal.tag if portal.tag in node.tags else -1

    for tag, reached in groupby(sorted(portals, key=tag_of), tag_of):
        yield number(Tag.PORTAL_GROUP_TAG, tag) if tag >= 0 else Attribute(Tag.PORTAL_GROUP_TAG)
        for portal in reached:
            yield address(Tag.PG_PORTAL_IP_ADDRESS, portal.host)
            yield number(Tag.PG_PORTAL_PORT, portal.port)
