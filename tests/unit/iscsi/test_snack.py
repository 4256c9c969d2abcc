"""SNACK on a connection without the target behind it; protocol rules are in tests/conformance/test_error_recovery."""

import pytest

from iscsi_target.iscsi import snack
from iscsi_target.iscsi.errors import ProtocolError, RejectReason
from iscsi_target.iscsi.requests import SnackRequest
from iscsi_target.iscsi.responses import DataIn, Reject
from iscsi_target.iscsi.retention import DATA_OR_R2T
from tests.transcript import Transcript, only


def test_data_is_sent_again_and_takes_no_new_number():
    transcript = Transcript(error_recovery_level=1)
    tag = transcript.read(4)
    first = transcript.respond(tag, data_in=b"1234")
    number = transcript.connection.stat_sn
    assert transcript.send(SnackRequest(kind=DATA_OR_R2T, initiator_task_tag=tag)) == first
    assert transcript.connection.stat_sn == number


def test_nothing_is_kept_at_level_0():
    transcript = Transcript()
    tag = transcript.read(4)
    transcript.respond(tag, data_in=b"1234")
    header = only(transcript.send(SnackRequest(kind=DATA_OR_R2T, initiator_task_tag=tag)), Reject)
    assert header.reason == RejectReason.SNACK_REJECT


def test_data_in_asks_for_no_acknowledgement_at_level_0():
    transcript = Transcript(max_burst_length=512, initiator_max_recv=512)
    parts = transcript.respond(transcript.read(1024), data_in=bytes(1024))
    assert not any(part.header.acknowledge for part in parts if isinstance(part.header, DataIn))


def test_many_requests_at_once_do_not_queue_without_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(snack, "MAX_QUEUED_BUFFERS", 3)
    transcript = Transcript(error_recovery_level=1)
    tag = transcript.read(4)
    transcript.respond(tag, data_in=b"1234")
    request = SnackRequest(kind=DATA_OR_R2T, initiator_task_tag=tag)
    for _ in range(2):
        snack.answer(transcript.session, transcript.connection, request)
    with pytest.raises(ProtocolError, match="too much is to be sent") as caught:
        snack.answer(transcript.session, transcript.connection, request)
    assert caught.value.reason == RejectReason.SNACK_REJECT
