"""Brings commands and task management functions of sessions to logical units, and what comes of them back.

It knows which unit has which task of which nexus; it decides nothing about sessions. Whatever belongs to a nexus whose
session is over falls away silently.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import assert_never

from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.events import (
    CommandReceived,
    Condition,
    DataOutCompleted,
    DataOutFailed,
    TaskManagementRequested,
)
from iscsi_target.iscsi.open_task import Response
from iscsi_target.iscsi.parameters import SAM_5_LEVEL
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.commands import command_lookup
from iscsi_target.scsi.commands import table as commands
from iscsi_target.scsi.layouts.cdb import PersistentReserveOut, ReportLuns
from iscsi_target.scsi.layouts.reservation_pages import BasicParameterList
from iscsi_target.scsi.nexus import OPERATOR, Nexus
from iscsi_target.scsi.operations import MediumError, Outcome
from iscsi_target.scsi.profiles import AbortOfFinished
from iscsi_target.scsi.state.task import (
    Aborted,
    Bring,
    Collect,
    Completed,
    Forget,
    Function,
    Managed,
    ManagementRequest,
    Noted,
    Perform,
    Persist,
    Reached,
    Rest,
    Task,
    TaskAttribute,
    Ticket,
    UnitAction,
)
from iscsi_target.scsi.state.timeline import Entry
from iscsi_target.scsi.status import CheckCondition, Sense, SenseKey, Status, StatusError
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.target import queries
from iscsi_target.target.actions import Action, Announce, Operated, Order, ReservationNoted, SanitizeNoted
from iscsi_target.target.active import ActiveSession
from iscsi_target.target.fetches import Fetches
from iscsi_target.target.management import (
    FUNCTIONS,
    LATER_LEVEL,
    REFUSALS,
    WHOLE_TARGET,
    ManagementDesk,
)
from iscsi_target.target.queries import QUERIES
from iscsi_target.target.rests import GoOn, Rests
from iscsi_target.target.task_reporting import OF_SEVERAL_TASKS, announce_terminations, is_fenced

# RFC7143 11.4.7.2: the iSCSI conditions as sense data
CONDITIONS = {
    Condition.UNEXPECTED_UNSOLICITED_DATA: Sense(SenseKey.ABORTED_COMMAND, 0x0C0C),
    Condition.INCORRECT_AMOUNT_OF_DATA: Sense(SenseKey.ABORTED_COMMAND, 0x0C0D),
    Condition.PROTOCOL_SERVICE_CRC_ERROR: Sense(SenseKey.ABORTED_COMMAND, 0x4705),
    Condition.SNACK_REJECTED: Sense(SenseKey.ABORTED_COMMAND, 0x1113),
}
ABSENT_TASK = {  # Source: RFC7143 11.6.1, SAM5r21 7.2
    AbortOfFinished.DOES_NOT_EXIST: ManagementResponse.TASK_DOES_NOT_EXIST,
    AbortOfFinished.COMPLETE: ManagementResponse.FUNCTION_COMPLETE,
}
CLEARED = AttentionCode.SOME_COMMANDS_CLEARED_BY_ISCSI_PROTOCOL_EVENT
SIMPLE = TaskAttribute.SIMPLE
ATTRIBUTES = tuple(TaskAttribute)  # by their values; a session lets no other one through
REPORT_LUNS = bytes([ReportLuns().operation_code])


class Dispatcher:
    """Stands between sessions and logical units.

    actions    where Perform and Persist are put
    active     the sessions at work, by nexus; whoever owns the dispatcher changes it
    epoch_s    what makes seconds since the epoch of `now`
    now        when the input came that is being worked on, by the driver's clock; likewise
    unparking  sessions whose parked commands may find room now; the owner calls `unpark` when there are any
    spoil      is asked about each command of a connection with a tap: True when it is not to go on now
    dismiss    ends a session with all its connections
    """

    def __init__(self, actions: list[Action], epoch_s: float) -> None:
        self.active: dict[Nexus, ActiveSession] = {}
        self.now = 0.0
        self.unparking: dict[ActiveSession, None] = {}
        self.spoil: Callable[[ActiveSession, CommandReceived], bool] = _spoil_nothing
        self.dismiss: Callable[[ActiveSession], None] = _close
        self._epoch_s = epoch_s
        self._actions = actions
        self._desk = ManagementDesk(self.execute)
        self._performing: dict[Ticket, LogicalUnit] = {}
        self._rests = Rests()
        self._fetches = Fetches(self.execute, self.finished)
        self._orders: dict[Task, int] = {}
        self._noted_of: dict[Task, Entry] = {}  # what the response of a task is to be remarked with, or an order

    @property
    def idle(self) -> bool:
        """True when nothing is at a medium or on its way to the state file."""
        return not self._performing

    # From sessions

    def command(self, active: ActiveSession, event: CommandReceived) -> None:
        """Gives a command to the unit that its LUN names."""
        if event.connection.tap is not None and self.spoil(active, event):
            return
        seat = active.seat(event.lun)
        if seat is None:
            self._clear_report(active, event)
            if active.session.open(event):
                active.session.respond(event.tag, _absent(event.cdb, active.luns))
            return
        data = None
        if event.attribute == SIMPLE and event.data is not None and not active.session.fence.stands:
            data = seat.lane.answer(event.cdb, event.expected or event.expected_read, event.data)
        if data is not None:
            active.session.answer(event, Response(Status.GOOD, b"", data, event.expected))
        elif active.session.open(event):
            self._admit(active, event, seat.unit)

    def take(self, active: ActiveSession, event: DataOutCompleted | DataOutFailed | TaskManagementRequested) -> None:
        """Brings everything but commands to where it belongs."""
        match event:
            case DataOutCompleted():
                self.data_out_completed(active, event)
            case DataOutFailed():
                self.data_out_failed(active, event)
            case TaskManagementRequested():
                self.task_management(active, event)
            case _:
                assert_never(event)

    def _admit(self, active: ActiveSession, event: CommandReceived, unit: LogicalUnit) -> None:
        self._clear_report(active, event)
        new = Task(
            active.nexus,
            event.tag,
            event.cdb,
            ATTRIBUTES[event.attribute],
            event.expected > 0,
            active.luns,
            event.expected,
            self._epoch_s + self.now,
            event.data,
            event.priority,
        )
        active.tasks[event.tag] = (new, unit)
        self.execute(unit, unit.accept(new))
        if event.data is None:
            active.session.forget_immediate(event.tag)

    def _clear_report(self, active: ActiveSession, event: CommandReceived) -> None:
        """Takes back what REPORT LUNS of any unit tells of all of them.

        Source: SPC4r37 6.33
        """
        if event.cdb.startswith(REPORT_LUNS):
            for other in active.attached.values():
                other.nexuses.withdraw(active.nexus, AttentionCode.REPORTED_LUNS_DATA_HAS_CHANGED)

    def relieved(self, active: ActiveSession) -> None:
        """Notes that a session may have room for commands that it had to park."""
        if active.session.parks:
            self.unparking[active] = None

    def unpark(self) -> None:
        """Lets the commands go on that have room now."""
        while self.unparking:
            active, _ = self.unparking.popitem()
            while not active.ending and (received := active.session.unpark()) is not None:
                self.command(active, received)

    def data_out_completed(self, active: ActiveSession, event: DataOutCompleted) -> None:
        """Gives its Data-Out to a task that is still there."""
        if event.tag in active.tasks:
            waiting, unit = active.tasks[event.tag]
            self.execute(unit, unit.data_received(waiting, event.data))

    def data_out_failed(self, active: ActiveSession, event: DataOutFailed) -> None:
        """Ends a task with the sense data of an iSCSI condition, which may begin an ACA condition like any other.

        Source: RFC7143 11.4.7.2, SAM5r21 5.9.2
        """
        if event.tag in active.aborting:
            return
        sense = CONDITIONS[event.condition]
        if event.tag not in active.tasks:
            active.session.respond(event.tag, Response(Status.CHECK_CONDITION, sense.fixed()))
            self.relieved(active)
            return
        failing, unit = active.tasks[event.tag]
        active.failed.add(event.tag)
        request = ManagementRequest(0, Function.ABORT_TASK, active.nexus, event.tag)
        self.manage([unit], request, lambda _: self._fail(active, failing, unit, CheckCondition(sense)))

    def _fail(self, active: ActiveSession, failing: Task, unit: LogicalUnit, error: StatusError) -> None:
        if failing.tag in active.failed:  # and not aborted by the initiator meanwhile
            active.failed.remove(failing.tag)
            active.tasks[failing.tag] = failing, unit
            self.execute(unit, unit.fail(failing, error))

    def task_management(self, active: ActiveSession, event: TaskManagementRequested) -> None:
        """Performs a task management function; the response follows when all it ends is over.

        It does not wait for the Data-Out that its own tasks have been asked for, though the standard semantics have it
        so: open-iscsi 2.1, as it comes, sends none after a function (node.session.iscsi.FastAbort = Yes, which it does
        not negotiate), and would drop the session in the end. What still comes is swallowed.

        Source: RFC7143 4.2.3.3, 4.2.3.4, 11.5, 11.6
        """
        refusal = self._refusal(active, event)
        if refusal is not None:
            active.session.respond_management(event.connection, event.tag, response=refusal)
            return
        function = TaskManagement(event.function)
        if function in QUERIES:
            self._query(active, event)
            return
        if function is TaskManagement.CLEAR_ACA:
            self._clear_aca(active, event)
            return
        aborts_one = function is TaskManagement.ABORT_TASK
        tag = event.referenced_task_tag if aborts_one else None
        whole_target = function in WHOLE_TARGET
        unit = active.unit(event.lun)
        units = list(active.attached.values()) if whole_target or unit is None else [unit]
        spared = frozenset() if aborts_one else active.session.sent_after(event.cmd_sn)

        def concerns(command: CommandReceived) -> bool:
            meant = tag in (None, command.tag) and command.tag not in spared
            return meant and (whole_target or active.unit(command.lun) is unit)

        ending = {own for own, (_, its) in active.tasks.items() if its in units and tag in (None, own)} - spared
        active.aborting |= ending
        active.failed -= ending
        withdrawn = active.session.withdraw(concerns)
        self.relieved(active)
        request = ManagementRequest(0, FUNCTIONS[function], active.nexus, tag, spared)
        announce_terminations(self.active.values(), event.connection, units, request)
        self.manage(
            units, request, lambda found: self._managed(active, event, found=found or withdrawn or not aborts_one)
        )

    def end_tasks(self, active: ActiveSession, connection: Connection, then: Callable[[], None]) -> None:
        """Ends the tasks of one connection without a response; calls back when they are over.

        Source: RFC7143 7.5, 11.14.5
        """
        tags = [tag for tag, task in active.session.tasks.items() if task.connection is connection]
        ending = {tag: active.tasks[tag][1] for tag in tags if tag in active.tasks}
        active.aborting |= ending.keys()
        active.failed -= ending.keys()
        for tag in tags:
            if tag not in ending:
                active.session.discard(tag)
        self.relieved(active)
        requests = [
            (unit, ManagementRequest(0, Function.ABORT_TASK, active.nexus, tag)) for tag, unit in ending.items()
        ]
        units = dict.fromkeys(ending.values())

        def ended(_: bool) -> None:
            for unit in units:
                if active.nexus in unit.nexuses:
                    unit.nexuses.establish_for(active.nexus, CLEARED)
            then()

        self._desk.request_each(requests, ended)

    def _clear_aca(self, active: ActiveSession, event: TaskManagementRequested) -> None:
        """Clears the ACA condition of a nexus; the condition of another one is not for it to clear.

        Source: SAM5r21 7.4
        """
        unit = active.unit(event.lun)
        assert unit is not None

        def respond(cleared: bool) -> None:
            response = ManagementResponse.FUNCTION_COMPLETE if cleared else ManagementResponse.FUNCTION_REJECTED
            active.session.respond_management(event.connection, event.tag, response=response, fenced=True)

        self.manage([unit], ManagementRequest(0, Function.CLEAR_ACA, active.nexus), respond)

    def _query(self, active: ActiveSession, event: TaskManagementRequested) -> None:
        unit = active.unit(event.lun)
        assert unit is not None
        response, information = queries.answer(active, event, unit)
        active.session.respond_management(event.connection, event.tag, response=response, information=information)

    def _refusal(self, active: ActiveSession, event: TaskManagementRequested) -> ManagementResponse | None:
        if event.function not in TaskManagement.__members__.values():
            return ManagementResponse.FUNCTION_NOT_SUPPORTED
        function = TaskManagement(event.function)
        if function in LATER_LEVEL and active.session.parameters.protocol_level < SAM_5_LEVEL:
            return ManagementResponse.FUNCTION_NOT_SUPPORTED
        if function in REFUSALS:
            return REFUSALS[function]
        if function not in WHOLE_TARGET and active.unit(event.lun) is None:
            return ManagementResponse.LUN_DOES_NOT_EXIST
        return None

    def _managed(self, active: ActiveSession, event: TaskManagementRequested, *, found: bool) -> None:
        response = ManagementResponse.FUNCTION_COMPLETE
        # RFC7143 11.6.1: a command that is not in its turn yet counts as received and aborted.
        if not found and not active.session.skip(event.ref_cmd_sn, event.cmd_sn):
            response = ABSENT_TASK[active.choices.abort_of_finished_task]
        several = FUNCTIONS[TaskManagement(event.function)] in OF_SEVERAL_TASKS
        active.session.respond_management(event.connection, event.tag, response=response, fenced=several)
        if event.function == TaskManagement.TARGET_COLD_RESET:
            for other in [each for each in self.active.values() if each.node.name == active.node.name]:
                self.dismiss(other)

    # From the operator

    def operate(self, number: int, unit: LogicalUnit, order: Order) -> None:
        """Gives an order to a unit, which nobody aborts and which holds up nobody; Operated follows."""
        parameters = BasicParameterList(service_action_reservation_key=order.key).pack()
        cdb = PersistentReserveOut(service_action=order.action, parameter_list_length=len(parameters))
        new = Task(OPERATOR, number, cdb.pack(), TaskAttribute.HEAD_OF_QUEUE, received_s=self._epoch_s + self.now)
        self._orders[new] = number
        self.execute(unit, unit.operate(new, commands.OVERRULING[order.action], parameters))

    # Units and what they do by themselves

    def adopt(self, before: Iterable[LogicalUnit], units: Iterable[LogicalUnit]) -> None:
        """Takes other units: halts those that are gone, and lets the new ones go on with what was left unfinished."""
        had, has = dict.fromkeys(before), dict.fromkeys(units)
        self._fetches.units = {unit.name: unit for unit in has}
        self.halt(unit for unit in had if unit not in has)
        for unit in has:
            if unit not in had and unit.device.sanitization is not None:
                self._rests.add(unit, partial(self._wake, unit, unit.resume), self.now)

    def halt(self, units: Iterable[LogicalUnit]) -> None:
        """Lets units do nothing more by themselves, because their media are to be closed."""
        for unit in units:
            unit.halt()

    @property
    def deadline(self) -> float:
        """When elapsed() must be called at the latest, or NEVER."""
        return self._rests.next

    def elapsed(self) -> None:
        """Lets go on whose rest is over."""
        for go_on in self._rests.take(self.now):
            go_on()

    def put_off(self, reason: object, go_on: GoOn, seconds: float) -> None:
        """Has something done so much later, unless it is given up before.

        reason   for which nothing is put off yet
        """
        self._rests.add(reason, go_on, self.now + seconds)

    def give_up(self, reason: object) -> None:
        """Forgets what was put off for a reason, if it is not done already."""
        self._rests.drop(reason)

    def _wake(self, unit: LogicalUnit, go_on: Callable[[], Iterable[UnitAction]]) -> None:
        self.execute(unit, go_on())

    # From the driver

    def finished(self, ticket: Ticket, result: Outcome | MediumError) -> None:
        """Brings a result back to its unit."""
        unit = self._performing.pop(ticket)
        self.execute(unit, unit.finished(ticket, result))

    # To and from units

    def manage(self, units: Iterable[LogicalUnit], request: ManagementRequest, then: Callable[[bool], None]) -> None:
        """Asks units to end tasks; `then(found)` is called when all of them are over."""
        self._desk.request(units, request, then)

    def execute(self, unit: LogicalUnit, actions: Iterable[UnitAction]) -> None:
        """Does what a logical unit wants done."""
        for action in actions:
            match action:
                case Perform(ticket) | Persist(ticket):
                    self._performing[ticket] = unit
                    self._actions.append(action)
                case Bring(ticket):
                    self._performing[ticket] = unit
                    self._fetches.ask(unit, action, self._epoch_s + self.now)
                case Completed():
                    self._completed(action)
                case Collect(wanting, length_bytes):
                    self._collect(wanting, length_bytes)
                case Aborted(ended) if ended in self._fetches:
                    self._fetches.ended(action)
                case Aborted(ended):
                    self._aborted(ended)
                case Managed():
                    self._desk.reported(action)
                case Noted(noted, entry):
                    self._noted(unit, noted, entry)
                case Rest(ticket, seconds):
                    self.put_off(ticket, partial(self._wake, unit, partial(unit.rested, ticket)), seconds)
                case Forget(ticket):
                    self.give_up(ticket)
                case Reached(milestone, sanitization, nexus):
                    initiator = "" if nexus is None else nexus.initiator_port.name
                    self._actions.append(Announce(SanitizeNoted(unit.name, milestone, sanitization, initiator)))
                case _:
                    assert_never(action)

    def _collect(self, wanting: Task, length_bytes: int) -> None:
        active = self.active[wanting.nexus]
        completed = active.session.collect(wanting.tag, length_bytes)
        if completed is not None:
            self.data_out_completed(active, completed)

    def _noted(self, unit: LogicalUnit, noted: Task, entry: Entry) -> None:
        active = self.active.get(noted.nexus)
        task = None if active is None else active.session.tasks.get(noted.tag)
        connection = None if task is None else task.connection.number
        self._actions.append(Announce(ReservationNoted(connection, noted.tag, unit.name, entry)))
        if noted not in self._fetches and (active is not None or noted in self._orders):
            self._noted_of[noted] = entry

    def _completed(self, completed: Completed) -> None:
        ended = completed.task
        if self._orders and ended in self._orders:
            self._actions.append(Operated(self._orders.pop(ended), self._noted_of.pop(ended)))
            return
        if self._fetches and ended in self._fetches:
            self._fetches.ended(completed)
            return
        active = self.active[ended.nexus]
        del active.tasks[ended.tag]
        if active.aborting:
            active.aborting.discard(ended.tag)
        if self._noted_of:
            completed.about = self._noted_of.pop(ended, None)
        session = active.session
        session.respond(ended.tag, completed, fenced=session.fences and is_fenced(completed))
        self.relieved(active)

    def _aborted(self, ended: Task) -> None:
        active = self.active[ended.nexus]
        del active.tasks[ended.tag]
        active.aborting.discard(ended.tag)
        self._noted_of.pop(ended, None)
        if ended.tag not in active.failed:
            active.session.discard(ended.tag)
        self.relieved(active)


def _close(active: ActiveSession) -> None:
    active.session.close()


def _spoil_nothing(_active: ActiveSession, _event: CommandReceived) -> bool:
    return False


def _absent(cdb: bytes, luns: tuple[int, ...]) -> Response:
    """Answers a command for a LUN that no unit has.

    Source: SPC4r37 6.6.1, SAM5r21 4.7.2
    """
    try:
        done = command_lookup.absent_unit(cdb, luns)
    except CheckCondition as error:
        return Response(error.status, error.sense.fixed())
    except StatusError as error:
        return Response(error.status)
    return Response(done.status, data_in=done.data_in)
