"""The pools of a server: they outlive the units in them, and whoever wants to know is told of their changes.

Units allocate on threads; what changes is told on the event loop, once for all changes of a turn.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial

from iscsi_target.config.values import PoolEntry
from iscsi_target.scsi.unit.thresholds import NEVER_S, QUIET_S
from iscsi_target.storage.pool import PAGE_BYTES, Pool

log = logging.getLogger(__name__)


class Fill(Enum):
    """How full a pool is; the value is what the log says of it."""

    NORMAL = ""
    SOFT_THRESHOLD_REACHED = "has reached its soft threshold"
    FULL = "is full, so writes that need room fail"


class Pools:
    """The pools that are configured; made on the event loop.

    tell   is called on the event loop with the name of a pool that has changed
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.by_name: dict[str, Pool] = {}
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._epoch_s = time.time() - self._loop.time()
        self._entries: dict[str, PoolEntry] = {}
        self._untold: set[str] = set()
        self._was: dict[str, Fill] = {}
        self._said_s: dict[tuple[str, Fill], float] = {}  # when the log said that a pool is so full

    @property
    def now_s(self) -> float:
        """What time it is, in seconds since the epoch; no change of the clock disturbs it."""
        return self._epoch_s + self._loop.time()

    def prepare(self, entries: Iterable[PoolEntry]) -> None:
        """Makes the pools that there are not yet; the others stay as they are."""
        for entry in entries:
            if entry.name not in self.by_name:
                self._entries[entry.name] = entry
                pool = self.by_name[entry.name] = Pool(entry.size_bytes)
                pool.changed = partial(self._changed, entry.name)

    def adopt(self, entries: Iterable[PoolEntry]) -> None:
        """Takes the sizes and thresholds of pools that are prepared; those that are not named are given up."""
        self._entries = {entry.name: entry for entry in entries}
        self.by_name = {name: self.by_name[name] for name in self._entries}
        self._said_s.clear()
        for name, entry in self._entries.items():
            self.by_name[name].resize(entry.size_bytes)
            self._changed(name)

    def soft_threshold(self, name: str) -> int | None:
        """Returns the percentage in use at which the soft threshold of a pool is reached, or None when it has none."""
        return self._entries[name].soft_threshold

    def fill(self, name: str) -> Fill:
        """Returns how full a pool is."""
        available_bytes, threshold_bytes = self.by_name[name].available_bytes, self.threshold_bytes(name)
        if available_bytes < PAGE_BYTES:
            return Fill.FULL
        reached = threshold_bytes is not None and available_bytes <= threshold_bytes
        return Fill.SOFT_THRESHOLD_REACHED if reached else Fill.NORMAL

    def threshold_bytes(self, name: str) -> int | None:
        """Returns the available bytes at which the soft threshold of a pool is reached, or None when it has none."""
        entry = self._entries[name]
        if entry.soft_threshold is None:
            return None
        return entry.size_bytes * (100 - entry.soft_threshold) // 100

    def _changed(self, name: str) -> None:
        """Takes in a change, on any thread."""
        if name not in self._untold:
            self._untold.add(name)
            self._loop.call_soon_threadsafe(self._pass_on, name)

    def _pass_on(self, name: str) -> None:
        self._untold.discard(name)
        if name in self._entries:
            self._say(name)
            self._tell(name)

    def _say(self, name: str) -> None:
        """Logs that a pool has come to its soft threshold, or is full; once until that is over, and in QUIET_S."""
        pool, now = self.by_name[name], self.fill(name)
        was, self._was[name] = self._was.get(name), now
        if now is Fill.NORMAL or now is was:
            return
        if self.now_s - self._said_s.get((name, now), NEVER_S) >= QUIET_S:
            self._said_s[name, now] = self.now_s
            at = f" of {self.soft_threshold(name)} %" if now is Fill.SOFT_THRESHOLD_REACHED else ""
            log.warning(
                "pool %s %s%s: %d of %d bytes are in use", name, now.value, at, pool.used_bytes, pool.size_bytes
            )
