"""The world of the conformance cases with a unit that shows every change of its reservations while it happens.

Each change is checked against the laws at once; how commands are answered is the business of who sends them.
"""

from typing import NamedTuple

from iscsi_target.scsi.commands.table import OVERRULING
from iscsi_target.scsi.layouts.cdb import PersistentReserveIn, PersistentReserveOut
from iscsi_target.scsi.nexus import OPERATOR, InitiatorPort, Nexus
from iscsi_target.scsi.reservations.personality import STRICT, InAction, OutAction
from iscsi_target.scsi.reservations.reservation_request import Request, Transition
from iscsi_target.scsi.reservations.reservations import Reservations
from iscsi_target.scsi.state.task import Task, TaskAttribute, UnitState
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.scsi.unit.open_task import Fate, OpenTask
from iscsi_target.scsi.unit.task_manager import TaskManager
from iscsi_target.wire.layout import Layout
from tests.conformance.reservations import world as drawing
from tests.conformance.reservations.world import N1, N1Q, N2, N2Q, N3, RC, G, P, Q, Told, World
from tests.property.reservation_laws import (
    CONFLICT,
    GOOD,
    aborted,
    audience,
    change_is_lawful,
    conflicts_at_start,
    frozen,
    operator_verdict,
    verdict,
)

NEXUSES = (N1, N2, N3, N1Q, N2Q)


class Ask(NamedTuple):
    """A basic parameter list and its CDB, right or wrong.

    wrong   "scope" for a scope that there is not, "long" or "short" for a list with a byte too many or too few
    """

    action: OutAction
    key: int
    new: int
    type: int
    all_tg_pt: bool
    spec_i_pt: bool
    aptpl: bool
    wrong: str
    ports: list[InitiatorPort]


class Move(NamedTuple):
    """The parameter list of REGISTER AND MOVE; `cut` ends it within its TransportID."""

    key: int
    new: int
    to: Nexus
    unregister: bool
    aptpl: bool
    cut: bool


class Sent(NamedTuple):
    """A command that went out.

    request   of PERSISTENT RESERVE OUT; None for another command
    valid     False when its CDB or its parameter list is against the rules, whatever the state
    listing   False when its TransportIDs are against the rules
    """

    nexus: Nexus
    request: Request | None = None
    valid: bool = True
    listing: bool = True

    def is_valid(self, state: Reservations) -> bool:
        """Returns False when something is wrong that matters; TransportIDs do only where others are registered.

        Source: SPC4r37 5.13.7 table 67
        """
        request = self.request
        if request is None or self.listing or not self.valid:
            return self.valid
        ignored = self.nexus in state.registrations or request.reservation_key
        return bool(ignored or not request.service_action_reservation_key)


class ObservedManager(TaskManager):
    """A task manager that shows its world every change of the reservations while it happens."""

    def __init__(self, world: "ObservedWorld", unit: LogicalUnit) -> None:
        super().__init__(unit.device, unit.nexuses, unit._tasks, unit._endings, unit._outbox)
        self._world = world

    def change(self, entry: OpenTask, transition: Transition) -> None:
        world = self._world
        before, pending = frozen(self._device.reservations), world.pending_of_all()
        open_before = {other.task.nexus for other in self._tasks.all() if other.fate is Fate.ITS_OWN}
        super().change(entry, transition)
        world.change(entry.task, before, pending, open_before)


class ObservedWorld(World):
    """The world with a unit that is observed.

    sent      every command by tag
    changed   the tags of those that changed the reservations
    state     the reservations after the last change
    told      attached nexus -> the codes of reservations that it is to be told
    """

    def __init__(self, stored: UnitState) -> None:
        super().__init__(nexuses=(), stored=stored)
        self.unit = LogicalUnit("unit", drawing.make_device(STRICT, (P, Q), stored))
        self.unit._manager = ObservedManager(self, self.unit)
        self.sent: dict[int, Sent] = {}
        self.changed: set[int] = set()
        self.state_before = self.state_known = frozen(self.unit.device.reservations)
        self.told: dict[Nexus, set[int]] = {}
        self.unseen: set[int] = set()
        self._sending: Sent | None = None
        for nexus in NEXUSES:
            self.come(nexus)

    def come(self, nexus: Nexus) -> None:
        self.attach(nexus)
        self.told[nexus] = set()

    def go(self, nexus: Nexus) -> None:
        self.detach(nexus)
        del self.told[nexus]

    def read(self, nexus: Nexus, action: InAction, allocation_length: int = 0xFFFF) -> bytes:
        """PERSISTENT RESERVE IN at the head of the queue, so that nothing keeps it waiting."""
        cdb = PersistentReserveIn(service_action=action, allocation_length=allocation_length)
        tag = self.start(nexus, cdb, attribute=TaskAttribute.HEAD_OF_QUEUE)
        assert self.ended[tag] == G
        return self.data[tag]

    def issue(self, sent: Sent, cdb: Layout, data: bytes = b"") -> int:
        """Sends a command that may end at once or later; returns its tag."""
        self._sending = sent
        tag = self.start(sent.nexus, cdb, data)
        self._note(tag, sent)
        return tag

    def order(self, request: Request) -> int:
        """Gives an order of the operator that may end at once or later; returns its tag."""
        parameters = drawing.basic(new=request.service_action_reservation_key)
        cdb = PersistentReserveOut(service_action=request.action, parameter_list_length=len(parameters))
        tag = next(self._tags)
        task = Task(OPERATOR, tag, cdb.pack(), TaskAttribute.HEAD_OF_QUEUE, received_s=request.cause.time_s)
        self._sending = Sent(OPERATOR, request)
        self._run(self.unit.operate(task, OVERRULING[request.action], parameters))
        self._note(tag, Sent(OPERATOR, request))
        return tag

    def _note(self, tag: int, sent: Sent) -> None:
        self._sending = None
        self.sent[tag] = sent
        self.unseen.add(tag)

    def change(
        self, task: Task, before: Reservations, pending: dict[Nexus, list[int]], open_before: set[Nexus]
    ) -> None:
        """Checks a change that has just happened."""
        sent = self.sent.get(task.tag) or self._sending
        assert sent is not None
        request = sent.request
        assert request is not None
        assert before == self.state_known, "nothing but a lawful change changes the state"
        assert sent.is_valid(before)
        assert task.tag not in self.changed
        assert answer_of(before, sent.nexus, request) == GOOD
        self.changed.add(task.tag)
        self.state_known = frozen(self.state)
        change_is_lawful(before, sent.nexus, request, self.state_known)
        self._check_told(sent.nexus, request, before, pending, open_before)

    def _check_told(
        self,
        issuer: Nexus,
        request: Request,
        before: Reservations,
        pending: dict[Nexus, list[int]],
        open_before: set[Nexus],
    ) -> None:
        expected = audience(before, issuer, request, self.state_known)
        silenced = aborted(before, request) & open_before - {issuer}
        tas = self.unit.device.task_aborted_status
        for nexus in self.told:
            codes = set(expected.get(nexus, ()))
            self.told[nexus] |= codes
            if nexus in silenced and not tas:
                codes.add(drawing.CLEARED)
            assert set(self.pending(nexus)) == codes | set(pending.get(nexus, ()))


def answer_of(state: Reservations, nexus: Nexus, request: Request) -> str:
    """Returns what the standard answers to a valid request in a state without an SPC-2 reservation."""
    if nexus == OPERATOR:
        return operator_verdict(state, request)
    return CONFLICT if conflicts_at_start(state, nexus, request.action) else verdict(state, nexus, request)


def written(told: Told | None) -> str | None:
    """Returns how a command ended as the laws write it."""
    if told is None or told.sense is None:
        return {None: None, G: GOOD, RC: CONFLICT}.get(told, "other")
    key, code = told.sense
    return f"{key:X}/{code >> 8:02X}/{code & 0xFF:02X}"
