"""When what rests is to go on: logical units, and what a rule has put off."""

from bisect import bisect_left, insort
from collections.abc import Callable
from itertools import count

from iscsi_target.target.alarms import NEVER

GoOn = Callable[[], None]
_Place = tuple[float, int]


class Rests:
    """All that rests; nothing is kept of a rest that is over or given up."""

    def __init__(self) -> None:
        self._numbers = count()  # of rests that end at the same time the first one is taken first
        self._places: list[_Place] = []  # ascending
        self._rests: dict[_Place, tuple[object, GoOn]] = {}
        self._place_of: dict[object, _Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    @property
    def next(self) -> float:
        """When the first rest is over, or NEVER."""
        return self._places[0][0] if self._places else NEVER

    def add(self, reason: object, go_on: GoOn, at: float) -> None:
        """Notes that something is to go on at a time, and how.

        reason   for which nothing rests yet
        """
        assert reason not in self._place_of
        place = (at, next(self._numbers))
        insort(self._places, place)
        self._rests[place] = reason, go_on
        self._place_of[reason] = place

    def drop(self, reason: object) -> None:
        """Forgets a rest, if it is not over."""
        place = self._place_of.pop(reason, None)
        if place is not None:
            del self._places[bisect_left(self._places, place)]
            del self._rests[place]

    def take(self, now: float) -> list[GoOn]:
        """Returns how everything goes on of which the rest is over, the earliest first."""
        taken = []
        while self.next <= now:
            reason, go_on = self._rests[self._places[0]]
            self.drop(reason)
            taken.append(go_on)
        return taken
