"""What command tests share: nodes A and B, port P, a unit of 2048 blocks, and a run of one command on a store.

A ---.
      >--- port P --- unit
B ---'
"""

from random import Random

from iscsi_target.scsi.commands import command_lookup
from iscsi_target.scsi.commands.token_copy import fetch_rod
from iscsi_target.scsi.layouts.mode_pages import ModePages
from iscsi_target.scsi.layouts.token_cdb import FetchRod
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.operations import Extent
from iscsi_target.scsi.state.copy_managers import CopyManagers
from iscsi_target.scsi.state.device import Device, Features, Geometry, Identity, PortIdentity, TransferLimits
from iscsi_target.scsi.state.task import Begin, Call, Change, Done, Fetch, Leave, Save, StartCopy, StopCopy, Work
from iscsi_target.scsi.status import CheckCondition
from iscsi_target.wire.layout import Layout

P = TargetPort("iqn.2025-01.org.example:disks", 1)
A = Nexus(InitiatorPort("iqn.2025-01.org.example:a", b"\x80\0\0\0\0\1"), P)
B = Nexus(InitiatorPort("iqn.2025-01.org.example:b", b"\x80\0\0\0\0\2"), P)
BLOCK = 512
CAPACITY = 2048
LIMITS = TransferLimits(
    max_transfer_blocks=256,
    max_caw_blocks=1,
    max_unmap_blocks=1024,
    max_unmap_descriptors=16,
    max_write_same_blocks=CAPACITY,
    unmap_granularity=8,
    max_atomic_blocks=64,
)


def device(*, block_length_bytes: int = BLOCK, **features: bool | int) -> Device:
    return Device(
        identity=Identity("EXAMPLE", "DISK", "0001", "abc123", bytes.fromhex("6001405000000001")),
        geometry=Geometry(block_length_bytes, 3 if block_length_bytes == BLOCK else 0, CAPACITY),
        features=Features(LIMITS, **features),  # type: ignore[arg-type]  # keywords of Features
        modes=ModePages(),
        ports={P: PortIdentity(7, 2)},
        copy_managers=CopyManagers(Random(0).randbytes),
    )


class Bytes:
    """A store in RAM that counts what matters to commands: flushes and holes."""

    def __init__(self, size_bytes: int = CAPACITY * BLOCK) -> None:
        self.content = bytearray(size_bytes)
        self.allocated: set[int] = set()
        self.flushed = 0

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        assert offset_bytes + length_bytes <= len(self.content)
        return bytes(self.content[offset_bytes : offset_bytes + length_bytes])

    def write(self, offset_bytes: int, data) -> None:
        assert offset_bytes + len(data) <= len(self.content)
        self.content[offset_bytes : offset_bytes + len(data)] = data
        self.allocated |= set(range(offset_bytes // BLOCK, (offset_bytes + len(data)) // BLOCK))

    def write_atomic(self, offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        self.write(offset_bytes, data)

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        self.write(offset_bytes, bytes(length_bytes))
        self.allocated -= set(range(offset_bytes // BLOCK, (offset_bytes + length_bytes) // BLOCK))

    def flush(self) -> None:
        self.flushed += 1

    def allocation(self, offset_bytes: int, length_bytes: int) -> list[Extent]:
        blocks = range(offset_bytes // BLOCK, (offset_bytes + length_bytes) // BLOCK)
        return [Extent(block * BLOCK, BLOCK, block in self.allocated) for block in blocks]


def run(
    unit: Device,
    cdb: Layout | bytes,
    *,
    store: Bytes | None = None,
    offered: bytes = b"",
    nexus: Nexus = A,
) -> Done:
    """Runs a command as a logical unit would; raises what it raises."""
    raw = cdb if isinstance(cdb, bytes) else cdb.pack()
    row = command_lookup.find(raw.ljust(16, b"\0"))
    fields = row.unpack(raw.ljust(16, b"\0"))
    data_out = offered[: row.data_out(unit, fields)]
    reply = row.handler(unit, fields, Call(nexus, data_out, (0,), len(offered)))
    if isinstance(reply, Save):
        reply = reply.finish()
    if isinstance(reply, StartCopy):
        reply = reply.first
    if isinstance(reply, Work | Fetch):
        attention = reply.attention if isinstance(reply, Work) else None
        done = _worked(unit, reply, Bytes() if store is None else store)
        return done._replace(attention=done.attention or attention)
    if isinstance(reply, Begin | Leave | StopCopy):
        return Done()
    if isinstance(reply, Change):
        unit.reservations = reply.transition.state
        return Done()
    assert isinstance(reply, Done)
    return reply


def _worked(unit: Device, reply: Work | Fetch, store: Bytes) -> Done:
    """Does what a command wants done, one thing after the other; what it wants brought is of the unit itself."""
    step: Done | Work | Fetch = reply
    while not isinstance(step, Done):
        if isinstance(step, Work):
            step = step.finish(step.operation.perform(store))
        else:
            assert isinstance(step.cdb, FetchRod)
            brought = fetch_rod(unit, step.cdb, Call(A, step.data_out, ()))
            data = brought if isinstance(brought, Done) else brought.finish(brought.operation.perform(store))
            assert isinstance(data, Done)
            step = step.finish(data.data_in)
    return step


def refusal(unit: Device, cdb: Layout | bytes, **arguments) -> tuple[int, int]:
    """Returns (sense key, code) of a command that must end in CHECK CONDITION."""
    try:
        done = run(unit, cdb, **arguments)
    except CheckCondition as condition:
        return int(condition.sense.key), condition.sense.code
    raise AssertionError(f"{done} instead of CHECK CONDITION")


INVALID_FIELD_IN_CDB = (5, 0x2400)
INVALID_FIELD_IN_LIST = (5, 0x2600)
LIST_LENGTH_ERROR = (5, 0x1A00)
LBA_OUT_OF_RANGE = (5, 0x2100)
INVALID_OPERATION_CODE = (5, 0x2000)
WRITE_PROTECTED = (7, 0x2700)
SOFTWARE_WRITE_PROTECTED = (7, 0x2702)
MISCOMPARE = (0xE, 0x1D00)
MEDIUM_NOT_PRESENT = (2, 0x3A00)
REMOVAL_PREVENTED = (5, 0x5302)
