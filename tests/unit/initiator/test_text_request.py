"""Exchanges of text in full feature phase."""

import pytest

from iscsi_target.initiator.events import ConnectionLost, Event, TextAnswered
from iscsi_target.initiator.text_request import MAX_LISTED, MAX_LISTED_BYTES, MAX_RESPONSES
from iscsi_target.iscsi.requests import TextRequest
from iscsi_target.iscsi.responses import TextResponse
from iscsi_target.iscsi.text import encode, split
from tests.unit.initiator.bench import Desk, Sent, logged_in

TTT = 40


@pytest.fixture
def desk() -> Desk:
    return logged_in()


def ask(desk: Desk, *pairs: tuple[str, str]) -> int:
    return desk.session.ask(pairs, desk.connection)


def request(sent: Sent) -> TextRequest:
    assert isinstance(sent.header, TextRequest)
    return sent.header


def more(tag: int, **fields) -> TextResponse:
    return TextResponse(**{"final": False, "initiator_task_tag": tag, "target_transfer_tag": TTT} | fields)


def test_question_and_answer_in_one_pdu_each(desk: Desk):
    tag = ask(desk, ("SendTargets", "All"))
    sent = desk.one()
    assert (request(sent).final, request(sent).continue_, sent.data) == (True, False, b"SendTargets=All\0")
    [event] = desk.reply(TextResponse(initiator_task_tag=tag), b"TargetName=a\0TargetAddress=x\0TargetAddress=y\0")
    assert event == TextAnswered(tag, [("TargetName", "a"), ("TargetAddress", "x"), ("TargetAddress", "y")])
    assert not desk.session.requests


def test_answer_may_list_thousands_of_targets(desk: Desk):
    tag = ask(desk, ("SendTargets", "All"))
    listed = [("TargetName", f"iqn.2026-01.org.example:{number}") for number in range(5000)]
    *parts, last = split(listed, 8192)
    for part in parts:
        assert desk.reply(more(tag, continue_=True), part) == []
    assert desk.reply(TextResponse(initiator_task_tag=tag), last) == [TextAnswered(tag, listed)]


@pytest.mark.clause("RFC7143 11.11.2")
def test_answer_in_several_pdus_is_fetched_and_joined(desk: Desk):
    tag = ask(desk, ("SendTargets", "All"))
    desk.sent()
    assert desk.reply(more(tag, continue_=True), b"TargetNa") == []
    sent = desk.one()
    assert (request(sent).target_transfer_tag, request(sent).initiator_task_tag, sent.data) == (TTT, tag, b"")
    [event] = desk.reply(TextResponse(initiator_task_tag=tag), b"me=a\0")
    assert event == TextAnswered(tag, [("TargetName", "a")])


@pytest.mark.clause("RFC7143 11.10.2")
def test_question_of_several_pdus_goes_on_when_the_target_has_taken_one():
    desk = logged_in(("MaxRecvDataSegmentLength", "512"))
    tag = ask(desk, *((f"X-{number}", "y" * 200) for number in range(4)))
    first = desk.one()
    assert (request(first).final, request(first).continue_) == (False, True)
    assert desk.reply(more(tag)) == []
    last = desk.one()
    assert (request(last).final, request(last).target_transfer_tag) == (True, TTT)
    assert len(first.pairs | last.pairs) == 4


def test_target_that_offers_something_is_answered(desk: Desk):
    tag = ask(desk)
    desk.sent()
    desk.reply(more(tag), b"X-offer=1\0MaxRecvDataSegmentLength=4096\0MaxBurstLength=512\0")
    assert desk.one().pairs == {"MaxBurstLength": "Reject", "X-offer": "NotUnderstood"}
    assert desk.session.parameters.target_max_recv == 4096
    [event] = desk.reply(TextResponse(initiator_task_tag=tag))
    assert isinstance(event, TextAnswered)


def test_longer_segments_are_taken_as_soon_as_they_are_declared(desk: Desk):
    tag = ask(desk, ("MaxRecvDataSegmentLength", "1000000"))
    [event] = desk.reply(TextResponse(initiator_task_tag=tag), b"X=" + b"1,2" * 20000 + b"\0")
    assert isinstance(event, TextAnswered)
    assert desk.session.parameters.initiator_max_recv == 1000000


def test_one_question_goes_out_at_a_time(desk: Desk):
    first, second = ask(desk, ("X-1", "a")), ask(desk, ("X-2", "b"))
    assert desk.one().data == b"X-1=a\0"
    desk.reply(TextResponse(initiator_task_tag=first))
    assert desk.one().data == b"X-2=b\0"
    [event] = desk.reply(TextResponse(initiator_task_tag=second))
    assert event == TextAnswered(second, [])


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ({"final": True}, b""),
        ({"target_transfer_tag": 0xFFFFFFFF}, b""),
        ({"final": True, "target_transfer_tag": 0xFFFFFFFF, "continue_": True}, b"X=1\0"),
        ({"continue_": True}, b""),
    ],
)
def test_response_that_contradicts_itself_ends_the_connection(desk: Desk, fields: dict, data: bytes):
    tag = ask(desk)
    [event] = desk.reply(more(tag, **fields), data)
    assert isinstance(event, ConnectionLost)


def test_answer_to_half_a_question_ends_the_connection():
    desk = logged_in(("MaxRecvDataSegmentLength", "512"))
    tag = ask(desk, *((f"X-{number}", "y" * 200) for number in range(4)))
    [event] = desk.reply(TextResponse(initiator_task_tag=tag))
    assert isinstance(event, ConnectionLost)


def test_answer_that_lists_without_end_is_ended(desk: Desk):
    tag = ask(desk, ("SendTargets", "All"))
    listing = encode([("TargetName", "")] * 512)
    replies = [desk.reply(more(tag), listing) for _ in range(MAX_LISTED // 512 + 1)]
    assert isinstance(replies[-1][0], ConnectionLost)
    assert not any(replies[:-1])


def test_answer_that_is_too_long_is_ended(desk: Desk):
    tag = ask(desk, ("SendTargets", "All"))
    part = encode([("TargetName", "x" * 255)] * 30)
    replies = [desk.reply(more(tag), part) for _ in range(MAX_LISTED_BYTES // len(part) + 1)]
    assert isinstance(replies[-1][0], ConnectionLost)
    assert not any(replies[:-1])


def test_exchange_that_never_ends_is_ended(desk: Desk):
    tag = ask(desk)
    events: list[Event] = []
    while not events:
        desk.sent()
        events = desk.reply(more(tag))
    assert isinstance(events[0], ConnectionLost)
    assert str(MAX_RESPONSES) in events[0].reason
