"""What follows from negotiated parameters."""

import pytest

from iscsi_target.iscsi.parameters import Parameters


def test_data_in_is_bounded_by_what_the_initiator_takes_and_by_a_burst():
    assert Parameters(initiator_max_recv=4096, max_burst_length=8192).most_in == 4096
    assert Parameters(initiator_max_recv=8192, max_burst_length=4096).most_in == 4096


@pytest.mark.parametrize(("limit", "first", "most"), [(4096, 8192, 4096), (8192, 4096, 4096)])
def test_immediate_data_is_bounded_by_a_segment_and_the_first_burst(limit: int, first: int, most: int):
    assert Parameters(target_max_recv=limit, first_burst_length=first).most_out == most


def test_without_immediate_data_none_may_come():
    assert Parameters(immediate_data=False).most_out == 0
