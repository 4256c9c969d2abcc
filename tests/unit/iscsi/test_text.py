"""Text segments and the encodings of values."""

import pytest

from iscsi_target.iscsi import text
from iscsi_target.iscsi.errors import ProtocolError
from iscsi_target.wire.names import InadmissibleValue


def test_pairs_come_in_their_order():
    assert text.parse(b"B=2\0A=1\0") == [("B", "2"), ("A", "1")]


def test_no_text_is_no_pairs():
    assert text.parse(b"") == []


def test_doubled_and_trailing_nuls_are_skipped():
    assert text.parse(b"\0A=1\0\0B=2\0\0\0") == [("A", "1"), ("B", "2")]


def test_last_nul_may_be_missing():
    assert text.parse(b"A=1\0B=2") == [("A", "1"), ("B", "2")]


def test_value_may_be_empty_and_hold_equals_signs():
    assert text.parse(b"A=\0B=x=y\0") == [("A", ""), ("B", "x=y")]


def test_value_is_utf8():
    assert text.parse("InitiatorAlias=Gerät\0".encode()) == [("InitiatorAlias", "Gerät")]


@pytest.mark.clause("RFC7143 6.1")
def test_key_of_63_bytes_is_accepted_and_64_refused():
    assert text.parse(b"K" * 63 + b"=1\0") == [("K" * 63, "1")]
    with pytest.raises(ProtocolError, match="not a key name"):
        text.parse(b"K" * 64 + b"=1\0")


@pytest.mark.clause("RFC7143 6.1")
def test_value_of_255_bytes_is_accepted_and_256_refused():
    text.parse(b"A=" + b"v" * 255 + b"\0")
    with pytest.raises(ProtocolError, match="too long"):
        text.parse(b"A=" + b"v" * 256 + b"\0")


@pytest.mark.clause("RFC7143 6.1")
def test_value_limit_holds_for_each_value_of_a_list():
    text.parse(b"A=" + b"v" * 255 + b"," + b"w" * 255 + b"\0")


def test_binary_constant_may_be_longer():
    text.parse(b"CHAP_C=0x" + b"00" * 1024 + b"\0")
    with pytest.raises(ProtocolError, match="too long"):
        text.parse(b"CHAP_C=0x" + b"00" * 5000 + b"\0")


@pytest.mark.parametrize(
    "segment", [b"A\0", b"=1\0", b"A B=1\0", b"A=\xff\0", b"A=a\nb\0", b"\xc3\xa4=1\0", b"A=1\0A=1\0"]
)
def test_broken_text_is_a_protocol_error(segment):
    with pytest.raises(ProtocolError):
        text.parse(segment)


def test_listing_may_repeat_keys():
    assert text.parse_listing(b"T=1\0T=2\0") == [("T", "1"), ("T", "2")]


def test_number_of_keys_and_bytes_is_bounded():
    with pytest.raises(ProtocolError, match="keys in one sequence"):
        text.parse(b"".join(b"K%d=1\0" % index for index in range(text.MAX_PAIRS + 1)))
    with pytest.raises(ProtocolError, match="the limit is"):
        text.parse(bytes(text.MAX_SEQUENCE_BYTES + 1))


def test_encode_ends_every_pair_with_a_nul():
    assert text.encode([("A", "1"), ("B", "")]) == b"A=1\0B=\0"


@pytest.mark.clause("RFC7143 6.2")
def test_split_cuts_between_pairs():
    assert text.split([("A", "1" * 6), ("B", "2"), ("C", "3" * 6)], 14) == [b"A=111111\0B=2\0", b"C=333333\0"]


@pytest.mark.clause("RFC7143 6.2")
def test_split_cuts_a_pair_that_is_longer_than_a_segment():
    pairs = [("A", "1"), ("B", "2" * 30), ("C", "3")]
    segments = text.split(pairs, 10)
    assert b"".join(segments) == text.encode(pairs)
    assert all(0 < len(segment) <= 10 for segment in segments)


def test_split_of_nothing_is_one_empty_segment():
    assert text.split([], 512) == [b""]


@pytest.mark.clause("RFC7143 6.2")
def test_collector_joins_a_pair_that_spans_segments():
    collector = text.TextCollector()
    collector.extend(b"A=1\0Ini")
    collector.extend(b"tialR2T=")
    assert collector.finish(b"No\0") == [("A", "1"), ("InitialR2T", "No")]


def test_collector_finds_a_key_that_comes_twice_in_a_sequence():
    collector = text.TextCollector()
    collector.extend(b"A=1\0")
    with pytest.raises(ProtocolError, match="twice"):
        collector.finish(b"A=1\0")


def test_collector_starts_afresh_after_a_sequence():
    collector = text.TextCollector()
    collector.extend(b"A=1\0")
    collector.finish(b"")
    assert collector.finish(b"B=1\0") == [("B", "1")]


def test_collector_is_bounded():
    collector = text.TextCollector()
    for _ in range(8):
        collector.extend(bytes(8192))
    with pytest.raises(ProtocolError, match="more than"):
        collector.extend(b"x")


def test_collector_refuses_an_empty_segment_that_is_to_be_continued():
    with pytest.raises(ProtocolError, match="no text"):
        text.TextCollector().extend(b"")


@pytest.mark.clause("RFC7143 6.1")
@pytest.mark.parametrize(
    "value, expected", [("0", 0), ("10", 10), ("0x10", 16), ("0XfF", 255), ("18446744073709551615", 2**64 - 1)]
)
def test_numbers_are_decimal_or_hexadecimal(value, expected):
    assert text.number(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-1",
        "+1",
        "1 ",
        "007",
        "1e3",
        "0x",
        "0xg",
        "18446744073709551616",
        "0x1" + "0" * 16,
        "٣",
        "9" * 5000,
        "0b01",
    ],
)
def test_other_numbers_are_inadmissible(value):
    with pytest.raises(InadmissibleValue):
        text.number(value)


def test_boolean_is_spelled_exactly():
    assert text.boolean("Yes") is True
    assert text.boolean("No") is False
    for value in ("yes", "NO", "", "1"):
        with pytest.raises(InadmissibleValue):
            text.boolean(value)


@pytest.mark.clause("RFC7143 6.1")
@pytest.mark.parametrize(
    "value, expected", [("0x0aFf", b"\x0a\xff"), ("0XFFF", b"\x0f\xff"), ("0bAAEC", b"\0\1\2"), ("0BAA==", b"\0")]
)
def test_binary_values_are_hexadecimal_or_base64(value, expected):
    assert text.binary(value, 16) == expected


@pytest.mark.parametrize(
    "value", ["", "12", "0x", "0b", "0bA", "0bAA=", "0bA===", "0bAA\n=", "0b====", "0xzz", "0bAA-_"]
)
def test_other_binary_values_are_inadmissible(value):
    with pytest.raises(InadmissibleValue):
        text.binary(value, 16)


def test_binary_value_is_limited_by_its_decoded_length():
    assert len(text.binary("0x" + "00" * 16, 16)) == 16
    assert len(text.binary("0b" + "A" * 20 + "AA==", 16)) == 16
    for value in ("0x" + "00" * 17, "0b" + "A" * 20 + "AAA="):
        with pytest.raises(InadmissibleValue):
            text.binary(value, 16)


def test_hexadecimal_is_lower_case():
    assert text.hexadecimal(b"\xab\x01") == "0xab01"
