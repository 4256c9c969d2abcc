"""A login from the initiator's side, against a desk that says what the test wants."""

import pytest

from iscsi_target.initiator.events import Event, LoggedIn, LoginFailed
from iscsi_target.initiator.login import Identity
from iscsi_target.initiator.proof import Credentials
from iscsi_target.initiator.session import Settings
from iscsi_target.iscsi.chap import ChapAccount
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.iscsi.requests import LoginRequest
from iscsi_target.iscsi.responses import LoginResponse, NopIn
from iscsi_target.iscsi.text import encode
from tests.unit.initiator.bench import ISID, NAME, NODE, Desk

ALICE = Credentials(ChapAccount("alice", b"a secret of alice"))


def response(desk: Desk, **fields) -> LoginResponse:
    """A response in the stage of the operational negotiation, unless fields say otherwise."""
    return LoginResponse(**{"current_stage": 1, "initiator_task_tag": 1, "tsih": 7} | fields)


def test_login_without_credentials_is_one_request_that_asks_for_the_full_feature_phase():
    header, data, _ = sent = Desk().one()
    assert isinstance(header, LoginRequest)
    assert (header.transit, header.current_stage, header.next_stage) == (True, 1, 3)
    assert (header.isid, header.tsih, header.immediate, header.cmd_sn) == (ISID, 0, True, 1)
    assert list(sent.pairs)[:3] == ["InitiatorName", "SessionType", "TargetName"]
    assert sent.pairs["TargetName"] == NODE
    assert data.endswith(b"\0")


def test_identity_declares_what_kind_of_session_it_wants():
    assert dict(Identity(NAME, ISID, None, "alias").declare()) == {
        "InitiatorName": NAME,
        "InitiatorAlias": "alias",
        "SessionType": "Discovery",
    }
    assert Identity(NAME, ISID, None).discovery


def test_login_ends_with_what_was_negotiated():
    event = Desk().log_in(("MaxBurstLength", "512"), ("TargetPortalGroupTag", "1"))
    assert isinstance(event, LoggedIn)
    assert (event.tsih, event.parameters.max_burst_length) == (7, 512)
    assert event.answers["TargetPortalGroupTag"] == "1"


def test_credentials_are_shown_in_the_security_stage_and_the_rest_is_negotiated_afterwards():
    desk = Desk(Settings(credentials=ALICE))
    first = desk.one()
    assert isinstance(first.header, LoginRequest)
    assert (first.header.current_stage, first.header.transit) == (0, False)
    assert first.pairs["AuthMethod"] == "CHAP,None"
    desk.reply(response(desk, current_stage=0), encode([("AuthMethod", "CHAP")]))
    assert "5" in desk.one().pairs["CHAP_A"].split(",")
    desk.reply(response(desk, current_stage=0), encode([("CHAP_A", "5"), ("CHAP_I", "1"), ("CHAP_C", "0x11")]))
    proof = desk.one()
    assert isinstance(proof.header, LoginRequest)
    assert (proof.header.transit, proof.header.next_stage) == (True, 1)
    assert proof.pairs["CHAP_N"] == "alice"
    desk.reply(response(desk, current_stage=0, transit=True, next_stage=1))
    assert "MaxBurstLength" in desk.one().pairs
    [event] = desk.reply(response(desk, transit=True, next_stage=3))
    assert isinstance(event, LoggedIn)


def test_target_that_stays_in_a_stage_is_asked_again():
    desk = Desk()
    desk.sent()
    assert desk.reply(response(desk), encode([("X-com.example", "1")])) == []
    again = desk.one()
    assert again.pairs == {"X-com.example": "NotUnderstood"}
    assert isinstance(again.header, LoginRequest)
    assert again.header.transit


@pytest.mark.clause("RFC7143 6.2")
def test_text_of_several_pdus_is_fetched_with_empty_requests_and_joined():
    desk = Desk()
    desk.sent()
    assert desk.reply(response(desk, continue_=True), b"MaxBurst") == []
    header, data, _ = desk.one()
    assert isinstance(header, LoginRequest)
    assert (header.transit, header.continue_, data) == (False, False, b"")
    assert desk.reply(response(desk), b"Length=1024\0") == []
    assert desk.session.parameters.max_burst_length == 1024
    desk.sent()
    [event] = desk.reply(response(desk, transit=True, next_stage=3))
    assert isinstance(event, LoggedIn)


@pytest.mark.clause("RFC7143 6.2")
def test_long_text_is_sent_in_several_pdus_of_which_only_the_last_asks_to_leave_the_stage():
    overrides = {f"X-com.example.{number}": "x" * 250 for number in range(60)}
    desk = Desk(Settings(overrides=overrides))
    joined = b""
    sizes = []
    while True:
        header, data, _ = desk.one()
        assert isinstance(header, LoginRequest)
        joined += data
        sizes.append(len(data))
        assert header.transit != header.continue_
        if header.transit:
            break
        assert desk.reply(response(desk)) == []
    assert len(sizes) == 3
    assert max(sizes) <= 8192
    assert joined.count(b"X-com.example.") == 60


@pytest.mark.clause("RFC7143 11.13.5")
def test_refused_login_tells_the_status():
    desk = Desk()
    [event] = desk.reply(response(desk, status_class=2, status_detail=3))
    assert event == LoginFailed(0, 0x0203, "login status 0203h, TARGET_NOT_FOUND", "")
    assert desk.connection.closing


@pytest.mark.clause("RFC7143 11.13.5")
def test_redirected_login_tells_where_the_target_is():
    desk = Desk()
    [event] = desk.reply(
        response(desk, status_class=1, status_detail=1), encode([("TargetAddress", "10.0.0.2:3261,2")])
    )
    assert event == LoginFailed(0, 0x0101, "login status 0101h, TARGET_MOVED_TEMPORARILY", "10.0.0.2:3261,2")
    desk = Desk()
    [event] = desk.reply(response(desk, status_class=1, status_detail=2), b"nonsense")
    assert event == LoginFailed(0, 0x0102, "login status 0102h, TARGET_MOVED_PERMANENTLY", "")


@pytest.mark.parametrize(
    "wrong",
    [
        {"initiator_task_tag": 9},
        {"version_active": 1},
        {"current_stage": 0},
        {"transit": True, "next_stage": 1},
        {"transit": True, "next_stage": 3, "tsih": 0},
        {"transit": True, "next_stage": 3, "continue_": True},
    ],
)
def test_response_that_cannot_follow_ends_the_login(wrong: dict):
    desk = Desk()
    desk.sent()
    [event] = desk.reply(response(desk, **wrong))
    assert isinstance(event, LoginFailed)
    assert event.status == 0


def test_target_cannot_leave_the_security_stage_before_the_proof():
    desk = Desk(Settings(credentials=ALICE))
    [event] = desk.reply(response(desk, current_stage=0, transit=True, next_stage=1), encode([("AuthMethod", "CHAP")]))
    assert isinstance(event, LoginFailed)


def test_target_cannot_leave_a_stage_with_an_offer_of_its_own():
    [event] = Desk().reply(response(Desk(), transit=True, next_stage=3), encode([("IFMarker", "Yes")]))
    assert isinstance(event, LoginFailed)


def test_demanded_digest_that_is_not_agreed_to_ends_the_login():
    desk = Desk(Settings(Preferences(data_digest=("CRC32C",))))
    [event] = desk.reply(response(desk, transit=True, next_stage=3), encode([("DataDigest", "Reject")]))
    assert isinstance(event, LoginFailed)
    assert "DataDigest" in event.reason


def test_text_before_the_request_is_complete_is_an_error():
    desk = Desk(Settings(overrides={f"X-{number}": "x" * 250 for number in range(60)}))
    [event] = desk.reply(response(desk), b"MaxBurstLength=512\0")
    assert isinstance(event, LoginFailed)


def test_login_that_never_ends_is_ended():
    desk = Desk()
    events: list[Event] = []
    while not events:
        desk.sent()
        events = desk.reply(response(desk))
    assert isinstance(events[0], LoginFailed)
    assert "128" in events[0].reason


def test_pdu_of_the_full_feature_phase_ends_the_login():
    [event] = Desk().reply(NopIn())
    assert isinstance(event, LoginFailed)
