"""Attributes and their values."""

import pytest

from iscsi_target.discovery.isns import attributes
from iscsi_target.discovery.isns.attributes import Attribute, Tag
from iscsi_target.discovery.isns.faults import Refused


@pytest.mark.clause("RFC4171 5.3.1")
@pytest.mark.parametrize(("written", "size"), [("", 0), ("a", 4), ("abc", 4), ("abcd", 8), ("\xe4b", 4)])
def test_text_ends_with_nul_and_fills_words(written, size):
    found = attributes.text(Tag.ISCSI_ALIAS, written)
    assert len(found.value) == size
    assert attributes.read_text(found.value) == written


@pytest.mark.clause("RFC4171 6.3.1")
def test_ipv4_address_is_mapped():
    assert attributes.address(16, "192.0.2.1").value.hex() == "00000000000000000000ffffc0000201"
    assert attributes.read_address(attributes.address(16, "192.0.2.1").value) == "192.0.2.1"
    assert attributes.read_address(attributes.address(16, "2001:db8::1").value) == "2001:db8::1"


def test_attributes_come_back_as_they_were_packed():
    found = [attributes.number(6, 300), Attribute(0), attributes.timestamp(1 << 33), Attribute(9999, b"odd!")]
    packed = attributes.pack(found)
    assert packed[:12].hex() == "00000006" + "00000004" + "0000012c"
    assert list(attributes.unpack(b"skip" + packed, 4)) == found


@pytest.mark.parametrize(
    "packed",
    [
        "0000",
        "00000001000000",
        "0000000100000004",
        "0000000100000003616263",
        "00000001ffffffff00000000",
    ],
)
def test_attributes_that_are_cut_short_are_refused(packed):
    with pytest.raises(Refused, match="message format error"):
        list(attributes.unpack(bytes.fromhex(packed)))


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (attributes.read_number, b""),
        (attributes.read_number, bytes(8)),
        (attributes.read_address, bytes(4)),
        (attributes.read_text, b"\xff\0\0\0"),
        (attributes.read_text, b"a\nb\0"),
        (attributes.read_text, b"a" * 260),
    ],
)
def test_value_of_another_form_is_refused(read, value):
    with pytest.raises(Refused):
        read(value)


def test_number_of_attributes_is_bounded(monkeypatch):
    monkeypatch.setattr(attributes, "MAX_ATTRIBUTES", 2)
    assert len(list(attributes.unpack(bytes(16)))) == 2
    with pytest.raises(Refused, match="too many"):
        list(attributes.unpack(bytes(24)))
