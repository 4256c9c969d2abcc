"""Text requests in full feature phase."""

import pytest

from iscsi_target.iscsi.errors import RejectReason
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import TextRequest
from iscsi_target.iscsi.responses import Reject, TextResponse
from iscsi_target.iscsi.text_exchange import TRANSFER_TAG
from tests.transcript import Transcript, only

LONG = [(f"TargetName{number}", "x" * 200) for number in range(10)]


def long_answer(connection, value):
    return LONG


def rejected(transcript: Transcript, header: TextRequest, text: bytes = b"") -> int:
    return only(transcript.ask(header, text), Reject).reason


def test_negotiation_answers_and_changes_what_holds():
    transcript = Transcript()
    [pdu] = transcript.ask(TextRequest(), b"MaxRecvDataSegmentLength=4096\0Unheard=1\0")
    assert b"Unheard=NotUnderstood\0" in pdu.data
    assert transcript.parameters.initiator_max_recv == 4096


def test_answer_carries_tag_and_lun_of_the_request():
    transcript = Transcript()
    header = only(transcript.ask(TextRequest(lun=b"12345678", initiator_task_tag=77)), TextResponse)
    assert (header.lun, header.initiator_task_tag, header.target_transfer_tag) == (b"12345678", 77, NO_TAG)


def test_what_is_declared_holds_when_the_exchange_ends():
    transcript = Transcript()
    transcript.ask(TextRequest(final=False, initiator_task_tag=9), b"MaxRecvDataSegmentLength=512\0")
    assert transcript.parameters.initiator_max_recv == transcript.connection.most_in == 8192
    transcript.ask(TextRequest(initiator_task_tag=9, target_transfer_tag=TRANSFER_TAG))
    assert transcript.parameters.initiator_max_recv == transcript.connection.most_in == 512


def test_request_without_final_bit_is_answered_without_it_and_may_go_on():
    transcript = Transcript()
    header = only(transcript.ask(TextRequest(final=False, initiator_task_tag=9)), TextResponse)
    assert (header.final, header.target_transfer_tag) == (False, TRANSFER_TAG)
    following = TextRequest(initiator_task_tag=9, target_transfer_tag=TRANSFER_TAG)
    assert only(transcript.ask(following), TextResponse).final


def test_both_final_and_continue_is_a_protocol_error():
    assert rejected(Transcript(), TextRequest(continue_=True), b"a=b\0") == RejectReason.PROTOCOL_ERROR


def test_continuation_without_text_is_a_protocol_error():
    assert rejected(Transcript(), TextRequest(final=False, continue_=True)) == RejectReason.PROTOCOL_ERROR


@pytest.mark.parametrize(("tag", "transfer_tag"), [(9, 5), (10, TRANSFER_TAG)])
def test_continuation_of_another_exchange_is_a_protocol_error(tag, transfer_tag):
    transcript = Transcript()
    transcript.ask(TextRequest(final=False, initiator_task_tag=9))
    header = TextRequest(initiator_task_tag=tag, target_transfer_tag=transfer_tag)
    assert rejected(transcript, header) == RejectReason.PROTOCOL_ERROR


def test_continuation_when_nothing_is_open_is_a_protocol_error():
    transcript = Transcript()
    transcript.ask(TextRequest(initiator_task_tag=9))
    header = TextRequest(initiator_task_tag=9, target_transfer_tag=TRANSFER_TAG)
    assert rejected(transcript, header) == RejectReason.PROTOCOL_ERROR


@pytest.mark.parametrize("transfer_tag", [NO_TAG, TRANSFER_TAG])
def test_request_without_a_task_tag_is_refused(transfer_tag):
    header = TextRequest(initiator_task_tag=NO_TAG, target_transfer_tag=transfer_tag)
    assert rejected(Transcript(), header) == RejectReason.INVALID_PDU_FIELD


def test_error_resets_the_exchange_and_the_session_goes_on():
    transcript = Transcript()
    transcript.ask(TextRequest(final=False, continue_=True, initiator_task_tag=9), b"MaxRecvData")
    header = TextRequest(initiator_task_tag=9, target_transfer_tag=TRANSFER_TAG)
    assert rejected(transcript, header, b"\xff") == RejectReason.PROTOCOL_ERROR
    assert rejected(transcript, header) == RejectReason.PROTOCOL_ERROR
    assert only(transcript.ask(TextRequest()), TextResponse).final


def test_new_request_resets_the_one_before():
    transcript = Transcript()
    transcript.ask(TextRequest(final=False, continue_=True, initiator_task_tag=9), b"Unheard")
    [pdu] = transcript.ask(TextRequest(initiator_task_tag=10), b"Other=1\0")
    assert pdu.data == b"Other=NotUnderstood\0"


def test_text_while_an_answer_is_fetched_is_a_protocol_error():
    transcript = Transcript(initiator_max_recv=512, send_targets=long_answer)
    first = only(transcript.ask(TextRequest(initiator_task_tag=9), b"SendTargets=All\0"), TextResponse)
    header = TextRequest(initiator_task_tag=9, target_transfer_tag=first.target_transfer_tag)
    assert rejected(transcript, header, b"a=b\0") == RejectReason.PROTOCOL_ERROR


def test_unknown_value_of_send_targets_is_rejected_in_text():
    [pdu] = Transcript().ask(TextRequest(), b"SendTargets=Alle\0")
    assert pdu.data == b"SendTargets=Reject\0"


def test_send_targets_is_told_connection_and_value():
    told = []

    def answer(connection, value):
        told.append((connection, value))
        return [("TargetName", "x")]

    transcript = Transcript(send_targets=answer)
    [pdu] = transcript.ask(TextRequest(), b"SendTargets=\0")
    assert pdu.data == b"TargetName=x\0"
    assert told == [(transcript.connection, "")]
