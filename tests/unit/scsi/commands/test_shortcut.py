"""Which commands a shortcut finds the operation of; that it is the handler's is a law in tests/property."""

import pytest

from iscsi_target.scsi.commands.shortcut import read_shortcut, write_shortcut
from iscsi_target.scsi.layouts.block_cdb import Read10, Read16, Write10, Write12
from iscsi_target.scsi.layouts.mode_pages import CachingPage, ControlPage, ModePages
from iscsi_target.scsi.operations import Read, Write
from iscsi_target.scsi.state.device import Device
from tests.unit.scsi.command_bench import BLOCK, CAPACITY, LIMITS
from tests.unit.scsi.command_bench import device as make_device

DATA = bytes([7]) * 2 * BLOCK
READ = Read10(lba=5, transfer_length=2).pack()
WRITE = Write10(lba=5, transfer_length=2).pack()


@pytest.fixture
def unit() -> Device:
    return make_device()


def test_read_is_found_by_lba_and_length(unit: Device):
    assert read_shortcut(Read10, unit)(READ, 2 * BLOCK, b"") == Read(5 * BLOCK, 2 * BLOCK)
    wide = Read16(lba=CAPACITY - 1, transfer_length=1).pack()
    assert read_shortcut(Read16, unit)(wide, BLOCK, b"") == Read((CAPACITY - 1) * BLOCK, BLOCK)


def test_write_is_found_with_its_data(unit: Device):
    assert write_shortcut(Write10, unit)(WRITE, 2 * BLOCK, DATA) == Write(5 * BLOCK, DATA, flush=False)
    assert write_shortcut(Write12, unit)(Write12(transfer_length=2).pack(), 2 * BLOCK, DATA) == Write(0, DATA)


def test_write_without_a_cache_is_flushed(unit: Device):
    unit.modes = ModePages.restore({(8, 0): CachingPage(wce=False).pack()})
    assert write_shortcut(Write10, unit)(WRITE, 2 * BLOCK, DATA) == Write(5 * BLOCK, DATA, flush=True)


def test_nothing_is_found_on_a_unit_that_must_not_be_written(unit: Device):
    assert write_shortcut(Write10, make_device(read_only=True))(WRITE, 2 * BLOCK, DATA) is None
    unit.modes = ModePages.restore({(10, 0): ControlPage(swp=True).pack()})
    assert write_shortcut(Write10, unit)(WRITE, 2 * BLOCK, DATA) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"fua": True},
        {"dpo": True},
        {"group_number": 1},
        {"control": 4},
        {"transfer_length": 0},
        {"transfer_length": LIMITS.max_transfer_blocks + 1},
        {"lba": CAPACITY - 1},
    ],
)
def test_command_that_says_more_or_reaches_too_far_is_not_found(changes: dict[str, int], unit: Device):
    blocks = changes.get("transfer_length", 2)
    cdb = Read10(lba=5, transfer_length=2).replace(**changes).pack()
    assert read_shortcut(Read10, unit)(cdb, blocks * BLOCK, b"") is None
    cdb = Write10(lba=5, transfer_length=2).replace(**changes).pack()
    assert write_shortcut(Write10, unit)(cdb, blocks * BLOCK, bytes(blocks * BLOCK)) is None


@pytest.mark.parametrize("expected", [0, BLOCK, 2 * BLOCK - 1, 2 * BLOCK + 1])
def test_transfer_of_another_length_is_not_found(expected: int, unit: Device):
    assert read_shortcut(Read10, unit)(READ, expected, b"") is None
    assert write_shortcut(Write10, unit)(WRITE, expected, DATA[:expected].ljust(expected)) is None
    assert write_shortcut(Write10, unit)(WRITE, 2 * BLOCK, DATA[:expected].ljust(expected)) is None


def test_read_with_data_out_is_not_found(unit: Device):
    assert read_shortcut(Read10, unit)(READ, 2 * BLOCK, DATA) is None
