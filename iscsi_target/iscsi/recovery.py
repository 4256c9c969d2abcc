"""Connection recovery, ErrorRecoveryLevel 2: the tasks of a connection that is gone, and their way to another one.

What a session does on a lost connection goes on: operations at the medium end, and what they come to is kept by the
connection's retention, as if it had gone out. The initiator logs the connection out for recovery, and then takes each
task to another connection, which gets all that the initiator has not seen: R2Ts for what has not come, Data-In, and the
status. Only SCSI commands are taken along; a ping or an exchange of text is asked anew.

How long all this is kept, and of how many connections, is for the target to say; how much is a limit here.

Source: RFC7143 7.1.4.3, 7.2.2
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING

from iscsi_target.iscsi import scsi_requests
from iscsi_target.iscsi.connection import Connection, Departure
from iscsi_target.iscsi.events import CommandReceived, Condition, DataOutFailed, Event
from iscsi_target.iscsi.framing import Buffer, Incoming, RawPdu
from iscsi_target.iscsi.open_task import OpenTask
from iscsi_target.iscsi.requests import AnyRequest, ScsiCommand, TaskManagementRequest
from iscsi_target.iscsi.responses import DataIn, TaskManagementResponse
from iscsi_target.iscsi.retention import Leftover, Retention
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.iscsi.transfer import NO_DATA_OUT

if TYPE_CHECKING:  # a session has these functions in its tables
    from iscsi_target.iscsi.session import Session

MAX_KEPT_BYTES = 32 << 20  # of Data-In that all lost connections of a session had sent: two connections' worth


class _Nowhere:
    """The tap of a connection that is gone: nothing comes, and what is sent falls away once it is kept."""

    def keeps(self, incoming: Incoming) -> bool:
        incoming.position = incoming.end
        return True

    def receive(self, connection: Connection, pdu: RawPdu) -> Iterable[Event]:
        return ()

    def send(self, connection: Connection, header: bytes, data: Buffer) -> None:
        pass


_NOWHERE = _Nowhere()


class LostConnections:
    """The connections of a session that are gone and whose tasks may be taken elsewhere, the oldest first.

    closing    True when the session ends with its connections all the same
    """

    def __init__(self) -> None:
        self.closing = False
        self._logged_out: dict[Connection, bool] = {}

    def __len__(self) -> int:
        return len(self._logged_out)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._logged_out)

    def of_cid(self, cid: int) -> Connection | None:
        """Returns the connection of a CID that has not been logged out, or None."""
        return next((each for each, done in self._logged_out.items() if each.cid == cid and not done), None)

    def is_logged_out(self, connection: Connection) -> bool:
        """Returns True for a connection whose tasks may be taken elsewhere."""
        return self._logged_out.get(connection, False)

    def add(self, connection: Connection) -> None:
        """Takes in a connection that is gone; of the oldest no Data-In is kept when there is too much."""
        self._logged_out[connection] = False
        excess = sum(_kept(each).kept_bytes for each in self) - MAX_KEPT_BYTES
        for each in self:
            if excess > 0:
                before = _kept(each).kept_bytes
                _kept(each).shrink(max(0, before - excess))
                excess -= before - _kept(each).kept_bytes

    def log_out(self, connection: Connection) -> None:
        """Notes that a connection has been logged out for recovery.

        Source: RFC7143 11.14.1
        """
        self._logged_out[connection] = True

    def forget(self, connection: Connection) -> None:
        """Keeps a connection no longer."""
        self._logged_out.pop(connection, None)


def leave_behind(session: "Session", connection: Connection) -> None:
    """Takes a connection for lost: its tasks go on without it, and are owed no data any more.

    Source: RFC7143 7.1.4.3
    """
    assert session.lost is not None
    connection.phase = Departure(session.numbers)
    connection.tap = _NOWHERE
    session.lose(connection)
    connection.congested = False
    _kept(connection).leave()
    session.lost.add(connection)
    for tag, task in list(session.tasks.items()):
        if task.connection is connection:
            task.transfer.forgo()
            if task.response is not None:
                session.finish(tag, task, task.response)


def scsi_command(session: "Session", connection: Connection, pdu: RawPdu) -> Iterable[Event]:
    """Takes a command; who uses a tag again has had the status of the command that had it before.

    raises    ProtocolError for one that cannot become a task
    Source: RFC7143 11.2.1.8
    """
    header = pdu.basic
    assert isinstance(header, ScsiCommand)
    if header.initiator_task_tag not in session.tasks:
        for each in _all(session):
            _kept(each).outdate(header.initiator_task_tag)
    return scsi_requests.scsi_command(session, connection, pdu)


def task_management_request(session: "Session", connection: Connection, pdu: RawPdu) -> Iterable[Event]:
    """Takes a task to this connection, or tells of any other task management function.

    raises    ProtocolError when too many are not answered yet
    Source: RFC7143 11.5
    """
    header = pdu.basic
    assert isinstance(header, TaskManagementRequest)
    if header.function != TaskManagement.TASK_REASSIGN:
        return scsi_requests.task_management_request(session, connection, pdu)
    response = _judge(session, header.referenced_task_tag)
    connection.send(TaskManagementResponse(initiator_task_tag=header.initiator_task_tag, response=response))
    if response is not ManagementResponse.FUNCTION_COMPLETE:
        return ()
    task = session.tasks.get(header.referenced_task_tag)
    if task is not None:
        return _resume(session, connection, task, header.exp_data_sn)
    return _deliver(session, connection, header)


def _judge(session: "Session", tag: int) -> ManagementResponse:
    """Returns the answer to a TASK REASSIGN of a tag.

    Source: RFC7143 7.2.2, 11.6.1
    """
    assert session.lost is not None
    task = session.tasks.get(tag)
    if task is None:
        holder = next((each for each in _all(session) if _kept(each).holds(tag)), None)
    else:
        holder = task.connection if task.connection in _all(session) else None
    if holder is None:
        return ManagementResponse.TASK_DOES_NOT_EXIST
    if not session.lost.is_logged_out(holder):
        return ManagementResponse.TASK_STILL_ALLEGIANT
    return ManagementResponse.FUNCTION_COMPLETE


def _resume(session: "Session", connection: Connection, task: OpenTask, seen: int) -> Iterable[Event]:
    """Goes on with a task on another connection; what the initiator owes for it is asked for anew."""
    tag = task.received.tag
    _kept(task.connection).discard(tag)
    task.received.connection = connection
    task.transfer.forgo()
    task.transfer.resume(seen)
    return scsi_requests.go_on(session, tag, task)


def _deliver(session: "Session", connection: Connection, request: TaskManagementRequest) -> Iterable[Event]:
    """Sends what a command came to that is done."""
    assert session.lost is not None
    tag, parameters = request.referenced_task_tag, connection.parameters
    kept = next(_kept(each) for each in session.lost if _kept(each).holds(tag))
    leftover = kept.withdraw(
        tag, request.exp_data_sn, burst=parameters.max_burst_length, segment=parameters.initiator_max_recv
    )
    if leftover is None:
        return _give_up(session, connection, tag)
    _send(connection, tag, leftover)
    return ()


def _send(connection: Connection, tag: int, leftover: Leftover) -> None:
    for number, (offset, data, final) in enumerate(leftover.parts, leftover.begin):
        header = DataIn(final=final, initiator_task_tag=tag, data_sn=number, buffer_offset=offset)
        connection.send(header, data, status=False)
    connection.send(leftover.status, leftover.sense)


def _give_up(session: "Session", connection: Connection, tag: int) -> Iterable[Event]:
    """Has a command end with an error whose data is not kept any more.

    Source: RFC7143 11.4.7.2
    """
    command = CommandReceived(tag, bytes(8), bytes(16), 0, 0, b"", connection, False, False, 0)
    session.tasks[tag] = OpenTask(command, NO_DATA_OUT)
    return (DataOutFailed(tag, Condition.SNACK_REJECTED),)


def _all(session: "Session") -> Iterable[Connection]:
    assert session.lost is not None
    return chain(session.lost, session.connections.values())


def _kept(connection: Connection) -> Retention:
    """Returns what a connection has sent; at this level every one keeps it."""
    assert connection.retention is not None
    return connection.retention


HANDLERS: Mapping[type[AnyRequest], Callable[["Session", Connection, RawPdu], Iterable[Event]]] = {
    ScsiCommand: scsi_command,
    TaskManagementRequest: task_management_request,
}
