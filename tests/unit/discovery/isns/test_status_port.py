"""Where ESI and SCN arrive, by both transports; the sockets are real and of the loopback interface."""

import asyncio

import asyncio_dgram
import pytest

from iscsi_target.discovery.isns import status_port
from iscsi_target.discovery.isns.attributes import Tag, text
from iscsi_target.discovery.isns.messages import Function, pack_plain
from iscsi_target.discovery.isns.pdu import Message, MessageReader, pack, unpack_datagram
from iscsi_target.discovery.isns.status_port import TcpStatusPort, UdpStatusPort

PROBE = pack_plain(Function.ESI, 3, [text(Tag.ENTITY_IDENTIFIER, "entity")])
HOST = "127.0.0.1"
ACKNOWLEDGEMENT = Message(0x800D, 3, bytes(4) + PROBE.payload)
TIMEOUT_S = 10


class Listening:
    def __init__(self, *servers):
        self.servers = servers or (HOST,)
        self.messages = []

    def notified(self, message):
        if message.transaction_id == 99:
            raise AssertionError("a bug")
        self.messages.append(message)


@pytest.fixture
async def udp():
    """Makes UDP ports that are closed after the test."""
    opened = []
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(TIMEOUT_S):

        async def make(listening):
            opened.append(UdpStatusPort(listening, tasks))
            await opened[-1].open(HOST, 0)
            return await asyncio_dgram.connect((HOST, opened[-1].port))

        yield make
        for port in opened:
            port.close()


@pytest.fixture
async def tcp():
    """Makes TCP ports that are closed after the test."""
    opened = []
    async with asyncio.timeout(TIMEOUT_S):

        async def make(listening):
            opened.append(TcpStatusPort(listening))
            await opened[-1].open(HOST, 0)
            return opened[-1]

        yield make
        for port in opened:
            port.close()


async def test_probe_by_udp_is_acknowledged(udp):
    listening = Listening()
    stream = await udp(listening)
    await stream.send(pack(PROBE, from_server=True))
    answer, _ = await stream.recv()
    assert unpack_datagram(answer) == ACKNOWLEDGEMENT
    assert listening.messages == [PROBE]
    stream.close()


async def test_rubbish_by_udp_is_dropped_and_a_bug_ends_nothing(udp):
    listening = Listening()
    stream = await udp(listening)
    for datagram in (b"", b"rubbish", pack(PROBE)[:-1], pack(PROBE._replace(function_id=1))):
        await stream.send(datagram)
    await stream.send(pack(PROBE._replace(transaction_id=99)))
    await stream.send(pack(PROBE))
    answer, _ = await stream.recv()
    assert unpack_datagram(answer) == ACKNOWLEDGEMENT
    assert listening.messages == [PROBE]
    stream.close()


async def test_others_than_the_server_are_not_heard_by_udp(udp):
    listening = Listening("192.0.2.1")
    stream = await udp(listening)
    await stream.send(pack(PROBE))
    listening.servers = (HOST,)  # from here on, so that the second shows that the first has been dropped
    await stream.send(pack(PROBE._replace(transaction_id=4)))
    await stream.recv()
    assert [message.transaction_id for message in listening.messages] in ([4], [3, 4])
    stream.close()


async def test_probes_by_tcp_are_acknowledged_in_any_pieces(tcp):
    listening = Listening()
    port = await tcp(listening)
    reader, writer = await asyncio.open_connection(HOST, port.port)
    stream = pack(PROBE) * 2
    writer.write(stream[:15])
    await writer.drain()
    writer.write(stream[15:])
    expected = pack(ACKNOWLEDGEMENT)
    received = await reader.readexactly(2 * len(expected))
    assert list(MessageReader().feed(received)) == [ACKNOWLEDGEMENT] * 2
    writer.close()


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", pack(PROBE._replace(function_id=1))])
async def test_rubbish_by_tcp_ends_the_connection(tcp, sent):
    port = await tcp(Listening())
    reader, writer = await asyncio.open_connection(HOST, port.port)
    writer.write(sent)
    assert await ended(reader)
    writer.close()


async def ended(reader):
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


async def test_others_than_the_server_are_cut_off_by_tcp(tcp):
    port = await tcp(Listening("192.0.2.1"))
    reader, writer = await asyncio.open_connection(HOST, port.port)
    assert await ended(reader)
    writer.close()


async def test_oldest_connection_goes_when_there_are_too_many_and_all_go_at_the_end(tcp):
    port = await tcp(Listening())
    pairs = [await asyncio.open_connection(HOST, port.port) for _ in range(status_port.BOUNDS.connections + 1)]
    assert await ended(pairs[0][0])
    port.close()
    for reader, writer in pairs:
        assert await ended(reader)
        writer.close()


async def test_silent_connection_is_cut(tcp, monkeypatch):
    monkeypatch.setattr(status_port, "BOUNDS", status_port.BOUNDS._replace(idle_s=0.01))
    port = await tcp(Listening())
    reader, writer = await asyncio.open_connection(HOST, port.port)
    assert await ended(reader)
    writer.close()
