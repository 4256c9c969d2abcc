"""What registrations make of the database, asked by the server's machine."""

import pytest

from iscsi_target.discovery.isns import registering
from iscsi_target.discovery.isns.attributes import Attribute, Tag, number, read_number, read_text, text
from iscsi_target.discovery.isns.faults import Status
from iscsi_target.discovery.isns.messages import Function, NodeType, Request
from iscsi_target.discovery.isns.objects import Kind, read_objects
from tests.isns import A, B, C, Clients, P, Q, entity, key, node, portal, tagged

E = (text(Tag.ENTITY_IDENTIFIER, "entity"),)


@pytest.fixture
def clients():
    return Clients()


@pytest.fixture
def registered(clients):
    """Portals P and Q and node A, which A registered."""
    assert clients.register(A, entity("entity"), portal(P), portal(Q), node(A, alias="disk")).status == 0
    return clients


@pytest.mark.clause("RFC4171 5.7.5.1")
def test_answer_tells_what_was_registered_and_what_the_server_made_of_it(clients):
    answer = clients.register(A, entity("entity"), portal(P, status=9000, esi_s=1), node(A))
    assert answer.key == E
    told, place, target = read_objects(answer.operating)
    assert read_number(told.values[Tag.REGISTRATION_PERIOD]) == 0
    assert read_number(place.values[Tag.ESI_INTERVAL]) == 10
    assert target.values == dict(node(A))


@pytest.mark.clause("RFC4171 6.2.6")
@pytest.mark.parametrize(("asked_s", "granted_s"), [(0, 600), (30, 30), (10**6, 3600)])
def test_period_is_granted_within_the_terms(clients, asked_s, granted_s):
    answer = clients.register(A, entity("entity", asked_s), portal(P), node(A))
    assert number(Tag.REGISTRATION_PERIOD, granted_s) in answer.operating


@pytest.mark.clause("RFC4171 6.2.1")
@pytest.mark.parametrize("unnamed", [(), (Attribute(Tag.ENTITY_IDENTIFIER),)])
def test_entity_without_a_name_gets_one_and_is_the_sources_from_then_on(clients, unnamed):
    first = clients.register(A, unnamed, node(A))
    assert read_text(first.key[0].value) == A
    assert clients.register(A, unnamed, portal(P)).key == first.key
    assert len(clients.server.database.entities) == 1
    second = clients.register(B, unnamed, node(B))
    assert second.key != first.key


def test_name_that_is_taken_is_not_given(clients):
    clients.register(B, entity(A), node(B))
    assert read_text(clients.register(A, node(A)).key[0].value) == f"{A}#1"


def test_update_adds_changes_and_removes(registered):
    assert registered.register(A, node(B), key=E).status == 0
    assert registered.register(A, (text(Tag.ISCSI_ALIAS, "other"),), key=key(A)).status == 0
    [found] = registered.query(key(A), Tag.ISCSI_ALIAS)
    assert read_text(found.values[Tag.ISCSI_ALIAS]) == "other"
    registered.register(A, (Attribute(Tag.ISCSI_ALIAS),), key=key(A))
    [found] = registered.query(key(A), Tag.ISCSI_ALIAS)
    assert Tag.ISCSI_ALIAS not in found.values
    assert registered.names() == {A, B}


def test_indexes_are_the_servers(registered):
    [before] = registered.query(key(A), Tag.ISCSI_NODE_INDEX)
    registered.register(A, (*node(A), number(Tag.ISCSI_NODE_INDEX, 999)))
    assert registered.query(key(A), Tag.ISCSI_NODE_INDEX) == [before]


@pytest.mark.clause("RFC4171 5.6.5.1")
def test_replacing_an_entity_removes_what_is_not_registered_again(registered):
    assert registered.register(A, entity("entity"), portal(Q), node(B), key=E, replace=True).status == 0
    assert registered.names() == {B}
    [place] = registered.query((), Tag.PORTAL_IP_ADDRESS)
    assert place.key[0].hex().endswith("c0000202")


@pytest.mark.clause("RFC4171 5.6.5.1")
def test_replacing_a_portal_leaves_the_rest(registered):
    other = "192.0.2.3"
    assert registered.register(A, portal(other), key=portal(P), replace=True).status == 0
    places = [found.key[0].hex()[-8:] for found in registered.query((), Tag.PORTAL_IP_ADDRESS)]
    assert places == ["c0000202", "c0000203"]
    assert registered.names() == {A}


@pytest.mark.clause("RFC4171 6.5.4")
def test_portal_groups_are_as_they_are_registered(clients):
    clients.register(A, entity("entity"), portal(P), portal(Q), node(A), tagged(7, P), tagged(None, Q))
    [group] = clients.query((), Tag.PORTAL_GROUP_TAG)
    assert read_number(group.values[Tag.PORTAL_GROUP_TAG]) == 7
    assert group.key[1].hex().endswith("c0000201")


@pytest.mark.parametrize(
    ("source", "parts", "status"),
    [
        (B, (entity("entity"), node(B)), Status.SOURCE_UNAUTHORIZED),
        (B, (entity("other"), node(A)), Status.INVALID_REGISTRATION),
        (B, (entity("other"), node(B), portal(P)), Status.INVALID_REGISTRATION),
        (A, (entity("entity"), entity("other"), node(B)), Status.INVALID_REGISTRATION),
        (A, (key(C),), Status.INVALID_REGISTRATION),
        (A, ((text(Tag.ISCSI_NAME, C), number(Tag.ISCSI_NODE_TYPE, 8)),), Status.INVALID_REGISTRATION),
        (A, (portal(Q)[:1],), Status.MESSAGE_FORMAT_ERROR),
        (A, ((Attribute(9999, b"abcd"),),), Status.ATTRIBUTE_NOT_IMPLEMENTED),
        (B, (entity("nothing"),), Status.INVALID_REGISTRATION),
    ],
)
def test_refused_registration_changes_nothing(registered, source, parts, status):
    before = dict(registered.server.database.entities)
    assert registered.register(source, *parts).status == status
    assert registered.server.database.entities == before


def test_message_key_is_of_one_object(registered):
    assert registered.register(A, node(B), key=(*E, *key(A))).status == Status.INVALID_REGISTRATION


def test_number_of_portal_groups_is_bounded(clients, monkeypatch):
    monkeypatch.setattr(registering, "MAX_TAGS", 1)
    groups = tagged(1, P, Q)
    assert clients.register(A, portal(P), portal(Q), node(A), groups).status == Status.INVALID_REGISTRATION


@pytest.mark.clause("RFC4171 5.6.5.4")
def test_deregistration_removes_what_it_names_and_with_the_last_of_it_the_entity(registered):
    assert registered.deregister(A, *portal(P), *portal(Q)) == Status.SUCCESSFUL
    assert registered.names() == {A}
    assert registered.deregister(A, *key(A), *key(B)) == Status.SUCCESSFUL
    assert registered.server.database.entities == {}
    assert registered.deregister(A, *E) == Status.SUCCESSFUL


def test_deregistration_of_an_entity_removes_all_of_it(registered):
    assert registered.deregister(B, *E) == Status.SOURCE_UNAUTHORIZED
    assert registered.deregister(A, *E) == Status.SUCCESSFUL
    assert registered.server.database.entities == {}


@pytest.mark.parametrize("nothing", [(), (number(Tag.ISCSI_NODE_TYPE, 1),)])
def test_deregistration_of_nothing_is_refused(registered, nothing):
    assert registered.deregister(A, *nothing) == Status.INVALID_DEREGISTRATION


def test_initiators_register_as_targets_do(clients):
    request = Request(Function.DEV_ATTR_REG, C, (), node(C, NodeType.INITIATOR))
    assert clients.ask(request).status == Status.SUCCESSFUL
    assert [found.kind for found in clients.query(key(C), Tag.ISCSI_NODE_TYPE)] == [Kind.NODE]
