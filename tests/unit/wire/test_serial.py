"""Numbers that wrap around."""

import pytest

from iscsi_target.wire.serial import advance, before, distance

LAST = 2**32 - 1
HALF = 2**31


def test_number_after_the_last_is_zero():
    assert advance(LAST) == 0
    assert advance(0, -1) == LAST
    assert advance(5, 0) == 5


@pytest.mark.parametrize(
    ("start", "end", "steps"),
    [(5, 5, 0), (5, 9, 4), (9, 5, -4), (LAST, 3, 4), (3, LAST, -4), (0, HALF - 1, HALF - 1), (0, HALF + 1, 1 - HALF)],
)
def test_distance_leads_from_start_to_end_the_short_way(start, end, steps):
    assert distance(start, end) == steps
    assert advance(start, steps) == end


@pytest.mark.clause("RFC7143 4.2.2.1")
def test_before_holds_across_the_wrap():
    assert before(LAST, 0)
    assert not before(0, LAST)
    assert before(7, 8)
    assert not before(8, 8)


def test_numbers_half_the_space_apart_are_each_before_the_other():
    assert before(0, HALF)
    assert before(HALF, 0)
