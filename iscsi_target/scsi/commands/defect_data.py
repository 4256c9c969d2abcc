"""READ DEFECT DATA(10) and (12): the lists of defects, which are empty, as a file or device below maps its own out.

An empty list is the same in every format, so it is returned in the one that is asked for.
"""

from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Done
from iscsi_target.scsi.status import InvalidFieldInCdb
from iscsi_target.wire.layout import B3, U8, U16, U32, Bit, Layout

RESERVED_FORMAT = 0b111  # of address descriptors. Source: SBC3r36 6.2.1


class ReadDefectData10(Layout):
    """READ DEFECT DATA(10).

    Source: SBC3r36 5.17
    """

    operation_code: U8 = 0x37
    _1: U8 = 0
    _2: B3 = 0
    req_plist: Bit = False
    req_glist: Bit = False
    defect_list_format: B3 = 0
    _3: U32 = 0
    allocation_length: U16 = 0
    control: U8 = 0


class ReadDefectData12(Layout):
    """READ DEFECT DATA(12).

    Source: SBC3r36 5.18
    """

    operation_code: U8 = 0xB7
    _1: B3 = 0
    req_plist: Bit = False
    req_glist: Bit = False
    defect_list_format: B3 = 0
    address_descriptor_index: U32 = 0
    allocation_length: U32 = 0
    _2: U8 = 0
    control: U8 = 0


class DefectList10(Layout):
    """What READ DEFECT DATA(10) returns before the address descriptors.

    Source: SBC3r36 5.17.2
    """

    _1: U8 = 0
    _2: B3 = 0
    plistv: Bit = False
    glistv: Bit = False
    defect_list_format: B3 = 0
    defect_list_length: U16 = 0


class DefectList12(Layout):
    """What READ DEFECT DATA(12) returns before the address descriptors; the generation is not counted.

    Source: SBC3r36 5.18.2
    """

    _1: U8 = 0
    _2: B3 = 0
    plistv: Bit = False
    glistv: Bit = False
    defect_list_format: B3 = 0
    generation_code: U16 = 0
    defect_list_length: U32 = 0


def read_defect_data(device: Device, cdb: ReadDefectData10 | ReadDefectData12, call: Call) -> Done:
    """Answers READ DEFECT DATA(10) and (12) with the lists that are asked for, which are empty.

    raises   InvalidFieldInCdb for the reserved format
    Source: SBC3r36 5.17, 5.18
    """
    if cdb.defect_list_format == RESERVED_FORMAT:
        raise InvalidFieldInCdb(type(cdb), "defect_list_format")
    header = DefectList10 if isinstance(cdb, ReadDefectData10) else DefectList12
    lists = header(plistv=cdb.req_plist, glistv=cdb.req_glist, defect_list_format=cdb.defect_list_format)
    return Done(lists.pack()[: cdb.allocation_length])
