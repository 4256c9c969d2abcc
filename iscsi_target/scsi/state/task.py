"""A task and everything that passes between a logical unit, its command handlers and the target: one closed vocabulary.

The target hands a `Task` or a `ManagementRequest` to a logical unit and executes the actions that come back. A handler
returns what its command comes to: `Done`, `Work` for the medium, `Change` of the reservations, `Save` for the state
file, or `Fetch` for what another unit has. Values only.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import NamedTuple

from iscsi_target.scsi.layouts.copy_cdb import ReadForCopy, WriteForCopy
from iscsi_target.scsi.layouts.token_cdb import FetchRod
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.operations import Buffer, Operation, Outcome
from iscsi_target.scsi.reservations.reservation_request import Transition
from iscsi_target.scsi.reservations.reservations import Reservations
from iscsi_target.scsi.state.copy_managers import Visit
from iscsi_target.scsi.state.port_groups import AccessState
from iscsi_target.scsi.state.sanitization import Sanitization
from iscsi_target.scsi.state.timeline import Entry
from iscsi_target.scsi.status import InternalTargetFailure, Sense, Status, StatusError


class TaskAttribute(IntEnum):
    """How a task is ordered among others; the values are those of the SCSI Command PDU.

    Source: SAM5r21 8.6, RFC7143 11.3.1
    """

    UNTAGGED = 0
    SIMPLE = 1
    ORDERED = 2
    HEAD_OF_QUEUE = 3
    ACA = 4


@dataclass(slots=True, eq=False)
class Task:
    """One command on its way through a logical unit; compared by identity, and changed by nobody.

    It is not frozen, because one is made for every command and a frozen one takes three times as long to make.

    nexus             whose it is
    tag               unique among the nexus' open tasks
    cdb               16..260 bytes as received
    attribute         ordering
    expects_data      True while the transport can deliver Data-Out for it
    luns              the LUNs that this nexus sees, ascending, for REPORT LUNS
    expected_length   bytes that the initiator is ready to send, or None when the transport does not say
    received_s        when it came, in seconds since the epoch
    data_out          all the Data-Out that the initiator has, when it came with the command; None when it is to come
    priority          1 the highest to 15; 0 none, which is lower
    Source: SAM5r21 4.5.6
    """

    nexus: Nexus
    tag: int
    cdb: bytes
    attribute: TaskAttribute = TaskAttribute.SIMPLE
    expects_data: bool = False
    luns: tuple[int, ...] = ()
    expected_length: int | None = None
    received_s: float = 0.0
    data_out: Buffer | None = None
    priority: int = 0


class Ticket:
    """Stands for a Perform or a Persist until its result comes back; compared by identity.

    Only the unit that gave it out knows what is behind it. A unit may give it out again when its result is back.
    """

    __slots__ = ()


class UnitState(NamedTuple):
    """What of a logical unit outlives the process.

    mode_pages     saved mode pages, (page code, subpage code) -> whole page as MODE SENSE would return it
    reservations   persistent reservations that are to survive a power loss, or None
    sanitization   a sanitize operation that has not ended or has failed, or None
    identifying_information   INFORMATION TYPE -> what was set
    """

    mode_pages: Mapping[tuple[int, int], bytes] = MappingProxyType({})
    reservations: Reservations | None = None
    sanitization: Sanitization | None = None
    identifying_information: Mapping[int, bytes] = MappingProxyType({})


# What a handler is given and what it may return


class Call(NamedTuple):
    """What a handler may know besides the device and the CDB.

    data_out          what the initiator sent, at most what the command asked for
    luns              as in Task
    expected_length   as in Task: WRITE SAME and COMPARE AND WRITE refuse more than they ask for
    received_s        as in Task
    attached          the nexuses that have a session
    """

    nexus: Nexus
    data_out: Buffer
    luns: tuple[int, ...]
    expected_length: int | None = None
    received_s: float = 0.0
    attached: Collection[Nexus] = ()


class Done(NamedTuple):
    """The command is over.

    data_in     cut to the allocation length already
    attention   ASC << 8 | ASCQ of a unit attention for every other nexus, or None
    sense       what is said besides, or None
    """

    data_in: Buffer = b""
    status: Status = Status.GOOD
    attention: int | None = None
    sense: Sense | None = None


GOOD = Done()


def _done(_: Outcome) -> Done:
    return GOOD


def _nothing(_: StatusError | None) -> None:
    """There is nothing to be set right."""


class Work(NamedTuple):
    """The command needs the medium; finish turns the outcome into Done or raises StatusError.

    attention   as in Done, for what has changed already: it is established before the operation
    finish      may return another Work or Fetch, which goes on with the command
    abandon     is called instead of finish when the medium cannot answer, with what the command ends with then, or with
                None when the command is aborted
    failure     makes what the command ends with when the medium cannot answer; None leaves that to what has failed
    """

    operation: Operation
    finish: Callable[[Outcome], "Done | Work | Fetch"] = _done
    attention: int | None = None
    abandon: Callable[[StatusError | None], None] = _nothing
    failure: Callable[[], StatusError] | None = None


Asked = FetchRod | ReadForCopy | WriteForCopy


class Fetch(NamedTuple):
    """The command needs what a token represents, maybe of another unit, or another unit to read or write for it.

    unit      the name of the unit that is asked, or None for the one that asks
    data_out  the token, or what is to be written
    finish    is given the data, or None when it has failed; may return as that of Work
    abandon   is called instead of finish when the command is aborted
    visit     in whose name the unit is asked, or None where a token is enough
    """

    unit: str | None
    cdb: Asked
    data_out: Buffer
    finish: Callable[[Buffer | None], "Done | Work | Fetch"]
    abandon: Callable[[StatusError | None], None]
    visit: Visit | None = None


class StartCopy(NamedTuple):
    """The command has begun a copy operation, which may be aborted by its list identifier.

    identifier  the list identifier, or None for one that cannot be aborted by it
    immediate   what the command ends with when the copy operation goes on in the background (IMMED), else None
    """

    first: Done | Work | Fetch
    identifier: int | None
    immediate: Done | None = None


class StopCopy(NamedTuple):
    """The command aborts a copy operation of its nexus, and is over when that is."""

    identifier: int


class Change(NamedTuple):
    """The command changes the persistent reservations and is over when the consequences are carried out."""

    transition: Transition


class Begin(NamedTuple):
    """The command has begun a sanitize operation, which is on disk and goes on whatever becomes of the command.

    immediate   True when the command is over already (IMMED), False when it is with the operation
    """

    sanitization: Sanitization
    immediate: bool


class Leave(NamedTuple):
    """The command lets the unit be used again, which is on disk, although a sanitize operation has failed."""

    failed: Sanitization


class Save(NamedTuple):
    """The command needs the state file.

    finish    adopts the change once it is on disk, and may then need the medium
    failure   what the command ends with when it cannot be stored
    """

    state: UnitState
    finish: Callable[[], "Adopted"]
    failure: Callable[[], StatusError] = InternalTargetFailure


class Pause(NamedTuple):
    """The command may go on, but is held back for some seconds first."""

    seconds: float


class Regroup(NamedTuple):
    """The command changes the states of target port groups and is over when they are reached."""

    wanted: Mapping[int, AccessState]


Adopted = Done | Work | Change | Begin | Leave
Reply = Adopted | Save | Pause | Regroup | Fetch | StartCopy | StopCopy


# What a logical unit tells the target to do


class Collect(NamedTuple):
    """The task wants Data-Out; the transport fetches at most length_bytes and calls data_received."""

    task: Task
    length_bytes: int


class Perform(NamedTuple):
    """The medium of the unit is to perform the operation and report to finished()."""

    ticket: Ticket
    operation: Operation
    unit: str


class Persist(NamedTuple):
    """The state of the unit is to be on disk before finished() is called with None."""

    ticket: Ticket
    state: UnitState
    unit: str


class Bring(NamedTuple):
    """The unit asks another one, or itself, which is to answer; finished() is to be called with the data.

    unit, cdb, data_out, visit    as in Fetch
    """

    ticket: Ticket
    unit: str | None
    cdb: Asked
    data_out: Buffer
    visit: Visit | None = None


class Rest(NamedTuple):
    """The unit wants rested(ticket) to be called that many seconds later."""

    ticket: Ticket
    seconds: float


class Forget(NamedTuple):
    """The unit does not want rested(ticket) to be called any more; there may be thousands of them that end early."""

    ticket: Ticket


@dataclass(slots=True)
class Completed:
    """The task is over and its status goes to the initiator; the dispatcher adds what it is about.

    sense      sense data without the two-byte length that iSCSI puts before it; empty unless CHECK CONDITION
    data_in    the whole data that the command returns, whatever the initiator expects
    wanted     bytes of Data-Out that the CDB asks for; with the expected length it gives the residual
    about      what of the timeline belongs to the status, or None
    """

    task: Task
    status: Status
    sense: bytes = b""
    data_in: Buffer = b""
    wanted: int = 0
    about: Entry | None = None


class Aborted(NamedTuple):
    """The task is over and no status goes out."""

    task: Task


class Function(Enum):
    """Which tasks a management request ends, and what else it does.

    Source: SAM5r21 7
    """

    ABORT_TASK = "abort task"
    ABORT_TASK_SET = "abort task set"
    CLEAR_ACA = "clear ACA"
    CLEAR_TASK_SET = "clear task set"
    LOGICAL_UNIT_RESET = "logical unit reset"
    TARGET_RESET = "target reset"
    NEXUS_LOSS = "nexus loss"
    NEXUS_RESET = "I_T nexus reset"


class ManagementRequest(NamedTuple):
    """A task management function for one logical unit.

    number     chosen by the target; comes back in Managed
    tag        the task that ABORT TASK means
    spared     tags of tasks of the same nexus that came in the meantime and are not meant
    """

    number: int
    function: Function
    nexus: Nexus
    tag: int | None = None
    spared: frozenset[int] = frozenset()


class Managed(NamedTuple):
    """Every task in the scope of the request is over, its operations at the medium included.

    found   False when ABORT TASK found no such task, or CLEAR ACA a condition that another nexus has to clear
    """

    number: int
    found: bool = True


class Noted(NamedTuple):
    """The timeline has a new entry on account of the task; its status follows."""

    task: Task
    entry: Entry


class Milestone(Enum):
    """What happened to a sanitize operation; the value goes into the log."""

    BEGUN = "has begun"
    ENDED = "has ended"
    FAILED = "has failed"
    FAILURE_LEFT = "has failed, and an initiator takes the unit as it is"


class Reached(NamedTuple):
    """A sanitize operation of the unit has come to a milestone.

    nexus   who asked for it, or None when it came by itself
    """

    milestone: Milestone
    sanitization: Sanitization
    nexus: Nexus | None = None


UnitAction = Collect | Perform | Persist | Bring | Rest | Forget | Completed | Aborted | Managed | Noted | Reached
