"""CRC-32C of iSCSI digests: the processor's instructions through fastcrc, crcmod on a platform without a wheel of it.

Whichever it is, it is loaded for the first digest, as most connections have none.
"""

from collections.abc import Callable
from functools import cache

Buffer = bytes | bytearray | memoryview
Extend = Callable[[Buffer, int], int]  # (what follows, CRC of what comes before) -> CRC of both


def crc32c(*buffers: Buffer) -> int:
    """Returns the CRC-32C of the buffers joined, as a number; it travels least significant byte first.

    buffers   contiguous
    Source: RFC7143 13.1, RFC3720 B.4 (test vectors)
    """
    crc, extend = 0, _extend()
    for buffer in buffers:
        crc = extend(buffer, crc)
    return crc


@cache
def _extend() -> Extend:
    try:
        from fastcrc.crc32 import iscsi
    except ImportError:
        return _crcmod_extend()
    return iscsi


@cache
def _crcmod_extend() -> Extend:
    import crcmod

    made: Callable[[bytes, int], int] = crcmod.mkCrcFun(0x11EDC6F41, initCrc=0, rev=True, xorOut=0xFFFFFFFF)
    return lambda buffer, crc: made(bytes(buffer), crc)


def digest(*buffers: Buffer) -> bytes:
    """Returns the CRC-32C of the buffers joined, as it travels.

    Source: RFC7143 13.1
    """
    return crc32c(*buffers).to_bytes(4, "little")
