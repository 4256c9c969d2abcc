"""What is registered with an iSNS server: network entities, each with its portals, nodes and portal groups.

An entity is a value. Who changes one makes another and puts it here, so that a registration that is refused half-way
has changed nothing. Portal groups are not stored: every node and portal of an entity are in one with tag 1, but where
another tag, or none, has been registered.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from iscsi_target.discovery.isns.attributes import Tag, Word, read_number
from iscsi_target.discovery.isns.faults import Refused, Status
from iscsi_target.discovery.isns.messages import NodeType
from iscsi_target.discovery.isns.objects import KEYS, Kind, Object, Values, group

MAX_ENTITIES: Final = 1024
MAX_PORTALS: Final = 64  # of an entity
MAX_NODES: Final = 256  # of an entity
MAX_OBJECTS: Final = 16384  # portals and nodes of all entities
MAX_GROUPS: Final = 65536  # of all entities; a query may have to look at each
DEFAULT_TAG: Final = Word(number=1).pack()  # RFC4171 3.4

PortalKey = tuple[bytes, ...]
Pair = tuple[bytes, PortalKey]  # a node's name and a portal's key
NOTHING: Final[Mapping[PortalKey, Values]] = MappingProxyType({})


class Entity(NamedTuple):
    """A network entity.

    identifier    value of its key
    owner         the source that registered it first
    values        its attributes
    portals       key -> attributes
    nodes         name -> attributes
    tags          value of the portal group tag where one is registered; empty: the node is not reached there
    """

    identifier: bytes
    owner: str
    values: Values
    portals: Mapping[PortalKey, Values] = NOTHING
    nodes: Mapping[bytes, Values] = MappingProxyType({})
    tags: Mapping[Pair, bytes] = MappingProxyType({})

    def objects(self, kind: Kind) -> Iterator[Object]:
        """Yields its objects of a kind."""
        match kind:
            case Kind.ENTITY:
                yield Object(kind, self.values)
            case Kind.PORTAL:
                yield from (Object(kind, values) for values in self.portals.values())
            case Kind.NODE:
                yield from (Object(kind, values) for values in self.nodes.values())
            case Kind.GROUP:
                for name in self.nodes:
                    yield from self.groups(name)

    def groups(self, name: bytes) -> Iterator[Object]:
        """Yields the portal groups of a node: one with every portal through which it is reached.

        Source: RFC4171 3.4
        """
        return self._grouped((name, portal) for portal in self.portals)

    def _grouped(self, pairs: Iterable[Pair]) -> Iterator[Object]:
        for name, portal in pairs:
            tag = self.tags.get((name, portal), DEFAULT_TAG)
            if tag:
                yield group(name, portal, tag)

    def related(self, found: Object, kind: Kind) -> Iterator[Object]:
        """Yields the objects of a kind that belong to one of its objects: by a portal group, or as the whole.

        Source: RFC4171 5.6.5.2
        """
        if kind is found.kind:
            yield found
        elif Kind.ENTITY in (found.kind, kind):
            yield from self.objects(kind)
        elif found.kind is Kind.GROUP:
            name, *portal = found.key
            values = self.nodes[name] if kind is Kind.NODE else self.portals[tuple(portal)]
            yield Object(kind, values)
        else:
            yield from self._beside(found, kind)

    def _beside(self, found: Object, kind: Kind) -> Iterator[Object]:
        """Yields the portal groups of a node or portal, or what is at their other end."""
        if found.kind is Kind.NODE:
            groups = self.groups(found.key[0])
        else:
            groups = self._grouped((name, found.key) for name in self.nodes)
        for each in groups:
            yield each if kind is Kind.GROUP else next(self.related(each, kind))

    @property
    def is_empty(self) -> bool:
        """Says whether nothing is in it, so that it goes.

        Source: RFC4171 5.6.5.4
        """
        return not self.nodes and not self.portals

    def node_type(self, name: bytes) -> NodeType:
        """Returns what a node of it is."""
        return NodeType(read_number(self.nodes[name][Tag.ISCSI_NODE_TYPE]))

    def belongs_to(self, source: str, name: bytes) -> bool:
        """Says whether a source may change it: who registered it, or one of its nodes.

        Source: RFC4171 5.6.1
        """
        return source == self.owner or name in self.nodes


class Database:
    """The entities by their identifiers, and the way to them from what is in them."""

    def __init__(self) -> None:
        self.entities: dict[bytes, Entity] = {}
        self._places: dict[tuple[Kind, tuple[bytes, ...]], bytes] = {}  # an object -> its entity
        self._last_index = 0

    def next_index(self) -> bytes:
        """Returns a number that no object has had, as a value.

        Source: RFC4171 6.2.7, 6.3.6, 6.4.5
        """
        self._last_index = self._last_index % 0xFFFFFFFF + 1
        return Word(number=self._last_index).pack()

    def entity_of(self, kind: Kind, key: tuple[bytes, ...]) -> Entity | None:
        """Returns the entity that an object is in."""
        if kind is Kind.ENTITY:
            return self.entities.get(key[0])
        if kind is Kind.GROUP:
            kind, key = Kind.NODE, key[:1]
        place = self._places.get((kind, key))
        return None if place is None else self.entities[place]

    def entity_of_source(self, source: str, name: bytes) -> Entity | None:
        """Returns the entity that a source belongs to: as one of its nodes, or as who registered it."""
        found = self.entity_of(Kind.NODE, (name,))
        return found or next((each for each in self.entities.values() if each.owner == source), None)

    def put(self, entity: Entity) -> None:
        """Stores an entity instead of the one with its identifier; one with nothing in it is removed.

        raises    Refused when there is no room, or something in it is another's; nothing has changed then
        """
        before = self.entities.get(entity.identifier)
        places = _places(entity)
        if any(self._places.get(place, entity.identifier) != entity.identifier for place in places):
            raise Refused(Status.INVALID_REGISTRATION, "a node or portal of another network entity")
        had = _places(before) if before is not None else set()
        self._check_room(entity, before, len(self._places) - len(had) + len(places))
        for place in had:
            del self._places[place]
        self._places.update(dict.fromkeys(places, entity.identifier))
        if entity.is_empty:
            self.entities.pop(entity.identifier, None)
        else:
            self.entities[entity.identifier] = entity

    def _check_room(self, entity: Entity, before: Entity | None, objects: int) -> None:
        if before is None and len(self.entities) >= MAX_ENTITIES:
            raise Refused(Status.BUSY, f"{MAX_ENTITIES} network entities are registered")
        if len(entity.portals) > MAX_PORTALS or len(entity.nodes) > MAX_NODES:
            raise Refused(Status.INVALID_REGISTRATION, f"more than {MAX_PORTALS} portals or {MAX_NODES} nodes")
        others = sum(len(each.nodes) * len(each.portals) for each in self.entities.values() if each is not before)
        if objects > MAX_OBJECTS or others + len(entity.nodes) * len(entity.portals) > MAX_GROUPS:
            raise Refused(Status.BUSY, f"{MAX_OBJECTS} portals and nodes, or {MAX_GROUPS} portal groups are registered")


def _places(entity: Entity) -> set[tuple[Kind, tuple[bytes, ...]]]:
    nodes: set[tuple[Kind, tuple[bytes, ...]]] = {(Kind.NODE, (name,)) for name in entity.nodes}
    return nodes | {(Kind.PORTAL, key) for key in entity.portals}


def without(entity: Entity, kind: Kind, key: tuple[bytes, ...]) -> Entity:
    """Returns an entity without one of its nodes or portals, or with nothing in it.

    What is registered of portal groups stays as long as the node or the portal does.

    Source: RFC4171 5.6.5.4
    """
    match kind:
        case Kind.ENTITY:
            kept = {tag: entity.values[tag] for tag in (*KEYS[kind], Tag.ENTITY_INDEX) if tag in entity.values}
            return Entity(entity.identifier, entity.owner, kept)
        case Kind.PORTAL:
            entity = entity._replace(portals={each: entity.portals[each] for each in entity.portals if each != key})
        case Kind.NODE:
            entity = entity._replace(nodes={each: entity.nodes[each] for each in entity.nodes if each != key[0]})
        case Kind.GROUP:
            raise Refused(Status.INVALID_DEREGISTRATION, "a portal group goes with its node and portal")
    tags = {
        (name, portal): tag
        for (name, portal), tag in entity.tags.items()
        if name in entity.nodes or portal in entity.portals
    }
    return entity._replace(tags=tags)
