"""ErrorRecoveryLevel 2: a session outlives its connections, and its tasks are taken to others.

    A ---- connections 0, 1, 2 ---- NODE: LUN 0 == "disk0" (see tests/initiator)

`a` is the leading connection, with CID 0; `second` has CID 1.
"""

from typing import Any, NamedTuple

import pytest

from iscsi_target.config.values import SERVED
from iscsi_target.iscsi import retention
from iscsi_target.iscsi.requests import NopOut
from iscsi_target.iscsi.responses import (
    AsyncMessage,
    DataIn,
    LogoutResponse,
    ReadyToTransfer,
    ScsiResponse,
    TaskManagementResponse,
)
from iscsi_target.iscsi.service_requests import (
    LOGOUT_CID_NOT_FOUND,
    LOGOUT_DONE,
    LOGOUT_RECOVERY,
    LOGOUT_RECOVERY_NOT_SUPPORTED,
)
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.scsi.layouts.block_cdb import Read10
from iscsi_target.target import ConnectionLost, SessionEnded
from tests.initiator import CONNECTION, NODE, Host, Lab, disk_node
from tests.unit.scsi.unit_bench import BLOCK

ONES, TWOS = bytes([1]) * BLOCK, bytes([2]) * BLOCK
WAIT, RETAIN = 2, 20
OFFERS = [
    ("ErrorRecoveryLevel", "2"),
    ("MaxConnections", "4"),
    ("MaxRecvDataSegmentLength", "512"),
    ("DefaultTime2Wait", str(WAIT)),
]
COMPLETE, ABSENT = ManagementResponse.FUNCTION_COMPLETE, ManagementResponse.TASK_DOES_NOT_EXIST
ALLEGIANT = ManagementResponse.TASK_STILL_ALLEGIANT
CLEARED = 0x477F


@pytest.fixture
def lab() -> Lab:
    return Lab(preferences=SERVED._replace(error_recovery_level=2, default_time2retain=RETAIN))


@pytest.fixture
def a(lab: Lab) -> Host:
    return lab.session(offers=OFFERS)


@pytest.fixture
def second(a: Host) -> Host:
    return join(a, 1)


def join(host: Host, cid: int, segment: int = 512) -> Host:
    other = host.join(cid, [("MaxRecvDataSegmentLength", str(segment))])
    assert other.logged_in
    other.received.clear()
    return other


def lose(host: Host, other: Host) -> None:
    """Cuts a connection and has it logged out for recovery on another one."""
    host.cut()
    other.received.clear()
    other.logout(LOGOUT_RECOVERY, cid=host.cid)
    assert other.take_one(LogoutResponse).response == LOGOUT_DONE


class Sent(NamedTuple):
    """A PDU of the target; its header is of the class that its opcode says."""

    header: Any
    data: bytes


def data_in(host: Host) -> list[Sent]:
    return [Sent(*pdu) for pdu in host.received if isinstance(pdu.header, DataIn)]


def reassign(host: Host, tag: int, **fields: Any) -> int | None:
    host.received.clear()
    return host.managed(host.manage(TaskManagement.TASK_REASSIGN, referenced=tag, **fields))


# Failure


@pytest.mark.clause("RFC7143 7.1.4.3")
def test_session_outlives_a_connection_and_tells_so_on_another(lab: Lab, a: Host, second: Host):
    second.cut()
    told = a.take_one(AsyncMessage)
    assert (told.async_event, told.parameter1, told.parameter2, told.parameter3) == (2, 1, WAIT, RETAIN)
    assert a.outcome(a.read(0)).status == 0
    assert lab.announced(ConnectionLost)[0].connection == second.number
    a.logout()
    assert lab.clean


@pytest.mark.clause("RFC7143 13.16")
def test_session_without_connections_ends_when_nobody_comes_back_in_time(lab: Lab, a: Host):
    a.ask_to_write(0)
    a.cut()
    lab.wait(WAIT + RETAIN - 1)
    assert not lab.announced(SessionEnded)
    assert len(lab.target.sessions()) == 1
    lab.wait(2)
    assert len(lab.announced(SessionEnded)) == 1
    assert lab.clean


@pytest.mark.clause("RFC7143 7.5")
@pytest.mark.parametrize("logged_out", [True, False])
def test_tasks_that_nobody_takes_elsewhere_in_time_are_aborted(lab: Lab, a: Host, second: Host, logged_out: bool):
    tag = second.ask_to_write(0)
    second.cut()
    if logged_out:
        a.logout(LOGOUT_RECOVERY, cid=1)
    for _ in range(5):
        lab.wait(5)
        a.send(NopOut(immediate=True, initiator_task_tag=0xFFFFFFFF, cmd_sn=a.cmd_sn))
    a.received.clear()
    assert not lab.units["disk0"].open_tasks
    assert reassign(a, tag) == ABSENT
    assert a.attention() == CLEARED
    assert a.attention() is None
    a.logout()
    assert lab.clean


@pytest.mark.clause("RFC7143 13.16")
def test_nothing_is_kept_where_the_initiator_wants_nothing_kept(lab: Lab):
    a = lab.session(offers=[*OFFERS[:2], ("DefaultTime2Retain", "0"), ("DefaultTime2Wait", "0")])
    a.cut()
    lab.wait(0)
    assert lab.clean


@pytest.mark.clause("RFC7143 6.3.5")
def test_new_session_of_the_same_nexus_ends_one_that_waits(lab: Lab, a: Host):
    lab.slow = True
    a.write(0, ONES)
    a.cut()
    new = lab.connect("a")
    new.login(offers=OFFERS)
    assert not new.logged_in, "an operation is at the medium"
    lab.finish_all()
    assert new.logged_in
    assert len(lab.target.sessions()) == 1
    new.logout()
    assert lab.clean


def test_session_that_waits_ends_when_the_target_shuts_down(lab: Lab, a: Host):
    a.cut()
    lab.run(lab.target.drain(lab.now))
    assert lab.clean


def test_session_that_waits_ends_when_its_target_is_gone(lab: Lab, a: Host):
    a.cut()
    lab.reconfigure(disk_node(name=NODE + "2"))
    assert lab.clean


# Logout for recovery


@pytest.mark.case("FFP-13.3")
@pytest.mark.clause("RFC7143 11.15.3")
@pytest.mark.clause("RFC7143 11.15.4")
@pytest.mark.clause("RFC7143 11.14.1")
@pytest.mark.parametrize("own", [True, False])
def test_connection_is_removed_for_recovery(lab: Lab, a: Host, second: Host, own: bool):
    asking = second if own else a
    tag = second.ask_to_write(0)
    asking.received.clear()
    asking.logout(LOGOUT_RECOVERY, cid=1)
    answer = asking.take_one(LogoutResponse)
    assert (answer.response, answer.time2wait, answer.time2retain) == (LOGOUT_DONE, WAIT, RETAIN)
    assert second.closed
    assert not a.closed
    assert reassign(a, tag) == COMPLETE


@pytest.mark.clause("RFC7143 11.15.1")
def test_connection_that_is_logged_out_is_not_found_again(a: Host, second: Host):
    lose(second, a)
    for reason in (LOGOUT_RECOVERY, CONNECTION):
        a.logout(reason, cid=1)
        assert a.take_one(LogoutResponse).response == LOGOUT_CID_NOT_FOUND


@pytest.mark.clause("RFC7143 11.14.1")
def test_lost_connection_may_be_logged_out_to_be_closed(lab: Lab, a: Host, second: Host):
    tag = second.ask_to_write(0)
    second.cut()
    a.received.clear()
    a.logout(CONNECTION, cid=1)
    assert a.take_one(LogoutResponse).response == LOGOUT_DONE
    assert not lab.units["disk0"].open_tasks
    assert reassign(a, tag) == ABSENT
    assert a.attention() == CLEARED


# TASK REASSIGN


@pytest.mark.case("ERT-2.2")
@pytest.mark.clause("RFC7143 11.6.1")
def test_task_is_not_taken_from_a_connection_that_is_not_logged_out(a: Host, second: Host):
    tag = second.ask_to_write(0)
    assert reassign(a, tag) == ALLEGIANT
    second.cut()
    assert reassign(a, tag) == ALLEGIANT
    assert reassign(a, 77) == ABSENT


@pytest.mark.case("ERT-2.1")
@pytest.mark.clause("RFC7143 7.2.2")
def test_write_is_asked_for_anew_on_the_other_connection(lab: Lab, a: Host, second: Host):
    tag = second.ask_to_write(0, 2)
    asked = second.take_one(ReadyToTransfer)
    second.data_out(asked, ONES, final=False)
    lose(second, a)
    assert reassign(a, tag, exp_data_sn=1) == COMPLETE
    assert isinstance(a.received[0].header, TaskManagementResponse)
    again = a.take_one(ReadyToTransfer)
    assert (again.r2t_sn, again.buffer_offset, again.desired_data_transfer_length) == (1, BLOCK, BLOCK)
    a.data_out(again, TWOS)
    assert a.outcome(tag).status == 0
    assert (lab.block(0), lab.block(1)) == (ONES, TWOS)


@pytest.mark.clause("RFC7143 7.2.2")
def test_r2t_that_nobody_has_seen_keeps_its_number(lab: Lab, a: Host, second: Host):
    tag = second.ask_to_write(0)
    lose(second, a)
    assert reassign(a, tag) == COMPLETE
    again = a.take_one(ReadyToTransfer)
    assert again.r2t_sn == 0
    a.data_out(again, ONES)
    assert a.outcome(tag).status == 0


@pytest.mark.clause("RFC7143 7.2.2")
def test_unsolicited_data_that_is_lost_is_asked_for(lab: Lab):
    a = lab.session(offers=[*OFFERS, ("InitialR2T", "No"), ("FirstBurstLength", "1024")])
    second = join(a, 1)
    tag = second.write(0, ONES + TWOS, data=ONES, final=False)
    lose(second, a)
    assert reassign(a, tag) == COMPLETE
    again = a.take_one(ReadyToTransfer)
    assert (again.buffer_offset, again.desired_data_transfer_length) == (BLOCK, BLOCK)
    a.data_out(again, TWOS)
    assert a.outcome(tag).status == 0
    assert (lab.block(0), lab.block(1)) == (ONES, TWOS)


@pytest.mark.case("ERT-2.3")
@pytest.mark.clause("RFC7143 11.5.6")
@pytest.mark.parametrize("seen, first", [(0, 0), (1, 1), (2, 2), (4, 4), (9, 0)])
def test_data_in_is_sent_from_what_the_initiator_expects(lab: Lab, a: Host, second: Host, seen: int, first: int):
    lab.stores["disk0"].write(0, ONES + TWOS + ONES + TWOS)
    tag = second.command(Read10(transfer_length=4), read=4 * BLOCK)
    lab.stores["disk0"].write(0, bytes(4 * BLOCK))
    lose(second, a)
    assert reassign(a, tag, exp_data_sn=seen) == COMPLETE
    parts = data_in(a)
    assert [pdu.header.data_sn for pdu in parts] == list(range(first, 4))
    assert [pdu.header.buffer_offset for pdu in parts] == [number * BLOCK for number in range(first, 4)]
    assert b"".join(pdu.data for pdu in parts) == (ONES + TWOS + ONES + TWOS)[first * BLOCK :]
    status = a.received[-1].header
    assert isinstance(status, ScsiResponse)
    assert (status.status, status.exp_data_sn, status.stat_sn) == (0, 4, a.received[0].header.stat_sn + 1)
    assert reassign(a, tag) == ALLEGIANT


@pytest.mark.clause("RFC7143 7.2.2")
def test_data_in_is_cut_for_the_other_connection(lab: Lab, a: Host, second: Host):
    tag = second.command(Read10(transfer_length=4), read=4 * BLOCK)
    third = join(a, 2, 1024)
    lose(second, a)
    assert reassign(third, tag, exp_data_sn=1) == COMPLETE
    assert [len(pdu.data) for pdu in data_in(third)] == [1024, 512]
    assert [pdu.header.data_sn for pdu in data_in(third)] == [1, 2]


@pytest.mark.clause("RFC7143 7.2.2")
def test_operation_at_the_medium_ends_on_the_other_connection(lab: Lab, a: Host, second: Host):
    lab.slow = True
    early, late = second.write(0, ONES), second.write(1, TWOS)
    lose(second, a)
    assert reassign(a, late) == COMPLETE
    lab.finish_all()
    assert a.outcome(late).status == 0
    assert reassign(a, early) == COMPLETE
    assert a.outcome(early).status == 0
    assert (lab.block(0), lab.block(1)) == (ONES, TWOS)


@pytest.mark.case("ERT-2.4")
@pytest.mark.clause("RFC7143 6.3.4")
@pytest.mark.parametrize("cut", [True, False])
def test_login_with_the_cid_of_a_connection_logs_it_out_for_recovery(lab: Lab, a: Host, cut: bool):
    lab.slow = True
    tag = a.write(0, ONES)
    if cut:
        a.cut()
    again = join(a, 0)
    assert a.closed
    assert reassign(again, tag) == COMPLETE
    lab.finish_all()
    assert again.outcome(tag).status == 0
    again.logout()
    assert lab.clean


@pytest.mark.clause("RFC7143 11.2.1.8")
def test_status_of_a_command_is_not_taken_for_that_of_a_later_one_with_its_tag(lab: Lab, a: Host, second: Host):
    tag = second.write(0, ONES)
    a.ask_to_write(1, tag=tag)
    a.abort(tag)
    lose(second, a)
    assert reassign(a, tag) == ABSENT


@pytest.mark.clause("RFC7143 11.4.7.2")
def test_read_whose_data_is_not_kept_any_more_ends_with_an_error(
    a: Host, second: Host, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retention, "MAX_KEPT_BYTES", 1024)
    tag = second.command(Read10(transfer_length=4), read=4 * BLOCK)
    lose(second, a)
    assert reassign(a, tag) == COMPLETE
    assert a.outcome(tag).sense == (0xB, 0x1113)


@pytest.mark.clause("RFC7143 7.2.1")
def test_command_that_was_lost_with_its_connection_comes_again_on_another(lab: Lab, a: Host, second: Host):
    lost = second.next_cmd_sn()
    waiting = second.write(0, TWOS)
    lose_it = a.cmd_sn
    second.cut()
    a.received.clear()
    a.logout(LOGOUT_RECOVERY, cid=1, immediate=True, cmd_sn=lose_it)
    assert reassign(a, waiting) == ABSENT
    a.read(1, cmd_sn=lost)
    a.write(0, ONES, tag=waiting, cmd_sn=lost + 1)
    assert a.outcome(waiting).status == 0
    assert lab.block(0) == ONES


@pytest.mark.clause("RFC7143 7.2.1")
def test_command_that_comes_again_on_another_connection_is_done_once(lab: Lab, a: Host, second: Host):
    number = second.cmd_sn
    tag = second.write(0, ONES)
    lose(second, a)
    a.write(0, TWOS, tag=tag, cmd_sn=number)
    assert lab.block(0) == ONES
    assert reassign(a, tag) == COMPLETE
    assert a.outcome(tag).status == 0


@pytest.mark.clause("RFC7143 4.2.3.3")
def test_reassignment_does_not_wait_for_commands_before_it(a: Host, second: Host):
    tag = second.ask_to_write(0)
    lose(second, a)
    a.next_cmd_sn()
    assert reassign(a, tag) == COMPLETE


# Fences


@pytest.mark.clause("RFC7143 11.5.1")
@pytest.mark.parametrize("function", [TaskManagement.LOGICAL_UNIT_RESET, TaskManagement.ABORT_TASK_SET])
@pytest.mark.parametrize("owing", [True, False])
def test_function_reaches_tasks_that_have_no_connection(lab: Lab, a: Host, second: Host, function: int, owing: bool):
    lab.slow = True
    tag = second.ask_to_write(0) if owing else second.write(0, ONES)
    lose(second, a)
    done = a.manage(function)
    if not owing:
        assert a.managed(done) is None, "an operation is at the medium"
        lab.finish_all()
    assert a.managed(done) == COMPLETE
    before = lab.block(0)
    assert reassign(a, tag) == ABSENT
    lab.finish_all()
    assert lab.block(0) == before
    assert not lab.units["disk0"].open_tasks


@pytest.mark.clause("RFC7143 11.5.1")
def test_target_cold_reset_ends_sessions_that_wait(lab: Lab, a: Host):
    a.cut()
    b = lab.session("b")
    b.manage(TaskManagement.TARGET_COLD_RESET)
    assert b.closed
    assert lab.clean


@pytest.mark.clause("RFC7143 6.3.4")
def test_a_second_connection_may_come_where_only_one_was_negotiated(lab: Lab):
    lab.slow = True
    a = lab.session(offers=[("ErrorRecoveryLevel", "2"), ("MaxConnections", "1")])
    tag = a.write(0, ONES)
    other = join(a, 1)
    other.logout(LOGOUT_RECOVERY, cid=0)
    assert other.take_one(LogoutResponse).response == LOGOUT_DONE
    assert other.managed(other.manage(TaskManagement.TASK_REASSIGN, referenced=tag)) == COMPLETE
    lab.finish_all()
    assert other.outcome(tag).status == 0


@pytest.mark.clause("RFC7143 13.16")
def test_where_time2retain_is_zero_no_task_can_be_taken(lab: Lab):
    a = lab.session(offers=[*OFFERS, ("DefaultTime2Retain", "0")])
    second = join(a, 1)
    a.logout(LOGOUT_RECOVERY, cid=1)
    assert a.take_one(LogoutResponse).response == LOGOUT_RECOVERY_NOT_SUPPORTED
    second.cut()
    assert a.closed
    assert lab.clean
