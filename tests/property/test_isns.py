"""An iSNS server and whatever is sent to it."""

from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.discovery.isns import attributes
from iscsi_target.discovery.isns.attributes import DELIMITER, Attribute, Tag
from iscsi_target.discovery.isns.database import Database
from iscsi_target.discovery.isns.messages import Function, Request, pack_request
from iscsi_target.discovery.isns.name_server import MAX_SILENCES, NameServer, Probe, Reply
from iscsi_target.discovery.isns.objects import Kind
from iscsi_target.discovery.isns.pdu import FramingError, Message, MessageReader, pack
from tests.isns import TERMS, A, B, C, Clients, P, Q, entity, key, node, portal, tagged

PARTS = st.sampled_from(
    [
        entity("one"),
        entity("two", 30),
        portal(P),
        portal(P, status=9, esi_s=20),
        portal(Q, status=9),
        node(A),
        node(B, alias="b"),
        key(C),
        tagged(7, P),
        tagged(None, P, Q),
        entity("one")[:1],
        entity("two")[:1],
        (Attribute(Tag.ENTITY_IDENTIFIER),),
        (Attribute(Tag.ISCSI_NAME),),
        (attributes.number(Tag.ISCSI_SCN_BITMAP, 28),),
        (attributes.text(Tag.ISCSI_ALIAS, "b"),),
        (attributes.number(Tag.DD_ID, 1),),
        (Attribute(Tag.DD_ID),),
        (attributes.text(Tag.DD_MEMBER_ISCSI_NAME, B),),
        (DELIMITER,),
    ]
)
FUNCTIONS = st.sampled_from(
    [
        *[Function.DEV_ATTR_REG] * 3,
        Function.DEV_DEREG,
        Function.DEV_ATTR_QRY,
        Function.DEV_GET_NEXT,
        Function.SCN_REG,
        Function.SCN_DEREG,
        Function.DD_REG,
        Function.DD_DEREG,
    ]
)


def joined(parts):
    return tuple(attribute for part in parts for attribute in part)


REQUESTS = st.builds(
    Request,
    FUNCTIONS,
    st.sampled_from([A, B, C]),
    st.lists(PARTS, max_size=1).map(joined),
    st.lists(PARTS, max_size=5).map(joined),
    st.booleans(),
)


def assert_whole(stored: Database) -> None:
    """Every node and portal is in one entity, is found by its key, and no entity is empty."""
    places = {}
    for identifier, found in stored.entities.items():
        assert found.identifier == identifier == found.values[Tag.ENTITY_IDENTIFIER]
        assert not found.is_empty
        for kind in (Kind.PORTAL, Kind.NODE):
            for each in found.objects(kind):
                assert (kind, each.key) not in places
                places[kind, each.key] = identifier
                assert stored.entity_of(kind, each.key) is found
    assert stored._places == places


@given(st.lists(st.tuples(REQUESTS, st.integers(0, 40), st.booleans()), max_size=20))
def test_any_requests_leave_the_database_whole_and_a_refused_one_as_it_was(steps):
    """Law: what is stored is consistent after every request, and a refusal is no change; time may go by in between."""
    clients = Clients(TERMS._replace(controls=frozenset({A})))
    for request, seconds, answered in steps:
        for action in clients.wait(seconds):
            if isinstance(action, Probe):
                for _ in range(MAX_SILENCES):
                    clients.server.probed(action.portal, answered=answered, now=clients.now)
        before = dict(clients.server.database.entities)
        status = clients.ask(request).status
        if status:
            assert clients.server.database.entities == before
        assert_whole(clients.server.database)
    clients.wait(100_000)
    assert set(clients.server._subscriptions) <= {
        each.key[0] for found in clients.server.database.entities.values() for each in found.objects(Kind.NODE)
    }
    assert set(clients.server._silences) <= {
        portal for found in clients.server.database.entities.values() for portal in found.portals
    }


VALUES = st.one_of(st.just(b""), st.integers(0, 2**32 - 1).map(lambda found: found.to_bytes(4)), st.binary(max_size=20))
ATTRIBUTES = st.builds(Attribute, st.one_of(st.sampled_from(Tag), st.integers(0, 3000)), VALUES)
PAYLOADS = st.one_of(st.binary(max_size=200), st.lists(ATTRIBUTES, max_size=8).map(attributes.pack))


@given(st.sampled_from(Function), PAYLOADS, st.booleans())
def test_any_payload_is_answered(function, payload, with_source):
    """Law: every request has one answer, whatever is in it."""
    server = NameServer(TERMS._replace(controls=frozenset({A})))
    if with_source:
        payload = attributes.pack(key(A)) + payload
    reply, *_ = server.received(Message(function, 1, payload), 0.0)
    assert isinstance(reply, Reply)
    assert reply.message.function_id == function | 0x8000


@given(st.binary(max_size=300), st.lists(st.integers(1, 20), min_size=1))
def test_any_stream_is_messages_or_ends(stream, steps):
    """Law: bytes in any pieces are messages, or are refused as the bytes of no protocol."""
    reader = MessageReader(1000)
    stream = pack(pack_request(Request(Function.DEV_ATTR_QRY, A), 1)) + stream
    found: list[Message] = []
    try:
        for step in steps * len(stream):
            found += reader.feed(stream[:step])
            stream = stream[step:]
    except FramingError:
        pass
    assert len(reader._buffer) + len(reader._payload) <= 1000 + 12 + 65535
    assert all(len(message.payload) <= 1000 for message in found)
