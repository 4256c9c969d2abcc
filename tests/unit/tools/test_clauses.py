"""The conformance table, and a collection of it from a small test file."""

from pathlib import Path

import pytest

from tools import clauses
from tools.clauses import Row, table


def test_clauses_stand_in_the_order_of_their_numbers() -> None:
    rows = [Row("RFC7143 11.10", "t::c"), Row("RFC7143 11.8", "t::b"), Row("RFC7143 4.2", "t::a")]
    assert table(rows).splitlines()[2:] == [
        "| RFC7143 4.2 | `t::a` |",
        "| RFC7143 11.8 | `t::b` |",
        "| RFC7143 11.10 | `t::c` |",
    ]


def test_a_clause_stands_once_for_all_its_tests() -> None:
    rows = [Row("SPC4r37 6.6", "t::b"), Row("SPC4r37 6.6", "t::a")]
    assert table(rows).splitlines()[2:] == ["| SPC4r37 6.6 | `t::a` |", "|  | `t::b` |"]


def test_parameters_of_a_test_are_one_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nmarkers = clause(text): the clause\nasyncio_default_fixture_loop_scope = function\n"
    )
    (tmp_path / "test_small.py").write_text(
        "import pytest\n"
        "@pytest.mark.clause('SPC4r37 6.6')\n@pytest.mark.parametrize('n', [1, 2])\ndef test_a(n): ...\n"
        "def test_b(): ...\n"
    )
    assert (
        clauses.main(
            ["-p", "no:randomly", "--rootdir", str(tmp_path), "-c", str(tmp_path / "pytest.ini"), str(tmp_path)]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "| SPC4r37 6.6 | `test_small.py::test_a` |" in printed
    assert "1 clauses, 1 tests of 3 collected" in printed
