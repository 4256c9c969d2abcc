"""The machine of one session in full feature phase: PDUs in, events out; completions in, PDUs queued.

A session owns its connections, one CmdSN stream over all of them and the open tasks of the initiator. A task belongs to
the connection its command came on, and everything about it goes out there. What comes before its turn waits for what is
still on its way on another connection. LUN, CDB, status and sense are opaque bytes.

A protocol error ends in a Reject here, and the connection goes on. Data-Out for a task that has been aborted is
swallowed: a target transfer tag that was ever given out is recognised by its number, and of unsolicited data the last
few aborted tags are remembered. At ErrorRecoveryLevel 1 a connection outlives wrong digests, too: a request that is
lost leaves a hole in the CmdSNs until it comes again, and Data-Out that is lost is asked for again. At level 2
iscsi/recovery takes the tasks of a connection that is lost to another one.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain

from iscsi_target.iscsi import recovery, scsi_requests, service_requests
from iscsi_target.iscsi.connection import Connection, Departure
from iscsi_target.iscsi.early import NUMBERED, Early, EarlyRequests, Numbered
from iscsi_target.iscsi.errors import ProtocolError, RejectReason, StreamLost
from iscsi_target.iscsi.events import (
    CommandReceived,
    DataOutCompleted,
    Event,
    ProtocolViolated,
)
from iscsi_target.iscsi.framing import RawPdu, nowhere
from iscsi_target.iscsi.header import NO_TAG, BasicHeader
from iscsi_target.iscsi.login import Negotiated
from iscsi_target.iscsi.numbering import WINDOW_COMMANDS, CommandWindow
from iscsi_target.iscsi.open_task import Ending, OpenTask, send
from iscsi_target.iscsi.parameters import RFC3720
from iscsi_target.iscsi.parking import Parking
from iscsi_target.iscsi.recovering_transfer import RecoveringTransfer
from iscsi_target.iscsi.recovery import LostConnections
from iscsi_target.iscsi.requests import (
    AnyRequest,
    DataOut,
    LogoutRequest,
    NopOut,
    ScsiCommand,
    SnackRequest,
    TaskManagementRequest,
    TextRequest,
)
from iscsi_target.iscsi.response_fence import ResponseFence
from iscsi_target.iscsi.responses import (
    LogoutResponse,
    ReadyToTransfer,
    TaskManagementResponse,
)
from iscsi_target.iscsi.task_management import TaskManagement
from iscsi_target.iscsi.text_exchange import SendTargets, TextExchange
from iscsi_target.iscsi.transfer import NO_DATA_OUT, DataOutTransfer, Ordering
from iscsi_target.wire.serial import before

OF_ONE_TASK = (TaskManagement.ABORT_TASK, TaskManagement.TASK_REASSIGN)
MAX_ABORTED_TAGS = WINDOW_COMMANDS  # aborted tasks whose unsolicited data may still be on its way


class Session:
    """The machine of one session.

    negotiated      what the leading login came to
    tsih            1..65535, the target's name for the session
    first_cmd_sn    CmdSN of the first command to come
    send_targets    answers SendTargets=<value> for a connection of this session; an empty list refuses
    Source: RFC7143 4.2

    connections     by CID
    numbers         ExpCmdSN and MaxCmdSN
    early           keeps requests that wait for their turn
    tasks           the commands that have no response yet, by initiator task tag
    parking         keeps commands that wait for room
    parameters      what is negotiated; of what may differ between connections, each has its own
    functions       how many task management functions are not answered yet
    ordering        what is negotiated about Data-Out
    fence           keeps responses back that may not overtake another one
    fences          whether there is to be such a one: some responses are to be fenced, of those who know which
    collector       what collects the Data-Out of a command
    lost            the connections whose tasks may be taken to others; None where none may
    """

    def __init__(self, negotiated: Negotiated, tsih: int, first_cmd_sn: int, send_targets: SendTargets) -> None:
        self.negotiated = negotiated
        self.tsih = tsih
        self.connections: dict[int, Connection] = {}
        self.parameters = negotiated.parameters
        self.numbers: CommandWindow[Early] = CommandWindow(first_cmd_sn)
        level = self.parameters.error_recovery_level
        self.early = EarlyRequests(self.numbers, reorders=self.parameters.max_connections > 1 or level > 0)
        self.tasks: dict[int, OpenTask] = {}
        self.parking = Parking()
        self._tags_given = 0  # target transfer tags, of R2Ts and pings
        self._aborted: deque[int] = deque(maxlen=MAX_ABORTED_TAGS)
        self.functions = 0
        # RFC7143 13.19: only the last R2T is sent again where sequences are in order.
        most = 1 if level and self.parameters.data_sequence_in_order else self.parameters.max_outstanding_r2t
        self.ordering = Ordering(self.parameters.max_burst_length, most, self.parameters.data_pdu_in_order)
        self.collector: type[DataOutTransfer] = RecoveringTransfer if level else DataOutTransfer
        self.lost = LostConnections() if level > 1 and self.parameters.default_time2retain else None
        self._send_targets = send_targets
        self._texts: dict[Connection, TextExchange] = {}
        self.fence = ResponseFence(self.connections, self.ping)
        self.fences = self.parameters.task_reporting != RFC3720
        self._handlers = DISCOVERY_HANDLERS if negotiated.discovery else HANDLERS
        if self.lost is not None:
            self._handlers = {**HANDLERS, **recovery.HANDLERS}

    @property
    def open_tasks(self) -> int:
        """How many commands have no response yet."""
        return len(self.tasks)

    @property
    def is_steady(self) -> bool:
        """True when commands that end at once only move the window on, and may be answered at once."""
        return self.numbers.is_steady(len(self.tasks)) and not self.fence.stands

    def debts(self, connection: Connection) -> list[OpenTask]:
        """Returns the tasks that the initiator owes data for, on one connection."""
        return [task for task in self.tasks.values() if task.connection is connection and not task.transfer.quiet]

    # Connections

    def admit(self, connection: Connection) -> None:
        """Takes in a connection whose login is done, and sends the final Login Response.

        Source: RFC7143 6.3
        """
        connection.admit(self, self.tsih, self.parameters)
        if connection.retention is None:  # what is damaged need not be kept apart from what is not
            connection.reader.lay = partial(self._lay, connection)
        self.connections[connection.cid] = connection
        self._texts[connection] = TextExchange(self._send_targets)

    def _lay(self, connection: Connection, basic: AnyRequest) -> memoryview | None:
        """Returns where the data of a PDU that comes on a connection is to be in the end, if that is known."""
        if not isinstance(basic, DataOut) or connection.tap is not None:
            return None
        task = self.tasks.get(basic.initiator_task_tag)
        return None if task is None or task.connection is not connection else task.transfer.room(basic)

    def text(self, connection: Connection) -> TextExchange:
        """Returns the exchange of text on a connection."""
        return self._texts[connection]

    def silence(self, connection: Connection) -> None:
        """Ignores what a connection still sends, and discards its requests that are not in their turn yet.

        Their CmdSNs stay to come, unless the session ends: the initiator sends them again on another connection.

        Source: RFC7143 11.14
        """
        connection.phase = Departure(self.numbers)
        self.early.discard(connection)
        self.fence.lose(connection)

    def lose(self, connection: Connection) -> None:
        """Forgets a connection that is gone, and its requests that are not in their turn yet.

        They can be large, and would otherwise stay until the garbage collector finds the session.
        """
        if self.connections.get(connection.cid) is connection:
            del self.connections[connection.cid]
        connection.reader.lay = nowhere  # which leads back to the connection otherwise, and would keep it likewise
        self._texts.pop(connection, None)
        self.early.discard(connection)
        self.fence.lose(connection)

    def close(self) -> None:
        """Closes all connections after what is queued on them; the session is to end with them."""
        if self.lost is not None:
            self.lost.closing = True
        for connection in self.connections.values():
            connection.close()

    # From the initiator

    def receive(self, connection: Connection, pdu: RawPdu) -> Iterable[Event]:
        """Takes one PDU and returns what it, and requests that waited for it, bring about."""
        basic = pdu.basic
        events: Iterable[Event] = ()
        if self.fence.stands and not isinstance(basic, BasicHeader):
            self.fence.acknowledge(connection, basic.exp_stat_sn)
        if connection.retention is not None and not self._goes_on(connection, pdu):
            return self._damaged(connection, pdu)
        if not isinstance(basic, NUMBERED):
            events = self._handle(connection, pdu)
        elif basic.immediate:
            if _ends_several_tasks(basic) and self.numbers.is_early(basic.cmd_sn):
                self.early.keep(connection, pdu, basic)
            else:
                events = self._handle(connection, pdu)
        elif self.numbers.pass_on(basic.cmd_sn):
            events = self._handle_in_turn(connection, pdu)
        elif not (self.numbers.is_early(basic.cmd_sn) and self.early.keep(connection, pdu, basic)):
            self._drop(basic)
        return chain(events, self._release()) if self.numbers.early else events

    def _goes_on(self, connection: Connection, pdu: RawPdu) -> bool:
        """Takes in what has been acknowledged; returns False for a PDU whose data is damaged.

        raises    StreamLost when nothing has been acknowledged for too long
        """
        assert connection.retention is not None
        if not isinstance(pdu.basic, BasicHeader):
            connection.retention.acknowledge(pdu.basic.exp_stat_sn)
        if connection.retention.is_full:
            raise StreamLost(RejectReason.PROTOCOL_ERROR, "no status is acknowledged any more")
        return not pdu.damaged

    def _damaged(self, connection: Connection, pdu: RawPdu) -> Iterable[Event]:
        """Rejects a PDU whose data digest is wrong; a request may come again, and lost data is asked for.

        Source: RFC7143 7.8
        """
        connection.reject(RejectReason.DATA_DIGEST_ERROR, pdu.header)
        events: Iterable[Event] = (ProtocolViolated(connection.number, "the data digest is wrong"),)
        if isinstance(pdu.basic, DataOut):
            return chain(events, scsi_requests.data_out_damaged(self, connection, pdu.basic))
        return events

    def _drop(self, request: Numbered) -> None:
        """Ignores a request that is outside the window, has come before or is skipped, with what follows it."""
        if isinstance(request, ScsiCommand) and not request.final and request.initiator_task_tag not in self.tasks:
            self.swallow(request.initiator_task_tag)

    def _handle_in_turn(self, connection: Connection, pdu: RawPdu) -> Iterable[Event]:
        events = self._handle(connection, pdu)
        if not isinstance(pdu.basic, ScsiCommand):  # a command opens the window when it ends
            self.numbers.open(len(self.tasks))
        return events

    def _release(self) -> Iterator[Event]:
        """Handles the requests that waited for those before them."""
        for early in self.early.release():
            yield from self._handle_in_turn(early.connection, early.pdu)
            for data_out in early.data_out:
                yield from self._handle(early.connection, data_out)

    def _handle(self, connection: Connection, pdu: RawPdu) -> Iterable[Event]:
        try:
            return self._handlers.get(type(pdu.basic), service_requests.unknown)(self, connection, pdu)
        except StreamLost:
            raise
        except ProtocolError as error:
            self.numbers.open(len(self.tasks))
            connection.reject(error.reason, pdu.header)
            return (ProtocolViolated(connection.number, error.text),)

    def open(self, command: CommandReceived) -> bool:
        """Makes a task of a command that does not end at once; returns False when it has to wait until there is room.

        It has no effect on a command that is a task already.
        """
        if command.tag in self.tasks:
            return True
        task = self.tasks[command.tag] = OpenTask(command, NO_DATA_OUT)
        return self.parking.admits(command, task)

    # From the target

    @property
    def parks(self) -> bool:
        """True when commands wait until there is room for their data."""
        return bool(self.parking)

    def unpark(self) -> CommandReceived | None:
        """Returns the next command that waited until the initiator fetched its data and may go on now, or None."""
        return self.parking.release()

    def collect(self, tag: int, length: int) -> DataOutCompleted | None:
        """Begins to fetch the Data-Out that a command wants; returns it at once when it has all come already."""
        task = self.tasks.get(tag)
        if task is None:
            return None
        task.transfer.want(length, task.take_immediate())
        if task.transfer.whole:
            return DataOutCompleted(tag, task.transfer.data)
        task.collecting = True
        self.solicit(task)
        return None

    def forget_immediate(self, tag: int) -> None:
        """Lets immediate data go that nobody took while its command was being handled."""
        if (task := self.tasks.get(tag)) is not None:
            task.take_immediate()

    def solicit(self, task: OpenTask) -> None:
        """Sends the R2Ts that may go out now."""
        while (solicitation := task.transfer.solicit(self._next_tag)) is not None:
            self._tags_given += 1
            task.connection.send(
                ReadyToTransfer(
                    lun=task.received.lun,
                    initiator_task_tag=task.received.tag,
                    target_transfer_tag=solicitation.target_transfer_tag,
                    r2t_sn=solicitation.r2t_sn,
                    buffer_offset=solicitation.offset,
                    desired_data_transfer_length=solicitation.length,
                ),
                status=False,
            )

    def answer(self, command: CommandReceived, response: Ending) -> None:
        """Sends what a command came to that ended at once; it is a task only when it had to wait for room.

        Source: RFC7143 11.4
        """
        if command.tag in self.tasks:
            self.respond(command.tag, response)
        else:
            self.numbers.open(len(self.tasks))
            send(command, response)

    def respond(self, tag: int, response: Ending, *, fenced: bool = False) -> None:
        """Sends what a command came to, once the initiator owes no more data for it.

        fenced    True when no other response may overtake it
        Source: RFC7143 11.4, 4.2.2.3.3
        """
        task = self.tasks.get(tag)
        if task is None:
            return
        task.fenced = fenced and self.fences
        if task.transfer.quiet:
            self.finish(tag, task, response)
        else:
            task.transfer.fail()
            task.collecting = False
            task.response = response
            self.parking.leave(task)

    def finish(self, tag: int, task: OpenTask, response: Ending) -> None:
        """Ends a task with its response, when no fence keeps it back; the initiator owes no data for it."""
        if task.fenced or self.fence.stands:
            task.response = response  # so it is found among those that are over for the units
            self.fence.put(task.connection, partial(self._finish_kept, tag, task, response), fenced=task.fenced)
        else:
            self._finish(tag, task, response)

    def _finish_kept(self, tag: int, task: OpenTask, response: Ending) -> None:
        if self.tasks.get(tag) is task:  # and has not been aborted meanwhile
            self._finish(tag, task, response)

    def _finish(self, tag: int, task: OpenTask, response: Ending) -> None:
        self._forget(tag, task)
        send(task.received, response, task.transfer.r2ts)

    def is_late(self, header: DataOut) -> bool:
        """Returns True for Data-Out of a task that may have ended since it was asked for, or sent unasked."""
        if header.target_transfer_tag == NO_TAG:
            command_lost = self.parameters.error_recovery_level > 0  # it comes again, with all its data
            return command_lost or header.initiator_task_tag in self._aborted
        return 0 < (self._tags_given - header.target_transfer_tag) % NO_TAG <= self._tags_given

    def discard(self, tag: int) -> None:
        """Forgets a task that ends without a response."""
        task = self.tasks.get(tag)
        if task is not None:
            if not task.transfer.quiet:
                self.swallow(tag)
            if task.connection.retention is not None:
                task.connection.retention.discard(tag)
            self._forget(tag, task)

    def swallow(self, tag: int) -> None:
        """Expects no task of a tag for the unsolicited Data-Out that may come."""
        self._aborted.append(tag)

    def _forget(self, tag: int, task: OpenTask) -> None:
        del self.tasks[tag]
        self.parking.leave(task)
        self.numbers.open(len(self.tasks))

    def respond_management(
        self,
        connection: Connection,
        tag: int,
        *,
        response: int,
        information: bytes = bytes(3),
        fenced: bool = False,
    ) -> None:
        """Sends what a task management function came to, unless the connection that it came on is gone.

        information   the Additional Response Information, 3 bytes
        fenced        True when no other response may overtake it
        Source: RFC7143 11.6, 4.2.2.3.3, RFC7144 4
        """
        header = TaskManagementResponse(
            initiator_task_tag=tag, response=response, additional_response_information=information
        )
        self.fence.put(connection, partial(self._end_function, connection, header), fenced=fenced and self.fences)

    def _end_function(self, connection: Connection, header: TaskManagementResponse) -> None:
        self.functions -= 1
        if self._has(connection):
            connection.send(header)

    def respond_logout(self, connection: Connection, tag: int, *, response: int) -> None:
        """Answers a logout, unless the connection that it came on is gone.

        Source: RFC7143 11.15
        """
        if not self._has(connection):
            return
        parameters = self.parameters
        connection.send(
            LogoutResponse(
                initiator_task_tag=tag,
                response=response,
                time2wait=parameters.default_time2wait,
                time2retain=parameters.default_time2retain,
            )
        )

    def _has(self, connection: Connection) -> bool:
        """Returns False for a connection that is gone, though another one may have its CID."""
        return self.connections.get(connection.cid) is connection

    def withdraw(self, concerns: Callable[[CommandReceived], bool]) -> bool:
        """Forgets tasks that a task management function ends although no unit has them.

        They wait to become a task, are held, or their response waits for the initiator's last data.

        concerns   says whether the function means a command
        returns    True when there was one
        Source: RFC7143 11.5.1
        """
        waiting = {own: task for own, task in self.tasks.items() if self._has_no_unit(own, task)}
        answered = [own for own, task in waiting.items() if concerns(task.received)]
        for own in answered:
            self.discard(own)
        return bool(answered)

    def _has_no_unit(self, tag: int, task: OpenTask) -> bool:
        return task.held or task.response is not None or tag in self.parking

    def sent_after(self, function_cmd_sn: int) -> frozenset[int]:
        """Returns the tags of the commands that do not come before a task management function.

        They have overtaken it on another connection, and it does not concern them.

        Source: RFC7143 11.5.1
        """
        numbers = {tag: task.received.cmd_sn for tag, task in self.tasks.items()}
        return frozenset(
            tag for tag, cmd_sn in numbers.items() if cmd_sn is not None and not before(cmd_sn, function_cmd_sn)
        )

    def skip(self, cmd_sn: int, function_cmd_sn: int) -> bool:
        """Declares a command that is not in its turn yet received and aborted; returns False for one that cannot come.

        function_cmd_sn    CmdSN of the task management function that aborts it; only commands before it can be meant
        Source: RFC7143 11.6.1
        """
        command = self.early.command(cmd_sn)
        skipped = before(cmd_sn, function_cmd_sn) and self.early.skip(cmd_sn)
        if skipped and command is not None:
            self.swallow(command.initiator_task_tag)
        self.numbers.open(len(self.tasks))
        return skipped

    def ping(self, connection: Connection) -> None:
        """Sends a NOP-In that asks for an answer."""
        connection.ping(self._next_tag)
        self._tags_given += 1

    @property
    def _next_tag(self) -> int:
        """The next target transfer tag: all numbers in turn but the one that means none."""
        return self._tags_given % NO_TAG


def _ends_several_tasks(request: Numbered) -> bool:
    """Returns True for a task management function that waits for the commands before it.

    Source: RFC7143 4.2.3.3
    """
    return isinstance(request, TaskManagementRequest) and request.function not in OF_ONE_TASK


Handler = Callable[[Session, Connection, RawPdu], Iterable[Event]]

DISCOVERY_HANDLERS: Mapping[type[AnyRequest], Handler] = {
    NopOut: service_requests.nop_out,
    TextRequest: service_requests.text_request,
    LogoutRequest: service_requests.logout_request,
    SnackRequest: service_requests.snack_request,
}
HANDLERS: Mapping[type[AnyRequest], Handler] = {
    **DISCOVERY_HANDLERS,
    ScsiCommand: scsi_requests.scsi_command,
    DataOut: scsi_requests.data_out,
    TaskManagementRequest: scsi_requests.task_management_request,
}
