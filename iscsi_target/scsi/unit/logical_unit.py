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

A sanitize operation belongs to no task: it is asked for its next step after every input.

While an ACA condition is in effect, what it holds up waits where it is: see `allegiance`.
"""

from collections.abc import Callable, Mapping

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.commands.command import Command
from iscsi_target.scsi.commands.command_lookup import find_available
from iscsi_target.scsi.layouts.cdb import ReportLuns
from iscsi_target.scsi.medium_faults import condition
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.operations import BLOCKS, Attempt, Buffer, MediumError, Outcome, attempt_nothing
from iscsi_target.scsi.profiles import STANDARD, Choices
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.port_groups import AccessState
from iscsi_target.scsi.state.task import (
    Adopted,
    Begin,
    Call,
    Change,
    Collect,
    Done,
    Fetch,
    Leave,
    ManagementRequest,
    Pause,
    Perform,
    Persist,
    Regroup,
    Reply,
    Rest,
    Save,
    StartCopy,
    StopCopy,
    Task,
    TaskAttribute,
    Ticket,
    UnitAction,
    Work,
)
from iscsi_target.scsi.state.timeline import Entry
from iscsi_target.scsi.status import (
    InvalidTaskAttribute,
    ParameterListLengthError,
    StatusError,
    TaskSetFull,
    UnitAttention,
)
from iscsi_target.scsi.unit.allegiance import permits
from iscsi_target.scsi.unit.checks import examine, mind_direction
from iscsi_target.scsi.unit.chronicle import Chronicle
from iscsi_target.scsi.unit.copy_operations import CopyOperations
from iscsi_target.scsi.unit.endings import Endings
from iscsi_target.scsi.unit.lane import Lane
from iscsi_target.scsi.unit.nexus_table import NexusTable
from iscsi_target.scsi.unit.open_task import (
    COLLECTING,
    READY,
    RESTED,
    RESTING,
    Collecting,
    Fate,
    Fetching,
    Held,
    OpenTask,
    Over,
    Performing,
    Ready,
    Rested,
    Resting,
    Saving,
    Waiting,
)
from iscsi_target.scsi.unit.open_tasks import OpenTasks
from iscsi_target.scsi.unit.path_changes import PathChange, PathChanges
from iscsi_target.scsi.unit.sanitize_operations import SanitizeOperations
from iscsi_target.scsi.unit.sanitizer import Sanitizer
from iscsi_target.scsi.unit.task_manager import TaskManager
from iscsi_target.scsi.unit.task_set import Turn
from iscsi_target.scsi.unit.thresholds import ThresholdWatch
from iscsi_target.wire.layout import LayoutError


class LogicalUnit:
    """The machine of one logical unit; its inputs return the actions that the target is to execute, in order.

    name      the unit's name, for whoever executes its actions
    device    what the command handlers work on
    nexuses   who is attached, and the unit attentions of each
    thresholds   takes in how much a thin unit has allocated
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
        self.thresholds = ThresholdWatch(device, self.nexuses)
        self._outbox: list[UnitAction] = []
        self._epoch = device.epoch  # in which it was found out what an ACA condition holds up
        self._endings = Endings(device, self.nexuses, self._tasks, self._chronicle, self._outbox)
        self._paths = PathChanges(device, self.nexuses, self._endings, self._outbox)
        self._sanitizing = SanitizeOperations(name, device, self._tasks, self._endings, self._outbox)
        self._copying = CopyOperations(device, self._tasks, self._endings, self._outbox)
        self._manager = TaskManager(device, self.nexuses, self._tasks, self._endings, self._outbox)

    @property
    def open_tasks(self) -> int:
        """How many tasks have not ended."""
        return len(self._tasks)

    @property
    def timeline(self) -> list[Entry]:
        """What happened to the reservations lately, oldest first."""
        return self._chronicle.entries()

    # Nexuses and attentions

    def attach(self, nexus: Nexus, choices: Choices = STANDARD.choices) -> None:
        """Takes in a nexus whose session came up.

        choices   how its initiator is treated where initiators disagree
        Source: SAM5r21 6.3.1, 6.3.4
        """
        self.nexuses.attach(nexus, choices)
        self.device.admit(nexus)

    def lane(self, nexus: Nexus) -> Lane:
        """Returns the short way for the commands of an attached nexus; not to be used when it is detached."""
        return Lane(nexus, self.device, self.nexuses, self._tasks, self._attempt)

    def detach(self, nexus: Nexus) -> None:
        """Lets a nexus go whose tasks are over; what it prevented and its SPC-2 reservation go with it.

        Source: SAM5r21 6.3.4, SBC3r36 5.10
        """
        assert not self._tasks.count(nexus)
        self.nexuses.detach(nexus)
        self.device.leave(nexus)

    def resize(self, length_blocks: int) -> None:
        """Gives the unit another capacity and says so to every attached nexus.

        Source: SBC3r36 4.10
        """
        if length_blocks < self.device.geometry.length_blocks:
            self.device.tokens = self.device.tokens.cancelled()
        self.device.geometry = self.device.geometry._replace(length_blocks=length_blocks)
        self._sanitizing.refit()
        self.nexuses.establish(AttentionCode.CAPACITY_DATA_HAS_CHANGED)

    def unload(self) -> list[UnitAction]:
        """Takes in that an operator removes the medium, whoever prevents that; what is at it already goes on.

        One that an initiator has ejected is removed for good by that: nothing that was meant for it is left.

        Source: SBC3r36 4.9
        """
        if self.device.loaded:
            self.device.statistics.unloads += 1
            self.device.loaded = False
            self.device.preventing.clear()
        self.device.tokens = self.device.tokens.cancelled()
        self._endings.unload()
        return self._run()

    def load(self) -> None:
        """Takes in that a medium was loaded that may be another one, and says so to every attached nexus.

        Source: SBC3r36 4.9
        """
        self.device.loaded, self.device.stopped = True, False
        self.nexuses.establish(AttentionCode.MEDIUM_MAY_HAVE_CHANGED)

    # Inputs

    def accept(self, task: Task) -> list[UnitAction]:
        """Takes in a task of an attached nexus; one that is refused ends at once.

        Source: SAM5r21 5.1, 8
        """
        self.thresholds.now_s = max(self.thresholds.now_s, task.received_s)
        try:
            permitted = bool(self.device.faulted) and permits(task, self.device, self._tasks)
            if not self._tasks.order.has_room(task.nexus):
                raise TaskSetFull
        except StatusError as error:
            self._endings.refuse(task, error)
        else:
            self._admit(task, permitted=permitted)
        return self._run()

    def data_received(self, task: Task, data_out: Buffer) -> list[UnitAction]:
        """Takes in the Data-Out that a Collect asked for; it is ignored when nothing can come of the task any more.

        data_out   at most the bytes asked for
        Source: SAM5r21 5.4.3
        """
        entry = self._tasks.find(task)
        if entry is None or isinstance(entry.phase, Held):
            return []
        assert isinstance(entry.phase, Collecting)
        entry.data_out = data_out
        entry.phase = READY
        self._tasks.make_startable(entry)
        return self._run()

    def fail(self, task: Task, error: StatusError) -> list[UnitAction]:
        """Takes in why a task ends whose Data-Out has failed, and which was aborted for that."""
        self._endings.refuse(task, error)
        return self._run()

    def operate(self, task: Task, command: Command, data_out: Buffer) -> list[UnitAction]:
        """Takes in a command of the operator: ordered and serialised like those of the nexuses, and aborted by none.

        command    of `table.OVERRULING`
        """
        self._tasks.enter(OpenTask(task, command, command.unpack(task.cdb), 0, READY, data_out))
        return self._run()

    def serve(self, task: Task, command: Command, data_out: Buffer) -> list[UnitAction]:
        """Takes in what the copy of another unit wants in the name of a nexus, as `CopyOperations.serve` does."""
        self._copying.serve(task, command, data_out)
        return self._run()

    def finished(self, ticket: Ticket, result: Outcome | MediumError) -> list[UnitAction]:
        """Takes in what became of a Perform, a Persist or a Bring."""
        if self._sanitizing.waits_for(ticket):
            self._sanitizing.finished(result)
            return self._run()
        entry = self._tasks.redeem(ticket)
        match entry.phase:
            case Performing(turn, work):
                self._count(work, result, at_once=False)
                self._tasks.leave_turn(turn)
                self._performed(entry, work, result)
            case Fetching(fetch):
                self._fetched(entry, fetch, result)
            case Saving(save):
                self._saved(entry, save, result)
                self._tasks.end_save()
        return self._run()

    def rested(self, ticket: Ticket) -> list[UnitAction]:
        """Takes in that the time of a Rest is over."""
        match ticket:
            case PathChange():
                self._paths.finish(ticket)
            case OpenTask() if isinstance(ticket.phase, Resting):
                ticket.phase = RESTED
                self._tasks.make_startable(ticket)
            case Sanitizer():
                self._sanitizing.finished(None)
            case _:
                pass  # the task has ended meanwhile
        return self._run()

    def regroup(self, wanted: Mapping[int, AccessState]) -> list[UnitAction]:
        """Changes the states of target port groups that there are, as no initiator asked for it.

        Source: SPC4r37 5.15.2.8
        """
        self._paths.begin(wanted)
        return self._run()

    def resume(self) -> list[UnitAction]:
        """Goes on with what a former life of the unit has left unfinished; any other input does so too."""
        return self._run()

    def halt(self) -> None:
        """Goes no further with what belongs to no task, because the medium is to be closed."""
        self.device.tokens = self.device.tokens.cancelled()
        self._sanitizing.halt()

    def manage(self, request: ManagementRequest) -> list[UnitAction]:
        """Performs a task management function, as `TaskManager` does."""
        self._manager.manage(request)
        return self._run()

    # Admission

    def _admit(self, task: Task, *, permitted: bool) -> None:
        command: Command | None = None
        try:
            if task.attribute is TaskAttribute.ACA and not permitted:
                raise InvalidTaskAttribute
            command = find_available(task.cdb, self.device)
            cdb = command.unpack(task.cdb)
            if task.expects_data and not command.takes_data:
                mind_direction(command, self.nexuses.standing(task.nexus).choices)
            wanted = command.data_out(self.device, cdb)
            if command.row.unsized and task.expected_length is not None:
                wanted = min(wanted, task.expected_length)
        except StatusError as error:
            subject_to_attention = command is None or command.attention
            interlocked = self.device.modes.interlocks_attentions
            code = self.nexuses.take(task.nexus, interlocked=interlocked) if subject_to_attention else None
            refusal = error if code is None else UnitAttention(code)
            if command is not None:
                self._endings.note_refusal(task, command, refusal)
            self._endings.refuse(task, refusal)
            return
        collects = wanted > 0 and task.expects_data and task.data_out is None
        if collects:
            self._outbox.append(Collect(task, wanted))
        data_out = (task.data_out or b"")[:wanted]
        entry = OpenTask(task, command, cdb, wanted, COLLECTING if collects else READY, data_out, permitted)
        self._tasks.enter(entry, self.device.task_set_owner(task.nexus))

    # From the start of a task to its end

    def _run(self) -> list[UnitAction]:
        device = self.device
        while self._tasks.startable or self._reconsider():
            entry = self._tasks.startable.popleft()
            if device.faulted and self._endings.is_blocked(entry):
                self._tasks.block(entry)
                continue
            match entry.phase:
                case Ready() if self._tasks.saving and entry.command.row.exclusive:
                    self._tasks.wait_to_save(entry)
                case Ready():
                    self._settle(entry, self._hold_back if device.port_groups else self._start)
                case Waiting(turn, work):
                    self._take_turn(entry, turn, work)
                case Rested():
                    self._settle(entry, self._start)
                case Held(completed, error):
                    self._endings.conclude(entry, completed, error)
                case Over():
                    pass
                case _:
                    raise AssertionError(f"{entry.phase} cannot go on by itself")
        if device.sanitization is not None:
            self._sanitizing.go_on()
        if device.statistics.resources is not None:
            self.thresholds.look()  # a MODE SELECT may have changed them
        actions = self._outbox.copy()
        self._outbox.clear()
        return actions

    def _reconsider(self) -> bool:
        """Has everything looked at again that an ACA condition holds up, after a change that may have ended that.

        returns   True when there is something to be looked at
        """
        if self._epoch is not self.device.epoch:
            self._epoch = self.device.epoch
            self._tasks.unblock()
        return bool(self._tasks.startable)

    def _hold_back(self, entry: OpenTask) -> Reply:
        """Lets a command for the medium rest that comes by a slow path; it has to pass all checks after that."""
        command, path = entry.command, self.device.path(entry.task.nexus)
        if path is not None and path.held_back_s and command.medium_access and not command.row.exclusive:
            return Pause(path.held_back_s)
        return self._start(entry)

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
            self._endings.fail(entry, ParameterListLengthError())
        except StatusError as error:
            self._endings.fail(entry, error)
        else:
            self._proceed(entry, reply)

    def _proceed(self, entry: OpenTask, reply: Reply) -> None:
        match reply:
            case Done():
                self._endings.complete(entry, reply)
            case Work(operation):
                self._endings.tell_others(entry, reply)
                if self.device.tokens.live:
                    self._copying.cancel_tokens(operation, entry.task.received_s)
                turn = Turn(entry.task, operation)
                entry.phase = Waiting(turn, reply)
                if self._tasks.turns.enter(turn):
                    self._take_turn(entry, turn, reply)
            case Change(transition):
                self._manager.change(entry, transition)
            case Begin():
                self._sanitizing.begin(entry, reply)
            case Leave(failed):
                self._sanitizing.leave_failure(entry, failed)
            case Save(state):
                assert not self._tasks.saving
                self._tasks.saving = True
                entry.phase = Saving(reply)
                self._outbox.append(Persist(entry, state, self.name))
            case Pause(seconds):
                entry.phase = RESTING
                self._outbox.append(Rest(entry, seconds))
            case Regroup(wanted):
                self._paths.begin(wanted, entry)
            case Fetch():
                self._copying.fetch(entry, reply)
            case StartCopy(first):
                self._proceed(self._copying.begin(entry, reply), first)
            case StopCopy(identifier):
                self._manager.stop_copy(entry, identifier)

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
            self._endings.end_aborted(entry)

    def _finish(self, _: OpenTask, work: Work, result: Outcome | MediumError) -> Done | Work | Fetch:
        if isinstance(result, MediumError):
            block = self.device.geometry.block_length_bytes
            error = condition(result, block) if work.failure is None else work.failure()
            work.abandon(error)
            raise error
        return work.finish(result)

    def _fetched(self, entry: OpenTask, fetch: Fetch, result: Outcome | MediumError) -> None:
        if entry.fate is Fate.ITS_OWN:
            data = result if isinstance(result, (bytes, bytearray, memoryview)) else None
            self._settle(entry, lambda _: fetch.finish(data))
        else:
            self._endings.end_aborted(entry)

    # At the state file

    def _saved(self, entry: OpenTask, save: Save, result: Outcome | MediumError) -> None:
        if entry.fate is Fate.ITS_OWN:
            self._settle(entry, self._adopt, save, result)
        elif isinstance(result, MediumError):
            self._endings.end_aborted(entry)
        else:
            self._adopt_aborted(entry, save.finish())

    def _adopt(self, _: OpenTask, save: Save, result: Outcome | MediumError) -> Adopted:
        if isinstance(result, MediumError):
            raise save.failure()
        return save.finish()

    def _adopt_aborted(self, entry: OpenTask, reply: Adopted) -> None:
        """Lets what is on disk hold, although the command that wanted it was aborted meanwhile."""
        match reply:
            case Change(transition):
                self._manager.change(entry, transition)
            case Begin():
                self._sanitizing.begin(entry, reply)
            case Leave(failed):
                self._sanitizing.leave_failure(entry, failed)
            case _:
                self._endings.tell_others(entry, reply)
                self._endings.end_aborted(entry)
