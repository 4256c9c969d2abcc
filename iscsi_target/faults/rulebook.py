"""The rules that are in force, in their order, and how often each has matched and fired.

Every rule counts the PDUs that it is about. The first one that is due acts; those after it have counted all the same,
so that what a rule does never depends on which others there are, but for the one that acts.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from iscsi_target.faults.rules import Rule, Subject

MAX_RULES = 256  # every PDU is held against each of them
NAME = re.compile(r"[!-~]{1,64}")


class Report(NamedTuple):
    """A rule and what has become of it.

    matched   how many PDUs it was about
    fired     how often it has acted
    """

    name: str
    rule: Rule
    matched: int
    fired: int


class BookError(ValueError):
    """Says why a rule is not added or removed.

    what     what is wrong
    remedy   what to do about it
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what
        self.remedy = remedy


class Armed:
    """A rule in force."""

    def __init__(self, name: str, rule: Rule) -> None:
        self.name = name
        self.rule = rule
        self.matched = 0
        self.fired = 0

    def is_due(self, subject: Subject) -> bool:
        """Counts a PDU that the rule is about, and says whether it is due for this one."""
        if not self.rule.concerns(subject):
            return False
        self.matched += 1
        return self.rule.schedule.is_due(self.matched, self.fired)


class Rulebook:
    """All rules of a target."""

    def __init__(self) -> None:
        self._armed: dict[str, Armed] = {}
        self._numbered = 0

    def __len__(self) -> int:
        return len(self._armed)

    @property
    def reports(self) -> tuple[Report, ...]:
        """The rules, in their order."""
        return tuple(Report(each.name, each.rule, each.matched, each.fired) for each in self._armed.values())

    def add(self, rule: Rule, name: str = "") -> str:
        """Adds a rule after the others and returns its name.

        name     empty for a number that no rule has had
        raises   BookError
        """
        if len(self._armed) >= MAX_RULES:
            raise BookError(f"there are {MAX_RULES} rules already", "remove one of them")
        if name and not NAME.fullmatch(name):
            raise BookError(f"{name!r} is no name of a rule", "write up to 64 characters of ASCII without blanks")
        if name in self._armed:
            raise BookError(f"there is a rule {name!r} already", "remove it, or choose another name")
        while not name or name in self._armed:
            self._numbered += 1
            name = str(self._numbered)
        self._armed[name] = Armed(name, rule)
        return name

    def remove(self, names: Iterable[str]) -> list[Armed]:
        """Removes rules and returns them.

        raises   BookError when one is not there; nothing is removed then
        """
        names = list(dict.fromkeys(names))
        for name in names:
            if name not in self._armed:
                known = ", ".join(self._armed)
                raise BookError(f"there is no rule {name!r}", f"name one of {known}" if known else "there are none")
        return [self._armed.pop(name) for name in names]

    def judge(self, subject: Subject) -> Armed | None:
        """Lets every rule see a PDU and returns the one that acts on it, which has fired now."""
        due = [armed for armed in self._armed.values() if armed.is_due(subject)]
        if not due:
            return None
        due[0].fired += 1
        return due[0]
