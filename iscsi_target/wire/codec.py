"""Generates the functions of a layout from its fields: struct takes words apart, expressions take fields out of them.

A word of 1, 2, 4 or 8 bytes is one struct code; other lengths are several that are joined. A byte of several fields is
looked up in a table. All names in the generated source but those of fields start with an underscore, so that a field
may have any other name.
"""

import struct
from collections.abc import Callable, Mapping
from enum import Enum, auto
from functools import cache
from itertools import compress, product
from typing import NamedTuple

MAX_BIT_RUN = 64  # bits between two byte boundaries; one machine word


class Form(Enum):
    """What the bits of a field mean; numbers are unsigned and big-endian."""

    FLAG = auto()
    BITS = auto()  # a number that need not start or end at a byte
    NUMBER = auto()  # one of whole bytes
    BYTES = auto()


class Kind(NamedTuple):
    """What a field has on the wire."""

    form: Form
    width_bits: int


class Field(NamedTuple):
    """One field of a layout; a default of `Field` itself stands for none."""

    name: str
    form: Form
    width_bits: int
    offset_bits: int
    default: object
    reserved: bool
    aligned: bool  # starts and ends at a byte


def words(declared: tuple[Field, ...]) -> list[list[Field]]:
    """Groups fields into words that start and end at a byte: one aligned field, or a run of bit fields.

    raises    TypeError when they cannot be grouped
    """
    grouped: list[list[Field]] = []
    open_bits = 0
    for field in declared:
        if field.aligned and open_bits:
            raise TypeError(f"{field.name} does not start at a byte")
        if open_bits:
            grouped[-1].append(field)
        else:
            grouped.append([field])
        open_bits += field.width_bits
        if open_bits > MAX_BIT_RUN and field.form is not Form.BYTES:
            raise TypeError(f"{field.name} ends a run of more than {MAX_BIT_RUN} bits")
        if field.aligned or open_bits % 8 == 0:
            open_bits = 0
    return grouped


CODES = {1: "B", 2: "H", 3: "BH", 4: "I", 5: "BI", 6: "HI", 7: "BHI", 8: "Q"}
_CODE_BITS = {"B": 8, "H": 16, "I": 32, "Q": 64}


class Codec:
    """Collects the lines of one layout's generated functions."""

    def __init__(self) -> None:
        self.format = ">"
        self.names: list[str] = []  # what struct unpacks
        self.values: list[str] = []  # an expression per named field, from names
        self.packed: list[str] = []  # what struct packs, from the fields' names
        self.checks: list[str] = []  # of what struct does not check itself
        self.flags: list[str] = []
        self.decodings: list[str] = []  # statements that take a byte of several fields apart by a table
        self.tables: dict[str, list[Field]] = {}  # the fields of the byte that each is for

    def add(self, word: list[Field]) -> None:
        """Adds the fields of a word."""
        if all(field.reserved for field in word):
            self.skip(sum(field.width_bits for field in word))
        elif word[0].form is Form.BYTES:
            self.add_bytes(word[0])
        else:
            self.add_word(word)

    def add_bytes(self, field: Field) -> None:
        """Adds a word of bytes."""
        self.format += f"{field.width_bits // 8}s"
        self.names.append(field.name)
        self.values.append(field.name)
        self.packed.append(field.name)
        self.checks.append(f"_len({field.name}) == {field.width_bits // 8}")

    def add_word(self, word: list[Field]) -> None:
        """Adds a word of integers: whole = the fields side by side."""
        width = sum(field.width_bits for field in word)
        codes = CODES[width // 8]
        self.format += codes
        shift = width
        loads, terms = [], []
        for code in codes:
            shift -= _CODE_BITS[code]
            self.names.append(f"_w{len(self.names)}")
            loads.append(_shifted(self.names[-1], shift, left=True))
            mask = (1 << _CODE_BITS[code]) - 1
            terms.append((shift, mask))
        whole = " | ".join(loads)
        parts = []
        remaining = width
        by_table = len(word) > 1 and width == 8
        if by_table:
            self.add_table(word)
        for field in word:
            topmost = remaining == width
            remaining -= field.width_bits
            mask = (1 << field.width_bits) - 1
            if field.reserved:
                continue
            loaded = _shifted(f"({whole})", remaining, left=False) + ("" if topmost else f" & {mask}")
            if not by_table:
                self.values.append(f"({loaded}) != 0" if field.form is Form.FLAG else loaded)
            parts.append(_shifted(field.name, remaining, left=True))
            if mask == 1:
                self.flags.append(field.name)
            elif len(word) > 1 or len(codes) > 1:
                self.checks.append(f"0 <= {field.name} <= {mask}")
        joined = " | ".join(parts)
        for shift, mask in terms:
            whole_word = len(terms) == 1
            self.packed.append(joined if whole_word else f"{_shifted(f'({joined})', shift, left=False)} & {mask}")

    def add_table(self, word: list[Field]) -> None:
        """Adds the decoding of a byte: looking up all of its fields at once is quicker than shifting each."""
        table = f"_t{len(self.tables)}"
        named = [field for field in word if not field.reserved]
        self.decodings.append(f"{' '.join(f'{field.name},' for field in named)} = {table}[{self.names[-1]}]")
        self.tables[table] = word
        self.values += [field.name for field in named]

    def all_checks(self) -> list[str]:
        """The checks as conditions, of which that of all flags is one: all are 0 or 1 when their union is."""
        return [*self.checks, f"0 <= ({' | '.join(self.flags) or 0}) <= 1"]

    def skip(self, width_bits: int) -> None:
        """Passes over bits that make whole bytes."""
        self.format += f"{width_bits // 8}x"


def _decoded(word: list[Field]) -> tuple[tuple[object, ...], ...]:
    """Returns the named fields of a byte for each of its values."""
    parts = [(False, True) if field.form is Form.FLAG else range(1 << field.width_bits) for field in word]
    named = [not field.reserved for field in word]
    return tuple(tuple(compress(values, named)) for values in product(*parts))


def _shifted(expression: str, bits: int, *, left: bool) -> str:
    if not bits:
        return expression
    return f"({expression} {'<<' if left else '>>'} {bits})"


def generate(cls: type, declared: tuple[Field, ...], name: str, refusals: Mapping[str, object]) -> object:
    """Makes one of the functions of a layout as it is to stand in the class.

    name        __new__, unpack, encode or pack
    refusals    `_too_short` and `_unfit`, which make what is raised
    """
    codec = _codec(declared)
    compiled = struct.Struct(codec.format)
    scope: dict[str, object] = {
        "_load": compiled.unpack_from,
        "_store": compiled.pack,
        "_new": tuple.__new__,
        "_cls": cls,
        "_len": len,
        "_error": struct.error,
        **refusals,
    }
    if name == "unpack":
        scope |= {table: _decoded(word) for table, word in codec.tables.items()}
    source, wrap = _SOURCES[name]
    source = source.format(
        names=" ".join(f"{name}," for name in codec.names),
        decodings="\n    ".join(codec.decodings),
        values=" ".join(f"{value}," for value in codec.values),
        arguments=", ".join(_arguments(declared, scope)),
        fields=" ".join(f"{field.name}," for field in declared if not field.reserved),
        checks=" and ".join(codec.all_checks()),
        packed=", ".join(codec.packed),
    )
    exec(compile(source, f"<codec of {cls.__name__}>", "exec"), scope)  # our own declarations only
    return wrap(scope["_made"])


@cache
def _codec(declared: tuple[Field, ...]) -> Codec:
    codec = Codec()
    for word in words(declared):
        codec.add(word)
    return codec


_SOURCES: dict[str, tuple[str, Callable[..., object]]] = {
    "__new__": (
        """
def _made(_cls, {arguments}):
    return _new(_cls, ({fields}))
""",
        staticmethod,
    ),
    "unpack": (
        """
def _made(_cls, buffer, offset=0):
    try:
        {names} = _load(buffer, offset)
    except _error:
        raise _too_short(_cls, buffer, offset) from None
    {decodings}
    return _new(_cls, ({values}))
""",
        classmethod,
    ),
    "encode": (
        """
def _made({arguments}):
    try:
        if {checks}:
            return _store({packed})
    except (_error, TypeError):
        pass
    raise _unfit(_new(_cls, ({fields})))
""",
        staticmethod,
    ),
    "pack": (
        """
def _made(_value):
    {fields} = _value
    try:
        if {checks}:
            return _store({packed})
    except (_error, TypeError):
        pass
    raise _unfit(_value)
""",
        lambda made: made,
    ),
}


def _arguments(declared: tuple[Field, ...], scope: dict[str, object]) -> list[str]:
    """Returns the keyword-only parameters of the constructor; their defaults go into the scope."""
    arguments = ["*"]
    for field in declared:
        if not field.reserved:
            scope[f"_default_{field.name}"] = field.default
            arguments.append(field.name if field.default is Field else f"{field.name}=_default_{field.name}")
    return arguments
