"""The laws of persistent reservations, written from the clauses and not from the code.

A law takes what was, what was asked and what is; it fails with AssertionError. Two tests use them: the enumeration of a
small world and the machine of random sequences. `Before` and `after` are whole `Reservations` values, `told` are the
unit attentions that were established, by nexus.
"""

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.nexus import OPERATOR, Nexus
from iscsi_target.scsi.reservations.personality import OutAction, ReservationType
from iscsi_target.scsi.reservations.reservation_record import from_record, to_record
from iscsi_target.scsi.reservations.reservation_request import Request
from iscsi_target.scsi.reservations.reservations import Reservation, Reservations

WE, EA, WERO, EARO, WEAR, EAAR = ReservationType
EXCLUSIVE, REGISTRANTS_ONLY, ALL_REGISTRANTS = {WE, EA}, {WERO, EARO}, {WEAR, EAAR}
NO_READERS = {EA, EARO, EAAR}
ANY_TYPE = {None, *ReservationType}

REGISTERS = {OutAction.REGISTER, OutAction.REGISTER_AND_IGNORE_EXISTING_KEY}
PREEMPTS = {OutAction.PREEMPT, OutAction.PREEMPT_AND_ABORT}
# The service actions that move PRGENERATION. Source: SPC4r37 6.15.2
COUNTED = {*REGISTERS, *PREEMPTS, OutAction.CLEAR, OutAction.REGISTER_AND_MOVE}

Told = Mapping[Nexus, frozenset[int]]


def frozen(state: Reservations) -> Reservations:
    """Returns a copy that nobody else can change."""
    return state._replace(registrations=dict(state.registrations))


# Who is told what: SPC4r37 5.13.11


class Event(NamedTuple):
    """What became of the reservation: it is there no more, or it has another type."""

    gone: bool
    retyped: bool


class Row(NamedTuple):
    """One sentence of SPC4r37 5.13.11 that establishes unit attentions.

    actions   the service actions that it is about
    when      what has to have become of the reservation
    types     the types of the reservation before, None without one
    stays     True tells the nexuses that are still registered, False those that are not any more; never the issuer
    """

    actions: set[OutAction]
    when: Callable[[Event], bool]
    types: set[ReservationType] | set[ReservationType | None]
    stays: bool
    code: AttentionCode


def _always(event: Event) -> bool:
    return True


ATTENTIONS = (
    # 5.13.11.2.2 c and e
    Row(
        {OutAction.RELEASE},
        lambda event: event.gone,
        REGISTRANTS_ONLY | ALL_REGISTRANTS,
        stays=True,
        code=AttentionCode.RESERVATIONS_RELEASED,
    ),
    # 5.13.11.2.3
    Row(
        REGISTERS,
        lambda event: event.gone,
        REGISTRANTS_ONLY,
        stays=True,
        code=AttentionCode.RESERVATIONS_RELEASED,
    ),
    # 5.13.11.2.4.3 e, 5.13.11.2.5 d
    Row(PREEMPTS, _always, ANY_TYPE, stays=False, code=AttentionCode.REGISTRATIONS_PREEMPTED),
    # 5.13.11.2.4.3 f
    Row(
        PREEMPTS,
        lambda event: event.retyped,
        ANY_TYPE,
        stays=True,
        code=AttentionCode.RESERVATIONS_RELEASED,
    ),
    # Ours: an operator takes over nothing, so the holder that it preempts loses the reservation as in 5.13.11.2.3
    Row(
        PREEMPTS,
        lambda event: event.gone,
        REGISTRANTS_ONLY,
        stays=True,
        code=AttentionCode.RESERVATIONS_RELEASED,
    ),
    # 5.13.11.2.7 e
    Row({OutAction.CLEAR}, _always, ANY_TYPE, stays=False, code=AttentionCode.RESERVATIONS_PREEMPTED),
)


def audience(before: Reservations, nexus: Nexus, request: Request, after: Reservations) -> dict[Nexus, frozenset[int]]:
    """Returns who is to be told what."""
    had, has = before.reservation, after.reservation
    event = Event(
        gone=had is not None and has is None,
        retyped=had is not None and has is not None and had.type is not has.type,
    )
    told: dict[Nexus, frozenset[int]] = {}
    for row in ATTENTIONS:
        silent = request.no_attention_on_release and request.action is OutAction.RELEASE
        kind = None if had is None else had.type
        if silent or request.action not in row.actions or kind not in row.types or not row.when(event):
            continue
        for other in before.registrations:
            if other != nexus and (other in after.registrations) is row.stays:
                told[other] = told.get(other, frozenset()) | {row.code}
    return told


def aborted(before: Reservations, request: Request) -> set[Nexus]:
    """Returns the nexuses whose commands are to be aborted: those with the key, and with the key zero all.

    Source: SPC4r37 5.13.11.2.6
    """
    if request.action is not OutAction.PREEMPT_AND_ABORT:
        return set()
    victim = request.service_action_reservation_key
    return {nexus for nexus, key in before.registrations.items() if not victim or key == victim}


# What is answered: SPC4r37 5.13.7 to 5.13.11

GOOD, CONFLICT, IN_CDB, IN_LIST, INVALID_RELEASE, LOST = "G", "RC", "5/24/00", "5/26/00", "5/26/04", "7/44/01"


def holders(state: Reservations) -> set[Nexus]:
    """Returns the persistent reservation holders.

    Source: SPC4r37 5.13.10
    """
    if state.reservation is None:
        return set()
    if state.reservation.type in ALL_REGISTRANTS:
        return set(state.registrations)
    return {nexus for nexus in state.registrations if nexus == state.reservation.holder}


def _unusable(request: Request) -> bool:
    return request.scope != 0 or request.type not in set(ReservationType)


def verdict(before: Reservations, nexus: Nexus, request: Request) -> str:
    """Returns what strict answers to a request of a nexus: a status or sense data.

    Source: SPC4r37 5.13.7 tables 67 to 70, 5.13.8, 5.13.9, 5.13.11
    """
    if request.action is OutAction.REPLACE_LOST_RESERVATION:
        if not before.lost:
            return INVALID_RELEASE
        if request.reservation_key or not request.service_action_reservation_key:
            return IN_LIST
        return IN_CDB if _unusable(request) else GOOD
    if before.lost:
        return LOST
    key = before.registrations.get(nexus)
    if request.action is OutAction.REGISTER_AND_IGNORE_EXISTING_KEY:
        return GOOD
    if request.action is OutAction.REGISTER:
        return _verdict_on_register(before, key or 0, request)
    if key != request.reservation_key:
        return CONFLICT
    if request.action is OutAction.CLEAR:
        return GOOD
    return _OF_REGISTRANTS[request.action](before, nexus, request)


def _verdict_on_register(before: Reservations, key: int, request: Request) -> str:
    """Table 67; a key of zero is that of a nexus that is not registered."""
    if request.reservation_key != key:
        return CONFLICT
    if key and request.spec_i_pt:
        return IN_LIST
    if any(before.registrations.get(other, key) != key for other in request.siblings):
        return CONFLICT  # as it would be through that port: 6.16.3
    registers = request.service_action_reservation_key != 0
    return IN_LIST if registers and set(request.listed) & set(before.registrations) else GOOD


def _verdict_on_reserve(before: Reservations, nexus: Nexus, request: Request) -> str:
    if _unusable(request):
        return IN_CDB
    if before.reservation is None:
        return GOOD
    return GOOD if nexus in holders(before) and request.type == before.reservation.type else CONFLICT


def _verdict_on_release(before: Reservations, nexus: Nexus, request: Request) -> str:
    if before.reservation is None or nexus not in holders(before):
        return GOOD
    matches = request.scope == 0 and request.type == before.reservation.type
    return GOOD if matches else INVALID_RELEASE


def preempts_reservation(before: Reservations, request: Request) -> bool:
    """Returns True when a PREEMPT takes the reservation over.

    Source: SPC4r37 5.13.11.2.4.1 table 72
    """
    if before.reservation is None:
        return False
    if before.reservation.type in ALL_REGISTRANTS:
        return not request.service_action_reservation_key
    [holder] = holders(before)
    return request.service_action_reservation_key == before.registrations[holder]


def _verdict_on_preempt(before: Reservations, nexus: Nexus, request: Request) -> str:
    key = request.service_action_reservation_key
    if preempts_reservation(before, request):
        return IN_CDB if _unusable(request) else GOOD
    if before.reservation is not None and not key:
        return IN_LIST
    return GOOD if key in before.registrations.values() else CONFLICT


def _verdict_on_move(before: Reservations, nexus: Nexus, request: Request) -> str:
    if before.reservation is None:
        return IN_CDB
    if before.reservation.type in ALL_REGISTRANTS or nexus not in holders(before):
        return CONFLICT
    assert request.destination is not None
    own = request.destination.initiator_port == nexus.initiator_port
    return IN_LIST if own or not request.service_action_reservation_key else GOOD


_OF_REGISTRANTS: Mapping[OutAction, Callable[[Reservations, Nexus, Request], str]] = {
    OutAction.RESERVE: _verdict_on_reserve,
    OutAction.RELEASE: _verdict_on_release,
    OutAction.PREEMPT: _verdict_on_preempt,
    OutAction.PREEMPT_AND_ABORT: _verdict_on_preempt,
    OutAction.REGISTER_AND_MOVE: _verdict_on_move,
}


def conflicts_at_start(before: Reservations, nexus: Nexus, action: OutAction) -> bool:
    """Returns True when a reservation excludes a service action before anything of it is looked at.

    Source: SPC4r37 5.13.1 table 66
    """
    if before.reservation is None or action in REGISTERS:
        return False
    return nexus not in (before.registrations if action in _FOR_REGISTRANTS else holders(before))


# A unit that has lost nothing says so to registrants, as 5.13.11.3 asks; to others it conflicts, as 5.13.7 asks.
_FOR_REGISTRANTS = {*PREEMPTS, OutAction.RELEASE, OutAction.CLEAR, OutAction.REPLACE_LOST_RESERVATION}


def operator_verdict(before: Reservations, request: Request) -> str:
    """Returns what an order of the operator is answered; it needs no key, and only an unknown victim is refused."""
    known = request.service_action_reservation_key in before.registrations.values()
    return GOOD if known or request.action is OutAction.CLEAR else CONFLICT


# What is left: SPC4r37 5.13.7 to 5.13.11


def expected(before: Reservations, nexus: Nexus, request: Request) -> tuple[dict[Nexus, int], Reservation | None]:
    """Returns the registrations and the reservation after a request that is carried out."""
    keys, had = dict(before.registrations), before.reservation
    new, victims = request.service_action_reservation_key, set[Nexus]()
    made = Reservation(ReservationType(request.type), nexus, request.cause) if not _unusable(request) else None
    if made is not None and made.type in ALL_REGISTRANTS:
        made = made._replace(holder=None)
    match request.action:
        case OutAction.REGISTER | OutAction.REGISTER_AND_IGNORE_EXISTING_KEY:
            named = (nexus, *request.siblings, *(request.listed if new else ()))
            keys |= dict.fromkeys(named, new)
            victims = set() if new else set(named)
        case OutAction.RESERVE:
            had = had or made
        case OutAction.RELEASE:
            had = None if nexus in holders(before) else had
        case OutAction.CLEAR:
            victims = set(keys)
        case OutAction.PREEMPT | OutAction.PREEMPT_AND_ABORT:
            takes_over = nexus != OPERATOR and preempts_reservation(before, request)
            victims = {other for other, key in keys.items() if key == new or (takes_over and not new)}
            victims -= {nexus} if takes_over else set()
            had = made if takes_over else had
        case OutAction.REGISTER_AND_MOVE:
            assert request.destination is not None
            assert had is not None
            keys[request.destination] = new
            had = had._replace(holder=request.destination, made_by=request.cause)
            victims = {nexus} if request.unregister else set()
        case OutAction.REPLACE_LOST_RESERVATION:
            return {nexus: new}, made
    keys = {other: key for other, key in keys.items() if other not in victims}
    held = had is not None and (had.holder in keys or (had.holder is None and bool(keys)))
    return keys, had if held else None


# The laws


def state_is_sound(state: Reservations) -> None:
    """Law: every key is a key; the holder is a registrant; all registrants types hold for every registrant."""
    assert all(0 < key < 1 << 64 for key in state.registrations.values())
    holding = {nexus for nexus in state.registrations if state.holds(nexus)}
    assert holding == holders(state)
    if state.reservation is None:
        assert not holding
        assert state.reservation_key == 0
    elif state.reservation.type in ALL_REGISTRANTS:
        assert state.reservation.holder is None
        assert holding == set(state.registrations) != set()
        assert state.reservation_key == 0
    else:
        assert holding == {state.reservation.holder}
        assert state.reservation_key == state.registrations[min(holding)]
    assert not state.lost or state == Reservations(lost=True, generation=state.generation)


def state_survives(state: Reservations) -> None:
    """Law: saved as JSON and loaded it is equal; what is stored is all but the generation with APTPL, else nothing."""
    assert from_record(json.loads(json.dumps(to_record(state)))) == state
    if state.lost:
        assert state.stored == Reservations(lost=True)
    elif state.aptpl:
        assert state.stored == state._replace(generation=0)
    else:
        assert state.stored is None


def change_is_lawful(before: Reservations, nexus: Nexus, request: Request, after: Reservations) -> None:
    """Law: a change is the one that the service action names, and PRGENERATION moves by one for those that count.

    Source: SPC4r37 5.13.7 to 5.13.11, 6.15.2
    """
    registrations, reservation = expected(before, nexus, request)
    assert dict(after.registrations) == registrations
    assert after.reservation == reservation
    assert not after.lost
    if request.action is OutAction.REPLACE_LOST_RESERVATION:
        assert after.generation == 0
    else:
        assert after.generation == (before.generation + (request.action in COUNTED)) % (1 << 32)
    registers = request.action in REGISTERS
    key = request.service_action_reservation_key
    nobody = registers and not key and not {nexus, *request.siblings} & before.registrations.keys()
    processes_aptpl = not nobody and (
        registers or request.action in {OutAction.REGISTER_AND_MOVE, OutAction.REPLACE_LOST_RESERVATION}
    )
    assert after.aptpl == (request.aptpl if processes_aptpl else before.aptpl)
    state_is_sound(after)


def permits(state: Reservations, nexus: Nexus, *, writes: bool) -> bool:
    """Returns True when a read or a write of the medium meets no conflict.

    Source: SPC4r37 5.13.1 table 65
    """
    if state.reservation is None or nexus in holders(state):
        return True
    kind = state.reservation.type
    if kind not in EXCLUSIVE and nexus in state.registrations:
        return True
    return not writes and kind not in NO_READERS
