"""The rules of reservations: what they say, and what is raised because of one."""

import pytest

from iscsi_target.scsi.reservations.rules import (
    CONFLICT,
    GOOD,
    IN_CDB,
    IN_LIST,
    INVALID_RELEASE,
    LIST_LENGTH,
    LOST,
    NO_REGISTRATION_RESOURCES,
    NO_RESERVATION_RESOURCES,
    TARGET_FAILURE,
    ConflictByRule,
    RefusedByRule,
    Rule,
    refusal,
    rule_of,
)
from iscsi_target.scsi.status import Busy, InvalidTaskAttribute, Sense, SenseKey, Status
from iscsi_target.wire.layout import FieldPointer
from tests.tidy.rules import Module, clauses_have_the_agreed_form

FIELD = FieldPointer(8, 7)


@pytest.mark.parametrize("rule", Rule)
def test_a_rule_is_a_statement_with_a_clause(rule):
    assert rule.text == rule.text.strip()
    assert len(rule.text.split()) > 2
    assert not rule.text.endswith(".")
    mark = Module("test_x.py", f'@pytest.mark.clause("{rule.clause}")\ndef test_x():\n    pass\n')
    assert list(clauses_have_the_agreed_form(mark)) == []


def test_no_two_rules_are_the_same():
    # An enumeration makes one member of two whose values are equal
    assert list(Rule.__members__) == [rule.name for rule in Rule]
    assert len({rule.text for rule in Rule}) == len(Rule)


@pytest.mark.parametrize("rule", Rule)
def test_a_rule_answers_with_a_conflict_a_condition_or_not_at_all(rule):
    answer = rule.answer
    assert answer.status in (Status.GOOD, Status.RESERVATION_CONFLICT, Status.CHECK_CONDITION)
    has_sense = answer.status is Status.CHECK_CONDITION
    assert (answer.key is not SenseKey.NO_SENSE) == (answer.code != 0) == has_sense


@pytest.mark.parametrize(
    "answer, text",
    [
        (GOOD, "GOOD"),
        (CONFLICT, "RESERVATION CONFLICT"),
        (LIST_LENGTH, "5/1A/00"),
        (IN_CDB, "5/24/00"),
        (IN_LIST, "5/26/00"),
        (INVALID_RELEASE, "5/26/04"),
        (NO_RESERVATION_RESOURCES, "5/55/02"),
        (NO_REGISTRATION_RESOURCES, "5/55/04"),
        (TARGET_FAILURE, "4/44/00"),
        (LOST, "7/44/01"),
    ],
)
def test_an_answer_is_written_as_in_the_tables_of_cases(answer, text):
    assert str(answer) == text


@pytest.mark.clause("SAM5r21 5.3.1")
def test_a_conflict_has_no_sense_data():
    error = refusal(Rule.NOT_REGISTERED, CONFLICT, FIELD)
    assert isinstance(error, ConflictByRule)
    assert error.status is Status.RESERVATION_CONFLICT
    assert rule_of(error) is Rule.NOT_REGISTERED


@pytest.mark.clause("SPC4r37 4.5.2.4.2")
@pytest.mark.parametrize(
    "rule, answer, sense",
    [
        (Rule.TYPE_INVALID, IN_CDB, Sense(SenseKey.ILLEGAL_REQUEST, 0x2400, field=FIELD, in_cdb=True)),
        (Rule.TYPE_INVALID, IN_LIST, Sense(SenseKey.ILLEGAL_REQUEST, 0x2600, in_cdb=False)),
        (Rule.ZERO_KEY, IN_LIST, Sense(SenseKey.ILLEGAL_REQUEST, 0x2600, field=FIELD, in_cdb=False)),
        (Rule.ZERO_KEY, IN_CDB, Sense(SenseKey.ILLEGAL_REQUEST, 0x2400, in_cdb=True)),
        (Rule.APTPL_NOT_ALLOWED, IN_LIST, Sense(SenseKey.ILLEGAL_REQUEST, 0x2600, field=FIELD, in_cdb=False)),
    ],
)
def test_an_invalid_field_is_pointed_at_only_where_it_is(rule, answer, sense):
    error = refusal(rule, answer, FIELD)
    assert isinstance(error, RefusedByRule)
    assert (error.status, error.sense) == (Status.CHECK_CONDITION, sense)
    assert rule_of(error) is rule


@pytest.mark.parametrize("answer", [IN_CDB, IN_LIST])
def test_an_invalid_field_that_nobody_knows_is_not_pointed_at(answer):
    error = refusal(Rule.NOTHING_TO_MOVE, answer)
    assert isinstance(error, RefusedByRule)
    assert (error.sense.key, error.sense.code, error.sense.field) == (answer.key, answer.code, None)


@pytest.mark.parametrize(
    "answer",
    [LIST_LENGTH, INVALID_RELEASE, NO_RESERVATION_RESOURCES, NO_REGISTRATION_RESOURCES, TARGET_FAILURE, LOST],
)
def test_what_is_no_invalid_field_is_not_pointed_at(answer):
    error = refusal(Rule.TABLE_FULL, answer, FIELD)
    assert isinstance(error, RefusedByRule)
    assert (error.sense.key, error.sense.code, error.sense.field) == (answer.key, answer.code, None)


def test_nobody_is_refused_with_good():
    with pytest.raises(AssertionError):
        refusal(Rule.RESERVED, GOOD)


def test_what_no_rule_ended_has_none():
    assert rule_of(Busy()) is None
    assert rule_of(InvalidTaskAttribute()) is None
