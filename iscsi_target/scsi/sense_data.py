"""The layouts of sense data in both formats; what goes into them is `status.Sense`'s business."""

from iscsi_target.wire.layout import B2, B3, B4, B7, U8, U16, U32, U64, Bit, Layout


class FixedSense(Layout):
    """Fixed format sense data; a progress indication lies where the field pointer does.

    Source: SPC4r37 4.5.3, 4.5.2.4
    """

    valid: Bit = False
    response_code: B7 = 0x70
    _1: U8 = 0
    filemark: Bit = False
    eom: Bit = False
    ili: Bit = False
    sdat_ovfl: Bit = False
    sense_key: B4 = 0
    information: U32 = 0
    additional_sense_length: U8 = 10
    command_specific_information: U32 = 0
    additional_sense_code: U16 = 0
    field_replaceable_unit_code: U8 = 0
    sksv: Bit = False
    command_data: Bit = False
    _2: B2 = 0
    bpv: Bit = False
    bit_pointer: B3 = 0
    field_pointer: U16 = 0


class DescriptorSense(Layout):
    """The header of descriptor format sense data.

    Source: SPC4r37 4.5.2.1
    """

    _1: Bit = False
    response_code: B7 = 0x72
    _2: B4 = 0
    sense_key: B4 = 0
    additional_sense_code: U16 = 0
    sdat_ovfl: Bit = False
    _3: B7 = 0
    _4: U16 = 0
    additional_sense_length: U8 = 0


class InformationDescriptor(Layout):
    """The sense data descriptor that says where.

    Source: SPC4r37 4.5.2.2
    """

    descriptor_type: U8 = 0x00
    additional_length: U8 = 0x0A
    valid: Bit = True
    _1: B7 = 0
    _2: U8 = 0
    information: U64 = 0


class CommandSpecificDescriptor(Layout):
    """The sense data descriptor whose meaning depends on the command.

    Source: SPC4r37 4.5.2.3
    """

    descriptor_type: U8 = 0x01
    additional_length: U8 = 0x0A
    _1: U16 = 0
    command_specific_information: U64 = 0


class SenseKeySpecificDescriptor(Layout):
    """The sense data descriptor of a field pointer or of a progress indication, which share their bytes.

    Source: SPC4r37 4.5.2.4
    """

    descriptor_type: U8 = 0x02
    additional_length: U8 = 0x06
    _1: U16 = 0
    sksv: Bit = True
    command_data: Bit = False
    _2: B2 = 0
    bpv: Bit = False
    bit_pointer: B3 = 0
    field_pointer: U16 = 0
    _3: U8 = 0
