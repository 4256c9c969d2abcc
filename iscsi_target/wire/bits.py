"""Bitwise arithmetic on byte strings, and the order of bytes."""


def either(left: bytes | bytearray | memoryview, right: bytes | bytearray | memoryview) -> bytes:
    """Returns the bits that are set in either of two strings of the same length."""
    assert len(left) == len(right)
    return (int.from_bytes(left, "big") | int.from_bytes(right, "big")).to_bytes(len(left), "big")


def inverted(data: bytes) -> bytes:
    """Returns every bit as its opposite."""
    return (int.from_bytes(data, "big") ^ ((1 << len(data) * 8) - 1)).to_bytes(len(data), "big")


def swapped(number: int) -> int:
    """Returns a number of 16 bits with its bytes the other way round."""
    return int.from_bytes(number.to_bytes(2, "little"), "big")
