"""What an initiator asks for again at ErrorRecoveryLevel 1, and what it sends again."""

from math import inf

import pytest

from iscsi_target.initiator.command import Command
from iscsi_target.initiator.connection import MAX_SNACKS
from iscsi_target.initiator.events import CommandCompleted, ConnectionLost, PduReceived, PingAnswered, TaskAborted
from iscsi_target.initiator.recovery import MAX_TRIES
from iscsi_target.initiator.session import Settings
from iscsi_target.iscsi.errors import RejectReason
from iscsi_target.iscsi.framing import frame
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.iscsi.requests import DataOut, NopOut, ScsiCommand, SnackRequest, TaskManagementRequest
from iscsi_target.iscsi.responses import (
    AsyncMessage,
    DataIn,
    NopIn,
    ReadyToTransfer,
    Reject,
    ScsiResponse,
    TaskManagementResponse,
)
from iscsi_target.iscsi.retention import DATA_ACK, DATA_OR_R2T, STATUS
from iscsi_target.iscsi.task_management import TaskManagement
from tests.unit.initiator.bench import LUN, READY, Desk, logged_in

READ = Command(LUN, bytes(6), read_length=1536)
TIMEOUT_S = 5.0


@pytest.fixture
def desk() -> Desk:
    """One whose initiator recovers, with digests."""
    preferences = Preferences(error_recovery_level=1, header_digest=("CRC32C",), data_digest=("CRC32C",))
    answers = [("InitialR2T", "No"), ("ErrorRecoveryLevel", "1"), ("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")]
    return logged_in(*answers, settings=Settings(preferences, timeout_s=TIMEOUT_S))


def command(desk: Desk, asked: Command = READY) -> int:
    tag = desk.session.command(asked, desk.connection)
    desk.sent()
    return tag


def data_in(desk: Desk, tag: int, number: int, **fields) -> list:
    header = DataIn(initiator_task_tag=tag, data_sn=number, buffer_offset=512 * number, **fields)
    return desk.reply(header, bytes([number]) * 512)


def asked(desk: Desk) -> list[tuple[int, int, int, int]]:
    """What the SNACKs ask for: their kind, tag and run."""
    headers = [sent.header for sent in desk.sent()]
    return [
        (header.kind, header.initiator_task_tag, header.begin_run, header.run_length)
        for header in headers
        if isinstance(header, SnackRequest)
    ]


def damaged(desk: Desk, header, data: bytes) -> list:
    """Sends a PDU whose data digest is wrong."""
    numbered = header.replace(stat_sn=desk.stat_sn, exp_cmd_sn=desk.exp_cmd_sn, max_cmd_sn=desk.exp_cmd_sn)
    stream = b"".join(frame(numbered, data, **desk.digests))
    return desk.feed(stream[:-1] + bytes([stream[-1] ^ 1]))


def pass_time(desk: Desk, now: float) -> list:
    """Lets nothing come for so long that a request that has gone out before is noticed."""
    assert desk.session.deadline() < inf
    return [event for step in range(3) for event in desk.session.elapsed(now + step * TIMEOUT_S)]


def test_missing_data_is_asked_for_and_the_status_waits_for_it(desk: Desk):
    tag, stat_sn = command(desk, READ), desk.stat_sn
    data_in(desk, tag, 0)
    assert data_in(desk, tag, 2, final=True, status_present=True) == []
    assert asked(desk) == [(DATA_OR_R2T, tag, 1, 1)]
    assert desk.connection.statuses.expected == stat_sn
    assert data_in(desk, tag, 0) == []
    content = b"".join(bytes([number]) * 512 for number in range(3))
    assert data_in(desk, tag, 1) == [CommandCompleted(tag, 0, 0, b"", content)]
    assert desk.connection.statuses.expected == stat_sn + 1
    assert data_in(desk, tag, 1) == []


def test_damaged_data_is_asked_for_at_once_and_the_connection_goes_on(desk: Desk):
    tag = command(desk, READ)
    assert damaged(desk, DataIn(initiator_task_tag=tag, data_sn=0), bytes(512)) == []
    assert asked(desk) == [(DATA_OR_R2T, tag, 0, 1)]


def test_damaged_status_is_asked_for_at_once(desk: Desk):
    tag, stat_sn = command(desk, READ), desk.stat_sn
    assert damaged(desk, DataIn(initiator_task_tag=tag, final=True, status_present=True), bytes(1536)) == []
    assert asked(desk) == [(STATUS, NO_TAG, stat_sn, 1)]


def test_status_is_taken_once_and_acknowledged_when_those_before_it_have_come(desk: Desk):
    first, second, stat_sn = command(desk), command(desk), desk.stat_sn
    completed = desk.reply(ScsiResponse(initiator_task_tag=second), stat_sn=stat_sn + 1)
    assert completed == [CommandCompleted(second, 0, 0, b"", b"")]
    assert asked(desk) == [(STATUS, NO_TAG, stat_sn, 1)]
    assert desk.connection.statuses.expected == stat_sn
    desk.reply(ScsiResponse(initiator_task_tag=first), stat_sn=stat_sn)
    assert desk.connection.statuses.expected == stat_sn + 2
    assert desk.reply(ScsiResponse(initiator_task_tag=second), stat_sn=stat_sn + 1) == []


def test_data_is_acknowledged_when_all_before_has_come(desk: Desk):
    tag = command(desk, READ)
    data_in(desk, tag, 1, acknowledge=True, final=True, target_transfer_tag=9, lun=LUN)
    assert asked(desk) == [(DATA_OR_R2T, tag, 0, 1)]
    data_in(desk, tag, 0)
    assert asked(desk) == [(DATA_ACK, NO_TAG, 2, 0)]


def test_request_that_is_not_taken_is_sent_again_under_its_number(desk: Desk):
    tag = command(desk, READY._replace(data_out=bytes(512)))
    pass_time(desk, 100)
    again = [(sent.header, sent.data) for sent in desk.sent()]
    found = {
        (header.initiator_task_tag, header.cmd_sn, data) for header, data in again if isinstance(header, ScsiCommand)
    }
    assert found == {(tag, 1, bytes(512))}


def test_request_that_is_never_taken_is_the_end_after_so_many_times(desk: Desk):
    tag = command(desk)
    events = [event for step in range(3 * MAX_TRIES) for event in desk.session.elapsed(step * TIMEOUT_S)]
    assert [(event.cid, event.tags) for event in events if isinstance(event, ConnectionLost)] == [(0, (tag,))]
    sent = [each.header for each in desk.sent()]
    assert sum(isinstance(header, ScsiCommand) for header in sent) == MAX_TRIES
    assert desk.session.deadline() == inf


def test_silence_is_broken_by_a_ping_whose_answer_nobody_is_told(desk: Desk):
    tag, stat_sn = command(desk), desk.stat_sn
    desk.reply(NopIn(initiator_task_tag=NO_TAG), status=False)
    pass_time(desk, 100)
    pings = [sent.header for sent in desk.sent() if isinstance(sent.header, NopOut)]
    assert pings
    desk.stat_sn = stat_sn + 1
    assert desk.reply(NopIn(initiator_task_tag=pings[0].initiator_task_tag)) == []
    assert asked(desk) == [(STATUS, NO_TAG, stat_sn, 1)]
    assert desk.reply(ScsiResponse(initiator_task_tag=tag), stat_sn=stat_sn) == [CommandCompleted(tag, 0, 0, b"", b"")]


def test_request_whose_data_the_target_found_damaged_is_sent_again(desk: Desk):
    tag = desk.session.ping(b"x", desk.connection)
    [ping] = desk.sent()
    assert desk.reply(Reject(reason=RejectReason.DATA_DIGEST_ERROR), ping.header.pack(), exp_cmd_sn=1) == []
    [again] = desk.sent()
    assert isinstance(again.header, NopOut)
    assert (again.header.initiator_task_tag, again.header.cmd_sn, again.data) == (tag, 1, b"x")
    assert desk.reply(NopIn(initiator_task_tag=tag), b"x") == [PingAnswered(tag, b"x")]


def test_data_is_sent_again_for_an_r2t_that_comes_again_but_not_for_ever(desk: Desk):
    tag = command(desk, READY._replace(data_out=bytes(65536 * 2)))
    r2t = ReadyToTransfer(
        initiator_task_tag=tag, target_transfer_tag=1, buffer_offset=65536, desired_data_transfer_length=65536
    )
    for _ in range(2):
        desk.reply(r2t, status=False)
        assert sum(len(sent.data) for sent in desk.sent() if isinstance(sent.header, DataOut)) == 65536
    events: list = []
    while not events:
        events = desk.reply(r2t, status=False)
        desk.sent()
    [lost] = events
    assert isinstance(lost, ConnectionLost)
    assert "R2Ts have asked" in lost.reason


def test_missing_r2t_is_asked_for(desk: Desk):
    tag = command(desk, READY._replace(data_out=bytes(1 << 20)))
    r2t = ReadyToTransfer(
        initiator_task_tag=tag, target_transfer_tag=1, r2t_sn=1, buffer_offset=0, desired_data_transfer_length=512
    )
    desk.reply(r2t, status=False)
    assert asked(desk) == [(DATA_OR_R2T, tag, 0, 1)]


def test_refused_snack_of_a_status_is_the_end(desk: Desk):
    command(desk)
    stat_sn = desk.stat_sn
    desk.stat_sn += 1
    desk.reply(NopIn(initiator_task_tag=NO_TAG), status=False)
    [snack] = [sent.header for sent in desk.sent()]
    [event] = desk.reply(Reject(reason=RejectReason.SNACK_REJECT), snack.pack())
    assert isinstance(event, ConnectionLost)
    assert f"number {stat_sn}" in event.reason


def test_refused_snack_for_what_may_not_exist_means_nothing(desk: Desk):
    tag = command(desk, READY._replace(data_out=bytes(1 << 20)))
    snack = SnackRequest(kind=DATA_OR_R2T, initiator_task_tag=tag)
    [event] = desk.reply(Reject(reason=RejectReason.SNACK_REJECT), snack.pack())
    assert isinstance(event, PduReceived)


def test_function_has_a_number_and_ends_only_what_has_no_status(desk: Desk):
    first, second = command(desk), command(desk)
    tag = desk.session.manage(TaskManagement.LOGICAL_UNIT_RESET, LUN, desk.connection)
    [sent] = desk.sent()
    assert isinstance(sent.header, TaskManagementRequest)
    assert not sent.header.immediate
    stat_sn = desk.stat_sn
    assert desk.reply(TaskManagementResponse(initiator_task_tag=tag), stat_sn=stat_sn + 1) == []
    assert asked(desk) == [(STATUS, NO_TAG, stat_sn, 1), (STATUS, NO_TAG, stat_sn, 2)]
    desk.reply(ScsiResponse(initiator_task_tag=first), stat_sn=stat_sn)
    events = desk.reply(TaskManagementResponse(initiator_task_tag=tag), stat_sn=stat_sn + 1)
    assert events[0] == TaskAborted(second)


def test_numbers_far_ahead_are_the_end(desk: Desk):
    tag = command(desk, READ)
    [event] = desk.reply(DataIn(initiator_task_tag=tag, data_sn=1 << 30), bytes(512))
    assert isinstance(event, ConnectionLost)
    assert "ahead" in event.reason


def test_snacks_that_the_target_does_not_take_are_bounded(desk: Desk):
    stat_sn = desk.stat_sn
    ping = NopIn(initiator_task_tag=NO_TAG)
    for step in range(0, 2 * MAX_SNACKS, 2):
        assert desk.reply(ping, status=False, stat_sn=stat_sn + step + 1) == []
        desk.reply(AsyncMessage(), stat_sn=stat_sn + step)
        desk.reply(AsyncMessage(), stat_sn=stat_sn + step + 1)
    [lost] = desk.reply(ping, status=False, stat_sn=stat_sn + 2 * MAX_SNACKS + 1)
    assert isinstance(lost, ConnectionLost)
    assert "SNACKs wait" in lost.reason


def test_unsolicited_data_that_may_be_lost_is_sent_again_so_often_and_no_more(desk: Desk):
    desk.session.command(READY._replace(data_out=bytes(20000)), desk.connection)
    desk.sent()
    desk.reply(NopIn(initiator_task_tag=NO_TAG), status=False)
    sent = 0
    for step in range(3 * MAX_TRIES):
        desk.session.elapsed(step * TIMEOUT_S)
        sent += sum(isinstance(each.header, ScsiCommand) for each in desk.sent())
        desk.reply(NopIn(initiator_task_tag=NO_TAG), status=False)
    assert sent == MAX_TRIES
