"""NOP, text, logout, SNACK, Reject and digests on the wire."""

import pytest

from iscsi_target.iscsi.errors import RejectReason
from iscsi_target.iscsi.events import LogoutRequested, ProtocolViolated
from iscsi_target.iscsi.farewell import request_logout
from iscsi_target.iscsi.framing import PduReader
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.open_task import Response
from iscsi_target.iscsi.requests import LoginRequest, LogoutRequest, NopOut, ScsiCommand, SnackRequest, TextRequest
from iscsi_target.iscsi.responses import (
    AsyncMessage,
    DataIn,
    LogoutResponse,
    NopIn,
    Reject,
    TextResponse,
)
from iscsi_target.iscsi.service_requests import LOGOUT_CONNECTION, LOGOUT_RECOVERY, LOGOUT_SESSION
from iscsi_target.iscsi.text import parse_listing
from tests.initiator import ADDRESS, NODE, Lab
from tests.transcript import Transcript, only, whole


@pytest.mark.clause("RFC7143 11.18")
@pytest.mark.parametrize("data", [b"", b"p", b"ping of any length" * 10])
@pytest.mark.parametrize("immediate", [False, True])
def test_ping_is_answered_with_its_tag_and_data(data, immediate):
    transcript = Transcript()
    [pdu] = transcript.ask(NopOut(initiator_task_tag=77, immediate=immediate), data)
    header = only([pdu], NopIn)
    assert (header.initiator_task_tag, header.target_transfer_tag) == (77, NO_TAG)
    assert header.exp_cmd_sn == (1 if immediate else 2)
    assert pdu.data == data


@pytest.mark.case("FFP-15.1.4")
@pytest.mark.clause("RFC7143 11.18.3")
def test_ping_data_is_cut_to_what_the_initiator_takes():
    [pdu] = Transcript(initiator_max_recv=512).ask(NopOut(), b"x" * 1000)
    assert pdu.data == b"x" * 512


@pytest.mark.clause("RFC7143 11.18.1")
def test_nop_out_without_a_tag_is_not_answered():
    transcript = Transcript()
    assert transcript.ask(NopOut(initiator_task_tag=NO_TAG, immediate=True), b"data") == []
    assert transcript.events == []


@pytest.mark.case("FFP-15.2")
@pytest.mark.clause("RFC7143 11.19.1")
def test_targets_ping_and_its_answer():
    transcript = Transcript()
    transcript.session.ping(transcript.connection)
    ping = only(transcript.answers(), NopIn)
    assert (ping.initiator_task_tag, ping.final) == (NO_TAG, True)
    answer = NopOut(initiator_task_tag=NO_TAG, target_transfer_tag=ping.target_transfer_tag, immediate=True)
    assert transcript.ask(answer) == []
    assert transcript.events == []


@pytest.mark.clause("RFC7143 11.10.2")
def test_text_in_parts_is_answered_part_by_part_and_settled_at_the_end():
    transcript = Transcript()
    parts = (b"MaxRecvDataSeg", b"mentLength=40", b"96\0")
    transfer_tag = NO_TAG
    for part in parts[:-1]:
        header = TextRequest(final=False, continue_=True, initiator_task_tag=9, target_transfer_tag=transfer_tag)
        [pdu] = transcript.ask(header, part)
        answer = only([pdu], TextResponse)
        assert (answer.final, answer.continue_, pdu.data) == (False, False, b"")
        assert answer.target_transfer_tag != NO_TAG
        transfer_tag = answer.target_transfer_tag
        assert transcript.parameters.initiator_max_recv == 8192
    answer = only(
        transcript.ask(TextRequest(initiator_task_tag=9, target_transfer_tag=transfer_tag), parts[-1]), TextResponse
    )
    assert (answer.final, answer.target_transfer_tag) == (True, NO_TAG)
    assert transcript.parameters.initiator_max_recv == 4096


@pytest.mark.clause("RFC7143 11.11.2")
def test_long_answer_is_fetched_in_parts_with_the_c_bit():
    pairs = [("TargetName", f"iqn.2026-01.org.example:{number:0100}") for number in range(20)]
    transcript = Transcript(initiator_max_recv=512, send_targets=lambda connection, value: pairs)
    text, transfer_tag, request_text = b"", NO_TAG, b"SendTargets=All\0"
    while True:
        [pdu] = transcript.ask(TextRequest(initiator_task_tag=9, target_transfer_tag=transfer_tag), request_text)
        header = only([pdu], TextResponse)
        text += pdu.data
        assert len(pdu.data) <= 512
        assert header.continue_ != header.final
        if header.final:
            break
        transfer_tag, request_text = header.target_transfer_tag, b""
        assert transfer_tag != NO_TAG
    assert header.target_transfer_tag == NO_TAG
    assert parse_listing(text) == pairs


@pytest.mark.case("FFP-17.3.1")
@pytest.mark.clause("RFC7143 Appendix C")
def test_send_targets_lists_names_with_addresses_and_portal_group():
    host = Lab().connect()
    host.login(target=None)
    host.received.clear()
    listed = host.ask([("SendTargets", "All")])
    assert listed[0] == ("TargetName", NODE)
    assert ("TargetAddress", f"{ADDRESS},1") in listed
    assert {key for key, _ in listed} == {"TargetName", "TargetAddress"}


@pytest.mark.case("FFP-17.3.3")
@pytest.mark.clause("RFC7143 Appendix C")
def test_send_targets_of_a_normal_session_names_its_own_target():
    host = Lab().session()
    listed = host.ask([("SendTargets", "")])
    assert [value for key, value in listed if key == "TargetName"] == [NODE]


@pytest.mark.clause("RFC7143 11.14.1")
@pytest.mark.parametrize(
    "request_pdu", [LogoutRequest(reason_code=LOGOUT_SESSION), LogoutRequest(reason_code=1, cid=7)]
)
def test_logout_surfaces_and_is_answered(request_pdu):
    transcript = Transcript()
    assert transcript.ask(request_pdu) == []
    [event] = transcript.take(LogoutRequested)
    transcript.session.respond_logout(event.connection, event.tag, response=0)
    header = only(transcript.answers(), LogoutResponse)
    assert (header.initiator_task_tag, header.response) == (transcript.tag, 0)
    assert (header.time2wait, header.time2retain) == (2, 20)


@pytest.mark.clause("RFC7143 11.15.1")
def test_logout_of_a_connection_that_does_not_exist_is_answered_as_such():
    transcript = Transcript()
    header = only(transcript.ask(LogoutRequest(reason_code=LOGOUT_CONNECTION, cid=8)), LogoutResponse)
    assert header.response == 1
    assert not transcript.connection.closing


@pytest.mark.clause("RFC7143 11.15.1")
def test_logout_for_recovery_is_not_supported():
    transcript = Transcript()
    header = only(transcript.ask(LogoutRequest(reason_code=LOGOUT_RECOVERY, cid=7)), LogoutResponse)
    assert header.response == 2
    assert not transcript.connection.closing


@pytest.mark.clause("RFC7143 11.14.1")
def test_reserved_logout_reason_is_rejected():
    transcript = Transcript()
    assert only(transcript.ask(LogoutRequest(reason_code=3)), Reject).reason == RejectReason.INVALID_PDU_FIELD


@pytest.mark.clause("RFC7143 11.9.1")
def test_target_asks_for_a_logout():
    transcript = Transcript()
    request_logout(transcript.connection, 10)
    header = only(transcript.answers(), AsyncMessage)
    assert (header.async_event, header.parameter3, header.initiator_task_tag) == (1, 10, NO_TAG)


@pytest.mark.clause("RFC7143 11.16")
@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_snack_is_rejected_at_error_recovery_level_0(kind):
    transcript = Transcript()
    header = only(transcript.send(SnackRequest(kind=kind, initiator_task_tag=5)), Reject)
    assert header.reason == RejectReason.SNACK_REJECT
    assert not transcript.connection.closing


@pytest.mark.case("FFP-14.1")
@pytest.mark.clause("RFC7143 11.17")
def test_reject_carries_the_whole_header_and_no_tag():
    transcript = Transcript()
    sent = transcript.number(ScsiCommand(attributes=6, expected_data_transfer_length=77))
    [pdu] = transcript.send(sent)
    header = only([pdu], Reject)
    assert (header.final, header.initiator_task_tag) == (True, NO_TAG)
    assert pdu.data == sent.pack()
    assert transcript.take(ProtocolViolated)


@pytest.mark.clause("RFC7143 11.2.1.2")
@pytest.mark.case("FFP-16.3.7")
@pytest.mark.clause("RFC7143 11.17.1")
@pytest.mark.parametrize("opcode", [0x07, 0x0F, 0x1C, 0x1E, 0x20, 0x3F])
def test_unknown_opcode_is_rejected_as_not_supported(opcode):
    transcript = Transcript()
    header = only(transcript.send(NopOut(opcode=opcode, initiator_task_tag=5, cmd_sn=1)), Reject)
    assert header.reason == RejectReason.COMMAND_NOT_SUPPORTED
    assert not transcript.connection.closing


@pytest.mark.clause("RFC7143 6.3")
def test_login_request_in_full_feature_phase_is_rejected():
    assert only(Transcript().send(LoginRequest(cmd_sn=1)), Reject)


@pytest.mark.clause("RFC7143 13.1")
@pytest.mark.parametrize("header_digest", [False, True])
@pytest.mark.parametrize("data_digest", [False, True])
def test_digests_protect_both_directions(header_digest, data_digest):
    transcript = Transcript(header_digest=header_digest, data_digest=data_digest, initiator_max_recv=512)
    [pdu] = transcript.ask(NopOut(), b"odd")
    assert pdu.data == b"odd"
    first, last = transcript.respond(transcript.read(600), data_in=b"d" * 600)
    assert isinstance(last.header, DataIn)
    assert first.data + last.data == b"d" * 600


@pytest.mark.clause("RFC7143 13.1")
def test_digests_are_in_the_bytes_that_go_out():
    transcript = Transcript(header_digest=True, data_digest=True)
    transcript.session.respond(transcript.read(5), Response(0, data_in=b"12345"))
    sent = bytearray(whole(transcript.connection.take_output()[0]))
    assert len(sent) == 48 + 4 + 8 + 4
    reader = PduReader()
    reader.enter_full_feature_phase(limit_bytes=512, header_digest=True, data_digest=True)
    [raw] = reader.feed(sent)
    assert bytes(raw.data) == b"12345"


@pytest.mark.clause("RFC7143 7.8")
def test_wrong_data_digest_is_rejected_with_the_header_and_ends_the_connection():
    transcript = Transcript(data_digest=True)
    sent = bytearray(transcript.pack(NopOut(initiator_task_tag=5, cmd_sn=1), b"data"))
    sent[-1] ^= 1
    [pdu] = transcript.feed(bytes(sent))
    assert only([pdu], Reject).reason == RejectReason.DATA_DIGEST_ERROR
    assert pdu.data == sent[:48]
    assert transcript.connection.closing
