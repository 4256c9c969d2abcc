"""The task management functions and priorities of iSCSIProtocolLevel=2, by hosts A and B on one node (tests/initiator).

LUN 0 is disk0, LUN 1 is disk1. A has negotiated the level, B has not.
"""

import pytest

from iscsi_target.iscsi.responses import TaskManagementResponse
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.scsi.attention import AttentionCode, with_information
from iscsi_target.scsi.layouts.block_cdb import PreventAllowMediumRemoval
from iscsi_target.scsi.layouts.cdb import Inquiry, Reserve6
from iscsi_target.scsi.layouts.inquiry_pages import ExtendedInquiryData
from iscsi_target.scsi.status import Status
from iscsi_target.target.management import LATER_LEVEL
from tests.initiator import Host, Lab
from tests.unit.scsi.unit_bench import BLOCK

ONES = bytes([1]) * BLOCK
ORDERED = 2
NOTHING, SOMETHING = ManagementResponse.FUNCTION_COMPLETE, ManagementResponse.FUNCTION_SUCCEEDED
QUERY_TASK, QUERY_TASK_SET = TaskManagement.QUERY_TASK, TaskManagement.QUERY_TASK_SET
QUERY_EVENT, NEXUS_RESET = TaskManagement.QUERY_ASYNCHRONOUS_EVENT, TaskManagement.I_T_NEXUS_RESET


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture
def a(lab: Lab) -> Host:
    return lab.session("a", offers=[("iSCSIProtocolLevel", "2")])


def information(host: Host) -> bytes:
    """Returns the Additional Response Information of the last response."""
    header = host.take(TaskManagementResponse)[-1].header
    assert isinstance(header, TaskManagementResponse)
    return header.additional_response_information


@pytest.mark.clause("RFC7144 4")
@pytest.mark.parametrize("function", LATER_LEVEL)
def test_a_session_without_the_level_does_not_have_them(b: Host, function: TaskManagement):
    assert b.managed(b.manage(function)) == ManagementResponse.FUNCTION_NOT_SUPPORTED


@pytest.mark.clause("RFC7144 4")
@pytest.mark.parametrize("function", LATER_LEVEL)
def test_they_mean_a_unit_unless_they_mean_all(a: Host, function: TaskManagement):
    expected = NOTHING if function is NEXUS_RESET else ManagementResponse.LUN_DOES_NOT_EXIST
    assert a.managed(a.manage(function, 9)) == expected


@pytest.mark.clause("SAM5r21 7.8")
def test_query_task_finds_a_task_until_its_response(lab: Lab, a: Host, b: Host):
    lab.slow = True
    collecting, at_medium = a.ask_to_write(0), a.write(1, ONES)
    of_another = b.write(2, ONES)
    for tag in (collecting, at_medium):
        assert a.managed(a.manage(QUERY_TASK, referenced=tag)) == SOMETHING
    assert a.managed(a.manage(QUERY_TASK, 1, referenced=at_medium)) == NOTHING
    assert a.managed(a.manage(QUERY_TASK, referenced=at_medium + 100)) == NOTHING
    lab.finish()
    lab.finish()
    assert a.managed(a.manage(QUERY_TASK, referenced=at_medium)) == NOTHING
    assert b.outcome(of_another).status == Status.GOOD


@pytest.mark.clause("SAM5r21 7.9")
def test_query_task_set_finds_tasks_of_the_own_nexus_only(lab: Lab, a: Host, b: Host):
    lab.slow = True
    b.write(0, ONES)
    assert a.managed(a.manage(QUERY_TASK_SET)) == NOTHING
    a.write(1, ONES)
    assert a.managed(a.manage(QUERY_TASK_SET)) == SOMETHING
    assert a.managed(a.manage(QUERY_TASK_SET, 1)) == NOTHING


@pytest.mark.clause("SAM5r21 7.10")
def test_query_asynchronous_event_tells_the_next_unit_attention_and_leaves_it(lab: Lab, a: Host):
    assert a.managed(a.manage(QUERY_EVENT)) == NOTHING
    assert information(a) == bytes(3)
    nexuses = lab.units["disk0"].nexuses
    nexuses.establish(AttentionCode.MODE_PARAMETERS_CHANGED)
    assert a.managed(a.manage(QUERY_EVENT)) == SOMETHING
    assert information(a) == bytes.fromhex("162a01")
    nexuses.establish(AttentionCode.CAPACITY_DATA_HAS_CHANGED)
    assert a.managed(a.manage(QUERY_EVENT)) == SOMETHING
    assert information(a) == bytes.fromhex("262a01")
    assert a.attention() == AttentionCode.MODE_PARAMETERS_CHANGED


@pytest.mark.clause("SAM5r21 7.10")
def test_query_asynchronous_event_tells_of_an_event_that_has_information_but_not_that(lab: Lab, a: Host):
    reached = with_information(AttentionCode.THIN_PROVISIONING_SOFT_THRESHOLD_REACHED, 24)
    lab.units["disk0"].nexuses.establish(reached)
    assert a.managed(a.manage(QUERY_EVENT)) == SOMETHING
    assert information(a) == bytes.fromhex("163807")


@pytest.mark.clause("SAM5r21 7.6")
@pytest.mark.clause("SAM5r21 6.3.4")
def test_nexus_reset_ends_all_that_the_nexus_has_on_every_unit(lab: Lab, a: Host, b: Host):
    for lun in (0, 1):
        assert a.outcome(a.command(Reserve6(), lun)).status == Status.GOOD
        assert a.outcome(a.command(PreventAllowMediumRemoval(prevent=1), lun)).status == Status.GOOD
    lab.slow = True
    task = a.write(0, ONES)
    function = a.manage(NEXUS_RESET)
    assert a.managed(function) is None, "it waits for what is at the medium"
    lab.finish()
    assert a.managed(function) == NOTHING
    assert a.ended(task) is None
    for lun, unit in enumerate((lab.units["disk0"], lab.units["disk1"])):
        assert unit.device.preventing == set()
        assert unit.device.spc2_reservation.holder is None
        assert b.attention(lun) is None
        assert (a.attention(lun), a.attention(lun)) == (AttentionCode.I_T_NEXUS_LOSS_OCCURRED, None)


def order_of_writes(lab: Lab, host: Host) -> list[int]:
    """Returns in which order writes of 1, 2 and 3 are done that wait for the same task, with priorities 0, 9 and 2."""
    lab.slow = True
    host.write(5, ONES, attributes=ORDERED)
    for number, priority in ((1, 0), (2, 9), (3, 2)):
        host.write(0, bytes([number]) * BLOCK, priority=priority)
    done = []
    while lab.at_medium:
        lab.finish()
        done.append(lab.block(0)[0])
    return done[1:]


@pytest.mark.clause("SAM5r21 8.7")
@pytest.mark.clause("RFC7144 4")
def test_commands_of_a_higher_priority_go_first(lab: Lab, a: Host):
    assert order_of_writes(lab, a) == [3, 2, 1]


@pytest.mark.clause("RFC7144 4")
def test_where_the_level_is_lower_priorities_are_reserved_and_not_looked_at(lab: Lab, b: Host):
    assert order_of_writes(lab, b) == [1, 2, 3]


@pytest.mark.clause("SPC4r37 7.8.7")
def test_priorities_are_advertised(lab: Lab, a: Host):
    tag = a.command(Inquiry(evpd=True, page_code=0x86, allocation_length=64), read=64)
    page = ExtendedInquiryData.unpack(a.outcome(tag).data, 4)
    assert page.prior_sup
