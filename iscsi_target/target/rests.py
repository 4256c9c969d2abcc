"""When logical units that rest are to go on."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from itertools import count

from iscsi_target.scsi.logical_unit import LogicalUnit
from iscsi_target.scsi.task import UnitAction
from iscsi_target.target.alarms import NEVER

GoOn = Callable[[], Iterable[UnitAction]]
_Place = tuple[float, int]


class Rests:
    """The rests of all units; nothing is kept of one that is over or that its unit has given up."""

    def __init__(self) -> None:
        self._numbers = count()  # of rests that end at the same time the first one is taken first
        self._places: list[_Place] = []  # ascending
        self._rests: dict[_Place, tuple[object, LogicalUnit, GoOn]] = {}
        self._place_of: dict[object, _Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    @property
    def next(self) -> float:
        """When the first rest is over, or NEVER."""
        return self._places[0][0] if self._places else NEVER

    def add(self, reason: object, unit: LogicalUnit, go_on: GoOn, at: float) -> None:
        """Notes that a unit is to go on at a time, and how.

        reason   for which it does not rest yet
        """
        assert reason not in self._place_of
        place = (at, next(self._numbers))
        insort(self._places, place)
        self._rests[place] = reason, unit, go_on
        self._place_of[reason] = place

    def drop(self, reason: object) -> None:
        """Forgets a rest, if it is not over."""
        place = self._place_of.pop(reason, None)
        if place is not None:
            del self._places[bisect_left(self._places, place)]
            del self._rests[place]

    def take(self, now: float) -> list[tuple[LogicalUnit, GoOn]]:
        """Returns the units of which a rest is over, and how each goes on, the earliest first."""
        taken = []
        while self.next <= now:
            reason, unit, go_on = self._rests[self._places[0]]
            self.drop(reason)
            taken.append((unit, go_on))
        return taken
