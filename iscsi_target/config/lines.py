"""Finds the line of a TOML file on which a key stands, which tomllib does not tell.

It looks at table headers and at keys in front of an equals sign. What stands inside an inline table or array is on the
line of the key that holds it, or later; a remedy needs no more than that.
"""

import json
import re
import tomllib
from collections import Counter

BARE = re.compile(r"[A-Za-z0-9_-]+")
HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?")
# Possessive, or else a long word without an equals sign costs exponential time.
ASSIGNMENT = re.compile(r"\s*+((?:[A-Za-z0-9_-]++|\"[^\"]*+\"|'[^']*+'|\s*+\.\s*+)++)\s*+=")

Key = tuple[str | int, ...]


def line_of(text: str, key: Key) -> int:
    """Returns the line, from 1, of a key or else of the nearest table that would hold it; 0 when there is none."""
    lines = _lines(text)
    for length in range(len(key), 0, -1):
        if key[:length] in lines:
            return lines[key[:length]]
    return 0


def dotted(key: Key) -> str:
    """Writes a key for a person: targets[0].luns.5; positions in arrays count from 0 as in most tools."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{_quoted(part)}" for part in key).removeprefix(".")


def _lines(text: str) -> dict[Key, int]:
    found: dict[Key, int] = {}
    table: Key = ()
    entries: Counter[Key] = Counter()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := HEADER.fullmatch(line):
            table = _parts(header[2])
            if header[1] == "[[":
                entries[table] += 1
            if entries[table[:1]]:
                table = (*table[:1], entries[table[:1]] - 1, *table[1:])
            for length in range(1, len(table) + 1):  # [a.b] makes a, too
                found.setdefault(table[:length], number)
        elif assignment := ASSIGNMENT.match(line):
            found.setdefault(table + _parts(assignment[1]), number)
    return found


def _quoted(part: str) -> str:
    return part if BARE.fullmatch(part) else json.dumps(part, ensure_ascii=False)


def _parts(written: str) -> Key:
    """Splits a key as TOML does."""
    try:
        value: object = tomllib.loads(f"{written} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    parts: list[str] = []
    while isinstance(value, dict):
        part, value = next(iter(value.items()))
        parts.append(str(part))
    return tuple(parts)
