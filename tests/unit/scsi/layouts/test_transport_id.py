"""iSCSI TransportIDs, byte by byte. Node A, whose name and ISID are those of the first example."""

import pytest

from iscsi_target.scsi.layouts.transport_id import (
    MAX_TRANSPORT_ID_BYTES,
    MIN_TRANSPORT_ID_BYTES,
    InvalidTransportId,
    TransportId,
    pack_transport_id,
    unpack_transport_id,
)
from iscsi_target.scsi.nexus import InitiatorPort

A = InitiatorPort("iqn.2026-01.org.example:a", bytes.fromhex("00023D0000AB"))
A_ID = bytes.fromhex("4500002C") + b"iqn.2026-01.org.example:a,i,0x00023d0000ab\0\0"
DEVICE_ID = bytes.fromhex("0500001C") + b"iqn.2026-01.org.example:a\0\0\0"


def port_id(text: bytes) -> bytes:
    """A TransportID of format 01b that is padded as it should be."""
    length = max(20, (len(text) + 4) // 4 * 4)
    return bytes.fromhex("4500") + length.to_bytes(2) + text.ljust(length, b"\0")


def why(buffer: bytes) -> tuple[str, bool]:
    with pytest.raises(InvalidTransportId) as caught:
        unpack_transport_id(buffer)
    return str(caught.value), caught.value.cut


@pytest.mark.clause("SPC4r37 7.6.4.6")
def test_a_port_is_name_separator_isid_nul_and_padding():
    assert pack_transport_id(A) == A_ID


@pytest.mark.clause("SPC4r37 7.6.4.6")
@pytest.mark.parametrize("name", ["iqn." + "n" * more for more in range(1, 220)])
def test_the_length_is_the_least_multiple_of_four_that_holds_a_nul(name):
    packed = pack_transport_id(InitiatorPort(name, bytes(6)))
    length = len(packed) - 4
    assert packed[2:4] == length.to_bytes(2)
    assert length % 4 == 0
    assert 0 < length - len(name) - len(",i,0x000000000000") <= 4
    assert packed.endswith(b"\0")
    assert MIN_TRANSPORT_ID_BYTES <= len(packed) <= MAX_TRANSPORT_ID_BYTES


def test_the_limits_are_those_of_the_shortest_and_the_longest_name():
    assert MIN_TRANSPORT_ID_BYTES == 24  # of the standard; the shortest name of a port needs 28
    assert len(pack_transport_id(InitiatorPort("iqn.".ljust(223, "n"), bytes(6)))) == MAX_TRANSPORT_ID_BYTES == 248


@pytest.mark.clause("SPC4r37 7.6.4.6")
def test_a_port_is_read_as_it_was_written():
    assert unpack_transport_id(A_ID) == TransportId(A.name, A.isid, 48)


def test_what_is_around_a_transport_id_is_left_alone():
    assert unpack_transport_id(b"xyz" + A_ID + DEVICE_ID, 3) == TransportId(A.name, A.isid, 48)
    assert unpack_transport_id(b"xyz" + A_ID + DEVICE_ID, 51) == TransportId(A.name, None, 32)


@pytest.mark.clause("SPC4r37 7.6.4.6")
def test_a_device_has_a_name_and_no_isid():
    assert unpack_transport_id(DEVICE_ID) == TransportId(A.name, None, 32)


def test_reserved_bits_of_the_header_are_ignored():
    assert unpack_transport_id(b"\x75\xff" + A_ID[2:]) == unpack_transport_id(A_ID)


@pytest.mark.clause("RFC7143 4.2.7.1")
def test_names_and_digits_are_normalised():
    text = b"IQN.2026-01.Org.Example:A,i,0x00023D0000aB"
    assert unpack_transport_id(port_id(text)) == TransportId(A.name, A.isid, 48)


@pytest.mark.clause("SPC4r37 7.6.4.6")
def test_the_first_nul_ends_the_name():
    assert unpack_transport_id(A_ID[:-1] + b"x") == unpack_transport_id(A_ID)
    assert unpack_transport_id(port_id(A_ID[4:-2] + b"\0\xff,i,0x")) == TransportId(A.name, A.isid, 56)


@pytest.mark.parametrize("length", range(48))
def test_what_ends_early_is_cut(length):
    told, cut = why(A_ID[:length])
    assert cut
    assert told == ("it ends within its header" if length < 4 else "it ends within its name")


def test_an_offset_at_the_end_is_cut():
    with pytest.raises(InvalidTransportId) as caught:
        unpack_transport_id(A_ID, len(A_ID))
    assert caught.value.cut


@pytest.mark.parametrize(
    "buffer, told",
    [
        (b"\x46" + A_ID[1:], "its protocol is not iSCSI"),
        (b"\x85" + A_ID[1:], "its format code is reserved"),
        (b"\xc5" + A_ID[1:], "its format code is reserved"),
        (b"\x45\0\0\x10" + A_ID[4:], "its ADDITIONAL LENGTH is not a multiple of four of at least 20"),
        (b"\x45\0\0\x2b" + A_ID[4:], "its ADDITIONAL LENGTH is not a multiple of four of at least 20"),
        (b"\x45\0\0\xf8" + bytes(248), "it is longer than any iSCSI name"),
        (b"\x45\0\xff\xfc" + bytes(248), "it is longer than any iSCSI name"),
        (b"\x05\0\0\x18" + A_ID[4:28], "its name does not end with NUL"),
        (port_id(b"iqn.2026-01.org.example:\xff,i,0x000000000000"), "its name is not UTF-8"),
        (b"\x45" + DEVICE_ID[1:], "its name is not NAME,i,0xISID"),
        (b"\x05" + A_ID[1:], "it holds not an iSCSI name: iqn., eui. or naa. and what belongs to it"),
        (b"\x05\0\0\x14" + bytes(20), "it holds not an iSCSI name: iqn., eui. or naa. and what belongs to it"),
        (port_id(b"n".rjust(224, b"n") + b",i,0x000000000000"), "it holds an iSCSI name of more than 223 bytes"),
    ],
)
def test_what_is_wrong_is_said(buffer, told):
    assert why(buffer) == (told, False)
