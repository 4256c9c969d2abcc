"""The life of a connection: login, admission, refusal, rejects, close."""

import pytest

from iscsi_target.iscsi.connection import MAX_QUEUED_BYTES, Admission, Connection, Departure, LoginExchange
from iscsi_target.iscsi.errors import LoginStatus, RejectReason
from iscsi_target.iscsi.events import LoginCompleted, LoginFailed, ProtocolViolated
from iscsi_target.iscsi.framing import Digests, PduReader, frame
from iscsi_target.iscsi.login import Endpoint, LoginPhase, LoginTarget
from iscsi_target.iscsi.numbering import WINDOW_COMMANDS
from iscsi_target.iscsi.parameters import Parameters
from iscsi_target.iscsi.requests import LoginRequest, NopOut, Request
from iscsi_target.iscsi.responses import LoginResponse, NopIn, Reject
from iscsi_target.iscsi.session import Session
from iscsi_target.iscsi.text import encode
from tests.transcript import INITIATOR, LARGEST, NODE, Pdu, Transcript, only, receive, unpack_all, whole

NAMES = encode([("InitiatorName", INITIATOR), ("TargetName", NODE)])
REQUEST = LoginRequest(transit=True, current_stage=1, next_stage=3, isid=b"\x80\0\0\0\0\1", cid=3, cmd_sn=40)


class Side:
    """A connection that has just been made."""

    def __init__(self) -> None:
        self.touched: dict[Connection, None] = {}
        login = LoginPhase(Endpoint({NODE: LoginTarget(NODE)}), 1, bytes)
        self.connection = Connection(1, 1, "10.0.0.1:3260", login, self.touched)
        self.reader = PduReader()
        self.reader.enter_full_feature_phase(limit_bytes=LARGEST, header_digest=False, data_digest=False)

    def send(self, header: Request, data: bytes = b"") -> list[object]:
        return self.feed(whole(frame(header, data)))

    def feed(self, received: bytes) -> list[object]:
        return list(receive(self.connection, received))

    def answers(self) -> list[Pdu]:
        return list(unpack_all(self.reader, whole(self.connection.take_output()[0])))

    def admit(self, **changes: object) -> Session:
        [event] = self.send(REQUEST.replace(**changes), NAMES)
        assert isinstance(event, LoginCompleted)
        session = Session(event.negotiated, 9, REQUEST.cmd_sn, lambda connection, value: [])
        self.connection.admit(session, 9, Parameters())
        return session


@pytest.mark.clause("RFC7143 6.3")
def test_first_pdu_that_is_no_login_request_closes_without_an_answer():
    side = Side()
    [event] = side.send(NopOut())
    assert isinstance(event, ProtocolViolated)
    assert side.connection.closing
    assert side.answers() == []


def test_login_that_is_not_over_is_answered_with_numbers():
    side = Side()
    assert side.send(REQUEST.replace(transit=False), NAMES) == []
    header = only(side.answers(), LoginResponse)
    assert (header.stat_sn, header.exp_cmd_sn, header.max_cmd_sn, header.tsih) == (0, 40, 39 + WINDOW_COMMANDS, 0)


@pytest.mark.clause("RFC7143 11.13.3")
def test_final_login_response_waits_for_the_decision_and_has_the_tsih():
    side = Side()
    [event] = side.send(REQUEST, NAMES)
    assert isinstance(event, LoginCompleted)
    assert side.answers() == []
    session = Session(event.negotiated, 9, 40, lambda connection, value: [])
    side.connection.admit(session, 9, Parameters())
    header = only(side.answers(), LoginResponse)
    assert (header.tsih, header.transit, header.next_stage, header.exp_cmd_sn) == (9, True, 3, 40)
    assert side.connection.cid == 3


@pytest.mark.clause("RFC7143 11.13.5")
def test_refused_login_is_answered_and_closed():
    side = Side()
    [event] = side.send(REQUEST.replace(version_min=9), NAMES)
    assert isinstance(event, LoginFailed)
    header = only(side.answers(), LoginResponse)
    assert (header.status_class, header.status_detail, header.isid) == (2, 5, REQUEST.isid)
    assert side.connection.closing


@pytest.mark.parametrize("text", [b"\xff", b"no equals\0", b"a=" + b"x" * 9000])
def test_text_that_breaks_its_form_refuses_the_login_or_closes(text):
    side = Side()
    side.send(REQUEST, NAMES + text)
    assert side.connection.closing
    assert all(isinstance(pdu.header, LoginResponse) and pdu.header.status_class == 2 for pdu in side.answers())


@pytest.mark.clause("RFC7143 11.13.5")
def test_other_request_during_the_login_is_refused_as_such():
    side = Side()
    side.send(REQUEST.replace(transit=False), NAMES)
    side.answers()
    [event] = side.send(NopOut())
    assert isinstance(event, LoginFailed)
    header = only(side.answers(), LoginResponse)
    assert (header.status_class, header.status_detail) == (2, 0x0B)


def test_admission_may_be_refused():
    side = Side()
    side.send(REQUEST, NAMES)
    event = side.connection.refuse_admission(LoginStatus.OUT_OF_RESOURCES.refusal("full"))
    assert event == LoginFailed("full")
    header = only(side.answers(), LoginResponse)
    assert (header.status_class, header.status_detail) == (3, 2)


@pytest.mark.parametrize("request_pdu", [NopOut(), REQUEST])
def test_pdu_before_the_decision_closes_without_an_answer(request_pdu):
    side = Side()
    side.send(REQUEST, NAMES)
    assert isinstance(side.connection.phase, Admission)
    [event] = side.send(request_pdu)
    assert isinstance(event, ProtocolViolated)
    assert side.connection.closing
    assert side.answers() == []


def test_pdu_right_behind_the_last_login_request_is_taken_when_admitted_at_once():
    side = Side()
    stream = whole(frame(REQUEST, NAMES)) + whole(frame(NopOut(initiator_task_tag=5, cmd_sn=40)))
    for event in receive(side.connection, stream):
        assert isinstance(event, LoginCompleted)
        session = Session(event.negotiated, 9, 40, lambda connection, value: [])
        side.connection.admit(session, 9, Parameters())
    assert [type(pdu.header) for pdu in side.answers()] == [LoginResponse, NopIn]


@pytest.mark.clause("RFC7143 13.1")
def test_digests_hold_from_the_first_pdu_after_the_login_in_both_directions():
    side = Side()
    digests = encode([("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")])
    for event in receive(side.connection, whole(frame(REQUEST, NAMES + digests))):
        assert isinstance(event, LoginCompleted)
        side.connection.admit(Session(event.negotiated, 9, 40, lambda connection, value: []), 9, Parameters())
    assert only(side.answers(), LoginResponse).tsih == 9
    side.reader.enter_full_feature_phase(limit_bytes=512, header_digest=True, data_digest=True)
    ping = NopOut(initiator_task_tag=5, cmd_sn=40)
    side.feed(whole(frame(ping, b"ping", header_digest=True, data_digest=True)))
    [pdu] = side.answers()
    assert pdu.data == b"ping"


def test_login_phase_takes_no_pdu_of_the_full_feature_phases_size():
    side = Side()
    [event] = side.feed(whole(frame(REQUEST, bytes(8193))))
    assert isinstance(event, ProtocolViolated)
    assert isinstance(side.connection.phase, LoginExchange)
    assert side.answers() == []


@pytest.mark.clause("RFC7143 11.17")
def test_lost_stream_is_rejected_with_the_header_and_closed():
    transcript = Transcript(target_max_recv=512)
    sent = transcript.pack(NopOut(initiator_task_tag=7, cmd_sn=1), bytes(600))
    [pdu] = transcript.feed(sent)
    assert only([pdu], Reject).reason == RejectReason.INVALID_PDU_FIELD
    assert pdu.data == sent[:48]
    assert transcript.connection.closing


@pytest.mark.clause("RFC7143 7.8")
def test_header_that_cannot_be_trusted_is_not_rejected_but_closed():
    transcript = Transcript(header_digest=True)
    sent = bytearray(transcript.pack(NopOut(initiator_task_tag=7, cmd_sn=1)))
    sent[50] ^= 1
    assert transcript.feed(bytes(sent)) == []
    assert transcript.connection.closing


def test_nothing_is_handled_after_the_close():
    side = Side()
    side.feed(whole(frame(NopOut())) + whole(frame(REQUEST, NAMES)))
    assert side.answers() == []


def test_departed_connection_ignores_what_comes():
    transcript = Transcript()
    transcript.connection.phase = Departure(transcript.session.numbers)
    assert transcript.ask(NopOut()) == []
    assert not transcript.connection.closing


def test_connection_enters_itself_where_output_waits():
    side = Side()
    side.admit()
    assert list(side.touched) == [side.connection]
    side.touched.clear()
    side.answers()
    side.connection.close()
    assert list(side.touched) == [side.connection]
    assert side.answers() == []


@pytest.mark.clause("RFC7143 11.19")
def test_ping_has_a_transfer_tag_no_task_tag_and_takes_no_stat_sn():
    transcript = Transcript()
    transcript.session.ping(transcript.connection)
    transcript.session.ping(transcript.connection)
    first, second = (pdu.header for pdu in transcript.answers())
    assert isinstance(first, NopIn)
    assert first.initiator_task_tag == 0xFFFFFFFF
    assert first.target_transfer_tag not in (0xFFFFFFFF, second.target_transfer_tag)
    assert first.stat_sn == second.stat_sn == 1


@pytest.mark.parametrize("digests", [False, True])
def test_remark_says_where_in_the_output_the_pdu_is(digests: bool):
    side = Side()
    side.admit()
    side.connection.take_output()
    side.connection.digests = Digests(digests, digests)
    side.connection.send(NopIn(), b"before")
    side.connection.send(NopIn(initiator_task_tag=7), b"meant", about="this one")
    side.connection.send(NopIn(), b"after")
    buffers, [remark] = side.connection.take_output()
    output = whole(buffers)
    side.reader.enter_full_feature_phase(limit_bytes=LARGEST, header_digest=digests, data_digest=digests)
    [pdu] = unpack_all(side.reader, output[remark.offset : remark.offset + remark.length])
    assert isinstance(pdu.header, NopIn)
    assert (pdu.header.initiator_task_tag, pdu.data, remark.about) == (7, b"meant", "this one")
    assert side.connection.take_output() == ([], ())


def test_connection_is_full_by_the_data_that_is_queued_and_not_by_headers():
    connection = Transcript().connection
    for _ in range(2):
        connection.queue(bytes(48), bytes(MAX_QUEUED_BYTES - 4))
        connection.send(NopIn())
        assert not connection.full
        connection.queue(bytes(48), bytes(4))
        assert connection.full
        connection.take_output()
        assert not connection.full
