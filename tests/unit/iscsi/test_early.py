"""Requests that wait for their turn: what has room, and what goes with them."""

import pytest

from iscsi_target.iscsi import early
from iscsi_target.iscsi.events import CommandReceived, DataOutCompleted
from iscsi_target.iscsi.requests import DataOut, NopOut, ScsiCommand, TaskManagementRequest
from iscsi_target.iscsi.responses import Reject
from tests.transcript import Transcript, only


@pytest.fixture
def several() -> Transcript:
    """A session that may have several connections, whose next CmdSN is 1."""
    return Transcript(max_connections=4, initial_r2t=False)


def write(cmd_sn: int, expected: int, **fields: object) -> ScsiCommand:
    command = ScsiCommand(write=True, final=False, initiator_task_tag=cmd_sn, cmd_sn=cmd_sn)
    return command.replace(expected_data_transfer_length=expected, **fields)


def test_unsolicited_data_waits_with_its_command(several: Transcript):
    several.wants = 6
    several.send(write(2, 6), b"ab")
    several.send(DataOut(initiator_task_tag=2, buffer_offset=2), b"cd")
    assert several.send(DataOut(initiator_task_tag=2, buffer_offset=4, data_sn=1, final=True), b"ef") == []
    assert several.events == []
    several.send(NopOut(initiator_task_tag=9, cmd_sn=1))
    assert [completed.data for completed in several.take(DataOutCompleted)] == [b"abcdef"]


def test_data_out_of_a_command_that_waits_on_another_connection_is_not_kept(several: Transcript):
    several.send(write(2, 6))
    other = Transcript()
    other.connection.phase = several.session
    assert only(other.send(DataOut(initiator_task_tag=2, final=True), b"abcdef"), Reject)


def test_data_of_a_command_that_is_skipped_while_it_waits_is_swallowed(several: Transcript):
    several.send(write(2, 6))
    assert several.session.skip(2, 3)
    assert several.send(DataOut(initiator_task_tag=2, final=True), b"abcdef") == []


def test_data_of_a_command_that_comes_after_it_was_skipped_is_swallowed(several: Transcript):
    assert several.session.skip(2, 3)
    assert several.send(write(2, 6)) == []
    assert several.send(DataOut(initiator_task_tag=2, final=True), b"abcdef") == []
    several.send(NopOut(initiator_task_tag=9, cmd_sn=1))
    assert several.events == []


@pytest.mark.parametrize("cmd_sn", [1, 200])
def test_data_of_a_command_outside_the_window_is_swallowed(several: Transcript, cmd_sn: int):
    several.ask(NopOut())
    assert several.send(write(cmd_sn, 6)) == []
    assert several.send(DataOut(initiator_task_tag=cmd_sn, final=True), b"abcdef") == []


def test_room_is_counted_in_bytes(several: Transcript, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(early, "MAX_BYTES", 3 * early.COST_BYTES)
    several.send(write(2, 6))
    several.send(DataOut(initiator_task_tag=2), b"")
    several.send(NopOut(initiator_task_tag=3, cmd_sn=3))
    assert not several.connection.closing
    several.send(DataOut(initiator_task_tag=2), b"")
    assert several.connection.closing


def test_room_is_free_again_when_what_waited_is_gone(several: Transcript, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(early, "MAX_BYTES", early.COST_BYTES + 4)
    for round_ in range(3):
        cmd_sn = several.cmd_sn
        held = NopOut(initiator_task_tag=50 + round_, cmd_sn=cmd_sn + 1)
        several.send(held, b"text")
        several.send(held)  # falls away
        assert len(several.ask(NopOut())) == 2
        several.cmd_sn += 1
    several.send(NopOut(initiator_task_tag=60, cmd_sn=several.cmd_sn + 1), b"text")
    assert several.session.skip(several.cmd_sn + 1, several.cmd_sn + 2)
    several.send(NopOut(initiator_task_tag=61, cmd_sn=several.cmd_sn + 2), b"text")
    several.session.silence(several.connection)
    several.connection.phase = several.session
    several.send(NopOut(initiator_task_tag=62, cmd_sn=several.cmd_sn + 2), b"text")
    assert not several.connection.closing


def test_function_that_waits_counts_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(early, "MAX_BYTES", early.COST_BYTES)
    transcript = Transcript(max_connections=4)
    function = TaskManagementRequest(immediate=True, function=2, cmd_sn=5)
    transcript.send(function)
    assert not transcript.connection.closing
    transcript.send(function)
    assert transcript.connection.closing


def test_command_that_is_silenced_is_handled_when_it_comes_again(several: Transcript):
    several.send(ScsiCommand(initiator_task_tag=2, cmd_sn=2))
    several.session.silence(several.connection)
    several.connection.phase = several.session
    several.send(NopOut(initiator_task_tag=9, cmd_sn=1))
    assert several.events == []
    several.send(ScsiCommand(initiator_task_tag=2, cmd_sn=2))
    assert [event.tag for event in several.take(CommandReceived)] == [2]


def test_requests_before_their_turn_are_limited():
    transcript = Transcript()
    first = transcript.cmd_sn
    for ahead in range(1, early.MAX_REQUESTS + 1):
        transcript.send(NopOut(cmd_sn=first + ahead, initiator_task_tag=ahead), bytes(10))
    assert not transcript.connection.closing
    transcript.send(NopOut(cmd_sn=first + early.MAX_REQUESTS + 1, initiator_task_tag=99), bytes(10))
    assert transcript.connection.closing
