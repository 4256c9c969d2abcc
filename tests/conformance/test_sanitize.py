"""SANITIZE by hosts A and B on one node: LUN 0 is disk0, which is sanitized, LUN 1 is disk1 (see tests/initiator).

The unit has 1024 blocks and is sanitized in eight steps. What its handlers refuse is in tests/unit/scsi/test_sanitize.
"""

import pytest

from iscsi_target.iscsi.responses import ReadyToTransfer
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.scsi.commands.sanitize import EXIT_FAILURE_MODE, OverwriteHeader, Sanitize
from iscsi_target.scsi.layouts.block_cdb import GetLbaStatus, Read10
from iscsi_target.scsi.layouts.cdb import Inquiry, ReportSupportedOperationCodes, RequestSense
from iscsi_target.scsi.layouts.inquiry_pages import BlockDeviceCharacteristics, VpdHeader
from iscsi_target.scsi.layouts.pages import LbaStatusDescriptor, LbaStatusHeader, OneCommandHeader
from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.state.sanitization import Method
from iscsi_target.scsi.status import Status
from iscsi_target.target import SanitizeNoted
from tests.initiator import READY, Ended, Host, Lab
from tests.unit.scsi.unit_bench import BLOCK, BLOCKS

STEPS = 8
ONES = bytes([1]) * BLOCK
IN_PROGRESS = Ended(Status.CHECK_CONDITION, (2, 0x041B), b"")
FAILED = Ended(Status.CHECK_CONDITION, (3, 0x3103), b"")
FUNCTIONS = [
    TaskManagement.ABORT_TASK,
    TaskManagement.ABORT_TASK_SET,
    TaskManagement.CLEAR_TASK_SET,
    TaskManagement.LOGICAL_UNIT_RESET,
    TaskManagement.TARGET_WARM_RESET,
]


@pytest.fixture
def lab() -> Lab:
    made = Lab()
    for lba in (0, BLOCKS - 1):
        made.stores["disk0"].write(lba * BLOCK, ONES)
        made.stores["disk1"].write(lba * BLOCK, ONES)
    made.slow = True
    return made


def sanitize(lab: Lab, host: Host, action: int = Method.BLOCK_ERASE, **bits: bool) -> int:
    """Sends SANITIZE, and has stored what it begins."""
    tag = host.command(Sanitize(service_action=action, **bits))
    lab.persist()
    return tag


def complete(lab: Lab) -> None:
    lab.finish_all()
    while lab.saving:
        lab.persist()


def readiness(host: Host, lun: int = 0) -> Ended:
    return host.outcome(host.command(READY, lun))


@pytest.mark.clause("SBC3r36 4.11.1")
@pytest.mark.parametrize("method", [Method.BLOCK_ERASE, Method.CRYPTOGRAPHIC_ERASE])
def test_what_the_unit_had_is_gone_and_the_other_unit_keeps_it(lab: Lab, a: Host, method: Method):
    tag = sanitize(lab, a, method)
    assert a.ended(tag) is None
    complete(lab)
    assert a.outcome(tag).status == Status.GOOD
    assert lab.stores["disk0"].read(0, BLOCK * BLOCKS) == bytes(BLOCK * BLOCKS)
    assert lab.block(0, "disk1") == ONES


@pytest.mark.clause("SBC3r36 5.24.2.2")
def test_the_list_of_an_overwrite_is_asked_for_and_its_pattern_is_read_afterwards(lab: Lab, a: Host):
    pattern = bytes(range(256))
    data = OverwriteHeader(overwrite_count=2, invert=True, initialization_pattern_length=len(pattern)).pack() + pattern
    cdb = Sanitize(service_action=Method.OVERWRITE, parameter_list_length=len(data))
    tag = a.command(cdb, write=data)
    [asked] = [pdu.header for pdu in a.received if isinstance(pdu.header, ReadyToTransfer)]
    a.data_out(asked, data)
    lab.persist()
    assert a.ended(tag) is None
    lab.slow = False
    complete(lab)
    assert a.outcome(tag).status == Status.GOOD
    assert a.outcome(a.command(Read10(lba=7, transfer_length=1), read=BLOCK)).data == pattern * 2


@pytest.mark.clause("SBC3r36 4.11.3")
def test_all_blocks_of_a_thin_unit_are_deallocated(lab: Lab, a: Host):
    sanitize(lab, a)
    lab.slow = False
    complete(lab)
    data = a.outcome(a.command(GetLbaStatus(allocation_length=255), read=255)).data
    assert len(data) == LbaStatusHeader.size + LbaStatusDescriptor.size
    status = LbaStatusDescriptor.unpack(data, LbaStatusHeader.size)
    assert (status.lba, status.number_of_logical_blocks, status.provisioning_status) == (0, BLOCKS, 1)


@pytest.mark.clause("SBC3r36 6.5.2")
def test_a_block_that_was_erased_can_be_read_as_page_b1_says(lab: Lab, a: Host):
    sanitize(lab, a)
    lab.slow = False
    complete(lab)
    data = a.outcome(a.command(Inquiry(evpd=True, page_code=0xB1, allocation_length=255), read=255)).data
    page = BlockDeviceCharacteristics.unpack(data, VpdHeader.size)
    assert (page.wabereq, page.wacereq) == (1, 1)
    assert a.outcome(a.read(0)) == Ended(Status.GOOD, None, bytes(BLOCK))


@pytest.mark.clause("SPC4r37 6.35.3")
@pytest.mark.parametrize(
    ("action", "usage"),
    [
        (Method.OVERWRITE, "48a10000000000ffff04"),
        (Method.BLOCK_ERASE, "48a20000000000000004"),
        (Method.CRYPTOGRAPHIC_ERASE, "48a30000000000000004"),
        (EXIT_FAILURE_MODE, "48bf0000000000000004"),
    ],
)
def test_report_supported_operation_codes_has_what_is_evaluated(a: Host, action: int, usage: str):
    cdb = ReportSupportedOperationCodes(
        reporting_options=2,
        requested_operation_code=0x48,
        requested_service_action=action,
        allocation_length=64,
    )
    data = a.outcome(a.command(cdb, read=64)).data
    assert OneCommandHeader.unpack(data).support == 3
    assert data[OneCommandHeader.size :].hex() == usage


@pytest.mark.clause("SBC3r36 4.11.2")
def test_both_hosts_see_how_far_it_is(lab: Lab, a: Host, b: Host):
    sanitize(lab, a, immed=True)
    seen = []
    for _ in range(STEPS):
        assert readiness(a) == readiness(b) == IN_PROGRESS
        assert b.outcome(b.read(0)) == IN_PROGRESS
        data = b.outcome(b.command(RequestSense(allocation_length=18), read=18)).data
        assert (data[2], data[12:14], data[15]) == (2, b"\x04\x1b", 0x80)
        seen.append(int.from_bytes(data[16:18]))
        lab.finish()
    assert seen == [0x2000 * number for number in range(STEPS)]
    lab.persist()
    assert readiness(b).status == Status.GOOD


@pytest.mark.clause("SBC3r36 4.11.2")
def test_the_other_unit_is_used_meanwhile(lab: Lab, a: Host):
    sanitize(lab, a, immed=True)
    assert readiness(a, lun=1).status == Status.GOOD


@pytest.mark.clause("SBC3r36 4.11.2")
def test_no_task_is_left_by_a_command_that_was_to_send_data(lab: Lab, a: Host, b: Host):
    waiting = b.ask_to_write(0)
    sanitize(lab, a, immed=True)
    assert b.ended(waiting) is None  # the response follows the data that was asked for
    [asked] = [pdu.header for pdu in b.received if isinstance(pdu.header, ReadyToTransfer)]
    b.data_out(asked, ONES)
    assert b.outcome(waiting) == IN_PROGRESS
    complete(lab)
    assert lab.block(0) == bytes(BLOCK)
    assert [session.open_tasks for session in lab.target.sessions()] == [0, 0]


@pytest.mark.clause("SBC3r36 4.11.2")
@pytest.mark.parametrize("function", FUNCTIONS)
def test_task_management_takes_the_command_and_not_the_operation(lab: Lab, a: Host, function: TaskManagement):
    tag = sanitize(lab, a)
    lab.finish()
    answered = a.manage(function, referenced=tag)
    assert a.managed(answered) == ManagementResponse.FUNCTION_COMPLETE
    if function in (TaskManagement.LOGICAL_UNIT_RESET, TaskManagement.TARGET_WARM_RESET):
        assert a.attention() in (0x2903, 0x2902)
    assert readiness(a) == IN_PROGRESS
    complete(lab)
    assert a.ended(tag) is None
    assert readiness(a).status == Status.GOOD
    assert lab.block(0) == bytes(BLOCK)


@pytest.mark.clause("SBC3r36 4.11.2")
def test_it_goes_on_through_a_cold_reset_and_without_any_session(lab: Lab, a: Host, b: Host):
    sanitize(lab, a)
    a.manage(TaskManagement.TARGET_COLD_RESET)
    b.cut()
    assert not lab.target.sessions()
    lab.finish()
    again = lab.session("a")
    assert readiness(again) == IN_PROGRESS
    complete(lab)
    assert readiness(again).status == Status.GOOD
    assert lab.block(0) == bytes(BLOCK)
    assert [noted.initiator for noted in lab.announced(SanitizeNoted)] == ["iqn.2026-01.org.example:a", ""]


@pytest.mark.clause("SBC3r36 4.11.2")
def test_a_login_meanwhile_is_no_matter(lab: Lab, a: Host):
    sanitize(lab, a, immed=True)
    late = lab.session("c")
    assert readiness(late) == IN_PROGRESS
    assert late.outcome(late.command(Inquiry(allocation_length=36), read=36)).status == Status.GOOD


@pytest.mark.clause("SBC3r36 4.11.3")
def test_a_medium_that_fails_leaves_a_unit_that_refuses_until_it_is_sanitized(lab: Lab, a: Host, b: Host):
    tag = sanitize(lab, a)
    lab.finish(error=MediumError(Fault.WRITE_FAILED, 0))
    lab.persist()
    assert a.outcome(tag) == FAILED
    assert readiness(b) == FAILED
    assert b.outcome(b.command(Sanitize(service_action=EXIT_FAILURE_MODE))).sense == (5, 0x2400)
    mended = sanitize(lab, b, Method.CRYPTOGRAPHIC_ERASE)
    complete(lab)
    assert b.outcome(mended).status == Status.GOOD
    assert readiness(a).status == Status.GOOD


@pytest.mark.clause("SBC3r36 5.24.2.5")
def test_with_ause_a_host_may_take_what_is_left(lab: Lab, a: Host, b: Host):
    sanitize(lab, a, ause=True)
    lab.finish(error=MediumError(Fault.WRITE_FAILED, 0))
    lab.persist()
    tag = sanitize(lab, b, EXIT_FAILURE_MODE)
    assert b.outcome(tag).status == Status.GOOD
    lab.slow = False
    assert a.outcome(a.read(0)) == Ended(Status.GOOD, None, ONES)


@pytest.mark.clause("SAM5r21 5.14")
def test_it_gives_nobody_a_unit_attention(lab: Lab, a: Host, b: Host):
    sanitize(lab, a)
    complete(lab)
    assert a.attention() is None
    assert b.attention() is None
