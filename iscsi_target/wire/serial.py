"""Serial number arithmetic on 32 bits: CmdSN, StatSN, DataSN, R2TSN and target transfer tags wrap around.

Source: RFC1982 3, RFC7143 4.2.2.1
"""

MODULUS = 1 << 32
_HALF = 1 << 31


def advance(number: int, count: int = 1) -> int:
    """Returns the serial number count steps after number; count may be negative."""
    return (number + count) % MODULUS


def distance(start: int, end: int) -> int:
    """Returns how many steps lead from start to end: -2**31..2**31 - 1, negative when end is before start."""
    return (end - start + _HALF) % MODULUS - _HALF


def before(first: int, second: int) -> bool:
    """Returns True when first comes before second; of two numbers half the space apart each comes before the other."""
    return 0 < (second - first) % MODULUS <= _HALF
