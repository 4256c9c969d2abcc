"""Which layout reads what begins with a byte."""

import pytest

from iscsi_target.wire.choice import Choice
from iscsi_target.wire.layout import U8, U16, Layout, LayoutError


class Anything(Layout):
    kind: U8 = 0
    _1: U16 = 0


class One(Layout):
    kind: U8 = 1
    number: U16 = 0


class Two(Layout):
    kind: U8 = 2


CHOICE: Choice[Layout] = Choice({1: One, 2: Two}, Anything)


def test_first_byte_chooses_the_layout():
    assert CHOICE.unpack(b"\1\0\5") == One(number=5)
    assert CHOICE.unpack(b"\2") == Two()


def test_every_other_byte_means_the_layout_for_the_rest():
    assert CHOICE.unpack(b"\3\0\0") == Anything(kind=3)
    assert isinstance(CHOICE.unpack(b"\0\0\0"), Anything)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_value_is_read_where_the_offset_says(kind):
    assert CHOICE.unpack(kind(b"\2\1\0\5\2"), 1) == One(number=5)
    assert CHOICE.unpack(kind(b"\2\1\0\5\2"), 4) == Two()


@pytest.mark.parametrize("short", [b"\1", b"\1\0", b"\3\0"])
def test_what_is_too_short_for_its_layout_is_an_error(short: bytes):
    with pytest.raises(LayoutError):
        CHOICE.unpack(short)


def test_layouts_are_those_of_the_time_at_which_they_were_given():
    layouts: dict[int, type[Layout]] = {2: Two}
    choice = Choice(layouts, Anything)
    layouts.clear()
    assert choice.unpack(b"\2\0\0") == Two()
