"""What a logical unit keeps of a task that has not ended; values and records, no behaviour."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from iscsi_target.scsi.commands.command import Command
from iscsi_target.scsi.operations import Buffer
from iscsi_target.scsi.state.task import Completed, Fetch, Save, Task, Ticket, Work
from iscsi_target.scsi.status import StatusError
from iscsi_target.scsi.unit.task_set import Turn
from iscsi_target.wire.layout import Layout

NO_IDENTIFIER = -1  # of a copy operation; those that have one have 0 at least


class Fate(Enum):
    """How an open task will end."""

    ITS_OWN = "as its command comes out"
    TASK_ABORTED = "TASK ABORTED status"
    SANITIZED = "CHECK CONDITION, as a sanitize operation has begun"
    UNLOADED = "CHECK CONDITION, as the medium was removed"
    COPY_ABORTED = "CHECK CONDITION, as COPY OPERATION ABORT asked for it"
    SILENCE = "no status"


class Collecting:
    """Its Data-Out is not there yet."""

    __slots__ = ()


class Ready:
    """It has all it needs and starts when it is enabled."""

    __slots__ = ()


class Waiting(NamedTuple):
    """Its operation waits for its turn at the medium."""

    turn: Turn
    work: Work


class Performing(NamedTuple):
    """Its operation is at the medium."""

    turn: Turn
    work: Work


class Fetching(NamedTuple):
    """What a token represents is on its way to it."""

    fetch: Fetch


class WaitingToSave:
    """Another task's save is under way."""

    __slots__ = ()


class Saving(NamedTuple):
    """Its state is on the way to the disk."""

    save: Save


class Fencing:
    """It has done its work and waits for the tasks that it aborted."""

    __slots__ = ()


class Sanitizing:
    """It has begun a sanitize operation and ends with it."""

    __slots__ = ()


class Resting:
    """Its path is slow: it is held back for some time."""

    __slots__ = ()


class Rested:
    """It has been held back long enough and starts."""

    __slots__ = ()


class Moving:
    """It changes the states of target port groups and ends with that."""

    __slots__ = ()


class Blocked(NamedTuple):
    """It could go on, but an ACA condition keeps it from that; meanwhile it has no turn at the medium.

    before   what it goes on as, or the work that it needs a turn for
    """

    before: Ready | Rested | Work


class Held(NamedTuple):
    """Its command has come to its end, but an ACA condition keeps that from the initiator.

    error    what the command raised, or None
    """

    completed: Completed
    error: StatusError | None


class Over:
    """It has ended."""

    __slots__ = ()


COLLECTING, READY, FENCING, SANITIZING, OVER = Collecting(), Ready(), Fencing(), Sanitizing(), Over()
RESTING, RESTED, MOVING = Resting(), Rested(), Moving()
"""These hold nothing, so one of each serves all tasks."""

Phase = (
    Collecting
    | Ready
    | Waiting
    | Performing
    | Fetching
    | WaitingToSave
    | Saving
    | Fencing
    | Sanitizing
    | Resting
    | Rested
    | Moving
    | Blocked
    | Held
    | Over
)


class Fence:
    """Something that follows when tasks are over.

    outstanding   tasks that are not over, and one more until all of them are known
    then          what follows
    Source: SAM5r21 7.1, SPC4r37 5.13.11.2.6
    """

    __slots__ = ("outstanding", "then")

    def __init__(self, outstanding: int, then: Callable[[], None]) -> None:
        self.outstanding = outstanding
        self.then = then

    @classmethod
    def around(cls, scope: "Collection[OpenTask]", then: Callable[[], None]) -> "Fence":
        """Returns a fence that waits for tasks; it is to be lowered once more when all of them are being aborted."""
        fence = cls(1 + len(scope), then)
        for entry in scope:
            entry.fences.append(fence)
        return fence

    def lower(self) -> None:
        """Notes that one of them is over."""
        self.outstanding -= 1
        if not self.outstanding:
            self.then()


@dataclass(slots=True, eq=False, repr=False)
class OpenTask(Ticket):
    """A task from its admission to its end; only its logical unit changes it. It is the ticket of what it waits for.

    A copy operation that goes on in the background is one too: of the command that began it, which is over. It has no
    place in the task set, and how it ends is told nobody. So is what the copy operation of another unit wants of this
    one in the name of a nexus, but how that ends is told.

    wanted     bytes of Data-Out that the command asks for
    phase      what it waits for
    data_out   what came of the Data-Out
    permitted  True when it goes on while an ACA condition holds up the others
    enabled    True when its place in the task set lets it start
    fate       how it will end
    copying    the list identifier of its copy operation, NO_IDENTIFIER for one without, None when it is none
    background True for a copy operation whose command is over, and for a part of one of another unit
    foreign    True for such a part
    fences     what waits for its end
    Source: SAM5r21 8.7
    """

    task: Task
    command: Command
    cdb: Layout
    wanted: int
    phase: Phase
    data_out: Buffer = b""
    permitted: bool = False
    enabled: bool = False
    fate: Fate = Fate.ITS_OWN
    copying: int | None = None
    background: bool = False
    foreign: bool = False
    fences: list[Fence] = field(default_factory=list)

    @property
    def is_told(self) -> bool:
        """True when somebody wants to know how it ends."""
        return self.foreign or not self.background

    def __repr__(self) -> str:
        return f"<task {self.task.tag} of {self.task.nexus.initiator_port}>"
