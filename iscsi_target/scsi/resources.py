"""How much a thin unit has allocated and can still allocate, as its thresholds and log page count it."""

from dataclasses import dataclass

MIN_SET_BYTES = 1 << 20  # a threshold set has that much at least, so that counts of 4 PiB fit their 32 bits
MAX_COUNT = 0xFFFF_FFFF


@dataclass(slots=True)
class Resources:
    """LBA mapping resources of a unit, in threshold sets; changing them is no assignment to the device.

    exponent    THRESHOLD EXPONENT: a set has 2 ** exponent logical blocks
    set_bytes   what that is in bytes
    used        by this unit alone
    available   to this unit and to others that share a pool with it
    Source: SBC3r36 4.7.3.7
    """

    exponent: int
    set_bytes: int
    used: int = 0
    available: int = 0

    @classmethod
    def of(cls, block_length_bytes: int, most_bytes: int) -> "Resources":
        """Returns what can count up to so many bytes."""
        exponent = MIN_SET_BYTES.bit_length() - block_length_bytes.bit_length()
        while (block_length_bytes << exponent) * MAX_COUNT < most_bytes:
            exponent += 1
        return cls(exponent, block_length_bytes << exponent)

    def sets(self, length_bytes: int) -> int:
        """Returns how many whole sets so many bytes are."""
        return min(length_bytes // self.set_bytes, MAX_COUNT)
