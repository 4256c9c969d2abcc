"""Pings, text, logout and SNACK of a session in full feature phase, and what has no place there."""

import pytest

from iscsi_target.iscsi.errors import RejectReason
from iscsi_target.iscsi.events import LogoutRequested, ProtocolViolated
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import LoginRequest, LogoutRequest, NopOut, SnackRequest
from iscsi_target.iscsi.responses import LogoutResponse, NopIn, Reject
from iscsi_target.iscsi.service_requests import (
    LOGOUT_CID_NOT_FOUND,
    LOGOUT_CONNECTION,
    LOGOUT_RECOVERY,
    LOGOUT_RECOVERY_NOT_SUPPORTED,
    LOGOUT_SESSION,
)
from tests.transcript import Transcript, only


@pytest.mark.clause("RFC7143 11.19")
def test_ping_is_answered_with_as_much_of_its_data_as_the_initiator_takes():
    transcript = Transcript(initiator_max_recv=512)
    [pdu] = transcript.ask(NopOut(lun=b"\0\1" + bytes(6)), bytes(range(256)) * 4)
    assert isinstance(pdu.header, NopIn)
    assert (pdu.header.lun, pdu.header.initiator_task_tag) == (bytes(8), transcript.tag)
    assert pdu.data == bytes(range(256)) * 2


def test_answer_to_a_ping_is_not_answered():
    transcript = Transcript()
    assert transcript.send(NopOut(immediate=True, initiator_task_tag=NO_TAG, cmd_sn=transcript.cmd_sn)) == []


def test_logout_of_the_session_is_told():
    transcript = Transcript()
    assert transcript.ask(LogoutRequest(reason_code=LOGOUT_SESSION)) == []
    [told] = transcript.take(LogoutRequested)
    assert told == LogoutRequested(transcript.connection, transcript.tag, None)


@pytest.mark.clause("RFC7143 11.15.1")
@pytest.mark.parametrize(
    "reason, cid, response",
    [(LOGOUT_RECOVERY, 0, LOGOUT_RECOVERY_NOT_SUPPORTED), (LOGOUT_CONNECTION, 77, LOGOUT_CID_NOT_FOUND)],
)
def test_logout_that_cannot_be_is_answered(reason, cid, response):
    transcript = Transcript()
    header = only(transcript.ask(LogoutRequest(reason_code=reason, cid=cid)), LogoutResponse)
    assert header.response == response
    assert not transcript.connection.closing


@pytest.mark.clause("RFC7143 11.17.1")
@pytest.mark.parametrize(
    "request_, reason",
    [
        (LogoutRequest(reason_code=3), RejectReason.INVALID_PDU_FIELD),
        (SnackRequest(), RejectReason.SNACK_REJECT),
        (LoginRequest(), RejectReason.COMMAND_NOT_SUPPORTED),
    ],
    ids=["reserved logout", "snack", "login"],
)
def test_what_has_no_place_is_rejected(request_, reason):
    transcript = Transcript()
    packed = request_ if isinstance(request_, SnackRequest) else transcript.number(request_)
    header = only(transcript.send(packed), Reject)
    assert header.reason == reason
    assert transcript.take(ProtocolViolated)
