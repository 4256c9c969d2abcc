"""Operations on a store of 1024 blocks (see unit_bench)."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi import operations
from iscsi_target.scsi.operations import (
    Compare,
    CompareAndWrite,
    Copy,
    CopyRange,
    Erase,
    Extent,
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
    assert extents(Erase(5, 7, deallocate=True)) == ((5, 7),)
    assert writes(Erase(5, 7, deallocate=False))


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


class Patchy(Memory):
    """A store of which some ranges are allocated; it tells a few extents at a time, and notes what is done to it."""

    def __init__(self, *allocated: tuple[int, int]) -> None:
        super().__init__()
        self.allocated = allocated
        self.done: list[tuple[object, ...]] = []

    def allocation(self, offset_bytes: int, length_bytes: int) -> list[Extent]:
        end = offset_bytes + length_bytes
        inner = (edge for run in self.allocated for edge in run if offset_bytes < edge < end)
        found = [
            Extent(start, stop - start, any(first <= start < last for first, last in self.allocated))
            for start, stop in pairwise(sorted({offset_bytes, end, *inner}))
        ]
        return found[:2]

    def write(self, offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        self.done.append(("write", offset_bytes, len(data)))
        super().write(offset_bytes, data)

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        self.done.append(("discard", offset_bytes, length_bytes))
        super().discard(offset_bytes, length_bytes)

    def flush(self) -> None:
        self.done.append(("flush",))


@pytest.mark.clause("SBC3r36 4.11.1")
def test_an_erase_overwrites_what_is_allocated_before_it_gives_it_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(operations, "FILL_CHUNK_BYTES", 100)
    store = Patchy((0, 50), (200, 450), (600, 700), (900, 1000))
    store.content[:] = b"u" * len(store.content)
    Erase(20, 900, deallocate=True).perform(store)
    written = [("write", 20, 30), ("write", 200, 100), ("write", 300, 100), ("write", 400, 50), ("write", 600, 100)]
    assert store.done == [*written, ("write", 900, 20), ("flush",), ("discard", 20, 900), ("flush",)]
    assert store.content[:921] == b"u" * 20 + bytes(900) + b"u"


def test_an_erase_of_a_unit_that_is_not_thin_gives_nothing_back():
    store = Patchy((0, 1024))
    store.content[:] = b"u" * len(store.content)
    Erase(0, 1024, deallocate=False).perform(store)
    assert store.done == [("write", 0, 1024), ("flush",)]
    assert store.content[:1025] == bytes(1024) + b"u"


def test_an_erase_of_nothing_allocated_writes_nothing():
    store = Patchy()
    Erase(0, 1024, deallocate=False).perform(store)
    assert store.done == [("flush",)]
