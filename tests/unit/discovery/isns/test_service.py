"""The server on loopback sockets: clients that behave, and some that do not."""

import asyncio
import socket

import asyncio_dgram
import pytest

from iscsi_target.config.address import Address
from iscsi_target.config.values import ConfigError
from iscsi_target.discovery.isns import service as module
from iscsi_target.discovery.isns.attributes import Tag, number
from iscsi_target.discovery.isns.faults import Status
from iscsi_target.discovery.isns.messages import Function, Request, Scn, pack_request, unpack_answer
from iscsi_target.discovery.isns.pdu import Message, MessageReader, pack, unpack_datagram
from iscsi_target.discovery.isns.registering import Terms
from iscsi_target.discovery.isns.service import Service
from iscsi_target.discovery.isns.status_port import UdpStatusPort
from tests.isns import A, B, entity, key, node, portal

HOST = "127.0.0.1"
TIMEOUT_S = 20


class Client:
    """A connection to a server."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.messages = MessageReader()

    async def answers(self, count=1):
        found: list[Message] = []
        while len(found) < count and (data := await self.reader.read(65536)):
            found += self.messages.feed(data)
        return found

    async def ask(self, *requests):
        self.writer.write(b"".join(pack(pack_request(each, at)) for at, each in enumerate(requests)))
        found = await self.answers(len(requests))
        assert [each.transaction_id for each in found] == list(range(len(requests)))
        return [unpack_answer(each) for each in found]


@pytest.fixture
async def service():
    async with asyncio.timeout(TIMEOUT_S), Service(Address(HOST, 0), Terms(min_esi_s=0, max_esi_s=0)) as service:
        yield service


@pytest.fixture
async def connect(service):
    """Returns a function that connects a client; those are closed after the test."""
    clients = []

    async def connected():
        clients.append(Client(*await asyncio.open_connection(*service.address)))
        return clients[-1]

    yield connected
    for client in clients:
        client.writer.close()


def registration(source, *parts):
    return Request(Function.DEV_ATTR_REG, source, (), tuple(attribute for part in parts for attribute in part))


QUERY = Request(Function.DEV_ATTR_QRY, A)
PLAIN = registration(A, entity("one"), portal(HOST), node(A))


async def test_requests_are_answered_in_order(connect):
    client = await connect()
    first, second, third = await client.ask(QUERY, PLAIN, QUERY)
    assert (first.operating, second.status) == ((), Status.SUCCESSFUL)
    assert key(A)[0] in third.operating


async def test_more_requests_than_may_wait_are_all_answered(connect):
    client = await connect()
    assert len(await client.ask(*[QUERY] * (3 * module.MAX_WAITING_REQUESTS))) == 3 * module.MAX_WAITING_REQUESTS


async def test_requests_come_by_udp_too_but_long_answers_do_not_leave_that_way(service, connect):
    stream = await asyncio_dgram.connect(tuple(service.address))
    await stream.send(b"rubbish")
    await stream.send(pack(pack_request(PLAIN, 5)))
    answer = unpack_datagram((await stream.recv())[0])
    assert (answer.transaction_id, unpack_answer(answer).status) == (5, Status.SUCCESSFUL)
    client = await connect()
    await client.ask(registration(A, *(node(f"{A}{each}") for each in range(50))))
    await stream.send(pack(pack_request(QUERY, 6)))
    await stream.send(pack(pack_request(PLAIN, 7)))
    assert unpack_datagram((await stream.recv())[0]).transaction_id == 7
    stream.close()


async def ended(client):
    try:
        return await client.reader.read() == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("rubbish", [b"GET / HTTP/1.1\r\n\r\n", pack(Message(1, 1, b"")).replace(b"\1", b"\2", 1)])
async def test_rubbish_ends_the_connection(connect, rubbish):
    client = await connect()
    client.writer.write(rubbish)
    assert await ended(client)
    assert await (await connect()).ask(QUERY)


async def test_silent_connection_goes_when_there_are_too_many(connect, monkeypatch):
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)
    first, second = await connect(), await connect()
    await second.ask(QUERY)
    await first.ask(QUERY)
    third = await connect()
    assert await third.ask(QUERY)
    assert await ended(second)
    assert await first.ask(QUERY)


async def test_one_address_has_not_all_connections(connect, monkeypatch):
    monkeypatch.setattr(module, "MAX_CONNECTIONS_PER_PEER", 1)
    first = await connect()
    await first.ask(QUERY)
    assert await ended(await connect())
    assert await first.ask(QUERY)


async def test_client_that_reads_no_answers_is_cut(service, connect, monkeypatch):
    monkeypatch.setattr(module, "UNREAD_BYTES", 4096)
    client = await connect()
    await client.ask(registration(A, *(node(f"{A}{each}") for each in range(200))))
    while service.connections:
        client.writer.write(pack(pack_request(QUERY, 1)))
        await asyncio.sleep(0)


async def test_client_is_notified_and_inquired(service, connect):
    class Listening:
        servers = (HOST,)

        def __init__(self):
            self.messages: asyncio.Queue[Message] = asyncio.Queue()

        def notified(self, message):
            self.messages.put_nowait(message)

    listening = Listening()
    async with asyncio.TaskGroup() as tasks:
        port = UdpStatusPort(listening, tasks)
        await port.open(HOST, 0)
        client = await connect()
        wanted = Request(Function.SCN_REG, A, key(A), (number(Tag.ISCSI_SCN_BITMAP, Scn.OBJECT_ADDED),))
        await client.ask(registration(A, entity("one"), portal(HOST, status=port.port, esi_s=1), node(A)), wanted)
        await client.ask(registration(B, node(B)))
        found: set[int] = set()
        while found != {Function.SCN, Function.ESI}:
            found.add((await listening.messages.get()).function_id)
        port.close()


async def test_silent_portal_is_removed(service, connect, monkeypatch):
    monkeypatch.setattr(module, "deliver", never)
    client = await connect()
    await client.ask(registration(A, entity("one"), portal(HOST, status=9, esi_s=1), node(A)))
    while (await client.ask(Request(Function.DEV_ATTR_QRY, B)))[0].operating:
        pass


async def never(message, place):
    return False


async def test_deliveries_that_wait_are_bounded(service, connect, monkeypatch, caplog):
    monkeypatch.setattr(module, "MAX_WAITING_DELIVERIES", 0)
    client = await connect()
    wanted = Request(Function.SCN_REG, A, key(A), (number(Tag.ISCSI_SCN_BITMAP, Scn.OBJECT_ADDED),))
    await client.ask(registration(A, entity("one"), portal(HOST, status=9), node(A)), wanted)
    await client.ask(registration(B, node(B)))
    assert "one more is dropped" in caplog.text


async def test_address_that_is_taken_is_told_with_a_remedy(service):
    with pytest.raises(ConfigError, match="address already in use; stop what listens there"):
        await Service(service.address, Terms()).__aenter__()
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        with pytest.raises(ConfigError, match="by UDP: address already in use; choose another"):
            await Service(Address(*taken.getsockname()), Terms()).__aenter__()
