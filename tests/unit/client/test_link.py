"""The driver of a connection."""

import asyncio

import pytest

from iscsi_target.client.link import Link
from iscsi_target.initiator.events import ConnectionLost, Event, PingAnswered
from iscsi_target.iscsi.framing import frame
from iscsi_target.iscsi.responses import NopIn
from tests.unit.client.wires import FakeTransport
from tests.unit.initiator.bench import Desk, logged_in


@pytest.fixture
def desk() -> Desk:
    return logged_in()


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
async def link(desk: Desk, transport: FakeTransport, events: list[Event]) -> Link:
    return Link(transport, desk.connection, events.extend)


def test_what_is_queued_goes_out_with_a_flush(link: Link, desk: Desk, transport: FakeTransport):
    link.flush()
    assert transport.taken() == b""
    desk.session.ping(b"", desk.connection)
    link.flush()
    assert len(transport.taken()) == 48


def test_received_bytes_bring_events_and_answers(link: Link, desk: Desk, transport: FakeTransport, events: list[Event]):
    tag = desk.session.ping(b"", desk.connection)
    link.flush()
    transport.taken()
    answered = b"".join(frame(NopIn(initiator_task_tag=tag, stat_sn=101)))
    link.data_received(answered + b"".join(frame(NopIn(target_transfer_tag=1, initiator_task_tag=0xFFFFFFFF))))
    assert events == [PingAnswered(tag, b"")]
    assert len(transport.taken()) == 48


def test_transport_closes_when_the_machine_wants_to(link: Link, transport: FakeTransport, events: list[Event]):
    link.data_received(b"\x3d" * 48)
    assert transport.is_closing()
    assert isinstance(events[0], ConnectionLost)


def test_nothing_is_sent_into_a_closing_transport(link: Link, desk: Desk, transport: FakeTransport):
    transport.close()
    desk.session.ping(b"", desk.connection)
    link.flush()
    assert transport.taken() == b""


async def test_drain_waits_until_the_transport_has_room(link: Link):
    link.pause_writing()
    async with asyncio.TaskGroup() as group:
        drained = group.create_task(link.drain())
        await asyncio.sleep(0)
        assert not drained.done()
        link.resume_writing()


async def test_drain_ends_with_the_connection(link: Link, events: list[Event]):
    link.pause_writing()
    link.connection_lost(None)
    await link.drain()
    await link.closed.wait()
    assert events == [ConnectionLost(0, "the connection is closed", ())]


def test_what_the_transport_has_no_room_for_stays_with_the_machine(link: Link, desk: Desk, transport: FakeTransport):
    link.pause_writing()
    desk.session.ping(b"", desk.connection)
    link.flush()
    assert transport.taken() == b""
    link.resume_writing()
    assert len(transport.taken()) == 48


def test_what_is_queued_goes_out_before_the_end_whether_there_is_room_or_not(
    link: Link, desk: Desk, transport: FakeTransport
):
    link.pause_writing()
    desk.session.ping(b"", desk.connection)
    link.data_received(b"\x3d" * 48)
    assert len(transport.taken()) == 48
    assert transport.is_closing()


async def test_loss_without_words_has_a_reason_all_the_same(link: Link, events: list[Event]):
    link.connection_lost(ConnectionResetError())
    assert events == [ConnectionLost(0, "ConnectionResetError", ())]


def test_close_is_at_once(link: Link, transport: FakeTransport):
    link.close()
    assert transport.is_closing()
