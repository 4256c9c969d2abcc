"""The CDBs of SPC-4, one layout per command, in the order of the standard's figures.

Fields that the target does not evaluate are declared all the same: the row of the command table names them as
unsupported, so that a value in them is refused with a field pointer and RSOC says that they are not used.
Bits that the standard reserves or has made obsolete have names with an underscore. The CONTROL byte is one
field, as all commands have it: `Control` says what is in it.
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
    Bit,
    Layout,
)


class ServiceActionCdb(Layout):
    """The first two bytes of a CDB whose operation code has service actions in byte 1.

    Source: SPC4r37 4.2.5.3
    """

    operation_code: U8 = 0
    _1: B3 = 0
    service_action: B5 = 0


class Control(Layout):
    """The CONTROL byte; its first two bits are vendor specific, its last two obsolete.

    Source: SAM5r21 5.2
    """

    _1: B5 = 0
    naca: Bit = False
    _2: B2 = 0


class TestUnitReady(Layout):
    """TEST UNIT READY.

    Source: SPC4r37 6.47
    """

    operation_code: U8 = 0x00
    _1: U32 = 0
    control: U8 = 0


class RequestSense(Layout):
    """REQUEST SENSE.

    Source: SPC4r37 6.39
    """

    operation_code: U8 = 0x03
    _1: B7 = 0
    desc: Bit = False
    _2: U16 = 0
    allocation_length: U8 = 0
    control: U8 = 0


class Inquiry(Layout):
    """INQUIRY; CMDDT is obsolete.

    Source: SPC4r37 6.6
    """

    operation_code: U8 = 0x12
    _1: B7 = 0
    evpd: Bit = False
    page_code: U8 = 0
    allocation_length: U16 = 0
    control: U8 = 0


class ModeSelect6(Layout):
    """MODE SELECT(6).

    Source: SPC4r37 6.11
    """

    operation_code: U8 = 0x15
    _1: B3 = 0
    pf: Bit = False
    _2: B3 = 0
    sp: Bit = False
    _3: U16 = 0
    parameter_list_length: U8 = 0
    control: U8 = 0


class ModeSelect10(Layout):
    """MODE SELECT(10).

    Source: SPC4r37 6.12
    """

    operation_code: U8 = 0x55
    _1: B3 = 0
    pf: Bit = False
    _2: B3 = 0
    sp: Bit = False
    _3: U32 = 0
    _4: U8 = 0
    parameter_list_length: U16 = 0
    control: U8 = 0


class ModeSense6(Layout):
    """MODE SENSE(6).

    Source: SPC4r37 6.13
    """

    operation_code: U8 = 0x1A
    _1: B4 = 0
    dbd: Bit = False
    _2: B3 = 0
    page_control: B2 = 0
    page_code: B6 = 0
    subpage_code: U8 = 0
    allocation_length: U8 = 0
    control: U8 = 0


class ModeSense10(Layout):
    """MODE SENSE(10).

    Source: SPC4r37 6.14
    """

    operation_code: U8 = 0x5A
    _1: B3 = 0
    llbaa: Bit = False
    dbd: Bit = False
    _2: B3 = 0
    page_control: B2 = 0
    page_code: B6 = 0
    subpage_code: U8 = 0
    _3: U24 = 0
    allocation_length: U16 = 0
    control: U8 = 0


class LogSelect(Layout):
    """LOG SELECT.

    Source: SPC4r37 6.7
    """

    operation_code: U8 = 0x4C
    _1: B6 = 0
    pcr: Bit = False
    sp: Bit = False
    pc: B2 = 0
    page_code: B6 = 0
    subpage_code: U8 = 0
    _2: U24 = 0
    parameter_list_length: U16 = 0
    control: U8 = 0


class LogSense(Layout):
    """LOG SENSE.

    Source: SPC4r37 6.8
    """

    operation_code: U8 = 0x4D
    _1: B7 = 0
    sp: Bit = False
    pc: B2 = 0
    page_code: B6 = 0
    subpage_code: U8 = 0
    _2: U8 = 0
    parameter_pointer: U16 = 0
    allocation_length: U16 = 0
    control: U8 = 0


class Reserve6(Layout):
    """RESERVE(6).

    Source: SPC2r20 7.22
    """

    operation_code: U8 = 0x16
    _1: B3 = 0
    third_party: Bit = False
    third_party_device_id: B3 = 0
    extent: Bit = False
    reservation_identification: U8 = 0
    extent_list_length: U16 = 0
    control: U8 = 0


class Release6(Layout):
    """RELEASE(6).

    Source: SPC2r20 7.17
    """

    operation_code: U8 = 0x17
    _1: B3 = 0
    third_party: Bit = False
    third_party_device_id: B3 = 0
    extent: Bit = False
    reservation_identification: U8 = 0
    _2: U16 = 0
    control: U8 = 0


class Reserve10(Layout):
    """RESERVE(10).

    Source: SPC2r20 7.21
    """

    operation_code: U8 = 0x56
    _1: B3 = 0
    third_party: Bit = False
    _2: B2 = 0
    long_id: Bit = False
    extent: Bit = False
    reservation_identification: U8 = 0
    third_party_device_id: U8 = 0
    _3: U24 = 0
    parameter_list_length: U16 = 0
    control: U8 = 0


class Release10(Layout):
    """RELEASE(10).

    Source: SPC2r20 7.16
    """

    operation_code: U8 = 0x57
    _1: B3 = 0
    third_party: Bit = False
    _2: B2 = 0
    long_id: Bit = False
    extent: Bit = False
    reservation_identification: U8 = 0
    third_party_device_id: U8 = 0
    _3: U24 = 0
    parameter_list_length: U16 = 0
    control: U8 = 0


class ReportLuns(Layout):
    """REPORT LUNS.

    Source: SPC4r37 6.33
    """

    operation_code: U8 = 0xA0
    _1: U8 = 0
    select_report: U8 = 0
    _2: U24 = 0
    allocation_length: U32 = 0
    _3: U8 = 0
    control: U8 = 0


class ReportSupportedOperationCodes(Layout):
    """REPORT SUPPORTED OPERATION CODES.

    Source: SPC4r37 6.35
    """

    operation_code: U8 = 0xA3
    _1: B3 = 0
    service_action: B5 = 0x0C
    rctd: Bit = False
    _2: B4 = 0
    reporting_options: B3 = 0
    requested_operation_code: U8 = 0
    requested_service_action: U16 = 0
    allocation_length: U32 = 0
    _3: U8 = 0
    control: U8 = 0


class ReportSupportedTaskManagementFunctions(Layout):
    """REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.

    Source: SPC4r37 6.36
    """

    operation_code: U8 = 0xA3
    _1: B3 = 0
    service_action: B5 = 0x0D
    repd: Bit = False
    _2: B7 = 0
    _3: U24 = 0
    allocation_length: U32 = 0
    _4: U8 = 0
    control: U8 = 0


class PersistentReserveIn(Layout):
    """PERSISTENT RESERVE IN; the service action is that of the row in the command table.

    Source: SPC4r37 6.15.1
    """

    operation_code: U8 = 0x5E
    _1: B3 = 0
    service_action: B5 = 0
    _2: U32 = 0
    _3: U8 = 0
    allocation_length: U16 = 0
    control: U8 = 0


class PersistentReserveOut(Layout):
    """PERSISTENT RESERVE OUT; the service action is that of the row in the command table.

    Source: SPC4r37 6.16.1
    """

    operation_code: U8 = 0x5F
    _1: B3 = 0
    service_action: B5 = 0
    scope: B4 = 0
    type: B4 = 0
    _2: U16 = 0
    parameter_list_length: U32 = 0
    control: U8 = 0
