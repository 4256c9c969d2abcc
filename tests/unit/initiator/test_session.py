"""The session of an initiator: its window, the order of requests, its end."""

import pytest

from iscsi_target.initiator.events import CommandCompleted, ConnectionLost, LoggedOut
from iscsi_target.initiator.session import CLOSE_CONNECTION, Settings
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.iscsi.requests import DataOut, LogoutRequest, NopOut, ScsiCommand, TaskManagementRequest
from iscsi_target.iscsi.responses import LogoutResponse, ScsiResponse
from iscsi_target.iscsi.task_management import TaskManagement
from tests.unit.initiator.bench import LUN, READY, WINDOW, Desk, logged_in


def send(desk: Desk, count: int = 1) -> list[int]:
    return [desk.session.command(READY, desk.connection) for _ in range(count)]


def cmd_sns(desk: Desk) -> list[int]:
    return [sent.header.cmd_sn for sent in desk.sent() if not isinstance(sent.header, DataOut)]  # type: ignore[union-attr]  # no SNACK


def test_commands_are_numbered_from_the_cmd_sn_of_the_login():
    desk = logged_in(settings=Settings(first_cmd_sn=0xFFFFFFFE))
    send(desk, 4)
    assert cmd_sns(desk) == [0xFFFFFFFE, 0xFFFFFFFF, 0, 1]


def test_no_command_is_sent_beyond_the_window_and_the_rest_follow_in_order():
    desk = logged_in()
    tags = send(desk, WINDOW + 3)
    assert cmd_sns(desk) == list(range(1, WINDOW + 1))
    desk.window = 2
    desk.reply(ScsiResponse(initiator_task_tag=tags[0]))
    assert [sent.header.initiator_task_tag for sent in desk.sent()] == tags[WINDOW : WINDOW + 2]
    assert desk.session.requests[tags[-1]].sent is None


def test_request_that_cannot_be_sent_is_refused_and_leaves_no_trace():
    desk = logged_in()
    for wrong in (
        lambda: desk.session.command(READY._replace(read_length=1 << 32), desk.connection),
        lambda: desk.session.ping(bytes(8193), desk.connection),
        lambda: desk.session.ask([("X-1", "a\0b")], desk.connection),
        lambda: desk.session.ask([("X=1", "a")], desk.connection),
    ):
        with pytest.raises(ValueError):  # the texts are tested where they are made
            wrong()
    assert not desk.session.requests
    assert desk.sent() == []
    send(desk)
    desk.session.ask([("X-1", "")], desk.connection)
    assert cmd_sns(desk) == [1, 2]


def test_immediate_request_passes_the_closed_window_and_takes_no_number():
    desk = logged_in()
    send(desk, WINDOW + 1)
    desk.sent()
    desk.session.manage(TaskManagement.ABORT_TASK_SET, LUN, desk.connection)
    header, _, _ = desk.one()
    assert isinstance(header, TaskManagementRequest)
    assert (header.immediate, header.cmd_sn) == (True, WINDOW + 1)


def test_abort_names_the_command_by_tag_and_cmd_sn():
    desk = logged_in()
    [_, tag] = send(desk, 2)
    desk.sent()
    desk.session.manage(TaskManagement.ABORT_TASK, LUN, desk.connection, referenced_task_tag=tag)
    header, _, _ = desk.one()
    assert isinstance(header, TaskManagementRequest)
    assert (header.referenced_task_tag, header.ref_cmd_sn, header.cmd_sn) == (tag, 2, 3)


def test_request_that_waits_for_the_window_can_be_taken_back():
    desk = logged_in()
    tags = send(desk, WINDOW + 2)
    desk.sent()
    assert not desk.session.withdraw(tags[0])
    assert desk.session.withdraw(tags[WINDOW])
    assert not desk.session.withdraw(tags[WINDOW])
    desk.reply(ScsiResponse(initiator_task_tag=tags[0]))
    assert desk.one().header.initiator_task_tag == tags[-1]


def test_unsolicited_data_follows_its_command():
    desk = logged_in(("InitialR2T", "No"), ("ImmediateData", "No"), ("MaxRecvDataSegmentLength", "512"))
    tag = desk.session.command(READY._replace(data_out=bytes(1024)), desk.connection)
    kinds = [type(sent.header) for sent in desk.sent()]
    assert kinds == [ScsiCommand, DataOut, DataOut]
    assert desk.reply(ScsiResponse(initiator_task_tag=tag)) == [CommandCompleted(tag, 0, 0, b"", b"")]


def test_logout_comes_after_what_was_asked_for_before():
    desk = logged_in()
    tags = send(desk, WINDOW + 1)
    out = desk.session.log_out(desk.connection)
    assert desk.session.leaving
    assert len(desk.sent()) == WINDOW
    desk.window = WINDOW + 2
    desk.reply(ScsiResponse(initiator_task_tag=tags[0]))
    command, logout = desk.sent()
    assert command.header.initiator_task_tag == tags[-1]
    assert isinstance(logout.header, LogoutRequest)
    events = desk.reply(LogoutResponse(initiator_task_tag=out, time2wait=1, time2retain=2))
    assert events == [LoggedOut(out, 0, 1, 2), ConnectionLost(0, "logged out", tuple(tags[1:]))]
    assert desk.connection.closing
    assert not desk.session.requests


def test_refused_logout_leaves_the_session():
    desk = logged_in()
    out = desk.session.log_out(desk.connection)
    assert desk.reply(LogoutResponse(initiator_task_tag=out, response=3)) == [LoggedOut(out, 3, 0, 0)]
    assert not desk.session.leaving
    assert not desk.connection.closing


def test_lost_connection_takes_all_its_requests_with_it():
    desk = logged_in()
    tags = send(desk, WINDOW + 1)
    tags += [desk.session.ask([("X", "1")], desk.connection), desk.session.ask([("Y", "1")], desk.connection)]
    assert desk.connection.lose("cut") == [ConnectionLost(0, "cut", tuple(tags))]
    assert not desk.session.requests


def test_numbered_request_takes_the_next_tag_and_cmd_sn():
    desk = logged_in()
    send(desk)
    numbered = desk.session.number(NopOut())
    assert (numbered.initiator_task_tag, numbered.cmd_sn, numbered.exp_stat_sn) == (3, 2, 101)
    immediate = desk.session.number(NopOut(immediate=True))
    assert (immediate.initiator_task_tag, immediate.cmd_sn) == (4, 3)
    assert desk.session.numbers.next == 3


def test_logout_of_a_connection_loses_what_went_out_there_and_nothing_else():
    desk = logged_in(("MaxConnections", "2"), settings=Settings(Preferences(max_connections=2)))
    other = desk.session.connect(1)
    other.enter_full_feature_phase(desk.session, desk.session.parameters)
    lost, kept = desk.session.command(READY, other), desk.session.command(READY, desk.connection)
    out = desk.session.log_out(desk.connection, CLOSE_CONNECTION, leaving=other)
    request = desk.sent()[-1].header
    assert isinstance(request, LogoutRequest)
    assert (request.reason_code, request.cid) == (CLOSE_CONNECTION, 1)
    events = desk.reply(LogoutResponse(initiator_task_tag=out))
    assert events == [LoggedOut(out, 0, 0, 0), ConnectionLost(1, "logged out", (lost,))]
    assert not desk.connection.closing
    assert not desk.session.leaving
    assert set(desk.session.requests) == {kept}
