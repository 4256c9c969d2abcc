"""Error recovery at level 0: titles 12 and 18 of the full feature phase, and all of the error recovery suite.

Nothing that is lost is sent again at this level: what cannot go on ends the connection, and with it its tasks. Host A,
disk0 is LUN 0 (see tests/initiator).
"""

import pytest

from iscsi_target.iscsi.errors import RejectReason
from iscsi_target.iscsi.framing import Buffer
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import DataOut, ScsiCommand, SnackRequest
from iscsi_target.iscsi.responses import DataIn, LogoutResponse, ReadyToTransfer, Reject
from iscsi_target.iscsi.service_requests import LOGOUT_RECOVERY, LOGOUT_RECOVERY_NOT_SUPPORTED
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.iscsi.text import Pair
from iscsi_target.scsi.layouts.block_cdb import Read10, Write10
from tests.initiator import Host, Lab
from tests.unit.scsi.unit_bench import BLOCK

ONES = bytes([1]) * BLOCK
DATA_OR_R2T, STATUS = 0, 1  # types of SNACK
DIGESTS: list[Pair] = [("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")]
NOT_SUPPORTED = ManagementResponse.REASSIGNMENT_NOT_SUPPORTED


@pytest.fixture
def lab() -> Lab:
    return Lab()


def is_refused(host: Host, snack: SnackRequest) -> bool:
    """Sends a SNACK and says whether a Reject is all that comes of it."""
    host.received.clear()
    host.send(snack)
    [pdu] = host.received
    return isinstance(pdu.header, Reject) and pdu.header.reason == RejectReason.SNACK_REJECT and not host.closed


def read(lab: Lab) -> Host:
    """Returns a host that has read four blocks in four PDUs."""
    a = lab.session(offers=[("MaxRecvDataSegmentLength", "512")])
    a.command(Read10(transfer_length=4), read=4 * BLOCK, tag=77)
    assert len(a.take(DataIn)) == 4
    return a


@pytest.mark.case("ERT-3.1")
@pytest.mark.case("FFP-12.1")
@pytest.mark.clause("RFC7143 11.16")
def test_ert_3_1_an_r2t_is_not_sent_again_and_the_first_one_holds(lab: Lab, a: Host):
    tag = a.ask_to_write(0)
    asked = a.take_one(ReadyToTransfer)
    assert is_refused(a, SnackRequest(kind=DATA_OR_R2T, initiator_task_tag=tag, run_length=1))
    a.data_out(asked, ONES)
    assert a.outcome(tag).status == 0
    assert lab.block(0) == ONES


@pytest.mark.case("ERT-3.2")
@pytest.mark.case("FFP-12.2")
@pytest.mark.clause("RFC7143 11.16")
def test_ert_3_2_one_data_in_pdu_is_not_sent_again(lab: Lab):
    assert is_refused(read(lab), SnackRequest(kind=DATA_OR_R2T, initiator_task_tag=77, begin_run=1, run_length=1))


@pytest.mark.case("ERT-3.3")
@pytest.mark.case("FFP-12.3")
@pytest.mark.clause("RFC7143 11.16")
def test_ert_3_3_a_run_of_data_in_pdus_is_not_sent_again(lab: Lab):
    assert is_refused(read(lab), SnackRequest(kind=DATA_OR_R2T, initiator_task_tag=77, begin_run=1, run_length=2))


@pytest.mark.case("ERT-3.4")
@pytest.mark.clause("RFC7143 11.16")
def test_ert_3_4_all_data_in_pdus_of_a_command_are_not_sent_again(lab: Lab):
    assert is_refused(read(lab), SnackRequest(kind=DATA_OR_R2T, initiator_task_tag=77))


@pytest.mark.case("ERT-3.5")
@pytest.mark.case("FFP-12.4")
@pytest.mark.clause("RFC7143 11.16")
def test_ert_3_5_a_status_is_not_sent_again(lab: Lab, a: Host):
    a.attention()
    assert is_refused(a, SnackRequest(kind=STATUS, initiator_task_tag=NO_TAG, begin_run=1, run_length=1))


@pytest.mark.case("ERT-2.1")
@pytest.mark.clause("RFC7143 11.15.1")
def test_ert_2_1_a_write_cannot_be_taken_to_another_connection_and_goes_on_where_it_is(lab: Lab, a: Host):
    tag = a.ask_to_write(0)
    asked = a.take_one(ReadyToTransfer)
    a.logout(LOGOUT_RECOVERY)
    assert a.take_one(LogoutResponse).response == LOGOUT_RECOVERY_NOT_SUPPORTED
    a.data_out(asked, ONES)
    assert a.outcome(tag).status == 0
    assert lab.block(0) == ONES


@pytest.mark.case("ERT-2.3")
@pytest.mark.clause("RFC7143 11.15.1")
def test_ert_2_3_a_read_cannot_be_taken_to_another_connection_and_goes_on_where_it_is(lab: Lab, a: Host):
    lab.slow = True
    tag = a.read(0)
    a.logout(LOGOUT_RECOVERY)
    assert a.take_one(LogoutResponse).response == LOGOUT_RECOVERY_NOT_SUPPORTED
    lab.finish_all()
    assert a.outcome(tag).data == bytes(BLOCK)


@pytest.mark.case("ERT-2.4")
@pytest.mark.clause("RFC7143 6.3.4")
def test_ert_2_4_an_implicit_logout_ends_the_tasks_and_leaves_none_to_reassign(lab: Lab, a: Host):
    tag = a.ask_to_write(0)
    anew = lab.connect("a")
    anew.cmd_sn = a.cmd_sn
    anew.login(tsih=a.tsih)
    assert a.closed
    assert anew.logged_in
    assert lab.target.sessions()[0].open_tasks == 0
    anew.received.clear()
    assert anew.managed(anew.manage(TaskManagement.TASK_REASSIGN, referenced=tag)) == NOT_SUPPORTED
    assert [type(pdu.header).__name__ for pdu in anew.received] == ["TaskManagementResponse"]


# Digests


def spoilt(sent: bytes, place: int) -> Buffer:
    """Returns a PDU with one bit of it changed."""
    changed = bytearray(sent)
    changed[place] ^= 1
    return changed


def command(host: Host) -> ScsiCommand:
    """Returns a write of one block."""
    return ScsiCommand(
        write=True,
        attributes=1,
        initiator_task_tag=host.next_tag(),
        expected_data_transfer_length=BLOCK,
        cmd_sn=host.next_cmd_sn(),
        cdb=Write10(transfer_length=1).pack().ljust(16, b"\0"),
    )


@pytest.mark.case("FFP-18.1.1")
@pytest.mark.clause("RFC7143 7.8")
@pytest.mark.parametrize("place", [20, 48], ids=["in the header", "in its digest"])
def test_ffp_18_1_1_a_wrong_header_digest_ends_the_connection_as_no_field_can_be_trusted(lab: Lab, place: int):
    a = lab.session(offers=DIGESTS)
    a.feed(spoilt(a.pack(command(a), ONES), place))
    assert a.closed
    assert not a.received
    assert not lab.performed
    assert lab.clean


@pytest.mark.case("ERT-1.2")
@pytest.mark.clause("RFC7143 7.1.4.4")
def test_ert_1_2_after_a_digest_error_the_command_is_done_once_in_a_session_that_begins_anew(lab: Lab):
    a = lab.session(offers=DIGESTS)
    a.feed(spoilt(a.pack(command(a), ONES), 48))
    anew = lab.session(offers=DIGESTS)
    assert anew.outcome(anew.write(0, ONES)).status == 0
    assert (len(lab.performed), lab.block(0)) == (1, ONES)


@pytest.mark.case("FFP-18.2.1")
@pytest.mark.clause("RFC7143 7.8")
def test_ffp_18_2_1_a_command_with_a_wrong_data_digest_is_rejected_and_the_connection_ends(lab: Lab):
    a = lab.session(offers=DIGESTS)
    sent = a.pack(command(a), ONES)
    a.feed(spoilt(sent, 60))
    [pdu] = a.received
    assert isinstance(pdu.header, Reject)
    assert (pdu.header.reason, pdu.data) == (RejectReason.DATA_DIGEST_ERROR, sent[:48])
    assert a.closed
    assert not lab.performed
    assert lab.clean


@pytest.mark.case("FFP-18.2.2")
@pytest.mark.clause("RFC7143 7.8")
def test_ffp_18_2_2_data_with_a_wrong_digest_is_rejected_and_never_written(lab: Lab):
    a = lab.session(offers=DIGESTS)
    tag = a.ask_to_write(0)
    asked = a.take_one(ReadyToTransfer)
    header = DataOut(final=True, initiator_task_tag=tag, target_transfer_tag=asked.target_transfer_tag)
    a.feed(spoilt(a.pack(header, ONES), 60))
    assert a.take_one(Reject).reason == RejectReason.DATA_DIGEST_ERROR
    assert a.closed
    assert lab.block(0) == bytes(BLOCK)
    assert lab.clean
