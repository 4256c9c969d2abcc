"""What the initiator does with the PDUs of a target."""

import pytest

from iscsi_target.initiator.answers import has_status
from iscsi_target.initiator.command import Command
from iscsi_target.initiator.connection import MAX_PINGS
from iscsi_target.initiator.events import (
    CommandCompleted,
    ConnectionLost,
    MessageReceived,
    PduReceived,
    PingAnswered,
    RequestRejected,
    TaskAborted,
    TaskManagementCompleted,
)
from iscsi_target.initiator.session import Settings
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.parameters import FAST_ABORT, RFC3720, Preferences
from iscsi_target.iscsi.requests import DataOut, LogoutRequest, NopOut, ScsiCommand, TextRequest
from iscsi_target.iscsi.responses import (
    AsyncMessage,
    DataIn,
    LogoutResponse,
    NopIn,
    ReadyToTransfer,
    Reject,
    ScsiResponse,
    TaskManagementResponse,
    TextResponse,
)
from iscsi_target.iscsi.task_management import TaskManagement
from tests.unit.initiator.bench import LUN, READY, Desk, logged_in

OTHER_LUN = b"\0\x01" + bytes(6)
ABORT_TASK, ABORT_TASK_SET = TaskManagement.ABORT_TASK, TaskManagement.ABORT_TASK_SET


@pytest.fixture
def desk() -> Desk:
    return logged_in()


def send(desk: Desk, command: Command = READY) -> int:
    return desk.session.command(command, desk.connection)


@pytest.mark.clause("RFC7143 11.7.2")
def test_only_pdus_with_a_status_have_a_stat_sn_of_their_own():
    assert not has_status(ReadyToTransfer())
    assert not has_status(DataIn())
    assert has_status(DataIn(status_present=True))
    assert not has_status(NopIn(initiator_task_tag=NO_TAG))
    assert has_status(NopIn(initiator_task_tag=5))
    assert has_status(Reject())


def test_read_is_answered_by_data_with_status(desk: Desk):
    tag = send(desk, READY._replace(read_length=4))
    assert desk.reply(DataIn(initiator_task_tag=tag), b"ab") == []
    last = DataIn(initiator_task_tag=tag, data_sn=1, buffer_offset=2, final=True, status_present=True)
    assert desk.reply(last, b"cd") == [CommandCompleted(tag, 0, 0, b"", b"abcd")]
    assert not desk.session.requests


def test_r2t_is_satisfied(desk: Desk):
    tag = send(desk, READY._replace(data_out=b"x" * 100000))
    desk.sent()
    r2t = ReadyToTransfer(
        initiator_task_tag=tag, target_transfer_tag=3, buffer_offset=65536, desired_data_transfer_length=9000
    )
    assert desk.reply(r2t, status=False) == []
    sent = desk.sent()
    assert [(type(one.header), len(one.data)) for one in sent] == [(DataOut, 8192), (DataOut, 808)]


@pytest.mark.clause("RFC7143 11.18")
def test_ping_of_the_target_is_answered(desk: Desk):
    assert desk.reply(NopIn(target_transfer_tag=9, lun=OTHER_LUN, initiator_task_tag=NO_TAG), status=False) == []
    header, data, _ = desk.one()
    assert isinstance(header, NopOut)
    assert (header.immediate, header.initiator_task_tag, header.target_transfer_tag) == (True, NO_TAG, 9)
    assert (header.lun, header.cmd_sn, data) == (OTHER_LUN, 1, b"")


def test_nop_in_that_asks_nothing_is_not_answered_but_moves_the_window(desk: Desk):
    desk.window = 50
    assert desk.reply(NopIn(initiator_task_tag=NO_TAG), status=False) == []
    assert desk.sent() == []
    assert desk.session.numbers.maximum == 50


def test_pings_of_a_target_that_does_not_take_the_answers_end_the_connection(desk: Desk):
    ping = NopIn(target_transfer_tag=9, initiator_task_tag=NO_TAG)
    for _ in range(2):
        for _ in range(MAX_PINGS):
            assert desk.reply(ping, status=False) == []
        assert len(desk.sent()) == MAX_PINGS
    events = [event for _ in range(MAX_PINGS + 1) for event in desk.reply(ping, status=False)]
    assert [type(event) for event in events] == [ConnectionLost]


def test_own_ping_is_answered(desk: Desk):
    tag = desk.session.ping(b"hello", desk.connection)
    assert desk.reply(NopIn(initiator_task_tag=tag), b"hello") == [PingAnswered(tag, b"hello")]


@pytest.mark.clause("RFC7143 11.6.1")
def test_completed_abort_ends_its_task(desk: Desk):
    kept, aborted = send(desk), send(desk)
    tag = desk.session.manage(ABORT_TASK, LUN, desk.connection, referenced_task_tag=aborted)
    assert desk.reply(TaskManagementResponse(initiator_task_tag=tag)) == [
        TaskAborted(aborted),
        TaskManagementCompleted(tag, 0),
    ]
    assert list(desk.session.requests) == [kept]


@pytest.mark.clause("RFC7143 11.5.1")
@pytest.mark.parametrize(
    ("function", "ends_other_units"),
    [
        (TaskManagement.ABORT_TASK_SET, False),
        (TaskManagement.CLEAR_TASK_SET, False),
        (TaskManagement.LOGICAL_UNIT_RESET, False),
        (TaskManagement.TARGET_WARM_RESET, True),
        (TaskManagement.I_T_NEXUS_RESET, True),
    ],
)
def test_completed_function_ends_the_tasks_that_went_out_before_it(desk: Desk, function, ends_other_units: bool):
    here, there = send(desk), send(desk, READY._replace(lun=OTHER_LUN))
    tag = desk.session.manage(function, LUN, desk.connection)
    later = send(desk)
    *aborted, completed = desk.reply(TaskManagementResponse(initiator_task_tag=tag))
    assert completed == TaskManagementCompleted(tag, 0)
    assert aborted == [TaskAborted(own) for own in ([here, there] if ends_other_units else [here])]
    assert later in desk.session.requests


def test_refused_function_ends_nothing(desk: Desk):
    kept = send(desk)
    tag = desk.session.manage(ABORT_TASK_SET, LUN, desk.connection)
    assert desk.reply(TaskManagementResponse(initiator_task_tag=tag, response=5)) == [TaskManagementCompleted(tag, 5)]
    assert list(desk.session.requests) == [kept]


@pytest.mark.parametrize("function", [TaskManagement.CLEAR_ACA, TaskManagement.QUERY_TASK_SET])
def test_other_functions_end_no_task(desk: Desk, function):
    kept = send(desk)
    tag = desk.session.manage(function, LUN, desk.connection)
    desk.reply(TaskManagementResponse(initiator_task_tag=tag))
    assert list(desk.session.requests) == [kept]


@pytest.mark.clause("RFC7144 4")
def test_information_of_a_query_is_told(desk: Desk):
    tag = desk.session.manage(TaskManagement.QUERY_ASYNCHRONOUS_EVENT, LUN, desk.connection)
    told = TaskManagementResponse(initiator_task_tag=tag, response=7, additional_response_information=b"abc")
    assert desk.reply(told) == [TaskManagementCompleted(tag, 7, b"abc")]


@pytest.mark.clause("RFC7143 11.9.1")
def test_request_to_log_out_is_obeyed_once(desk: Desk):
    message = AsyncMessage(async_event=1, parameter3=10)
    [event] = desk.reply(message)
    assert isinstance(event, MessageReceived)
    assert isinstance(desk.one().header, LogoutRequest)
    desk.reply(message)
    assert desk.sent() == []


def test_request_to_log_out_is_not_obeyed_when_it_is_not_to_be():
    desk = logged_in(settings=Settings(obeys=False))
    [event] = desk.reply(AsyncMessage(async_event=1))
    assert isinstance(event, MessageReceived)
    assert desk.sent() == []


@pytest.mark.clause("RFC7143 11.9.1")
def test_request_to_negotiate_is_obeyed(desk: Desk):
    desk.reply(AsyncMessage(async_event=4, parameter3=10))
    assert isinstance(desk.one().header, TextRequest)


def test_requests_to_negotiate_are_obeyed_by_one_that_is_still_to_come(desk: Desk):
    for _ in range(100):
        desk.reply(AsyncMessage(async_event=4))
    assert len(desk.session.requests) == 2  # one that had gone out before the others came, and one for all of those


def test_sense_of_an_async_message_is_told(desk: Desk):
    [event] = desk.reply(AsyncMessage(async_event=0), b"\0\x02ab")
    assert isinstance(event, MessageReceived)
    assert event.data == b"\0\x02ab"


@pytest.mark.clause("RFC7143 11.17")
def test_reject_ends_the_request_that_was_rejected(desk: Desk):
    tag = send(desk)
    header = desk.one().header.pack()
    assert desk.reply(Reject(reason=4), header) == [RequestRejected(tag, 4, header)]
    assert not desk.session.requests


def test_session_whose_logout_is_rejected_goes_on(desk: Desk):
    tag = desk.session.log_out(desk.connection)
    desk.reply(Reject(reason=9), LogoutRequest(initiator_task_tag=tag).pack())
    assert not desk.session.leaving


@pytest.mark.parametrize("header", [DataOut(initiator_task_tag=2), ScsiCommand(initiator_task_tag=99), NopOut()])
def test_reject_of_anything_else_is_told_and_ends_nothing(desk: Desk, header):
    tag = send(desk)
    assert tag == 2
    [event] = desk.reply(Reject(reason=9), header.pack())
    assert isinstance(event, PduReceived)
    assert list(desk.session.requests) == [tag]


def test_reject_of_nothing_ends_the_connection(desk: Desk):
    [event] = desk.reply(Reject(), b"short")
    assert isinstance(event, ConnectionLost)


@pytest.mark.parametrize(
    "answer",
    [
        ScsiResponse(initiator_task_tag=50),
        DataIn(initiator_task_tag=50),
        ReadyToTransfer(initiator_task_tag=50),
        TaskManagementResponse(initiator_task_tag=50),
        NopIn(initiator_task_tag=50),
        TextResponse(initiator_task_tag=50),
        LogoutResponse(initiator_task_tag=50),
    ],
)
def test_answer_to_no_request_is_handed_on(desk: Desk, answer):
    [event] = desk.reply(answer, status=has_status(answer))
    assert isinstance(event, PduReceived)
    assert event.header.initiator_task_tag == 50


@pytest.mark.parametrize("answer", [ScsiResponse, NopIn, TaskManagementResponse, TextResponse, LogoutResponse])
def test_answer_of_another_kind_ends_the_connection(desk: Desk, answer):
    tag = desk.session.ping(b"", desk.connection) if answer is ScsiResponse else send(desk)
    [event] = desk.reply(answer(initiator_task_tag=tag))
    assert isinstance(event, ConnectionLost)


def test_answer_to_a_command_that_has_not_gone_out_ends_the_connection():
    desk = Desk()
    desk.window = 0
    desk.log_in()
    tag = send(desk)
    [event] = desk.reply(ScsiResponse(initiator_task_tag=tag))
    assert isinstance(event, ConnectionLost)


# FastAbort


@pytest.fixture
def fast() -> Desk:
    """Returns a desk that has agreed to FastAbort."""
    offered = Settings(Preferences(task_reporting=(FAST_ABORT, RFC3720)))
    desk = logged_in(("TaskReporting", FAST_ABORT), settings=offered)
    assert desk.session.parameters.task_reporting == FAST_ABORT
    return desk


def ask_for_data(desk: Desk, tag: int) -> list[object]:
    """Has an R2T come for a write; returns the kinds of what is sent."""
    asked = ReadyToTransfer(
        initiator_task_tag=tag, target_transfer_tag=3, buffer_offset=65536, desired_data_transfer_length=100
    )
    assert desk.reply(asked, status=False) == []
    return [type(sent.header) for sent in desk.sent()]


@pytest.mark.clause("RFC7143 11.9.1")
def test_end_of_all_tasks_of_a_unit_is_acknowledged_with_its_lun(fast: Desk):
    message = AsyncMessage(async_event=5, lun=OTHER_LUN)
    [event] = fast.reply(message)
    assert isinstance(event, MessageReceived)
    header, data, _ = fast.one()
    assert isinstance(header, NopOut)
    assert (header.immediate, header.initiator_task_tag, header.target_transfer_tag) == (True, NO_TAG, NO_TAG)
    assert (header.lun, header.exp_stat_sn, data) == (OTHER_LUN, fast.stat_sn, b"")


@pytest.mark.clause("RFC7143 4.2.3.4")
@pytest.mark.parametrize("function", [ABORT_TASK_SET, TaskManagement.TARGET_WARM_RESET])
def test_no_data_follows_the_function_that_ends_a_command(fast: Desk, function: TaskManagement):
    tag = send(fast, READY._replace(data_out=b"x" * 65636))
    fast.session.manage(function, LUN, fast.connection)
    fast.sent()
    assert ask_for_data(fast, tag) == []


@pytest.mark.clause("RFC7143 4.2.3.3")
def test_data_follows_the_function_where_fast_abort_was_not_agreed_to(desk: Desk):
    tag = send(desk, READY._replace(data_out=b"x" * 65636))
    desk.session.manage(ABORT_TASK_SET, LUN, desk.connection)
    desk.sent()
    assert ask_for_data(desk, tag) == [DataOut]


@pytest.mark.clause("RFC7143 4.2.3.4")
@pytest.mark.parametrize(
    ("function", "lun"), [(ABORT_TASK_SET, OTHER_LUN), (ABORT_TASK, LUN), (TaskManagement.CLEAR_ACA, LUN)]
)
def test_data_follows_a_function_that_ends_other_commands(fast: Desk, function: TaskManagement, lun: bytes):
    tag = send(fast, READY._replace(data_out=b"x" * 65636))
    fast.session.manage(function, lun, fast.connection, referenced_task_tag=tag)
    fast.sent()
    assert ask_for_data(fast, tag) == [DataOut]


def test_data_is_sent_after_all_when_the_function_is_refused(fast: Desk):
    tag = send(fast, READY._replace(data_out=b"x" * 65636))
    first, second = (fast.session.manage(ABORT_TASK_SET, LUN, fast.connection) for _ in range(2))
    fast.sent()
    assert ask_for_data(fast, tag) == []
    fast.reply(TaskManagementResponse(initiator_task_tag=first, response=255))
    assert fast.sent() == []
    fast.reply(TaskManagementResponse(initiator_task_tag=second, response=255))
    assert [(type(sent.header), sent.data) for sent in fast.sent()] == [(DataOut, b"x" * 100)]
