"""The clock of a unit; drawing in command_bench. Commands of the bench are received at second 0 of the host's clock."""

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.commands.timestamp import (
    ReportTimestamp,
    SetTimestamp,
    TimestampData,
    TimestampParameters,
    report_timestamp,
    set_timestamp,
    wanted_by_set_timestamp,
)
from iscsi_target.scsi.layouts.cdb import ModeSense10
from iscsi_target.scsi.layouts.mode_pages import ControlExtensionPage
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call
from tests.unit.scsi.command_bench import LIST_LENGTH_ERROR, A, device, refusal, run

LIST = TimestampParameters(timestamp=1_000_000).pack()
SET = SetTimestamp(parameter_list_length=len(LIST))


def reported(unit: Device, now_s: float) -> TimestampData:
    call = Call(A, b"", (0,), received_s=now_s)
    return TimestampData.unpack(report_timestamp(unit, ReportTimestamp(allocation_length=12), call).data_in)


@pytest.mark.clause("SPC4r37 6.38")
def test_the_clock_is_the_hosts():
    assert reported(device(), 1764172800.1234) == TimestampData(timestamp_origin=3, timestamp=1764172800123)


@pytest.mark.clause("SPC4r37 6.46")
def test_a_clock_that_is_set_runs_on_and_others_are_told():
    unit = device()
    done = set_timestamp(unit, SET, Call(A, LIST, (0,), received_s=50.0))
    assert done.attention == AttentionCode.TIMESTAMP_CHANGED
    assert reported(unit, 50.0) == TimestampData(timestamp_origin=2, timestamp=1_000_000)
    assert reported(unit, 52.5) == TimestampData(timestamp_origin=2, timestamp=1_002_500)


def test_a_clock_wraps():
    unit = device()
    last = TimestampParameters(timestamp=2**48 - 1).pack()
    set_timestamp(unit, SET, Call(A, last, (0,), received_s=0.0))
    assert reported(unit, 0.001).timestamp == 0


def test_no_list_changes_nothing():
    unit = device()
    assert run(unit, SetTimestamp()).attention is None
    assert reported(unit, 1.0).timestamp_origin == 3


@pytest.mark.parametrize("length", [1, 11])
def test_a_list_that_ends_too_early_is_refused(length: int):
    unit = device()
    assert refusal(unit, SetTimestamp(parameter_list_length=length), offered=LIST) == LIST_LENGTH_ERROR
    assert refusal(unit, SET, offered=LIST[:length]) == LIST_LENGTH_ERROR
    assert unit.clock_ahead_ms is None


def test_no_more_is_fetched_than_there_is_to_say():
    assert wanted_by_set_timestamp(device(), SetTimestamp(parameter_list_length=2**32 - 1)) == 12


def test_the_allocation_length_cuts():
    assert run(device(), ReportTimestamp(allocation_length=3)).data_in == bytes([0, 10, 3])


@pytest.mark.clause("SPC4r37 7.5.9")
def test_the_mode_page_says_who_may_set_the_clock():
    data = bytes(run(device(), ModeSense10(dbd=True, page_code=0x0A, subpage_code=1, allocation_length=255)).data_in)
    page = ControlExtensionPage.unpack(data, 8)
    assert (page.tcmos, page.scsip) == (True, True)


@pytest.mark.clause("SPC4r37 5.2")
@pytest.mark.parametrize(("hard", "origin"), [(False, 2), (True, 3)])
def test_a_hard_reset_makes_it_the_hosts_again(hard: bool, origin: int):
    unit = device()
    set_timestamp(unit, SET, Call(A, LIST, (0,)))
    unit.reset(hard=hard)
    assert reported(unit, 1.0).timestamp_origin == origin
