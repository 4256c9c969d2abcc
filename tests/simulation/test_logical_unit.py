"""A logical unit under random load, with a medium that answers late and in any order, or at once by chance.

Commands whose data is there go the short way where it takes them. Nodes A and B; port P; unit 0 (see unit_bench).
Every run is determined by its seed.
"""

import random
from collections import Counter
from typing import Literal

import pytest

from iscsi_target.scsi.layouts.block_cdb import CompareAndWrite, Read10, Write10
from iscsi_target.scsi.layouts.cdb import RequestSense
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.operations import Fault, MediumError, Operation, Outcome, WouldBlock, extents, writes
from iscsi_target.scsi.state.task import (
    Aborted,
    Collect,
    Completed,
    Function,
    Managed,
    ManagementRequest,
    Perform,
    Task,
    TaskAttribute,
    Ticket,
    UnitAction,
)
from iscsi_target.scsi.status import Status
from iscsi_target.scsi.unit.open_task import Blocked, Held
from tests.unit.scsi.unit_bench import BLOCK, READY, A, B, Bench, transferred

STEPS = 400
HOT_BLOCKS = 6  # so few that operations overlap all the time
SEEDS = range(40)
ATTRIBUTES = [TaskAttribute.SIMPLE] * 8 + [TaskAttribute.ORDERED, TaskAttribute.HEAD_OF_QUEUE, TaskAttribute.ACA]
FUNCTIONS = [*Function]
NACA, OBSOLETE = 0x04, 0x01  # bits of CONTROL
STAYS_OUT = (Status.ACA_ACTIVE, Status.BUSY, Status.TASK_ABORTED)
FAULTS = [Fault.READ_FAILED, Fault.NO_SPACE, Fault.GONE]


class Load:
    """Drives a bench and checks the laws at every action.

    at_once   how likely the medium does at once what it is asked
    upsets    how likely TST or the medium is changed at a step
    short     how many commands went the short way
    permitted tasks that an ACA condition does not concern
    kept_out  how many it kept out
    """

    def __init__(self, seed: int, at_once: float = 0.0, upsets: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.at_once = at_once
        self.upsets = upsets
        self.short = 0
        self.running: dict[Ticket, Operation] = {}
        self.bench = Bench(attempt=self.attempt)
        self.open: dict[Task, None] = {}
        self.accepted: list[Task] = []
        self.started: set[Task] = set()
        self.collecting: dict[Task, int] = {}
        self.scopes: dict[int, set[Task]] = {}
        self.doomed: set[Task] = set()
        self.hushed: set[Task] = set()
        self.permitted: set[Task] = set()
        self.faulted: frozenset[Nexus] = frozenset()
        self.kept_out = 0
        self.numbers = iter(range(10_000))
        self.nexuses = [A, B]
        chance = self.random.random
        qerr, separate = self.random.choice([0, 0, 0, 1, 3]), int(chance() < 0.3)
        self.page = ControlPage(ps=False, tas=chance() < 0.5, qerr=qerr, tst=separate, tmf_only=chance() < 0.2)
        self.owners: dict[Task, Nexus | None] = {}
        self.bench.select(A, self.page.pack())
        self.bench.send(B, RequestSense(allocation_length=18))

    def step(self) -> None:
        kind = self.random.random()
        if self.upsets and self.random.random() < self.upsets:
            self.upset()
        if self.bench.device.faulted and kind < 0.3:
            self.manage(Function.CLEAR_ACA, self.random.choice(self.nexuses))
        elif kind < 0.45:
            self.arrive()
        elif kind < 0.65 and self.collecting:
            self.deliver(self.random.choice(list(self.collecting)))
        elif kind < 0.95 and self.running:
            self.finish(self.random.choice(list(self.running)))
        elif kind >= 0.95:
            self.manage(self.random.choice(FUNCTIONS), self.random.choice(self.nexuses))

    def upset(self) -> None:
        """Changes TST, or takes the medium out and puts it in again."""
        unit = self.bench.unit
        if self.random.random() < 0.5:
            self.page = self.page.replace(tst=1 - self.page.tst)
            unit.device.modes = unit.device.modes.select(self.page.pack(), 0)
            self.check(unit.resume())
        else:
            self.check(unit.unload())
            unit.load()

    def drain(self) -> None:
        while self.open:
            for nexus in self.nexuses:
                self.manage(Function.CLEAR_ACA, nexus)
            if self.collecting:
                self.deliver(next(iter(self.collecting)))
            if self.running:
                self.finish(next(iter(self.running)))

    def arrive(self) -> None:
        cdb, length = self.cdb()
        attribute = self.random.choice(ATTRIBUTES)
        nexus = self.random.choice(self.nexuses)
        data = self.blocks(length) if self.random.random() < 0.5 else None
        number = next(self.numbers)
        task = Task(nexus, number, cdb.ljust(16, b"\0"), attribute, length > 0, expected_length=length, data_out=data)
        if self.goes_short(task, data):
            assert not self.bench.device.blocks(nexus)
            self.owners[task] = self.bench.device.task_set_owner(nexus)
            self.check_order(task)
            self.short += 1
            return
        self.accepted.append(task)
        self.open[task] = None
        self.owners[task] = self.bench.device.task_set_owner(nexus)
        actions = self.bench.unit.accept(task)
        entry = self.bench.unit._tasks.find(task)
        if attribute is TaskAttribute.ACA or (entry is not None and entry.permitted):
            self.permitted.add(task)
        self.check(actions)

    def goes_short(self, task: Task, data: bytes | None) -> bool:
        """Lets a lane answer a command that has all its data; returns False when it does not."""
        if task.attribute is not TaskAttribute.SIMPLE or (data is None and task.expects_data):
            return False
        sent = data or b""
        return self.bench.unit.lane(task.nexus).answer(task.cdb, transferred(task.cdb, sent), sent) is not None

    def cdb(self) -> tuple[bytes, int]:
        """Returns a CDB and how much Data-Out it wants."""
        lba, blocks = self.random.randrange(HOT_BLOCKS), self.random.randrange(1, 4)
        return self.random.choice(
            [
                (READY.pack(), 0),
                (READY.replace(control=OBSOLETE).pack(), 0),
                (READY.replace(control=NACA).pack(), 0),
                *[(READY.replace(control=NACA | OBSOLETE).pack(), 0)] * (self.random.random() < 0.1),
                (Read10(lba=lba, transfer_length=blocks).pack(), 0),
                (Write10(lba=lba, transfer_length=blocks).pack(), blocks * BLOCK),
                (CompareAndWrite(lba=lba, number_of_logical_blocks=1).pack(), 2 * BLOCK),
            ]
        )

    def blocks(self, length: int) -> bytes:
        return b"".join(bytes([self.random.randrange(3)]) * BLOCK for _ in range(length // BLOCK))

    def deliver(self, task: Task) -> None:
        self.check(self.bench.unit.data_received(task, self.blocks(self.collecting.pop(task))))

    def finish(self, ticket: Ticket) -> None:
        operation = self.running.pop(ticket)
        self.check(self.bench.unit.finished(ticket, self.perform(operation)))

    def perform(self, operation: Operation) -> Outcome | MediumError:
        if self.random.random() < 0.1:
            return MediumError(self.random.choice(FAULTS), 0)
        return operation.perform(self.bench.memory)

    def attempt(self, operation: Operation) -> Outcome | MediumError | Literal[WouldBlock.BLOCKS]:
        """Does an operation at once by chance, which must not come between others that it disturbs."""
        assert not any(_disturb(operation, other) for other in self.running.values())
        return self.perform(operation) if self.random.random() < self.at_once else WouldBlock.BLOCKS

    def manage(self, function: Function, nexus: Nexus) -> None:
        own = [task for task in self.open if task.nexus == nexus]
        tag = self.random.choice(own).tag if own and function is Function.ABORT_TASK else None
        request = ManagementRequest(next(self.numbers), function, nexus, tag)
        scope = {
            Function.ABORT_TASK: {task for task in own if task.tag == tag},
            Function.ABORT_TASK_SET: set(own),
            Function.NEXUS_LOSS: set(own),
            Function.NEXUS_RESET: set(own),
            Function.CLEAR_ACA: {task for task in own if task.attribute is TaskAttribute.ACA},
            **({Function.CLEAR_TASK_SET: set(own)} if self.page.tst else {}),
        }.get(function, set(self.open))
        self.scopes[request.number] = scope
        self.doomed |= scope
        self.hushed |= {task for task in scope if task.nexus == nexus}
        self.check(self.bench.unit.manage(request))

    def check(self, actions: list[UnitAction]) -> None:
        self.check_held(actions)
        self.check_going_on()
        for action in actions:
            match action:
                case Collect(task, length):
                    assert task in self.open
                    self.collecting[task] = length
                case Perform(ticket, operation):
                    self.check_perform(ticket, operation)
                case Completed(task, status):
                    assert task not in self.hushed
                    assert task not in self.doomed or status is Status.TASK_ABORTED
                    self.end(task)
                case Aborted(task):
                    self.end(task)
                case Managed(number):
                    scope = self.scopes.pop(number)
                    assert not scope & set(self.open)
                case _:
                    raise AssertionError(action)
        self.bench.actions.extend(actions)

    def check_held(self, actions: list[UnitAction]) -> None:
        """Checks that an ACA condition which was there before an input and after it let nothing out meanwhile."""
        device, before = self.bench.device, self.faulted
        self.faulted = device.faulted
        if device.faulted != before:
            return
        for action in actions:
            match action:
                case Completed(task, status) if device.blocks(task.nexus):
                    self.kept_out += status in STAYS_OUT
                    assert status in STAYS_OUT or task in self.permitted
                case Perform(ticket):
                    task = self.bench.unit._tasks.redeem(ticket).task
                    assert task in self.permitted or not device.blocks(task.nexus)
                case _:
                    pass

    def check_going_on(self) -> None:
        """Checks that nothing is held up that no ACA condition holds up."""
        for entry in self.bench.unit._tasks.entries.values():
            assert not isinstance(entry.phase, Blocked | Held) or self.bench.device.blocks(entry.task.nexus)

    def shares(self, one: Task, other: Task) -> bool:
        """Returns True when two tasks are in the same task set."""
        return self.owners[one] == self.owners[other]

    def end(self, task: Task) -> None:
        del self.open[task]  # a second end of a task fails here
        self.collecting.pop(task, None)

    def check_perform(self, ticket: Ticket, operation: Operation) -> None:
        task = self.bench.unit._tasks.redeem(ticket).task
        assert task not in self.doomed
        assert task not in self.started
        assert not any(_disturb(operation, other) for other in self.running.values())
        self.check_order(task)
        self.started.add(task)
        self.running[ticket] = operation

    def check_order(self, task: Task) -> None:
        older = [other for other in self.open if other.tag < task.tag and self.shares(task, other)]
        if task.attribute is TaskAttribute.ORDERED:
            assert not older
        elif task.attribute is TaskAttribute.SIMPLE:
            assert all(other.attribute is not TaskAttribute.ORDERED for other in older)


def _disturb(left: Operation, right: Operation) -> bool:
    return (writes(left) or writes(right)) and any(
        a < b + m and b < a + n for a, n in extents(left) for b, m in extents(right)
    )


@pytest.mark.parametrize("at_once", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("seed", SEEDS)
def test_tasks_end_once_and_no_aborted_one_touches_the_medium(seed: int, at_once: float):
    """Law: the fencing law, the order of tasks and the turns hold in any interleaving, and everything ends.

    After Managed nothing in its scope is open; what was aborted before it went to the medium never goes; every
    accepted task ends exactly once; nothing is held up but by an ACA condition; no two operations that disturb each
    other are at the medium together, nor is one done at once that disturbs what is there.
    """
    load = Load(seed, at_once, upsets=0.02)
    for _ in range(STEPS):
        load.step()
    load.drain()
    ends = Counter(action.task for action in load.bench.actions if isinstance(action, Completed | Aborted))
    assert all(ends[task] == 1 for task in load.accepted)
    assert not load.open
    assert not load.scopes
    assert load.bench.unit.open_tasks == 0
    assert not load.bench.unit._tasks.turns._all
    assert not load.bench.unit._tasks.turns._regions


def test_commands_go_the_short_way_too():
    loads = [Load(seed, 0.9) for seed in range(10)]
    for load in loads:
        for _ in range(STEPS):
            load.step()
    assert sum(load.short for load in loads) > STEPS // 5
    assert sum(load.kept_out for load in loads) > STEPS // 10


@pytest.mark.parametrize("seed", range(5))
def test_the_same_seed_gives_the_same_actions(seed: int):
    """Law: the machine is deterministic."""
    runs = []
    for _ in range(2):
        load = Load(seed, 0.5)
        for _ in range(STEPS):
            load.step()
        runs.append([type(action).__name__ for action in load.bench.actions])
    assert runs[0] == runs[1]
