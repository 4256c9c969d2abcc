"""CRC-32C of iSCSI digests: the processor's instruction through google-crc32c, crcmod where that cannot be had.

google-crc32c itself falls back to slow pure Python on a platform without a wheel, so its `implementation` decides.

Of all buffers that Python has, google-crc32c takes bytes and arrays of ctypes only. An array can be laid over what a
memoryview shows without a copy, if that can be written to. This takes a microsecond, so what is short is copied. So is
a part of bytes, which cannot be written to.
"""

import ctypes
from collections.abc import Callable
from functools import cache, lru_cache

Buffer = bytes | bytearray | memoryview
Acceptable = bytes | ctypes.Array[ctypes.c_char]
Extend = Callable[[int, Acceptable], int]  # (CRC of what comes before, what follows it) -> CRC of both

COPY_LIMIT_BYTES = 32 << 10  # up to this length a copy is as quick
ARRAY_TYPES = 64  # lengths of which the type of array is kept; connections use few


def crc32c(*buffers: Buffer) -> int:
    """Returns the CRC-32C of the buffers joined, as a number; it travels least significant byte first.

    Source: RFC7143 13.1, RFC3720 B.4 (test vectors)
    """
    crc, extend = 0, _extend()
    for buffer in buffers:
        crc = extend(crc, buffer if type(buffer) is bytes else _acceptable(buffer))
    return crc


# Both are loaded for the first digest, as most connections have none.


@cache
def _extend() -> Extend:
    import google_crc32c

    # Without its C library the wheel computes in Python; crcmod's C extension is then the faster one.
    wheel: Extend = google_crc32c.extend
    return wheel if google_crc32c.implementation == "c" else _crcmod_extend()


@cache
def _crcmod_extend() -> Extend:
    import crcmod

    made = crcmod.mkCrcFun(0x11EDC6F41, initCrc=0, rev=True, xorOut=0xFFFFFFFF)
    return lambda crc, data: made(bytes(data), crc)


def _acceptable(buffer: Buffer) -> Acceptable:
    """Returns the contents of a buffer as what google-crc32c takes."""
    if len(buffer) <= COPY_LIMIT_BYTES:
        return bytes(buffer)
    view = memoryview(buffer)
    if not view.readonly:
        return _array_type(len(buffer)).from_buffer(buffer)
    whole = view.obj if view.c_contiguous else None
    return whole if type(whole) is bytes and len(whole) == len(buffer) else bytes(buffer)


@lru_cache(ARRAY_TYPES)
def _array_type(length: int) -> type[ctypes.Array[ctypes.c_char]]:
    return ctypes.c_char * length


def digest(*buffers: Buffer) -> bytes:
    """Returns the CRC-32C of the buffers joined, as it travels.

    Source: RFC7143 13.1
    """
    return crc32c(*buffers).to_bytes(4, "little")
