"""Reads `[[faults]]`: rules by which the target misbehaves from the start."""

from pydantic import Field

from iscsi_target.config.tables import Document, Mistake, Table
from iscsi_target.config.values import FaultEntry
from iscsi_target.faults.grammar import parse
from iscsi_target.faults.reading import RuleError
from iscsi_target.faults.rulebook import BookError, Rulebook

KEY = "faults"


class FaultTable(Table):
    """`[[faults]]`."""

    rule: str = Field(min_length=1)
    name: str = Field(default="", min_length=1)


def faults(document: Document) -> tuple[FaultEntry, ...]:
    """Returns the rules that are right, in their order; what is wrong with the others is in document.mistakes."""
    book = Rulebook()
    entries = []
    for index, table in document.listed(FaultTable, KEY).items():
        try:
            rule = parse(table.rule)
            book.add(rule, table.name)
        except RuleError as error:
            what = f"is wrong: {error.where} {error.what}"
            document.mistakes.append(Mistake((KEY, index, "rule"), what, error.remedy))
        except BookError as error:
            document.mistakes.append(Mistake((KEY, index, "name"), f"cannot be: {error.what}", error.remedy))
        else:
            entries.append(FaultEntry(rule, table.name))
    return tuple(entries)
