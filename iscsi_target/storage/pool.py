"""A pool: room that several thin stores share, of which each takes what it allocates and gives back what it discards.

What is in use is what the stores themselves say is allocated, in pages. A map of each store remembers that, region by
region, so that an overwrite is known to need nothing without asking anybody. It is a cache: what was forgotten is asked
of the store again.

Room is taken for all of an operation before any of it is done, so that one that finds none has changed nothing. After
an operation that failed, or that gave something up, the store is asked what it holds now. Operations may share a page
at their ends: what is in use is always what the maps have, and a page stays taken while a write to it is under way.

A write that needs nothing asks nobody, so one that comes just when another operation gives up the rest of its page may
have it counted short until it is written again.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple, Protocol

from iscsi_target.scsi.operations import (
    BLOCKS,
    Copied,
    Copy,
    Erase,
    Fault,
    MediumError,
    Operation,
    Outcome,
    Store,
    Unmap,
    WouldBlock,
    Write,
    extents,
    writes,
)
from iscsi_target.storage.medium import Backend, Result

PAGE_BYTES = 4096  # what file systems and the RAM store allocate at least
REGION_BYTES = 64 << 20
PAGES_PER_REGION = REGION_BYTES // PAGE_BYTES
MAX_MAPS = 4096  # of one store, 16 KiB each; regions that are allocated throughout need none

_ALLOCATED = bytes([1]) * PAGES_PER_REGION


class ThinBackend(Backend, Store, Protocol):
    """A backend that says what it has allocated."""


def _nobody() -> None:
    """Nobody wants to know."""


class Pool:
    """How much room there is, and how much of it is in use; any thread may call.

    size_bytes   may become larger or smaller; what is in use stays in use
    changed      is called after every change, from whichever thread made it; set before it is used
    """

    def __init__(self, size_bytes: int) -> None:
        self.changed: Callable[[], None] = _nobody
        self._size_bytes = size_bytes
        self._used_bytes = 0
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """The room that there is."""
        return self._size_bytes

    @property
    def used_bytes(self) -> int:
        """What all stores together have allocated; more than the size when they had before they came here."""
        return self._used_bytes

    @property
    def available_bytes(self) -> int:
        """What can still be taken."""
        return max(self._size_bytes - self._used_bytes, 0)

    def resize(self, size_bytes: int) -> None:
        """Gives the pool another size."""
        if size_bytes != self._size_bytes:
            self._size_bytes = size_bytes
            self.changed()

    def take(self, length_bytes: int) -> bool:
        """Takes room, or returns False when there is not as much."""
        with self._lock:
            if length_bytes > self.available_bytes:
                return False
            self._used_bytes += length_bytes
        self.changed()
        return True

    def adjust(self, difference_bytes: int) -> None:
        """Takes in that so much more, or less, is in use than was known."""
        if difference_bytes:
            with self._lock:
                self._used_bytes += difference_bytes
            self.changed()


class _Part(NamedTuple):
    """Pages of one region, from the first up to the last."""

    region: int
    first: int
    last: int


class _Claim(NamedTuple):
    """An operation that is under way.

    parts      the pages that it may change
    allocates  whether they are taken for it
    """

    parts: tuple[_Part, ...]
    allocates: bool


class PooledStore:
    """A backend that allocates no more than its pool has room for.

    backend   a thin one that knows what it has allocated; owned from now on
    pool      shared with others
    raises    MediumError when the backend cannot say what it has allocated
    """

    def __init__(self, backend: ThinBackend, pool: Pool) -> None:
        self.pool = pool
        self.used_bytes = _count(backend)
        self._backend = backend
        self._attempt = backend.attempt
        self.page_cache = backend.page_cache
        self._maps: dict[int, bytearray] = {}  # a byte for each page of a region, 1 when it is allocated
        self._full: set[int] = set()  # regions that are allocated throughout
        self._claims: list[_Claim] = []  # their regions keep their maps
        self._lock = threading.Lock()  # guards all but reads of the maps
        pool.adjust(self.used_bytes)

    @property
    def size_bytes(self) -> int:
        """The length of the backend."""
        return self._backend.size_bytes

    @property
    def read_only(self) -> bool:
        """True when every change is refused."""
        return self._backend.read_only

    @property
    def identity(self) -> str:
        """That of the backend."""
        return self._backend.identity

    def grow(self, size_bytes: int | None) -> None:
        """Makes the backend longer, which allocates nothing."""
        self._backend.grow(size_bytes)

    def close(self) -> None:
        """Gives up the backend; what it has allocated is not of the pool any more."""
        self.pool.adjust(-self.used_bytes)
        self._backend.close()

    def attempt(self, operation: Operation) -> Result | Literal[WouldBlock.BLOCKS]:
        """Performs the operation if that can neither block nor allocate; what may needs a thread."""
        if isinstance(operation, Write):
            if not self._has(operation.offset_bytes, len(operation.data)):
                return BLOCKS
        elif writes(operation):
            return BLOCKS
        return self._attempt(operation)

    def perform(self, operation: Operation) -> Outcome:
        """Performs the operation; may block; raises MediumError, NO_SPACE before anything is done."""
        if not writes(operation):
            return self._backend.perform(operation)
        claim = _Claim(tuple(_parts(operation)), allocates=not isinstance(operation, Unmap | Erase))
        if not self._begin(claim):
            if isinstance(operation, Copy):  # which tells how far it came
                return Copied(0, failed=True)
            raise MediumError(Fault.NO_SPACE, extents(operation)[0][0])
        is_certain = False
        try:
            outcome = self._backend.perform(operation)
            is_certain = outcome is None and claim.allocates
        finally:
            with self._lock:
                self._claims.remove(claim)
                if not is_certain:
                    self._recount(claim.parts)
        return outcome

    def _has(self, offset_bytes: int, length_bytes: int) -> bool:
        """Returns True when a range is known to be allocated; one that lies in two regions is looked at by a thread."""
        region, start = divmod(offset_bytes, REGION_BYTES)
        end = start + length_bytes
        if end > REGION_BYTES:
            return False
        if region in self._full:
            return True
        pages = self._maps.get(region)
        return pages is not None and pages.find(0, start // PAGE_BYTES, -(-end // PAGE_BYTES)) < 0

    def _begin(self, claim: _Claim) -> bool:
        """Takes room for what an operation lacks, or returns False when there is not as much."""
        has_room = False
        with self._lock:
            self._claims.append(claim)
            try:
                counted = self._counted(claim.parts)
                has_room = not claim.allocates or self._take(claim.parts, counted)
            finally:
                if not has_room:
                    self._claims.remove(claim)
        return has_room

    def _take(self, parts: tuple[_Part, ...], counted: int) -> bool:
        """Takes room for some parts, of which so many pages are counted, or returns False without room."""
        missing_bytes = (sum(part.last - part.first for part in parts) - counted) * PAGE_BYTES
        self.used_bytes += missing_bytes  # before anybody is told
        if missing_bytes and not self.pool.take(missing_bytes):
            self.used_bytes -= missing_bytes
            return False
        for region, first, last in parts:
            if region not in self._full:
                pages = self._map(region)
                pages[first:last] = _ALLOCATED[: last - first]
                self._keep(region, pages)
        return True

    def _counted(self, parts: Iterable[_Part]) -> int:
        """Returns how many pages of some parts are allocated, and makes maps of them."""
        found = 0
        for region, first, last in parts:
            found += last - first if region in self._full else self._map(region).count(1, first, last)
        return found

    def _recount(self, parts: Iterable[_Part]) -> None:
        """Asks the backend what it has allocated of some parts."""
        difference = 0
        for part in parts:
            region, first, last = part
            now = self._asked(part)
            self._keep_claimed(part, now)
            pages = bytearray(_ALLOCATED) if region in self._full else self._map(region)
            difference += (now.count(1) - pages.count(1, first, last)) * PAGE_BYTES
            pages[first:last] = now
            self._full.discard(region)
            self._keep(region, pages)
        self.used_bytes += difference
        self.pool.adjust(difference)

    def _keep_claimed(self, part: _Part, pages: bytearray) -> None:
        """Marks those of the pages that are taken for operations under way."""
        for claim in self._claims:
            for region, first, last in claim.parts if claim.allocates else ():
                start, stop = max(first, part.first) - part.first, min(last, part.last) - part.first
                if region == part.region and start < stop:
                    pages[start:stop] = _ALLOCATED[: stop - start]

    def _map(self, region: int) -> bytearray:
        pages = self._maps.get(region)
        if pages is None:
            pages = self._asked(_Part(region, 0, PAGES_PER_REGION))
            self._keep(region, pages)
        return pages

    def _keep(self, region: int, pages: bytearray) -> None:
        if 0 not in pages:
            self._full.add(region)
            self._maps.pop(region, None)
            return
        self._maps[region] = pages
        if len(self._maps) > MAX_MAPS:
            self._forget_one()

    def _forget_one(self) -> None:
        claimed = {part.region for claim in self._claims for part in claim.parts}
        forgotten = next((region for region in self._maps if region not in claimed), None)
        if forgotten is not None:
            del self._maps[forgotten]

    def _asked(self, part: _Part) -> bytearray:
        """Returns a byte for each of the pages; one that lies beyond the end is not allocated."""
        pages = bytearray(part.last - part.first)
        base = part.region * REGION_BYTES + part.first * PAGE_BYTES
        end = min(base + len(pages) * PAGE_BYTES, self._backend.size_bytes)
        for start, stop in _allocated(self._backend, base, end):
            begun, ended = (start - base) // PAGE_BYTES, -(-(stop - base) // PAGE_BYTES)
            pages[begun:ended] = _ALLOCATED[: ended - begun]
        return pages


def _allocated(backend: ThinBackend, start_bytes: int, end_bytes: int) -> Iterator[tuple[int, int]]:
    """Yields where allocated runs begin and end."""
    position = start_bytes
    while position < end_bytes:
        for extent in backend.allocation(position, end_bytes - position):
            position = extent.offset_bytes + extent.length_bytes
            if extent.allocated:
                yield extent.offset_bytes, position


def _count(backend: ThinBackend) -> int:
    """Returns the bytes of all pages of which anything is allocated."""
    pages = counted_to = 0
    for start, stop in _allocated(backend, 0, backend.size_bytes):
        ended = -(-stop // PAGE_BYTES)
        pages += max(ended - max(start // PAGE_BYTES, counted_to), 0)
        counted_to = ended
    return pages * PAGE_BYTES


def _parts(operation: Operation) -> Iterator[_Part]:
    """Yields the pages that an operation may change, each once."""
    if isinstance(operation, Copy):
        ranges = tuple((each.destination_bytes, each.length_bytes) for each in operation.ranges)
    else:
        ranges = extents(operation)
    done = 0
    for offset, length in sorted(ranges):
        first, last = max(offset // PAGE_BYTES, done), -(-(offset + length) // PAGE_BYTES)
        while first < last:
            region, start = divmod(first, PAGES_PER_REGION)
            stop = min(last - region * PAGES_PER_REGION, PAGES_PER_REGION)
            yield _Part(region, start, stop)
            first = region * PAGES_PER_REGION + stop
        done = max(done, last)
