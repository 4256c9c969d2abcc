"""Layouts of parameter data: what commands return and what their parameter lists begin with.

INQUIRY data is in `inquiry_pages`, mode pages in `mode_pages`, sense data in `status`. Variable parts are
joined from these.
"""

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
    Layout,
)


class LunListHeader(Layout):
    """What REPORT LUNS parameter data begins with.

    Source: SPC4r37 6.33
    """

    lun_list_length: U32 = 0
    _1: U32 = 0


class PeripheralLun(Layout):
    """A LUN below 256 in the peripheral device addressing method.

    Source: SAM5r21 4.7.7.2
    """

    address_method: B2 = 0
    bus_identifier: B6 = 0
    lun: U8 = 0
    _1: U48 = 0


class FlatLun(Layout):
    """A LUN in the flat space addressing method: its first two bytes are 4000h plus the LUN.

    Source: SAM5r21 4.7.7.3
    """

    address: U16 = 0x4000
    _1: U48 = 0


class ModeHeader6(Layout):
    """The mode parameter header of the 6-byte commands.

    Source: SPC4r37 7.5.5, SBC3r36 6.4.1
    """

    mode_data_length: U8 = 0
    medium_type: U8 = 0
    wp: Bit = False
    _1: B2 = 0
    dpofua: Bit = False
    _2: B4 = 0
    block_descriptor_length: U8 = 0


class ModeHeader10(Layout):
    """The mode parameter header of the 10-byte commands.

    Source: SPC4r37 7.5.5, SBC3r36 6.4.1
    """

    mode_data_length: U16 = 0
    medium_type: U8 = 0
    wp: Bit = False
    _1: B2 = 0
    dpofua: Bit = False
    _2: B4 = 0
    _3: B7 = 0
    longlba: Bit = False
    _4: U8 = 0
    block_descriptor_length: U16 = 0


class ShortBlockDescriptor(Layout):
    """The short LBA mode parameter block descriptor.

    Source: SBC3r36 6.4.2.2
    """

    number_of_logical_blocks: U32 = 0
    _1: U8 = 0
    logical_block_length: U24 = 0


class LongBlockDescriptor(Layout):
    """The long LBA mode parameter block descriptor.

    Source: SBC3r36 6.4.2.3
    """

    number_of_logical_blocks: U64 = 0
    _1: U32 = 0
    logical_block_length: U32 = 0


class ReadCapacity10Data(Layout):
    """READ CAPACITY(10) parameter data.

    Source: SBC3r36 5.15.2
    """

    returned_lba: U32 = 0
    block_length: U32 = 0


class ReadCapacity16Data(Layout):
    """READ CAPACITY(16) parameter data; physical blocks start at LBA 0, so LOWEST ALIGNED LBA is zero.

    Source: SBC3r36 5.16.2
    """

    returned_lba: U64 = 0
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


class LbaStatusHeader(Layout):
    """What GET LBA STATUS parameter data begins with.

    Source: SBC3r36 5.4.2
    """

    parameter_data_length: U32 = 0
    _1: U32 = 0


class LbaStatusDescriptor(Layout):
    """An LBA status descriptor.

    Source: SBC3r36 5.4.3
    """

    lba: U64 = 0
    number_of_logical_blocks: U32 = 0
    _1: B4 = 0
    provisioning_status: B4 = 0
    _2: U24 = 0


class UnmapHeader(Layout):
    """What the UNMAP parameter list begins with.

    Source: SBC3r36 5.28.2
    """

    unmap_data_length: U16 = 0
    unmap_block_descriptor_data_length: U16 = 0
    _1: U32 = 0


class UnmapBlockDescriptor(Layout):
    """An UNMAP block descriptor.

    Source: SBC3r36 5.28.2
    """

    lba: U64 = 0
    number_of_logical_blocks: U32 = 0
    _1: U32 = 0


class AllCommandsHeader(Layout):
    """What RSOC parameter data of all commands begins with.

    Source: SPC4r37 6.35.2
    """

    command_data_length: U32 = 0


class CommandDescriptor(Layout):
    """A command descriptor of RSOC.

    Source: SPC4r37 6.35.2
    """

    operation_code: U8 = 0
    _1: U8 = 0
    service_action: U16 = 0
    _2: U8 = 0
    _3: B6 = 0
    ctdp: Bit = False
    servactv: Bit = False
    cdb_length: U16 = 0


class OneCommandHeader(Layout):
    """What RSOC parameter data of one command begins with; the CDB usage data follows.

    Source: SPC4r37 6.35.3
    """

    _1: U8 = 0
    ctdp: Bit = False
    _2: B4 = 0
    support: B3 = 0
    cdb_size: U16 = 0


class CommandTimeoutsDescriptor(Layout):
    """A command timeouts descriptor of RSOC; zero says nothing about a time.

    Source: SPC4r37 6.35.4
    """

    descriptor_length: U16 = 0x000A
    _1: U8 = 0
    command_specific: U8 = 0
    nominal_command_processing_timeout: U32 = 0
    recommended_command_timeout: U32 = 0


class EventInformation(Layout):
    """What QUERY ASYNCHRONOUS EVENT tells of the first event that is pending.

    Source: SAM5r21 7.10
    """

    _1: B2 = 0
    uade_depth: B2 = 0
    sense_key: B4 = 0
    additional_sense_code: U16 = 0


class TaskManagementData(Layout):
    """REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS parameter data, basic form: what the unit does.

    A session can ask for QTS, QAES, QTSS and ITNRS when it negotiated iSCSIProtocolLevel=2.
    Source: SPC4r37 6.36, RFC7144 4
    """

    ats: Bit = True
    atss: Bit = True
    cacas: Bit = True
    ctss: Bit = True
    lurs: Bit = True
    qts: Bit = True
    trs: Bit = True
    wakes: Bit = False
    _1: B5 = 0
    qaes: Bit = True
    qtss: Bit = True
    itnrs: Bit = True
    _2: U8 = 0
    additional_length: U8 = 0


class TaskManagementTimeouts(Layout):
    """What the extended form adds; zero says nothing about a time.

    Source: SPC4r37 6.36
    """

    _1: U8 = 0
    _2: B7 = 0
    tmftmov: Bit = False
    _3: U8 = 0
    ats_timeout_selector: Bit = False
    atss_timeout_selector: Bit = False
    cacas_timeout_selector: Bit = False
    ctss_timeout_selector: Bit = False
    lurs_timeout_selector: Bit = False
    qts_timeout_selector: Bit = False
    trs_timeout_selector: Bit = False
    wakes_timeout_selector: Bit = False
    tmf_long_timeout: U32 = 0
    tmf_short_timeout: U32 = 0
