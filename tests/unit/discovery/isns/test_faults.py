"""How a refusal reads."""

from iscsi_target.discovery.isns.faults import Refused, Status, status_text


def test_status_is_in_words_when_it_is_known():
    assert status_text(Status.SOURCE_UNKNOWN) == "source unknown"
    assert status_text(99) == "status 99"
    assert str(Refused(Status.BUSY, "later")) == "busy: later"
