"""Targets of a running server that are taken offline, moved and brought back, and the initiator of this project."""

import asyncio

import pytest

import iscsi_target
from iscsi_target.client import NotLoggedIn
from iscsi_target.config.values import DEFAULT_TARGET_NAME, ram_configuration
from iscsi_target.iscsi.standing import OFFLINE, ONLINE, moved_to
from iscsi_target.scsi.reservations.reservation_record import Record
from iscsi_target.server.refused import Refused
from iscsi_target.server.server import Server
from iscsi_target.server.targets import carry_out

NAME = DEFAULT_TARGET_NAME
ELSEWHERE = moved_to("192.0.2.2:3260", permanent=True)


@pytest.fixture
def configuration(tmp_path):
    return ram_configuration(tmp_path / "state", 1 << 20)


@pytest.fixture
async def server(configuration):
    async with Server(configuration) as running:
        yield running


def standing_in(configuration, standing):
    return configuration._replace(targets=(configuration.targets[0]._replace(standing=standing),))


def standing_of(server):
    return server.targets.standing(server.configuration.targets[0])


async def test_a_target_is_taken_offline_under_a_session_and_brought_back(server):
    async with iscsi_target.connect(server.url("disk0")) as session:
        await server.targets.take_offline(NAME)
        assert (await session.message()).header.async_event == 1
    with pytest.raises(NotLoggedIn) as refused:
        async with iscsi_target.connect(server.url("disk0")):
            pass
    assert refused.value.status == 0x0301
    await server.targets.bring_online(NAME.upper())
    async with iscsi_target.connect(server.url("disk0")) as session:
        assert await session.read(0, 1) == bytes(512)


async def test_an_initiator_follows_a_redirection(server, tmp_path):
    async with Server(ram_configuration(tmp_path / "other", 2 << 20)) as other:
        await server.targets.redirect(NAME, str(other.portals[0]))
        async with iscsi_target.connect(server.url("disk0")) as session:
            assert (await session.capacity()).blocks == (2 << 20) // 512
        assert not server.sessions


async def test_a_target_may_be_configured_to_have_moved(configuration):
    async with Server(standing_in(configuration, ELSEWHERE)) as server:
        [record] = server.targets.records()
        assert record == {
            "target": NAME,
            "standing": "moved permanently to 192.0.2.2:3260",
            "admits": False,
            "address": "192.0.2.2:3260",
            "sessions": 0,
        }
        await server.targets.bring_online(NAME)
        async with iscsi_target.connect(server.url("disk0")):
            assert server.targets.records()[0]["sessions"] == 1


async def test_what_was_ordered_holds_until_the_configuration_says_otherwise(server, configuration):
    await server.targets.take_offline(NAME)
    await server.reload(configuration._replace(pools=()))
    assert standing_of(server) == OFFLINE
    await server.reload(standing_in(configuration, ELSEWHERE))
    assert standing_of(server) == ELSEWHERE
    await server.targets.bring_online(NAME)
    assert standing_of(server) == ONLINE
    await server.reload(configuration)
    assert standing_of(server) == ONLINE


async def test_what_was_ordered_of_a_target_ends_with_it(server, configuration):
    await server.targets.take_offline(NAME)
    await server.reload(configuration._replace(targets=(configuration.targets[0]._replace(name="iqn.2026-11.a:b"),)))
    await server.reload(configuration)
    assert standing_of(server) == ONLINE


async def test_requests(server):
    assert (await carry_out(server.targets, {"request": "targets"})) == {"targets": server.targets.records()}
    for state, standing in (
        ("offline", "offline"),
        ("moved", "moved temporarily to 192.0.2.2:3260"),
        ("moved_permanently", "moved permanently to 192.0.2.2:3260"),
        ("online", "online"),
    ):
        request: Record = {"request": "set_target", "target": NAME, "state": state, "address": "192.0.2.2"}
        assert (await carry_out(server.targets, request)) == {"targets": server.targets.records()}
        assert str(standing_of(server)) == standing


@pytest.mark.parametrize(
    "request_, said",
    [
        ({"target": NAME, "state": "away"}, "'away' is no state of a target"),
        ({"target": NAME, "state": "moved"}, "or has no address"),
        ({"target": NAME, "state": "moved", "address": "a:b:c"}, "without brackets"),
        ({"target": NAME, "state": "moved", "address": "a:70000"}, "is not HOST:PORT"),
        ({"target": NAME, "state": "moved", "address": "192.0.2.2:0"}, "nothing that an initiator can connect to"),
        ({"target": NAME, "state": "moved", "address": "[::]:3260"}, "nothing that an initiator can connect to"),
        ({"target": "iqn.x", "state": "offline"}, "there is no target 'iqn.x'"),
        ({"state": "online"}, "there is no target 'none'"),
    ],
)
async def test_what_is_wrong_is_refused_with_a_remedy(server, request_, said):
    with pytest.raises(Refused) as refused:
        await carry_out(server.targets, {"request": "set_target", **request_})
    assert said in refused.value.what
    assert refused.value.remedy
    assert standing_of(server) == ONLINE


async def test_a_target_that_is_gone_when_its_order_has_its_turn_is_refused(server, configuration):
    other = configuration.targets[0]._replace(name="iqn.2026-01.org.example:other")
    async with server._changing:  # as while a configuration is taken in
        order = asyncio.ensure_future(server.targets.take_offline(NAME))
        await asyncio.sleep(0)
        server.targets.configure([other])
    with pytest.raises(Refused, match=r"targets: iqn\.2026-01\.org\.example:other"):
        await order
