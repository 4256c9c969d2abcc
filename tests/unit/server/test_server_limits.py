"""A server whose limits change while it runs, and the initiator of this project."""

import pytest

import iscsi_target
from iscsi_target.client import NotLoggedIn, SessionEnded
from iscsi_target.config.values import ram_configuration
from iscsi_target.server.server import Server
from iscsi_target.target.limits import Limits


@pytest.fixture
def configuration(tmp_path):
    return ram_configuration(tmp_path / "state", 1 << 20)


async def test_fewer_sessions_are_let_in_after_a_reload_and_those_that_are_open_stay(configuration):
    async with Server(configuration) as server, iscsi_target.connect(server.url("disk0")) as session:
        await server.reload(configuration._replace(limits=Limits(sessions=1)))
        with pytest.raises(NotLoggedIn) as refused:
            async with iscsi_target.connect(server.url("disk0"), initiator_name="iqn.2026-01.org.example:b"):
                pass
        assert refused.value.status == 0x0302
        assert await session.read(0, 1) == bytes(512)


async def test_more_connections_are_taken_after_a_reload(configuration):
    async with Server(configuration._replace(limits=Limits(connections=1))) as server:
        url = server.url("disk0")
        async with iscsi_target.connect(url) as session:
            with pytest.raises((SessionEnded, NotLoggedIn, OSError)):
                async with iscsi_target.connect(url, initiator_name="iqn.2026-01.org.example:b"):
                    pass
            await server.reload(configuration)
            async with iscsi_target.connect(url, initiator_name="iqn.2026-01.org.example:b") as other:
                assert await other.read(0, 1) == await session.read(0, 1)
