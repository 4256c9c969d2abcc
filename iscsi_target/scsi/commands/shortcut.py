"""Shortcuts: what READ and WRITE ask of the medium, found in one step where nothing is unusual about them.

Most commands of an initiator name an LBA and a number of blocks, and nothing else: no FUA, no protection, no group.
What the device says of such a command is taken in when its shortcut is made: the length of a block, the capacity, the
limit, whether it may be written at all. A shortcut holds as long as the device's epoch. It says what the handler in
`block` would, or None, and then the handler is to be asked; tests/property/test_shortcut.py holds the one against the
other.
"""

from collections.abc import Callable
from functools import cache

from iscsi_target.scsi.operations import Buffer, Read, Write
from iscsi_target.scsi.state.device import Device
from iscsi_target.wire.layout import Layout
from iscsi_target.wire.pattern import matcher

Shortcut = Callable[[bytes, int, Buffer], Read | Write | None]
"""Takes the CDB, how many bytes the initiator expects to be transferred, and all its Data-Out."""

_Range = Callable[[Buffer, int], tuple[int, int] | None]


@cache
def _range_of(layout: type[Layout]) -> _Range:
    """Returns what finds LBA and number of blocks in a CDB that says nothing else."""
    return matcher(layout, ("lba", "transfer_length"))


def read_shortcut(layout: type[Layout], device: Device) -> Shortcut:
    """Makes the shortcut of READ(10), (12) or (16).

    Source: SBC3r36 5.11
    """
    find = _range_of(layout)
    block_bytes, _, capacity = device.geometry
    limit = device.features.limits.max_transfer_blocks

    def shortcut(cdb: bytes, expected: int, data_out: Buffer) -> Read | None:
        found = find(cdb, 0)
        if found is None or data_out:
            return None
        lba, blocks = found
        if 0 < blocks <= limit and lba + blocks <= capacity and blocks * block_bytes == expected:
            return Read(lba * block_bytes, expected)
        return None

    return shortcut


def write_shortcut(layout: type[Layout], device: Device) -> Shortcut:
    """Makes the shortcut of WRITE(10), (12) or (16); it finds nothing on a unit that cannot or must not be written.

    Source: SBC3r36 5.33
    """
    find = _range_of(layout)
    block_bytes, _, capacity = device.geometry
    writable = not (device.features.read_only or device.software_write_protect)
    limit = device.features.limits.max_transfer_blocks if writable else 0
    flush = not device.write_cache

    def shortcut(cdb: bytes, expected: int, data_out: Buffer) -> Write | None:
        found = find(cdb, 0)
        if found is None or len(data_out) != expected:
            return None
        lba, blocks = found
        if 0 < blocks <= limit and lba + blocks <= capacity and blocks * block_bytes == expected:
            return Write(lba * block_bytes, data_out, flush)
        return None

    return shortcut
