"""Handlers of logical block provisioning: UNMAP, WRITE SAME, GET LBA STATUS.

A deallocated block reads as zeros (LBPRZ), whatever the granularity of the medium; there are no anchored
blocks. A device that is not thin has no UNMAP and refuses WRITE SAME with UNMAP.

WRITE SAME with UNMAP and a block of other bits than zeros writes them, because what is read afterwards must be what
was sent (SBC3r36 4.7.3.4.4). LIO deallocates whatever was sent, and WriteSame10.UnmapUntilEnd of libiscsi 1.19 demands
it: `Features.unmaps_any_pattern` chooses that.
"""

from collections.abc import Iterable, Iterator

from iscsi_target.scsi.commands.block_range import check_writable, checked_range
from iscsi_target.scsi.layouts.block_cdb import GetLbaStatus, Unmap, WriteSame10, WriteSame16
from iscsi_target.scsi.layouts.pages import LbaStatusDescriptor, LbaStatusHeader, UnmapBlockDescriptor, UnmapHeader
from iscsi_target.scsi.operations import AllocationMap, Extent, Outcome, ReadAllocation
from iscsi_target.scsi.operations import Unmap as UnmapOperation
from iscsi_target.scsi.operations import WriteSame as WriteSameOperation
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Done, Reply, Work
from iscsi_target.scsi.status import (
    InvalidFieldInCdb,
    InvalidFieldInParameterList,
    InvalidOperationCode,
    LbaOutOfRange,
    ParameterListLengthError,
)

MAPPED, DEALLOCATED = 0, 1  # PROVISIONING STATUS. Source: SBC3r36 5.4.3
AFTER_LENGTH_BYTES = 4  # of the header of GET LBA STATUS, reserved
MAX_STATUS_BLOCKS = 1 << 24  # of one GET LBA STATUS, which keeps writes to these blocks waiting


def has_write_same(device: Device) -> bool:
    """Returns True when there is WRITE SAME."""
    return device.features.limits.max_write_same_blocks > 0


def is_thin(device: Device) -> bool:
    """Returns True when the device has logical block provisioning management. Source: SBC3r36 4.7.3"""
    return device.features.thin


def wanted_by_unmap(device: Device, cdb: Unmap) -> int:
    """Returns the bytes of Data-Out that UNMAP asks for."""
    return cdb.parameter_list_length if is_thin(device) else 0


def unmap(device: Device, cdb: Unmap, call: Call) -> Reply:
    """Answers UNMAP; the whole parameter list is checked before anything is unmapped.

    raises   InvalidOperationCode on a device that is not thin; WriteProtected; ParameterListLengthError for a
             list that ends too early; InvalidFieldInParameterList beyond the limits; LbaOutOfRange
    Source: SBC3r36 5.28
    """
    if not is_thin(device):
        raise InvalidOperationCode
    check_writable(device)
    if not cdb.parameter_list_length:
        return Done()
    if len(call.data_out) < cdb.parameter_list_length:
        raise ParameterListLengthError
    ranges = merged(_unmap_ranges(device, _descriptors(device, bytes(call.data_out))))
    if not ranges:
        return Done()
    return Work(UnmapOperation(ranges, flush=not device.write_cache))


def _descriptors(device: Device, parameters: bytes) -> list[UnmapBlockDescriptor]:
    if len(parameters) < UnmapHeader.size:
        raise ParameterListLengthError
    header = UnmapHeader.unpack(parameters)
    length = header.unmap_block_descriptor_data_length
    if length > len(parameters) - UnmapHeader.size:
        raise ParameterListLengthError
    count = length // UnmapBlockDescriptor.size
    if count > device.features.limits.max_unmap_descriptors:
        raise InvalidFieldInParameterList(UnmapHeader.location("unmap_block_descriptor_data_length").byte)
    starts = range(UnmapHeader.size, UnmapHeader.size + count * UnmapBlockDescriptor.size, UnmapBlockDescriptor.size)
    return [UnmapBlockDescriptor.unpack(parameters, start) for start in starts]


def _unmap_ranges(device: Device, descriptors: list[UnmapBlockDescriptor]) -> list[tuple[int, int]]:
    """Returns (offset, length) in bytes; no block needs no LBA that exists, but none beyond the end.

    libiscsi 1.19.0 (Unmap.ZeroBlocks) wants GOOD for 0 blocks at the LBA after the last.
    """
    block_length = device.geometry.block_length_bytes
    total = 0
    ranges = []
    for index, descriptor in enumerate(descriptors):
        lba, blocks = descriptor.lba, descriptor.number_of_logical_blocks
        total += blocks
        if total > device.features.limits.max_unmap_blocks:
            start = UnmapHeader.size + index * UnmapBlockDescriptor.size
            field = UnmapBlockDescriptor.location("number_of_logical_blocks")
            raise InvalidFieldInParameterList(start + field.byte)
        if lba + blocks > device.geometry.length_blocks:
            raise LbaOutOfRange(max(lba, device.geometry.length_blocks))
        ranges.append((lba * block_length, blocks * block_length))
    return ranges


def merged(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Returns the same bytes as (offset, length) ranges that are sorted, not empty and do not touch."""
    result: list[tuple[int, int]] = []
    for offset, length in sorted(ranges):
        if not length:
            continue
        start, end = offset, offset + length
        if result and offset <= sum(result[-1]):
            last_start, last_length = result.pop()
            start, end = last_start, max(end, last_start + last_length)
        result.append((start, end - start))
    return tuple(result)


def wanted_by_write_same_10(device: Device, cdb: WriteSame10) -> int:
    """Returns the bytes of Data-Out that WRITE SAME(10) asks for: one block."""
    return device.geometry.block_length_bytes


def wanted_by_write_same_16(device: Device, cdb: WriteSame16) -> int:
    """Returns the bytes of Data-Out that WRITE SAME(16) asks for: one block, or none with NDOB."""
    return 0 if cdb.ndob else device.geometry.block_length_bytes


def write_same_10(device: Device, cdb: WriteSame10, call: Call) -> Reply:
    """Answers WRITE SAME(10); raises as `write_same_16`.

    Source: SBC3r36 5.43
    """
    return _write_same(device, cdb, call, _pattern(device, cdb, call))


def write_same_16(device: Device, cdb: WriteSame16, call: Call) -> Reply:
    """Answers WRITE SAME(16); 0 blocks means the rest of the medium.

    raises   WriteProtected; LbaOutOfRange; InvalidFieldInCdb for UNMAP on a device that is not thin, beyond the
             maximum write same length, or when the Data-Out is not exactly one block
    Source: SBC3r36 5.44
    """
    pattern = bytes(device.geometry.block_length_bytes) if cdb.ndob else _pattern(device, cdb, call)
    return _write_same(device, cdb, call, pattern)


def _pattern(device: Device, cdb: WriteSame10 | WriteSame16, call: Call) -> bytes | None:
    """Returns the block, or None when the initiator offers more or less than one."""
    block_length = device.geometry.block_length_bytes
    if len(call.data_out) != block_length or call.expected_length not in (None, block_length):
        return None
    return bytes(call.data_out)


def _write_same(device: Device, cdb: WriteSame10 | WriteSame16, call: Call, pattern: bytes | None) -> Reply:
    field = "number_of_logical_blocks"
    if cdb.unmap and not is_thin(device):
        raise InvalidFieldInCdb(type(cdb), "unmap")
    check_writable(device)
    checked_range(device, cdb.lba, cdb.number_of_logical_blocks)
    blocks = cdb.number_of_logical_blocks or device.geometry.length_blocks - cdb.lba
    if blocks > device.features.limits.max_write_same_blocks or pattern is None:
        raise InvalidFieldInCdb(type(cdb), field)
    offset, length = checked_range(device, cdb.lba, blocks)
    flush = not device.write_cache
    if cdb.unmap and (device.features.unmaps_any_pattern or not any(pattern)):
        return Work(UnmapOperation(((offset, length),), flush))
    return Work(WriteSameOperation(offset, length, pattern, flush))


def get_lba_status(device: Device, cdb: GetLbaStatus, call: Call) -> Reply:
    """Answers GET LBA STATUS from the LBA on, as far as the allocation length and `MAX_STATUS_BLOCKS` go.

    raises   LbaOutOfRange
    Source: SBC3r36 5.4
    """
    checked_range(device, cdb.lba, 0)
    blocks = min(device.geometry.length_blocks - cdb.lba, MAX_STATUS_BLOCKS)
    if not is_thin(device):
        return _lba_status(cdb, [(cdb.lba, blocks, MAPPED)])
    offset, length = checked_range(device, cdb.lba, blocks)

    def finish(outcome: Outcome) -> Done:
        assert isinstance(outcome, AllocationMap)
        runs = block_runs(outcome.extents, cdb.lba, device.geometry.block_length_bytes)
        return _lba_status(cdb, runs)

    return Work(ReadAllocation(offset, length), finish)


def block_runs(extents: tuple[Extent, ...], lba: int, block_length_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Yields (LBA, blocks, provisioning status) from lba on, adjoining, no two neighbours of one status.

    A block is mapped when any byte of it is allocated.
    Source: SBC3r36 5.4.3
    """
    start, status = lba, None
    end = lba
    for extent in extents:
        upto = extent.offset_bytes + extent.length_bytes
        if extent.allocated:
            now, last = MAPPED, -(-upto // block_length_bytes)
        else:
            now, last = DEALLOCATED, upto // block_length_bytes
        if last <= end:
            continue
        if status is not None and status != now:
            yield start, end - start, status
            start = end
        status, end = now, last
    if status is not None:
        yield start, end - start, status


def _lba_status(cdb: GetLbaStatus, runs: Iterable[tuple[int, int, int]]) -> Done:
    descriptors = b"".join(
        LbaStatusDescriptor(lba=lba, number_of_logical_blocks=blocks, provisioning_status=status).pack()
        for lba, blocks, status in runs
    )
    header = LbaStatusHeader(parameter_data_length=AFTER_LENGTH_BYTES + len(descriptors))
    return Done((header.pack() + descriptors)[: cdb.allocation_length])
