"""Every case of persistent reservations has a test, which is named after it and says its clause."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "tests" / "conformance" / "reservations"

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


class MarkedTest(NamedTuple):
    """A test function that is marked with cases, on itself or on its parameters."""

    where: str
    name: str
    cases: list[str]
    clauses: list[str]


def _marks(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> list[str]:
    return [
        node.args[0].value
        for decorator in function.decorator_list
        for node in ast.walk(decorator)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(f"mark.{name}")
        if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    ]


def marked_tests(source: str, where: str) -> Iterator[MarkedTest]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (cases := _marks(node, "case")):
            yield MarkedTest(f"{where}:{node.lineno}", node.name, cases, _marks(node, "clause"))


@cache
def found() -> tuple[MarkedTest, ...]:
    paths = sorted(FOLDER.glob("test_*.py"))
    return tuple(test for path in paths for test in marked_tests(path.read_text(), path.name))


def is_named_after_its_case(test: MarkedTest) -> bool:
    """True when the name begins with the number of one of its cases and goes on with the rule."""
    starts = [f"test_{case.lower().replace('-', '_')}_" for case in test.cases]
    return any(test.name.startswith(start) and len(test.name) > len(start) for start in starts)


def test_there_are_as_many_cases_as_the_specification_counts():
    assert len(CASES) == 250


def test_every_case_has_a_test():
    missing = set(CASES) - {case for test in found() for case in test.cases}
    assert not missing, f"no test is marked with {', '.join(sorted(missing))}"


def test_no_test_is_marked_with_a_case_that_there_is_not():
    unknown = [f"{test.where}: {case}" for test in found() for case in test.cases if case not in CASES]
    assert not unknown, "\n".join(unknown)


def test_tests_of_cases_are_named_after_them():
    wrong = [f"{test.where}: {test.name} of {test.cases}" for test in found() if not is_named_after_its_case(test)]
    assert not wrong, "\n".join(wrong)


def test_tests_of_cases_say_their_clause():
    wrong = [f"{test.where}: {test.name}" for test in found() if not test.clauses]
    assert not wrong, "no mark `clause`:\n" + "\n".join(wrong)


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
