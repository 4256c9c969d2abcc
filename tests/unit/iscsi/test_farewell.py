"""Asynchronous Messages to an initiator that is to leave (see tests/transcript)."""

import pytest

from iscsi_target.iscsi.farewell import announce_drop, request_logout
from iscsi_target.iscsi.responses import AsyncMessage
from tests.transcript import Transcript, only


@pytest.mark.clause("RFC7143 11.9.1")
def test_a_request_to_log_out_says_how_long_the_initiator_has():
    transcript = Transcript()
    request_logout(transcript.connection, 10)
    message = only(transcript.answers(), AsyncMessage)
    assert (message.async_event, message.parameter3) == (1, 10)


@pytest.mark.clause("RFC7143 11.9.1")
def test_a_connection_that_is_dropped_is_named():
    transcript = Transcript(default_time2wait=3, default_time2retain=5)
    announce_drop(transcript.session, transcript.connection, whole=False)
    message = only(transcript.answers(), AsyncMessage)
    assert (message.async_event, message.parameter1, message.parameter2, message.parameter3) == (2, 7, 3, 5)


@pytest.mark.clause("RFC7143 11.9.1")
def test_a_session_that_is_dropped_names_no_connection():
    transcript = Transcript(default_time2wait=3, default_time2retain=5)
    announce_drop(transcript.session, transcript.connection, whole=True)
    message = only(transcript.answers(), AsyncMessage)
    assert (message.async_event, message.parameter1, message.parameter2, message.parameter3) == (3, 0, 3, 5)
