"""Prints the conformance table: which test proves which clause of a standard, and which case of a list of cases.

It is made of the `clause` and `case` marks by collecting the tests, so it cannot fall behind them; a test with several
marks stands in a line for each pair. It says nothing of outcomes: every test passes, or the change does not land.
"""

import io
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from typing import NamedTuple

import pytest

USAGE = """\
usage: tools/matrix [PYTEST ARGS]

Prints which clause of a standard, and which case, is proved by which test, as a Markdown table.
The arguments choose the tests, as in: tools/matrix tests/unit/scsi"""


class Row(NamedTuple):
    """One line of the table.

    clause   revision and clause, as in the mark
    case     of persistent reservations, or a title of the UNH-IOL, as in its mark; empty when the test proves none
    test     path::name, without parameters
    """

    clause: str
    case: str
    test: str


class Collector:
    """A pytest plugin that takes down the marks of what was collected."""

    def __init__(self) -> None:
        self.rows: set[Row] = set()
        self.test_count = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Reads the marks when collection is over."""
        self.test_count = len(session.items)
        for item in session.items:
            test = item.nodeid.partition("[")[0]
            cases = _marked(item, "case") or [""]
            self.rows.update(Row(clause, case, test) for clause in _marked(item, "clause") for case in cases)


def _marked(item: pytest.Item, name: str) -> list[str]:
    return [str(mark.args[0]) for mark in item.iter_markers(name)]


def order(row: Row) -> tuple[str, list[tuple[int, str]], str, str]:
    """Returns what to sort a row by: the standard, then the clause by its numbers, then the case, then the test."""
    standard, _, clause = row.clause.partition(" ")
    numbers = [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"[.\s]+", clause)]
    return standard, numbers, row.case, row.test


def table(rows: Iterable[Row]) -> str:
    """Returns the rows as a Markdown table, in the standards' order; a clause stands once, with its first test."""
    lines = ["| Clause | Case | Test |", "|---|---|---|"]
    previous = ""
    for row in sorted(rows, key=order):
        lines.append(f"| {row.clause if row.clause != previous else ''} | {row.case} | `{row.test}` |")
        previous = row.clause
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `tools/matrix [PYTEST ARGS]` and returns its exit code: 0, or pytest's when collection failed."""
    collector = Collector()
    chosen = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(chosen):
        print(USAGE)
        return 0
    with redirect_stdout(io.StringIO()) as output:
        exit_code = pytest.main(["--collect-only", "--quiet", "-p", "no:cacheprovider", *chosen], plugins=[collector])
    if exit_code != pytest.ExitCode.OK:
        print(output.getvalue(), file=sys.stderr)
        return int(exit_code)
    print(table(collector.rows))
    clauses = {row.clause for row in collector.rows}
    cases = {row.case for row in collector.rows} - {""}
    tests = {row.test for row in collector.rows}
    print(f"\n{len(clauses)} clauses, {len(cases)} cases, {len(tests)} tests of {collector.test_count} collected")
    return 0


if __name__ == "__main__":
    sys.exit(main())
