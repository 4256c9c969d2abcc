"""How sessions come and go, beside the rules of the protocol, which are in tests/conformance."""

import pytest

from iscsi_target.iscsi.errors import LoginStatus
from iscsi_target.target import ConnectionJoined, ConnectionLeft, Limits, SessionEnded
from tests.initiator import CONNECTION, NODE, Host, Lab


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_sessions_are_limited(lab: Lab):
    lab.target._sessions._limits = Limits(sessions=3)
    hosts = [lab.session(f"h{number}") for number in range(3)]
    extra = lab.connect("extra")
    extra.login()
    assert (extra.login_status(), extra.closed) == (LoginStatus.OUT_OF_RESOURCES, True)
    again = lab.connect("h0")
    again.login()
    assert again.logged_in  # takes the place of its predecessor
    hosts[1].cut()
    late = lab.connect("late")
    late.login()
    assert late.logged_in


def test_sessions_of_both_kinds_share_the_tsihs(lab: Lab):
    hosts = [lab.session(f"h{number}") for number in range(2)]
    discovery = lab.connect("d")
    discovery.login(None)
    assert [host.tsih for host in (*hosts, discovery)] == [1, 2, 3]


def test_events_tell_of_further_connections(lab: Lab):
    a = lab.session("a", offers=[("MaxConnections", "2")])
    second = a.join(1)
    whole = (a.name, a.isid.hex(), NODE, a.tsih)
    assert lab.announced(ConnectionJoined) == [ConnectionJoined(second.number, *whole)]
    second.logout(CONNECTION, cid=1)
    assert lab.announced(ConnectionLeft) == [ConnectionLeft(second.number, *whole)]
    a.logout()
    assert lab.announced(SessionEnded) == [SessionEnded(*whole)]


def test_session_that_has_lost_its_luns_keeps_all_connections(lab: Lab):
    a = lab.session("a", offers=[("MaxConnections", "2")])
    second = a.join(1)
    lab.reconfigure(lab.target._nodes[NODE]._replace(luns={0: "disk0"}))
    for host in (a, second):
        assert not host.closed


def test_connection_that_left_costs_nothing(lab: Lab):
    a: Host = lab.session("a", offers=[("MaxConnections", "2")])
    for _ in range(3):
        a.join(1).logout(CONNECTION, cid=1)
    [active] = lab.target._active.values()
    assert (active.retiring, active.afterwards, list(active.session.connections)) == ({}, {}, [0])
    assert len(active.session._texts) == 1
    assert len(lab.target._links) == 1
