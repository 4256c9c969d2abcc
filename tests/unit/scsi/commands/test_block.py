"""READ, WRITE, VERIFY, WRITE AND VERIFY and COMPARE AND WRITE; drawing in command_bench."""

import pytest

from iscsi_target.scsi.layouts import block_cdb as sbc
from iscsi_target.scsi.layouts.mode_pages import CACHING, CONTROL, ModePages
from iscsi_target.scsi.operations import Read
from iscsi_target.scsi.status import CheckCondition
from tests.unit.scsi.command_bench import (
    BLOCK,
    CAPACITY,
    INVALID_FIELD_IN_CDB,
    LBA_OUT_OF_RANGE,
    LIMITS,
    MISCOMPARE,
    SOFTWARE_WRITE_PROTECTED,
    WRITE_PROTECTED,
    Bytes,
    device,
    refusal,
    run,
)

READS = (sbc.Read6, sbc.Read10, sbc.Read12, sbc.Read16)
WRITES = (sbc.Write6, sbc.Write10, sbc.Write12, sbc.Write16)
WRITE_AND_VERIFIES = (sbc.WriteAndVerify10, sbc.WriteAndVerify12, sbc.WriteAndVerify16)
VERIFIES = (sbc.Verify10, sbc.Verify12, sbc.Verify16)


def with_modes(unit, key, **values):
    modes = unit.modes
    unit.modes = ModePages({**modes.current, key: modes.current[key].replace(**values)}, modes.stored)
    return unit


@pytest.mark.clause("SBC3r36 5.33")
@pytest.mark.clause("SBC2r16 5.5")
@pytest.mark.clause("SBC2r16 5.24")
@pytest.mark.clause("SBC3r36 5.34")
@pytest.mark.clause("SBC3r36 5.35")
@pytest.mark.parametrize("write, read", list(zip(WRITES, READS, strict=True)))
def test_what_is_written_is_read(write, read):
    store, data = Bytes(), bytes(range(256)) * 4
    run(device(), write(lba=CAPACITY - 2, transfer_length=2), offered=data, store=store)
    assert run(device(), read(lba=CAPACITY - 2, transfer_length=2), store=store).data_in == data


@pytest.mark.clause("SBC3r36 5.11")
@pytest.mark.clause("SBC3r36 5.12")
@pytest.mark.clause("SBC3r36 5.13")
@pytest.mark.parametrize("read", READS[1:])
def test_read_past_the_end_is_refused_with_the_first_missing_lba(read):
    with pytest.raises(CheckCondition) as raised:
        run(device(), read(lba=CAPACITY - 1, transfer_length=2))
    assert (raised.value.sense.code, raised.value.sense.information) == (0x2100, CAPACITY)


@pytest.mark.parametrize("cdb", READS[1:] + WRITES[1:] + WRITE_AND_VERIFIES)
def test_zero_blocks_are_good_inside_and_refused_past_the_end(cdb):
    assert run(device(), cdb(lba=0, transfer_length=0)).data_in == b""
    assert refusal(device(), cdb(lba=CAPACITY, transfer_length=0)) == LBA_OUT_OF_RANGE


@pytest.mark.parametrize("cdb", VERIFIES)
def test_verify_of_zero_blocks_is_good_inside_and_refused_past_the_end(cdb):
    assert run(device(), cdb(lba=0, verification_length=0, bytchk=1)).data_in == b""
    assert refusal(device(), cdb(lba=CAPACITY + 1)) == LBA_OUT_OF_RANGE


def test_read_6_of_length_zero_is_256_blocks():
    assert len(run(device(), sbc.Read6(lba=0, transfer_length=0)).data_in) == 256 * BLOCK


@pytest.mark.parametrize("cdb", READS[1:] + WRITES[1:] + WRITE_AND_VERIFIES)
@pytest.mark.clause("SBC3r36 6.5.3")
def test_more_than_the_maximum_transfer_length_is_refused(cdb):
    assert refusal(device(), cdb(transfer_length=LIMITS.max_transfer_blocks + 1)) == INVALID_FIELD_IN_CDB


@pytest.mark.parametrize("cdb", (*READS[1:], *WRITES[1:], *WRITE_AND_VERIFIES, *VERIFIES, sbc.CompareAndWrite))
def test_protection_is_refused(cdb):
    field = next(name for name in cdb.fields if name.endswith("protect"))
    assert refusal(device(), cdb(**{field: 1})) == INVALID_FIELD_IN_CDB


@pytest.mark.clause("SBC3r36 5.33")
@pytest.mark.parametrize("fua, wce, flushes", [(False, True, 0), (True, True, 1), (False, False, 1)])
def test_fua_or_no_write_cache_means_stable_storage(fua, wce, flushes):
    store, unit = Bytes(), with_modes(device(), CACHING, wce=wce)
    run(unit, sbc.Write10(fua=fua, transfer_length=1), offered=bytes(BLOCK), store=store)
    assert store.flushed == flushes


def test_read_with_fua_flushes_first():
    store = Bytes()
    run(device(), sbc.Read16(fua=True, transfer_length=1), store=store)
    assert store.flushed == 1


@pytest.mark.parametrize("write", WRITES + WRITE_AND_VERIFIES)
def test_write_is_refused_on_a_read_only_unit(write):
    cdb = write(transfer_length=1)
    assert refusal(device(read_only=True), cdb, offered=bytes(BLOCK)) == WRITE_PROTECTED


@pytest.mark.clause("SPC4r37 7.5.8")
@pytest.mark.clause("SBC3r36 4.12")
@pytest.mark.parametrize("write", WRITES + WRITE_AND_VERIFIES)
def test_swp_protects_and_reads_go_on(write):
    unit = with_modes(device(), CONTROL, swp=True)
    assert refusal(unit, write(transfer_length=1), offered=bytes(BLOCK)) == SOFTWARE_WRITE_PROTECTED
    assert run(unit, sbc.Read10(transfer_length=1)).data_in == bytes(BLOCK)


@pytest.mark.parametrize("write", WRITES[1:] + WRITE_AND_VERIFIES)
def test_short_data_out_writes_the_whole_blocks_that_came(write):
    store = Bytes()
    store.write(0, b"a" * 2 * BLOCK)
    run(device(), write(transfer_length=2), offered=b"b" * (BLOCK + 200), store=store)
    assert store.read(0, 2 * BLOCK) == b"b" * BLOCK + b"a" * BLOCK


@pytest.mark.parametrize("write", WRITES[1:] + WRITE_AND_VERIFIES)
def test_surplus_data_out_is_not_written(write):
    store = Bytes()
    run(device(), write(transfer_length=1), offered=b"b" * 2 * BLOCK, store=store)
    assert store.read(0, 2 * BLOCK) == b"b" * BLOCK + bytes(BLOCK)


@pytest.mark.parametrize("write", WRITES[1:])
def test_write_without_any_data_out_is_good(write):
    assert run(device(), write(transfer_length=1)).data_in == b""


@pytest.mark.clause("SBC3r36 5.29")
@pytest.mark.clause("SBC3r36 5.30")
@pytest.mark.clause("SBC3r36 5.31")
@pytest.mark.parametrize("verify", VERIFIES)
def test_verify_compares_all_blocks_with_bytchk_01(verify):
    store, data = Bytes(), bytes(BLOCK) + b"x" * BLOCK
    store.write(0, data)
    cdb = verify(bytchk=1, verification_length=2)
    run(device(), cdb, offered=data, store=store)
    with pytest.raises(CheckCondition) as raised:
        run(device(), cdb, offered=data[:-1] + b"y", store=store)
    assert (raised.value.sense.code, raised.value.sense.information) == (0x1D00, 2 * BLOCK - 1)


@pytest.mark.parametrize("verify", VERIFIES)
def test_verify_compares_one_block_again_and_again_with_bytchk_11(verify):
    store = Bytes()
    store.write(0, b"x" * 3 * BLOCK + b"y" * BLOCK)
    run(device(), verify(bytchk=3, verification_length=3), offered=b"x" * BLOCK, store=store)
    with pytest.raises(CheckCondition) as raised:
        run(device(), verify(bytchk=3, verification_length=4), offered=b"x" * BLOCK, store=store)
    assert raised.value.sense.information == 0


@pytest.mark.parametrize("verify", VERIFIES)
def test_verify_with_bytchk_00_ignores_data_out(verify):
    assert run(device(), verify(verification_length=1), offered=b"x" * BLOCK).data_in == b""


@pytest.mark.parametrize("verify", VERIFIES)
def test_verify_refuses_the_reserved_bytchk_and_too_little_data_out(verify):
    assert refusal(device(), verify(bytchk=2)) == INVALID_FIELD_IN_CDB
    short = verify(bytchk=1, verification_length=2)
    assert refusal(device(), short, offered=bytes(BLOCK)) == INVALID_FIELD_IN_CDB


@pytest.mark.clause("SBC3r36 5.37")
@pytest.mark.clause("SBC3r36 5.38")
@pytest.mark.clause("SBC3r36 5.39")
@pytest.mark.parametrize("write", WRITE_AND_VERIFIES)
def test_write_and_verify_reaches_stable_storage(write):
    for bytchk in (0, 1):
        store = Bytes()
        run(device(), write(transfer_length=1, bytchk=bytchk), offered=b"x" * BLOCK, store=store)
        assert (store.read(0, BLOCK), store.flushed) == (b"x" * BLOCK, 1)
    assert refusal(device(), write(transfer_length=1, bytchk=2), offered=b"x" * BLOCK) == INVALID_FIELD_IN_CDB


@pytest.mark.clause("SBC3r36 5.5")
def test_or_write_sets_bits_and_clears_none():
    store, unit = Bytes(), device()
    run(unit, sbc.Write16(lba=1, transfer_length=1), offered=b"\x55" * BLOCK, store=store)
    run(unit, sbc.OrWrite16(lba=1, transfer_length=2), offered=b"\x0f" * 2 * BLOCK, store=store)
    assert store.read(0, 3 * BLOCK) == bytes(BLOCK) + b"\x5f" * BLOCK + b"\x0f" * BLOCK


def test_or_write_is_refused_as_a_write_is():
    assert refusal(device(read_only=True), sbc.OrWrite16(transfer_length=1), offered=bytes(BLOCK)) == WRITE_PROTECTED
    assert refusal(device(), sbc.OrWrite16(lba=CAPACITY, transfer_length=1), offered=bytes(BLOCK)) == LBA_OUT_OF_RANGE
    assert refusal(device(), sbc.OrWrite16(orprotect=1), offered=b"") == INVALID_FIELD_IN_CDB


@pytest.mark.clause("SBC3r36 5.2")
def test_compare_and_write_writes_only_when_equal():
    store, unit = Bytes(), device()
    cdb = sbc.CompareAndWrite(number_of_logical_blocks=1)
    run(unit, cdb, offered=bytes(BLOCK) + b"x" * BLOCK, store=store)
    assert store.read(0, BLOCK) == b"x" * BLOCK
    assert refusal(unit, cdb, offered=bytes(BLOCK) + b"y" * BLOCK, store=store) == MISCOMPARE
    assert store.read(0, BLOCK) == b"x" * BLOCK


@pytest.mark.parametrize("blocks_offered", (0, 1, 3, 4))
def test_compare_and_write_refuses_data_out_of_another_length(blocks_offered):
    cdb = sbc.CompareAndWrite(number_of_logical_blocks=1)
    assert refusal(device(), cdb, offered=bytes(blocks_offered * BLOCK)) == INVALID_FIELD_IN_CDB


def test_compare_and_write_of_more_than_its_maximum_is_refused():
    cdb = sbc.CompareAndWrite(number_of_logical_blocks=2)
    assert refusal(device(), cdb, offered=bytes(4 * BLOCK)) == INVALID_FIELD_IN_CDB


def test_compare_and_write_of_zero_blocks_is_good():
    assert run(device(), sbc.CompareAndWrite()).data_in == b""


def test_compare_and_write_of_zero_blocks_with_data_out_is_refused():
    assert refusal(device(), sbc.CompareAndWrite(), offered=bytes(2 * BLOCK)) == INVALID_FIELD_IN_CDB


@pytest.mark.clause("SBC3r36 4.4")
def test_blocks_of_4096_bytes_are_addressed_in_their_own_size():
    unit = device(block_length_bytes=4096)
    store = Bytes(CAPACITY * 4096)
    run(unit, sbc.Write10(lba=1, transfer_length=1), offered=b"x" * 4096, store=store)
    assert store.read(4096, 4096) == b"x" * 4096
    assert Read(4096, 4096).perform(store) == b"x" * 4096
