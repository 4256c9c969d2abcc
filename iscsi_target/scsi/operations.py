"""What a medium can be asked, as values, and what each of them means in terms of a store.

A store has six blocking methods on byte ranges. Each operation is expressed in them here, once, so a file, a block
device, RAM and any later medium share COMPARE AND WRITE, its atomicity and the zeros that a discard leaves. An
operation does not lock: the task set never lets two overlapping operations run together when one of them writes.

Nothing here knows a logical block: offsets and lengths are bytes. Nothing here performs: a driver calls `perform`.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final, Literal, NamedTuple, Protocol

from iscsi_target.wire.bits import either

COMPARE_CHUNK_BYTES = 1 << 20  # bounds the memory of a verify of a long range
COPY_CHUNK_BYTES = 1 << 20  # bounds the memory of a copy
FILL_CHUNK_BYTES = 1 << 20  # bounds the memory of WRITE SAME and of an erase
MAX_EXTENTS = 4096  # of one allocation map; the caller asks again for the rest

Buffer = bytes | bytearray | memoryview


class Fault(Enum):
    """Why a medium could not do what it was asked."""

    NO_SPACE = "no space left"
    READ_FAILED = "read failed"
    WRITE_FAILED = "write failed"
    READ_ONLY = "medium is read-only"
    TRUNCATED = "medium is shorter than the unit"
    GONE = "medium is gone"


class MediumError(Exception):
    """Says that a medium failed; becomes sense data, never a crash.

    fault         the kind
    offset_bytes  where, or None when the whole medium is meant
    """

    def __init__(self, fault: Fault, offset_bytes: int | None = None) -> None:
        super().__init__(fault.value if offset_bytes is None else f"{fault.value} at byte {offset_bytes}")
        self.fault = fault
        self.offset_bytes = offset_bytes


class WouldBlock(Enum):
    """The answer of an attempt that is no result: the operation needs a thread, which does all of it.

    Of a write a part may be on the medium already, as of any that is under way.

    It is a member of its own because None is the outcome of most operations.
    """

    BLOCKS = "would block"


BLOCKS: Final = WouldBlock.BLOCKS


class Extent(NamedTuple):
    """A run of bytes that is allocated throughout or deallocated throughout."""

    offset_bytes: int
    length_bytes: int
    allocated: bool


class Mismatch(NamedTuple):
    """The first byte at which a comparison failed, counted from the start of the compared data."""

    offset_bytes: int


class Store(Protocol):
    """A range of bytes that can be read and written; every method may block and may raise MediumError."""

    @property
    def size_bytes(self) -> int:
        """The length of the store."""

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Returns exactly length_bytes; a hole reads as zeros."""

    def write(self, offset_bytes: int, data: Buffer) -> None:
        """Writes all of data."""

    def write_atomic(self, offset_bytes: int, data: Buffer) -> None:
        """Writes all of data, which is on stable storage then, or leaves all as it was, whatever happens."""

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        """Deallocates the range; it reads as zeros afterwards, whatever the store can deallocate."""

    def flush(self) -> None:
        """Returns when everything written is on stable storage."""

    def allocation(self, offset_bytes: int, length_bytes: int) -> list[Extent]:
        """Returns extents from offset_bytes on, adjoining, in order, at most MAX_EXTENTS, none empty."""


class Read(NamedTuple):
    """Reads a range; the outcome is its bytes.

    flush   True brings what was written before to stable storage first (READ with FUA)
    Source: SBC3r36 5.11
    """

    offset_bytes: int
    length_bytes: int
    flush: bool = False

    def perform(self, store: Store) -> bytes:
        """Runs on the store; may block; raises MediumError."""
        if self.flush:
            store.flush()
        return store.read(self.offset_bytes, self.length_bytes)


class Write(NamedTuple):
    """Writes data; the outcome is None.

    flush   True means on stable storage before it completes (FUA, or no write cache)
    Source: SBC3r36 5.33
    """

    offset_bytes: int
    data: Buffer
    flush: bool = False

    def perform(self, store: Store) -> None:
        """Runs on the store; may block; raises MediumError."""
        store.write(self.offset_bytes, self.data)
        if self.flush:
            store.flush()


class Verify(NamedTuple):
    """Reads a range and throws it away; the outcome is None, or MediumError when it cannot be read.

    Source: SBC3r36 5.29
    """

    offset_bytes: int
    length_bytes: int

    def perform(self, store: Store) -> None:
        """Runs on the store; may block; raises MediumError."""
        end = self.offset_bytes + self.length_bytes
        for offset in range(self.offset_bytes, end, COMPARE_CHUNK_BYTES):
            store.read(offset, min(COMPARE_CHUNK_BYTES, end - offset))


class Compare(NamedTuple):
    """Compares a range with data; the outcome is None when equal, else a Mismatch.

    copies   how often the range repeats the data, at least once; VERIFY compares one block with many
    Source: SBC3r36 5.29
    """

    offset_bytes: int
    data: Buffer
    copies: int = 1

    def perform(self, store: Store) -> Mismatch | None:
        """Runs on the store; may block; raises MediumError."""
        at_once = max(1, COMPARE_CHUNK_BYTES // len(self.data))
        for first in range(0, self.copies, at_once):
            start = first * len(self.data)
            expected = bytes(self.data) * min(at_once, self.copies - first)
            mismatch = _first_mismatch(store, self.offset_bytes + start, expected)
            if mismatch is not None:
                return Mismatch(start + mismatch.offset_bytes)
        return None


class CompareAndWrite(NamedTuple):
    """Compares a range with one buffer and, when equal, writes another; nothing is written after a Mismatch.

    Source: SBC3r36 5.2
    """

    offset_bytes: int
    compare: Buffer
    write: Buffer
    flush: bool = False

    def perform(self, store: Store) -> Mismatch | None:
        """Runs on the store; may block; raises MediumError."""
        mismatch = _first_mismatch(store, self.offset_bytes, self.compare)
        if mismatch is None:
            store.write(self.offset_bytes, self.write)
            if self.flush:
                store.flush()
        return mismatch


class OrWrite(NamedTuple):
    """Reads a range, sets in it the bits that are set in data, and writes it back; the outcome is None.

    Source: SBC3r36 5.5
    """

    offset_bytes: int
    data: Buffer
    flush: bool = False

    def perform(self, store: Store) -> None:
        """Runs on the store; may block; raises MediumError."""
        had = store.read(self.offset_bytes, len(self.data))
        store.write(self.offset_bytes, either(had, self.data))
        if self.flush:
            store.flush()


class WriteAtomic(NamedTuple):
    """Writes all of data or nothing; the outcome is None.

    flush   as in Write; without, it is on stable storage all the same
    Source: SBC4r22 4.29
    """

    offset_bytes: int
    data: Buffer
    flush: bool = False

    def perform(self, store: Store) -> None:
        """Runs on the store; may block; raises MediumError."""
        store.write_atomic(self.offset_bytes, self.data)


class WriteAndVerify(NamedTuple):
    """Writes data to stable storage and compares or reads it back; the outcome is None or a Mismatch.

    Source: SBC3r36 5.37
    """

    offset_bytes: int
    data: Buffer
    compare: bool

    def perform(self, store: Store) -> Mismatch | None:
        """Runs on the store; may block; raises MediumError."""
        store.write(self.offset_bytes, self.data)
        store.flush()
        if self.compare:
            return _first_mismatch(store, self.offset_bytes, self.data)
        Verify(self.offset_bytes, len(self.data)).perform(store)
        return None


class WriteSame(NamedTuple):
    """Writes one block again and again over a range; the outcome is None.

    pattern        one logical block
    length_bytes   a multiple of the pattern's length
    Source: SBC3r36 5.43
    """

    offset_bytes: int
    length_bytes: int
    pattern: bytes
    flush: bool = False

    def perform(self, store: Store) -> None:
        """Runs on the store; may block; raises MediumError."""
        copies = max(1, FILL_CHUNK_BYTES // len(self.pattern))
        chunk = memoryview(self.pattern * min(copies, self.length_bytes // len(self.pattern)))
        end = self.offset_bytes + self.length_bytes
        offset = self.offset_bytes
        while offset < end:
            length = min(len(chunk), end - offset)
            store.write(offset, chunk[:length])
            offset += length
        if self.flush:
            store.flush()


class Unmap(NamedTuple):
    """Deallocates ranges, which read as zeros afterwards; the outcome is None.

    ranges   (offset, length) in bytes; none overlaps another
    Source: SBC3r36 5.28
    """

    ranges: tuple[tuple[int, int], ...]
    flush: bool = False

    def perform(self, store: Store) -> None:
        """Runs on the store; may block; raises MediumError."""
        for offset_bytes, length_bytes in self.ranges:
            store.discard(offset_bytes, length_bytes)
        if self.flush:
            store.flush()


class Erase(NamedTuple):
    """Overwrites with zeros what is allocated of a range and brings them to stable storage; the outcome is None.

    deallocate   True deallocates the range then, which is on stable storage too
    Source: SBC3r36 4.11.1
    """

    offset_bytes: int
    length_bytes: int
    deallocate: bool

    def perform(self, store: Store) -> None:
        """Runs on the store; may block; raises MediumError."""
        position, end = self.offset_bytes, self.offset_bytes + self.length_bytes
        while position < end:
            for extent in store.allocation(position, end - position):
                position = extent.offset_bytes + extent.length_bytes
                if extent.allocated:
                    _write_zeros(store, extent)
        store.flush()
        if self.deallocate:
            store.discard(self.offset_bytes, self.length_bytes)
            store.flush()


def _write_zeros(store: Store, extent: Extent) -> None:
    zeros = memoryview(bytes(min(FILL_CHUNK_BYTES, extent.length_bytes)))
    for start in range(0, extent.length_bytes, FILL_CHUNK_BYTES):
        length = min(FILL_CHUNK_BYTES, extent.length_bytes - start)
        store.write(extent.offset_bytes + start, zeros[:length])


class CopyRange(NamedTuple):
    """From where, to where, and how much."""

    source_bytes: int
    destination_bytes: int
    length_bytes: int


class Copied(NamedTuple):
    """How many ranges were copied, and whether the medium failed the next one."""

    ranges: int
    failed: bool = False


class Copy(NamedTuple):
    """Copies ranges within the store, one after the other; the outcome is Copied.

    Where a range overlaps with itself, what was there before is what is copied.
    Source: SPC4r37 6.4.6.3
    """

    ranges: tuple[CopyRange, ...]
    flush: bool = False

    def perform(self, store: Store) -> Copied:
        """Runs on the store; may block; raises nothing."""
        done = 0
        try:
            for each in self.ranges:
                _copy(store, each)
                done += 1
            if self.flush:
                store.flush()
        except MediumError:
            return Copied(done, failed=True)
        return Copied(done)


def _copy(store: Store, each: CopyRange) -> None:
    pieces = range(0, each.length_bytes, COPY_CHUNK_BYTES)
    for start in reversed(pieces) if each.destination_bytes > each.source_bytes else pieces:
        length = min(COPY_CHUNK_BYTES, each.length_bytes - start)
        store.write(each.destination_bytes + start, store.read(each.source_bytes + start, length))


class Flush(NamedTuple):
    """Brings everything written before to stable storage; the outcome is None.

    Source: SBC3r36 5.26
    """

    def perform(self, store: Store) -> None:
        """Runs on the store; may block; raises MediumError."""
        store.flush()


class ReadAllocation(NamedTuple):
    """Asks which parts of a range are allocated; the outcome is an allocation map.

    Source: SBC3r36 5.4
    """

    offset_bytes: int
    length_bytes: int

    def perform(self, store: Store) -> "AllocationMap":
        """Runs on the store; may block; raises MediumError."""
        return AllocationMap(tuple(store.allocation(self.offset_bytes, self.length_bytes)))


class AllocationMap(NamedTuple):
    """Adjoining extents in order."""

    extents: tuple[Extent, ...]


Operation = (
    Read
    | Write
    | Verify
    | Compare
    | CompareAndWrite
    | OrWrite
    | WriteAtomic
    | WriteAndVerify
    | WriteSame
    | Copy
    | Unmap
    | Erase
    | Flush
    | ReadAllocation
)
Outcome = bytes | bytearray | Mismatch | AllocationMap | Copied | None

Attempt = Callable[[Operation], Outcome | MediumError | Literal[WouldBlock.BLOCKS]]


def attempt_nothing(_: Operation) -> Literal[WouldBlock.BLOCKS]:
    """Answers for a medium that can do nothing at once."""
    return BLOCKS


_WRITING = (Write, WriteAtomic, CompareAndWrite, OrWrite, WriteAndVerify, WriteSame, Copy, Unmap, Erase)


def extents(operation: Operation) -> tuple[tuple[int, int], ...]:
    """Returns the (offset, length) ranges in bytes that an operation touches; none for a flush."""
    match operation:
        case Read(offset, length):
            return ((offset, length),)
        case Write(offset, data) | WriteAtomic(offset, data) | OrWrite(offset, data) | WriteAndVerify(offset, data):
            return ((offset, len(data)),)
        case Compare(offset, data, copies):
            return ((offset, len(data) * copies),)
        case CompareAndWrite(offset, compare):
            return ((offset, len(compare)),)
        case Unmap(ranges):
            return ranges
        case Copy(copied):
            sources = tuple((source, length) for source, _, length in copied)
            return sources + tuple((destination, length) for _, destination, length in copied)
        case Flush():
            return ()
        case _:
            return ((operation.offset_bytes, operation.length_bytes),)


def writes(operation: Operation) -> bool:
    """Returns True for an operation that may change the medium."""
    return isinstance(operation, _WRITING)


def _first_mismatch(store: Store, offset_bytes: int, data: Buffer) -> Mismatch | None:
    expected = memoryview(data)
    for start in range(0, len(expected), COMPARE_CHUNK_BYTES):
        # bytes are compared by memcmp, a memoryview element by element
        wanted = bytes(expected[start : start + COMPARE_CHUNK_BYTES])
        found = store.read(offset_bytes + start, len(wanted))
        if found != wanted:
            return Mismatch(start + _first_difference(found, wanted))
    return None


def _first_difference(left: bytes, right: bytes) -> int:
    """Returns where two different strings of one length differ first; halves what is left, with memcmp."""
    low, high = 0, len(left)
    while high - low > 1:
        middle = (low + high) // 2
        if left[low:middle] != right[low:middle]:
            high = middle
        else:
            low = middle
    return low
