"""What refusals carry."""

import pytest

from iscsi_target.iscsi.errors import LoginRefused, LoginStatus, ProtocolError, RejectReason, StreamLost


@pytest.mark.clause("RFC7143 11.13.5")
@pytest.mark.parametrize("status", LoginStatus)
def test_refusal_carries_class_and_detail(status):
    refusal = status.refusal("why")
    assert isinstance(refusal, LoginRefused)
    assert (refusal.status_class, refusal.status_detail) == (status.value >> 8, status.value & 0xFF)
    assert refusal.reason == str(refusal) == "why"


def test_protocol_error_says_why():
    error = ProtocolError(RejectReason.INVALID_PDU_FIELD, "a reserved reason")
    assert (error.reason, error.text, str(error)) == (9, "a reserved reason", "a reserved reason")


def test_lost_stream_is_a_protocol_error():
    assert issubclass(StreamLost, ProtocolError)
