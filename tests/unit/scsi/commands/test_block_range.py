"""The checks of ranges and of the right to write; drawing in command_bench."""

import pytest

from iscsi_target.scsi.commands.block_range import check_length, check_writable, checked_range, wanted_bytes
from iscsi_target.scsi.layouts.block_cdb import Read10
from iscsi_target.scsi.status import InvalidFieldInCdb, LbaOutOfRange, WriteProtected
from tests.unit.scsi.command_bench import BLOCK, CAPACITY, device


def test_a_range_inside_is_given_in_bytes():
    assert checked_range(device(), 3, 2) == (3 * BLOCK, 2 * BLOCK)
    assert checked_range(device(), CAPACITY - 1, 1) == ((CAPACITY - 1) * BLOCK, BLOCK)


@pytest.mark.clause("SBC3r36 4.18.1")
@pytest.mark.parametrize(
    "lba, blocks, first", [(CAPACITY, 0, CAPACITY), (CAPACITY - 1, 2, CAPACITY), (1 << 63, 1, 1 << 63)]
)
def test_a_range_past_the_end_names_the_first_lba_that_is_not_there(lba, blocks, first):
    with pytest.raises(LbaOutOfRange) as raised:
        checked_range(device(), lba, blocks)
    assert raised.value.sense.information == first


def test_a_length_beyond_its_limit_points_at_the_field():
    check_length(Read10(transfer_length=4), "transfer_length", 4)
    with pytest.raises(InvalidFieldInCdb) as raised:
        check_length(Read10(transfer_length=5), "transfer_length", 4)
    assert raised.value.sense.field == Read10.location("transfer_length")


def test_a_read_only_unit_cannot_be_written():
    check_writable(device())
    with pytest.raises(WriteProtected):
        check_writable(device(read_only=True))


def test_nothing_is_fetched_for_what_will_be_refused():
    assert wanted_bytes(device(), 4, 4) == 4 * BLOCK
    assert wanted_bytes(device(), 5, 4) == 0
