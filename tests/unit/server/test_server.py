"""Servers on loopback addresses, each with a state directory of its own."""

import asyncio
import os
import socket
import threading

import pytest

import iscsi_target
from iscsi_target.config.address import Address
from iscsi_target.config.values import (
    Backing,
    ConfigError,
    Configuration,
    PortalGroup,
    TargetEntry,
    Unit,
    default_configuration,
    ram_configuration,
)
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.block_cdb import Read10, ReadCapacity10
from iscsi_target.scsi.layouts.cdb import Inquiry, PersistentReserveOut
from iscsi_target.scsi.layouts.inquiry_pages import StandardInquiryData
from iscsi_target.scsi.layouts.pages import ReadCapacity10Data
from iscsi_target.scsi.layouts.reservation_pages import BasicParameterList
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.status import Status
from iscsi_target.server.server import Server
from iscsi_target.server.systemd import InheritedSocket
from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.state import StateFile
from tests.endtoend.wire_initiator import session
from tests.initiator import READY

ANY = Address("127.0.0.1", 0)
TARGET = "iqn.2026-11.org.example:t"
BLOCKS = 1 << 20


def disk(tmp_path, name, **changes):
    return Unit(name, Backing.FILE, tmp_path / f"{name}.img", BLOCKS)._replace(**changes)


@pytest.fixture
def configuration(tmp_path):
    return Configuration(
        state=tmp_path / "state",
        portal_groups=(PortalGroup(1, (ANY,)),),
        units=(disk(tmp_path, "a"),),
        targets=(TargetEntry(TARGET, {0: "a"}),),
    )


def with_unit(configuration, unit):
    luns = {**configuration.targets[0].luns, len(configuration.units): unit.name}
    targets = (configuration.targets[0]._replace(luns=luns),)
    return configuration._replace(units=(*configuration.units, unit), targets=targets)


def connects(address: Address) -> bool:
    try:
        with socket.create_connection(address, timeout=1):
            return True
    except OSError:
        return False


def accepts_image(path) -> bool:
    """Says whether the image is free, that is not locked by a server."""
    from iscsi_target.storage.file import FileStore

    try:
        FileStore.open(path, size_bytes=None, read_only=False).close()
    except StorageError:
        return False
    return True


async def test_server_listens_when_it_is_entered(configuration):
    async with Server(configuration) as server:
        [address] = server.portals
        assert address.port
        assert connects(address)
    assert not connects(address)


async def test_url_names_portal_target_and_lun(configuration):
    async with Server(configuration) as server:
        assert server.url("a") == f"iscsi://{server.portals[0]}/{TARGET}/0"
        assert server.urls == (server.url("a"),)
        with pytest.raises(KeyError):
            server.url("b")


async def test_url_of_a_wildcard_address_is_that_of_the_loopback(configuration):
    anywhere = configuration._replace(portal_groups=(PortalGroup(1, (Address("0.0.0.0", 0), Address("::", 0))),))
    async with Server(anywhere) as server:
        assert server.url("a").startswith("iscsi://127.0.0.1:")


async def test_several_servers_serve_in_one_process():
    async with iscsi_target.serve(ram=BLOCKS) as one, iscsi_target.serve(ram=BLOCKS) as other:
        assert one.url("disk0") != other.url("disk0")
        assert connects(one.portals[0])
        assert connects(other.portals[0])


async def test_configuration_file_is_served(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(f'[units.r]\nram = true\nsize = "1MiB"\n[[targets]]\nname = "{TARGET}"\nluns = {{ 0 = "r" }}\n')
    async with iscsi_target.serve(path, state=tmp_path / "state", listen="[::1]:0") as server:
        assert server.url("r").startswith("iscsi://[::1]:")


async def test_unit_is_the_same_after_a_restart(configuration):
    identities = []
    for _ in range(2):
        async with Server(configuration) as server:
            identities.append(server._units["a"].device.identity)
    assert identities[0] == identities[1]


async def test_state_directory_in_use_is_refused_and_nothing_stays_open(configuration, tmp_path):
    other = configuration._replace(units=(disk(tmp_path, "b"),), targets=(TargetEntry(TARGET, {0: "b"}),))
    async with Server(configuration):
        refused = Server(other)
        with pytest.raises(StorageError, match="in use"):
            await refused.__aenter__()
        assert not (tmp_path / "b.img").exists()


async def test_port_in_use_is_refused_and_nothing_stays_open(configuration, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = Server(configuration.listening_at(Address(*taken.getsockname())))
        with pytest.raises(ConfigError, match="address already in use"):
            await refused.__aenter__()
    assert accepts_image(tmp_path / "a.img")
    async with Server(configuration):
        pass


async def test_new_unit_and_portal_are_there_after_a_reload(configuration, tmp_path):
    async with Server(configuration) as server:
        [before] = server.portals
        more = with_unit(configuration, disk(tmp_path, "b"))
        await server.reload(more._replace(portal_groups=(PortalGroup(1, (ANY, Address("::1", 0))),)))
        assert server.portals[0] == before
        assert all(connects(address) for address in server.portals)
        assert len(server.portals) == 2
        assert server.url("b") == f"iscsi://{before}/{TARGET}/1"


async def test_removed_unit_is_closed_after_a_reload(configuration, tmp_path):
    async with Server(with_unit(configuration, disk(tmp_path, "b"))) as server:
        kept = server._units["a"]
        assert not accepts_image(tmp_path / "b.img")
        await server.reload(configuration)
        assert accepts_image(tmp_path / "b.img")
        assert server._units == {"a": kept}


async def test_removed_portal_is_closed_after_a_reload(configuration):
    two = configuration._replace(portal_groups=(PortalGroup(1, (ANY, Address("::1", 0))),))
    async with Server(two) as server:
        gone = server.portals[1]
        await server.reload(configuration)
        assert not connects(gone)
        assert connects(server.portals[0])


async def test_changed_unit_is_opened_again(configuration, tmp_path):
    async with Server(configuration) as server:
        await server.reload(configuration._replace(units=(disk(tmp_path, "a", read_only=True),)))
        assert server._units["a"].device.features.read_only


async def test_changed_unit_that_cannot_be_opened_stays_as_it_was(configuration, tmp_path, caplog):
    async with Server(configuration) as server:
        await server.reload(configuration._replace(units=(disk(tmp_path, "a", path=tmp_path / "no" / "a.img"),)))
        assert server._units["a"].configured == configuration.units[0]
    assert "unit a" in caplog.text


async def test_reload_that_fails_changes_nothing(configuration, tmp_path):
    async with Server(configuration) as server:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            kept = (dict(server._units), server.portals, server.configuration)
            groups = (PortalGroup(1, (ANY, Address(*taken.getsockname()))),)
            more = with_unit(configuration, disk(tmp_path, "b"))._replace(portal_groups=groups)
            with pytest.raises(ConfigError):
                await server.reload(more)
            assert (server._units, server.portals, server.configuration) == kept
            assert accepts_image(tmp_path / "b.img")


@pytest.mark.parametrize("name", ["state", "timeouts"])
async def test_what_only_a_restart_changes_is_refused(configuration, tmp_path, name):
    changed = {"state": tmp_path / "other", "timeouts": configuration.timeouts._replace(login_s=1.0)}
    async with Server(configuration) as server:
        with pytest.raises(ConfigError, match="restart it"):
            await server.reload(configuration._replace(**{name: changed[name]}))


async def test_portal_moves_to_another_group_without_being_closed(configuration):
    with socket.create_server(("127.0.0.1", 0)) as free:
        fixed = Address(*free.getsockname())
    one = configuration._replace(portal_groups=(PortalGroup(1, (fixed,)), PortalGroup(2, (ANY,))))
    two = configuration._replace(portal_groups=(PortalGroup(1, (ANY,)), PortalGroup(2, (fixed,))))
    async with Server(one) as server:
        await server.reload(two)
        assert {listener.address: listener.portal_group_tag for listener in server._listeners.values()}[fixed] == 2


def inherit(name=""):
    return InheritedSocket(name, socket.create_server(("127.0.0.1", 0)))


async def test_inherited_socket_serves_the_first_group_instead_of_its_own_addresses(configuration):
    inherited = inherit()
    address = Address(*inherited.listener.getsockname())
    async with Server(configuration, inherited=[inherited]) as server:
        assert server.portals == (address,)
        assert connects(address)
        await server.reload(configuration)
        assert server.portals == (address,)


async def test_inherited_socket_goes_to_the_group_that_its_name_or_address_says(configuration):
    by_name, by_address = inherit("2"), inherit()
    fixed = Address(*by_address.listener.getsockname())
    groups = (PortalGroup(1, (ANY,)), PortalGroup(2, (ANY,)), PortalGroup(3, (fixed,)))
    async with Server(configuration._replace(portal_groups=groups), inherited=[by_name, by_address]) as server:
        tags = {listener.address: listener.portal_group_tag for listener in server._listeners.values()}
    assert tags[fixed] == 3
    assert sorted(tags.values()) == [1, 2, 3]


async def test_drained_server_has_no_urls(configuration):
    async with Server(configuration) as server:
        await server.drain()
        assert server.urls == ()
        with pytest.raises(KeyError):
            server.url("a")


@pytest.mark.parametrize("ram", [-1, 0, 511])
async def test_ram_of_less_than_a_block_is_a_mistake(ram):
    with pytest.raises(ConfigError, match="not one block"):
        async with iscsi_target.serve(ram=ram):
            pass


async def test_state_file_is_closed_off_the_event_loop(configuration, monkeypatch):
    threads = []
    close = StateFile.close

    def noted(state):
        threads.append(threading.current_thread())
        close(state)

    monkeypatch.setattr(StateFile, "close", noted)
    async with Server(configuration):
        pass
    [thread] = threads
    assert thread is not threading.main_thread()


async def test_idle_server_drains_at_once_and_listens_no_more(configuration):
    async with Server(configuration) as server:
        [address] = server.portals
        async with asyncio.timeout(1):
            await server.drain()
        assert not connects(address)


async def test_advertised_address_replaces_the_bound_one(configuration):
    guest = configuration._replace(portal_groups=(PortalGroup(1, (ANY,), (Address("10.0.2.2", 3260),)),))
    async with Server(guest) as server:
        assert [portal.address for portal in server._portals(guest)[1]] == ["10.0.2.2:3260"]


async def test_trace_is_complete_when_the_server_has_ended(configuration, tmp_path):
    async with Server(configuration, trace=tmp_path / "t.pcapng") as server:
        assert connects(server.portals[0])
        await asyncio.sleep(0)
    assert (tmp_path / "t.pcapng").stat().st_size > 0


def test_default_and_ram_units_have_the_same_name(tmp_path):
    assert default_configuration(tmp_path).units[0].name == ram_configuration(tmp_path, BLOCKS).units[0].name


async def inquire(initiator):
    """Standard INQUIRY data: vendor, product and revision."""
    outcome = await initiator.execute(Inquiry(allocation_length=96), b"", 96)
    data = StandardInquiryData.unpack(outcome.data_in)
    return [name.decode().rstrip() for name in (data.vendor, data.product, data.revision)]


async def reserve(initiator, action, key=0, new=0, **flags):
    """PERSISTENT RESERVE OUT for Exclusive Access; returns (status, sense key, code)."""
    parameters = BasicParameterList(reservation_key=key, service_action_reservation_key=new, **flags).pack()
    cdb = PersistentReserveOut(service_action=action, type=3, parameter_list_length=len(parameters))
    return (await initiator.execute(cdb, parameters))[:3]


READ, GOOD, CONFLICT = Read10(transfer_length=1), Status.GOOD, Status.RESERVATION_CONFLICT
INQUIRY_DATA_CHANGED = (Status.CHECK_CONDITION, 6, AttentionCode.INQUIRY_DATA_HAS_CHANGED)


@pytest.mark.clause("SPC4r37 6.6.1")
async def test_personality_changes_in_place_under_live_sessions_and_reservations_stay_enforced(configuration, tmp_path):
    def answering_like(name):
        return configuration._replace(units=(disk(tmp_path, "a", personality=name),))

    async with Server(configuration) as server:
        url = server.url("a")
        before = server._units["a"]
        async with session(url) as holder, session(url, name=f"{TARGET}:b") as other:
            for initiator in (holder, other):
                assert (await initiator.execute(READY)).key == 6
            assert await reserve(holder, OutAction.REGISTER, new=1) == (GOOD, 0, 0)
            assert await reserve(holder, OutAction.RESERVE, key=1) == (GOOD, 0, 0)
            for name, names in (("openfiler", ["OPNFILER", "VIRTUAL-DISK", "0"]), ("lio", ["LIO-ORG", "a", "4.0"])):
                await server.reload(answering_like(name))
                assert len(server.sessions) == 2
                for initiator in (holder, other):
                    assert (await initiator.execute(READY))[:3] == INQUIRY_DATA_CHANGED
                    assert (await initiator.execute(READY)).status == GOOD
                    assert await inquire(initiator) == names
                assert (await holder.execute(READ, b"", 512)).status == GOOD
                assert (await other.execute(READ, b"", 512)).status == CONFLICT
                if name == "openfiler":
                    assert await reserve(holder, OutAction.RELEASE, key=1) == (Status.CHECK_CONDITION, 5, 0x2000)
            assert await reserve(other, OutAction.REGISTER, new=2) == (GOOD, 0, 0)
            assert await reserve(holder, OutAction.RELEASE, key=1) == (GOOD, 0, 0)
            assert (await other.execute(READ, b"", 512)).status == GOOD
        after = server._units["a"]
        assert (after.device, after.logical_unit, after.medium) == before[1:4]


CAPACITY_CHANGED = (Status.CHECK_CONDITION, 6, AttentionCode.CAPACITY_DATA_HAS_CHANGED)


async def capacity(initiator) -> int:
    answer = await initiator.execute(ReadCapacity10(), b"", ReadCapacity10Data.size)
    return ReadCapacity10Data.unpack(answer.data_in).returned_lba + 1


@pytest.mark.clause("SBC3r36 4.10")
@pytest.mark.parametrize("sized", [True, False])
async def test_unit_grows_under_live_sessions_and_is_never_made_smaller(configuration, tmp_path, sized):
    def of_size(size_bytes):
        return configuration._replace(units=(disk(tmp_path, "a", size_bytes=size_bytes),))

    async with Server(configuration) as server, session(server.url("a")) as initiator:
        await initiator.ready()
        beyond = Read10(lba=BLOCKS // 512, transfer_length=1)
        assert (await initiator.execute(beyond, b"", 512)).code == 0x2100
        if sized:
            await server.reload(of_size(2 * BLOCKS))
        else:
            os.truncate(tmp_path / "a.img", 2 * BLOCKS)
            await server.reload(of_size(None))
        assert (await initiator.execute(READY))[:3] == CAPACITY_CHANGED
        assert await capacity(initiator) == 2 * BLOCKS // 512
        assert (await initiator.execute(beyond, b"", 512)).status == GOOD
        with pytest.raises(StorageError, match="cannot become smaller"):
            await server.reload(of_size(BLOCKS))
        assert await capacity(initiator) == 2 * BLOCKS // 512
        assert len(server.sessions) == 1


async def test_reload_that_changes_nothing_of_a_unit_tells_nobody(configuration):
    async with Server(configuration) as server, session(server.url("a")) as initiator:
        await initiator.execute(READY)
        await server.reload(configuration)
        assert (await initiator.execute(READY)).status == GOOD


async def test_reload_with_a_personality_that_there_is_not_changes_nothing(configuration, tmp_path):
    async with Server(configuration) as server:
        wrong = with_unit(configuration, disk(tmp_path, "b", personality="iscsi"))
        renamed = wrong._replace(units=(disk(tmp_path, "a", vendor="ME"), wrong.units[1]))
        with pytest.raises(ConfigError, match="'iscsi' is no personality"):
            await server.reload(renamed)
        assert server._units["a"].device.identity.vendor == "ISCSITGT"
        assert list(server._units) == ["a"]


@pytest.mark.case("AP-14")
@pytest.mark.clause("SPC4r37 5.13.5.1")
@pytest.mark.parametrize("aptpl", [False, True])
async def test_unit_that_is_opened_again_with_other_settings_keeps_its_reservations(configuration, tmp_path, aptpl):
    async with Server(configuration) as server:
        url = server.url("a")
        async with session(url) as holder, session(url, name=f"{TARGET}:b") as other:
            await holder.ready()
            await other.ready()
            assert await reserve(holder, OutAction.REGISTER, new=1, aptpl=aptpl) == (GOOD, 0, 0)
            assert await reserve(holder, OutAction.RESERVE, key=1) == (GOOD, 0, 0)
            before = server._units["a"].device
            await server.reload(configuration._replace(units=(disk(tmp_path, "a", rotation_rate=7200),)))
            assert server._units["a"].device is not before
            assert server._units["a"].device.reservations == before.reservations
            for initiator in (holder, other):
                assert (await initiator.execute(READY)).key == 6
            assert (await other.execute(READ, b"", 512)).status == CONFLICT
            assert (await holder.execute(READ, b"", 512)).status == GOOD
            elsewhere = disk(tmp_path, "a")._replace(path=tmp_path / "other.img")
            await server.reload(configuration._replace(units=(elsewhere,)))
            await other.ready()
            assert (await other.execute(READ, b"", 512)).status == GOOD  # it is another unit, whose file is new


@pytest.mark.parametrize("aptpl", [False, True])
async def test_unit_that_cannot_be_opened_with_other_settings_keeps_its_reservations(configuration, tmp_path, aptpl):
    async with Server(configuration) as server:
        url = server.url("a")
        async with session(url) as holder, session(url, name=f"{TARGET}:b") as other:
            await holder.ready()
            assert await reserve(holder, OutAction.REGISTER, new=1, aptpl=aptpl) == (GOOD, 0, 0)
            assert await reserve(holder, OutAction.RESERVE, key=1) == (GOOD, 0, 0)
            small = disk(tmp_path, "a")._replace(path=tmp_path / "new.img", size_bytes=100)  # fails when it is there
            await server.reload(configuration._replace(units=(small,)))
            assert server._units["a"].configured.path == tmp_path / "a.img"
            await other.ready()
            assert (await other.execute(READ, b"", 512)).status == CONFLICT
            stored = server._state.load("a").reservations
            assert stored == server._units["a"].device.reservations.stored
            assert (stored is not None) == aptpl


async def test_unit_that_could_not_be_opened_again_takes_up_its_reservations_when_it_can(configuration, tmp_path):
    async with Server(configuration) as server:
        url = server.url("a")
        async with session(url) as holder, session(url, name=f"{TARGET}:b") as other:
            await holder.ready()
            assert await reserve(holder, OutAction.REGISTER, new=1) == (GOOD, 0, 0)
            assert await reserve(holder, OutAction.RESERVE, key=1) == (GOOD, 0, 0)
            (tmp_path / "a.img").rename(tmp_path / "away.img")
            (tmp_path / "a.img").mkdir()
            await server.reload(configuration._replace(units=(disk(tmp_path, "a", rotation_rate=7200),)))
            assert not server._units
            (tmp_path / "a.img").rmdir()
            (tmp_path / "away.img").rename(tmp_path / "a.img")
            await server.reload(configuration)
            await other.ready()
            assert (await other.execute(READ, b"", 512)).status == CONFLICT
            assert not server._former


@pytest.mark.case("NX-14")
@pytest.mark.clause("SPC4r37 5.13.5.1")
@pytest.mark.parametrize("aptpl", [False, True])
async def test_unit_whose_file_is_new_after_a_reload_inherits_nothing(configuration, tmp_path, aptpl):
    async with Server(configuration) as server:
        url = server.url("a")
        async with session(url) as holder:
            await holder.ready()
            assert await reserve(holder, OutAction.REGISTER, new=1, aptpl=aptpl) == (GOOD, 0, 0)
            (tmp_path / "a.img").unlink()
            await server.reload(configuration._replace(units=(disk(tmp_path, "a", thin=False),)))
            await holder.ready()
            assert server._units["a"].device.reservations.registrations == {}
            assert server._state.load("a").reservations is None


async def test_unit_whose_file_is_spelled_otherwise_is_the_same(configuration, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    async with Server(configuration) as server, session(server.url("a")) as holder:
        await holder.ready()
        assert await reserve(holder, OutAction.REGISTER, new=1) == (GOOD, 0, 0)
        otherwise = disk(tmp_path, "a")._replace(path=tmp_path / "link" / "a.img")
        await server.reload(configuration._replace(units=(otherwise,)))
        assert server._units["a"].configured == otherwise
        assert list(server._units["a"].device.reservations.registrations.values()) == [1]
