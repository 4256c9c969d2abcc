"""What the iSCSI machines tell the target: past participles, small and closed.

Pings, text, numbering and SNACK never surface. LUN and CDB are opaque bytes.

An event is about the session of the connection that was fed, so it names none. The request that it tells of may have
come earlier and on another connection of that session: what answers it goes there, to its `connection`.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from iscsi_target.iscsi.login import Negotiated

if TYPE_CHECKING:  # connections make events
    from iscsi_target.iscsi.connection import Connection


class LoginCompleted(NamedTuple):
    """The initiator may be admitted; the final Login Response waits for the target's decision."""

    negotiated: Negotiated


class LoginFailed(NamedTuple):
    """A login was refused; the response is queued and the connection closes after it."""

    reason: str


@dataclass(slots=True)
class CommandReceived:
    """A SCSI command is in its turn.

    It is not frozen, and made by position, because one is made for every command.

    tag            the initiator task tag
    lun            8 bytes
    cdb            16..260 bytes
    attribute      the task attribute field, 0..4
    expected       bytes of Data-Out that the initiator has for it
    data           all of them, when they came with the command or there are none; None when they are to come
    connection     its allegiance; what answers it goes there
    read, write    the flags of the PDU
    expected_read  bytes of Data-In that the initiator has room for
    cmd_sn         its place among all commands of the session; None for an immediate command
    priority       the command priority, 0..15; 0 is none
    """

    tag: int
    lun: bytes
    cdb: bytes
    attribute: int
    expected: int
    data: bytes | memoryview | None
    connection: "Connection" = field(compare=False)
    read: bool = field(compare=False)
    write: bool = field(compare=False)
    expected_read: int = field(compare=False)
    cmd_sn: int | None = field(default=None, compare=False)
    priority: int = field(default=0, compare=False)


class DataOutCompleted(NamedTuple):
    """Everything that the command wanted, and the initiator has, is there."""

    tag: int
    data: bytearray


class Condition(Enum):
    """Why the data of a command cannot be used; the target turns it into sense data.

    Source: RFC7143 11.4.7.2
    """

    UNEXPECTED_UNSOLICITED_DATA = "unexpected unsolicited data"
    INCORRECT_AMOUNT_OF_DATA = "incorrect amount of data"
    PROTOCOL_SERVICE_CRC_ERROR = "protocol service CRC error"
    SNACK_REJECTED = "SNACK rejected"


class DataOutFailed(NamedTuple):
    """The data of one command was lost or broke the rules; the task is to end with this condition."""

    tag: int
    condition: Condition


class TaskManagementRequested(NamedTuple):
    """A task management function is in its turn.

    connection            that it came on; what answers it goes there
    tag                   of the request itself
    referenced_task_tag   the task that ABORT TASK means
    ref_cmd_sn            its CmdSN
    cmd_sn                of the request itself
    """

    connection: "Connection"
    tag: int
    function: int
    lun: bytes
    referenced_task_tag: int
    ref_cmd_sn: int
    cmd_sn: int


class LogoutRequested(NamedTuple):
    """The initiator wants to leave; the tasks concerned are to be over before the response.

    connection    that asked; what answers it goes there
    tag           of the request
    leaving       the connection that is to be closed, or None for the whole session
    recovers      whether its tasks are to be taken to other connections
    """

    connection: "Connection"
    tag: int
    leaving: "Connection | None"
    recovers: bool = False


class ProtocolViolated(NamedTuple):
    """A PDU was answered with a Reject, or the connection is lost to an error of the initiator.

    connection    the driver's number for it: it may have no CID yet
    """

    connection: int
    reason: str


TaskEvent = CommandReceived | DataOutCompleted | DataOutFailed | TaskManagementRequested
Event = LoginCompleted | LoginFailed | TaskEvent | LogoutRequested | ProtocolViolated
