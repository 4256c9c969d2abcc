"""What an initiator does with each PDU of a target in full feature phase: one function for each kind."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeVar

from iscsi_target.initiator.command import OpenCommand
from iscsi_target.initiator.connection import Connection
from iscsi_target.initiator.errors import violation
from iscsi_target.initiator.events import (
    CommandCompleted,
    Event,
    LoggedOut,
    MessageReceived,
    PduReceived,
    PingAnswered,
    RequestRejected,
    TaskAborted,
    TaskManagementCompleted,
    TextAnswered,
)
from iscsi_target.initiator.open_request import Function, Logout, OpenRequest, Ping, Plug, Reassign
from iscsi_target.initiator.reassignment import FOR_RECOVERY
from iscsi_target.initiator.recoverable import RecoverableCommand
from iscsi_target.initiator.text_request import TextConversation
from iscsi_target.iscsi.framing import Buffer
from iscsi_target.iscsi.header import NO_TAG, BasicHeader, Opcode
from iscsi_target.iscsi.parameters import FAST_ABORT
from iscsi_target.iscsi.requests import NopOut, SnackRequest
from iscsi_target.iscsi.responses import (
    AsyncMessage,
    DataIn,
    LoginResponse,
    LogoutResponse,
    NopIn,
    ReadyToTransfer,
    Reject,
    Response,
    ScsiResponse,
    TaskManagementResponse,
    TextResponse,
)
from iscsi_target.iscsi.service_requests import LOGOUT_DONE
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement

if TYPE_CHECKING:  # a session uses the functions
    from iscsi_target.initiator.session import Session

ASYNC_LOGOUT_REQUEST: Final = 1  # RFC7143 11.9.1
ASYNC_NEGOTIATION_REQUEST: Final = 4
ASYNC_TASKS_TERMINATED: Final = 5
OF_REQUESTS: Final = frozenset(
    {
        Opcode.NOP_OUT,
        Opcode.SCSI_COMMAND,
        Opcode.TASK_MANAGEMENT_REQUEST,
        Opcode.TEXT_REQUEST,
        Opcode.LOGOUT_REQUEST,
    }
)
"""What a Reject ends; the task of a rejected Data-Out has its own response."""

OF_ONE_UNIT: Final = frozenset(
    {TaskManagement.ABORT_TASK_SET, TaskManagement.CLEAR_TASK_SET, TaskManagement.LOGICAL_UNIT_RESET}
)
OF_ALL_UNITS: Final = frozenset(
    {TaskManagement.TARGET_WARM_RESET, TaskManagement.TARGET_COLD_RESET, TaskManagement.I_T_NEXUS_RESET}
)

MatterT = TypeVar("MatterT", OpenCommand, Function, Ping, Logout, TextConversation, Reassign)


def has_status(header: Response) -> bool:
    """Says whether a PDU has a StatSN of its own, or only tells the next one.

    Source: RFC7143 11.7.2, 11.8, 11.19
    """
    match header:
        case ReadyToTransfer():
            return False
        case DataIn(status_present=present):
            return present
        case NopIn(initiator_task_tag=tag):
            return tag != NO_TAG
        case _:
            return True


def _matter(session: "Session", connection: Connection, tag: int, kind: type[MatterT]) -> MatterT | None:
    """Returns what a PDU is about, or None when that is no request of the machine; raises ProtocolError for another."""
    request = session.requests.get(tag)
    if request is None:
        return None
    if request.connection is not connection or request.sent is None:
        raise violation(f"a PDU is about the request {tag:#x}, which did not go out on its connection")
    if not isinstance(request.matter, kind):
        raise violation(f"the request {tag:#x} has an answer that belongs to a {kind.__name__}")
    return request.matter


def _unclaimed(header: Response, data: Buffer) -> Iterable[Event]:
    return (PduReceived(header, bytes(data)),)


def _late(session: "Session", header: DataIn | ReadyToTransfer, data: Buffer) -> Iterable[Event]:
    """Takes what belongs to no open command; what was asked for again may come twice, and after the end."""
    has_been_answered = session.recovers and not session.is_raw(header.initiator_task_tag)
    return () if has_been_answered and not has_status(header) else _unclaimed(header, data)


def _data_in(session: "Session", connection: Connection, header: DataIn, data: Buffer) -> Iterable[Event]:
    command = _matter(session, connection, header.initiator_task_tag, OpenCommand)
    if command is None:
        return _late(session, header, data)
    completed = command.take(header, data)
    _follow(session, connection, command)
    return () if completed is None else _complete(session, completed)


def _scsi_response(session: "Session", connection: Connection, header: ScsiResponse, data: Buffer) -> Iterable[Event]:
    command = _matter(session, connection, header.initiator_task_tag, OpenCommand)
    if command is None:
        return _unclaimed(header, data)
    completed = command.finish(header, bytes(data))
    _follow(session, connection, command)
    return () if completed is None else _complete(session, completed)


def _follow(session: "Session", connection: Connection, command: OpenCommand) -> None:
    if isinstance(command, RecoverableCommand):
        session.recovery.follow(connection, command)


def _complete(session: "Session", completed: CommandCompleted) -> Iterable[Event]:
    session.forget(completed.tag)
    return (completed,)


def _ready_to_transfer(
    session: "Session", connection: Connection, header: ReadyToTransfer, data: Buffer
) -> Iterable[Event]:
    command = _matter(session, connection, header.initiator_task_tag, OpenCommand)
    if command is None:
        return _late(session, header, data)
    parts = command.solicited(header)
    _follow(session, connection, command)
    if _is_being_ended(session, header.initiator_task_tag):
        session.requests[header.initiator_task_tag].unsent += parts
        return ()
    for part in parts:
        connection.send(part.header, part.data)
    return ()


def _is_being_ended(session: "Session", tag: int) -> bool:
    """Says whether a function that is not answered is to end a command, and no Data-Out may follow it.

    Source: RFC7143 4.2.3.4
    """
    task = session.requests[tag]
    if session.parameters.task_reporting != FAST_ABORT:
        return False
    there = [each.matter for each in session.requests.values() if each.connection is task.connection]
    functions = [matter for matter in there if isinstance(matter, Function)]
    return any(function.function != TaskManagement.ABORT_TASK and _ends(function, tag, task) for function in functions)


def _task_management_response(
    session: "Session", connection: Connection, header: TaskManagementResponse, data: Buffer
) -> Iterable[Event]:
    tag = header.initiator_task_tag
    if tag in session.requests and isinstance(session.requests[tag].matter, Reassign):
        _matter(session, connection, tag, Reassign)
        return session.reassignment.reassigned(tag, header.response)
    function = _matter(session, connection, tag, Function)
    if function is None:
        return _unclaimed(header, data)
    if header.response == ManagementResponse.TASK_DOES_NOT_EXIST and session.reassignment.follow(tag, function):
        return ()
    session.forget(tag)
    completed = TaskManagementCompleted(tag, header.response, header.additional_response_information)
    ended = [own for own, task in session.requests.items() if _ends(function, own, task)]
    if header.response == ManagementResponse.TASK_DOES_NOT_EXIST and session.recovers:
        ended = [own for own in ended if session.requests[own].connection is connection]
    elif header.response != ManagementResponse.FUNCTION_COMPLETE:
        ended.clear()
        _send_unsent(session, connection)
    ended = session.reassignment.without_moving(ended)
    for own in ended:
        session.forget(own)
    return (*(TaskAborted(own) for own in ended), completed)


def _send_unsent(session: "Session", connection: Connection) -> None:
    """Sends the Data-Out of commands that a function was to end, and no other function is."""
    for tag, task in session.requests.items():
        if task.unsent and task.connection is connection and not _is_being_ended(session, tag):
            for part in task.unsent:
                connection.send(part.header, part.data)
            task.unsent.clear()


def _ends(function: Function, tag: int, task: OpenRequest) -> bool:
    """Says whether a function that is complete has ended a command.

    Source: RFC7143 11.5.1, 11.6.1, RFC7144 4
    """
    if not isinstance(task.matter, OpenCommand) or task.sent is None or task.sent >= function.sent:
        return False
    if task.matter.answered:
        return False
    if function.function == TaskManagement.ABORT_TASK:
        return tag == function.referenced_task_tag
    same_unit = task.matter.command.lun == function.lun
    return function.function in OF_ALL_UNITS or (function.function in OF_ONE_UNIT and same_unit)


def _nop_in(session: "Session", connection: Connection, header: NopIn, data: Buffer) -> Iterable[Event]:
    tag = header.initiator_task_tag
    if tag != NO_TAG:
        if tag in session.recovery.pings:
            return ()
        if tag in session.requests and isinstance(session.requests[tag].matter, Plug):
            session.forget(tag)
            return ()
        if _matter(session, connection, tag, Ping) is None:
            return _unclaimed(header, data)
        session.forget(tag)
        return (PingAnswered(tag, bytes(data)),)
    if header.target_transfer_tag != NO_TAG:
        answer = NopOut(
            immediate=True,
            lun=header.lun,
            initiator_task_tag=NO_TAG,
            target_transfer_tag=header.target_transfer_tag,
            cmd_sn=session.numbers.next,
        )
        connection.answer_ping(answer)
    return ()


def _text_response(session: "Session", connection: Connection, header: TextResponse, data: Buffer) -> Iterable[Event]:
    tag = header.initiator_task_tag
    conversation = _matter(session, connection, tag, TextConversation)
    if conversation is None:
        return _unclaimed(header, data)
    if not conversation.receive(header, bytes(data)):
        session.converse(tag, conversation)
        return ()
    session.forget(tag)
    return (TextAnswered(tag, conversation.answered),)


def _logout_response(
    session: "Session", connection: Connection, header: LogoutResponse, data: Buffer
) -> Iterable[Event]:
    tag = header.initiator_task_tag
    logout = _matter(session, connection, tag, Logout)
    if logout is None:
        return _unclaimed(header, data)
    session.forget(tag)
    if logout.reason == FOR_RECOVERY:
        return session.reassignment.logged_out(logout, connection, done=header.response == LOGOUT_DONE)
    event = LoggedOut(tag, header.response, header.time2wait, header.time2retain)
    if header.response != LOGOUT_DONE:
        session.leaving = False
        return (event,)
    return (event, *session.leave(logout))


def _async_message(session: "Session", connection: Connection, header: AsyncMessage, data: Buffer) -> Iterable[Event]:
    """Does what a message asks for.

    R2Ts are satisfied when they come, so when others end tasks there is no Data-Out left to stop.

    Source: RFC7143 11.9.1
    """
    if header.async_event == ASYNC_LOGOUT_REQUEST and session.settings.obeys and not session.leaving:
        session.log_out(connection)
    elif header.async_event == ASYNC_NEGOTIATION_REQUEST and not session.will_ask(connection):
        session.ask((), connection)
    elif header.async_event == ASYNC_TASKS_TERMINATED:
        connection.answer_ping(
            NopOut(immediate=True, lun=header.lun, initiator_task_tag=NO_TAG, cmd_sn=session.numbers.next)
        )
    return (MessageReceived(header, bytes(data)),)


def _reject(session: "Session", connection: Connection, header: Reject, data: Buffer) -> Iterable[Event]:
    """Ends the request whose PDU was rejected; a rejected PDU of another kind is for whoever sent it.

    Source: RFC7143 11.17
    """
    rejected = bytes(data[: BasicHeader.size])
    if len(rejected) < BasicHeader.size:
        raise violation("a Reject does not say what it rejects")
    basic = BasicHeader.unpack(rejected)
    if session.recovers and basic.opcode == Opcode.SNACK_REQUEST:
        session.recovery.refused(connection, header, SnackRequest.unpack(rejected))
    tag = basic.initiator_task_tag
    request = session.requests.get(tag)
    if request is None or basic.opcode not in OF_REQUESTS or basic.opcode != request.opcode or request.sent is None:
        return _unclaimed(header, data)
    if session.recovers and session.recovery.retry_damaged(tag, header.reason):
        return ()
    if session.reassignment.asked_for(request):
        return ()  # there were too many at a time; it is sent again
    session.forget(tag)
    if isinstance(request.matter, Logout):
        session.leaving = False
    return (RequestRejected(tag, header.reason, rejected),)


def handle(session: "Session", connection: Connection, header: Response, data: Buffer) -> Iterable[Event]:
    """Takes one PDU and returns what it brings about; raises ProtocolError when it cannot be."""
    match header:
        case DataIn():
            return _data_in(session, connection, header, data)
        case ScsiResponse():
            return _scsi_response(session, connection, header, data)
        case ReadyToTransfer():
            return _ready_to_transfer(session, connection, header, data)
        case NopIn():
            return _nop_in(session, connection, header, data)
        case TaskManagementResponse():
            return _task_management_response(session, connection, header, data)
        case TextResponse():
            return _text_response(session, connection, header, data)
        case LogoutResponse():
            return _logout_response(session, connection, header, data)
        case AsyncMessage():
            return _async_message(session, connection, header, data)
        case Reject():
            return _reject(session, connection, header, data)
        case LoginResponse():
            raise violation("a Login Response came after the login")
