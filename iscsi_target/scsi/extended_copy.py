"""EXTENDED COPY(LID1): copies of blocks of the unit within itself, as hosts clone virtual disks on one datastore.

The copy manager is the unit, and it reaches no other one: a CSCD descriptor that names another unit is an unreachable
copy target. So what the initiator may do is what it may do with this unit, and the reservations were checked before.
All of a parameter list is checked before a byte is copied. The segments are one operation of the medium, done in their
order; no other command that touches their blocks comes in between.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from iscsi_target.scsi.block_range import check_writable
from iscsi_target.scsi.copy_cdb import (
    BlockDeviceParameters,
    BlockSegment,
    CopyParameterHeader,
    ExtendedCopyLid1,
    IdentificationCscd,
    OffsetSegment,
    SegmentHeader,
)
from iscsi_target.scsi.copy_log import CopyRecord, CopyState
from iscsi_target.scsi.copy_results import (
    BLOCK_TO_BLOCK,
    IDENTIFICATION,
    MAX_CSCDS,
    MAX_DESCRIPTOR_BYTES,
    MAX_SEGMENT_BYTES,
    MAX_SEGMENTS,
    OFFSET_TO_OFFSET,
)
from iscsi_target.scsi.device import Device
from iscsi_target.scsi.inquiry import unit_designators
from iscsi_target.scsi.operations import Copied, Copy, CopyRange, Outcome
from iscsi_target.scsi.status import (
    CheckCondition,
    InvalidFieldInParameterList,
    ParameterListLengthError,
    Sense,
    SenseKey,
)
from iscsi_target.scsi.task import Call, Done, Reply, StartCopy, Work
from iscsi_target.wire.layout import Layout

MAX_LIST_BYTES = CopyParameterHeader.size + MAX_DESCRIPTOR_BYTES
CSCD_BYTES = 32
DESIGNATOR_BYTES = 20  # that a CSCD descriptor has room for
LUN_TYPE = 0b00  # LU ID TYPE; the field is obsolete in SPC-4, and we claim SPC-3 in standard INQUIRY data
SEGMENTS: Mapping[int, type[Layout]] = {BLOCK_TO_BLOCK: BlockSegment, OFFSET_TO_OFFSET: OffsetSegment}
USED, WITHOUT_HELD_DATA, UNUSED = 0b00, 0b10, 0b11  # LIST ID USAGE. Source: SPC4r37 6.4.3.2

NO_SENSE, UNREACHABLE, DEVICE_FAILURE, WRONG_TYPE = 0x0000, 0x0804, 0x0D01, 0x0D03
TOO_MANY_CSCDS, UNKNOWN_CSCD, TOO_MANY_SEGMENTS, UNKNOWN_SEGMENT, INLINE_DATA = 0x2606, 0x2607, 0x2608, 0x2609, 0x260B


class _List(NamedTuple):
    """A parameter list, cut into its parts.

    cscds      32 bytes each
    segments   a whole descriptor each, with where it is in the list
    """

    header: CopyParameterHeader
    cscds: Sequence[bytes]
    segments: Sequence[tuple[int, bytes]]


def wanted_by_extended_copy(device: Device, cdb: ExtendedCopyLid1) -> int:
    """Returns the bytes of Data-Out that EXTENDED COPY asks for, nothing when it is more than a list may have."""
    return cdb.parameter_list_length if cdb.parameter_list_length <= MAX_LIST_BYTES else 0


def extended_copy(device: Device, cdb: ExtendedCopyLid1, call: Call) -> Reply:
    """Answers EXTENDED COPY(LID1).

    raises   ParameterListLengthError for a list that is too long, or ends within a descriptor; CheckCondition with the
             codes of SPC-4 for what is not supported; COPY ABORTED for a CSCD that is not this unit, for a range beyond
             its end, and when the medium fails; WriteProtected; Busy when too many copies go on
    Source: SPC4r37 5.17.7, 6.4, 6.5
    """
    if not cdb.parameter_list_length:
        return Done()
    if len(call.data_out) < cdb.parameter_list_length:
        raise ParameterListLengthError
    parts = _cut(bytes(call.data_out))
    identifier = _identifier(parts.header)
    ranges = tuple(_range(device, at, segment, parts.cscds) for at, segment in parts.segments)
    if ranges:
        check_writable(device)
    record = CopyRecord(ExtendedCopyLid1.default("service_action"))
    if identifier is not None:
        device.copies.start(call.nexus, identifier, record)
    work = _work(device, record, ranges)
    return work if identifier is None else StartCopy(work, identifier)


def _work(device: Device, record: CopyRecord, ranges: Sequence[CopyRange]) -> Done | Work:
    """Returns what is to be done for ranges."""

    def finish(outcome: Outcome) -> Done:
        assert isinstance(outcome, Copied)
        record.segments = record.steps = outcome.ranges
        record.copied_bytes = sum(each.length_bytes for each in ranges[: outcome.ranges])
        if outcome.failed:
            error = _aborted(DEVICE_FAILURE)
            record.end(error)
            raise error
        record.state = CopyState.DONE
        return Done()

    if not ranges:
        record.state = CopyState.DONE
        return Done()
    return Work(Copy(tuple(ranges), flush=not device.write_cache), finish, abandon=record.end)


def _aborted(code: int) -> CheckCondition:
    return CheckCondition(Sense(SenseKey.COPY_ABORTED, code))


def _unsupported(code: int) -> CheckCondition:
    return CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, code))


def _identifier(header: CopyParameterHeader) -> int | None:
    """Returns under which identifier the copy is known, or None.

    Source: SPC4r37 6.4.3.2
    """
    if header.list_id_usage == UNUSED:
        if header.list_identifier:
            raise InvalidFieldInParameterList(CopyParameterHeader.location("list_identifier").byte)
        return None
    if header.list_id_usage not in (USED, WITHOUT_HELD_DATA):
        place = CopyParameterHeader.location("list_id_usage")
        raise InvalidFieldInParameterList(place.byte, place.bit)
    return header.list_identifier


def _cut(parameters: bytes) -> _List:
    """Cuts a parameter list; raises for one with too much of anything, or that ends within a descriptor."""
    if len(parameters) < CopyParameterHeader.size:
        raise ParameterListLengthError
    header = CopyParameterHeader.unpack(parameters)
    if header.inline_data_length:
        raise _unsupported(INLINE_DATA)
    segments_at = CopyParameterHeader.size + header.cscd_descriptor_list_length
    end = segments_at + header.segment_descriptor_list_length
    if end > len(parameters) or header.cscd_descriptor_list_length % CSCD_BYTES:
        raise ParameterListLengthError
    starts = range(CopyParameterHeader.size, segments_at, CSCD_BYTES)
    if len(starts) > MAX_CSCDS:
        raise _unsupported(TOO_MANY_CSCDS)
    cscds = [parameters[at : at + CSCD_BYTES] for at in starts]
    for at, cscd in zip(starts, cscds, strict=True):
        fields = IdentificationCscd.unpack(cscd)
        if fields.descriptor_type_code != IDENTIFICATION:
            raise _unsupported(UNKNOWN_CSCD)
        if fields.lu_id_type != LUN_TYPE:
            raise InvalidFieldInParameterList(at + IdentificationCscd.location("lu_id_type").byte)
    segments = list(_segments(parameters[:end], segments_at))
    return _List(header, cscds, segments)


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


def _range(device: Device, at: int, descriptor: bytes, cscds: Sequence[bytes]) -> CopyRange:
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


def _check_reached(device: Device, number: int, cscds: Sequence[bytes]) -> None:
    """Refuses a CSCD descriptor that is not there, or does not name this unit.

    Source: SPC4r37 6.4.5.1, 6.4.5.2
    """
    if number >= len(cscds):
        raise _aborted(UNREACHABLE)
    cscd = cscds[number]
    fields = IdentificationCscd.unpack(cscd)
    designator = cscd[IdentificationCscd.size :][: min(fields.designator_length, DESIGNATOR_BYTES)]
    wanted = fields.code_set, fields.association, fields.designator_type, designator
    if fields.null or wanted not in unit_designators(device):
        raise _aborted(UNREACHABLE)
    if fields.peripheral_device_type:
        raise _aborted(WRONG_TYPE)
    if BlockDeviceParameters.unpack(cscd, CSCD_BYTES - 4).disk_block_length != device.geometry.block_length_bytes:
        raise _aborted(WRONG_TYPE)
