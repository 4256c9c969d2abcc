"""The conformance table, and a collection of it from a small test file."""

from pathlib import Path

import pytest

from tools import clauses
from tools.clauses import Row, table


def test_clauses_stand_in_the_order_of_their_numbers() -> None:
    rows = [Row("RFC7143 11.10", "", "t::c"), Row("RFC7143 11.8", "", "t::b"), Row("RFC7143 4.2", "", "t::a")]
    assert table(rows).splitlines() == [
        "| Clause | Case | Test |",
        "|---|---|---|",
        "| RFC7143 4.2 |  | `t::a` |",
        "| RFC7143 11.8 |  | `t::b` |",
        "| RFC7143 11.10 |  | `t::c` |",
    ]


def test_a_clause_stands_once_for_all_its_tests() -> None:
    rows = [Row("SPC4r37 6.6", "", "t::b"), Row("SPC4r37 6.6", "", "t::a")]
    assert table(rows).splitlines()[2:] == ["| SPC4r37 6.6 |  | `t::a` |", "|  |  | `t::b` |"]


def test_cases_of_a_clause_stand_in_their_order_after_the_tests_without_one() -> None:
    rows = [Row("SPC4r37 5.13.8", case, f"t::{case}") for case in ("RM-10", "", "RM-02")]
    assert table(rows).splitlines()[2:] == [
        "| SPC4r37 5.13.8 |  | `t::` |",
        "|  | RM-02 | `t::RM-02` |",
        "|  | RM-10 | `t::RM-10` |",
    ]


def collect(file: Path, source: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Prints the table of one test file, whose name nothing else may have."""
    settings = file.with_name("pytest.ini")
    settings.write_text(
        "[pytest]\nmarkers =\n  clause(text): the clause\n  case(id): the case\n"
        "asyncio_default_fixture_loop_scope = function\n"
    )
    file.write_text(f"import pytest\n{source}")
    options = ["-p", "no:randomly", "--rootdir", str(file.parent), "-c", str(settings)]
    assert clauses.main([*options, str(file.parent)]) == 0
    return capsys.readouterr().out


def test_parameters_of_a_test_are_one_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = (
        "@pytest.mark.clause('SPC4r37 6.6')\n@pytest.mark.parametrize('n', [1, 2])\ndef test_a(n): ...\n"
        "def test_b(): ...\n"
    )
    printed = collect(tmp_path / "test_small.py", source, capsys)
    assert "| SPC4r37 6.6 |  | `test_small.py::test_a` |" in printed
    assert "1 clauses, 0 cases, 1 tests of 3 collected" in printed


def test_case_of_a_test_stands_with_its_clause(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = (
        "@pytest.mark.case('PE-04')\n@pytest.mark.clause('SPC4r37 5.13.11.2.4.3')\ndef test_a(): ...\n"
        "@pytest.mark.case('PE-05')\n@pytest.mark.case('PE-06')\n@pytest.mark.clause('SPC4r37 5.13.9')\n"
        "def test_b(): ...\n"
    )
    lines = collect(tmp_path / "test_marked.py", source, capsys).splitlines()
    assert lines[2:5] == [
        "| SPC4r37 5.13.9 | PE-05 | `test_marked.py::test_b` |",
        "|  | PE-06 | `test_marked.py::test_b` |",
        "| SPC4r37 5.13.11.2.4.3 | PE-04 | `test_marked.py::test_a` |",
    ]
    assert lines[-1] == "2 clauses, 3 cases, 2 tests of 2 collected"
