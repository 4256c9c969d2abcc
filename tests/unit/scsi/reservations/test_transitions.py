"""The transitions of persistent reservations beyond the cases of `tests/conformance/reservations`.

A holds the reservation, B and C are registered too, D is not; B2 is B through another target port.
"""

from types import MappingProxyType

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.nexus import OPERATOR, InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import STRICT, OutAction, ReservationType
from iscsi_target.scsi.reservations.reservation_request import (
    AllegiancesCleared,
    Request,
    TasksAborted,
    Told,
    Transition,
)
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations
from iscsi_target.scsi.reservations.rules import RefusedByRule, Rule, rule_of
from iscsi_target.scsi.reservations.transitions import GENERATIONS, MAX_REGISTRATIONS, apply, overrule
from iscsi_target.scsi.status import SenseKey, Status, StatusError
from iscsi_target.wire.layout import FieldPointer

PORT, OTHER_PORT = (TargetPort("iqn.2026-01.org.example:p", tag) for tag in (1, 2))
A, B, C, D = (Nexus(InitiatorPort(f"iqn.2026-01.org.example:{name}", bytes(6)), PORT) for name in "abcd")
B2 = Nexus(B.initiator_port, OTHER_PORT)
KEY_A, KEY_B, KEY_C, NEW, UNKNOWN = 0xA, 0xB, 0xC, 0xD, 0xE
KEYS = {A: KEY_A, B: KEY_B, C: KEY_C}

WE, EA = ReservationType.WRITE_EXCLUSIVE, ReservationType.EXCLUSIVE_ACCESS
WERO = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
EARO = ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY
WEAR = ReservationType.WRITE_EXCLUSIVE_ALL_REGISTRANTS
EAAR = ReservationType.EXCLUSIVE_ACCESS_ALL_REGISTRANTS

REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, IGNORE, MOVE, REPLACE = OutAction
PREEMPTS = (PREEMPT, PREEMPT_AND_ABORT)
COUNTING = (REGISTER, IGNORE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, MOVE)

CLEARED = AttentionCode.RESERVATIONS_PREEMPTED
RELEASED = AttentionCode.RESERVATIONS_RELEASED
REMOVED = AttentionCode.REGISTRATIONS_PREEMPTED

MADE = Cause("PERSISTENT RESERVE OUT, RESERVE", A, 1.0)
NOW = Cause("PERSISTENT RESERVE OUT", B, 2.0)
ORDERED = Cause("PERSISTENT RESERVE OUT", OPERATOR, 2.0)


def reserved(kind=None, keys=KEYS, **changes):
    """The registrations, which nothing may change in place, and the reservation of A."""
    holder = None if kind is None or kind.all_registrants else A
    reservation = None if kind is None else Reservation(kind, holder, MADE)
    return Reservations(MappingProxyType(dict(keys)), reservation, generation=5)._replace(**changes)


def request(action, key=0, new=0, **fields):
    return Request(action, NOW, key, new, **fields)


def of(state, nexus, action, **fields):
    """A request of a registrant with its own key that can succeed."""
    new = {PREEMPT: KEY_C, PREEMPT_AND_ABORT: KEY_C, REGISTER: NEW, IGNORE: NEW, MOVE: NEW}.get(action, 0)
    values = {"key": state.registrations[nexus], "new": new, "type": WE, "destination": D} | fields
    return apply(state, nexus, request(action, **values), STRICT)


def refused(state, nexus, wanted):
    """What refuses a request: the rule, and the field that sense data points at."""
    with pytest.raises(StatusError) as raised:
        apply(state, nexus, wanted, STRICT)
    rule = rule_of(raised.value)
    assert rule is not None
    assert rule.answer.status is raised.value.status
    return rule, raised.value.sense.field if isinstance(raised.value, RefusedByRule) else None


# PRGENERATION


@pytest.mark.clause("SPC4r37 6.15.2")
@pytest.mark.parametrize("action", COUNTING)
def test_the_generation_moves_by_one_and_wraps(action):
    assert of(reserved(WE), A, action).state.generation == 6
    assert of(reserved(WE, generation=GENERATIONS - 2), A, action).state.generation == GENERATIONS - 1
    assert of(reserved(WE, generation=GENERATIONS - 1), A, action).state.generation == 0


@pytest.mark.clause("SPC4r37 6.15.2")
@pytest.mark.parametrize("kind", [None, WE])
@pytest.mark.parametrize("action", [RESERVE, RELEASE])
def test_reserving_and_releasing_do_not_count(action, kind):
    assert of(reserved(kind), A, action).state.generation == 5


@pytest.mark.clause("SPC4r37 6.15.2")
@pytest.mark.parametrize("action", [REGISTER, IGNORE])
def test_unregistering_counts_once_however_many_ports_it_concerns(action):
    state = reserved(WE, KEYS | {B2: KEY_B})
    after = of(state, B, action, new=0, siblings=(B2,))
    assert (after.state.generation, after.removed) == (6, (B, B2))


# APTPL


@pytest.mark.clause("SPC4r37 5.13.5.1")
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("aptpl", [False, True])
@pytest.mark.parametrize("action", [REGISTER, IGNORE, MOVE])
def test_the_last_who_registers_decides_whether_the_state_is_kept(action, aptpl, before):
    state = reserved(WE, aptpl=before)
    assert of(state, A, action, aptpl=aptpl).state.aptpl is aptpl


@pytest.mark.clause("SPC4r37 5.13.5.1")
@pytest.mark.parametrize("aptpl", [False, True])
@pytest.mark.parametrize("action", [REGISTER, IGNORE])
def test_unregistering_decides_too(action, aptpl):
    state = reserved(WE, aptpl=not aptpl)
    assert of(state, B, action, new=0, aptpl=aptpl).state.aptpl is aptpl
    assert apply(state, D, request(action, aptpl=aptpl), STRICT).state == state._replace(generation=6)  # a stranger


@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("action", [RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT])
def test_other_service_actions_leave_aptpl_as_it_is(action, before):
    state = reserved(WE, aptpl=before)
    assert of(state, A, action, aptpl=not before).state.aptpl is before


# Registering


@pytest.mark.clause("SPC4r37 6.16.3")
def test_listed_ports_are_registered_all_or_none_when_the_table_is_full():
    keys = {A._replace(initiator_port=InitiatorPort(f"x{n}", bytes(6))): 1 for n in range(MAX_REGISTRATIONS - 2)}
    state = reserved(None, keys)
    assert refused(state, B, request(REGISTER, 0, NEW, spec_i_pt=True, listed=(C, D))) == (Rule.TABLE_FULL, None)
    assert refused(state, B, request(REGISTER, 0, NEW, siblings=(B2,), listed=(C,))) == (Rule.TABLE_FULL, None)
    after = apply(state, B, request(REGISTER, 0, NEW, spec_i_pt=True, listed=(C,)), STRICT)
    assert after.state.registrations == {**keys, B: NEW, C: NEW}


@pytest.mark.clause("SPC4r37 6.15.2")
def test_read_keys_can_tell_every_key():
    assert 8 + 8 * MAX_REGISTRATIONS <= 0xFFFF < 8 + 8 * (MAX_REGISTRATIONS + 1)


@pytest.mark.clause("SPC4r37 5.13.7")
def test_registering_keeps_the_order_of_registrations():
    after = apply(reserved(None, {A: KEY_A, C: KEY_C}), B, request(REGISTER, 0, NEW, siblings=(B2,)), STRICT)
    assert list(after.state.registrations.items()) == [(A, KEY_A), (C, KEY_C), (B, NEW), (B2, NEW)]
    again = apply(after.state, A, request(REGISTER, KEY_A, UNKNOWN), STRICT)
    assert list(again.state.registrations) == [A, C, B, B2]


@pytest.mark.parametrize("action", [REGISTER, IGNORE])
def test_the_rule_of_a_registration_says_what_became_of_it(action):
    state = reserved(WE)
    assert of(state, B, action).rule is Rule.KEY_CHANGED
    assert of(state, B, action, new=0).rule is Rule.UNREGISTERED
    assert apply(state, D, request(action, 0, NEW), STRICT).rule is Rule.REGISTERED
    nothing = apply(state, D, request(action), STRICT)
    assert nothing == Transition(state._replace(generation=6), Rule.NOT_REGISTERED_BEFORE)


@pytest.mark.clause("SPC4r37 5.13.7")
def test_registering_is_refused_with_the_rule_that_refuses_it():
    state = reserved(WE)
    assert refused(state, D, request(REGISTER, KEY_A, NEW)) == (Rule.KEY_NOT_ZERO, None)
    assert refused(state, B, request(REGISTER, KEY_A, NEW)) == (Rule.KEY_MISMATCH, None)
    assert refused(state, B, request(REGISTER, KEY_B, NEW, spec_i_pt=True)) == (
        Rule.REGISTERED_SPEC_I_PT,
        FieldPointer(20, 3),
    )
    assert refused(state, D, request(REGISTER, 0, NEW, spec_i_pt=True, listed=(C,))) == (
        Rule.LISTED_PORT_REGISTERED,
        FieldPointer(24, 7),
    )


@pytest.mark.clause("SPC4r37 5.13.11.2.3")
@pytest.mark.parametrize("kind", ReservationType)
def test_unregistering_through_all_ports_releases_what_a_sibling_holds(kind):
    holder = None if kind.all_registrants else B2
    state = reserved(kind, {A: KEY_A, B: KEY_B, B2: KEY_B}, reservation=Reservation(kind, holder, MADE))
    after = apply(state, B, request(IGNORE, siblings=(B2,)), STRICT)
    assert after.state.registrations == {A: KEY_A}
    assert (after.state.reservation is None) == (not kind.all_registrants)
    assert after.consequences == ((Told(A, RELEASED),) if kind.registrants_only else ())


# Reserving and releasing


@pytest.mark.clause("SPC4r37 6.15.3")
@pytest.mark.parametrize("action", [RESERVE, PREEMPT, PREEMPT_AND_ABORT])
def test_a_reservation_of_no_scope_or_type_is_pointed_at_in_the_cdb(action):
    state = reserved(None if action is RESERVE else WE)
    wrong_type = request(action, KEY_B, KEY_A, type=2)
    assert refused(state, B, wrong_type) == (Rule.TYPE_INVALID, FieldPointer(2, 3))
    assert refused(state, B, wrong_type._replace(scope=1)) == (Rule.SCOPE_INVALID, FieldPointer(2, 7))


def test_a_reservation_remembers_the_command_that_made_it():
    assert of(reserved(), B, RESERVE).state.reservation == Reservation(WE, B, NOW)
    assert of(reserved(WE), A, RESERVE).state.reservation == Reservation(WE, A, MADE)
    assert of(reserved(WE), B, PREEMPT, new=KEY_A, type=EAAR).state.reservation == Reservation(EAAR, None, NOW)
    assert of(reserved(WE), A, MOVE).state.reservation == Reservation(WE, D, NOW)


@pytest.mark.clause("SPC4r37 5.13.11.2.2")
def test_the_rule_of_a_release_says_why_nothing_was_released():
    assert of(reserved(), A, RELEASE).rule is Rule.NOTHING_TO_RELEASE
    assert of(reserved(WE), B, RELEASE).rule is Rule.NOT_HELD
    assert of(reserved(WE), A, RELEASE).rule is Rule.RELEASED
    assert refused(reserved(WE), A, request(RELEASE, KEY_A, type=EA)) == (Rule.RELEASE_MISMATCH, None)


@pytest.mark.clause("SPC4r37 7.5.8")
@pytest.mark.parametrize("kind", ReservationType)
def test_nuar_silences_a_release_only(kind):
    told = (Told(B, RELEASED), Told(C, RELEASED))
    shared = kind.registrants_only or kind.all_registrants
    assert of(reserved(kind), A, RELEASE, type=kind).consequences == (told if shared else ())
    assert of(reserved(kind), A, RELEASE, type=kind, no_attention_on_release=True).consequences == ()
    unregistered = of(reserved(kind), A, REGISTER, new=0, no_attention_on_release=True)
    assert unregistered.consequences == (told if kind.registrants_only else ())


@pytest.mark.parametrize("action", [RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, MOVE])
@pytest.mark.clause("SPC4r37 5.13.7")
def test_only_who_registers_needs_no_registration(action):
    state = reserved(WE)
    assert refused(state, D, request(action, KEY_A, KEY_B, destination=C)) == (Rule.NOT_REGISTERED, None)
    assert refused(state, B, request(action, KEY_A, KEY_B, destination=C)) == (Rule.KEY_MISMATCH, None)


# Preempting


@pytest.mark.clause("SPC4r37 5.13.11.2.6")
@pytest.mark.parametrize("action", PREEMPTS)
def test_a_preempt_tells_who_lost_the_registration_then_the_release_and_aborts_last(action):
    state = reserved(WERO, {A: KEY_A, C: KEY_A, B: KEY_B, D: KEY_C})
    after = of(state, B, action, new=KEY_A, type=EA)
    told = (Told(A, REMOVED), Told(C, REMOVED), Told(D, RELEASED))
    aborted = (TasksAborted(A), TasksAborted(C))
    assert after.consequences == told + (aborted if action is PREEMPT_AND_ABORT else ())
    assert (after.rule, after.removed) == (Rule.PREEMPTED, (A, C))
    assert after.state == Reservations({B: KEY_B, D: KEY_C}, Reservation(EA, B, NOW), 6)


@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_who_preempts_its_own_key_has_its_other_tasks_aborted_and_stays_when_it_takes_over():
    state = reserved(WERO, {A: KEY_A, B: KEY_A, C: KEY_C})
    after = of(state, B, PREEMPT_AND_ABORT, new=KEY_A, type=WERO)
    assert after.consequences == (Told(A, REMOVED), TasksAborted(A), TasksAborted(B))
    assert after.removed == (A,)
    assert after.state == Reservations({B: KEY_A, C: KEY_C}, Reservation(WERO, B, NOW), 6)


@pytest.mark.clause("SPC4r37 5.13.11.2.5")
@pytest.mark.parametrize("kind", [None, *ReservationType])
def test_who_preempts_its_own_key_and_takes_nothing_over_is_not_registered_any_more(kind):
    after = of(reserved(kind), B, PREEMPT, new=KEY_B, type=15, scope=15)
    assert (after.rule, after.removed, after.consequences) == (Rule.REGISTRATIONS_REMOVED, (B,), ())
    assert after.state == reserved(kind, {A: KEY_A, C: KEY_C}, generation=6)


@pytest.mark.clause("SPC4r37 5.13.11.2.4.1")
@pytest.mark.parametrize("action", PREEMPTS)
def test_a_preempt_is_refused_with_the_rule_that_refuses_it(action):
    for kind in (None, *ReservationType):
        assert refused(reserved(kind), B, request(action, KEY_B, UNKNOWN, type=WE)) == (Rule.KEY_UNKNOWN, None)
    assert refused(reserved(), B, request(action, KEY_B)) == (Rule.ZERO_KEY_UNRESERVED, None)
    for kind in (WE, EA, WERO, EARO):
        assert refused(reserved(kind), B, request(action, KEY_B)) == (Rule.ZERO_KEY, FieldPointer(8, 7))


@pytest.mark.clause("SPC4r37 5.13.11.2.4.3")
@pytest.mark.parametrize("kind", [WEAR, EAAR])
def test_the_key_zero_preempts_every_registrant_but_the_issuer(kind):
    after = of(reserved(kind), B, PREEMPT_AND_ABORT, new=0, type=kind)
    assert after.consequences == (
        Told(A, REMOVED),
        Told(C, REMOVED),
        TasksAborted(A),
        TasksAborted(B),
        TasksAborted(C),
        AllegiancesCleared(),
    )
    assert (after.rule, after.removed) == (Rule.PREEMPTED, (A, C))
    assert after.state == Reservations({B: KEY_B}, Reservation(kind, None, NOW), 6)


# Moving


@pytest.mark.clause("SPC4r37 5.13.8")
@pytest.mark.parametrize("unregister", [False, True])
@pytest.mark.parametrize("to", [B, B2, D])
@pytest.mark.parametrize("kind", [WE, EA, WERO, EARO])
def test_a_move_registers_the_new_holder_and_tells_nobody(kind, to, unregister):
    after = of(reserved(kind), A, MOVE, destination=to, unregister=unregister)
    kept = {B: KEY_B, C: KEY_C} if unregister else KEYS
    assert after.state == Reservations({**kept, to: NEW}, Reservation(kind, to, NOW), 6)
    assert (after.rule, after.consequences) == (Rule.MOVED, ())
    assert after.removed == ((A,) if unregister else ())


@pytest.mark.clause("SPC4r37 5.13.8")
def test_a_move_is_refused_with_the_rule_that_refuses_it():
    move = request(MOVE, KEY_A, NEW, destination=D)
    assert refused(reserved(), A, move) == (Rule.NOTHING_TO_MOVE, None)
    for kind in (WEAR, EAAR):
        assert refused(reserved(kind), A, move) == (Rule.ALL_REGISTRANTS_HOLD, None)
    state = reserved(WE)
    assert refused(state, B, move._replace(reservation_key=KEY_B)) == (Rule.NOT_HOLDER, None)
    no_key = move._replace(service_action_reservation_key=0)
    assert refused(state, A, no_key) == (Rule.MOVE_TO_NO_KEY, FieldPointer(8, 7))
    for port in (PORT, OTHER_PORT):
        to_self = move._replace(destination=A._replace(target_port=port))
        assert refused(state, A, to_self) == (Rule.MOVE_TO_SELF, FieldPointer(24, 7))


@pytest.mark.clause("SPC4r37 5.13.8")
def test_a_move_to_an_unregistered_nexus_needs_room_unless_the_holder_goes():
    others = {A._replace(initiator_port=InitiatorPort(f"x{n}", bytes(6))): 1 for n in range(MAX_REGISTRATIONS - 3)}
    state = reserved(WE, KEYS | others)
    move = request(MOVE, KEY_A, NEW, destination=D)
    assert refused(state, A, move) == (Rule.TABLE_FULL, None)
    assert len(apply(state, A, move._replace(unregister=True), STRICT).state.registrations) == MAX_REGISTRATIONS
    assert apply(state, A, move._replace(destination=B), STRICT).state.registrations[B] == NEW


# Lost and replaced


@pytest.mark.clause("SPC4r37 5.13.5.3.2")
@pytest.mark.parametrize("action", [action for action in OutAction if action is not REPLACE])
def test_while_reservations_are_lost_nothing_but_a_replacement_is_done(action):
    with pytest.raises(RefusedByRule) as raised:
        apply(Reservations(lost=True), A, request(action, 0, NEW, type=WE, destination=B), STRICT)
    assert raised.value.rule is Rule.INFORMATION_LOST
    assert (raised.value.sense.key, raised.value.sense.code) == (SenseKey.DATA_PROTECT, 0x4401)


@pytest.mark.clause("SPC4r37 5.13.11.3")
@pytest.mark.parametrize("aptpl", [False, True])
@pytest.mark.parametrize("kind", ReservationType)
def test_a_replacement_begins_anew(kind, aptpl):
    state = Reservations(lost=True, generation=9)
    after = apply(state, D, request(REPLACE, 0, NEW, type=kind, aptpl=aptpl), STRICT)
    holder = None if kind.all_registrants else D
    assert after == Transition(Reservations({D: NEW}, Reservation(kind, holder, NOW), aptpl=aptpl), Rule.REPLACED)


@pytest.mark.clause("SPC4r37 5.13.11.3")
def test_a_replacement_is_refused_with_the_rule_that_refuses_it():
    lost = Reservations(lost=True)
    wanted = request(REPLACE, 0, NEW, type=WE)
    for state in (Reservations(), reserved(), reserved(WE)):
        assert refused(state, A, wanted) == (Rule.NOTHING_LOST, None)
    assert refused(lost, A, wanted._replace(reservation_key=1)) == (Rule.REPLACEMENT_KEY, FieldPointer(0, 7))
    no_key = wanted._replace(service_action_reservation_key=0)
    assert refused(lost, A, no_key) == (Rule.REPLACEMENT_KEY, FieldPointer(8, 7))
    assert refused(lost, A, wanted._replace(type=0)) == (Rule.TYPE_INVALID, FieldPointer(2, 3))
    assert refused(lost, A, wanted._replace(scope=1)) == (Rule.SCOPE_INVALID, FieldPointer(2, 7))


# The operator


def order(action, key=0):
    return Request(action, ORDERED, service_action_reservation_key=key)


@pytest.mark.clause("SPC4r37 5.13.11.2.7")
@pytest.mark.parametrize("aptpl", [False, True])
@pytest.mark.parametrize("kind", [None, *ReservationType])
def test_an_operator_clears_and_every_registrant_is_told(kind, aptpl):
    after = overrule(reserved(kind, aptpl=aptpl), order(CLEAR))
    assert after.state == Reservations(generation=6, aptpl=aptpl)
    assert after.consequences == (Told(A, CLEARED), Told(B, CLEARED), Told(C, CLEARED))
    assert (after.rule, after.removed) == (Rule.CLEARED, (A, B, C))


@pytest.mark.parametrize("state", [Reservations(), Reservations(lost=True)])
def test_an_operator_clears_what_is_lost_or_empty(state):
    assert overrule(state, order(CLEAR)) == Transition(Reservations(generation=1), Rule.CLEARED)


@pytest.mark.parametrize("action", PREEMPTS)
@pytest.mark.parametrize("kind", [None, *ReservationType])
def test_an_operator_removes_a_registrant_and_the_reservation_stays(kind, action):
    after = overrule(reserved(kind), order(action, KEY_B))
    assert after.state == reserved(kind, {A: KEY_A, C: KEY_C}, generation=6)
    aborted = (TasksAborted(B),) if action is PREEMPT_AND_ABORT else ()
    assert after.consequences == (Told(B, REMOVED), *aborted)
    assert (after.rule, after.removed) == (Rule.REGISTRATIONS_REMOVED, (B,))


@pytest.mark.clause("SPC4r37 5.13.10")
@pytest.mark.parametrize("action", PREEMPTS)
@pytest.mark.parametrize("kind", ReservationType)
def test_an_operator_that_removes_the_holder_releases_the_reservation(kind, action):
    after = overrule(reserved(kind), order(action, KEY_A))
    kept = {B: KEY_B, C: KEY_C}
    assert after.state == (reserved(kind, kept, generation=6) if kind.all_registrants else Reservations(kept, None, 6))
    released = {Told(B, RELEASED), Told(C, RELEASED)} if kind.registrants_only else set()
    aborted = {TasksAborted(A)} if action is PREEMPT_AND_ABORT else set()
    assert set(after.consequences) == released | {Told(A, REMOVED)} | aborted
    assert len(after.consequences) == len(set(after.consequences))
    assert action is PREEMPT or after.consequences[-1] == TasksAborted(A)
    assert after.removed == (A,)


@pytest.mark.parametrize("kind", [WEAR, EAAR])
def test_an_operator_that_removes_the_last_registrant_releases_what_all_hold(kind):
    after = overrule(reserved(kind, {A: KEY_A}), order(PREEMPT, KEY_A))
    assert after.state == Reservations(generation=6)
    assert after.consequences == (Told(A, REMOVED),)


@pytest.mark.parametrize("action", PREEMPTS)
@pytest.mark.parametrize("state", [Reservations(), reserved(), reserved(WE), reserved(WEAR), Reservations(lost=True)])
def test_an_operator_removes_nobody_with_a_key_that_nobody_has(state, action):
    for key in (UNKNOWN, 0):
        with pytest.raises(StatusError) as raised:
            overrule(state, order(action, key))
        assert (raised.value.status, rule_of(raised.value)) == (Status.RESERVATION_CONFLICT, Rule.KEY_UNKNOWN)


@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("keys, key", [({B2: KEY_C}, 0), ({B: KEY_B, B2: KEY_C}, KEY_B)])
def test_all_tg_pt_does_not_take_over_a_registration_with_another_key(keys, key):
    state = reserved(None, keys)
    for new in (NEW, 0):
        assert refused(state, B, request(REGISTER, key, new, siblings=(B2,))) == (Rule.KEY_MISMATCH, None)
    after = apply(state, B, request(IGNORE, key, NEW, siblings=(B2,)), STRICT)
    assert dict(after.state.registrations) == {B: NEW, B2: NEW}
