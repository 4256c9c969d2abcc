"""Reads the smallest parts of a rule: names, numbers, spans of numbers, and times."""

import re

from iscsi_target.faults.rules import Span

MAX_NUMBER = (1 << 64) - 1  # the largest field
MAX_SECONDS = 3600.0

_NUMBER = re.compile(r"0x[0-9a-f]{1,16}|[0-9][0-9a-f]{0,15}h|[0-9]{1,20}")
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(ms|s|min)")
_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0}


class RuleError(ValueError):
    """Says what is wrong with a rule.

    where    the part of it
    what     what is wrong, a statement about that part
    remedy   what to do, an imperative
    """

    def __init__(self, where: str, what: str, *, remedy: str) -> None:
        super().__init__(f"{where} {what}; {remedy}")
        self.where = where
        self.what = what
        self.remedy = remedy


def unquoted(text: str) -> str:
    """Returns a text without the quotes and blanks around it."""
    return text.strip().strip('"').strip()


def key_of(text: str) -> str:
    """Writes words as a name: small letters, and hyphens between them."""
    return re.sub(r"[\s_-]+", "-", text.strip().lower())


def like(name: str) -> str:
    """Writes the name of a command so that `WRITE(10)`, `write 10` and `Write-10` are one."""
    return re.sub(r"[^A-Z0-9]+", "", name.upper())


def number(where: str, text: str) -> int:
    """Reads a number: decimal, or hexadecimal with 0x before it or h after it.

    raises   RuleError
    """
    plain = text.strip().lower()
    if not _NUMBER.fullmatch(plain):
        raise RuleError(f"{where}={text}", "is no number", remedy="write one such as 42, 0x2a or 2ah")
    found = int(plain.removeprefix("0x").removesuffix("h"), 16 if plain.startswith("0x") or plain.endswith("h") else 10)
    if found > MAX_NUMBER:
        raise RuleError(f"{where}={text}", "is too large for any field", remedy="write at most 64 bits")
    return found


def count(where: str, text: str, most: int) -> int:
    """Reads a number from 1.

    raises   RuleError
    """
    found = number(where, text)
    if not 1 <= found <= most:
        raise RuleError(f"{where}={text}", "counts from 1", remedy=f"write a number of 1 to {most}")
    return found


def span(where: str, text: str) -> Span:
    """Reads a number, or the first and the last of several: 0..7; yes and no are 1 and 0.

    raises   RuleError
    """
    plain = {"yes": "1", "true": "1", "no": "0", "false": "0"}.get(text.strip().lower(), text)
    first, dots, last = plain.partition("..")
    found = Span(number(where, first), number(where, last if dots else first))
    if found.first > found.last:
        raise RuleError(f"{where}={text}", "has its larger number first", remedy="turn it round")
    return found


def seconds(where: str, text: str) -> float:
    """Reads a time.

    raises   RuleError
    """
    found = _TIME.fullmatch(text.strip().lower())
    if found is None:
        raise RuleError(f"{where} {text}".strip(), "has no time", remedy="write one such as 200ms, 2s or 1min")
    wanted = float(found[1]) * _UNITS[found[2]]
    if not 0 < wanted <= MAX_SECONDS:
        raise RuleError(f"{where} {text}", "is out of range", remedy=f"write a time of up to {MAX_SECONDS / 60:.0f}min")
    return wanted
