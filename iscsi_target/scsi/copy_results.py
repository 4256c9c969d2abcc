"""What a unit tells of copies: RECEIVE COPY STATUS(LID1), RECEIVE COPY OPERATING PARAMETERS and VPD page 8Fh."""

from iscsi_target.scsi.copy_cdb import (
    CopyDescriptorHeader,
    CopyStatusData,
    GeneralCopyOperations,
    OperatingParametersData,
    ParameterDataLimits,
    ReceiveCopyOperatingParameters,
    ReceiveCopyStatusLid1,
    SupportedActions,
    SupportedCommand,
)
from iscsi_target.scsi.copy_log import CopyState
from iscsi_target.scsi.device import Device
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.status import InvalidFieldInCdb
from iscsi_target.scsi.task import Call, Done
from iscsi_target.wire.layout import U8, Layout

MAX_CSCDS = 8  # in one parameter list
MAX_SEGMENTS = 16
MAX_DESCRIPTOR_BYTES = 1024  # of all descriptors of a parameter list
MAX_SEGMENT_BYTES = 16 << 20  # bounds how long one command keeps the blocks that it copies
MAX_CONCURRENT = 64  # as many tasks a nexus may have, and more than that do not fit one list identifier each
AFTER_AVAILABLE_DATA = 4  # bytes of the field itself

BLOCK_TO_BLOCK, OFFSET_TO_OFFSET, IDENTIFICATION = 0x02, 0x0A, 0xE4  # DESCRIPTOR TYPE CODE. Source: SPC4r37 6.4.4
DESCRIPTOR_TYPES = (BLOCK_TO_BLOCK, OFFSET_TO_OFFSET, IDENTIFICATION)
KIBIBYTES = 0x01  # TRANSFER COUNT UNITS. Source: SPC4r37 6.24

SUPPORTED_COMMANDS, PARAMETER_DATA, SUPPORTED_DESCRIPTORS = 0x0001, 0x0004, 0x0008
SUPPORTED_CSCD_IDS, GENERAL_COPY = 0x000C, 0x8001  # third-party copy descriptor types. Source: SPC4r37 7.8.17.3


def receive_copy_status(device: Device, cdb: ReceiveCopyStatusLid1, call: Call) -> Done:
    """Answers RECEIVE COPY STATUS(LID1); the status of a copy that has ended is forgotten with it.

    raises   InvalidFieldInCdb for an identifier that is not known
    Source: SPC4r37 5.17.4.5, 6.24
    """
    found = device.copies.find(call.nexus, cdb.list_identifier)
    if found is None:
        raise InvalidFieldInCdb(ReceiveCopyStatusLid1, "list_identifier")
    if found.state is not CopyState.IN_PROGRESS:
        device.copies.forget(call.nexus, cdb.list_identifier)
    data = CopyStatusData(
        copy_operation_status=found.state,
        segments_processed=found.segments,
        transfer_count_units=KIBIBYTES,
        transfer_count=found.copied_bytes >> 10,
    )
    return Done(data.pack()[: cdb.allocation_length])


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
        total_concurrent_copies=MAX_CONCURRENT,
        maximum_concurrent_copies=MAX_CONCURRENT,
        data_segment_granularity=_granularity(device),
        implemented_descriptor_list_length=len(codes),
    )
    return Done((data.pack() + codes)[: cdb.allocation_length])


def _granularity(device: Device) -> int:
    """Returns the power of two that a block is."""
    return device.geometry.block_length_bytes.bit_length() - 1


class _Length(Layout):
    """The length of a list in a third-party copy descriptor."""

    length: U8 = 0


def third_party_copy(device: Device, nexus: Nexus) -> bytes:
    """Returns VPD page 8Fh after its header.

    Source: SPC4r37 7.8.17
    """
    commands = (
        SupportedCommand(operation_code=0x83, service_action=0x00).pack()
        + SupportedActions(operation_code=0x84, first_service_action=0x00, second_service_action=0x03).pack()
    )
    limits = ParameterDataLimits(
        maximum_cscd_descriptor_count=MAX_CSCDS,
        maximum_segment_descriptor_count=MAX_SEGMENTS,
        maximum_descriptor_list_length=MAX_DESCRIPTOR_BYTES,
    )
    general = GeneralCopyOperations(
        total_concurrent_copies=MAX_CONCURRENT,
        maximum_identified_concurrent_copies=MAX_CONCURRENT,
        maximum_segment_length=MAX_SEGMENT_BYTES,
        data_segment_granularity=_granularity(device),
    )
    return b"".join(
        (
            _descriptor(SUPPORTED_COMMANDS, _Length(length=len(commands)).pack() + commands),
            _descriptor(PARAMETER_DATA, limits.pack()),
            _descriptor(SUPPORTED_DESCRIPTORS, _Length(length=len(DESCRIPTOR_TYPES)).pack() + bytes(DESCRIPTOR_TYPES)),
            _descriptor(SUPPORTED_CSCD_IDS, bytes(2)),
            _descriptor(GENERAL_COPY, general.pack()),
        )
    )


def _descriptor(kind: int, content: bytes) -> bytes:
    """Returns a third-party copy descriptor, padded to a multiple of four bytes."""
    content += bytes(-len(content) % 4)
    return CopyDescriptorHeader(descriptor_type=kind, descriptor_length=len(content)).pack() + content
