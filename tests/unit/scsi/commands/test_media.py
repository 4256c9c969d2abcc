"""Capacity, cache, start, stop, eject and prevention; drawing in command_bench."""

import pytest

from iscsi_target.scsi.layouts import block_cdb as sbc
from iscsi_target.scsi.layouts.pages import ReadCapacity10Data, ReadCapacity16Data
from iscsi_target.scsi.state.device import Geometry
from tests.unit.scsi.command_bench import (
    BLOCK,
    CAPACITY,
    INVALID_FIELD_IN_CDB,
    LBA_OUT_OF_RANGE,
    LIMITS,
    REMOVAL_PREVENTED,
    A,
    B,
    Bytes,
    device,
    refusal,
    run,
)

EJECT = sbc.StartStopUnit(loej=True)
LOAD = sbc.StartStopUnit(loej=True, start=True)
CACHES = (sbc.SynchronizeCache10, sbc.SynchronizeCache16)
PRE_FETCHES = (sbc.PreFetch10, sbc.PreFetch16)


@pytest.mark.clause("SBC3r36 5.16")
@pytest.mark.clause("SBC3r36 5.16.2")
@pytest.mark.clause("SBC3r36 4.6")
def test_read_capacity_16_is_32_bytes_and_honours_the_allocation_length():
    whole = run(device(), sbc.ReadCapacity16(allocation_length=64)).data_in
    assert len(whole) == 32
    values = ReadCapacity16Data.unpack(whole)
    assert (values.returned_lba, values.block_length) == (CAPACITY - 1, BLOCK)
    assert (values.logical_blocks_per_physical_block_exponent, values.lbpme, values.lbprz) == (3, True, True)
    for length in (0, 12, 31):
        assert run(device(), sbc.ReadCapacity16(allocation_length=length)).data_in == whole[:length]
    full = run(device(thin=False), sbc.ReadCapacity16(allocation_length=64)).data_in
    assert not ReadCapacity16Data.unpack(full).lbpme


@pytest.mark.clause("SBC3r36 5.15")
@pytest.mark.clause("SBC3r36 5.15.2")
@pytest.mark.parametrize("blocks, lba", [(1, 0), (1 << 32, 0xFFFFFFFF), ((1 << 32) + 1, 0xFFFFFFFF)])
def test_read_capacity_10_says_when_16_must_be_asked(blocks, lba):
    unit = device()
    unit.geometry = Geometry(BLOCK, 0, blocks)
    assert ReadCapacity10Data.unpack(run(unit, sbc.ReadCapacity10()).data_in).returned_lba == lba


@pytest.mark.parametrize("cdb", (sbc.ReadCapacity10, sbc.ReadCapacity16))
def test_read_capacity_refuses_an_lba_without_pmi(cdb):
    assert refusal(device(), cdb(lba=1)) == INVALID_FIELD_IN_CDB
    run(device(), cdb(lba=1, pmi=True))


@pytest.mark.clause("SBC3r36 5.26")
@pytest.mark.clause("SBC3r36 5.27")
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("flags", ({}, {"immed": True}, {"sync_nv": True, "immed": True}))
def test_synchronize_cache_flushes(cache, flags):
    store = Bytes()
    run(device(), cache(lba=1, number_of_logical_blocks=2, **flags), store=store)
    assert store.flushed == 1
    assert refusal(device(), cache(lba=CAPACITY)) == LBA_OUT_OF_RANGE
    assert refusal(device(), cache(lba=CAPACITY - 1, number_of_logical_blocks=2)) == LBA_OUT_OF_RANGE


@pytest.mark.clause("SBC3r36 5.8")
@pytest.mark.clause("SBC3r36 5.9")
@pytest.mark.parametrize("pre_fetch", PRE_FETCHES)
def test_pre_fetch_is_good_inside_and_refused_past_the_end(pre_fetch):
    for flags in ({}, {"immed": True}, {"group_number": 3}):
        run(device(), pre_fetch(prefetch_length=8, **flags))
        run(device(), pre_fetch(lba=CAPACITY - 1, **flags))
        assert refusal(device(), pre_fetch(lba=CAPACITY + 1, **flags)) == LBA_OUT_OF_RANGE
    too_long = pre_fetch(prefetch_length=LIMITS.max_transfer_blocks + 1)
    assert refusal(device(), too_long) == INVALID_FIELD_IN_CDB


@pytest.mark.clause("SBC3r36 5.25")
def test_stop_flushes_and_start_starts():
    unit, store = device(), Bytes()
    run(unit, sbc.StartStopUnit(), store=store)
    assert (unit.stopped, unit.loaded, store.flushed) == (True, True, 1)
    run(unit, sbc.StartStopUnit(start=True), store=store)
    assert (unit.stopped, store.flushed) == (False, 1)
    run(unit, sbc.StartStopUnit(no_flush=True), store=store)
    assert (unit.stopped, store.flushed) == (True, 1)


def test_eject_and_load_need_a_removable_medium():
    unit = device(removable=True)
    run(unit, EJECT)
    assert not unit.loaded
    run(unit, EJECT)
    run(unit, LOAD)
    assert (unit.loaded, unit.stopped) == (True, False)
    assert refusal(device(), EJECT) == INVALID_FIELD_IN_CDB


@pytest.mark.clause("SBC3r36 4.9")
def test_the_others_learn_that_a_medium_was_loaded():
    unit = device(removable=True)
    assert run(unit, LOAD).attention is None
    assert run(unit, EJECT).attention is None
    assert run(unit, LOAD).attention == 0x2800


@pytest.mark.parametrize("power_condition", range(1, 16))
def test_a_power_condition_neither_ejects_nor_stops(power_condition):
    unit = device(removable=True)
    run(unit, EJECT.replace(power_condition=power_condition))
    assert (unit.loaded, unit.stopped) == (True, False)


@pytest.mark.clause("SBC3r36 5.10")
def test_removal_is_prevented_until_every_nexus_allows_it():
    unit = device(removable=True)
    prevent, allow = sbc.PreventAllowMediumRemoval(prevent=1), sbc.PreventAllowMediumRemoval()
    run(unit, prevent, nexus=A)
    run(unit, prevent, nexus=B)
    run(unit, allow, nexus=A)
    assert refusal(unit, EJECT, nexus=A) == REMOVAL_PREVENTED
    run(unit, allow, nexus=B)
    run(unit, EJECT, nexus=A)
    run(unit, prevent, nexus=B)
    assert refusal(unit, LOAD, nexus=A) == REMOVAL_PREVENTED


@pytest.mark.parametrize("prevent", (2, 3))
def test_obsolete_values_of_prevent_are_refused(prevent):
    assert refusal(device(), sbc.PreventAllowMediumRemoval(prevent=prevent)) == INVALID_FIELD_IN_CDB
