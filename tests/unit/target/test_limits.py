"""How many sessions there may be."""

import pytest

from iscsi_target.iscsi.errors import LoginRefused
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.target.limits import DEFAULT_LIMITS, Limits

NAMES = [("a", "t"), ("a", "u"), ("b", "t")]


def nexus(initiator: str, target: str, isid: int = 0) -> Nexus:
    return Nexus(InitiatorPort(initiator, bytes([isid] * 6)), TargetPort(target, 1))


def refused(limits: Limits, initiator: str, target: str) -> str:
    """Why one more session is refused, or empty."""
    active = [nexus(*names) for names in NAMES]
    try:
        limits.check(active, len(active), nexus(initiator, target, 1))
    except LoginRefused as refusal:
        return f"{refusal.status_class:02x}{refusal.status_detail:02x} {refusal.reason}"
    return ""


@pytest.mark.clause("RFC7143 11.13.5")
def test_sessions_are_limited_in_all_for_a_target_and_for_an_initiator():
    assert refused(Limits(sessions=4), "c", "v") == ""
    assert refused(Limits(sessions=3), "c", "v") == "0302 3 sessions are open"
    assert refused(Limits(sessions_per_target=2), "c", "u") == ""
    assert refused(Limits(sessions_per_target=2), "c", "t") == "0302 2 sessions are open with t"
    assert refused(Limits(sessions_per_initiator=2), "b", "u") == ""
    assert refused(Limits(sessions_per_initiator=2), "a", "v") == "0302 a has 2 sessions open"


def test_sessions_are_not_counted_one_by_one_before_a_limit_can_be_reached():
    def nobody():
        raise AssertionError("looked at")
        yield

    DEFAULT_LIMITS.check(nobody(), 4095, nexus("a", "t"))
