"""Declares fixed-width structures once: a field's line is its type, its construct declaration and its codec.

A subclass of `Layout` lists its fields in the order of the standard's figure, most significant bit first, each
annotated with one of the field types below, which pair a Python type with what stands on the wire. From them the class
derives a struct-based `unpack` and `pack`, and a declaration for construct, `construct()`: some fifty times slower, it
is the oracle of the property tests. What is not of such a type, or not a whole number of bytes, is refused when the
class is defined.

A program uses few of its layouts, and each function of a codec takes some hundred microseconds to make, so it is made
when the class is first asked for it. Who asks gets the function itself; from then on nothing stands before it.
Construct is loaded when somebody asks for a declaration.

A name that starts with an underscore is a reserved field: packed as zero, ignored by `unpack`, reported by
`reserved_bit`, and no attribute of the value. Values are immutable tuples that compare by type and fields.

Variable-length structures are not declared here: they join several layouts, or use construct directly.
"""

import struct
from collections.abc import Callable
from enum import Enum, auto
from functools import cache
from inspect import get_annotations
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Self, TypeVar, dataclass_transform


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

    def declaration(self) -> Any:
        """Returns it as a construct declaration."""
        import construct

        match self.form:
            case Form.FLAG:
                return construct.Flag
            case Form.BITS:
                return construct.BitsInteger(self.width_bits)
            case Form.NUMBER:
                return construct.BytesInteger(self.width_bits // 8)
            case Form.BYTES:
                return construct.Bytes(self.width_bits // 8)


Bit = Annotated[bool, Kind(Form.FLAG, 1)]
B2 = Annotated[int, Kind(Form.BITS, 2)]
B3 = Annotated[int, Kind(Form.BITS, 3)]
B4 = Annotated[int, Kind(Form.BITS, 4)]
B5 = Annotated[int, Kind(Form.BITS, 5)]
B6 = Annotated[int, Kind(Form.BITS, 6)]
B7 = Annotated[int, Kind(Form.BITS, 7)]
B21 = Annotated[int, Kind(Form.BITS, 21)]
U8 = Annotated[int, Kind(Form.NUMBER, 8)]
U16 = Annotated[int, Kind(Form.NUMBER, 16)]
U24 = Annotated[int, Kind(Form.NUMBER, 24)]
U32 = Annotated[int, Kind(Form.NUMBER, 32)]
U48 = Annotated[int, Kind(Form.NUMBER, 48)]
U64 = Annotated[int, Kind(Form.NUMBER, 64)]
Bytes3 = Annotated[bytes, Kind(Form.BYTES, 24)]
Bytes4 = Annotated[bytes, Kind(Form.BYTES, 32)]
Bytes6 = Annotated[bytes, Kind(Form.BYTES, 48)]
Bytes8 = Annotated[bytes, Kind(Form.BYTES, 64)]
Bytes16 = Annotated[bytes, Kind(Form.BYTES, 128)]

MAX_BIT_RUN = 64  # bits between two byte boundaries; one machine word


class LayoutError(ValueError):
    """Says that bytes are too short for a layout, or that a value does not fit its field."""


class FieldPointer(NamedTuple):
    """Where a field starts: byte from the start, and its most significant bit, 7 being the first of a byte.

    Source: SPC4r37 4.5.2.4.2
    """

    byte: int
    bit: int


class _Field(NamedTuple):
    name: str
    form: Form
    width_bits: int
    offset_bits: int
    default: Any
    reserved: bool
    aligned: bool  # starts and ends at a byte

    def declaration(self) -> Any:
        return self.name / Kind(self.form, self.width_bits).declaration()


Declared = TypeVar("Declared")


class _MadeAtFirstUse:
    """Stands in a layout for one of the functions of its codec; whoever asks for it has it made and gets it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, value: object, cls: type["Layout"]) -> Any:
        setattr(cls, self._name, _generate(cls, self._name))
        return getattr(cls if value is None else value, self._name)


def _made_at_first_use(declared: Declared) -> Declared:
    """Declares a function that every subclass of `Layout` generates for itself."""
    return _MadeAtFirstUse(declared.__name__)  # type: ignore[return-value, attr-defined]  # what it gives when asked


@dataclass_transform(frozen_default=True, kw_only_default=True, eq_default=True)
class Layout(tuple[Any, ...]):
    """The base of every fixed-width structure; see the module's docstring for the form of a declaration.

    raises    TypeError when a subclass declares what is of none of the field types, or not whole bytes, or takes a
              name that `Layout` itself uses, or extends another subclass
    """

    __slots__ = ()

    size: ClassVar[int] = 0
    fields: ClassVar[tuple[str, ...]] = ()
    _declared: ClassVar[tuple[_Field, ...]] = ()
    _places: ClassVar[dict[str, int]] = {}  # where a field stands in the tuple
    _reserved_mask: ClassVar[int] = 0

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__base__ is not Layout:
            raise TypeError(f"{cls.__name__} extends a layout, which has its fields and its codec already")
        cls._declared = declared = _declare(cls)
        _words(declared)  # refuses what cannot become a codec
        places: dict[str, int] = {}
        mask = 0
        for name, _, width, _, default, reserved, _ in declared:
            mask = mask << width | ((1 << width) - 1 if reserved else 0)
            if not reserved:
                setattr(cls, name, property(itemgetter(len(places))))
                places[name] = len(places)
            elif default is not _Field:
                delattr(cls, name)
        cls._reserved_mask = mask
        cls._places = places
        cls.fields = tuple(places)
        cls.size = sum(field.width_bits for field in declared) // 8

    if not TYPE_CHECKING:  # type checkers know the constructor by dataclass_transform
        __new__ = _MadeAtFirstUse("__new__")

    @_made_at_first_use
    @classmethod
    def unpack(cls, buffer: bytes | bytearray | memoryview, offset: int = 0) -> Self:
        """Reads a value from the `size` bytes at offset; reserved bits are ignored.

        raises    LayoutError when the buffer is too short
        """
        raise NotImplementedError

    @_made_at_first_use
    @staticmethod
    def encode(**fields: Any) -> bytes:
        """Returns what `pack` of a value with these fields does, without making the value.

        raises    LayoutError when a value does not fit its field; TypeError for an unknown name
        """
        raise NotImplementedError

    @_made_at_first_use
    def pack(self) -> bytes:
        """Returns the `size` bytes of the value, reserved bits zero.

        raises    LayoutError when a value does not fit its field
        """
        raise NotImplementedError

    @classmethod
    def default(cls, name: str) -> Any:
        """Returns what a field is when it is not given; raises KeyError when there is no such field or default."""
        for field in cls._declared:
            if field.name == name and field.default is not _Field:
                return field.default
        raise KeyError(name)

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with some fields changed; raises KeyError for an unknown name."""
        values = list(self)
        for name, value in changes.items():
            values[self._places[name]] = value
        return tuple.__new__(type(self), values)

    @classmethod
    def usage(cls) -> bytes:
        """Returns a mask of `size` bytes: one for the bits of named fields, zero for reserved ones.

        Source: SPC4r37 6.35.3 (CDB USAGE DATA)
        """
        return (cls._reserved_mask ^ ((1 << cls.size * 8) - 1)).to_bytes(cls.size, "big")

    @classmethod
    def location(cls, name: str) -> FieldPointer:
        """Returns where a field starts; raises KeyError for an unknown name."""
        for field in cls._declared:
            if field.name == name:
                return FieldPointer(field.offset_bits // 8, 7 - field.offset_bits % 8)
        raise KeyError(name)

    @classmethod
    def reserved_bit(cls, buffer: bytes | bytearray | memoryview) -> FieldPointer | None:
        """Returns the first reserved bit that is set in the first `size` bytes, or None.

        buffer    at least `size` bytes
        """
        assert len(buffer) >= cls.size
        wrong = int.from_bytes(buffer[: cls.size], "big") & cls._reserved_mask
        if not wrong:
            return None
        offset_bits = cls.size * 8 - wrong.bit_length()
        return FieldPointer(offset_bits // 8, 7 - offset_bits % 8)

    @classmethod
    def mask(cls, *names: str) -> int:
        """Returns ones for the bits of some fields, as `has_any` takes them; "_" stands for all reserved ones."""
        ones = cls._reserved_mask if "_" in names else 0
        for field in cls._declared:
            if field.name in names and not field.reserved:
                ones |= ((1 << field.width_bits) - 1) << (cls.size * 8 - field.offset_bits - field.width_bits)
        return ones

    @classmethod
    def has_any(cls, buffer: bytes, mask: int) -> bool:
        """Returns True when any of the bits of a mask is set in the first `size` bytes.

        buffer    at least `size` bytes
        """
        return int.from_bytes(buffer[: cls.size]) & mask != 0

    @classmethod
    def construct(cls) -> Any:
        """Returns the declaration as a construct Struct; runs of bit fields are nested BitStructs."""
        import construct

        parts = []
        for word in _words(cls._declared):
            members = [field.declaration() for field in word]
            if word[0].aligned:
                parts += members
            else:
                parts.append(f"bits_{word[0].offset_bits // 8}" / construct.BitStruct(*members))
        return construct.Struct(*parts)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and tuple.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((type(self).__name__, *self))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in zip(self.fields, self, strict=True))
        return f"{type(self).__name__}({shown})"


def _declare(cls: type[Layout]) -> tuple[_Field, ...]:
    declared = []
    offset = 0
    given, taken = vars(cls), vars(Layout)
    for name, annotation in get_annotations(cls).items():
        kind = getattr(annotation, "__metadata__", (None,))[0]
        if not isinstance(kind, Kind):
            raise TypeError(f"{cls.__name__}.{name}: {annotation} is none of the field types")
        if name in taken:
            raise TypeError(f"{cls.__name__}.{name}: Layout itself has a {name}")
        form, width = kind
        reserved, aligned = name[0] == "_", form is Form.NUMBER or form is Form.BYTES
        declared.append(_Field(name, form, width, offset, given.get(name, _Field), reserved, aligned))
        offset += width
    if offset % 8:
        raise TypeError(f"{cls.__name__} is {offset} bits long, not a whole number of bytes")
    return tuple(declared)


def _words(declared: tuple[_Field, ...]) -> list[list[_Field]]:
    """Groups fields into words that start and end at a byte: one aligned field, or a run of bit fields."""
    words: list[list[_Field]] = []
    open_bits = 0
    for field in declared:
        if field.aligned and open_bits:
            raise TypeError(f"{field.name} does not start at a byte")
        if open_bits:
            words[-1].append(field)
        else:
            words.append([field])
        open_bits += field.width_bits
        if open_bits > MAX_BIT_RUN and field.form is not Form.BYTES:
            raise TypeError(f"{field.name} ends a run of more than {MAX_BIT_RUN} bits")
        if field.aligned or open_bits % 8 == 0:
            open_bits = 0
    return words


# The generated codec. A word of 1, 2, 4 or 8 bytes is one struct code; other lengths are several that are joined.
# All names in it but those of fields start with an underscore, so that a field may have any other name.

_CODES = {1: "B", 2: "H", 3: "BH", 4: "I", 5: "BI", 6: "HI", 7: "BHI", 8: "Q"}
_CODE_BITS = {"B": 8, "H": 16, "I": 32, "Q": 64}


class _Codec:
    """Collects the lines of one layout's generated functions."""

    def __init__(self) -> None:
        self.format = ">"
        self.names: list[str] = []  # what struct unpacks
        self.values: list[str] = []  # an expression per named field, from names
        self.packed: list[str] = []  # what struct packs, from the fields' names
        self.checks: list[str] = []  # of what struct does not check itself
        self.flags: list[str] = []
        self.decodings: list[str] = []  # statements that take a byte of several fields apart by a table
        self.tables: dict[str, tuple[tuple[Any, ...], ...]] = {}

    def add_bytes(self, field: _Field) -> None:
        self.format += f"{field.width_bits // 8}s"
        self.names.append(field.name)
        self.values.append(field.name)
        self.packed.append(field.name)
        self.checks.append(f"_len({field.name}) == {field.width_bits // 8}")

    def add_word(self, word: list[_Field]) -> None:
        """Adds a word of integers: whole = the fields side by side."""
        width = sum(field.width_bits for field in word)
        codes = _CODES[width // 8]
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

    def add_table(self, word: list[_Field]) -> None:
        """Adds the decoding of a byte: looking up all of its fields at once is quicker than shifting each."""
        table = f"_t{len(self.tables)}"
        named = [field for field in word if not field.reserved]
        self.decodings.append(f"{' '.join(f'{field.name},' for field in named)} = {table}[{self.names[-1]}]")
        self.tables[table] = tuple(tuple(_part(value, field) for field in named) for value in range(256))
        self.values += [field.name for field in named]

    def all_checks(self) -> list[str]:
        """The checks as conditions, of which that of all flags is one: all are 0 or 1 when their union is."""
        return [*self.checks, f"0 <= ({' | '.join(self.flags) or 0}) <= 1"]

    def skip(self, width_bits: int) -> None:
        self.format += f"{width_bits // 8}x"


def _part(byte: int, field: _Field) -> int | bool:
    """Returns one field of a byte."""
    value = byte >> (-(field.offset_bits + field.width_bits) % 8) & ((1 << field.width_bits) - 1)
    return value != 0 if field.form is Form.FLAG else value


def _shifted(expression: str, bits: int, *, left: bool) -> str:
    if not bits:
        return expression
    return f"({expression} {'<<' if left else '>>'} {bits})"


def _generate(cls: type[Layout], name: str) -> Any:
    """Makes one of the functions of a layout as it is to stand in the class."""
    codec = _codec(cls)
    compiled = struct.Struct(codec.format)
    scope: dict[str, Any] = {
        "_load": compiled.unpack_from,
        "_store": compiled.pack,
        "_new": tuple.__new__,
        "_cls": cls,
        "_len": len,
        "_error": struct.error,
        "_too_short": _too_short,
        "_unfit": _unfit,
        **codec.tables,
    }
    source, wrap = _SOURCES[name]
    source = source.format(
        names=" ".join(f"{name}," for name in codec.names),
        decodings="\n    ".join(codec.decodings),
        values=" ".join(f"{value}," for value in codec.values),
        arguments=", ".join(_arguments(cls, scope)),
        fields=" ".join(f"{name}," for name in cls.fields),
        checks=" and ".join(codec.all_checks()),
        packed=", ".join(codec.packed),
    )
    exec(compile(source, f"<codec of {cls.__name__}>", "exec"), scope)  # our own declarations only
    return wrap(scope["_made"])


@cache
def _codec(cls: type[Layout]) -> _Codec:
    codec = _Codec()
    for word in _words(cls._declared):
        if all(field.reserved for field in word):
            codec.skip(sum(field.width_bits for field in word))
        elif word[0].form is Form.BYTES:
            codec.add_bytes(word[0])
        else:
            codec.add_word(word)
    return codec


_SOURCES: dict[str, tuple[str, Callable[[Any], Any]]] = {
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


def _arguments(cls: type[Layout], scope: dict[str, Any]) -> list[str]:
    """Returns the keyword-only parameters of the constructor; their defaults go into the scope."""
    arguments = ["*"]
    for field in cls._declared:
        if not field.reserved:
            scope[f"_default_{field.name}"] = field.default
            arguments.append(field.name if field.default is _Field else f"{field.name}=_default_{field.name}")
    return arguments


def _too_short(cls: type[Layout], buffer: bytes | bytearray | memoryview, offset: int) -> LayoutError:
    return LayoutError(f"{cls.__name__} needs {cls.size} bytes, {max(0, len(buffer) - offset)} are there")


def _unfit(value: Layout) -> LayoutError:
    return LayoutError(f"a value does not fit its field: {value!r}")
