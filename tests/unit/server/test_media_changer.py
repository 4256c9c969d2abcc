"""The medium of a removable unit, changed by its operator while sessions use it.

session of A ──> unit "cd" (first.img) <── operator, who has other.img
"""

import asyncio

import pytest

from iscsi_target.config.address import Address
from iscsi_target.config.values import Backing, Configuration, PoolEntry, PortalGroup, TargetEntry, Unit
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.block_cdb import (
    PreventAllowMediumRemoval,
    Read10,
    ReadCapacity10,
    StartStopUnit,
    Write10,
)
from iscsi_target.scsi.layouts.pages import ReadCapacity10Data
from iscsi_target.scsi.operations import Fault, Flush, MediumError, Write
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.server.media_changer import MediaChanger
from iscsi_target.server.refused import Refused
from iscsi_target.server.server import Server
from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.file import FileStore
from iscsi_target.storage.undo import FileIdentity, Undo
from tests.endtoend.wire_initiator import session
from tests.initiator import READY

MIB = 1 << 20
TARGET = "iqn.2026-11.org.example:t"
GOOD = (0, 0, 0)
NO_MEDIUM = (2, 2, 0x3A00)
CHANGED = (2, 6, AttentionCode.MEDIUM_MAY_HAVE_CHANGED)
REQUESTED = (2, 6, AttentionCode.OPERATOR_MEDIUM_REMOVAL_REQUEST)
READ = Read10(lba=0, transfer_length=1)


@pytest.fixture
def configuration(tmp_path):
    return Configuration(
        state=tmp_path / "state",
        portal_groups=(PortalGroup(1, (Address("127.0.0.1", 0),)),),
        units=(
            Unit("cd", Backing.FILE, tmp_path / "first.img", MIB, removable=True),
            Unit("fixed", Backing.RAM, None, MIB),
        ),
        targets=(TargetEntry(TARGET, {0: "cd", 1: "fixed"}),),
    )


@pytest.fixture
async def server(configuration):
    async with Server(configuration) as running:
        yield running


@pytest.fixture
def changer(server):
    return MediaChanger(server._home, server._driver, server._units, server._changing)


@pytest.fixture
async def a(server):
    async with session(server.url("cd")) as initiator:
        await initiator.ready()
        yield initiator


@pytest.fixture
def other(tmp_path):
    path = tmp_path / "other.img"
    path.write_bytes(b"other".ljust(512, b"!") * 4096)
    return path


def is_free(path):
    try:
        FileStore.open(path, size_bytes=None, read_only=False).close()
    except StorageError:
        return False
    return True


async def ready(initiator):
    return (await initiator.execute(READY))[:3]


async def length_blocks(initiator):
    outcome = await initiator.execute(ReadCapacity10(), read_bytes=8)
    assert outcome[:3] == GOOD
    return ReadCapacity10Data.unpack(outcome.data_in).returned_lba + 1


@pytest.mark.clause("SBC3r36 4.9")
async def test_ejected_medium_is_missed_and_is_there_again_when_it_is_loaded(changer, a):
    assert (await a.execute(Write10(transfer_length=1), b"x" * 512))[:3] == GOOD
    assert not (await changer.eject("cd", force=False))["loaded"]
    assert await ready(a) == NO_MEDIUM
    assert (await changer.load("cd"))["loaded"]
    assert (await ready(a), await ready(a)) == (CHANGED, GOOD)
    assert (await a.execute(READ, read_bytes=512)).data_in == b"x" * 512


@pytest.mark.clause("SBC3r36 4.9")
async def test_another_medium_has_its_own_blocks_and_capacity(changer, a, other, tmp_path):
    assert await length_blocks(a) == MIB // 512
    await changer.eject("cd", force=False)
    found = await changer.insert("cd", str(other))
    assert (found["medium"], found["size_bytes"], found["loaded"]) == (str(other), 2 * MIB, True)
    assert (await ready(a), await ready(a)) == (CHANGED, GOOD)
    assert await length_blocks(a) == 4096
    assert (await a.execute(READ, read_bytes=512)).data_in == b"other".ljust(512, b"!")
    assert (await a.execute(Write10(lba=4095, transfer_length=1), b"y" * 512))[:3] == GOOD
    assert is_free(tmp_path / "first.img")
    assert not is_free(other)


@pytest.mark.clause("SBC3r36 5.10")
async def test_prevented_removal_is_asked_for_and_forced_only_on_demand(changer, a):
    assert (await a.execute(PreventAllowMediumRemoval(prevent=1)))[:3] == GOOD
    with pytest.raises(Refused, match=r"removal is prevented by iqn\..*; try again when it lets go, or use --force"):
        await changer.eject("cd", force=False)
    assert (await ready(a), await ready(a)) == (REQUESTED, GOOD)
    [preventing] = changer.described("cd")["preventing"]
    assert preventing["target"] == TARGET
    await changer.eject("cd", force=True)
    assert (await ready(a), await ready(a)) == (REQUESTED, NO_MEDIUM)
    await changer.load("cd")
    assert changer.described("cd")["preventing"] == []


async def test_removal_goes_on_when_the_initiator_has_let_go(changer, a):
    await a.execute(PreventAllowMediumRemoval(prevent=1))
    with pytest.raises(Refused):
        await changer.eject("cd", force=False)
    await ready(a)
    await a.execute(PreventAllowMediumRemoval())
    await changer.eject("cd", force=False)
    assert await ready(a) == NO_MEDIUM


async def test_what_makes_no_sense_is_refused_with_a_remedy(changer, other, tmp_path):
    async def refused(change, pattern):
        with pytest.raises(Refused, match=pattern):
            await change

    await refused(changer.eject("fixed", force=True), "is not removable; configure it with removable = true")
    await refused(changer.load("cd"), "unit cd has a medium; `iscsi-target media eject cd` takes it out")
    await refused(changer.insert("cd", str(other)), "unit cd has a medium")
    await changer.eject("cd", force=False)
    await refused(changer.eject("cd", force=False), "unit cd has no medium; `iscsi-target media load cd`")
    await refused(changer.insert("cd", str(tmp_path / "none.img")), f"there is no {tmp_path}/none.img; name an image")
    await refused(changer.insert("cd", str(tmp_path)), "neither a regular file nor a block device")
    (tmp_path / "small").write_bytes(b"x")
    await refused(changer.insert("cd", str(tmp_path / "small")), "1 bytes are not one block")
    assert is_free(tmp_path / "small")
    await refused(changer.insert("cd", str(tmp_path / "first.img")), "is its medium already; load it")
    held = FileStore.open(other, size_bytes=None, read_only=False)
    await refused(changer.insert("cd", str(other)), "it is in use")
    held.close()
    await changer.insert("cd", str(other))


@pytest.mark.parametrize(
    "method, failed, said",
    [
        (Method.BLOCK_ERASE, False, "unit cd is being sanitized; wait for its end"),
        (Method.FORMAT, False, "unit cd is being formatted; wait for its end"),
        (Method.OVERWRITE, True, "the medium of unit cd could not be sanitized; let an initiator do it once more"),
        (Method.FORMAT, True, "the medium of unit cd could not be formatted; let an initiator do it once more"),
    ],
)
async def test_medium_that_is_being_sanitized_or_could_not_be_stays_in(server, changer, method, failed, said):
    server._units["cd"].device.sanitization = Sanitization(method, MIB, failed=failed)
    with pytest.raises(Refused) as told:
        await changer.eject("cd", force=True)
    assert str(told.value) == said


async def test_medium_that_an_initiator_has_ejected_can_be_replaced(changer, a, other):
    await a.execute(StartStopUnit(loej=True))
    await changer.insert("cd", str(other))
    assert await ready(a) == CHANGED
    assert await length_blocks(a) == 4096


async def test_medium_that_an_initiator_loads_meanwhile_is_not_replaced(server, changer, a, other, monkeypatch):
    await changer.eject("cd", force=False)
    device = server._units["cd"].device
    settled = server._units["cd"].medium.settled

    async def settled_late():
        await settled()
        device.loaded = opened.is_set()
        opened.set()

    opened = asyncio.Event()
    monkeypatch.setattr(server._units["cd"].medium, "settled", settled_late)
    with pytest.raises(Refused, match="an initiator has loaded its medium again"):
        await changer.insert("cd", str(other))
    assert is_free(other)


async def test_reload_keeps_the_medium_and_does_not_resize_it(server, configuration, changer, a, other):
    await changer.eject("cd", force=False)
    await changer.insert("cd", str(other))
    await ready(a)
    await server.reload(configuration)
    assert await ready(a) == GOOD
    assert (await length_blocks(a), other.stat().st_size) == (4096, 2 * MIB)
    assert not changer.described("fixed")["removable"]


async def test_medium_of_a_pool_takes_its_room_from_it_and_the_former_gives_it_back(configuration, other):
    cd = configuration.units[0]._replace(pool="shared")
    pooled = configuration._replace(units=(cd, configuration.units[1]), pools=(PoolEntry("shared", 10 * MIB),))
    async with Server(pooled) as server:
        changer = MediaChanger(server._home, server._driver, server._units, server._changing)
        pool = server._pools.by_name["shared"]
        await changer.eject("cd", force=False)
        await changer.insert("cd", str(other))
        assert pool.used_bytes == 2 * MIB
        resources = server._units["cd"].device.statistics.resources
        assert resources is not None
        assert (resources.used, resources.available) == (2, 8)


async def test_medium_that_cannot_be_flushed_is_out_and_that_is_told(server, changer, monkeypatch):
    medium = server._units["cd"].medium

    async def fails(operation):
        assert operation == Flush()
        return MediumError(Fault.WRITE_FAILED)

    with monkeypatch.context() as patched:
        patched.setattr(medium, "perform", fails)
        with pytest.raises(Refused, match="may lack what was written last: write failed"):
            await changer.eject("cd", force=False)
    assert not changer.described("cd")["loaded"]


async def test_unit_that_is_between_closing_and_opening_is_refused(server, changer):
    with pytest.raises(Refused, match="is about to be opened"):
        await changer.load("none")


async def test_atomic_write_to_an_inserted_medium_is_undone_when_it_is_inserted_after_a_crash(configuration, other):
    """The crash is that the record and half of the write stay."""
    async with Server(configuration) as server:
        await insert_first(server, other)
        store = server._units["cd"].medium._backend
        assert isinstance(store, FileStore)
        assert store._undo is not None
        store._undo.keep(Undo(FileIdentity.of(store._descriptor), 0, other.read_bytes()[:512]))
        store.perform(Write(0, b"torn".ljust(512)))
    async with Server(configuration) as server:
        await insert_first(server, other)
        async with session(server.url("cd")) as initiator:
            await initiator.ready()
            assert (await initiator.execute(READ, read_bytes=512)).data_in == b"other".ljust(512, b"!")


async def insert_first(server, path):
    changer = MediaChanger(server._home, server._driver, server._units, server._changing)
    await changer.eject("cd", force=False)
    await changer.insert("cd", str(path))
