"""Pools of a server: who is told of their changes, and what the log says.

    session ──> unit "a" (RAM) ==\
                                  pool "shared"
                unit "b" (file) ==/
"""

import logging

import pytest

from iscsi_target.config.address import Address
from iscsi_target.config.values import Backing, ConfigError, Configuration, PoolEntry, PortalGroup, TargetEntry, Unit
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.block_cdb import Unmap, Write16
from iscsi_target.scsi.layouts.cdb import LogSense
from iscsi_target.scsi.layouts.pages import UnmapBlockDescriptor, UnmapHeader
from iscsi_target.server.pools import Fill
from iscsi_target.server.server import Server
from iscsi_target.storage.faults import StorageError
from tests.endtoend.wire_initiator import Initiator, Outcome, session
from tests.initiator import READY

MIB = 1 << 20
TARGET = "iqn.2026-11.org.example:t"
GOOD = (0, 0, 0)
NO_ROOM = (2, 7, 0x2707)
REACHED = (2, 6, AttentionCode.THIN_PROVISIONING_SOFT_THRESHOLD_REACHED)


def of_pools(configuration, *entries, **pools):
    """Returns the configuration with these pools, and the units in those that are named."""
    units = tuple(unit._replace(pool=pools.get(unit.name, unit.pool)) for unit in configuration.units)
    return configuration._replace(pools=entries, units=units)


@pytest.fixture
def configuration(tmp_path):
    return Configuration(
        state=tmp_path / "state",
        portal_groups=(PortalGroup(1, (Address("127.0.0.1", 0),)),),
        units=(
            Unit("a", Backing.RAM, None, 64 * MIB, pool="shared"),
            Unit("b", Backing.FILE, tmp_path / "b.img", 64 * MIB, pool="shared"),
        ),
        targets=(TargetEntry(TARGET, {0: "a", 1: "b"}),),
        pools=(PoolEntry("shared", 10 * MIB),),
    )


def other(server):
    """Returns a session of another initiator with unit "b"."""
    return session(server.url("b"), name=f"{TARGET}:b")


async def write(initiator: Initiator, first_mib: int, length_mib: int = 1) -> Outcome:
    """Writes so many MiB; the last outcome is returned."""
    outcome = None
    for number in range(first_mib, first_mib + length_mib):
        cdb = Write16(lba=number * 2048, transfer_length=2048)
        outcome = await initiator.execute(cdb, b"\x01" * MIB)
        if outcome[:3] != GOOD:
            break
    assert outcome is not None
    return outcome


async def unmap(initiator: Initiator, first_mib: int, length_mib: int) -> Outcome:
    descriptor = UnmapBlockDescriptor(lba=first_mib * 2048, number_of_logical_blocks=length_mib * 2048).pack()
    header = UnmapHeader(
        unmap_data_length=len(descriptor) + UnmapHeader.size - 2, unmap_block_descriptor_data_length=len(descriptor)
    )
    parameters = header.pack() + descriptor
    return await initiator.execute(Unmap(parameter_list_length=len(parameters)), parameters)


async def counts(initiator: Initiator) -> tuple[int, int]:
    """Returns what is available and what is used, of the log page."""
    outcome = await initiator.execute(LogSense(page_code=0x0C, pc=1, allocation_length=64), read_bytes=64)
    data = outcome.data_in
    return int.from_bytes(data[8:12]), int.from_bytes(data[20:24])


async def test_units_share_the_room_and_what_one_gives_back_the_other_may_take(configuration):
    async with Server(configuration) as server, session(server.url("a")) as a, other(server) as b:
        await a.ready()
        await b.ready()
        assert (await write(a, 0, 6))[:3] == GOOD
        assert (await write(b, 0, 4))[:3] == GOOD
        assert (await counts(a), await counts(b)) == ((0, 6), (0, 4))
        assert (await write(b, 4))[:3] == NO_ROOM
        assert (await write(b, 3))[:3] == GOOD
        assert (await unmap(a, 0, 2))[:3] == GOOD
        assert (await counts(b)) == (2, 4)
        assert (await write(b, 4, 2))[:3] == GOOD


async def test_pool_becomes_larger_by_a_reload_under_its_sessions(configuration):
    async with Server(configuration) as server, session(server.url("b")) as b:
        await b.ready()
        assert (await write(b, 0, 11))[:3] == NO_ROOM
        await server.reload(of_pools(configuration, PoolEntry("shared", 12 * MIB)))
        assert await counts(b) == (2, 10)
        assert (await write(b, 10))[:3] == GOOD
        assert len(server.sessions) == 1


async def test_reload_that_fails_leaves_a_pool_as_it_is(configuration, tmp_path):
    async with Server(configuration) as server, session(server.url("a")) as a:
        await a.ready()
        larger = of_pools(configuration, PoolEntry("shared", 20 * MIB), PoolEntry("other", MIB))
        wrong = Unit("c", Backing.FILE, tmp_path / "none.img")
        with pytest.raises(Exception, match=r"none\.img"):
            await server.reload(larger._replace(units=(*larger.units, wrong)))
        assert await counts(a) == (10, 0)


async def test_unit_that_leaves_a_pool_gives_its_room_back(configuration):
    async with Server(configuration) as server, session(server.url("a")) as a:
        await a.ready()
        async with other(server) as b:
            await b.ready()
            assert (await write(b, 0, 5))[:3] == GOOD
        assert await counts(a) == (5, 0)
        left = of_pools(configuration, *configuration.pools, PoolEntry("other", 100 * MIB), b="other")
        await server.reload(left)
        await a.ready()
        assert await counts(a) == (10, 0)
        async with other(server) as b:
            await b.ready()
            assert await counts(b) == (95, 5)


async def test_a_configured_soft_threshold_is_told_to_initiators_and_in_the_log(configuration, caplog):
    with caplog.at_level(logging.WARNING):
        given = of_pools(configuration, PoolEntry("shared", 10 * MIB, 80))
        async with Server(given) as server, session(server.url("a")) as a, other(server) as b:
            await a.ready()
            await b.ready()
            assert (await write(b, 0, 7))[:3] == GOOD
            assert (await a.execute(READY))[:3] == GOOD
            assert (await write(b, 7))[:3] == GOOD
            for initiator in (a, b):
                assert (await initiator.execute(READY))[:3] == REACHED
                assert (await initiator.execute(READY))[:3] == GOOD
            assert "pool shared has reached its soft threshold of 80 %: 8388608 of 10485760 bytes" in caplog.text
            assert (await write(b, 8, 2))[:3] == GOOD
            assert "pool shared is full, so writes that need room fail" in caplog.text
            await server.reload(of_pools(given, PoolEntry("shared", 20 * MIB, 85)))
            for initiator in (a, b):
                assert (await initiator.execute(READY)).code == AttentionCode.MODE_PARAMETERS_CHANGED
            assert (await write(b, 10, 8))[:3] == REACHED


async def test_unit_cannot_be_in_a_pool_that_there_is_not(configuration):
    with pytest.raises(ConfigError, match="there is no pool 'none'"):
        async with Server(of_pools(configuration, *configuration.pools, a="none")):
            pass


async def test_what_is_used_is_found_again_after_a_restart(configuration):
    only_b = configuration._replace(units=configuration.units[1:], targets=(TargetEntry(TARGET, {1: "b"}),))
    for first_mib, expected in ((0, (7, 3)), (3, (4, 6))):
        async with Server(only_b) as server, session(server.url("b")) as b:
            await b.ready()
            assert (await write(b, first_mib, 3))[:3] == GOOD
            assert await counts(b) == expected


async def test_a_pool_that_is_full_again_and_again_does_not_fill_the_log(configuration, caplog):
    given = of_pools(configuration, PoolEntry("shared", MIB, 80))
    async with Server(given) as server, session(server.url("a")) as a:
        await a.ready()
        for _ in range(3):
            assert (await write(a, 0))[:3] == GOOD
            await a.ready()
            assert server._pools.fill("shared") is Fill.FULL
            assert (await unmap(a, 0, 1))[:3] == GOOD
            assert server._pools.fill("shared") is Fill.NORMAL
    assert caplog.text.count("pool shared is full") == 1


async def test_a_pool_of_a_configuration_that_is_not_taken_is_not_there(configuration, tmp_path):
    async with Server(configuration) as server:
        missing = Unit("c", Backing.FILE, tmp_path / "none.img", None)
        more = of_pools(configuration, *configuration.pools, PoolEntry("new", MIB))
        with pytest.raises(StorageError):
            await server.reload(more._replace(units=(*more.units, missing)))
        assert list(server._pools.by_name) == ["shared"]
