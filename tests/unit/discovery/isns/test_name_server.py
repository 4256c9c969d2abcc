"""The server's machine: who is notified, how long registrations last, and who is inquired.

entity "one": portal P, node A, which wants to know of changes
entity "two": portal Q, node B
"""

import pytest

from iscsi_target.discovery.isns import attributes, name_server
from iscsi_target.discovery.isns.attributes import Tag, number, text
from iscsi_target.discovery.isns.faults import Status
from iscsi_target.discovery.isns.messages import Function, NodeType, Request, Scn, acknowledge
from iscsi_target.discovery.isns.name_server import MAX_SILENCES, Note, Notify, Place, Probe, Reply
from iscsi_target.discovery.isns.pdu import Message
from iscsi_target.discovery.isns.schedule import NEVER
from iscsi_target.discovery.isns.scn import read_changes
from tests.isns import A, B, C, Clients, P, Q, entity, key, node, portal, tagged

ALL = Scn.OBJECT_ADDED | Scn.OBJECT_REMOVED | Scn.OBJECT_UPDATED
STATUS = 9000


@pytest.fixture
def clients():
    clients = Clients()
    clients.register(A, entity("one"), portal(P, status=STATUS), node(A))
    clients.actions.clear()
    return clients


def register_b(clients, node_type=NodeType.TARGET, **changes):
    return clients.register(B, entity("two"), portal(Q), node(B, node_type, **changes))


def told(clients):
    """What the notifications so far tell."""
    return [change for each in clients.notifications() for change in read_changes(each.message.payload)]


# Notifications


@pytest.mark.clause("RFC4171 5.6.5.8")
def test_node_is_told_what_happens_to_others_at_its_scn_port(clients):
    assert clients.subscribe(A, ALL) == Status.SUCCESSFUL
    register_b(clients)
    [notification] = clients.notifications()
    assert notification.places == (Place(P, STATUS, by_udp=True),)
    content = dict(attributes.unpack(notification.message.payload))
    assert content[Tag.TIMESTAMP] == attributes.timestamp(1000).value
    assert read_changes(notification.message.payload) == [(B, Scn.OBJECT_ADDED)]
    assert acknowledge(notification.message) is not None
    register_b(clients, alias="disk")
    assert told(clients) == [(B, Scn.OBJECT_UPDATED)]
    clients.register(B, portal("192.0.2.3"))
    assert told(clients) == [(B, Scn.OBJECT_UPDATED)]
    clients.deregister(B, *key(B))
    assert told(clients) == [(B, Scn.OBJECT_REMOVED)]


def test_what_is_registered_as_it_was_is_no_change(clients):
    register_b(clients)
    clients.subscribe(A, ALL)
    register_b(clients)
    clients.register(B, entity("two"), portal(Q), node(B), key=(text(1, "two"),), replace=True)
    assert told(clients) == []


@pytest.mark.clause("RFC4171 6.4.4")
@pytest.mark.parametrize(
    ("bitmap", "node_type", "expected"),
    [
        (Scn.OBJECT_REMOVED, NodeType.TARGET, False),
        (ALL | Scn.INITIATOR_AND_SELF_ONLY, NodeType.TARGET, False),
        (ALL | Scn.INITIATOR_AND_SELF_ONLY, NodeType.INITIATOR, True),
        (ALL | Scn.TARGET_AND_SELF_ONLY, NodeType.TARGET, True),
        (ALL | Scn.TARGET_AND_SELF_ONLY, NodeType.INITIATOR, False),
        (ALL | Scn.TARGET_AND_SELF_ONLY | Scn.INITIATOR_AND_SELF_ONLY, NodeType.INITIATOR, True),
    ],
)
def test_node_is_told_what_it_wants_to_know(clients, bitmap, node_type, expected):
    clients.subscribe(A, bitmap)
    register_b(clients, node_type)
    assert bool(told(clients)) is expected


def test_node_is_told_of_its_own_removal_and_of_nothing_after_it(clients):
    clients.subscribe(A, Scn.OBJECT_REMOVED | Scn.INITIATOR_AND_SELF_ONLY)
    clients.deregister(A, *key(A))
    assert told(clients) == [(A, Scn.OBJECT_REMOVED)]
    clients.register(A, node(A))
    clients.deregister(A, *key(A))
    assert told(clients) == []


def test_many_changes_are_told_in_several_notifications(clients, monkeypatch):
    monkeypatch.setattr(name_server, "CHANGES_PER_NOTIFICATION", 2)
    clients.subscribe(A, ALL)
    clients.register(B, entity("two"), *(node(f"{B}{number}") for number in range(5)))
    notifications = clients.notifications()
    assert len({each.message.transaction_id for each in notifications}) == 3
    assert [len(read_changes(each.message.payload)) for each in notifications] == [2, 2, 1]


def test_portals_that_lead_to_the_node_are_tried_first(clients):
    clients.register(A, portal(Q, status=STATUS), node(A), tagged(1, Q), tagged(None, P))
    clients.subscribe(A, ALL)
    register_b(clients)
    clients.register(C, entity("three"), node(C))
    assert [place.host for place in clients.notifications()[0].places] == [Q, P]


@pytest.mark.clause("RFC4171 5.6.5.6")
def test_node_that_takes_its_registration_back_is_not_told_any_more(clients):
    clients.subscribe(A, ALL)
    assert clients.ask(Request(Function.SCN_DEREG, A, key(A))).status == Status.SUCCESSFUL
    register_b(clients)
    assert told(clients) == []


@pytest.mark.clause("RFC4171 5.6.5.5")
def test_notifications_are_for_registered_nodes_of_the_source_with_an_scn_port(clients, monkeypatch):
    register_b(clients)
    assert clients.subscribe(B, ALL) == Status.SCN_REGISTRATION_REJECTED
    assert clients.subscribe(C, ALL) == Status.SCN_REGISTRATION_REJECTED
    others = Request(Function.SCN_REG, B, key(A), (number(Tag.ISCSI_SCN_BITMAP, ALL),))
    assert clients.ask(others).status == Status.SOURCE_UNAUTHORIZED
    assert clients.ask(Request(Function.SCN_REG, A, key(A))).status == Status.SCN_REGISTRATION_REJECTED
    monkeypatch.setattr(name_server, "MAX_SUBSCRIPTIONS", 0)
    assert clients.subscribe(A, ALL) == Status.SCN_REGISTRATION_REJECTED


# Registration periods


@pytest.mark.clause("RFC4171 6.2.6")
def test_registration_ends_when_nothing_was_heard_for_its_period(clients):
    register_b(clients)
    clients.subscribe(A, ALL)
    clients.wait(599)
    clients.query(source=A)
    actions = clients.wait(2)
    assert [type(action) for action in actions] == [Note, Notify, Note]
    assert clients.names() == {A}
    clients.wait(700)
    assert clients.server.database.entities == {}
    assert clients.server.deadline() == NEVER


def test_refused_requests_prolong_a_registration_too(clients):
    clients.wait(599)
    clients.ask(Request(Function.DD_REG, A))
    clients.wait(599)
    assert clients.names() == {A}


# Inquiries


@pytest.fixture
def inquired():
    """Entity "one" with portals P and Q, of which P is inquired every 10 s, and node A."""
    clients = Clients()
    clients.register(A, entity("one"), portal(P, status=STATUS, esi_s=10), portal(Q), node(A))
    return clients


def probes(clients, seconds):
    return [action for action in clients.wait(seconds) if isinstance(action, Probe)]


@pytest.mark.clause("RFC4171 5.6.5.13")
def test_portal_is_inquired_at_its_interval(inquired):
    assert probes(inquired, 9) == []
    first, second = probes(inquired, 12)
    assert first.place == Place(P, STATUS, by_udp=True)
    content = dict(attributes.unpack(first.message.payload))
    assert content == {
        Tag.TIMESTAMP: attributes.timestamp(1010).value,
        **dict(entity("one")[:1]),
        **dict(portal(P)),
    }
    assert first.message.transaction_id != second.message.transaction_id


@pytest.mark.clause("RFC4171 5.6.5.13")
def test_entity_goes_with_its_last_inquired_portal_that_does_not_answer(inquired):
    [each] = probes(inquired, 10)
    for _ in range(1, MAX_SILENCES):
        assert inquired.server.probed(each.portal, answered=False, now=inquired.now) == []
        assert inquired.names() == {A}
    note, *_ = inquired.server.probed(each.portal, answered=False, now=inquired.now)
    assert "192.0.2.1 port 3260" in note.text
    assert inquired.server.database.entities == {}
    assert inquired.server.deadline() == NEVER
    assert inquired.server.probed(each.portal, answered=False, now=inquired.now) == []


def test_other_inquired_portals_keep_the_entity(inquired):
    inquired.register(A, portal("192.0.2.3", status=STATUS, esi_s=10))
    for each in [each for each in probes(inquired, 30) if each.place.host == P]:
        inquired.server.probed(each.portal, answered=False, now=inquired.now)
    assert len(inquired.query((), Tag.PORTAL_IP_ADDRESS)) == 2
    assert {each.place.host for each in probes(inquired, 30)} == {"192.0.2.3"}


def test_answer_makes_good_for_silences(inquired):
    for answered in (False, False, True, False, False):
        [each] = probes(inquired, 10)
        inquired.server.probed(each.portal, answered=answered, now=inquired.now)
    assert inquired.names() == {A}


@pytest.mark.clause("RFC4171 6.2.6")
def test_answer_prolongs_the_registration(clients):
    clients.register(A, entity("one", 30), portal(P, status=STATUS, esi_s=10), node(A))
    for _ in range(10):
        [each] = probes(clients, 10)
        clients.server.probed(each.portal, answered=True, now=clients.now)
    assert clients.names() == {A}
    clients.wait(31)
    assert clients.server.database.entities == {}


def test_portal_that_wants_no_inquiries_any_more_gets_none(inquired):
    inquired.register(A, entity("one"), portal(P), node(A), key=(text(1, "one"),), replace=True)
    assert probes(inquired, 100) == []


# Requests


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (Message(0x0011, 1, b""), Status.MESSAGE_NOT_SUPPORTED),
        (Message(Function.SCN_EVENT, 1, attributes.pack(key(A))), Status.MESSAGE_NOT_SUPPORTED),
        (Message(Function.DEV_ATTR_QRY, 1, b""), Status.SOURCE_ABSENT),
        (Message(Function.DEV_ATTR_QRY, 1, b"abcd"), Status.MESSAGE_FORMAT_ERROR),
        (Message(Function.DEV_ATTR_QRY, 1, attributes.pack([text(32, "nonsense")])), Status.MESSAGE_FORMAT_ERROR),
    ],
)
def test_wrong_request_is_answered_with_what_is_wrong(clients, message, status):
    [reply] = clients.server.received(message, clients.now)
    assert isinstance(reply, Reply)
    assert reply.message.function_id == message.function_id | 0x8000
    assert reply.message.payload[:4] == bytes([0, 0, 0, status])
    assert reply.refusal
