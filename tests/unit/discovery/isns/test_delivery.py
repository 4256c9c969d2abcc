"""Messages to clients that acknowledge them, and to some that do not; sockets of the loopback interface."""

import asyncio
import socket

import asyncio_dgram
import pytest

from iscsi_target.discovery.isns import delivery
from iscsi_target.discovery.isns.attributes import Tag, text
from iscsi_target.discovery.isns.delivery import deliver
from iscsi_target.discovery.isns.messages import Function, pack_plain
from iscsi_target.discovery.isns.name_server import Place
from iscsi_target.discovery.isns.pdu import Message, pack, unpack_datagram
from iscsi_target.discovery.isns.status_port import TcpStatusPort, UdpStatusPort

HOST = "127.0.0.1"
MESSAGE = pack_plain(Function.ESI, 3, [text(Tag.ENTITY_IDENTIFIER, "entity")])
TIMEOUT_S = 10


class Listening:
    servers = (HOST,)

    def __init__(self):
        self.messages = []

    def notified(self, message):
        self.messages.append(message)


@pytest.mark.parametrize("by_udp", [True, False])
async def test_client_that_is_there_acknowledges(by_udp):
    listening = Listening()
    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
        port = UdpStatusPort(listening, tasks) if by_udp else TcpStatusPort(listening)
        await port.open(HOST, 0)
        assert await deliver(MESSAGE, Place(HOST, port.port, by_udp))
        port.close()
    assert listening.messages == [MESSAGE]


@pytest.mark.parametrize("by_udp", [True, False])
async def test_client_that_is_not_there_does_not(by_udp, monkeypatch):
    monkeypatch.setattr(delivery, "DATAGRAM_TIMEOUT_S", 0.01)
    with socket.socket(type=socket.SOCK_DGRAM if by_udp else socket.SOCK_STREAM) as bound:
        bound.bind((HOST, 0))
        port = bound.getsockname()[1]
    async with asyncio.timeout(TIMEOUT_S):
        assert not await deliver(MESSAGE, Place(HOST, port, by_udp))


async def test_datagram_that_is_lost_is_sent_again(monkeypatch):
    monkeypatch.setattr(delivery, "DATAGRAM_TIMEOUT_S", 0.05)
    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
        client = await asyncio_dgram.bind((HOST, 0))
        delivering = tasks.create_task(deliver(MESSAGE, Place(HOST, client.sockname[1], by_udp=True)))
        await client.recv()
        datagram, sender = await client.recv()
        assert unpack_datagram(datagram) == MESSAGE
        await client.send(pack(Message(0x800D, 2, b"other123")), sender)
        await client.send(pack(Message(0x800D, 3, b"abcd")), sender)
        assert await delivering
        client.close()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n", pack(Message(0x800D, 4, b"abcd"))])
async def test_client_that_answers_something_else_does_not_acknowledge(answer):
    async def serve(reader, writer):
        await reader.read(100)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with asyncio.timeout(TIMEOUT_S):
        assert not await deliver(MESSAGE, Place(HOST, server.sockets[0].getsockname()[1], by_udp=False))
    server.close()


async def test_client_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(delivery, "TIMEOUT_S", 0.01)
    with socket.create_server((HOST, 0)) as listening:
        assert not await deliver(MESSAGE, Place(HOST, listening.getsockname()[1], by_udp=False))
