"""EXTENDED COPY(LID1) and (LID4): copies of blocks within the unit, as hosts clone virtual disks on one datastore, and
between units.

The copy manager is the unit. It reaches the others to which the nexus that asks is attached too; a CSCD descriptor that
names any other one is an unreachable copy target. All of a parameter list is checked before a byte is copied.

Within the unit, what the initiator may do was checked before, and the segments are one operation of the medium, done in
their order; no other command that touches their blocks comes in between. As soon as one segment needs another unit,
they are done piece by piece: see `unit_copy`. No data are held for the initiator, so there is no RECEIVE COPY DATA.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
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
from iscsi_target.scsi.commands.token_copy import THIRD_PARTY_FAILURE
from iscsi_target.scsi.commands.unit_copy import Reached, Segment, UnitCopy, copy_aborted, good
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
from iscsi_target.scsi.state.task import Call, Done, Fetch, StartCopy, Work
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

NO_SENSE, UNREACHABLE, WRONG_TYPE, INEXACT = 0x0000, 0x0804, 0x0D03, 0x260A
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
             codes of SPC-4 for what is not supported; COPY ABORTED for a CSCD that cannot be reached, for a range
             beyond its end, and when a medium fails; WriteProtected; Busy when too many copies go on
    Source: SPC4r37 5.17.7, 6.4.5, 6.5
    """
    if not cdb.parameter_list_length:
        return Done()
    parameters = _whole(cdb, call, CopyParameterHeader)
    header = CopyParameterHeader.unpack(parameters)
    identifier = _identifier(header)
    segments = _checked(device, call, parameters, header)
    record = CopyRecord(ExtendedCopyLid1.default("service_action"))
    _begin(device, call, identifier, record)
    return StartCopy(_work(device, record, segments, tells=False), identifier)


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
    segments = _checked(device, call, parameters, header)
    state = CopyState.BACKGROUND if header.immed else CopyState.FOREGROUND
    record = CopyRecord(ExtendedCopyLid4.default("service_action"), state)
    _begin(device, call, identifier, record)
    immediate = good(CopyRecord(record.service_action), tells=header.g_sense) if header.immed else None
    return StartCopy(_work(device, record, segments, tells=header.g_sense), identifier, immediate)


def _whole(cdb: ExtendedCopyLid1 | ExtendedCopyLid4, call: Call, header: type[Header]) -> bytes:
    """Returns a parameter list of which nothing is missing."""
    if len(call.data_out) < max(cdb.parameter_list_length, header.size):
        raise ParameterListLengthError
    return bytes(call.data_out)


def _checked(device: Device, call: Call, parameters: bytes, header: Header) -> tuple[Segment, ...]:
    """Returns what a parameter list copies; raises for one of which anything is wrong."""
    parts = _cut(parameters, header)
    reach = cache(lambda number: _reached(device, call, number, parts.cscds))
    segments = tuple(_segment(at, raw, reach) for at, raw in parts.segments)
    if any(each.destination.visit is None for each in segments):
        check_writable(device)
    return segments


def _begin(device: Device, call: Call, identifier: int | None, record: CopyRecord) -> None:
    if identifier is not None:
        device.copies.start(call.nexus, identifier, record)


def _work(device: Device, record: CopyRecord, segments: Sequence[Segment], *, tells: bool) -> Done | Work | Fetch:
    """Returns what is to be done for segments; `tells` as in `good`."""
    if not segments:
        return good(record, tells=tells)
    if not all(each.is_near for each in segments):
        return UnitCopy(device, record, segments, tells=tells).step()
    ranges = tuple(each.copied for each in segments)

    def finish(outcome: Outcome) -> Done:
        assert isinstance(outcome, Copied)
        record.segments = record.steps = outcome.ranges
        record.copied_bytes = sum(each.length_bytes for each in ranges[: outcome.ranges])
        if outcome.failed:
            error = copy_aborted(THIRD_PARTY_FAILURE, outcome.ranges)
            record.end(error)
            raise error
        return good(record, tells=tells)

    return Work(Copy(ranges, flush=not device.write_cache), finish, abandon=record.end)


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


def _segment(at: int, descriptor: bytes, reach: Callable[[int], Reached]) -> Segment:
    """Returns what a segment descriptor copies.

    at      where it is in the parameter list
    reach   returns the unit of a CSCD descriptor ID
    """
    if SegmentHeader.unpack(descriptor).descriptor_type_code == BLOCK_TO_BLOCK:
        segment = _block_segment(at, BlockSegment.unpack(descriptor), reach)
    else:
        segment = _offset_segment(at, OffsetSegment.unpack(descriptor), reach)
    source, destination, length = segment.copied
    ends = (segment.source, source + length), (segment.destination, destination + length + segment.padding_bytes)
    for reached, end in ends:
        if end > reached.device.geometry.length_bytes:
            raise copy_aborted(NO_SENSE)
    return segment


def _block_segment(at: int, fields: BlockSegment, reach: Callable[[int], Reached]) -> Segment:
    """Returns what is copied from block device to block device.

    DC says whose blocks are counted; what does not fill the last block of either unit is left out or filled up with
    zeros when PAD of that unit says so. CAT, which adds it to the next segment, is taken as if it was not set.

    raises   COPY ABORTED for a segment that does not fill a block of a unit without PAD
    Source: SPC4r37 6.4.6.2, 6.4.6.3
    """
    place = at + BlockSegment.location("block_device_number_of_blocks").byte
    source, destination = reach(fields.source_cscd_descriptor_id), reach(fields.destination_cscd_descriptor_id)
    source_block = source.device.geometry.block_length_bytes
    block = destination.device.geometry.block_length_bytes
    length = fields.block_device_number_of_blocks * (block if fields.dc else source_block)
    if length > MAX_SEGMENT_BYTES:
        raise InvalidFieldInParameterList(place)
    if (length % block and not destination.pads) or (length % source_block and not source.pads):
        raise copy_aborted(INEXACT)
    copied = CopyRange(fields.source_lba * source_block, fields.destination_lba * block, length)
    return Segment(source, destination, copied, -length % block)


def _offset_segment(at: int, fields: OffsetSegment, reach: Callable[[int], Reached]) -> Segment:
    """Returns what is copied from block device with offset to block device with offset.

    Source: SPC4r37 6.4.6.10
    """
    if fields.number_of_bytes > MAX_SEGMENT_BYTES:
        raise InvalidFieldInParameterList(at + OffsetSegment.location("number_of_bytes").byte)
    source, destination = reach(fields.source_cscd_descriptor_id), reach(fields.destination_cscd_descriptor_id)
    source_block = source.device.geometry.block_length_bytes
    block = destination.device.geometry.block_length_bytes
    for offset, most, name in (
        (fields.source_byte_offset, source_block, "source_byte_offset"),
        (fields.destination_byte_offset, block, "destination_byte_offset"),
    ):
        if offset >= most:
            raise InvalidFieldInParameterList(at + OffsetSegment.location(name).byte)
    copied = CopyRange(
        fields.source_lba * source_block + fields.source_byte_offset,
        fields.destination_lba * block + fields.destination_byte_offset,
        fields.number_of_bytes,
    )
    return Segment(source, destination, copied)


def _reached(device: Device, call: Call, number: int, cscds: Mapping[int, bytes]) -> Reached:
    """Returns the unit of a CSCD descriptor ID.

    raises   COPY ABORTED for a descriptor that is not there, or names no unit that the nexus reaches as well, or
             another kind of unit
    Source: SPC4r37 6.4.5.1, 6.4.5.2
    """
    if number == THIS_UNIT:
        return Reached(device)
    cscd = cscds.get(number)
    if cscd is None:
        raise copy_aborted(UNREACHABLE)
    fields = IdentificationCscd.unpack(cscd)
    designator = cscd[IdentificationCscd.size :][: min(fields.designator_length, DESIGNATOR_BYTES)]
    wanted = fields.code_set, fields.association, fields.designator_type, designator
    found = None if fields.null else _named(device, call, wanted)
    if found is None:
        raise copy_aborted(UNREACHABLE)
    if fields.peripheral_device_type:
        raise copy_aborted(WRONG_TYPE)
    end = BlockDeviceParameters.unpack(cscd, CSCD_BYTES - 4)
    if end.disk_block_length not in (0, found.device.geometry.block_length_bytes):  # 0 leaves it to the unit
        raise copy_aborted(WRONG_TYPE)
    return found._replace(pads=end.pad)


def _named(device: Device, call: Call, wanted: tuple[int, int, int, bytes]) -> Reached | None:
    """Returns the unit that has a designator, which is this one or one to which the nexus is attached too."""
    if wanted in unit_designators(device):
        return Reached(device)
    found = device.copy_managers.reach(call.nexus, lambda other: wanted in unit_designators(other))
    return None if found is None else Reached(found[1], found[0])
