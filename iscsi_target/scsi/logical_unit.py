"""One logical unit: it takes tasks, orders them, lets handlers work and makes a status of what comes of them.

A task is admitted (its CDB understood, its Data-Out asked for), becomes enabled by its place in the task set, starts
when its data is there too, and then ends by itself, or after its operation's turn at the medium, or after the state
file. What the start checks, in this order: a unit attention of a reset or a lost nexus, the reservation, any other unit
attention, the medium, the command's handler.

The fencing law: a task whose operation is at the medium cannot be taken back. Aborting it only decides how it will end
when the operation is over, and a management request is over when every task that it ended is. What did not go to the
medium ends at once and never goes.

Only one change of what the state file keeps is under way at a time: a command that may change it waits before its first
check until the save before it is over, so it starts from what was adopted. A task that is aborted during its save
adopts what is on disk all the same, and only its status stays away; as what was saved is then current too, a reset in
between makes no difference.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from iscsi_target.scsi import commands
from iscsi_target.scsi.attention import AttentionCode, precedes_reservation_conflict
from iscsi_target.scsi.cdb import ModeSelect6, ModeSelect10, ReportLuns, RequestSense
from iscsi_target.scsi.command import Command
from iscsi_target.scsi.device import Device
from iscsi_target.scsi.medium_faults import condition
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.nexus_table import NexusTable
from iscsi_target.scsi.open_task import (
    Collecting,
    Fate,
    Fence,
    OpenTask,
    Over,
    Performing,
    Ready,
    Saving,
    Waiting,
    WaitingToSave,
)
from iscsi_target.scsi.operations import MediumError, Outcome
from iscsi_target.scsi.primary import sense_data
from iscsi_target.scsi.reservations import Spc2Reservation
from iscsi_target.scsi.status import (
    CheckCondition,
    InternalTargetFailure,
    InvalidFieldInCdb,
    InvalidOperationCode,
    InvalidTaskAttribute,
    MediumNotPresent,
    NotReadyInitialisingRequired,
    ParameterListLengthError,
    ReservationConflict,
    Status,
    StatusError,
    TaskSetFull,
    UnitAttention,
)
from iscsi_target.scsi.task import (
    Aborted,
    Call,
    Collect,
    Completed,
    Done,
    Function,
    Managed,
    ManagementRequest,
    Perform,
    Persist,
    Reply,
    Save,
    Task,
    TaskAttribute,
    Ticket,
    UnitAction,
    Work,
)
from iscsi_target.scsi.task_set import TaskSet, Turn, Turns
from iscsi_target.wire.layout import Layout, LayoutError

QERR_ABORT_ALL = 1  # QERR = 01b
QERR_ABORT_NEXUS = 3  # QERR = 11b

# The commands that change what the state file keeps.
SAVERS = (ModeSelect6, ModeSelect10)

RESETS = {
    Function.LOGICAL_UNIT_RESET: AttentionCode.BUS_DEVICE_RESET_FUNCTION_OCCURRED,
    Function.TARGET_RESET: AttentionCode.SCSI_BUS_RESET_OCCURRED,
}


def _unavailable(command: Command) -> CheckCondition:
    if command.service_action is None:
        return InvalidOperationCode()
    return InvalidFieldInCdb(command.layout, "service_action")


class LogicalUnit:
    """The machine of one logical unit; its inputs return the actions that the target is to execute, in order.

    name     the unit's name in tickets
    device   what the command handlers work on
    Source: SAM5r21 4.5.19, 8
    """

    def __init__(self, name: str, device: Device) -> None:
        self.name = name
        self.device = device
        self._nexuses = NexusTable()
        self._tasks = TaskSet()
        self._turns = Turns()
        self._open: dict[Task, OpenTask] = {}
        self._tickets: dict[int, OpenTask] = {}
        self._next_ticket = 0
        self._saving = False
        self._savers: list[OpenTask] = []
        self._startable: deque[OpenTask] = deque()
        self._outbox: list[UnitAction] = []

    @property
    def open_tasks(self) -> int:
        """How many tasks have not ended."""
        return len(self._open)

    # Nexuses and attentions

    def attach(self, nexus: Nexus) -> None:
        """Takes in a nexus whose session came up.

        Source: SAM5r21 6.3.1, 6.3.4
        """
        self._nexuses.attach(nexus)

    def detach(self, nexus: Nexus) -> None:
        """Lets a nexus go whose tasks are over; what it prevented and reserved goes with it.

        Source: SAM5r21 6.3.4, SBC3r36 5.10
        """
        assert not self._tasks.open_tasks(nexus)
        self._nexuses.detach(nexus)
        self.device.preventing.discard(nexus)
        self.device.reservation = self.device.reservation.release(nexus)

    def attention(self, code: int, *, except_nexus: Nexus | None = None) -> None:
        """Establishes a unit attention for every attached nexus but one.

        code   ASC << 8 | ASCQ
        Source: SAM5r21 5.14
        """
        self._nexuses.establish(code, except_nexus=except_nexus)

    def attention_for(self, nexus: Nexus, code: int) -> None:
        """Establishes a unit attention for one attached nexus.

        code   ASC << 8 | ASCQ
        Source: SAM5r21 5.14
        """
        self._nexuses.establish_for(nexus, code)

    def withdraw_attention(self, code: int, nexus: Nexus) -> None:
        """Clears a unit attention that an attached nexus has learned of in another way, as by REPORT LUNS elsewhere.

        Source: SPC4r37 6.33, SAM5r21 5.14
        """
        self._nexuses.withdraw(nexus, code)

    def resize(self, length_blocks: int) -> None:
        """Gives the unit another capacity and says so to every attached nexus.

        Source: SBC3r36 4.10
        """
        self.device.geometry = replace(self.device.geometry, length_blocks=length_blocks)
        self._nexuses.establish(AttentionCode.CAPACITY_DATA_HAS_CHANGED)

    # Inputs

    def accept(self, task: Task) -> list[UnitAction]:
        """Takes in a task of an attached nexus; one that is refused ends at once.

        Source: SAM5r21 5.1, 8
        """
        assert task.nexus in self._nexuses
        if self._tasks.has_room(task.nexus):
            self._admit(task)
        else:
            self._refuse(task, TaskSetFull())
        return self._run()

    def data_received(self, task: Task, data_out: bytes) -> list[UnitAction]:
        """Takes in the Data-Out that a Collect asked for; it is ignored when the task has ended meanwhile.

        data_out   at most the bytes asked for
        Source: SAM5r21 5.4.3
        """
        entry = self._open.get(task)
        if entry is None:
            return []
        assert isinstance(entry.phase, Collecting)
        entry.data_out = data_out
        entry.phase = Ready()
        if entry.enabled:
            self._startable.append(entry)
        return self._run()

    def finished(self, ticket: Ticket, result: Outcome | MediumError) -> list[UnitAction]:
        """Takes in what became of a Perform or a Persist."""
        entry = self._tickets.pop(ticket.number)
        match entry.phase:
            case Performing(turn, work):
                self._leave_turn(turn)
                self._performed(entry, work, result)
            case Saving(save):
                self._saving = False
                self._saved(entry, save, result)
                self._retry_savers()
            case _:
                raise AssertionError(f"{ticket} has nothing under way")
        return self._run()

    def manage(self, request: ManagementRequest) -> list[UnitAction]:
        """Performs a task management function; exactly one Managed tells when all tasks in its scope are over.

        Tasks that arrive later are not in its scope. A reset takes effect at once, on everybody's attentions too.
        Source: SAM5r21 7, 6.3.3, RFC7143 4.2.3
        """
        scope = self._scope(request)
        found = bool(scope) or request.function is not Function.ABORT_TASK
        fence = Fence(request.number, found, 1 + len(scope))
        for entry in scope:
            entry.fences.append(fence)
        self._abort_all(scope, request.nexus, tell_others=request.function is Function.CLEAR_TASK_SET)
        if request.function in RESETS:
            self._reset(RESETS[request.function])
        self._lower(fence)
        return self._run()

    # Admission

    def _admit(self, task: Task) -> None:
        subject_to_attention = True
        try:
            if task.attribute is TaskAttribute.ACA:
                raise InvalidTaskAttribute
            command = commands.find(task.cdb)
            subject_to_attention = command.attention
            if not command.available(self.device):
                raise _unavailable(command)
            cdb = command.unpack(task.cdb)
            wanted = command.data_out(self.device, cdb)
        except StatusError as error:
            code = self._nexuses.take(task.nexus) if subject_to_attention else None
            self._refuse(task, error if code is None else UnitAttention(code))
            return
        collects = wanted > 0 and task.expects_data
        entry = OpenTask(task, command, cdb, wanted, Collecting() if collects else Ready())
        self._open[task] = entry
        if collects:
            self._outbox.append(Collect(task, wanted))
        self._enable(self._tasks.enter(task))

    def _refuse(self, task: Task, error: StatusError) -> None:
        self._outbox.append(Completed(task, error.status, self._sense_data(error)))
        self._after_error(task.nexus, error)

    def _enable(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            entry = self._open[task]
            entry.enabled = True
            if isinstance(entry.phase, Ready):
                self._startable.append(entry)

    # From the start of a task to its end

    def _run(self) -> list[UnitAction]:
        while self._startable:
            entry = self._startable.popleft()
            match entry.phase:
                case Ready() if self._saving and isinstance(entry.cdb, SAVERS):
                    entry.phase = WaitingToSave()
                    self._savers.append(entry)
                case Ready():
                    self._settle(entry, partial(self._start, entry))
                case Waiting(turn, work):
                    self._perform(entry, turn, work)
                case Over():
                    pass
                case _:
                    raise AssertionError(f"{entry.phase} cannot go on by itself")
        actions, self._outbox = self._outbox, []
        return actions

    def _start(self, entry: OpenTask) -> Reply:
        task, command = entry.task, entry.command
        permitted = self.device.reservation.permits(task.nexus, command.columns(entry.cdb))
        if command.attention or isinstance(entry.cdb, RequestSense):
            code = self._nexuses.first(task.nexus)
            if code is not None and (permitted or precedes_reservation_conflict(code)):
                self._nexuses.withdraw(task.nexus, code)
                return self._report_attention(code, entry.cdb)
        if not permitted:
            raise ReservationConflict
        if command.medium_access and not self.device.loaded:
            raise MediumNotPresent
        if command.medium_access and self.device.stopped:
            raise NotReadyInitialisingRequired
        reply = command.handler(
            self.device, entry.cdb, Call(task.nexus, entry.data_out, task.luns, task.expected_length)
        )
        if isinstance(entry.cdb, ReportLuns):
            self._nexuses.withdraw(task.nexus, AttentionCode.REPORTED_LUNS_DATA_HAS_CHANGED)
        return reply

    def _report_attention(self, code: int, cdb: Layout) -> Done:
        if not isinstance(cdb, RequestSense):
            raise UnitAttention(code)
        return sense_data(cdb, UnitAttention(code).sense)

    def _settle(self, entry: OpenTask, step: Callable[[], Reply]) -> None:
        """Runs a step of a command; the one place that turns what handlers raise into a status."""
        try:
            reply = step()
        except LayoutError:
            self._fail(entry, ParameterListLengthError())
        except StatusError as error:
            self._fail(entry, error)
        else:
            self._proceed(entry, reply)

    def _proceed(self, entry: OpenTask, reply: Reply) -> None:
        match reply:
            case Done():
                self._complete(entry, reply)
            case Work(operation):
                self._tell_others(entry.task.nexus, reply)
                turn = Turn(entry.task, operation)
                entry.phase = Waiting(turn, reply)
                if self._turns.enter(turn):
                    self._perform(entry, turn, reply)
            case Save(state):
                assert not self._saving
                self._saving = True
                entry.phase = Saving(reply)
                self._outbox.append(Persist(self._ticket(entry), state))

    def _perform(self, entry: OpenTask, turn: Turn, work: Work) -> None:
        entry.phase = Performing(turn, work)
        self._outbox.append(Perform(self._ticket(entry), work.operation))

    def _ticket(self, entry: OpenTask) -> Ticket:
        self._next_ticket += 1
        self._tickets[self._next_ticket] = entry
        return Ticket(self.name, self._next_ticket)

    def _performed(self, entry: OpenTask, work: Work, result: Outcome | MediumError) -> None:
        def finish() -> Done:
            if isinstance(result, MediumError):
                raise condition(result, self.device.geometry.block_length_bytes)
            return work.finish(result)

        if entry.fate is Fate.ITS_OWN:
            self._settle(entry, finish)
        else:
            self._end_aborted(entry)

    def _saved(self, entry: OpenTask, save: Save, result: Outcome | MediumError) -> None:
        def finish() -> Done | Work:
            if isinstance(result, MediumError):
                raise InternalTargetFailure
            return save.finish()

        if entry.fate is Fate.ITS_OWN:
            self._settle(entry, finish)
            return
        if not isinstance(result, MediumError):
            self._tell_others(entry.task.nexus, save.finish())
        self._end_aborted(entry)

    def _retry_savers(self) -> None:
        savers, self._savers = self._savers, []
        for entry in savers:
            if isinstance(entry.phase, WaitingToSave):
                entry.phase = Ready()
                self._startable.append(entry)

    def _leave_turn(self, turn: Turn) -> None:
        self._startable.extend(self._open[free.task] for free in self._turns.leave(turn))

    def _complete(self, entry: OpenTask, done: Done) -> None:
        self._outbox.append(Completed(entry.task, done.status, data_in=done.data_in, wanted=entry.wanted))
        self._tell_others(entry.task.nexus, done)
        self._leave(entry)

    def _tell_others(self, nexus: Nexus, reply: Done | Work) -> None:
        if reply.attention is not None:
            self._nexuses.establish(reply.attention, except_nexus=nexus)

    def _fail(self, entry: OpenTask, error: StatusError) -> None:
        self._outbox.append(Completed(entry.task, error.status, self._sense_data(error), wanted=entry.wanted))
        self._leave(entry)
        self._after_error(entry.task.nexus, error)

    def _sense_data(self, error: StatusError) -> bytes:
        if not isinstance(error, CheckCondition):
            return b""
        return error.sense.descriptor() if self.device.descriptor_sense else error.sense.fixed()

    def _after_error(self, nexus: Nexus, error: StatusError) -> None:
        """Does what QERR wants done to the other tasks after CHECK CONDITION.

        Source: SPC4r37 7.5.8
        """
        if error.status is not Status.CHECK_CONDITION:
            return
        if self.device.qerr == QERR_ABORT_ALL:
            self._abort_all(list(self._open.values()), nexus, tell_others=True)
        elif self.device.qerr == QERR_ABORT_NEXUS:
            self._abort_all(self._open_of(nexus), nexus, tell_others=False)

    def _leave(self, entry: OpenTask) -> None:
        entry.phase = Over()
        del self._open[entry.task]
        self._enable(self._tasks.leave(entry.task))
        for fence in entry.fences:
            self._lower(fence)

    def _lower(self, fence: Fence) -> None:
        fence.outstanding -= 1
        if not fence.outstanding:
            self._outbox.append(Managed(fence.number, fence.found))

    # Aborting

    def _scope(self, request: ManagementRequest) -> list[OpenTask]:
        match request.function:
            case Function.ABORT_TASK:
                return [entry for entry in self._open_of(request.nexus) if entry.task.tag == request.tag]
            case Function.ABORT_TASK_SET | Function.NEXUS_LOSS:
                return self._open_of(request.nexus)
            case Function.CLEAR_TASK_SET | Function.LOGICAL_UNIT_RESET | Function.TARGET_RESET:
                return list(self._open.values())

    def _open_of(self, nexus: Nexus) -> list[OpenTask]:
        return [entry for entry in self._open.values() if entry.task.nexus == nexus]

    def _abort_all(self, scope: list[OpenTask], cause: Nexus, *, tell_others: bool) -> None:
        """Aborts tasks on account of a nexus.

        cause         its own tasks end in silence, those of others as TAS says
        tell_others   True gives a unit attention to the others whose tasks end in silence
        Source: SAM5r21 5.7, SPC4r37 7.5.8 (TAS)
        """
        others = Fate.TASK_ABORTED if self.device.task_aborted_status else Fate.SILENCE
        hushed: dict[Nexus, None] = {}
        for entry in scope:
            foreign = entry.task.nexus != cause
            if foreign and entry.fate is Fate.ITS_OWN and others is Fate.SILENCE:
                hushed[entry.task.nexus] = None
            self._abort(entry, others if foreign else Fate.SILENCE)
        if tell_others:
            for nexus in hushed:
                self._nexuses.establish_for(nexus, AttentionCode.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR)

    def _abort(self, entry: OpenTask, fate: Fate) -> None:
        if entry.fate is not Fate.SILENCE:
            entry.fate = fate
        match entry.phase:
            case Performing() | Saving():
                pass
            case Waiting(turn):
                self._leave_turn(turn)
                self._end_aborted(entry)
            case Collecting() | Ready() | WaitingToSave():
                self._end_aborted(entry)
            case Over():
                raise AssertionError("a task that has ended cannot be aborted")

    def _end_aborted(self, entry: OpenTask) -> None:
        if entry.fate is Fate.TASK_ABORTED:
            self._outbox.append(Completed(entry.task, Status.TASK_ABORTED, wanted=entry.wanted))
        else:
            self._outbox.append(Aborted(entry.task))
        self._leave(entry)

    def _reset(self, code: AttentionCode) -> None:
        """Brings the unit to the state after a reset; every nexus learns of it, the one that asked for it too.

        Source: SAM5r21 6.3.3, SBC3r36 5.10, 4.20
        """
        self.device.preventing.clear()
        self.device.reservation = Spc2Reservation()
        self.device.modes = self.device.modes.reset()
        self.device.stopped = False
        self._nexuses.establish(code)
