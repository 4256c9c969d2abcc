"""When what is due: a time for each key, of which the earliest is found quickly."""

import heapq
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

NEVER: Final = float("inf")

Key = TypeVar("Key", bound=Hashable)


class Schedule(Generic[Key]):
    """A time for each key."""

    def __init__(self) -> None:
        self._times: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []  # with entries that do not count any more
        self._count = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._times

    def put(self, key: Key, at: float) -> None:
        """Gives a key a time instead of the one it has."""
        self._times[key] = at
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, key))
        if len(self._heap) > 2 * len(self._times) + 64:
            self._heap = [(at, number, key) for number, (key, at) in enumerate(self._times.items())]
            heapq.heapify(self._heap)

    def drop(self, key: Key) -> None:
        """Takes a key's time away, if it has one."""
        self._times.pop(key, None)

    def deadline(self) -> float:
        """Returns the earliest time, NEVER without any."""
        while self._heap and self._times.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else NEVER

    def take(self, now: float) -> list[Key]:
        """Returns the keys whose time has come, which have none any more."""
        due: list[Key] = []
        while self.deadline() <= now:
            due.append(heapq.heappop(self._heap)[2])
            del self._times[due[-1]]
        return due
