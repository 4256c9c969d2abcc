"""Makes logical units of what is configured: opens the medium, finds the unit's identity and saved state.

Everything here may block and runs on a thread.
"""

import logging
import os
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

from iscsi_target.config.values import Backing, ConfigError, Unit
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.mode_pages import DEFAULTS, LOGICAL_BLOCK_PROVISIONING, THRESHOLD_DEFAULTS, ModePages
from iscsi_target.scsi.layouts.threshold_pages import LogicalBlockProvisioningPage
from iscsi_target.scsi.operations import MediumError
from iscsi_target.scsi.reservations.personalities import PERSONALITIES
from iscsi_target.scsi.reservations.personality import Personality
from iscsi_target.scsi.reservations.reservations import Reservations
from iscsi_target.scsi.resources import Resources
from iscsi_target.scsi.state.device import Device, Features, Geometry, Identity, TransferLimits
from iscsi_target.scsi.state.sanitization import Sanitization
from iscsi_target.scsi.state.task import UnitState
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.server.paths import Paths
from iscsi_target.server.pools import Pools
from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.medium import Backend, Medium
from iscsi_target.storage.pool import PooledStore, ThinBackend
from iscsi_target.storage.state import StateFile

log = logging.getLogger(__name__)

MAX_TRANSFER_BYTES = 8 << 20  # of a read, write or verify; with the task window it bounds a session's memory
MAX_CAW_BLOCKS = 1  # of COMPARE AND WRITE; what VMware needs, and all that libiscsi's suite expects
MAX_ATOMIC_BYTES = 1 << 20  # of one WRITE ATOMIC, which writes what was there before to the state directory
MAX_UNMAP_BLOCKS = 1 << 20  # of one UNMAP; the most that libiscsi's Inquiry.BlockLimits takes for sensible
MAX_UNMAP_DESCRIPTORS = 32  # of one UNMAP; each is a range that every other open write is compared with
# Of one WRITE SAME; bounds how long it takes. With 65536 or more, libiscsi's WriteSame16.Unmap also writes that much
# with one WRITE(16), whatever MAXIMUM TRANSFER LENGTH says.
MAX_WRITE_SAME_BLOCKS = 65535
ALLOCATION_BYTES = 4096  # what file systems and the RAM store allocate at least
LOOKS = ("personality", "vendor", "product", "revision")  # of a unit; they may change while it is open


class Home(NamedTuple):
    """What the units of a server have in common.

    executor   for the operations of their media
    pools      the pools that there are, or None
    """

    state: StateFile
    executor: Executor
    pools: Pools | None = None


class OpenUnit(NamedTuple):
    """A logical unit, the medium that performs its operations, and what it was made of.

    place   the real path of its file or device, or empty
    room    what it has of a pool, or None
    changed_medium   True when an operator has put in another medium than the configured one
    """

    configured: Unit
    device: Device
    logical_unit: LogicalUnit
    medium: Medium
    place: str
    room: PooledStore | None = None
    changed_medium: bool = False

    def with_medium(self, new: "NewMedium") -> "OpenUnit":
        """Returns the unit with a medium that was put in, which its Medium has already."""
        self.device.geometry, self.device.medium = new.geometry, new.backend.identity
        self.device.features = self.device.features._replace(read_only=new.read_only)
        return self._replace(place=new.place, room=new.room, changed_medium=True)


class NewMedium(NamedTuple):
    """A medium that can be put into a unit."""

    backend: Backend
    room: PooledStore | None
    place: str
    geometry: Geometry
    read_only: bool


def open_unit(
    unit: Unit,
    home: Home,
    paths: Paths,
    former: OpenUnit | None = None,
) -> OpenUnit:
    """Opens a unit's medium and makes its logical unit.

    paths      the ways to it
    former     the unit of this name that was closed a moment ago, whose reservations hold on
    raises     StorageError, ConfigError when the medium has no block, or there is no such pool
    """
    state = home.state
    created: list[Unit] = []

    def creating() -> None:
        state.forget_medium(unit.name)
        created.append(unit)

    backend, room = _pooled(unit, home.pools, open_backend(unit, state.directory / f"{unit.name}.undo", creating))
    place = os.path.realpath(unit.path) if unit.path is not None else ""
    if created or former is None or (former.configured.backing, former.place) != (unit.backing, place):
        former = None  # nothing of it holds on
    try:
        saved = state.load(unit.name)
        geometry = _geometry(unit, backend.size_bytes)
        device = Device(
            identity=_identity(unit, state),
            geometry=geometry,
            features=_features(unit, geometry, backend),
            modes=ModePages.restore(saved.mode_pages, DEFAULTS if room is None else THRESHOLD_DEFAULTS),
            ports=paths.ports,
            port_groups=paths.groups,
            personality=personality_of(unit),
            reservations=_restored(unit, saved) if former is None else _kept(former, saved, state),
            medium=backend.identity,
            sanitization=_left_unfinished(unit, saved, geometry, backend.identity),
            identifying_information=saved.identifying_information,
        )
    except BaseException:
        backend.close()
        raise
    medium = Medium(backend, home.executor)
    opened = OpenUnit(unit, device, LogicalUnit(unit.name, device, medium.attempt), medium, place, room)
    if room is not None and home.pools is not None:
        device.statistics.resources = Resources.of(unit.block_length_bytes, max(room.size_bytes, room.pool.size_bytes))
        tell_room(opened, home.pools)
    return opened


def open_medium(opened: OpenUnit, path: Path, home: Home) -> NewMedium:
    """Opens a file or device, which has to be there, to be put into an open unit; may block.

    raises   StorageError, ConfigError when the unit has it already, or cannot have it
    """
    where, place = f"unit {opened.configured.name}", os.path.realpath(path)
    if place == opened.place:
        raise ConfigError(where, f"{path} is its medium already", remedy="load it")
    if not path.exists():
        raise ConfigError(where, f"there is no {path}", remedy="name an image or a device that is there")
    backing = Backing.DEVICE if path.is_block_device() else Backing.FILE
    unit = opened.configured._replace(backing=backing, path=path, size_bytes=None)
    if unit.pool is not None and backing is Backing.DEVICE:
        raise ConfigError(where, f"{path} is a device, which cannot be in a pool", remedy="take a file")
    # What an atomic write left unfinished is undone when this medium is put in again, whatever the unit has till then.
    undo = home.state.directory / f"{unit.name}.inserted-undo"
    backend, room = _pooled(unit, home.pools, open_backend(unit, undo, _nothing))
    try:
        geometry = _geometry(unit, backend.size_bytes)
    except ConfigError:
        backend.close()
        raise
    return NewMedium(backend, room, place, geometry, unit.read_only or backend.read_only)


def _nothing() -> None:
    """Nothing is created, as no size is given."""


def tell_room(opened: OpenUnit, pools: Pools) -> None:
    """Tells a unit in a pool how much it has allocated and can still allocate, and what its soft threshold is.

    Source: SBC3r36 4.7.3.7, 6.4.7
    """
    room, device = opened.room, opened.device
    if room is None or opened.configured.pool is None:
        return
    resources, wanted = device.statistics.resources, pools.threshold_bytes(opened.configured.pool)
    assert resources is not None
    count = 0 if wanted is None else resources.sets(wanted)
    default = LogicalBlockProvisioningPage(available_enabled=wanted is not None, available_threshold_count=count)
    before = device.modes
    if default != before.defaults[LOGICAL_BLOCK_PROVISIONING]:
        device.modes = before.redefined(LOGICAL_BLOCK_PROVISIONING, default)
        if device.modes.current != before.current:
            opened.logical_unit.nexuses.establish(AttentionCode.MODE_PARAMETERS_CHANGED)
    opened.logical_unit.thresholds.provisioned(
        used_bytes=room.used_bytes, available_bytes=room.pool.available_bytes, now_s=pools.now_s
    )


def _pooled(unit: Unit, pools: Pools | None, backend: ThinBackend) -> tuple[Backend, PooledStore | None]:
    """Returns a unit's store, and when the unit has a pool it is one that allocates from that.

    raises    ConfigError when there is no such pool, StorageError when what is allocated cannot be found out
    """
    if unit.pool is None:
        return backend, None
    try:
        pool = pools.by_name.get(unit.pool) if pools is not None else None
        if pool is None:
            raise ConfigError(f"unit {unit.name}", f"there is no pool {unit.pool!r}", remedy=f"add pools.{unit.pool}")
        room = PooledStore(backend, pool)
    except MediumError as error:
        backend.close()
        where = unit.path or Path("RAM")
        raise StorageError(f"what it has allocated cannot be found out: {error}", where, "repair it") from error
    except ConfigError:
        backend.close()
        raise
    return room, room


def open_backend(unit: Unit, undo: Path, creating: Callable[[], None]) -> ThinBackend:
    """Opens what a unit keeps its blocks in; raises StorageError.

    undo   the file that atomic writes need

    A file that does not exist is a new unit, which inherits no reservations of an earlier one of its name and no
    sanitize operation; `creating` is called before the file is there. RAM is always new, and keeps them: with it a
    laboratory tries what a restart does. Otherwise a unit is its name: what was stored for it holds with another image
    too, since a fence that falls by mistake is worse than one that the operator has to clear.
    """
    if unit.backing is Backing.RAM:
        from iscsi_target.storage.ram import RamStore  # many a server has none in RAM, and many have nothing else

        assert unit.size_bytes is not None
        return RamStore(unit.size_bytes)
    from iscsi_target.storage.file import FileStore
    from iscsi_target.storage.undo import UndoFile

    assert unit.path is not None
    return FileStore.open(
        unit.path, size_bytes=unit.size_bytes, read_only=unit.read_only, creating=creating, undo=UndoFile(undo)
    )


def _kept(former: OpenUnit, saved: UnitState, state: StateFile) -> Reservations:
    """Returns what is registered and reserved in a unit that was closed to be opened with other settings.

    Power was not lost, so it does not matter whether the reservations would survive that. What is stored is brought up
    to date, should an attempt to open the unit in between have changed it.

    Source: SPC4r37 5.13.5.1
    """
    name, reservations = former.configured.name, former.device.reservations
    if saved.reservations != reservations.stored:
        try:
            state.save(name, saved._replace(reservations=reservations.stored))
        except MediumError as error:
            log.error("unit %s: its persistent reservations are not stored: %s; register again", name, error)
    return reservations


def _restored(unit: Unit, saved: UnitState) -> Reservations:
    if saved.reservations is None:
        return Reservations()
    if saved.reservations.lost:
        log.error(
            "unit %s: its stored persistent reservations are damaged; commands that they may have forbidden are refused"
            " until an initiator replaces them or an operator clears them",
            unit.name,
        )
    return saved.reservations


def _left_unfinished(unit: Unit, saved: UnitState, geometry: Geometry, medium: str) -> Sanitization | None:
    """Returns the sanitize operation that has to go on, or has failed, as it has to be for the medium of now.

    Source: SBC3r36 4.11.2
    """
    if saved.sanitization is None:
        return None
    block_bytes = geometry.block_length_bytes
    found = saved.sanitization.found_on(medium).fitted(geometry.length_blocks * block_bytes, block_bytes)
    if found.failed and not saved.sanitization.failed:
        log.error("unit %s: it was being sanitized, but this is another medium, which is left as it is", unit.name)
    if found.failed:
        log.error(
            "unit %s: it could not be sanitized, and commands are refused until an initiator sanitizes it again%s",
            unit.name,
            ", or leaves that failure mode" if found.unrestricted else "",
        )
    else:
        log.warning("unit %s: it is still being sanitized, by %s", unit.name, found.method)
    return found


def can_become(one: Unit, other: Unit) -> bool:
    """Returns True when a unit can stay open and become the other one: looks and size are all that differs."""
    return one == other._replace(**{name: getattr(one, name) for name in (*LOOKS, "size_bytes")})


def become(opened: OpenUnit, unit: Unit) -> OpenUnit:
    """Gives an open unit another personality, other names and the capacity that its medium has now.

    Every attached nexus is told. Sessions go on, and what is registered and reserved stays and is enforced whatever the
    personality can show of it.

    unit     what the unit can become, with a personality that there is
    Source: SPC4r37 6.6.1 (INQUIRY DATA HAS CHANGED), SBC3r36 4.10 (CAPACITY DATA HAS CHANGED)
    """
    device = opened.device
    if any(getattr(unit, name) != getattr(opened.configured, name) for name in LOOKS):
        device.personality = personality_of(unit)
        device.identity = _named(unit, serial=device.identity.serial, naa=device.identity.naa)
        opened.logical_unit.nexuses.establish(AttentionCode.INQUIRY_DATA_HAS_CHANGED)
    length_blocks = opened.medium.size_bytes // unit.block_length_bytes
    if length_blocks != device.geometry.length_blocks:
        opened.logical_unit.resize(length_blocks)
    return opened._replace(configured=unit)


def personality_of(unit: Unit) -> Personality:
    """Returns the personality that a unit is configured with; raises ConfigError when there is none of that name."""
    if unit.personality not in PERSONALITIES:
        what = f"{unit.personality!r} is no personality"
        raise ConfigError(f"unit {unit.name}", what, remedy=f"take one of {', '.join(PERSONALITIES)}")
    return PERSONALITIES[unit.personality]


def _identity(unit: Unit, state: StateFile) -> Identity:
    stored = state.unit_identity(unit.name)
    return _named(unit, serial=unit.serial or stored.serial, naa=unit.naa or stored.naa)


def _named(unit: Unit, *, serial: str, naa: bytes) -> Identity:
    """Returns the identity of a unit; what the configuration does not name is the personality's."""
    personality = personality_of(unit)
    product = unit.name if personality.product is None else personality.product
    return Identity(
        vendor=personality.vendor if unit.vendor is None else unit.vendor,
        product=product if unit.product is None else unit.product,
        revision=personality.revision if unit.revision is None else unit.revision,
        serial=serial,
        naa=naa,
    )


def _geometry(unit: Unit, size_bytes: int) -> Geometry:
    length_blocks = size_bytes // unit.block_length_bytes
    if not length_blocks:
        raise ConfigError(f"unit {unit.name}", f"{size_bytes} bytes are not one block", remedy="give it a size")
    exponent = (unit.physical_block_bytes // unit.block_length_bytes).bit_length() - 1
    return Geometry(unit.block_length_bytes, exponent, length_blocks)


def _features(unit: Unit, geometry: Geometry, backend: Backend) -> Features:
    block = geometry.block_length_bytes
    limits = TransferLimits(
        max_transfer_blocks=MAX_TRANSFER_BYTES // block,
        max_caw_blocks=MAX_CAW_BLOCKS if unit.compare_and_write else 0,
        max_unmap_blocks=MAX_UNMAP_BLOCKS,
        max_unmap_descriptors=MAX_UNMAP_DESCRIPTORS,
        max_write_same_blocks=MAX_WRITE_SAME_BLOCKS if unit.write_same else 0,
        unmap_granularity=max(unit.physical_block_bytes, ALLOCATION_BYTES) // block,
        max_atomic_blocks=MAX_ATOMIC_BYTES // block,
        atomic_granularity=unit.physical_block_bytes // block,
    )
    return Features(
        limits=limits,
        read_only=unit.read_only or backend.read_only,
        removable=unit.removable,
        thin=unit.thin,
        unmaps_any_pattern=unit.unmaps_any_pattern,
        rotation_rate=unit.rotation_rate,
        explicit_access=unit.explicit_alua,
        standby_reads=unit.standby_reads,
        sanitize_s=unit.sanitize_s,
    )
