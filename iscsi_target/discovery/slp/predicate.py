"""The filters of requests: LDAPv3 search filters that are held against the attributes of a service.

    (&(iscsi-name=iqn.2026-11.org.example*)(portal-group<=2)(!(alias=spare)))

What is compared with a number is compared as one where both are; text without case and superfluous spaces, so values of
attributes come here folded. A comparison is true when it is for any of the values, and false for an attribute that is
not there.

Source: RFC2608 8.1; RFC 2254 4
"""

import re
from dataclasses import dataclass
from typing import Final, Protocol

from iscsi_target.discovery.slp.strings import Attributes, StringError, folded, matches, unescaped

MAX_DEPTH: Final = 16
MAX_TERMS: Final = 64

_COMPARISON: Final = re.compile(r"([^()=<>~!&|*\\]+?)\s*(~=|>=|<=|=)([^()]*)", re.DOTALL)
_NUMBER: Final = re.compile(r"-?\d{1,10}", re.ASCII)


class Predicate(Protocol):
    """A filter, or a part of one."""

    def holds(self, attributes: Attributes) -> bool:
        """Says whether attributes fit."""


@dataclass(frozen=True, slots=True)
class All:
    """Holds when all of its terms do; without any, always."""

    terms: tuple[Predicate, ...] = ()

    def holds(self, attributes: Attributes) -> bool:
        """Says whether attributes fit."""
        return all(term.holds(attributes) for term in self.terms)


@dataclass(frozen=True, slots=True)
class Some:
    """Holds when one of its terms does."""

    terms: tuple[Predicate, ...]

    def holds(self, attributes: Attributes) -> bool:
        """Says whether attributes fit."""
        return any(term.holds(attributes) for term in self.terms)


@dataclass(frozen=True, slots=True)
class Not:
    """Holds when its term does not."""

    term: Predicate

    def holds(self, attributes: Attributes) -> bool:
        """Says whether attributes fit."""
        return not self.term.holds(attributes)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Holds when a value of an attribute compares as it says.

    pattern    what stands between the wildcards, unescaped and folded; one part when there is no wildcard
    """

    tag: str
    operator: str
    pattern: tuple[str, ...]

    def holds(self, attributes: Attributes) -> bool:
        """Says whether attributes fit."""
        return any(self._fits(value) for value in attributes.get(self.tag, ()))

    def _fits(self, value: str) -> bool:
        if self.operator == ">=":
            return _in_order(self.pattern[0], value)
        if self.operator == "<=":
            return _in_order(value, self.pattern[0])
        return matches(value, self.pattern)


def parse(text: str) -> Predicate:
    """Returns a filter; that of an empty text fits everything.

    raises    StringError when the text is no filter, or one that is too deep or too long
    """
    if not text.strip():
        return All()
    parser = _Parser(text)
    found = parser.filter(0)
    parser.end()
    return found


def _in_order(low: str, high: str) -> bool:
    """Says whether the first is not more than the second: as numbers where both are some, else as texts."""
    if _NUMBER.fullmatch(low) and _NUMBER.fullmatch(high):
        return int(low) <= int(high)
    return low <= high


class _Parser:
    """Reads a filter from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._terms = 0

    def filter(self, depth: int) -> Predicate:
        """Reads one filter with its parentheses."""
        self._terms += 1
        if depth > MAX_DEPTH or self._terms > MAX_TERMS:
            raise StringError(f"a filter deeper than {MAX_DEPTH}, or of more than {MAX_TERMS} terms")
        self._take("(")
        kind = self._peek()
        if kind in ("&", "|", "!"):
            self._at += 1
        found: Predicate
        match kind:
            case "&":
                found = All(self._several(depth))
            case "|":
                found = Some(self._several(depth))
            case "!":
                found = Not(self.filter(depth + 1))
            case _:
                found = self._comparison()
        self._take(")")
        return found

    def end(self) -> None:
        """Makes sure that nothing follows."""
        if self._peek():
            raise StringError(f"something follows a filter: {self._text[self._at :][:20]!r}")

    def _several(self, depth: int) -> tuple[Predicate, ...]:
        found = [self.filter(depth + 1)]
        while self._peek() == "(":
            found.append(self.filter(depth + 1))
        return tuple(found)

    def _comparison(self) -> Comparison:
        match = _COMPARISON.match(self._text, self._at)
        if match is None:
            raise StringError(f"no comparison at {self._text[self._at :][:20]!r}")
        self._at = match.end()
        tag, operator, value = match.groups()
        parts = value.split("*")
        if operator in (">=", "<=") and len(parts) > 1:
            raise StringError("a wildcard in an order comparison")
        return Comparison(folded(tag), operator, tuple(folded(unescaped(part)) for part in parts))

    def _peek(self) -> str:
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1
        return self._text[self._at : self._at + 1]

    def _take(self, expected: str) -> None:
        if self._peek() != expected:
            raise StringError(f"{expected!r} is missing at {self._text[self._at :][:20]!r}")
        self._at += 1
