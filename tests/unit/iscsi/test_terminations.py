"""What an initiator is told whose tasks another one ends (see tests/transcript)."""

import pytest

from iscsi_target.iscsi.responses import AsyncMessage, ReadyToTransfer, ScsiResponse
from iscsi_target.iscsi.terminations import announce_termination
from tests.transcript import LUN, Transcript, only

OTHER_LUN = b"\0\x01" + bytes(6)


@pytest.fixture
def transcript() -> Transcript:
    transcript = Transcript()
    transcript.wants = 8
    return transcript


@pytest.mark.clause("RFC7143 11.9.1")
def test_the_message_names_the_lun(transcript: Transcript):
    announce_termination(transcript.session, transcript.connection, OTHER_LUN, ())
    message = only(transcript.answers(), AsyncMessage)
    assert (message.async_event, message.lun, message.stat_sn) == (5, OTHER_LUN, transcript.connection.stat_sn - 1)


@pytest.mark.clause("RFC7143 4.2.3.4")
def test_response_of_an_ended_task_waits_for_no_data_and_late_data_is_swallowed(transcript: Transcript):
    asked = only(transcript.write(8, final=True), ReadyToTransfer)
    tag = asked.initiator_task_tag
    announce_termination(transcript.session, transcript.connection, LUN, [tag])
    transcript.answers()
    response = only(transcript.respond(tag, status=0x40), ScsiResponse)
    assert (response.status, response.exp_data_sn) == (0x40, 1)
    assert transcript.give(asked, bytes(8)) == []


def test_response_that_waits_for_data_goes_out(transcript: Transcript):
    asked = only(transcript.write(8, final=True), ReadyToTransfer)
    assert transcript.respond(asked.initiator_task_tag, status=2) == []
    announce_termination(transcript.session, transcript.connection, LUN, ())
    message, response = transcript.answers()
    assert isinstance(message.header, AsyncMessage)
    assert response.header.status == 2


@pytest.mark.parametrize("lun", [LUN, OTHER_LUN])
def test_data_of_other_tasks_is_awaited_on(transcript: Transcript, lun: bytes):
    asked = only(transcript.write(8, final=True), ReadyToTransfer)
    tags = [] if lun == LUN else [asked.initiator_task_tag]
    announce_termination(transcript.session, transcript.connection, lun, tags)
    transcript.events.clear()
    transcript.give(asked, b"12345678")
    assert [event.data for event in transcript.events] == [b"12345678"]  # type: ignore[union-attr]  # DataOutCompleted
