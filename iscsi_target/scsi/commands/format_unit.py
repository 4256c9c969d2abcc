"""FORMAT UNIT: every block becomes zeros, or the pattern of the parameter list; size and length of blocks stay.

It is carried out as a sanitize operation is (see `sanitization`): what is to be done is in the state file before
anything is overwritten, and goes on through resets and restarts, with FORMAT IN PROGRESS meanwhile. One that the medium
fails ends with FORMAT COMMAND FAILED, and what needs the medium with MEDIUM FORMAT CORRUPTED until it is done again. A
thin unit that gets no pattern gives its blocks back.

There are no defects, so lists of them must be empty and how to treat them means nothing. The CDB does not say how long
the parameter list is: what the initiator has for it is taken, as far as it can have a meaning.

Source: SBC3r36 4.33, 5.3
"""

from iscsi_target.scsi.commands.block_range import check_writable
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.scsi.state.task import Begin, Call, Save
from iscsi_target.scsi.status import InvalidFieldInCdb, InvalidFieldInParameterList, ParameterListLengthError
from iscsi_target.wire.layout import B2, B3, B4, B5, U8, U16, U32, Bit, Layout

DEFECT_LIST_FORMATS = (0b000, 0b011, 0b100, 0b101)  # Source: SBC3r36 5.3.1
DEFAULT_PATTERN, REPEATED_PATTERN = 0x00, 0x01  # INITIALIZATION PATTERN TYPE. Source: SBC3r36 5.3.2.3


class FormatUnit(Layout):
    """FORMAT UNIT.

    Source: SBC3r36 5.3.1
    """

    operation_code: U8 = 0x04
    fmtpinfo: B2 = 0
    longlist: Bit = False
    fmtdata: Bit = False
    cmplst: Bit = False
    defect_list_format: B3 = 0
    _1: U8 = 0
    _2: U16 = 0
    control: U8 = 0


class ShortHeader(Layout):
    """The parameter list header without LONGLIST.

    Source: SBC3r36 5.3.2.2
    """

    _1: B5 = 0
    protection_fields_usage: B3 = 0
    fov: Bit = False
    dpry: Bit = False
    dcrt: Bit = False
    stpf: Bit = False
    ip: Bit = False
    _2: Bit = False
    immed: Bit = False
    _3: Bit = False
    defect_list_length: U16 = 0


class LongHeader(Layout):
    """The parameter list header with LONGLIST.

    Source: SBC3r36 5.3.2.2
    """

    _1: B5 = 0
    protection_fields_usage: B3 = 0
    fov: Bit = False
    dpry: Bit = False
    dcrt: Bit = False
    stpf: Bit = False
    ip: Bit = False
    _2: Bit = False
    immed: Bit = False
    _3: Bit = False
    _4: U8 = 0
    p_i_information: B4 = 0
    protection_interval_exponent: B4 = 0
    defect_list_length: U32 = 0


class PatternDescriptor(Layout):
    """What stands before the initialization pattern; IP MODIFIER is obsolete, and taken for reserved.

    Source: SBC3r36 5.3.2.3
    """

    _1: B2 = 0
    si: Bit = False
    _2: B5 = 0
    initialization_pattern_type: U8 = 0
    initialization_pattern_length: U16 = 0


Header = ShortHeader | LongHeader
OPTIONS = ("dpry", "dcrt", "stpf", "ip")  # that FOV says are meant. Source: SBC3r36 5.3.2.2


def wanted_by_format_unit(device: Device, cdb: FormatUnit) -> int:
    """Returns the most bytes of Data-Out that FORMAT UNIT can have a use for."""
    if not cdb.fmtdata:
        return 0
    return LongHeader.size + PatternDescriptor.size + device.geometry.block_length_bytes


def format_unit(device: Device, cdb: FormatUnit, call: Call) -> Save:
    """Answers FORMAT UNIT.

    raises   WriteProtected; InvalidFieldInCdb for a defect list without a parameter list, or of a form that there is
             not; ParameterListLengthError for a list that ends too early; InvalidFieldInParameterList for protection,
             defects, options that FOV does not say are meant, or a pattern that is none or is to reach what no LBA does
    Source: SBC3r36 5.3
    """
    check_writable(device)
    for name in ("longlist", "cmplst", "defect_list_format"):
        if getattr(cdb, name) and not cdb.fmtdata:
            raise InvalidFieldInCdb(FormatUnit, name)
    if cdb.defect_list_format not in DEFECT_LIST_FORMATS:
        raise InvalidFieldInCdb(FormatUnit, "defect_list_format")
    header, pattern = _parameters(device, cdb, bytes(call.data_out)) if cdb.fmtdata else (ShortHeader(), b"")
    block_bytes, _, blocks = device.geometry
    wanted = Sanitization(Method.FORMAT, blocks * block_bytes, pattern=pattern, medium=device.medium)
    return Save(device.kept()._replace(sanitization=wanted), lambda: Begin(wanted, header.immed))


def _parameters(device: Device, cdb: FormatUnit, parameters: bytes) -> tuple[Header, bytes]:
    """Returns the header, and the pattern that fills a block or nothing."""
    layout = LongHeader if cdb.longlist else ShortHeader
    if len(parameters) < layout.size:
        raise ParameterListLengthError
    header = layout.unpack(parameters)
    _check_header(header, parameters)
    return header, _pattern(device, parameters[layout.size :], layout.size) if header.ip else b""


def _check_header(header: Header, parameters: bytes) -> None:
    layout = type(header)
    wrong = ["protection_fields_usage", "defect_list_length"]
    if isinstance(header, LongHeader):
        wrong += ["p_i_information", "protection_interval_exponent"]
    if not header.fov:
        wrong += OPTIONS
    places = (layout.location(name) for name in wrong if getattr(header, name))
    place = layout.reserved_bit(parameters) or next(places, None)
    if place is not None:
        raise InvalidFieldInParameterList(*place)


def _pattern(device: Device, parameters: bytes, at: int) -> bytes:
    """Returns what fills a block.

    at   where the descriptor stands in the parameter list
    """
    if len(parameters) < PatternDescriptor.size:
        raise ParameterListLengthError
    descriptor = PatternDescriptor.unpack(parameters)
    wrong = PatternDescriptor.reserved_bit(parameters)
    if descriptor.si:
        wrong = PatternDescriptor.location("si")
    if wrong is not None:
        raise InvalidFieldInParameterList(at + wrong.byte, wrong.bit)
    length, block_bytes = descriptor.initialization_pattern_length, device.geometry.block_length_bytes
    kind = descriptor.initialization_pattern_type
    if kind not in (DEFAULT_PATTERN, REPEATED_PATTERN):
        raise InvalidFieldInParameterList(at + PatternDescriptor.location("initialization_pattern_type").byte)
    if bool(length) != (kind == REPEATED_PATTERN) or length > block_bytes:
        raise InvalidFieldInParameterList(at + PatternDescriptor.location("initialization_pattern_length").byte)
    pattern = parameters[PatternDescriptor.size : PatternDescriptor.size + length]
    if len(pattern) < length:
        raise ParameterListLengthError
    return (pattern * -(-block_bytes // length))[:block_bytes] if length else b""
