"""A request of an initiator that is not answered: what it is about, where it went, and when."""

from dataclasses import dataclass, field
from typing import NamedTuple

from iscsi_target.initiator.command import DataPart, OpenCommand
from iscsi_target.initiator.connection import Connection
from iscsi_target.initiator.text_request import TextConversation
from iscsi_target.iscsi.framing import Buffer
from iscsi_target.iscsi.requests import NopOut, Request


class Function(NamedTuple):
    """A task management function.

    sent    how many requests went out before it
    """

    function: int
    lun: bytes
    referenced_task_tag: int
    sent: int


class Ping(NamedTuple):
    """A NOP-Out that wants an answer."""


class Logout(NamedTuple):
    """A logout.

    leaving    the connection that is to be closed, unless it is the whole session
    """

    reason: int
    leaving: Connection


class Reassign(NamedTuple):
    """A TASK REASSIGN of the session's own.

    tag      of the command that is to go on on another connection
    checks   whether it does already, and this only shows that the target still has it
    """

    tag: int
    checks: bool = False


class Plug(NamedTuple):
    """A NOP-Out of the session's own that takes a CmdSN of which the target may wait; done when it is counted."""


Matter = OpenCommand | Function | Ping | Logout | TextConversation | Reassign | Plug


@dataclass(slots=True, eq=False)
class OpenRequest:
    """A request that is not answered.

    connection    its allegiance
    opcode        of its PDU
    sent          how many requests had gone out before it did; None while it waits for the window
    cmd_sn        that it went out with
    immediate     whether it took no CmdSN
    last          what was sent last for it: header, data, additional headers
    quiet         whether nothing of it has come since the session last looked
    tries         how often it has been sent again on its connection
    moves         how often it has been taken to another connection
    doubtful      whether a function has ended it, unless it was over at the target by then
    unsent        Data-Out that is asked for, and not sent while a function is to end the command
    """

    matter: Matter
    connection: Connection
    opcode: int
    sent: int | None = None
    cmd_sn: int = 0
    immediate: bool = False
    last: tuple[Request, Buffer, bytes] = (NopOut(), b"", b"")
    quiet: bool = False
    tries: int = 0
    moves: int = 0
    doubtful: bool = False
    unsent: list[DataPart] = field(default_factory=list)
