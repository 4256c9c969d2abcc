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

from inspect import get_annotations
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Self, TypeVar, dataclass_transform

from iscsi_target.wire.codec import Field, Form, Kind, generate, words

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


class LayoutError(ValueError):
    """Says that bytes are too short for a layout, or that a value does not fit its field."""


class FieldPointer(NamedTuple):
    """Where a field starts: byte from the start, and its most significant bit, 7 being the first of a byte.

    Source: SPC4r37 4.5.2.4.2
    """

    byte: int
    bit: int


Declared = TypeVar("Declared")


class _MadeAtFirstUse:
    """Stands in a layout for one of the functions of its codec; whoever asks for it has it made and gets it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, value: object, cls: type["Layout"]) -> Any:
        if cls is Layout:
            return self  # which has no fields and no codec
        setattr(cls, self._name, generate(cls, cls.declared, self._name, _REFUSALS))
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
    declared: ClassVar[tuple[Field, ...]] = ()
    _places: ClassVar[dict[str, int]] = {}  # where a field stands in the tuple
    _reserved_mask: ClassVar[int] = 0

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__base__ is not Layout:
            raise TypeError(f"{cls.__name__} extends a layout, which has its fields and its codec already")
        cls.declared = declared = _declare(cls)
        words(declared)  # refuses what cannot become a codec
        places: dict[str, int] = {}
        mask = 0
        for name, _, width, _, default, reserved, _ in declared:
            mask = mask << width | ((1 << width) - 1 if reserved else 0)
            if not reserved:
                setattr(cls, name, property(itemgetter(len(places))))
                places[name] = len(places)
            elif default is not Field:
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
        for field in cls.declared:
            if field.name == name and field.default is not Field:
                return field.default
        raise KeyError(name)

    @classmethod
    def of_defaults(cls) -> Self:
        """Returns the value whose fields have their defaults; for one value that saves making the constructor.

        raises    KeyError when a field has none
        """
        return tuple.__new__(cls, [cls.default(name) for name in cls.fields])

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
        for field in cls.declared:
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
        for field in cls.declared:
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
        for word in words(cls.declared):
            members = [field.name / _declaration(field) for field in word]
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


def _declare(cls: type[Layout]) -> tuple[Field, ...]:
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
        declared.append(Field(name, form, width, offset, given.get(name, Field), reserved, aligned))
        offset += width
    if offset % 8:
        raise TypeError(f"{cls.__name__} is {offset} bits long, not a whole number of bytes")
    return tuple(declared)


def _declaration(field: Field) -> Any:
    """Returns the kind of a field as a construct declaration."""
    import construct

    match field.form:
        case Form.FLAG:
            return construct.Flag
        case Form.BITS:
            return construct.BitsInteger(field.width_bits)
        case Form.NUMBER:
            return construct.BytesInteger(field.width_bits // 8)
        case Form.BYTES:
            return construct.Bytes(field.width_bits // 8)


def _too_short(cls: type[Layout], buffer: bytes | bytearray | memoryview, offset: int) -> LayoutError:
    return LayoutError(f"{cls.__name__} needs {cls.size} bytes, {max(0, len(buffer) - offset)} are there")


def _unfit(value: Layout) -> LayoutError:
    return LayoutError(f"a value does not fit its field: {value!r}")


_REFUSALS = {"_too_short": _too_short, "_unfit": _unfit}
