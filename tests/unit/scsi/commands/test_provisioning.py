"""UNMAP, WRITE SAME and GET LBA STATUS; drawing in command_bench."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.commands.provisioning import block_runs, merged
from iscsi_target.scsi.layouts.block_cdb import GetLbaStatus, Unmap, WriteSame10, WriteSame16
from iscsi_target.scsi.layouts.pages import LbaStatusDescriptor, LbaStatusHeader, UnmapBlockDescriptor, UnmapHeader
from iscsi_target.scsi.operations import Extent
from iscsi_target.wire.layout import FieldPointer
from tests.unit.scsi.command_bench import (
    BLOCK,
    CAPACITY,
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_LIST,
    INVALID_OPERATION_CODE,
    LBA_OUT_OF_RANGE,
    LIMITS,
    LIST_LENGTH_ERROR,
    WRITE_PROTECTED,
    Bytes,
    device,
    refusal,
    run,
)

WRITE_SAMES = (WriteSame10, WriteSame16)


def parameters(*ranges):
    body = b"".join(UnmapBlockDescriptor(lba=lba, number_of_logical_blocks=n).pack() for lba, n in ranges)
    header = UnmapHeader(unmap_data_length=len(body) + 6, unmap_block_descriptor_data_length=len(body))
    return header.pack() + body


def unmap(unit, data, length=None, **arguments):
    return run(unit, Unmap(parameter_list_length=len(data) if length is None else length), offered=data, **arguments)


def refused(unit, data, length=None):
    return refusal(unit, Unmap(parameter_list_length=len(data) if length is None else length), offered=data)


def full():
    store = Bytes()
    store.write(0, b"x" * store.size_bytes)
    return store


@pytest.mark.clause("SBC3r36 5.28")
def test_unmapped_blocks_read_as_zeros_and_the_others_stay():
    store = full()
    unmap(device(), parameters((1, 2), (10, 1)), store=store)
    assert store.read(0, 4 * BLOCK) == b"x" * BLOCK + bytes(2 * BLOCK) + b"x" * BLOCK
    assert store.read(10 * BLOCK, BLOCK) == bytes(BLOCK)


def test_unmap_of_zero_blocks_at_capacity_is_good():
    assert unmap(device(), parameters((CAPACITY, 0))).data_in == b""
    assert unmap(device(), parameters((0, 0), (0, 0))).data_in == b""
    assert unmap(device(), parameters()).data_in == b""
    assert unmap(device(), b"", 0).data_in == b""


def test_unmap_past_the_end_changes_nothing():
    store = full()
    assert refused(device(), parameters((0, 1), (CAPACITY, 1))) == LBA_OUT_OF_RANGE
    assert b"\0" not in store.content


def test_unmap_beyond_its_limits_is_refused():
    too_many = parameters(*[(0, 1)] * (LIMITS.max_unmap_descriptors + 1))
    assert refused(device(), too_many) == INVALID_FIELD_IN_LIST
    assert refused(device(), parameters((0, 1000), (0, 25))) == INVALID_FIELD_IN_LIST


def test_unmap_refuses_a_list_that_ends_early():
    data = parameters((0, 1), (1, 1))
    assert refused(device(), data[:-16]) == LIST_LENGTH_ERROR
    assert refused(device(), data[:7]) == LIST_LENGTH_ERROR
    assert refused(device(), data[:-1], len(data)) == LIST_LENGTH_ERROR


def test_unmap_needs_a_thin_unit_that_can_be_written_and_no_anchor():
    data = parameters((0, 1))
    assert refused(device(thin=False), data) == INVALID_OPERATION_CODE
    assert refused(device(read_only=True), data) == WRITE_PROTECTED
    anchored = Unmap(anchor=True, parameter_list_length=len(data))
    assert refusal(device(), anchored, offered=data) == INVALID_FIELD_IN_CDB


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 10)), max_size=12))
def test_merged_ranges_cover_the_same_bytes_once(ranges):
    """Law: the union is the same, the ranges are sorted and at least one byte apart."""
    result = merged(ranges)
    covered = [byte for offset, length in result for byte in range(offset, offset + length)]
    assert covered == sorted({byte for offset, length in ranges for byte in range(offset, offset + length)})
    assert all(a + n < b for (a, n), (b, _) in itertools.pairwise(result))


@pytest.mark.clause("SBC3r36 5.44")
@pytest.mark.clause("SBC3r36 5.43")
@pytest.mark.parametrize("write_same", WRITE_SAMES)
def test_write_same_replicates_one_block(write_same):
    store = Bytes()
    cdb = write_same(lba=1, number_of_logical_blocks=3)
    run(device(), cdb, offered=b"z" * BLOCK, store=store)
    assert store.read(0, 5 * BLOCK) == bytes(BLOCK) + b"z" * 3 * BLOCK + bytes(BLOCK)


@pytest.mark.parametrize("write_same", WRITE_SAMES)
def test_write_same_of_zero_blocks_is_the_rest_of_the_medium(write_same):
    store = Bytes()
    run(device(), write_same(lba=CAPACITY - 2), offered=b"z" * BLOCK, store=store)
    assert store.read((CAPACITY - 3) * BLOCK, 3 * BLOCK) == bytes(BLOCK) + b"z" * 2 * BLOCK
    assert refusal(device(), write_same(lba=CAPACITY + 1), offered=bytes(BLOCK)) == LBA_OUT_OF_RANGE


@pytest.mark.parametrize("write_same", WRITE_SAMES)
def test_write_same_with_unmap_deallocates_when_the_block_is_zeros(write_same):
    store = full()
    cdb = write_same(lba=0, number_of_logical_blocks=2, unmap=True)
    run(device(), cdb, offered=bytes(BLOCK), store=store)
    assert {0, 1}.isdisjoint(store.allocated)
    run(device(), cdb, offered=b"z" * BLOCK, store=store)
    assert {0, 1} <= store.allocated
    assert store.read(0, 3 * BLOCK) == b"z" * 2 * BLOCK + b"x" * BLOCK


@pytest.mark.parametrize("write_same", WRITE_SAMES)
def test_write_same_with_unmap_deallocates_any_block_where_the_unit_is_told_to(write_same):
    store = full()
    cdb = write_same(lba=0, number_of_logical_blocks=2, unmap=True)
    run(device(unmaps_any_pattern=True), cdb, offered=b"z" * BLOCK, store=store)
    assert {0, 1}.isdisjoint(store.allocated)


def test_write_same_with_ndob_writes_zeros_without_data_out():
    store = full()
    run(device(), WriteSame16(ndob=True, number_of_logical_blocks=1), store=store)
    assert store.read(0, 2 * BLOCK) == bytes(BLOCK) + b"x" * BLOCK


@pytest.mark.parametrize("write_same", WRITE_SAMES)
@pytest.mark.parametrize("offered", (0, BLOCK // 2, 2 * BLOCK))
def test_write_same_refuses_data_out_that_is_not_one_block(write_same, offered):
    cdb = write_same(number_of_logical_blocks=1, unmap=True)
    assert refusal(device(), cdb, offered=bytes(offered)) == INVALID_FIELD_IN_CDB


@pytest.mark.parametrize("write_same", WRITE_SAMES)
def test_write_same_refuses_what_the_unit_lacks(write_same):
    block = bytes(BLOCK)
    assert refusal(device(), write_same(anchor=True), offered=block) == INVALID_FIELD_IN_CDB
    assert refusal(device(), write_same(anchor=True, unmap=True), offered=block) == INVALID_FIELD_IN_CDB
    assert refusal(device(thin=False), write_same(unmap=True), offered=block) == INVALID_FIELD_IN_CDB
    assert refusal(device(read_only=True), write_same(unmap=True), offered=block) == WRITE_PROTECTED


def statuses(done):
    header = LbaStatusHeader.unpack(done.data_in)
    assert header.parameter_data_length == len(done.data_in) - 4
    starts = range(LbaStatusHeader.size, len(done.data_in), LbaStatusDescriptor.size)
    found = [LbaStatusDescriptor.unpack(done.data_in, start) for start in starts]
    return [(d.lba, d.number_of_logical_blocks, d.provisioning_status) for d in found]


@pytest.mark.clause("SBC3r36 5.4")
@pytest.mark.clause("SBC3r36 5.4.2")
@pytest.mark.clause("SBC3r36 5.4.3")
def test_lba_status_tells_mapped_from_deallocated():
    store = Bytes()
    store.write(8 * BLOCK, b"x" * 8 * BLOCK)
    done = run(device(), GetLbaStatus(lba=4, allocation_length=1000), store=store)
    assert statuses(done) == [(4, 4, 1), (8, 8, 0), (16, CAPACITY - 16, 1)]


def test_lba_status_is_cut_to_the_allocation_length():
    store = Bytes()
    store.write(0, b"x" * BLOCK)
    assert len(run(device(), GetLbaStatus(allocation_length=24), store=store).data_in) == 24
    assert run(device(), GetLbaStatus(), store=store).data_in == b""


def test_every_block_of_a_unit_that_is_not_thin_is_mapped():
    assert statuses(run(device(thin=False), GetLbaStatus(allocation_length=100))) == [(0, CAPACITY, 0)]


@pytest.mark.parametrize("lba", (CAPACITY, CAPACITY + 1, 1 << 63, (1 << 64) - 1))
def test_lba_status_past_the_end_is_refused(lba):
    assert refusal(device(), GetLbaStatus(lba=lba, allocation_length=24)) == LBA_OUT_OF_RANGE


@given(st.lists(st.tuples(st.integers(1, 1500), st.booleans()), min_size=1, max_size=10))
def test_a_block_is_mapped_when_any_byte_of_it_is_allocated(lengths):
    """Law: the runs adjoin, alternate, cover every whole block and agree with the bytes."""
    extents, end = [], 0
    for length, allocated in lengths:
        extents.append(Extent(end, length, allocated))
        end += length
    bits = [extent.allocated for extent in extents for _ in range(extent.length_bytes)]
    runs = list(block_runs(tuple(extents), 0, BLOCK))
    found = [status for _, blocks, status in runs for _ in range(blocks)]
    whole = len(bits) // BLOCK
    assert found[:whole] == [0 if any(bits[n * BLOCK : (n + 1) * BLOCK]) else 1 for n in range(whole)]
    assert all(a[0] + a[1] == b[0] and a[2] != b[2] for a, b in itertools.pairwise(runs))


@pytest.mark.clause("SBC3r36 5.28.2")
def test_unmap_descriptor_is_where_the_figure_says():
    assert UnmapBlockDescriptor.location("number_of_logical_blocks") == FieldPointer(8, 7)
