"""Task management functions by hosts A and B on one node: LUN 0 is disk0, LUN 1 is disk1 (see tests/initiator)."""

import pytest

from iscsi_target.iscsi import parking
from iscsi_target.iscsi.header import Opcode
from iscsi_target.iscsi.requests import DataOut
from iscsi_target.iscsi.responses import ReadyToTransfer, TaskManagementResponse
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.block_cdb import Read10
from iscsi_target.scsi.status import Status
from tests.initiator import READY, Host, Lab
from tests.unit.scsi.unit_bench import BLOCK

ONES, TWOS = bytes([1]) * BLOCK, bytes([2]) * BLOCK
NOTHING = bytes(BLOCK)
DONE = ManagementResponse.FUNCTION_COMPLETE
FENCES = [
    TaskManagement.ABORT_TASK_SET,
    TaskManagement.CLEAR_TASK_SET,
    TaskManagement.LOGICAL_UNIT_RESET,
    TaskManagement.TARGET_WARM_RESET,
    TaskManagement.TARGET_COLD_RESET,
]


@pytest.fixture
def lab() -> Lab:
    return Lab()


def collected(host: Host) -> ReadyToTransfer:
    [pdu] = [pdu for pdu in host.received if isinstance(pdu.header, ReadyToTransfer)]
    assert isinstance(pdu.header, ReadyToTransfer)
    return pdu.header


@pytest.mark.case("FFP-11.3.1")
@pytest.mark.clause("RFC7143 11.6.1")
def test_abort_task_of_one_that_waits_for_data_ends_it_at_once(lab: Lab, a: Host):
    tag = a.ask_to_write(0)
    assert a.managed(a.abort(tag)) == DONE
    a.data_out(collected(a), ONES)  # was on its way already
    assert a.ended(tag) is None
    assert not lab.performed
    assert lab.target.sessions()[0].open_tasks == 0
    assert Opcode.REJECT not in [pdu.header.opcode for pdu in a.received]


@pytest.mark.clause("RFC7143 11.6.1")
def test_abort_task_of_one_at_the_medium_waits_for_it(lab: Lab, a: Host):
    lab.slow = True
    tag = a.write(0, ONES)
    function = a.abort(tag)
    assert a.managed(function) is None
    lab.finish()
    assert a.managed(function) == DONE
    assert a.ended(tag) is None


@pytest.mark.case("FFP-11.3.2")
@pytest.mark.clause("RFC7143 11.6.1")
def test_abort_task_of_one_that_is_over_says_it_does_not_exist(a: Host):
    sent_as = a.cmd_sn
    tag = a.write(0, ONES)
    assert a.managed(a.abort(tag, ref_cmd_sn=sent_as)) == ManagementResponse.TASK_DOES_NOT_EXIST


@pytest.mark.clause("RFC7143 11.6.1")
def test_abort_task_of_a_command_on_its_way_makes_it_count_as_received(lab: Lab, a: Host):
    missing = a.next_cmd_sn()
    function = a.abort(a.next_tag(), ref_cmd_sn=missing)
    assert a.managed(function) == DONE
    late = a.write(0, ONES, cmd_sn=missing)
    assert a.ended(late) is None
    assert a.outcome(a.read(0)).data == NOTHING


@pytest.mark.clause("RFC7143 11.6.1")
def test_abort_task_of_a_command_that_is_not_in_its_turn_drops_it(lab: Lab, a: Host):
    missing, early = a.next_cmd_sn(), a.next_cmd_sn()
    tag = a.write(0, ONES, cmd_sn=early)
    assert a.managed(a.abort(tag, ref_cmd_sn=early)) == DONE
    assert a.outcome(a.read(0, cmd_sn=missing)).data == NOTHING
    assert a.outcome(a.read(0)).data == NOTHING
    assert a.ended(tag) is None


@pytest.mark.clause("RFC7143 11.6.1")
def test_abort_task_cannot_mean_a_command_after_it(a: Host):
    function = a.abort(a.next_tag(), ref_cmd_sn=a.cmd_sn)
    assert a.managed(function) == ManagementResponse.TASK_DOES_NOT_EXIST
    assert a.outcome(a.read(0)).status == 0


@pytest.mark.case("FFP-11.3.3")
@pytest.mark.clause("RFC7143 11.5.1")
@pytest.mark.parametrize("function", TaskManagement)
def test_unmapped_lun_is_told_unless_the_function_means_the_target(lab: Lab, function: TaskManagement):
    a = lab.session("a", offers=[("iSCSIProtocolLevel", "2")])
    answer = a.managed(a.manage(function, 9, referenced=1))
    expected = {
        TaskManagement.TASK_REASSIGN: ManagementResponse.REASSIGNMENT_NOT_SUPPORTED,
        TaskManagement.TARGET_WARM_RESET: DONE,
        TaskManagement.TARGET_COLD_RESET: DONE,
        TaskManagement.I_T_NEXUS_RESET: DONE,
    }
    assert answer == expected.get(function, ManagementResponse.LUN_DOES_NOT_EXIST)


@pytest.mark.clause("RFC7143 11.5.1")
@pytest.mark.parametrize("function", [0, 9, 12, 13, 127])
def test_function_that_does_not_exist_is_not_supported(a: Host, function: int):
    assert a.managed(a.manage(function)) == ManagementResponse.FUNCTION_NOT_SUPPORTED


@pytest.mark.clause("RFC7143 11.5.1")
def test_lun_of_a_form_that_no_unit_has_does_not_exist(a: Host):
    answer = a.managed(a.manage(TaskManagement.LOGICAL_UNIT_RESET, b"\xc0" + bytes(7)))
    assert answer == ManagementResponse.LUN_DOES_NOT_EXIST


@pytest.mark.clause("RFC7143 4.2.3.2")
@pytest.mark.parametrize("function", FENCES)
def test_no_aborted_write_changes_a_block_after_the_response(lab: Lab, a: Host, function: TaskManagement):
    waiting = a.ask_to_write(3)
    lab.slow = True
    tags = [a.write(0, ONES), a.write(0, TWOS), a.write(1, ONES)]
    sent = a.manage(function)
    assert a.managed(sent) is None
    lab.finish_all()
    assert a.managed(sent) == DONE
    if not a.closed:
        a.data_out(collected(a), ONES)
    assert [a.ended(tag) for tag in (*tags, waiting)] == [None] * 4
    assert (lab.block(0), lab.block(1), lab.block(3)) == (ONES, ONES, NOTHING)
    assert len(lab.performed) == 2


@pytest.mark.clause("RFC7143 11.5.1")
def test_abort_task_set_leaves_the_other_initiator_alone(lab: Lab, a: Host, b: Host):
    lab.slow = True
    mine, other = a.write(0, ONES), b.write(1, ONES)
    function = a.manage(TaskManagement.ABORT_TASK_SET)
    lab.finish_all()
    assert (a.ended(mine), a.managed(function)) == (None, DONE)
    assert b.outcome(other).status == 0


@pytest.mark.clause("SAM5r21 5.14")
def test_clear_task_set_tells_the_other_initiator(lab: Lab, a: Host, b: Host):
    lab.slow = True
    other = b.write(1, ONES)
    function = a.manage(TaskManagement.CLEAR_TASK_SET)
    lab.finish_all()
    assert a.managed(function) == DONE
    assert b.ended(other) is None
    assert b.attention() == AttentionCode.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR


@pytest.mark.clause("SAM5r21 7.7")
def test_logical_unit_reset_is_told_on_that_unit_only(a: Host, b: Host):
    assert a.managed(a.manage(TaskManagement.LOGICAL_UNIT_RESET)) == DONE
    for host in (a, b):
        assert host.attention(0) == AttentionCode.BUS_DEVICE_RESET_FUNCTION_OCCURRED
        assert host.attention(1) is None


@pytest.mark.case("FFP-11.4")
@pytest.mark.clause("RFC7143 11.5.1")
def test_target_warm_reset_resets_every_unit_of_the_target(lab: Lab, a: Host, b: Host):
    lab.slow = True
    tags = [b.write(0, ONES, lun=0), b.write(0, ONES, lun=1)]
    function = a.manage(TaskManagement.TARGET_WARM_RESET)
    lab.finish()
    assert a.managed(function) is None
    lab.finish()
    assert a.managed(function) == DONE
    assert [b.ended(tag) for tag in tags] == [None, None]
    assert [b.attention(lun) for lun in (0, 1)] == [AttentionCode.SCSI_BUS_RESET_OCCURRED] * 2
    assert not a.closed


@pytest.mark.case("FFP-11.5")
@pytest.mark.clause("RFC7143 11.5.1")
def test_target_cold_reset_ends_all_sessions_of_the_target(lab: Lab, a: Host, b: Host):
    b.ask_to_write(0)
    assert a.managed(a.manage(TaskManagement.TARGET_COLD_RESET)) == DONE
    assert a.closed
    assert b.closed
    assert lab.clean


@pytest.mark.clause("RFC7143 11.5.1")
def test_function_also_ends_a_task_whose_response_waits_for_data(lab: Lab, a: Host):
    tag = a.command(READY, write=ONES, final=True)
    a.received.clear()
    wrong = a.ask_to_write(0, 2)
    asked = collected(a)
    a.data_out(asked, ONES, final=False, data_sn=5)  # lost data: the response waits for the F bit
    assert a.ended(wrong) is None
    assert a.managed(a.manage(TaskManagement.ABORT_TASK_SET)) == DONE
    a.data_out(asked, ONES, data_sn=6, buffer_offset=BLOCK)
    assert a.ended(wrong) is None
    assert lab.target.sessions()[0].open_tasks == 0
    assert tag != wrong


@pytest.mark.clause("RFC7143 11.6.1")
def test_abort_task_of_one_whose_response_waits_for_data_completes(lab: Lab, a: Host):
    tag = a.ask_to_write(0, 2)
    a.data_out(collected(a), ONES, final=False, data_sn=5)
    assert a.managed(a.abort(tag)) == DONE
    assert lab.target.sessions()[0].open_tasks == 0


@pytest.mark.clause("RFC7143 11.7")
def test_lost_data_ends_the_task_with_sense_after_the_final_pdu(a: Host):
    tag = a.ask_to_write(0, 2)
    asked = collected(a)
    a.data_out(asked, ONES, final=False, data_sn=5)
    a.data_out(asked, ONES, data_sn=6, buffer_offset=BLOCK)
    assert a.outcome(tag).sense == (0xB, 0x4705)
    assert a.outcome(a.read(0)).data == NOTHING


@pytest.mark.clause("RFC7143 11.4.7.2")
def test_unexpected_unsolicited_data_ends_the_task_with_sense(a: Host):
    tag = a.write(0, ONES, data=b"", final=False)  # InitialR2T=Yes was negotiated
    a.send(DataOut(final=True, initiator_task_tag=tag), ONES)
    assert a.outcome(tag).sense == (0xB, 0x0C0C)


@pytest.mark.clause("RFC7143 11.5")
def test_function_that_is_not_immediate_waits_for_its_turn(a: Host):
    missing = a.next_cmd_sn()
    tag = a.manage(TaskManagement.LOGICAL_UNIT_RESET, immediate=False, cmd_sn=a.next_cmd_sn())
    assert a.managed(tag) is None
    a.read(0, cmd_sn=missing)
    assert a.managed(tag) == DONE


@pytest.mark.clause("RFC7143 11.6")
def test_response_carries_the_tag_of_the_request(a: Host):
    tag = a.manage(TaskManagement.ABORT_TASK_SET)
    assert a.take_one(TaskManagementResponse).initiator_task_tag == tag


@pytest.mark.clause("RFC7143 4.2.3.3")
@pytest.mark.parametrize("function", FENCES[:4])
def test_function_for_several_tasks_waits_for_the_commands_before_it(function: TaskManagement, lab: Lab, a: Host):
    missing, early = a.next_cmd_sn(), a.next_cmd_sn()
    tag = a.ask_to_write(0, cmd_sn=early)
    asked = a.manage(function)
    assert a.managed(asked) is None
    a.command(READY, cmd_sn=missing)
    assert a.managed(asked) == DONE
    assert a.ended(tag) is None
    assert not lab.performed


@pytest.mark.clause("SAM5r21 4.7.7.3")
def test_function_means_a_parked_command_by_either_form_of_its_lun(lab: Lab, a: Host):
    lab.target.congested(a.number)
    tag = a.write(0, ONES)
    assert a.managed(a.manage(TaskManagement.ABORT_TASK_SET, b"\x40" + bytes(7))) == DONE
    lab.run(lab.target.relieved(a.number, lab.now))
    assert a.ended(tag) is None
    assert not lab.performed


@pytest.mark.clause("RFC7143 11.5.1")
def test_aborted_task_whose_data_failed_leaves_its_tag_free(lab: Lab, a: Host):
    lab.slow = True
    cdb = Read10(transfer_length=1).pack()
    tag = a.raw_command(cdb + bytes(6), bytes(8), write=bytes(4 * BLOCK), data=b"", final=False)
    a.send(DataOut(initiator_task_tag=tag, data_sn=9), ONES)
    function = a.abort(tag)
    lab.finish_all()
    assert a.managed(function) == DONE
    assert lab.target.sessions()[0].open_tasks == 0


@pytest.mark.clause("RFC7143 11.6.1")
def test_data_that_fails_after_the_abort_of_its_task_gets_no_response(lab: Lab):
    a = lab.session("a", offers=[("InitialR2T", "No")])
    lab.slow = True
    cdb = Read10(transfer_length=1).pack()
    tag = a.raw_command(cdb + bytes(6), bytes(8), write=ONES, data=b"", final=False)
    function = a.abort(tag)
    a.send(DataOut(final=True, initiator_task_tag=tag, data_sn=5), ONES)
    lab.finish_all()
    assert a.managed(function) == DONE
    assert a.ended(tag) is None
    assert lab.target.sessions()[0].open_tasks == 0


@pytest.mark.clause("RFC7143 11.5.1")
def test_abort_of_a_parked_command_lets_those_behind_it_go_on(lab: Lab, a: Host, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parking, "LIMIT_BYTES", 4 * BLOCK)
    lab.slow = True
    a.read(0)
    parked = a.ask_to_write(0, blocks=4)
    a.read(0, 1)
    assert len(lab.at_medium) == 1
    assert a.managed(a.abort(parked)) == DONE
    assert len(lab.at_medium) == 2


@pytest.mark.clause("RFC7143 6.3.5")
def test_end_of_a_session_lets_parked_commands_of_others_go_on(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    a, b = lab.session("a"), lab.session("b")
    monkeypatch.setattr(parking, "LIMIT_BYTES", BLOCK)
    a.ask_to_write(0, attributes=2)  # ORDERED, and waits for its data
    lab.units["disk0"].nexuses.establish(AttentionCode.MODE_PARAMETERS_CHANGED)
    dormant, parked = b.read(0), b.read(0, 1)
    a.feed(b"\xff" * 48)  # lengths beyond the limits: the target closes
    assert a.closed
    assert b.outcome(dormant).status == Status.CHECK_CONDITION
    assert b.outcome(parked).status == Status.GOOD
