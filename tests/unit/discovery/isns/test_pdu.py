"""Messages as PDUs, whole and in pieces."""

import pytest

from iscsi_target.discovery.isns.pdu import (
    MAX_PAYLOAD_BYTES,
    FramingError,
    Message,
    MessageReader,
    PduHeader,
    pack,
    unpack_datagram,
)

SMALL = Message(0x0001, 7, b"abcd" * 3, replace=True)
LARGE = Message(0x8002, 65535, bytes(range(256)) * 600)


@pytest.mark.clause("RFC4171 5.1")
def test_header_has_the_fields_of_the_figure():
    packed = pack(SMALL)
    assert packed[:12].hex() == "00010001000c" + "9c00" + "0007" + "0000"
    assert pack(SMALL, from_server=True)[6:8].hex() == "5c00"


@pytest.mark.clause("RFC4171 5.2")
def test_large_message_is_cut_into_numbered_pdus():
    packed = pack(LARGE)
    first = PduHeader.unpack(packed)
    assert (first.pdu_length, first.first_pdu, first.last_pdu) == (MAX_PAYLOAD_BYTES, True, False)
    second = PduHeader.unpack(packed, PduHeader.size + MAX_PAYLOAD_BYTES)
    assert (second.first_pdu, second.sequence_id) == (False, 1)
    assert list(MessageReader().feed(packed)) == [LARGE]


@pytest.mark.parametrize("step", [1, 11, 12, 13, 1000])
def test_message_comes_out_whole_from_any_pieces(step):
    reader = MessageReader()
    stream = pack(SMALL) + pack(LARGE) + pack(SMALL)
    found = [message for at in range(0, len(stream), step) for message in reader.feed(stream[at : at + step])]
    assert found == [SMALL, LARGE, SMALL]


def header(**changes):
    return PduHeader(function_id=1, pdu_length=0, transaction_id=1).replace(**changes).pack()


@pytest.mark.parametrize(
    ("stream", "what"),
    [
        (header(isnsp_version=2), "version 2"),
        (header(authentication_block=True), "authentication"),
        (header(pdu_length=3), "whole words"),
        (header(first_pdu=False), "follow"),
        (header(last_pdu=False) + header(), "follow"),
        (header(last_pdu=False) + header(first_pdu=False, sequence_id=2), "another message"),
        (header(last_pdu=False) + header(first_pdu=False, sequence_id=1, transaction_id=2), "another message"),
    ],
)
def test_what_is_no_pdu_ends_the_stream(stream, what):
    with pytest.raises(FramingError, match=what):
        list(MessageReader().feed(stream))


def test_message_is_refused_before_it_is_too_long():
    with pytest.raises(FramingError, match="more than 8 bytes"):
        list(MessageReader(8).feed(header(pdu_length=12)))
    reader = MessageReader(8)
    list(reader.feed(header(pdu_length=8, last_pdu=False) + bytes(8)))
    with pytest.raises(FramingError, match="more than 8 bytes"):
        list(reader.feed(header(pdu_length=4, first_pdu=False, sequence_id=1)))


@pytest.mark.parametrize("datagram", [b"", b"x", pack(SMALL)[:-1], pack(SMALL) + b"\0", pack(SMALL) * 2])
def test_datagram_is_one_whole_message(datagram):
    assert unpack_datagram(pack(SMALL)) == SMALL
    with pytest.raises(FramingError):
        unpack_datagram(datagram)
