"""Who waits for which answer."""

import asyncio
from collections.abc import Awaitable

import pytest

from iscsi_target.client.channel import Channel, answer_of
from iscsi_target.client.failures import Aborted, CommandFailed, Rejected, SessionEnded
from iscsi_target.client.session import ClientSession
from iscsi_target.initiator.events import (
    ConnectionLost,
    LoggedIn,
    LoggedOut,
    LoginFailed,
    PingAnswered,
    RequestRejected,
    TaskAborted,
)
from iscsi_target.initiator.login import Identity
from iscsi_target.initiator.session import Session, Settings
from iscsi_target.iscsi.framing import frame
from iscsi_target.iscsi.requests import LoginRequest
from iscsi_target.iscsi.responses import AsyncMessage, DataIn, LogoutResponse, NopIn, ScsiResponse
from iscsi_target.scsi.layouts.pages import ReadCapacity16Data
from tests.unit.client.fake_target import refusal, success
from tests.unit.client.wires import FakeTransport
from tests.unit.initiator.bench import ISID, NAME, NODE


def pending(answer):
    future = asyncio.get_running_loop().create_future()
    future.set_result(answer)
    return future


async def test_answer_is_returned_and_what_came_instead_is_raised():
    assert await answer_of(pending(PingAnswered(1, b"x")), PingAnswered) == PingAnswered(1, b"x")
    with pytest.raises(Aborted):
        await answer_of(pending(TaskAborted(1)), PingAnswered)
    with pytest.raises(Rejected, match="0x09") as rejected:
        await answer_of(pending(RequestRejected(1, 9, b"header")), PingAnswered)
    assert rejected.value.header == b"header"
    with pytest.raises(SessionEnded, match="gone"):
        await answer_of(pending(ConnectionLost(0, "gone", (1,))), PingAnswered)


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
async def channel(transport: FakeTransport) -> Channel:
    """A channel whose login request has gone out."""
    return Channel(Session(Identity(NAME, ISID, NODE), Settings(), bytes), transport)


def answer(transport: FakeTransport, *pdu) -> None:
    transport.protocol.data_received(b"".join(frame(*pdu)))


def log_in(transport: FakeTransport) -> None:
    answer(transport, *success(LoginRequest.unpack(transport.taken())))


async def test_login_begins_at_once_and_is_told(channel: Channel, transport: FakeTransport):
    log_in(transport)
    assert isinstance(await channel.login, LoggedIn)
    assert not channel.ended


async def test_failed_login_ends_the_channel(channel: Channel, transport: FakeTransport):
    answer(transport, *refusal(0x0202)(LoginRequest()))
    assert isinstance(await channel.login, LoginFailed)
    assert channel.ended
    assert transport.is_closing()
    with pytest.raises(SessionEnded):
        await channel.ready()


async def test_answers_find_whoever_waits_and_the_rest_goes_into_mailboxes(channel: Channel, transport: FakeTransport):
    log_in(transport)
    waiting = channel.expect(channel.machine.ping(b"", channel.connection))
    answer(transport, AsyncMessage(stat_sn=1))
    answer(transport, NopIn(initiator_task_tag=99, stat_sn=2))
    answer(transport, NopIn(initiator_task_tag=2, stat_sn=3))
    assert waiting.result() == PingAnswered(2, b"")
    assert (await channel.messages.get()).header.async_event == 0
    assert (await channel.unclaimed.get()).header.initiator_task_tag == 99


async def test_answer_that_nobody_waits_for_any_more_is_dropped(channel: Channel, transport: FakeTransport):
    log_in(transport)
    channel.expect(channel.machine.ping(b"", channel.connection)).cancel()
    answer(transport, NopIn(initiator_task_tag=2, stat_sn=1))
    channel.settle(PingAnswered(3, b""), 3)
    assert not channel.machine.requests


async def test_lost_connection_is_the_answer_to_everything(channel: Channel, transport: FakeTransport):
    log_in(transport)
    waiting = channel.expect(channel.machine.ping(b"", channel.connection))
    transport.protocol.connection_lost(OSError("reset"))
    assert waiting.result() == ConnectionLost(0, "reset", (2,))
    assert channel.ended == "reset"
    await channel.close()


async def test_refused_logout_leaves_the_session(channel: Channel, transport: FakeTransport):
    log_in(transport)
    session = ClientSession(channel, 0, {})
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(session.log_out())
        await asyncio.sleep(0)
        answer(transport, LogoutResponse(initiator_task_tag=2, response=3, stat_sn=1))
    assert leaving.result() == LoggedOut(2, 3, 0, 0)
    assert not session.ended
    await channel.ready()


async def test_session_that_is_leaving_takes_no_request(channel: Channel, transport: FakeTransport):
    log_in(transport)
    channel.machine.log_out(channel.connection)
    with pytest.raises(SessionEnded, match="logging out"):
        channel.check()


def complete(transport: FakeTransport, number: int, data: bytes = b"", missing: int = 0) -> None:
    """Ends the command with a number, counted from 0, with data or without."""
    tag, underflow = number + 2, missing > 0
    if data:
        answer(transport, DataIn(initiator_task_tag=tag, stat_sn=number + 1, data_sn=0, final=True), data)
    answer(
        transport,
        ScsiResponse(
            initiator_task_tag=tag,
            stat_sn=number + 1,
            exp_cmd_sn=number + 2,
            max_cmd_sn=number + 2,
            underflow=underflow,
            residual_count=missing,
        ),
    )


@pytest.mark.parametrize(
    ("verb", "says"),
    [
        ("read", "Read16: GOOD, but 512 of 1024 bytes came"),
        ("write", "Write16: GOOD, but 512 bytes were not taken"),
    ],
)
async def test_disk_that_does_less_than_it_was_asked_for_has_failed(
    channel: Channel, transport: FakeTransport, verb: str, says: str
):
    log_in(transport)
    session = ClientSession(channel, 0, {})
    reads = verb == "read"
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(_failure(session.read(0, 2) if reads else session.write(0, bytes(1024))))
        await asyncio.sleep(0)
        complete(transport, 0, ReadCapacity16Data(returned_lba=7, block_length=512).pack())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        complete(transport, 1, bytes(512) if reads else b"", missing=512)
    assert asked.result() == says


async def test_disk_without_blocks_is_none(channel: Channel, transport: FakeTransport):
    log_in(transport)
    session = ClientSession(channel, 0, {})
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(_failure(session.write(0, bytes(512))))
        await asyncio.sleep(0)
        complete(transport, 0, missing=32)
    assert asked.result() == "ReadCapacity16: GOOD, but blocks have no length"


async def _failure(asked: Awaitable[object]) -> str:
    with pytest.raises(CommandFailed) as failed:
        await asked
    return str(failed.value)
