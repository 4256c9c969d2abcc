"""The unit attention conditions of one nexus."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.attention import MAX_PENDING, AttentionCode, Attentions

MODE = AttentionCode.MODE_PARAMETERS_CHANGED
CAPACITY = AttentionCode.CAPACITY_DATA_HAS_CHANGED
POWER_ON = AttentionCode.POWER_ON_OCCURRED
UNIT_RESET = AttentionCode.BUS_DEVICE_RESET_FUNCTION_OCCURRED
BUS_RESET = AttentionCode.SCSI_BUS_RESET_OCCURRED
LOSS = AttentionCode.I_T_NEXUS_LOSS_OCCURRED


def establish(*codes: int) -> tuple[int, ...]:
    attentions = Attentions()
    for code in codes:
        attentions = attentions.establish(code)
    return attentions.pending


def test_conditions_are_reported_oldest_first():
    assert establish(MODE, CAPACITY) == (MODE, CAPACITY)
    assert Attentions((MODE, CAPACITY)).first == MODE


def test_no_condition_is_first_of_none():
    assert Attentions().first is None


def test_a_pending_condition_is_not_added_again():
    assert establish(MODE, CAPACITY, MODE) == (MODE, CAPACITY)


@pytest.mark.clause("SAM5r21 5.14")
def test_reset_takes_the_place_of_everything_lower():
    assert establish(MODE, LOSS, CAPACITY, UNIT_RESET) == (UNIT_RESET,)
    assert establish(UNIT_RESET, BUS_RESET) == (BUS_RESET,)
    assert establish(BUS_RESET, POWER_ON) == (POWER_ON,)


@pytest.mark.clause("SAM5r21 5.14")
def test_reset_adds_nothing_to_one_of_higher_precedence():
    assert establish(POWER_ON, UNIT_RESET, LOSS) == (POWER_ON,)
    assert establish(BUS_RESET, UNIT_RESET) == (BUS_RESET,)


def test_a_change_after_a_reset_is_reported_after_it():
    assert establish(UNIT_RESET, MODE) == (UNIT_RESET, MODE)


def test_a_reported_condition_is_gone():
    assert Attentions((UNIT_RESET, MODE)).without(UNIT_RESET).pending == (MODE,)
    assert Attentions((MODE,)).without(CAPACITY).pending == (MODE,)


def test_too_many_conditions_become_the_one_that_stands_for_any():
    codes = range(0x3000, 0x3000 + MAX_PENDING + 1)
    assert establish(*codes) == (AttentionCode.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED,)


@given(st.lists(st.sampled_from(AttentionCode) | st.integers(0, 0xFFFF), max_size=60))
def test_conditions_are_bounded_and_none_is_lost(codes: list[int]):
    """Law: what was established is pending or something of higher precedence is; none twice, at most MAX_PENDING."""
    pending = establish(*codes)
    assert len(set(pending)) == len(pending) <= MAX_PENDING
    assert not codes or codes[-1] in pending or any(code >> 8 == 0x29 for code in pending)
