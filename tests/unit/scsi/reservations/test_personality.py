"""What a personality is asked and says; the real ones are in `test_personalities`."""

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.reservations.personality import (
    NOTICES,
    SHARED_TYPES,
    SINGLE_TYPES,
    STRICT,
    Audience,
    Event,
    InAction,
    Notice,
    OutAction,
    Quirk,
    ReservationType,
)
from iscsi_target.scsi.reservations.rules import CONFLICT, GOOD, IN_CDB, IN_LIST, RefusedByRule, Rule, rule_of
from iscsi_target.scsi.status import ReservationConflict
from iscsi_target.wire.layout import FieldPointer

OTHER = STRICT._replace(
    answers={Rule.ZERO_KEY: IN_CDB, (Rule.ZERO_KEY, OutAction.PREEMPT): CONFLICT, Rule.KEY_UNKNOWN: GOOD},
    quirks=frozenset({Quirk.KEYS_WHOLE}),
    notices={Event.CLEARED: Notice(Audience.EVERYBODY, AttentionCode.RESERVATIONS_RELEASED)},
)


def test_answer_for_one_service_action_goes_before_the_answer_to_the_rule():
    assert OTHER.answer(Rule.ZERO_KEY, OutAction.PREEMPT) == CONFLICT
    assert OTHER.answer(Rule.ZERO_KEY, OutAction.PREEMPT_AND_ABORT) == IN_CDB
    assert OTHER.answer(Rule.ZERO_KEY) == IN_CDB
    assert OTHER.answer(Rule.KEY_MISMATCH, OutAction.PREEMPT) == CONFLICT


@pytest.mark.parametrize("rule", Rule)
def test_strict_answers_as_the_rule_says(rule):
    assert all(STRICT.answer(rule, action) == rule.answer for action in (None, *OutAction, *InAction))


def test_refusal_is_raised_with_the_rule_and_the_field_that_its_answer_points_to():
    conflict = OTHER.refusal(Rule.ZERO_KEY, OutAction.PREEMPT, FieldPointer(8, 7))
    assert isinstance(conflict, ReservationConflict)
    assert rule_of(conflict) is Rule.ZERO_KEY
    in_cdb = OTHER.refusal(Rule.ZERO_KEY, field=FieldPointer(8, 7))
    assert isinstance(in_cdb, RefusedByRule)
    assert (in_cdb.sense.code, in_cdb.sense.field) == (IN_CDB.code, None)  # the CDB has no such byte
    in_list = STRICT.refusal(Rule.ZERO_KEY, field=FieldPointer(8, 7))
    assert isinstance(in_list, RefusedByRule)
    assert (in_list.sense.code, in_list.sense.field, in_list.sense.in_cdb) == (IN_LIST.code, FieldPointer(8, 7), False)


def test_quirks_are_had_or_not():
    assert OTHER.has(Quirk.KEYS_WHOLE)
    assert not OTHER.has(Quirk.KEYS_RECOUNTED)
    assert not any(map(STRICT.has, Quirk))


def test_every_quirk_and_event_says_something_of_its_own():
    assert len(Quirk.__members__) == len(set(Quirk)) == len({quirk.value for quirk in Quirk})
    assert all(quirk.value[0].islower() and not quirk.value.endswith(".") for quirk in Quirk)
    assert len(Event.__members__) == len(set(Event))


@pytest.mark.clause("SPC4r37 5.13.11.2")
def test_event_is_told_as_the_standard_says_unless_the_personality_says_otherwise():
    assert set(NOTICES) == set(Event)
    assert OTHER.notice(Event.CLEARED).audience is Audience.EVERYBODY
    assert OTHER.notice(Event.RELEASED) == NOTICES[Event.RELEASED]
    assert all(STRICT.notice(event).audience is Audience.CONCERNED for event in Event)


def test_types_are_single_or_shared():
    assert set(ReservationType) == SINGLE_TYPES | SHARED_TYPES
    assert {ReservationType.WRITE_EXCLUSIVE, ReservationType.EXCLUSIVE_ACCESS} == SINGLE_TYPES
    assert all(kind.registrants_only or kind.all_registrants for kind in SHARED_TYPES)


@pytest.mark.clause("SPC4r37 6.15.4")
def test_replace_lost_reservation_is_a_capability():
    assert STRICT.replaces_lost
    assert not STRICT._replace(out_actions=frozenset({OutAction.REGISTER})).replaces_lost


def test_types_and_actions_are_written_as_people_write_them():
    assert str(OutAction.REGISTER_AND_MOVE) == "REGISTER AND MOVE"
    assert str(InAction.READ_FULL_STATUS) == "READ FULL STATUS"
    assert str(ReservationType.WRITE_EXCLUSIVE) == "Write Exclusive"
    assert str(ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY) == "Exclusive Access, registrants only"
    assert str(ReservationType.WRITE_EXCLUSIVE_ALL_REGISTRANTS) == "Write Exclusive, all registrants"
