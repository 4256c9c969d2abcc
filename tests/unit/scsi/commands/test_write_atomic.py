"""WRITE ATOMIC(16); drawing in command_bench, with atomic writes of 8 to 64 blocks."""

import pytest

from iscsi_target.scsi.commands.write_atomic import WriteAtomic16, write_atomic
from iscsi_target.scsi.layouts.mode_pages import CACHING, CachingPage
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Work
from iscsi_target.scsi.status import CheckCondition
from iscsi_target.wire.layout import FieldPointer
from tests.unit.scsi.command_bench import (
    BLOCK,
    CAPACITY,
    INVALID_FIELD_IN_CDB,
    INVALID_OPERATION_CODE,
    LBA_OUT_OF_RANGE,
    LIMITS,
    WRITE_PROTECTED,
    A,
    Bytes,
    device,
    refusal,
    run,
)

pytestmark = [pytest.mark.clause("SBC4r22 5.48"), pytest.mark.clause("SBC4r22 4.29")]

GRANULARITY, MOST = 8, 64


def atomic_device(**features: bool) -> Device:
    made = device(**features)
    limits = LIMITS._replace(max_atomic_blocks=MOST, atomic_granularity=GRANULARITY)
    made.features = made.features._replace(limits=limits)
    return made


def ones(blocks: int) -> bytes:
    return bytes([1]) * blocks * BLOCK


@pytest.mark.parametrize(("lba", "blocks"), [(0, 8), (8, MOST), (CAPACITY - 8, 8)])
def test_blocks_are_written(lba: int, blocks: int):
    store = Bytes()
    run(atomic_device(), WriteAtomic16(lba=lba, transfer_length=blocks), offered=ones(blocks), store=store)
    assert store.read(lba * BLOCK, blocks * BLOCK) == ones(blocks)
    assert sum(store.content) == blocks * BLOCK


@pytest.mark.parametrize(("lba", "blocks"), [(1, 8), (0, 7), (0, 9), (4, 8), (0, MOST + 8)])
def test_what_is_off_the_alignment_the_granularity_or_the_limit_is_refused(lba: int, blocks: int):
    cdb = WriteAtomic16(lba=lba, transfer_length=blocks)
    assert refusal(atomic_device(), cdb, offered=ones(blocks)) == INVALID_FIELD_IN_CDB


@pytest.mark.parametrize(("lba", "blocks", "field"), [(4, 8, "lba"), (0, 4, "transfer_length")])
def test_the_field_is_pointed_at(lba: int, blocks: int, field: str):
    cdb = WriteAtomic16(lba=lba, transfer_length=blocks)
    with pytest.raises(CheckCondition) as refused:
        write_atomic(atomic_device(), cdb, Call(A, ones(blocks), (0,)))
    assert refused.value.sense.field == FieldPointer(*WriteAtomic16.location(field))


@pytest.mark.parametrize(("lba", "blocks"), [(CAPACITY, 0), (CAPACITY - 8, 16), (2**64 - 8, 8)])
def test_what_is_beyond_the_end_is_refused(lba: int, blocks: int):
    cdb = WriteAtomic16(lba=lba, transfer_length=blocks)
    assert refusal(atomic_device(), cdb, offered=ones(blocks)) == LBA_OUT_OF_RANGE


def test_no_blocks_are_no_error_at_any_lba():
    store = Bytes()
    run(atomic_device(), WriteAtomic16(lba=3), store=store)
    assert not any(store.content)


def test_less_data_than_is_to_be_written_is_refused():
    assert refusal(atomic_device(), WriteAtomic16(transfer_length=8), offered=ones(7)) == INVALID_FIELD_IN_CDB


def test_a_boundary_and_protection_are_refused():
    for fields in ({"atomic_boundary": 8}, {"wrprotect": 1}):
        cdb = WriteAtomic16(transfer_length=8).replace(**fields)
        assert refusal(atomic_device(), cdb, offered=ones(8)) == INVALID_FIELD_IN_CDB


def test_a_unit_that_must_not_be_written_is_not():
    unit = atomic_device(read_only=True)
    assert refusal(unit, WriteAtomic16(transfer_length=8), offered=ones(8)) == WRITE_PROTECTED


def test_a_unit_without_atomic_writes_does_not_have_the_command():
    from iscsi_target.scsi.commands.command_lookup import find_available

    unit = atomic_device()
    unit.features = unit.features._replace(limits=LIMITS._replace(max_atomic_blocks=0))
    with pytest.raises(CheckCondition) as refused:
        find_available(WriteAtomic16().pack(), unit)
    assert (int(refused.value.sense.key), refused.value.sense.code) == INVALID_OPERATION_CODE


@pytest.mark.parametrize(("fua", "cached", "flush"), [(False, True, False), (True, True, True), (False, False, True)])
def test_fua_and_a_missing_cache_are_passed_on(fua: bool, cached: bool, flush: bool):
    unit = atomic_device()
    unit.modes = unit.modes._replace(current=dict(unit.modes.current) | {CACHING: CachingPage(wce=cached)})
    reply = write_atomic(unit, WriteAtomic16(transfer_length=8, fua=fua), Call(A, ones(8), (0,)))
    assert isinstance(reply, Work)
    assert reply.operation.flush is flush  # type: ignore[union-attr]  # a WriteAtomic has it
