"""RECEIVE COPY STATUS(LID1) and OPERATING PARAMETERS; drawing in command_bench."""

import pytest

from iscsi_target.scsi.commands.copy_results import DESCRIPTOR_TYPES, MAX_SEGMENT_BYTES
from iscsi_target.scsi.layouts.copy_cdb import (
    CopyStatusData,
    OperatingParametersData,
    ReceiveCopyFailureDetails,
    ReceiveCopyOperatingParameters,
    ReceiveCopyStatusLid1,
)
from iscsi_target.scsi.state.copy_log import CopyRecord, CopyState
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.status import Sense, SenseKey
from tests.unit.scsi.command_bench import INVALID_FIELD_IN_CDB, A, B, device, refusal, run

DONE = CopyRecord(0, CopyState.DONE, 2, 5 << 10)
RUNNING = CopyRecord(0, CopyState.FOREGROUND)
STATUS = ReceiveCopyStatusLid1(list_identifier=7, allocation_length=255)


# RECEIVE COPY STATUS


def status(unit: Device) -> CopyStatusData:
    return CopyStatusData.unpack(run(unit, STATUS).data_in)


@pytest.mark.clause("SPC4r37 6.25")
@pytest.mark.clause("SPC4r37 5.17.4.4")
def test_status_of_a_copy_that_ended_is_told_once():
    unit = device()
    unit.copies.start(A, 7, DONE)
    told = CopyStatusData(copy_operation_status=1, segments_processed=2, transfer_count_units=1, transfer_count=5)
    assert status(unit) == told
    assert refusal(unit, STATUS) == INVALID_FIELD_IN_CDB


def test_status_of_a_copy_that_runs_is_told_again():
    unit = device()
    unit.copies.start(A, 7, RUNNING)
    assert status(unit).copy_operation_status == status(unit).copy_operation_status == 0


@pytest.mark.parametrize("state", [CopyState.FAILED, CopyState.PARTIAL, CopyState.TERMINATED])
def test_every_end_but_one_is_with_errors(state: CopyState):
    unit = device()
    unit.copies.start(A, 7, CopyRecord(0, state))
    assert status(unit).copy_operation_status == 2


def test_copies_of_others_are_not_told():
    unit = device()
    unit.copies.start(B, 7, DONE)
    assert refusal(unit, STATUS) == INVALID_FIELD_IN_CDB


def test_the_allocation_length_cuts():
    unit = device()
    unit.copies.start(A, 7, RUNNING)
    assert run(unit, STATUS.replace(allocation_length=5)).data_in == bytes([0, 0, 0, 8, 0])


# RECEIVE COPY FAILURE DETAILS


DETAILS = ReceiveCopyFailureDetails(list_identifier=7, allocation_length=255)
FAILURE = Sense(SenseKey.COPY_ABORTED, 0x0D01)


@pytest.mark.clause("SPC4r37 6.23")
def test_how_a_copy_has_failed_is_told_once_whatever_else_was_asked():
    unit = device()
    unit.copies.start(A, 7, CopyRecord(0, CopyState.FAILED, sense=FAILURE))
    assert status(unit).copy_operation_status == 2
    assert len(run(unit, DETAILS.replace(allocation_length=60)).data_in) == 60
    data = bytes(run(unit, DETAILS).data_in)
    assert data == (74).to_bytes(4) + bytes(52) + b"\2\0" + (18).to_bytes(2) + FAILURE.fixed()
    assert bytes(run(unit, DETAILS).data_in) == bytes(4)


@pytest.mark.clause("SPC4r37 6.23")
def test_there_are_details_of_a_failure_only():
    unit = device()
    unit.copies.start(A, 7, CopyRecord(0, CopyState.DONE))
    assert bytes(run(unit, DETAILS).data_in) == bytes(4)
    for record in (CopyRecord(0, CopyState.FOREGROUND), CopyRecord(1, CopyState.FAILED, sense=FAILURE)):
        unit = device()
        assert refusal(unit, DETAILS) == INVALID_FIELD_IN_CDB
        unit.copies.start(A, 7, record)
        assert refusal(unit, DETAILS) == INVALID_FIELD_IN_CDB


# Operating parameters


@pytest.mark.clause("SPC4r37 6.22")
def test_operating_parameters_end_with_the_descriptors_that_there_are():
    data = run(device(), ReceiveCopyOperatingParameters(allocation_length=255)).data_in
    values = OperatingParametersData.unpack(data)
    assert values.available_data == len(data) - 4
    assert values.implemented_descriptor_list_length == len(DESCRIPTOR_TYPES)
    assert bytes(data[OperatingParametersData.size :]) == bytes.fromhex("020ae4")
    assert (values.maximum_segment_length, values.data_segment_granularity) == (MAX_SEGMENT_BYTES, 9)
    assert not values.maximum_inline_data_length + values.held_data_limit
