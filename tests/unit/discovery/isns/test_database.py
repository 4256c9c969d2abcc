"""Entities, and how what is in them belongs together.

portal P ──┬── node A
portal Q ──┘   node B
"""

import pytest

from iscsi_target.discovery.isns import database
from iscsi_target.discovery.isns.attributes import Tag, number, text
from iscsi_target.discovery.isns.database import Database, Entity, without
from iscsi_target.discovery.isns.faults import Refused, Status
from iscsi_target.discovery.isns.forms import name_value
from iscsi_target.discovery.isns.messages import NodeType
from iscsi_target.discovery.isns.objects import KEYS, Kind, Object
from tests import isns

A, B = name_value(isns.A), name_value(isns.B)
P, Q = (tuple(value for _, value in isns.portal(host)) for host in (isns.P, isns.Q))
E = text(Tag.ENTITY_IDENTIFIER, "entity").value
TARGET = number(Tag.ISCSI_NODE_TYPE, NodeType.TARGET).value


def values_of(kind, *key):
    return dict(zip(KEYS[kind], key, strict=True))


def make(identifier=E, nodes=(A, B), portals=(P, Q), tags=None):
    return Entity(
        identifier,
        isns.A,
        {Tag.ENTITY_IDENTIFIER: identifier},
        {key: values_of(Kind.PORTAL, *key) for key in portals},
        {name: {**values_of(Kind.NODE, name), Tag.ISCSI_NODE_TYPE: TARGET} for name in nodes},
        tags or {},
    )


def keys(objects):
    return [found.key for found in objects]


NODE_A = Object(Kind.NODE, values_of(Kind.NODE, A))
PORTAL_P = Object(Kind.PORTAL, values_of(Kind.PORTAL, *P))


@pytest.mark.clause("RFC4171 3.4")
def test_every_node_is_in_a_group_with_every_portal_unless_told_otherwise():
    entity = make(tags={(A, P): b"\0\0\0\7", (B, Q): b""})
    groups = {found.key: found.values[Tag.PORTAL_GROUP_TAG] for found in entity.objects(Kind.GROUP)}
    assert groups == {(A, *P): b"\0\0\0\7", (A, *Q): b"\0\0\0\1", (B, *P): b"\0\0\0\1"}


def test_related_are_those_at_the_other_end_of_a_group_or_in_the_entity():
    entity = make(tags={(A, Q): b""})
    assert keys(entity.related(NODE_A, Kind.PORTAL)) == [P]
    assert keys(entity.related(NODE_A, Kind.GROUP)) == [(A, *P)]
    assert keys(entity.related(NODE_A, Kind.ENTITY)) == [(E,)]
    assert keys(entity.related(NODE_A, Kind.NODE)) == [(A,)]
    assert keys(entity.related(PORTAL_P, Kind.NODE)) == [(A,), (B,)]
    assert keys(entity.related(PORTAL_P, Kind.GROUP)) == [(A, *P), (B, *P)]
    [group] = entity.related(NODE_A, Kind.GROUP)
    assert keys(entity.related(group, Kind.NODE)) == [(A,)]
    assert keys(entity.related(group, Kind.PORTAL)) == [P]
    assert len(keys(entity.related(Object(Kind.ENTITY, entity.values), Kind.GROUP))) == 3


def test_entity_is_found_by_what_is_in_it():
    stored = Database()
    stored.put(make())
    assert stored.entity_of(Kind.NODE, (A,)) is stored.entity_of(Kind.PORTAL, Q) is stored.entities[E]
    assert stored.entity_of(Kind.GROUP, (B, *P)) is stored.entity_of(Kind.ENTITY, (E,)) is stored.entities[E]
    stored.put(make(nodes=(A,), portals=(P,)))
    assert stored.entity_of(Kind.NODE, (B,)) is stored.entity_of(Kind.PORTAL, Q) is None
    stored.put(make(nodes=(), portals=()))
    assert stored.entities == {}
    assert stored.entity_of(Kind.NODE, (A,)) is None


def test_source_belongs_to_the_entity_that_it_is_in_or_registered():
    stored = Database()
    stored.put(make(nodes=(B,)))
    assert stored.entity_of_source(isns.A, A) is stored.entity_of_source("other", B) is stored.entities[E]
    assert stored.entity_of_source("other", A) is None
    assert stored.entities[E].belongs_to(isns.A, A)
    assert not stored.entities[E].belongs_to("other", A)


@pytest.mark.parametrize("taken", [{"nodes": (A,), "portals": ()}, {"nodes": (), "portals": (P,)}])
def test_node_or_portal_is_in_one_entity_only(taken):
    stored = Database()
    stored.put(make())
    with pytest.raises(Refused) as refused:
        stored.put(make(identifier=b"other\0\0\0", **taken))
    assert refused.value.status == Status.INVALID_REGISTRATION
    assert list(stored.entities) == [E]


@pytest.mark.parametrize(
    ("limit", "status"),
    [
        ("MAX_ENTITIES", Status.BUSY),
        ("MAX_OBJECTS", Status.BUSY),
        ("MAX_GROUPS", Status.BUSY),
        ("MAX_PORTALS", Status.INVALID_REGISTRATION),
        ("MAX_NODES", Status.INVALID_REGISTRATION),
    ],
)
def test_what_has_no_room_is_refused_and_changes_nothing(monkeypatch, limit, status):
    stored = Database()
    stored.put(make(nodes=(A,), portals=(P,)))
    monkeypatch.setattr(database, limit, 1)
    with pytest.raises(Refused) as refused:
        stored.put(make(identifier=b"other\0\0\0", nodes=(B, name_value(isns.C)), portals=(Q, (P[0], Q[0]))))
    assert refused.value.status == status
    assert list(stored.entities) == [E]
    assert stored.entity_of(Kind.NODE, (B,)) is None


def test_indexes_are_never_given_twice():
    stored = Database()
    assert len({stored.next_index() for _ in range(100)}) == 100


@pytest.mark.clause("RFC4171 5.6.5.4")
def test_group_is_kept_as_long_as_one_of_its_ends_is():
    entity = make(tags={(A, P): b"\0\0\0\7"})
    fewer = without(entity, Kind.NODE, (A,))
    assert (tuple(fewer.nodes), fewer.tags) == ((B,), entity.tags)
    assert without(fewer, Kind.PORTAL, P).tags == {}
    assert without(entity, Kind.ENTITY, (E,)).is_empty
    with pytest.raises(Refused):
        without(entity, Kind.GROUP, (A, *P))


def test_type_of_a_node():
    assert make().node_type(A) is NodeType.TARGET
