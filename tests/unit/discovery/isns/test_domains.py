"""Discovery domains: who sees whom.

entity "one": portal P, node A      entity "two": portal Q, node B      entity "three": node C, an initiator
the operator O is a control node
"""

import pytest

from iscsi_target.discovery.isns import domains
from iscsi_target.discovery.isns.attributes import Attribute, Tag, number, read_number, text
from iscsi_target.discovery.isns.faults import Status
from iscsi_target.discovery.isns.messages import Function, NodeType, Request, Scn
from iscsi_target.discovery.isns.objects import Kind
from tests.isns import TERMS, A, B, C, Clients, P, Q, entity, key, kinds, node, portal

OPERATOR = "iqn.2026-11.org.example:operator"
D = "iqn.2026-11.org.example:d"


@pytest.fixture
def clients():
    clients = Clients(TERMS._replace(controls=frozenset({OPERATOR})))
    clients.register(A, entity("one"), portal(P, status=9), node(A))
    clients.register(B, entity("two"), portal(Q), node(B))
    clients.register(C, entity("three"), node(C, NodeType.INITIATOR))
    clients.actions.clear()
    return clients


def members(*names):
    return tuple(text(Tag.DD_MEMBER_ISCSI_NAME, name) for name in names)


def domain(identifier):
    return (number(Tag.DD_ID, identifier),)


def register(clients, *attributes, key=(), source=OPERATOR):
    return clients.ask(Request(Function.DD_REG, source, key, attributes))


def deregister(clients, key, *attributes, source=OPERATOR):
    return clients.ask(Request(Function.DD_DEREG, source, key, attributes)).status


def seen(clients, source):
    return {each.key[0].decode().rstrip("\0") for each in clients.query((), Tag.ISCSI_NAME, source=source)}


@pytest.mark.clause("RFC4171 2.2.2")
def test_nodes_see_those_with_which_they_share_a_domain(clients):
    assert seen(clients, C) == {A, B, C}
    answer = register(clients, text(Tag.DD_SYMBOLIC_NAME, "lab"), *members(A, C))
    assert answer.key == domain(1)
    assert seen(clients, C) == seen(clients, A) == {A, C}
    assert seen(clients, B) == seen(clients, D) == {B}
    assert seen(clients, OPERATOR) == {A, B, C}
    register(clients, *members(B, C))
    assert seen(clients, C) == {A, B, C}
    assert seen(clients, A) == {A, C}


@pytest.mark.clause("RFC4171 2.2.2")
def test_what_belongs_to_a_node_is_seen_with_it(clients):
    register(clients, *members(A, C))
    assert kinds(clients.query(key(A), source=B)) == []
    assert clients.query((), Tag.ENTITY_IDENTIFIER, source=B)[0].key == (text(1, "two").value,)
    assert [each.key[0][-1:] for each in clients.query((), Tag.PORTAL_IP_ADDRESS, source=C)] == [b"\1"]
    assert kinds(clients.query((), Tag.PORTAL_GROUP_TAG, source=D)) == [Kind.GROUP]
    following = Request(Function.DEV_GET_NEXT, B, (Attribute(Tag.ISCSI_NAME),))
    assert clients.ask(following).key == key(B)


def test_own_entity_is_always_seen(clients):
    clients.register(A, node(D))
    register(clients, *members(D))
    assert seen(clients, A) == {A, B, C, D}


def test_changes_of_what_is_not_seen_are_not_told(clients):
    clients.subscribe(A, Scn.OBJECT_UPDATED | Scn.OBJECT_REMOVED)
    register(clients, *members(A, C))
    clients.register(B, node(B, alias="disk"))
    assert clients.notifications() == []
    clients.register(C, node(C, NodeType.INITIATOR, alias="host"))
    assert len(clients.notifications()) == 1
    clients.deregister(A, *key(A))
    assert len(clients.notifications()) == 1


@pytest.mark.clause("RFC4171 5.6.5.9")
def test_domain_is_named_and_grows(clients):
    register(clients, text(Tag.DD_SYMBOLIC_NAME, "lab"), *members(A))
    answer = register(clients, text(Tag.DD_SYMBOLIC_NAME, "room"), *members(C), key=domain(1))
    assert answer.operating == (*domain(1), text(Tag.DD_SYMBOLIC_NAME, "room"), *members(A, C))
    assert register(clients, *domain(77)).key == domain(77)
    assert register(clients).key == domain(78)


@pytest.mark.clause("RFC4171 5.6.5.10")
def test_members_and_domains_are_removed(clients):
    register(clients, *members(A, C))
    assert deregister(clients, domain(1), *members(C, B)) == Status.SUCCESSFUL
    assert seen(clients, C) == {B, C}
    assert deregister(clients, domain(1)) == Status.SUCCESSFUL
    assert seen(clients, C) == {A, B, C}
    assert deregister(clients, domain(1)) == Status.SUCCESSFUL
    assert deregister(clients, ()) == Status.INVALID_DEREGISTRATION


@pytest.mark.parametrize(
    ("attributes", "key", "status"),
    [
        ((), domain(5), Status.INVALID_REGISTRATION),
        (domain(1), (), Status.INVALID_REGISTRATION),
        (domain(0), (), Status.INVALID_REGISTRATION),
        ((text(Tag.DD_SYMBOLIC_NAME, "lab"),), (), Status.INVALID_REGISTRATION),
        ((number(Tag.ISCSI_NODE_TYPE, 1),), (), Status.ATTRIBUTE_NOT_IMPLEMENTED),
        ((Attribute(2078, bytes(4)),), (), Status.ATTRIBUTE_NOT_IMPLEMENTED),
    ],
)
def test_wrong_registration_is_refused_and_changes_nothing(clients, attributes, key, status):
    register(clients, text(Tag.DD_SYMBOLIC_NAME, "lab"), *members(A, C))
    assert register(clients, *attributes, key=key).status == status
    assert seen(clients, C) == {A, C}
    assert register(clients).key == domain(2)


def test_only_a_control_node_changes_domains(clients):
    assert register(clients, *members(A, C), source=A).status == Status.SOURCE_UNAUTHORIZED
    assert deregister(clients, domain(1), source=A) == Status.SOURCE_UNAUTHORIZED


def test_number_of_domains_and_members_is_bounded(clients, monkeypatch):
    monkeypatch.setattr(domains, "DOMAINS", domains.DOMAINS._replace(most=1))
    monkeypatch.setattr(domains, "MAX_MEMBERS", 1)
    assert register(clients, *members(A, C)).status == Status.INVALID_REGISTRATION
    assert register(clients, *members(A)).status == Status.SUCCESSFUL
    assert register(clients, *members(C)).status == Status.BUSY
    assert register(clients, *members(C), key=domain(1)).status == Status.INVALID_REGISTRATION


@pytest.mark.clause("RFC4171 5.6.5.2")
def test_domains_are_found_by_who_is_in_them(clients):
    register(clients, text(Tag.DD_SYMBOLIC_NAME, "lab"), *members(A, C))
    register(clients, text(Tag.DD_SYMBOLIC_NAME, "room"), *members(B))
    assert identifiers(clients, OPERATOR) == [1, 2]
    assert identifiers(clients, C) == [1]
    assert identifiers(clients, OPERATOR, text(Tag.DD_SYMBOLIC_NAME, "room")) == [2]
    assert identifiers(clients, OPERATOR, *members(A)) == [1]
    assert identifiers(clients, C, *domain(2)) == []


def identifiers(clients, source, *key):
    answer = clients.ask(Request(Function.DEV_ATTR_QRY, source, key, (Attribute(Tag.DD_ID),)))
    assert answer.status == Status.SUCCESSFUL
    return [read_number(value) for _, value in answer.operating]


@pytest.mark.clause("RFC4171 5.6.5.3")
def test_get_next_goes_through_the_domains(clients):
    register(clients, *members(A, C))
    register(clients, *members(B))
    first = clients.ask(Request(Function.DEV_GET_NEXT, OPERATOR, (Attribute(Tag.DD_ID),)))
    assert (first.key, first.operating) == (domain(1), (*domain(1), text(2066, "domain 1"), *members(A, C)))
    second = clients.ask(Request(Function.DEV_GET_NEXT, OPERATOR, first.key, (Attribute(Tag.DD_MEMBER_ISCSI_NAME),)))
    assert (second.key, second.operating) == (domain(2), members(B))
    ask = [(OPERATOR, second.key, Status.NO_SUCH_ENTRY), (C, first.key, Status.NO_SUCH_ENTRY)]
    ask.append((OPERATOR, members(A), Status.INVALID_QUERY))
    for source, after, status in ask:
        assert clients.ask(Request(Function.DEV_GET_NEXT, source, after)).status == status
