"""MODE SENSE and MODE SELECT and the pages behind them; drawing in command_bench."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.commands.modes import mode_select_10
from iscsi_target.scsi.layouts import mode_pages
from iscsi_target.scsi.layouts.cdb import ModeSelect6, ModeSelect10, ModeSense6, ModeSense10
from iscsi_target.scsi.layouts.mode_pages import CachingPage, ControlPage, ModePages, PageControl
from iscsi_target.scsi.layouts.pages import LongBlockDescriptor, ModeHeader6, ModeHeader10, ShortBlockDescriptor
from iscsi_target.scsi.state.task import Call, Done, Save
from iscsi_target.scsi.status import CheckCondition, InvalidFieldInParameterList
from iscsi_target.wire.layout import FieldPointer
from tests.unit.scsi.command_bench import (
    BLOCK,
    CAPACITY,
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_LIST,
    LIST_LENGTH_ERROR,
    A,
    Bytes,
    device,
    refusal,
    run,
)

SENSES = (ModeSense6, ModeSense10)
EVERY_PAGE = 60  # bytes of all pages without subpages


def pages_of(unit, page_code, subpage_code=0, page_control=0):
    cdb = ModeSense10(
        dbd=True,
        page_code=page_code,
        subpage_code=subpage_code,
        page_control=page_control,
        allocation_length=500,
    )
    data = run(unit, cdb).data_in
    assert ModeHeader10.unpack(data).mode_data_length == len(data) - 2
    return data[ModeHeader10.size :]


def select(unit, pages, *, sp=False, pf=True, length=None):
    data = ModeHeader10().pack() + pages
    cdb = ModeSelect10(pf=pf, sp=sp, parameter_list_length=len(data) if length is None else length)
    return run(unit, cdb, offered=data)


def pointer(unit, pages):
    with pytest.raises(InvalidFieldInParameterList) as raised:
        select(unit, pages)
    return raised.value.sense.field


@pytest.mark.clause("SPC4r37 6.13")
def test_all_pages_come_in_ascending_order_with_and_without_subpages():
    unit = device()
    assert len(pages_of(unit, 0x3F)) == EVERY_PAGE
    everything = pages_of(unit, 0x3F, 0xFF)
    assert everything == b"".join(page.pack() for page in mode_pages.DEFAULTS.values())
    assert pages_of(unit, 0x0A, 0xFF) == pages_of(unit, 0x0A) + pages_of(unit, 0x0A, 1)


@pytest.mark.clause("SPC4r37 6.13.1")
@pytest.mark.parametrize("subpage_code", (1, 0xFE))
def test_a_reserved_subpage_code_of_all_pages_is_refused(subpage_code):
    cdb = ModeSense10(page_code=0x3F, subpage_code=subpage_code, allocation_length=255)
    assert refusal(device(), cdb) == INVALID_FIELD_IN_CDB


@pytest.mark.clause("SPC4r37 7.5.6")
def test_changeable_values_have_ones_where_select_may_change():
    unit = device()
    caching = CachingPage.unpack(pages_of(unit, 0x08, page_control=1))
    control = ControlPage.unpack(pages_of(unit, 0x0A, page_control=1))
    assert caching == CachingPage(wce=True)
    assert control == ControlPage(
        tst=1,
        tmf_only=True,
        d_sense=True,
        gltsd=False,
        queue_algorithm_modifier=0,
        nuar=True,
        qerr=3,
        swp=True,
        tas=True,
        ua_intlck_ctrl=3,
        busy_timeout_period=0,
    )


@pytest.mark.clause("SPC4r37 6.13")
@pytest.mark.clause("SPC4r37 6.14")
@pytest.mark.parametrize("sense", SENSES)
def test_an_unknown_page_points_at_the_page_and_an_unknown_subpage_at_the_subpage(sense):
    for code, subcode, field in ((0x05, 0, "page_code"), (0x0A, 5, "subpage_code"), (0x3F, 5, "subpage_code")):
        with pytest.raises(CheckCondition) as raised:
            run(device(), sense(page_code=code, subpage_code=subcode, allocation_length=100))
        assert (raised.value.sense.code, raised.value.sense.field) == (0x2400, sense.location(field))


@pytest.mark.clause("SBC3r36 6.4.1")
@pytest.mark.parametrize(
    "features, swp, wp", [({}, False, False), ({"read_only": True}, False, True), ({}, True, True)]
)
def test_wp_tells_whether_the_unit_can_be_written(features, swp, wp):
    unit = device(**features)
    select(unit, ControlPage(swp=swp).pack())
    header = ModeHeader6.unpack(run(unit, ModeSense6(page_code=0x3F, allocation_length=4)).data_in)
    assert (header.wp, header.dpofua) == (wp, True)


@pytest.mark.clause("SBC3r36 6.4.2")
@pytest.mark.clause("SBC3r36 6.4.2.2")
@pytest.mark.clause("SBC3r36 6.4.2.3")
def test_block_descriptors_are_short_long_or_absent():
    unit = device()
    six = run(unit, ModeSense6(page_code=0x08, allocation_length=255)).data_in
    assert ModeHeader6.unpack(six).block_descriptor_length == 8
    assert ModeHeader6.unpack(six).mode_data_length == len(six) - 1
    assert ShortBlockDescriptor.unpack(six, 4) == ShortBlockDescriptor(
        number_of_logical_blocks=CAPACITY, logical_block_length=BLOCK
    )
    ten = run(unit, ModeSense10(llbaa=True, page_code=0x08, allocation_length=255)).data_in
    assert (ModeHeader10.unpack(ten).longlba, ModeHeader10.unpack(ten).block_descriptor_length) == (True, 16)
    assert LongBlockDescriptor.unpack(ten, 8).number_of_logical_blocks == CAPACITY
    without = run(unit, ModeSense10(llbaa=True, dbd=True, page_code=0x08, allocation_length=255)).data_in
    assert (ModeHeader10.unpack(without).longlba, len(without)) == (False, 8 + CachingPage.size)


@pytest.mark.clause("SPC4r37 6.11")
@pytest.mark.clause("SPC4r37 6.12")
@pytest.mark.parametrize("select_cdb, header", [(ModeSelect6, ModeHeader6), (ModeSelect10, ModeHeader10)])
def test_select_changes_what_sense_returns_and_tells_the_others(select_cdb, header):
    unit = device()
    data = (
        header().pack() + ControlPage(d_sense=True, tas=True, qerr=1, swp=True).pack() + CachingPage(wce=False).pack()
    )
    done = run(unit, select_cdb(pf=True, parameter_list_length=len(data)), offered=data)
    assert done.attention == 0x2A01
    assert (unit.descriptor_sense, unit.task_aborted_status, unit.qerr) == (True, True, 1)
    assert (unit.software_write_protect, unit.write_cache) == (True, False)
    assert ControlPage.unpack(pages_of(unit, 0x0A)).swp
    assert ControlPage.unpack(pages_of(unit, 0x0A, page_control=2)) == ControlPage()


def test_select_of_the_values_that_hold_tells_nobody():
    assert select(device(), ControlPage().pack()).attention is None


@pytest.mark.clause("SPC4r37 7.5.5")
def test_select_accepts_a_block_descriptor_that_changes_nothing():
    same = ShortBlockDescriptor(number_of_logical_blocks=CAPACITY, logical_block_length=BLOCK).pack()
    other = ShortBlockDescriptor(number_of_logical_blocks=CAPACITY - 1, logical_block_length=BLOCK).pack()
    smaller = ShortBlockDescriptor(number_of_logical_blocks=0, logical_block_length=4096).pack()
    for descriptor, good in ((same, True), (other, False), (smaller, False)):
        data = ModeHeader6(block_descriptor_length=8).pack() + descriptor + CachingPage(wce=False).pack()
        cdb = ModeSelect6(pf=True, parameter_list_length=len(data))
        if good:
            assert run(device(), cdb, offered=data).attention == 0x2A01
        else:
            assert refusal(device(), cdb, offered=data) == INVALID_FIELD_IN_LIST


@pytest.mark.clause("SPC4r37 7.5.6")
def test_a_bit_that_cannot_be_changed_is_pointed_at():
    start = ModeHeader10.size
    assert pointer(device(), CachingPage(rcd=True).pack()) == FieldPointer(start + 2, 0)
    assert pointer(device(), ControlPage(qerr=2).pack()) == FieldPointer(start + 3, 2)
    second = CachingPage().pack() + ControlPage(tst=2).pack()
    assert pointer(device(), second) == FieldPointer(start + CachingPage.size + 2, 7)
    assert pointer(device(), ControlPage(page_length=9).pack()) == FieldPointer(start + 1, 0)
    assert pointer(device(), bytes((0x05, 0))) == FieldPointer(start, 5)


def test_a_refused_select_changes_nothing():
    unit = device()
    with pytest.raises(InvalidFieldInParameterList):
        select(unit, ControlPage(swp=True).pack() + CachingPage(rcd=True).pack())
    assert unit.modes == ModePages()


@pytest.mark.parametrize("cut", (1, 9, 11))
def test_a_list_that_ends_within_a_page_is_refused(cut):
    data = ModeHeader10().pack() + ControlPage(swp=True).pack()[:-cut]
    cdb = ModeSelect10(pf=True, parameter_list_length=len(data))
    assert refusal(device(), cdb, offered=data) == LIST_LENGTH_ERROR


def test_a_list_shorter_than_its_length_or_its_header_is_refused_and_an_empty_one_is_good():
    page = ControlPage(swp=True).pack()
    cdb = ModeSelect10(pf=True, parameter_list_length=100)
    assert refusal(device(), cdb, offered=ModeHeader10().pack() + page) == LIST_LENGTH_ERROR
    assert refusal(device(), ModeSelect6(pf=True, parameter_list_length=3), offered=bytes(3)) == LIST_LENGTH_ERROR
    assert run(device(), ModeSelect6(pf=True)).attention is None


def test_pages_in_a_format_of_their_own_are_refused():
    data = ModeHeader10().pack() + ControlPage().pack()
    cdb = ModeSelect10(parameter_list_length=len(data))
    assert refusal(device(), cdb, offered=data) == INVALID_FIELD_IN_CDB


@pytest.mark.clause("SPC4r37 6.11")
def test_saved_pages_are_adopted_only_after_they_are_on_disk():
    unit = device()
    data = ModeHeader10().pack() + ControlPage(tas=True).pack()
    cdb = ModeSelect10(pf=True, sp=True, parameter_list_length=len(data))
    reply = mode_select_10(unit, cdb, Call(A, data, ()))
    assert isinstance(reply, Save)
    assert not unit.task_aborted_status
    adopted = reply.finish()
    assert isinstance(adopted, Done)
    assert adopted.attention == 0x2A01
    assert unit.task_aborted_status
    assert ControlPage.unpack(pages_of(unit, 0x0A, page_control=3)).tas
    assert ModePages.restore(reply.state.mode_pages).task_aborted_status


@pytest.mark.clause("SBC3r36 6.4.5")
@pytest.mark.parametrize("sp", (False, True))
def test_a_write_cache_that_is_switched_off_is_flushed(sp):
    unit, store = device(), Bytes()
    for wce, flushed in ((True, 0), (False, 1), (False, 1), (True, 1)):
        data = ModeHeader10().pack() + CachingPage(wce=wce).pack()
        run(unit, ModeSelect10(pf=True, sp=sp, parameter_list_length=len(data)), offered=data, store=store)
        assert (unit.write_cache, store.flushed) == (wce, flushed)


FLAGS = st.fixed_dictionaries(
    {"d_sense": st.booleans(), "swp": st.booleans(), "tas": st.booleans(), "qerr": st.sampled_from((0, 1, 3))}
)


@given(FLAGS, st.booleans(), st.sampled_from(list(PageControl)))
def test_what_sense_returns_select_accepts(flags, wce, page_control):
    """Law: current, default and saved pages, sent back as they came, are accepted and are current then."""
    unit = device()
    select(unit, ControlPage(**flags).pack() + CachingPage(wce=wce).pack())
    before = pages_of(unit, 0x3F, 0xFF)
    if page_control is PageControl.CHANGEABLE:
        return
    back = pages_of(unit, 0x3F, 0xFF, page_control)
    select(unit, back)
    assert pages_of(unit, 0x3F, 0xFF) == (before if page_control is PageControl.CURRENT else back)


@given(st.binary(max_size=80))
def test_random_pages_are_accepted_or_refused_with_nothing_changed(pages):
    """Law: whatever is selected, only what is changeable changes, and a refusal changes nothing."""
    unit = device()
    try:
        select(unit, pages)
    except CheckCondition:
        assert unit.modes == ModePages()
    for key, page in unit.modes.current.items():
        allowed = mode_pages.CHANGEABLE_FIELDS.get(key, {})
        default = mode_pages.DEFAULTS[key]
        assert all(getattr(page, name) == getattr(default, name) for name in page.fields if name not in allowed)
