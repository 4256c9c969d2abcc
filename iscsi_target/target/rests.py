"""When logical units that rest are to go on."""

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count

from iscsi_target.scsi.logical_unit import LogicalUnit
from iscsi_target.scsi.task import UnitAction
from iscsi_target.target.alarms import NEVER

GoOn = Callable[[], Iterable[UnitAction]]


class Rests:
    """The units that rest."""

    def __init__(self) -> None:
        self._numbers = count()  # of rests that end at the same time the first one is taken first
        self._queue: list[tuple[float, int, LogicalUnit, GoOn]] = []

    @property
    def next(self) -> float:
        """When the first rest is over, or NEVER."""
        return self._queue[0][0] if self._queue else NEVER

    def add(self, unit: LogicalUnit, go_on: GoOn, at: float) -> None:
        """Notes that a unit is to go on at a time, and how."""
        heappush(self._queue, (at, next(self._numbers), unit, go_on))

    def take(self, now: float) -> list[tuple[LogicalUnit, GoOn]]:
        """Returns the units of which a rest is over, and how each goes on, the earliest first."""
        taken = []
        while self.next <= now:
            _, _, unit, go_on = heappop(self._queue)
            taken.append((unit, go_on))
        return taken
