"""A logical unit among nexuses, for the cases of persistent reservations.

    N1 (node a) ---.
    N2 (node b) ----+--- port P --- unit
    N3 (node c) ---'       |
    N1Q, N2Q (the same initiator ports) --- port Q --- unit

Every nexus is attached and has nothing to tell unless a test says otherwise. A command is answered at once: the medium
performs and the state file stores when asked, unless `slow` leaves operations at the medium, `hold_saves` leaves saves
on their way to the state file, or `disk_fault` makes the state file fail. `Told` compares with what the tables of the
specification write: `RC`, `G` or a sense triple.
"""

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any, NamedTuple

from iscsi_target.scsi.commands.table import OVERRULING
from iscsi_target.scsi.layouts.block_cdb import Read10, Write10
from iscsi_target.scsi.layouts.cdb import (
    PersistentReserveIn,
    PersistentReserveOut,
    RequestSense,
)
from iscsi_target.scsi.layouts.mode_pages import ModePages
from iscsi_target.scsi.nexus import OPERATOR, InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.operations import Fault, MediumError, Operation
from iscsi_target.scsi.reservations.personality import STRICT, InAction, OutAction, Personality
from iscsi_target.scsi.reservations.reservation_record import from_record, to_record
from iscsi_target.scsi.reservations.reservations import Reservations
from iscsi_target.scsi.sense_data import FixedSense
from iscsi_target.scsi.state.copy_managers import CopyManagers
from iscsi_target.scsi.state.device import Device, Features, Geometry, Identity, PortIdentity, TransferLimits
from iscsi_target.scsi.state.port_groups import PortGroup
from iscsi_target.scsi.state.task import (
    Aborted,
    Collect,
    Completed,
    Function,
    Managed,
    ManagementRequest,
    Noted,
    Perform,
    Persist,
    Task,
    TaskAttribute,
    Ticket,
    UnitAction,
    UnitState,
)
from iscsi_target.scsi.state.timeline import Entry
from iscsi_target.scsi.status import Status
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.storage.ram import RamStore
from iscsi_target.wire.layout import Layout
from tests import reservation_data

BLOCK, BLOCKS = 512, 64
P = TargetPort("iqn.2026-01.org.example:disks", 1)
Q = TargetPort("iqn.2026-01.org.example:disks", 2)
P_ID, Q_ID = 1, 2  # relative target port identifiers

A, B, C, D = (InitiatorPort(f"iqn.2026-01.org.example:{name}", b"\x80\0\0\0\0\1") for name in "abcd")
N1, N2, N3 = (Nexus(port, P) for port in (A, B, C))
N4 = Nexus(D, P)  # not attached, and never was
N1Q, N2Q = Nexus(A, Q), Nexus(B, Q)
NEXUSES = (N1, N2, N3, N1Q, N2Q)  # attached
K1, K2, K3, K4, K9 = 0xA1, 0xB2, 0xC3, 0xD4, 0x99

WE, EA, WERO, EARO, WEAR, EAAR = 1, 3, 5, 6, 7, 8
TYPES = (WE, EA, WERO, EARO, WEAR, EAAR)
REGISTRANTS_ONLY, ALL_REGISTRANTS = (WERO, EARO), (WEAR, EAAR)

PREEMPTED, RELEASED, REGISTRATIONS_PREEMPTED = 0x2A03, 0x2A04, 0x2A05
CLEARED = 0x2F00


class Told(NamedTuple):
    """A status, and (sense key, code) with CHECK CONDITION."""

    status: Status
    sense: tuple[int, int] | None = None


G = Told(Status.GOOD)
RC = Told(Status.RESERVATION_CONFLICT)
ABORTED = Told(Status.TASK_ABORTED)


def check(key: int, code: int) -> Told:
    """CHECK CONDITION, as in check(5, 0x2600)."""
    return Told(Status.CHECK_CONDITION, (key, code))


LIST_LENGTH, IN_CDB, IN_LIST = check(5, 0x1A00), check(5, 0x2400), check(5, 0x2600)
INVALID_RELEASE, NO_RESOURCES, LOST = check(5, 0x2604), check(5, 0x5504), check(7, 0x4401)


def attention(code: int) -> Told:
    """CHECK CONDITION because of a unit attention."""
    return check(6, code)


# What the cases write and read as bytes; here too, as they have everything else from here
Holding = reservation_data.Holding
Registrant = reservation_data.Registrant
basic, listed = reservation_data.basic, reservation_data.listed


def make_device(personality: Personality, ports: Iterable[TargetPort], state: UnitState) -> Device:
    limits = TransferLimits(
        max_atomic_blocks=1,
        max_transfer_blocks=BLOCKS,
        max_caw_blocks=1,
        max_unmap_blocks=BLOCKS,
        max_unmap_descriptors=4,
        max_write_same_blocks=BLOCKS,
        unmap_granularity=1,
    )
    identifiers = {P: P_ID, Q: Q_ID}
    return Device(
        identity=Identity("VENDOR", "PRODUCT", "1", "0001", bytes(8)),
        geometry=Geometry(BLOCK, 0, BLOCKS),
        features=Features(limits=limits, removable=True, thin=True),
        modes=ModePages.restore(state.mode_pages),
        ports={port: PortIdentity(identifiers[port], 1) for port in ports},
        port_groups={1: PortGroup()},
        personality=personality,
        reservations=state.reservations or Reservations(),
        copy_managers=CopyManagers(bytes),
    )


class World:
    """The unit and everything around it.

    slow         True leaves operations at the medium until `finish`
    hold_saves   True leaves saves on their way to the state file until `finish_save`
    disk_fault   what the state file fails with, or None
    stored       what the state file has
    ended        how every task ended, by tag; None for one that ended in silence
    """

    def __init__(
        self,
        *,
        personality: Personality = STRICT,
        ports: Iterable[TargetPort] = (P, Q),
        nexuses: Iterable[Nexus] = NEXUSES,
        stored: UnitState | None = None,
    ) -> None:
        self.personality = personality
        self.ports = tuple(ports)
        self.nexuses = tuple(nexuses)
        self.stored = stored or UnitState()
        self.unit = LogicalUnit("unit", make_device(personality, self.ports, self.stored))
        self.store = RamStore(BLOCK * BLOCKS)
        self.slow = False
        self.hold_saves = False
        self.disk_fault: Fault | None = None
        self.at_medium: dict[Ticket, Operation] = {}
        self.at_state_file: dict[Ticket, UnitState] = {}
        self.saves: list[UnitState] = []
        self.ended: dict[int, Told | None] = {}
        self.data: dict[int, bytes] = {}
        self.managed: list[int] = []
        self.noted: list[Entry] = []
        self.collecting: dict[int, tuple[Task, int]] = {}
        self.now_s = 1000.0
        self._tags = count(1)
        for nexus in self.nexuses:
            self.attach(nexus)

    # Sessions

    def attach(self, nexus: Nexus, *, quiet: bool = True) -> None:
        """Lets a nexus log in; without quiet its power on or nexus loss attention stays."""
        self.unit.attach(nexus)
        while quiet and self.pending(nexus):
            self.send(nexus, RequestSense(allocation_length=18))

    def detach(self, nexus: Nexus) -> None:
        """Lets a nexus log out; its tasks must be over."""
        self.unit.detach(nexus)

    def pending(self, nexus: Nexus) -> list[int]:
        """Returns the unit attentions that a nexus has not been told of, in order."""
        return list(self.unit.nexuses._attached[nexus].attentions.pending)

    def pending_of_all(self) -> dict[Nexus, list[int]]:
        """Returns the unit attentions of every attached nexus that has any."""
        return {nexus: codes for nexus in self.unit.nexuses if (codes := self.pending(nexus))}

    # Commands

    def send(self, nexus: Nexus, cdb: Layout | bytes, data: bytes = b"") -> Told:
        """Sends a command that ends at once and returns what came of it."""
        tag = self.start(nexus, cdb, data)
        told = self.ended[tag]
        assert told is not None, "the task ended in silence"
        return told

    def start(
        self,
        nexus: Nexus,
        cdb: Layout | bytes,
        data: bytes | None = b"",
        attribute: TaskAttribute = TaskAttribute.SIMPLE,
    ) -> int:
        """Sends a command and returns its tag; see `ended`. Data of None leaves its Data-Out to `give`."""
        raw = cdb if isinstance(cdb, bytes) else cdb.pack()
        tag = next(self._tags)
        self.now_s += 1
        task = Task(
            nexus,
            tag,
            raw.ljust(16, b"\0"),
            attribute,
            expects_data=data is None or bool(data),
            luns=(0,),
            expected_length=None if data is None else len(data),
            received_s=self.now_s,
        )
        self._run(self.unit.accept(task))
        if data is not None and tag in self.collecting:
            self.give(tag, data)
        return tag

    def give(self, tag: int, data: bytes) -> None:
        """Sends the Data-Out of a task that waits for it; late data of an ended task is ignored."""
        task, wanted = self.collecting.pop(tag)
        self._run(self.unit.data_received(task, data[:wanted]))

    def finish(self, ticket: Ticket | None = None) -> None:
        """Lets the medium finish an operation, the oldest when none is named."""
        ticket = ticket or next(iter(self.at_medium))
        operation = self.at_medium.pop(ticket)
        self._run(self.unit.finished(ticket, operation.perform(self.store)))

    def finish_all(self) -> None:
        while self.at_medium:
            self.finish()

    def finish_save(self) -> None:
        """Lets the state file answer the save that is on its way; `disk_fault` says whether it is stored."""
        ticket = next(iter(self.at_state_file))
        state = self.at_state_file.pop(ticket)
        if self.disk_fault is not None:
            self._run(self.unit.finished(ticket, MediumError(self.disk_fault)))
            return
        self.saves.append(state)
        self.stored = state
        self._run(self.unit.finished(ticket, None))

    def manage(self, nexus: Nexus, function: Function, tag: int | None = None) -> int:
        """Starts a task management function and returns its number, which is in `managed` when it is over."""
        number = next(self._tags)
        self._run(self.unit.manage(ManagementRequest(number, function, nexus, tag)))
        return number

    def operate(self, action: OutAction, key: int = 0) -> Told:
        """Gives an order of the operator."""
        tag = next(self._tags)
        parameters = basic(new=key)
        cdb = PersistentReserveOut(service_action=action, parameter_list_length=len(parameters))
        task = Task(OPERATOR, tag, cdb.pack(), TaskAttribute.HEAD_OF_QUEUE, received_s=self.now_s)
        self._run(self.unit.operate(task, OVERRULING[action], parameters))
        told = self.ended[tag]
        assert told is not None
        return told

    def _run(self, actions: Iterable[UnitAction]) -> None:
        for action in actions:
            match action:
                case Collect(task, length_bytes):
                    self.collecting[task.tag] = task, length_bytes
                case Perform(ticket, operation):
                    self.at_medium[ticket] = operation
                    if not self.slow:
                        self.finish(ticket)
                case Persist(ticket, state):
                    self.at_state_file[ticket] = state
                    if not self.hold_saves:
                        self.finish_save()
                case Completed(task, status, sense, data_in):
                    self._end(task, _told(status, sense), bytes(data_in))
                case Aborted(task):
                    self._end(task, None, b"")
                case Managed(number):
                    self.managed.append(number)
                case Noted(_, entry):
                    self.noted.append(entry)

    def _end(self, task: Task, told: Told | None, data_in: bytes) -> None:
        assert task.tag not in self.ended, "a task ended twice"
        self.ended[task.tag] = told
        self.data[task.tag] = data_in
        self.collecting.pop(task.tag, None)

    # PERSISTENT RESERVE OUT

    def out(self, nexus: Nexus, action: OutAction, parameters: bytes, **cdb: int) -> Told:
        """Sends PERSISTENT RESERVE OUT with these parameters; fields of the CDB by name."""
        values = {"service_action": int(action), "parameter_list_length": len(parameters)} | cdb
        return self.send(nexus, PersistentReserveOut(**values), parameters)

    def start_out(self, nexus: Nexus, action: OutAction, parameters: bytes, **cdb: int) -> int:
        """Sends PERSISTENT RESERVE OUT that may take a while and returns its tag."""
        values = {"service_action": int(action), "parameter_list_length": len(parameters)} | cdb
        return self.start(nexus, PersistentReserveOut(**values), parameters)

    def register(self, nexus: Nexus, new: int, old: int = 0, **flags: bool) -> Told:
        """REGISTER: from key `old` to key `new`; flags: aptpl, all_tg_pt, spec_i_pt."""
        return self.out(nexus, OutAction.REGISTER, basic(old, new, **flags))

    def register_listed(self, nexus: Nexus, new: int, ids: bytes, old: int = 0, **flags: bool) -> Told:
        """REGISTER with SPEC_I_PT and a list of TransportIDs."""
        return self.out(nexus, OutAction.REGISTER, basic(old, new, spec_i_pt=True, **flags) + listed(ids))

    def ignore(self, nexus: Nexus, new: int, old: int = 0, **flags: bool) -> Told:
        """REGISTER AND IGNORE EXISTING KEY."""
        return self.out(nexus, OutAction.REGISTER_AND_IGNORE_EXISTING_KEY, basic(old, new, **flags))

    def reserve(self, nexus: Nexus, key: int, kind: int, scope: int = 0, **flags: bool) -> Told:
        return self.out(nexus, OutAction.RESERVE, basic(key, **flags), type=kind, scope=scope)

    def release(self, nexus: Nexus, key: int, kind: int, scope: int = 0) -> Told:
        return self.out(nexus, OutAction.RELEASE, basic(key), type=kind, scope=scope)

    def clear(self, nexus: Nexus, key: int) -> Told:
        return self.out(nexus, OutAction.CLEAR, basic(key))

    def preempt(self, nexus: Nexus, key: int, victim: int, kind: int = 0, scope: int = 0) -> Told:
        return self.out(nexus, OutAction.PREEMPT, basic(key, victim), type=kind, scope=scope)

    def preempt_and_abort(self, nexus: Nexus, key: int, victim: int, kind: int = 0) -> int:
        """Starts PREEMPT AND ABORT and returns its tag."""
        return self.start_out(nexus, OutAction.PREEMPT_AND_ABORT, basic(key, victim), type=kind)

    def move(self, nexus: Nexus, key: int, new: int, to: Nexus, **fields: int) -> Told:
        """REGISTER AND MOVE to another nexus; fields of the parameter list: unreg, aptpl and so on."""
        return self.out(nexus, OutAction.REGISTER_AND_MOVE, moving(key, new, to, **fields))

    # PERSISTENT RESERVE IN

    def read(self, nexus: Nexus, action: InAction, allocation_length: int = 8192) -> bytes:
        """Sends PERSISTENT RESERVE IN, which must be GOOD, and returns its data."""
        tag = self.start(nexus, PersistentReserveIn(service_action=action, allocation_length=allocation_length))
        assert self.ended[tag] == G
        return self.data[tag]

    def keys(self, nexus: Nexus = N3) -> list[int]:
        """READ KEYS: the keys."""
        return reservation_data.keys(self.read(nexus, InAction.READ_KEYS, 0xFFFF))

    @property
    def generation(self) -> int:
        """PRGENERATION."""
        return self.unit.device.reservations.generation

    def holding(self, nexus: Nexus = N3) -> Holding | None:
        """READ RESERVATION: the key and the type, or None when there is no reservation."""
        return reservation_data.holding(self.read(nexus, InAction.READ_RESERVATION))

    def full_status(self, nexus: Nexus = N3) -> list[Registrant]:
        """READ FULL STATUS: the descriptors."""
        return reservation_data.full_status(self.read(nexus, InAction.READ_FULL_STATUS, 0xFFFF))

    @property
    def state(self) -> Reservations:
        """The reservations as the unit has them; `snapshot` has more, for what must change nothing."""
        return self.unit.device.reservations

    @property
    def registered(self) -> dict[Nexus, int]:
        """The registrations as the unit has them."""
        return dict(self.unit.device.reservations.registrations)

    @property
    def holder(self) -> Nexus | None:
        """The nexus that holds the reservation, None without one and with the all registrants types."""
        reservation = self.unit.device.reservations.reservation
        return None if reservation is None else reservation.holder

    # The medium

    def write(self, nexus: Nexus, lba: int = 0, fill: int = 1) -> Told:
        return self.send(nexus, Write10(lba=lba, transfer_length=1), bytes([fill]) * BLOCK)

    def start_write(self, nexus: Nexus, lba: int = 0, fill: int = 1, *, data: bool = True, **attribute) -> int:
        """Starts a write; without data its Data-Out waits for `give`."""
        cdb = Write10(lba=lba, transfer_length=1)
        return self.start(nexus, cdb, bytes([fill]) * BLOCK if data else None, **attribute)

    def read_block(self, nexus: Nexus, lba: int = 0) -> Told:
        return self.send(nexus, Read10(lba=lba, transfer_length=1))

    def block(self, lba: int = 0) -> bytes:
        """What the medium has, whoever may read it."""
        return bytes(self.store.read(lba * BLOCK, BLOCK))

    # Power

    def power_cycle(self, **changes) -> "World":
        """Returns the world after the power was lost: only what the state file has is left, by way of its JSON form."""
        found = self.stored.reservations
        kept = None if found is None else from_record(to_record(found))
        stored = UnitState(mode_pages=self.stored.mode_pages, reservations=kept)
        values: dict[str, Any] = {
            "personality": self.personality,
            "ports": self.ports,
            "nexuses": self.nexuses,
        } | changes
        return World(stored=stored, **values)

    # What a refused command leaves alone

    def snapshot(self) -> tuple[Reservations, dict[Nexus, list[int]], list[UnitState]]:
        """Returns the reservations, the pending unit attentions and what was stored, to compare before and after."""
        return self.unit.device.reservations, self.pending_of_all(), list(self.saves)


def _told(status: Status, sense: bytes) -> Told:
    if status is not Status.CHECK_CONDITION:
        return Told(status)
    fields = FixedSense.unpack(sense)
    return Told(status, (fields.sense_key, fields.additional_sense_code))


def moving(key: int, new: int, to: Nexus, **fields: int) -> bytes:
    """The parameter list of REGISTER AND MOVE to another nexus."""
    port = {P: P_ID, Q: Q_ID}[to.target_port]
    return reservation_data.moving(key, new, to.initiator_port, port=port, **fields)


def world_with(keys: Mapping[Nexus, int], kind: int | None = None, by: Nexus | None = None, **flags: bool) -> World:
    """A world with registrations, and with a reservation when there is a type; nobody has anything to be told.

    keys    registered in this order
    kind    the type, None reserves nothing
    by      who reserves; the first that is registered, unless another is named
    flags   of each REGISTER: aptpl, all_tg_pt
    """
    world = World(nexuses=dict.fromkeys((*NEXUSES, *keys)))
    for nexus, key in keys.items():
        assert world.register(nexus, key, **flags) == G
    if kind is not None:
        by = by or next(iter(keys))
        assert world.reserve(by, keys[by], kind) == G
    assert world.pending_of_all() == {}
    return world


def world_of_two(kind: int | None = None, **flags: bool) -> World:
    """N1 and N2 are registered with K1 and K2, N3 is not; N1 has reserved when there is a type."""
    return world_with({N1: K1, N2: K2}, kind, None, **flags)
