"""A node of a cluster: an initiator of our own that speaks persistent reservations, one session a path.

Answers are compared as (status, sense key, code): `GOOD`, `CONFLICT`, or an attention that the node retries as real
hosts do.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from iscsi_target.scsi.block_cdb import Read10, Write10
from iscsi_target.scsi.cdb import PersistentReserveIn, PersistentReserveOut
from iscsi_target.scsi.nexus import InitiatorPort
from iscsi_target.scsi.personality import InAction, OutAction
from iscsi_target.scsi.reservation_pages import (
    BasicParameterList,
    CapabilitiesData,
    FullStatusDescriptor,
    MoveParameterList,
    ReservationDescriptor,
    ReservationHeader,
    ReservationKey,
)
from iscsi_target.scsi.status import Status
from iscsi_target.scsi.transport_id import pack_transport_id, unpack_transport_id
from tests.endtoend.wire_initiator import UNIT_ATTENTION, Initiator, Outcome, session

BLOCK_BYTES = 512
MAX_RETRIES = 5  # of a command that meets a unit attention; as mpathpersist has it
WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5
REGISTRATIONS_PREEMPTED, RESERVATIONS_PREEMPTED, RESERVATIONS_RELEASED = 0x2A05, 0x2A03, 0x2A04
COMMANDS_CLEARED = 0x2F00


class Holding(NamedTuple):
    """What READ RESERVATION tells."""

    key: int
    type: int


class Registrant(NamedTuple):
    """What READ FULL STATUS tells of one registration."""

    name: str
    isid: bytes | None
    key: int
    holder: bool
    port: int


class Path:
    """One session of a node.

    initiator   logged in
    """

    def __init__(self, initiator: Initiator) -> None:
        self.initiator = initiator
        self.attentions: list[int] = []

    async def execute(self, cdb: PersistentReserveIn | PersistentReserveOut | Read10 | Write10, *data) -> Outcome:
        """Performs a command, again after each unit attention, which is kept; nobody may raise them without end."""
        for _ in range(MAX_RETRIES):
            outcome = await self.initiator.execute(cdb, *data)
            if outcome.key != UNIT_ATTENTION:
                return outcome
            self.attentions.append(outcome.code)
        raise AssertionError(f"unit attentions without end: {self.attentions}")

    async def out(self, action: OutAction, key: int = 0, new: int = 0, kind: int = 0, **flags: bool) -> Status:
        """PERSISTENT RESERVE OUT with the basic parameter list; flags: aptpl, all_tg_pt."""
        parameters = BasicParameterList(reservation_key=key, service_action_reservation_key=new, **flags).pack()
        cdb = PersistentReserveOut(service_action=action, type=kind, parameter_list_length=len(parameters))
        return Status((await self.execute(cdb, parameters)).status)

    async def move(self, key: int, new: int, to: InitiatorPort, port: int, *, unreg: bool = False) -> Status:
        """REGISTER AND MOVE to an initiator port through a target port."""
        transport_id = pack_transport_id(to)
        parameters = MoveParameterList(
            reservation_key=key,
            service_action_reservation_key=new,
            unreg=unreg,
            relative_target_port_identifier=port,
            transportid_length=len(transport_id),
        )
        data = parameters.pack() + transport_id
        cdb = PersistentReserveOut(service_action=OutAction.REGISTER_AND_MOVE, parameter_list_length=len(data))
        return Status((await self.execute(cdb, data)).status)

    async def _read_in(self, action: InAction) -> bytes:
        outcome = await self.execute(PersistentReserveIn(service_action=action, allocation_length=8192), b"", 8192)
        assert outcome.status == Status.GOOD, outcome
        return outcome.data_in

    async def generation(self) -> int:
        return ReservationHeader.unpack(await self._read_in(InAction.READ_KEYS)).pr_generation

    async def keys(self) -> list[int]:
        data = await self._read_in(InAction.READ_KEYS)
        places = range(ReservationHeader.size, len(data), ReservationKey.size)
        return [ReservationKey.unpack(data, place).reservation_key for place in places]

    async def holding(self) -> Holding | None:
        data = await self._read_in(InAction.READ_RESERVATION)
        if not ReservationHeader.unpack(data).additional_length:
            return None
        found = ReservationDescriptor.unpack(data, ReservationHeader.size)
        return Holding(found.reservation_key, found.type)

    async def capabilities(self) -> CapabilitiesData:
        return CapabilitiesData.unpack(await self._read_in(InAction.REPORT_CAPABILITIES))

    async def full_status(self) -> list[Registrant]:
        data = await self._read_in(InAction.READ_FULL_STATUS)
        found, at = [], ReservationHeader.size
        while at < len(data):
            fields = FullStatusDescriptor.unpack(data, at)
            port = unpack_transport_id(data, at + fields.size)
            found.append(
                Registrant(
                    port.name,
                    port.isid,
                    fields.reservation_key,
                    fields.r_holder,
                    fields.relative_target_port_identifier,
                )
            )
            at += fields.size + fields.additional_descriptor_length
        return found

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
