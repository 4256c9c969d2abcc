"""A medium performs the operations of one logical unit: at once when that cannot block, else in a thread.

`Medium` drives any `Backend`, which is a Store that also knows what it can do without blocking. `RamStore`
is the backend in memory; the backend on files and devices is in storage/file.

A fault of the medium is a result here, never an exception: it travels to the logical unit the way an
outcome does. An operation that was handed to a thread runs to its end whatever happens to its caller,
because it cannot be taken back.
"""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Literal, Protocol

from iscsi_target.scsi.operations import (
    BLOCKS,
    MAX_EXTENTS,
    Buffer,
    Extent,
    Fault,
    MediumError,
    Operation,
    Outcome,
    Store,
    WouldBlock,
    extents,
)

WORKER_THREADS = 32  # of the executor that all media share; they wait for disks, not for processors
THREADS_PER_MEDIUM = 8  # so that one hung device leaves threads to three others
INLINE_LIMIT_BYTES = 4 << 20  # of one operation in RAM on the event loop: a millisecond of copying
PAGE_BYTES = 4096  # granularity of allocation in RAM, that of a file
PAGES_PER_REGION = 1 << 14  # 64 MiB; a map of 16 TiB walks at most 262,144 regions

Result = Outcome | MediumError


class Backend(Store, Protocol):
    """A Store that Medium can drive."""

    @property
    def read_only(self) -> bool:
        """True when every change is refused."""

    def attempt(self, operation: Operation) -> Outcome | Literal[WouldBlock.BLOCKS]:
        """Performs the operation if that cannot block, else does nothing; may raise MediumError."""

    def close(self) -> None:
        """Gives up the store; nothing is called after it."""


def worker_threads() -> ThreadPoolExecutor:
    """Returns an executor for the media and the state file of a server; the caller shuts it down."""
    return ThreadPoolExecutor(WORKER_THREADS, thread_name_prefix="medium")


class Medium:
    """Performs operations on one backend for an event loop.

    backend    owned from now on
    executor   where operations that may block run; shared, not owned
    """

    def __init__(self, backend: Backend, executor: Executor) -> None:
        self._backend = backend
        self._executor = executor
        self._threads = asyncio.Semaphore(THREADS_PER_MEDIUM)
        self._closed = False

    @property
    def size_bytes(self) -> int:
        """The length of the medium; it stays the same while it is open."""
        return self._backend.size_bytes

    @property
    def read_only(self) -> bool:
        """True when every change is refused with Fault.READ_ONLY."""
        return self._backend.read_only

    def attempt(self, operation: Operation) -> Result | Literal[WouldBlock.BLOCKS]:
        """Performs the operation if that cannot block.

        returns   what `perform` would, or BLOCKS when nothing has been done and `perform` is needed
        """
        if self._closed:
            return MediumError(Fault.GONE)
        try:
            return self._backend.attempt(operation)
        except MediumError as error:
            return error

    async def perform(self, operation: Operation) -> Result:
        """Performs the operation in a thread.

        returns   the outcome of the operation, or the MediumError that it ended with; GONE after `close`
        """
        await self._threads.acquire()
        if self._closed:
            self._threads.release()
            return MediumError(Fault.GONE)
        running = asyncio.get_running_loop().run_in_executor(self._executor, self._run, operation)
        # The thread frees its place, not the caller, who may be cancelled before the thread is done.
        running.add_done_callback(lambda _: self._threads.release())
        return await asyncio.shield(running)

    async def close(self) -> None:
        """Waits for the operations under way and closes the backend; what comes after is answered with GONE.

        It does not flush: what was not flushed was promised no more than a volatile write cache gives, and
        the page cache outlives the process.
        """
        if self._closed:
            return
        self._closed = True
        for _ in range(THREADS_PER_MEDIUM):
            await self._threads.acquire()
        for _ in range(THREADS_PER_MEDIUM):
            self._threads.release()
        await asyncio.get_running_loop().run_in_executor(self._executor, self._backend.close)

    def _run(self, operation: Operation) -> Result:
        try:
            return operation.perform(self._backend)
        except MediumError as error:
            return error


class RamStore:
    """A sparse store in memory: pages come with the first write and go with a discard of the whole page.

    size_bytes   1 or more; costs nothing until written
    """

    def __init__(self, size_bytes: int) -> None:
        assert size_bytes > 0, size_bytes
        self._size_bytes = size_bytes
        self._regions: dict[int, dict[int, bytearray]] = {}
        # Operations that touch neighbouring blocks run side by side, and a page holds several blocks.
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """The length of the store."""
        return self._size_bytes

    @property
    def read_only(self) -> bool:
        """False: RAM can always be written."""
        return False

    def attempt(self, operation: Operation) -> Outcome | Literal[WouldBlock.BLOCKS]:
        """Performs the operation unless it would hold up the event loop, being large or waiting for a large one."""
        if self._lock.locked() or sum(length for _, length in extents(operation)) > INLINE_LIMIT_BYTES:
            return BLOCKS
        return operation.perform(self)

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Returns exactly length_bytes; what was never written reads as zeros."""
        self._check(offset_bytes, length_bytes)
        with self._lock:
            return b"".join(self._part(piece) for piece in _pieces(offset_bytes, length_bytes))

    def write(self, offset_bytes: int, data: Buffer) -> None:
        """Writes all of data; raises MediumError(NO_SPACE) when memory is exhausted."""
        self._check(offset_bytes, len(data))
        source = memoryview(data)
        with self._lock:
            done = 0
            for number, start, end in _pieces(offset_bytes, len(data)):
                try:
                    page = self._allocated_page(number)
                except MemoryError:
                    raise MediumError(Fault.NO_SPACE, offset_bytes + done) from None
                page[start:end] = source[done : done + end - start]
                done += end - start

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        """Frees the whole pages of the range and zeros the parts of pages at its ends."""
        self._check(offset_bytes, length_bytes)
        end_bytes = offset_bytes + length_bytes
        with self._lock:
            for number in list(self._allocated(offset_bytes, end_bytes)):
                start = max(offset_bytes - number * PAGE_BYTES, 0)
                end = min(end_bytes - number * PAGE_BYTES, PAGE_BYTES)
                if end - start == PAGE_BYTES:
                    self._free(number)
                else:
                    self._regions[number // PAGES_PER_REGION][number][start:end] = bytes(end - start)

    def flush(self) -> None:
        """Does nothing: no storage is more stable than this one's process."""

    def allocation(self, offset_bytes: int, length_bytes: int) -> list[Extent]:
        """Returns extents from offset_bytes on, adjoining, in order, at most MAX_EXTENTS, none empty."""
        self._check(offset_bytes, length_bytes)
        end_bytes = offset_bytes + length_bytes
        found: list[Extent] = []
        position = offset_bytes
        with self._lock:
            for start, end in _runs(self._allocated(offset_bytes, end_bytes)):
                if len(found) + 2 > MAX_EXTENTS:
                    return found
                if start > position:
                    found.append(Extent(position, start - position, False))
                    position = start
                end = min(end, end_bytes)
                found.append(Extent(position, end - position, True))
                position = end
        if position < end_bytes:
            found.append(Extent(position, end_bytes - position, False))
        return found[:MAX_EXTENTS]

    def close(self) -> None:
        """Frees all memory."""
        self._regions.clear()

    def _check(self, offset_bytes: int, length_bytes: int) -> None:
        assert 0 <= offset_bytes <= offset_bytes + length_bytes <= self._size_bytes

    def _part(self, piece: tuple[int, int, int]) -> Buffer:
        number, start, end = piece
        region = self._regions.get(number // PAGES_PER_REGION)
        page = _ZERO_PAGE if region is None else region.get(number, _ZERO_PAGE)
        return page if end - start == PAGE_BYTES else memoryview(page)[start:end]

    def _allocated_page(self, number: int) -> bytearray:
        region = self._regions.setdefault(number // PAGES_PER_REGION, {})
        page = region.get(number)
        if page is None:
            page = region[number] = bytearray(PAGE_BYTES)
        return page

    def _free(self, number: int) -> None:
        region = self._regions[number // PAGES_PER_REGION]
        del region[number]
        if not region:
            del self._regions[number // PAGES_PER_REGION]

    def _allocated(self, offset_bytes: int, end_bytes: int) -> Iterator[int]:
        """Yields the numbers of the allocated pages that the range touches, ascending."""
        if offset_bytes == end_bytes:
            return
        first, last = offset_bytes // PAGE_BYTES, (end_bytes - 1) // PAGE_BYTES
        for region in _present(self._regions, first // PAGES_PER_REGION, last // PAGES_PER_REGION):
            start = region * PAGES_PER_REGION
            end = start + PAGES_PER_REGION - 1
            yield from _present(self._regions[region], max(first, start), min(last, end))


_ZERO_PAGE = bytes(PAGE_BYTES)


def _present(table: Mapping[int, object], first: int, last: int) -> list[int]:
    """Returns the keys from first to last, ascending, by whichever of two ways looks at fewer."""
    if last - first < len(table):
        return [key for key in range(first, last + 1) if key in table]
    return sorted(key for key in table if first <= key <= last)


def _pieces(offset_bytes: int, length_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Cuts a range into (page number, start in the page, end in the page)."""
    end_bytes = offset_bytes + length_bytes
    while offset_bytes < end_bytes:
        number, start = divmod(offset_bytes, PAGE_BYTES)
        end = min(PAGE_BYTES, start + end_bytes - offset_bytes)
        yield number, start, end
        offset_bytes += end - start


def _runs(numbers: Iterator[int]) -> Iterator[tuple[int, int]]:
    """Joins neighbouring pages; yields (start, end) in bytes."""
    start = end = -1
    for number in numbers:
        if number * PAGE_BYTES != end:
            if end >= 0:
                yield start, end
            start = number * PAGE_BYTES
        end = (number + 1) * PAGE_BYTES
    if end >= 0:
        yield start, end
