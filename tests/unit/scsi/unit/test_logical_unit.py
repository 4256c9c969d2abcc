"""Tasks of one logical unit from admission to status. Nodes A and B; port P; unit 0 (see unit_bench)."""

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.block_cdb import (
    PreventAllowMediumRemoval,
    Read10,
    StartStopUnit,
    SynchronizeCache10,
    Write10,
)
from iscsi_target.scsi.layouts.cdb import Inquiry, Release6, ReportLuns, RequestSense, Reserve6
from iscsi_target.scsi.layouts.mode_pages import CachingPage, ControlPage
from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.state.task import Aborted, Collect, Completed, Function, Perform, Persist, TaskAttribute
from iscsi_target.scsi.status import Status
from iscsi_target.scsi.unit import task_set
from iscsi_target.wire.layout import U8, U32, Layout
from tests.unit.scsi.unit_bench import BLOCK, BLOCKS, READY, A, B, Bench

ORDERED, HEAD = TaskAttribute.ORDERED, TaskAttribute.HEAD_OF_QUEUE
MODE_CHANGED = AttentionCode.MODE_PARAMETERS_CHANGED


class Nonsense(Layout):
    """A CDB with an operation code that nobody has."""

    operation_code: U8 = 0xFF
    _1: U32 = 0
    control: U8 = 0


@pytest.fixture
def bench() -> Bench:
    return Bench()


# Data


@pytest.mark.clause("SAM5r21 5.1")
def test_a_read_performs_and_returns_its_data(bench: Bench):
    bench.memory.content[BLOCK : 2 * BLOCK] = b"r" * BLOCK
    task = bench.read(A, 1)
    assert [type(action) for action in bench.actions] == [Perform]
    bench.perform()
    assert bench.outcome(task) == Completed(task, Status.GOOD, data_in=b"r" * BLOCK)
    assert bench.unit.open_tasks == 0


@pytest.mark.clause("SAM5r21 5.4.3")
def test_a_write_collects_its_data_first(bench: Bench):
    task = bench.send(A, Write10(lba=2, transfer_length=3), expects_data=True)
    assert bench.actions == [Collect(task, 3 * BLOCK)]
    assert bench.unit.open_tasks == 1
    bench.give(task, b"w" * 3 * BLOCK)
    bench.perform()
    assert bench.outcome(task) == Completed(task, Status.GOOD, wanted=3 * BLOCK)
    assert bench.memory.read(2 * BLOCK, 3 * BLOCK) == b"w" * 3 * BLOCK


def test_a_write_without_data_out_does_not_collect(bench: Bench):
    task = bench.send(A, Write10(lba=0, transfer_length=1))
    assert not bench.collects
    while bench.at_medium:
        bench.perform()
    end = bench.outcome(task)
    assert isinstance(end, Completed)
    assert end.wanted == BLOCK


def test_a_bad_cdb_ends_without_collecting(bench: Bench):
    task = bench.send(A, Write10(lba=0, transfer_length=1, control=1), expects_data=True)
    assert bench.sense(task) == (5, 0x2400)
    assert not bench.collects
    assert bench.unit.open_tasks == 0


def test_a_write_of_more_than_the_limit_does_not_collect(bench: Bench):
    task = bench.send(A, Write10(lba=0, transfer_length=257), expects_data=True)
    assert bench.sense(task) == (5, 0x2400)
    assert not bench.collects


def test_a_write_beyond_the_end_never_goes_to_the_medium(bench: Bench):
    task = bench.write(A, BLOCKS)
    assert bench.sense(task) == (5, 0x2100)
    assert not bench.at_medium


def test_an_unknown_operation_code_is_refused(bench: Bench):
    assert bench.sense(bench.send(A, Nonsense())) == (5, 0x2000)


@pytest.mark.clause("SAM5r21 8.6.5")
def test_the_aca_attribute_without_aca_is_refused(bench: Bench):
    assert bench.sense(bench.send(A, READY, TaskAttribute.ACA)) == (5, 0x4900)


# Order


@pytest.mark.clause("SAM5r21 8.6.3")
def test_an_ordered_task_waits_for_data_that_an_older_task_waits_for(bench: Bench):
    older = bench.send(A, Write10(lba=0, transfer_length=1), expects_data=True)
    ordered = bench.send(B, READY, ORDERED)
    assert bench.outcome(ordered) is None
    bench.give(older, bytes(BLOCK))
    assert bench.outcome(ordered) is None
    bench.perform()
    assert bench.status(ordered) is Status.GOOD


def test_a_dormant_task_collects_its_data_already(bench: Bench):
    bench.read(A, 0)
    dormant = bench.write(B, 1, attribute=ORDERED)
    assert [collect.task for collect in bench.collects] == [dormant]
    assert len(bench.at_medium) == 1
    bench.perform()
    assert len(bench.at_medium) == 1


def test_head_of_queue_starts_before_dormant_tasks(bench: Bench):
    bench.read(A, 0)
    ordered = bench.send(A, READY, ORDERED)
    head = bench.send(B, READY, HEAD)
    assert bench.status(head) is Status.GOOD
    assert bench.outcome(ordered) is None


def test_independent_operations_are_at_the_medium_together(bench: Bench):
    bench.write(A, 0), bench.write(B, 1), bench.read(A, 2)
    assert len(bench.at_medium) == 3


@pytest.mark.clause("SBC3r36 5.2")
def test_of_two_compare_and_writes_one_wins(bench: Bench):
    first, second = bench.compare_and_write(A, 5, 0, 1), bench.compare_and_write(B, 5, 0, 2)
    assert len(bench.at_medium) == 1
    bench.perform(), bench.perform()
    assert bench.status(first) is Status.GOOD
    assert bench.sense(second) == (0xE, 0x1D00)
    assert bench.memory.content[5 * BLOCK] == 1


def test_a_full_task_set_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(task_set, "MAX_TASKS_PER_NEXUS", 1)
    bench.read(A, 0)
    task = bench.read(A, 1)
    assert bench.status(task) is Status.TASK_SET_FULL
    assert bench.outcome(bench.read(B, 1)) is None


# Failures of the medium


def test_a_medium_error_becomes_sense_data_with_the_lba(bench: Bench):
    task = bench.read(A, 9)
    bench.perform(error=MediumError(Fault.READ_FAILED, 9 * BLOCK))
    end = bench.outcome(task)
    assert isinstance(end, Completed)
    assert bench.sense(task) == (3, 0x1100)
    assert end.sense[:7] == bytes.fromhex("f0 00 03 00000009")


def test_a_failed_operation_lets_the_next_one_go(bench: Bench):
    bench.write(A, 0), bench.write(B, 0)
    bench.perform(error=MediumError(Fault.NO_SPACE))
    assert len(bench.at_medium) == 1


@pytest.mark.clause("SPC4r37 7.5.8")
def test_sense_data_has_the_format_that_d_sense_says(bench: Bench):
    bench.select(A, ControlPage(ps=False, d_sense=True).pack())
    task = bench.send(A, Nonsense())
    end = bench.outcome(task)
    assert isinstance(end, Completed)
    assert end.sense[:4] == bytes.fromhex("72 05 20 00")


# Unit attentions


@pytest.mark.clause("SAM5r21 6.3.1")
def test_the_first_command_learns_of_the_power_on():
    bench = Bench(quiet=False)
    assert bench.attention(A) == AttentionCode.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED
    assert bench.attention(A) is None
    assert bench.attention(B) == AttentionCode.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED


@pytest.mark.clause("SAM5r21 6.3.4")
def test_a_nexus_that_returns_learns_of_its_loss(bench: Bench):
    bench.unit.detach(A)
    bench.unit.attach(A)
    assert bench.attention(A) == AttentionCode.I_T_NEXUS_LOSS_OCCURRED


@pytest.mark.clause("SAM5r21 5.14")
def test_inquiry_and_report_luns_leave_the_attention_pending():
    bench = Bench(quiet=False)
    assert bench.status(bench.send(A, Inquiry(allocation_length=36))) is Status.GOOD
    assert bench.status(bench.send(A, ReportLuns(allocation_length=16))) is Status.GOOD
    assert bench.attention(A) == AttentionCode.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED


@pytest.mark.clause("SPC4r37 6.33")
def test_report_luns_clears_reported_luns_data_has_changed(bench: Bench):
    bench.unit.nexuses.establish(AttentionCode.REPORTED_LUNS_DATA_HAS_CHANGED)
    bench.send(A, ReportLuns(allocation_length=16))
    assert bench.attention(A) is None
    assert bench.attention(B) == AttentionCode.REPORTED_LUNS_DATA_HAS_CHANGED


def test_a_refused_report_luns_clears_nothing(bench: Bench):
    bench.unit.nexuses.establish(AttentionCode.REPORTED_LUNS_DATA_HAS_CHANGED)
    bench.send(A, ReportLuns(select_report=0xFF, allocation_length=16))
    assert bench.attention(A) == AttentionCode.REPORTED_LUNS_DATA_HAS_CHANGED


@pytest.mark.clause("SPC4r37 6.39")
@pytest.mark.parametrize("desc, start", [(False, "70 00 06"), (True, "72 06 29 00")])
def test_request_sense_returns_an_attention_as_data(desc: bool, start: str):
    bench = Bench(quiet=False)
    task = bench.send(A, RequestSense(desc=desc, allocation_length=18))
    end = bench.outcome(task)
    assert isinstance(end, Completed)
    assert end.status is Status.GOOD
    assert bytes(end.data_in).startswith(bytes.fromhex(start))
    assert bench.attention(A) is None


def test_request_sense_data_is_cut_to_the_allocation_length():
    bench = Bench(quiet=False)
    task = bench.send(A, RequestSense(allocation_length=4))
    end = bench.outcome(task)
    assert isinstance(end, Completed)
    assert len(end.data_in) == 4


def test_an_attention_comes_before_a_bad_cdb():
    bench = Bench(quiet=False)
    assert bench.sense(bench.send(A, Nonsense())) == (6, AttentionCode.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED)
    assert bench.sense(bench.send(A, Nonsense())) == (5, 0x2000)


def test_an_attention_stops_a_write_before_the_medium(bench: Bench):
    bench.unit.nexuses.establish(AttentionCode.CAPACITY_DATA_HAS_CHANGED)
    task = bench.write(A, 0)
    assert bench.sense(task) == (6, AttentionCode.CAPACITY_DATA_HAS_CHANGED)
    assert not bench.at_medium


@pytest.mark.clause("SBC3r36 4.10")
def test_a_resized_unit_tells_everybody_and_has_the_new_size(bench: Bench):
    bench.unit.resize(2 * BLOCKS)
    assert bench.attention(A) == AttentionCode.CAPACITY_DATA_HAS_CHANGED
    assert bench.attention(B) == AttentionCode.CAPACITY_DATA_HAS_CHANGED
    assert bench.device.geometry.length_blocks == 2 * BLOCKS


def test_an_attention_can_be_for_one_nexus_and_be_withdrawn(bench: Bench):
    bench.unit.nexuses.establish_for(A, MODE_CHANGED)
    bench.unit.nexuses.establish_for(B, MODE_CHANGED)
    bench.unit.nexuses.withdraw(B, MODE_CHANGED)
    assert bench.attention(A) == MODE_CHANGED
    assert bench.attention(B) is None


@pytest.mark.clause("SPC4r37 6.11")
def test_mode_select_tells_the_others_only(bench: Bench):
    bench.select(A, ControlPage(ps=False, swp=True).pack())
    assert bench.attention(A) is None
    assert bench.attention(B) == MODE_CHANGED


# Reservation and medium


@pytest.mark.clause("SBC3r36 6.4.5")
def test_switching_the_write_cache_off_is_told_at_once_and_over_after_the_flush(bench: Bench):
    task = bench.select(A, CachingPage(wce=False).pack(), save=True)
    bench.persist()
    assert not bench.device.write_cache
    assert bench.attention(B) == MODE_CHANGED
    bench.manage(Function.ABORT_TASK, A, task.tag)
    assert bench.managed == []
    bench.perform()
    assert isinstance(bench.outcome(task), Aborted)
    assert bench.attention(B) is None


@pytest.mark.clause("SPC2r20 5.5.1")
def test_reserve_shuts_out_the_others_until_release(bench: Bench):
    assert bench.status(bench.send(A, Reserve6())) is Status.GOOD
    assert bench.status(bench.write(B, 0)) is Status.RESERVATION_CONFLICT
    assert bench.status(bench.send(B, Inquiry(allocation_length=36))) is Status.GOOD
    assert bench.status(bench.send(B, Release6())) is Status.GOOD
    assert bench.status(bench.read(B, 0)) is Status.RESERVATION_CONFLICT
    assert bench.status(bench.send(A, Release6())) is Status.GOOD
    assert bench.outcome(bench.read(B, 0)) is None


@pytest.mark.clause("SAM5r21 5.3.3")
def test_the_attention_of_a_reset_or_a_lost_nexus_comes_before_a_reservation_conflict(bench: Bench):
    bench.unit.detach(B)
    bench.unit.attach(B)
    bench.send(A, Reserve6())
    assert bench.sense(bench.read(B, 0)) == (6, AttentionCode.I_T_NEXUS_LOSS_OCCURRED)
    assert bench.status(bench.read(B, 0)) is Status.RESERVATION_CONFLICT


@pytest.mark.clause("SAM5r21 5.3.3")
def test_any_other_attention_waits_while_a_reservation_excludes_the_nexus(bench: Bench):
    bench.send(A, Reserve6())
    bench.unit.nexuses.establish(MODE_CHANGED, except_nexus=A)
    assert bench.status(bench.read(B, 0)) is Status.RESERVATION_CONFLICT
    bench.send(A, Release6())
    assert bench.sense(bench.read(B, 0)) == (6, MODE_CHANGED)


def test_a_lost_nexus_reserves_and_prevents_no_longer():
    bench = Bench(removable=True)
    bench.send(A, Reserve6())
    bench.send(A, PreventAllowMediumRemoval(prevent=1))
    bench.unit.detach(A)
    assert bench.device.preventing == set()
    assert bench.status(bench.send(B, Reserve6())) is Status.GOOD


def test_a_stopped_unit_wants_to_be_started(bench: Bench):
    bench.send(A, StartStopUnit(start=False))
    bench.perform()
    assert bench.sense(bench.read(A, 0)) == (2, 0x0402)
    bench.send(A, StartStopUnit(start=True))
    assert bench.outcome(bench.read(A, 0)) is None


def test_an_ejected_medium_is_not_present():
    bench = Bench(removable=True)
    bench.send(A, StartStopUnit(start=False, loej=True))
    bench.perform()
    assert bench.sense(bench.read(A, 0)) == (2, 0x3A00)


def test_synchronize_cache_waits_for_no_write(bench: Bench):
    bench.write(A, 0)
    bench.send(B, SynchronizeCache10())
    assert len(bench.at_medium) == 2


# Saving


@pytest.mark.clause("SPC4r37 6.11")
def test_a_saved_page_holds_once_it_is_on_disk(bench: Bench):
    task = bench.select(A, ControlPage(ps=False, swp=True).pack(), save=True)
    assert isinstance(bench.actions[-1], Persist)
    assert not bench.device.software_write_protect
    bench.persist()
    assert bench.status(task) is Status.GOOD
    assert bench.device.software_write_protect
    assert bench.attention(B) == MODE_CHANGED


def test_a_page_that_cannot_be_saved_is_not_adopted(bench: Bench):
    task = bench.select(A, ControlPage(ps=False, swp=True).pack(), save=True)
    bench.persist(MediumError(Fault.NO_SPACE))
    assert bench.sense(task) == (4, 0x4400)
    assert not bench.device.software_write_protect
    assert bench.attention(B) is None


def test_only_one_save_is_under_way(bench: Bench):
    first = bench.select(A, ControlPage(ps=False, swp=True).pack(), save=True)
    second = bench.select(A, ControlPage(ps=False, tas=True).pack(), save=True)
    third = bench.select(A, ControlPage(ps=False, qerr=3).pack())
    assert len(bench.saving) == 1
    bench.persist()
    assert bench.status(first) is Status.GOOD
    assert bench.outcome(second) is bench.outcome(third) is None
    bench.persist()
    assert bench.status(second) is bench.status(third) is Status.GOOD
    assert not bench.device.task_aborted_status
    assert bench.device.qerr == 3


def test_a_waiting_save_starts_from_what_was_adopted(bench: Bench):
    bench.select(A, ControlPage(ps=False, swp=True).pack(), save=True)
    second = bench.select(B, ControlPage(ps=False, tas=True).pack(), save=True)
    bench.persist()
    assert bench.sense(second) == (6, MODE_CHANGED)
    assert not bench.saving


def test_other_commands_go_on_during_a_save(bench: Bench):
    bench.select(A, ControlPage(ps=False, swp=True).pack(), save=True)
    assert bench.status(bench.send(A, READY)) is Status.GOOD
    assert bench.status(bench.send(B, Read10(lba=0, transfer_length=0))) is Status.GOOD


def test_an_aborted_save_that_reached_the_disk_is_adopted(bench: Bench):
    task = bench.select(A, ControlPage(ps=False, swp=True).pack(), save=True)
    bench.manage(Function.LOGICAL_UNIT_RESET, B)
    assert not bench.managed
    bench.persist()
    assert bench.status(task) is None
    assert len(bench.managed) == 1
    assert bench.device.software_write_protect
    assert bench.device.modes.saved == bench.device.modes.reset().saved
