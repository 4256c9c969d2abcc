"""Rules in force together."""

import pytest

from iscsi_target.faults import rulebook
from iscsi_target.faults.grammar import parse
from iscsi_target.faults.rulebook import BookError, Rulebook
from iscsi_target.faults.rules import Subject
from iscsi_target.iscsi.requests import NopOut, TextRequest

PING = Subject(NopOut())


def names(book: Rulebook) -> list[str]:
    return [report.name for report in book.reports]


def test_rules_without_a_name_are_numbered_and_no_number_comes_again():
    book = Rulebook()
    assert [book.add(parse("on in: drop"), name) for name in ("", "slow", "", "4", "", "")] == [
        "1",
        "slow",
        "2",
        "4",
        "3",
        "5",
    ]
    book.remove(["5"])
    assert book.add(parse("on in: drop")) == "6"


def test_the_first_that_is_due_acts_and_all_count():
    book = Rulebook()
    book.add(parse("on nop-out where nth=2: drop"), "second")
    book.add(parse("on in: close"), "all")
    found = [book.judge(PING) for _ in range(3)]
    assert [armed and armed.name for armed in found] == ["all", "second", "all"]
    assert [(report.name, report.matched, report.fired) for report in book.reports] == [
        ("second", 3, 1),
        ("all", 3, 2),
    ]


def test_what_no_rule_is_about_is_not_counted():
    book = Rulebook()
    book.add(parse("on nop-out: drop"))
    assert book.judge(Subject(TextRequest())) is None
    assert book.reports[0].matched == 0


def test_removing_is_all_or_nothing():
    book = Rulebook()
    for name in "abc":
        book.add(parse("on in: drop"), name)
    with pytest.raises(BookError, match="no rule 'x'; name one of a, b, c"):
        book.remove(["a", "x"])
    assert [armed.name for armed in book.remove(["a", "c", "a"])] == ["a", "c"]
    assert names(book) == ["b"]
    assert len(book) == 1


def test_a_name_is_given_once():
    book = Rulebook()
    book.add(parse("on in: drop"), "a")
    with pytest.raises(BookError, match="there is a rule 'a' already"):
        book.add(parse("on in: drop"), "a")


@pytest.mark.parametrize("name", ["a b", "ä", "a" * 65, "\n"])
def test_names_that_are_none(name: str):
    with pytest.raises(BookError, match="is no name of a rule"):
        Rulebook().add(parse("on in: drop"), name)


def test_there_is_a_limit(monkeypatch):
    monkeypatch.setattr(rulebook, "MAX_RULES", 2)
    book = Rulebook()
    for _ in range(2):
        book.add(parse("on in: drop"))
    with pytest.raises(BookError, match="there are 2 rules already"):
        book.add(parse("on in: drop"))
