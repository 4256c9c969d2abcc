"""How sessions begin, are replaced and are refused. Hosts A and B, portal groups 1 and 2 (see tests/initiator)."""

import pytest

from iscsi_target.iscsi.errors import LoginStatus
from iscsi_target.iscsi.header import Opcode
from iscsi_target.iscsi.requests import NopOut
from iscsi_target.iscsi.responses import LoginResponse, NopIn, ReadyToTransfer
from iscsi_target.iscsi.text import encode, parse_listing
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.target import SessionEnded, SessionStarted
from tests.initiator import NODE, Host, Lab, disk_node
from tests.unit.scsi.unit_bench import BLOCK

ONES, TWOS = bytes([1]) * BLOCK, bytes([2]) * BLOCK


@pytest.fixture
def lab() -> Lab:
    return Lab()


def log_in_anew(lab: Lab, old: Host, **fields) -> Host:
    """Logs in as the same initiator port on another connection."""
    host = lab.connect("a")
    host.isid, host.cmd_sn = old.isid, old.cmd_sn
    host.login(**fields)
    return host


@pytest.mark.clause("RFC7143 6.3")
def test_normal_session_reads_what_it_wrote(lab: Lab):
    a = lab.session()
    assert a.outcome(a.write(3, ONES)).status == 0
    assert a.outcome(a.read(3)).data == ONES


@pytest.mark.case("LOGIN-2.1")
@pytest.mark.clause("RFC7143 11.13.3")
def test_tsih_is_zero_until_the_final_response(lab: Lab):
    a = lab.connect()
    names = [("InitiatorName", a.name), ("TargetName", NODE), ("AuthMethod", "None")]
    a.send(a.login_request(current_stage=0, next_stage=1), encode(names))
    a.send(a.login_request(transit=False), b"")
    assert [pdu.header for pdu in a.received if isinstance(pdu.header, LoginResponse) and pdu.header.tsih] == []
    assert len(a.take(LoginResponse)) == 2
    a.send(a.login_request(), b"")
    assert a.take_one(LoginResponse).tsih == lab.target.sessions()[0].tsih != 0


@pytest.mark.clause("RFC7143 13.9")
def test_first_answer_of_a_normal_session_names_the_portal_group(lab: Lab):
    a = lab.connect(portal_group_tag=2)
    a.login()
    assert ("TargetPortalGroupTag", "2") in parse_listing(a.received[0].data)
    assert lab.target.sessions()[0].portal_group_tag == 2


@pytest.mark.clause("RFC7143 4.3")
def test_discovery_session_takes_text_but_no_command(lab: Lab):
    a = lab.connect()
    a.login(None)
    assert a.ask([("SendTargets", "All")])[0] == ("TargetName", NODE)
    a.read(0)
    assert [pdu.header.opcode for pdu in a.received] == [Opcode.REJECT]
    assert lab.target.sessions()[0].target == ""


@pytest.mark.case("FFP-17.3.2")
@pytest.mark.clause("RFC7143 Appendix C")
@pytest.mark.parametrize("target", [None, NODE])
@pytest.mark.parametrize("value", ["All", NODE, NODE.upper()])
def test_send_targets_works_in_both_kinds_of_session(lab: Lab, target: str | None, value: str):
    a = lab.connect(address="[fe80::1]:3260")
    a.login(target)
    assert a.ask([("SendTargets", value)]) == [
        ("TargetName", NODE),
        ("TargetAddress", "[fe80::1]:3260,1"),
        ("TargetAddress", "[fe80::1]:3261,2"),
    ]


@pytest.mark.clause("RFC7143 Appendix C")
def test_send_targets_without_a_value_means_the_own_target():
    lab = Lab([disk_node(), disk_node(name="iqn.2026-01.org.example:other")])
    a = lab.session()
    assert a.ask([("SendTargets", "")])[0] == ("TargetName", NODE)
    assert len(a.ask([("SendTargets", "All")])) == 4


@pytest.mark.case("FFP-17.3.4")
@pytest.mark.clause("RFC7143 Appendix C")
def test_send_targets_of_an_unknown_name_is_rejected(lab: Lab):
    a = lab.session()
    assert a.ask([("SendTargets", "iqn.2026-01.org.example:nobody")]) == [("SendTargets", "Reject")]


@pytest.mark.clause("RFC7143 11.13.5")
def test_target_is_not_found_through_a_portal_group_that_it_is_not_in():
    lab = Lab([disk_node(portal_group_tags=(2,))])
    a, b = lab.connect("a", 1), lab.connect("b", 2)
    a.login()
    b.login()
    assert (a.login_status(), a.closed) == (LoginStatus.TARGET_NOT_FOUND, True)
    assert b.logged_in


@pytest.mark.clause("RFC7143 4.4.1")
@pytest.mark.clause("SAM5r21 3.1.52")
@pytest.mark.clause("RFC7143 4.4.2")
def test_one_initiator_port_has_a_session_with_each_target_port(lab: Lab):
    a, b = lab.connect("a", 1), lab.connect("a", 2)
    a.login()
    b.login()
    assert len(lab.target.sessions()) == 2
    assert not a.closed


@pytest.mark.clause("RFC7143 6.3.5")
def test_login_of_the_same_initiator_port_replaces_its_session(lab: Lab):
    old = lab.session()
    new = log_in_anew(lab, old)
    assert old.closed
    assert new.logged_in
    assert new.tsih != old.tsih
    assert new.attention() == AttentionCode.I_T_NEXUS_LOSS_OCCURRED
    assert [type(event) for event in lab.events] == [SessionStarted, SessionEnded, SessionStarted]


@pytest.mark.clause("RFC7143 6.3.5")
def test_new_session_waits_until_the_old_one_s_operations_are_back(lab: Lab):
    old = lab.session()
    lab.slow = True
    old.write(0, ONES)
    old.write(1, TWOS)
    new = log_in_anew(lab, old)
    assert old.closed
    lab.finish()
    assert not new.received
    lab.finish()
    assert new.login_status() == LoginStatus.SUCCESS
    assert not lab.at_medium


@pytest.mark.clause("RFC7143 6.3.5")
def test_old_session_s_tasks_that_are_not_at_the_medium_never_go_there(lab: Lab):
    old = lab.session()
    old.ask_to_write(0)
    lab.slow = True
    old.write(1, ONES)
    old.write(1, TWOS)  # waits for its turn
    new = log_in_anew(lab, old)
    lab.finish_all()
    assert new.logged_in
    assert len(lab.performed) == 1
    assert lab.block(1) == ONES


@pytest.mark.clause("RFC7143 6.3.5")
def test_of_several_logins_that_wait_the_last_one_counts(lab: Lab):
    old = lab.session()
    lab.slow = True
    old.write(0, ONES)
    first, second = log_in_anew(lab, old), log_in_anew(lab, old)
    assert first.closed
    lab.finish()
    assert second.logged_in
    assert [summary.connections for summary in lab.target.sessions()] == [(second.number,)]


@pytest.mark.clause("RFC7143 6.3.5")
def test_login_whose_connection_is_lost_while_it_waits_is_forgotten(lab: Lab):
    old = lab.session()
    lab.slow = True
    old.write(0, ONES)
    log_in_anew(lab, old).cut()
    lab.finish()
    assert lab.clean


@pytest.mark.clause("RFC7143 6.3")
def test_nothing_may_come_while_a_login_waits(lab: Lab):
    old = lab.session()
    lab.slow = True
    old.write(0, ONES)
    new = log_in_anew(lab, old)
    new.send(NopOut(initiator_task_tag=1))
    assert new.closed
    lab.finish()
    assert lab.clean


@pytest.mark.clause("RFC7143 6.3.4")
def test_reinstated_connection_carries_the_session_on(lab: Lab):
    old = lab.session(offers=[("InitialR2T", "No"), ("MaxBurstLength", "1024"), ("HeaderDigest", "CRC32C")])
    new = log_in_anew(lab, old, tsih=old.tsih)
    assert old.closed
    assert new.logged_in
    assert new.tsih == old.tsih
    assert new.attention() == AttentionCode.I_T_NEXUS_LOSS_OCCURRED
    new.received.clear()
    new.ask_to_write(0, 4)
    assert new.take_one(ReadyToTransfer).desired_data_transfer_length == 1024


@pytest.mark.clause("RFC7143 6.3.4")
def test_reinstated_connection_waits_for_the_old_tasks(lab: Lab):
    old = lab.session()
    lab.slow = True
    old.write(0, ONES)
    new = log_in_anew(lab, old, tsih=old.tsih)
    assert not new.received
    lab.finish()
    assert new.take_one(LoginResponse).tsih == old.tsih


@pytest.mark.case("LOGIN-2.2")
@pytest.mark.clause("RFC7143 11.13.5")
def test_session_that_does_not_exist_cannot_be_joined(lab: Lab):
    a = lab.session()
    new = log_in_anew(lab, a, tsih=a.tsih + 1)
    assert (new.login_status(), new.closed) == (LoginStatus.SESSION_DOES_NOT_EXIST, True)
    assert not a.closed


@pytest.mark.clause("RFC7143 11.13.5")
def test_session_of_another_initiator_cannot_be_joined(lab: Lab):
    a, b = lab.session(), lab.connect("b")
    b.login(tsih=a.tsih)
    assert b.login_status() == LoginStatus.SESSION_DOES_NOT_EXIST
    assert not a.closed


@pytest.mark.case("LOGIN-2.3")
@pytest.mark.clause("RFC7143 13.2")
def test_second_connection_is_refused_as_one_was_negotiated(lab: Lab):
    a = lab.session()
    new = log_in_anew(lab, a, tsih=a.tsih, cid=1)
    assert (new.login_status(), new.closed) == (LoginStatus.TOO_MANY_CONNECTIONS, True)
    assert a.outcome(a.read(0)).status == 0


@pytest.mark.clause("RFC7143 11.13.5")
def test_refusal_names_the_session_that_was_asked_for(lab: Lab):
    a = lab.connect()
    a.login(tsih=77)
    assert a.take_one(LoginResponse).tsih == 77


@pytest.mark.clause("RFC7143 11.12.8")
def test_full_feature_phase_begins_with_the_cmd_sn_of_the_login(lab: Lab):
    a = lab.connect()
    a.cmd_sn = 0xFFFFFFFF
    a.login()
    assert a.take_one(LoginResponse).exp_cmd_sn == 0xFFFFFFFF
    assert a.attention() == AttentionCode.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED
    assert a.attention() is None
    a.send(NopOut(initiator_task_tag=99, cmd_sn=a.next_cmd_sn()))
    assert a.take_one(NopIn).exp_cmd_sn == 2


@pytest.mark.clause("RFC7143 4.2.7")
def test_target_lets_in_only_the_initiators_it_names():
    lab = Lab([disk_node(initiators=frozenset({"iqn.2026-01.org.example:a"}))])
    a, b = lab.connect("a"), lab.connect("b")
    a.login()
    b.login()
    assert a.logged_in
    assert b.login_status() == LoginStatus.AUTHORIZATION_FAILURE
