"""Which connection is to be looked at when: a queue of times, so that thousands of idle sessions cost nothing.

A time that comes closer is entered once more, and one that recedes is left: the connection is then looked at early, to
no effect, and entered with what holds by then. So hearing of an initiator, which only puts things off, touches nothing
here.
"""

from heapq import heapify, heappop, heappush

NEVER = float("inf")
MAX_OUTDATED = 1024  # entries that may wait to be thrown away, beside as many as there are connections


class Alarms:
    """The times at which connections want to be looked at, each connection at most one.

    next    when the first is to be looked at, or NEVER
    """

    def __init__(self) -> None:
        self.next = NEVER
        self._at: dict[int, float] = {}
        self._queue: list[tuple[float, int]] = []  # an entry of another time than `_at` has is outdated

    def set(self, number: int, at: float) -> None:
        """Has a connection looked at by a time, unless it is to be earlier anyway."""
        if at < self._at.get(number, NEVER):
            self._at[number] = at
            heappush(self._queue, (at, number))
            self.next = min(at, self.next)

    def take(self, now: float) -> list[int]:
        """Returns the connections to be looked at, which have no time from now on."""
        taken = []
        while self.next <= now:
            _, number = heappop(self._queue)
            del self._at[number]
            taken.append(number)
            self._find_next()
        return taken

    def forget(self, number: int) -> None:
        """Drops the time of a connection."""
        self._at.pop(number, None)
        if len(self._queue) > 2 * len(self._at) + MAX_OUTDATED:
            self._queue = [(at, number) for number, at in self._at.items()]
            heapify(self._queue)
        self._find_next()

    def _find_next(self) -> None:
        while self._queue and self._outdated(self._queue[0]):
            heappop(self._queue)
        self.next = self._queue[0][0] if self._queue else NEVER

    def _outdated(self, entry: tuple[float, int]) -> bool:
        at, number = entry
        return self._at.get(number) != at
