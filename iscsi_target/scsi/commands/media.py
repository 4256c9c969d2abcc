"""Handlers of the medium as a whole: capacity, cache, start and stop, load and eject, prevention of removal."""

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.commands.block_range import check_length, checked_range
from iscsi_target.scsi.layouts.block_cdb import (
    PreFetch10,
    PreFetch16,
    PreventAllowMediumRemoval,
    ReadCapacity10,
    ReadCapacity16,
    StartStopUnit,
    SynchronizeCache10,
    SynchronizeCache16,
)
from iscsi_target.scsi.layouts.pages import ReadCapacity10Data, ReadCapacity16Data
from iscsi_target.scsi.operations import Flush, Outcome, Verify
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Done, Reply, Work
from iscsi_target.scsi.status import InvalidFieldInCdb, MediumRemovalPrevented

LBA_UNKNOWN = 0xFFFF_FFFF  # RETURNED LBA when READ CAPACITY(16) must be asked. Source: SBC3r36 5.15.2
START_VALID = 0x0  # POWER CONDITION with which START and LOEJ mean something. Source: SBC3r36 5.25
ALLOW, PREVENT = 0b00, 0b01  # Source: SBC3r36 5.10


def read_capacity_10(device: Device, cdb: ReadCapacity10, call: Call) -> Done:
    """Answers READ CAPACITY(10).

    raises   InvalidFieldInCdb for an LBA without PMI
    Source: SBC3r36 5.15
    """
    _check_pmi(cdb)
    return Done(
        ReadCapacity10Data(
            returned_lba=min(device.geometry.length_blocks - 1, LBA_UNKNOWN),
            block_length=device.geometry.block_length_bytes,
        ).pack()
    )


def read_capacity_16(device: Device, cdb: ReadCapacity16, call: Call) -> Done:
    """Answers READ CAPACITY(16).

    raises   InvalidFieldInCdb for an LBA without PMI
    Source: SBC3r36 5.16
    """
    _check_pmi(cdb)
    data = ReadCapacity16Data(
        returned_lba=device.geometry.length_blocks - 1,
        block_length=device.geometry.block_length_bytes,
        logical_blocks_per_physical_block_exponent=device.geometry.physical_exponent,
        lbpme=device.features.thin,
        lbprz=device.features.thin,
    )
    return Done(data.pack()[: cdb.allocation_length])


def _check_pmi(cdb: ReadCapacity10 | ReadCapacity16) -> None:
    if cdb.lba and not cdb.pmi:
        raise InvalidFieldInCdb(type(cdb), "lba")


def synchronize_cache(device: Device, cdb: SynchronizeCache10 | SynchronizeCache16, call: Call) -> Reply:
    """Answers SYNCHRONIZE CACHE(10) and (16); the whole cache reaches the medium before GOOD, even with IMMED.

    raises   LbaOutOfRange
    Source: SBC3r36 5.26
    """
    checked_range(device, cdb.lba, cdb.number_of_logical_blocks)
    return Work(Flush())


def pre_fetch(device: Device, cdb: PreFetch10 | PreFetch16, call: Call) -> Reply:
    """Answers PRE-FETCH(10) and (16) with GOOD: how much the page cache keeps is not known.

    Length 0 means the rest of the medium, of which as much is read as MAXIMUM PREFETCH LENGTH says.
    raises   LbaOutOfRange; InvalidFieldInCdb beyond that length
    Source: SBC3r36 5.8
    """
    limit = device.features.limits.max_transfer_blocks
    check_length(cdb, "prefetch_length", limit)
    checked_range(device, cdb.lba, cdb.prefetch_length)
    if cdb.immed:
        return Done()
    rest = device.geometry.length_blocks - cdb.lba
    return Work(Verify(*checked_range(device, cdb.lba, cdb.prefetch_length or min(rest, limit))))


def start_stop_access(cdb: StartStopUnit) -> Access | None:
    """Returns that anybody may start the unit, or None for everything else that START STOP UNIT does.

    Source: SBC3r36 4.17 table 13
    """
    starts = cdb.start and cdb.power_condition == START_VALID
    return Access.SPC2 | Access.ALWAYS | Access.LOST if starts else None


def start_stop_unit(device: Device, cdb: StartStopUnit, call: Call) -> Reply:
    """Answers START STOP UNIT; the other nexuses learn that a medium was loaded.

    PREVENT keeps an ejected medium from being loaded too: libiscsi 1.19.0 (PreventAllow.Eject) wants it.
    Every power condition is accepted and none changes anything but how much a disk would spin: libiscsi 1.19.0
    (StartStopUnit.PwrCnd) wants GOOD for reserved ones too. Stopping flushes first unless NO_FLUSH is set, and
    status waits for it even with IMMED.
    raises   InvalidFieldInCdb for LOEJ on a medium that is not removable; MediumRemovalPrevented
    Source: SBC3r36 5.25
    """
    if cdb.power_condition != START_VALID:
        return Done()
    if cdb.loej and not device.features.removable:
        raise InvalidFieldInCdb(StartStopUnit, "loej")
    if cdb.loej and device.preventing:
        raise MediumRemovalPrevented
    if cdb.start or cdb.no_flush or not device.loaded:
        return _started_or_stopped(device, cdb)

    def finish(_: Outcome) -> Done:
        if cdb.loej and device.preventing:
            raise MediumRemovalPrevented
        return _started_or_stopped(device, cdb)

    return Work(Flush(), finish)


def _started_or_stopped(device: Device, cdb: StartStopUnit) -> Done:
    was_loaded = device.loaded
    device.statistics.stops += not cdb.start and not device.stopped
    device.statistics.unloads += cdb.loej and was_loaded and not cdb.start
    device.stopped = not cdb.start
    if cdb.loej:
        device.loaded = cdb.start
    loads = device.loaded and not was_loaded
    return Done(attention=AttentionCode.MEDIUM_MAY_HAVE_CHANGED if loads else None)


def prevent_access(cdb: PreventAllowMediumRemoval) -> Access | None:
    """Returns that anybody may allow removal, or None for preventing it.

    Source: SBC3r36 4.17 table 13
    """
    return Access.SPC2 | Access.ALWAYS if cdb.prevent == ALLOW else None


def prevent_allow_medium_removal(device: Device, cdb: PreventAllowMediumRemoval, call: Call) -> Done:
    """Answers PREVENT ALLOW MEDIUM REMOVAL; each nexus prevents for itself.

    raises   InvalidFieldInCdb for an obsolete value of PREVENT
    Source: SBC3r36 5.10
    """
    if cdb.prevent not in (ALLOW, PREVENT):
        raise InvalidFieldInCdb(PreventAllowMediumRemoval, "prevent")
    if cdb.prevent == PREVENT:
        device.preventing.add(call.nexus)
    else:
        device.preventing.discard(call.nexus)
    return Done()
