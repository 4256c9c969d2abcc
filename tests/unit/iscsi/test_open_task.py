"""How a response becomes PDUs."""

import pytest

from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.responses import DataIn, ScsiResponse
from tests.transcript import Transcript, only


def test_data_and_good_status_go_out_together():
    transcript = Transcript()
    header = only(transcript.respond(transcript.read(10), data_in=bytes(10)), DataIn)
    assert (header.final, header.status_present, header.status, header.stat_sn) == (True, True, 0, 1)
    assert header.target_transfer_tag == NO_TAG


def test_status_without_data_is_a_scsi_response():
    transcript = Transcript()
    header = only(transcript.respond(transcript.read(0)), ScsiResponse)
    assert (header.status, header.response, header.overflow, header.underflow) == (0, 0, False, False)


@pytest.mark.parametrize("status", [2, 4, 8, 0x28])
def test_any_other_status_follows_the_data_in_a_scsi_response(status):
    transcript = Transcript()
    data, response = transcript.respond(transcript.read(10), status=status, data_in=bytes(10))
    assert isinstance(data.header, DataIn)
    assert not data.header.status_present
    assert isinstance(response.header, ScsiResponse)
    assert (response.header.status, response.header.exp_data_sn) == (status, 1)


@pytest.mark.clause("RFC7143 11.4.7.1")
def test_sense_data_has_its_length_before_it():
    transcript = Transcript()
    [pdu] = transcript.respond(transcript.read(10), status=2, sense=b"sense")
    assert pdu.data == b"\0\x05sense"


def test_data_beyond_what_the_initiator_expects_is_cut():
    transcript = Transcript()
    [pdu] = transcript.respond(transcript.read(4), data_in=b"123456")
    assert pdu.data == b"1234"
    header = only([pdu], DataIn)
    assert (header.overflow, header.underflow, header.residual_count) == (True, False, 2)


def test_only_the_last_data_in_has_the_residual():
    transcript = Transcript(initiator_max_recv=512)
    first, last = transcript.respond(transcript.read(1000), data_in=bytes(700))
    assert (first.header.underflow, first.header.residual_count) == (False, 0)
    assert (last.header.underflow, last.header.residual_count) == (True, 300)


def test_command_that_reads_is_given_no_data_without_the_read_flag():
    transcript = Transcript()
    header = only(transcript.respond(transcript.read(512, read=False), data_in=bytes(512)), ScsiResponse)
    assert not header.overflow
    assert not header.underflow


def test_write_of_another_length_has_a_residual():
    transcript = Transcript()
    transcript.write(512, bytes(512))
    header = only(transcript.respond(transcript.tag, wanted=500), ScsiResponse)
    assert (header.underflow, header.residual_count) == (True, 12)
