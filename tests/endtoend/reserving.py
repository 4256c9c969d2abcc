"""What nodes send with PERSISTENT RESERVE OUT, and what they read with PERSISTENT RESERVE IN."""

from typing import NamedTuple

from iscsi_target.scsi.layouts.cdb import PersistentReserveIn, PersistentReserveOut
from iscsi_target.scsi.nexus import InitiatorPort
from iscsi_target.scsi.reservations.personality import InAction
from iscsi_target.scsi.reservations.reservation_request import Request
from iscsi_target.scsi.reservations.reservations import Reservations
from iscsi_target.scsi.status import Status
from iscsi_target.wire.layout import Layout
from tests import reservation_data
from tests.endtoend.wire_initiator import UNIT_ATTENTION, Initiator, Outcome
from tests.reservation_data import Registrant

READ_BYTES = 8192
MAX_ATTEMPTS = 5  # at a command that meets unit attentions, which nobody may raise without end; hosts give up likewise


class Insisted(NamedTuple):
    """What came of a command that was sent again after each unit attention.

    outcome      of the last attempt, which is no unit attention
    attentions   the codes that the attempts before it were told
    """

    outcome: Outcome
    attentions: tuple[int, ...]


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


async def insist(initiator: Initiator, cdb: Layout, data_out: bytes = b"", read_bytes: int = 0) -> Insisted:
    """Performs a command, again after each unit attention; raises AssertionError when they do not end."""
    attentions: list[int] = []
    for _ in range(MAX_ATTEMPTS):
        outcome = await initiator.execute(cdb, data_out, read_bytes)
        if outcome.key != UNIT_ATTENTION:
            return Insisted(outcome, tuple(attentions))
        attentions.append(outcome.code)
    raise AssertionError(f"unit attentions without end: {attentions}")


async def read_in(initiator: Initiator, action: InAction) -> bytes:
    """Returns the parameter data of PERSISTENT RESERVE IN, which must be GOOD."""
    cdb = PersistentReserveIn(service_action=action, allocation_length=READ_BYTES)
    outcome = (await insist(initiator, cdb, read_bytes=READ_BYTES)).outcome
    assert outcome.status == Status.GOOD, outcome
    return outcome.data_in


async def read_view(initiator: Initiator) -> View:
    keys = await read_in(initiator, InAction.READ_KEYS)
    reservation = await read_in(initiator, InAction.READ_RESERVATION)
    status = await read_in(initiator, InAction.READ_FULL_STATUS)
    [generation] = {reservation_data.generation(data) for data in (keys, reservation, status)}
    return View(
        generation=generation,
        keys=tuple(reservation_data.keys(keys)),
        reservation=reservation_data.holding(reservation),
        registrations=tuple(registration(each) for each in reservation_data.full_status(status)),
    )


def registration(found: Registrant) -> tuple[InitiatorPort, int, bool, int]:
    """Returns a descriptor of READ FULL STATUS as a view has it; there is one target port, the first."""
    scope, kind = found.scope_and_type
    assert (scope, found.port, found.all_tg_pt) == (0, 1, False)
    assert found.isid is not None
    return InitiatorPort(found.name, found.isid), found.key, found.holder, kind


def parameter_list(request: Request) -> bytes:
    key, action_key = request.reservation_key, request.service_action_reservation_key
    if request.destination is None:
        return reservation_data.basic(key, action_key, aptpl=request.aptpl)
    return reservation_data.moving(
        key, action_key, request.destination.initiator_port, port=1, unreg=request.unregister, aptpl=request.aptpl
    )


async def send_out(initiator: Initiator, request: Request) -> Outcome:
    """Performs PERSISTENT RESERVE OUT, again when the unit had something to tell first."""
    data_out = parameter_list(request)
    cdb = PersistentReserveOut(service_action=request.action, type=request.type, parameter_list_length=len(data_out))
    return (await insist(initiator, cdb, data_out)).outcome
