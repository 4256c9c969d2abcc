"""What nodes send with PERSISTENT RESERVE OUT, and what they read with PERSISTENT RESERVE IN."""

from typing import NamedTuple

from iscsi_target.scsi.cdb import PersistentReserveIn, PersistentReserveOut
from iscsi_target.scsi.nexus import InitiatorPort
from iscsi_target.scsi.personality import InAction
from iscsi_target.scsi.reservation_pages import (
    BasicParameterList,
    FullStatusDescriptor,
    MoveParameterList,
    ReservationDescriptor,
    ReservationHeader,
    ReservationKey,
)
from iscsi_target.scsi.reservation_request import Request
from iscsi_target.scsi.reservations import Reservations
from iscsi_target.scsi.transport_id import pack_transport_id, unpack_transport_id
from tests.endtoend.test_durability import done
from tests.endtoend.wire_initiator import UNIT_ATTENTION, Initiator, Outcome

READ_BYTES = 4096


class View(NamedTuple):
    """What the service actions of PERSISTENT RESERVE IN tell.

    registrations   node, key, whether it holds and with what type, in the order of registration
    """

    generation: int
    keys: tuple[int, ...]
    reservation: tuple[int, int] | None
    registrations: tuple[tuple[InitiatorPort, int, bool, int], ...]


def view_of(state: Reservations) -> View:
    """Returns what a server in a state tells."""
    held = state.reservation
    return View(
        generation=state.generation,
        keys=tuple(state.registrations.values()),
        reservation=None if held is None else (state.reservation_key, held.type),
        registrations=tuple(
            (nexus.initiator_port, key, state.holds(nexus), held.type if held and state.holds(nexus) else 0)
            for nexus, key in state.registrations.items()
        ),
    )


async def read_in(initiator: Initiator, action: InAction) -> tuple[int, bytes]:
    """Returns PRGENERATION and what follows the header."""
    cdb = PersistentReserveIn(service_action=action, allocation_length=READ_BYTES)
    found = (await done(initiator, cdb, read_bytes=READ_BYTES)).data_in
    header = ReservationHeader.unpack(found)
    assert header.additional_length == len(found) - header.size
    return header.pr_generation, found[header.size :]


async def read_view(initiator: Initiator) -> View:
    generation, keys = await read_in(initiator, InAction.READ_KEYS)
    again, reservation = await read_in(initiator, InAction.READ_RESERVATION)
    once_more, status = await read_in(initiator, InAction.READ_FULL_STATUS)
    assert generation == again == once_more
    held = ReservationDescriptor.unpack(reservation) if reservation else None
    return View(
        generation=generation,
        keys=tuple(ReservationKey.unpack(keys, at).reservation_key for at in range(0, len(keys), ReservationKey.size)),
        reservation=None if held is None else (held.reservation_key, held.type),
        registrations=tuple(full_status(status)),
    )


def full_status(status: bytes) -> list[tuple[InitiatorPort, int, bool, int]]:
    found = []
    at = 0
    while at < len(status):
        descriptor = FullStatusDescriptor.unpack(status, at)
        assert descriptor.relative_target_port_identifier == 1
        named = unpack_transport_id(status, at + descriptor.size)
        assert named.isid is not None
        port = InitiatorPort(named.name, named.isid)
        found.append((port, descriptor.reservation_key, descriptor.r_holder, descriptor.type))
        at += descriptor.size + descriptor.additional_descriptor_length
    return found


def parameter_list(request: Request) -> bytes:
    key, action_key = request.reservation_key, request.service_action_reservation_key
    if request.destination is None:
        return BasicParameterList(
            reservation_key=key, service_action_reservation_key=action_key, aptpl=request.aptpl
        ).pack()
    transport_id = pack_transport_id(request.destination.initiator_port)
    header = MoveParameterList(
        reservation_key=key,
        service_action_reservation_key=action_key,
        unreg=request.unregister,
        aptpl=request.aptpl,
        relative_target_port_identifier=1,
        transportid_length=len(transport_id),
    )
    return header.pack() + transport_id


async def send_out(initiator: Initiator, request: Request) -> Outcome:
    """Performs PERSISTENT RESERVE OUT, again when the unit had something to tell first."""
    data_out = parameter_list(request)
    cdb = PersistentReserveOut(service_action=request.action, type=request.type, parameter_list_length=len(data_out))
    outcome = await initiator.execute(cdb, data_out)
    while outcome.key == UNIT_ATTENTION:
        outcome = await initiator.execute(cdb, data_out)
    return outcome
