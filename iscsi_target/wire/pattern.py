"""Patterns: layouts of which most is the same every time, so that only the rest is read or written.

What comes over and over, a command of one kind or its response, differs from the last one in a few fields. A matcher
compares all the others at once with what they are to be, a filler has packed them once. Both are generated as codecs
of layouts are, from the same declarations, and tests/property/test_pattern.py holds them against `unpack` and `pack`.
"""

import struct
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

from iscsi_target.wire.codec import CODES, Codec, Field, words
from iscsi_target.wire.layout import Layout, LayoutError

Fields = TypeVar("Fields")
Arguments = TypeVar("Arguments", bound=Callable[..., bytes])

_MATCHER = """
def _made(_buffer, _offset=0):
    {names} = _load(_buffer, _offset)
    if {same}:
        return {values}
    return None
"""

_FILLER = """
def _made({arguments}):
    try:
        if {checks}:
            return _store({packed})
    except (_error, TypeError):
        pass
    raise _LayoutError(f"a value does not fit its field: {{[{arguments}]!r}}")
"""


def matcher(
    layout: type[Layout], taken: Collection[str], ignored: Collection[str] = (), **fixed: object
) -> Callable[[bytes | bytearray | memoryview, int], Fields | None]:
    """Makes a function (buffer, offset) that returns some fields when the others are what they are to be, or None.

    taken     the fields to return, in the order of the layout; whole bytes each
    ignored   fields that do not matter; whole bytes each
    fixed     what other fields must be, where that is not their default; reserved bits must be zero
    returns   the function; its buffer must have the layout's size after offset; what `Fields` is, is said by whoever
              names the function
    raises    TypeError when a field is not whole bytes, not there or not in its order
    """
    _check_order(layout, taken)
    codec = Codec()
    conditions = []
    for part in _parts(layout, (*taken, *ignored), fixed):
        if isinstance(part, bytes):
            code = CODES.get(len(part), "")
            is_number = len(code) == 1
            conditions.append(f"_w{len(codec.names)} == {int.from_bytes(part) if is_number else part!r}")
            codec.names.append(f"_w{len(codec.names)}")
            codec.format += code if is_number else f"{len(part)}s"
        elif part.name in ignored:
            codec.skip(part.width_bits)
        else:
            codec.add([part])
    scope: dict[str, object] = {"_load": struct.Struct(codec.format).unpack_from}
    source = _MATCHER.format(
        names=_tuple(codec.names), same=" and ".join(conditions) or "True", values=_tuple(codec.values)
    )
    return _made(layout, source, scope)  # type: ignore[return-value]  # as generated


def filler(layout: type[Layout], filled: Collection[str], **fixed: object) -> Callable[..., bytes]:
    """Makes a function that packs a value of which it is given some fields, by position.

    filled    these fields, in the order of the layout; whole bytes each
    fixed     the others, where they are not their default
    returns   the function; it raises LayoutError when a value does not fit its field
    raises    TypeError when a field is not whole bytes, not there or not in its order
    """
    _check_order(layout, filled)
    codec = Codec()
    scope: dict[str, object] = {"_LayoutError": LayoutError, "_error": struct.error, "_len": len}
    for part in _parts(layout, filled, fixed):
        if isinstance(part, bytes):
            scope[f"_k{len(codec.packed)}"] = part
            codec.packed.append(f"_k{len(codec.packed)}")
            codec.format += f"{len(part)}s"
        else:
            codec.add([part])
    scope["_store"] = struct.Struct(codec.format).pack
    source = _FILLER.format(
        arguments=", ".join(filled), checks=" and ".join(codec.checks) or "True", packed=", ".join(codec.packed)
    )
    return _made(layout, source, scope)  # type: ignore[return-value]  # as generated


def _parts(layout: type[Layout], varying: Collection[str], fixed: dict[str, object]) -> Iterator[Field | bytes]:
    """Yields the fields that vary and, between them, the bytes that do not."""
    constant = b""
    template = _template(layout, dict.fromkeys(varying, 0) | fixed)
    for word in words(layout.declared):
        start, width_bits = word[0].offset_bits // 8, sum(field.width_bits for field in word)
        if word[0].name in varying and word[0].aligned:
            if constant:
                yield constant
            constant = b""
            yield word[0]
        elif any(field.name in varying for field in word):
            raise TypeError(f"{layout.__name__}: a field that varies is not whole bytes")
        else:
            constant += template[start : start + width_bits // 8]
    if constant:
        yield constant


def _template(layout: type[Layout], given: dict[str, object]) -> bytes:
    """Packs a value, field by field: a codec takes ten times as long to make, and would be made for this one time."""
    packed = 0
    for field in layout.declared:
        value = 0 if field.reserved else given.get(field.name, field.default)
        number = int.from_bytes(value) if isinstance(value, bytes) else value
        if not isinstance(number, int) or not 0 <= number < 1 << field.width_bits:
            raise TypeError(f"{layout.__name__}: {field.name} cannot be {value!r}")
        packed = packed << field.width_bits | number
    if not given.keys() <= set(layout.fields):
        raise TypeError(f"{layout.__name__} has no {', '.join(given.keys() - set(layout.fields))}")
    return packed.to_bytes(layout.size)


def _check_order(layout: type[Layout], names: Collection[str]) -> None:
    """Refuses names that would be mistaken for each other, as they are given and taken by position."""
    for name in names:
        if name not in layout.fields:
            raise TypeError(f"{layout.__name__} has no field {name}")
    if [name for name in layout.fields if name in names] != list(names):
        raise TypeError(f"{layout.__name__}: {', '.join(names)} are not in the order of the layout")


def _tuple(names: list[str]) -> str:
    return f"({' '.join(f'{name},' for name in names)})"


def _made(layout: type[Layout], source: str, scope: dict[str, object]) -> object:
    exec(compile(source, f"<pattern of {layout.__name__}>", "exec"), scope)  # our own declarations only
    return scope["_made"]
