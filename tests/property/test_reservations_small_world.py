"""A small world of persistent reservations in which everything is tried: every state, every request, every law.

Nodes A, B and C have one nexus each with port P, and there are two keys. A state is its registrations, its reservation
and APTPL: PRGENERATION and what made a reservation are left out of it, as nothing depends on them. Every request is
tried in every state that can be reached, which four requests suffice for, so sequences of any length are covered. Types
and scopes that a service action ignores are tried in every state too, but not in every combination.
"""

from collections.abc import Iterator
from itertools import product

import pytest

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.nexus import OPERATOR, InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import STRICT, OutAction, ReservationType
from iscsi_target.scsi.reservations.reservation_request import Request, TasksAborted, Told, Transition
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations
from iscsi_target.scsi.reservations.rules import RefusedByRule
from iscsi_target.scsi.reservations.transitions import apply, overrule
from iscsi_target.scsi.status import ReservationConflict, StatusError
from tests.property.reservation_laws import (
    CONFLICT,
    GOOD,
    PREEMPTS,
    REGISTERS,
    aborted,
    audience,
    change_is_lawful,
    frozen,
    operator_verdict,
    permits,
    state_is_sound,
    state_survives,
    verdict,
)

P = TargetPort("iqn.2026-01.org.example:disks", 1)
NEXUSES = A, B, C = tuple(Nexus(InitiatorPort(f"iqn.2026-01.org.example:{name}", bytes(6)), P) for name in "abc")
OUTSIDER = Nexus(InitiatorPort("iqn.2026-01.org.example:d", bytes(6)), P)
KEYS = K1, K2 = 0xA1, 0xB2
NO_KEY = 0
TYPES = (*map(int, ReservationType), 0)  # the last one is none
CAUSE, ORDER = Cause("PERSISTENT RESERVE OUT", A, 0.0), Cause("PERSISTENT RESERVE OUT", OPERATOR, 0.0)
DEPTH = 4  # reaches every state, so that the sequences of any length are covered and not only those of this one
STATES = 2 * (1 + 6 * 7 + 12 * 11 + 8 * 15)  # APTPL; then, by how many are registered: keys x reservations

Identity = tuple[object, ...]
Outcome = Transition | StatusError


def identity(state: Reservations) -> Identity:
    """Returns what tells one state from another here."""
    had = state.reservation
    reservation = None if had is None else (had.type, had.holder)
    return frozenset(state.registrations.items()), reservation, state.aptpl, state.lost


def requests(nexus: Nexus) -> Iterator[Request]:
    """Returns every request that a nexus can make."""
    first, second = (other for other in NEXUSES if other != nexus)
    for action, key, new in product(OutAction, (NO_KEY, *KEYS), (NO_KEY, *KEYS)):
        plain = Request(action, CAUSE, key, new)
        if action in REGISTERS:
            yield from (plain._replace(aptpl=aptpl, type=2) for aptpl in (False, True))
            if action is OutAction.REGISTER:
                yield from (plain._replace(spec_i_pt=True, listed=ports) for ports in ((first,), (first, second)))
        elif action is OutAction.REGISTER_AND_MOVE:
            for to, unregister, aptpl in product(NEXUSES, (False, True), (False, True)):
                yield plain._replace(destination=to, unregister=unregister, aptpl=aptpl)
        elif action is OutAction.CLEAR:
            yield plain._replace(scope=15, type=15)
        else:
            yield from (plain._replace(type=kind) for kind in TYPES)
            yield plain._replace(type=1, scope=1)


def orders() -> Iterator[Request]:
    """Returns every order that the operator can give."""
    yield Request(OutAction.CLEAR, ORDER)
    yield from (Request(action, ORDER, 0, key) for action, key in product(sorted(PREEMPTS), (NO_KEY, *KEYS)))


def attempt(state: Reservations, nexus: Nexus, request: Request) -> Outcome:
    """Returns what comes of a request, or the status that it is refused with."""
    try:
        if nexus == OPERATOR:
            return overrule(state, request)
        return apply(state, nexus, request, STRICT)
    except StatusError as error:
        return error


def answer(outcome: Outcome) -> str:
    """Returns an outcome as the laws write it."""
    if isinstance(outcome, Transition):
        return GOOD
    if isinstance(outcome, ReservationConflict):
        return CONFLICT
    assert isinstance(outcome, RefusedByRule)
    sense = outcome.sense
    return f"{sense.key:X}/{sense.code >> 8:02X}/{sense.code & 0xFF:02X}"


def check(state: Reservations, before: Reservations, nexus: Nexus, request: Request) -> Transition | None:
    """Tries a request in a state and checks every law; returns the transition, or None when it was refused.

    before   a copy of the state, which is made once for all that is tried in it
    """
    outcome = attempt(state, nexus, request)
    assert state == before, "a state is never changed in place"
    said = operator_verdict(state, request) if nexus == OPERATOR else verdict(state, nexus, request)
    assert answer(outcome) == said
    if not isinstance(outcome, Transition):
        return None
    after = outcome.state
    change_is_lawful(before, nexus, request, after)
    told: dict[Nexus, frozenset[int]] = {}
    for each in outcome.consequences:
        if isinstance(each, Told):
            told[each.nexus] = told.get(each.nexus, frozenset()) | {int(each.code)}
    assert told == audience(before, nexus, request, after)
    assert set(outcome.removed) == set(before.registrations) - set(after.registrations)
    assert {each.nexus for each in outcome.consequences if isinstance(each, TasksAborted)} == aborted(before, request)
    return outcome


class Exploration:
    """Follows every request from every state that can be reached; every law is checked on the way.

    depths        state -> the fewest requests that lead to it
    tried         how many requests were tried
    carried_out   how many of them were
    """

    def __init__(self, *starts: Reservations) -> None:
        self.depths = {identity(start): 0 for start in starts}
        self.tried, self.carried_out = 0, 0
        self._frontier = list(starts)
        self._requests = [(nexus, request) for nexus in NEXUSES for request in requests(nexus)]
        self._requests += [(OPERATOR, order) for order in orders()]

    def run(self) -> None:
        for state in self._frontier:
            depth, before = self.depths[identity(state)], frozen(state)
            for nexus, request in self._requests:
                self.tried += 1
                transition = check(state, before, nexus, request)
                if transition is not None:
                    self.carried_out += 1
                    self._arrive(transition.state, depth + 1)

    def _arrive(self, state: Reservations, depth: int) -> None:
        found = identity(state)
        if found not in self.depths:
            state_survives(state)
            self.depths[found] = depth
            self._frontier.append(state._replace(generation=len(self.depths)))


def sound_states() -> Iterator[Reservations]:
    """Returns every state that the standard allows in this world, whether or not anything leads to it."""
    for keys, aptpl in product(product((NO_KEY, *KEYS), repeat=3), (False, True)):
        registrations = {nexus: key for nexus, key in zip(NEXUSES, keys, strict=True) if key}
        yield Reservations(registrations, aptpl=aptpl)
        for kind in ReservationType if registrations else ():
            for holder in [None] if kind.all_registrants else registrations:
                yield Reservations(registrations, Reservation(kind, holder, CAUSE), aptpl=aptpl)


def test_every_request_in_every_state_obeys_every_law():
    """Law: all of `reservation_laws`, from nothing registered and from lost reservations, to the end of the world."""
    world = Exploration(Reservations(), Reservations(lost=True))
    world.run()
    allowed = {identity(state) for state in (*sound_states(), Reservations(lost=True))}
    assert set(world.depths) == allowed, "what can be reached is what the standard allows"
    assert len(world.depths) == STATES + 1
    assert max(world.depths.values()) <= DEPTH
    assert world.tried > 500_000
    assert world.tried > 2 * world.carried_out > 100_000


@pytest.mark.parametrize("generation", [0, 1, 0xFFFF_FFFE, 0xFFFF_FFFF])
def test_generation_wraps(generation: int):
    """Law: PRGENERATION is a counter of 32 bits that wraps."""
    state = Reservations({A: K1}, generation=generation)
    check(state, frozen(state), A, Request(OutAction.REGISTER, CAUSE, K1, K2))


def test_table_65_in_every_state():
    """Law: in every state a nexus may read and write exactly where table 65 lets it."""
    checked = 0
    for state, nexus in product(sound_states(), (*NEXUSES, OUTSIDER)):
        state_is_sound(state)
        state_survives(state)
        assert state.permits(nexus, Access.AS_READ) is permits(state, nexus, writes=False)
        assert state.permits(nexus, Access.AS_WRITE) is permits(state, nexus, writes=True)
        assert state.permits(nexus, Access.ALWAYS)
        checked += 1
    assert checked == 4 * STATES
