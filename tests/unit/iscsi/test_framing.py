"""Bytes to PDUs and back: pieces, padding, digests, limits."""

from typing import TypedDict

import pytest

from iscsi_target.iscsi.errors import RejectReason, StreamLost
from iscsi_target.iscsi.framing import LOGIN_DATA_BYTES, LONG_BYTES, MAX_AHS_WORDS, Buffer, PduReader, frame
from iscsi_target.iscsi.header import BasicHeader
from iscsi_target.iscsi.requests import DataOut, NopOut, ScsiCommand
from iscsi_target.wire.layout import LayoutError
from tests.transcript import whole


class Digests(TypedDict):
    header_digest: bool
    data_digest: bool


BOTH: Digests = {"header_digest": True, "data_digest": True}


def reader(limit_bytes=65536, *, header_digest=False, data_digest=False) -> PduReader:
    made = PduReader()
    made.enter_full_feature_phase(limit_bytes=limit_bytes, header_digest=header_digest, data_digest=data_digest)
    return made


def lost(made: PduReader, received: Buffer) -> StreamLost:
    with pytest.raises(StreamLost) as caught:
        list(made.feed(received))
    return caught.value


@pytest.mark.clause("RFC7143 11.2.1.7")
@pytest.mark.parametrize(("length", "padding"), [(1, 3), (2, 2), (3, 1), (4, 0), (5, 3)])
def test_data_segment_is_padded_to_four_bytes_and_its_length_is_not(length, padding):
    sent = whole(frame(NopOut(), b"d" * length))
    assert len(sent) == 48 + length + padding
    assert sent[48 + length :] == bytes(padding)
    assert sent[5:8] == length.to_bytes(3, "big")
    [pdu] = reader().feed(sent)
    assert bytes(pdu.data) == b"d" * length


def test_data_is_not_copied_into_the_buffers():
    data = bytearray(4096)
    assert any(buffer is data for buffer in frame(DataOut(), data))


@pytest.mark.clause("RFC7143 11.2.1.5")
def test_additional_headers_are_counted_in_words():
    sent = whole(frame(ScsiCommand(), b"data", b"additional_h"))
    assert sent[4] == 3
    [pdu] = reader().feed(sent)
    assert (bytes(pdu.additional), bytes(pdu.data)) == (b"additional_h", b"data")


@pytest.mark.clause("RFC7143 11.2.3")
def test_digests_are_the_crc_least_significant_byte_first():
    command = bytes.fromhex(
        "01c00000 00000000 00000000 00000000 14000000 00000400 00000014 00000018 28000000 00000000 02000000 00000000"
    )
    sent = whole(frame(ScsiCommand.unpack(command), header_digest=True))
    assert sent[48:] == bytes.fromhex("563a96d9")


def test_data_digest_covers_the_padding():
    sent = whole(frame(NopOut(), b"d", **BOTH))
    assert len(sent) == 48 + 4 + 4 + 4
    [pdu] = reader(**BOTH).feed(sent)
    assert bytes(pdu.data) == b"d"
    broken = bytearray(sent)
    broken[54] = 1
    assert lost(reader(**BOTH), broken).reason is RejectReason.DATA_DIGEST_ERROR


def test_pdu_without_data_has_no_data_digest():
    sent = whole(frame(NopOut(), **BOTH))
    assert len(sent) == 52
    assert len(list(reader(**BOTH).feed(sent + sent))) == 2


@pytest.mark.clause("RFC7143 7.8")
def test_wrong_header_digest_ends_the_stream_without_trust_in_the_header():
    broken = bytearray(whole(frame(NopOut(), b"data", **BOTH)))
    broken[20] ^= 1
    error = lost(reader(**BOTH), broken)
    assert error.header == b""


@pytest.mark.clause("RFC7143 7.8")
def test_wrong_data_digest_ends_the_stream_and_names_the_header():
    sent = bytearray(whole(frame(NopOut(initiator_task_tag=5), b"data", **BOTH)))
    sent[-1] ^= 1
    error = lost(reader(**BOTH), sent)
    assert error.reason is RejectReason.DATA_DIGEST_ERROR
    assert error.header == sent[:48]


def test_header_digest_covers_additional_headers():
    sent = bytearray(whole(frame(ScsiCommand(), b"", b"12345678", header_digest=True)))
    sent[50] ^= 1
    lost(reader(header_digest=True), sent)


@pytest.mark.clause("RFC7143 13.12")
def test_data_segment_over_the_limit_ends_the_stream_before_its_data_has_come():
    sent = whole(frame(NopOut(), bytes(513)))
    error = lost(reader(512), sent[:48])
    assert error.reason is RejectReason.INVALID_PDU_FIELD
    assert error.header == sent[:48]
    assert len(list(reader(513).feed(sent))) == 1


def test_with_header_digest_a_length_is_believed_only_after_the_digest():
    broken = bytearray(whole(frame(NopOut(), b"data", header_digest=True)))
    broken[5] = 0xFF
    assert "digest" in lost(reader(512, header_digest=True), broken).text


@pytest.mark.clause("RFC7143 13.12")
def test_login_takes_8192_bytes_and_no_more():
    assert LOGIN_DATA_BYTES == 8192
    assert len(list(PduReader().feed(whole(frame(NopOut(), bytes(8192)))))) == 1
    lost(PduReader(), whole(frame(NopOut(), bytes(8193)))[:48])


@pytest.mark.clause("RFC7143 7.7")
def test_more_additional_headers_than_any_command_needs_end_the_stream():
    assert list(reader().feed(whole(frame(ScsiCommand(), b"", bytes(4 * MAX_AHS_WORDS)))))
    lost(reader(), whole(frame(ScsiCommand(), b"", bytes(4 * MAX_AHS_WORDS + 4)))[:48])


def test_digests_hold_from_the_pdu_after_the_one_that_switched_them_on():
    made = PduReader()
    stream = whole(frame(NopOut(), b"login")) + whole(frame(NopOut(), b"after", **BOTH))
    taken = []
    for pdu in made.feed(stream):
        taken.append(bytes(pdu.data))
        made.enter_full_feature_phase(limit_bytes=512, **BOTH)
    assert taken == [b"login", b"after"]


def test_part_of_a_header_that_came_before_the_digests_were_switched_on_counts():
    made = PduReader()
    sent = whole(frame(NopOut(), b"after", **BOTH))
    assert list(made.feed(sent[:47])) == []
    made.enter_full_feature_phase(limit_bytes=512, **BOTH)
    assert [bytes(pdu.data) for pdu in made.feed(sent[47:])] == [b"after"]


def test_whole_pdu_is_a_view_of_what_was_fed():
    sent = bytearray(whole(frame(NopOut(), b"data")))
    [pdu] = reader().feed(sent)
    sent[48] = ord("g")
    assert bytes(pdu.data) == b"gata"


def test_pdu_in_pieces_is_independent_of_what_was_fed():
    made = reader()
    sent = bytearray(whole(frame(NopOut(), b"data")))
    assert list(made.feed(sent[:50])) == []
    rest = sent[50:]
    [pdu] = made.feed(rest)
    rest[0] = 0
    assert bytes(pdu.data) == b"data"


def test_basic_header_tells_opcode_immediate_tag_and_cmd_sn():
    header = NopOut(immediate=True, initiator_task_tag=0x12345678, cmd_sn=0x9ABCDEF0)
    [pdu] = reader().feed(whole(frame(header)))
    basic = pdu.basic
    assert isinstance(basic, BasicHeader)
    assert (basic.opcode, basic.immediate, basic.initiator_task_tag, basic.cmd_sn) == (0, True, 0x12345678, 0x9ABCDEF0)
    assert NopOut.unpack(pdu.header) == header


def test_frame_of_data_too_long_for_the_field_is_an_error_of_ours():
    with pytest.raises(LayoutError):
        frame(NopOut(), bytes(1 << 24))


def test_pdu_that_came_in_pieces_stays_valid_and_one_that_came_whole_does_not():
    sent = whole(frame(ScsiCommand(), b"data"))
    reading, received = reader(), bytearray(sent)
    [pdu] = reading.feed(received)
    assert not pdu.lasting
    assert list(reading.feed(received[:50])) == []
    [pieces] = reading.feed(received[50:])
    assert pieces.lasting
    received[:] = bytes(len(received))
    list(reading.feed(sent[:20]))
    assert (bytes(pieces.header), bytes(pieces.data)) == (sent[:48], b"data")


def long_pdu(made: PduReader) -> bytes:
    """Lets the first bytes of a long PDU come and returns the others."""
    made.enter_full_feature_phase(limit_bytes=4 * LONG_BYTES, header_digest=False, data_digest=False)
    sent = whole(frame(ScsiCommand(), bytes(range(256)) * (LONG_BYTES // 64)))
    assert list(made.feed(sent[:60])) == []
    return sent[60:]


def test_rest_of_a_long_pdu_may_be_put_where_it_belongs():
    made = reader()
    rest = long_pdu(made)
    place = made.place
    assert place is not None
    assert len(place) == len(rest)
    place[:] = rest
    [pdu] = made.feed(place)
    assert bytes(pdu.data) == bytes(range(256)) * (LONG_BYTES // 64)
    assert pdu.lasting
    assert made.place is None


def test_part_of_the_rest_may_be_put_there_and_the_others_come_as_ever():
    made = reader()
    rest = long_pdu(made)
    assert made.place is not None
    made.place[:100] = rest[:100]
    assert list(made.feed(made.place[:100])) == []
    [pdu] = made.feed(rest[100:])
    assert bytes(pdu.data) == bytes(range(256)) * (LONG_BYTES // 64)


@pytest.mark.parametrize("digests", [{}, BOTH])
def test_data_of_a_long_pdu_is_laid_where_it_is_to_be(digests):
    made, data = reader(limit_bytes=4 * LONG_BYTES, **digests), bytes(range(256)) * (LONG_BYTES // 64)
    final = bytearray(len(data) + 100)
    made.lay = lambda _: memoryview(final)[100:]
    sent = whole(frame(DataOut(), data, **digests))
    assert list(made.feed(sent[:150])) == []
    assert made.place is not None
    assert made.place.obj is final
    [pdu] = made.feed(sent[150:])
    assert pdu.data.obj is final
    assert pdu.lasting
    assert final == bytes(100) + data
    assert [bytes(pdu.data) for pdu in made.feed(sent)] == [data]


def test_short_rest_has_no_place_of_its_own():
    made = reader()
    assert made.place is None
    assert list(made.feed(whole(frame(ScsiCommand(), bytes(512)))[:60])) == []
    assert made.place is None


def test_pdu_in_pieces_with_a_wrong_header_digest_is_refused():
    made = reader(**BOTH)
    sent = bytearray(whole(frame(ScsiCommand(), b"data", **BOTH)))
    sent[5] ^= 1
    assert list(made.feed(sent[:20])) == []
    lost(made, sent[20:])
