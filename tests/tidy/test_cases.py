"""Every case of persistent reservations has a test, which is named after it and says its clause.

So has every title of the UNH-IOL's suites; where a test of another folder proves it, its name need not tell.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tests.conformance.unh.titles import TITLES
from tests.tidy.marks import MarkedTest, marked_tests

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "tests" / "conformance"
RESERVATIONS, UNH = FOLDER / "reservations", FOLDER / "unh"

# How many cases a group has, which are numbered from 1
GROUPS = {
    "IN": 22,  # PERSISTENT RESERVE IN
    "PV": 30,  # validation of CDB and parameter list
    "RG": 31,  # registering
    "TI": 23,  # TransportIDs
    "RS": 16,  # reserving
    "RL": 13,  # releasing
    "CL": 8,  # clearing
    "PE": 26,  # preempting
    "PA": 12,  # preempting and aborting
    "RM": 20,  # registering and moving
    "AP": 14,  # power loss
    "NX": 14,  # nexuses, sessions and resets
    "S2": 12,  # SPC-2 reservations
    "UA": 9,  # unit attentions
}
CASES = [f"{group}-{number:02}" for group, count in GROUPS.items() for number in range(1, count + 1)]


@cache
def found(folder: Path) -> tuple[MarkedTest, ...]:
    """Returns the tests of a folder, and of those in it, that are marked with cases."""
    paths = sorted(folder.rglob("test_*.py"))
    return tuple(test for path in paths for test in marked_tests(path.read_text(), path.name))


def is_named_after_its_case(test: MarkedTest) -> bool:
    """True when the name begins with the number of one of its cases and goes on with the rule."""
    starts = [f"test_{case.lower().replace('-', '_').replace('.', '_')}_" for case in test.cases]
    return any(test.name.startswith(start) and len(test.name) > len(start) for start in starts)


def lines(tests: Iterable[MarkedTest]) -> str:
    return "\n".join(f"{test.where}: {test.name} of {', '.join(test.cases)}" for test in tests)


def test_there_are_as_many_cases_and_titles_as_the_specifications_count():
    assert len(CASES) == 250
    assert len([title for title in TITLES if title.startswith("FFP-")]) == 82


def test_every_case_and_every_title_has_a_test():
    missing = {*CASES, *TITLES} - {case for test in found(FOLDER) for case in test.cases}
    assert not missing, f"no test is marked with {', '.join(sorted(missing))}"


def test_no_test_is_marked_with_a_case_that_there_is_not():
    wrong = [test for test in found(FOLDER) if not {*CASES, *TITLES}.issuperset(test.cases)]
    assert not wrong, lines(wrong)


def test_tests_of_cases_are_named_after_them():
    wrong = [test for test in (*found(RESERVATIONS), *found(UNH)) if not is_named_after_its_case(test)]
    assert not wrong, lines(wrong)


def test_tests_of_cases_say_their_clause():
    wrong = [test for test in found(FOLDER) if not test.clauses]
    assert not wrong, "no mark `clause`:\n" + lines(wrong)


def test_marks_on_parameters_are_found_too():
    source = (
        "@pytest.mark.case('RS-01')\n@pytest.mark.clause('SPC4r37 5.13.9')\n"
        "@pytest.mark.parametrize('kind', [pytest.param(1, marks=pytest.mark.case('RS-02'))])\n"
        "def test_rs_01_rule(kind): ...\n"
        "def test_other(): ...\n"
    )
    [test] = marked_tests(source, "t.py")
    assert (test.where, test.name, test.clauses) == ("t.py:4", "test_rs_01_rule", ["SPC4r37 5.13.9"])
    assert sorted(test.cases) == ["RS-01", "RS-02"]
    assert is_named_after_its_case(test)
    assert not is_named_after_its_case(test._replace(name="test_rs_03_rule"))
    assert not is_named_after_its_case(test._replace(name="test_rs_01_"))
    assert is_named_after_its_case(test._replace(name="test_ffp_9_1_rule", cases=["FFP-9.1"]))
