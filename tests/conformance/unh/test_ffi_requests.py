"""Titles of the initiator's full feature phase that are about requests and messages: 1 to 5, 14, 15 and 17 to 20.

initiator ---- Desk: a target that says what the test wants (see tests/unit/initiator/bench)
"""

import pytest

from iscsi_target.initiator.command import Command
from iscsi_target.initiator.events import (
    ConnectionLost,
    LoggedOut,
    MessageReceived,
    PduReceived,
    PingAnswered,
    TaskAborted,
    TaskManagementCompleted,
)
from iscsi_target.initiator.session import Settings
from iscsi_target.iscsi.framing import PduReader, frame
from iscsi_target.iscsi.header import NO_TAG, Opcode
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.iscsi.requests import (
    REQUEST_HEADERS,
    LogoutRequest,
    NopOut,
    ScsiCommand,
    TaskManagementRequest,
    TextRequest,
)
from iscsi_target.iscsi.responses import (
    AsyncMessage,
    LoginResponse,
    LogoutResponse,
    NopIn,
    ScsiResponse,
    TaskManagementResponse,
    TextResponse,
)
from iscsi_target.iscsi.task_management import TaskManagement
from tests.unit.initiator.bench import LUN, READY, WINDOW, Desk, logged_in

OTHER_LUN = b"\0\x01" + bytes(6)
FETCH = 40  # a target transfer tag


@pytest.fixture
def desk() -> Desk:
    return logged_in()


def send(desk: Desk, command: Command = READY) -> int:
    return desk.session.command(command, desk.connection)


def commands(desk: Desk) -> list[ScsiCommand]:
    return [sent.header for sent in desk.sent() if isinstance(sent.header, ScsiCommand)]


@pytest.mark.case("FFI-1.1")
@pytest.mark.clause("RFC7143 4.2.2.1")
def test_ffi_1_1_each_command_has_the_next_cmd_sn(desk: Desk):
    for _ in range(4):
        send(desk)
    assert [header.cmd_sn for header in commands(desk)] == [1, 2, 3, 4]


@pytest.mark.case("FFI-2.1")
@pytest.mark.clause("RFC7143 4.2.2.1")
def test_ffi_2_1_an_immediate_command_has_the_next_cmd_sn_and_takes_none(desk: Desk):
    send(desk)
    send(desk, READY._replace(immediate=True))
    send(desk)
    assert [(header.cmd_sn, header.immediate) for header in commands(desk)] == [(1, False), (2, True), (2, False)]


@pytest.mark.case("FFI-2.2")
@pytest.mark.case("FFI-19.1")
@pytest.mark.clause("RFC7143 11.5")
def test_ffi_2_2_a_function_is_immediate_and_takes_no_cmd_sn(desk: Desk):
    desk.session.manage(TaskManagement.ABORT_TASK_SET, LUN, desk.connection)
    header = desk.one().header
    assert isinstance(header, TaskManagementRequest)
    assert (header.immediate, header.cmd_sn) == (True, 1)
    send(desk)
    assert [header.cmd_sn for header in commands(desk)] == [1]


@pytest.mark.case("FFI-3.1")
@pytest.mark.clause("RFC7143 4.2.2.1")
def test_ffi_3_1_nothing_goes_out_through_a_closed_window_until_it_opens():
    desk = Desk()
    desk.window = 0
    desk.log_in()
    tag = send(desk)
    assert desk.sent() == []
    desk.window = 1
    desk.reply(NopIn(initiator_task_tag=NO_TAG), status=False)
    assert [header.initiator_task_tag for header in commands(desk)] == [tag]


@pytest.mark.case("FFI-3.2")
@pytest.mark.clause("RFC7143 4.2.2.1")
def test_ffi_3_2_a_large_window_is_used():
    desk = Desk()
    desk.window = 1000
    desk.log_in()
    for _ in range(1001):
        send(desk)
    assert [header.cmd_sn for header in commands(desk)] == list(range(1, 1001))


@pytest.mark.case("FFI-3.3")
@pytest.mark.clause("RFC7143 4.2.2.1")
def test_ffi_3_3_one_command_at_a_time_goes_through_a_window_of_one():
    desk = Desk()
    desk.window = 1
    desk.log_in()
    tags = [send(desk) for _ in range(3)]
    for tag in tags:
        assert [header.initiator_task_tag for header in commands(desk)] == [tag]
        desk.reply(ScsiResponse(initiator_task_tag=tag))


@pytest.mark.case("FFI-4.1")
@pytest.mark.case("FFI-7.1")
@pytest.mark.clause("RFC7143 7.1.4.4")
def test_ffi_4_1_at_error_recovery_level_0_nothing_is_sent_again_and_what_was_open_is_told(desk: Desk):
    tags = tuple(send(desk) for _ in range(WINDOW + 1))  # one of them waits for the window
    desk.sent()
    [event] = desk.connection.lose("the cable is out")
    assert isinstance(event, ConnectionLost)
    assert event.tags == tags
    assert desk.sent() == []
    assert not desk.session.requests


@pytest.mark.clause("RFC7143 7.1.5")
@pytest.mark.case("FFI-5.1")
@pytest.mark.clause("RFC7143 7.9")
def test_ffi_5_1_a_stat_sn_that_is_missing_ends_the_connection_at_error_recovery_level_0(desk: Desk):
    tag = send(desk)
    [event] = desk.reply(ScsiResponse(initiator_task_tag=tag), stat_sn=desk.stat_sn + 1)
    assert isinstance(event, ConnectionLost)
    assert desk.connection.closing


@pytest.mark.case("FFI-14.1")
@pytest.mark.case("FFI-20.1")
@pytest.mark.clause("RFC7143 11.9.1")
def test_ffi_14_1_a_request_to_log_out_is_obeyed(desk: Desk):
    [event] = desk.reply(AsyncMessage(async_event=1, parameter3=10))
    assert isinstance(event, MessageReceived)
    assert isinstance(desk.one().header, LogoutRequest)


@pytest.mark.case("FFI-14.2")
@pytest.mark.clause("RFC7143 11.9.1")
def test_ffi_14_2_a_request_to_log_out_is_obeyed_on_the_connection_that_it_came_on():
    two = Settings(preferences=Preferences(max_connections=2))
    desk = logged_in(("MaxConnections", "2"), settings=two)
    second = desk.session.connect(1)
    reader = PduReader(REQUEST_HEADERS)
    [request] = reader.feed(b"".join(bytes(buffer) for buffer in second.take_output()))
    tag = request.basic.initiator_task_tag
    welcome = LoginResponse(transit=True, current_stage=1, next_stage=3, tsih=7, initiator_task_tag=tag)
    second.receive(b"".join(frame(welcome)))
    second.receive(b"".join(frame(AsyncMessage(async_event=1, parameter3=10, stat_sn=1))))
    assert desk.sent() == []
    sent = b"".join(bytes(buffer) for buffer in second.take_output())
    [asked] = reader.feed(sent)
    assert asked.basic.opcode == Opcode.LOGOUT_REQUEST


@pytest.mark.case("FFI-15.1")
@pytest.mark.clause("RFC7143 11.18")
def test_ffi_15_1_a_ping_of_the_target_is_answered_with_its_tag_and_lun(desk: Desk):
    desk.reply(NopIn(target_transfer_tag=9, lun=OTHER_LUN, initiator_task_tag=NO_TAG), status=False)
    header = desk.one().header
    assert isinstance(header, NopOut)
    assert (header.target_transfer_tag, header.lun) == (9, OTHER_LUN)
    assert (header.immediate, header.initiator_task_tag, header.cmd_sn) == (True, NO_TAG, 1)


@pytest.mark.case("FFI-15.2")
@pytest.mark.clause("RFC7143 11.18")
def test_ffi_15_2_a_ping_has_a_tag_of_its_own_and_none_of_the_target(desk: Desk):
    tag = desk.session.ping(b"data", desk.connection)
    header, data, _ = desk.one()
    assert isinstance(header, NopOut)
    assert (header.initiator_task_tag, header.target_transfer_tag, data) == (tag, NO_TAG, b"data")
    assert desk.reply(NopIn(initiator_task_tag=tag), b"data") == [PingAnswered(tag, b"data")]


@pytest.mark.case("FFI-15.3")
@pytest.mark.clause("RFC7143 4.2.2.2")
def test_ffi_15_3_a_nop_out_confirms_what_has_come(desk: Desk):
    for _ in range(3):
        desk.reply(ScsiResponse(initiator_task_tag=send(desk)))
    desk.sent()
    desk.reply(NopIn(target_transfer_tag=9, initiator_task_tag=NO_TAG), status=False)
    header = desk.one().header
    assert isinstance(header, NopOut)
    assert header.exp_stat_sn == desk.stat_sn


@pytest.mark.case("FFI-17.1")
@pytest.mark.clause("RFC7143 11.14")
def test_ffi_17_1_a_logout_ends_the_session_and_its_connection(desk: Desk):
    tag = desk.session.log_out(desk.connection)
    header = desk.one().header
    assert isinstance(header, LogoutRequest)
    assert (header.initiator_task_tag, header.reason_code, header.cid) == (tag, 0, 0)
    first, second = desk.reply(LogoutResponse(initiator_task_tag=tag, time2wait=2, time2retain=20))
    assert first == LoggedOut(tag, 0, 2, 20)
    assert isinstance(second, ConnectionLost)


def ask(desk: Desk, *pairs: tuple[str, str]) -> int:
    return desk.session.ask(pairs or [("SendTargets", "All")], desk.connection)


def asked(desk: Desk) -> TextRequest:
    header = desk.one().header
    assert isinstance(header, TextRequest)
    return header


@pytest.mark.case("FFI-18.1")
@pytest.mark.case("FFI-18.4")
@pytest.mark.clause("RFC7143 11.10")
def test_ffi_18_1_a_text_request_has_its_numbers_and_its_text(desk: Desk):
    tag = ask(desk)
    [sent] = desk.sent()
    assert isinstance(sent.header, TextRequest)
    assert sent.data == b"SendTargets=All\0"
    assert (sent.header.final, sent.header.continue_, sent.header.initiator_task_tag) == (True, False, tag)
    assert (sent.header.cmd_sn, sent.header.exp_stat_sn) == (1, desk.stat_sn)


@pytest.mark.case("FFI-18.2")
@pytest.mark.clause("RFC7143 11.10.3")
def test_ffi_18_2_each_exchange_has_a_task_tag_of_its_own(desk: Desk):
    seen = []
    for _ in range(3):
        seen.append(ask(desk))
        assert asked(desk).initiator_task_tag == seen[-1]
        desk.reply(TextResponse(initiator_task_tag=seen[-1]))
    assert len(set(seen)) == 3


@pytest.mark.case("FFI-18.3.1")
@pytest.mark.clause("RFC7143 11.10.4")
def test_ffi_18_3_1_an_exchange_begins_without_a_transfer_tag(desk: Desk):
    ask(desk)
    assert asked(desk).target_transfer_tag == NO_TAG


@pytest.mark.case("FFI-18.3.2")
@pytest.mark.clause("RFC7143 11.10.4")
def test_ffi_18_3_2_an_exchange_goes_on_with_the_transfer_tag_of_the_target(desk: Desk):
    tag = ask(desk)
    desk.sent()
    part = TextResponse(final=False, continue_=True, initiator_task_tag=tag, target_transfer_tag=FETCH)
    desk.reply(part, b"TargetName=a")
    header = asked(desk)
    assert (header.target_transfer_tag, header.initiator_task_tag) == (FETCH, tag)


@pytest.mark.case("FFI-18.5")
@pytest.mark.clause("RFC7143 6.4")
def test_ffi_18_5_what_follows_a_finished_exchange_begins_anew(desk: Desk):
    tag = ask(desk)
    desk.sent()
    part = TextResponse(final=False, continue_=True, initiator_task_tag=tag, target_transfer_tag=FETCH)
    desk.reply(part, b"TargetName=a")
    desk.sent()
    desk.reply(TextResponse(initiator_task_tag=tag), b"\0")
    following = ask(desk)
    header = asked(desk)
    assert (header.target_transfer_tag, header.initiator_task_tag) == (NO_TAG, following)


@pytest.mark.case("FFI-19.2")
@pytest.mark.clause("RFC7143 11.5.3")
@pytest.mark.parametrize("function", [TaskManagement.ABORT_TASK_SET, TaskManagement.LOGICAL_UNIT_RESET])
def test_ffi_19_2_a_function_names_its_unit(desk: Desk, function: TaskManagement):
    desk.session.manage(function, OTHER_LUN, desk.connection)
    header = desk.one().header
    assert isinstance(header, TaskManagementRequest)
    assert (header.function, header.lun, header.referenced_task_tag) == (function, OTHER_LUN, NO_TAG)


@pytest.mark.case("FFI-19.3")
@pytest.mark.clause("RFC7143 11.5.5")
def test_ffi_19_3_an_abort_names_the_cmd_sn_of_its_task(desk: Desk):
    send(desk)
    tag = send(desk)
    desk.sent()
    desk.session.manage(TaskManagement.ABORT_TASK, LUN, desk.connection, referenced_task_tag=tag)
    header = desk.one().header
    assert isinstance(header, TaskManagementRequest)
    assert (header.referenced_task_tag, header.ref_cmd_sn) == (tag, 2)


@pytest.mark.case("FFI-19.4.1")
@pytest.mark.clause("RFC7143 11.5.1")
def test_ffi_19_4_1_all_tasks_of_the_unit_end_with_the_response(desk: Desk):
    tags = [send(desk) for _ in range(3)]
    other = send(desk, READY._replace(lun=OTHER_LUN))
    function = desk.session.manage(TaskManagement.ABORT_TASK_SET, LUN, desk.connection)
    events = desk.reply(TaskManagementResponse(initiator_task_tag=function))
    assert events == [*(TaskAborted(tag) for tag in tags), TaskManagementCompleted(function, 0)]
    assert list(desk.session.requests) == [other]


@pytest.mark.case("FFI-19.4.2")
@pytest.mark.clause("RFC7143 11.5.1")
def test_ffi_19_4_2_a_task_that_goes_out_after_the_function_is_not_one_of_them(desk: Desk):
    function = desk.session.manage(TaskManagement.ABORT_TASK_SET, LUN, desk.connection)
    later = send(desk)
    assert desk.reply(TaskManagementResponse(initiator_task_tag=function)) == [TaskManagementCompleted(function, 0)]
    assert list(desk.session.requests) == [later]


@pytest.mark.case("FFI-19.4.3")
@pytest.mark.clause("RFC7143 4.2.3.3")
def test_ffi_19_4_3_tasks_are_served_until_the_response_and_no_longer(desk: Desk):
    done, aborted = send(desk), send(desk)
    function = desk.session.manage(TaskManagement.ABORT_TASK_SET, LUN, desk.connection)
    assert [event.tag for event in desk.reply(ScsiResponse(initiator_task_tag=done))] == [done]  # type: ignore[union-attr]  # a CommandCompleted
    assert TaskAborted(aborted) in desk.reply(TaskManagementResponse(initiator_task_tag=function))
    [event] = desk.reply(ScsiResponse(initiator_task_tag=aborted))
    assert isinstance(event, PduReceived)


@pytest.mark.case("FFI-20.2")
@pytest.mark.case("FFI-20.3")
@pytest.mark.clause("RFC7143 11.9.1")
@pytest.mark.parametrize("event", [2, 3], ids=["this connection", "all connections"])
def test_ffi_20_2_a_target_that_drops_the_connection_is_told_and_takes_its_tasks_along(desk: Desk, event: int):
    tag = send(desk)
    desk.sent()
    [told] = desk.reply(AsyncMessage(async_event=event, parameter2=2, parameter3=20))
    assert isinstance(told, MessageReceived)
    assert (told.header.parameter2, told.header.parameter3) == (2, 20)
    assert desk.sent() == []
    [lost] = desk.connection.lose("the target has closed it")
    assert isinstance(lost, ConnectionLost)
    assert lost.tags == (tag,)


@pytest.mark.case("FFI-20.4")
@pytest.mark.clause("RFC7143 11.9.1")
def test_ffi_20_4_a_request_to_negotiate_is_obeyed(desk: Desk):
    desk.reply(AsyncMessage(async_event=4, parameter3=10))
    assert asked(desk).target_transfer_tag == NO_TAG
