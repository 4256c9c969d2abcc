"""Targets that are offline or have moved. Hosts A and B, one node (see tests/initiator)."""

import pytest

from iscsi_target.iscsi.errors import LoginStatus
from iscsi_target.iscsi.responses import AsyncMessage, LoginResponse
from iscsi_target.iscsi.standing import OFFLINE, ONLINE, Standing, moved_to
from iscsi_target.iscsi.text import parse_listing
from iscsi_target.target import LoginFailed
from tests.initiator import CONNECTION, READY, Host, Lab, disk_node
from tests.unit.scsi.unit_bench import BLOCK

ELSEWHERE = moved_to("192.0.2.2:3260", permanent=False)
FOR_EVER = moved_to("[2001:db8::2]:3260", permanent=True)


@pytest.fixture
def lab() -> Lab:
    return Lab()


def stand(lab: Lab, standing: Standing) -> None:
    lab.reconfigure(disk_node(portal_group_tags=(1, 2), standing=standing))


def messages(host: Host) -> list[AsyncMessage]:
    return [pdu.header for pdu in host.take(AsyncMessage) if isinstance(pdu.header, AsyncMessage)]


@pytest.mark.clause("RFC7143 11.13.5")
def test_a_target_that_is_offline_is_not_available(lab: Lab):
    stand(lab, OFFLINE)
    host = lab.connect()
    host.login()
    assert (host.login_status(), host.closed) == (LoginStatus.SERVICE_UNAVAILABLE, True)
    assert "is offline" in lab.announced(LoginFailed)[0].reason
    stand(lab, ONLINE)
    assert lab.session("a").logged_in


@pytest.mark.clause("RFC7143 13.8")
@pytest.mark.parametrize("standing, status", [(ELSEWHERE, 0x0101), (FOR_EVER, 0x0102)])
def test_a_target_that_has_moved_says_where_to(lab: Lab, standing: Standing, status: int):
    stand(lab, standing)
    host = lab.connect()
    host.login()
    [pdu] = host.take(LoginResponse)
    assert isinstance(pdu.header, LoginResponse)
    assert pdu.header.status_class << 8 | pdu.header.status_detail == status
    assert parse_listing(pdu.data) == [("TargetAddress", standing.address)]
    assert host.closed


def test_discovery_is_not_concerned(lab: Lab):
    stand(lab, OFFLINE)
    host = lab.connect()
    host.login(None)
    assert host.logged_in
    assert ("TargetName", disk_node().name) in host.ask([("SendTargets", "All")])


@pytest.mark.clause("RFC7143 11.9.1")
@pytest.mark.parametrize("standing", [OFFLINE, ELSEWHERE])
def test_initiators_are_asked_to_leave_and_go_on_until_they_do(lab: Lab, a: Host, b: Host, standing: Standing):
    stand(lab, standing)
    for host in (a, b):
        [message] = messages(host)
        assert (message.async_event, message.parameter3) == (1, 10)
        assert host.outcome(host.command(READY)).status == 0
        host.logout()
        assert host.closed
    assert lab.clean


@pytest.mark.clause("RFC7143 11.9.1")
def test_who_does_not_leave_is_told_that_the_session_is_dropped(lab: Lab, a: Host):
    lab.slow = True
    a.write(0, bytes(BLOCK))
    stand(lab, OFFLINE)
    assert [message.async_event for message in messages(a)] == [1]
    lab.wait(10)
    assert [message.async_event for message in messages(a)] == [3]
    assert a.closed
    lab.finish_all()
    assert lab.clean


@pytest.mark.clause("RFC7143 11.9.1")
def test_who_does_not_answer_a_ping_is_told_that_the_session_is_dropped(lab: Lab, a: Host):
    lab.wait(30)
    [message] = messages(a)
    assert message.async_event == 3
    assert a.closed


def test_who_is_asked_to_leave_stays_when_the_target_comes_back_and_has_left_in_time(lab: Lab, a: Host):
    stand(lab, OFFLINE)
    stand(lab, ONLINE)
    a.logout()
    again = lab.session("a")
    assert again.outcome(again.command(READY)).status == 0


@pytest.mark.clause("RFC7143 11.9.1")
def test_all_connections_of_a_session_that_is_dropped_are_told(lab: Lab):
    first = lab.session("a", offers=[("MaxConnections", "2")])
    second = first.join(1)
    first.cut()
    assert [message.async_event for message in messages(second)] == [3]
    assert second.closed


@pytest.mark.clause("RFC7143 11.9.1")
def test_a_connection_that_leaves_a_session_is_dropped_alone(lab: Lab):
    first = lab.session("a", offers=[("MaxConnections", "2")])
    second = first.join(1)
    lab.slow = True
    second.write(0, bytes(BLOCK))
    second.logout(CONNECTION, 1)
    lab.wait(30)
    [message] = messages(second)
    assert (message.async_event, message.parameter1) == (2, 1)
    assert second.closed
