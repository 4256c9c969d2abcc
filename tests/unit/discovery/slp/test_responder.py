"""The agent on loopback sockets, and a user agent that asks by UDP, by TCP and by multicast."""

import asyncio
import socket
import struct

import asyncio_dgram
import pytest

from iscsi_target.config.address import Address
from iscsi_target.config.values import ConfigError, SlpEntry, TargetEntry
from iscsi_target.discovery.slp import agent
from iscsi_target.discovery.slp import responder as module
from iscsi_target.discovery.slp.responder import GROUP, Responder
from iscsi_target.discovery.slp.services import services_of
from tests import slp

A = "iqn.2026-11.org.example:a"
HOST = "127.0.0.1"
HERE = SlpEntry((Address(HOST, 0),))
TIMEOUT_S = 20


def services(count=1):
    targets = [TargetEntry(f"{A}{'x' * 150}{number}" if number else A, {}) for number in range(count)]
    return services_of(targets, [(Address("0.0.0.0", 3260), 1)])


@pytest.fixture
async def respond():
    """Returns a function that starts a responder with so many targets."""
    started = []
    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:

        async def start(entry=HERE, count=1):
            started.append(Responder(tasks))
            await started[-1].prepare(entry)
            started[-1].adopt(entry, services(count))
            return started[-1]

        yield start
        for responder in started:
            responder.close()


async def by_udp(address, *messages):
    stream = await asyncio_dgram.connect(tuple(address))
    try:
        for message in messages:
            await stream.send(message)
        return slp.read((await stream.recv())[0])
    finally:
        stream.close()


async def by_tcp(address, message):
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(message[:9])
        await writer.drain()
        writer.write(message[9:])
        head = await reader.readexactly(5)
        return slp.read(head + await reader.readexactly(int.from_bytes(head[2:5], "big") - 5))
    finally:
        writer.close()


async def test_request_by_udp_is_answered_with_the_address_at_which_it_came(respond):
    [address] = (await respond()).addresses
    reply = await by_udp(address, slp.service_request())
    assert reply.items == [f"service:iscsi:target://{HOST}:3260/{A}"]


async def test_wildcard_stands_for_the_address_at_which_the_asker_reaches_us(respond):
    [address] = (await respond(SlpEntry((Address("0.0.0.0", 0),), multicast=False))).addresses
    reply = await by_udp(Address("127.0.0.1", address.port), slp.service_request())
    assert reply.items == [f"service:iscsi:target://127.0.0.1:3260/{A}"]


async def test_reply_that_does_not_fit_is_whole_by_tcp(respond):
    [address] = (await respond(count=30)).addresses
    assert (await by_udp(address, slp.service_request())).overflow
    assert len((await by_tcp(address, slp.service_request())).items) == 30


async def test_rubbish_is_passed_over_by_udp_and_ends_a_connection(respond):
    [address] = (await respond()).addresses
    assert (await by_udp(address, b"", b"rubbish", slp.message(8, b""), slp.service_request())).items
    for rubbish in (b"GET / HTTP/1.1\r\n\r\n", bytes(14), slp.message(1, bytes(9000))):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(rubbish)
        assert await ended(reader)
        writer.close()


async def ended(reader):
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


async def test_silent_connections_go(respond, monkeypatch):
    monkeypatch.setattr(module, "BOUNDS", module.BOUNDS._replace(connections=1, idle_s=0.05))
    [address] = (await respond()).addresses
    first, first_writer = await asyncio.open_connection(*address)
    second, second_writer = await asyncio.open_connection(*address)
    assert await ended(first)
    assert await ended(second)
    first_writer.close()
    second_writer.close()


async def test_bug_ends_nothing(respond, monkeypatch, caplog):
    [address] = (await respond()).addresses
    failing = [True]

    def answer(*arguments):
        if failing:
            failing.clear()
            raise AssertionError("a bug")
        return correct(*arguments)

    correct = agent.answer
    monkeypatch.setattr(module, "answer", answer)
    assert (await by_udp(address, slp.service_request(), slp.service_request())).items
    assert "internal error" in caplog.text


async def test_multicast_request_is_heard_and_answered(respond):
    [address] = (await respond()).addresses
    with socket.socket(type=socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.bind((HOST, 0))
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("4s", socket.inet_aton(HOST)))
        stream = await asyncio_dgram.from_socket(asking)
        assert isinstance(stream, asyncio_dgram.aio.DatagramServer)
        await stream.send(slp.service_request("service:printer"), (GROUP, address.port))
        await stream.send(slp.service_request(), (GROUP, address.port))
        assert slp.read((await stream.recv())[0]).items  # there is no reply to the first
        stream.close()


async def test_where_there_is_no_multicast_others_are_answered(respond, monkeypatch, caplog):
    monkeypatch.setattr(module, "GROUP", "192.0.2.1")
    [address] = (await respond()).addresses
    assert "hears no multicast" in caplog.text
    assert (await by_udp(address, slp.service_request())).items


async def test_addresses_follow_the_entry(respond):
    responder = await respond()
    [before] = responder.addresses
    both = SlpEntry((*HERE.listen, Address("127.0.0.2", 0)))
    await responder.prepare(both)
    assert before in responder.addresses
    responder.adopt(both, services(2))
    assert len(responder.addresses) == 2
    assert len((await by_udp(before, slp.service_request())).items) == 2
    other = SlpEntry((Address("127.0.0.2", 0),), ("other",))
    await responder.prepare(other)
    responder.adopt(other, services())
    [after] = responder.addresses
    assert after.host == "127.0.0.2"
    assert (await by_udp(after, slp.service_request(scopes="other"))).items
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*before)


async def test_address_that_cannot_be_bound_is_told_and_changes_nothing(respond, monkeypatch):
    responder = await respond()
    before = responder.addresses
    with socket.create_server((HOST, 0)) as taken:
        wrong = SlpEntry((Address("127.0.0.2", 0), Address(*taken.getsockname())))
        with pytest.raises(
            ConfigError, match=r"slp\.listen 127\.0\.0\.1:\d+: address already in use; stop what listens"
        ):
            await responder.prepare(wrong)
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        with pytest.raises(ConfigError, match="by UDP: address already in use; stop what listens there"):
            await responder.prepare(SlpEntry((Address(*taken.getsockname()),)))
    with pytest.raises(ConfigError, match=r"slp\.multicast: cannot change while the server runs; restart it"):
        await responder.prepare(HERE._replace(multicast=False))
    assert responder.addresses == before


async def test_privileged_port_is_told_with_what_to_do(respond, monkeypatch):
    async def refused(address):
        error = PermissionError(13, "Permission denied")
        raise ConfigError("portal", "permission denied", remedy="other") from error

    monkeypatch.setattr(module, "bind", refused)
    with pytest.raises(ConfigError, match=r"permission denied; port 427 needs CAP_NET_BIND_SERVICE.*0\.0\.0\.0:4427"):
        await respond(SlpEntry())
