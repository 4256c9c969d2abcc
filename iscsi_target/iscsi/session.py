"""The machine of one session in full feature phase: PDUs in, events out; completions in, PDUs queued.

A session owns a set of connections, one CmdSN stream and the open tasks of the initiator. A task belongs to the
connection its command came on, and everything about it goes out there. LUN, CDB, status and sense are opaque bytes.

A protocol error ends in a Reject here, and the connection goes on. Data that breaks the rules of a transfer is the end
of one task: it surfaces as `DataOutFailed`, and what the initiator still owes is swallowed.

Data-Out for a task that has been aborted is swallowed too: a target transfer tag that was ever given out is
recognised by its number, and of unsolicited data the last few aborted tags are remembered.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain

from iscsi_target.iscsi import service_requests
from iscsi_target.iscsi.ahs import unpack_additional_headers
from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.errors import ProtocolError, RejectReason, StreamLost
from iscsi_target.iscsi.events import (
    CommandReceived,
    DataOutCompleted,
    DataOutFailed,
    Event,
    ProtocolViolated,
    TaskManagementRequested,
)
from iscsi_target.iscsi.framing import RawPdu
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.login import Negotiated
from iscsi_target.iscsi.numbering import WINDOW_COMMANDS, CommandWindow
from iscsi_target.iscsi.open_task import Ending, OpenTask, send
from iscsi_target.iscsi.parking import Parking
from iscsi_target.iscsi.requests import (
    AnyRequest,
    DataOut,
    LoginRequest,
    LogoutRequest,
    NopOut,
    ScsiCommand,
    SnackRequest,
    TaskManagementRequest,
    TextRequest,
)
from iscsi_target.iscsi.responses import (
    AsyncMessage,
    LogoutResponse,
    ReadyToTransfer,
    TaskManagementResponse,
)
from iscsi_target.iscsi.service_requests import LOGOUT_DONE
from iscsi_target.iscsi.task_management import TaskManagement
from iscsi_target.iscsi.text_exchange import SendTargets, TextExchange
from iscsi_target.iscsi.transfer import (
    NO_DATA_OUT,
    DataOutTransfer,
    Ordering,
    TransferFailed,
    UnexpectedUnsolicitedData,
    check_unsolicited,
)
from iscsi_target.wire.serial import before

MAX_IMMEDIATE_TASKS = 16  # immediate commands are outside the window: no more than these above it
MAX_ABORTED_TAGS = WINDOW_COMMANDS  # aborted tasks whose unsolicited data may still be on its way
MAX_FUNCTIONS = 16  # task management functions that are not answered yet; ESXi repeats one four times
MAX_EARLY_REQUESTS = 16  # before their turn; one TCP connection does not reorder, so this is no hardship

ASYNC_LOGOUT_REQUEST = 1  # RFC7143 11.9.1
LAST_ATTRIBUTE = 4  # RFC7143 11.3.1.1: ACA; 5 to 7 are reserved

Numbered = NopOut | ScsiCommand | TaskManagementRequest | LoginRequest | TextRequest | LogoutRequest
NUMBERED = (ScsiCommand, NopOut, TaskManagementRequest, LoginRequest, TextRequest, LogoutRequest)  # have a CmdSN


class Session:
    """The machine of one session.

    negotiated      what the leading login came to
    tsih            1..65535, the target's name for the session
    first_cmd_sn    CmdSN of the first command to come
    send_targets    answers SendTargets=<value> for a connection of this session; an empty list refuses
    Source: RFC7143 4.2

    connections     by CID
    numbers         ExpCmdSN and MaxCmdSN
    tasks           the commands that have no response yet, by initiator task tag
    parking         keeps commands that wait for room
    parameters      what is negotiated
    most_in         as of the parameters
    most_out        likewise
    text            the exchange of text
    """

    def __init__(self, negotiated: Negotiated, tsih: int, first_cmd_sn: int, send_targets: SendTargets) -> None:
        self.negotiated = negotiated
        self.tsih = tsih
        self.connections: dict[int, Connection] = {}
        self.parameters = negotiated.parameters
        self.most_in, self.most_out = self.parameters.most_in, self.parameters.most_out
        self.numbers: CommandWindow[tuple[Connection, RawPdu]] = CommandWindow(first_cmd_sn)
        self.tasks: dict[int, OpenTask] = {}
        self.parking = Parking()
        self._tags_given = 0  # target transfer tags, of R2Ts and pings
        self._functions = 0  # task management functions that are not answered yet
        self._aborted: deque[int] = deque(maxlen=MAX_ABORTED_TAGS)
        self._ordering = Ordering(
            self.parameters.max_burst_length, self.parameters.max_outstanding_r2t, self.parameters.data_pdu_in_order
        )
        self.text = TextExchange(send_targets)
        self._handlers = DISCOVERY_HANDLERS if negotiated.discovery else HANDLERS

    @property
    def open_tasks(self) -> int:
        """How many commands have no response yet."""
        return len(self.tasks)

    @property
    def debts(self) -> list[OpenTask]:
        """The tasks that the initiator owes data for."""
        return [task for task in self.tasks.values() if not task.transfer.quiet]

    # From the initiator

    def receive(self, connection: Connection, pdu: RawPdu) -> Iterable[Event]:
        """Takes one PDU and returns what it, and requests that waited for it, bring about."""
        basic = pdu.basic
        events: Iterable[Event] = ()
        if not isinstance(basic, NUMBERED):
            events = self._handle(connection, pdu)
        elif basic.immediate:
            if _ends_several_tasks(basic) and self.numbers.is_early(basic.cmd_sn):
                self._keep(connection, pdu, basic)
            else:
                events = self._handle(connection, pdu)
        elif self.numbers.pass_on(basic.cmd_sn):
            events = self._handle_in_turn(connection, pdu)
        elif self.numbers.is_early(basic.cmd_sn):
            self._keep(connection, pdu, basic)
        return chain(events, self._release()) if self.numbers.early else events

    def _handle_in_turn(self, connection: Connection, pdu: RawPdu) -> Iterable[Event]:
        events = self._handle(connection, pdu)
        if not isinstance(pdu.basic, ScsiCommand):  # a command opens the window when it ends
            self.numbers.open(len(self.tasks))
        return events

    def _release(self) -> Iterator[Event]:
        """Handles the requests that waited for those before them."""
        for its_connection, in_turn in self.numbers.release():
            if its_connection.phase is self:  # and not logging out since
                yield from self._handle_in_turn(its_connection, in_turn)

    def _keep(self, connection: Connection, pdu: RawPdu, basic: Numbered) -> None:
        """Keeps a request until those before it have come."""
        if self.numbers.early >= MAX_EARLY_REQUESTS:
            raise StreamLost(RejectReason.PROTOCOL_ERROR, f"{MAX_EARLY_REQUESTS} requests came before their turn")
        keep = self.numbers.defer if basic.immediate else self.numbers.admit
        keep(basic.cmd_sn, (connection, pdu.kept()))

    def _handle(self, connection: Connection, pdu: RawPdu) -> Iterable[Event]:
        try:
            return self._handlers.get(type(pdu.basic), service_requests.unknown)(self, connection, pdu)
        except ProtocolError as error:
            self.numbers.open(len(self.tasks))
            connection.reject(error.reason, pdu.header)
            return (ProtocolViolated(connection.number, error.text),)

    def _scsi_command(self, connection: Connection, pdu: RawPdu) -> Iterable[Event]:
        header = pdu.basic
        assert isinstance(header, ScsiCommand)
        immediate, _, final, read, write, attributes, _, _, lun, tag, expected, _, _, cdb = header
        if tag in self.tasks or tag == NO_TAG or immediate or attributes > LAST_ATTRIBUTE:
            self._check_command(header)
        read_length = 0
        if pdu.additional:
            headers = unpack_additional_headers(pdu.additional)
            cdb, read_length = cdb + headers.extended_cdb, headers.expected_read_length or 0
        if write:
            command = CommandReceived(
                tag, lun, cdb, attributes, expected, None, connection, read, True, expected_read=read_length
            )
            return self._with_data(pdu, header, command)
        command = CommandReceived(tag, lun, cdb, attributes, 0, b"", connection, read, False, expected_read=expected)
        if pdu.data or not final:
            return self._with_data(pdu, header, command)
        if self.parking.is_clear(command) or self.open(command):
            return (command,)
        return ()

    def _with_data(self, pdu: RawPdu, header: ScsiCommand, command: CommandReceived) -> Iterable[Event]:
        """Takes a command that has Data-Out, some of which may have come with it."""
        tag, immediate, expected = command.tag, len(pdu.data), command.expected
        try:
            check_unsolicited(header, immediate, self.parameters)
        except UnexpectedUnsolicitedData as error:
            transfer = NO_DATA_OUT if header.final else self._transfer(header, expected, immediate)
            transfer.fail()
            self.tasks[tag] = OpenTask(command, transfer)
            return (DataOutFailed(tag, error.condition),)
        if header.final and immediate == expected:
            command.data = pdu.data if pdu.lasting else bytes(pdu.data)
            return (command,) if self.parking.is_clear(command) or self.open(command) else ()
        task = self.tasks[tag] = OpenTask(command, self._transfer(header, expected, immediate), pdu.data)
        if self.parking.admits(command, task):
            return (command,)
        task.transfer.want(expected, task.take_immediate())
        return ()

    def _transfer(self, header: ScsiCommand, expected: int, immediate: int) -> DataOutTransfer:
        burst = min(self.parameters.first_burst_length, expected)
        unsolicited = 0 if header.final else max(0, burst - immediate)
        return DataOutTransfer(self._ordering, expected, immediate=immediate, unsolicited=unsolicited)

    def open(self, command: CommandReceived) -> bool:
        """Makes a task of a command that does not end at once; returns False when it has to wait until there is room.

        It has no effect on a command that is a task already.
        """
        if command.tag in self.tasks:
            return True
        task = self.tasks[command.tag] = OpenTask(command, NO_DATA_OUT)
        return self.parking.admits(command, task)

    def _check_command(self, header: ScsiCommand) -> None:
        """Raises ProtocolError for a command that cannot become a task."""
        tag = header.initiator_task_tag
        if tag == NO_TAG:
            raise ProtocolError(RejectReason.INVALID_PDU_FIELD, "a SCSI Command has no initiator task tag")
        if tag in self.tasks:
            raise ProtocolError(RejectReason.TASK_IN_PROGRESS, f"initiator task tag {tag:#x} is in use")
        if header.immediate and len(self.tasks) >= WINDOW_COMMANDS + MAX_IMMEDIATE_TASKS:
            raise ProtocolError(RejectReason.IMMEDIATE_COMMAND_REJECT, "too many immediate commands")
        if header.attributes > LAST_ATTRIBUTE:
            raise ProtocolError(RejectReason.INVALID_PDU_FIELD, f"task attribute {header.attributes} is reserved")

    def _data_out(self, connection: Connection, pdu: RawPdu) -> Iterable[Event]:
        header = pdu.basic
        assert isinstance(header, DataOut)
        tag = header.initiator_task_tag
        task = self.tasks.get(tag)
        if task is None or task.connection is not connection or not task.transfer.expects(header.target_transfer_tag):
            if not self._is_late(header):
                raise ProtocolError(RejectReason.PROTOCOL_ERROR, "Data-Out came that was not asked for")
            return ()
        try:
            task.transfer.receive(header, pdu.data)
        except TransferFailed as error:
            task.collecting = False
            return self._fail(tag, task, error)
        return self._go_on(tag, task)

    def _fail(self, tag: int, task: OpenTask, error: TransferFailed) -> Iterator[Event]:
        yield DataOutFailed(tag, error.condition)
        yield from self._go_on(tag, task)

    def _go_on(self, tag: int, task: OpenTask) -> Iterable[Event]:
        """Does what a Data-Out PDU made possible: the held response, the data's completion, or the next R2T."""
        if task.response is not None:
            if task.transfer.quiet:
                self._finish(tag, task, task.response)
        elif task.collecting and task.transfer.whole:
            task.collecting = False
            return (DataOutCompleted(tag, task.transfer.data),)
        elif task.collecting:
            self._solicit(task)
        return ()

    def _is_late(self, header: DataOut) -> bool:
        if header.target_transfer_tag == NO_TAG:
            return header.initiator_task_tag in self._aborted
        return 0 < (self._tags_given - header.target_transfer_tag) % NO_TAG <= self._tags_given

    def _task_management_request(self, connection: Connection, pdu: RawPdu) -> Iterable[Event]:
        header = pdu.basic
        assert isinstance(header, TaskManagementRequest)
        if self._functions >= MAX_FUNCTIONS:
            reason = RejectReason.IMMEDIATE_COMMAND_REJECT if header.immediate else RejectReason.LONG_OPERATION_REJECT
            raise ProtocolError(reason, f"{MAX_FUNCTIONS} task management functions are not answered yet")
        self._functions += 1
        requested = TaskManagementRequested(
            connection.cid,
            header.initiator_task_tag,
            header.function,
            header.lun,
            header.referenced_task_tag,
            header.ref_cmd_sn,
            header.cmd_sn,
        )
        return (requested,)

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
        self._solicit(task)
        return None

    def forget_immediate(self, tag: int) -> None:
        """Lets immediate data go that nobody took while its command was being handled."""
        if (task := self.tasks.get(tag)) is not None:
            task.take_immediate()

    def _solicit(self, task: OpenTask) -> None:
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
            send(command, response, self.parameters)

    def respond(self, tag: int, response: Ending) -> None:
        """Sends what a command came to, once the initiator owes no more data for it.

        Source: RFC7143 11.4
        """
        task = self.tasks.get(tag)
        if task is None:
            return
        if task.transfer.quiet:
            self._finish(tag, task, response)
        else:
            task.transfer.fail()
            task.collecting = False
            task.response = response
            self.parking.leave(task)

    def _finish(self, tag: int, task: OpenTask, response: Ending) -> None:
        self._forget(tag, task)
        send(task.received, response, self.parameters, task.transfer.r2ts)

    def discard(self, tag: int) -> None:
        """Forgets a task that ends without a response."""
        task = self.tasks.get(tag)
        if task is not None:
            if not task.transfer.quiet:
                self._aborted.append(tag)
            self._forget(tag, task)

    def _forget(self, tag: int, task: OpenTask) -> None:
        del self.tasks[tag]
        self.parking.leave(task)
        self.numbers.open(len(self.tasks))

    def respond_management(self, cid: int, tag: int, *, response: int, information: bytes = bytes(3)) -> None:
        """Sends what a task management function came to; nothing when the connection that it came on is gone.

        information   the Additional Response Information, 3 bytes
        Source: RFC7143 11.6, RFC7144 4
        """
        self._functions -= 1
        connection = self.connections.get(cid)
        if connection is not None:
            header = TaskManagementResponse(
                initiator_task_tag=tag, response=response, additional_response_information=information
            )
            connection.send(header)

    def respond_logout(self, cid: int, tag: int, *, response: int) -> None:
        """Answers a logout, unless the connection is gone; it closes after a successful one.

        Source: RFC7143 11.15
        """
        connection = self.connections.get(cid)
        if connection is None:
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
        if response == LOGOUT_DONE:
            connection.close()

    def request_logout(self, connection: Connection, seconds: int) -> None:
        """Asks the initiator by an Asynchronous Message to log out on a connection.

        seconds    how long it has
        Source: RFC7143 11.9.1
        """
        connection.send(AsyncMessage(async_event=ASYNC_LOGOUT_REQUEST, parameter3=seconds))

    def withdraw(self, concerns: Callable[[bytes], bool], tag: int | None) -> bool:
        """Forgets tasks that a task management function ends although no unit has them.

        They wait to become a task, are held, or their response waits for the initiator's last data.

        concerns   says of a command's LUN whether the function means it
        tag        of the one task that it means, or None for all
        returns    True when there was one
        Source: RFC7143 11.5.1
        """
        waiting = {own: task for own, task in self.tasks.items() if self._has_no_unit(own, task)}
        answered = [own for own, task in waiting.items() if tag in (None, own) and concerns(task.received.lun)]
        for own in answered:
            self.discard(own)
        return bool(answered)

    def _has_no_unit(self, tag: int, task: OpenTask) -> bool:
        return task.held or task.response is not None or tag in self.parking

    def skip(self, cmd_sn: int, function_cmd_sn: int) -> bool:
        """Declares a command that is not in its turn yet received and aborted; returns False for one that cannot come.

        function_cmd_sn    CmdSN of the task management function that aborts it; only commands before it can be meant
        Source: RFC7143 11.6.1
        """
        skipped = before(cmd_sn, function_cmd_sn) and self.numbers.skip(cmd_sn)
        self.numbers.open(len(self.tasks))
        return skipped

    def lose(self, connection: Connection) -> None:
        """Forgets a connection that is gone; after the last one nothing that waited for its turn will be handled.

        It can be MAX_EARLY_REQUESTS long PDUs, and would otherwise stay until the garbage collector finds the session.
        """
        self.connections.pop(connection.cid, None)
        if not self.connections:
            self.numbers.forget()

    def close(self) -> None:
        """Closes all connections after what is queued on them."""
        for connection in self.connections.values():
            connection.close()

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
    return isinstance(request, TaskManagementRequest) and request.function != TaskManagement.ABORT_TASK


Handler = Callable[[Session, Connection, RawPdu], Iterable[Event]]

DISCOVERY_HANDLERS: Mapping[type[AnyRequest], Handler] = {
    NopOut: service_requests.nop_out,
    TextRequest: service_requests.text_request,
    LogoutRequest: service_requests.logout_request,
    SnackRequest: service_requests.snack_request,
}
HANDLERS: Mapping[type[AnyRequest], Handler] = {
    **DISCOVERY_HANDLERS,
    ScsiCommand: Session._scsi_command,
    DataOut: Session._data_out,
    TaskManagementRequest: Session._task_management_request,
}
