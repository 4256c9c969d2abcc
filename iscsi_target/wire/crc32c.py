"""CRC-32C of iSCSI digests: the processor's instruction through google-crc32c, crcmod where that cannot be had.

google-crc32c itself falls back to slow pure Python on a platform without a wheel, so its `implementation` decides.
"""

from collections.abc import Callable

import crcmod
import google_crc32c

Buffer = bytes | bytearray | memoryview

# Without its C library the wheel computes in Python; crcmod's C extension is then the faster one.
HARDWARE = google_crc32c.implementation == "c"

_crcmod_crc32c: Callable[[bytes, int], int] = crcmod.mkCrcFun(0x11EDC6F41, initCrc=0, rev=True, xorOut=0xFFFFFFFF)


def crc32c_by_crcmod(*buffers: Buffer) -> int:
    """Returns the CRC-32C of the buffers joined; the fallback, and the oracle in tests."""
    crc = 0
    for buffer in buffers:
        crc = _crcmod_crc32c(bytes(buffer), crc)
    return crc


def crc32c_by_wheel(*buffers: Buffer) -> int:
    """Returns the CRC-32C of the buffers joined."""
    crc = 0
    for buffer in buffers:
        crc = google_crc32c.extend(crc, bytes(buffer))
    return crc


crc32c = crc32c_by_wheel if HARDWARE else crc32c_by_crcmod
"""Returns the CRC-32C of the buffers joined, as a number; it travels least significant byte first.

Source: RFC7143 13.1, RFC3720 B.4 (test vectors)
"""
