"""Checks that every block command makes of its range and of the right to write, and blocks to bytes.

All raise before anything is done; none changes anything.
"""

from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.status import (
    InvalidFieldInCdb,
    LbaOutOfRange,
    SoftwareWriteProtected,
    WriteProtected,
)
from iscsi_target.wire.layout import Layout


def checked_range(device: Device, lba: int, blocks: int) -> tuple[int, int]:
    """Returns where blocks are on the medium: offset and length in bytes.

    blocks   may be 0; the LBA must exist all the same
    raises   LbaOutOfRange with the first LBA that does not exist
    Source: SBC3r36 4.4, 4.18.1
    """
    geometry = device.geometry
    capacity = geometry.length_blocks
    if lba >= capacity:
        raise LbaOutOfRange(lba)
    if lba + blocks > capacity:
        raise LbaOutOfRange(capacity)
    return lba * geometry.block_length_bytes, blocks * geometry.block_length_bytes


def check_length(cdb: Layout, field: str, limit_blocks: int) -> None:
    """Refuses a CDB whose length field exceeds a limit of VPD page B0h.

    raises   InvalidFieldInCdb
    Source: SBC3r36 6.5.3
    """
    if getattr(cdb, field) > limit_blocks:
        raise InvalidFieldInCdb(type(cdb), field)


def check_writable(device: Device) -> None:
    """Refuses a command that may write on a unit that cannot or must not be written.

    raises   WriteProtected, SoftwareWriteProtected
    Source: SBC3r36 4.12
    """
    if device.features.read_only:
        raise WriteProtected
    if device.software_write_protect:
        raise SoftwareWriteProtected


def wanted_bytes(device: Device, blocks: int, limit_blocks: int) -> int:
    """Returns how much Data-Out to fetch for some blocks; nothing when the command will be refused.

    Only what never changes is looked at, so that what is fetched and what the handler finds cannot disagree.
    """
    return blocks * device.geometry.block_length_bytes if blocks <= limit_blocks else 0
