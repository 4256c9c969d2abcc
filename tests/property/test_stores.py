"""Laws of the stores: they are a bytearray, and an allocation map never hides data."""

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from iscsi_target.scsi.operations import (
    Compare,
    CompareAndWrite,
    Extent,
    Flush,
    MediumError,
    Operation,
    Read,
    Unmap,
    Verify,
    WouldBlock,
    Write,
    WriteAndVerify,
    WriteSame,
)
from iscsi_target.storage.file import FileStore
from iscsi_target.storage.pool import Pool, PooledStore, ThinBackend
from iscsi_target.storage.ram import PAGE_BYTES, RamStore

BLOCK = 512
BLOCKS = 96
SIZE = BLOCK * BLOCKS  # twelve pages


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, int]:
    start = draw(st.integers(0, BLOCKS - 1))
    return start * BLOCK, draw(st.integers(1, BLOCKS - start)) * BLOCK


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    offset, length = draw(ranges())
    pattern = bytes([draw(st.integers(0, 3))]) * BLOCK
    contents = pattern * (length // BLOCK)
    flush = draw(st.booleans())
    choices: list[Operation] = [
        Read(offset, length, flush),
        Write(offset, contents, flush),
        Write(offset, memoryview(contents), flush),
        WriteSame(offset, length, pattern, flush),
        WriteAndVerify(offset, contents, flush),
        CompareAndWrite(offset, contents, bytes([7]) * length, flush),
        Compare(offset, contents),
        Verify(offset, length),
        Unmap(((offset, length),), flush),
        Flush(),
    ]
    return draw(st.sampled_from(choices))


class Model:
    """A store that is a bytearray; it remembers which pages may be allocated."""

    def __init__(self) -> None:
        self.contents = bytearray(SIZE)
        self.pages = [False] * (SIZE // PAGE_BYTES)

    @property
    def size_bytes(self) -> int:
        return SIZE

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        return bytes(self.contents[offset_bytes : offset_bytes + length_bytes])

    def write(self, offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        self.contents[offset_bytes : offset_bytes + len(data)] = data
        for page in range(offset_bytes // PAGE_BYTES, -(-(offset_bytes + len(data)) // PAGE_BYTES)):
            self.pages[page] = True

    def write_atomic(self, offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        self.write(offset_bytes, data)

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        end = offset_bytes + length_bytes
        self.contents[offset_bytes:end] = bytes(length_bytes)
        for page in range(-(-offset_bytes // PAGE_BYTES), end // PAGE_BYTES):
            self.pages[page] = False

    def flush(self) -> None:
        pass

    def allocation(self, offset_bytes: int, length_bytes: int) -> list[Extent]:
        found: list[Extent] = []
        for position in range(offset_bytes, offset_bytes + length_bytes, BLOCK):
            allocated = self.pages[position // PAGE_BYTES]
            if found and found[-1].allocated is allocated:
                found[-1] = found[-1]._replace(length_bytes=found[-1].length_bytes + BLOCK)
            else:
                found.append(Extent(position, BLOCK, allocated))
        return found


def check(store: ThinBackend, steps: list[tuple[Operation, bool]], asked: tuple[int, int], *, exact: bool) -> None:
    model = Model()
    for step, attempted in steps:
        expected = step.perform(model)
        found = store.attempt(step) if attempted else WouldBlock.BLOCKS
        if found is WouldBlock.BLOCKS:
            found = store.perform(step)
        assert found == expected
    assert store.read(0, SIZE) == model.contents
    offset, length = asked
    extents = store.allocation(offset, length)
    if exact:
        assert extents == model.allocation(offset, length)
    position = offset
    for extent in extents:
        assert extent.offset_bytes == position
        assert extent.length_bytes > 0
        position += extent.length_bytes
        if not extent.allocated:
            assert not any(store.read(extent.offset_bytes, extent.length_bytes))
    assert position == offset + length
    assert store.read(0, SIZE) == model.contents


@given(st.lists(st.tuples(operations(), st.booleans()), max_size=20), ranges())
def test_ram_is_a_bytearray_with_an_exact_allocation_map(steps, asked):
    """A RamStore answers as a bytearray does, attempted or not; allocated are the pages written and not discarded."""
    check(RamStore(SIZE), steps, asked, exact=True)


@given(st.lists(st.tuples(operations(), st.booleans()), max_size=20), ranges(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_file_is_a_bytearray_with_an_allocation_map_that_hides_no_data(steps, asked, can_deallocate):
    """A FileStore answers as a bytearray does, whatever is attempted, able to deallocate or not; holes are zeros."""
    with tempfile.TemporaryDirectory() as directory:
        store = FileStore.open(Path(directory) / "unit0.img", size_bytes=SIZE, read_only=False)
        if not can_deallocate:
            store._deallocators = ()
        try:
            check(store, steps, asked, exact=can_deallocate and four_kibibyte_blocks(directory))
        finally:
            store.close()


@given(st.lists(st.tuples(operations(), st.booleans()), max_size=20), st.integers(0, SIZE // PAGE_BYTES))
def test_a_pool_holds_what_its_store_has_allocated_and_what_finds_no_room_changes_nothing(steps, room):
    """What a pool says is used is what the store has allocated, never more than its size; refused => state equal."""
    pool, ram, model = Pool(room * PAGE_BYTES), RamStore(SIZE), Model()
    store = PooledStore(ram, pool)
    for step, attempted in steps:
        found = store.attempt(step) if attempted else WouldBlock.BLOCKS
        before = ram.read(0, SIZE), pool.used_bytes
        try:
            if found is WouldBlock.BLOCKS:
                found = store.perform(step)
            assert found == step.perform(model)
        except MediumError:
            assert (ram.read(0, SIZE), pool.used_bytes) == before
        used = sum(extent.length_bytes for extent in ram.allocation(0, SIZE) if extent.allocated)
        assert pool.used_bytes == store.used_bytes == used <= pool.size_bytes
    assert ram.read(0, SIZE) == model.contents


def four_kibibyte_blocks(directory: str) -> bool:
    return os.statvfs(directory).f_bsize == PAGE_BYTES
