"""Commands of a session that may have 16 MiB of Data-In under way."""

from iscsi_target.iscsi.connection import MAX_QUEUED_BYTES
from iscsi_target.iscsi.events import CommandReceived, DataOutCompleted, TaskManagementRequested
from iscsi_target.iscsi.open_task import OpenTask, Response
from iscsi_target.iscsi.parking import LIMIT_BYTES, Parking
from iscsi_target.iscsi.requests import DataOut, ScsiCommand, TaskManagementRequest
from iscsi_target.iscsi.transfer import NO_DATA_OUT
from tests.transcript import LUN, Transcript, receive

HALF = LIMIT_BYTES // 2


def received(transcript: Transcript) -> list[int]:
    return [event.tag for event in transcript.take(CommandReceived)]


def read(transcript: Transcript, length: int) -> int:
    transcript.read(length)
    return transcript.tag


def test_commands_within_the_limit_go_on_at_once():
    transcript = Transcript()
    tags = [read(transcript, HALF), read(transcript, HALF)]
    assert received(transcript) == tags


def test_command_beyond_the_limit_waits_until_another_is_over():
    transcript = Transcript()
    first, second, third = (read(transcript, HALF) for _ in range(3))
    assert received(transcript) == [first, second]
    assert transcript.session.unpark() is None
    transcript.session.respond(first, Response(0))
    released = transcript.session.unpark()
    assert released is not None
    assert released.tag == third
    assert transcript.session.unpark() is None


def test_one_command_may_exceed_the_limit_alone():
    transcript = Transcript()
    tag = read(transcript, 4 * LIMIT_BYTES)
    assert received(transcript) == [tag]


def test_congested_connection_lets_nothing_through_and_keeps_the_order():
    transcript = Transcript(initial_r2t=False)
    transcript.connection.congested = True
    tags = [read(transcript, 512), read(transcript, 0)]
    transcript.write(3, b"abc")
    tags.append(transcript.tag)
    assert received(transcript) == []
    transcript.connection.congested = False
    released = [event.tag for event in iter(transcript.session.unpark, None)]
    assert released == tags


def test_data_that_came_while_its_command_waited_is_kept():
    transcript = Transcript(initial_r2t=False, first_burst_length=512)
    transcript.connection.congested = True
    header = ScsiCommand(write=True, final=False, expected_data_transfer_length=8, lun=LUN)
    transcript.ask(header, b"abc")
    transcript.send(DataOut(final=True, initiator_task_tag=transcript.tag, buffer_offset=3), b"defgh")
    assert transcript.take(DataOutCompleted) == []
    transcript.connection.congested = False
    released = transcript.session.unpark()
    assert released is not None
    completed = transcript.session.collect(released.tag, 6)
    assert completed is not None
    assert completed.data == b"abcdef"


def test_task_management_ends_what_waits():
    transcript = Transcript()
    transcript.connection.congested = True
    tag = read(transcript, 512)
    transcript.ask(TaskManagementRequest(function=1, referenced_task_tag=tag, immediate=True))
    assert transcript.take(TaskManagementRequested)
    assert transcript.session.withdraw(lambda command: command.tag == tag)
    transcript.connection.congested = False
    assert transcript.session.unpark() is None
    assert transcript.session.open_tasks == 0


def test_reads_wait_while_the_connection_is_full():
    transcript = Transcript()
    transcript.connection.queue(bytes(48), bytes(MAX_QUEUED_BYTES))
    command = transcript.number(ScsiCommand(read=True, expected_data_transfer_length=512))
    assert list(receive(transcript.connection, transcript.pack(command))) == []
    assert transcript.session.parks
    assert transcript.session.unpark() is None
    transcript.connection.take_output()
    released = transcript.session.unpark()
    assert released is not None
    assert released.tag == command.initiator_task_tag


def test_way_is_clear_until_something_waits_or_the_connection_takes_no_more():
    transcript = Transcript()
    connection, parking = transcript.connection, Parking()
    command = received_command(transcript)
    assert parking.is_clear(command)
    connection.queue(bytes(48), bytes(MAX_QUEUED_BYTES - 4))
    assert parking.is_clear(command)
    connection.queue(bytes(48), bytes(4))
    assert not parking.is_clear(command)
    connection.take_output()
    connection.congested = True
    assert not parking.is_clear(command)
    connection.congested = False
    assert parking.is_clear(command)


def test_way_is_not_clear_while_a_command_waits():
    transcript, parking = Transcript(), Parking()
    first, second = received_command(transcript), received_command(transcript)
    little = received_command(transcript, 0)
    assert parking.admits(first, OpenTask(first, NO_DATA_OUT))
    assert parking.is_clear(little)
    assert not parking.is_clear(second)
    assert not parking.admits(second, OpenTask(second, NO_DATA_OUT))
    assert not parking.is_clear(little)


def received_command(transcript: Transcript, length: int = LIMIT_BYTES) -> CommandReceived:
    """Returns a command that wants as much as may be under way, or another length."""
    command = transcript.number(ScsiCommand(read=True, expected_data_transfer_length=length))
    [event] = receive(transcript.connection, transcript.pack(command))
    assert isinstance(event, CommandReceived)
    return event
