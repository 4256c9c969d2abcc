"""Several initiators at one target whose media answer late and in any order, or at once by chance.

Every run is determined by its seed.

Hosts A, B and C write, read, abort, reset, log out, come again and are cut in the middle of a PDU; LUN 0 is disk0, LUN
1 is disk1 and comes and goes. Each write carries a number of its own in every block, so what reaches a store is known.
"""

import random
from collections.abc import Callable, Sequence
from typing import Literal

import pytest

from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import DataOut, NopOut, Request
from iscsi_target.iscsi.responses import (
    DataIn,
    LoginResponse,
    ReadyToTransfer,
    Reject,
    ScsiResponse,
    TaskManagementResponse,
)
from iscsi_target.iscsi.task_management import TaskManagement
from iscsi_target.scsi.operations import Fault, MediumError, Operation, WouldBlock, Write
from iscsi_target.target import Action, Send, Timeouts
from tests.initiator import Host, Lab, Result, disk_node
from tests.unit.scsi.unit_bench import BLOCK

STEPS = 600
SEEDS = range(40)
HOT_BLOCKS = 6
NAMES = ("a", "b", "c")
FENCES = (TaskManagement.ABORT_TASK_SET, TaskManagement.CLEAR_TASK_SET, TaskManagement.LOGICAL_UNIT_RESET)
OFFERS = [
    [],
    [("InitialR2T", "No"), ("FirstBurstLength", "1024"), ("MaxBurstLength", "1024")],
    [("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C"), ("MaxOutstandingR2T", "4"), ("MaxBurstLength", "512")],
    [("ImmediateData", "No")],
]


class Order:
    """A command that has gone out: its number, where it goes, and whether it is a write."""

    def __init__(self, number: int, lun: int, blocks: bytes) -> None:
        self.number = number
        self.lun = lun
        self.blocks = blocks


class Node:
    """One initiator port over all its connections.

    unanswered    tag -> what this connection sent and has no response to
    fences        tag of a function -> the numbers of the orders that it ends
    replaced      the orders of sessions before, which the next login ends
    unsent        the rest of a PDU of which the beginning has gone out
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.host: Host | None = None
        self.unanswered: dict[int, Order] = {}
        self.fences: dict[int, set[int]] = {}
        self.replaced: set[int] = set()
        self.silenced: set[int] = set()
        self.asked: list[ReadyToTransfer] = []
        self.unsent = b""

    @property
    def open(self) -> set[int]:
        return {order.number for order in self.unanswered.values()}


class FragmentingLab(Lab):
    """A lab that keeps a transcript and lets the simulation see every operation before it is performed.

    at_once   says whether the medium does an operation at once
    short     how many it did
    """

    def __init__(self, at_once: Callable[[Operation], bool]) -> None:
        super().__init__(timeouts=Timeouts(30, 20, 20, 10))
        self.slow = True
        self.at_once = at_once
        self.short = 0
        self.transcript: list[str] = []

    def attempt(self, unit: str, operation: Operation) -> Result | Literal[WouldBlock.BLOCKS]:
        if not self.at_once(operation):
            return WouldBlock.BLOCKS
        self.short += 1
        return self.perform(unit, operation)

    def run(self, actions) -> None:
        actions = list(actions)
        self.transcript += [_wrote(action) for action in actions]
        super().run(actions)


def _wrote(action: Action) -> str:
    if isinstance(action, Send):
        return f"{action.connection}: {b''.join(bytes(buffer) for buffer in action.buffers).hex()}"
    return repr(action)


class Simulation:
    """The load.

    at_once   how likely a medium does at once what it is asked
    """

    lab_type: type[FragmentingLab] = FragmentingLab

    def __init__(self, seed: int, at_once: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.at_once = at_once
        self.lab = self.lab_type(self.draw)
        self.nodes = [Node(name) for name in NAMES]
        self.fenced: set[int] = set()
        self.rejoining: set[int] = set()
        self.orders = 0
        self.luns: tuple[int, ...] = (0, 1)
        self.deeds: list[tuple[int, Callable[[Node], None]]] = [
            (30, self.write),
            (10, self.read),
            (40, self.answer),
            (3, self.abort),
            (4, self.fence),
            (1, self.reset),
            (2, self.log_in),
            (1, self.log_out),
            (2, self.cut),
            (3, self.ping),
            (2, self.wait),
            (1, self.reconfigure),
            (1, self.babble),
        ]

    # The schedule

    def run(self, steps: int = STEPS) -> list[str]:
        weights = [weight for weight, _ in self.deeds]
        for _ in range(steps):
            if self.random.random() < 0.3:
                self.perform()
            else:
                [(_, deed)] = self.random.choices(self.deeds, weights)
                node = self.random.choice(self.nodes)
                if node.host is None:
                    deed = self.log_in
                deed(node)
            self.look()
        return self.lab.transcript

    def finish(self) -> None:
        """Lets the media finish and takes all initiators away."""
        for node in self.nodes:
            if node.host is not None:
                self.cut(node)
        while self.lab.at_medium:
            self.perform()
        for host in self.lab.hosts.values():
            if not host.closed:
                host.cut()

    def perform(self) -> None:
        if not self.lab.at_medium:
            return
        ticket = self.random.choice(list(self.lab.at_medium))
        self.check_fence(self.lab.at_medium[ticket].operation)
        failed = self.random.random() < 0.05
        self.lab.finish(ticket, MediumError(Fault.WRITE_FAILED, 0) if failed else None)

    def draw(self, operation: Operation) -> bool:
        """Says whether a medium does an operation at once."""
        if not self.at_once or self.random.random() >= self.at_once:
            return False
        self.check_fence(operation)
        return True

    def check_fence(self, operation: Operation) -> None:
        if isinstance(operation, Write):
            data = bytes(operation.data)
            numbers = {int.from_bytes(data[start : start + 8]) for start in range(0, len(data), BLOCK)}
            assert not numbers & self.fenced, f"write {numbers} comes to the medium after a fence"

    # What came

    def look(self) -> None:
        for node in self.nodes:
            host = node.host
            if host is None:
                continue
            received, host.received = host.received, []
            for pdu in received:
                self.note(node, pdu.header)
            if host.closed:
                self.lose(node)

    def note(self, node: Node, header) -> None:
        tag = header.initiator_task_tag
        match header:
            case DataIn() if not header.status_present:
                assert tag in node.unanswered
            case ScsiResponse() | DataIn():
                order = node.unanswered.pop(tag)  # a second response fails here
                assert order.number not in node.silenced
                node.asked = [asked for asked in node.asked if asked.initiator_task_tag != tag]
            case TaskManagementResponse(response=0):
                ended = node.fences.pop(tag, set())
                self.fenced |= ended
                node.silenced |= ended & node.open
            case LoginResponse(status_class=0):
                self.fenced |= node.replaced
                node.replaced = set()
            case LoginResponse():
                assert node.host is not None
                assert node.host.number in self.rejoining  # its session was ending already
            case ReadyToTransfer():
                node.asked.append(header)
            case Reject():
                raise AssertionError("a Reject for nothing wrong")
            case _:
                pass

    def lose(self, node: Node) -> None:
        node.replaced |= node.open
        node.host = None
        node.unanswered, node.fences, node.asked, node.unsent = {}, {}, [], b""
        node.silenced = set()

    # Deeds

    def send(self, node: Node, header: Request, data: bytes = b"") -> None:
        """Sends a PDU, sometimes in pieces; what comes next waits for the last piece."""
        assert node.host is not None
        self.flush(node)
        packed = node.host.pack(header, data)
        at = self.random.randrange(len(packed)) if self.random.random() < 0.1 else len(packed)
        node.host.feed(packed[:at])
        node.unsent = packed[at:]
        if self.random.random() < 0.9:
            self.flush(node)

    def flush(self, node: Node) -> None:
        assert node.host is not None
        rest, node.unsent = node.unsent, b""
        node.host.feed(rest)

    def ready(self, node: Node) -> Host | None:
        """Returns the host when it is in full feature phase and nothing is half sent."""
        if node.host is None or not node.host.logged_in or node.host.closed:
            return None
        self.flush(node)
        return node.host

    def order(self, node: Node, lun: int, blocks: int) -> Order:
        self.orders += 1
        return Order(self.orders, lun, self.orders.to_bytes(8).ljust(BLOCK, b"\0") * blocks)

    def write(self, node: Node) -> None:
        host = self.ready(node)
        if host is None or len(node.unanswered) > 20:
            return
        lun, blocks = self.random.choice((0, 1)), self.random.randrange(1, 4)
        order = self.order(node, lun, blocks)
        tag = host.next_tag()
        node.unanswered[tag] = order
        attributes = self.random.choice((1, 1, 1, 1, 2, 3))
        data = order.blocks if self.random.random() < 0.5 and self.allows_immediate(host) else b""
        host.write(self.random.randrange(HOT_BLOCKS), order.blocks, lun, tag=tag, data=data, attributes=attributes)

    def allows_immediate(self, host: Host) -> bool:
        [active] = [active for active in self.lab.target._active.values() if host in self.hosts(active)]
        return active.session.parameters.immediate_data and active.session.parameters.first_burst_length >= 3 * BLOCK

    def hosts(self, active) -> list[Host]:
        return [self.lab.hosts[connection.number] for connection in active.session.connections.values()]

    def read(self, node: Node) -> None:
        host = self.ready(node)
        if host is not None and len(node.unanswered) <= 20:
            tag = host.next_tag()
            node.unanswered[tag] = self.order(node, lun := self.random.choice((0, 1)), 1)
            host.read(self.random.randrange(HOT_BLOCKS), lun, tag=tag)

    def answer(self, node: Node) -> None:
        """Sends the data for an R2T, in one PDU or in several."""
        host = self.ready(node)
        if host is None or not node.asked:
            return
        asked = node.asked.pop(self.random.randrange(len(node.asked)))
        order = node.unanswered[asked.initiator_task_tag]
        end = asked.buffer_offset + asked.desired_data_transfer_length
        piece = self.random.choice((BLOCK, 3 * BLOCK))
        for data_sn, start in enumerate(range(asked.buffer_offset, end, piece)):
            stop = min(start + piece, end)
            header = DataOut(
                final=stop == end,
                lun=asked.lun,
                initiator_task_tag=asked.initiator_task_tag,
                target_transfer_tag=asked.target_transfer_tag,
                data_sn=data_sn,
                buffer_offset=start,
            )
            self.send(node, header, order.blocks[start:stop])

    def abort(self, node: Node) -> None:
        host = self.ready(node)
        if host is not None and node.unanswered:
            tag = self.random.choice(list(node.unanswered))
            order = node.unanswered[tag]
            function = host.abort(tag, lun=order.lun)
            node.fences[function] = {order.number}

    def fence(self, node: Node) -> None:
        self.manage(node, self.random.choice(FENCES), [self.random.choice((0, 1))])

    def reset(self, node: Node) -> None:
        self.manage(node, TaskManagement.TARGET_WARM_RESET, self.luns)

    def manage(self, node: Node, function: TaskManagement, luns: Sequence[int]) -> None:
        host = self.ready(node)
        if host is not None:
            nodes = [node] if function is TaskManagement.ABORT_TASK_SET else self.nodes
            ended = [order for each in nodes for order in each.unanswered.values() if order.lun in luns]
            node.fences[host.manage(function, luns[0])] = {order.number for order in ended}

    def log_in(self, node: Node) -> None:
        """Logs in for the first time, after a loss, or in the place of the session that is there."""
        if node.host is not None and node.unsent:
            self.flush(node)
        old = node.host
        if old is not None:
            self.look()
            self.lose(node)
        node.host = self.lab.connect(node.name)
        if old is not None and old.logged_in and self.random.random() < 0.3:
            self.rejoining.add(node.host.number)
            node.host.tsih = old.tsih
        node.host.login(offers=self.random.choice(OFFERS))
        assert old is None or old.closed or not old.logged_in or node.host.closed

    def log_out(self, node: Node) -> None:
        host = self.ready(node)
        if host is not None:
            host.logout()

    def cut(self, node: Node) -> None:
        assert node.host is not None
        self.look()
        if node.host is not None:
            node.host.cut()
            self.lose(node)

    def ping(self, node: Node) -> None:
        host = self.ready(node)
        if host is not None:
            self.send(node, NopOut(immediate=True, initiator_task_tag=NO_TAG, cmd_sn=host.cmd_sn))

    def wait(self, node: Node) -> None:
        self.lab.wait(self.random.randrange(4))

    def reconfigure(self, node: Node) -> None:
        """Takes LUN 1 away or gives it back; what was open there ends in silence."""
        self.luns = (0,) if self.luns == (0, 1) else (0, 1)
        for each in self.nodes:
            if each.host is not None and each.unsent:
                self.flush(each)
        self.look()
        luns = {lun: f"disk{lun}" for lun in self.luns}
        self.lab.reconfigure(disk_node(portal_group_tags=(1, 2), luns=luns))

    def babble(self, node: Node) -> None:
        """A stranger connects, sends what it likes and goes or stays."""
        stranger = self.lab.connect("stranger")
        stranger.feed(self.random.randbytes(self.random.randrange(200)))
        if self.random.random() < 0.8:
            stranger.cut()


@pytest.mark.parametrize("seed", SEEDS)
def test_fences_hold_and_nothing_is_left(seed: int):
    """Law: commands end once at most, no write of an ended task comes to a store, and everything is given back.

    A write that a function or a new login ended does not come to the medium after their response; nor is it there
    then, because the response waits for it.
    """
    simulation = Simulation(seed)
    simulation.run()
    simulation.finish()
    assert simulation.lab.clean
    assert simulation.orders > STEPS // 20


@pytest.mark.parametrize("at_once", [0.3, 0.8])
def test_fences_hold_though_media_answer_at_once_by_chance(at_once: float):
    """Law: the same, whichever way commands go."""
    simulations = [Simulation(seed, at_once) for seed in range(10)]
    for simulation in simulations:
        simulation.run()
        simulation.finish()
        assert simulation.lab.clean
    assert sum(simulation.lab.short for simulation in simulations) > STEPS // 8


@pytest.mark.parametrize("seed", range(4))
def test_the_same_seed_gives_the_same_transcript(seed: int):
    """Law: the machine is deterministic."""
    first, second = Simulation(seed).run(), Simulation(seed).run()
    assert first == second
