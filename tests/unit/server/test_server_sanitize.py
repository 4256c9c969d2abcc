"""A server with a unit that is being sanitized: reloads, and its end. Session ──> unit "a", which has a file."""

import asyncio
from pathlib import Path

import pytest

from iscsi_target.config.address import Address
from iscsi_target.config.values import Backing, Configuration, PortalGroup, TargetEntry, Unit
from iscsi_target.scsi.commands.sanitize import Sanitize
from iscsi_target.scsi.state.sanitization import Method
from iscsi_target.server.server import STATE_FILE, Server
from iscsi_target.storage.state import StateFile
from tests.endtoend.reserving import insist
from tests.endtoend.wire_initiator import session
from tests.initiator import READY

pytestmark = pytest.mark.clause("SBC3r36 4.11.2")

SIZE = 1 << 20
FOR_EVER_S = 3600.0  # longer than any test
IN_PROGRESS = (2, 0x041B)
LIMIT_S = 20.0


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    image = tmp_path / "a.img"
    image.write_bytes(b"u" * SIZE)
    return Unit("a", Backing.FILE, image, SIZE, sanitize_s=FOR_EVER_S)


@pytest.fixture
def configuration(tmp_path: Path, unit: Unit) -> Configuration:
    return Configuration(
        state=tmp_path / "state",
        portal_groups=(PortalGroup(1, (Address("127.0.0.1", 0),)),),
        units=(unit,),
        targets=(TargetEntry("iqn.2026-11.org.example:t", {0: "a"}),),
    )


async def told(server: Server) -> tuple[int, int]:
    """Returns the sense key and the code of TEST UNIT READY of somebody new."""
    async with asyncio.timeout(LIMIT_S), session(server.url("a")) as initiator:
        outcome, _ = await insist(initiator, READY)
        return outcome.key, outcome.code


async def begin(server: Server) -> None:
    async with asyncio.timeout(LIMIT_S), session(server.url("a")) as initiator:
        outcome, _ = await insist(initiator, Sanitize(service_action=Method.BLOCK_ERASE, immed=True))
        assert outcome.status == 0
    assert await told(server) == IN_PROGRESS


async def wait_for_the_end(server: Server) -> None:
    async with asyncio.timeout(LIMIT_S):
        while (answer := await told(server)) != (0, 0):
            assert answer == IN_PROGRESS


async def test_it_goes_on_in_a_unit_that_is_closed_and_opened_again(configuration: Configuration, unit: Unit):
    async with Server(configuration) as server:
        await begin(server)
        other = unit._replace(rotation_rate=7200, sanitize_s=0.0)
        await server.reload(configuration._replace(units=(other,)))
        await wait_for_the_end(server)
    assert unit.path is not None
    assert unit.path.read_bytes() == bytes(SIZE)


async def test_it_goes_on_in_a_unit_that_stays_open(configuration: Configuration, unit: Unit):
    async with Server(configuration) as server:
        await begin(server)
        await server.reload(configuration._replace(units=(unit._replace(product="OTHER"),)))
        assert await told(server) == IN_PROGRESS


async def test_a_unit_that_is_taken_away_and_comes_back_is_still_sanitized(configuration: Configuration, unit: Unit):
    ram = Unit("b", Backing.RAM, None, SIZE)
    without = configuration._replace(units=(ram,), targets=(configuration.targets[0]._replace(luns={0: "b"}),))
    async with Server(configuration) as server:
        await begin(server)
        await server.reload(without)
        await server.reload(configuration._replace(units=(unit._replace(sanitize_s=0.0),)))
        await wait_for_the_end(server)


async def test_the_end_of_a_server_is_no_failure(configuration: Configuration, tmp_path: Path, caplog):
    quick = configuration._replace(units=(configuration.units[0]._replace(sanitize_s=1.0),))
    async with Server(quick) as server:
        await begin(server)
    state = StateFile.open(tmp_path / "state" / STATE_FILE)
    kept = state.load("a").sanitization
    state.close()
    assert kept is not None
    assert not kept.failed
    assert "has failed" not in caplog.text
    assert "internal error" not in caplog.text
