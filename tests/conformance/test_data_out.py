"""R2T, solicited and unsolicited Data-Out on the wire, and what ends a task that breaks their rules."""

import pytest

from iscsi_target.iscsi.errors import RejectReason
from iscsi_target.iscsi.events import DataOutCompleted
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.iscsi.responses import ReadyToTransfer, Reject
from iscsi_target.iscsi.text import Pair
from tests.initiator import Host, Lab
from tests.transcript import Pdu, Transcript, only
from tests.unit.scsi.unit_bench import BLOCK

ABORTED_COMMAND = 0xB
UNEXPECTED_UNSOLICITED = (ABORTED_COMMAND, 0x0C0C)
INCORRECT_AMOUNT = (ABORTED_COMMAND, 0x0C0D)
SERVICE_CRC = (ABORTED_COMMAND, 0x4705)
CHECK_CONDITION = 2
UNSOLICITED: list[Pair] = [("InitialR2T", "No"), ("FirstBurstLength", "1024")]
BLOCKS = bytes(range(256)) * 8  # four blocks


def asked(pdus: list[Pdu]) -> list[ReadyToTransfer]:
    return [pdu.header for pdu in pdus if isinstance(pdu.header, ReadyToTransfer)]


def session(offers: list[Pair] | None = None) -> Host:
    return Lab(preferences=Preferences(data_pdu_in_order=False)).session(offers=offers or [])


def r2t(host: Host) -> ReadyToTransfer:
    return host.take_one(ReadyToTransfer)


@pytest.mark.case("FFP-10.1")
@pytest.mark.clause("RFC7143 11.8")
def test_r2t_names_task_unit_place_and_length():
    transcript = Transcript(max_burst_length=512)
    transcript.wants = 700
    lun = b"\0\3\0\0\0\0\0\0"
    [first] = asked(transcript.write(700, lun=lun))
    assert (first.initiator_task_tag, first.lun, first.final) == (transcript.tag, lun, True)
    assert (first.r2t_sn, first.buffer_offset, first.desired_data_transfer_length) == (0, 0, 512)
    assert first.target_transfer_tag != NO_TAG
    [second] = asked(transcript.give(first, bytes(512)))
    assert (second.r2t_sn, second.buffer_offset, second.desired_data_transfer_length) == (1, 512, 188)
    assert second.target_transfer_tag != first.target_transfer_tag


@pytest.mark.clause("RFC7143 11.8")
def test_reserved_bits_of_an_r2t_are_zero():
    transcript = Transcript()
    transcript.wants = 5
    [header] = asked(transcript.write(5))
    assert header.pack()[1] == 0x80


@pytest.mark.clause("RFC7143 13.17")
@pytest.mark.parametrize("outstanding", [1, 2, 5])
def test_no_more_r2ts_are_outstanding_than_negotiated(outstanding):
    transcript = Transcript(max_burst_length=512, max_outstanding_r2t=outstanding)
    transcript.wants = 4096
    first = asked(transcript.write(4096))
    assert len(first) == outstanding
    assert len(asked(transcript.give(first[-1], bytes(512)))) == 1


@pytest.mark.clause("RFC7143 11.8")
def test_data_sent_unasked_is_not_asked_for_again():
    transcript = Transcript(initial_r2t=False, first_burst_length=1024)
    transcript.wants = 3000
    assert transcript.write(3000, b"i" * 100, final=False) == []
    [header] = asked(transcript.give_unasked(b"u" * 924, buffer_offset=100))
    assert (header.buffer_offset, header.desired_data_transfer_length, header.r2t_sn) == (1024, 1976, 0)
    transcript.give(header, b"s" * 1976)
    assert transcript.take(DataOutCompleted)[0].data == b"i" * 100 + b"u" * 924 + b"s" * 1976


@pytest.mark.case("FFP-16.3.6")
@pytest.mark.clause("RFC7143 13.11")
def test_immediate_data_when_forbidden_ends_the_command():
    host = session([("ImmediateData", "No")])
    ended = host.outcome(host.write(0, BLOCKS))
    assert (ended.status, ended.sense) == (CHECK_CONDITION, UNEXPECTED_UNSOLICITED)
    assert host.lab.block(0) == bytes(BLOCK)


@pytest.mark.case("FFP-7.1")
@pytest.mark.clause("RFC7143 13.10")
def test_unsolicited_data_when_forbidden_ends_the_command_when_it_has_come():
    host = session([("InitialR2T", "Yes")])
    tag = host.write(0, BLOCKS, data=b"", final=False)
    assert host.ended(tag) is None
    host.data_out(ReadyToTransfer(initiator_task_tag=tag), BLOCKS)
    assert host.outcome(tag).sense == UNEXPECTED_UNSOLICITED
    assert host.lab.block(0) == bytes(BLOCK)


@pytest.mark.clause("RFC7143 13.14")
def test_immediate_data_beyond_the_first_burst_ends_the_command():
    host = session([("FirstBurstLength", "1024")])
    assert host.outcome(host.write(0, BLOCKS)).sense == UNEXPECTED_UNSOLICITED


@pytest.mark.clause("RFC7143 11.3.4")
def test_immediate_data_beyond_the_expected_length_ends_the_command():
    host = session()
    tag = host.write(0, BLOCKS, expected_data_transfer_length=BLOCK)
    assert host.outcome(tag).sense == UNEXPECTED_UNSOLICITED


@pytest.mark.clause("RFC7143 11.4.7.2")
@pytest.mark.parametrize("length", [BLOCK, 5 * BLOCK], ids=["too little", "too much"])
def test_wrong_amount_of_solicited_data_ends_the_command(length):
    host = session()
    tag = host.ask_to_write(0, blocks=4)
    host.data_out(r2t(host), bytes([1]) * length)
    assert host.outcome(tag).sense == INCORRECT_AMOUNT
    assert host.lab.block(0) == bytes(BLOCK)


@pytest.mark.case("FFP-7.2")
@pytest.mark.clause("RFC7143 11.4.7.2")
@pytest.mark.parametrize("length", [BLOCK, 3 * BLOCK], ids=["too little", "too much"])
def test_wrong_amount_of_unsolicited_data_ends_the_command(length):
    host = session(UNSOLICITED)
    tag = host.write(0, BLOCKS, data=b"", final=False)
    host.data_out(ReadyToTransfer(initiator_task_tag=tag), bytes([1]) * length)
    assert host.outcome(tag).sense == INCORRECT_AMOUNT


@pytest.mark.clause("RFC7143 7.9")
@pytest.mark.parametrize("fields", [{"data_sn": 1}, {"buffer_offset": BLOCK}])
def test_data_out_that_is_missing_ends_the_command_and_not_the_connection(fields):
    host = session([("DataPDUInOrder", "Yes")])
    tag = host.ask_to_write(0, blocks=2)
    asking = r2t(host)
    host.data_out(asking, bytes(BLOCK), final=False, **fields)
    assert host.ended(tag) is None
    host.data_out(asking, bytes(BLOCK), buffer_offset=BLOCK, data_sn=2)
    assert host.outcome(tag).sense == SERVICE_CRC
    assert not host.closed
    assert host.outcome(host.write(0, BLOCKS)).status == 0


@pytest.mark.clause("RFC7143 13.18")
def test_pdus_of_a_sequence_in_any_order_when_negotiated():
    host = session([("DataPDUInOrder", "No")])
    tag = host.ask_to_write(0, blocks=2)
    asking = r2t(host)
    host.data_out(asking, b"b" * BLOCK, final=False, buffer_offset=BLOCK)
    host.data_out(asking, b"a" * BLOCK, data_sn=1)
    assert host.outcome(tag).status == 0
    assert host.lab.block(0) + host.lab.block(1) == b"a" * BLOCK + b"b" * BLOCK


@pytest.mark.case("FFP-8.2")
@pytest.mark.clause("RFC7143 11.7.4")
def test_unknown_transfer_tag_is_rejected_and_the_task_goes_on():
    transcript = Transcript()
    transcript.wants = 10
    [header] = asked(transcript.write(10))
    rejected = only(transcript.give(header, bytes(10), target_transfer_tag=4711), Reject)
    assert rejected.reason == RejectReason.PROTOCOL_ERROR
    assert transcript.take(DataOutCompleted) == []
    transcript.give(header, bytes(10))
    assert transcript.take(DataOutCompleted)


@pytest.mark.clause("RFC7143 11.7.4")
def test_unasked_data_of_a_task_that_announced_none_is_rejected():
    transcript = Transcript(initial_r2t=False)
    transcript.wants = 10
    transcript.write(10)
    assert only(transcript.give_unasked(bytes(10)), Reject).reason == RejectReason.PROTOCOL_ERROR


@pytest.mark.clause("RFC7143 11.7.4")
def test_data_for_no_task_is_rejected():
    assert only(Transcript().give_unasked(bytes(10)), Reject).reason == RejectReason.PROTOCOL_ERROR


@pytest.mark.clause("RFC7143 4.2.3.3")
def test_late_data_of_an_aborted_task_is_swallowed():
    host = session()
    tag = host.ask_to_write(0)
    asking = r2t(host)
    assert host.managed(host.abort(tag)) == 0
    host.received.clear()
    host.data_out(asking, bytes([1]) * BLOCK)
    assert host.received == []
    assert not host.closed
    assert host.lab.block(0) == bytes(BLOCK)


@pytest.mark.clause("RFC7143 4.2.3.3")
def test_late_unsolicited_data_of_an_aborted_task_is_swallowed():
    host = session(UNSOLICITED)
    tag = host.write(0, BLOCKS, data=b"", final=False)
    assert host.managed(host.abort(tag)) == 0
    host.received.clear()
    host.data_out(ReadyToTransfer(initiator_task_tag=tag), BLOCKS[:1024])
    assert host.received == []


@pytest.mark.case("FFP-16.5")
@pytest.mark.clause("RFC7143 11.4.3")
def test_command_that_fails_early_is_answered_after_the_data_that_is_still_to_come():
    host = session(UNSOLICITED)
    tag = host.raw_command(b"\xff", bytes(8), write=BLOCKS, final=False)
    assert host.ended(tag) is None
    host.data_out(ReadyToTransfer(initiator_task_tag=tag), BLOCKS[:1024])
    assert host.outcome(tag).sense == (5, 0x2000)


@pytest.mark.clause("RFC7143 11.7")
@pytest.mark.parametrize("lun", [bytes(8), b"\xff" * 8])
def test_unit_field_of_data_out_is_not_looked_at(lun):
    transcript = Transcript()
    transcript.wants = 10
    [header] = asked(transcript.write(10, lun=b"\0\1\0\0\0\0\0\0"))
    transcript.give(header, bytes(10), lun=lun)
    assert transcript.take(DataOutCompleted)
