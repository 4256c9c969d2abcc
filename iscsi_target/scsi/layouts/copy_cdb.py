"""Layouts of third-party copy: CDBs, parameter lists, what is returned, and the descriptors of VPD page 8Fh.

Source: SPC4r37 5.17, 6.4, 6.5, 6.22, 6.25, 7.8.17
"""

from iscsi_target.wire.layout import B2, B3, B4, B5, B6, B7, U8, U16, U24, U32, U64, Bit, Layout


class ExtendedCopyLid1(Layout):
    """EXTENDED COPY(LID1).

    Source: SPC4r37 6.5
    """

    operation_code: U8 = 0x83
    _1: B3 = 0
    service_action: B5 = 0x00
    _2: U64 = 0
    parameter_list_length: U32 = 0
    _3: U8 = 0
    control: U8 = 0


class ExtendedCopyLid4(Layout):
    """EXTENDED COPY(LID4).

    Source: SPC4r37 6.4
    """

    operation_code: U8 = 0x83
    _1: B3 = 0
    service_action: B5 = 0x01
    _2: U64 = 0
    parameter_list_length: U32 = 0
    _3: U8 = 0
    control: U8 = 0


class ReceiveCopyStatusLid1(Layout):
    """RECEIVE COPY STATUS(LID1).

    Source: SPC4r37 6.25
    """

    operation_code: U8 = 0x84
    _1: B3 = 0
    service_action: B5 = 0x00
    list_identifier: U8 = 0
    _2: U24 = 0
    _3: U32 = 0
    allocation_length: U32 = 0
    _4: U8 = 0
    control: U8 = 0


class ReceiveCopyOperatingParameters(Layout):
    """RECEIVE COPY OPERATING PARAMETERS.

    Source: SPC4r37 6.22
    """

    operation_code: U8 = 0x84
    _1: B3 = 0
    service_action: B5 = 0x03
    _2: U64 = 0
    allocation_length: U32 = 0
    _3: U8 = 0
    control: U8 = 0


class ReceiveCopyFailureDetails(Layout):
    """RECEIVE COPY FAILURE DETAILS(LID1).

    Source: SPC4r37 6.23
    """

    operation_code: U8 = 0x84
    _1: B3 = 0
    service_action: B5 = 0x04
    list_identifier: U8 = 0
    _2: U24 = 0
    _3: U32 = 0
    allocation_length: U32 = 0
    _4: U8 = 0
    control: U8 = 0


class ReadForCopy(Layout):
    """What one copy manager asks of another unit that a copy reads; no initiator can send it."""

    operation_code: U8 = 0x00
    offset_bytes: U64 = 0
    length_bytes: U32 = 0
    _1: U16 = 0
    control: U8 = 0


class WriteForCopy(Layout):
    """What one copy manager asks of another unit that a copy writes, with the data; no initiator can send it."""

    operation_code: U8 = 0x01
    offset_bytes: U64 = 0
    length_bytes: U32 = 0
    _1: U16 = 0
    control: U8 = 0


class CopyParameterHeader(Layout):
    """What the parameter list of EXTENDED COPY(LID1) begins with.

    Source: SPC4r37 6.5
    """

    list_identifier: U8 = 0
    _1: B2 = 0
    str_: Bit = False
    list_id_usage: B2 = 0
    priority: B3 = 0
    cscd_descriptor_list_length: U16 = 0
    _2: U32 = 0
    segment_descriptor_list_length: U32 = 0
    inline_data_length: U32 = 0


class CopyParameterHeaderLid4(Layout):
    """What the parameter list of EXTENDED COPY(LID4) begins with; most of it stands where a CSCD descriptor would be.

    Source: SPC4r37 6.4.2
    """

    parameter_list_format: U8 = 0x01
    _1: B2 = 0
    str_: Bit = False
    list_id_usage: B2 = 0
    priority: B3 = 0
    header_cscd_descriptor_list_length: U16 = 0x20
    _2: U32 = 0
    _3: U32 = 0
    _4: U24 = 0
    _5: B6 = 0
    g_sense: Bit = False
    immed: Bit = False
    header_cscd_descriptor_type_code: U8 = 0xFF
    _6: U24 = 0
    list_identifier: U32 = 0
    _7: U64 = 0
    _8: U64 = 0
    _9: U16 = 0
    cscd_descriptor_list_length: U16 = 0
    segment_descriptor_list_length: U16 = 0
    inline_data_length: U16 = 0


class IdentificationCscd(Layout):
    """The identification descriptor CSCD descriptor of a block device, without its designator.

    The designator is the 20 bytes that follow the first 8, and the block length the last 3 of the 32.
    Source: SPC4r37 6.4.5.2, 6.4.5.4
    """

    descriptor_type_code: U8 = 0xE4
    lu_id_type: B2 = 0
    null: Bit = False
    peripheral_device_type: B5 = 0
    relative_initiator_port_identifier: U16 = 0
    _1: B4 = 0
    code_set: B4 = 0
    _2: B2 = 0
    association: B2 = 0
    designator_type: B4 = 0
    _3: U8 = 0
    designator_length: U8 = 0


class BlockDeviceParameters(Layout):
    """The device type specific end of a CSCD descriptor.

    Source: SPC4r37 6.4.5.4
    """

    _1: B5 = 0
    pad: Bit = False
    _2: B2 = 0
    disk_block_length: U24 = 0


class SegmentHeader(Layout):
    """What every segment descriptor begins with.

    Source: SPC4r37 6.4.6.1
    """

    descriptor_type_code: U8 = 0
    flags: U8 = 0
    descriptor_length: U16 = 0


class BlockSegment(Layout):
    """The segment descriptor of a copy from block device to block device.

    Source: SPC4r37 6.4.6.3
    """

    descriptor_type_code: U8 = 0x02
    _1: B2 = 0
    _2: B4 = 0
    dc: Bit = False
    cat: Bit = False
    descriptor_length: U16 = 0x18
    source_cscd_descriptor_id: U16 = 0
    destination_cscd_descriptor_id: U16 = 0
    _3: U16 = 0
    block_device_number_of_blocks: U16 = 0
    source_lba: U64 = 0
    destination_lba: U64 = 0


class OffsetSegment(Layout):
    """The segment descriptor of a copy from block device with offset to block device with offset.

    Source: SPC4r37 6.4.6.10
    """

    descriptor_type_code: U8 = 0x0A
    _1: B7 = 0
    cat: Bit = False
    descriptor_length: U16 = 0x1C
    source_cscd_descriptor_id: U16 = 0
    destination_cscd_descriptor_id: U16 = 0
    number_of_bytes: U32 = 0
    source_lba: U64 = 0
    destination_lba: U64 = 0
    source_byte_offset: U16 = 0
    destination_byte_offset: U16 = 0


class CopyStatusData(Layout):
    """What RECEIVE COPY STATUS(LID1) returns.

    Source: SPC4r37 6.25
    """

    available_data: U32 = 8
    hdd: Bit = False
    copy_operation_status: B7 = 0
    segments_processed: U16 = 0
    transfer_count_units: U8 = 0
    transfer_count: U32 = 0


class FailureDetailsData(Layout):
    """What RECEIVE COPY FAILURE DETAILS(LID1) returns before the sense data.

    Source: SPC4r37 6.23
    """

    available_data: U32 = 0
    _1: U64 = 0
    _2: U64 = 0
    _3: U64 = 0
    _4: U64 = 0
    _5: U64 = 0
    _6: U64 = 0
    _7: U32 = 0
    extended_copy_command_status: U8 = 0
    _8: U8 = 0
    sense_data_length: U16 = 0


class OperatingParametersData(Layout):
    """What RECEIVE COPY OPERATING PARAMETERS returns, before the list of descriptor type codes.

    Source: SPC4r37 6.22
    """

    available_data: U32 = 0
    _1: B7 = 0
    snlid: Bit = True
    _2: U24 = 0
    maximum_cscd_descriptor_count: U16 = 0
    maximum_segment_descriptor_count: U16 = 0
    maximum_descriptor_list_length: U32 = 0
    maximum_segment_length: U32 = 0
    maximum_inline_data_length: U32 = 0
    held_data_limit: U32 = 0
    maximum_stream_device_transfer_size: U32 = 0
    _3: U16 = 0
    total_concurrent_copies: U16 = 0
    maximum_concurrent_copies: U8 = 0
    data_segment_granularity: U8 = 0
    inline_data_granularity: U8 = 0
    held_data_granularity: U8 = 0
    _4: U24 = 0
    implemented_descriptor_list_length: U8 = 0


class CopyDescriptorHeader(Layout):
    """What every third-party copy descriptor of VPD page 8Fh begins with.

    Source: SPC4r37 7.8.17.2
    """

    descriptor_type: U16 = 0
    descriptor_length: U16 = 0


class SupportedCommand(Layout):
    """A command support descriptor before its list of service actions.

    Source: SPC4r37 7.8.17.4.2
    """

    operation_code: U8 = 0
    service_action_list_length: U8 = 0


class ParameterDataLimits(Layout):
    """The parameter data third-party copy descriptor after its header.

    Source: SPC4r37 7.8.17.5
    """

    _1: U32 = 0
    maximum_cscd_descriptor_count: U16 = 0
    maximum_segment_descriptor_count: U16 = 0
    maximum_descriptor_list_length: U32 = 0
    maximum_inline_data_length: U32 = 0
    _2: U64 = 0
    _3: U32 = 0


class GeneralCopyOperations(Layout):
    """The general copy operations third-party copy descriptor after its header.

    Source: SPC4r37 7.8.17.10
    """

    total_concurrent_copies: U32 = 0
    maximum_identified_concurrent_copies: U32 = 0
    maximum_segment_length: U32 = 0
    data_segment_granularity: U8 = 0
    inline_data_granularity: U8 = 0
    _1: U16 = 0
    _2: U64 = 0
    _3: U64 = 0
