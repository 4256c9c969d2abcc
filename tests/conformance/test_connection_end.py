"""How connections of a session that has several end: logout, loss, reinstatement.

    A ---- connections 0, 1, 2 ---- NODE: LUN 0 == "disk0" (see tests/initiator)

`a` is the leading connection, with CID 0; `second` has CID 1.
"""

import pytest

from iscsi_target.iscsi.errors import LoginStatus
from iscsi_target.iscsi.responses import (
    LogoutResponse,
    ReadyToTransfer,
    ScsiResponse,
)
from iscsi_target.iscsi.service_requests import LOGOUT_CID_NOT_FOUND, LOGOUT_DONE
from iscsi_target.iscsi.task_management import TaskManagement
from iscsi_target.target import ConnectionLeft, SessionEnded
from tests.initiator import CONNECTION, SESSION, Host, Lab
from tests.unit.scsi.unit_bench import BLOCK

ONES, TWOS = bytes([1]) * BLOCK, bytes([2]) * BLOCK
FOUR = [("MaxConnections", "4")]


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture
def a(lab: Lab) -> Host:
    return lab.session(offers=FOUR)


@pytest.fixture
def second(a: Host) -> Host:
    second = a.join(1)
    assert second.logged_in
    second.received.clear()
    return second


# Logout


@pytest.mark.case("FFP-13.2")
@pytest.mark.clause("RFC7143 11.14.1")
@pytest.mark.parametrize("leaving", ["own", "other"])
def test_connection_is_logged_out_and_the_session_goes_on(lab: Lab, a: Host, second: Host, leaving: str):
    asking = second if leaving == "own" else a
    asking.logout(CONNECTION, cid=1)
    assert asking.take_one(LogoutResponse).response == LOGOUT_DONE
    assert second.closed
    assert not a.closed
    assert lab.announced(ConnectionLeft)[0].connection == second.number
    assert a.outcome(a.read(0)).status == 0
    a.logout()
    assert lab.clean


@pytest.mark.clause("RFC7143 7.5")
@pytest.mark.clause("RFC7143 11.14.5")
def test_logout_of_a_connection_ends_its_tasks_only(lab: Lab, a: Host, second: Host):
    lab.slow = True
    staying, leaving, owing = a.ask_to_write(0), second.write(1, ONES), second.ask_to_write(2)
    asked = a.take_one(ReadyToTransfer)
    a.logout(CONNECTION, cid=1)
    assert not a.received, "an operation is at the medium"
    lab.finish_all()
    assert a.take_one(LogoutResponse).response == LOGOUT_DONE
    assert second.closed
    assert second.ended(leaving) is None
    assert second.ended(owing) is None
    a.data_out(asked, ONES)
    lab.finish_all()
    assert a.outcome(staying).sense == (6, 0x477F)


@pytest.mark.clause("RFC7143 11.14")
def test_commands_that_a_logged_out_connection_had_brought_too_early_are_discarded(lab: Lab, a: Host, second: Host):
    """Their CmdSN stays a hole, which the initiator closes by sending the command on another connection."""
    first, early = a.next_cmd_sn(), a.next_cmd_sn()
    tag = second.write(0, TWOS, cmd_sn=early)
    a.logout(CONNECTION, cid=1, immediate=True, cmd_sn=first)
    assert second.closed
    a.write(1, ONES, cmd_sn=first)
    assert lab.block(0) == bytes(BLOCK)
    assert a.take(ScsiResponse)[-1].header.exp_cmd_sn == early
    a.write(0, ONES, cmd_sn=early, tag=tag)
    assert a.outcome(tag).status == 0
    assert lab.block(0) == ONES


@pytest.mark.case("FFP-13.1")
@pytest.mark.clause("RFC7143 11.14.1")
def test_logout_of_the_session_closes_every_connection(lab: Lab, a: Host, second: Host):
    lab.slow = True
    a.ask_to_write(1)
    second.write(0, ONES)
    for host in (a, second):
        host.received.clear()
    second.logout(SESSION)
    assert not second.received
    lab.finish_all()
    assert second.take_one(LogoutResponse).response == LOGOUT_DONE
    assert not a.received
    assert a.closed
    assert second.closed
    assert lab.clean
    assert len(lab.announced(SessionEnded)) == 1


@pytest.mark.clause("RFC7143 11.14.1")
def test_logout_of_the_last_connection_closes_the_session(lab: Lab, a: Host, second: Host):
    second.logout(CONNECTION, cid=1)
    a.logout(CONNECTION, cid=0)
    assert a.take_one(LogoutResponse).response == LOGOUT_DONE
    assert lab.clean


@pytest.mark.clause("RFC7143 11.14.1")
def test_both_connections_may_log_out_at_once(lab: Lab, a: Host, second: Host):
    lab.slow = True
    a.write(0, ONES)
    second.write(1, ONES)
    second.logout(CONNECTION, cid=1)
    a.logout(CONNECTION, cid=0)
    lab.finish_all()
    for host in (a, second):
        assert host.take_one(LogoutResponse).response == LOGOUT_DONE
        assert host.closed
    assert lab.clean


@pytest.mark.clause("RFC7143 11.15.1")
def test_connection_on_its_way_out_is_not_found(lab: Lab, a: Host, second: Host):
    lab.slow = True
    second.write(0, ONES)
    second.logout(CONNECTION, cid=1)
    a.logout(CONNECTION, cid=1)
    assert a.take_one(LogoutResponse).response == LOGOUT_CID_NOT_FOUND
    lab.finish_all()
    assert second.take_one(LogoutResponse).response == LOGOUT_DONE


@pytest.mark.case("FFP-13.3")
@pytest.mark.clause("RFC7143 11.14.1")
def test_removal_for_recovery_is_refused(a: Host, second: Host):
    a.logout(2, cid=1)
    assert a.take_one(LogoutResponse).response == 2
    assert not second.closed
    assert second.outcome(second.read(0)).status == 0


# Loss and reinstatement


@pytest.mark.clause("RFC7143 7.1.4.4")
def test_lost_connection_ends_the_session(lab: Lab, a: Host, second: Host):
    second.cut()
    assert a.closed
    assert lab.clean


@pytest.mark.clause("RFC7143 7.1.4.4")
def test_connection_lost_while_it_logs_out_ends_nothing(lab: Lab, a: Host, second: Host):
    lab.slow = True
    second.write(0, ONES)
    second.logout(CONNECTION, cid=1)
    second.cut()
    lab.finish_all()
    assert not a.closed
    a.logout()
    assert lab.clean


@pytest.mark.clause("RFC7143 6.3.4")
def test_login_with_the_cid_of_a_connection_takes_its_place(lab: Lab, a: Host, second: Host):
    lab.slow = True
    second.write(0, ONES)
    lost, kept = second.write(0, TWOS), a.ask_to_write(3)
    again = a.join(1)
    assert second.closed
    assert not again.logged_in, "an operation of the old connection is at the medium"
    lab.finish_all()
    assert again.logged_in
    assert again.ended(lost) is None
    assert not a.closed
    assert [summary.open_tasks for summary in lab.target.sessions()] == [1]
    assert a.ended(kept) is None
    again.received.clear()
    assert again.attention() == 0x477F
    assert [event.connection for event in lab.announced(ConnectionLeft)] == [second.number]


@pytest.mark.clause("RFC7143 6.3.4")
def test_answer_to_a_function_does_not_go_to_the_connection_that_took_the_place(lab: Lab, a: Host, second: Host):
    lab.slow = True
    a.write(0, ONES)
    second.manage(TaskManagement.ABORT_TASK_SET)
    again = a.join(1)
    assert again.logged_in
    again.received.clear()
    lab.finish_all()
    assert not again.received


@pytest.mark.clause("RFC7143 6.3.4")
def test_of_several_logins_for_one_cid_the_last_one_counts(lab: Lab, a: Host, second: Host):
    lab.slow = True
    second.write(0, ONES)
    early, late = a.join(1), a.join(1)
    assert early.closed
    lab.finish_all()
    assert late.logged_in
    assert len(lab.target.sessions()[0].connections) == 2


@pytest.mark.clause("RFC7143 11.14")
@pytest.mark.parametrize("logins", [1, 2])
def test_logout_is_answered_although_a_login_takes_the_place_meanwhile(lab: Lab, a: Host, second: Host, logins: int):
    lab.slow = True
    second.write(0, ONES)
    a.logout(CONNECTION, cid=1)
    again = [a.join(1) for _ in range(logins)][-1]
    lab.finish_all()
    assert a.take_one(LogoutResponse).response == LOGOUT_DONE
    assert again.logged_in
    assert len(lab.target.sessions()[0].connections) == 2
    a.logout()
    assert lab.clean


@pytest.mark.clause("RFC7143 6.3.4")
def test_login_takes_the_place_of_a_connection_that_logs_itself_out(lab: Lab, a: Host, second: Host):
    lab.slow = True
    second.write(0, ONES)
    second.logout(CONNECTION, cid=1)
    again = a.join(1)
    lab.finish_all()
    assert (second.closed, again.logged_in, a.closed) == (True, True, False)
    assert len(lab.target.sessions()[0].connections) == 2


@pytest.mark.clause("RFC7143 6.3.4")
def test_logins_that_are_lost_while_they_wait_leave_nothing(lab: Lab, a: Host, second: Host):
    lab.slow = True
    second.write(0, ONES)
    a.logout(CONNECTION, cid=1)
    for _ in range(3):
        a.join(1).cut()
    [active] = lab.target._active.values()
    assert [len(waiting) for waiting in active.retiring.values()] == [1]


@pytest.mark.clause("RFC7143 6.3.4")
def test_login_that_waits_for_a_connection_of_a_session_that_ends_is_refused(lab: Lab, a: Host, second: Host):
    lab.slow = True
    second.write(0, ONES)
    again = a.join(1)
    a.cut()
    lab.finish_all()
    assert again.login_status() == LoginStatus.SESSION_DOES_NOT_EXIST
    assert lab.clean


@pytest.mark.clause("RFC7143 6.3.4")
def test_login_that_waits_for_a_connection_may_be_lost(lab: Lab, a: Host, second: Host):
    lab.slow = True
    second.write(0, ONES)
    a.join(1).cut()
    lab.finish_all()
    assert len(lab.target.sessions()[0].connections) == 1
    a.logout()
    assert lab.clean


@pytest.mark.clause("RFC7143 6.3.5")
def test_session_reinstatement_ends_every_connection(lab: Lab, a: Host, second: Host):
    lab.slow = True
    second.write(0, ONES)
    new = lab.connect("a")
    new.login()
    assert a.closed
    assert second.closed
    lab.finish_all()
    assert new.logged_in
    assert [summary.connections for summary in lab.target.sessions()] == [(new.number,)]
