"""How sessions come and go, beside the rules of the protocol, which are in tests/conformance."""

import pytest

from iscsi_target.iscsi.errors import LoginStatus
from iscsi_target.iscsi.numbering import WINDOW_COMMANDS
from iscsi_target.iscsi.responses import LogoutResponse
from iscsi_target.iscsi.task_management import TaskManagement
from iscsi_target.target import ConnectionJoined, ConnectionLeft, Limits, SessionEnded
from tests.initiator import CONNECTION, NODE, READY, Host, Lab
from tests.unit.scsi.unit_bench import BLOCK

ONES = bytes([1]) * BLOCK


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_sessions_are_limited(lab: Lab):
    lab.target._sessions.limits = Limits(sessions=3)
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


# Requests that overtake each other on two connections of one session


@pytest.fixture
def two(lab: Lab) -> tuple[Host, Host]:
    a = lab.session("a", offers=[("MaxConnections", "2")])
    b = a.join(1)
    for host in (a, b):
        host.received.clear()
    return a, b


def test_command_that_waited_for_the_logout_of_another_connection_is_done(lab: Lab, two: tuple[Host, Host]):
    a, b = two
    number = a.cmd_sn
    tag = a.read(0, cmd_sn=number + 1)
    b.logout(CONNECTION, cid=1, cmd_sn=number)
    assert b.closed
    ended = a.ended(tag)
    assert ended is not None
    assert ended.status == 0


def test_command_that_waited_on_a_connection_that_logged_out_is_not_done(lab: Lab, two: tuple[Host, Host]):
    a, b = two
    number = a.cmd_sn
    b.write(0, ONES, cmd_sn=number + 1)
    b.logout(CONNECTION, cid=1, cmd_sn=number)
    assert b.closed
    assert lab.block(0) == bytes(BLOCK)
    tag = a.read(0, cmd_sn=number + 1)  # its number is free
    assert a.ended(tag) is not None


def test_session_logout_that_waited_for_another_one_waits_for_the_tasks_too(lab: Lab, two: tuple[Host, Host]):
    a, b = two
    number = a.cmd_sn
    lab.slow = True
    a.write(0, ONES, cmd_sn=number)
    a.logout(0, cmd_sn=number + 2)
    b.logout(CONNECTION, cid=1, cmd_sn=number + 1)
    assert not a.received
    assert not a.closed
    lab.finish_all()
    assert [type(pdu.header) for pdu in a.received] == [LogoutResponse]
    assert a.closed
    assert lab.clean


def test_two_logouts_at_once_leave_no_session_without_a_connection(lab: Lab, two: tuple[Host, Host]):
    a, b = two
    number = a.cmd_sn
    a.logout(CONNECTION, cid=0, cmd_sn=number + 1)
    b.logout(CONNECTION, cid=1, cmd_sn=number + 2)
    b.command(READY, cmd_sn=number)
    assert a.closed
    assert b.closed
    assert lab.target.sessions() == ()
    assert lab.clean


def test_session_logout_while_a_connection_is_leaving_has_both_answered(lab: Lab, two: tuple[Host, Host]):
    a, b = two
    lab.slow = True
    b.write(0, ONES)
    a.logout(CONNECTION, cid=1)
    a.logout(0)
    lab.finish_all()
    assert [type(pdu.header) for pdu in a.received] == [LogoutResponse, LogoutResponse]
    assert a.closed
    assert b.closed
    assert lab.clean


def test_function_behind_a_full_window_waits_for_what_was_sent_before_it(lab: Lab, two: tuple[Host, Host]):
    a, b = two
    number = a.cmd_sn
    for early in range(1, WINDOW_COMMANDS):
        a.write(0, ONES, cmd_sn=number + early)
    function = a.manage(TaskManagement.ABORT_TASK_SET, 0, cmd_sn=number + WINDOW_COMMANDS)
    assert a.managed(function) is None
    b.command(READY, cmd_sn=number)
    assert a.managed(function) == 0
    before = lab.block(0)
    lab.finish_all()
    assert lab.block(0) == before
