"""Discovery domain sets: which domains count. Nodes A and C are in domain 1; the operator O is a control node."""

import pytest

from iscsi_target.discovery.isns import domain_sets
from iscsi_target.discovery.isns.attributes import Attribute, Tag, number, text
from iscsi_target.discovery.isns.faults import Status
from iscsi_target.discovery.isns.messages import Function, NodeType, Request
from tests.isns import TERMS, A, C, Clients, P, entity, node, portal

OPERATOR = "iqn.2026-11.org.example:operator"
ENABLED, DISABLED = number(Tag.DDS_STATUS, 1), number(Tag.DDS_STATUS, 0)
DOMAIN = number(Tag.DD_ID, 1)


@pytest.fixture
def clients():
    clients = Clients(TERMS._replace(controls=frozenset({OPERATOR})))
    clients.register(A, entity("one"), portal(P), node(A))
    clients.register(C, entity("three"), node(C, NodeType.INITIATOR))
    members = (text(Tag.DD_MEMBER_ISCSI_NAME, name) for name in (A, C))
    clients.ask(Request(Function.DD_REG, OPERATOR, (), tuple(members)))
    return clients


def key(identifier):
    return (number(Tag.DDS_ID, identifier),)


def register(clients, *attributes, key=(), source=OPERATOR):
    return clients.ask(Request(Function.DDS_REG, source, key, attributes))


def deregister(clients, key, *attributes, source=OPERATOR):
    return clients.ask(Request(Function.DDS_DEREG, source, key, attributes)).status


def see_each_other(clients):
    found = {each.key[0].decode().rstrip("\0") for each in clients.query((), Tag.ISCSI_NAME, source=C)}
    return A in found


@pytest.mark.clause("RFC4171 6.11.1")
def test_a_domain_counts_when_one_of_its_sets_is_enabled(clients):
    assert see_each_other(clients)
    answer = register(clients, DOMAIN, text(Tag.DDS_SYMBOLIC_NAME, "lab"))
    assert (answer.key, answer.operating) == (
        key(1),
        (*key(1), text(Tag.DDS_SYMBOLIC_NAME, "lab"), DISABLED, DOMAIN),
    )
    assert not see_each_other(clients)
    register(clients, ENABLED, key=key(1))
    assert see_each_other(clients)
    register(clients, DISABLED, key=key(1))
    register(clients, ENABLED, DOMAIN)
    assert see_each_other(clients)


@pytest.mark.clause("RFC4171 5.6.5.12")
def test_domains_and_sets_are_removed(clients):
    register(clients, DOMAIN)
    assert deregister(clients, key(1), number(Tag.DD_ID, 1)) == Status.SUCCESSFUL
    assert see_each_other(clients)
    register(clients, DOMAIN, key=key(1))
    assert not see_each_other(clients)
    assert deregister(clients, key(1)) == Status.SUCCESSFUL
    assert see_each_other(clients)
    assert deregister(clients, key(1)) == Status.SUCCESSFUL
    assert deregister(clients, ()) == Status.INVALID_DEREGISTRATION


def test_a_domain_that_is_removed_and_made_again_is_in_no_set(clients):
    register(clients, DOMAIN)
    clients.ask(Request(Function.DD_DEREG, OPERATOR, (DOMAIN,), ()))
    members = (text(Tag.DD_MEMBER_ISCSI_NAME, name) for name in (A, C))
    clients.ask(Request(Function.DD_REG, OPERATOR, (), tuple(members)))
    assert see_each_other(clients)


@pytest.mark.clause("RFC4171 5.6.5.11")
@pytest.mark.parametrize(
    ("attributes", "key", "status"),
    [
        ((), key(5), Status.INVALID_REGISTRATION),
        (key(1), (), Status.INVALID_REGISTRATION),
        (key(0), (), Status.INVALID_REGISTRATION),
        ((text(Tag.DDS_SYMBOLIC_NAME, "lab"),), (), Status.INVALID_REGISTRATION),
        ((number(Tag.DD_ID, 9),), (), Status.INVALID_REGISTRATION),
        ((number(Tag.ISCSI_NODE_TYPE, 1),), (), Status.ATTRIBUTE_NOT_IMPLEMENTED),
    ],
)
def test_wrong_registration_is_refused_and_changes_nothing(clients, attributes, key, status):
    register(clients, text(Tag.DDS_SYMBOLIC_NAME, "lab"), ENABLED, DOMAIN)
    assert register(clients, *attributes, key=key).status == status
    assert see_each_other(clients)
    assert register(clients).key == (number(Tag.DDS_ID, 2),)


def test_only_a_control_node_sees_and_changes_sets(clients):
    assert register(clients, DOMAIN, source=A).status == Status.SOURCE_UNAUTHORIZED
    assert deregister(clients, key(1), source=A) == Status.SOURCE_UNAUTHORIZED
    for function in (Function.DEV_ATTR_QRY, Function.DEV_GET_NEXT):
        asked = Request(function, A, (Attribute(Tag.DDS_ID),), ())
        assert clients.ask(asked).status == Status.SOURCE_UNAUTHORIZED


def test_number_of_sets_and_domains_is_bounded(clients, monkeypatch):
    monkeypatch.setattr(domain_sets, "SETS", domain_sets.SETS._replace(most=1))
    monkeypatch.setattr(domain_sets, "MAX_DOMAINS", 0)
    assert register(clients, DOMAIN).status == Status.INVALID_REGISTRATION
    assert register(clients).status == Status.SUCCESSFUL
    assert register(clients).status == Status.BUSY


@pytest.mark.clause("RFC4171 5.6.5.2")
def test_sets_are_found_by_their_attributes_and_one_after_the_other(clients):
    register(clients, ENABLED, DOMAIN)
    register(clients, text(Tag.DDS_SYMBOLIC_NAME, "room"))
    named = Request(Function.DEV_ATTR_QRY, OPERATOR, (text(Tag.DDS_SYMBOLIC_NAME, "room"),), (Attribute(Tag.DDS_ID),))
    assert clients.ask(named).operating == key(2)
    having = Request(Function.DEV_ATTR_QRY, OPERATOR, (ENABLED, DOMAIN), (Attribute(Tag.DDS_STATUS),))
    assert clients.ask(having).operating == (*key(1), ENABLED)
    first = clients.ask(Request(Function.DEV_GET_NEXT, OPERATOR, (Attribute(Tag.DDS_ID),)))
    assert first.key == key(1)
    second = clients.ask(Request(Function.DEV_GET_NEXT, OPERATOR, first.key, (Attribute(Tag.DDS_STATUS),)))
    assert (second.key, second.operating) == (key(2), (DISABLED,))
    assert clients.ask(Request(Function.DEV_GET_NEXT, OPERATOR, second.key)).status == Status.NO_SUCH_ENTRY
    wrong = Request(Function.DEV_GET_NEXT, OPERATOR, (ENABLED,))
    assert clients.ask(wrong).status == Status.INVALID_QUERY
