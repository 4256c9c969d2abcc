"""VPD page 8Fh: what of third-party copy a unit can do, and how much of it.

The list of CSCD IDs is without F800h although tokens are taken and the standard wants it then: it is for EXTENDED COPY
with a ROD as source or destination, and that is not there.

Source: SPC4r37 7.8.17, SBC3r36 6.5.6
"""

from iscsi_target.scsi.commands.copy_results import (
    DESCRIPTOR_TYPES,
    MAX_CSCDS,
    MAX_DESCRIPTOR_BYTES,
    MAX_SEGMENT_BYTES,
    MAX_SEGMENTS,
    THIS_UNIT,
    granularity,
)
from iscsi_target.scsi.layouts.copy_cdb import (
    CopyDescriptorHeader,
    GeneralCopyOperations,
    ParameterDataLimits,
    SupportedCommand,
)
from iscsi_target.scsi.layouts.token_cdb import (
    BlockDeviceRodLimits,
    BlockRodFeatures,
    RodTokenFeatures,
    RodTypeDescriptor,
    SupportedRodTypes,
)
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.state.copy_log import MAX_RUNNING
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.rod_tokens import (
    BLOCK_DEVICE_ZERO,
    CHANGE_VULNERABLE,
    DEFAULT_INACTIVITY_S,
    LIFETIME_S,
    MAX_INACTIVITY_S,
    MAX_RANGES,
    MAX_ROD_BYTES,
    OPTIMAL_ROD_BYTES,
)
from iscsi_target.wire.layout import U8, U16, Layout

# Third-party copy descriptor types. Source: SPC4r37 7.8.17.3, SBC3r36 6.5.6
BLOCK_DEVICE_ROD_LIMITS, SUPPORTED_COMMANDS, PARAMETER_DATA, SUPPORTED_DESCRIPTORS = 0x0000, 0x0001, 0x0004, 0x0008
SUPPORTED_CSCD_IDS, ROD_TOKEN_FEATURES, SUPPORTED_ROD_TYPES, GENERAL_COPY = 0x000C, 0x0106, 0x0108, 0x8001
ACTIONS = ((0x83, (0x00, 0x01, 0x10, 0x11, 0x1C)), (0x84, (0x00, 0x03, 0x04, 0x05, 0x07)))  # as in the command table


class _Number(Layout):
    """The length of a list in a third-party copy descriptor, or a service action."""

    number: U8 = 0


class _CscdIds(Layout):
    """What stands before the supported CSCD IDs. Source: SPC4r37 7.8.17.7"""

    supported_cscd_ids_list_length: U16 = 0


class _CscdId(Layout):
    """One of them. Source: SPC4r37 7.8.17.7"""

    supported_cscd_id: U16 = 0


def third_party_copy(device: Device, nexus: Nexus) -> bytes:
    """Returns VPD page 8Fh after its header; descriptors are in ascending order.

    Source: SPC4r37 7.8.17.3
    """
    return b"".join(
        (
            _descriptor(BLOCK_DEVICE_ROD_LIMITS, _rod_limits(device).pack()),
            _descriptor(SUPPORTED_COMMANDS, _counted(b"".join(_actions(*each) for each in ACTIONS))),
            _descriptor(PARAMETER_DATA, _parameter_limits().pack()),
            _descriptor(SUPPORTED_DESCRIPTORS, _counted(bytes(DESCRIPTOR_TYPES))),
            _descriptor(SUPPORTED_CSCD_IDS, _cscd_ids()),
            _descriptor(ROD_TOKEN_FEATURES, _token_features()),
            _descriptor(SUPPORTED_ROD_TYPES, _rod_types()),
            _descriptor(GENERAL_COPY, _general(device).pack()),
        )
    )


def _descriptor(kind: int, content: bytes) -> bytes:
    """Returns a third-party copy descriptor, padded to a multiple of four bytes."""
    content += bytes(-len(content) % 4)
    return CopyDescriptorHeader(descriptor_type=kind, descriptor_length=len(content)).pack() + content


def _counted(content: bytes) -> bytes:
    return _Number(number=len(content)).pack() + content


def _actions(operation_code: int, actions: tuple[int, ...]) -> bytes:
    """Returns a command support descriptor. Source: SPC4r37 7.8.17.4.2"""
    header = SupportedCommand(operation_code=operation_code, service_action_list_length=len(actions))
    return header.pack() + bytes(actions)


def _cscd_ids() -> bytes:
    ids = _CscdId(supported_cscd_id=THIS_UNIT).pack()
    return _CscdIds(supported_cscd_ids_list_length=len(ids)).pack() + ids


def _parameter_limits() -> ParameterDataLimits:
    return ParameterDataLimits(
        maximum_cscd_descriptor_count=MAX_CSCDS,
        maximum_segment_descriptor_count=MAX_SEGMENTS,
        maximum_descriptor_list_length=MAX_DESCRIPTOR_BYTES,
    )


def _general(device: Device) -> GeneralCopyOperations:
    return GeneralCopyOperations(
        total_concurrent_copies=MAX_RUNNING,
        maximum_identified_concurrent_copies=MAX_RUNNING,
        maximum_segment_length=MAX_SEGMENT_BYTES,
        data_segment_granularity=granularity(device),
    )


def _rod_limits(device: Device) -> BlockDeviceRodLimits:
    block = device.geometry.block_length_bytes
    return BlockDeviceRodLimits(
        maximum_range_descriptors=MAX_RANGES,
        maximum_inactivity_timeout=MAX_INACTIVITY_S,
        default_inactivity_timeout=DEFAULT_INACTIVITY_S,
        maximum_token_transfer_size=MAX_ROD_BYTES // block,
        optimal_transfer_count=OPTIMAL_ROD_BYTES // block,
    )


def _token_features() -> bytes:
    """Returns what limits tokens; they may be of any unit of the target, and of no other one (REMOTE TOKENS)."""
    block_rods = BlockRodFeatures(
        maximum_bytes_in_block_rod=MAX_ROD_BYTES,
        optimal_bytes_in_block_rod_transfer=OPTIMAL_ROD_BYTES,
    ).pack()
    features = RodTokenFeatures(
        minimum_token_lifetime=LIFETIME_S,
        maximum_token_lifetime=LIFETIME_S,
        maximum_token_inactivity_timeout=MAX_INACTIVITY_S,
        rod_device_type_specific_features_descriptors_length=len(block_rods),
    )
    return features.pack() + block_rods


def _rod_types() -> bytes:
    """Returns which tokens there are; why this type is told in `rod_tokens`."""
    types = (
        RodTypeDescriptor(rod_type=CHANGE_VULNERABLE, token_in=True, token_out=True).pack()
        + RodTypeDescriptor(rod_type=BLOCK_DEVICE_ZERO, token_in=True).pack()
    )
    return SupportedRodTypes(rod_type_descriptors_length=len(types)).pack() + types
