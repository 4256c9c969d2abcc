"""Copies segments between units, one piece after another, and answers other copy managers that do so.

What is of the unit that carries out the copy is read and written as by any command of it. Another unit is asked in the
name of the nexus that wants the copy: it checks each piece as it would check a read or write of that nexus when it
comes, so the copy ends when the nexus loses its right there, and what ends the tasks of the nexus ends the copy too.
No blocks are held up but those of a piece, which is all that is in memory. A piece ends with a block of the
destination, so that no block is half new when a copy has failed.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from iscsi_target.scsi.commands.block_range import check_writable
from iscsi_target.scsi.commands.token_copy import PIECE_BYTES, THIRD_PARTY_FAILURE, Step, brought
from iscsi_target.scsi.layouts.copy_cdb import ReadForCopy, WriteForCopy
from iscsi_target.scsi.operations import Buffer, CopyRange, Outcome, Read, Write
from iscsi_target.scsi.state.copy_log import CopyRecord, CopyState
from iscsi_target.scsi.state.copy_managers import Visit
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Asked, Call, Done, Fetch, Work
from iscsi_target.scsi.status import CheckCondition, LbaOutOfRange, Sense, SenseKey

INFORMATION_AVAILABLE = 0x0020  # EXTENDED COPY INFORMATION AVAILABLE


class Reached(NamedTuple):
    """A unit that a segment is about.

    device   of the unit
    visit    how it is reached, or None for the unit that carries out the copy
    pads     True when the last block of a segment is filled up, or the rest of it left out (PAD)
    Source: SPC4r37 6.4.5.4
    """

    device: Device
    visit: Visit | None = None
    pads: bool = False


class Segment(NamedTuple):
    """What one segment descriptor copies.

    padding_bytes   zeros that follow in the last block of the destination
    """

    source: Reached
    destination: Reached
    copied: CopyRange
    padding_bytes: int = 0

    @property
    def is_near(self) -> bool:
        """True when no other unit is needed."""
        return self.source.visit is None and self.destination.visit is None


def pieces(segment: Segment) -> Iterator[tuple[CopyRange, int]]:
    """Yields what is to be done for a segment, in order, and how many zeros follow each piece.

    Where a segment overlaps with itself, what was there before is what is copied.
    """
    source, destination, length = segment.copied
    block = segment.destination.device.geometry.block_length_bytes
    aligned = PIECE_BYTES - destination % block
    starts = [0, *range(aligned, length, PIECE_BYTES)] if length else []
    ends = [*starts[1:], length]
    ranges = [CopyRange(source + at, destination + at, end - at) for at, end in zip(starts, ends, strict=False)]
    last = ranges[-1:]
    is_onward = segment.source.device is segment.destination.device and destination > source
    for each in reversed(ranges) if is_onward else ranges:
        yield each, segment.padding_bytes if each in last else 0


def good(record: CopyRecord, *, tells: bool) -> Done:
    """Returns how a copy ends well.

    tells   True when sense data say of how many segments (G_SENSE)
    Source: SPC4r37 6.4.2
    """
    record.state = CopyState.DONE
    if not tells:
        return Done()
    return Done(sense=Sense(SenseKey.COMPLETED, INFORMATION_AVAILABLE, command_specific=record.segments))


def copy_aborted(code: int, segment: int = 0) -> CheckCondition:
    """Returns what a copy ends with that has failed.

    segment   the number of the segment descriptor, from 0
    Source: SPC4r37 5.17.7.4
    """
    return CheckCondition(Sense(SenseKey.COPY_ABORTED, code, command_specific=segment))


class UnitCopy:
    """One copy, of which `step` returns what is to be done next until it is over.

    device     of the unit that carries it out
    record     that is kept of it
    tells      as in `good`
    """

    def __init__(self, device: Device, record: CopyRecord, segments: Sequence[Segment], *, tells: bool) -> None:
        self._device = device
        self._record = record
        self._segments = iter(segments)
        self._tells = tells
        self._segment: Segment | None = None
        self._left: Iterator[tuple[CopyRange, int]] = iter(())

    def step(self) -> Step:
        """Returns what is to be done next; raises CheckCondition when the copy has failed."""
        piece = next(self._left, None)
        while piece is None:
            if self._segment is not None:
                self._record.segments += 1
            self._segment = next(self._segments, None)
            if self._segment is None:
                return good(self._record, tells=self._tells)
            self._left = pieces(self._segment)
            piece = next(self._left, None)
        return self._read(piece)

    def _read(self, piece: tuple[CopyRange, int]) -> Step:
        assert self._segment is not None
        source, (offset, _, length) = self._segment.source, piece[0]
        if source.visit is not None:
            cdb = ReadForCopy(offset_bytes=offset, length_bytes=length)
            return self._ask(source.visit, cdb, b"", partial(self._fetched, piece))
        self._check_near(offset + length)
        return Work(Read(offset, length), partial(self._fetched, piece), None, self._record.end, self._failure)

    def _fetched(self, piece: tuple[CopyRange, int], data: Buffer | Outcome) -> Step:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise self._failed()
        assert self._segment is not None
        (_, offset, _), padding = piece
        destination = self._segment.destination
        whole = bytes(data) + bytes(padding) if padding else data
        if destination.visit is not None:
            cdb = WriteForCopy(offset_bytes=offset, length_bytes=len(whole))
            return self._ask(destination.visit, cdb, whole, partial(self._answered, len(data)))
        self._check_near(offset + len(whole))
        write = Write(offset, whole, not self._device.write_cache)
        return Work(write, partial(self._wrote, len(data)), None, self._record.end, self._failure)

    def _ask(self, visit: Visit, cdb: Asked, data: Buffer, finish: "partial[Step]") -> Fetch:
        return Fetch(visit.unit, cdb, data, finish, self._record.end, visit)

    def _answered(self, length_bytes: int, answer: Buffer | None) -> Step:
        if answer is None:
            raise self._failed()
        return self._wrote(length_bytes, None)

    def _wrote(self, length_bytes: int, _: Outcome) -> Step:
        self._record.copied_bytes += length_bytes
        self._record.steps += 1
        return self.step()

    def _check_near(self, end: int) -> None:
        """Refuses a piece for which the medium is not there any more, or too small by now."""
        if not self._device.loaded or end > self._device.geometry.length_bytes:
            raise self._failed()

    def _failure(self) -> CheckCondition:
        return copy_aborted(THIRD_PARTY_FAILURE, self._record.segments)

    def _failed(self) -> CheckCondition:
        error = self._failure()
        self._record.end(error)
        return error


def read_for_copy(device: Device, cdb: ReadForCopy, call: Call) -> Work:
    """Answers the copy manager of another unit that a copy reads this one.

    raises   LbaOutOfRange when the unit has become smaller
    Source: SPC4r37 5.17.3
    """
    _check_range(device, cdb)
    return Work(Read(cdb.offset_bytes, cdb.length_bytes), brought)


def write_for_copy(device: Device, cdb: WriteForCopy, call: Call) -> Work:
    """Answers the copy manager of another unit that a copy writes this one.

    raises   WriteProtected, SoftwareWriteProtected; LbaOutOfRange when the unit has become smaller
    Source: SPC4r37 5.17.3
    """
    check_writable(device)
    _check_range(device, cdb)
    return Work(Write(cdb.offset_bytes, call.data_out, not device.write_cache))


def _check_range(device: Device, cdb: ReadForCopy | WriteForCopy) -> None:
    if cdb.offset_bytes + cdb.length_bytes > device.geometry.length_bytes:
        raise LbaOutOfRange(device.geometry.length_blocks)
