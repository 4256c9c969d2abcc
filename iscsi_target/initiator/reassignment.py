"""What an initiator does at ErrorRecoveryLevel 2 with what was open on a connection that is gone.

Another connection of the session logs the lost one out for recovery, or it comes again under its CID, which means the
same. Then its commands go on there: one that the target has counted is reassigned, with the number of the Data-In or
R2T that is expected next; one that it has not is sent again under its CmdSN. A task management function is performed
again, as what it has ended shows only in its response. Of all else that was open only the CmdSN matters, because a gap
would hold up everything behind it: a NOP-Out fills it.

Time2Wait passes before, and after Time2Retain there is nothing to be had any more.

Source: RFC7143 7.2.1, 7.2.2, 11.5, 11.14
"""

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from iscsi_target.initiator.connection import Connection
from iscsi_target.initiator.events import Event, TaskLost
from iscsi_target.initiator.open_request import Function, Logout, OpenRequest, Plug, Reassign
from iscsi_target.initiator.recoverable import RecoverableCommand
from iscsi_target.initiator.recovery import MAX_TRIES
from iscsi_target.iscsi.header import Opcode
from iscsi_target.iscsi.requests import LogoutRequest, NopOut, TaskManagementRequest
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement

if TYPE_CHECKING:  # a session has a reassignment
    from iscsi_target.initiator.session import Session

FOR_RECOVERY: Final = 2  # reason of a logout; RFC7143 11.14.1
NOT_KEPT: Final = "the target has not kept what was open on a lost connection"
TOO_LATE: Final = "no connection took over in time what was open on a lost one"


@dataclass(slots=True, eq=False)
class _Lost:
    """A connection that is gone.

    since    when that was noticed; None until time passes
    asked    whether the target has been asked to log it out
    """

    connection: Connection
    since: float | None = None
    asked: bool = False


class Left(NamedTuple):
    """What becomes of the requests of a connection that is gone.

    kept    tags of those that go on elsewhere
    lost    tags of those that will not be answered
    """

    kept: tuple[int, ...]
    lost: tuple[int, ...]


class Reassignment:
    """Takes what was open on lost connections of a session to others."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._lost: dict[int, _Lost] = {}  # by CID

    def __bool__(self) -> bool:
        return bool(self._lost)

    @property
    def connections(self) -> list[Connection]:
        """Those that are lost; what is asked for on one goes out when something has taken its place."""
        return [record.connection for record in self._lost.values()]

    def is_under_way(self, cid: int) -> bool:
        """Says whether the target has been asked to log out a CID for recovery, so that it must not come again yet."""
        return cid in self._lost and self._lost[cid].asked

    # Loss

    def leave(self, connection: Connection) -> Left:
        """Keeps of the requests of a connection that is gone what can go on elsewhere, and forgets the others."""
        kept, lost = [], []
        requests = self._session.requests
        for tag, request in list(requests.items()):
            if request.connection is not connection:
                continue
            if request.sent is None or isinstance(request.matter, RecoverableCommand | Function):
                kept.append(tag)
            elif self.asked_for(request):
                del requests[tag]
                if isinstance(request.matter, Logout):
                    self._ask_anew(request.matter.leaving)
            elif not isinstance(request.matter, Plug):
                lost.append(tag)
                if self._session.is_counted(request):
                    del requests[tag]
                else:
                    _plug(tag, request)
        self._session.recovery.pings.discard(connection.ping_tag)
        self._lost[connection.cid] = _Lost(connection)
        return Left(tuple(kept), tuple(lost))

    def _ask_anew(self, connection: Connection) -> None:
        record = self._lost.get(connection.cid)
        if record is not None and record.connection is connection:
            record.asked = False

    # Time

    def deadline(self) -> float:
        """Returns when `elapsed` is to be called next, in its time; infinity when nothing is lost."""
        return min(map(self._due, self._lost.values()), default=inf)

    def _due(self, record: _Lost) -> float:
        if record.since is None:
            return 0.0
        if not self._may_act:
            return inf
        parameters = self._session.parameters
        may_ask = not record.asked and bool(self._session.logged_in) and not self._comes_again(record)
        return record.since + parameters.default_time2wait + (0 if may_ask else parameters.default_time2retain)

    @property
    def _may_act(self) -> bool:
        """True unless all depends on whether a login succeeds."""
        return bool(self._session.logged_in) or not self._session.connections

    def _comes_again(self, record: _Lost) -> bool:
        return record.connection.cid in self._session.connections

    def elapsed(self, now: float) -> list[Event]:
        """Has connections logged out that are lost, and gives up those that nothing took the place of in time."""
        events: list[Event] = []
        parameters = self._session.parameters
        for record in list(self._lost.values()):
            if record.since is None:
                record.since = now
            if not self._may_act:
                continue
            waited = now - record.since - parameters.default_time2wait
            if waited >= parameters.default_time2retain:
                events += self._give_up(record, TOO_LATE)
            elif waited >= 0 and not record.asked and not self._comes_again(record) and self._session.logged_in:
                self._log_out(record)
        return events

    def _log_out(self, record: _Lost) -> None:
        """Asks on the first connection that there is; not behind a gap that only the answer shows how to fill."""
        record.asked = True
        asking = self._session.logged_in[0]
        request = LogoutRequest(immediate=True, reason_code=FOR_RECOVERY, cid=record.connection.cid)
        self._session.request(Logout(FOR_RECOVERY, record.connection), asking, request)

    def _give_up(self, record: _Lost, reason: str) -> list[Event]:
        if self._lost.get(record.connection.cid) is record:
            del self._lost[record.connection.cid]
        if not self._lost and not self._session.connections:
            return self._end(reason)
        events: list[Event] = []
        staying = next(iter(self._session.logged_in), record.connection)
        for tag, request in list(self._session.requests.items()):
            if request.connection is record.connection and request.sent is not None:
                request.connection = staying
                events += self._lose(tag, request, reason)
        self._session.release()
        return events

    def _end(self, reason: str) -> list[Event]:
        """Loses everything, with the session that has no connection any more."""
        tags = [tag for tag, request in self._session.requests.items() if not isinstance(request.matter, Plug)]
        self._session.abandon()
        return [TaskLost(tag, reason) for tag in tags]

    def _lose(self, tag: int, request: OpenRequest, reason: str) -> list[Event]:
        """Keeps the CmdSN of a request that may not have come to the target, and nothing else of it."""
        was_plug = isinstance(request.matter, Plug)
        if request.immediate or self._session.is_counted(request):
            self._session.forget(tag)
        else:
            _plug(tag, request)
            self._session.send_again(tag)
        return [] if was_plug else [TaskLost(tag, reason)]

    # Recovery

    def logged_out(self, logout: Logout, connection: Connection, *, done: bool) -> list[Event]:
        """Takes the answer to a logout for recovery, which came on a connection.

        Source: RFC7143 11.15.1
        """
        record = self._lost.get(logout.leaving.cid)
        if record is None or record.connection is not logout.leaving:
            return []
        return self._take_over(record, connection) if done else self._give_up(record, NOT_KEPT)

    def came_again(self, connection: Connection) -> list[Event]:
        """Takes over what was open on a lost connection that had the same CID, and is logged out by that."""
        record = self._lost.get(connection.cid)
        return [] if record is None else self._take_over(record, connection)

    def _take_over(self, record: _Lost, connection: Connection) -> list[Event]:
        del self._lost[record.connection.cid]
        events: list[Event] = []
        for tag, request in list(self._session.requests.items()):
            if request.connection is record.connection:
                request.connection = connection
                request.quiet = False
                if request.sent is not None:
                    events += self._go_on(tag, request)
        self._session.release()
        return events

    def _go_on(self, tag: int, request: OpenRequest) -> list[Event]:
        if isinstance(request.matter, RecoverableCommand):
            request.matter.move(self._session.parameters_of(request.connection))
        request.tries = 0
        request.moves += 1
        if request.moves > MAX_TRIES:
            return self._lose(tag, request, f"its connections were lost {MAX_TRIES} times")
        if not self._session.is_counted(request):
            self._session.send_again(tag)
        elif isinstance(request.matter, RecoverableCommand):
            self._reassign(tag, request, request.matter)
        elif isinstance(request.matter, Function):
            self._session.manage_again(tag)
        else:
            self._session.forget(tag)
        return []

    def _reassign(self, tag: int, request: OpenRequest, command: RecoverableCommand, *, checks: bool = False) -> None:
        """Source: RFC7143 11.5.1, 11.5.6"""
        if not checks:
            command.resume()
        function = TaskManagementRequest(
            immediate=True,
            function=TaskManagement.TASK_REASSIGN,
            lun=command.command.lun,
            referenced_task_tag=tag,
            exp_data_sn=command.seen,
        )
        self._session.request(Reassign(tag, checks), request.connection, function)

    def follow(self, tag: int, function: Function) -> bool:
        """Asks for a function again on the connection to which the command has been taken that it means.

        Of what was done before the target may know nothing any more. On the same connection this shows that there will
        be no status, elsewhere it does not.

        returns    False when the command is not elsewhere
        """
        request = self._session.requests[tag]
        task = self._session.requests.get(function.referenced_task_tag)
        if task is None or task.connection is request.connection or request.moves >= MAX_TRIES:
            return False
        request.moves += 1
        self._session.manage_again(tag)
        return True

    def asked_for(self, request: OpenRequest) -> bool:
        """Says whether a request is one of those by which something is recovered."""
        matter = request.matter
        return isinstance(matter, Reassign) or (isinstance(matter, Logout) and matter.reason == FOR_RECOVERY)

    def reassigned(self, tag: int, response: int) -> list[Event]:
        """Takes the answer to a TASK REASSIGN; who asks twice may hear that the task is where it is to be.

        Source: RFC7143 11.6.1
        """
        asked = self._session.requests[tag]
        assert isinstance(asked.matter, Reassign)
        self._session.forget(tag)
        is_here = response == ManagementResponse.TASK_STILL_ALLEGIANT and (asked.matter.checks or asked.tries > 0)
        task = self._session.requests.get(asked.matter.tag)
        if task is None or not isinstance(task.matter, RecoverableCommand):
            return []
        if response != ManagementResponse.FUNCTION_COMPLETE and not is_here:
            return self._lose(asked.matter.tag, task, NOT_KEPT)
        if task.doubtful:
            task.doubtful = False
            self._reassign(asked.matter.tag, task, task.matter, checks=True)
        return []

    def without_moving(self, ended: list[int]) -> list[int]:
        """Returns those of some commands that a function has ended, without those that are being reassigned.

        The function may have come before or after that, and the status of a command that was over before is to come.
        """
        requests = self._session.requests
        moving = {request.matter.tag for request in requests.values() if isinstance(request.matter, Reassign)}
        for tag in moving.intersection(ended):
            requests[tag].doubtful = True
        return [tag for tag in ended if tag not in moving]


def _plug(tag: int, request: OpenRequest) -> None:
    """Has a NOP-Out take the place of a request."""
    request.matter, request.opcode, request.tries = Plug(), Opcode.NOP_OUT, 0
    request.last = (NopOut(initiator_task_tag=tag, cmd_sn=request.cmd_sn), b"", b"")
