"""Layouts of token-based copies: CDBs, parameter lists, ROD tokens, and what is told of copy operations.

Source: SPC4r37 5.17.6, 6.3, 6.24, 6.26, SBC3r36 4.28, 5.7, 5.22, 5.46
"""

from iscsi_target.wire.layout import B3, B4, B5, B6, B7, U8, U16, U32, U64, Bit, Layout


class PopulateToken(Layout):
    """POPULATE TOKEN.

    Source: SBC3r36 5.7
    """

    operation_code: U8 = 0x83
    _1: B3 = 0
    service_action: B5 = 0x10
    _2: U32 = 0
    list_identifier: U32 = 0
    parameter_list_length: U32 = 0
    _3: B3 = 0
    group_number: B5 = 0
    control: U8 = 0


class WriteUsingToken(Layout):
    """WRITE USING TOKEN.

    Source: SBC3r36 5.46
    """

    operation_code: U8 = 0x83
    _1: B3 = 0
    service_action: B5 = 0x11
    _2: U32 = 0
    list_identifier: U32 = 0
    parameter_list_length: U32 = 0
    _3: B3 = 0
    group_number: B5 = 0
    control: U8 = 0


class CopyOperationAbort(Layout):
    """COPY OPERATION ABORT.

    Source: SPC4r37 6.3
    """

    operation_code: U8 = 0x83
    _1: B3 = 0
    service_action: B5 = 0x1C
    list_identifier: U32 = 0
    _2: U64 = 0
    _3: U8 = 0
    control: U8 = 0


class ReceiveCopyStatusLid4(Layout):
    """RECEIVE COPY STATUS(LID4).

    Source: SPC4r37 6.24
    """

    operation_code: U8 = 0x84
    _1: B3 = 0
    service_action: B5 = 0x05
    list_identifier: U32 = 0
    _2: U32 = 0
    allocation_length: U32 = 0
    _3: U8 = 0
    control: U8 = 0


class ReceiveRodTokenInformation(Layout):
    """RECEIVE ROD TOKEN INFORMATION.

    Source: SPC4r37 6.26
    """

    operation_code: U8 = 0x84
    _1: B3 = 0
    service_action: B5 = 0x07
    list_identifier: U32 = 0
    _2: U32 = 0
    allocation_length: U32 = 0
    _3: U8 = 0
    control: U8 = 0


class FetchRod(Layout):
    """What one copy manager asks of another that has made a token; no initiator can send it.

    delete         True when the token is not used any more
    offset_bytes   on the medium of the unit that has made it
    """

    operation_code: U8 = 0x00
    _1: B7 = 0
    delete: Bit = False
    offset_bytes: U64 = 0
    length_bytes: U32 = 0
    _2: U8 = 0
    control: U8 = 0


class PopulateTokenHeader(Layout):
    """What the parameter list of POPULATE TOKEN begins with.

    Source: SBC3r36 5.7.2
    """

    populate_token_data_length: U16 = 0
    _1: B6 = 0
    rtv: Bit = False
    immed: Bit = False
    _2: U8 = 0
    inactivity_timeout: U32 = 0
    rod_type: U32 = 0
    _3: U16 = 0
    block_device_range_descriptor_length: U16 = 0


class WriteUsingTokenHeader(Layout):
    """What the parameter list of WRITE USING TOKEN begins with, up to the token.

    Source: SBC3r36 5.46.2
    """

    write_using_token_data_length: U16 = 0
    _1: B6 = 0
    del_tkn: Bit = False
    immed: Bit = False
    _2: U8 = 0
    _3: U32 = 0
    offset_into_rod: U64 = 0


class WriteUsingTokenEnd(Layout):
    """What follows the token in the parameter list of WRITE USING TOKEN.

    Source: SBC3r36 5.46.2
    """

    _1: U16 = 0
    _2: U32 = 0
    block_device_range_descriptor_length: U16 = 0


class BlockDeviceRange(Layout):
    """A block device range descriptor.

    Source: SBC3r36 5.7.3
    """

    lba: U64 = 0
    number_of_logical_blocks: U32 = 0
    _1: U32 = 0


class RodTokenHeader(Layout):
    """What every ROD token begins with, and the identifier that most of them have.

    Source: SPC4r37 5.17.6.4
    """

    rod_type: U32 = 0
    _1: U16 = 0
    rod_token_length: U16 = 0x01F8
    copy_manager_rod_token_identifier: U64 = 0


class RodTokenSize(Layout):
    """The NUMBER OF BYTES REPRESENTED of a ROD token and what is reserved after it.

    Source: SPC4r37 5.17.6.5.1
    """

    _1: U64 = 0
    number_of_bytes_represented: U64 = 0
    _2: U64 = 0
    _3: U64 = 0
    _4: U64 = 0
    _5: U64 = 0


class RodTokenCapacity(Layout):
    """The device type specific data of a ROD token of a block device: a part of what READ CAPACITY(16) returns.

    Source: SBC3r36 4.28.5
    """

    block_length: U32 = 0
    _1: B4 = 0
    p_type: B3 = 0
    prot_en: Bit = False
    p_i_exponent: B4 = 0
    logical_blocks_per_physical_block_exponent: B4 = 0
    lbpme: Bit = False
    lbprz: Bit = False
    _2: B6 = 0
    _3: U8 = 0
    _4: U64 = 0
    _5: U64 = 0
    _6: U64 = 0


class CopyOperationStatus(Layout):
    """The shared third-party copy status header, before its sense data.

    Source: SPC4r37 5.17.4.4, 6.24
    """

    available_data: U32 = 0
    _1: B3 = 0
    response_to_service_action: B5 = 0
    _2: Bit = False
    copy_operation_status: B7 = 0
    operation_counter: U16 = 0
    estimated_status_update_delay: U32 = 0
    extended_copy_completion_status: U8 = 0
    length_of_the_sense_data_field: U8 = 0
    sense_data_length: U8 = 0
    transfer_count_units: U8 = 0
    transfer_count: U64 = 0
    segments_processed: U16 = 0
    _3: U16 = 0
    _4: U32 = 0


class RodTokenDescriptorsHeader(Layout):
    """What stands before the ROD tokens in the data of RECEIVE ROD TOKEN INFORMATION.

    Source: SPC4r37 6.26
    """

    rod_token_descriptors_length: U32 = 0


class RodTokenDescriptor(Layout):
    """What stands before each of them.

    Source: SPC4r37 6.26
    """

    id_for_creating_rod_cscd_descriptor: U16 = 0


class BlockDeviceRodLimits(Layout):
    """The block device ROD limits third-party copy descriptor after its header.

    Source: SBC3r36 6.5.6
    """

    _1: U32 = 0
    _2: U16 = 0
    maximum_range_descriptors: U16 = 0
    maximum_inactivity_timeout: U32 = 0
    default_inactivity_timeout: U32 = 0
    maximum_token_transfer_size: U64 = 0
    optimal_transfer_count: U64 = 0


class RodTokenFeatures(Layout):
    """The ROD token features third-party copy descriptor after its header.

    Source: SPC4r37 7.8.17.8
    """

    _1: B4 = 0
    remote_tokens: B4 = 0
    _2: U8 = 0
    _3: U16 = 0
    _4: U64 = 0
    minimum_token_lifetime: U32 = 0
    maximum_token_lifetime: U32 = 0
    maximum_token_inactivity_timeout: U32 = 0
    _5: U64 = 0
    _6: U64 = 0
    _7: U16 = 0
    rod_device_type_specific_features_descriptors_length: U16 = 0


class BlockRodFeatures(Layout):
    """The block ROD device type specific features descriptor.

    Source: SPC4r37 7.8.17.8.2
    """

    descriptor_format: B3 = 0
    peripheral_device_type: B5 = 0
    _1: U8 = 0
    descriptor_length: U16 = 0x2C
    _2: U16 = 0
    optimal_block_rod_length_granularity: U16 = 0
    maximum_bytes_in_block_rod: U64 = 0
    optimal_bytes_in_block_rod_transfer: U64 = 0
    optimal_bytes_to_token_per_segment: U64 = 0
    optimal_bytes_from_token_per_segment: U64 = 0
    _3: U64 = 0


class SupportedRodTypes(Layout):
    """The supported ROD types third-party copy descriptor between its header and its descriptors.

    Source: SPC4r37 7.8.17.9
    """

    _1: U16 = 0
    rod_type_descriptors_length: U16 = 0


class RodTypeDescriptor(Layout):
    """A descriptor of the supported ROD types.

    Source: SPC4r37 7.8.17.9.1
    """

    rod_type: U32 = 0
    ecpy_int: Bit = False
    _1: B5 = 0
    token_in: Bit = False
    token_out: Bit = False
    _2: U8 = 0
    preference_indicator: U16 = 0
    _3: U64 = 0
    _4: U64 = 0
    _5: U64 = 0
    _6: U64 = 0
    _7: U64 = 0
    _8: U64 = 0
    _9: U64 = 0
