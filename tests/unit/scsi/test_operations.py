"""Operations on a store of 1024 blocks (see unit_bench)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi import operations
from iscsi_target.scsi.operations import (
    Compare,
    CompareAndWrite,
    Copy,
    CopyRange,
    Mismatch,
    Unmap,
    Write,
    WriteSame,
    extents,
    writes,
)
from tests.unit.scsi.unit_bench import BLOCK, Memory


def test_an_operation_says_which_bytes_it_touches_and_whether_it_may_change_them():
    assert extents(Compare(BLOCK, bytes(BLOCK), copies=3)) == ((BLOCK, 3 * BLOCK),)
    assert extents(Unmap(((0, 1), (5, 2)))) == ((0, 1), (5, 2))
    copied = Copy((CopyRange(0, 512, 10), CopyRange(5, 6, 7)))
    assert set(extents(copied)) == {(0, 10), (512, 10), (5, 7), (6, 7)}
    assert writes(copied)
    assert not writes(Compare(0, bytes(1)))
    assert writes(WriteSame(0, BLOCK, bytes(BLOCK)))


@pytest.mark.clause("SBC3r36 5.29")
def test_compare_repeats_its_data_over_the_range(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(operations, "COMPARE_CHUNK_BYTES", 2 * BLOCK)
    store = Memory()
    Write(0, b"\1" * BLOCK * 5).perform(store)
    assert Compare(0, b"\1" * BLOCK, copies=5).perform(store) is None
    assert Compare(0, b"\1" * BLOCK, copies=6).perform(store) == Mismatch(5 * BLOCK)
    store.content[4 * BLOCK + 7] = 0
    assert Compare(0, b"\1" * BLOCK, copies=5).perform(store) == Mismatch(4 * BLOCK + 7)


@given(st.integers(0, 4 * BLOCK - 1))
def test_the_first_difference_is_found_wherever_it_is(position: int):
    """Law: a mismatch is the first byte that differs, whatever differs after it."""
    store = Memory()
    other = bytearray(4 * BLOCK)
    other[position:] = b"\1" * (len(other) - position)
    assert CompareAndWrite(0, bytes(other), bytes(4 * BLOCK)).perform(store) == Mismatch(position)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(1, 8))
def test_a_range_that_overlaps_with_itself_is_copied_as_it_was(source: int, destination: int, length: int, chunk: int):
    """Law: whatever the pieces in which it is copied."""
    store = Memory()
    store.content[:80] = model = bytearray(range(80))
    model[destination : destination + length] = bytes(model[source : source + length])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations, "COPY_CHUNK_BYTES", chunk)
        Copy((CopyRange(source, destination, length),)).perform(store)
    assert store.content[:80] == model
