"""The digests' test vectors, on both implementations."""

import sys

import pytest

from iscsi_target.wire.crc32c import _crcmod_extend, _extend, crc32c, digest

READ_COMMAND = bytes.fromhex(
    "01c00000 00000000 00000000 00000000 14000000 00000400 00000014 00000018 28000000 00000000 02000000 00000000"
)
VECTORS = {
    "zeros": (bytes(32), 0x8A9136AA),
    "ones": (b"\xff" * 32, 0x62A8AB43),
    "up": (bytes(range(32)), 0x46DD794E),
    "down": (bytes(reversed(range(32))), 0x113FDB5C),
    "read": (READ_COMMAND, 0xD9963A56),
    "check": (b"123456789", 0xE3069283),
    "empty": (b"", 0),
}


def crc32c_without_library(*buffers):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "fastcrc.crc32", None)
        patch.setattr("iscsi_target.wire.crc32c._extend", _extend.__wrapped__)
        return crc32c(*buffers)


def crc32c_by_crcmod(*buffers):
    return _crcmod_extend()(b"".join(bytes(buffer) for buffer in buffers), 0)


FUNCTIONS = (crc32c, crc32c_without_library, crc32c_by_crcmod)


@pytest.mark.clause("RFC7143 13.1")
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", VECTORS)
def test_vectors_of_the_standard(function, name):
    given, crc = VECTORS[name]
    assert function(given) == crc


@pytest.mark.parametrize("function", FUNCTIONS)
def test_buffers_of_any_kind_count_as_joined(function):
    assert function(b"1234", bytearray(b"56"), memoryview(b"789"), b"") == 0xE3069283
    assert function() == 0


LONG = bytes(range(256)) * 256


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "buffer",
    [
        bytearray(LONG),
        memoryview(LONG),
        memoryview(bytearray(LONG)),
        memoryview(b"before" + LONG + b"after")[6:-5],
        memoryview(bytearray(b"before" + LONG + b"after"))[6:-5],
    ],
)
def test_a_long_buffer_counts_as_its_bytes_whatever_its_kind(function, buffer):
    assert function(buffer) == crc32c_by_crcmod(LONG)


def test_a_long_buffer_may_change_its_length_again_afterwards():
    buffer = bytearray(LONG)
    crc32c(buffer)
    buffer.clear()


@pytest.mark.clause("RFC7143 13.1")
def test_a_digest_travels_with_its_least_significant_byte_first():
    assert digest(bytes(16), bytes(16)) == bytes.fromhex("aa36918a")
