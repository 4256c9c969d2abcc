"""REPORT IDENTIFYING INFORMATION and SET IDENTIFYING INFORMATION: what initiators have written on the unit's label.

There are two labels, one of any bytes and one of text. Both are the device's, not the medium's, and outlive a restart.

Source: SPC4r37 5.6, 6.32, 6.43
"""

from collections.abc import Mapping

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Done, Save
from iscsi_target.scsi.status import InvalidFieldInCdb, InvalidFieldInParameterList, ParameterListLengthError
from iscsi_target.wire.layout import B3, B5, B7, U8, U16, U32, Bit, Layout

ANY_BYTES, TEXT, SUPPORTED = 0b0000000, 0b0000010, 0b1111111  # INFORMATION TYPE. Source: SPC4r37 6.32
MAX_BYTES: Mapping[int, int] = {ANY_BYTES: 512, TEXT: 256}  # the most that the standard allows. Source: SPC4r37 5.6


class ReportIdentifyingInformation(Layout):
    """REPORT IDENTIFYING INFORMATION; bytes 4 and 5 are left to SCC-2.

    Source: SPC4r37 6.32
    """

    operation_code: U8 = 0xA3
    _1: B3 = 0
    service_action: B5 = 0x05
    _2: U16 = 0
    _3: U16 = 0
    allocation_length: U32 = 0
    information_type: B7 = 0
    _4: Bit = False
    control: U8 = 0


class SetIdentifyingInformation(Layout):
    """SET IDENTIFYING INFORMATION; bytes 4 and 5 are left to SCC-2.

    Source: SPC4r37 6.43
    """

    operation_code: U8 = 0xA4
    _1: B3 = 0
    service_action: B5 = 0x06
    _2: U16 = 0
    _3: U16 = 0
    parameter_list_length: U32 = 0
    information_type: B7 = 0
    _4: Bit = False
    control: U8 = 0


class InformationHeader(Layout):
    """What stands before the information, or before the descriptors.

    Source: SPC4r37 6.32
    """

    _1: U16 = 0
    identifying_information_length: U16 = 0


class InformationDescriptor(Layout):
    """A type of information that there can be.

    Source: SPC4r37 6.32
    """

    information_type: B7 = 0
    _1: Bit = False
    _2: U8 = 0
    maximum_identifying_information_length: U16 = 0


def report_identifying_information(device: Device, cdb: ReportIdentifyingInformation, call: Call) -> Done:
    """Answers REPORT IDENTIFYING INFORMATION.

    raises   InvalidFieldInCdb for a type that there is not
    Source: SPC4r37 6.32
    """
    if cdb.information_type == SUPPORTED:
        information = b"".join(
            InformationDescriptor(information_type=kind, maximum_identifying_information_length=most).pack()
            for kind, most in MAX_BYTES.items()
        )
    elif cdb.information_type in MAX_BYTES:
        information = device.identifying_information.get(cdb.information_type, b"")
    else:
        raise InvalidFieldInCdb(ReportIdentifyingInformation, "information_type")
    header = InformationHeader(identifying_information_length=len(information))
    return Done((header.pack() + information)[: cdb.allocation_length])


def wanted_by_set_identifying_information(device: Device, cdb: SetIdentifyingInformation) -> int:
    """Returns the bytes of Data-Out that SET IDENTIFYING INFORMATION asks for; none when there are too many."""
    length = cdb.parameter_list_length
    return length if length <= MAX_BYTES.get(cdb.information_type, 0) else 0


def set_identifying_information(device: Device, cdb: SetIdentifyingInformation, call: Call) -> Save:
    """Answers SET IDENTIFYING INFORMATION; the other nexuses learn of it.

    raises   InvalidFieldInCdb for a type that there is not, or for more bytes than it can have;
             ParameterListLengthError for a list that ends too early; InvalidFieldInParameterList for a text that is not
             UTF-8 with a NUL at its end
    Source: SPC4r37 6.43
    """
    kind, length = cdb.information_type, cdb.parameter_list_length
    if kind not in MAX_BYTES:
        raise InvalidFieldInCdb(SetIdentifyingInformation, "information_type")
    if length > MAX_BYTES[kind]:
        raise InvalidFieldInCdb(SetIdentifyingInformation, "parameter_list_length")
    if len(call.data_out) < length:
        raise ParameterListLengthError
    information = bytes(call.data_out[:length])
    if kind == TEXT and information and not _is_text(information):
        raise InvalidFieldInParameterList(0)
    changed = {**device.identifying_information, kind: information}

    def adopt() -> Done:
        device.identifying_information = changed
        return Done(attention=AttentionCode.DEVICE_IDENTIFIER_CHANGED)

    return Save(device.kept(identifying_information=changed), adopt)


def _is_text(information: bytes) -> bool:
    try:
        text = information.decode()
    except UnicodeDecodeError:
        return False
    return text.find("\0") == len(text) - 1
