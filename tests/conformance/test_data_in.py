"""Data-In, status and residuals on the wire."""

import pytest

from iscsi_target.iscsi.ahs import AdditionalHeaders, pack_additional_headers
from iscsi_target.iscsi.events import CommandReceived, DataOutCompleted
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import ScsiCommand
from iscsi_target.iscsi.responses import DataIn, ReadyToTransfer, ScsiResponse
from tests.transcript import Transcript, only

SENSE = bytes(18)


def read(transcript: Transcript, content: bytes, expected: int) -> list[DataIn]:
    pdus = transcript.respond(transcript.read(expected), data_in=content)
    assert all(isinstance(pdu.header, DataIn) for pdu in pdus)
    return [pdu.header for pdu in pdus if isinstance(pdu.header, DataIn)]


@pytest.mark.case("FFP-3.1")
@pytest.mark.clause("RFC7143 11.7.5")
def test_data_sn_counts_from_zero_for_each_command():
    transcript = Transcript(initiator_max_recv=512)
    for _ in range(2):
        assert [header.data_sn for header in read(transcript, bytes(2000), 2000)] == [0, 1, 2, 3]


@pytest.mark.case("FFP-9.5")
@pytest.mark.clause("RFC7143 11.7.6")
def test_offsets_lead_through_the_data_without_gap():
    transcript = Transcript(initiator_max_recv=512)
    content = bytes(range(250)) * 8
    pdus = transcript.respond(transcript.read(2000), data_in=content)
    assert [pdu.header.buffer_offset for pdu in pdus if isinstance(pdu.header, DataIn)] == [0, 512, 1024, 1536]
    assert b"".join(pdu.data for pdu in pdus) == content


@pytest.mark.case("FFP-9.2")
@pytest.mark.clause("RFC7143 11.7.1")
def test_final_bit_ends_each_burst():
    transcript = Transcript(initiator_max_recv=512, max_burst_length=1024)
    finals = [header.final for header in read(transcript, bytes(2560), 2560)]
    assert finals == [False, True, False, True, True]


@pytest.mark.case("FFP-9.3.1")
@pytest.mark.clause("RFC7143 13.12")
def test_no_data_segment_exceeds_what_the_initiator_declared():
    transcript = Transcript(initiator_max_recv=700)
    pdus = transcript.respond(transcript.read(2000), data_in=bytes(2000))
    assert [len(pdu.data) for pdu in pdus] == [700, 700, 600]


@pytest.mark.case("FFP-9.1")
@pytest.mark.clause("RFC7143 11.7.3")
def test_status_travels_in_the_last_data_in_and_only_there():
    transcript = Transcript(initiator_max_recv=512)
    headers = read(transcript, bytes(1200), 1200)
    assert [header.status_present for header in headers] == [False, False, True]
    assert [header.status for header in headers] == [0, 0, 0]


@pytest.mark.clause("RFC7143 11.7.4")
def test_transfer_tag_and_acknowledge_bit_are_unused_at_error_recovery_level_0():
    [header] = read(Transcript(), bytes(10), 10)
    assert (header.target_transfer_tag, header.acknowledge) == (NO_TAG, False)


@pytest.mark.clause("RFC7143 11.7.3")
def test_check_condition_is_never_collapsed_into_data_in():
    transcript = Transcript()
    data, response = transcript.respond(transcript.read(10), status=2, sense=SENSE, data_in=bytes(10))
    assert isinstance(data.header, DataIn)
    assert (data.header.final, data.header.status_present) == (True, False)
    assert isinstance(response.header, ScsiResponse)
    assert response.data == b"\0\x12" + SENSE


@pytest.mark.clause("RFC7143 11.4.8")
def test_response_counts_the_data_in_pdus():
    transcript = Transcript(initiator_max_recv=512)
    *_, response = transcript.respond(transcript.read(1024), status=2, sense=SENSE, data_in=bytes(1024))
    assert isinstance(response.header, ScsiResponse)
    assert response.header.exp_data_sn == 2


@pytest.mark.case("FFP-16.1")
@pytest.mark.case("FFP-16.2")
@pytest.mark.clause("RFC7143 11.4.5.1")
@pytest.mark.parametrize(
    ("expected", "returned", "residual"),
    [(96, 96, (False, False, 0)), (255, 96, (False, True, 159)), (36, 96, (True, False, 60))],
)
def test_residual_of_a_read(expected, returned, residual):
    [header] = read(Transcript(), bytes(returned), expected)
    assert (header.overflow, header.underflow, header.residual_count) == residual


@pytest.mark.clause("RFC7143 11.4.5.1")
def test_read_that_fails_has_all_of_it_as_residual():
    transcript = Transcript()
    header = only(transcript.respond(transcript.read(512), status=2, sense=SENSE), ScsiResponse)
    assert (header.underflow, header.residual_count) == (True, 512)


@pytest.mark.clause("RFC7143 11.4.5.1")
def test_read_without_room_for_data_overflows():
    transcript = Transcript()
    header = only(transcript.respond(transcript.read(0), data_in=bytes(36)), ScsiResponse)
    assert (header.overflow, header.residual_count) == (True, 36)


@pytest.mark.clause("RFC7143 11.4.5.1")
@pytest.mark.parametrize(
    ("has", "wanted", "residual"),
    [(512, 512, (False, False, 0)), (1024, 512, (False, True, 512)), (512, 1024, (True, False, 512))],
)
def test_residual_of_a_write(has, wanted, residual):
    transcript = Transcript()
    transcript.wants = wanted
    transcript.write(has, bytes(has))
    header = only(transcript.respond(transcript.tag, wanted=wanted), ScsiResponse)
    assert (header.overflow, header.underflow, header.residual_count) == residual


class Bidirectional:
    """A command that writes 20 bytes and expects 30."""

    def __init__(self, additional: bytes) -> None:
        self.transcript = Transcript(max_burst_length=10, initiator_max_recv=16)
        self.transcript.wants = 20
        header = ScsiCommand(read=True, write=True, expected_data_transfer_length=20)
        self.pdus = self.transcript.ask(header, b"", additional)


READ_LENGTH = pack_additional_headers(AdditionalHeaders(b"", 30))


@pytest.mark.clause("RFC7143 11.4.5.2")
@pytest.mark.parametrize(
    ("returned", "residual"), [(30, (False, False, 0)), (12, (False, True, 18)), (50, (True, False, 20))]
)
def test_bidirectional_command_has_a_residual_in_each_direction(returned, residual):
    both = Bidirectional(READ_LENGTH)
    for _ in range(2):
        asked = only(both.pdus, ReadyToTransfer)
        both.pdus = both.transcript.give(asked, bytes(10))
    assert both.transcript.take(DataOutCompleted)
    *data, response = both.transcript.respond(both.transcript.tag, data_in=bytes(returned), wanted=15)
    header = only([response], ScsiResponse)
    assert sum(len(pdu.data) for pdu in data) == min(returned, 30)
    assert (header.overflow, header.underflow, header.residual_count) == (False, True, 5)
    assert residual == (
        header.bidirectional_read_overflow,
        header.bidirectional_read_underflow,
        header.bidirectional_read_residual_count,
    )


@pytest.mark.clause("RFC7143 11.8.1")
def test_r2ts_and_data_in_of_a_bidirectional_command_share_their_numbers():
    both = Bidirectional(READ_LENGTH)
    first = only(both.pdus, ReadyToTransfer)
    second = only(both.transcript.give(first, bytes(10)), ReadyToTransfer)
    both.transcript.give(second, bytes(10))
    *data, response = both.transcript.respond(both.transcript.tag, data_in=bytes(20), wanted=20)
    numbers = [first.r2t_sn, second.r2t_sn, *(pdu.header.data_sn for pdu in data if isinstance(pdu.header, DataIn))]
    assert numbers == list(range(len(numbers)))
    assert only([response], ScsiResponse).exp_data_sn == len(numbers)


@pytest.mark.clause("RFC7143 11.2.2.3")
def test_extended_cdb_is_joined_to_the_first_sixteen_bytes():
    transcript = Transcript()
    cdb = bytes(range(32))
    additional = pack_additional_headers(AdditionalHeaders(cdb[16:]))
    transcript.ask(ScsiCommand(cdb=cdb[:16]), b"", additional)
    assert transcript.take(CommandReceived)[0].cdb == cdb
