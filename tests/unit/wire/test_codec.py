"""Generated functions against what the bits of a byte and the joined codes of struct mean."""

from itertools import pairwise

import pytest

from iscsi_target.wire.codec import Field, Form, words
from iscsi_target.wire.layout import B3, B4, U24, Bit, Layout


class Packed(Layout):
    first: Bit = False
    _1: B3 = 0
    last: B4 = 0
    number: U24 = 0


@pytest.mark.parametrize("byte", range(256))
def test_every_value_of_a_byte_of_several_fields_is_taken_apart(byte):
    value = Packed.unpack(bytes([byte, 1, 2, 3]))
    assert (value.first, value.last) == (byte >= 0x80, byte & 0x0F)
    assert value.number == 0x010203


def test_words_begin_and_end_at_a_byte():
    forms = [(Form.FLAG, 1), (Form.BITS, 7), (Form.NUMBER, 24), (Form.BITS, 12), (Form.BITS, 4), (Form.BYTES, 800)]
    offsets = [0]
    for _, width in forms:
        offsets.append(offsets[-1] + width)
    fields = [
        Field(f"field{offset}", form, width, offset, 0, False, form in (Form.NUMBER, Form.BYTES))
        for (form, width), offset in zip(forms, offsets, strict=False)
    ]
    found = words(tuple(fields))
    assert [field for word in found for field in word] == fields
    assert [len(word) for word in found] == [2, 1, 2, 1]
    assert all(word[0].offset_bits % 8 == 0 for word in found)
    assert all(one[0].offset_bits < other[0].offset_bits for one, other in pairwise(found))
