"""Threshold sets: how large they are, and how many so many bytes are."""

import pytest

from iscsi_target.scsi.resources import MAX_COUNT, Resources


@pytest.mark.clause("SBC3r36 4.7.3.7")
@pytest.mark.parametrize(
    "block_bytes, most_bytes, exponent", [(512, 1 << 40, 11), (4096, 1 << 40, 8), (512, 1 << 60, 20)]
)
def test_a_set_has_a_power_of_two_of_blocks_so_that_all_counts_fit(block_bytes, most_bytes, exponent):
    found = Resources.of(block_bytes, most_bytes)
    assert (found.exponent, found.set_bytes) == (exponent, block_bytes << exponent)
    assert most_bytes // found.set_bytes <= MAX_COUNT


def test_only_whole_sets_count_and_no_more_than_can_be_said():
    found = Resources.of(512, 1 << 30)
    assert [found.sets(length) for length in (0, (1 << 20) - 1, 1 << 20, 1 << 60)] == [0, 0, 1, MAX_COUNT]
