"""Rules of a running server, and the initiator of this project that meets them."""

import asyncio

import pytest

import iscsi_target
from iscsi_target.client import CommandFailed, Options, Preferences, SessionEnded
from iscsi_target.config.address import Address
from iscsi_target.config.values import ConfigError, FaultEntry, PortalGroup, ram_configuration
from iscsi_target.faults import rulebook
from iscsi_target.faults.grammar import parse
from iscsi_target.server import faults as module
from iscsi_target.server.server import Server
from iscsi_target.target import FaultFired

BUSY = FaultEntry(parse("on scsi-command where opcode=WRITE(16), times=2: answer busy"), "busy")
SLOW = FaultEntry(parse("on scsi-command where opcode=READ(16): delay 1ms"))


@pytest.fixture
def configuration(tmp_path):
    return ram_configuration(tmp_path / "state", 1 << 20)


@pytest.fixture
async def server(configuration):
    async with Server(configuration) as running:
        yield running


def names(server: Server) -> list[str]:
    return [report.name for report in server.faults.rules]


async def test_configured_rules_are_there_from_the_start(configuration):
    async with Server(configuration._replace(faults=(BUSY,))) as server:
        async with iscsi_target.connect(server.url("disk0")) as session:
            for _ in range(2):
                with pytest.raises(CommandFailed, match="BUSY"):
                    await session.write(0, bytes(512))
            await session.write(0, bytes(512))
        [report] = server.faults.rules
        assert (report.name, report.matched, report.fired) == ("busy", 3, 2)


async def test_a_program_adds_and_removes_rules_under_a_session(server):
    fired: list[FaultFired] = []
    server.faults.observers.add(fired.append)
    async with iscsi_target.connect(server.url("disk0")) as session:
        assert server.faults.add("on scsi-command where opcode=READ(16): answer sense 3/11/00") == "1"
        with pytest.raises(CommandFailed, match="MEDIUM_ERROR"):
            await session.read(0, 1)
        server.faults.remove("1")
        assert await session.read(0, 1) == bytes(512)
    assert [event.rule for event in fired] == ["1"]
    assert server.faults.rules == ()


async def test_a_stalled_connection_goes_on_when_rules_are_cleared(server):
    fired = asyncio.Event()
    server.faults.observers.add(lambda event: fired.set())
    async with iscsi_target.connect(server.url("disk0")) as session, asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        for rule in ("on in: stall", "on out: stall"):
            fired.clear()
            server.faults.add(rule)
            read = tasks.create_task(session.read(0, 1))
            await fired.wait()
            server.faults.clear()
            assert await read == bytes(512)


async def test_a_path_that_fails_without_a_word_is_one_portal_group(configuration):
    other = PortalGroup(2, (Address("127.0.0.1", 0),))
    targets = (configuration.targets[0]._replace(portal_groups=(1, 2)),)
    groups = (*configuration.portal_groups, other)
    async with Server(configuration._replace(portal_groups=groups, targets=targets)) as server:
        good, lost = (f"iscsi://{portal}/{targets[0].name}/0" for portal in server.portals)
        server.faults.add("on in where portal_group=2: drop")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), iscsi_target.connect(lost):
                pass
        async with iscsi_target.connect(good) as session:
            assert await session.read(0, 1) == bytes(512)
        server.faults.clear()
        async with iscsi_target.connect(lost) as session:
            assert await session.read(0, 1) == bytes(512)


async def test_an_initiator_notices_a_wrong_data_digest(server):
    server.faults.add("on data-in where opcode=READ(16): corrupt data-digest")
    options = Options(Preferences(data_digest=("CRC32C",)))
    with pytest.raises(SessionEnded, match="digest"):
        async with iscsi_target.connect(server.url("disk0"), options=options) as session:
            await session.read(0, 8)


async def test_an_initiator_notices_a_wrong_stat_sn(server):
    server.faults.add("on data-in where opcode=READ(16): change stat_sn by 1")
    with pytest.raises(SessionEnded, match="StatSN"):
        async with iscsi_target.connect(server.url("disk0")) as session:
            await session.read(0, 8)


async def test_what_is_wrong_with_a_rule_is_raised(server):
    for wrong in ("on in", "on in: explode"):
        with pytest.raises(ValueError):
            server.faults.add(wrong)
    with pytest.raises(ValueError, match="no rule 'x'"):
        server.faults.remove("x")


async def test_a_reload_has_other_rules_and_leaves_those_that_were_added(server, configuration):
    server.faults.add("on in where nth=1000: drop", "mine")
    await server.reload(configuration._replace(faults=(BUSY, SLOW)))
    assert names(server) == ["mine", "busy", "1"]
    await server.reload(configuration._replace(faults=(BUSY, SLOW), targets=configuration.targets))
    assert names(server) == ["mine", "busy", "1"]
    await server.reload(configuration._replace(faults=(SLOW,)))
    assert names(server) == ["mine", "2"]
    await server.reload(configuration._replace(faults=(SLOW._replace(name="mine"),)))
    assert [(report.name, report.rule) for report in server.faults.rules] == [("mine", SLOW.rule)]


async def test_a_rule_of_the_configuration_that_was_removed_stays_away_until_it_changes(server, configuration):
    configured = configuration._replace(faults=(BUSY,))
    await server.reload(configured)
    server.faults.clear()
    await server.reload(configured)
    assert names(server) == []
    await server.reload(configuration._replace(faults=(BUSY, SLOW)))
    assert names(server) == ["busy", "1"]


async def test_a_reload_with_too_many_rules_changes_nothing(server, configuration, monkeypatch):
    for target in (rulebook, module):
        monkeypatch.setattr(target, "MAX_RULES", 2)
    server.faults.add("on in where nth=1000: drop")
    with pytest.raises(ConfigError, match="more than 2"):
        await server.reload(configuration._replace(faults=(BUSY, SLOW)))
    assert names(server) == ["1"]
