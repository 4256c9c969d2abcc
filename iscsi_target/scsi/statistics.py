"""What a logical unit has done since it started, in numbers: the values behind the log pages.

Every operation of the medium is counted where it ends. A hit is one that ended in the moment in which it was asked for:
what it read was in the page cache, or what it wrote was taken by it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from iscsi_target.scsi.operations import (
    Compare,
    CompareAndWrite,
    Copy,
    Flush,
    Operation,
    OrWrite,
    Read,
    Verify,
    Write,
    WriteAndVerify,
    WriteAtomic,
    WriteSame,
    extents,
)
from iscsi_target.scsi.resources import Resources


@dataclass(slots=True)
class Statistics:
    """The counters of one logical unit; each goes up by events only.

    read_bytes, written_bytes, verified_bytes      of operations that succeeded
    failed_reads, failed_writes, failed_verifies   operations that the medium failed
    read_hits, read_misses   reads without FUA, by whether the page cache had all of it
    write_hits               writes that were over when the page cache had them
    flushes                  orders to bring what is cached to the medium
    stops, unloads           of the unit and of its medium; nothing sets them back
    resources                what is no counter: the room of a unit with provisioning thresholds, or None
    """

    read_bytes: int = 0
    written_bytes: int = 0
    verified_bytes: int = 0
    failed_reads: int = 0
    failed_writes: int = 0
    failed_verifies: int = 0
    read_hits: int = 0
    read_misses: int = 0
    write_hits: int = 0
    flushes: int = 0
    stops: int = 0
    unloads: int = 0
    resources: Resources | None = None

    def reset(self, names: Iterable[str]) -> None:
        """Sets counters to zero, as LOG SELECT and a reset of the unit do.

        Source: SPC4r37 6.7.1
        """
        for name in names:
            setattr(self, name, 0)

    def count(self, operation: Operation, *, failed: bool, at_once: bool) -> None:
        """Takes in an operation that has ended.

        failed    the medium could not do it
        at_once   no thread was needed
        """
        match operation:
            case _ if failed:
                self._count_failure(operation)
            case Read(_, length, flush):
                self.read_bytes += length
                if not flush:
                    self.read_hits += at_once
                    self.read_misses += not at_once
            case Write(_, data, flush):
                self.written_bytes += len(data)
                self.write_hits += at_once and not flush
            case WriteAndVerify(_, data):
                self.written_bytes += len(data)
                self.verified_bytes += len(data)
            case WriteSame() | CompareAndWrite() | OrWrite() | WriteAtomic():
                self.written_bytes += _length(operation)
            case Verify() | Compare():
                self.verified_bytes += _length(operation)
            case Copy(ranges):
                self.read_bytes += sum(each.length_bytes for each in ranges)
                self.written_bytes += sum(each.length_bytes for each in ranges)
            case Flush():
                self.flushes += 1

    def _count_failure(self, operation: Operation) -> None:
        match operation:
            case Read():
                self.failed_reads += 1
            case Verify() | Compare():
                self.failed_verifies += 1
            case Write() | WriteSame() | CompareAndWrite() | OrWrite() | WriteAtomic() | WriteAndVerify():
                self.failed_writes += 1


def _length(operation: Operation) -> int:
    return sum(length for _, length in extents(operation))
