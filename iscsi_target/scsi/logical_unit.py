"""One logical unit: it takes tasks, orders them, lets handlers work and makes a status of what comes of them.

A task is admitted (its CDB understood, its Data-Out asked for), becomes enabled by its place in the task set, starts
when its data is there too, and then ends by itself, or after its operation's turn at the medium, or after the state
file. What the start checks is in `checks`.

The fencing law: a task whose operation is at the medium cannot be taken back. Aborting it only decides how it will end
when the operation is over, and a management request is over when every task that it ended is. What did not go to the
medium ends at once and never goes.

Only one change of what the state file keeps is under way at a time: a command that may change it waits before its first
check until the save before it is over, so it starts from what was adopted. A task that is aborted during its save
adopts what is on disk all the same, and only its status stays away; as what was saved is then current too, a reset in
between makes no difference. The same commands are those that change reservations, so that no two changes overlap.

PERSISTENT RESERVE OUT is over when every task that it aborts is. It waits for tasks that were there before it only, so
two of them cannot wait for each other.
"""

from collections.abc import Callable

from iscsi_target.scsi import commands
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.cdb import ReportLuns
from iscsi_target.scsi.checks import examine
from iscsi_target.scsi.chronicle import Chronicle
from iscsi_target.scsi.command import Command
from iscsi_target.scsi.device import Device
from iscsi_target.scsi.lane import Lane
from iscsi_target.scsi.log_pages import RESETTABLE
from iscsi_target.scsi.medium_faults import condition
from iscsi_target.scsi.nexus import OPERATOR, Nexus
from iscsi_target.scsi.nexus_table import NexusTable
from iscsi_target.scsi.open_task import (
    COLLECTING,
    FENCING,
    READY,
    Collecting,
    Fate,
    Fence,
    Fencing,
    OpenTask,
    Over,
    Performing,
    Ready,
    Saving,
    Waiting,
    WaitingToSave,
)
from iscsi_target.scsi.open_tasks import OpenTasks
from iscsi_target.scsi.operations import BLOCKS, Attempt, Buffer, MediumError, Outcome, attempt_nothing
from iscsi_target.scsi.reservation_request import TasksAborted, Told, ToldAll, Transition
from iscsi_target.scsi.status import (
    InvalidTaskAttribute,
    ParameterListLengthError,
    Status,
    StatusError,
    TaskSetFull,
    UnitAttention,
)
from iscsi_target.scsi.task import (
    Aborted,
    Call,
    Change,
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
from iscsi_target.scsi.task_set import Turn
from iscsi_target.scsi.timeline import Entry
from iscsi_target.wire.layout import LayoutError

QERR_ABORT_ALL = 1  # QERR = 01b
QERR_ABORT_NEXUS = 3  # QERR = 11b

RESETS = {
    Function.LOGICAL_UNIT_RESET: AttentionCode.BUS_DEVICE_RESET_FUNCTION_OCCURRED,
    Function.TARGET_RESET: AttentionCode.SCSI_BUS_RESET_OCCURRED,
}


class LogicalUnit:
    """The machine of one logical unit; its inputs return the actions that the target is to execute, in order.

    name      the unit's name, for whoever executes its actions
    device    what the command handlers work on
    nexuses   who is attached, and the unit attentions of each
    attempt   has the medium do an operation if that cannot block; BLOCKS when a thread is to do it
    Source: SAM5r21 4.5.19, 8
    """

    def __init__(self, name: str, device: Device, attempt: Attempt = attempt_nothing) -> None:
        self.name = name
        self.device = device
        self._attempt = attempt
        self.nexuses = NexusTable()
        self._tasks = OpenTasks()
        self._chronicle = Chronicle(device)
        self._saving = False
        self._outbox: list[UnitAction] = []

    @property
    def open_tasks(self) -> int:
        """How many tasks have not ended."""
        return len(self._tasks)

    @property
    def timeline(self) -> list[Entry]:
        """What happened to the reservations lately, oldest first."""
        return self._chronicle.entries()

    # Nexuses and attentions

    def attach(self, nexus: Nexus) -> None:
        """Takes in a nexus whose session came up.

        Source: SAM5r21 6.3.1, 6.3.4
        """
        self.nexuses.attach(nexus)

    def lane(self, nexus: Nexus) -> Lane:
        """Returns the short way for the commands of an attached nexus; not to be used when it is detached."""
        return Lane(nexus, self.device, self.nexuses, self._tasks, self._attempt)

    def detach(self, nexus: Nexus) -> None:
        """Lets a nexus go whose tasks are over; what it prevented and its SPC-2 reservation go with it.

        Source: SAM5r21 6.3.4, SBC3r36 5.10
        """
        assert not self._tasks.count(nexus)
        self.nexuses.detach(nexus)
        self.device.forget(nexus)

    def resize(self, length_blocks: int) -> None:
        """Gives the unit another capacity and says so to every attached nexus.

        Source: SBC3r36 4.10
        """
        self.device.geometry = self.device.geometry._replace(length_blocks=length_blocks)
        self.nexuses.establish(AttentionCode.CAPACITY_DATA_HAS_CHANGED)

    # Inputs

    def accept(self, task: Task) -> list[UnitAction]:
        """Takes in a task of an attached nexus; one that is refused ends at once.

        Source: SAM5r21 5.1, 8
        """
        if self._tasks.order.has_room(task.nexus):
            self._admit(task)
        else:
            self._refuse(task, TaskSetFull())
        return self._run()

    def data_received(self, task: Task, data_out: Buffer) -> list[UnitAction]:
        """Takes in the Data-Out that a Collect asked for; it is ignored when the task has ended meanwhile.

        data_out   at most the bytes asked for
        Source: SAM5r21 5.4.3
        """
        entry = self._tasks.find(task)
        if entry is None:
            return []
        assert isinstance(entry.phase, Collecting)
        entry.data_out = data_out
        entry.phase = READY
        self._tasks.make_startable(entry)
        return self._run()

    def operate(self, task: Task, command: Command, data_out: bytes) -> list[UnitAction]:
        """Takes in a command of the operator: ordered and serialised like those of the nexuses, and aborted by none.

        command    of `commands.OVERRULING`
        """
        self._tasks.enter(OpenTask(task, command, command.unpack(task.cdb), 0, READY, data_out))
        return self._run()

    def finished(self, ticket: Ticket, result: Outcome | MediumError) -> list[UnitAction]:
        """Takes in what became of a Perform or a Persist."""
        entry = self._tasks.redeem(ticket)
        match entry.phase:
            case Performing(turn, work):
                self._count(work, result, at_once=False)
                self._tasks.leave_turn(turn)
                self._performed(entry, work, result)
            case Saving(save):
                self._saving = False
                self._saved(entry, save, result)
                self._tasks.retry_savers()
        return self._run()

    def manage(self, request: ManagementRequest) -> list[UnitAction]:
        """Performs a task management function; exactly one Managed tells when all tasks in its scope are over.

        Tasks that arrive later are not in its scope. A reset takes effect at once, on everybody's attentions too.
        Source: SAM5r21 7, 6.3.3, RFC7143 4.2.3
        """
        scope = self._tasks.in_scope(request)
        found = bool(scope) or request.function is not Function.ABORT_TASK
        fence = Fence.around(scope, lambda: self._outbox.append(Managed(request.number, found)))
        self._abort_all(scope, request.nexus, tell_others=request.function is Function.CLEAR_TASK_SET)
        if request.function in RESETS:
            self._reset(RESETS[request.function])
        fence.lower()
        return self._run()

    # Admission

    def _admit(self, task: Task) -> None:
        command: Command | None = None
        try:
            if task.attribute is TaskAttribute.ACA:
                raise InvalidTaskAttribute
            command = commands.find_available(task.cdb, self.device)
            cdb = command.unpack(task.cdb)
            wanted = command.data_out(self.device, cdb)
        except StatusError as error:
            subject_to_attention = command is None or command.attention
            interlocked = self.device.modes.interlocks_attentions
            code = self.nexuses.take(task.nexus, interlocked=interlocked) if subject_to_attention else None
            refusal = error if code is None else UnitAttention(code)
            if command is not None:
                self._note_refusal(task, command, refusal)
            self._refuse(task, refusal)
            return
        collects = wanted > 0 and task.expects_data and task.data_out is None
        if collects:
            self._outbox.append(Collect(task, wanted))
        data_out = (task.data_out or b"")[:wanted]
        self._tasks.enter(OpenTask(task, command, cdb, wanted, COLLECTING if collects else READY, data_out))

    def _refuse(self, task: Task, error: StatusError) -> None:
        self._outbox.append(Completed(task, error.status, self.device.sense_data(error)))
        self._after_error(task.nexus, error)

    # From the start of a task to its end

    def _run(self) -> list[UnitAction]:
        while self._tasks.startable:
            entry = self._tasks.startable.popleft()
            match entry.phase:
                case Ready() if self._saving and entry.command.row.exclusive:
                    self._tasks.wait_to_save(entry)
                case Ready():
                    self._settle(entry, self._start)
                case Waiting(turn, work):
                    self._take_turn(entry, turn, work)
                case Over():
                    pass
                case _:
                    raise AssertionError(f"{entry.phase} cannot go on by itself")
        actions, self._outbox = self._outbox, []
        return actions

    def _start(self, entry: OpenTask) -> Reply:
        task, command = entry.task, entry.command
        told = examine(task.nexus, command, entry.cdb, self.device, self.nexuses)
        if told is not None:
            return told
        known = (task.nexus, entry.data_out, task.luns, task.expected_length, task.received_s, self.nexuses)
        reply = command.handler(self.device, entry.cdb, Call._make(known))
        if isinstance(entry.cdb, ReportLuns):
            self.nexuses.withdraw(task.nexus, AttentionCode.REPORTED_LUNS_DATA_HAS_CHANGED)
        return reply

    def _settle(self, entry: OpenTask, step: Callable[..., Reply], *arguments: object) -> None:
        """Runs a step of a command; the one place that turns what handlers raise into a status."""
        try:
            reply = step(entry, *arguments)
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
                self._tell_others(entry, reply)
                turn = Turn(entry.task, operation)
                entry.phase = Waiting(turn, reply)
                if self._tasks.turns.enter(turn):
                    self._take_turn(entry, turn, reply)
            case Change(transition):
                self._change(entry, transition)
            case Save(state):
                assert not self._saving
                self._saving = True
                entry.phase = Saving(reply)
                self._outbox.append(Persist(entry, state, self.name))

    def _tell_others(self, entry: OpenTask, reply: Done | Work) -> None:
        if reply.attention is not None:
            self.nexuses.establish(reply.attention, except_nexus=entry.task.nexus)

    # At the medium

    def _take_turn(self, entry: OpenTask, turn: Turn, work: Work) -> None:
        result = self._attempt(work.operation)
        if result is not BLOCKS:
            self._count(work, result, at_once=True)
            self._tasks.leave_turn(turn)
            self._settle(entry, self._finish, work, result)
            return
        entry.phase = Performing(turn, work)
        self._outbox.append(Perform(entry, work.operation, self.name))

    def _count(self, work: Work, result: Outcome | MediumError, *, at_once: bool) -> None:
        self.device.statistics.count(work.operation, failed=isinstance(result, MediumError), at_once=at_once)

    def _performed(self, entry: OpenTask, work: Work, result: Outcome | MediumError) -> None:
        if entry.fate is Fate.ITS_OWN:
            self._settle(entry, self._finish, work, result)
        else:
            self._end_aborted(entry)

    def _finish(self, _: OpenTask, work: Work, result: Outcome | MediumError) -> Done:
        if isinstance(result, MediumError):
            work.abandon()
            raise condition(result, self.device.geometry.block_length_bytes)
        return work.finish(result)

    # At the state file

    def _saved(self, entry: OpenTask, save: Save, result: Outcome | MediumError) -> None:
        if entry.fate is Fate.ITS_OWN:
            self._settle(entry, self._adopt, save, result)
        elif isinstance(result, MediumError):
            self._end_aborted(entry)
        else:
            self._adopt_aborted(entry, save.finish())

    def _adopt(self, _: OpenTask, save: Save, result: Outcome | MediumError) -> Done | Work | Change:
        if isinstance(result, MediumError):
            raise save.failure()
        return save.finish()

    def _adopt_aborted(self, entry: OpenTask, reply: Done | Work | Change) -> None:
        """Lets what is on disk hold, although the command that wanted it was aborted meanwhile."""
        if isinstance(reply, Change):
            self._change(entry, reply.transition)
        else:
            self._tell_others(entry, reply)
            self._end_aborted(entry)

    def _complete(self, entry: OpenTask, done: Done) -> None:
        self._outbox.append(Completed(entry.task, done.status, b"", done.data_in, entry.wanted))
        self._tell_others(entry, done)
        self._leave(entry)

    def _fail(self, entry: OpenTask, error: StatusError) -> None:
        self._note_refusal(entry.task, entry.command, error)
        self._outbox.append(Completed(entry.task, error.status, self.device.sense_data(error), wanted=entry.wanted))
        self._leave(entry)
        self._after_error(entry.task.nexus, error)

    def _after_error(self, nexus: Nexus, error: StatusError) -> None:
        """Does what QERR wants done to the other tasks after CHECK CONDITION, and UA_INTLCK_CTRL after refusals.

        Source: SPC4r37 7.5.8
        """
        if nexus == OPERATOR:
            return
        if self.device.modes.attends_to_refusals:
            self.nexuses.establish_refused(nexus, error.status)
        if error.status is not Status.CHECK_CONDITION:
            return
        if self.device.qerr == QERR_ABORT_ALL:
            self._abort_all(self._tasks.all(), nexus, tell_others=True)
        elif self.device.qerr == QERR_ABORT_NEXUS:
            self._abort_all(self._tasks.of(nexus), nexus, tell_others=False)

    def _leave(self, entry: OpenTask) -> None:
        self._tasks.leave(entry)
        for fence in entry.fences:
            fence.lower()

    # Reservations

    def _change(self, entry: OpenTask, transition: Transition) -> None:
        """Lets a change of the reservations hold; the command is over when all tasks that it aborts are.

        Source: SPC4r37 5.13.11.2.6
        """
        self.device.reservations = transition.state
        self._outbox.append(self._chronicle.changed(entry.task, entry.command, transition))
        victims = []
        for consequence in transition.consequences:
            match consequence:
                case Told(nexus, code):
                    if nexus in self.nexuses:
                        self.nexuses.establish_for(nexus, code)
                case ToldAll(code, except_nexus):
                    self.nexuses.establish(code, except_nexus=except_nexus)
                case TasksAborted(nexus):
                    self.device.preventing.discard(nexus)
                    victims.append(nexus)
        scope = [other for other in self._tasks.of(*victims) if other is not entry]
        entry.phase = FENCING
        fence = Fence.around(scope, lambda: self._fenced(entry))
        self._abort_all(scope, entry.task.nexus, tell_others=True)
        fence.lower()

    def _fenced(self, entry: OpenTask) -> None:
        if entry.fate is Fate.ITS_OWN:
            self._complete(entry, Done())
        else:
            self._end_aborted(entry)

    def _note_refusal(self, task: Task, command: Command, error: StatusError) -> None:
        noted = self._chronicle.refused(task, command, error)
        if noted is not None:
            self._outbox.append(noted)

    # Aborting

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
                self.nexuses.establish_for(nexus, AttentionCode.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR)

    def _abort(self, entry: OpenTask, fate: Fate) -> None:
        if entry.fate is not Fate.SILENCE:
            entry.fate = fate
        match entry.phase:
            case Performing() | Saving() | Fencing():
                pass
            case Waiting(turn):
                self._tasks.leave_turn(turn)
                self._end_aborted(entry)
            case Collecting() | Ready() | WaitingToSave():
                self._end_aborted(entry)
            case Over():
                raise AssertionError("a task that has ended cannot be aborted")

    def _end_aborted(self, entry: OpenTask) -> None:
        if isinstance(entry.phase, Waiting | Performing):
            entry.phase.work.abandon()
        if entry.fate is Fate.TASK_ABORTED:
            self._outbox.append(Completed(entry.task, Status.TASK_ABORTED, wanted=entry.wanted))
        else:
            self._outbox.append(Aborted(entry.task))
        self._leave(entry)

    def _reset(self, code: AttentionCode) -> None:
        """Brings the unit to the state after a reset; every nexus learns of it, the one that asked for it too.

        Source: SAM5r21 6.3.3, SBC3r36 5.10, 4.20
        """
        self.device.reset(hard=code is AttentionCode.SCSI_BUS_RESET_OCCURRED)
        self.device.statistics.reset(RESETTABLE)
        self.nexuses.establish(code)
