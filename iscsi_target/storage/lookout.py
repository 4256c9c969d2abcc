"""Reads that a page cache did not have and is fetching, and which the event loop asks for again in each of its turns.

Until they are there the event loop does not sleep. The wait is short, or ends with threads that read: see
storage/page_cache.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from iscsi_target.scsi.operations import BLOCKS, Read
from iscsi_target.storage.page_cache import PageCache

LOOK_S = 0.0005  # after which the event loop has its next turn
PATIENCE_S = 0.0005  # of the event loop with one read; a thread would take a fifth of that to begin and to tell

Key = TypeVar("Key")


class Seen(NamedTuple, Generic[Key]):
    """What one look has shown.

    found   what is there now, with its bytes
    late    what was not there in time and is awaited no more
    """

    found: list[tuple[Key, bytearray]]
    late: list[Key]


class Lookout(Generic[Key]):
    """What is awaited of one page cache, each read under a key of the caller's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._awaited: deque[tuple[Key, Read, float]] = deque()  # the last says when it was looked for first

    def __bool__(self) -> bool:
        return bool(self._awaited)

    def add(self, key: Key, read: Read) -> None:
        """Awaits a read that the page cache says it awaits."""
        self._awaited.append((key, read, math.inf))

    def look(self, page_cache: PageCache) -> Seen[Key]:
        """Asks again for what is awaited, in a new turn of the event loop; what is left comes first in the next one."""
        seen: Seen[Key] = Seen([], [])
        begun = now = self._clock()
        for _ in range(len(self._awaited)):
            if now - begun > LOOK_S:
                break
            key, read, since = self._awaited.popleft()
            since = min(since, now)
            data = page_cache.again(read)
            if data is not BLOCKS:
                seen.found.append((key, data))
            elif now - since > PATIENCE_S:
                seen.late.append(key)
            else:
                self._awaited.append((key, read, since))
            now = self._clock()
        if seen.late and not seen.found:
            page_cache.waited_in_vain(PATIENCE_S)
        return seen

    def clear(self) -> list[Key]:
        """Awaits nothing any more, and returns what it did."""
        keys = [key for key, _, _ in self._awaited]
        self._awaited.clear()
        return keys
