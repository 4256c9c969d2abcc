"""The load of `test_target` with persistent reservations: hosts register, reserve and fence one another on LUN 0.

Host B comes through portal group 2, the others through portal group 1. Every host has a key of its own. Data of writes
and of parameter lists comes as immediate data or is asked for, as the session has it. Every run is determined by its
seed; how a logical unit alone keeps the law is in `test_fence`.
"""

from typing import NamedTuple

import pytest

from iscsi_target.iscsi.responses import DataIn, LoginResponse, ScsiResponse
from iscsi_target.scsi.layouts.cdb import PersistentReserveOut, RequestSense
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.status import Status
from iscsi_target.scsi.unit.task_manager import TaskManager
from iscsi_target.target.actions import Order as OperatorOrder
from tests.conformance.reservations.world import ALL_REGISTRANTS, REGISTRANTS_ONLY, basic
from tests.initiator import Host
from tests.simulation.test_fence import hasty
from tests.simulation.test_target import FragmentingLab, Node, Order, Simulation

SCHEDULES = 400
BATCH = 40
STEPS = 160
MUTANT_SCHEDULES = 80
SHARED_TYPES = (*REGISTRANTS_ONLY, *ALL_REGISTRANTS)  # that let several hosts write
LATE = "comes to the medium after a fence"
KEYS = {"a": 0xA1, "b": 0xB2, "c": 0xC3}
PORTAL_GROUPS = {"a": 1, "b": 2, "c": 1}


class Reserving(NamedTuple):
    """A PERSISTENT RESERVE OUT that has gone out.

    victim   whom it fences, or None
    scope    the numbers of the orders that it ends, if it is GOOD
    """

    action: OutAction
    victim: Node | None = None
    scope: frozenset[int] = frozenset()


class TwoPortLab(FragmentingLab):
    def connect(self, name: str = "a", portal_group_tag: int = 1, address: str = "10.0.0.1:3260") -> Host:
        return super().connect(name, PORTAL_GROUPS.get(name, portal_group_tag), address)


class FenceSimulation(Simulation):
    """Adds what concerns reservations to the load.

    reserving    (connection, tag) -> what went out
    registered   the nodes whose nexus is registered for all that they know
    covered      the orders on LUN 0 that went out through a registered nexus
    fences       how many fences were GOOD, and how many orders they ended
    """

    lab_type = TwoPortLab

    def __init__(self, seed: int, at_once: float = 0.0) -> None:
        super().__init__(seed, at_once)
        self.tas = self.random.random() < 0.5
        device = self.lab.units["disk0"].device
        device.modes = device.modes.select(ControlPage(ps=False, tas=self.tas).pack(), 0).save()
        self.reserving: dict[tuple[int, int], Reserving] = {}
        self.registered: set[Node] = set()
        self.covered: set[int] = set()
        self.fences, self.ended = 0, 0
        self.orders_of_operator: dict[int, Reserving] = {}
        self.deeds += [(20, self.register), (5, self.reserve), (25, self.preempt), (4, self.overrule)]
        self.deeds += [(30, self.write), (50, self.answer), (40, self.store)]

    def set_up(self) -> None:
        """Lets every host log in, hear what the unit has to tell it, and register."""
        for node in self.nodes:
            self.log_in(node)
            self.look()
            assert node.host is not None
            node.host.command(RequestSense(allocation_length=18), 0, read=18)
            node.host.received.clear()
            self.register(node)
            self.settle()
            assert node in self.registered
        self.reserve(self.random.choice(self.nodes))
        self.settle()

    def settle(self) -> None:
        """Lets everybody answer."""
        self.look()
        while any(node.asked for node in self.nodes) or self.lab.saving or self.lab.at_medium:
            for node in self.nodes:
                self.answer(node)
                self.ready(node)  # sends the rest of a PDU
            self.store(self.nodes[0])
            self.perform()
            self.look()

    # What came

    def look(self) -> None:
        super().look()
        for number in self.orders_of_operator.keys() & self.lab.operated.keys():
            reserving = self.orders_of_operator.pop(number)
            if self.lab.operated[number] is Status.GOOD:
                self.carried_out(reserving)

    def note(self, node: Node, header) -> None:
        reserving = None
        if node.host is not None and isinstance(header, ScsiResponse | DataIn):
            reserving = self.reserving.pop((node.host.number, header.initiator_task_tag), None)
        super().note(node, header)
        if isinstance(header, LoginResponse):
            self.registered.discard(node)
        if reserving is not None and header.status == Status.GOOD:
            if reserving.action is OutAction.REGISTER_AND_IGNORE_EXISTING_KEY:
                self.registered.add(node)
            self.carried_out(reserving)

    def carried_out(self, reserving: Reserving) -> None:
        victim = reserving.victim
        if victim is not None:
            self.registered.discard(victim)
            self.fenced |= reserving.scope
            self.fences += 1
            self.ended += len(reserving.scope)
            if not self.tas and victim.host is not None:
                there = {pdu.header.initiator_task_tag for pdu in victim.host.received}
                open_now = {order.number for tag, order in victim.unanswered.items() if tag not in there}
                victim.silenced |= reserving.scope & open_now

    def lose(self, node: Node) -> None:
        super().lose(node)
        self.registered.discard(node)

    # Deeds

    def write(self, node: Node) -> None:
        before = self.orders
        super().write(node)
        sent = {order.number: order for order in node.unanswered.values()}.get(self.orders)
        if self.orders > before and node in self.registered and sent is not None and sent.lun == 0:
            self.covered.add(self.orders)

    def register(self, node: Node) -> None:
        aptpl = self.random.random() < 0.2
        self.reserve_out(node, Reserving(OutAction.REGISTER_AND_IGNORE_EXISTING_KEY), 0, KEYS[node.name], aptpl=aptpl)

    def reserve(self, node: Node) -> None:
        self.reserve_out(node, Reserving(OutAction.RESERVE), KEYS[node.name], 0)

    def preempt(self, node: Node) -> None:
        """PREEMPT AND ABORT of another host."""
        victim = max((each for each in self.nodes if each is not node), key=lambda each: len(self.scope(each)))
        reserving = Reserving(OutAction.PREEMPT_AND_ABORT, victim, self.scope(victim))
        self.reserve_out(node, reserving, KEYS[node.name], KEYS[victim.name])

    def overrule(self, node: Node) -> None:
        """The operator does it, as with `reservations preempt --abort`."""
        number = len(self.lab.operated) + len(self.orders_of_operator)
        self.orders_of_operator[number] = Reserving(OutAction.PREEMPT_AND_ABORT, node, self.scope(node))
        order = OperatorOrder("disk0", OutAction.PREEMPT_AND_ABORT, KEYS[node.name])
        self.lab.run(self.lab.target.operate(number, order, self.lab.now))

    def scope(self, victim: Node) -> frozenset[int]:
        """Returns the orders that a fence ends for sure: what is open of a nexus that is known to be registered."""
        if victim not in self.registered:
            return frozenset()
        return frozenset(victim.open & self.covered)

    def reserve_out(self, node: Node, reserving: Reserving, key: int, new: int, *, aptpl: bool = False) -> None:
        host = self.ready(node)
        if host is None or len(node.unanswered) > 20:
            return
        parameters = basic(key, new, aptpl=aptpl)
        self.orders += 1
        tag = host.next_tag()
        node.unanswered[tag] = Order(self.orders, 0, parameters)
        self.reserving[host.number, tag] = reserving
        cdb = PersistentReserveOut(
            service_action=reserving.action,
            type=self.random.choice(SHARED_TYPES),
            parameter_list_length=len(parameters),
        )
        data = parameters if self.random.random() < 0.5 and self.allows_immediate(host) else b""
        host.command(cdb, 0, write=parameters, tag=tag, data=data)

    def perform(self) -> None:
        """The medium is slower than that of `test_target`."""
        if self.random.random() < 0.3:
            super().perform()

    def store(self, node: Node) -> None:
        """The state file answers."""
        if self.lab.saving:
            self.lab.persist()

    def finish(self) -> None:
        super().finish()
        while self.lab.saving or self.lab.at_medium:
            self.store(self.nodes[0])
            self.perform()


def run(seed: int, at_once: float = 0.0) -> FenceSimulation:
    """Runs one schedule; what fails says its seed."""
    try:
        simulation = FenceSimulation(seed, at_once)
        simulation.set_up()
        simulation.run(STEPS)
        simulation.settle()
        simulation.finish()
        assert simulation.lab.clean
    except AssertionError as error:
        error.add_note(f"seed {seed}")
        raise
    return simulation


@pytest.mark.parametrize("first", range(0, SCHEDULES, BATCH))
def test_no_write_of_a_fenced_host_comes_to_the_medium(first: int):
    """Law: after GOOD of PREEMPT AND ABORT no write that the fenced nexus had sent before is performed.

    Without TAS none of them has a response afterwards; the orders of the operator fence as well, and all that
    `test_target` demands of functions, logins and of what is left holds too.
    Source: SPC4r37 5.13.11.2.6, RFC7143 4.2.3
    """
    simulations = [run(seed) for seed in range(first, first + BATCH)]
    assert sum(simulation.fences for simulation in simulations) > BATCH
    assert sum(simulation.ended for simulation in simulations) > BATCH // 2


@pytest.mark.parametrize("at_once", [0.3, 0.8])
def test_no_write_of_a_fenced_host_comes_to_a_medium_that_answers_at_once(at_once: float):
    """Law: the same with media that answer at once by chance."""
    simulations = [run(seed, at_once) for seed in range(2 * BATCH)]
    assert sum(simulation.fences for simulation in simulations) > 2 * BATCH
    assert sum(simulation.lab.short for simulation in simulations) > 4 * BATCH


def test_the_law_fails_without_the_wait(monkeypatch):
    """The schedules notice it when PREEMPT AND ABORT does not wait for what it aborts."""
    monkeypatch.setattr(TaskManager, "change", hasty(TaskManager.change))
    failed = 0
    for seed in range(MUTANT_SCHEDULES):
        try:
            run(seed)
        except AssertionError as error:
            failed += LATE in str(error)
    assert failed > MUTANT_SCHEDULES // 20


def test_the_same_seed_gives_the_same_transcript():
    """Law: the machine is deterministic."""
    first, second = run(3), run(3)
    assert first.lab.transcript == second.lab.transcript
