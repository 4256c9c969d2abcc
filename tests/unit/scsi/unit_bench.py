r"""A logical unit on a bench: two nexuses, a medium that answers when a test says so, and a record of actions.

Nodes A and B each have one session with unit 0 by way of one port:

    A ----\
           P == unit 0 == medium (1024 blocks of 512 bytes)
    B ----/
"""

from random import Random

from iscsi_target.scsi.commands.copy_rows import ASKED
from iscsi_target.scsi.layouts.block_cdb import CompareAndWrite, Read10, Write10
from iscsi_target.scsi.layouts.cdb import ModeSelect10, RequestSense, TestUnitReady
from iscsi_target.scsi.layouts.mode_pages import ControlPage, ModePages
from iscsi_target.scsi.layouts.pages import ModeHeader10
from iscsi_target.scsi.nexus import OPERATOR, InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.operations import Attempt, Extent, Fault, MediumError, Operation, Outcome, attempt_nothing
from iscsi_target.scsi.state.copy_managers import CopyManagers
from iscsi_target.scsi.state.device import Device, Features, Geometry, Identity, PortIdentity, TransferLimits
from iscsi_target.scsi.state.task import (
    Aborted,
    Bring,
    Collect,
    Completed,
    Function,
    Managed,
    ManagementRequest,
    Perform,
    Persist,
    Task,
    TaskAttribute,
    Ticket,
    UnitAction,
    UnitState,
)
from iscsi_target.scsi.status import Status
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.wire.layout import Layout

READY = TestUnitReady()
BLOCK = 512
BLOCKS = 1024
PORT = TargetPort("iqn.2026-01.org.example:p", 1)
A = Nexus(InitiatorPort("iqn.2026-01.org.example:a", bytes(6)), PORT)
B = Nexus(InitiatorPort("iqn.2026-01.org.example:b", bytes(6)), PORT)


def transferred(cdb: bytes, data_out: bytes) -> int:
    """Returns how many bytes an initiator expects to be transferred by a READ(10), or by a command with Data-Out."""
    return len(data_out) or Read10.unpack(cdb).transfer_length * BLOCK


def make_device(*, removable: bool = False) -> Device:
    limits = TransferLimits(
        max_transfer_blocks=256,
        max_caw_blocks=1,
        max_unmap_blocks=1024,
        max_unmap_descriptors=16,
        max_write_same_blocks=1024,
        unmap_granularity=1,
    )
    return Device(
        identity=Identity("VENDOR", "PRODUCT", "1", "0001", bytes(8)),
        geometry=Geometry(BLOCK, 3, BLOCKS),
        features=Features(limits=limits, removable=removable),
        modes=ModePages(),
        ports={PORT: PortIdentity(1, 1)},
        copy_managers=CopyManagers(Random(0).randbytes),
    )


class Memory:
    """A store of bytes."""

    def __init__(self) -> None:
        self.content = bytearray(BLOCK * BLOCKS)

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        return bytes(self.content[offset_bytes : offset_bytes + length_bytes])

    def write(self, offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        self.content[offset_bytes : offset_bytes + len(data)] = data

    def write_atomic(self, offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        self.write(offset_bytes, data)

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        self.content[offset_bytes : offset_bytes + length_bytes] = bytes(length_bytes)

    def flush(self) -> None:
        pass

    def allocation(self, offset_bytes: int, length_bytes: int) -> list[Extent]:
        return [Extent(offset_bytes, length_bytes, True)]


class Bench:
    """One logical unit with its surroundings; every input's actions are recorded, none is answered by itself.

    What the unit wants brought from itself is asked of it at once.

    now_s     when what is sent comes

    attempt   what the medium does at once
    """

    def __init__(self, *, removable: bool = False, quiet: bool = True, attempt: Attempt = attempt_nothing) -> None:
        self.unit = LogicalUnit("unit0", make_device(removable=removable), attempt)
        self.memory = Memory()
        self.actions: list[UnitAction] = []
        self.at_medium: dict[Ticket, Operation] = {}
        self.saving: dict[Ticket, UnitState] = {}
        self.asked: dict[Task, Ticket] = {}
        self.now_s = 0.0
        self._next = 0
        for nexus in (A, B):
            self.unit.attach(nexus)
            if quiet:
                self.send(nexus, RequestSense(allocation_length=18))
        self.actions.clear()

    @property
    def device(self) -> Device:
        return self.unit.device

    def record(self, actions: list[UnitAction]) -> list[UnitAction]:
        self.actions.extend(actions)
        for action in actions:
            match action:
                case Perform(ticket, operation):
                    self.at_medium[ticket] = operation
                case Persist(ticket, state):
                    self.saving[ticket] = state
                case Bring(ticket, None, cdb, token):
                    self._next += 1
                    task = Task(OPERATOR, self._next, cdb.pack(), TaskAttribute.HEAD_OF_QUEUE, received_s=self.now_s)
                    self.asked[task] = ticket
                    self.record(self.unit.operate(task, ASKED[type(cdb)], token))
                case Completed(task, status) if task in self.asked:
                    result = bytes(action.data_in) if status is Status.GOOD else MediumError(Fault.READ_FAILED)
                    self.record(self.unit.finished(self.asked.pop(task), result))
                case _:
                    pass
        return actions

    def send(
        self,
        nexus: Nexus,
        cdb: Layout,
        attribute: TaskAttribute = TaskAttribute.SIMPLE,
        *,
        expects_data: bool = False,
    ) -> Task:
        self._next += 1
        padded = cdb.pack().ljust(16, b"\0")
        task = Task(nexus, self._next, padded, attribute, expects_data, luns=(0,), received_s=self.now_s)
        self.record(self.unit.accept(task))
        return task

    def give(self, task: Task, data_out: bytes) -> None:
        self.record(self.unit.data_received(task, data_out))

    def write(self, nexus: Nexus, lba: int, byte: int = 0x55, attribute: TaskAttribute = TaskAttribute.SIMPLE) -> Task:
        """Sends WRITE(10) of one block with its data."""
        task = self.send(nexus, Write10(lba=lba, transfer_length=1), attribute, expects_data=True)
        self.give(task, bytes([byte]) * BLOCK)
        return task

    def read(self, nexus: Nexus, lba: int, attribute: TaskAttribute = TaskAttribute.SIMPLE) -> Task:
        """Sends READ(10) of one block."""
        return self.send(nexus, Read10(lba=lba, transfer_length=1), attribute)

    def compare_and_write(self, nexus: Nexus, lba: int, compare: int, write: int) -> Task:
        task = self.send(nexus, CompareAndWrite(lba=lba, number_of_logical_blocks=1), expects_data=True)
        self.give(task, bytes([compare]) * BLOCK + bytes([write]) * BLOCK)
        return task

    def select(
        self, nexus: Nexus, page: bytes, *, save: bool = False, attribute: TaskAttribute = TaskAttribute.SIMPLE
    ) -> Task:
        """Sends MODE SELECT(10) of one page."""
        parameters = ModeHeader10().pack() + page
        cdb = ModeSelect10(pf=True, sp=save, parameter_list_length=len(parameters))
        task = self.send(nexus, cdb, attribute, expects_data=True)
        self.give(task, parameters)
        return task

    def perform(self, ticket: Ticket | None = None, error: MediumError | None = None) -> list[UnitAction]:
        """Lets the medium finish an operation, the oldest when none is named."""
        ticket = ticket or next(iter(self.at_medium))
        operation = self.at_medium.pop(ticket)
        result: Outcome | MediumError = error or operation.perform(self.memory)
        return self.record(self.unit.finished(ticket, result))

    def persist(self, error: MediumError | None = None) -> list[UnitAction]:
        ticket = next(iter(self.saving))
        del self.saving[ticket]
        return self.record(self.unit.finished(ticket, error))

    def end(self) -> None:
        """Lets the medium and the state file do all that is left."""
        while self.at_medium or self.saving:
            if self.at_medium:
                self.perform()
            else:
                self.persist()

    def manage(self, function: Function, nexus: Nexus, tag: int | None = None) -> list[UnitAction]:
        self._next += 1
        return self.record(self.unit.manage(ManagementRequest(self._next, function, nexus, tag)))

    def outcome(self, task: Task) -> Completed | Aborted | None:
        """How a task ended, or None; a task that ended twice fails."""
        ends = [end for end in self.actions if isinstance(end, Completed | Aborted) and end.task is task]
        assert len(ends) <= 1
        return ends[0] if ends else None

    def status(self, task: Task) -> Status | None:
        end = self.outcome(task)
        return end.status if isinstance(end, Completed) else None

    def sense(self, task: Task) -> tuple[int, int]:
        """Returns the sense key and the code of a task that ended with CHECK CONDITION, in fixed format."""
        end = self.outcome(task)
        assert isinstance(end, Completed)
        assert end.status is Status.CHECK_CONDITION
        return end.sense[2] & 0xF, int.from_bytes(end.sense[12:14])

    def attention(self, nexus: Nexus) -> int | None:
        """Returns what TEST UNIT READY of a nexus reports, or None."""
        task = self.send(nexus, TestUnitReady())
        return None if self.status(task) is Status.GOOD else self.sense(task)[1]

    @property
    def collects(self) -> list[Collect]:
        return [action for action in self.actions if isinstance(action, Collect)]

    @property
    def managed(self) -> list[Managed]:
        return [action for action in self.actions if isinstance(action, Managed)]


def give_page(bench: Bench, page: ControlPage) -> None:
    """Sets the control mode page without any trace."""
    bench.select(A, page.replace(ps=False).pack())
    bench.attention(B)
    bench.actions.clear()
