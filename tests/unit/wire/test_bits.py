from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.wire.bits import either


@given(st.binary(max_size=40), st.data())
def test_each_byte_has_the_bits_of_both(left, data):
    right = data.draw(st.binary(min_size=len(left), max_size=len(left)))
    assert either(left, right) == bytes(a | b for a, b in zip(left, right, strict=True))
