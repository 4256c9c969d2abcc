"""A node of a cluster: an initiator of our own that speaks persistent reservations, one session a path.

Answers are compared as (status, sense key, code): `GOOD`, `CONFLICT`, or an attention that the node retries as real
hosts do.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from iscsi_target.scsi.layouts.block_cdb import Read10, Write10
from iscsi_target.scsi.layouts.cdb import PersistentReserveIn, PersistentReserveOut
from iscsi_target.scsi.layouts.reservation_pages import CapabilitiesData
from iscsi_target.scsi.nexus import InitiatorPort
from iscsi_target.scsi.reservations.personality import InAction, OutAction
from iscsi_target.scsi.status import Status
from iscsi_target.wire.layout import Layout
from tests import reservation_data
from tests.endtoend.reserving import READ_BYTES, insist
from tests.endtoend.wire_initiator import Initiator, Outcome, session
from tests.reservation_data import Registrant

BLOCK_BYTES = 512
WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5
REGISTRATIONS_PREEMPTED, RESERVATIONS_PREEMPTED, RESERVATIONS_RELEASED = 0x2A05, 0x2A03, 0x2A04
COMMANDS_CLEARED = 0x2F00

Holding = reservation_data.Holding  # what a path's `holding` is compared with


class Path:
    """One session of a node.

    initiator   logged in
    """

    def __init__(self, initiator: Initiator) -> None:
        self.initiator = initiator
        self.attentions: list[int] = []

    async def execute(self, cdb: Layout, data_out: bytes = b"", read_bytes: int = 0) -> Outcome:
        """Performs a command, again after each unit attention, which is kept."""
        outcome, attentions = await insist(self.initiator, cdb, data_out, read_bytes)
        self.attentions += attentions
        return outcome

    async def out(self, action: OutAction, key: int = 0, new: int = 0, kind: int = 0, **flags: bool) -> Status:
        """PERSISTENT RESERVE OUT with the basic parameter list; flags: aptpl, all_tg_pt."""
        parameters = reservation_data.basic(key, new, **flags)
        cdb = PersistentReserveOut(service_action=action, type=kind, parameter_list_length=len(parameters))
        return Status((await self.execute(cdb, parameters)).status)

    async def move(self, key: int, new: int, to: InitiatorPort, port: int, *, unreg: bool = False) -> Status:
        """REGISTER AND MOVE to an initiator port through a target port."""
        parameters = reservation_data.moving(key, new, to, port=port, unreg=unreg)
        cdb = PersistentReserveOut(service_action=OutAction.REGISTER_AND_MOVE, parameter_list_length=len(parameters))
        return Status((await self.execute(cdb, parameters)).status)

    async def _read_in(self, action: InAction) -> bytes:
        cdb = PersistentReserveIn(service_action=action, allocation_length=READ_BYTES)
        outcome = await self.execute(cdb, read_bytes=READ_BYTES)
        assert outcome.status == Status.GOOD, outcome
        return outcome.data_in

    async def generation(self) -> int:
        return reservation_data.generation(await self._read_in(InAction.READ_KEYS))

    async def keys(self) -> list[int]:
        return reservation_data.keys(await self._read_in(InAction.READ_KEYS))

    async def holding(self) -> Holding | None:
        return reservation_data.holding(await self._read_in(InAction.READ_RESERVATION))

    async def capabilities(self) -> CapabilitiesData:
        return CapabilitiesData.unpack(await self._read_in(InAction.REPORT_CAPABILITIES))

    async def full_status(self) -> list[Registrant]:
        return reservation_data.full_status(await self._read_in(InAction.READ_FULL_STATUS))

    async def write(self, lba: int, fill: int) -> Status:
        """Writes one block of equal bytes."""
        return Status((await self.execute(Write10(lba=lba, transfer_length=1), bytes([fill]) * BLOCK_BYTES)).status)

    async def read(self, lba: int) -> int:
        """Returns the byte that a block is full of; the read must be GOOD."""
        outcome = await self.execute(Read10(lba=lba, transfer_length=1), b"", BLOCK_BYTES)
        assert outcome.status == Status.GOOD, outcome
        assert outcome.data_in == outcome.data_in[:1] * BLOCK_BYTES
        return outcome.data_in[0]


def initiator_name(node: str) -> str:
    return f"iqn.2026-11.org.example:node-{node}"


@asynccontextmanager
async def paths(node: str, isid: bytes, *urls: str) -> AsyncIterator[tuple[Path, ...]]:
    """Logs a node in at every URL, which are the portals of one unit, with an ISID of its own."""
    async with AsyncExitStack() as sessions:
        opened = []
        for url in urls:
            initiator = await sessions.enter_async_context(session(url, isid=isid, name=initiator_name(node)))
            await initiator.ready()
            opened.append(Path(initiator))
        yield tuple(opened)
