"""A session's bookkeeping: tags, room for Data-Out, what is aborted, what waits."""

import pytest

from iscsi_target.iscsi.errors import RejectReason
from iscsi_target.iscsi.events import (
    CommandReceived,
    Condition,
    DataOutCompleted,
    DataOutFailed,
    ProtocolViolated,
    TaskManagementRequested,
)
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.numbering import WINDOW_COMMANDS
from iscsi_target.iscsi.open_task import Response
from iscsi_target.iscsi.parking import LIMIT_BYTES
from iscsi_target.iscsi.requests import DataOut, NopOut, ScsiCommand, TaskManagementRequest
from iscsi_target.iscsi.responses import DataIn, NopIn, ReadyToTransfer, Reject, ScsiResponse, TaskManagementResponse
from tests.transcript import Transcript, only, receive


def asked(pdus) -> list[ReadyToTransfer]:
    return [pdu.header for pdu in pdus if isinstance(pdu.header, ReadyToTransfer)]


def test_command_that_is_answered_at_once_is_no_task():
    transcript = Transcript()
    command = transcript.number(ScsiCommand(read=True, expected_data_transfer_length=4))
    [event] = receive(transcript.connection, transcript.pack(command))
    assert isinstance(event, CommandReceived)
    transcript.session.answer(event, Response(0, data_in=b"1234"))
    assert transcript.session.open_tasks == 0
    [answered] = transcript.answers()
    assert answered.data == b"1234"
    assert isinstance(answered.header, DataIn)
    assert answered.header.initiator_task_tag == command.initiator_task_tag
    assert answered.header.max_cmd_sn == command.cmd_sn + WINDOW_COMMANDS


def test_command_that_had_to_wait_for_room_and_is_answered_at_once_is_no_task_any_more():
    transcript = Transcript()
    transcript.connection.congested = True
    tag = transcript.read(4)
    assert transcript.session.open_tasks == 1
    transcript.connection.congested = False
    event = transcript.session.unpark()
    assert event is not None
    transcript.session.answer(event, Response(0, data_in=b"1234"))
    [answered] = transcript.answers()
    assert (answered.header.initiator_task_tag, answered.data) == (tag, b"1234")
    assert transcript.session.open_tasks == 0


def test_collect_of_a_task_that_is_gone_does_nothing():
    assert Transcript().session.collect(5, 10) is None


def test_response_of_a_task_that_is_gone_does_nothing():
    assert Transcript().respond(5) == []


def test_failed_transfer_ends_once():
    transcript = Transcript()
    transcript.wants = 600
    [asking] = asked(transcript.write(600))

    def end(event):
        if isinstance(event, DataOutFailed):
            transcript.session.respond(event.tag, Response(2, bytes(18)))

    transcript.act = end
    transcript.events.clear()
    assert only(transcript.give(asking, bytes(10)), ScsiResponse).status == 2
    assert [type(event) for event in transcript.events] == [DataOutFailed]


def test_failed_transfer_whose_task_ends_later_is_never_called_complete():
    transcript = Transcript()
    transcript.wants = 600
    [asking] = asked(transcript.write(600))
    transcript.events.clear()
    transcript.give(asking, bytes(10))
    assert [type(event) for event in transcript.events] == [DataOutFailed]
    assert only(transcript.respond(asking.initiator_task_tag, status=2), ScsiResponse).status == 2


def test_response_waits_for_data_that_the_initiator_owes():
    transcript = Transcript(max_outstanding_r2t=2, max_burst_length=512)
    transcript.wants = 1024
    first, second = asked(transcript.write(1024))
    assert transcript.respond(first.initiator_task_tag, status=8) == []
    assert transcript.give(first, bytes(512)) == []
    assert only(transcript.give(second, bytes(512)), ScsiResponse).status == 8
    assert transcript.take(DataOutCompleted) == []


def test_window_opens_with_each_response():
    transcript = Transcript()
    tags = [transcript.read(0) for _ in range(WINDOW_COMMANDS)]
    assert transcript.ask(NopOut()) == []
    header = only(transcript.respond(tags[0]), ScsiResponse)
    assert (header.exp_cmd_sn, header.max_cmd_sn) == (WINDOW_COMMANDS + 1, WINDOW_COMMANDS + 1)


def test_transfer_tags_run_through_all_numbers_but_the_one_that_means_none():
    transcript = Transcript()
    transcript.session._tags_given = NO_TAG - 1
    transcript.session.ping(transcript.connection)
    transcript.session.ping(transcript.connection)
    tags = [pdu.header.target_transfer_tag for pdu in transcript.answers() if isinstance(pdu.header, NopIn)]
    assert tags == [NO_TAG - 1, 0]


@pytest.mark.parametrize("tag", [1, 2, 2**31, NO_TAG - 1])
def test_transfer_tag_that_was_never_given_out_is_no_late_data(tag):
    transcript = Transcript()
    transcript.wants = 10
    [asking] = asked(transcript.write(10))
    transcript.session.discard(asking.initiator_task_tag)
    assert transcript.give(asking, bytes(10)) == []
    assert transcript.give(asking, bytes(10)) == []
    assert only(transcript.give(asking, bytes(10), target_transfer_tag=tag), Reject)


def test_data_out_on_another_connection_of_the_session_belongs_to_no_task():
    transcript = Transcript()
    transcript.wants = 10
    [asking] = asked(transcript.write(10))
    other = Transcript()
    other.connection.phase = transcript.session
    assert other.give(asking.replace(target_transfer_tag=99), bytes(10)) != []
    assert transcript.take(DataOutCompleted) == []


def test_withdraw_forgets_only_tasks_whose_response_waits():
    transcript = Transcript()
    transcript.wants = 10
    [asking] = asked(transcript.write(10))
    unanswered = transcript.read(0)
    transcript.respond(asking.initiator_task_tag)
    assert not transcript.session.withdraw(lambda command: command.tag == unanswered)
    assert not transcript.session.withdraw(lambda command: command.lun == b"anotherL")
    assert transcript.session.withdraw(lambda command: command.tag == asking.initiator_task_tag)
    assert transcript.session.open_tasks == 1
    assert transcript.give(asking, bytes(10)) == []


def test_task_management_is_told_whole():
    transcript = Transcript()
    header = TaskManagementRequest(
        immediate=True,
        function=1,
        lun=b"12345678",
        initiator_task_tag=5,
        referenced_task_tag=6,
        ref_cmd_sn=7,
        cmd_sn=1,
    )
    transcript.send(header)
    [event] = transcript.events
    assert event == TaskManagementRequested(transcript.connection, 5, 1, b"12345678", 6, 7, 1)


def test_early_request_names_the_connection_that_it_came_on():
    transcript = Transcript()
    other = Transcript()
    other.connection.phase = transcript.session
    other.connection.cid = 8
    transcript.session.connections[8] = other.connection
    other.cmd_sn = 2
    assert other.ask(TaskManagementRequest(function=1)) == []
    transcript.ask(NopOut())
    [event] = transcript.take(TaskManagementRequested)
    transcript.session.respond_management(event.connection, event.tag, response=1)
    assert transcript.answers() == []
    assert only(other.answers(), TaskManagementResponse).response == 1


def test_request_of_a_connection_that_is_gone_is_not_answered():
    transcript = Transcript()
    gone = transcript.connection
    transcript.session.lose(gone)
    transcript.session.connections[gone.cid] = Transcript().connection
    transcript.session.respond_management(gone, 5, response=0)
    transcript.session.respond_logout(gone, 6, response=0)
    assert transcript.answers() == []
    assert not transcript.connection.closing


def test_skipped_command_lets_those_pass_that_waited_as_soon_as_the_function_is_over():
    transcript = Transcript()
    transcript.cmd_sn = 2
    transcript.ask(NopOut(initiator_task_tag=50))

    def skip(event):
        if isinstance(event, TaskManagementRequested):
            assert transcript.session.skip(event.ref_cmd_sn, event.cmd_sn)

    transcript.act = skip
    abort = TaskManagementRequest(immediate=True, function=1, ref_cmd_sn=1, cmd_sn=3, initiator_task_tag=51)
    assert only(transcript.send(abort), NopIn).initiator_task_tag == 50


def test_command_that_was_not_sent_before_the_function_is_not_skipped():
    transcript = Transcript()
    assert not transcript.session.skip(1, 1)
    assert not transcript.session.skip(2, 1)
    transcript.read(0)
    assert transcript.session.open_tasks == 1


def test_early_request_is_kept_though_its_bytes_are_gone():
    transcript = Transcript()
    late = transcript.number(NopOut(initiator_task_tag=50))
    early = transcript.number(NopOut(initiator_task_tag=51))
    received = bytearray(transcript.pack(early, b"text"))
    list(receive(transcript.connection, received))
    received[:] = bytes(len(received))
    first, second = transcript.send(late)
    assert (first.header.initiator_task_tag, second.header.initiator_task_tag) == (50, 51)
    assert second.data == b"text"


def test_discovery_session_takes_no_scsi():
    transcript = Transcript(discovery=True)
    for header in (ScsiCommand(), TaskManagementRequest(initiator_task_tag=3), DataOut()):
        transcript.cmd_sn = transcript.session.numbers.expected
        if isinstance(header, DataOut):
            pdus = transcript.send(header)
        else:
            pdus = transcript.send(header.replace(cmd_sn=transcript.cmd_sn))
        assert only(pdus, Reject).reason == RejectReason.COMMAND_NOT_SUPPORTED
    assert only(transcript.send(NopOut(initiator_task_tag=9, cmd_sn=3)), NopIn)


def test_command_that_failed_while_it_was_held_back_never_becomes_a_task():
    transcript = Transcript(initial_r2t=False, first_burst_length=512)
    reading = transcript.read(LIMIT_BYTES)
    transcript.write(512, final=False)
    transcript.events.clear()
    transcript.give_unasked(b"x", data_sn=5, final=False)
    assert [type(event) for event in transcript.events] == [DataOutFailed]
    assert transcript.respond(transcript.tag, status=2) == []
    transcript.respond(reading)
    assert transcript.session.unpark() is None
    assert only(transcript.give_unasked(b"x", data_sn=6), ScsiResponse).status == 2


def test_each_condition_ends_a_task_and_none_is_a_violation():
    transcript = Transcript(immediate_data=False)
    transcript.write(10, bytes(10))
    [failed] = transcript.take(DataOutFailed)
    assert failed.condition is Condition.UNEXPECTED_UNSOLICITED_DATA
    assert transcript.take(ProtocolViolated) == []


def test_close_closes_every_connection():
    transcript = Transcript()
    transcript.session.close()
    assert transcript.connection.closing


def test_command_that_reads_and_announces_data_is_answered_at_once():
    transcript = Transcript(initial_r2t=False)
    tag = transcript.read(4, final=False)
    assert transcript.take(DataOutFailed)
    [answered] = transcript.respond(tag, status=2, sense=b"sense")
    assert isinstance(answered.header, ScsiResponse)


def test_command_waits_for_room_before_it_is_told_and_not_after():
    transcript = Transcript()
    transcript.write(LIMIT_BYTES)
    [first] = transcript.take(CommandReceived)
    command = transcript.number(ScsiCommand(write=True, expected_data_transfer_length=4))
    assert list(receive(transcript.connection, transcript.pack(command, b"1234"))) == []
    transcript.session.discard(first.tag)
    told = transcript.session.unpark()
    assert told is not None
    assert told.data == b"1234"


def test_immediate_data_that_nobody_takes_is_not_kept():
    transcript = Transcript()
    received = bytearray(
        transcript.pack(transcript.number(ScsiCommand(write=True, expected_data_transfer_length=9)), b"1234")
    )
    [event] = receive(transcript.connection, memoryview(received))
    assert isinstance(event, CommandReceived)
    transcript.session.forget_immediate(event.tag)
    received.clear()  # fails while anybody looks at it


def test_command_that_does_not_end_at_once_becomes_a_task_once():
    transcript = Transcript()
    command = transcript.number(ScsiCommand(read=True, expected_data_transfer_length=4))
    [event] = receive(transcript.connection, transcript.pack(command))
    assert isinstance(event, CommandReceived)
    assert transcript.session.open_tasks == 0
    assert [transcript.session.open(event) for _ in range(2)] == [True, True]
    assert transcript.session.open_tasks == 1
    transcript.session.respond(event.tag, Response(0, data_in=b"1234"))
    assert [pdu.data for pdu in transcript.answers()] == [b"1234"]
    assert transcript.session.open_tasks == 0


def test_command_that_has_more_data_to_come_is_a_task_when_it_is_told():
    transcript = Transcript()
    command = transcript.number(ScsiCommand(write=True, expected_data_transfer_length=600))
    [event] = receive(transcript.connection, transcript.pack(command, bytes(100)))
    assert isinstance(event, CommandReceived)
    assert event.data is None
    assert transcript.session.open_tasks == 1
    assert transcript.session.open(event)
    assert transcript.session.open_tasks == 1


def test_command_that_cannot_go_on_is_a_task_that_waits():
    transcript = Transcript()
    first = transcript.read(LIMIT_BYTES)
    command = transcript.number(ScsiCommand(read=True, expected_data_transfer_length=4))
    assert list(receive(transcript.connection, transcript.pack(command))) == []
    assert transcript.session.parks
    assert transcript.session.open_tasks == 2
    transcript.session.respond(first, Response(0))
    told = transcript.session.unpark()
    assert told is not None
    assert told.tag == command.initiator_task_tag


def test_tag_of_a_command_that_was_answered_at_once_may_be_used_again():
    transcript = Transcript()
    for _ in range(2):
        command = transcript.number(ScsiCommand(read=True, initiator_task_tag=7))
        [event] = receive(transcript.connection, transcript.pack(command))
        assert isinstance(event, CommandReceived)
        transcript.session.answer(event, Response(0))
    assert [pdu.header.initiator_task_tag for pdu in transcript.answers()] == [7, 7]
