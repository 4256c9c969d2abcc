"""Persistent reservations that were acknowledged with APTPL=1 are still there after kill -9 at any instant.

    nodes A, B, C ──> units 0..3 of a server that is a process of its own, with a state file of its own

Each unit is worked on by one worker, which sends PERSISTENT RESERVE OUT through a random node and waits for the status.
What the commands lead to is computed with `transitions.apply`, so after a restart each unit must be in the state that
was acknowledged last, or in the one that the command without an answer leads to, and in no other. There are several
units, so that one kill meets several saves at different instants. Nothing here proves what a power loss does: that what
SQLite has synchronised is on the disk is the promise of the disk.

It fails within seconds when the driver reports a save before it is made, and when the row is deleted and inserted in
two transactions; whoever changes the saving may try both.
"""

import asyncio
import contextlib
import random
import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from iscsi_target.config.values import ram_configuration
from iscsi_target.scsi.layouts.block_cdb import Read16
from iscsi_target.scsi.layouts.cdb import Inquiry
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import STRICT, OutAction, ReservationType
from iscsi_target.scsi.reservations.reservation_request import Request, Transition
from iscsi_target.scsi.reservations.reservations import Cause, Reservations
from iscsi_target.scsi.reservations.transitions import apply
from iscsi_target.scsi.status import Status, StatusError
from iscsi_target.server.server import Server
from tests.endtoend.nursery import ForkedTarget, Nursery
from tests.endtoend.reserving import read_view, send_out, view_of
from tests.endtoend.test_durability import done
from tests.endtoend.wire_initiator import UNIT_ATTENTION, ConnectionEnded, Initiator, Wire, log_in, place_of
from tools.served import ServedTarget

KILLS = 300
SERVERS = 2  # at once: as many as a small machine has processors
UNITS = 4
SEED = 20261106
NODES = tuple(f"iqn.2026-11.org.example:{letter}" for letter in "abc")
TARGET = "iqn.2026-11.org.example:reserved"
KEYS = range(1, 5)  # few, so that nodes share keys
MAX_LIFE_S = 0.15  # of a server that is killed at any instant
MAX_SAVE_S = 0.004  # what a save may take; a server that is killed after a command was sent dies within this time
LONG_LIFE_S = 10.0
NO_REGISTRATION_RESOURCES = (0x05, 0x5504)
NO_RESERVATION_RESOURCES = (0x05, 0x5502)
INFORMATION_LOST = (0x07, 0x4401)

CONFIGURATION = f"""
[[targets]]
name = "{TARGET}"
luns = {{ {", ".join(f'{number} = "unit{number}"' for number in range(UNITS))} }}
""" + "".join(f'[units.unit{number}]\nram = true\nsize = "1MiB"\n' for number in range(UNITS))


# One unit


def nexus_of(node: int, unit: int) -> Nexus:
    """Returns the nexus through which a node reaches a unit: it has a session for each."""
    return Nexus(InitiatorPort(NODES[node], b"\x80" + bytes([0, 0, 0, unit, node])), TargetPort(TARGET, 1))


def random_request(chance: random.Random, state: Reservations, nexus: Nexus, others: Sequence[Nexus]) -> Request:
    """Returns a command of a nexus that is mostly, but not always, one that is carried out in a state."""
    held = state.reservation
    own_key = state.registrations.get(nexus, 0)
    if nexus not in state.registrations:
        actions = [OutAction.REGISTER, OutAction.REGISTER, OutAction.REGISTER_AND_IGNORE_EXISTING_KEY]
    elif held is None:
        actions = [OutAction.RESERVE] * 6 + [OutAction.REGISTER, OutAction.CLEAR, OutAction.PREEMPT]
    elif state.holds(nexus):
        actions = [OutAction.REGISTER_AND_MOVE, OutAction.RELEASE] * 2 + [*OutAction]
    else:
        actions = [OutAction.PREEMPT, OutAction.PREEMPT_AND_ABORT] * 3 + [*OutAction]
    action = chance.choice([each for each in actions if each is not OutAction.REPLACE_LOST_RESERVATION])
    registers = action in (OutAction.REGISTER, OutAction.REGISTER_AND_IGNORE_EXISTING_KEY)
    moves = action is OutAction.REGISTER_AND_MOVE
    preempts = action in (OutAction.PREEMPT, OutAction.PREEMPT_AND_ABORT)
    key = chance.choice(KEYS)
    if preempts and state.registrations:
        key = chance.choice(list(state.registrations.values()))
    elif registers and own_key and chance.random() < 0.3:
        key = 0
    kind = held.type if held is not None and action is OutAction.RELEASE else chance.choice(list(ReservationType))
    return Request(
        action=action,
        cause=Cause(str(action), nexus, 0.0),
        reservation_key=own_key if chance.random() < 0.95 else own_key + 1,
        service_action_reservation_key=key if registers or moves or preempts else 0,
        type=0 if registers or moves else kind,
        aptpl=(registers or moves) and chance.random() < 0.95,
        destination=chance.choice(others) if moves else None,
        unregister=moves and chance.random() < 0.5,
    )


class Unit:
    """One unit: the state that was acknowledged, and the one that the command without an answer leads to."""

    def __init__(self, number: int, seed: int) -> None:
        self.number = number
        self.chance = random.Random(seed)
        self.acknowledged = 0
        self.undecided = 0  # restarts that found a command without an answer
        self.carried_out = 0  # restarts at which that command had been carried out all the same
        self.survived = 0  # restarts that found registrations
        self.state = Reservations()
        self.next: Reservations | None = None
        self.actions: set[OutAction] = set()

    async def work(self, initiators: Sequence[Initiator], life: "Life") -> None:
        """Sends commands until the server is gone."""
        while not life.over:
            node = self.chance.randrange(len(NODES))
            nexus = nexus_of(node, self.number)
            others = [nexus_of(other, self.number) for other in range(len(NODES)) if other != node]
            request = random_request(self.chance, self.state, nexus, others)
            status, transition = expected(self.state, nexus, request)
            self.next = None if transition is None else transition.state
            life.sent(self)
            outcome = await send_out(initiators[node], request)
            assert outcome.status == status, (request, self.state, outcome)
            if self.next is not None:
                self.state, self.next = self.next, None
                self.acknowledged += 1
                self.actions.add(request.action)
                life.acknowledged(self)

    async def check(self, initiator: Initiator) -> None:
        """Reads what is there now, which is what stays."""
        old = survivor(self.state)
        new = old if self.next is None else survivor(self.next)
        found = await read_view(initiator)
        assert found in (view_of(old), view_of(new)), f"unit {self.number} has lost {old}\nor has not all of {new}"
        assert found.generation == 0
        if view_of(new) != view_of(old):
            self.undecided += 1
            self.carried_out += found == view_of(new)
        self.survived += bool(found.keys)
        self.state, self.next = (new if found == view_of(new) else old), None


def expected(state: Reservations, nexus: Nexus, request: Request) -> tuple[int, Transition | None]:
    try:
        return Status.GOOD, apply(state, nexus, request, STRICT)
    except StatusError as error:
        return error.status, None


def survivor(state: Reservations) -> Reservations:
    """Returns what is left of a state after a power loss."""
    return state.stored or Reservations()


# The lives of a server


class Death(NamedTuple):
    """When a server is killed: after some time, after it was sent so many commands and a moment, or after so many
    acknowledgements."""

    seconds: float = LONG_LIFE_S
    commands: int = 0
    moment_s: float = 0.0
    acknowledgements: int = 0


def random_death(chance: random.Random, number: int) -> Death:
    return (
        Death(seconds=chance.uniform(0, MAX_LIFE_S)),
        Death(commands=chance.randrange(1, 60), moment_s=chance.uniform(0, MAX_SAVE_S)),
        Death(acknowledgements=chance.randrange(1, 60)),
    )[number % 3]


class Life:
    """The time from here to the death of a server."""

    def __init__(self, target: ForkedTarget, death: Death) -> None:
        self._target = target
        self._death = death
        self._commands = 0
        self._acknowledgements = 0
        self._timer = asyncio.get_running_loop().call_later(death.seconds, self._kill)
        self.over = False

    def sent(self, unit: Unit) -> None:
        """Notes that a command goes out now."""
        self._commands += 1
        if self._commands == self._death.commands:
            asyncio.get_running_loop().call_later(self._death.moment_s, self._kill)

    def acknowledged(self, unit: Unit) -> None:
        """Notes that the server has promised something, and kills it when it was to live until then."""
        self._acknowledgements += 1
        if self._acknowledgements == self._death.acknowledgements:
            self._kill()

    def _kill(self) -> None:
        self._timer.cancel()
        self._target.kill9()
        self.over = True


async def live(target: ForkedTarget, units: Sequence[Unit], death: Death | None) -> None:
    """Checks what earlier lives promised, lets the workers go on and kills the server; without a death, only checks."""
    async with AsyncExitStack() as wires:
        initiators = [await log_in_nodes(target, wires, unit.number) for unit in units]
        for unit, nodes in zip(units, initiators, strict=True):
            await unit.check(unit.chance.choice(nodes))
        if death is not None:
            life = Life(target, death)
            async with asyncio.TaskGroup() as tasks:
                for unit, nodes in zip(units, initiators, strict=True):
                    tasks.create_task(until_killed(unit, nodes, life))


async def log_in_nodes(target: ForkedTarget, wires: AsyncExitStack, unit: int) -> list[Initiator]:
    place = place_of(target.url(unit))
    found = []
    for node, name in enumerate(NODES):
        wire = await Wire.open(place)
        wires.callback(wire.close)
        found.append(await log_in(wire, place, isid=nexus_of(node, unit).initiator_port.isid, name=name))
    return found


async def until_killed(unit: Unit, initiators: Sequence[Initiator], life: Life) -> None:
    try:
        await unit.work(initiators, life)
    except ConnectionEnded:
        assert life.over, "the server closed a connection while it was alive"


async def live_and_die(nursery: Nursery, folder: Path, seed: int, kills: int) -> list[Unit]:
    """Kills a server so often; returns its units."""
    chance = random.Random(seed)
    units = [Unit(number, seed + number) for number in range(UNITS)]
    target = ForkedTarget(nursery, folder, CONFIGURATION)
    try:
        for number in range(kills):
            await target.start()
            await live(target, units, random_death(chance, number))
        await target.start()
        await live(target, units, None)
    finally:
        target.kill9()
    return units


async def test_acknowledged_reservations_survive_kill_9_at_any_instant(tmp_path):
    with Nursery() as nursery:
        async with asyncio.TaskGroup() as tasks:
            lives = [
                tasks.create_task(live_and_die(nursery, tmp_path / str(lane), SEED + 100 * lane, KILLS // SERVERS))
                for lane in range(SERVERS)
            ]
    units = [unit for task in lives for unit in task.result()]
    undecided, carried_out = sum(each.undecided for each in units), sum(each.carried_out for each in units)
    acknowledged, survived = sum(each.acknowledged for each in units), sum(each.survived for each in units)
    print(f"{KILLS} kills: {acknowledged} changes acknowledged, {survived} restarts of a unit with registrations,")
    print(f"{undecided} with a change that had no answer, {carried_out} of which were there")
    assert survived > KILLS
    assert 0 < carried_out < undecided, "no kill met a save before and after its commit"
    assert set.union(*(each.actions for each in units)) == set(OutAction) - {OutAction.REPLACE_LOST_RESERVATION}


# One server and node A


UNIT0 = nexus_of(0, 0)


def register(key: int, *, own: int = 0, aptpl: bool = True) -> Request:
    cause = Cause("REGISTER", UNIT0, 0.0)
    return Request(OutAction.REGISTER, cause, own, key, aptpl=aptpl)


def reserve(key: int, kind: ReservationType = ReservationType.WRITE_EXCLUSIVE) -> Request:
    return Request(OutAction.RESERVE, Cause("RESERVE", UNIT0, 0.0), key, type=kind)


@asynccontextmanager
async def node_a(url: str) -> AsyncIterator[Initiator]:
    """A session of node A with unit 0, which may end with the server."""
    place = place_of(url)
    wire = await Wire.open(place)
    try:
        yield await log_in(wire, place, isid=UNIT0.initiator_port.isid, name=UNIT0.initiator_port.name)
    finally:
        wire.close()


@pytest.fixture
def target(tmp_path) -> Iterator[ServedTarget]:
    file = tmp_path / "target.toml"
    file.write_text(CONFIGURATION)
    with ServedTarget(tmp_path / "state", [str(file)]) as served:
        yield served


def crash(target: ServedTarget) -> None:
    target.kill9()
    target.restart()


async def good(initiator: Initiator, *requests: Request) -> None:
    for request in requests:
        outcome = await send_out(initiator, request)
        assert outcome.status == 0, outcome


@pytest.mark.parametrize("first_aptpl", [False, True])
async def test_after_a_registration_without_aptpl_nothing_survives(target, first_aptpl):
    async with node_a(target.url()) as initiator:
        await good(initiator, register(1, aptpl=first_aptpl), reserve(1), register(2, own=1, aptpl=False))
        assert (await read_view(initiator)).reservation == (2, ReservationType.WRITE_EXCLUSIVE)
    crash(target)
    async with node_a(target.url()) as initiator:
        assert await read_view(initiator) == view_of(Reservations())


async def test_what_cannot_be_written_is_refused_and_changes_nothing(target):
    """The kernel lets the server write no file beyond a length which its log has already."""
    async with node_a(target.url()) as initiator:
        await good(initiator, register(1))
        before = await read_view(initiator)
        _, hard = resource.prlimit(target.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(target.pid, resource.RLIMIT_FSIZE, (8192, hard))
        for request, code in (
            (register(2, own=1), NO_REGISTRATION_RESOURCES),
            (register(0, own=1, aptpl=False), NO_REGISTRATION_RESOURCES),
            (reserve(1), NO_RESERVATION_RESOURCES),
        ):
            failed = await send_out(initiator, request)
            assert (failed.key, failed.code) == code
            assert await read_view(initiator) == before
    crash(target)
    async with node_a(target.url()) as initiator:
        assert await read_view(initiator) == before._replace(generation=0)


async def test_when_there_is_room_again_changes_are_stored_again(target):
    async with node_a(target.url()) as initiator:
        await good(initiator, register(1))
        _, hard = resource.prlimit(target.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(target.pid, resource.RLIMIT_FSIZE, (8192, hard))
        assert (await send_out(initiator, register(2, own=1))).status != 0
        resource.prlimit(target.pid, resource.RLIMIT_FSIZE, (hard, hard))
        await good(initiator, register(3, own=1))
        after = await read_view(initiator)
        assert after.keys == (3,)
    crash(target)
    async with node_a(target.url()) as initiator:
        assert await read_view(initiator) == after._replace(generation=0)


async def test_a_read_only_state_file_refuses_what_has_to_survive_and_nothing_else(tmp_path):
    async with Server(ram_configuration(tmp_path, 1 << 20)) as server, node_a(server.url("disk0")) as initiator:
        server._state._database.execute("PRAGMA query_only = ON")
        failed = await send_out(initiator, register(1))
        assert (failed.key, failed.code) == NO_REGISTRATION_RESOURCES
        assert await read_view(initiator) == view_of(Reservations())
        await good(initiator, register(1, aptpl=False), reserve(1))
        server._state._database.execute("PRAGMA query_only = OFF")
        await good(initiator, register(1, own=1))
        assert (await read_view(initiator)).generation == 2


async def test_damaged_reservations_are_lost_until_they_are_replaced(target):
    async with node_a(target.url()) as initiator:
        await good(initiator, register(1), reserve(1))
    target.kill9()
    with contextlib.closing(sqlite3.connect(target.state / "state.sqlite", isolation_level=None)) as database:
        database.execute("UPDATE reservations SET record = replace(record, '0x1', '0x2') WHERE unit = 'unit0'")
    for _ in range(2):
        target.restart()
        async with node_a(target.url()) as initiator:
            await done(initiator, Inquiry(allocation_length=96), read_bytes=96)
            read = Read16(transfer_length=1)
            refused = await initiator.execute(read, read_bytes=512)
            while refused.key == UNIT_ATTENTION:
                refused = await initiator.execute(read, read_bytes=512)
            assert (refused.key, refused.code) == INFORMATION_LOST
            refused = await send_out(initiator, register(1))
            assert (refused.key, refused.code) == INFORMATION_LOST
        async with node_a(target.url(1)) as initiator:
            await done(initiator, read, read_bytes=512)
        assert "unit unit0: its stored persistent reservations are damaged" in target.errors + served_lines(target)
        target.kill9()
    target.restart()
    cause = Cause("REPLACE LOST RESERVATION", UNIT0, 0.0)
    replacement = Request(OutAction.REPLACE_LOST_RESERVATION, cause, 0, 7, type=1, aptpl=True)
    async with node_a(target.url()) as initiator:
        await good(initiator, replacement)
        replaced = await read_view(initiator)
        assert replaced.reservation == (7, ReservationType.WRITE_EXCLUSIVE)
    crash(target)
    async with node_a(target.url()) as initiator:
        assert await read_view(initiator) == replaced._replace(generation=0)


def served_lines(target: ServedTarget) -> str:
    return (target.state / "serve.out").read_text()


async def test_a_target_port_keeps_its_number_when_the_configuration_changes(target, tmp_path):
    async with node_a(target.url()) as initiator:
        await good(initiator, register(1))
    target.kill9()
    other = '[[targets]]\nname = "iqn.2026-11.org.example:another"\nluns = { 0 = "unit3" }\n'
    file = tmp_path / "target.toml"
    file.write_text(other + CONFIGURATION)
    target.restart()
    async with node_a(next(url for url in target.urls if f"{TARGET}/0" in url)) as initiator:
        assert (await read_view(initiator)).keys == (1,)  # and the port of its full status is still 1
