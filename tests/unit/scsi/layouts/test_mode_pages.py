"""The mode pages as a value: select, save, reset, restore."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.layouts.mode_pages import (
    CHANGEABLE,
    CHANGEABLE_FIELDS,
    DEFAULTS,
    CachingPage,
    ControlPage,
    ModePages,
    PageControl,
)
from iscsi_target.scsi.status import CheckCondition, InvalidFieldInParameterList, ParameterListLengthError
from iscsi_target.wire.layout import FieldPointer

FLAGS = st.fixed_dictionaries(
    {"d_sense": st.booleans(), "swp": st.booleans(), "tas": st.booleans(), "qerr": st.sampled_from((0, 1, 3))}
)


@pytest.mark.clause("SPC4r37 7.5.8")
def test_the_defaults_are_a_write_cache_fixed_sense_and_nothing_protected():
    pages = ModePages()
    assert pages.write_cache
    assert not any((pages.descriptor_sense, pages.software_write_protect, pages.task_aborted_status, pages.qerr))


def test_values_that_are_asked_for_are_those_that_come():
    pages = ModePages().select(ControlPage(swp=True).pack(), 0)
    assert pages.sense(PageControl.CURRENT, 0x0A, 0) == ControlPage(swp=True).pack()
    assert pages.sense(PageControl.CHANGEABLE, 0x0A, 0) == CHANGEABLE[0x0A, 0].pack()
    assert pages.sense(PageControl.DEFAULT, 0x0A, 0) == ControlPage().pack()
    assert pages.sense(PageControl.SAVED, 0x0A, 0) == ControlPage().pack()
    assert pages.sense(PageControl.CURRENT, 0x05, 0) is None


def test_only_page_codes_of_a_page_are_supported():
    assert [code for code in range(0x40) if ModePages().supports(code)] == [0x02, 0x08, 0x0A, 0x1C, 0x3F]


@pytest.mark.clause("SPC4r37 7.5.10")
def test_a_port_without_a_bus_has_nothing_to_disconnect():
    assert ModePages().sense(PageControl.CURRENT, 0x02, 0) == b"\x02\x0e" + bytes(14)
    assert ModePages().sense(PageControl.CHANGEABLE, 0x02, 0) == b"\x02\x0e" + bytes(14)


@pytest.mark.clause("SBC3r36 6.4.6")
def test_informational_exceptions_are_switched_off_and_stay_so():
    assert ModePages().sense(PageControl.CURRENT, 0x1C, 0) == b"\x1c\x0a\x08" + bytes(9)
    assert ModePages().sense(PageControl.CHANGEABLE, 0x1C, 0) == b"\x1c\x0a" + bytes(10)
    with pytest.raises(InvalidFieldInParameterList):
        ModePages().select(b"\x1c\x0a" + bytes(10), 0)


@pytest.mark.parametrize("key", list(DEFAULTS))
def test_a_page_can_be_saved_when_something_of_it_can_be_changed(key):
    assert (DEFAULTS[key].pack()[:1] >= b"\x80") == (key in CHANGEABLE_FIELDS) == (key in ModePages().saved)


@pytest.mark.clause("SPC4r37 4.5.2.4.2")
def test_the_field_pointer_counts_from_the_start_of_the_parameter_list():
    with pytest.raises(InvalidFieldInParameterList) as raised:
        ModePages().select(CachingPage(dra=True).pack(), 20)
    assert raised.value.sense.field == FieldPointer(20 + 12, 5)


def test_a_page_that_is_cut_off_is_refused():
    with pytest.raises(ParameterListLengthError):
        ModePages().select(CachingPage().pack() + b"\x0a", 0)


def test_a_reset_brings_the_saved_values_back():
    pages = ModePages().select(ControlPage(tas=True).pack(), 0).save()
    after = pages.select(ControlPage(swp=True).pack(), 0).reset()
    assert (after.task_aborted_status, after.software_write_protect) == (True, False)


def test_saved_pages_that_are_not_valid_have_their_defaults():
    wrong = {(0x08, 0): b"\x08\x01\0", (0x0A, 0): ControlPage(d_sense=True).pack(), (0x77, 0): b""}
    restored = ModePages.restore(wrong)
    assert restored.descriptor_sense
    assert restored.write_cache


@given(FLAGS, st.booleans())
def test_saved_pages_survive_the_state_file(flags, wce):
    """Law: restore(saved) is the identity on saved values."""
    pages = ModePages().select(ControlPage(**flags).pack() + CachingPage(wce=wce).pack(), 0).save()
    assert ModePages.restore(pages.saved) == pages


@given(st.binary(max_size=60))
def test_any_bytes_are_selected_or_refused(pages):
    """Law: only CheckCondition is ever raised."""
    try:
        ModePages().select(pages, 0)
    except CheckCondition:
        return
