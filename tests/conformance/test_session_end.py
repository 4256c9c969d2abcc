"""How sessions end: logout, lost connections, silence, shutdown. Hosts A and B, one node (see tests/initiator)."""

import pytest

from iscsi_target.iscsi.errors import LoginStatus
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import NopOut, TextRequest
from iscsi_target.iscsi.responses import AsyncMessage, LogoutResponse, NopIn, ReadyToTransfer, TextResponse
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.target import ConnectionTimedOut, SessionEnded, Timeouts
from tests.initiator import CONNECTION, Host, Lab
from tests.unit.scsi.unit_bench import BLOCK

ONES, TWOS = bytes([1]) * BLOCK, bytes([2]) * BLOCK
TIMEOUTS = Timeouts(login_s=30, nop_interval_s=10, nop_answer_s=5, logout_s=7)


@pytest.fixture
def lab() -> Lab:
    return Lab(timeouts=TIMEOUTS)


@pytest.mark.case("FFP-13.1")
@pytest.mark.clause("RFC7143 11.15")
@pytest.mark.parametrize("reason", [0, 1])
def test_logout_is_answered_and_closes(lab: Lab, a: Host, reason: int):
    a.logout(reason)
    assert a.take_one(LogoutResponse).response == 0
    assert a.closed
    assert lab.clean
    assert lab.announced(SessionEnded)


@pytest.mark.clause("RFC7143 11.14")
def test_logout_waits_for_writes_at_the_medium_and_ends_the_others(lab: Lab, a: Host):
    a.ask_to_write(5)
    lab.slow = True
    a.write(0, ONES)
    a.write(0, TWOS)
    a.received.clear()
    a.logout()
    assert not a.received
    assert not a.closed
    lab.finish()
    assert [pdu.header.opcode for pdu in a.received] == [LogoutResponse().opcode]
    assert a.closed
    assert lab.clean
    assert (lab.block(0), len(lab.performed)) == (ONES, 1)


@pytest.mark.clause("RFC7143 11.14")
def test_what_comes_after_a_logout_is_ignored(lab: Lab, a: Host):
    lab.slow = True
    a.write(0, ONES)
    a.logout()
    a.write(1, TWOS)
    a.logout()
    lab.finish_all()
    assert len(lab.performed) == 1
    assert len(a.take(LogoutResponse)) == 1


@pytest.mark.case("FFP-13.2")
@pytest.mark.clause("RFC7143 11.15.1")
def test_logout_of_another_connection_does_not_find_it(a: Host):
    a.logout(CONNECTION, cid=9)
    assert a.take_one(LogoutResponse).response == 1
    assert not a.closed


@pytest.mark.case("FFP-13.3")
@pytest.mark.clause("RFC7143 11.15.1")
def test_logout_for_recovery_is_not_supported(a: Host):
    a.logout(2)
    assert a.take_one(LogoutResponse).response == 2
    assert not a.closed


@pytest.mark.clause("RFC7143 11.14")
def test_login_during_a_logout_that_waits_replaces_it(lab: Lab, a: Host):
    lab.slow = True
    a.write(0, ONES)
    a.logout()
    new = lab.connect("a")
    new.login()
    assert a.closed
    assert not new.received
    lab.finish()
    assert new.login_status() == LoginStatus.SUCCESS
    assert len(lab.target.sessions()) == 1


@pytest.mark.clause("RFC7143 4.3")
def test_discovery_session_logs_out(lab: Lab):
    a = lab.connect()
    a.login(None)
    a.logout()
    assert a.take(LogoutResponse)
    assert a.closed
    assert lab.clean


@pytest.mark.clause("RFC7143 7.1.4.4")
def test_lost_connection_ends_the_session_when_its_operations_are_back(lab: Lab, a: Host):
    a.ask_to_write(5)
    lab.slow = True
    a.write(0, ONES)
    a.write(0, TWOS)
    a.cut()
    assert len(lab.target.sessions()) == 1
    lab.finish()
    assert lab.clean
    assert lab.block(0) == ONES
    assert len(lab.performed) == 1


@pytest.mark.clause("RFC7143 7.1.4.4")
def test_connection_lost_in_the_middle_of_a_pdu_leaves_nothing(lab: Lab, a: Host):
    a.feed(a.pack(NopOut(initiator_task_tag=1), bytes(100))[:90])
    a.cut()
    assert lab.clean


@pytest.mark.clause("SAM5r21 6.3.4")
def test_new_session_learns_that_the_nexus_was_lost(lab: Lab, a: Host):
    a.cut()
    again = lab.connect("a")
    again.login()
    assert again.attention() == AttentionCode.I_T_NEXUS_LOSS_OCCURRED
    assert again.attention() is None


@pytest.mark.clause("RFC7143 6.3")
def test_login_that_trickles_in_is_cut(lab: Lab):
    a = lab.connect()
    request = a.pack(a.login_request(), b"InitiatorName=" + a.name.encode() + b"\0")
    for byte in request[:29]:
        a.feed(bytes([byte]))
        lab.wait(1)
    assert not a.closed
    lab.wait(1)
    assert a.closed
    assert lab.announced(ConnectionTimedOut)
    assert lab.clean


@pytest.mark.clause("RFC7143 11.19")
def test_silent_initiator_is_pinged_and_kept_when_it_answers(lab: Lab, a: Host):
    lab.wait(9)
    assert not a.received
    lab.wait(1)
    ping = a.take_one(NopIn)
    assert ping.initiator_task_tag == NO_TAG
    assert ping.target_transfer_tag != NO_TAG
    lab.wait(4)
    a.send(NopOut(immediate=True, initiator_task_tag=NO_TAG, target_transfer_tag=ping.target_transfer_tag))
    assert not a.received
    lab.wait(9)
    assert not a.closed
    assert not a.received
    lab.wait(1)
    assert a.take(NopIn)


@pytest.mark.clause("RFC7143 11.19")
def test_initiator_that_does_not_answer_a_ping_is_cut(lab: Lab, a: Host):
    a.ask_to_write(0)
    lab.wait(15)
    assert a.closed
    assert lab.clean
    assert lab.announced(ConnectionTimedOut)[0].connection == a.number


@pytest.mark.clause("RFC7143 11.18")
def test_ping_of_the_initiator_is_answered_with_its_data(a: Host):
    a.send(NopOut(immediate=True, initiator_task_tag=7, cmd_sn=a.cmd_sn), b"are you there?")
    [(header, data)] = a.take(NopIn)
    assert (header.initiator_task_tag, data) == (7, b"are you there?")


@pytest.mark.clause("RFC7143 11.9.1")
def test_drain_asks_to_log_out_and_ends_when_all_have(lab: Lab, a: Host):
    b = lab.connect("b")
    b.login(None)
    logging_in = lab.connect("c")
    lab.run(lab.target.drain(lab.now))
    assert logging_in.closed
    for host in (a, b):
        message = host.take_one(AsyncMessage)
        assert (message.async_event, message.parameter3) == (1, 7)
        assert not lab.target.drained
        host.logout()
    assert lab.clean


@pytest.mark.clause("RFC7143 11.9.1")
def test_who_does_not_log_out_in_time_is_cut(lab: Lab, a: Host):
    lab.run(lab.target.drain(lab.now))
    lab.wait(6)
    a.read(0)
    assert not a.closed
    lab.wait(1)
    assert a.closed
    assert lab.clean


@pytest.mark.clause("RFC7143 11.13.5")
def test_login_during_a_drain_is_refused(lab: Lab, a: Host):
    lab.run(lab.target.drain(lab.now))
    b = lab.connect("b")
    b.login()
    assert b.login_status() == LoginStatus.SERVICE_UNAVAILABLE
    assert b.closed


@pytest.mark.case("FFP-17.3.5")
@pytest.mark.clause("RFC7143 11.10")
def test_long_answer_is_fetched_in_parts(lab: Lab):
    lab = Lab(portals={1: lab.portals[1], 2: [lab.portals[1][0]._replace(address=f"h{n}:3260") for n in range(99)]})
    a = lab.connect()
    a.login(None, [("MaxRecvDataSegmentLength", "512")])
    a.received.clear()
    a.send(TextRequest(initiator_task_tag=5, cmd_sn=a.next_cmd_sn()), b"SendTargets=All\0")
    text, parts = b"", 0
    while a.received:
        [(header, data)] = a.take(TextResponse)
        assert isinstance(header, TextResponse)
        text, parts = text + data, parts + 1
        assert len(data) <= 512
        if not header.final:
            tag = header.target_transfer_tag
            a.send(TextRequest(initiator_task_tag=5, target_transfer_tag=tag, cmd_sn=a.next_cmd_sn()))
    assert parts > 2
    assert text.count(b"TargetAddress=") == 100


@pytest.mark.clause("RFC7143 11.7")
def test_initiator_that_talks_but_owes_data_is_cut(lab: Lab, a: Host):
    """Its ORDERED and HEAD OF QUEUE tasks would otherwise hold up everybody's."""
    a.ask_to_write(0)
    asked = a.take_one(ReadyToTransfer)
    for second in range(0, 58, 2):
        lab.wait(2)
        assert not a.closed
        a.data_out(asked, b"", final=False, data_sn=second // 2)  # no excuse
    lab.wait(14)
    assert a.closed
    assert lab.clean
    assert lab.announced(ConnectionTimedOut)[0].connection == a.number


@pytest.mark.clause("RFC7143 11.14")
def test_request_that_becomes_due_behind_a_logout_is_not_answered(lab: Lab, a: Host):
    due = a.cmd_sn
    a.logout(cmd_sn=due + 1)
    a.logout(cmd_sn=due + 2)
    a.feed(a.pack(NopOut(cmd_sn=due, initiator_task_tag=a.next_tag())))
    lab.finish_all()
    assert len(a.take(LogoutResponse)) == 1
    assert a.closed
    assert lab.clean


@pytest.mark.clause("RFC7143 11.19")
def test_connection_that_the_target_does_not_read_is_not_cut_for_its_silence(lab: Lab, a: Host):
    """A peer that reads slowly has its pings and data unread: the driver stops reading a congested connection."""
    a.ask_to_write(0)
    lab.target.congested(a.number)
    lab.wait(600)
    assert not a.closed
    lab.run(lab.target.relieved(a.number, lab.now))
    lab.wait(9)
    assert not a.closed
    lab.wait(60)
    assert a.closed
