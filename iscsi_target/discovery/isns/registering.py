"""What a registration makes of an entity: functions from entity and request to entity.

A source that is no registered node may register an entity all the same, as open-isns' `isnsadm` does; it then owns it.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from iscsi_target.discovery.isns.attributes import Attribute, Tag, Word, read_number, text
from iscsi_target.discovery.isns.database import MAX_NODES, MAX_PORTALS, Database, Entity, without
from iscsi_target.discovery.isns.faults import Refused, Status
from iscsi_target.discovery.isns.forms import name_value, normalised
from iscsi_target.discovery.isns.messages import Request
from iscsi_target.discovery.isns.objects import KEYS, Kind, Object, Values, read_objects

# What only the server gives. Source: RFC4171 6.2.4, 6.2.7, 6.3.6, 6.4.4, 6.4.5
OF_THE_SERVER: Final = {
    Tag.TIMESTAMP,
    Tag.ENTITY_INDEX,
    Tag.PORTAL_INDEX,
    Tag.ISCSI_NODE_INDEX,
    Tag.ISCSI_SCN_BITMAP,
}
INDEX: Final[Mapping[Kind, int]] = {
    Kind.ENTITY: Tag.ENTITY_INDEX,
    Kind.PORTAL: Tag.PORTAL_INDEX,
    Kind.NODE: Tag.ISCSI_NODE_INDEX,
}
MAX_TAGS: Final = MAX_NODES * MAX_PORTALS
MAX_NODE_TYPE: Final = 7  # all three of them


class Terms(NamedTuple):
    """What the server grants.

    period_s          how long a registration lasts that asks for nothing
    max_period_s      how long one lasts at most
    min_esi_s, max_esi_s    between which the interval of inquiries is
    controls    names of those who may change discovery domains, and see everything
    """

    period_s: int = 600
    max_period_s: int = 86400
    min_esi_s: int = 10
    max_esi_s: int = 3600
    controls: frozenset[str] = frozenset()


class Registered(NamedTuple):
    """What a registration comes to.

    entity     how the entity is to be
    objects    what was registered, as it is now
    """

    entity: Entity
    objects: tuple[Object, ...]


def registered(database: Database, request: Request, terms: Terms) -> Registered:
    """Returns what a registration makes of the entity that it is about; the database stays as it is.

    raises    Refused
    Source: RFC4171 5.6.5.1
    """
    keys = read_objects(attribute for attribute in normalised(request.key) if attribute.value)
    if len(keys) > 1:
        raise Refused(Status.INVALID_REGISTRATION, "a message key of several objects")
    key = keys[0] if keys else None
    blocks = read_objects(normalised(request.operating), key)
    entity = _entity(database, request.source, key, blocks)
    if request.replace:  # the entity of the source when no object is named, as isnsadm --replace of open-isns wants it
        gone = Object(Kind.ENTITY, entity.values) if key is None else key
        entity = without(entity, gone.kind, gone.key)
    entity = _on_terms(_Draft(entity, database).with_all(blocks), terms)
    return Registered(entity, tuple(_as_it_is(entity, block) for block in blocks if block.kind is not Kind.GROUP))


def _entity(database: Database, source: str, key: Object | None, blocks: Iterable[Object]) -> Entity:
    """Returns the entity that a registration is about, a new one when there is none; without a name it gets one.

    raises    Refused when it belongs to another source
    """
    name = name_value(source)
    identifiers = [value for each in blocks if (value := each.values.get(Tag.ENTITY_IDENTIFIER))]
    if identifiers:
        found = database.entities.get(identifiers[0])
    elif key is not None and (holder := database.entity_of(key.kind, key.key)) is not None:
        found = holder
    else:
        found = database.entity_of_source(source, name)
    if found is None:
        index = database.next_index()
        identifier = identifiers[0] if identifiers else _assigned(database, source)
        return Entity(identifier, source, {Tag.ENTITY_IDENTIFIER: identifier, Tag.ENTITY_INDEX: index})
    if not found.belongs_to(source, name):
        raise Refused(Status.SOURCE_UNAUTHORIZED, "the network entity is another's")
    return found


def _assigned(database: Database, source: str) -> bytes:
    """Returns the identifier of an entity whose client gives none.

    Source: RFC4171 6.2.1
    """
    for number in range(len(database.entities) + 1):
        identifier = text(Tag.ENTITY_IDENTIFIER, f"{source}#{number}" if number else source).value
        if identifier not in database.entities:
            return identifier
    raise AssertionError("more identifiers are taken than there are entities")


class _Draft:
    """An entity while objects are registered in it."""

    def __init__(self, entity: Entity, database: Database) -> None:
        self._entity = entity
        self._database = database
        self._values = entity.values
        self._portals = dict(entity.portals)
        self._nodes = dict(entity.nodes)
        self._tags = dict(entity.tags)

    def with_all(self, blocks: Iterable[Object]) -> Entity:
        """Returns the entity with objects registered in it, or changed."""
        for block in blocks:
            self._add(block)
        return self._entity._replace(values=self._values, portals=self._portals, nodes=self._nodes, tags=self._tags)

    def _add(self, block: Object) -> None:
        if block.kind is Kind.ENTITY:
            if (block.values[Tag.ENTITY_IDENTIFIER] or self._entity.identifier) != self._entity.identifier:
                raise Refused(Status.INVALID_REGISTRATION, "two network entities")
            self._values = _merged(self._values, block, self._database)
            return
        key = block.key
        match block.kind:
            case Kind.PORTAL:
                self._portals[key] = _merged(self._portals.get(key), block, self._database)
            case Kind.NODE:
                values = self._nodes[key[0]] = _merged(self._nodes.get(key[0]), block, self._database)
                if not 0 < read_number(values.get(Tag.ISCSI_NODE_TYPE, b"\0\0\0\0")) <= MAX_NODE_TYPE:
                    raise Refused(Status.INVALID_REGISTRATION, "a storage node without its type")
            case Kind.GROUP:
                name, *portal = key
                if len(self._tags) >= MAX_TAGS:
                    raise Refused(Status.INVALID_REGISTRATION, "too many portal groups")
                self._tags[name, tuple(portal)] = block.values.get(Tag.PORTAL_GROUP_TAG, b"")


def _merged(had: Values | None, block: Object, database: Database) -> Values:
    """Returns the attributes of an object after a registration; an empty value removes one."""
    values = dict(had) if had is not None else {tag: block.values[tag] for tag in KEYS[block.kind]}
    for tag, value in block.values.items():
        if tag not in OF_THE_SERVER and tag not in KEYS[block.kind]:
            values[tag] = value
    if INDEX[block.kind] not in values:
        values[INDEX[block.kind]] = database.next_index()
    return {tag: value for tag, value in values.items() if value}


def _on_terms(entity: Entity, terms: Terms) -> Entity:
    """Returns an entity with the period and intervals that the server grants.

    Source: RFC4171 6.2.6, 6.3.4
    """
    portals = {key: _inquired(values, terms) for key, values in entity.portals.items()}
    period_s = read_number(entity.values.get(Tag.REGISTRATION_PERIOD, b"\0\0\0\0"))
    if not period_s and not any(Tag.ESI_PORT in values for values in portals.values()):
        period_s = terms.period_s
    granted = Word(number=min(period_s, terms.max_period_s)).pack()
    return entity._replace(values={**entity.values, Tag.REGISTRATION_PERIOD: granted}, portals=portals)


def _inquired(values: Values, terms: Terms) -> Values:
    if Tag.ESI_PORT not in values:
        return {tag: value for tag, value in values.items() if tag != Tag.ESI_INTERVAL}
    asked_s = read_number(values.get(Tag.ESI_INTERVAL, b"\0\0\0\0")) or terms.max_esi_s
    granted = Word(number=min(max(asked_s, terms.min_esi_s), terms.max_esi_s)).pack()
    return {**values, Tag.ESI_INTERVAL: granted}


def _as_it_is(entity: Entity, block: Object) -> Object:
    """Returns an object as it was registered, with what the server has made of it.

    Source: RFC4171 5.7.5.1
    """
    match block.kind:
        case Kind.PORTAL:
            values = entity.portals[block.key]
        case Kind.NODE:
            values = entity.nodes[block.key[0]]
        case _:
            values = entity.values
    shown = {*block.values, Tag.REGISTRATION_PERIOD, Tag.ESI_INTERVAL}
    return Object(block.kind, {tag: value for tag, value in values.items() if tag in shown})


def deregistered(request: Request) -> list[Object]:
    """Returns the objects that a deregistration names.

    raises    Refused when it names none, or with more than their keys
    Source: RFC4171 5.6.5.4
    """
    keys = {tag for tags in KEYS.values() for tag in tags}
    found = read_objects(attribute for attribute in normalised(request.operating) if attribute.tag in keys)
    if not found:
        raise Refused(Status.INVALID_DEREGISTRATION, "nothing to deregister")
    return found


def attributes_of(objects: Iterable[Object]) -> tuple[Attribute, ...]:
    """Returns the attributes of objects one after the other."""
    return tuple(attribute for each in objects for attribute in each.attributes)
