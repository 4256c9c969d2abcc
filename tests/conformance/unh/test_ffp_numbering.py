"""Titles 4.1 to 6.1 of the full feature phase: R2TSN, retries and allegiance. Host A (see tests/initiator)."""

import pytest

from iscsi_target.iscsi.requests import ScsiCommand
from iscsi_target.iscsi.responses import DataIn, ReadyToTransfer
from iscsi_target.scsi.layouts.block_cdb import Read10
from tests.initiator import Host, Lab
from tests.unit.scsi.unit_bench import BLOCK

ONES, TWOS = bytes([1]) * BLOCK, bytes([2]) * BLOCK


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.mark.case("FFP-4.1")
@pytest.mark.clause("RFC7143 11.8.1")
def test_ffp_4_1_r2t_sn_counts_from_zero_for_each_command(lab: Lab):
    a = lab.session(offers=[("MaxBurstLength", "512"), ("MaxOutstandingR2T", "4")])
    for _ in range(2):
        a.ask_to_write(0, blocks=3)
        asked = [pdu.header for pdu in a.take(ReadyToTransfer)]
        assert [header.r2t_sn for header in asked if isinstance(header, ReadyToTransfer)] == [0, 1, 2]


@pytest.mark.case("FFP-5.1")
@pytest.mark.case("ERT-1.1")
@pytest.mark.clause("RFC7143 7.2.1")
def test_ffp_5_1_command_that_is_sent_again_is_done_once(lab: Lab, a: Host):
    lab.slow = True
    cmd_sn = a.cmd_sn
    tag = a.write(0, ONES)
    a.write(0, ONES, tag=tag, cmd_sn=cmd_sn)
    lab.finish_all()
    assert a.outcome(tag).status == 0
    a.write(0, TWOS, tag=tag, cmd_sn=cmd_sn)  # and still later
    assert (len(lab.performed), lab.block(0)) == (1, ONES)
    assert a.outcome(tag).status == 0


@pytest.mark.case("FFP-6.1")
@pytest.mark.clause("RFC7143 4.2.5.1")
def test_ffp_6_1_all_of_a_command_travels_on_the_connection_that_it_came_on(lab: Lab):
    a = lab.session(offers=[("MaxConnections", "2")])
    other = a.join(1)
    other.received.clear()
    lab.slow = True
    written, read = a.ask_to_write(0), other.read(1)
    lab.finish_all()
    assert [type(pdu.header) for pdu in other.received] == [DataIn]
    assert other.outcome(read).data == bytes(BLOCK)
    other.received.clear()
    a.data_out(a.take_one(ReadyToTransfer), ONES)
    lab.finish_all()
    assert a.outcome(written).status == 0
    assert not other.received


@pytest.mark.case("FFP-16.4.1")
@pytest.mark.clause("RFC7143 7.2.1")
def test_ffp_16_4_1_write_that_is_sent_again_is_asked_for_its_data_once(a: Host):
    cmd_sn = a.cmd_sn
    tag = a.ask_to_write(0)
    asked = a.take_one(ReadyToTransfer)
    a.ask_to_write(0, tag=tag, cmd_sn=cmd_sn)
    assert not a.received
    a.data_out(asked, ONES)
    assert a.outcome(tag).status == 0


@pytest.mark.case("FFP-16.4.2")
@pytest.mark.clause("RFC7143 7.2.1")
@pytest.mark.parametrize("late", [False, True], ids=["while it runs", "when it is over"])
def test_ffp_16_4_2_read_that_is_sent_again_is_answered_once(lab: Lab, a: Host, late: bool):
    lab.slow = True
    header = ScsiCommand(
        read=True,
        initiator_task_tag=a.next_tag(),
        expected_data_transfer_length=BLOCK,
        cmd_sn=a.next_cmd_sn(),
        cdb=Read10(transfer_length=1).pack().ljust(16, b"\0"),
    )
    a.send(header)
    if late:
        lab.finish_all()
    a.send(header)
    lab.finish_all()
    assert len(a.take(DataIn)) == 1
    assert len(lab.performed) == 1
