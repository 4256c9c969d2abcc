"""Rules that concern commands, and rules that come and go. Hosts A and B (see tests/faults)."""

import pytest

from iscsi_target.faults.grammar import parse
from iscsi_target.faults.rulebook import BookError
from iscsi_target.iscsi.requests import DataOut
from iscsi_target.iscsi.responses import ReadyToTransfer
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.scsi.layouts.block_cdb import Write10
from iscsi_target.scsi.layouts.cdb import Inquiry
from iscsi_target.scsi.status import Status
from iscsi_target.target import FaultFired
from iscsi_target.target import misbehaving as module
from tests.faults import FaultLab
from tests.initiator import READY, Host
from tests.unit.scsi.unit_bench import BLOCK

ONES = bytes([1]) * BLOCK
DONE = ManagementResponse.FUNCTION_COMPLETE


@pytest.fixture
def lab() -> FaultLab:
    return FaultLab()


# Answers


@pytest.mark.parametrize("status", ["busy", "task-set-full", "reservation-conflict"])
def test_a_command_is_answered_and_not_done(lab: FaultLab, a: Host, status: str):
    lab.add(f"on scsi-command where opcode=WRITE(10), times=2: answer {status}")
    wanted = Status[status.upper().replace("-", "_")]
    assert [a.outcome(a.write(0, ONES)).status for _ in range(3)] == [wanted, wanted, 0]
    assert len(lab.performed) == 1


def test_any_sense_can_be_told(lab: FaultLab, a: Host):
    lab.add("on scsi-command where cdb.lba=7: answer sense 3/11/04")
    assert a.outcome(a.read(7)).sense == (3, 0x1104)
    assert a.outcome(a.read(6)).status == 0


def test_an_answer_waits_for_the_data_that_is_announced(lab: FaultLab):
    a = lab.session("a", offers=[("InitialR2T", "No")])
    lab.add("on scsi-command: answer busy")
    tag = a.command(Write10(transfer_length=2), write=ONES * 2, data=ONES, final=False)
    assert a.ended(tag) is None
    a.send(DataOut(final=True, initiator_task_tag=tag, buffer_offset=BLOCK), ONES)
    assert a.outcome(tag).status == Status.BUSY


def test_rules_are_for_their_lun_and_initiator(lab: FaultLab, a: Host, b: Host):
    lab.add("on scsi-command where initiator=*:a, lun=1: answer busy")
    assert a.outcome(a.command(READY, 1)).status == Status.BUSY
    assert a.outcome(a.command(READY, 0)).status == 0
    assert b.outcome(b.command(READY, 1)).status == 0


def test_the_express_way_is_closed_where_there_are_rules(lab: FaultLab, a: Host):
    lab.add("on scsi-command where opcode=READ(10), cdb.lba=1: answer busy")
    assert [a.outcome(a.read(lba)).status for lba in (0, 1, 2)] == [0, Status.BUSY, 0]


# Unit attentions


def test_a_unit_attention_is_met_by_the_command_itself(lab: FaultLab, a: Host, b: Host):
    lab.add("on scsi-command where initiator=*:a, times=1: attention 29/03")
    assert a.attention() == 0x2903
    assert a.attention() is None
    assert b.attention() is None


def test_a_unit_attention_waits_for_a_command_that_can_meet_it(lab: FaultLab, a: Host):
    lab.add("on scsi-command where opcode=INQUIRY: attention 3f/0e")
    assert a.outcome(a.command(Inquiry(allocation_length=36), read=36)).status == 0
    assert a.attention() == 0x3F0E


def test_a_unit_attention_for_a_lun_without_a_unit_is_nothing(lab: FaultLab, a: Host):
    lab.add("on scsi-command: attention 29/00")
    assert a.outcome(a.command(READY, 9)).sense == (5, 0x2500)


# Delays


def test_a_delayed_command_lets_others_pass(lab: FaultLab, a: Host):
    lab.add("on scsi-command where cdb.lba=1: delay 2s")
    slow, quick = a.write(1, ONES), a.write(0, ONES)
    assert a.outcome(quick).status == 0
    assert a.ended(slow) is None
    lab.wait(1.9)
    assert lab.block(1) == bytes(BLOCK)
    lab.wait(0.1)
    assert a.outcome(slow).status == 0
    assert lab.block(1) == ONES


def test_a_delayed_command_gets_its_data_afterwards(lab: FaultLab, a: Host):
    lab.add("on scsi-command: delay 2s")
    tag = a.command(Write10(transfer_length=2), write=ONES * 2, data=ONES)
    assert not a.received
    lab.wait(2)
    a.data_out(a.take_one(ReadyToTransfer), ONES)
    assert a.outcome(tag).status == 0
    assert (lab.block(0), lab.block(1)) == (ONES, ONES)


@pytest.mark.parametrize("function", [TaskManagement.ABORT_TASK, TaskManagement.LOGICAL_UNIT_RESET])
@pytest.mark.parametrize("action", ["delay 2s", "hang"])
def test_a_command_that_is_kept_back_can_be_aborted(lab: FaultLab, a: Host, action: str, function: TaskManagement):
    lab.add(f"on scsi-command: {action}")
    tag = a.write(0, ONES)
    assert a.managed(a.manage(function, referenced=tag)) == DONE
    lab.wait(5)
    lab.remove("1")
    assert a.ended(tag) is None
    assert lab.block(0) == bytes(BLOCK)
    a.logout()
    assert lab.clean


def test_a_command_hangs_until_the_rule_is_removed(lab: FaultLab, a: Host):
    lab.add("on scsi-command where opcode=READ(10): hang", "on scsi-command where opcode=WRITE(10): hang")
    read, write = a.read(0), a.write(0, ONES)
    lab.wait(20)
    lab.remove("2")
    assert a.outcome(write).status == 0
    assert a.ended(read) is None
    lab.remove("1")
    assert a.outcome(read).data == ONES


def test_a_rule_that_is_removed_does_nothing_to_a_command_before_its_turn(lab: FaultLab, a: Host):
    lab.add("on scsi-command: hang")
    first, second = a.next_cmd_sn(), a.next_cmd_sn()
    early = a.write(0, ONES, cmd_sn=second)
    lab.remove("1")
    a.read(0, cmd_sn=first)
    assert a.outcome(early).status == 0
    assert lab.block(0) == ONES


def test_what_is_kept_back_ends_with_its_session(lab: FaultLab, a: Host):
    lab.add("on scsi-command: delay 2s")
    a.write(0, ONES)
    a.cut()
    assert lab.clean
    lab.wait(5)
    assert lab.block(0) == bytes(BLOCK)


def test_a_tag_that_comes_again_is_another_command(lab: FaultLab, a: Host):
    lab.add("on scsi-command where nth=1: delay 2s")
    a.write(0, ONES, tag=900)
    a.abort(900)
    a.received.clear()
    a.write(1, ONES, tag=900)
    lab.wait(5)
    assert (lab.block(0), lab.block(1)) == (bytes(BLOCK), ONES)
    assert len(a.received) == 1


def test_commands_that_were_aborted_are_not_kept(lab: FaultLab, a: Host, monkeypatch):
    monkeypatch.setattr(module, "FEW_HELD", 4)
    lab.target._most_held = 4
    lab.add("on scsi-command: hang")
    for _ in range(40):
        a.abort(a.write(0, ONES))
    assert len(lab.target._held) <= 4


def test_a_command_that_had_to_wait_for_room_is_not_forgotten(lab: FaultLab, a: Host):
    lab.add("on scsi-command where opcode=READ(10): answer busy")
    lab.target.congested(a.number)
    tag = a.read(0)
    assert a.ended(tag) is None
    lab.run(lab.target.relieved(a.number, lab.now))
    assert a.outcome(tag).status == Status.BUSY


# Rules come and go


def test_a_rule_is_for_all_connections_from_now_on(lab: FaultLab, a: Host):
    assert lab.target._links[a.number].connection.tap is None
    lab.add("on scsi-command: answer busy")
    assert a.outcome(a.command(READY)).status == Status.BUSY
    b = lab.connect("b")
    b.login()
    assert b.outcome(b.command(READY)).status == Status.BUSY


def test_without_rules_there_are_no_taps(lab: FaultLab, a: Host):
    lab.add("on in: drop", "on out: drop")
    lab.remove("1")
    assert lab.target._links[a.number].connection.tap is not None
    lab.remove("2")
    assert lab.target._links[a.number].connection.tap is None
    assert not lab.target._taps


def test_taps_end_with_their_connections(lab: FaultLab, a: Host):
    lab.add("on in: stall")
    a.command(READY)
    a.cut()
    assert not lab.target._taps
    lab.remove("1")


def test_a_rule_that_is_not_there_cannot_be_removed(lab: FaultLab):
    with pytest.raises(BookError, match="no rule 'x'"):
        lab.remove("x")


def test_it_is_told_and_counted_when_a_rule_fires(lab: FaultLab, a: Host):
    lab.target.add_fault(parse("on scsi-command where opcode=READ(10), nth=2: answer busy"), "twice")
    tags = [a.read(0) for _ in range(3)]
    [fired] = lab.announced(FaultFired)
    text = "on scsi-command where opcode=READ(10), nth=2: answer busy"
    assert fired == FaultFired(a.number, "twice", text, "scsi-command", tags[1], 1)
    [report] = lab.target.faults
    assert (report.name, report.matched, report.fired) == ("twice", 3, 1)
