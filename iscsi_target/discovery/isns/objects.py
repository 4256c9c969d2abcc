"""Objects: network entities, portals, storage nodes and portal groups, as attributes in a row describe them.

An object begins with its key attributes. A portal group may also stand inside the node or portal that it belongs to: a
portal group tag, and then every portal or node that is reached with it.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple

from iscsi_target.discovery.isns.attributes import Attribute, Tag
from iscsi_target.discovery.isns.faults import Refused, Status


class Kind(Enum):
    """What an object is."""

    ENTITY = "network entity"
    PORTAL = "portal"
    NODE = "storage node"
    GROUP = "portal group"


KEYS: Final[Mapping[Kind, tuple[int, ...]]] = {
    Kind.ENTITY: (Tag.ENTITY_IDENTIFIER,),
    Kind.PORTAL: (Tag.PORTAL_IP_ADDRESS, Tag.PORTAL_PORT),
    Kind.NODE: (Tag.ISCSI_NAME,),
    Kind.GROUP: (Tag.PG_ISCSI_NAME, Tag.PG_PORTAL_IP_ADDRESS, Tag.PG_PORTAL_PORT),
}

# What an object may have beside its key. Source: RFC4171 6.1
OTHERS: Final[Mapping[Kind, tuple[int, ...]]] = {
    Kind.ENTITY: (
        Tag.ENTITY_PROTOCOL,
        Tag.MANAGEMENT_IP_ADDRESS,
        Tag.TIMESTAMP,
        Tag.PROTOCOL_VERSION_RANGE,
        Tag.REGISTRATION_PERIOD,
        Tag.ENTITY_INDEX,
    ),
    Kind.PORTAL: (
        Tag.PORTAL_SYMBOLIC_NAME,
        Tag.ESI_INTERVAL,
        Tag.ESI_PORT,
        Tag.PORTAL_INDEX,
        Tag.SCN_PORT,
        Tag.PORTAL_SECURITY_BITMAP,
    ),
    Kind.NODE: (
        Tag.ISCSI_NODE_TYPE,
        Tag.ISCSI_ALIAS,
        Tag.ISCSI_SCN_BITMAP,
        Tag.ISCSI_NODE_INDEX,
        Tag.ISCSI_AUTH_METHOD,
    ),
    Kind.GROUP: (Tag.PORTAL_GROUP_TAG,),
}

KIND_OF: Final[Mapping[int, Kind]] = {tag: kind for kind in Kind for tag in (*KEYS[kind], *OTHERS[kind])}

Values = dict[int, bytes]


class Object(NamedTuple):
    """An object.

    values    its attributes by tag, those of the key first
    """

    kind: Kind
    values: Values

    @property
    def key(self) -> tuple[bytes, ...]:
        """The values of its key attributes; raises Refused when one is missing."""
        values = tuple(self.values.get(tag, b"") for tag in KEYS[self.kind])
        if not all(values):
            raise Refused(Status.MESSAGE_FORMAT_ERROR, f"a {self.kind.value} without its key")
        return values

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """Its attributes as they are sent."""
        return tuple(Attribute(tag, value) for tag, value in self.values.items())


def group(name: bytes, portal: Sequence[bytes], tag: bytes) -> Object:
    """Returns a portal group: how a node and a portal belong together.

    name      value of the node's iSCSI name
    portal    values of the portal's key
    tag       value of the portal group tag; empty: the node is not reached through the portal
    Source: RFC4171 6.5
    """
    keys = dict(zip(KEYS[Kind.GROUP], (name, *portal), strict=True))
    return Object(Kind.GROUP, keys | {Tag.PORTAL_GROUP_TAG: tag})


def read_objects(attributes: Iterable[Attribute], beside: Object | None = None) -> list[Object]:
    """Puts attributes together to objects, in the order in which they are sent.

    beside    the object that attributes before the first key belong to; it is returned only when there are some
    raises    Refused for an attribute that is not known, or belongs to no object
    Source: RFC4171 5.6.5.1
    """
    return list(_Reading(beside).objects(attributes))


class _Reading:
    """The state while attributes are put together."""

    def __init__(self, beside: Object | None) -> None:
        self._beside = beside
        self._open = Object(beside.kind, dict(beside.values)) if beside is not None else None  # attributes go to it
        self._tag: bytes | None = None  # the portal group tag that holds for what follows in a node or portal
        self._portal: tuple[bytes, ...] = ()  # the address of a portal in a node, until its port comes

    def objects(self, attributes: Iterable[Attribute]) -> Iterator[Object]:
        for attribute in attributes:
            kind = KIND_OF.get(attribute.tag)
            if kind is None:
                raise Refused(Status.ATTRIBUTE_NOT_IMPLEMENTED, f"attribute {attribute.tag}")
            if kind is Kind.GROUP and self._open is not None and self._open.kind in (Kind.NODE, Kind.PORTAL):
                inside = yield from self._inside(self._open, attribute)
                if inside:
                    continue
            if attribute.tag == KEYS[kind][0]:
                if self._open not in (None, self._beside):
                    yield self._open
                self._open, self._tag = Object(kind, {}), None
            if self._open is None or self._open.kind is not kind:
                raise Refused(Status.MESSAGE_FORMAT_ERROR, f"attribute {attribute.tag} belongs to no {kind.value}")
            self._open.values[attribute.tag] = attribute.value
        if self._open not in (None, self._beside):
            yield self._open

    def _inside(self, owner: Object, attribute: Attribute) -> Generator[Object, None, bool]:
        """Yields the portal group that an attribute inside a node or portal completes; returns whether it is inside."""
        tag, value = attribute
        if tag == Tag.PORTAL_GROUP_TAG:
            self._tag = value
        elif self._tag is None:
            return False
        elif owner.kind is Kind.PORTAL and tag == Tag.PG_ISCSI_NAME:
            yield group(value, owner.key, self._tag)
        elif owner.kind is Kind.NODE and tag == Tag.PG_PORTAL_IP_ADDRESS:
            self._portal = (value,)
        elif owner.kind is Kind.NODE and tag == Tag.PG_PORTAL_PORT and self._portal:
            yield group(owner.key[0], (*self._portal, value), self._tag)
        else:
            return False
        return True
