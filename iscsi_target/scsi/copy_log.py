"""How far the copies of each nexus are, by their list identifiers.

A copy is known from the moment in which it starts. Its status is kept until it is fetched, its identifier is used
again, or the nexus is lost or the unit reset; of each nexus the last MAX_KEPT.

Source: SPC4r37 5.17.4
"""

from enum import IntEnum
from typing import NamedTuple

from iscsi_target.scsi.nexus import Nexus

MAX_KEPT = 64  # of one nexus


class CopyState(IntEnum):
    """COPY OPERATION STATUS.

    Source: SPC4r37 6.24
    """

    IN_PROGRESS = 0
    DONE = 1
    FAILED = 2


class CopyResult(NamedTuple):
    """How far a copy is.

    segments      that are done
    copied_bytes  by them
    """

    state: CopyState
    segments: int = 0
    copied_bytes: int = 0


class CopyLog:
    """The copies of all nexuses, by their list identifiers."""

    def __init__(self) -> None:
        self._results: dict[Nexus, dict[int, CopyResult]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CopyLog) and self._results == other._results

    __hash__ = None  # type: ignore[assignment]  # it changes

    def find(self, nexus: Nexus, identifier: int) -> CopyResult | None:
        """Returns how far a copy is, None for one that is not known."""
        return self._results.get(nexus, {}).get(identifier)

    def note(self, nexus: Nexus, identifier: int, result: CopyResult) -> None:
        """Takes in how far a copy is; the oldest result of the nexus goes when there are too many."""
        own = self._results.setdefault(nexus, {})
        own.pop(identifier, None)
        own[identifier] = result
        if len(own) > MAX_KEPT:
            del own[next(iter(own))]

    def forget(self, nexus: Nexus, identifier: int) -> None:
        """Drops one result; one that is not known is no error."""
        self._results.get(nexus, {}).pop(identifier, None)

    def leave(self, nexus: Nexus) -> None:
        """Drops all results of a nexus."""
        self._results.pop(nexus, None)

    def clear(self) -> None:
        """Drops all results."""
        self._results.clear()
