"""The CDBs of SBC-3, one layout per command, in the order of the standard's figures.

The same conventions as in `cdb`. FUA_NV, RARC and RELADR are reserved here; SYNC_NV is accepted and changes
nothing, as every flush reaches the medium.
"""

from iscsi_target.wire.layout import B2, B3, B4, B5, B6, B7, B21, U8, U16, U24, U32, U64, Bit, Layout


class Read6(Layout):
    """READ(6); a TRANSFER LENGTH of 0 means 256 blocks.

    Source: SBC2r16 5.5
    """

    operation_code: U8 = 0x08
    _1: B3 = 0
    lba: B21 = 0
    transfer_length: U8 = 0
    control: U8 = 0


class Read10(Layout):
    """READ(10).

    Source: SBC3r36 5.11
    """

    operation_code: U8 = 0x28
    rdprotect: B3 = 0
    dpo: Bit = False
    fua: Bit = False
    _1: B3 = 0
    lba: U32 = 0
    _2: B3 = 0
    group_number: B5 = 0
    transfer_length: U16 = 0
    control: U8 = 0


class Read12(Layout):
    """READ(12).

    Source: SBC3r36 5.12
    """

    operation_code: U8 = 0xA8
    rdprotect: B3 = 0
    dpo: Bit = False
    fua: Bit = False
    _1: B3 = 0
    lba: U32 = 0
    transfer_length: U32 = 0
    _2: B3 = 0
    group_number: B5 = 0
    control: U8 = 0


class Read16(Layout):
    """READ(16).

    Source: SBC3r36 5.13
    """

    operation_code: U8 = 0x88
    rdprotect: B3 = 0
    dpo: Bit = False
    fua: Bit = False
    _1: B3 = 0
    lba: U64 = 0
    transfer_length: U32 = 0
    _2: B3 = 0
    group_number: B5 = 0
    control: U8 = 0


class Write6(Layout):
    """WRITE(6); a TRANSFER LENGTH of 0 means 256 blocks.

    Source: SBC2r16 5.24
    """

    operation_code: U8 = 0x0A
    _1: B3 = 0
    lba: B21 = 0
    transfer_length: U8 = 0
    control: U8 = 0


class Write10(Layout):
    """WRITE(10).

    Source: SBC3r36 5.33
    """

    operation_code: U8 = 0x2A
    wrprotect: B3 = 0
    dpo: Bit = False
    fua: Bit = False
    _1: B3 = 0
    lba: U32 = 0
    _2: B3 = 0
    group_number: B5 = 0
    transfer_length: U16 = 0
    control: U8 = 0


class Write12(Layout):
    """WRITE(12).

    Source: SBC3r36 5.34
    """

    operation_code: U8 = 0xAA
    wrprotect: B3 = 0
    dpo: Bit = False
    fua: Bit = False
    _1: B3 = 0
    lba: U32 = 0
    transfer_length: U32 = 0
    _2: B3 = 0
    group_number: B5 = 0
    control: U8 = 0


class Write16(Layout):
    """WRITE(16).

    Source: SBC3r36 5.35
    """

    operation_code: U8 = 0x8A
    wrprotect: B3 = 0
    dpo: Bit = False
    fua: Bit = False
    _1: B3 = 0
    lba: U64 = 0
    transfer_length: U32 = 0
    _2: B3 = 0
    group_number: B5 = 0
    control: U8 = 0


class OrWrite16(Layout):
    """ORWRITE(16).

    Source: SBC3r36 5.5
    """

    operation_code: U8 = 0x8B
    orprotect: B3 = 0
    dpo: Bit = False
    fua: Bit = False
    _1: B3 = 0
    lba: U64 = 0
    transfer_length: U32 = 0
    _2: B3 = 0
    group_number: B5 = 0
    control: U8 = 0


class Verify10(Layout):
    """VERIFY(10).

    Source: SBC3r36 5.29
    """

    operation_code: U8 = 0x2F
    vrprotect: B3 = 0
    dpo: Bit = False
    _1: Bit = False
    bytchk: B2 = 0
    _2: Bit = False
    lba: U32 = 0
    _3: B3 = 0
    group_number: B5 = 0
    verification_length: U16 = 0
    control: U8 = 0


class Verify12(Layout):
    """VERIFY(12).

    Source: SBC3r36 5.30
    """

    operation_code: U8 = 0xAF
    vrprotect: B3 = 0
    dpo: Bit = False
    _1: Bit = False
    bytchk: B2 = 0
    _2: Bit = False
    lba: U32 = 0
    verification_length: U32 = 0
    _3: B3 = 0
    group_number: B5 = 0
    control: U8 = 0


class Verify16(Layout):
    """VERIFY(16).

    Source: SBC3r36 5.31
    """

    operation_code: U8 = 0x8F
    vrprotect: B3 = 0
    dpo: Bit = False
    _1: Bit = False
    bytchk: B2 = 0
    _2: Bit = False
    lba: U64 = 0
    verification_length: U32 = 0
    _3: B3 = 0
    group_number: B5 = 0
    control: U8 = 0


class WriteAndVerify10(Layout):
    """WRITE AND VERIFY(10).

    Source: SBC3r36 5.37
    """

    operation_code: U8 = 0x2E
    wrprotect: B3 = 0
    dpo: Bit = False
    _1: Bit = False
    bytchk: B2 = 0
    _2: Bit = False
    lba: U32 = 0
    _3: B3 = 0
    group_number: B5 = 0
    transfer_length: U16 = 0
    control: U8 = 0


class WriteAndVerify12(Layout):
    """WRITE AND VERIFY(12).

    Source: SBC3r36 5.38
    """

    operation_code: U8 = 0xAE
    wrprotect: B3 = 0
    dpo: Bit = False
    _1: Bit = False
    bytchk: B2 = 0
    _2: Bit = False
    lba: U32 = 0
    transfer_length: U32 = 0
    _3: B3 = 0
    group_number: B5 = 0
    control: U8 = 0


class WriteAndVerify16(Layout):
    """WRITE AND VERIFY(16).

    Source: SBC3r36 5.39
    """

    operation_code: U8 = 0x8E
    wrprotect: B3 = 0
    dpo: Bit = False
    _1: Bit = False
    bytchk: B2 = 0
    _2: Bit = False
    lba: U64 = 0
    transfer_length: U32 = 0
    _3: B3 = 0
    group_number: B5 = 0
    control: U8 = 0


class ReadCapacity10(Layout):
    """READ CAPACITY(10); LOGICAL BLOCK ADDRESS and PMI are those of SBC-2.

    Source: SBC3r36 5.15
    """

    operation_code: U8 = 0x25
    _1: U8 = 0
    lba: U32 = 0
    _2: U16 = 0
    _3: B7 = 0
    pmi: Bit = False
    control: U8 = 0


class ReadCapacity16(Layout):
    """READ CAPACITY(16); LOGICAL BLOCK ADDRESS and PMI are those of SBC-2.

    Source: SBC3r36 5.16
    """

    operation_code: U8 = 0x9E
    _1: B3 = 0
    service_action: B5 = 0x10
    lba: U64 = 0
    allocation_length: U32 = 0
    _2: B7 = 0
    pmi: Bit = False
    control: U8 = 0


class GetLbaStatus(Layout):
    """GET LBA STATUS.

    Source: SBC3r36 5.4
    """

    operation_code: U8 = 0x9E
    _1: B3 = 0
    service_action: B5 = 0x12
    lba: U64 = 0
    allocation_length: U32 = 0
    _2: U8 = 0
    control: U8 = 0


class SynchronizeCache10(Layout):
    """SYNCHRONIZE CACHE(10).

    Source: SBC3r36 5.26
    """

    operation_code: U8 = 0x35
    _1: B5 = 0
    sync_nv: Bit = False
    immed: Bit = False
    _2: Bit = False
    lba: U32 = 0
    _3: B3 = 0
    group_number: B5 = 0
    number_of_logical_blocks: U16 = 0
    control: U8 = 0


class SynchronizeCache16(Layout):
    """SYNCHRONIZE CACHE(16).

    Source: SBC3r36 5.27
    """

    operation_code: U8 = 0x91
    _1: B5 = 0
    sync_nv: Bit = False
    immed: Bit = False
    _2: Bit = False
    lba: U64 = 0
    number_of_logical_blocks: U32 = 0
    _3: B3 = 0
    group_number: B5 = 0
    control: U8 = 0


class PreFetch10(Layout):
    """PRE-FETCH(10).

    Source: SBC3r36 5.8
    """

    operation_code: U8 = 0x34
    _1: B6 = 0
    immed: Bit = False
    _2: Bit = False
    lba: U32 = 0
    _3: B3 = 0
    group_number: B5 = 0
    prefetch_length: U16 = 0
    control: U8 = 0


class PreFetch16(Layout):
    """PRE-FETCH(16).

    Source: SBC3r36 5.9
    """

    operation_code: U8 = 0x90
    _1: B6 = 0
    immed: Bit = False
    _2: Bit = False
    lba: U64 = 0
    prefetch_length: U32 = 0
    _3: B3 = 0
    group_number: B5 = 0
    control: U8 = 0


class WriteSame10(Layout):
    """WRITE SAME(10); LBDATA and PBDATA are obsolete.

    Source: SBC3r36 5.43
    """

    operation_code: U8 = 0x41
    wrprotect: B3 = 0
    anchor: Bit = False
    unmap: Bit = False
    _1: B3 = 0
    lba: U32 = 0
    _2: B3 = 0
    group_number: B5 = 0
    number_of_logical_blocks: U16 = 0
    control: U8 = 0


class WriteSame16(Layout):
    """WRITE SAME(16); LBDATA and PBDATA are obsolete.

    Source: SBC3r36 5.44
    """

    operation_code: U8 = 0x93
    wrprotect: B3 = 0
    anchor: Bit = False
    unmap: Bit = False
    _1: B2 = 0
    ndob: Bit = False
    lba: U64 = 0
    number_of_logical_blocks: U32 = 0
    _2: B3 = 0
    group_number: B5 = 0
    control: U8 = 0


class Unmap(Layout):
    """UNMAP.

    Source: SBC3r36 5.28
    """

    operation_code: U8 = 0x42
    _1: B7 = 0
    anchor: Bit = False
    _2: U32 = 0
    _3: B3 = 0
    group_number: B5 = 0
    parameter_list_length: U16 = 0
    control: U8 = 0


class CompareAndWrite(Layout):
    """COMPARE AND WRITE.

    Source: SBC3r36 5.2
    """

    operation_code: U8 = 0x89
    wrprotect: B3 = 0
    dpo: Bit = False
    fua: Bit = False
    _1: B3 = 0
    lba: U64 = 0
    _2: U24 = 0
    number_of_logical_blocks: U8 = 0
    _3: B3 = 0
    group_number: B5 = 0
    control: U8 = 0


class StartStopUnit(Layout):
    """START STOP UNIT.

    Source: SBC3r36 5.25
    """

    operation_code: U8 = 0x1B
    _1: B7 = 0
    immed: Bit = False
    _2: U8 = 0
    _3: B4 = 0
    power_condition_modifier: B4 = 0
    power_condition: B4 = 0
    _4: Bit = False
    no_flush: Bit = False
    loej: Bit = False
    start: Bit = False
    control: U8 = 0


class PreventAllowMediumRemoval(Layout):
    """PREVENT ALLOW MEDIUM REMOVAL.

    Source: SBC3r36 5.10
    """

    operation_code: U8 = 0x1E
    _1: U24 = 0
    _2: B6 = 0
    prevent: B2 = 0
    control: U8 = 0
