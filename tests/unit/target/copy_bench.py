r"""Two units of one target, and node A that copies between them by tokens; media do at once what they are asked.

A ---- P == unit "near" == medium (1024 blocks of 512 bytes)
       \\== unit "far" === medium (of the same bytes; its blocks may be longer)
"""

from collections.abc import Iterable
from random import Random

from iscsi_target.scsi.layouts.cdb import RequestSense
from iscsi_target.scsi.layouts.token_cdb import PopulateToken, ReceiveRodTokenInformation, WriteUsingToken
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.operations import MediumError, Operation, Outcome
from iscsi_target.scsi.sense_data import FixedSense
from iscsi_target.scsi.state.copy_managers import CopyManagers
from iscsi_target.scsi.state.device import Geometry
from iscsi_target.scsi.state.task import Aborted, Bring, Completed, Managed, Noted, Perform, Task, Ticket, UnitAction
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.target.fetches import Fetches
from iscsi_target.wire.layout import Layout
from tests.unit.scsi.token_bench import Ranges, numbered, populate_list, write_list
from tests.unit.scsi.unit_bench import BLOCK, BLOCKS, A, Memory, make_device

NEAR, FAR = "near", "far"


class TwoUnits:
    """The two units, with what a dispatcher does for them.

    failing   a unit's medium fails what is asked of it
    ends      what came of the last command of node A
    managed   how many task management functions are over
    """

    def __init__(self, far_block_bytes: int = BLOCK, *, at_once: bool = True) -> None:
        self.memories = {NEAR: Memory(), FAR: Memory()}
        self.units = {name: self._unit(name, at_once=at_once) for name in self.memories}
        self.units[FAR].device.identity = self.units[FAR].device.identity._replace(naa=bytes([0x60]) + bytes(15))
        self.units[FAR].device.geometry = Geometry(far_block_bytes, 0, BLOCK * BLOCKS // far_block_bytes)
        managers = CopyManagers(Random(0).randbytes)
        managers.adopt({name: unit.device for name, unit in self.units.items()})
        self.failing: dict[str, MediumError] = {}
        self.ends: list[Completed] = []
        self.managed = 0
        self.at_medium: dict[Ticket, tuple[str, Operation]] = {}
        self._waiting: dict[Ticket, LogicalUnit] = {}
        self.fetches = Fetches(self.execute, self.finished)
        self.fetches.units = dict(self.units)
        for name, unit in self.units.items():
            self.memories[name].content[:] = numbered(BLOCKS)
            unit.attach(A)
            self.send(name, RequestSense(allocation_length=18))

    def _unit(self, name: str, *, at_once: bool) -> LogicalUnit:
        def attempt(operation: Operation) -> Outcome | MediumError:
            return self.failing.get(name) or operation.perform(self.memories[name])

        return LogicalUnit(name, make_device(), attempt) if at_once else LogicalUnit(name, make_device())

    def execute(self, unit: LogicalUnit, actions: Iterable[UnitAction]) -> None:
        for action in actions:
            match action:
                case Bring(ticket):
                    self._waiting[ticket] = unit
                    self.fetches.ask(unit, action, 0.0)
                case Perform(ticket, operation, name):
                    self._waiting[ticket] = unit
                    self.at_medium[ticket] = name, operation
                case Completed(task) | Aborted(task) if task in self.fetches:
                    self.fetches.ended(action)
                case Completed():
                    self.ends.append(action)
                case Managed():
                    self.managed += 1
                case Noted():
                    pass
                case _:
                    raise AssertionError(action)

    def finished(self, ticket: Ticket, result: Outcome | MediumError) -> None:
        unit = self._waiting.pop(ticket)
        self.execute(unit, unit.finished(ticket, result))

    def perform(self, error: MediumError | None = None) -> str:
        """Lets a medium finish the oldest operation, and returns of which unit."""
        ticket = next(iter(self.at_medium))
        name, operation = self.at_medium.pop(ticket)
        self.finished(ticket, error or operation.perform(self.memories[name]))
        return name

    def send(self, name: str, cdb: Layout, data: bytes = b"", nexus: Nexus = A) -> Completed | None:
        """Sends a command, and returns what came of it if that is known."""
        self.ends.clear()
        task = Task(nexus, 1, cdb.pack().ljust(16, b"\0"), expects_data=bool(data), data_out=data)
        self.execute(self.units[name], self.units[name].accept(task))
        return self.ends[0] if self.ends else None

    def token(self, name: str, ranges: Ranges) -> bytes:
        data = populate_list(ranges)
        self.send(name, PopulateToken(list_identifier=1, parameter_list_length=len(data)), data)
        end = self.send(name, ReceiveRodTokenInformation(list_identifier=1, allocation_length=1024))
        assert end is not None
        return bytes(end.data_in[-512:])

    def use(self, name: str, token: bytes, ranges: Ranges, **fields: int) -> Completed | None:
        data = write_list(token, ranges, **fields)
        return self.send(name, WriteUsingToken(list_identifier=2, parameter_list_length=len(data)), data)

    def read(self, name: str, ranges: Ranges) -> bytes:
        block = self.units[name].device.geometry.block_length_bytes
        return b"".join(self.memories[name].read(lba * block, count * block) for lba, count in ranges)


def code(end: Completed | None) -> int:
    """Returns the additional sense code of a command that has ended with CHECK CONDITION."""
    assert end is not None
    assert end.sense
    return FixedSense.unpack(end.sense).additional_sense_code
