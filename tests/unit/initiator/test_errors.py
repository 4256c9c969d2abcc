"""What a target did wrong, as exceptions."""

from iscsi_target.initiator.errors import LoginRejected, violation
from iscsi_target.iscsi.errors import ProtocolError


def test_violation_is_the_error_that_framing_and_text_raise():
    error = violation("nonsense")
    assert isinstance(error, ProtocolError)
    assert error.text == "nonsense"


def test_rejected_login_tells_its_status_and_what_it_means():
    assert LoginRejected(2, 0xA, "").reason == "login status 020ah, SESSION_DOES_NOT_EXIST"
    assert LoginRejected(3, 0x7F, "").reason == "login status 037fh"
