"""Which unit a LUN leads to, for hosts A and B on one or two nodes (see tests/initiator)."""

import pytest

from iscsi_target.iscsi.responses import AsyncMessage
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.cdb import Inquiry, ReportLuns, RequestSense
from iscsi_target.scsi.layouts.lun import pack_lun
from iscsi_target.target import Timeouts
from tests.initiator import NODE, READY, Host, Lab, disk_node
from tests.unit.scsi.unit_bench import BLOCK

ONES, TWOS = bytes([1]) * BLOCK, bytes([2]) * BLOCK
OTHER = "iqn.2026-01.org.example:other"
CHANGED = AttentionCode.REPORTED_LUNS_DATA_HAS_CHANGED
UNIT_NOT_SUPPORTED = (5, 0x2500)
BOTH, ONLY_0, ONLY_1 = {0: "disk0", 1: "disk1"}, {0: "disk0"}, {1: "disk1"}


@pytest.fixture
def lab() -> Lab:
    return Lab([disk_node()], timeouts=Timeouts(logout_s=7))


def reported(host: Host, lun: int = 0) -> list[int]:
    data = host.outcome(host.command(ReportLuns(allocation_length=256), lun, read=256)).data
    return [entry[1] for entry in (data[start : start + 8] for start in range(8, len(data), 8))]


@pytest.mark.clause("SPC4r37 6.6.1")
def test_inquiry_of_an_unmapped_lun_says_that_no_unit_is_there(a: Host):
    data = a.outcome(a.command(Inquiry(allocation_length=96), 7, read=96)).data
    assert data[0] == 0x7F


@pytest.mark.clause("SPC4r37 6.33")
def test_report_luns_works_at_lun_0_though_it_is_unmapped():
    lab = Lab([disk_node(luns={3: "disk0", 5: "disk1"})])
    a = lab.connect()
    a.login()
    assert reported(a, 0) == [3, 5]
    data = a.outcome(a.command(Inquiry(allocation_length=96), 0, read=96)).data
    assert data[0] == 0x7F


@pytest.mark.clause("SAM5r21 5.8.4")
def test_other_commands_to_an_unmapped_lun_are_refused(a: Host):
    assert a.outcome(a.command(READY, 9)).sense == UNIT_NOT_SUPPORTED
    assert a.outcome(a.write(0, ONES, lun=9)).sense == UNIT_NOT_SUPPORTED
    data = a.outcome(a.command(RequestSense(allocation_length=18), 9, read=18)).data
    assert (data[2], int.from_bytes(data[12:14])) == UNIT_NOT_SUPPORTED


@pytest.mark.clause("SAM5r21 4.7.1")
@pytest.mark.clause("SAM5r21 4.7.2")
@pytest.mark.parametrize("lun", [b"\x00\x00\x00\x01" + bytes(4), b"\xc1" + bytes(7), b"\x01" + bytes(7)])
def test_lun_of_another_form_leads_nowhere(a: Host, lun: bytes):
    assert a.outcome(a.raw_command(READY.pack(), lun)).sense == UNIT_NOT_SUPPORTED


@pytest.mark.clause("SAM5r21 4.7.7.3")
def test_both_forms_of_a_lun_lead_to_the_same_unit(a: Host):
    a.write(0, ONES, lun=1)
    flat = b"\x40\x01" + bytes(6)
    assert a.outcome(a.raw_command(bytes([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]), flat, read=BLOCK)).data == ONES
    assert pack_lun(1) != flat


@pytest.mark.clause("SAM5r21 4.5.19")
def test_units_of_a_node_are_separate(lab: Lab, a: Host):
    a.write(0, ONES, lun=0)
    a.write(0, TWOS, lun=1)
    assert (lab.block(0, "disk0"), lab.block(0, "disk1")) == (ONES, TWOS)


@pytest.mark.clause("SAM5r21 4.5.19")
def test_unit_of_two_nodes_is_one_unit():
    lab = Lab([disk_node(), disk_node(name=OTHER, luns={4: "disk0"})])
    a, b = lab.session("a"), lab.session("b", target=OTHER)
    a.write(0, ONES)
    assert b.outcome(b.read(0, lun=4)).data == ONES
    a.manage(TaskManagement.LOGICAL_UNIT_RESET)
    assert b.attention(4) == AttentionCode.BUS_DEVICE_RESET_FUNCTION_OCCURRED


@pytest.mark.clause("RFC7143 11.5.1")
def test_cold_reset_leaves_the_sessions_of_another_node():
    lab = Lab([disk_node(), disk_node(name=OTHER, luns={4: "disk0"})])
    a, b = lab.session("a"), lab.session("b", target=OTHER)
    assert a.managed(a.manage(TaskManagement.TARGET_COLD_RESET)) == ManagementResponse.FUNCTION_COMPLETE
    assert a.closed
    assert b.attention(4) == AttentionCode.SCSI_BUS_RESET_OCCURRED


@pytest.mark.clause("SPC4r37 6.33")
def test_added_lun_is_told_on_the_others_and_can_be_used(lab: Lab, a: Host):
    lab.reconfigure(disk_node(luns={**BOTH, 2: "disk2"}))
    assert a.attention(0) == CHANGED
    assert a.attention(0) is None
    assert reported(a) == [0, 1, 2]
    assert a.attention(1) is None  # REPORT LUNS told it for all units
    assert a.attention(2) == AttentionCode.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED
    assert a.outcome(a.write(0, ONES, lun=2)).status == 0


@pytest.mark.clause("SPC4r37 6.33")
def test_report_luns_at_an_unmapped_lun_tells_of_the_change_too(lab: Lab, a: Host):
    lab.reconfigure(disk_node(luns=ONLY_1))
    assert reported(a, 0) == [1]
    assert a.attention(1) is None


@pytest.mark.clause("SPC4r37 6.33")
def test_removed_lun_is_told_on_the_others_and_cannot_be_used(lab: Lab, a: Host):
    waiting = a.ask_to_write(0, lun=1)
    lab.reconfigure(disk_node(luns=ONLY_0))
    assert a.attention(0) == CHANGED
    assert a.outcome(a.command(READY, 1)).sense == UNIT_NOT_SUPPORTED
    assert a.ended(waiting) is None
    assert lab.units["disk1"].open_tasks == 0


@pytest.mark.clause("SAM5r21 6.3.4")
def test_session_of_a_removed_lun_ends_after_its_operations_there(lab: Lab, a: Host):
    lab.slow = True
    a.write(0, ONES, lun=1)
    lab.reconfigure(disk_node(luns=ONLY_0))
    new = lab.connect("a")
    new.login()
    assert not new.received
    lab.finish()
    assert new.logged_in
    new.cut()
    assert lab.clean


@pytest.mark.clause("SAM5r21 6.3.4")
def test_lun_that_comes_back_before_its_operations_did_is_there_afterwards(lab: Lab, a: Host):
    lab.slow = True
    tag = a.write(0, ONES, lun=1)
    lab.reconfigure(disk_node(luns=ONLY_0))
    lab.reconfigure(disk_node(luns=BOTH))
    assert a.outcome(a.command(READY, 1)).sense == UNIT_NOT_SUPPORTED
    lab.finish()
    assert a.ended(tag) is None
    assert a.attention(1) == AttentionCode.I_T_NEXUS_LOSS_OCCURRED
    lab.slow = False
    assert a.outcome(a.write(0, TWOS, lun=1)).status == 0


@pytest.mark.clause("RFC7143 11.9.1")
def test_sessions_of_a_removed_node_are_asked_to_leave_and_others_go_on():
    lab = Lab([disk_node(), disk_node(name=OTHER, luns={4: "disk0"})], timeouts=Timeouts(logout_s=7))
    a, b = lab.session("a"), lab.session("b", target=OTHER)
    lab.reconfigure(disk_node(name=OTHER, luns={4: "disk0"}))
    assert a.take_one(AsyncMessage).async_event == 1
    lab.wait(7)
    assert a.closed
    assert not b.received
    assert b.attention(4) is None
    assert [summary.target for summary in lab.target.sessions()] == [OTHER]


@pytest.mark.clause("RFC7143 11.9.1")
def test_session_of_a_removed_portal_group_is_asked_to_leave(lab: Lab, a: Host):
    lab.reconfigure(disk_node(portal_group_tags=(2,)))
    assert a.take(AsyncMessage)


@pytest.mark.clause("RFC7143 6.3")
def test_login_under_way_is_cut_when_who_may_log_in_has_changed(lab: Lab):
    a = lab.connect()
    lab.reconfigure(disk_node(), disk_node(name=OTHER))
    assert a.closed


@pytest.mark.clause("RFC7143 6.3")
def test_login_under_way_goes_on_when_only_luns_have_changed(lab: Lab):
    a = lab.connect()
    lab.reconfigure(disk_node(luns=ONLY_0))
    a.login()
    assert a.logged_in
    assert reported(a) == [0]
    assert lab.target.sessions()[0].target == NODE
