"""What the initiator's machine tells whoever drives it: past participles, small and closed.

Pings of the target, R2Ts and numbering never surface. `tag` is the initiator task tag that the request was given.
"""

from typing import NamedTuple

from iscsi_target.iscsi.parameters import Parameters
from iscsi_target.iscsi.responses import AsyncMessage, Response
from iscsi_target.iscsi.text import Pair
from iscsi_target.iscsi.transfer import NO_RESIDUAL, Residual


class LoggedIn(NamedTuple):
    """A connection is in full feature phase.

    parameters    what was negotiated
    answers       what the target answered to each offer, and declared of itself
    """

    cid: int
    tsih: int
    parameters: Parameters
    answers: dict[str, str]


class LoginFailed(NamedTuple):
    """A login is over and nobody is logged in; the connection closes.

    status            class in the high byte, detail in the low one; 0 when it was not the target that refused
    target_address    where a redirection leads to; else empty
    """

    cid: int
    status: int
    reason: str
    target_address: str


class CommandCompleted(NamedTuple):
    """A command has its response.

    response    0 completed at target, 1 target failure; the others are meaningless with the latter
    sense       without its length; empty when there is none
    data        what the command returned
    residual    of Data-Out when there is some, else of Data-In
    bidirectional_read_residual    of Data-In when there is Data-Out too
    Source: RFC7143 11.4
    """

    tag: int
    response: int
    status: int
    sense: bytes
    data: bytes
    residual: Residual = NO_RESIDUAL
    bidirectional_read_residual: Residual = NO_RESIDUAL


class TaskAborted(NamedTuple):
    """A command will have no response, because a task management function of ours has ended it."""

    tag: int


class TaskManagementCompleted(NamedTuple):
    """A task management function has its response.

    information    the Additional Response Information, 3 bytes; RFC7144 4
    """

    tag: int
    response: int
    information: bytes = bytes(3)


class PingAnswered(NamedTuple):
    """The target has answered a NOP-Out."""

    tag: int
    data: bytes


class TextAnswered(NamedTuple):
    """The target has answered a text request; keys may repeat, as SendTargets has it."""

    tag: int
    pairs: list[Pair]


class LoggedOut(NamedTuple):
    """The target has answered a logout; after response 0 the connection closes."""

    tag: int
    response: int
    time2wait: int
    time2retain: int


class MessageReceived(NamedTuple):
    """An Asynchronous Message has come; what it asks for is done already.

    data    sense data with its length, or what a vendor sends
    """

    header: AsyncMessage
    data: bytes


class RequestRejected(NamedTuple):
    """A Reject has come, and a request is over with it.

    reason    as in RFC7143 11.17.1
    header    the 48 bytes that were rejected
    """

    tag: int
    reason: int
    header: bytes


class PduReceived(NamedTuple):
    """A PDU has come that answers no request of the machine, such as the answer to what was sent raw."""

    header: Response
    data: bytes


class ConnectionLost(NamedTuple):
    """A connection is gone, for whatever reason.

    tags    the requests that will not be answered
    kept    those that go on when another connection takes over, or this one comes again
    """

    cid: int
    reason: str
    tags: tuple[int, ...]
    kept: tuple[int, ...] = ()


class TaskLost(NamedTuple):
    """A request that was kept from a lost connection will not be answered after all; it may have been done or not."""

    tag: int
    reason: str


Answer = CommandCompleted | TaskAborted | TaskLost | TaskManagementCompleted | PingAnswered | TextAnswered | LoggedOut
Event = LoggedIn | LoginFailed | Answer | MessageReceived | RequestRejected | PduReceived | ConnectionLost
