"""What counts where."""

import pytest

from iscsi_target.scsi.operations import (
    Compare,
    CompareAndWrite,
    Copy,
    CopyRange,
    Flush,
    Operation,
    OrWrite,
    Read,
    Unmap,
    Verify,
    Write,
    WriteAndVerify,
    WriteAtomic,
    WriteSame,
)
from iscsi_target.scsi.statistics import Statistics

BYTES = bytes(512)

ENDED: list[tuple[Operation, bool, dict[str, int]]] = [
    (Read(0, 512), True, {"read_bytes": 512, "read_hits": 1}),
    (Read(0, 512), False, {"read_bytes": 512, "read_misses": 1}),
    (Read(0, 512, flush=True), False, {"read_bytes": 512}),
    (Write(0, BYTES), True, {"written_bytes": 512, "write_hits": 1}),
    (Write(0, BYTES), False, {"written_bytes": 512}),
    (Write(0, BYTES, flush=True), True, {"written_bytes": 512}),
    (WriteSame(0, 1024, BYTES), False, {"written_bytes": 1024}),
    (CompareAndWrite(0, BYTES, BYTES), False, {"written_bytes": 512}),
    (OrWrite(0, BYTES), False, {"written_bytes": 512}),
    (WriteAtomic(0, BYTES), False, {"written_bytes": 512}),
    (WriteAndVerify(0, BYTES, compare=True), False, {"written_bytes": 512, "verified_bytes": 512}),
    (Verify(0, 2048), False, {"verified_bytes": 2048}),
    (Compare(0, BYTES, copies=3), True, {"verified_bytes": 1536}),
    (Copy((CopyRange(0, 512, 10), CopyRange(9, 5, 7))), False, {"read_bytes": 17, "written_bytes": 17}),
    (Flush(), False, {"flushes": 1}),
    (Unmap(((0, 512),)), False, {}),
]
FAILED: list[tuple[Operation, dict[str, int]]] = [
    (Read(0, 512), {"failed_reads": 1}),
    (Verify(0, 512), {"failed_verifies": 1}),
    (Compare(0, BYTES), {"failed_verifies": 1}),
    (Write(0, BYTES), {"failed_writes": 1}),
    (WriteSame(0, 512, BYTES), {"failed_writes": 1}),
    (CompareAndWrite(0, BYTES, BYTES), {"failed_writes": 1}),
    (OrWrite(0, BYTES), {"failed_writes": 1}),
    (WriteAtomic(0, BYTES), {"failed_writes": 1}),
    (WriteAndVerify(0, BYTES, compare=False), {"failed_writes": 1}),
    (Flush(), {}),
    (Unmap(((0, 512),)), {}),
]


@pytest.mark.parametrize(("operation", "at_once", "expected"), ENDED)
def test_operation_that_ended_well_is_counted(operation: Operation, at_once: bool, expected: dict[str, int]):
    statistics = Statistics()
    statistics.count(operation, failed=False, at_once=at_once)
    assert statistics == Statistics(**expected)  # type: ignore[arg-type]  # counters


@pytest.mark.parametrize(("operation", "expected"), FAILED)
def test_operation_that_the_medium_failed_is_an_error_only(operation: Operation, expected: dict[str, int]):
    statistics = Statistics()
    statistics.count(operation, failed=True, at_once=False)
    assert statistics == Statistics(**expected)  # type: ignore[arg-type]  # counters


def test_reset_sets_back_what_is_named():
    statistics = Statistics(read_bytes=5, read_hits=1, stops=2)
    statistics.reset(["read_bytes"])
    assert statistics == Statistics(read_hits=1, stops=2)
