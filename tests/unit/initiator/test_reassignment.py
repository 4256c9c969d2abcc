"""What becomes of what is open when connections are lost at ErrorRecoveryLevel 2.

session ── desk: connection 0, which is lost
        ── other: connection 1, or 0 when it has come again
"""

from math import inf

import pytest

from iscsi_target.initiator.command import Command
from iscsi_target.initiator.events import (
    CommandCompleted,
    ConnectionLost,
    Event,
    LoggedIn,
    PingAnswered,
    TaskAborted,
    TaskLost,
    TaskManagementCompleted,
)
from iscsi_target.initiator.reassignment import FOR_RECOVERY, TOO_LATE
from iscsi_target.initiator.recovery import MAX_TRIES
from iscsi_target.initiator.session import Settings
from iscsi_target.iscsi.errors import RejectReason
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.iscsi.requests import (
    LoginRequest,
    LogoutRequest,
    NopOut,
    ScsiCommand,
    TaskManagementRequest,
)
from iscsi_target.iscsi.responses import (
    DataIn,
    LoginResponse,
    LogoutResponse,
    NopIn,
    Reject,
    ScsiResponse,
    TaskManagementResponse,
)
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from tests.unit.initiator.bench import LUN, READY, Desk, logged_in

READ = Command(LUN, bytes(6), read_length=1536)
WAIT_S, RETAIN_S = 2, 20
ANSWERS = [
    ("ErrorRecoveryLevel", "2"),
    ("DefaultTime2Wait", str(WAIT_S)),
    ("DefaultTime2Retain", str(RETAIN_S)),
    ("MaxConnections", "2"),
]
REASSIGN = TaskManagement.TASK_REASSIGN


class Another(Desk):
    """A further connection of the session of a desk."""

    def __init__(self, desk: Desk, cid: int) -> None:
        super().__init__(desk.session.settings)
        self.session = desk.session
        self.connection = desk.session.connect(cid)
        self.exp_cmd_sn = desk.exp_cmd_sn


def events_of_login(other: Desk) -> list[Event]:
    """Answers the login of a connection, and returns all that this brings about."""
    request = other.one().header
    assert isinstance(request, LoginRequest)
    tag, stage = request.initiator_task_tag, request.current_stage
    return other.reply(LoginResponse(transit=True, current_stage=stage, next_stage=3, tsih=7, initiator_task_tag=tag))


def another(desk: Desk, cid: int) -> Another:
    """Logs in a connection beside that of a desk, or in its place."""
    other = Another(desk, cid)
    assert isinstance(other.log_in(), LoggedIn)
    return other


@pytest.fixture
def desk() -> Desk:
    preferences = Preferences(
        error_recovery_level=2, default_time2wait=WAIT_S, default_time2retain=RETAIN_S, max_connections=2
    )
    return logged_in(*ANSWERS, settings=Settings(preferences))


def command(desk: Desk, asked: Command = READY, *, counted: bool) -> int:
    """Sends a command; the target says that it has counted it, or does not."""
    before = desk.exp_cmd_sn
    tag = desk.session.command(asked, desk.connection)
    desk.sent()
    if counted:
        desk.reply(NopIn(initiator_task_tag=NO_TAG), status=False)
    else:
        desk.exp_cmd_sn = before
    return tag


def lose(desk: Desk, *lost: int, kept: tuple[int, ...] = ()) -> None:
    assert desk.connection.lose("cut") == [ConnectionLost(desk.connection.cid, "cut", lost, kept)]


def test_command_that_the_target_has_not_counted_is_sent_again_where_the_connection_comes_again(desk: Desk):
    tag = command(desk, counted=False)
    lose(desk, kept=(tag,))
    again = another(desk, 0).one().header
    assert isinstance(again, ScsiCommand)
    assert (again.initiator_task_tag, again.cmd_sn) == (tag, desk.exp_cmd_sn)


def test_command_that_the_target_has_counted_is_reassigned_from_where_its_data_ended(desk: Desk):
    tag = command(desk, READ, counted=True)
    for number in (0, 2):
        desk.reply(DataIn(initiator_task_tag=tag, data_sn=number, buffer_offset=512 * number), bytes([number]) * 512)
    lose(desk, kept=(tag,))
    other = another(desk, 0)
    function = other.one().header
    assert isinstance(function, TaskManagementRequest)
    assert (function.function, function.referenced_task_tag, function.exp_data_sn) == (REASSIGN, tag, 1)
    assert function.immediate
    assert other.reply(TaskManagementResponse(initiator_task_tag=function.initiator_task_tag)) == []
    other.reply(DataIn(initiator_task_tag=tag, data_sn=1, buffer_offset=512), bytes([1]) * 1024)
    last = ScsiResponse(initiator_task_tag=tag, exp_data_sn=2)
    [completed] = other.reply(last)
    assert isinstance(completed, CommandCompleted)
    assert completed.data == bytes(512) + bytes([1]) * 1024
    assert not desk.session.requests


def test_another_connection_logs_the_lost_one_out_after_time2wait(desk: Desk):
    other = another(desk, 1)
    tag = command(desk, counted=False)
    lose(desk, kept=(tag,))
    assert desk.session.deadline() == 0.0
    assert desk.session.elapsed(100.0) == []
    assert desk.session.deadline() <= 100.0 + WAIT_S
    desk.session.elapsed(100.0 + WAIT_S - 0.1)
    assert not [sent for sent in other.sent() if isinstance(sent.header, LogoutRequest)]
    desk.session.elapsed(100.0 + WAIT_S)
    logout = next(sent.header for sent in other.sent() if isinstance(sent.header, LogoutRequest))
    assert (logout.reason_code, logout.cid, logout.immediate) == (FOR_RECOVERY, 0, True)
    assert desk.session.reassignment.is_under_way(0)
    other.exp_cmd_sn = desk.exp_cmd_sn
    assert other.reply(LogoutResponse(initiator_task_tag=logout.initiator_task_tag)) == []
    assert [sent.header.initiator_task_tag for sent in other.sent()] == [tag]
    assert not desk.session.reassignment


def test_the_target_may_keep_nothing_of_a_connection(desk: Desk):
    other = another(desk, 1)
    counted, uncounted = command(desk, counted=True), command(desk, counted=False)
    lose(desk, kept=(counted, uncounted))
    for now in (100.0, 100.0 + WAIT_S):
        desk.session.elapsed(now)
    logout = next(sent.header for sent in other.sent() if isinstance(sent.header, LogoutRequest))
    other.exp_cmd_sn = desk.exp_cmd_sn
    events = other.reply(LogoutResponse(initiator_task_tag=logout.initiator_task_tag, response=1))
    assert [type(event) for event in events] == [TaskLost, TaskLost]
    plug = other.one().header
    assert isinstance(plug, NopOut)
    assert plug.cmd_sn == other.exp_cmd_sn - 1


def test_of_a_ping_only_the_cmd_sn_goes_on(desk: Desk):
    before = desk.exp_cmd_sn
    tag = desk.session.ping(b"data", desk.connection)
    desk.sent()
    desk.exp_cmd_sn = before
    lose(desk, tag)
    other = another(desk, 0)
    sent = other.one()
    assert isinstance(sent.header, NopOut)
    assert (sent.header.cmd_sn, sent.header.immediate, sent.data) == (before, False, b"")
    assert other.reply(NopIn(initiator_task_tag=sent.header.initiator_task_tag)) == []
    assert not desk.session.requests
    tag = desk.session.ping(b"data", other.connection)
    following = other.one().header
    assert isinstance(following, NopOut)
    assert following.cmd_sn == before + 1
    assert other.reply(NopIn(initiator_task_tag=tag), b"data") == [PingAnswered(tag, b"data")]


def test_of_a_ping_that_is_counted_nothing_is_left(desk: Desk):
    tag = desk.session.ping(b"", desk.connection)
    desk.sent()
    desk.reply(NopIn(initiator_task_tag=NO_TAG), status=False)
    lose(desk, tag)
    assert another(desk, 0).sent() == []


@pytest.mark.parametrize("response", [ManagementResponse.TASK_DOES_NOT_EXIST, ManagementResponse.TASK_STILL_ALLEGIANT])
def test_command_is_lost_that_the_target_does_not_take_along(desk: Desk, response: ManagementResponse):
    tag = command(desk, counted=True)
    lose(desk, kept=(tag,))
    other = another(desk, 0)
    function = other.one().header
    [event] = other.reply(TaskManagementResponse(initiator_task_tag=function.initiator_task_tag, response=response))
    assert isinstance(event, TaskLost)
    assert event.tag == tag
    assert not desk.session.requests


def test_who_asks_twice_may_hear_that_the_task_is_here_already(desk: Desk):
    tag = command(desk, counted=True)
    lose(desk, kept=(tag,))
    other = another(desk, 0)
    function = other.one().header
    for step in range(3):
        desk.session.elapsed(100.0 + 5 * step)
    assert any(sent.header == function for sent in other.sent())
    response = ManagementResponse.TASK_STILL_ALLEGIANT
    assert other.reply(TaskManagementResponse(initiator_task_tag=function.initiator_task_tag, response=response)) == []
    [completed] = other.reply(ScsiResponse(initiator_task_tag=tag))
    assert isinstance(completed, CommandCompleted)


def test_function_is_performed_again_as_its_response_tells_what_it_ended(desk: Desk):
    other = another(desk, 1)
    ended = command(other, counted=True)
    desk.exp_cmd_sn = other.exp_cmd_sn
    tag = desk.session.manage(TaskManagement.LOGICAL_UNIT_RESET, LUN, desk.connection)
    desk.sent()
    desk.reply(NopIn(initiator_task_tag=NO_TAG), status=False)
    lose(desk, kept=(tag,))
    again = another(desk, 0)
    function = again.one().header
    assert isinstance(function, TaskManagementRequest)
    assert (function.initiator_task_tag, function.cmd_sn) == (tag, desk.exp_cmd_sn)
    events = again.reply(TaskManagementResponse(initiator_task_tag=tag))
    assert events == [TaskAborted(ended), TaskManagementCompleted(tag, 0)]


def test_what_nothing_takes_over_in_time_is_lost(desk: Desk):
    tag = command(desk, counted=True)
    lose(desk, kept=(tag,))
    assert desk.session.elapsed(100.0) == []
    assert desk.session.elapsed(100.0 + WAIT_S + RETAIN_S - 0.1) == []
    [event] = desk.session.elapsed(100.0 + WAIT_S + RETAIN_S)
    assert isinstance(event, TaskLost)
    assert desk.session.deadline() == inf


def test_command_whose_connections_are_lost_again_and_again_is_given_up(desk: Desk):
    tag = command(desk, counted=True)
    connection: Desk = desk
    for _ in range(MAX_TRIES):
        lose(connection, kept=(tag,))
        connection = another(connection, 0)
        connection.sent()
    lose(connection, kept=(tag,))
    [logged_in_again, event] = events_of_login(Another(connection, 0))
    assert isinstance(logged_in_again, LoggedIn)
    assert isinstance(event, TaskLost)
    assert not desk.session.requests


def test_command_that_waits_for_the_window_goes_out_on_the_connection_that_is_there(desk: Desk):
    other = another(desk, 1)
    for _ in range(desk.window):
        command(desk, counted=False)
    tag = desk.session.command(READY, desk.connection)
    assert desk.sent() == []
    desk.connection.lose("cut")
    other.exp_cmd_sn = desk.session.numbers.next
    other.reply(NopIn(initiator_task_tag=NO_TAG), status=False)
    assert [sent.header.initiator_task_tag for sent in other.sent()] == [tag]


def test_a_connection_in_the_place_of_one_that_works_takes_over_from_it(desk: Desk):
    tag = command(desk, counted=True)
    other = Another(desk, 0)
    [lost, logged_in_again] = events_of_login(other)
    assert isinstance(lost, ConnectionLost)
    assert lost.kept == (tag,)
    assert isinstance(logged_in_again, LoggedIn)
    assert desk.connection.closing
    assert desk.session.logged_in == [other.connection]


def test_the_old_connection_stays_when_the_login_of_another_fails(desk: Desk):
    other = Another(desk, 0)
    other.connection.lose("cut")
    assert desk.session.logged_in == [desk.connection]
    tag = command(desk, counted=True)
    assert isinstance(desk.reply(ScsiResponse(initiator_task_tag=tag))[0], CommandCompleted)


def test_a_reassignment_that_is_rejected_is_asked_for_again(desk: Desk):
    tag = command(desk, counted=True)
    lose(desk, kept=(tag,))
    other = another(desk, 0)
    function = other.one().header
    assert other.reply(Reject(reason=RejectReason.IMMEDIATE_COMMAND_REJECT), function.pack()) == []
    for step in range(3):
        desk.session.elapsed(100.0 + 5 * step)
    again = [sent.header for sent in other.sent() if isinstance(sent.header, TaskManagementRequest)]
    assert again[0].initiator_task_tag == function.initiator_task_tag


def test_whether_a_function_has_ended_a_command_that_was_moving_is_asked_when_it_has_moved(desk: Desk):
    other = another(desk, 1)
    tag = command(desk, counted=True)
    lose(desk, kept=(tag,))
    again = another(desk, 0)
    moving = again.one().header
    reset = desk.session.manage(TaskManagement.LOGICAL_UNIT_RESET, LUN, other.connection)
    other.exp_cmd_sn = desk.session.numbers.next
    assert other.reply(TaskManagementResponse(initiator_task_tag=reset)) == [TaskManagementCompleted(reset, 0)]
    assert again.reply(TaskManagementResponse(initiator_task_tag=moving.initiator_task_tag)) == []
    check = again.one().header
    assert isinstance(check, TaskManagementRequest)
    assert (check.function, check.referenced_task_tag) == (REASSIGN, tag)
    response = ManagementResponse.TASK_DOES_NOT_EXIST
    [event] = again.reply(TaskManagementResponse(initiator_task_tag=check.initiator_task_tag, response=response))
    assert isinstance(event, TaskLost)


def test_a_function_follows_the_command_that_it_means(desk: Desk):
    other = another(desk, 1)
    tag = command(desk, counted=True)
    lose(desk, kept=(tag,))
    abort = desk.session.manage(TaskManagement.ABORT_TASK, LUN, other.connection, referenced_task_tag=tag)
    other.sent()
    again = another(desk, 0)
    moving = again.one().header
    again.reply(TaskManagementResponse(initiator_task_tag=moving.initiator_task_tag))
    absent = ManagementResponse.TASK_DOES_NOT_EXIST
    other.exp_cmd_sn = desk.session.numbers.next
    assert other.reply(TaskManagementResponse(initiator_task_tag=abort, response=absent)) == []
    assert again.one().header.initiator_task_tag == abort
    events = again.reply(TaskManagementResponse(initiator_task_tag=abort, response=absent))
    assert events == [TaskAborted(tag), TaskManagementCompleted(abort, absent)]


def test_what_waits_for_the_window_ends_with_the_session(desk: Desk):
    for _ in range(desk.window):
        command(desk, counted=False)
    waiting = desk.session.command(READY, desk.connection)
    desk.connection.lose("cut")
    desk.session.elapsed(100.0)
    events = desk.session.elapsed(100.0 + WAIT_S + RETAIN_S)
    assert len(events) == desk.window + 1
    assert events[-1] == TaskLost(waiting, TOO_LATE)
    assert not desk.session.requests


def test_nothing_is_given_up_while_a_connection_logs_in(desk: Desk):
    tag = command(desk, counted=True)
    lose(desk, kept=(tag,))
    desk.session.elapsed(100.0)
    other = Another(desk, 0)
    assert desk.session.elapsed(100.0 + WAIT_S + RETAIN_S) == []
    assert desk.session.reassignment.deadline() == inf
    assert isinstance(events_of_login(other)[0], LoggedIn)
    assert [sent.header.opcode for sent in other.sent()] == [TaskManagementRequest().opcode]
