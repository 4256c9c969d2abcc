"""Targets that are found by an iSNS server, our own on a loopback socket, or one that the test plays."""

import asyncio

import pytest

import iscsi_target
from iscsi_target.client import DiscoveredTarget, Options, QueryRefused
from iscsi_target.config.address import Address
from iscsi_target.discovery.isns.faults import Status
from iscsi_target.discovery.isns.messages import Answer, Function, NodeType, Request, pack_answer, pack_request
from iscsi_target.discovery.isns.pdu import Message, pack
from iscsi_target.discovery.isns.registering import Terms
from iscsi_target.discovery.isns.service import Service
from tests.isns import A, B, C, P, Q, entity, node, portal, tagged

QUERY = Message(Function.DEV_ATTR_QRY, 1, b"")


@pytest.fixture
async def url():
    """An iSNS server with target A by two portals, target B that nobody reaches, and initiator C."""
    async with Service(Address("127.0.0.1", 0), Terms()) as service:
        parts = (
            entity("one"),
            portal(P),
            portal("2001:db8::1", 860),
            *(node(A), tagged(1, P), tagged(7, "2001:db8::1", port=860)),
            *(node(B), tagged(None, P), tagged(None, "2001:db8::1", port=860)),
            node(C, NodeType.INITIATOR),
        )
        operating = tuple(attribute for part in parts for attribute in part)
        service.request(pack_request(Request(Function.DEV_ATTR_REG, A, (), operating), 1), "the test")
        yield f"isns://{service.address}"


async def test_targets_are_found_with_the_portals_that_lead_to_them(url):
    found = await iscsi_target.discover(url)
    assert found == [DiscoveredTarget(A, (f"{P}:3260,1", "[2001:db8::1]:860,7")), DiscoveredTarget(B, ())]


async def test_registered_target_can_be_connected_to(url):
    async with iscsi_target.serve(ram=1 << 20) as server, Service(Address("127.0.0.1", 0), Terms()) as service:
        host, port = server.portals[0]
        operating = (*entity("two"), *portal(host, port), *node(server.url("disk0").split("/")[3]))
        service.request(pack_request(Request(Function.DEV_ATTR_REG, A, (), operating), 1), "the test")
        [found] = await iscsi_target.discover(f"isns://{service.address}/")
        address, _, _ = found.addresses[0].partition(",")
        async with iscsi_target.connect(f"iscsi://{address}/{found.name}/0") as session:
            assert await session.read(0, 1) == bytes(512)


@pytest.fixture
async def play():
    """Returns a function that starts a server which answers one request with some bytes."""
    servers = []

    async def start(answer):
        async def serve(reader, writer):
            await reader.read(1000)
            writer.write(answer)
            writer.close()

        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        return f"isns://127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}"

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (pack(pack_answer(Answer(Status.SOURCE_UNKNOWN), QUERY)), Status.SOURCE_UNKNOWN, "source unknown"),
        (b"", 0, "without an answer"),
        (b"HTTP/1.1 400 Bad Request\r\n", 0, "not understood"),
        (pack(Message(0x8002, 1, b"")), 0, "not understood"),
        (pack(pack_answer(Answer(Status.SUCCESSFUL, (), portal(Q)[:1] + node(A)[:1]), QUERY)), None, ""),
    ],
)
async def test_server_that_does_not_answer_is_told(play, answer, status, reason):
    url = await play(answer)
    if status is None:  # attributes that nobody asked for are left out
        assert await iscsi_target.discover(url) == [DiscoveredTarget(A, ())]
        return
    with pytest.raises(QueryRefused, match=reason) as refused:
        await iscsi_target.discover(url)
    assert refused.value.status == status


async def test_silent_server_is_waited_for_as_long_as_the_options_say():
    async with Service(Address("127.0.0.1", 0), Terms()) as service:
        service.request = lambda message, peer: b""  # type: ignore[method-assign]  # it is silent
        with pytest.raises(TimeoutError):
            await iscsi_target.discover(f"isns://{service.address}", options=Options(login_timeout_s=0.01))


@pytest.mark.parametrize("url", ["isns://", "isns://::1", "isns://host:port"])
async def test_wrong_url_is_refused(url):
    with pytest.raises(ValueError, match="no host and port"):
        await iscsi_target.discover(url)
