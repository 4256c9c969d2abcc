"""Queries about two entities.

entity "one": portals P (tag 1) and Q, node A reached by P only
entity "two": portal R, node B
"""

import pytest

from iscsi_target.discovery.isns import queries
from iscsi_target.discovery.isns.attributes import Attribute, Tag, address, number, read_text, text
from iscsi_target.discovery.isns.faults import Status
from iscsi_target.discovery.isns.messages import Function, NodeType, Request
from iscsi_target.discovery.isns.objects import KEYS, Kind
from tests.isns import A, B, Clients, P, Q, entity, key, kinds, node, portal, tagged

R = "2001:db8::1"


@pytest.fixture
def clients():
    clients = Clients()
    clients.register(A, entity("one"), portal(P), portal(Q), node(A, alias="disk"), tagged(1, P), tagged(None, Q))
    clients.register(B, entity("two"), portal(R), node(B, NodeType.INITIATOR))
    return clients


@pytest.mark.clause("RFC4171 5.6.5.2")
def test_key_of_a_node_finds_it_and_what_belongs_to_it(clients):
    assert kinds(clients.query(key(A))) == [Kind.ENTITY, Kind.PORTAL, Kind.NODE, Kind.GROUP]
    [place] = clients.query(key(A), Tag.PORTAL_IP_ADDRESS)
    assert place.key == tuple(value for _, value in portal(P))


@pytest.mark.clause("RFC4171 5.6.5.2")
def test_attribute_in_the_key_finds_all_that_have_it(clients):
    [target] = clients.query((number(Tag.ISCSI_NODE_TYPE, NodeType.TARGET),), Tag.ISCSI_NAME, Tag.ISCSI_ALIAS)
    assert target.values == dict((text(Tag.ISCSI_NAME, A), text(Tag.ISCSI_ALIAS, "disk")))
    assert len(clients.query((Attribute(Tag.ISCSI_NODE_TYPE),), Tag.ISCSI_NAME)) == 2
    assert len(clients.query((Attribute(Tag.ISCSI_ALIAS),), Tag.ISCSI_NAME)) == 1
    assert kinds(clients.query((text(Tag.ENTITY_IDENTIFIER, "two"),))) == [
        Kind.ENTITY,
        Kind.PORTAL,
        Kind.NODE,
        Kind.GROUP,
    ]


@pytest.mark.clause("RFC4171 5.6.5.2")
def test_empty_key_finds_everything(clients):
    assert len(clients.query()) == 2 + 3 + 2 + 2
    assert kinds(clients.query((), Tag.PORTAL_PORT)) == [Kind.PORTAL] * 3


@pytest.mark.clause("RFC4171 5.7.5.2")
def test_nothing_found_is_no_error(clients):
    assert clients.query(key("iqn.2026-11.org.example:nobody")) == []
    assert clients.query((text(Tag.ISCSI_ALIAS, "nothing"),)) == []


def ask(clients, function, key=(), operating=()):
    return clients.ask(Request(function, A, tuple(key), tuple(operating)))


@pytest.mark.parametrize(
    ("key", "status"),
    [
        ([*key(A), text(Tag.ENTITY_IDENTIFIER, "one")], Status.INVALID_QUERY),
        ([Attribute(9999)], Status.ATTRIBUTE_NOT_IMPLEMENTED),
        ([Attribute(Tag.ISCSI_NODE_TYPE, bytes(8))], Status.MESSAGE_FORMAT_ERROR),
    ],
)
def test_wrong_key_is_refused(clients, key, status):
    assert ask(clients, Function.DEV_ATTR_QRY, key).status == status


def test_unknown_attributes_that_are_wanted_are_left_out(clients):
    answer = ask(clients, Function.DEV_ATTR_QRY, key(A), [Attribute(9999), Attribute(Tag.ISCSI_NAME)])
    assert answer.operating == key(A)


def test_answer_that_is_too_long_is_refused(clients, monkeypatch):
    monkeypatch.setattr(queries, "MAX_ANSWER_BYTES", 100)
    assert ask(clients, Function.DEV_ATTR_QRY).status == Status.INTERNAL_ERROR


@pytest.mark.clause("RFC4171 5.6.5.3")
@pytest.mark.parametrize(("kind", "count"), [(Kind.ENTITY, 2), (Kind.PORTAL, 3), (Kind.NODE, 2), (Kind.GROUP, 2)])
def test_get_next_goes_through_all_objects_of_a_kind(clients, kind, count):
    at = tuple(Attribute(tag) for tag in KEYS[kind])
    found = []
    while (answer := ask(clients, Function.DEV_GET_NEXT, at)).status == Status.SUCCESSFUL:
        at = answer.key
        found.append(tuple(value for _, value in at))
    assert answer.status == Status.NO_SUCH_ENTRY
    assert found == sorted(found)
    assert len(found) == count


@pytest.mark.clause("RFC4171 5.6.5.3")
def test_get_next_is_scoped_by_values_and_returns_what_is_wanted(clients):
    scope = [number(Tag.ISCSI_NODE_TYPE, NodeType.INITIATOR), Attribute(Tag.ISCSI_NODE_INDEX)]
    answer = ask(clients, Function.DEV_GET_NEXT, [Attribute(Tag.ISCSI_NAME)], scope)
    assert read_text(answer.key[0].value) == B
    assert [tag for tag, _ in answer.operating] == [Tag.ISCSI_NODE_TYPE, Tag.ISCSI_NODE_INDEX]


@pytest.mark.parametrize(
    ("key", "operating"),
    [
        ([], []),
        ([address(Tag.PORTAL_IP_ADDRESS, P)], []),
        ([Attribute(Tag.ISCSI_ALIAS)], []),
        ([Attribute(Tag.ISCSI_NAME)], [Attribute(Tag.PORTAL_PORT)]),
    ],
)
def test_get_next_wants_the_key_of_one_kind(clients, key, operating):
    assert ask(clients, Function.DEV_GET_NEXT, key, operating).status == Status.INVALID_QUERY
