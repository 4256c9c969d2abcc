import pytest

from iscsi_target.config.values import SERVED
from iscsi_target.iscsi.responses import LoginResponse
from iscsi_target.target import recovery
from tests.initiator import Host, Lab

OFFERS = [("ErrorRecoveryLevel", "2"), ("MaxConnections", "4")]


@pytest.fixture
def lab() -> Lab:
    return Lab(preferences=SERVED._replace(error_recovery_level=2, default_time2retain=20))


@pytest.fixture
def a(lab: Lab) -> Host:
    return lab.session(offers=OFFERS)


def test_lost_connections_of_a_session_are_limited(lab: Lab, a: Host, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recovery, "MAX_LOST", 2)
    for _ in range(4):
        other = a.join(1)
        assert isinstance(other.take(LoginResponse)[0].header, LoginResponse)
        other.ask_to_write(0)
        other.cut()
    assert lab.units["disk0"].open_tasks == 2
    a.logout()
    assert lab.clean


def test_wait_begins_anew_when_a_lost_connection_is_logged_out(lab: Lab, a: Host):
    second = a.join(1)
    second.ask_to_write(0)
    second.cut()
    lab.wait(10)
    a.logout(2, cid=1)
    lab.wait(14)
    assert lab.units["disk0"].open_tasks == 1
    lab.wait(9)  # Time2Wait is 2 when nobody speaks of it
    assert not lab.units["disk0"].open_tasks


def test_nothing_is_waited_for_after_the_end_of_a_session(lab: Lab, a: Host):
    second = a.join(1)
    second.cut()
    a.logout()
    assert lab.clean
    assert not len(lab.target._dispatcher._rests)
