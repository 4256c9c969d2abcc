"""A pool and the stores in it: what they take, give back, and may not take.

    RamStore ==\
                pool of PAGES pages
    FileStore ==/
"""

import threading
from contextlib import suppress

import pytest

from iscsi_target.scsi.operations import (
    BLOCKS,
    CompareAndWrite,
    Copied,
    Copy,
    CopyRange,
    Erase,
    Extent,
    Fault,
    MediumError,
    Mismatch,
    Operation,
    OrWrite,
    Outcome,
    Read,
    Unmap,
    Write,
    WriteAndVerify,
    WriteAtomic,
    WriteSame,
)
from iscsi_target.storage import pool as pool_module
from iscsi_target.storage.file import FileStore
from iscsi_target.storage.pool import PAGE_BYTES, REGION_BYTES, Pool, PooledStore
from iscsi_target.storage.ram import RamStore
from iscsi_target.storage.undo import UndoFile

PAGE = PAGE_BYTES
SIZE = 2 * REGION_BYTES
PAGES = 8
DATA = bytes([7]) * PAGE


@pytest.fixture
def pool():
    return Pool(PAGES * PAGE)


@pytest.fixture(params=["ram", "file"])
def backend(request, tmp_path):
    if request.param == "ram":
        return RamStore(SIZE)
    path = tmp_path / "unit.img"
    return FileStore.open(path, size_bytes=SIZE, read_only=False, undo=UndoFile(tmp_path / "undo"))


@pytest.fixture
def store(backend, pool):
    made = PooledStore(backend, pool)
    yield made
    made.close()
    assert pool.used_bytes == 0


def pages(pool):
    return pool.used_bytes // PAGE


def full(store, pool):
    """Leaves one page of room, with everything at the beginning of the store."""
    store.perform(Write(0, DATA * (PAGES - 1)))
    assert pages(pool) == PAGES - 1


WRITES = [
    Write(SIZE // 2, DATA * 2),
    WriteAtomic(SIZE // 2, DATA * 2),
    WriteAndVerify(SIZE // 2, DATA * 2, compare=True),
    WriteSame(SIZE // 2, 2 * PAGE, bytes(512)),
    CompareAndWrite(SIZE // 2, bytes(2 * PAGE), DATA * 2),
    OrWrite(SIZE // 2, DATA * 2),
    Copy((CopyRange(0, SIZE // 2, 2 * PAGE),)),
    Write(REGION_BYTES - PAGE, DATA * 2),
]


@pytest.mark.parametrize("operation", WRITES, ids=lambda each: type(each).__name__)
def test_every_kind_of_write_takes_what_it_allocates_and_an_overwrite_nothing(store, pool, operation):
    for _ in range(2):
        store.perform(operation)
        assert pages(pool) == 2
        assert store.used_bytes == pool.used_bytes


@pytest.mark.clause("SBC3r36 4.7.3.6")
@pytest.mark.parametrize("operation", WRITES, ids=lambda each: type(each).__name__)
def test_every_kind_of_write_that_finds_no_room_changes_nothing(store, backend, pool, operation):
    full(store, pool)
    if isinstance(operation, Copy):
        assert store.perform(operation) == Copied(0, failed=True)
    else:
        with pytest.raises(MediumError) as raised:
            store.perform(operation)
        assert raised.value.fault is Fault.NO_SPACE
    assert pages(pool) == PAGES - 1
    assert not any(backend.read(REGION_BYTES - PAGE, 3 * PAGE))
    store.perform(Write(SIZE - PAGE, DATA))
    assert pages(pool) == PAGES


def test_what_is_discarded_is_room_again_once_whole_pages_are(store, pool):
    store.perform(Write(0, DATA * 4))
    store.perform(Unmap(((512, 2 * PAGE), (3 * PAGE, PAGE))))
    assert pages(pool) == 2
    store.perform(Unmap(((0, 4 * PAGE),)))
    assert pages(pool) == 0


@pytest.mark.parametrize("deallocate, left", [(True, 0), (False, 3)])
def test_an_erase_takes_nothing_and_gives_back_what_it_deallocates(store, pool, deallocate, left):
    store.perform(Write(PAGE, DATA * 3))
    store.perform(Erase(0, SIZE, deallocate))
    assert pages(pool) == left


def test_blocks_that_share_a_page_count_once(store, pool):
    store.perform(Write(512, bytes(512)))
    store.perform(Write(1024, bytes(512)))
    store.perform(Copy((CopyRange(0, 2 * PAGE, 512), CopyRange(0, 2 * PAGE + 1024, 512))))
    assert pages(pool) == 2


@pytest.mark.parametrize("compare", [DATA, bytes(PAGE)])
def test_a_comparison_that_fails_keeps_no_room(store, pool, compare):
    different = isinstance(store.perform(CompareAndWrite(0, compare, DATA)), Mismatch)
    assert pages(pool) == (0 if different else 1)


def test_overwrites_and_reads_are_attempted_and_what_allocates_is_left_to_a_thread(pool):
    store = PooledStore(RamStore(SIZE), pool)
    assert store.attempt(Write(0, DATA)) is BLOCKS
    assert pages(pool) == 0
    store.perform(Write(0, DATA))
    assert store.attempt(Write(512, bytes(512))) is None
    assert store.attempt(Write(512, DATA)) is BLOCKS
    assert store.attempt(Unmap(((0, PAGE),))) is BLOCKS
    assert store.attempt(Read(0, PAGE)) == DATA[:512] + bytes(512) + DATA[1024:]


def test_regions_that_are_allocated_throughout_need_no_map(tmp_path):
    store = PooledStore(RamStore(SIZE), Pool(SIZE))
    store.perform(WriteSame(0, REGION_BYTES, bytes(512)))
    assert (store._full, store._maps) == ({0}, {})
    assert store.attempt(Write(REGION_BYTES - PAGE, DATA)) is None
    store.perform(Unmap(((0, PAGE),)))
    assert store.used_bytes == REGION_BYTES - PAGE
    assert store.attempt(Write(0, DATA)) is BLOCKS


def test_maps_that_are_forgotten_are_asked_for_again(pool, monkeypatch):
    monkeypatch.setattr(pool_module, "MAX_MAPS", 1)
    store = PooledStore(RamStore(SIZE), pool)
    store.perform(Write(0, DATA))
    store.perform(Write(REGION_BYTES, DATA))
    assert list(store._maps) == [1]
    store.perform(Write(0, DATA))
    assert pages(pool) == 2
    store.perform(Unmap(((REGION_BYTES, PAGE),)))
    assert pages(pool) == 1


def test_what_was_allocated_before_counts_even_when_there_is_no_room_for_it(tmp_path):
    pool = Pool(PAGE)
    (tmp_path / "image").write_bytes(DATA * 4)
    store = PooledStore(FileStore.open(tmp_path / "image", size_bytes=None, read_only=False), pool)
    assert (pages(pool), pool.available_bytes) == (4, 0)
    store.perform(Write(0, DATA))
    store.perform(Unmap(((0, 3 * PAGE),)))
    with pytest.raises(MediumError):
        store.perform(Write(0, DATA))
    store.perform(Unmap(((3 * PAGE, PAGE),)))
    store.perform(Write(0, DATA))
    assert pages(pool) == 1
    store.close()


def test_stores_share_the_room_and_a_larger_pool_has_more(pool):
    one, other = PooledStore(RamStore(SIZE), pool), PooledStore(RamStore(SIZE), pool)
    one.perform(Write(0, DATA * PAGES))
    with pytest.raises(MediumError):
        other.perform(Write(0, DATA))
    pool.resize((PAGES + 1) * PAGE)
    other.perform(Write(0, DATA))
    assert (one.used_bytes, other.used_bytes, pool.available_bytes) == (PAGES * PAGE, PAGE, 0)
    one.close()
    assert pages(pool) == 1


class Failing(RamStore):
    """A store whose host has no room beyond its first page."""

    def write(self, offset_bytes, data):
        super().write(offset_bytes, data[:PAGE])
        raise MediumError(Fault.NO_SPACE, offset_bytes)


def test_a_write_that_the_host_fails_takes_only_what_it_has_allocated(pool):
    store = PooledStore(Failing(SIZE), pool)
    with pytest.raises(MediumError):
        store.perform(Write(0, DATA * 3))
    assert pages(pool) == 1
    assert store.attempt(Write(0, DATA * 3)) is BLOCKS


class Unknowing(RamStore):
    """A store that cannot tell what it has allocated, as on a file system that does not say."""

    def allocation(self, offset_bytes, length_bytes):
        return [Extent(offset_bytes, length_bytes, True)]


def test_a_store_that_cannot_tell_counts_in_full():
    pool = Pool(SIZE)
    PooledStore(Unknowing(SIZE), pool)
    assert pool.available_bytes == 0


def test_threads_together_take_no_more_than_there_is(pool):
    store = PooledStore(RamStore(SIZE), pool)
    refused = []

    def write(number):
        try:
            store.perform(Write(number * PAGE, DATA))
        except MediumError:
            refused.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4 * PAGES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (pages(pool), len(refused)) == (PAGES, 3 * PAGES)


def test_who_wants_to_know_is_told_of_every_change(pool):
    told = []
    pool.changed = lambda: told.append(pool.used_bytes)
    store = PooledStore(RamStore(SIZE), pool)
    store.perform(Write(0, DATA))
    store.perform(Write(0, DATA))
    store.perform(Unmap(((0, PAGE),)))
    pool.resize(PAGE)
    assert told == [PAGE, 0, 0]


class Interrupted(RamStore):
    """Does something else before and after its next change, as other threads may."""

    before: Operation | None = None
    after: Operation | None = None
    store: PooledStore

    def perform(self, operation: Operation) -> Outcome:
        before, after, self.before, self.after = self.before, self.after, None, None
        if before is not None:
            self.store.perform(before)
        outcome = super().perform(operation)
        if after is not None:
            self.store.perform(after)
        return outcome


HALF = PAGE // 2
FIRST_WRITE, SECOND_WRITE = Write(0, DATA[:HALF]), Write(HALF, DATA[:HALF])
FIRST_UNMAP, SECOND_UNMAP = Unmap(((0, HALF),)), Unmap(((HALF, HALF),))


@pytest.mark.parametrize("most_maps", [pool_module.MAX_MAPS, 0])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("prepared", "operation", "meanwhile"),
    [
        ([], FIRST_UNMAP, SECOND_WRITE),
        ([FIRST_WRITE], FIRST_UNMAP, SECOND_WRITE),
        ([FIRST_WRITE], SECOND_WRITE, FIRST_UNMAP),
        ([FIRST_WRITE, SECOND_WRITE], FIRST_UNMAP, SECOND_UNMAP),
        ([FIRST_WRITE], FIRST_UNMAP, Write(REGION_BYTES, DATA)),
        ([], OrWrite(0, bytes(HALF)), SECOND_WRITE),
        ([FIRST_WRITE], FIRST_UNMAP, Write(PAGE, DATA * PAGES)),  # for which there is no room
    ],
)
def test_what_is_in_use_is_what_is_allocated_when_operations_share_pages(
    prepared, operation, meanwhile, when, most_maps
):
    pool, backend = Pool(PAGES * PAGE), Interrupted(SIZE)
    store = backend.store = PooledStore(backend, pool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_module, "MAX_MAPS", most_maps)
        for first in prepared:
            store.perform(first)
        setattr(backend, when, meanwhile)
        with suppress(MediumError):
            store.perform(operation)
    assert pool.used_bytes == store.used_bytes == PooledStore(backend, Pool(0)).used_bytes
