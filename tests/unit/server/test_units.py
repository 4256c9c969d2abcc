"""Units as configured, and the devices that become of them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from iscsi_target.config.values import Backing, ConfigError, TargetEntry, Unit, ram_configuration
from iscsi_target.scsi.nexus import TargetPort
from iscsi_target.scsi.task import UnitState
from iscsi_target.server.units import open_unit, ports_of
from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.state import StateFile

RAM = Unit("r", Backing.RAM, None, 1 << 20)


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
            found = open_unit(unit, state, {}, executor)
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
    unit = replace(RAM, block_length_bytes=block_bytes, physical_block_bytes=physical_bytes)
    geometry = opened(unit).device.geometry
    assert (geometry.physical_exponent, geometry.length_blocks) == (exponent, length)


def test_identity_is_the_same_when_the_unit_is_opened_again(opened):
    assert opened(RAM).device.identity == opened(RAM).device.identity


def test_configured_identity_goes_before_the_stored_one(opened):
    identity = opened(replace(RAM, serial="S1", naa=bytes(8), vendor="ME")).device.identity
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


def test_relative_port_identifiers_count_the_ports_of_all_targets(tmp_path):
    configuration = replace(
        ram_configuration(tmp_path, 4096),
        targets=(
            TargetEntry("iqn.a", {0: "x"}, portal_groups=(1, 2)),
            TargetEntry("iqn.b", {0: "disk0"}, portal_groups=(2,)),
        ),
    )
    [(port, identity)] = ports_of(configuration, "disk0").items()
    assert (port, identity.relative_identifier) == (TargetPort("iqn.b", 2), 3)
