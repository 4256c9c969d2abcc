"""Additional header segments."""

from contextlib import suppress

import pytest

from iscsi_target.iscsi.ahs import (
    MAX_EXTENDED_CDB_BYTES,
    NO_AHS,
    AdditionalHeaders,
    pack_additional_headers,
    unpack_additional_headers,
)
from iscsi_target.iscsi.errors import ProtocolError, RejectReason

READ_LENGTH = bytes.fromhex("0005 02 00 00001000")


def refused(segment: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        unpack_additional_headers(segment)
    assert caught.value.reason is RejectReason.INVALID_PDU_FIELD


def test_nothing_says_nothing():
    assert unpack_additional_headers(b"") == NO_AHS == AdditionalHeaders(b"", None)
    assert pack_additional_headers(NO_AHS) == b""


@pytest.mark.clause("RFC7143 11.2.2.4")
def test_bidirectional_read_length():
    assert unpack_additional_headers(READ_LENGTH) == AdditionalHeaders(b"", 4096)
    assert pack_additional_headers(AdditionalHeaders(b"", 4096)) == READ_LENGTH


@pytest.mark.clause("RFC7143 11.2.2.3")
def test_extended_cdb_of_32_bytes_counts_the_reserved_byte():
    segment = bytes.fromhex("0011 01 00") + bytes(range(16))
    assert unpack_additional_headers(segment) == AdditionalHeaders(bytes(range(16)), None)
    assert pack_additional_headers(AdditionalHeaders(bytes(range(16)), None)) == segment


@pytest.mark.clause("RFC7143 11.2.2.1")
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, MAX_EXTENDED_CDB_BYTES])
def test_segments_are_padded_and_read_back(length):
    headers = AdditionalHeaders(bytes(range(length % 256)) or b"", 7)
    segment = pack_additional_headers(headers)
    assert len(segment) % 4 == 0
    assert unpack_additional_headers(memoryview(segment)) == headers


def test_order_of_segments_does_not_matter():
    extended = pack_additional_headers(AdditionalHeaders(b"rest of the CDB"))
    assert unpack_additional_headers(READ_LENGTH + extended) == AdditionalHeaders(b"rest of the CDB", 4096)


def test_longest_cdb_and_a_read_length_are_as_long_as_framing_lets_pass():
    segment = pack_additional_headers(AdditionalHeaders(bytes(MAX_EXTENDED_CDB_BYTES), 5))
    assert len(segment) == 256


@pytest.mark.clause("RFC7143 11.2.2")
@pytest.mark.clause("RFC7143 11.2.2.2")
@pytest.mark.parametrize(
    "segment",
    [
        pytest.param(b"\0\x05", id="cut short"),
        pytest.param(bytes.fromhex("0006 02 00 00001000"), id="overruns"),
        pytest.param(bytes.fromhex("0000 01 00"), id="empty"),
        pytest.param(bytes.fromhex("0001 01 00"), id="no CDB"),
        pytest.param(bytes.fromhex("0004 02 00 000010 00"), id="wrong length"),
        pytest.param(READ_LENGTH + READ_LENGTH, id="twice"),
        pytest.param(bytes.fromhex("0005 03 00 00001000"), id="unknown kind"),
        pytest.param(bytes.fromhex("0005 00 00 00001000"), id="reserved kind"),
        pytest.param(pack_additional_headers(AdditionalHeaders(bytes(245))), id="CDB of 261 bytes"),
    ],
)
def test_malformed_segments_are_refused(segment):
    refused(segment)


@pytest.mark.parametrize("length", range(0, 64, 4))
def test_any_prefix_of_nonsense_is_refused_or_read(length):
    segment = bytes(range(64))[:length]
    with suppress(ProtocolError):
        unpack_additional_headers(segment)
