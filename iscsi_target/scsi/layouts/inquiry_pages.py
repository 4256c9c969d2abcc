"""Layouts of INQUIRY data: the standard data and the VPD pages after their header."""

from iscsi_target.wire.layout import (
    B2,
    B3,
    B4,
    B5,
    B6,
    B7,
    U8,
    U16,
    U24,
    U32,
    U48,
    U64,
    Bit,
    Bytes4,
    Bytes8,
    Bytes16,
    Layout,
)

DIRECT_ACCESS_BLOCK_DEVICE = 0x00
UNKNOWN_DEVICE = 0x1F
NOT_CAPABLE = 0b011  # PERIPHERAL QUALIFIER: no logical unit can be there


class StandardInquiryData(Layout):
    """Standard INQUIRY data, 96 bytes; VERSION is that of SPC-3.

    libiscsi 1.20.3 wants of a target with VERSION 6 that EXTENDED COPY takes reserved LU ID TYPEs and
    skips half of ExtendedCopy.ValidTgtDescr; the version descriptors tell what is really claimed.
    Source: SPC4r37 6.6.2
    """

    peripheral_qualifier: B3 = 0
    peripheral_device_type: B5 = 0
    rmb: Bit = False
    lu_cong: Bit = False
    _1: B6 = 0
    version: U8 = 0x05
    _2: B2 = 0
    normaca: Bit = True
    hisup: Bit = True
    response_data_format: B4 = 2
    additional_length: U8 = 91
    sccs: Bit = False
    acc: Bit = False
    tpgs: B2 = 0
    third_party_copy: Bit = False
    _3: B2 = 0
    protect: Bit = False
    _4: Bit = False
    encserv: Bit = False
    vs_1: Bit = False
    multip: Bit = False
    _5: B4 = 0
    _6: B6 = 0
    cmdque: Bit = True
    vs_2: Bit = False
    vendor: Bytes8
    product: Bytes16
    revision: Bytes4
    _7: U64 = 0
    _8: U64 = 0
    _9: U32 = 0
    _10: U16 = 0
    version_descriptor_1: U16 = 0x00A0  # SAM-5
    version_descriptor_2: U16 = 0x0460  # SPC-4
    version_descriptor_3: U16 = 0x04C0  # SBC-3
    version_descriptor_4: U16 = 0x0960  # iSCSI
    version_descriptor_5: U16 = 0
    version_descriptor_6: U16 = 0
    version_descriptor_7: U16 = 0
    version_descriptor_8: U16 = 0
    _11: U64 = 0
    _12: U64 = 0
    _13: U48 = 0


class VpdHeader(Layout):
    """What every VPD page begins with.

    Source: SPC4r37 7.8.2
    """

    peripheral_qualifier: B3 = 0
    peripheral_device_type: B5 = 0
    page_code: U8 = 0
    page_length: U16 = 0


class VpdPageCode(Layout):
    """An entry of the supported VPD pages page.

    Source: SPC4r37 7.8.16
    """

    page_code: U8 = 0


class DesignationDescriptor(Layout):
    """The header of a designation descriptor of VPD page 83h.

    Source: SPC4r37 7.8.6.1
    """

    protocol_identifier: B4 = 0
    code_set: B4 = 0
    piv: Bit = False
    _1: Bit = False
    association: B2 = 0
    designator_type: B4 = 0
    _2: U8 = 0
    designator_length: U8 = 0


class NumberedDesignator(Layout):
    """The designator of a relative target port or a target port group.

    Source: SPC4r37 7.8.6.8, 7.8.6.9
    """

    _1: U16 = 0
    number: U16 = 0


class ExtendedInquiryData(Layout):
    """The extended INQUIRY data VPD page after its header.

    Source: SPC4r37 7.8.7
    """

    activate_microcode: B2 = 0
    spt: B3 = 0
    grd_chk: Bit = False
    app_chk: Bit = False
    ref_chk: Bit = False
    _1: B2 = 0
    uask_sup: Bit = False
    group_sup: Bit = False
    prior_sup: Bit = False
    headsup: Bit = True
    ordsup: Bit = True
    simpsup: Bit = True
    _2: B4 = 0
    wu_sup: Bit = False
    crd_sup: Bit = False
    nv_sup: Bit = False
    v_sup: Bit = True
    _3: B3 = 0
    p_i_i_sup: Bit = False
    _4: B3 = 0
    luiclr: Bit = False
    _5: B3 = 0
    r_sup: Bit = False
    _6: B3 = 0
    cbcs: Bit = False
    _7: B4 = 0
    multi_i_t_nexus_microcode_download: B4 = 0
    extended_self_test_completion_minutes: U16 = 0
    poa_sup: Bit = False
    hra_sup: Bit = False
    vsa_sup: Bit = False
    _8: B5 = 0
    maximum_supported_sense_data_length: U8 = 0
    _9: U64 = 0
    _10: U64 = 0
    _11: U64 = 0
    _12: U64 = 0
    _13: U64 = 0
    _14: U64 = 0
    _15: U16 = 0


class ModePagePolicyDescriptor(Layout):
    """A descriptor of the mode page policy VPD page.

    Source: SPC4r37 7.8.9
    """

    _1: B2 = 0
    policy_page_code: B6 = 0x3F
    policy_subpage_code: U8 = 0xFF
    mlus: Bit = False
    _2: B5 = 0
    mode_page_policy: B2 = 0
    _3: U8 = 0


class BlockLimits(Layout):
    """The block limits VPD page after its header.

    Source: SBC3r36 6.5.3, SBC4r22 6.6.4
    """

    _1: B7 = 0
    wsnz: Bit = False
    maximum_compare_and_write_length: U8 = 0
    optimal_transfer_length_granularity: U16 = 0
    maximum_transfer_length: U32 = 0
    optimal_transfer_length: U32 = 0
    maximum_prefetch_length: U32 = 0
    maximum_unmap_lba_count: U32 = 0
    maximum_unmap_block_descriptor_count: U32 = 0
    optimal_unmap_granularity: U32 = 0
    ugavalid: Bit = False
    _2: B7 = 0
    _3: U24 = 0
    maximum_write_same_length: U64 = 0
    maximum_atomic_transfer_length: U32 = 0
    atomic_alignment: U32 = 0
    atomic_transfer_length_granularity: U32 = 0
    maximum_atomic_transfer_length_with_atomic_boundary: U32 = 0
    maximum_atomic_boundary_size: U32 = 0


class BlockDeviceCharacteristics(Layout):
    """The block device characteristics VPD page after its header.

    Source: SBC3r36 6.5.2
    """

    medium_rotation_rate: U16 = 0
    product_type: U8 = 0
    wabereq: B2 = 0
    wacereq: B2 = 0
    nominal_form_factor: B4 = 0
    _1: B6 = 0
    fuab: Bit = False
    vbuls: Bit = False
    _2: U24 = 0
    _3: U64 = 0
    _4: U64 = 0
    _5: U64 = 0
    _6: U64 = 0
    _7: U64 = 0
    _8: U64 = 0
    _9: U32 = 0


class LogicalBlockProvisioning(Layout):
    """The logical block provisioning VPD page after its header.

    Source: SBC3r36 6.5.4
    """

    threshold_exponent: U8 = 0
    lbpu: Bit = False
    lbpws: Bit = False
    lbpws10: Bit = False
    _1: B2 = 0
    lbprz: Bit = False
    anc_sup: Bit = False
    dp: Bit = False
    _2: B5 = 0
    provisioning_type: B3 = 0
    _3: U8 = 0
