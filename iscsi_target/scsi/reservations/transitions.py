"""The transitions of persistent reservations: a state and a request lead to the next state and its consequences.

Pure functions. `apply` raises for what is refused before anything is made, so what is refused has no effect. The
consequences are values, which the logical unit turns into unit attentions and aborted tasks. Keys and types are checked
here; where the bytes come from is the business of `persistent_reserve_out`.

What the standard leaves open, and what `strict` does, by case of `tests/conformance/reservations`:

- RG-02, RG-05: REGISTER without a key from a nexus that is not registered does nothing (tables 67 and 68), its APTPL
  included, or a stranger's clean-up would end everybody's persistence; but it is a successful REGISTER and counts:
  6.15.2 names the service actions that count and makes no exception.
- RG-27: ALL_TG_PT on a nexus that is registered through one port only applies the key to every port, as if the request
  came through each of them (6.16.3), so a registration through another port with another key conflicts; that a port
  without a registration would want the key zero is left out, because no request could be GOOD then.
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
- PV-30, UA-01, PE-23, PE-26: what a reservation forbids by tables 65 and 66 is found before the parameter list is read
  and before unit attentions other than those of resets and lost nexuses are reported (SAM5r21 5.3.3).
- RM-20: a reservation may be moved to a nexus that has no session.
- AP-08: when the stored state cannot be read, nothing is known, and all but the commands of 5.13.5.2 are refused.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, NoReturn, assert_never

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.reservations.personality import (
    STRICT,
    Audience,
    Event,
    OutAction,
    Personality,
    Quirk,
    ReservationType,
)
from iscsi_target.scsi.reservations.reservation_request import (
    AllegiancesCleared,
    Consequence,
    Request,
    TasksAborted,
    Told,
    ToldAll,
    Transition,
)
from iscsi_target.scsi.reservations.reservations import LU_SCOPE, Reservation, Reservations
from iscsi_target.scsi.reservations.rules import Rule
from iscsi_target.wire.layout import FieldPointer

MAX_REGISTRATIONS = 8190  # of one unit: as many as READ KEYS can tell; some 2 MiB of memory and of the state file
GENERATIONS = 1 << 32  # PRGENERATION wraps; SPC4r37 6.15.2
TYPES = frozenset(ReservationType)
# The service actions that a nexus may use without being registered. Source: SPC4r37 5.13.5.3.2, 5.13.7
OPEN_TO_STRANGERS = (
    OutAction.REGISTER,
    OutAction.REGISTER_AND_IGNORE_EXISTING_KEY,
    OutAction.REPLACE_LOST_RESERVATION,
)


def apply(state: Reservations, nexus: Nexus, request: Request, personality: Personality) -> Transition:
    """Returns what a service action of PERSISTENT RESERVE OUT leads to.

    nexus          which it came from
    personality    what is answered where targets differ
    raises         StatusError with a rule when it is refused; nothing has changed then
    Source: SPC4r37 5.13.7 to 5.13.11
    """
    case = _Case(state, nexus, request, personality)
    _verify_sender(case)
    return _TRANSITIONS[request.action](case)


def verify_sender(state: Reservations, nexus: Nexus, request: Request, personality: Personality) -> None:
    """Checks whether a nexus may use a service action with its reservation key; REGISTER is checked by `apply` alone.

    request   at least the action and the reservation key
    raises    StatusError as `apply`
    Source: SPC4r37 5.13.7, 5.13.8 table 70, 6.16.3
    """
    _verify_sender(_Case(state, nexus, request, personality))


def _verify_sender(case: "_Case") -> None:
    if case.state.lost and case.request.action is not OutAction.REPLACE_LOST_RESERVATION:
        case.refuse(Rule.INFORMATION_LOST)
    if case.request.action is OutAction.RELEASE:
        _verify_release(case)
    elif case.request.action not in OPEN_TO_STRANGERS:
        case.verify_key()


class _Case(NamedTuple):
    """A request in the state that it meets."""

    state: Reservations
    nexus: Nexus
    request: Request
    personality: Personality

    def refuse(self, rule: Rule, field: FieldPointer | None = None) -> NoReturn:
        raise self.personality.refusal(rule, self.request.action, field)

    def mind(self, rule: Rule, field: FieldPointer | None = None) -> None:
        self.personality.mind(rule, self.request.action, field)

    def has(self, quirk: Quirk) -> bool:
        return self.personality.has(quirk)

    @property
    def siblings(self) -> tuple[Nexus, ...]:
        """The nexuses that ALL_TG_PT adds."""
        registers = self.nexus not in self.state.registrations and self.request.service_action_reservation_key
        return () if self.has(Quirk.REGISTERED_ALONE) and not registers else self.request.siblings

    def verify_registration(self) -> None:
        """Raises unless the nexus is registered."""
        if self.nexus not in self.state.registrations:
            self.refuse(Rule.NOT_REGISTERED)

    def verify_key(self) -> None:
        """Raises unless the nexus is registered with the reservation key of the request."""
        self.verify_registration()
        if self.state.registrations[self.nexus] != self.request.reservation_key:
            self.mind(Rule.KEY_MISMATCH)

    def new_reservation(self) -> Reservation:
        """Returns the reservation that the request asks for; raises for a scope or type that there is not."""
        if self.request.scope != LU_SCOPE:
            self.refuse(Rule.SCOPE_INVALID, SCOPE_FIELD)
        if self.request.type not in TYPES:
            self.refuse(Rule.TYPE_INVALID, TYPE_FIELD)
        kind = ReservationType(self.request.type)
        return Reservation(kind, None if kind.all_registrants else self.nexus, self.request.cause)

    def counted(self, by: int = 1, **changes: object) -> Reservations:
        """Returns the state with changes and the next PRGENERATION."""
        generation = (self.state.generation + by) % GENERATIONS
        return self.state._replace(generation=generation, **changes)  # type: ignore[arg-type]  # fields of Reservations

    def matching(self, key: int) -> list[Nexus]:
        return [nexus for nexus, registered in self.state.registrations.items() if registered == key]

    def others(self, registrations: Iterable[Nexus], code: AttentionCode) -> tuple[Told, ...]:
        """Returns what tells every one of these nexuses but the issuer."""
        return tuple(Told(nexus, code) for nexus in registrations if nexus != self.nexus)

    def notify(self, event: Event, concerned: Iterable[Nexus]) -> tuple[Told | ToldAll, ...]:
        """Returns what tells an event to those whom it concerns, or to whomever the personality tells it."""
        audience, code, types = self.personality.notice(event)
        before = self.state.reservation
        if types is not None and (before is None or before.type not in types):
            return ()
        match audience:
            case Audience.NOBODY:
                return ()
            case Audience.CONCERNED:
                return self.others(concerned, code)
            case Audience.OTHERS:
                return (ToldAll(code, self.nexus),)
            case Audience.EVERYBODY:
                return (ToldAll(code, None),)
            case _:
                assert_never(audience)


SCOPE_FIELD = FieldPointer(2, 7)
TYPE_FIELD = FieldPointer(2, 3)
RESERVATION_KEY_FIELD = FieldPointer(0, 7)
SERVICE_ACTION_KEY_FIELD = FieldPointer(8, 7)
FLAGS_FIELD = FieldPointer(20, 3)
ALL_TG_PT_FIELD = FieldPointer(20, 2)
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


def _made_with(state: Reservations) -> int | None:
    """Returns the key of the nexus that holds the reservation or, for all registrants, that made it."""
    return None if state.creator is None else state.registrations.get(state.creator)


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
        if any(state.registrations.get(each) != state.registrations[nexus] for each in case.siblings):
            case.mind(Rule.ALL_TG_PT_CHANGED, ALL_TG_PT_FIELD)
    if any(state.registrations.get(each) not in (None, request.reservation_key) for each in case.siblings):
        case.refuse(Rule.KEY_MISMATCH)
    return _register_and_ignore(case)


def _register_and_ignore(case: _Case) -> Transition:
    if not case.request.service_action_reservation_key:
        return _unregister(case)
    state, nexus, request, _ = case
    listed = request.listed
    if case.has(Quirk.LISTED_SKIPPED):
        listed = tuple(each for each in listed if each not in state.registrations)
    elif any(each in state.registrations for each in listed) and not case.has(Quirk.LISTED_OVERWRITTEN):
        case.refuse(Rule.LISTED_PORT_REGISTERED, TRANSPORT_ID_FIELD)
    key = request.service_action_reservation_key
    registrations = {**state.registrations, **dict.fromkeys((nexus, *case.siblings, *listed), key)}
    if len(registrations) > MAX_REGISTRATIONS:
        case.refuse(Rule.TABLE_FULL)
    rule = Rule.KEY_CHANGED if nexus in state.registrations else Rule.REGISTERED
    made = len(registrations) - len(state.registrations) if case.has(Quirk.EACH_REGISTRATION_COUNTED) else 1
    return Transition(case.counted(max(made, 1), registrations=registrations, aptpl=request.aptpl), rule)


def _unregister(case: _Case) -> Transition:
    state, nexus, request, _ = case
    removed = tuple(each for each in (nexus, *case.siblings) if each in state.registrations)
    registrations, reservation = _without(state, removed)
    released = state.reservation is not None and reservation is None
    by = _unregistering_count(case, removed=bool(removed), released=released)
    if not removed:
        return Transition(case.counted(by), Rule.NOT_REGISTERED_BEFORE)
    after = case.counted(by, registrations=registrations, reservation=reservation, aptpl=request.aptpl)
    told = case.notify(Event.HOLDER_UNREGISTERED, registrations) if released else ()
    return Transition(after, Rule.UNREGISTERED, told, removed)


def _unregistering_count(case: _Case, *, removed: bool, released: bool) -> int:
    if case.has(Quirk.UNREGISTERING_NOT_COUNTED if removed else Quirk.NOTHING_NOT_COUNTED):
        return 0
    return 2 if released and case.has(Quirk.RELEASE_BY_UNREGISTERING_COUNTED) else 1


# Reserving, releasing, clearing


def _reserve(case: _Case) -> Transition:
    state, nexus, request, _ = case
    wanted = case.new_reservation()
    if state.reservation is None:
        return Transition(state._replace(reservation=wanted), Rule.RESERVED)
    if not state.holds(nexus):
        case.refuse(Rule.RESERVED_BY_ANOTHER)
    if state.reservation.type != request.type:
        case.refuse(Rule.HELD_DIFFERENTLY)
    return Transition(state, Rule.RESERVED_BEFORE)


def _release(case: _Case) -> Transition:
    state, nexus, request, _ = case
    if state.reservation is None:
        return Transition(state, Rule.NOTHING_TO_RELEASE)
    if not state.holds(nexus):
        return Transition(state, Rule.NOT_HELD)
    kind = state.reservation.type
    if request.scope != LU_SCOPE and case.has(Quirk.SCOPE_ALWAYS_CHECKED):
        case.refuse(Rule.SCOPE_INVALID, SCOPE_FIELD)
    if request.scope != LU_SCOPE or request.type != kind:
        case.refuse(Rule.RELEASE_MISMATCH)
    if kind.all_registrants and len(state.registrations) > 1 and case.has(Quirk.ALL_REGISTRANTS_KEPT):
        return Transition(state, Rule.NOT_HELD)
    told = () if request.no_attention_on_release else case.notify(Event.RELEASED, state.registrations)
    return Transition(state._replace(reservation=None), Rule.RELEASED, told)


def _verify_release(case: _Case) -> None:
    case.verify_registration()
    if case.has(Quirk.RELEASE_BY_RESERVATION_KEY):
        if case.state.reservation is not None and case.request.reservation_key != _made_with(case.state):
            case.refuse(Rule.KEY_MISMATCH)
    elif case.state.holds(case.nexus) or not case.has(Quirk.ONLY_HOLDER_VERIFIED):
        case.verify_key()


def _clear(case: _Case) -> Transition:
    removed = tuple(case.state.registrations)
    told = case.notify(Event.CLEARED, removed)
    by = len(removed) if case.has(Quirk.EACH_REMOVAL_COUNTED) else 1
    aptpl = case.state.aptpl and not case.has(Quirk.APTPL_ENDED_BY_CLEAR)
    after = case.counted(by, registrations={}, reservation=None, aptpl=aptpl)
    return Transition(after, Rule.CLEARED, told, removed)


# Preempting


def _preempt(case: _Case) -> Transition:
    key = case.request.service_action_reservation_key
    reservation = case.state.reservation
    victims = case.matching(key)
    takes_over = False
    if case.has(Quirk.PREEMPT_TYPE_CHECKED):
        case.new_reservation()
    if reservation is not None and reservation.holder is not None:
        if not key:
            case.refuse(Rule.ZERO_KEY, SERVICE_ACTION_KEY_FIELD)
        takes_over = key == case.state.reservation_key
    elif not key:
        if reservation is None:
            case.mind(Rule.ZERO_KEY_UNRESERVED)
            return Transition(case.counted(), Rule.ZERO_KEY_UNRESERVED)
        takes_over = True
        victims = list(case.state.registrations)
    elif case.has(Quirk.CREATOR_HOLDS):
        takes_over = key == _made_with(case.state)
    if not victims:
        case.mind(Rule.KEY_UNKNOWN)
        return Transition(case.counted(), Rule.KEY_UNKNOWN)
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
    told = case.notify(Event.RENEWED if before.holder == case.nexus else Event.TAKEN_OVER, removed)
    if wanted.type is not before.type:
        told += case.notify(Event.TYPE_CHANGED, registrations)
    after = case.counted(_removal_count(case, removed), registrations=registrations, reservation=wanted)
    return Transition(after, Rule.PREEMPTED, told + _aborts(case, victims), removed)


def _remove(case: _Case, victims: list[Nexus]) -> Transition:
    """Removes registrations, the issuer's own too when it has the key.

    Source: SPC4r37 5.13.11.2.5
    """
    before = case.state.reservation
    if before is None:
        kept = case.has(Quirk.OWN_KEY_KEPT)
    elif before.holder is None:
        kept = case.has(Quirk.OWN_KEY_KEPT) or case.has(Quirk.OWN_KEY_KEPT_BY_HOLDERS)
    else:
        kept = case.has(Quirk.OWN_KEY_KEPT_UNDER_ANOTHER)
    removed = tuple(nexus for nexus in victims if nexus != case.nexus or not kept)
    registrations, reservation = _without(case.state, removed)
    told = case.notify(Event.REMOVED, removed)
    after = case.counted(_removal_count(case, removed), registrations=registrations, reservation=reservation)
    return Transition(after, Rule.REGISTRATIONS_REMOVED, told + _aborts(case, victims), removed)


def _removal_count(case: _Case, removed: tuple[Nexus, ...]) -> int:
    return len(removed) + 1 if case.has(Quirk.EACH_REMOVAL_COUNTED) else 1


def _aborts(case: _Case, victims: Iterable[Nexus]) -> tuple[Consequence, ...]:
    """Returns what the tasks of victims are to suffer.

    Source: SPC4r37 5.13.11.2.6
    """
    if case.request.action is not OutAction.PREEMPT_AND_ABORT:
        return ()
    aborted = tuple(TasksAborted(nexus) for nexus in victims)
    of_all_registrants = not case.request.service_action_reservation_key
    return (*aborted, AllegiancesCleared()) if of_all_registrants else aborted


# Moving and replacing


def _register_and_move(case: _Case) -> Transition:
    state, nexus, request, _ = case
    if state.reservation is None:
        case.refuse(Rule.NOTHING_TO_MOVE)
    if state.reservation.holder is None:
        case.refuse(Rule.ALL_REGISTRANTS_HOLD)
    if state.reservation.holder != nexus:
        case.mind(Rule.NOT_HOLDER)
        return Transition(state, Rule.NOT_HOLDER)
    if not request.service_action_reservation_key:
        case.refuse(Rule.MOVE_TO_NO_KEY, SERVICE_ACTION_KEY_FIELD)
    destination = request.destination
    assert destination is not None
    elsewhere = destination != nexus and case.has(Quirk.MOVED_BETWEEN_PORTS)
    if destination.initiator_port == nexus.initiator_port and not elsewhere:
        case.mind(Rule.MOVE_TO_SELF, TRANSPORT_ID_FIELD)
    if state.registrations.get(destination) != request.service_action_reservation_key:
        case.mind(Rule.MOVE_TO_UNREGISTERED, TRANSPORT_ID_FIELD)
    registrations = {**state.registrations, destination: request.service_action_reservation_key}
    leaves = request.unregister and destination != nexus
    if leaves:
        del registrations[nexus]
    if len(registrations) > MAX_REGISTRATIONS:
        case.refuse(Rule.TABLE_FULL)
    moved = Reservation(state.reservation.type, destination, request.cause)
    after = case.counted(registrations=registrations, reservation=moved, aptpl=request.aptpl)
    return Transition(after, Rule.MOVED, removed=(nexus,) if leaves else ())


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
