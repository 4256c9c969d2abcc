"""Several connections of one session.

    A ---- connections 0, 1, 2 ---- NODE: LUN 0 == "disk0" (see tests/initiator)

`a` is the leading connection, with CID 0; `second` has CID 1.
"""

import pytest

from iscsi_target.iscsi.errors import LoginStatus, RejectReason
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.numbering import WINDOW_COMMANDS
from iscsi_target.iscsi.requests import NopOut, TextRequest
from iscsi_target.iscsi.responses import (
    AsyncMessage,
    DataIn,
    LoginResponse,
    NopIn,
    ReadyToTransfer,
    Reject,
    ScsiResponse,
    TaskManagementResponse,
    TextResponse,
)
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.target import ConnectionJoined, SessionStarted
from tests.initiator import CONNECTION, NODE, READY, Host, Lab
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


# Joining


@pytest.mark.case("LOGIN-2.3")
@pytest.mark.clause("RFC7143 6.3.1")
def test_connection_joins_the_session_that_its_login_names(lab: Lab, a: Host):
    second = a.join(1)
    [(header, _)] = second.take(LoginResponse)
    assert isinstance(header, LoginResponse)
    assert (header.tsih, header.exp_cmd_sn, header.max_cmd_sn) == (a.tsih, a.cmd_sn, a.cmd_sn + WINDOW_COMMANDS - 1)
    [summary] = lab.target.sessions()
    assert summary.connections == (a.number, second.number)
    assert len(lab.announced(SessionStarted)) == 1
    assert lab.announced(ConnectionJoined)[0].connection == second.number
    assert second.attention() is None


@pytest.mark.clause("RFC7143 13.2")
def test_no_more_connections_join_than_were_negotiated(lab: Lab, a: Host):
    others = [a.join(cid) for cid in (1, 2, 3)]
    assert all(other.logged_in for other in others)
    fifth = a.join(4)
    assert (fifth.login_status(), fifth.closed) == (LoginStatus.TOO_MANY_CONNECTIONS, True)
    others[0].logout(CONNECTION, cid=1)
    assert a.join(4).logged_in


@pytest.mark.clause("RFC7143 13.2")
def test_no_more_connections_are_negotiated_than_a_session_may_have(lab: Lab):
    a = lab.session(offers=[("MaxConnections", "65535")])
    assert all(a.join(cid).logged_in for cid in range(1, 32))
    assert a.join(32).login_status() == LoginStatus.TOO_MANY_CONNECTIONS


@pytest.mark.clause("RFC7143 11.13.5")
def test_connection_through_another_portal_group_cannot_be_included(lab: Lab, a: Host):
    second = a.join(1, portal_group_tag=2)
    assert (second.login_status(), second.closed) == (LoginStatus.CANNOT_INCLUDE_IN_SESSION, True)


@pytest.mark.clause("RFC7143 11.13.5")
@pytest.mark.parametrize("wrong", ["name", "isid", "tsih"])
def test_nobody_joins_a_session_of_another_initiator_port(lab: Lab, a: Host, wrong: str):
    other = lab.connect("b" if wrong == "name" else "a")
    other.isid = bytes(6) if wrong == "isid" else a.isid
    other.tsih, other.cid = a.tsih + (wrong == "tsih"), 1
    other.login()
    assert other.login_status() == LoginStatus.SESSION_DOES_NOT_EXIST
    assert not a.closed


@pytest.mark.clause("RFC7143 13")
def test_what_holds_for_a_session_is_not_negotiated_on_a_later_connection(a: Host):
    second = a.join(1, [("MaxBurstLength", "512"), ("MaxRecvDataSegmentLength", "512")])
    [(_, text)] = second.take(LoginResponse)
    assert b"MaxBurstLength=Reject" in text
    second.read(0)
    a.ask_to_write(1, 4)
    assert a.take_one(ReadyToTransfer).desired_data_transfer_length == 4 * BLOCK


@pytest.mark.clause("RFC7143 13.12")
def test_each_connection_has_its_own_segment_length(a: Host):
    second = a.join(1, [("MaxRecvDataSegmentLength", "512")])
    for host, parts in ((a, 1), (second, 4)):
        host.received.clear()
        host.raw_command(bytes.fromhex("28000000000000000400"), bytes(8), read=4 * BLOCK)
        assert len(host.take(DataIn)) == parts
    second.ask([("MaxRecvDataSegmentLength", "2048")])
    second.raw_command(bytes.fromhex("28000000000000000400"), bytes(8), read=4 * BLOCK)
    assert len(second.take(DataIn)) == 1


@pytest.mark.clause("RFC7143 13.1")
def test_each_connection_has_its_own_digests(a: Host):
    second = a.join(1, [("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")])
    for host in (second, a):
        assert host.outcome(host.read(0)).data == bytes(BLOCK)


@pytest.mark.clause("RFC7143 4.2.2.1")
def test_login_of_a_later_connection_reports_no_window_until_it_is_let_in(a: Host):
    """It has not proven yet who it is; MaxCmdSN below ExpCmdSN - 1 makes an initiator ignore both."""
    second = a.join(1, transit=False)
    header = second.take_one(LoginResponse)
    assert (header.exp_cmd_sn - header.max_cmd_sn) % 2**32 == 2


# Numbering


@pytest.mark.clause("RFC7143 4.2.2.1")
def test_commands_of_all_connections_are_delivered_in_the_order_of_their_cmd_sn(lab: Lab, a: Host, second: Host):
    first = a.next_cmd_sn()
    reading = second.read(0)
    assert not second.received
    assert not lab.at_medium
    writing = a.write(0, ONES, cmd_sn=first)
    assert a.outcome(writing).status == 0
    assert second.outcome(reading).data == ONES


@pytest.mark.clause("RFC7143 4.2.2.1")
def test_a_window_of_commands_may_wait_for_one(lab: Lab, a: Host, second: Host):
    first = a.next_cmd_sn()
    tags = [second.write(number, ONES) for number in range(WINDOW_COMMANDS - 1)]
    assert not second.received
    a.send(NopOut(initiator_task_tag=a.next_tag(), cmd_sn=first))
    assert [second.outcome(tag).status for tag in tags] == [0] * len(tags)
    assert not second.closed


@pytest.mark.clause("RFC7143 4.2.2.1")
def test_immediate_command_waits_for_no_other_connection(a: Host, second: Host):
    a.next_cmd_sn()
    assert second.outcome(second.read(0, immediate=True)).status == 0


@pytest.mark.clause("RFC7143 4.2.2.1")
def test_all_connections_tell_the_same_window(lab: Lab, a: Host, second: Host):
    lab.slow = True
    a.read(0)
    told = []
    for host in (a, second):
        host.send(NopOut(immediate=True, initiator_task_tag=host.next_tag(), cmd_sn=host.cmd_sn))
        header = host.take_one(NopIn)
        told.append((header.exp_cmd_sn, header.max_cmd_sn))
    assert told == [(a.cmd_sn, a.cmd_sn + WINDOW_COMMANDS - 2)] * 2


@pytest.mark.clause("RFC7143 4.2.2.2")
def test_each_connection_counts_its_own_statuses(a: Host, second: Host):
    def number(host: Host) -> int:
        host.command(READY)
        return host.take_one(ScsiResponse).stat_sn

    first_of_a, first_of_second = number(a), number(second)
    assert [number(host) for host in (second, second, a)] == [first_of_second + 1, first_of_second + 2, first_of_a + 1]


# Allegiance


@pytest.mark.clause("RFC7143 4.2.5.1")
def test_everything_of_a_task_goes_over_the_connection_of_its_command(lab: Lab, a: Host, second: Host):
    lab.slow = True
    reading, writing = a.read(0), second.ask_to_write(1)
    asked = second.take_one(ReadyToTransfer)
    second.data_out(asked, ONES)
    lab.finish_all()
    assert a.outcome(reading).status == 0
    assert second.outcome(writing).status == 0
    assert lab.block(1) == ONES


@pytest.mark.case("FFP-6.1")
@pytest.mark.clause("RFC7143 4.2.5.1")
def test_data_out_on_another_connection_is_rejected(lab: Lab, a: Host, second: Host):
    writing = second.ask_to_write(1)
    asked = second.take_one(ReadyToTransfer)
    a.data_out(asked, TWOS)
    assert a.take_one(Reject).reason == RejectReason.PROTOCOL_ERROR
    second.data_out(asked, ONES)
    assert second.outcome(writing).status == 0
    assert lab.block(1) == ONES


@pytest.mark.clause("RFC7143 11.3.1")
def test_tag_is_in_use_on_all_connections(lab: Lab, a: Host, second: Host):
    lab.slow = True
    tag = a.read(0)
    second.read(0, tag=tag)
    assert second.take_one(Reject).reason == RejectReason.TASK_IN_PROGRESS


# Task management


@pytest.mark.clause("RFC7143 11.5.1")
def test_abort_task_ends_a_task_of_another_connection(lab: Lab, a: Host, second: Host):
    writing = second.ask_to_write(0)
    second.received.clear()
    tag = a.abort(writing)
    assert a.managed(tag) == ManagementResponse.FUNCTION_COMPLETE
    assert not second.received
    assert not lab.units["disk0"].open_tasks


@pytest.mark.clause("RFC7143 11.6.1")
def test_abort_task_takes_a_command_for_received_that_is_still_on_its_way(lab: Lab, a: Host, second: Host):
    late, number = a.next_tag(), a.next_cmd_sn()
    reading = second.read(0)
    tag = second.abort(late, ref_cmd_sn=number)
    assert second.managed(tag) == ManagementResponse.FUNCTION_COMPLETE
    assert second.outcome(reading).status == 0
    a.write(0, ONES, tag=late, cmd_sn=number)
    assert not a.received
    assert lab.block(0) == bytes(BLOCK)


@pytest.mark.clause("RFC7143 4.2.3.3")
@pytest.mark.parametrize("function", [TaskManagement.ABORT_TASK_SET, TaskManagement.LOGICAL_UNIT_RESET])
def test_function_that_ends_several_tasks_waits_for_commands_on_other_connections(
    lab: Lab, a: Host, second: Host, function: int
):
    number = a.next_cmd_sn()
    tag = second.manage(function)
    assert not second.received
    a.ask_to_write(0, cmd_sn=number)
    assert second.managed(tag) == ManagementResponse.FUNCTION_COMPLETE
    assert not lab.units["disk0"].open_tasks


@pytest.mark.clause("RFC7143 11.5.1")
@pytest.mark.parametrize(
    "function, sense", [(TaskManagement.ABORT_TASK_SET, None), (TaskManagement.LOGICAL_UNIT_RESET, (6, 0x2903))]
)
def test_function_does_not_end_a_command_that_has_overtaken_it(
    lab: Lab, a: Host, second: Host, function: int, sense: tuple[int, int] | None
):
    before = second.cmd_sn
    ended, spared, immediate = a.ask_to_write(1), a.ask_to_write(2), a.ask_to_write(3, immediate=True)
    asked = a.take(ReadyToTransfer)
    tag = second.manage(function, cmd_sn=before + 1)
    assert second.managed(tag) == ManagementResponse.FUNCTION_COMPLETE
    for header, _ in asked:
        assert isinstance(header, ReadyToTransfer)
        a.data_out(header, ONES)
    assert (a.ended(ended), a.ended(immediate)) == (None, None)
    assert a.outcome(spared).sense == sense
    assert lab.block(2) == (bytes(BLOCK) if sense else ONES)
    assert (lab.block(1), lab.block(3)) == (bytes(BLOCK), bytes(BLOCK))


@pytest.mark.clause("RFC7143 11.6")
def test_function_is_answered_on_its_connection(a: Host, second: Host):
    tag = second.manage(TaskManagement.ABORT_TASK_SET)
    assert second.managed(tag) == ManagementResponse.FUNCTION_COMPLETE
    assert not a.take(TaskManagementResponse)


# Clocks and messages


@pytest.mark.clause("RFC7143 11.19")
def test_each_connection_is_pinged_for_itself(lab: Lab, a: Host, second: Host):
    lab.wait(14)
    a.send(NopOut(immediate=True, initiator_task_tag=NO_TAG, cmd_sn=a.cmd_sn))
    lab.wait(2)
    assert second.take(NopIn)
    assert not a.received


@pytest.mark.clause("RFC7143 11.7")
def test_debt_of_one_connection_is_not_held_against_another(lab: Lab, a: Host, second: Host):
    """A congested connection is not read, so nothing that is owed there counts."""
    second.ask_to_write(0)
    lab.target.congested(second.number)
    for _ in range(20):
        lab.wait(10)
        a.send(NopOut(immediate=True, initiator_task_tag=NO_TAG, cmd_sn=a.cmd_sn))
    assert not a.closed


@pytest.mark.clause("RFC7143 11.9.1")
def test_each_connection_is_asked_to_log_out(lab: Lab, a: Host, second: Host):
    lab.run(lab.target.drain(lab.now))
    for host in (a, second):
        assert host.take_one(AsyncMessage).async_event == 1
    assert a.join(2).login_status() == LoginStatus.SERVICE_UNAVAILABLE
    a.logout()
    assert lab.clean


@pytest.mark.clause("RFC7143 11.10")
def test_each_connection_has_its_own_exchange_of_text(a: Host, second: Host):
    half = TextRequest(final=False, continue_=True, initiator_task_tag=a.next_tag(), cmd_sn=a.next_cmd_sn())
    a.send(half, b"SendTar")
    assert ("TargetName", NODE) in second.ask([("SendTargets", "")])
    tag = a.take_one(TextResponse).target_transfer_tag
    a.send(half.replace(final=True, continue_=False, target_transfer_tag=tag, cmd_sn=a.next_cmd_sn()), b"gets=\0")
    [(_, text)] = a.take(TextResponse)
    assert NODE.encode() in text
