"""Declarations that are refused, values that do not fit, and what a value can be asked."""

from typing import Annotated

import construct
import pytest

from iscsi_target.wire.codec import Form, Kind
from iscsi_target.wire.layout import (
    B2,
    B3,
    B4,
    B6,
    U8,
    U16,
    U24,
    U32,
    U48,
    U64,
    Bit,
    Bytes4,
    FieldPointer,
    Layout,
    LayoutError,
)


class Figure(Layout):
    kind: U8 = 0x42
    flag: Bit = False
    _1: B3 = 0
    low: B4 = 3
    length: U24 = 0
    name: Bytes4 = b"name"
    _2: U16 = 0
    place: U48 = 0


def test_fields_lie_where_the_figure_has_them():
    value = Figure(flag=True, low=0xA, length=0x010203, name=b"abcd", place=0x0102030405FE)
    assert value.pack() == bytes.fromhex("42 8a 010203 61626364 0000 0102030405fe")
    assert Figure.size == 17


def test_unpack_gives_back_what_was_packed_at_any_offset():
    value = Figure(flag=True, low=0xA, length=0x010203, name=b"abcd", place=0x0102030405FE)
    assert Figure.unpack(b"xxx" + value.pack() + b"yyy", 3) == value
    assert Figure.unpack(memoryview(bytearray(value.pack()))) == value


def test_unpack_of_too_few_bytes_says_how_many_there_are():
    with pytest.raises(LayoutError, match="Figure needs 17 bytes, 2 are there"):
        Figure.unpack(bytes(16), 14)


def test_flags_are_booleans_and_numbers_are_numbers():
    value = Figure.unpack(b"\xff" * 17)
    assert value.flag is True
    assert value.low == 15


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": 256},
        {"kind": -1},
        {"kind": 1.5},
        {"kind": "a"},
        {"kind": None},
        {"flag": 2},
        {"low": 16},
        {"length": 1 << 24},
        {"name": b"abc"},
        {"name": b"abcde"},
        {"name": 5},
        {"name": "four"},
        {"place": 1 << 48},
    ],
)
def test_value_that_does_not_fit_is_refused_by_pack(changes):
    with pytest.raises(LayoutError, match="does not fit"):
        Figure(**changes).pack()


def test_values_are_immutable():
    with pytest.raises(AttributeError):
        Figure().kind = 5  # type: ignore[misc]  # that is what must not work


def test_fields_are_given_by_name_only():
    with pytest.raises(TypeError):
        Figure(5)  # type: ignore[call-arg]  # that is what must not work
    with pytest.raises(TypeError):
        Figure(nothing=5)  # type: ignore[call-arg]  # that is what must not work


def test_replace_changes_what_is_named_and_leaves_the_original():
    value = Figure(low=1)
    changed = value.replace(low=2, name=b"1234")
    assert (changed.low, changed.name, changed.kind) == (2, b"1234", 0x42)
    assert value == Figure(low=1)
    assert type(changed) is Figure


def test_replace_of_an_unknown_field_is_an_error():
    with pytest.raises(KeyError):
        Figure().replace(_1=1)


def test_values_of_different_layouts_differ():
    class Other(Layout):
        kind: U8 = 1

    class Another(Layout):
        kind: U8 = 1

    assert Other() != Another()
    assert Other() == Other()
    assert Other() != (1,)
    assert len({Other(), Another(), Other()}) == 2


def test_field_without_a_default_must_be_given():
    class Demanding(Layout):
        lba: U64

    with pytest.raises(TypeError):
        Demanding()  # type: ignore[call-arg]  # that is what must not work
    assert Demanding(lba=7).lba == 7


def test_default_is_what_a_field_is_when_it_is_not_given():
    class Demanding(Layout):
        lba: U64
        group: U8 = 6

    assert Demanding.default("group") == 6
    for name in ("lba", "nothing"):
        with pytest.raises(KeyError):
            Demanding.default(name)


def test_value_of_defaults_is_what_the_constructor_makes_of_nothing():
    class Demanding(Layout):
        lba: U64
        group: U8 = 6

    assert Figure.of_defaults() == Figure()
    with pytest.raises(KeyError):
        Demanding.of_defaults()


def test_repr_shows_type_and_fields():
    assert repr(Figure()) == "Figure(kind=66, flag=False, low=3, length=0, name=b'name', place=0)"


def test_location_is_byte_and_most_significant_bit():
    assert Figure.location("kind") == FieldPointer(0, 7)
    assert Figure.location("low") == FieldPointer(1, 3)
    assert Figure.location("place") == FieldPointer(11, 7)
    with pytest.raises(KeyError):
        Figure.location("nothing")


def test_usage_marks_what_is_not_reserved():
    assert Figure.usage() == bytes.fromhex("ff 8f ffffff ffffffff 0000 ffffffffffff")


def test_first_reserved_bit_that_is_set_is_found():
    assert Figure.reserved_bit(bytes(17)) is None
    assert Figure.reserved_bit(b"\xff\x8f" + bytes(20)) is None
    assert Figure.reserved_bit(b"\x00\x30" + bytes(15)) == FieldPointer(1, 5)
    assert Figure.reserved_bit(bytes(9) + b"\x00\x01" + bytes(6)) == FieldPointer(10, 0)


def test_reserved_field_is_no_attribute_and_is_packed_as_zero():
    value = Figure.unpack(b"\xff" * 17)
    assert not hasattr(value, "_1")
    assert value.pack()[1] == 0x8F


def test_field_may_have_the_name_of_anything_in_the_codec():
    class Awkward(Layout):
        load: U8 = 0
        store: Bytes4 = bytes(4)
        new: U8 = 0
        error: Bytes4 = bytes(4)
        value: U32 = 0
        cls: U24 = 0
        buffer: Bytes4 = bytes(4)
        offset: Bytes4 = bytes(4)
        w0: Bytes4 = bytes(4)
        len: U8 = 0
        unfit: U8 = 0

    value = Awkward(load=1, store=b"2222", new=3, error=b"4444", value=5, cls=6, w0=b"7777", len=8, unfit=9)
    assert Awkward.unpack(value.pack()) == value
    with pytest.raises(LayoutError):
        Awkward(load=-1).pack()
    with pytest.raises(LayoutError):
        Awkward.unpack(b"")


@pytest.mark.parametrize("name", ["__new__", "unpack", "pack", "encode"])
def test_function_of_a_codec_is_made_when_it_is_first_asked_for(name):
    class Unused(Layout):
        kind: U8 = 1

    functions = {"__new__", "unpack", "pack", "encode"}
    getattr(Unused, name)
    assert functions & vars(Unused).keys() == {name}
    assert Unused.unpack(Unused(kind=7).pack()) == Unused(kind=7)
    assert Unused.encode(kind=7) == b"\x07"


def test_function_that_was_taken_before_the_first_use_is_the_generated_one():
    class Unused(Layout):
        kind: U8 = 1

    unpack = Unused.unpack
    assert unpack == Unused.unpack
    assert unpack(b"\x07").pack() == b"\x07"


def test_layout_is_not_extended():
    with pytest.raises(TypeError, match="extends a layout"):
        type("Wrong", (Figure,), {"__annotations__": {"more": U8}})


@pytest.mark.parametrize("name", ["size", "fields", "pack", "unpack", "default", "replace", "usage", "construct"])
def test_name_that_layouts_use_themselves_is_refused(name):
    with pytest.raises(TypeError, match=f"Layout itself has a {name}"):
        type("Wrong", (Layout,), {"__annotations__": {name: U8}})


@pytest.mark.parametrize("annotation", [int, Annotated[int, construct.Int32ub], Annotated[int, 32], list[U8]])
def test_annotation_that_is_none_of_the_field_types_is_refused(annotation):
    with pytest.raises(TypeError, match=r"Wrong\.field: .* is none of the field types"):
        type("Wrong", (Layout,), {"__annotations__": {"field": annotation}})


def test_number_of_more_bytes_than_a_machine_word_is_refused():
    with pytest.raises(TypeError, match="more than 64 bits"):
        type("Wrong", (Layout,), {"__annotations__": {"number": Annotated[int, Kind(Form.NUMBER, 72)]}})


def test_bits_that_do_not_fill_bytes_are_refused():
    with pytest.raises(TypeError, match="14 bits"):
        type("Wrong", (Layout,), {"__annotations__": {"field": U8, "rest": B6}})


def test_number_that_does_not_start_at_a_byte_is_refused():
    with pytest.raises(TypeError, match="does not start at a byte"):
        type("Wrong", (Layout,), {"__annotations__": {"bits": B2, "number": U8, "rest": B6}})


def test_run_of_bits_longer_than_a_machine_word_is_refused():
    fields = {f"field{number}": Annotated[int, Kind(Form.BITS, 9)] for number in range(8)}
    with pytest.raises(TypeError, match="more than 64 bits"):
        type("Wrong", (Layout,), {"__annotations__": fields})
