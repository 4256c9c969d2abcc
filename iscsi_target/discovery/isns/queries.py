"""Answers queries: which objects match a message key, and which of their attributes are wanted."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from iscsi_target.discovery.isns.attributes import Attribute, AttributeHeader
from iscsi_target.discovery.isns.database import Database, Entity
from iscsi_target.discovery.isns.faults import Refused, Status
from iscsi_target.discovery.isns.forms import normalised
from iscsi_target.discovery.isns.messages import Answer, Request
from iscsi_target.discovery.isns.objects import KEYS, KIND_OF, OTHERS, Kind, Object

MAX_ANSWER_BYTES: Final = 1 << 20  # more is refused, and is to be asked for with a narrower key

Wanted = Mapping[Kind, frozenset[int]]  # the kinds of objects to return -> the attributes of each
Sees = Callable[[Entity, Object], bool]


def query(database: Database, request: Request, sees: Sees) -> Answer:
    """Returns the objects that match the message key, and those that belong to them; none is no error.

    sees      which objects the source may see
    raises    Refused
    Source: RFC4171 5.6.5.2, 5.7.5.2
    """
    key = normalised(request.key)
    kind = _kind(key)
    wanted = _wanted(request.operating)
    found: list[Attribute] = []
    size_bytes = 0
    for entity in _candidates(database, kind, key):
        for each in _found(entity, kind, key, wanted, sees):
            found.append(each)
            size_bytes += AttributeHeader.size + len(each.value)
            if size_bytes > MAX_ANSWER_BYTES:
                raise Refused(Status.INTERNAL_ERROR, f"more than {MAX_ANSWER_BYTES} bytes match")
    return Answer(Status.SUCCESSFUL, request.key, tuple(found))


def next_object(database: Database, request: Request, sees: Sees) -> Answer:
    """Returns the first object behind the one that the message key names, in the order of their keys.

    An empty key asks for the first. Operating attributes with a value have to match; those without are wanted.

    raises    Refused, also when there is none
    Source: RFC4171 5.6.5.3
    """
    key = normalised(request.key)
    kind = _kind(key)
    if kind is None or tuple(tag for tag, _ in key) != KEYS[kind]:
        raise Refused(Status.INVALID_QUERY, "no key of an object")
    behind = tuple(value for _, value in key)
    operating = normalised(request.operating)
    if any(KIND_OF.get(tag) is not kind for tag, _ in operating):
        raise Refused(Status.INVALID_QUERY, "attributes of another kind of object")
    scope = [attribute for attribute in operating if attribute.value]
    all_of_kind = (
        each
        for entity in database.entities.values()
        for each in entity.objects(kind)
        if each.key > behind and _matches(each, scope) and sees(entity, each)
    )
    found = min(all_of_kind, key=lambda each: each.key, default=None)
    if found is None:
        raise Refused(Status.NO_SUCH_ENTRY, f"no further {kind.value}")
    wanted = {tag for tag, _ in operating} or set(found.values)
    shown = tuple(attribute for attribute in found.attributes if attribute.tag in wanted)
    return Answer(Status.SUCCESSFUL, tuple(Attribute(tag, found.values[tag]) for tag in KEYS[kind]), shown)


def _kind(key: Sequence[Attribute]) -> Kind | None:
    """Returns the one kind of object that a message key is about; None when it is empty."""
    if any(tag not in KIND_OF for tag, _ in key):
        raise Refused(Status.ATTRIBUTE_NOT_IMPLEMENTED, "an unknown attribute in the message key")
    kinds = {KIND_OF[tag] for tag, _ in key}
    if len(kinds) > 1:
        raise Refused(Status.INVALID_QUERY, "a message key of several kinds of objects")
    return next(iter(kinds), None)


def _wanted(operating: Iterable[Attribute]) -> Wanted:
    """Returns what is to be returned: everything when nothing is named. A kind comes always with its key."""
    tags = {tag for tag, _ in operating}
    if not tags:
        return {kind: frozenset({*KEYS[kind], *OTHERS[kind]}) for kind in Kind}
    kinds = {KIND_OF[tag] for tag in tags if tag in KIND_OF}
    return {kind: frozenset({*KEYS[kind], *tags.intersection(OTHERS[kind])}) for kind in Kind if kind in kinds}


def _candidates(database: Database, kind: Kind | None, key: Sequence[Attribute]) -> Iterable[Entity]:
    """Returns the entities in which a match can be; one at most when the key is that of an object."""
    values = {tag: value for tag, value in key if value}
    if kind is not None and values.keys() >= set(KEYS[kind]):
        found = database.entity_of(kind, tuple(values[tag] for tag in KEYS[kind]))
        return () if found is None else (found,)
    return database.entities.values()


def _found(
    entity: Entity, kind: Kind | None, key: Sequence[Attribute], wanted: Wanted, sees: Sees
) -> Iterator[Attribute]:
    """Yields what an entity has for a query."""
    if kind is None:
        matches = (each for which in wanted for each in entity.objects(which) if sees(entity, each))
    else:
        matches = (
            other
            for each in entity.objects(kind)
            if _matches(each, key) and sees(entity, each)
            for which in wanted
            for other in entity.related(each, which)
            if sees(entity, other)
        )
    for each in matches:
        yield from (attribute for attribute in each.attributes if attribute.tag in wanted[each.kind])


def _matches(found: Object, key: Iterable[Attribute]) -> bool:
    """Says whether an object has all attributes of a key; one without a value matches any."""
    return all(found.values.get(tag) == value if value else tag in found.values for tag, value in key)
