"""How far the copy operations of each nexus are, by their list identifiers.

A copy operation is known from the moment in which it starts. What became of it is kept until its identifier is used
again, or the nexus is lost or the unit reset; of each nexus the last MAX_KEPT. The loss of a nexus does not end what
goes on in the background, so that stays known. List identifiers of one byte and of four are the same numbers.

Source: SPC4r37 5.17.4.2, 5.17.5, 6.24
"""

from dataclasses import dataclass
from enum import IntEnum

from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.status import Busy, CheckCondition, Sense, SenseKey, Status, StatusError

MAX_KEPT = 64  # of one nexus
MAX_RUNNING = 32  # of one unit at one time; each may have a piece of data in memory
OPERATION_IN_PROGRESS = 0x0016


class CopyState(IntEnum):
    """COPY OPERATION STATUS.

    Source: SPC4r37 6.24
    """

    DONE = 0x01
    FAILED = 0x02
    PARTIAL = 0x03
    FOREGROUND = 0x11
    BACKGROUND = 0x12
    TERMINATED = 0x60

    @property
    def is_over(self) -> bool:
        """True when the copy operation does not go on."""
        return self not in (CopyState.FOREGROUND, CopyState.BACKGROUND)


@dataclass(slots=True)
class CopyRecord:
    """How far one copy operation is; whoever carries it out changes it.

    service_action   of the command that began it
    segments         that are done, where there are segments
    copied_bytes     that are written, in the order that the command wants
    steps            what was asked of media successfully
    sense            what it has ended with, or None
    token            that it has made and that is not fetched yet, or nothing
    told             True when RECEIVE COPY STATUS(LID1) has told of its end, and tells no more of it
    detailed         True when the details of its failure are fetched
    """

    service_action: int
    state: CopyState = CopyState.FOREGROUND
    segments: int = 0
    copied_bytes: int = 0
    steps: int = 0
    sense: Sense | None = None
    token: bytes = b""
    told: bool = False
    detailed: bool = False

    @property
    def status(self) -> Status:
        """What the copy operation has ended with; GOOD as long as it goes on.

        Source: SPC4r37 6.24
        """
        if self.state is CopyState.TERMINATED:
            return Status.TASK_ABORTED
        return Status.GOOD if self.state is CopyState.DONE or not self.state.is_over else Status.CHECK_CONDITION

    def end(self, error: StatusError | None) -> None:
        """Takes in that the copy operation has failed, or that it was aborted."""
        self.state = CopyState.TERMINATED if error is None else CopyState.FAILED
        self.sense = error.sense if isinstance(error, CheckCondition) else None


class CopyLog:
    """The copy operations of all nexuses, by their list identifiers."""

    def __init__(self) -> None:
        self._records: dict[Nexus, dict[int, CopyRecord]] = {}
        self._left: set[Nexus] = set()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CopyLog) and self._records == other._records

    __hash__ = None  # type: ignore[assignment]  # it changes

    def find(self, nexus: Nexus, identifier: int) -> CopyRecord | None:
        """Returns how far a copy operation is, None for one that is not known."""
        return self._records.get(nexus, {}).get(identifier)

    def start(self, nexus: Nexus, identifier: int, record: CopyRecord) -> None:
        """Takes in a copy operation that begins; the oldest one of the nexus that is over goes if there are too many.

        raises   CheckCondition when one with the identifier goes on; Busy when too many go on
        Source: SPC4r37 5.17.4.2
        """
        own = self._records.get(nexus, {})
        found = own.get(identifier)
        if found is not None and not found.state.is_over:
            raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, OPERATION_IN_PROGRESS))
        self._left.discard(nexus)
        self._forget_left()
        if not record.state.is_over and self._running() >= MAX_RUNNING:
            raise Busy
        own.pop(identifier, None)
        if len(own) >= MAX_KEPT:  # one of them is over, since MAX_RUNNING is less
            del own[next(each for each, kept in own.items() if kept.state.is_over)]
        own[identifier] = record
        self._records[nexus] = own

    def _running(self) -> int:
        return sum(not record.state.is_over for own in self._records.values() for record in own.values())

    def _forget_left(self) -> None:
        for nexus in tuple(self._left):
            self.leave(nexus)

    def leave(self, nexus: Nexus) -> None:
        """Drops the copy operations of a nexus that are over.

        Source: SPC4r37 5.17.5, 6.24
        """
        self._left.discard(nexus)
        own = self._records.pop(nexus, {})
        going_on = {identifier: record for identifier, record in own.items() if not record.state.is_over}
        if going_on:
            self._records[nexus] = going_on
            self._left.add(nexus)

    def clear(self) -> None:
        """Drops all copy operations."""
        self._records.clear()
        self._left.clear()
