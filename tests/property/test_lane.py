"""The short way of commands against the long way, by what initiators are told and what is left behind.

    A, C ---- portal group 1 ----.
                                  NODE: LUN 0 == "disk0", LUN 1 == "disk1" (comes and goes)
    B ------- portal group 2 ----'

Three targets get the same requests. The media of the first do everything at once, so that plain commands are answered
by lanes; those of the second do so when a draw says so; those of the third do nothing at once, their operations end in
any order, and it has no lanes. Every run is determined by its seed.
"""

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import pytest

from iscsi_target.iscsi.numbering import WINDOW_COMMANDS
from iscsi_target.iscsi.requests import ScsiCommand
from iscsi_target.iscsi.responses import ReadyToTransfer
from iscsi_target.iscsi.task_management import TaskManagement
from iscsi_target.scsi.layouts.cdb import RequestSense
from iscsi_target.scsi.layouts.lun import pack_lun
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.operations import Buffer, Fault, MediumError, Mismatch, Operation, WouldBlock, extents, writes
from iscsi_target.scsi.reservations.personalities import PERSONALITIES
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.state.device import PortIdentity
from iscsi_target.scsi.unit.lane import Lane
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.target import Order
from iscsi_target.wire.serial import advance
from tests.initiator import NODE, Host, Lab, Pdu, Result, disk_node
from tests.property.command_mix import HOT_BLOCKS, KEYS, Command, Mix
from tests.unit.scsi.unit_bench import BLOCK, BLOCKS

SCHEDULES = 1000
BATCH = 100
STEPS = 18
PORTAL_GROUPS = {"a": 1, "b": 2, "c": 1}
UNITS = ("disk0", "disk1")
BAD_BLOCKS = range(4 * BLOCK, 5 * BLOCK)  # of a medium that has them: what is written there fails afterwards
FUNCTIONS = (
    TaskManagement.ABORT_TASK_SET,
    TaskManagement.CLEAR_TASK_SET,
    *(TaskManagement.CLEAR_ACA,) * 4,
    TaskManagement.LOGICAL_UNIT_RESET,
    TaskManagement.LOGICAL_UNIT_RESET,
    TaskManagement.TARGET_WARM_RESET,
)
SENSE = Command(RequestSense(allocation_length=18).pack().ljust(16, b"\0"), 1, b"", 0, 18, (False, True), short=False)
OFFERS: tuple[list[tuple[str, str]], ...] = (
    [],
    [],
    [("ImmediateData", "No")],
    [("InitialR2T", "No"), ("MaxBurstLength", "1024"), ("FirstBurstLength", "1024")],
    [("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C"), ("MaxBurstLength", "512"), ("MaxOutstandingR2T", "4")],
)


def touches(operation: Operation, bad: range) -> bool:
    return any(start < bad.stop and bad.start < start + length for start, length in extents(operation))


class Side(Lab):
    """One target with its initiators.

    at_once   says of each operation whether the medium does it at once
    bad       the units whose media have bad blocks
    nodes     the connection of each initiator that is there
    told      what the target sent to each in this step
    """

    def __init__(self, seed: int, at_once: Callable[[], bool]) -> None:
        super().__init__(nodes=[disk_node(portal_group_tags=(1, 2))])
        self.slow = True
        self.random = random.Random(seed)
        self.at_once = at_once
        self.bad: tuple[str, ...] = ()
        self.nodes: dict[str, Host] = {}
        self.told: dict[str, list[Pdu]] = {}
        self._owed: dict[tuple[str, int], Command] = {}
        self._stat_sn: dict[int, int] = {}

    # The medium

    def attempt(self, unit: str, operation: Operation) -> Result | Literal[WouldBlock.BLOCKS]:
        return self.perform(unit, operation) if self.at_once() else WouldBlock.BLOCKS

    def perform(self, unit: str, operation: Operation) -> Result:
        result = super().perform(unit, operation)
        if unit not in self.bad or isinstance(result, Mismatch) or not touches(operation, BAD_BLOCKS):
            return result
        return MediumError(Fault.WRITE_FAILED if writes(operation) else Fault.READ_FAILED, BAD_BLOCKS.start)

    # What initiators do

    def come(self, name: str, offers: list[tuple[str, str]]) -> None:
        host = self.connect(name, PORTAL_GROUPS[name])
        self.nodes[name] = host
        host.login(offers=offers)

    def send(self, name: str, command: Command, lun: int) -> None:
        host = self.nodes[name]
        tag = host.next_tag()
        self._owed[name, tag] = command
        write, read = command.flags
        header = ScsiCommand(
            lun=pack_lun(lun),
            read=read,
            write=write,
            attributes=command.attribute,
            initiator_task_tag=tag,
            expected_data_transfer_length=len(command.data) if write else command.read,
            cmd_sn=host.next_cmd_sn(),
            cdb=command.cdb,
        )
        host.send(header, command.data[: command.immediate] if write else b"")

    def settle(self) -> None:
        """Lets everybody answer until nothing is under way."""
        self.now += 1
        busy = True
        while busy:
            busy = True in [self._listen(name) for name in self.nodes]
            tickets = [*self.at_medium, *self.saving]
            if tickets:
                self._finish(self.random.choice(tickets))
                busy = True
        self._check_numbers()

    def _finish(self, ticket) -> None:
        if ticket in self.at_medium:
            self.finish(ticket)
        else:
            del self.saving[ticket]
            self.run(self.target.finished(ticket, None, self.now))

    def _listen(self, name: str) -> bool:
        host = self.nodes[name]
        received, host.received = host.received, []
        self.told.setdefault(name, []).extend(received)
        for pdu in received:
            if isinstance(pdu.header, ReadyToTransfer) and not host.closed:
                self._answer(host, pdu.header, self._owed[name, pdu.header.initiator_task_tag])
        return bool(received)

    def _answer(self, host: Host, asked: ReadyToTransfer, command: Command) -> None:
        end = asked.buffer_offset + asked.desired_data_transfer_length
        host.data_out(asked, command.data[asked.buffer_offset : end - command.short])

    def _check_numbers(self) -> None:
        """StatSN goes up by one with every status, and when all is over the window is open."""
        for name, pdus in self.told.items():
            host = self.nodes[name]
            for header, _ in pdus:
                if not isinstance(header, ReadyToTransfer) and getattr(header, "status_present", True):
                    assert header.stat_sn == self._stat_sn.get(host.number, header.stat_sn)
                    self._stat_sn[host.number] = advance(header.stat_sn)
            if pdus and not host.closed:
                last: Any = pdus[-1].header
                assert (last.exp_cmd_sn, last.max_cmd_sn) == (host.cmd_sn, advance(host.cmd_sn, WINDOW_COMMANDS - 1))

    # What is to be the same

    def take(self) -> dict[str, list[Pdu]]:
        told, self.told = self.told, {}
        for name in [name for name, host in self.nodes.items() if host.closed]:
            del self.nodes[name]
        self._owed.clear()
        return told

    def state(self) -> list[object]:
        """Returns all that a unit keeps."""
        found: list[object] = [self.events, self.operated]
        for name in UNITS:
            unit, device = self.units[name], self.units[name].device
            assert not unit.open_tasks
            found += [device.geometry, device.modes, device.loaded, device.stopped, device.preventing]
            found += [device.spc2_reservation, device.reservations, device.sanitization, unit.timeline]
            found += [(nexus, unit.nexuses.standing(nexus).attentions) for nexus in unit.nexuses]
            found += [self.stores[name].read(0, (HOT_BLOCKS + 4) * BLOCK)]
        return found


class NoLane(Lane):
    """Leaves everything to the unit."""

    def answer(self, cdb: bytes, expected: int, data_out: Buffer) -> Buffer | None:
        return None


class LongUnit(LogicalUnit):
    """A logical unit without a short way."""

    def lane(self, nexus: Nexus) -> Lane:
        return NoLane(nexus, self.device, self.nexuses, self._tasks, self._attempt)


class LongSide(Side):
    unit_type = LongUnit


def unnumbered(told: dict[str, list[Pdu]]) -> dict[str, list[tuple[int, str, Pdu]]]:
    """Returns what was told of each task by itself, whatever the order in which tasks ended."""
    found = {}
    for name, pdus in told.items():
        plain = [Pdu(header.replace(stat_sn=0, exp_cmd_sn=0, max_cmd_sn=0), data) for header, data in pdus]
        each = [(pdu.header.initiator_task_tag, repr(type(pdu.header)), pdu) for pdu in plain]
        found[name] = sorted(each, key=lambda one: one[:2])
    return found


class Trial:
    """The same requests for all sides."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        draws = random.Random(~seed)
        chance = draws.choice((0.3, 0.5, 0.8))
        self.sides = [Side(1, lambda: True), Side(2, lambda: draws.random() < chance), LongSide(3, lambda: False)]
        self.luns: tuple[int, ...] = (0, 1)
        self.offers: dict[str, list[tuple[str, str]]] = {}
        ports = [InitiatorPort(f"iqn.2026-01.org.example:{name}", b"\x80\0\0\0\0\1") for name in PORTAL_GROUPS]
        self.mix = Mix(self.random, self.stored, ports)
        self.last = "", 0, self.mix.any()
        self.deeds: list[tuple[int, Callable[[], None]]] = [
            (70, self.command),
            (10, self.burst),
            (9, self.reserve),
            (4, self.take_over),
            (2, self.manage),
            (2, self.come),
            (1, self.log_out),
            (1, self.cut),
            (1, self.order),
            (1, self.resize),
            (1, self.reconfigure),
        ]
        self._set_up()

    def _set_up(self) -> None:
        personalities = [self.random.choice(list(PERSONALITIES.values())) for _ in UNITS]
        removable, read_only = self.random.random() < 0.5, self.random.random() < 0.1
        bad = tuple(name for name in UNITS if self.random.random() < 0.15)
        for side in self.sides:
            side.bad = bad
            for name, personality in zip(UNITS, personalities, strict=True):
                device = side.units[name].device
                device.personality = personality
                device.ports = {TargetPort(NODE, tag): PortIdentity(tag, tag) for tag in (1, 2)}
                device.features = device.features._replace(removable=removable, read_only=read_only)
        for name in ("a", "b"):
            self._come(name)
            for lun in self.luns:
                self.each(partial(Side.send, name=name, command=SENSE, lun=lun))

    def run(self) -> None:
        weights, deeds = zip(*self.deeds, strict=True)
        for _ in range(STEPS):
            if not self.sides[0].nodes:
                self.come()
            [deed] = self.random.choices(deeds, weights)
            deed()
        contents = [[side.stores[name].read(0, BLOCKS * BLOCK) for name in UNITS] for side in self.sides]
        assert contents[0] == contents[1] == contents[2]

    def stored(self, lba: int, blocks: int) -> bytes:
        end = min((lba + blocks) * BLOCK, BLOCKS * BLOCK)
        return bytes(self.sides[0].stores["disk0"].read(min(lba * BLOCK, end), max(0, end - lba * BLOCK)))

    def each(self, deed: Callable[[Side], None], *, ordered: bool = True) -> None:
        """Does the same on all sides, lets everything end, and compares."""
        told, states = [], []
        for side in self.sides:
            deed(side)
            side.settle()
            told.append(side.take())
            states.append(side.state())
        if ordered:
            assert told[0] == told[1] == told[2]
        else:
            assert unnumbered(told[0]) == unnumbered(told[1]) == unnumbered(told[2])
        assert states[0] == states[1] == states[2]

    # Deeds

    def somebody(self) -> str:
        there = list(self.sides[0].nodes)
        return there[0] if self.random.random() < 0.4 else self.random.choice(there)

    def lun(self) -> int:
        return self.random.choice((0,) * 9 + (1, 1, 2))

    def fitting(self, name: str, command: Command) -> Command:
        """Returns a command as the session of a node may send it."""
        keys = dict(self.offers[name])
        limit = 0 if keys.get("ImmediateData") == "No" else int(keys.get("FirstBurstLength", 8192))
        return command._replace(immediate=min(command.immediate, limit))

    def command(self) -> None:
        """Sends any command; often the last one once more, as that is when lanes answer."""
        name, lun, command = self.last
        if name in self.sides[0].nodes and self.random.random() < 0.75:
            command = self.mix.again(command)
        else:
            name, lun, command = self.somebody(), self.lun(), self.mix.any()
        self.last = name, lun, command
        self.send(name, command, lun)

    def send(self, name: str, command: Command, lun: int) -> None:
        command = self.fitting(name, command)
        if name in self.sides[0].nodes:
            self.each(lambda side: side.send(name, command, lun))

    def reserve(self) -> None:
        self.send(self.somebody(), self.mix.reserving(), self.random.choice((0, 0, 1)))

    def take_over(self) -> None:
        """A node reserves the unit while another one works there, which goes on in another order."""
        name, commands = self.somebody(), [self.mix.common() for _ in range(3)]
        for command in commands * 2:
            self.send(name, command, 0)
        other = self.somebody()
        for command in self.mix.taking(self.random.choice(KEYS[1:])):
            self.send(other, command, 0)
        for command in commands[::-1]:
            self.send(name, command, 0)

    def burst(self) -> None:
        """Commands of several nodes that are under way together: they come to what they would one after another."""
        if any(self.sides[0].units[name].device.qerr for name in UNITS):
            return  # an error of one would abort those that are under way
        sent = [(self.somebody(), self.mix.common(), self.lun()) for _ in range(self.random.randrange(2, 8))]
        sent = [(name, self.fitting(name, command), lun) for name, command, lun in sent]

        def deed(side: Side) -> None:
            for name, command, lun in sent:
                side.send(name, command, lun)

        self.each(deed, ordered=False)

    def manage(self) -> None:
        name, function, lun = self.somebody(), self.random.choice(FUNCTIONS), self.random.choice((0, 1))
        self.each(lambda side: void(side.nodes[name].manage(function, lun)))

    def come(self) -> None:
        """Logs in for the first time, after a loss, or in the place of the session that is there."""
        self._come(self.random.choice(list(PORTAL_GROUPS)))

    def _come(self, name: str) -> None:
        offers = self.offers[name] = self.random.choice(OFFERS)
        self.each(lambda side: side.come(name, offers))

    def log_out(self) -> None:
        name = self.somebody()
        self.each(lambda side: side.nodes[name].logout())

    def cut(self) -> None:
        name = self.somebody()
        self.each(lambda side: side.nodes[name].cut())

    def order(self) -> None:
        action = self.random.choice((OutAction.CLEAR, OutAction.PREEMPT, OutAction.PREEMPT_AND_ABORT))
        order = Order(self.random.choice(UNITS), action, self.random.choice(KEYS))
        self.each(lambda side: side.run(side.target.operate(len(side.operated), order, side.now)))

    def resize(self) -> None:
        name, blocks = self.random.choice(UNITS), self.random.choice((BLOCKS, BLOCKS // 2))
        self.each(lambda side: side.units[name].resize(blocks))

    def reconfigure(self) -> None:
        self.luns = (0,) if self.luns == (0, 1) else (0, 1)
        node = disk_node(portal_group_tags=(1, 2), luns={lun: UNITS[lun] for lun in self.luns})
        self.each(lambda side: side.reconfigure(node))


def void(_: object) -> None:
    """Takes a result that nobody wants."""


def run(seed: int) -> None:
    """Runs one schedule; what fails says its seed."""
    try:
        Trial(seed).run()
    except AssertionError as error:
        error.add_note(f"seed {seed}")
        raise


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Counter[bool]:
    """Counts what lanes answer (True) and what they leave to the units (False)."""
    counted: Counter[bool] = Counter()
    answer = Lane.answer

    def count(*arguments):
        done = answer(*arguments)
        counted[done is not None] += 1
        return done

    monkeypatch.setattr(Lane, "answer", count)
    return counted


@pytest.mark.parametrize("first", range(0, SCHEDULES, BATCH))
def test_initiators_cannot_tell_whether_a_medium_answers_at_once(first: int, answers: Counter[bool]):
    """Law: the same requests are told the same and leave the same, whichever way their commands go.

    After a single request that is all of every PDU, so status, sense, data, residuals and numbers; after several at a
    time, all but the order in which they end. What stays is the bytes, the reservations with their history, the mode
    pages, and the unit attentions of everybody.
    """
    for seed in range(first, first + BATCH):
        run(seed)
    assert answers[True] > 2 * BATCH
    assert answers[False] > 4 * BATCH
