"""The texts of SLP: lists with commas, escapes, attribute lists, and when two texts are the same."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

RESERVED: Final = frozenset("(),\\!<=>~;*+") | frozenset(map(chr, range(0x20))) | {"\x7f"}  # RFC2608 5
_ESCAPED: Final = re.compile(r"\\([0-9A-Fa-f]{2})")

Attributes = Mapping[str, tuple[str, ...]]  # a tag and its values


class StringError(ValueError):
    """Says that a text is not of the form that it has to be of."""


def split_list(text: str) -> tuple[str, ...]:
    """Returns the items of a list; none of an empty text.

    Source: RFC2608 4
    """
    return tuple(folded(item) for item in text.split(",") if item.strip())


def folded(text: str) -> str:
    """Returns a text so that those which are the same are equal: no case, and no space but single ones inside.

    Source: RFC2608 6.4
    """
    return " ".join(text.split()).casefold()


def escaped(text: str) -> str:
    """Returns a value as it stands in an attribute list.

    Source: RFC2608 5
    """
    return "".join(f"\\{ord(each):02x}" if each in RESERVED else each for each in text)


def unescaped(text: str) -> str:
    """Returns what an escaped value stands for.

    raises    StringError for a backslash without two hexadecimal digits, or what is not UTF-8
    Source: RFC2608 5
    """
    plain = _ESCAPED.sub("", text)
    if "\\" in plain:
        raise StringError(f"a backslash that escapes nothing: {text!r}")
    parts = _ESCAPED.split(text)
    encoded = b"".join(bytes.fromhex(part) if at % 2 else part.encode() for at, part in enumerate(parts))
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        raise StringError(f"escapes that are not UTF-8: {text!r}") from None


def attribute_list(attributes: Attributes) -> str:
    """Returns attributes as a list.

    Source: RFC2608 5
    """
    return ",".join(f"({tag}={','.join(map(escaped, values))})" for tag, values in attributes.items())


def chosen(attributes: Attributes, tags: Iterable[str]) -> Attributes:
    """Returns the attributes that a list of tags chooses, in which * stands for any letters; all for an empty list.

    tags    folded
    Source: RFC2608 10.4
    """
    patterns = [tuple(tag.split("*")) for tag in tags]
    if not patterns:
        return attributes
    return {tag: values for tag, values in attributes.items() if any(matches(tag, each) for each in patterns)}


def matches(text: str, pattern: tuple[str, ...]) -> bool:
    """Says whether the parts of a pattern, between which anything may be, are what a text is made of.

    Takes time as the product of their lengths at most, whatever the pattern is.
    """
    if len(pattern) == 1:
        return text == pattern[0]
    first, *middle, last = pattern
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def merged(several: Iterable[Attributes]) -> Attributes:
    """Returns the attributes of several services as one, each value once.

    Source: RFC2608 10.4
    """
    found: dict[str, dict[str, None]] = {}
    for attributes in several:
        for tag, values in attributes.items():
            found.setdefault(tag, {}).update(dict.fromkeys(values))
    return {tag: tuple(values) for tag, values in found.items()}
