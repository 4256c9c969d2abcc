"""What the target tells its driver: a closed set of imperatives, and the events that are worth a log line."""

from collections.abc import Sequence
from typing import NamedTuple

from iscsi_target.iscsi.connection import Remark
from iscsi_target.iscsi.framing import Buffer
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.state.sanitization import Sanitization
from iscsi_target.scsi.state.task import Milestone, Perform, Persist
from iscsi_target.scsi.state.timeline import Entry

# Events: what happened


class SessionStarted(NamedTuple):
    """An initiator is in full feature phase.

    target    the target's name, or empty for a discovery session
    """

    connection: int
    initiator: str
    isid: str
    target: str
    tsih: int


class ConnectionJoined(NamedTuple):
    """A session has one more connection in full feature phase."""

    connection: int
    initiator: str
    isid: str
    target: str
    tsih: int


class ConnectionLeft(NamedTuple):
    """A connection was logged out of a session that goes on, explicitly or by a login that takes its place."""

    connection: int
    initiator: str
    isid: str
    target: str
    tsih: int


class ConnectionLost(NamedTuple):
    """A connection is gone of a session that goes on, at ErrorRecoveryLevel 2; its tasks may be taken elsewhere."""

    connection: int
    initiator: str
    isid: str
    target: str
    tsih: int


class SessionEnded(NamedTuple):
    """A session is over and its tasks are too."""

    initiator: str
    isid: str
    target: str
    tsih: int


class LoginFailed(NamedTuple):
    """An initiator was not let in."""

    connection: int
    reason: str


class ProtocolViolated(NamedTuple):
    """An initiator broke a rule; it got a Reject or lost the connection."""

    connection: int
    reason: str


class ConnectionTimedOut(NamedTuple):
    """A connection was cut because its login, or the answer to a ping, did not come."""

    connection: int
    reason: str


class ReservationNoted(NamedTuple):
    """The timeline of a unit's reservations has a new entry.

    connection   the connection that gets the status, or None for a command of the operator
    tag          the initiator task tag
    """

    connection: int | None
    tag: int
    unit: str
    entry: Entry


class SanitizeNoted(NamedTuple):
    """A sanitize operation of a unit has come to a milestone.

    initiator   who asked for it, or empty when it came by itself
    """

    unit: str
    milestone: Milestone
    sanitization: Sanitization
    initiator: str


class FaultFired(NamedTuple):
    """A rule made the target misbehave.

    rule    its name
    text    the rule as it was written
    pdu     the kind of PDU that it fired for
    tag     that PDU's initiator task tag, or None
    times   how often the rule has fired by now
    """

    connection: int
    rule: str
    text: str
    pdu: str
    tag: int | None
    times: int


Event = (
    SessionStarted
    | SessionEnded
    | ConnectionJoined
    | ConnectionLeft
    | ConnectionLost
    | LoginFailed
    | ProtocolViolated
    | ConnectionTimedOut
    | ReservationNoted
    | SanitizeNoted
    | FaultFired
)

# Actions: do it


class Send(NamedTuple):
    """The buffers are to go out on the connection in order; they are not changed afterwards.

    remarks   what a trace is to say of some of the PDUs in the buffers, in their order
    more      True when more would have been queued: sent() is to be called when the driver has taken these
    """

    connection: int
    buffers: list[Buffer]
    remarks: Sequence[Remark] = ()
    more: bool = False


class Fill(NamedTuple):
    """The next bytes that come on the connection are best put there and given to received() as a view of it.

    place   the rest of a long PDU; nobody has to put anything there
    """

    connection: int
    place: memoryview


class Flow(NamedTuple):
    """From now on the connection is read, and what is sent on it goes out, only as it says; at first both are so.

    When it is not read, nothing more is given to received(). What was to be sent before still goes out.
    """

    connection: int
    reads: bool
    writes: bool


class Close(NamedTuple):
    """The connection is to be closed after what was sent on it; the target has forgotten it already."""

    connection: int


class Announce(NamedTuple):
    """Something happened that an operator may want to know."""

    event: Event


class Operated(NamedTuple):
    """A command of the operator is over.

    number   as it was given to operate()
    entry    what it came to: its status is GOOD, or nothing was changed
    """

    number: int
    entry: Entry


Action = Send | Fill | Flow | Close | Perform | Persist | Announce | Operated


class Order(NamedTuple):
    """What an operator wants done to the reservations of a unit.

    action   CLEAR, PREEMPT or PREEMPT AND ABORT
    key      the registrations that are to be preempted, 1..2**64-1
    """

    unit: str
    action: OutAction
    key: int = 0


class SessionSummary(NamedTuple):
    """One session as an operator sees it.

    target       the target's name, or empty for a discovery session
    open_tasks   commands without a response yet
    """

    initiator: str
    isid: str
    target: str
    portal_group_tag: int
    tsih: int
    connections: tuple[int, ...]
    open_tasks: int
