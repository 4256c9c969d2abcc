"""Titles 11.1, 11.2, 14.3 and 15 of the full feature phase: functions, Reject and pings.

Host A (see tests/initiator).
"""

import pytest

from iscsi_target.iscsi.errors import RejectReason
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.numbering import WINDOW_COMMANDS
from iscsi_target.iscsi.requests import LogoutRequest, NopOut, ScsiCommand, SnackRequest
from iscsi_target.iscsi.responses import NopIn, ReadyToTransfer, Reject, TaskManagementResponse
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.scsi.layouts.lun import pack_lun
from tests.initiator import Host, Lab
from tests.unit.scsi.unit_bench import BLOCK

ONES = bytes([1]) * BLOCK
NOT_SUPPORTED = ManagementResponse.REASSIGNMENT_NOT_SUPPORTED


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.mark.case("FFP-11.1")
@pytest.mark.clause("RFC7143 4.2.2.1")
def test_ffp_11_1_an_immediate_function_and_another_immediate_request_find_room_in_a_closed_window(lab: Lab, a: Host):
    lab.slow = True
    for _ in range(WINDOW_COMMANDS):
        a.read(0)
    tag = a.manage(TaskManagement.ABORT_TASK_SET)
    a.send(NopOut(immediate=True, initiator_task_tag=a.next_tag(), cmd_sn=a.cmd_sn))
    ping = a.take_one(NopIn)
    assert (ping.exp_cmd_sn, ping.max_cmd_sn) == (a.cmd_sn, a.cmd_sn - 1)
    lab.finish_all()
    assert a.managed(tag) == ManagementResponse.FUNCTION_COMPLETE


@pytest.mark.case("FFP-11.1")
@pytest.mark.clause("RFC7143 4.2.2.1")
def test_ffp_11_1_a_function_that_is_not_immediate_has_a_number_of_its_own(a: Host):
    cmd_sn = a.next_cmd_sn()
    a.manage(TaskManagement.ABORT_TASK_SET, immediate=False, cmd_sn=cmd_sn)
    assert a.take_one(TaskManagementResponse).exp_cmd_sn == cmd_sn + 1


@pytest.mark.case("FFP-11.2.1")
@pytest.mark.case("ERT-2.2")
@pytest.mark.clause("RFC7143 11.6.1")
def test_ffp_11_2_1_reassignment_of_a_task_is_not_supported_at_error_recovery_level_0(a: Host):
    tag = a.ask_to_write(0)
    assert a.managed(a.manage(TaskManagement.TASK_REASSIGN, referenced=tag)) == NOT_SUPPORTED


@pytest.mark.case("FFP-11.2.2")
@pytest.mark.clause("RFC7143 11.6.1")
def test_ffp_11_2_2_reassignment_of_no_task_is_not_supported_either(a: Host):
    assert a.managed(a.manage(TaskManagement.TASK_REASSIGN, referenced=4711)) == NOT_SUPPORTED


@pytest.mark.case("FFP-11.2.3")
@pytest.mark.clause("RFC7143 11.6.1")
def test_ffp_11_2_3_a_task_whose_reassignment_is_refused_goes_on(lab: Lab, a: Host):
    tag = a.ask_to_write(0)
    asked = a.take_one(ReadyToTransfer)
    a.manage(TaskManagement.TASK_REASSIGN, referenced=tag)
    a.data_out(asked, ONES)
    assert a.outcome(tag).status == 0
    assert lab.block(0) == ONES


@pytest.mark.case("FFP-14.3")
@pytest.mark.clause("RFC7143 11.17.1")
@pytest.mark.parametrize(
    ("rejected", "reason"),
    [
        (NopOut(opcode=0x1F, initiator_task_tag=900), RejectReason.COMMAND_NOT_SUPPORTED),
        (SnackRequest(initiator_task_tag=900), RejectReason.SNACK_REJECT),
        (ScsiCommand(initiator_task_tag=NO_TAG), RejectReason.INVALID_PDU_FIELD),
        (LogoutRequest(reason_code=77, initiator_task_tag=900), RejectReason.INVALID_PDU_FIELD),
    ],
    ids=lambda value: type(value).__name__,
)
def test_ffp_14_3_a_reject_says_why_takes_a_stat_sn_and_ends_nothing(a: Host, rejected, reason):
    numbered = rejected if isinstance(rejected, SnackRequest) else rejected.replace(cmd_sn=a.cmd_sn)
    a.cmd_sn += isinstance(rejected, ScsiCommand | LogoutRequest)
    a.send(numbered)
    header = a.take_one(Reject)
    assert (header.reason, header.initiator_task_tag) == (reason, NO_TAG)
    a.send(NopOut(initiator_task_tag=901, cmd_sn=a.next_cmd_sn()))
    assert a.take_one(NopIn).stat_sn == header.stat_sn + 1


def ping(host: Host, data: bytes = b"", **fields) -> tuple[NopIn, bytes]:
    """Sends a ping and returns what comes back."""
    values = {"initiator_task_tag": 900, **fields}
    host.send(NopOut(cmd_sn=host.next_cmd_sn(immediate=bool(fields.get("immediate")))).replace(**values), data)
    [pdu] = host.take(NopIn)
    assert isinstance(pdu.header, NopIn)
    return pdu.header, pdu.data


@pytest.mark.case("FFP-15.1.1")
@pytest.mark.clause("RFC7143 11.19.1")
def test_ffp_15_1_1_an_answer_has_the_tag_of_the_ping_and_none_of_the_target(a: Host):
    header, _ = ping(a, initiator_task_tag=0xFFFFFFFE)
    assert (header.initiator_task_tag, header.target_transfer_tag, header.final) == (0xFFFFFFFE, NO_TAG, True)


@pytest.mark.case("FFP-15.1.2")
@pytest.mark.clause("RFC7143 11.18")
@pytest.mark.parametrize("length", [1, 3, 4, 5, 4096, 8192])
def test_ffp_15_1_2_an_answer_has_the_data_of_the_ping(a: Host, length: int):
    data = bytes(number % 251 for number in range(length))
    assert ping(a, data)[1] == data


@pytest.mark.case("FFP-15.1.3")
@pytest.mark.clause("RFC7143 11.18")
def test_ffp_15_1_3_a_ping_without_data_has_an_answer_without_data(a: Host):
    assert ping(a)[1] == b""


@pytest.mark.case("FFP-15.1.5")
@pytest.mark.clause("RFC7143 4.2.2.1")
@pytest.mark.parametrize("immediate", [False, True])
def test_ffp_15_1_5_a_ping_takes_a_cmd_sn_unless_it_is_immediate(a: Host, immediate: bool):
    before = a.cmd_sn
    header, _ = ping(a, immediate=immediate)
    assert header.exp_cmd_sn == before + (not immediate)


@pytest.mark.case("FFP-15.1.6")
@pytest.mark.clause("RFC7143 11.19.3")
def test_ffp_15_1_6_an_answer_has_no_lun_as_it_has_no_transfer_tag(a: Host):
    header, _ = ping(a, lun=pack_lun(1))
    assert header.lun == bytes(8)


@pytest.mark.case("FFP-15.3")
@pytest.mark.clause("RFC7143 11.19")
def test_ffp_15_3_a_nop_in_confirms_which_commands_have_come(lab: Lab, a: Host):
    lab.slow = True
    first = a.cmd_sn
    for _ in range(3):
        a.read(0)
    assert not a.received
    header, _ = ping(a, immediate=True)
    assert (header.exp_cmd_sn, header.max_cmd_sn) == (first + 3, first + WINDOW_COMMANDS - 1)
