"""The transitions of persistent reservations: a state and a request lead to the next state and its consequences.

Pure functions. `apply` raises for what is refused before anything is made, so what is refused has no effect. The
consequences are values, which the logical unit turns into unit attentions and aborted tasks. Keys and types are checked
here; where the bytes come from is the business of `persistent_reserve_out`.

What the standard leaves open, and what `strict` does, by case of `tests/conformance/reservations`:

- RG-02, RG-05: REGISTER without a key from a nexus that is not registered registers nobody, but is a successful one
  and counts: 6.15.2 names the service actions that count and makes no exception. Its APTPL holds too (5.13.5.1).
- RG-27: ALL_TG_PT on a nexus that is registered through one port only applies the key to every port; 6.16.3 asks for
  what the same request received through each port would do, and the key is verified on the port that it came through.
- IN-16: a registration through every port is one registration for each of them, so READ FULL STATUS has one descriptor
  for each port and never ALL_TG_PT, and READ KEYS one key for each.
- TI-07: a TransportID of a device name registers every initiator port of that name that is known: it is attached or
  registered. When none is known the list is refused, since GOOD would promise what did not happen.
- TI-17, TI-19: a port listed twice is refused; the issuer's own port in the list is the entry that the request implies.
- TI-03, TI-01, TI-02, TI-05, RM-14: a list that is longer or shorter than its lengths say is refused with 5/1A/00.
- RL-12: NUAR of the control mode page can be set; it silences RELEASE alone (5.13.11.2.2), not unregistering.
- PE-03: the key zero with no reservation matches no registration and conflicts (5.13.11.2.5).
- PE-14: with an all registrants type the own key removes the own registration too (table 72 has no exception).
- PA-07: PREEMPT AND ABORT with the key zero aborts the tasks of every registered nexus, the issuer's others included
  (5.13.11.2.6, last paragraph).
- PV-30, UA-01, PE-26: what a reservation forbids by tables 65 and 66 is found before the parameter list is read and
  before unit attentions other than those of resets and lost nexuses are reported (SAM5r21 5.3.3).
- RM-20: a reservation may be moved to a nexus that has no session.
- AP-08: when the stored state cannot be read, nothing is known, and all but the commands of 5.13.5.2 are refused.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple, NoReturn

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.personality import STRICT, OutAction, Personality, ReservationType
from iscsi_target.scsi.reservations import LU_SCOPE, Cause, Reservation, Reservations
from iscsi_target.scsi.rules import Rule
from iscsi_target.wire.layout import FieldPointer

MAX_REGISTRATIONS = 8190  # of one unit: as many as READ KEYS can tell; some 2 MiB of memory and of the state file
GENERATIONS = 1 << 32  # PRGENERATION wraps; SPC4r37 6.15.2
TYPES = frozenset(ReservationType)


class Request(NamedTuple):
    """A PERSISTENT RESERVE OUT command, its parameter list understood.

    cause          the command itself
    scope, type    as in the CDB, whatever they are
    no_attention_on_release   NUAR of the control mode page
    siblings       with ALL_TG_PT: the nexuses of the same initiator port through the other target ports
    listed         with SPEC_I_PT: the nexuses of the listed initiator ports, none twice
    destination    with REGISTER AND MOVE: the nexus that is to hold the reservation
    unregister     UNREG
    Source: SPC4r37 6.16
    """

    action: OutAction
    cause: Cause
    reservation_key: int = 0
    service_action_reservation_key: int = 0
    scope: int = LU_SCOPE
    type: int = 0
    aptpl: bool = False
    spec_i_pt: bool = False
    no_attention_on_release: bool = False
    siblings: tuple[Nexus, ...] = ()
    listed: tuple[Nexus, ...] = ()
    destination: Nexus | None = None
    unregister: bool = False


class Told(NamedTuple):
    """A nexus is to be told by a unit attention, if it has a session."""

    nexus: Nexus
    code: AttentionCode


class ToldAll(NamedTuple):
    """Every nexus that has a session is to be told by a unit attention, registered or not, but one or none."""

    code: AttentionCode
    except_nexus: Nexus | None


class TasksAborted(NamedTuple):
    """The tasks of a nexus are to be aborted, and its prevention of medium removal ends."""

    nexus: Nexus


Consequence = Told | ToldAll | TasksAborted


class Transition(NamedTuple):
    """What a request leads to.

    rule           what was done
    consequences   in the order in which they are to be carried out
    removed        the nexuses that are not registered any more
    """

    state: Reservations
    rule: Rule
    consequences: tuple[Consequence, ...] = ()
    removed: tuple[Nexus, ...] = ()


def apply(state: Reservations, nexus: Nexus, request: Request, personality: Personality) -> Transition:
    """Returns what a service action of PERSISTENT RESERVE OUT leads to.

    nexus          which it came from
    personality    what is answered where targets differ
    raises         StatusError with a rule when it is refused; nothing has changed then
    Source: SPC4r37 5.13.7 to 5.13.11
    """
    case = _Case(state, nexus, request, personality)
    if state.lost and request.action is not OutAction.REPLACE_LOST_RESERVATION:
        case.refuse(Rule.INFORMATION_LOST)
    return _TRANSITIONS[request.action](case)


class _Case(NamedTuple):
    """A request in the state that it meets."""

    state: Reservations
    nexus: Nexus
    request: Request
    personality: Personality

    def refuse(self, rule: Rule, field: FieldPointer | None = None) -> NoReturn:
        raise self.personality.refusal(rule, self.request.action, field)

    def verify_key(self) -> None:
        """Raises unless the nexus is registered with the reservation key of the request."""
        if self.nexus not in self.state.registrations:
            self.refuse(Rule.NOT_REGISTERED)
        if self.state.registrations[self.nexus] != self.request.reservation_key:
            self.refuse(Rule.KEY_MISMATCH)

    def new_reservation(self) -> Reservation:
        """Returns the reservation that the request asks for; raises for a scope or type that there is not."""
        if self.request.scope != LU_SCOPE:
            self.refuse(Rule.SCOPE_INVALID, SCOPE_FIELD)
        if self.request.type not in TYPES:
            self.refuse(Rule.TYPE_INVALID, TYPE_FIELD)
        kind = ReservationType(self.request.type)
        return Reservation(kind, None if kind.all_registrants else self.nexus, self.request.cause)

    def counted(self, **changes: object) -> Reservations:
        """Returns the state with changes and the next PRGENERATION."""
        generation = (self.state.generation + 1) % GENERATIONS
        return replace(self.state, generation=generation, **changes)  # type: ignore[arg-type]  # fields of Reservations

    def matching(self, key: int) -> list[Nexus]:
        return [nexus for nexus, registered in self.state.registrations.items() if registered == key]

    def others(self, registrations: Iterable[Nexus], code: AttentionCode) -> tuple[Told, ...]:
        """Returns what tells every one of these nexuses but the issuer."""
        return tuple(Told(nexus, code) for nexus in registrations if nexus != self.nexus)


SCOPE_FIELD = FieldPointer(2, 7)
TYPE_FIELD = FieldPointer(2, 3)
RESERVATION_KEY_FIELD = FieldPointer(0, 7)
SERVICE_ACTION_KEY_FIELD = FieldPointer(8, 7)
FLAGS_FIELD = FieldPointer(20, 3)
TRANSPORT_ID_FIELD = FieldPointer(24, 7)


def _without(state: Reservations, removed: Iterable[Nexus]) -> tuple[dict[Nexus, int], Reservation | None]:
    """Returns what is left when registrations are removed: a reservation goes with the last of its holders.

    Source: SPC4r37 5.13.10, 5.13.11.2 table 71
    """
    gone = frozenset(removed)
    registrations = {nexus: key for nexus, key in state.registrations.items() if nexus not in gone}
    reservation = state.reservation
    if reservation is not None:
        orphaned = not registrations if reservation.holder is None else reservation.holder in gone
        reservation = None if orphaned else reservation
    return registrations, reservation


# Registering


def _register(case: _Case) -> Transition:
    state, nexus, request, _ = case
    if nexus not in state.registrations:
        if request.reservation_key:
            case.refuse(Rule.KEY_NOT_ZERO)
    else:
        case.verify_key()
        if request.spec_i_pt:
            case.refuse(Rule.REGISTERED_SPEC_I_PT, FLAGS_FIELD)
    return _register_and_ignore(case)


def _register_and_ignore(case: _Case) -> Transition:
    if not case.request.service_action_reservation_key:
        return _unregister(case)
    state, nexus, request, _ = case
    if any(listed in state.registrations for listed in request.listed):
        case.refuse(Rule.LISTED_PORT_REGISTERED, TRANSPORT_ID_FIELD)
    key = request.service_action_reservation_key
    registrations = {**state.registrations, **dict.fromkeys((nexus, *request.siblings, *request.listed), key)}
    if len(registrations) > MAX_REGISTRATIONS:
        case.refuse(Rule.TABLE_FULL)
    rule = Rule.KEY_CHANGED if nexus in state.registrations else Rule.REGISTERED
    return Transition(case.counted(registrations=registrations, aptpl=request.aptpl), rule)


def _unregister(case: _Case) -> Transition:
    state, nexus, request, _ = case
    removed = tuple(each for each in (nexus, *request.siblings) if each in state.registrations)
    registrations, reservation = _without(state, removed)
    after = case.counted(registrations=registrations, reservation=reservation, aptpl=request.aptpl)
    if not removed:
        return Transition(after, Rule.NOT_REGISTERED_BEFORE)
    told: tuple[Told, ...] = ()
    if state.reservation is not None and reservation is None and state.reservation.type.registrants_only:
        told = case.others(registrations, AttentionCode.RESERVATIONS_RELEASED)
    return Transition(after, Rule.UNREGISTERED, told, removed)


# Reserving, releasing, clearing


def _reserve(case: _Case) -> Transition:
    state, nexus, request, _ = case
    case.verify_key()
    wanted = case.new_reservation()
    if state.reservation is None:
        return Transition(replace(state, reservation=wanted), Rule.RESERVED)
    if not state.holds(nexus):
        case.refuse(Rule.RESERVED_BY_ANOTHER)
    if state.reservation.type != request.type:
        case.refuse(Rule.HELD_DIFFERENTLY)
    return Transition(state, Rule.RESERVED_BEFORE)


def _release(case: _Case) -> Transition:
    state, nexus, request, _ = case
    case.verify_key()
    if state.reservation is None:
        return Transition(state, Rule.NOTHING_TO_RELEASE)
    if not state.holds(nexus):
        return Transition(state, Rule.NOT_HELD)
    kind = state.reservation.type
    if request.scope != LU_SCOPE or request.type != kind:
        case.refuse(Rule.RELEASE_MISMATCH)
    told: tuple[Told, ...] = ()
    if (kind.registrants_only or kind.all_registrants) and not request.no_attention_on_release:
        told = case.others(state.registrations, AttentionCode.RESERVATIONS_RELEASED)
    return Transition(replace(state, reservation=None), Rule.RELEASED, told)


def _clear(case: _Case) -> Transition:
    case.verify_key()
    told = case.others(case.state.registrations, AttentionCode.RESERVATIONS_PREEMPTED)
    removed = tuple(case.state.registrations)
    return Transition(case.counted(registrations={}, reservation=None), Rule.CLEARED, told, removed)


# Preempting


def _preempt(case: _Case) -> Transition:
    case.verify_key()
    key = case.request.service_action_reservation_key
    reservation = case.state.reservation
    victims = case.matching(key)
    takes_over = False
    if reservation is not None and reservation.holder is not None:
        if not key:
            case.refuse(Rule.ZERO_KEY, SERVICE_ACTION_KEY_FIELD)
        takes_over = key == case.state.reservation_key
    elif not key:
        if reservation is None:
            case.refuse(Rule.ZERO_KEY_UNRESERVED)
        takes_over = True
        victims = list(case.state.registrations)
    if not victims:
        case.refuse(Rule.KEY_UNKNOWN)
    return _take_over(case, victims) if takes_over else _remove(case, victims)


def _take_over(case: _Case, victims: list[Nexus]) -> Transition:
    """Replaces the reservation; the issuer stays registered.

    Source: SPC4r37 5.13.11.2.4.3
    """
    wanted = case.new_reservation()
    before = case.state.reservation
    assert before is not None
    removed = tuple(nexus for nexus in victims if nexus != case.nexus)
    registrations, _ = _without(case.state, removed)
    told = case.others(removed, AttentionCode.REGISTRATIONS_PREEMPTED)
    if wanted.type is not before.type:
        told += case.others(registrations, AttentionCode.RESERVATIONS_RELEASED)
    after = case.counted(registrations=registrations, reservation=wanted)
    return Transition(after, Rule.PREEMPTED, told + _aborts(case, victims), removed)


def _remove(case: _Case, victims: list[Nexus]) -> Transition:
    """Removes registrations, the issuer's own too when it has the key.

    Source: SPC4r37 5.13.11.2.5
    """
    registrations, reservation = _without(case.state, victims)
    told = case.others(victims, AttentionCode.REGISTRATIONS_PREEMPTED)
    after = case.counted(registrations=registrations, reservation=reservation)
    return Transition(after, Rule.REGISTRATIONS_REMOVED, told + _aborts(case, victims), tuple(victims))


def _aborts(case: _Case, victims: Iterable[Nexus]) -> tuple[Consequence, ...]:
    if case.request.action is not OutAction.PREEMPT_AND_ABORT:
        return ()
    return tuple(TasksAborted(nexus) for nexus in victims)


# Moving and replacing


def _register_and_move(case: _Case) -> Transition:
    state, nexus, request, _ = case
    case.verify_key()
    if state.reservation is None:
        case.refuse(Rule.NOTHING_TO_MOVE)
    if state.reservation.holder is None:
        case.refuse(Rule.ALL_REGISTRANTS_HOLD)
    if state.reservation.holder != nexus:
        case.refuse(Rule.NOT_HOLDER)
    if not request.service_action_reservation_key:
        case.refuse(Rule.MOVE_TO_NO_KEY, SERVICE_ACTION_KEY_FIELD)
    destination = request.destination
    assert destination is not None
    if destination.initiator_port == nexus.initiator_port:
        case.refuse(Rule.MOVE_TO_SELF, TRANSPORT_ID_FIELD)
    registrations = {**state.registrations, destination: request.service_action_reservation_key}
    if request.unregister:
        del registrations[nexus]
    if len(registrations) > MAX_REGISTRATIONS:
        case.refuse(Rule.TABLE_FULL)
    moved = Reservation(state.reservation.type, destination, request.cause)
    after = case.counted(registrations=registrations, reservation=moved, aptpl=request.aptpl)
    return Transition(after, Rule.MOVED, removed=(nexus,) if request.unregister else ())


def _replace_lost(case: _Case) -> Transition:
    state, nexus, request, _ = case
    if not state.lost:
        case.refuse(Rule.NOTHING_LOST)
    if request.reservation_key:
        case.refuse(Rule.REPLACEMENT_KEY, RESERVATION_KEY_FIELD)
    if not request.service_action_reservation_key:
        case.refuse(Rule.REPLACEMENT_KEY, SERVICE_ACTION_KEY_FIELD)
    after = Reservations(
        registrations={nexus: request.service_action_reservation_key},
        reservation=case.new_reservation(),
        aptpl=request.aptpl,
    )
    return Transition(after, Rule.REPLACED)


_TRANSITIONS: Mapping[OutAction, Callable[[_Case], Transition]] = {
    OutAction.REGISTER: _register,
    OutAction.RESERVE: _reserve,
    OutAction.RELEASE: _release,
    OutAction.CLEAR: _clear,
    OutAction.PREEMPT: _preempt,
    OutAction.PREEMPT_AND_ABORT: _preempt,
    OutAction.REGISTER_AND_IGNORE_EXISTING_KEY: _register_and_ignore,
    OutAction.REGISTER_AND_MOVE: _register_and_move,
    OutAction.REPLACE_LOST_RESERVATION: _replace_lost,
}


# The operator


def overrule(state: Reservations, request: Request) -> Transition:
    """Returns what CLEAR, PREEMPT or PREEMPT AND ABORT of an operator leads to, who needs no key.

    An operator holds nothing: a reservation whose holder is preempted is released. Every nexus is told as if another
    one had sent the command. CLEAR also ends the condition of lost reservations.

    raises    ConflictByRule when no nexus is registered with the key
    Source: SPC4r37 5.13.11.2
    """
    case = _Case(state, request.cause.nexus, request, STRICT)
    if request.action is OutAction.CLEAR:
        told = case.others(state.registrations, AttentionCode.RESERVATIONS_PREEMPTED)
        after = case.counted(registrations={}, reservation=None, lost=False)
        return Transition(after, Rule.CLEARED, told, tuple(state.registrations))
    victims = case.matching(request.service_action_reservation_key)
    if not victims:
        case.refuse(Rule.KEY_UNKNOWN)
    removal = _remove(case, victims)
    before = state.reservation
    if before is None or removal.state.reservation is not None or not before.type.registrants_only:
        return removal
    released = case.others(removal.state.registrations, AttentionCode.RESERVATIONS_RELEASED)
    return removal._replace(consequences=released + removal.consequences)
