from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.wire.bits import either, inverted, swapped


@given(st.binary(max_size=40), st.data())
def test_each_byte_has_the_bits_of_both(left, data):
    right = data.draw(st.binary(min_size=len(left), max_size=len(left)))
    assert either(left, right) == bytes(a | b for a, b in zip(left, right, strict=True))


@given(st.binary(max_size=40))
def test_each_bit_becomes_its_opposite(data):
    assert inverted(data) == bytes(255 - byte for byte in data)


def test_bytes_of_a_number_change_places():
    assert (swapped(0x0102), swapped(0), swapped(0xFFFF), swapped(1)) == (0x0201, 0, 0xFFFF, 0x0100)
