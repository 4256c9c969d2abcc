"""Fencing one logical unit under random load, with a medium and a state file that answer late and in any order.

With `at_once` the medium does at once by chance what it is asked, and commands go the short way where it takes them.

Nodes N1, N1Q, N2 write, N3 fences them most of the time, and anybody may fence anybody (see the drawing in `world`).
Every write carries its own number in every block. Every run is determined by its seed. What a `Target` makes of it is
in `test_fence_target`.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal

import pytest

from iscsi_target.scsi.commands.table import OVERRULING
from iscsi_target.scsi.layouts.block_cdb import CompareAndWrite, Read10, Unmap, Write10, WriteSame10
from iscsi_target.scsi.layouts.cdb import PersistentReserveOut
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.layouts.pages import UnmapBlockDescriptor, UnmapHeader
from iscsi_target.scsi.nexus import OPERATOR, Nexus
from iscsi_target.scsi.operations import CompareAndWrite as CompareAndWriteOperation
from iscsi_target.scsi.operations import Fault, MediumError, Operation, Outcome, WouldBlock, Write, WriteSame
from iscsi_target.scsi.reservations.personalities import PERSONALITIES
from iscsi_target.scsi.reservations.personality import STRICT, OutAction, Personality, Quirk
from iscsi_target.scsi.reservations.reservation_request import TasksAborted, Transition
from iscsi_target.scsi.state.task import (
    Function,
    Managed,
    ManagementRequest,
    Task,
    TaskAttribute,
    UnitAction,
    UnitState,
)
from iscsi_target.scsi.status import Status
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.scsi.unit.open_task import Fence, OpenTask
from iscsi_target.scsi.unit.task_manager import TaskManager
from iscsi_target.wire.layout import Layout
from tests.conformance.reservations.world import (
    ABORTED,
    BLOCK,
    K1,
    K2,
    K3,
    N1,
    N1Q,
    N2,
    N3,
    RC,
    TYPES,
    G,
    Told,
    World,
    basic,
    make_device,
)
from tests.unit.scsi.unit_bench import transferred

SCHEDULES = 2400
BATCH = 200
MUTANT_SCHEDULES = 200
FENCING = [
    personality
    for personality in PERSONALITIES.values()
    if personality is not STRICT and OutAction.PREEMPT_AND_ABORT in personality.out_actions
]
STEPS = 36
HOT_BLOCKS = 5  # so few that operations overlap all the time
WRITERS = (N1, N1Q, N2)
OWN_KEYS = {N1: K1, N1Q: K1, N2: K2, N3: K3}
ATTRIBUTES = [TaskAttribute.SIMPLE] * 6 + [TaskAttribute.ORDERED, TaskAttribute.HEAD_OF_QUEUE]
LATE = "changes the medium after its fence"


class FencedManager(TaskManager):
    """A task manager that says which tasks a change aborts, when it aborts them."""

    def __init__(self, schedule: "Schedule", unit: LogicalUnit) -> None:
        super().__init__(unit.device, unit.nexuses, unit._tasks, unit._endings, unit._outbox)
        self._schedule = schedule

    def change(self, entry: OpenTask, transition: Transition) -> None:
        victims = [each.nexus for each in transition.consequences if isinstance(each, TasksAborted)]
        scope = {other.task.tag for other in self._tasks.of(*victims) if other is not entry}
        if victims:
            self._schedule.aborts(entry.task.tag, scope, entry.task.nexus)
        super().change(entry, transition)


def payload(operation: Operation) -> bytes | None:
    """Returns the last block of the Data-Out that an operation writes, or None when it writes none."""
    match operation:
        case Write(_, data) | CompareAndWriteOperation(_, _, data) | WriteSame(_, _, data):
            return bytes(data[-BLOCK:])
        case _:
            return None


class Schedule(World):
    """One run.

    scopes   tag of a fence, or number of a function -> the tags that it ends
    dead     what a fence that is over has ended: it may not change the medium any more
    doomed   tag -> True when it is to end in silence, False with TASK ABORTED
    fences   how many fences are over; `waits` how many, by kind, found an operation of theirs at the medium
    swallowed   how often Data-Out came for a task that had ended
    at_once     how likely the medium does at once what it is asked; `short` is how many commands went the short way
    authors     the last block of the Data-Out of a command -> its tag
    """

    def __init__(self, seed: int, personality: Personality = STRICT, at_once: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.at_once, self.short = at_once, 0
        self.authors: dict[bytes | None, int] = {}
        self.sent: dict[int, Task] = {}
        self.payloads: dict[int, bytes] = {}
        self.scopes: dict[int, set[int]] = {}
        self.dead: set[int] = set()
        self.doomed: dict[int, bool] = {}
        self.fences, self.swallowed = 0, 0
        self.waits: Counter[str] = Counter()
        self.late: list[tuple[Task, int]] = []
        self.leaving: dict[int, Nexus] = {}
        super().__init__(personality=personality, nexuses=())
        unit = LogicalUnit("unit", make_device(personality, self.ports, UnitState()), self.attempt)
        unit._manager = FencedManager(self, unit)
        self.unit = unit
        for nexus in OWN_KEYS:
            self.attach(nexus)
        self.tas = self.random.random() < 0.5
        unit.device.modes = unit.device.modes.select(ControlPage(ps=False, tas=self.tas).pack(), 0).save()
        aptpl = self.random.random() < 0.5
        for nexus, key in OWN_KEYS.items():
            assert self.register(nexus, key, aptpl=aptpl) == G
        holder = self.random.choice(list(OWN_KEYS))
        assert self.reserve(holder, OWN_KEYS[holder], self.random.choice(TYPES)) == G
        self.slow = True
        self.hold_saves = self.random.random() < 0.5

    # The schedule

    def run(self) -> None:
        deeds = [self.issue] * 9 + [self.deliver] * 5 + [self.answer] * 5 + [self.fence] * 3 + [self.come_back]
        for _ in range(STEPS):
            self.random.choice(deeds)()
        while self.busy:
            self.random.choice((self.deliver, self.answer))()
        self.check_leaks()

    @property
    def busy(self) -> bool:
        return bool(self.collecting or self.late or self.at_medium or self.at_state_file)

    def check_leaks(self) -> None:
        """Law: every task ends exactly once (a second end fails in `World`), and nothing is left of any."""
        tasks = self.unit._tasks
        assert self.ended.keys() >= self.sent.keys()
        assert not self.scopes
        assert not self.leaving
        assert self.unit.open_tasks == 0
        assert not tasks.order
        assert not tasks.entries
        assert not tasks._savers
        assert not tasks.startable
        assert not tasks.turns
        assert not tasks.saving

    # Commands

    def may_come_first(self, told: Told | None) -> bool:
        """True for a unit attention that is told before a conflict."""
        if told is None or told.sense is None:
            return False
        key, code = told.sense
        return key == 6 and (code >> 8 == 0x29 or self.personality.has(Quirk.ATTENTION_BEFORE_CONFLICT))

    def dispatch(self, nexus: Nexus, cdb: Layout, data: bytes, *, late: bool = False) -> int | None:
        """Sends a command, unless the nexus is leaving; with `late` its data comes when the schedule says so."""
        if nexus in self.leaving.values():
            return None
        tag = next(self._tags)
        attribute = TaskAttribute.SIMPLE if isinstance(cdb, PersistentReserveOut) else self.random.choice(ATTRIBUTES)
        raw = cdb.pack().ljust(16, b"\0")
        task = Task(nexus, tag, raw, attribute, bool(data), (0,), len(data) or None, self.now_s)
        self.sent[tag], self.payloads[tag], self.authors[data[-BLOCK:]] = task, data, tag
        if not late and self.goes_short(task, data):
            return tag
        self._run(self.unit.accept(task))
        if tag in self.collecting and not late:
            self.give(tag, data)
        return tag

    def goes_short(self, task: Task, data: bytes) -> bool:
        """Lets a lane answer a command with its data; returns False when it does not."""
        if not self.at_once or task.attribute is not TaskAttribute.SIMPLE:
            return False
        data_in = self.unit.lane(task.nexus).answer(task.cdb, transferred(task.cdb, data), data)
        if data_in is None:
            return False
        self._end(task, Told(Status.GOOD), bytes(data_in))
        self.short += 1
        return True

    def _run(self, actions: Iterable[UnitAction]) -> None:
        actions = list(actions)
        super()._run(actions)
        for action in actions:
            if isinstance(action, Managed):
                self.raise_fence(action.number)
        self.arrive()

    def issue(self) -> None:
        """Law: a write that the reservation excludes is refused and does not come to the medium.

        A unit attention of a reset or a lost nexus is told first (SAM5r21 5.3.3).
        """
        nexus = self.random.choice((*WRITERS, *WRITERS, N3))
        for _ in range(self.random.randrange(1, 9) if self.at_once else 1):
            self.issue_one(nexus)

    def issue_one(self, nexus: Nexus) -> None:
        cdb, data, writes = self.command()
        excluded = writes and nexus not in self.unit.device.reservations.registrations
        excluded &= self.unit.device.reservations.reservation is not None
        tag = self.dispatch(nexus, cdb, data, late=self.random.random() < (0.1 if self.at_once else 0.5))
        if excluded and tag in self.ended:
            told = self.ended[tag]
            assert told == RC or self.may_come_first(told)

    def command(self) -> tuple[Layout, bytes, bool]:
        lba, blocks = self.random.randrange(HOT_BLOCKS), self.random.randrange(1, 3)
        block = len(self.sent).to_bytes(8).ljust(BLOCK, b"\1")
        unmap = UnmapBlockDescriptor(lba=lba, number_of_logical_blocks=blocks).pack()
        length = len(unmap)
        header = UnmapHeader(unmap_data_length=length + 6, unmap_block_descriptor_data_length=length).pack()
        return self.random.choice(
            [
                (Read10(lba=lba, transfer_length=blocks), b"", False),
                (Write10(lba=lba, transfer_length=blocks), block * blocks, True),
                (Write10(lba=lba, transfer_length=blocks), block * blocks, True),
                (CompareAndWrite(lba=lba, number_of_logical_blocks=1), self.block(lba) + block, True),
                (Unmap(parameter_list_length=len(header) + length), header + unmap, True),
                (WriteSame10(lba=lba, number_of_logical_blocks=blocks), block, True),
            ]
        )

    def deliver(self) -> None:
        """Sends Data-Out, that of a task that has ended meanwhile too, which must be swallowed."""
        if self.late and self.random.random() < 0.5:
            task, length = self.late.pop()
            assert self.unit.data_received(task, bytes(length)) == []
            self.swallowed += 1
        elif self.collecting:
            tag = self.random.choice(list(self.collecting))
            self.give(tag, self.payloads[tag])

    def _end(self, task: Task, told: Told | None, data_in: bytes) -> None:
        if task.tag in self.collecting:
            self.late.append(self.collecting[task.tag])
        super()._end(task, told, data_in)
        if task.tag in self.doomed:
            assert told == (None if self.doomed[task.tag] else ABORTED)
        if told == G and task.tag in self.scopes:
            self.raise_fence(task.tag)
        elif told != G:
            self.scopes.pop(task.tag, None)

    # The medium and the state file

    def answer(self) -> None:
        """Law: nothing that a fence has ended changes the medium when the fence is over."""
        tickets = [*self.at_medium, *self.at_state_file]
        if not tickets:
            return
        ticket = self.random.choice(tickets)
        if ticket in self.at_state_file:
            self.disk_fault = Fault.NO_SPACE if self.random.random() < 0.1 else None
            self.finish_save()
            return
        tag, before = self.unit._tasks.redeem(ticket).task.tag, bytes(self.store.read(0, HOT_BLOCKS * BLOCK))
        operation = self.at_medium.pop(ticket)
        if self.random.random() < 0.05:
            self._run(self.unit.finished(ticket, MediumError(Fault.WRITE_FAILED, 0)))
            return
        outcome = operation.perform(self.store)
        self.check_change(tag, before)
        self._run(self.unit.finished(ticket, outcome))

    def check_change(self, tag: int | None, before: bytes) -> None:
        changed = bytes(self.store.read(0, HOT_BLOCKS * BLOCK)) != before
        assert not (changed and tag in self.dead), f"task {tag} {LATE}"

    def attempt(self, operation: Operation) -> Outcome | MediumError | Literal[WouldBlock.BLOCKS]:
        """Does an operation at once by chance; of an UNMAP it is not known whose it is."""
        if self.random.random() >= self.at_once:
            return WouldBlock.BLOCKS
        if self.random.random() < 0.05:
            return MediumError(Fault.WRITE_FAILED, 0)
        before = bytes(self.store.read(0, HOT_BLOCKS * BLOCK))
        outcome = operation.perform(self.store)
        self.check_change(self.authors.get(payload(operation)), before)
        return outcome

    # Fences

    def fence(self) -> None:
        self.random.choice([self.preempt_somebody] * 4 + [self.order, self.clear_tasks, self.clear_tasks, self.leave])()

    def preempt_somebody(self) -> None:
        nexus = N3 if self.random.random() < 0.7 else self.random.choice(WRITERS)
        victim = self.random.choice((K1, K1, K2, K3, 0))
        parameters = basic(OWN_KEYS[nexus], victim)
        cdb = PersistentReserveOut(
            service_action=OutAction.PREEMPT_AND_ABORT,
            type=self.random.choice(TYPES),
            parameter_list_length=len(parameters),
        )
        self.dispatch(nexus, cdb, parameters)

    def order(self) -> None:
        """The operator's `preempt --abort`."""
        parameters = basic(new=self.random.choice((K1, K2, K3)))
        cdb = PersistentReserveOut(service_action=OutAction.PREEMPT_AND_ABORT, parameter_list_length=len(parameters))
        task = Task(OPERATOR, next(self._tags), cdb.pack().ljust(16, b"\0"), TaskAttribute.HEAD_OF_QUEUE)
        self.sent[task.tag] = task
        self._run(self.unit.operate(task, OVERRULING[OutAction.PREEMPT_AND_ABORT], parameters))

    def clear_tasks(self) -> None:
        functions = (Function.CLEAR_TASK_SET, Function.LOGICAL_UNIT_RESET, Function.ABORT_TASK_SET)
        nexus, function = self.random.choice(list(OWN_KEYS)), self.random.choice(functions)
        if nexus not in self.leaving.values():
            self.manage(nexus, function)

    def leave(self) -> None:
        """The session of a nexus is reinstated: the new one is there when the tasks of the old one are over."""
        nexus = self.random.choice(WRITERS)
        if nexus not in self.leaving.values():
            self.leaving[self.manage(nexus, Function.NEXUS_LOSS)] = nexus
            self.arrive()

    def arrive(self) -> None:
        for number in self.leaving.keys() & set(self.managed):
            nexus = self.leaving.pop(number)
            self.detach(nexus)
            self.attach(nexus, quiet=False)

    def manage(self, nexus: Nexus, function: Function, tag: int | None = None) -> int:
        number = next(self._tags)
        own = function in (Function.ABORT_TASK_SET, Function.NEXUS_LOSS)
        found = [tag for tag in self.sent if tag not in self.ended and self.sent[tag].nexus != OPERATOR]
        self.aborts(number, {each for each in found if not own or self.sent[each].nexus == nexus}, nexus)
        self._run(self.unit.manage(ManagementRequest(number, function, nexus)))
        return number

    def aborts(self, fence: int, scope: set[int], cause: Nexus) -> None:
        """Notes what a fence is about to end, and how each of them is to end.

        Source: SAM5r21 5.7, SPC4r37 7.5.8 (TAS)
        """
        self.scopes[fence] = scope
        busy = {self.unit._tasks.redeem(ticket).task.tag for ticket in self.at_medium}
        if busy & scope:
            self.waits["preempts" if fence in self.sent else "functions"] += 1
        for tag in scope:
            silent = self.sent[tag].nexus == cause or not self.tas
            self.doomed[tag] = self.doomed.get(tag, False) or silent

    def raise_fence(self, fence: int) -> None:
        """Notes that a fence is over."""
        self.dead |= self.scopes.pop(fence)
        self.fences += 1

    def come_back(self) -> None:
        """A node that was fenced registers again."""
        nexus = self.random.choice(list(OWN_KEYS))
        parameters = basic(0, OWN_KEYS[nexus])
        action = OutAction.REGISTER_AND_IGNORE_EXISTING_KEY
        cdb = PersistentReserveOut(service_action=action, parameter_list_length=len(parameters))
        self.dispatch(nexus, cdb, parameters)


def run(
    seed: int, personality: Personality = STRICT, at_once: float = 0.0, kind: type[Schedule] = Schedule
) -> Schedule:
    """Runs one schedule; what fails says its seed."""
    try:
        schedule = kind(seed, personality, at_once)
        schedule.run()
    except AssertionError as error:
        error.add_note(f"seed {seed}")
        raise
    return schedule


@pytest.mark.parametrize("first", range(0, SCHEDULES, BATCH))
def test_nothing_that_a_fence_ended_changes_the_medium(first: int):
    """Law: after GOOD of PREEMPT AND ABORT, or the response of a function, no command that it ended changes a block.

    Each ended command ends once, in silence or with TASK ABORTED as TAS says; its late Data-Out is swallowed; what a
    fenced nexus sends afterwards is refused; nothing is left of anything.
    Source: SPC4r37 5.13.11.2.6, SAM5r21 5.7, 7
    """
    schedules = [run(seed) for seed in range(first, first + BATCH)]
    waits = sum((schedule.waits for schedule in schedules), Counter())
    assert sum(schedule.fences for schedule in schedules) > 2 * BATCH
    assert sum(len(schedule.dead) for schedule in schedules) > 2 * BATCH
    assert sum(schedule.swallowed for schedule in schedules) > BATCH // 2
    assert waits["preempts"] > BATCH // 8
    assert waits["functions"] > BATCH // 8


@pytest.mark.parametrize("at_once", [0.5, 0.8, 0.95])
def test_fences_hold_though_the_medium_answers_at_once_by_chance(at_once: float):
    """Law: the same, whether a command waits for the medium, or never gets into the task set."""
    schedules = [run(seed, at_once=at_once) for seed in range(BATCH)]
    assert sum(schedule.fences for schedule in schedules) > BATCH
    assert sum(len(schedule.dead) for schedule in schedules) > BATCH // 2
    assert sum(schedule.short for schedule in schedules) > BATCH // 10


@pytest.mark.parametrize("personality", FENCING, ids=lambda personality: personality.name)
def test_no_personality_lets_a_fence_leak(personality: Personality):
    """Law: the same, whatever target the unit imitates."""
    schedules = [run(seed, personality, at_once=0.5 * (seed % 2)) for seed in range(BATCH)]
    assert sum(schedule.fences for schedule in schedules) > BATCH
    assert sum(len(schedule.dead) for schedule in schedules) > BATCH


def waits_for_nobody(cls: type[Fence], scope: object, then: Callable[[], None]) -> Fence:
    """Takes the place of `Fence.around`: what follows does not wait for the tasks that are being aborted."""
    return cls(1, then)


def hasty(method: Callable) -> Callable:
    """Returns a method of a logical unit whose fences do not wait."""

    def call(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Fence, "around", classmethod(waits_for_nobody))
            return method(*arguments)

    return call


@pytest.mark.parametrize("method", ["change", "manage"])
def test_the_law_fails_without_the_wait(method: str, monkeypatch):
    """The schedules notice it when PREEMPT AND ABORT, or a function, does not wait for what it aborts."""
    monkeypatch.setattr(FencedManager, method, hasty(getattr(FencedManager, method)))
    failed = 0
    for seed in range(MUTANT_SCHEDULES):
        try:
            run(seed)
        except AssertionError as error:
            failed += LATE in str(error)
    assert failed > MUTANT_SCHEDULES // 20


def test_the_same_seed_gives_the_same_run():
    """Law: the machine is deterministic."""
    first, second = run(7), run(7)
    assert first.ended == second.ended
    assert first.store.read(0, HOT_BLOCKS * BLOCK) == second.store.read(0, HOT_BLOCKS * BLOCK)
