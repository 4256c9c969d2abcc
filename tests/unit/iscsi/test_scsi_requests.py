"""Commands, Data-Out and task management functions as they come."""

from iscsi_target.iscsi.errors import RejectReason
from iscsi_target.iscsi.events import CommandReceived, DataOutCompleted
from iscsi_target.iscsi.numbering import WINDOW_COMMANDS
from iscsi_target.iscsi.requests import ScsiCommand, TaskManagementRequest
from iscsi_target.iscsi.responses import ReadyToTransfer, Reject
from iscsi_target.iscsi.scsi_requests import MAX_FUNCTIONS, MAX_IMMEDIATE_TASKS
from tests.transcript import Transcript, only


def asked(pdus) -> list[ReadyToTransfer]:
    return [pdu.header for pdu in pdus if isinstance(pdu.header, ReadyToTransfer)]


def test_command_is_told_with_all_that_a_scsi_side_needs():
    transcript = Transcript(initial_r2t=False)
    header = ScsiCommand(
        write=True, lun=b"\0\5\0\0\0\0\0\0", cdb=bytes(range(16)), attributes=2, expected_data_transfer_length=9
    )
    transcript.ask(header)
    [event] = transcript.events
    assert isinstance(event, CommandReceived)
    told = (event.tag, event.lun, event.cdb, event.attribute, event.expected, event.data)
    assert told == (transcript.tag, header.lun, header.cdb, 2, 9, None)


def test_command_that_reads_has_no_data_out():
    transcript = Transcript()
    transcript.read(512)
    assert transcript.take(CommandReceived)[0].expected == 0


def test_data_that_came_with_the_command_is_told_with_it():
    transcript = Transcript()
    assert transcript.write(5, b"12345") == []
    assert transcript.take(CommandReceived)[0].data == b"12345"


def test_wanted_data_of_which_the_last_comes_unasked_completes_at_once():
    transcript = Transcript(initial_r2t=False)
    transcript.wants = 3
    assert transcript.write(5, b"1234", final=False) == []
    transcript.give_unasked(b"5", buffer_offset=4)
    [completed] = transcript.take(DataOutCompleted)
    assert completed.data == b"123"


def test_functions_that_are_not_answered_are_limited():
    transcript = Transcript()
    function = TaskManagementRequest(immediate=True, function=2)
    for _ in range(MAX_FUNCTIONS):
        assert transcript.ask(function) == []
    assert only(transcript.ask(function), Reject).reason == RejectReason.IMMEDIATE_COMMAND_REJECT
    transcript.session.respond_management(transcript.connection, 1, response=0)
    transcript.answers()
    assert transcript.ask(function) == []


def test_immediate_commands_are_limited_beyond_the_window():
    transcript = Transcript()
    for _ in range(WINDOW_COMMANDS + MAX_IMMEDIATE_TASKS):
        transcript.read(0, immediate=True)
    assert transcript.session.open_tasks == WINDOW_COMMANDS + MAX_IMMEDIATE_TASKS
    [pdu] = transcript.ask(ScsiCommand(immediate=True, read=True))
    assert only([pdu], Reject).reason == RejectReason.IMMEDIATE_COMMAND_REJECT


def test_late_data_is_swallowed_though_its_tag_is_in_use_again():
    transcript = Transcript()
    transcript.wants = 600
    [asking] = asked(transcript.write(600))
    transcript.session.discard(asking.initiator_task_tag)
    [again] = asked(transcript.write(600, initiator_task_tag=asking.initiator_task_tag))
    assert again.initiator_task_tag == asking.initiator_task_tag
    assert transcript.give(asking, bytes(600)) == []
    assert transcript.take(DataOutCompleted) == []


def test_place_of_a_command_among_all_is_told_but_of_an_immediate_one():
    transcript = Transcript()
    transcript.ask(ScsiCommand())
    transcript.ask(ScsiCommand(immediate=True))
    assert [event.cmd_sn for event in transcript.take(CommandReceived)] == [1, None]


def test_data_out_on_another_connection_is_rejected_and_changes_nothing():
    transcript, other = Transcript(), Transcript()
    other.connection.phase = transcript.session
    transcript.wants = 600
    [asking] = asked(transcript.write(600))
    assert only(other.give(asking, bytes(600)), Reject).reason == RejectReason.PROTOCOL_ERROR
    transcript.give(asking, bytes(600))
    assert transcript.take(DataOutCompleted)
