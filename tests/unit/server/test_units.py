"""Units as configured, and the devices that become of them.

Node A is registered with the units of earlier lives.
"""

import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from iscsi_target.config.values import Backing, ConfigError, TargetEntry, Unit, ram_configuration
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import STRICT
from iscsi_target.scsi.reservations.reservations import Reservations
from iscsi_target.scsi.state.device import Device, Identity
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.scsi.state.task import UnitState
from iscsi_target.server.paths import Paths, all_ports, paths_of
from iscsi_target.server.units import Home, become, can_become, open_unit
from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.state import StateFile

RAM = Unit("r", Backing.RAM, None, 1 << 20)
A = Nexus(InitiatorPort("iqn.2026-01.org.example:a", bytes(6)), TargetPort("iqn.2026-01.org.example:p", 1))
REGISTERED = Reservations({A: 0xABC}, aptpl=True)
UNDER_WAY = Sanitization(Method.BLOCK_ERASE, 1 << 20, done_bytes=1 << 16)


@pytest.fixture
def state(tmp_path):
    found = StateFile.open(tmp_path / "state.sqlite")
    yield found
    found.close()


@pytest.fixture
def opened(state):
    """Opens a unit; all is closed at the end."""
    media = []
    with ThreadPoolExecutor(1) as executor:

        def open_one(unit):
            found = open_unit(unit, Home(state, executor), Paths())
            media.append(found.medium)
            return found

        yield open_one
        for medium in media:
            medium._backend.close()


@pytest.mark.parametrize(
    "block_bytes, physical_bytes, exponent, length",
    [(512, 512, 0, 2048), (512, 4096, 3, 2048), (4096, 4096, 0, 256)],
)
def test_geometry_follows_the_block_sizes(opened, block_bytes, physical_bytes, exponent, length):
    unit = RAM._replace(block_length_bytes=block_bytes, physical_block_bytes=physical_bytes)
    geometry = opened(unit).device.geometry
    assert (geometry.physical_exponent, geometry.length_blocks) == (exponent, length)


def test_identity_is_the_same_when_the_unit_is_opened_again(opened):
    assert opened(RAM).device.identity == opened(RAM).device.identity


def test_configured_identity_goes_before_the_stored_one(opened):
    identity = opened(RAM._replace(serial="S1", naa=bytes(8), vendor="ME")).device.identity
    assert (identity.serial, identity.naa, identity.vendor) == ("S1", bytes(8), "ME")


def test_saved_mode_pages_are_restored(opened, state):
    device = opened(RAM).device
    saved = device.modes.saved
    state.save("r", UnitState(saved))
    assert opened(RAM).device.modes.saved == saved


def test_read_only_unit_has_a_read_only_device(opened, tmp_path):
    (tmp_path / "image").write_bytes(bytes(4096))
    unit = Unit("f", Backing.FILE, tmp_path / "image", read_only=True)
    assert opened(unit).device.features.read_only


def test_image_of_less_than_a_block_is_a_mistake(opened, tmp_path):
    (tmp_path / "image").write_bytes(b"x")
    with pytest.raises((ConfigError, StorageError)):
        opened(Unit("f", Backing.FILE, tmp_path / "image"))


@pytest.mark.clause("SPC4r37 5.13.5.1")
def test_stored_reservations_are_restored_with_generation_zero(opened, state):
    state.save("r", UnitState({}, REGISTERED))
    device = opened(RAM).device
    assert device.reservations == REGISTERED
    assert device.reservations.generation == 0


def test_a_unit_without_stored_reservations_has_none(opened, state):
    state.save("other", UnitState({}, REGISTERED))
    assert opened(RAM).device.reservations == Reservations()


def test_damaged_reservations_are_lost_and_reported(opened, state, tmp_path, caplog):
    state.save("r", UnitState({}, REGISTERED))
    with sqlite3.connect(tmp_path / "state.sqlite") as database:
        database.execute("UPDATE reservations SET record = replace(record, 'abc', 'abd')")
    database.close()
    assert opened(RAM).device.reservations == Reservations(lost=True)
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "unit r: its stored persistent reservations are damaged" in record.message


# A sanitize operation that was left unfinished


@pytest.mark.clause("SBC3r36 4.11.2")
def test_a_sanitize_operation_goes_on_where_it_was_and_that_is_logged(opened, state, caplog):
    state.save("r", UnitState(sanitization=UNDER_WAY))
    assert opened(RAM).device.sanitization == UNDER_WAY._replace(done_bytes=0), "RAM is always new"
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message == "unit r: it is still being sanitized, by block erase"


def test_on_a_medium_of_another_length_it_begins_anew(opened, state):
    state.save("r", UnitState(sanitization=UNDER_WAY))
    device = opened(RAM._replace(size_bytes=2 << 20)).device
    assert device.sanitization == UNDER_WAY._replace(length_bytes=2 << 20, done_bytes=0)


@pytest.mark.clause("SBC3r36 4.11.3")
@pytest.mark.parametrize("ause", [True, False])
def test_a_failure_stays_and_the_log_says_what_to_do(opened, state, caplog, ause):
    failed = UNDER_WAY._replace(failed=True, unrestricted=ause)
    state.save("r", UnitState(sanitization=failed))
    assert opened(RAM).device.sanitization == failed
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "until an initiator sanitizes it again" in record.message
    assert ("leaves that failure mode" in record.message) == ause


@pytest.mark.clause("SBC3r36 4.11.2")
def test_a_file_goes_on_where_it_was_and_another_in_its_place_is_left_alone(state, image, caplog):
    def found_by_a_server() -> Device:
        with ThreadPoolExecutor(1) as executor:
            opened = open_unit(image, Home(state, executor), Paths())
        opened.medium._backend.close()
        return opened.device

    medium = found_by_a_server().medium
    under_way = UNDER_WAY._replace(medium=medium, length_bytes=image.size_bytes)
    state.save("f", UnitState(sanitization=under_way))
    assert found_by_a_server().sanitization == under_way
    caplog.clear()
    image.path.rename(image.path.with_suffix(".old"))
    image.path.write_bytes(b"precious".ljust(image.size_bytes, b"!"))
    found = found_by_a_server()
    assert found.medium != medium
    assert found.sanitization == under_way._replace(failed=True, medium=found.medium)
    assert "but this is another medium, which is left as it is" in caplog.records[0].message
    assert image.path.read_bytes().startswith(b"precious")


def test_a_file_that_is_created_inherits_no_sanitize_operation(opened, state, image):
    state.save("f", UnitState(sanitization=UNDER_WAY))
    assert opened(image).device.sanitization is None
    assert state.load("f") == UnitState()


def test_a_unit_can_be_told_how_long_it_is_to_last(opened):
    assert opened(RAM._replace(sanitize_s=12.0)).device.features.sanitize_s == 12.0
    assert opened(RAM).device.features.sanitize_s == 0.0


@pytest.mark.parametrize("has_them", [True, False])
def test_a_unit_may_do_without_commands_that_hosts_rely_on_where_they_are(opened, has_them):
    limits = opened(RAM._replace(compare_and_write=has_them, write_same=has_them)).device.features.limits
    assert (limits.max_caw_blocks > 0, limits.max_write_same_blocks > 0) == (has_them, has_them)


# A unit that is deleted and made again


@pytest.fixture
def image(tmp_path):
    return Unit("f", Backing.FILE, tmp_path / "f.img", 1 << 20)


def test_a_file_that_is_there_keeps_its_reservations(opened, state, image):
    image.path.write_bytes(bytes(1 << 20))
    state.save("f", UnitState({}, REGISTERED))
    assert opened(image).device.reservations == REGISTERED


@pytest.mark.case("NX-14")
def test_a_file_that_is_created_inherits_no_reservations_but_the_saved_mode_pages(opened, state, image):
    saved = opened(RAM).device.modes.saved
    state.save("f", UnitState(saved, REGISTERED))
    state.save("other", UnitState({}, REGISTERED))
    device = opened(image).device
    assert device.reservations == Reservations()
    assert device.modes.saved == saved
    assert state.load("f") == UnitState(saved)
    assert state.load("other").reservations == REGISTERED


def test_reservations_are_gone_before_the_file_is_there(opened, state, image, monkeypatch):
    state.save("f", UnitState({}, REGISTERED))
    monkeypatch.setattr("os.link", lambda *_: pytest.fail(f"stored: {state.load('f')}"))
    with pytest.raises(pytest.fail.Exception, match="reservations=None"):
        opened(image)
    assert not image.path.exists()


def test_a_file_that_cannot_be_created_costs_no_reservations(opened, state, image, tmp_path):
    state.save("f", UnitState({}, REGISTERED))
    with pytest.raises(StorageError):
        opened(image._replace(path=tmp_path / "not mounted" / "f.img"))
    with pytest.raises(StorageError):
        opened(image._replace(size_bytes=None))
    assert state.load("f").reservations == REGISTERED


def test_reservations_that_cannot_be_removed_prevent_the_creation(opened, state, image):
    state.save("f", UnitState({}, REGISTERED))
    state._database.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageError, match="cannot be written"):
        opened(image)
    assert not image.path.exists()


# Target ports


def test_ports_are_those_of_the_targets_that_have_the_unit(tmp_path):
    configuration = ram_configuration(tmp_path, 4096)._replace(
        targets=(
            TargetEntry("iqn.a", {0: "x"}, portal_groups=(1, 2)),
            TargetEntry("iqn.b", {0: "disk0"}, portal_groups=(2, 1)),
        ),
    )
    ports = all_ports(configuration)
    assert ports == [TargetPort("iqn.a", 1), TargetPort("iqn.a", 2), TargetPort("iqn.b", 2), TargetPort("iqn.b", 1)]
    identifiers = dict(zip(ports, (9, 8, 7, 6), strict=True))
    found = paths_of(configuration, "disk0", identifiers).ports
    assert {port: identity.relative_identifier for port, identity in found.items()} == {ports[2]: 7, ports[3]: 6}


def test_ports_count_from_one_in_the_order_of_the_configuration_and_keep_their_number_when_it_changes(state, tmp_path):
    first = ram_configuration(tmp_path, 4096)._replace(
        targets=(
            TargetEntry("iqn.a", {0: "x"}, portal_groups=(1, 2)),
            TargetEntry("iqn.b", {0: "disk0"}, portal_groups=(2,)),
        ),
    )
    [identity] = paths_of(first, "disk0", state.port_identifiers(all_ports(first))).ports.values()
    assert identity.relative_identifier == 3
    later = first._replace(targets=(TargetEntry("iqn.c", {0: "disk0"}, portal_groups=(1,)), first.targets[1]))
    identities = paths_of(later, "disk0", state.port_identifiers(all_ports(later))).ports.values()
    assert [identity.relative_identifier for identity in identities] == [4, 3]


def test_unit_is_called_as_its_personality_unless_the_configuration_names_it(opened):
    def names(**changes):
        identity = opened(RAM._replace(**changes)).device.identity
        return identity.vendor, identity.product, identity.revision

    assert names() == ("ISCSITGT", "Virtual disk", "0001")
    assert names(personality="tgt") == ("IET", "VIRTUAL-DISK", "0001")
    assert names(personality="tgt", vendor="ME", product="") == ("ME", "", "0001")
    assert names(personality="lio", revision="9") == ("LIO-ORG", RAM.name, "9")


def test_device_has_the_configured_personality(opened):
    assert opened(RAM).device.personality is STRICT
    assert opened(RAM._replace(personality="scst")).device.personality.name == "scst"


def test_personality_that_there_is_not_is_refused_with_those_that_there_are(opened):
    with pytest.raises(ConfigError, match="'iscsi' is no personality; take one of strict, lio") as refused:
        opened(RAM._replace(personality="iscsi"))
    assert refused.value.where == "unit r"


def test_unit_can_become_what_has_other_looks_and_another_size_and_nothing_else():
    assert can_become(RAM, RAM)
    assert can_become(RAM, RAM._replace(personality="lio"))
    assert can_become(RAM, RAM._replace(vendor="ME", product="DISK", revision="2", size_bytes=2 << 20))
    assert not can_become(RAM, RAM._replace(personality="lio", thin=False))
    assert not can_become(RAM, RAM._replace(vendor="ME", serial="2"))


@pytest.mark.clause("SPC4r37 6.6.1")
def test_unit_of_other_looks_is_the_same_unit_and_tells_every_nexus(opened):
    before = opened(RAM)
    nexuses = [Nexus(InitiatorPort(f"iqn.2026-11.org.example:{name}", bytes(6)), A.target_port) for name in "ab"]
    for nexus in nexuses:
        before.logical_unit.attach(nexus)
        before.logical_unit.nexuses.withdraw(nexus, AttentionCode.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED)
    serial, naa = before.device.identity.serial, before.device.identity.naa
    wanted = RAM._replace(personality="spdk")
    after = become(before, wanted)
    assert after == before._replace(configured=wanted)
    assert after.device.personality.name == "spdk"
    assert after.device.identity == Identity("INTEL", "Malloc disk", "0001", serial, naa)
    table = after.logical_unit.nexuses
    assert [table.first(nexus) for nexus in nexuses] == [AttentionCode.INQUIRY_DATA_HAS_CHANGED] * 2


@pytest.mark.clause("SBC3r36 4.10")
def test_unit_whose_medium_has_grown_has_its_capacity_and_tells_every_nexus(opened):
    before = opened(RAM)
    before.logical_unit.attach(A)
    before.logical_unit.nexuses.withdraw(A, AttentionCode.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED)
    wanted = RAM._replace(size_bytes=2 << 20)
    assert before.medium.grow(wanted.size_bytes) == 2 << 20
    after = become(before, wanted)
    assert after == before._replace(configured=wanted)
    assert after.device.geometry.length_blocks == 4096
    assert after.logical_unit.nexuses.first(A) == AttentionCode.CAPACITY_DATA_HAS_CHANGED


def test_unit_that_becomes_what_it_is_tells_nobody(opened):
    before = opened(RAM)
    before.logical_unit.attach(A)
    before.logical_unit.nexuses.withdraw(A, AttentionCode.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED)
    assert become(before, RAM) == before
    assert before.logical_unit.nexuses.first(A) is None
