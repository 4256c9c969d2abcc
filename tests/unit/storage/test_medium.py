"""Medium: one backend, driven from an event loop. RamStore: sparse memory."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pytest

from iscsi_target.scsi.operations import (
    MAX_EXTENTS,
    AllocationMap,
    CompareAndWrite,
    Extent,
    Fault,
    Flush,
    MediumError,
    Mismatch,
    Operation,
    Outcome,
    Read,
    ReadAllocation,
    Unmap,
    Verify,
    Write,
    WriteSame,
)
from iscsi_target.storage.medium import (
    BLOCKS,
    INLINE_LIMIT_BYTES,
    PAGE_BYTES,
    PAGES_PER_REGION,
    THREADS_PER_MEDIUM,
    Medium,
    RamStore,
    WouldBlock,
)

TIB = 1 << 40
REGION_BYTES = PAGES_PER_REGION * PAGE_BYTES


class Gate(RamStore):
    """A store whose operations all need a thread, in which reads wait until the gate opens."""

    def __init__(self) -> None:
        super().__init__(PAGE_BYTES)
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.running = 0
        self.most_running = 0
        self.closed_while_running = False
        self._count = threading.Lock()

    def attempt(self, operation: Operation) -> Outcome | Literal[WouldBlock.BLOCKS]:
        return BLOCKS

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        with self._count:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        self.entered.release()
        self.gate.wait(10)
        with self._count:
            self.running -= 1
        return super().read(offset_bytes, length_bytes)

    def flush(self) -> None:
        raise MediumError(Fault.WRITE_FAILED)

    def close(self) -> None:
        self.closed_while_running = self.running > 0
        super().close()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4 * THREADS_PER_MEDIUM) as threads:
        yield threads


async def entered(gate: Gate) -> None:
    await asyncio.to_thread(gate.entered.acquire)


async def test_ram_is_attempted_at_once(executor):
    medium = Medium(RamStore(1 << 20), executor)
    assert medium.attempt(Write(512, b"a" * 512)) is None
    assert medium.attempt(Read(0, 1024)) == bytes(512) + b"a" * 512
    assert medium.attempt(CompareAndWrite(512, b"b" * 512, b"c" * 512)) == Mismatch(0)
    assert medium.attempt(CompareAndWrite(512, b"a" * 512, b"c" * 512)) is None
    assert medium.attempt(Flush()) is None
    assert medium.attempt(Read(512, 512)) == b"c" * 512
    assert not medium.read_only
    assert medium.size_bytes == 1 << 20


async def test_a_large_operation_in_ram_needs_a_thread(executor):
    medium = Medium(RamStore(TIB), executor)
    large = WriteSame(0, INLINE_LIMIT_BYTES + 512, b"x" * 512)
    assert medium.attempt(large) is BLOCKS
    assert medium.attempt(Read(0, 512)) == bytes(512)
    assert await medium.perform(large) is None
    assert medium.attempt(Read(INLINE_LIMIT_BYTES, 512)) == b"x" * 512


def test_ram_is_not_attempted_while_a_thread_is_at_a_large_operation():
    store = RamStore(PAGE_BYTES)
    with store._lock:
        assert store.attempt(Read(0, 512)) is BLOCKS
    assert store.attempt(Read(0, 512)) == bytes(512)


async def test_a_fault_is_a_result(executor):
    medium = Medium(Gate(), executor)
    result = await medium.perform(Flush())
    assert isinstance(result, MediumError)
    assert result.fault is Fault.WRITE_FAILED


async def test_the_event_loop_runs_while_an_operation_blocks(executor):
    store = Gate()
    medium = Medium(store, executor)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(medium.perform(Read(0, 512)))
        await entered(store)
        assert not reading.done()
        store.gate.set()
    assert reading.result() == bytes(512)


async def test_one_medium_takes_no_more_than_its_share_of_threads(executor):
    store = Gate()
    medium = Medium(store, executor)
    async with asyncio.TaskGroup() as group:
        for _ in range(3 * THREADS_PER_MEDIUM):
            group.create_task(medium.perform(Read(0, 512)))
        for _ in range(THREADS_PER_MEDIUM):
            await entered(store)
        store.gate.set()
    assert store.most_running == THREADS_PER_MEDIUM


async def test_close_waits_for_operations_under_way_even_when_their_caller_is_gone(executor):
    store = Gate()
    medium = Medium(store, executor)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(medium.perform(Read(0, 512)))
        await entered(store)
        reading.cancel()
        closing = group.create_task(medium.close())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not closing.done()
        store.gate.set()
    assert not store.closed_while_running


async def test_operations_waiting_for_a_thread_at_close_are_answered_with_gone(executor):
    store = Gate()
    medium = Medium(store, executor)
    async with asyncio.TaskGroup() as group:
        reads = [group.create_task(medium.perform(Read(0, 512))) for _ in range(THREADS_PER_MEDIUM + 1)]
        for _ in range(THREADS_PER_MEDIUM):
            await entered(store)
        group.create_task(medium.close())
        await asyncio.sleep(0)
        store.gate.set()
    results = [read.result() for read in reads]
    assert results[:-1] == [bytes(512)] * THREADS_PER_MEDIUM
    assert isinstance(results[-1], MediumError)
    assert results[-1].fault is Fault.GONE


async def test_after_close_everything_is_answered_with_gone(executor):
    medium = Medium(RamStore(512), executor)
    await medium.close()
    await medium.close()
    for result in (medium.attempt(Read(0, 512)), await medium.perform(Read(0, 512))):
        assert isinstance(result, MediumError)
        assert result.fault is Fault.GONE


async def test_a_bug_in_an_operation_is_no_result(executor):
    medium = Medium(Gate(), executor)
    with pytest.raises(AssertionError):
        await medium.perform(Write(PAGE_BYTES, b"beyond"))


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


def test_memory_exhaustion_is_no_space(monkeypatch):
    store = RamStore(TIB)

    def refuse(number: int) -> bytearray:
        raise MemoryError

    monkeypatch.setattr(store, "_allocated_page", refuse)
    with pytest.raises(MediumError) as caught:
        store.write(8192, b"x")
    assert (caught.value.fault, caught.value.offset_bytes) == (Fault.NO_SPACE, 8192)


async def test_every_operation_runs_in_ram(executor):
    medium = Medium(RamStore(8 * PAGE_BYTES), executor)
    assert medium.attempt(WriteSame(0, 8 * PAGE_BYTES, b"ab" * 256)) is None
    assert medium.attempt(Verify(0, 8 * PAGE_BYTES)) is None
    assert medium.attempt(Unmap(((0, PAGE_BYTES), (4 * PAGE_BYTES, PAGE_BYTES)))) is None
    allocation = medium.attempt(ReadAllocation(0, 8 * PAGE_BYTES))
    assert isinstance(allocation, AllocationMap)
    assert [extent.allocated for extent in allocation.extents] == [False, True, False, True]


def test_threads_that_write_neighbouring_blocks_of_a_page_lose_nothing(executor):
    for _ in range(50):
        store = RamStore(PAGE_BYTES)
        list(executor.map(lambda n, s=store: s.write(n * 512, bytes([n + 1]) * 512), range(8)))
        assert store.read(0, PAGE_BYTES) == b"".join(bytes([n + 1]) * 512 for n in range(8))
