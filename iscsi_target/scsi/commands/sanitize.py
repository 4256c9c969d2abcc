"""SANITIZE: its CDB, its handlers, and which other commands are processed while a medium is being sanitized.

A handler checks what it is asked for and has the operation written to the state file; from then on it goes on whatever
happens, and is the business of `sanitizer`. What it does to the medium is told in `sanitization`.
"""

from iscsi_target.scsi.commands.block_range import check_writable
from iscsi_target.scsi.layouts.cdb import LogSense, ModeSense6, ModeSense10
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.scsi.state.task import Begin, Call, Done, Leave, Reply, Save
from iscsi_target.scsi.status import (
    CheckCondition,
    InvalidFieldInCdb,
    InvalidFieldInParameterList,
    ParameterListLengthError,
    Sense,
    SenseKey,
)
from iscsi_target.wire.layout import B2, B5, U8, U16, U32, Bit, Layout

EXIT_FAILURE_MODE = 0x1F
TEMPERATURE_PAGE = (0x0D, 0x00)
# Informational exceptions control, caching, control, protocol specific logical unit and port. Source: SBC4r22 4.11.2
READABLE_MODE_PAGES = ((0x1C, 0x00), (0x08, 0x00), (0x0A, 0x00), (0x18, 0x00), (0x19, 0x00))


class Sanitize(Layout):
    """SANITIZE.

    What is ZNR in SBC-4, and means nothing where there are no zones, is reserved in SBC-3, to which a unit conforms by
    its INQUIRY data; libiscsi 1.19 (Sanitize.BlockEraseReserved) wants it refused.
    Source: SBC3r36 5.24.1
    """

    operation_code: U8 = 0x48
    immed: Bit = False
    _1: Bit = False
    ause: Bit = False
    service_action: B5 = 0
    _2: U32 = 0
    _3: U8 = 0
    parameter_list_length: U16 = 0
    control: U8 = 0


class OverwriteHeader(Layout):
    """The parameter list of the OVERWRITE service action up to the initialization pattern.

    Source: SBC3r36 5.24.2.2
    """

    invert: Bit = False
    test: B2 = 0
    overwrite_count: B5 = 0
    _1: U8 = 0
    initialization_pattern_length: U16 = 0


def wanted_by_overwrite(device: Device, cdb: Sanitize) -> int:
    """Returns the bytes of Data-Out that OVERWRITE asks for, nothing for a length that a list cannot have."""
    return cdb.parameter_list_length if _has_list(device, cdb) else 0


def _has_list(device: Device, cdb: Sanitize) -> bool:
    pattern_length = cdb.parameter_list_length - OverwriteHeader.size
    return 0 < pattern_length <= device.geometry.block_length_bytes


def overwrite(device: Device, cdb: Sanitize, call: Call) -> Reply:
    """Answers SANITIZE with OVERWRITE: everything is overwritten with a pattern, as often as the list says.

    raises   WriteProtected; InvalidFieldInCdb for a parameter list length that cannot be, and for AUSE after a failure
             without it; ParameterListLengthError for a list that ends too early; InvalidFieldInParameterList
    Source: SBC3r36 5.24.2.2
    """
    if not _has_list(device, cdb):
        raise InvalidFieldInCdb(Sanitize, "parameter_list_length")
    _check_permitted(device, cdb)
    if len(call.data_out) < cdb.parameter_list_length:
        raise ParameterListLengthError
    parameters = bytes(call.data_out)
    header = OverwriteHeader.unpack(parameters)
    _check_header(device, header, parameters)
    end = OverwriteHeader.size + header.initialization_pattern_length
    if end > len(parameters):
        raise ParameterListLengthError
    pattern = parameters[OverwriteHeader.size : end]
    block = device.geometry.block_length_bytes
    wanted = _sanitization(device, cdb)._replace(
        pattern=(pattern * -(-block // len(pattern)))[:block],
        passes=header.overwrite_count,
        invert=header.invert,
    )
    return _begin(device, wanted, immediate=cdb.immed)


def _check_header(device: Device, header: OverwriteHeader, parameters: bytes) -> None:
    """Refuses a header with a value that is not allowed.

    For an OVERWRITE COUNT of zero, which is reserved, the standard names no code; libiscsi 1.19 (Sanitize.Overwrite)
    wants INVALID FIELD IN CDB for it, so the field pointer alone says that it is one of the list.
    """
    if not header.overwrite_count:
        field = OverwriteHeader.location("overwrite_count")
        raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, 0x2400, field=field, in_cdb=False))
    if header.test:
        raise InvalidFieldInParameterList(*OverwriteHeader.location("test"))
    reserved = OverwriteHeader.reserved_bit(parameters)
    if reserved is not None:
        raise InvalidFieldInParameterList(*reserved)
    if not 0 < header.initialization_pattern_length <= device.geometry.block_length_bytes:
        raise InvalidFieldInParameterList(OverwriteHeader.location("initialization_pattern_length").byte)


def erase(device: Device, cdb: Sanitize, call: Call) -> Reply:
    """Answers SANITIZE with BLOCK ERASE and with CRYPTOGRAPHIC ERASE, which do the same here: see `sanitization`.

    raises   WriteProtected; InvalidFieldInCdb for AUSE after a failure without it
    Source: SBC3r36 5.24.2.3, 5.24.2.4
    """
    _check_permitted(device, cdb)
    return _begin(device, _sanitization(device, cdb), immediate=cdb.immed)


def exit_failure_mode(device: Device, cdb: Sanitize, call: Call) -> Reply:
    """Answers SANITIZE with EXIT FAILURE MODE: a unit that could not be sanitized is used again, with what it has left.

    raises   InvalidFieldInCdb after a failure of an operation without AUSE
    Source: SBC3r36 5.24.2.5
    """
    failed = device.sanitization
    if failed is None or failed.method is Method.FORMAT:
        return Done()
    if not failed.unrestricted:
        raise InvalidFieldInCdb(Sanitize, "service_action")

    return Save(device.kept()._replace(sanitization=None), lambda: Leave(failed))


def _check_permitted(device: Device, cdb: Sanitize) -> None:
    """Refuses to sanitize what cannot be written, and with AUSE what could not be sanitized without it.

    After a failure SWP does not count: MODE SELECT, which ends it, is not processed then.
    Source: SBC3r36 4.11.1, 5.24.1
    """
    failed = device.sanitization
    if failed is not None and failed.method is Method.FORMAT:
        failed = None  # it has nothing to do with that
    if failed is None or device.features.read_only:
        check_writable(device)
    if failed is not None and not failed.unrestricted and cdb.ause:
        raise InvalidFieldInCdb(Sanitize, "ause")


def _sanitization(device: Device, cdb: Sanitize) -> Sanitization:
    block_length_bytes, _, length_blocks = device.geometry
    length_bytes = length_blocks * block_length_bytes
    return Sanitization(Method(cdb.service_action), length_bytes, unrestricted=cdb.ause, medium=device.medium)


def _begin(device: Device, wanted: Sanitization, *, immediate: bool) -> Save:
    return Save(device.kept()._replace(sanitization=wanted), lambda: Begin(wanted, immediate))


# Commands that are processed although a medium is being sanitized, or could not be


def mended_by_sanitize(_: Sanitization) -> bool:
    """Says that SANITIZE is processed whatever has failed. Source: SBC3r36 4.11.3"""
    return True


def mended_by_format(failed: Sanitization) -> bool:
    """Says whether FORMAT UNIT is processed: after a format that has failed. Source: SBC3r36 5.3.1, 4.11.3"""
    return failed.method is Method.FORMAT


def always(_: Layout) -> bool:
    """Says that a command is processed whatever its CDB. Source: SBC4r22 4.11.2"""
    return True


def asks_for_temperature(cdb: LogSense) -> bool:
    """Says whether LOG SENSE is processed. Source: SBC4r22 4.11.2"""
    return (cdb.page_code, cdb.subpage_code) == TEMPERATURE_PAGE


def asks_for_readable_page(cdb: ModeSense6 | ModeSense10) -> bool:
    """Says whether MODE SENSE is processed. Source: SBC4r22 4.11.2"""
    return (cdb.page_code, cdb.subpage_code) in READABLE_MODE_PAGES
