"""EXTENDED COPY(LID1) and (LID4): copies of blocks within the unit, as hosts clone virtual disks on one datastore.

The copy manager is the unit, and it reaches no other one: a CSCD descriptor that names another unit is an unreachable
copy target. So what the initiator may do is what it may do with this unit, and the reservations were checked before.
All of a parameter list is checked before a byte is copied. The segments are one operation of the medium, done in their
order; no other command that touches their blocks comes in between. No data are held for the initiator, so there is no
RECEIVE COPY DATA.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from iscsi_target.scsi.commands.block_range import check_writable
from iscsi_target.scsi.commands.copy_results import (
    BLOCK_TO_BLOCK,
    IDENTIFICATION,
    MAX_CSCDS,
    MAX_DESCRIPTOR_BYTES,
    MAX_SEGMENT_BYTES,
    MAX_SEGMENTS,
    OFFSET_TO_OFFSET,
    THIS_UNIT,
)
from iscsi_target.scsi.commands.inquiry import unit_designators
from iscsi_target.scsi.layouts.copy_cdb import (
    BlockDeviceParameters,
    BlockSegment,
    CopyParameterHeader,
    CopyParameterHeaderLid4,
    ExtendedCopyLid1,
    ExtendedCopyLid4,
    IdentificationCscd,
    OffsetSegment,
    SegmentHeader,
)
from iscsi_target.scsi.operations import Copied, Copy, CopyRange, Outcome
from iscsi_target.scsi.state.copy_log import CopyRecord, CopyState
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Done, StartCopy, Work
from iscsi_target.scsi.status import (
    CheckCondition,
    InvalidFieldInParameterList,
    ParameterListLengthError,
    Sense,
    SenseKey,
)
from iscsi_target.wire.layout import Layout

CSCD_BYTES = 32
FIRST_CSCD_AT = 16  # of the descriptor whose ID is 0; in a list of EXTENDED COPY(LID4), that is part of the header
DESIGNATOR_BYTES = 20  # that a CSCD descriptor has room for
LUN_TYPE = 0b00  # LU ID TYPE; the field is obsolete in SPC-4, and we claim SPC-3 in standard INQUIRY data
SEGMENTS: Mapping[int, type[Layout]] = {BLOCK_TO_BLOCK: BlockSegment, OFFSET_TO_OFFSET: OffsetSegment}
USED, WITHOUT_HELD_DATA, UNUSED = 0b00, 0b10, 0b11  # LIST ID USAGE. Source: SPC4r37 6.4.3.2
INFORMATION_AVAILABLE = 0x0020  # EXTENDED COPY INFORMATION AVAILABLE

NO_SENSE, UNREACHABLE, DEVICE_FAILURE, WRONG_TYPE = 0x0000, 0x0804, 0x0D01, 0x0D03
TOO_MANY_CSCDS, UNKNOWN_CSCD, TOO_MANY_SEGMENTS, UNKNOWN_SEGMENT, INLINE_DATA = 0x2606, 0x2607, 0x2608, 0x2609, 0x260B


Header = CopyParameterHeader | CopyParameterHeaderLid4


class _List(NamedTuple):
    """A parameter list, cut into its parts.

    cscds      by their CSCD descriptor IDs, 32 bytes each
    segments   a whole descriptor each, with where it is in the list
    """

    cscds: Mapping[int, bytes]
    segments: Sequence[tuple[int, bytes]]


def wanted_by_extended_copy(device: Device, cdb: ExtendedCopyLid1 | ExtendedCopyLid4) -> int:
    """Returns the bytes of Data-Out that EXTENDED COPY asks for, nothing when it is more than a list may have."""
    header = CopyParameterHeader if isinstance(cdb, ExtendedCopyLid1) else CopyParameterHeaderLid4
    return cdb.parameter_list_length if cdb.parameter_list_length <= header.size + MAX_DESCRIPTOR_BYTES else 0


def extended_copy(device: Device, cdb: ExtendedCopyLid1, call: Call) -> Done | StartCopy:
    """Answers EXTENDED COPY(LID1).

    raises   ParameterListLengthError for a list that is too long, or ends within a descriptor; CheckCondition with the
             codes of SPC-4 for what is not supported; COPY ABORTED for a CSCD that is not this unit, for a range beyond
             its end, and when the medium fails; WriteProtected; Busy when too many copies go on
    Source: SPC4r37 5.17.7, 6.4.5, 6.5
    """
    if not cdb.parameter_list_length:
        return Done()
    parameters = _whole(cdb, call, CopyParameterHeader)
    header = CopyParameterHeader.unpack(parameters)
    identifier = _identifier(header)
    ranges = _ranges(device, parameters, header)
    record = CopyRecord(ExtendedCopyLid1.default("service_action"))
    _begin(device, call, identifier, record)
    return StartCopy(_work(device, record, ranges), identifier)


def extended_copy_lid4(device: Device, cdb: ExtendedCopyLid4, call: Call) -> Done | StartCopy:
    """Answers EXTENDED COPY(LID4); with IMMED it needs a list identifier, since the copy could not be aborted else.

    raises   as `extended_copy`
    Source: SPC4r37 5.17.7, 6.4, 6.4.2
    """
    if not cdb.parameter_list_length:
        return Done()
    parameters = _whole(cdb, call, CopyParameterHeaderLid4)
    header = CopyParameterHeaderLid4.unpack(parameters)
    for name in ("parameter_list_format", "header_cscd_descriptor_list_length", "header_cscd_descriptor_type_code"):
        if getattr(header, name) != CopyParameterHeaderLid4.default(name):
            raise InvalidFieldInParameterList(CopyParameterHeaderLid4.location(name).byte)
    identifier = _identifier(header)
    if header.immed and identifier is None:
        raise InvalidFieldInParameterList(*CopyParameterHeaderLid4.location("immed"))
    ranges = _ranges(device, parameters, header)
    state = CopyState.BACKGROUND if header.immed else CopyState.FOREGROUND
    record = CopyRecord(ExtendedCopyLid4.default("service_action"), state)
    _begin(device, call, identifier, record)
    work = _work(device, record, ranges, tells=header.g_sense)
    return StartCopy(work, identifier, _good(record, tells=header.g_sense) if header.immed else None)


def _whole(cdb: ExtendedCopyLid1 | ExtendedCopyLid4, call: Call, header: type[Header]) -> bytes:
    """Returns a parameter list of which nothing is missing."""
    if len(call.data_out) < max(cdb.parameter_list_length, header.size):
        raise ParameterListLengthError
    return bytes(call.data_out)


def _ranges(device: Device, parameters: bytes, header: Header) -> tuple[CopyRange, ...]:
    """Returns what a parameter list copies; raises for one of which anything is wrong."""
    parts = _cut(parameters, header)
    ranges = tuple(_range(device, at, segment, parts.cscds) for at, segment in parts.segments)
    if ranges:
        check_writable(device)
    return ranges


def _begin(device: Device, call: Call, identifier: int | None, record: CopyRecord) -> None:
    if identifier is not None:
        device.copies.start(call.nexus, identifier, record)


def _good(record: CopyRecord, *, tells: bool) -> Done:
    """Returns how a copy ends well.

    tells   True when sense data say of how many segments (G_SENSE)
    Source: SPC4r37 6.4.2
    """
    if not tells:
        return Done()
    return Done(sense=Sense(SenseKey.COMPLETED, INFORMATION_AVAILABLE, command_specific=record.segments))


def _work(device: Device, record: CopyRecord, ranges: Sequence[CopyRange], *, tells: bool = False) -> Done | Work:
    """Returns what is to be done for ranges; `tells` as in `_good`."""

    def finish(outcome: Outcome) -> Done:
        assert isinstance(outcome, Copied)
        record.segments = record.steps = outcome.ranges
        record.copied_bytes = sum(each.length_bytes for each in ranges[: outcome.ranges])
        if outcome.failed:
            error = _aborted(DEVICE_FAILURE)
            record.end(error)
            raise error
        record.state = CopyState.DONE
        return _good(record, tells=tells)

    if not ranges:
        record.state = CopyState.DONE
        return _good(record, tells=tells)
    return Work(Copy(tuple(ranges), flush=not device.write_cache), finish, abandon=record.end)


def _aborted(code: int) -> CheckCondition:
    return CheckCondition(Sense(SenseKey.COPY_ABORTED, code))


def _unsupported(code: int) -> CheckCondition:
    return CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, code))


def _identifier(header: Header) -> int | None:
    """Returns under which identifier the copy is known, or None.

    Source: SPC4r37 6.4.3.2
    """
    if header.list_id_usage == UNUSED:
        if header.list_identifier:
            raise InvalidFieldInParameterList(type(header).location("list_identifier").byte)
        return None
    if header.list_id_usage not in (USED, WITHOUT_HELD_DATA):
        place = type(header).location("list_id_usage")
        raise InvalidFieldInParameterList(place.byte, place.bit)
    return header.list_identifier


def _cut(parameters: bytes, header: Header) -> _List:
    """Cuts a parameter list; raises for one with too much of anything, or that ends within a descriptor.

    Source: SPC4r37 6.4.6.1 (CSCD descriptor IDs)
    """
    if header.inline_data_length:
        raise _unsupported(INLINE_DATA)
    segments_at = header.size + header.cscd_descriptor_list_length
    end = segments_at + header.segment_descriptor_list_length
    if end > len(parameters) or header.cscd_descriptor_list_length % CSCD_BYTES:
        raise ParameterListLengthError
    starts = range(header.size, segments_at, CSCD_BYTES)
    if len(starts) > MAX_CSCDS:
        raise _unsupported(TOO_MANY_CSCDS)
    cscds = {(at - FIRST_CSCD_AT) // CSCD_BYTES: parameters[at : at + CSCD_BYTES] for at in starts}
    for at, cscd in zip(starts, cscds.values(), strict=True):
        fields = IdentificationCscd.unpack(cscd)
        if fields.descriptor_type_code != IDENTIFICATION:
            raise _unsupported(UNKNOWN_CSCD)
        if fields.lu_id_type != LUN_TYPE:
            raise InvalidFieldInParameterList(at + IdentificationCscd.location("lu_id_type").byte)
    return _List(cscds, list(_segments(parameters[:end], segments_at)))


def _segments(parameters: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    count = 0
    while at < len(parameters):
        if len(parameters) - at < SegmentHeader.size:
            raise ParameterListLengthError
        header = SegmentHeader.unpack(parameters, at)
        layout = SEGMENTS.get(header.descriptor_type_code)
        if layout is None:
            raise _unsupported(UNKNOWN_SEGMENT)
        if header.descriptor_length != layout.default("descriptor_length"):
            raise InvalidFieldInParameterList(at + SegmentHeader.location("descriptor_length").byte)
        count += 1
        if count > MAX_SEGMENTS:
            raise _unsupported(TOO_MANY_SEGMENTS)
        if len(parameters) - at < layout.size:
            raise ParameterListLengthError
        yield at, parameters[at : at + layout.size]
        at += layout.size


def _range(device: Device, at: int, descriptor: bytes, cscds: Mapping[int, bytes]) -> CopyRange:
    """Returns what a segment descriptor copies.

    at   where it is in the parameter list
    """
    block = device.geometry.block_length_bytes
    segment: BlockSegment | OffsetSegment
    if SegmentHeader.unpack(descriptor).descriptor_type_code == BLOCK_TO_BLOCK:
        segment = BlockSegment.unpack(descriptor)
        length, source, destination = segment.block_device_number_of_blocks * block, 0, 0
        field = "block_device_number_of_blocks"
    else:
        segment = OffsetSegment.unpack(descriptor)
        length, field = segment.number_of_bytes, "number_of_bytes"
        source, destination = segment.source_byte_offset, segment.destination_byte_offset
        for offset, name in ((source, "source_byte_offset"), (destination, "destination_byte_offset")):
            if offset >= block:
                raise InvalidFieldInParameterList(at + OffsetSegment.location(name).byte)
    if length > MAX_SEGMENT_BYTES:
        raise InvalidFieldInParameterList(at + type(segment).location(field).byte)
    for number in (segment.source_cscd_descriptor_id, segment.destination_cscd_descriptor_id):
        _check_reached(device, number, cscds)
    found = CopyRange(segment.source_lba * block + source, segment.destination_lba * block + destination, length)
    if max(found.source_bytes, found.destination_bytes) + length > device.geometry.length_blocks * block:
        raise _aborted(NO_SENSE)
    return found


def _check_reached(device: Device, number: int, cscds: Mapping[int, bytes]) -> None:
    """Refuses a CSCD descriptor that is not there, or does not name this unit.

    Source: SPC4r37 6.4.5.1, 6.4.5.2
    """
    if number == THIS_UNIT:
        return
    cscd = cscds.get(number)
    if cscd is None:
        raise _aborted(UNREACHABLE)
    fields = IdentificationCscd.unpack(cscd)
    designator = cscd[IdentificationCscd.size :][: min(fields.designator_length, DESIGNATOR_BYTES)]
    wanted = fields.code_set, fields.association, fields.designator_type, designator
    if fields.null or wanted not in unit_designators(device):
        raise _aborted(UNREACHABLE)
    if fields.peripheral_device_type:
        raise _aborted(WRONG_TYPE)
    block = BlockDeviceParameters.unpack(cscd, CSCD_BYTES - 4).disk_block_length
    if block not in (0, device.geometry.block_length_bytes):  # 0 leaves it to the unit
        raise _aborted(WRONG_TYPE)
