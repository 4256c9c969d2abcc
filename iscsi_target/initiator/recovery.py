"""What an initiator does at ErrorRecoveryLevel 1 so that nothing lost ends its connection: SNACKs, retries, pings.

A PDU that is damaged is dropped. What it was shows when others come after it, by the numbers that are missing, and is
asked for at once. When nothing comes for long, whatever may be lost is asked for or sent again: a request that the
target has not counted goes out under its CmdSN, which the target takes only once. Everything is tried so often and no
more; then the connection is given up.

Decision: of what has no CmdSN only ABORT TASK, TASK REASSIGN and a logout for recovery are sent again, which do nothing
twice. The other task management functions always take one here.

Source: RFC7143 7.2, 7.8, 7.9
"""

from math import inf
from typing import TYPE_CHECKING, Final

from iscsi_target.initiator.connection import Connection
from iscsi_target.initiator.errors import violation
from iscsi_target.initiator.events import Event
from iscsi_target.initiator.numbering import Arrivals, RecoverableStatusNumbers, Run
from iscsi_target.initiator.open_request import Function, Logout, OpenRequest, Plug, Reassign
from iscsi_target.initiator.recoverable import MAX_RUNS, RecoverableCommand
from iscsi_target.iscsi.errors import ProtocolError, RejectReason
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import NopOut, SnackRequest
from iscsi_target.iscsi.responses import DataIn, NopIn, ReadyToTransfer, Reject, Response, TaskManagementResponse
from iscsi_target.iscsi.retention import DATA_ACK, DATA_OR_R2T, STATUS
from iscsi_target.iscsi.task_management import TaskManagement
from iscsi_target.wire.serial import advance, before, distance

if TYPE_CHECKING:  # a session has a recovery
    from iscsi_target.initiator.session import Session

MAX_TRIES: Final = 8  # of one request, and pings in a row that nothing answers


class Recovery:
    """Looks after the connections of a session.

    session      the session
    timeout_s    after how long without anything a request, or what it lacks, is asked for again
    """

    def __init__(self, session: "Session", timeout_s: float) -> None:
        self._session = session
        self._timeout_s = timeout_s
        self._due = inf
        self.pings: set[int] = set()  # tags of its own pings: one for each connection

    # What comes

    def admit(self, connection: Connection, header: Response, *, has_status: bool) -> bool:
        """Takes note of the StatSN of a PDU; returns False for one that has come before, or must wait for others."""
        statuses = _statuses(connection)
        if has_status:
            self._announce(connection, header.stat_sn)
            statuses.announce(advance(header.stat_sn))
            if isinstance(header, TaskManagementResponse) and before(statuses.first, header.stat_sn):
                _snack_statuses(connection, Run(statuses.first, distance(statuses.first, header.stat_sn) + 1))
                return False
            return statuses.take(header.stat_sn)
        if isinstance(header, ReadyToTransfer | NopIn):
            self._announce(connection, header.stat_sn)
        return True

    def _announce(self, connection: Connection, end: int) -> None:
        run = _statuses(connection).announce(end)
        if run is not None:
            _snack_statuses(connection, run)

    def miss(self, connection: Connection, header: Response, *, has_status: bool) -> None:
        """Asks for a PDU again whose data is damaged.

        Source: RFC7143 7.8
        """
        if has_status:
            self._announce(connection, advance(header.stat_sn))
        elif isinstance(header, DataIn):
            request = self._session.requests.get(header.initiator_task_tag)
            if request is not None and isinstance(request.matter, RecoverableCommand):
                request.matter.announce(advance(header.data_sn))
                self.follow(connection, request.matter)

    def follow(self, connection: Connection, command: RecoverableCommand) -> None:
        """Asks for what has been found missing of a command, and acknowledges data where the target wants it."""
        for run in command.take_news():
            _snack_data(connection, command.tag, run)
        if (there := command.acknowledgement()) is not None:
            connection.ask_again(
                SnackRequest(
                    kind=DATA_ACK,
                    lun=there.lun,
                    initiator_task_tag=NO_TAG,
                    target_transfer_tag=there.target_transfer_tag,
                    begin_run=there.data_sn,
                )
            )

    def settle(self, connection: Connection, header: Response) -> None:
        """Acknowledges a status that has been taken, or lets it wait for the data of its command."""
        request = self._session.requests.get(header.initiator_task_tag)
        if request is not None and isinstance(request.matter, RecoverableCommand) and request.matter.answered:
            request.matter.stat_sn = header.stat_sn
        else:
            acknowledge(connection, header.stat_sn)

    def refused(self, connection: Connection, header: Reject, request: SnackRequest) -> None:
        """Takes the Reject of a SNACK; a command whose data is refused may be one that a function is just ending.

        raises    ProtocolError when what is missing cannot be had: only a new session helps then
        Source: RFC7143 7.1.5, 11.16
        """
        begin = request.begin_run
        lost = request.kind == STATUS and _statuses(connection).is_missing(begin)
        task = self._session.requests.get(request.initiator_task_tag)
        if request.kind == DATA_OR_R2T and task is not None and isinstance(task.matter, RecoverableCommand):
            task.tries += task.matter.needs(begin)
            lost = task.tries > MAX_TRIES
        if lost:
            raise violation(f"the target cannot send again what is missing from number {begin} on")

    def retry_damaged(self, tag: int, reason: int) -> bool:
        """Sends a request again whose data the target found damaged; returns False when that is not why."""
        if reason == RejectReason.DATA_DIGEST_ERROR:
            self._retry(tag, self._session.requests[tag])
            return True
        return False

    # Time

    def deadline(self) -> float:
        """Returns when `elapsed` is to be called next, in its time; infinity when there is nothing to look after."""
        if not self._session.requests:
            self._due = inf
            return inf
        return 0.0 if self._due == inf else self._due

    def elapsed(self, now: float) -> list[Event]:
        """Looks after everything when it is time to, and returns what that brings about.

        now    seconds, by a clock that does not go back
        """
        due, self._due = self._due, min(self._due, now + self._timeout_s)
        if now < due or due == inf:
            return []
        self._due = now + self._timeout_s
        events: list[Event] = []
        for connection in self._session.logged_in:
            try:
                self._look_after(connection)
            except ProtocolError as error:
                events += connection.lose(error.text)
        return events

    def _look_after(self, connection: Connection) -> None:
        """Asks for whatever may be lost on a connection.

        raises    ProtocolError when that has been in vain too often
        """
        open_here = {tag: each for tag, each in self._session.requests.items() if each.connection is connection}
        quiet = {tag: each for tag, each in open_here.items() if each.quiet and each.sent is not None}
        for each in open_here.values():
            each.quiet = True
        for run in _statuses(connection).missing[:MAX_RUNS]:
            _snack_statuses(connection, run)
        for tag, request in quiet.items():
            self._ask_for(connection, tag, request)
        if quiet:
            self._ping(connection)

    def _ask_for(self, connection: Connection, tag: int, request: OpenRequest) -> None:
        command = request.matter
        if not self.is_counted(request):
            self._retry(tag, request)
        elif isinstance(command, Plug):
            self._session.forget(tag)
        elif isinstance(command, RecoverableCommand):
            if command.may_lack_unsolicited and request.tries < MAX_TRIES:
                request.tries += 1
                self._session.send_again(tag)
            for run in command.overdue():
                _snack_data(connection, tag, run)

    def is_counted(self, request: OpenRequest) -> bool:
        """Says whether the target has taken a request, as far as that can be known."""
        if request.immediate:
            matter = request.matter
            aborts = isinstance(matter, Function) and matter.function == TaskManagement.ABORT_TASK
            return not (aborts or isinstance(matter, Reassign | Logout))
        return before(request.cmd_sn, self._session.numbers.expected)

    def _retry(self, tag: int, request: OpenRequest) -> None:
        request.tries += 1
        if request.tries > MAX_TRIES:
            raise violation(f"a request was sent {MAX_TRIES} times, and the target did not take it")
        self._session.send_again(tag)

    def _ping(self, connection: Connection) -> None:
        """Asks the target for a sign of life; its StatSN shows what is lost before it."""
        connection.unanswered += 1
        if connection.unanswered > MAX_TRIES:
            raise violation(f"{MAX_TRIES} pings were in vain")
        if connection.ping_tag is None:
            connection.ping_tag = self._session.next_tag()
            self.pings.add(connection.ping_tag)
        ping = NopOut(immediate=True, initiator_task_tag=connection.ping_tag, cmd_sn=self._session.numbers.next)
        connection.send(ping)


def acknowledge(connection: Connection, stat_sn: int) -> None:
    """Lets the target forget a status that has been waiting."""
    assert isinstance(connection.statuses, RecoverableStatusNumbers)
    connection.statuses.settle(stat_sn)


def _statuses(connection: Connection) -> Arrivals:
    assert isinstance(connection.statuses, RecoverableStatusNumbers)
    return connection.statuses.arrivals


def _snack_statuses(connection: Connection, run: Run) -> None:
    connection.ask_again(
        SnackRequest(kind=STATUS, initiator_task_tag=NO_TAG, begin_run=run.begin, run_length=run.length)
    )


def _snack_data(connection: Connection, tag: int, run: Run) -> None:
    connection.ask_again(
        SnackRequest(kind=DATA_OR_R2T, initiator_task_tag=tag, begin_run=run.begin, run_length=run.length)
    )
