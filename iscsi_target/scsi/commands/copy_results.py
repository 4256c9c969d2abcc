"""What a unit tells of copies as SPC-3 had it: what the status of a copy is, how it has
failed, and the operating parameters."""

from iscsi_target.scsi.layouts.copy_cdb import (
    CopyStatusData,
    ExtendedCopyLid1,
    FailureDetailsData,
    OperatingParametersData,
    ReceiveCopyFailureDetails,
    ReceiveCopyOperatingParameters,
    ReceiveCopyStatusLid1,
)
from iscsi_target.scsi.state.copy_log import MAX_RUNNING, CopyState
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Done
from iscsi_target.scsi.status import CheckCondition, InvalidFieldInCdb

MAX_CSCDS = 8  # in one parameter list
MAX_SEGMENTS = 16
MAX_DESCRIPTOR_BYTES = 1024  # of all descriptors of a parameter list
MAX_SEGMENT_BYTES = 16 << 20  # bounds how long one command keeps the blocks that it copies
AFTER_AVAILABLE_DATA = 4  # bytes of the field itself

BLOCK_TO_BLOCK, OFFSET_TO_OFFSET, IDENTIFICATION = 0x02, 0x0A, 0xE4  # DESCRIPTOR TYPE CODE. Source: SPC4r37 6.4.4
THIS_UNIT = 0xFFFF  # CSCD descriptor ID. Source: SPC4r37 6.4.6.1
DESCRIPTOR_TYPES = (BLOCK_TO_BLOCK, OFFSET_TO_OFFSET, IDENTIFICATION)
KIBIBYTES = 0x01  # TRANSFER COUNT UNITS. Source: SPC4r37 6.24

# COPY COMMAND STATUS. Source: SPC4r37 6.25
IN_PROGRESS, WITHOUT_ERRORS, WITH_ERRORS = 0x00, 0x01, 0x02


def receive_copy_status(device: Device, cdb: ReceiveCopyStatusLid1, call: Call) -> Done:
    """Answers RECEIVE COPY STATUS(LID1); the end of a copy is told once.

    raises   InvalidFieldInCdb for an identifier that is not known
    Source: SPC4r37 5.17.4.4, 6.25
    """
    found = device.copies.find(call.nexus, cdb.list_identifier)
    if found is None or found.told:
        raise InvalidFieldInCdb(ReceiveCopyStatusLid1, "list_identifier")
    found.told = found.state.is_over
    data = CopyStatusData(
        copy_operation_status=_status(found.state),
        segments_processed=found.segments,
        transfer_count_units=KIBIBYTES,
        transfer_count=found.copied_bytes >> 10,
    )
    return Done(data.pack()[: cdb.allocation_length])


def receive_copy_failure_details(device: Device, cdb: ReceiveCopyFailureDetails, call: Call) -> Done:
    """Answers RECEIVE COPY FAILURE DETAILS(LID1): the sense data of a copy that has failed, once.

    raises   InvalidFieldInCdb for an identifier that is not known, and for a copy that goes on
    Source: SPC4r37 6.23
    """
    found = device.copies.find(call.nexus, cdb.list_identifier)
    if found is None or not found.state.is_over or found.service_action != ExtendedCopyLid1.default("service_action"):
        raise InvalidFieldInCdb(ReceiveCopyFailureDetails, "list_identifier")
    if found.sense is None or found.detailed:
        return Done(bytes(AFTER_AVAILABLE_DATA)[: cdb.allocation_length])
    sense = device.sense_data(CheckCondition(found.sense))
    header = FailureDetailsData(
        available_data=FailureDetailsData.size - AFTER_AVAILABLE_DATA + len(sense),
        extended_copy_command_status=found.status,
        sense_data_length=len(sense),
    )
    data = header.pack() + sense
    found.detailed = not cdb.allocation_length or cdb.allocation_length >= len(data)
    return Done(data[: cdb.allocation_length])


def _status(state: CopyState) -> int:
    if not state.is_over:
        return IN_PROGRESS
    return WITHOUT_ERRORS if state is CopyState.DONE else WITH_ERRORS


def receive_copy_operating_parameters(device: Device, cdb: ReceiveCopyOperatingParameters, call: Call) -> Done:
    """Answers RECEIVE COPY OPERATING PARAMETERS.

    Source: SPC4r37 6.22
    """
    codes = bytes(DESCRIPTOR_TYPES)
    data = OperatingParametersData(
        available_data=OperatingParametersData.size - AFTER_AVAILABLE_DATA + len(codes),
        maximum_cscd_descriptor_count=MAX_CSCDS,
        maximum_segment_descriptor_count=MAX_SEGMENTS,
        maximum_descriptor_list_length=MAX_DESCRIPTOR_BYTES,
        maximum_segment_length=MAX_SEGMENT_BYTES,
        total_concurrent_copies=MAX_RUNNING,
        maximum_concurrent_copies=MAX_RUNNING,
        data_segment_granularity=granularity(device),
        implemented_descriptor_list_length=len(codes),
    )
    return Done((data.pack() + codes)[: cdb.allocation_length])


def granularity(device: Device) -> int:
    """Returns the power of two that a block is."""
    return device.geometry.block_length_bytes.bit_length() - 1
