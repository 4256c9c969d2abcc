"""Decides by what writes did of late whether the next may be made on the event loop; touches no file.

No call of Linux says beforehand that a buffered write will wait, as it does for a journal's commit or when too
much is dirty. So the first that is slow gives the others away. A write may also be slow because another process had
the processor, which happens all the time on a busy machine and is no reason to avoid the event loop: that a thread
waited on its own account shows in its count of voluntary context switches. Asking for the count costs as much as half
a write, so it is asked only for a while after a write that was slow.
"""

import math
import resource
import time
from collections.abc import Callable

SLOW_S = 0.001  # longer than the event loop should be held up
STALL_S = 0.02  # longer than a scheduler lets others run first: such a write has waited for sure
WATCH_S = 1.0  # how long after a slow write the context switches are counted
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0  # not more: a wait for the interpreter, which other threads may have, looks the same


def waits_of_this_thread() -> int:
    """Returns how often the thread has given up the processor to wait for something."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


class Pace:
    """Lets writes begin until one has waited, then none during a pause, which doubles when the next has waited too.

    clock   returns seconds
    waits   returns a count that grows when the calling thread waits
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, waits: Callable[[], int] = waits_of_this_thread
    ) -> None:
        self.clock = clock
        self._count_waits = waits
        self._waits = 0
        self._paused_until = -math.inf
        self._watched_until = -math.inf
        self._pause_s = FIRST_PAUSE_S

    def begin(self) -> float | None:
        """Returns the time for `end` when a write may begin, or None during a pause."""
        now = self.clock()
        if now < self._watched_until:
            if now < self._paused_until:
                return None
            self._waits = self._count_waits()
        return now

    def end(self, begun: float) -> None:
        """Learns from a write that has ended.

        begun   what `begin` returned for it
        """
        now = self.clock()
        if now - begun > SLOW_S:
            self._was_slow(begun, now)

    def _was_slow(self, begun: float, now: float) -> None:
        watched = begun < self._watched_until
        if not watched:
            self._pause_s = FIRST_PAUSE_S
        if now - begun > STALL_S or (watched and self._count_waits() > self._waits):
            self._paused_until = now + self._pause_s
            self._watched_until = self._paused_until + max(WATCH_S, self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        else:
            self._watched_until = max(self._watched_until, now + WATCH_S)
