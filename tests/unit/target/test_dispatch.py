"""Commands on their way to units and back. Hosts A and B, one node with LUN 0 and 1 (see tests/initiator)."""

import pytest

from iscsi_target.iscsi.header import Opcode
from iscsi_target.iscsi.responses import ReadyToTransfer
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.block_cdb import Write10
from iscsi_target.scsi.cdb import ModeSelect10, ReportLuns
from iscsi_target.scsi.logical_unit import LogicalUnit
from iscsi_target.scsi.mode_pages import ControlPage
from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.pages import ModeHeader10
from iscsi_target.target import Target
from tests.initiator import READY, Host, Lab, disk_node
from tests.unit.scsi.unit_bench import BLOCK, make_device

ONES, TWOS = bytes([1]) * BLOCK, bytes([2]) * BLOCK
DONE = ManagementResponse.FUNCTION_COMPLETE


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture
def a(lab: Lab) -> Host:
    return lab.session("a")


@pytest.fixture
def b(lab: Lab) -> Host:
    return lab.session("b")


def select_control(host: Host, save: bool = False, **fields) -> int:
    parameters = ModeHeader10().pack() + ControlPage(ps=False, **fields).pack()
    cdb = ModeSelect10(pf=True, sp=save, parameter_list_length=len(parameters))
    return host.command(cdb, write=parameters, data=parameters)


def test_write_is_fetched_by_r2t_and_answered(lab: Lab, a: Host):
    tag = a.ask_to_write(2)
    a.data_out(a.take_one(ReadyToTransfer), ONES)
    assert a.outcome(tag).status == 0
    assert lab.block(2) == ONES


def test_responses_come_in_the_order_of_the_medium(lab: Lab, a: Host):
    lab.slow = True
    first, second = a.read(0), a.read(1)
    newest = list(lab.at_medium)[-1]
    lab.finish(newest)
    assert a.ended(first) is None
    assert a.outcome(second).status == 0
    lab.finish()
    assert a.outcome(first).status == 0


def test_fault_of_the_medium_becomes_sense(lab: Lab, a: Host):
    lab.slow = True
    tag = a.read(0)
    lab.finish(error=MediumError(Fault.READ_FAILED))
    assert a.outcome(tag).sense == (3, 0x1100)


def test_status_of_a_saved_page_waits_for_the_state_file(lab: Lab, a: Host):
    tag = select_control(a, save=True, d_sense=True)
    assert a.ended(tag) is None
    assert not lab.target.drained
    lab.persist()
    assert a.outcome(tag).status == 0


def test_logout_waits_for_the_state_file(lab: Lab, a: Host):
    select_control(a, save=True, d_sense=True)
    a.logout()
    assert not a.closed
    lab.persist()
    assert a.closed
    assert lab.clean


def test_status_for_tasks_that_another_aborts_goes_out_when_tas_is_set(lab: Lab, a: Host, b: Host):
    select_control(a, tas=True)
    assert b.attention() == AttentionCode.MODE_PARAMETERS_CHANGED
    lab.slow = True
    tags = [b.write(0, ONES), b.ask_to_write(1)]
    function = a.manage(TaskManagement.CLEAR_TASK_SET)
    assert b.ended(tags[0]) is None
    lab.finish_all()
    assert a.managed(function) == DONE
    assert b.outcome(tags[0]).status == 0x40
    asked = next(pdu.header for pdu in b.received if isinstance(pdu.header, ReadyToTransfer))
    b.data_out(asked, ONES)
    assert b.outcome(tags[1]).status == 0x40


def test_task_that_breaks_the_transfer_while_it_is_aborted_ends_once(lab: Lab, a: Host):
    lab.slow = True
    a.write(0, ONES)
    tag = a.ask_to_write(0, 2)
    asked = next(pdu.header for pdu in a.received if isinstance(pdu.header, ReadyToTransfer))
    function = a.manage(TaskManagement.ABORT_TASK_SET)
    a.data_out(asked, ONES, data_sn=3)
    lab.finish_all()
    assert (a.ended(tag), a.managed(function)) == (None, DONE)


def test_abort_of_a_task_of_another_unit_does_not_find_it(lab: Lab, a: Host):
    lab.slow = True
    tag = a.write(0, ONES, lun=0)
    assert a.managed(a.abort(tag, lun=1)) == ManagementResponse.TASK_DOES_NOT_EXIST
    lab.finish()
    assert a.outcome(tag).status == 0


def test_abort_of_a_task_of_another_initiator_does_not_find_it(lab: Lab, a: Host, b: Host):
    lab.slow = True
    tag = a.write(0, ONES)
    assert b.managed(b.abort(tag)) == ManagementResponse.TASK_DOES_NOT_EXIST
    lab.finish()
    assert a.outcome(tag).status == 0


def test_two_functions_for_one_task_are_both_answered(lab: Lab, a: Host):
    lab.slow = True
    tag = a.write(0, ONES)
    functions = [a.abort(tag), a.abort(tag), a.manage(TaskManagement.LOGICAL_UNIT_RESET)]
    assert [a.managed(function) for function in functions] == [None] * 3
    lab.finish()
    assert [a.managed(function) for function in functions] == [DONE] * 3


def test_task_tag_may_be_used_again_after_an_abort(lab: Lab, a: Host):
    tag = a.ask_to_write(0)
    a.abort(tag)
    a.received.clear()
    again = a.write(1, TWOS, tag=tag)
    assert a.outcome(again).status == 0
    assert lab.block(1) == TWOS


def test_task_tag_in_use_is_rejected(lab: Lab, a: Host):
    lab.slow = True
    tag = a.read(0)
    a.read(1, tag=tag)
    assert [pdu.header.opcode for pdu in a.received] == [Opcode.REJECT]
    lab.finish_all()
    assert a.outcome(tag).status == 0


def test_reserved_task_attribute_is_rejected_and_the_next_command_works(a: Host):
    a.read(0, attributes=6)
    assert [pdu.header.opcode for pdu in a.received] == [Opcode.REJECT]
    assert a.outcome(a.read(0)).status == 0


def test_function_answered_after_its_session_ended_is_not_sent(lab: Lab, a: Host):
    lab.slow = True
    a.write(0, ONES)
    a.manage(TaskManagement.ABORT_TASK_SET)
    a.cut()
    lab.finish()
    assert lab.clean


def test_reset_by_one_whose_session_ends_meanwhile_still_ends_the_others(lab: Lab, a: Host, b: Host):
    lab.slow = True
    tag = b.write(0, ONES)
    a.manage(TaskManagement.TARGET_COLD_RESET)
    a.cut()
    lab.finish()
    assert b.closed
    assert b.ended(tag) is None
    assert lab.clean


def test_tickets_of_a_unit_and_of_its_successor_differ(lab: Lab, a: Host):
    lab.slow = True
    a.write(0, ONES)
    lab.units["disk0"] = LogicalUnit("disk0", make_device())
    lab.reconfigure(disk_node(portal_group_tags=(1, 2)))
    assert a.attention(0) == AttentionCode.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED
    tag = a.write(0, TWOS)
    assert len(lab.at_medium) == 2
    lab.finish_all()
    assert a.outcome(tag).status == 0
    a.cut()
    assert lab.clean


def test_report_luns_counts_as_told_of_changed_luns(lab: Lab, a: Host):
    lab.reconfigure(disk_node(portal_group_tags=(1, 2), luns={0: "disk0"}))
    a.command(ReportLuns(allocation_length=256), 0, read=256)
    assert a.attention(0) is None


def test_idle_means_that_nothing_is_at_a_medium(lab: Lab, a: Host):
    target: Target = lab.target
    lab.slow = True
    a.read(0)
    assert not target._dispatcher.idle
    lab.finish()
    assert target._dispatcher.idle


@pytest.mark.parametrize("length", [0, 1])
def test_write_whose_initiator_has_less_than_it_says_ends_without_data(a: Host, length: int):
    tag = a.command(Write10(lba=0, transfer_length=2), write=bytes(length), data=bytes(length))
    assert a.ended(tag) is not None
    assert a.outcome(a.command(READY)).status == 0
