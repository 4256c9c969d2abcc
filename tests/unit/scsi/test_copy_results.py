"""RECEIVE COPY STATUS and OPERATING PARAMETERS, and VPD page 8Fh; drawing in command_bench."""

import pytest

from iscsi_target.scsi.cdb import Inquiry
from iscsi_target.scsi.commands import TABLE
from iscsi_target.scsi.copy_cdb import (
    CopyDescriptorHeader,
    CopyStatusData,
    OperatingParametersData,
    ReceiveCopyOperatingParameters,
    ReceiveCopyStatusLid1,
)
from iscsi_target.scsi.copy_log import CopyResult, CopyState
from iscsi_target.scsi.copy_results import DESCRIPTOR_TYPES, MAX_SEGMENT_BYTES
from iscsi_target.scsi.device import Device
from tests.unit.scsi.command_bench import INVALID_FIELD_IN_CDB, A, B, device, refusal, run

DONE = CopyResult(CopyState.DONE, 2, 5 << 10)
RUNNING = CopyResult(CopyState.IN_PROGRESS)
STATUS = ReceiveCopyStatusLid1(list_identifier=7, allocation_length=255)


# RECEIVE COPY STATUS


def status(unit: Device) -> CopyStatusData:
    return CopyStatusData.unpack(run(unit, STATUS).data_in)


@pytest.mark.clause("SPC4r37 6.24")
@pytest.mark.clause("SPC4r37 5.17.4.5")
def test_status_of_a_copy_that_ended_is_told_once():
    unit = device()
    unit.copies.note(A, 7, DONE)
    told = CopyStatusData(copy_operation_status=1, segments_processed=2, transfer_count_units=1, transfer_count=5)
    assert status(unit) == told
    assert refusal(unit, STATUS) == INVALID_FIELD_IN_CDB


def test_status_of_a_copy_that_runs_is_told_again():
    unit = device()
    unit.copies.note(A, 7, RUNNING)
    assert status(unit).copy_operation_status == status(unit).copy_operation_status == 0


def test_copies_of_others_are_not_told():
    unit = device()
    unit.copies.note(B, 7, DONE)
    assert refusal(unit, STATUS) == INVALID_FIELD_IN_CDB


def test_the_allocation_length_cuts():
    unit = device()
    unit.copies.note(A, 7, RUNNING)
    assert run(unit, STATUS.replace(allocation_length=5)).data_in == bytes([0, 0, 0, 8, 0])


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


def descriptors(data: bytes) -> dict[int, bytes]:
    found, at = {}, 4
    while at < len(data):
        header = CopyDescriptorHeader.unpack(data, at)
        assert header.descriptor_length % 4 == 0
        at += CopyDescriptorHeader.size
        found[header.descriptor_type] = data[at : at + header.descriptor_length]
        at += header.descriptor_length
    return found


@pytest.mark.clause("SPC4r37 7.8.17")
@pytest.mark.clause("SPC4r37 7.8.17.10")
@pytest.mark.clause("SPC4r37 7.8.17.2")
@pytest.mark.clause("SPC4r37 7.8.17.4.2")
@pytest.mark.clause("SPC4r37 7.8.17.5")
def test_page_8f_says_which_commands_and_descriptors_there_are():
    found = descriptors(bytes(run(device(), Inquiry(evpd=True, page_code=0x8F, allocation_length=255)).data_in))
    assert list(found) == [0x0001, 0x0004, 0x0008, 0x000C, 0x8001]
    copying = sorted((row.operation_code, row.service_action) for row in TABLE if row.operation_code in (0x83, 0x84))
    assert copying == [(0x83, 0x00), (0x84, 0x00), (0x84, 0x03)]
    assert found[0x0001].hex() == "07" + "830100" + "84020003"
    assert found[0x0004].hex() == "00000000" + "0008" + "0010" + "00000400" + "00000000" + "00" * 12
    assert found[0x0008].hex() == "03020ae4"
    assert found[0x000C].hex() == "00000000"
    assert found[0x8001].hex() == "00000040" * 2 + "01000000" + "0900" + "00" * 18
