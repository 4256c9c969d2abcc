"""RamStore: sparse memory."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from iscsi_target.scsi.operations import (
    BLOCKS,
    MAX_EXTENTS,
    AllocationMap,
    CompareAndWrite,
    Extent,
    Fault,
    Flush,
    MediumError,
    Mismatch,
    Read,
    ReadAllocation,
    Unmap,
    Verify,
    Write,
    WriteSame,
)
from iscsi_target.storage import ram
from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.ram import INLINE_LIMIT_BYTES, PAGE_BYTES, REGION_BYTES, RamStore

TIB = 1 << 40


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def test_ram_is_attempted_at_once():
    store = RamStore(1 << 20)
    assert store.attempt(Write(512, b"a" * 512)) is None
    assert store.attempt(Read(0, 1024)) == bytes(512) + b"a" * 512
    assert store.attempt(CompareAndWrite(512, b"b" * 512, b"c" * 512)) == Mismatch(0)
    assert store.attempt(CompareAndWrite(512, b"a" * 512, b"c" * 512)) is None
    assert store.attempt(Flush()) is None
    assert store.attempt(Read(512, 512)) == b"c" * 512
    assert not store.read_only
    assert store.size_bytes == 1 << 20


def test_a_large_operation_in_ram_needs_a_thread():
    store = RamStore(TIB)
    assert store.attempt(WriteSame(0, INLINE_LIMIT_BYTES + 512, b"x" * 512)) is BLOCKS
    assert store.attempt(Write(0, bytes(INLINE_LIMIT_BYTES + 512))) is BLOCKS
    assert store.attempt(Read(0, INLINE_LIMIT_BYTES + 512)) is BLOCKS
    assert store.attempt(Read(0, 512)) == bytes(512)


def test_ram_is_not_changed_at_once_while_a_thread_is_at_a_large_change():
    store = RamStore(PAGE_BYTES)
    with store._lock:
        assert store.attempt(Write(0, b"x" * 512)) is BLOCKS
        assert store.attempt(Unmap(((0, 512),))) is BLOCKS
        assert store.attempt(Read(0, 512)) == bytes(512)
    assert store.attempt(Write(0, b"x" * 512)) is None


def test_what_crosses_the_border_of_regions_is_one_piece():
    store = RamStore(3 * REGION_BYTES)
    start = REGION_BYTES - 512
    store.write(start, b"l" * 512 + b"r" * 512)
    assert store.read(start - 1, 1026) == b"\0" + b"l" * 512 + b"r" * 512 + b"\0"
    assert store.allocation(0, 2 * REGION_BYTES) == [
        Extent(0, REGION_BYTES - PAGE_BYTES, False),
        Extent(REGION_BYTES - PAGE_BYTES, 2 * PAGE_BYTES, True),
        Extent(REGION_BYTES + PAGE_BYTES, REGION_BYTES - PAGE_BYTES, False),
    ]


def test_discard_within_a_page_zeros_it_and_allocates_nothing():
    store = RamStore(4 * PAGE_BYTES)
    store.write(0, b"p" * PAGE_BYTES)
    store.discard(512, 512)
    store.discard(2 * PAGE_BYTES + 512, 512)
    assert store.read(0, 1536) == b"p" * 512 + bytes(512) + b"p" * 512
    assert store.allocation(0, 4 * PAGE_BYTES) == [
        Extent(0, PAGE_BYTES, True),
        Extent(PAGE_BYTES, 3 * PAGE_BYTES, False),
    ]


def test_pages_that_the_kernel_would_free_only_with_others_are_zeroed(monkeypatch):
    store = RamStore(4 * PAGE_BYTES)
    store.write(0, b"p" * 4 * PAGE_BYTES)
    monkeypatch.setattr("mmap.PAGESIZE", 16 * PAGE_BYTES)
    store.discard(PAGE_BYTES, PAGE_BYTES)
    assert store.read(0, 4 * PAGE_BYTES) == b"p" * PAGE_BYTES + bytes(PAGE_BYTES) + b"p" * 2 * PAGE_BYTES


def test_ram_of_16_tib_allocates_only_what_is_written():
    store = RamStore(16 * TIB)
    store.write(16 * TIB - 512, b"z" * 512)
    assert store.read(16 * TIB - 1024, 1024) == bytes(512) + b"z" * 512
    assert store.allocation(0, 16 * TIB) == [
        Extent(0, 16 * TIB - PAGE_BYTES, False),
        Extent(16 * TIB - PAGE_BYTES, PAGE_BYTES, True),
    ]


def test_discard_of_16_tib_of_ram_frees_everything():
    store = RamStore(16 * TIB)
    for offset in (0, REGION_BYTES - 100, 5 * TIB):
        store.write(offset, b"q" * 5000)
    store.discard(0, 16 * TIB)
    assert store.allocation(0, 16 * TIB) == [Extent(0, 16 * TIB, False)]
    assert store._regions == {}


def test_discard_of_a_part_of_a_page_zeros_it_and_keeps_the_page():
    store = RamStore(4 * PAGE_BYTES)
    store.write(0, b"p" * 4 * PAGE_BYTES)
    store.discard(PAGE_BYTES - 512, PAGE_BYTES + 1024)
    assert store.read(PAGE_BYTES - 1024, PAGE_BYTES + 2048) == b"p" * 512 + bytes(PAGE_BYTES + 1024) + b"p" * 512
    assert store.allocation(0, 4 * PAGE_BYTES) == [
        Extent(0, PAGE_BYTES, True),
        Extent(PAGE_BYTES, PAGE_BYTES, False),
        Extent(2 * PAGE_BYTES, 2 * PAGE_BYTES, True),
    ]


def test_an_allocation_map_begins_and_ends_inside_pages():
    store = RamStore(4 * PAGE_BYTES)
    store.write(PAGE_BYTES, b"x")
    assert store.allocation(512, PAGE_BYTES) == [
        Extent(512, PAGE_BYTES - 512, False),
        Extent(PAGE_BYTES, 512, True),
    ]
    assert store.allocation(PAGE_BYTES + 512, 512) == [Extent(PAGE_BYTES + 512, 512, True)]
    assert store.allocation(512, 0) == []


def test_an_allocation_map_has_a_bounded_number_of_extents():
    store = RamStore(TIB)
    for number in range(MAX_EXTENTS):
        store.write(2 * number * PAGE_BYTES, b"x")
    found = store.allocation(0, TIB)
    assert len(found) <= MAX_EXTENTS
    last = found[-1]
    rest = store.allocation(last.offset_bytes + last.length_bytes, TIB - last.offset_bytes - last.length_bytes)
    assert rest[0].allocated is not last.allocated


@pytest.mark.parametrize("error", [MemoryError(), OSError(12, "no memory")])
def test_memory_exhaustion_is_no_space(monkeypatch, error):
    store = RamStore(TIB)

    def refuse() -> ram._Region:
        raise error

    monkeypatch.setattr(ram, "_Region", refuse)
    result = store.attempt(Write(8192, b"x"))
    assert isinstance(result, MediumError)
    assert (result.fault, result.offset_bytes) == (Fault.NO_SPACE, 8192)


def test_every_operation_runs_in_ram():
    store = RamStore(8 * PAGE_BYTES)
    assert store.attempt(WriteSame(0, 8 * PAGE_BYTES, b"ab" * 256)) is None
    assert store.attempt(Verify(0, 8 * PAGE_BYTES)) is None
    assert store.attempt(Unmap(((0, PAGE_BYTES), (4 * PAGE_BYTES, PAGE_BYTES)))) is None
    allocation = store.attempt(ReadAllocation(0, 8 * PAGE_BYTES))
    assert isinstance(allocation, AllocationMap)
    assert [extent.allocated for extent in allocation.extents] == [False, True, False, True]


def test_threads_that_write_neighbouring_blocks_of_a_page_lose_nothing(executor):
    for _ in range(50):
        store = RamStore(PAGE_BYTES)
        list(executor.map(lambda n, s=store: s.write(n * 512, bytes([n + 1]) * 512), range(8)))
        assert store.read(0, PAGE_BYTES) == b"".join(bytes([n + 1]) * 512 for n in range(8))


def test_ram_grows_and_does_not_become_smaller():
    store = RamStore(PAGE_BYTES)
    store.write(PAGE_BYTES - 512, b"x" * 512)
    store.grow(2 * REGION_BYTES)
    assert store.size_bytes == 2 * REGION_BYTES
    assert store.read(PAGE_BYTES - 512, 1024) == b"x" * 512 + bytes(512)
    store.write(2 * REGION_BYTES - 512, b"y" * 512)
    assert store.read(2 * REGION_BYTES - 512, 512) == b"y" * 512
    with pytest.raises(StorageError, match="cannot become smaller"):
        store.grow(PAGE_BYTES)
    store.grow(None)
    assert store.size_bytes == 2 * REGION_BYTES


def test_an_atomic_write_to_ram_is_done_or_not(monkeypatch):
    store = RamStore(2 * REGION_BYTES)
    store.write_atomic(REGION_BYTES - 512, b"x" * 1024)
    assert store.read(REGION_BYTES - 1024, 2048) == bytes(512) + b"x" * 1024 + bytes(512)
    store = RamStore(2 * REGION_BYTES)
    store.write(0, b"y" * 512)

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("mmap.mmap", fail)
    with pytest.raises(MediumError) as failed:
        store.write_atomic(REGION_BYTES - 512, b"x" * 1024)
    assert failed.value.fault is Fault.NO_SPACE
    assert store.read(REGION_BYTES - 512, 1024) == bytes(1024)
