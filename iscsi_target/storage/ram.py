"""A sparse store in memory, which the kernel keeps sparse.

The store is cut into regions, each an anonymous mapping that comes with the first write to it. Within a region the
kernel provides a page when it is first written, and takes it back when it is discarded. So a read or a write is one
copy whatever its length, and memory that is given up goes back to the system at once. Regions are as large as they can
be when a system refuses mappings that exceed its memory. Huge pages are declined, because with them a write of one
block could cost 2 MiB.

The kernel does not tell which pages it has provided, so each region notes it for the allocation map.
"""

import contextlib
import mmap
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from iscsi_target.scsi.operations import (
    BLOCKS,
    MAX_EXTENTS,
    Buffer,
    Extent,
    Fault,
    MediumError,
    Operation,
    Outcome,
    Read,
    WouldBlock,
    Write,
    extents,
)
from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.medium import Result
from iscsi_target.storage.page_cache import PageCache

INLINE_LIMIT_BYTES = 1 << 20  # of a read or write on the event loop: less than a millisecond, new pages included
OTHERS_LIMIT_BYTES = 64 << 10  # of what is asked for in few bytes; a window full of it takes some 5 ms
PIECE_BYTES = 1 << 20  # of a large operation in a thread, which keeps the interpreter's lock; divides REGION_BYTES
PAGE_BYTES = 4096  # granularity of allocation, that of a file
REGION_BYTES = 64 << 20  # a map of 16 TiB walks at most 262,144 regions
PAGES_PER_REGION = REGION_BYTES // PAGE_BYTES

_WRITTEN = bytes([1]) * PAGES_PER_REGION


class RamStore:
    """A sparse store in memory: pages come with the first write and go with a discard of the whole page.

    size_bytes   1 or more; costs nothing until written
    """

    def __init__(self, size_bytes: int) -> None:
        assert size_bytes > 0, size_bytes
        self.page_cache: PageCache | None = None  # nothing has to be fetched
        self._size_bytes = size_bytes
        self._regions: dict[int, _Region] = {}
        # A region must not go while another thread writes to it. Reads need no lock: what they read stays mapped.
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """The length of the store."""
        return self._size_bytes

    @property
    def identity(self) -> str:
        """Nothing: it is always new, and has nothing of anybody's in it."""
        return ""

    def grow(self, size_bytes: int | None) -> None:
        """Makes the store longer; raises StorageError when it would become shorter."""
        wanted = self._size_bytes if size_bytes is None else size_bytes
        if wanted < self._size_bytes:
            remedy = f"set the size to {self._size_bytes} or more, or restart the server"
            raise StorageError(f"it cannot become smaller than {self._size_bytes} bytes", Path("RAM"), remedy)
        self._size_bytes = wanted

    @property
    def read_only(self) -> bool:
        """False: RAM can always be written."""
        return False

    def attempt(self, operation: Operation) -> Result | Literal[WouldBlock.BLOCKS]:
        """Performs the operation unless it would hold up the event loop, being large or waiting for a large one."""
        if isinstance(operation, Read) and operation.length_bytes <= INLINE_LIMIT_BYTES:
            return self.read(operation.offset_bytes, operation.length_bytes)
        if self._lock.locked():
            return BLOCKS
        try:
            if isinstance(operation, Write) and len(operation.data) <= INLINE_LIMIT_BYTES:
                self.write(operation.offset_bytes, operation.data)
                return None
            if sum(length for _, length in extents(operation)) <= OTHERS_LIMIT_BYTES:
                return operation.perform(self)
        except MediumError as error:
            return error
        return BLOCKS

    def perform(self, operation: Operation) -> Outcome:
        """Performs the operation; raises MediumError."""
        return operation.perform(self)

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Returns exactly length_bytes; what was never written reads as zeros."""
        self._check(offset_bytes, length_bytes)
        number, start = divmod(offset_bytes, REGION_BYTES)
        if length_bytes > PIECE_BYTES or start + length_bytes > REGION_BYTES:
            return b"".join(self.read(*piece) for piece in _pieces(offset_bytes, length_bytes))
        region = self._regions.get(number)
        return bytes(length_bytes) if region is None else region.memory[start : start + length_bytes]

    def write(self, offset_bytes: int, data: Buffer) -> None:
        """Writes all of data; raises MediumError(NO_SPACE) when memory is exhausted."""
        length_bytes = len(data)
        self._check(offset_bytes, length_bytes)
        if length_bytes > PIECE_BYTES or offset_bytes % REGION_BYTES + length_bytes > REGION_BYTES:
            source = memoryview(data)
            for position, length in _pieces(offset_bytes, length_bytes):
                done = position - offset_bytes
                self.write(position, source[done : done + length])
        elif length_bytes:
            with self._lock:
                region = self._regions.get(offset_bytes // REGION_BYTES) or self._map(offset_bytes)
                region.write(offset_bytes % REGION_BYTES, data)

    def write_atomic(self, offset_bytes: int, data: Buffer) -> None:
        """Writes all of data or nothing; raises MediumError(NO_SPACE) when memory is exhausted."""
        self._check(offset_bytes, len(data))
        pieces, source = list(_pieces(offset_bytes, len(data))), memoryview(data)
        with self._lock:
            regions = [self._regions.get(position // REGION_BYTES) or self._map(position) for position, _ in pieces]
            for region, (position, length) in zip(regions, pieces, strict=True):
                done = position - offset_bytes
                region.write(position % REGION_BYTES, source[done : done + length])

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        """Frees the whole pages of the range and zeros the parts of pages at its ends."""
        self._check(offset_bytes, length_bytes)
        end_bytes = offset_bytes + length_bytes
        with self._lock:
            present = self._present(offset_bytes, end_bytes)
        for number in present:
            with self._lock:
                region, base = self._regions.get(number), number * REGION_BYTES
                if region is None:
                    continue
                region.discard(max(offset_bytes - base, 0), min(end_bytes - base, REGION_BYTES))
                if 1 not in region.written:
                    del self._regions[number]
            time.sleep(0)  # lets the event loop have the interpreter

    def flush(self) -> None:
        """Does nothing: no storage is more stable than this one's process."""

    def allocation(self, offset_bytes: int, length_bytes: int) -> list[Extent]:
        """Returns extents from offset_bytes on, adjoining, in order, at most MAX_EXTENTS, none empty."""
        self._check(offset_bytes, length_bytes)
        end_bytes = offset_bytes + length_bytes
        found: list[Extent] = []
        position = offset_bytes
        with self._lock:
            for start, end in _joined(self._runs(offset_bytes, end_bytes)):
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

    def _map(self, offset_bytes: int) -> "_Region":
        try:
            region = self._regions[offset_bytes // REGION_BYTES] = _Region()
        except (OSError, MemoryError):
            raise MediumError(Fault.NO_SPACE, offset_bytes) from None
        return region

    def _present(self, offset_bytes: int, end_bytes: int) -> list[int]:
        """Returns the numbers of the regions that the range touches, ascending."""
        if offset_bytes == end_bytes:
            return []
        return _keys(self._regions, offset_bytes // REGION_BYTES, (end_bytes - 1) // REGION_BYTES)

    def _runs(self, offset_bytes: int, end_bytes: int) -> Iterator[tuple[int, int]]:
        """Yields (start, end) in bytes of the allocated runs of pages that the range touches."""
        for number in self._present(offset_bytes, end_bytes):
            base = number * REGION_BYTES
            start, end = max(offset_bytes - base, 0), min(end_bytes - base, REGION_BYTES)
            for first, last in self._regions[number].runs(start // PAGE_BYTES, -(-end // PAGE_BYTES)):
                yield base + first * PAGE_BYTES, base + last * PAGE_BYTES


class _Region:
    """The memory of one region, and for each of its pages a byte that is 1 when it is allocated.

    raises   OSError or MemoryError when there is no memory
    """

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, REGION_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # of a kernel without huge pages
            self.memory.madvise(mmap.MADV_NOHUGEPAGE)
        self.written = bytearray(PAGES_PER_REGION)

    def write(self, start: int, data: Buffer) -> None:
        """Writes data, which ends within the region, from a byte on."""
        end = start + len(data)
        self.memory[start:end] = data
        first, last = start // PAGE_BYTES, -(-end // PAGE_BYTES)
        self.written[first:last] = _WRITTEN[: last - first]

    def discard(self, start: int, end: int) -> None:
        """Frees the whole pages from byte start up to end and zeros the parts of pages."""
        first, last = -(-start // PAGE_BYTES), end // PAGE_BYTES
        if first > last:  # within one page
            self._zero(start, end)
            return
        self._zero(start, first * PAGE_BYTES)
        self._zero(last * PAGE_BYTES, end)
        if 1 in self.written[first:last]:
            self._free(first * PAGE_BYTES, last * PAGE_BYTES)
            self.written[first:last] = bytes(last - first)

    def runs(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yields the runs of allocated pages from page first up to last."""
        while (start := self.written.find(1, first, last)) >= 0:
            hole = self.written.find(0, start, last)
            first = last if hole < 0 else hole
            yield start, first

    def _zero(self, start: int, end: int) -> None:
        if start < end and self.written[start // PAGE_BYTES]:
            self.memory[start:end] = bytes(end - start)

    def _free(self, start: int, end: int) -> None:
        if start % mmap.PAGESIZE or end % mmap.PAGESIZE:  # of a kernel with larger pages
            self.memory[start:end] = bytes(end - start)
        else:
            self.memory.madvise(mmap.MADV_DONTNEED, start, end - start)


def _keys(table: Mapping[int, object], first: int, last: int) -> list[int]:
    """Returns the keys from first to last, ascending, by whichever of two ways looks at fewer."""
    if last - first < len(table):
        return [key for key in range(first, last + 1) if key in table]
    return sorted(key for key in table if first <= key <= last)


def _pieces(offset_bytes: int, length_bytes: int) -> Iterator[tuple[int, int]]:
    """Cuts a range at multiples of PIECE_BYTES; yields (offset, length), and lets others have the interpreter."""
    end_bytes = offset_bytes + length_bytes
    while offset_bytes < end_bytes:
        length = min(PIECE_BYTES - offset_bytes % PIECE_BYTES, end_bytes - offset_bytes)
        yield offset_bytes, length
        offset_bytes += length
        time.sleep(0)


def _joined(runs: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Joins runs that adjoin, as they do where regions meet."""
    start = end = -1
    for first, last in runs:
        if first != end:
            if end >= 0:
                yield start, end
            start = first
        end = last
    if end >= 0:
        yield start, end
