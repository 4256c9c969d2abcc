"""Every clause of iSCSI and SCSI that the package cites has a test that is marked with it, or with a part of it.

What is cited stands in the rows of the command table and in the `Source:` of docstrings: those of PDUs, keys, mode, log
and VPD pages among them. `tools/matrix` prints which test it is.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from iscsi_target.scsi.commands.table import TABLE
from tests.tidy.marks import marks

ROOT = Path(__file__).parent.parent.parent
CITED = re.compile(r"(?:([A-Z]+\d+(?:r\d+)?) )?(\d+(?:\.\d+)*)")
STANDARDS = ("RFC7143", "RFC7144", "SAM", "SPC", "SBC")


def cited(source: str) -> Iterator[str]:
    """Yields the clauses in what follows `Source:`; the standard is said once for those that follow it."""
    standard = ""
    for part in " ".join(source.split()).split(", "):
        found = CITED.match(part)
        if found:
            standard = found[1] or standard
            if standard.startswith(STANDARDS):
                yield f"{standard} {found[2]}"


def citations(text: str, where: str) -> Iterator[tuple[str, str]]:
    """Yields each clause that a docstring of a module cites, and whose docstring it is."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            docstring = ast.get_docstring(node) or ""
            name = "" if isinstance(node, ast.Module) else node.name
            yield from ((clause, f"{where}:{name}") for clause in cited(docstring.partition("Source: ")[2]))


@cache
def marked() -> frozenset[str]:
    """Returns the clauses that tests are marked with."""
    trees = (ast.parse(path.read_text()) for path in (ROOT / "tests").rglob("test_*.py"))
    return frozenset(clause for tree in trees for clause in marks(tree, "clause"))


def is_proved(clause: str) -> bool:
    return any(mark == clause or mark.startswith(f"{clause}.") for mark in marked())


def test_every_row_of_the_command_table_cites_a_clause_that_a_test_proves():
    missing = {f"{row.name}: {row.row.clause}" for row in TABLE if not is_proved(row.row.clause)}
    assert not missing, "no test is marked with the clause of:\n" + "\n".join(sorted(missing))


def test_every_clause_that_a_docstring_cites_is_proved_by_a_test():
    missing = [
        f"{where} cites {clause}"
        for path in sorted((ROOT / "iscsi_target").rglob("*.py"))
        for clause, where in citations(path.read_text(), path.relative_to(ROOT).as_posix())
        if not is_proved(clause)
    ]
    assert not missing, "mark the test that proves it with the clause, or write it:\n" + "\n".join(missing)


def test_what_is_cited_is_found():
    assert list(cited("SAM5r21 5.1, 8, RFC791 3.1, SPC4r37 7.5.8 (TAS), 6.7.2\n table 185, RFC7143 13.13")) == [
        "SAM5r21 5.1",
        "SAM5r21 8",
        "SPC4r37 7.5.8",
        "SPC4r37 6.7.2",
        "RFC7143 13.13",
    ]
    text = 'def f():\n    """Does.\n\n    Source: SBC3r36 5.24\n    """\n'
    assert list(citations(text, "m.py")) == [("SBC3r36 5.24", "m.py:f")]


def test_a_part_proves_the_whole_but_not_what_only_begins_alike():
    assert "SBC3r36 5.24.2.5" in marked()
    assert is_proved("SBC3r36 5.24.2")
    assert not is_proved("SBC3r36 5.24.2.")
    assert not is_proved("SBC3r36 5.9999")
