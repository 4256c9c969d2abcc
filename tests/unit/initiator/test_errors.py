"""What a target did wrong, as exceptions."""

from iscsi_target.initiator.errors import LoginRejected, violation
from iscsi_target.iscsi.errors import ProtocolError


def test_violation_is_the_error_that_framing_and_text_raise():
    error = violation("nonsense")
    assert isinstance(error, ProtocolError)
    assert error.text == "nonsense"


def test_rejected_login_tells_its_status_in_hexadecimal():
    assert LoginRejected(2, 0xA, "").reason == "login status 020ah"
