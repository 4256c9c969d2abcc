"""EXTENDED COPY(LID1) within one unit; drawing in command_bench."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.commands.copy_results import MAX_CSCDS, MAX_DESCRIPTOR_BYTES, MAX_SEGMENT_BYTES, MAX_SEGMENTS
from iscsi_target.scsi.commands.extended_copy import wanted_by_extended_copy
from iscsi_target.scsi.commands.inquiry import unit_designators
from iscsi_target.scsi.layouts.cdb import Reserve6
from iscsi_target.scsi.layouts.copy_cdb import (
    BlockDeviceParameters,
    BlockSegment,
    CopyParameterHeader,
    CopyParameterHeaderLid4,
    ExtendedCopyLid1,
    ExtendedCopyLid4,
    IdentificationCscd,
    OffsetSegment,
)
from iscsi_target.scsi.layouts.token_cdb import CopyOperationAbort
from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.sense_data import FixedSense
from iscsi_target.scsi.state.copy_log import CopyLog, CopyRecord, CopyState
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Completed, Function
from iscsi_target.scsi.status import Sense, SenseKey, Status
from tests.unit.scsi.command_bench import (
    BLOCK,
    CAPACITY,
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_LIST,
    LIST_LENGTH_ERROR,
    WRITE_PROTECTED,
    A,
    Bytes,
    device,
    refusal,
    run,
)
from tests.unit.scsi.unit_bench import A as NEAR
from tests.unit.scsi.unit_bench import B as FAR
from tests.unit.scsi.unit_bench import Bench

pytestmark = [pytest.mark.clause("SPC4r37 6.4"), pytest.mark.clause("SPC4r37 6.5")]

COPY_ABORTED = 0xA
UNREACHABLE, OUT_OF_RANGE, FAILURE, WRONG_TYPE = (COPY_ABORTED, 0x0804), (COPY_ABORTED, 0), (0xA, 0x0D01), (0xA, 0x0D03)


def cscd(unit: Device, number: int = 0, *, block: int = BLOCK, **fields: int) -> bytes:
    """Returns the CSCD descriptor of a unit by one of its designators."""
    code_set, association, kind, designator = unit_designators(unit)[number]
    head = IdentificationCscd(
        code_set=code_set, association=association, designator_type=kind, designator_length=len(designator)
    )
    end = BlockDeviceParameters(disk_block_length=block).pack()
    return head.replace(**fields).pack() + designator.ljust(20, b"\0")[:20] + end


def parameters(cscds: list[bytes], segments: list[bytes], **fields: int) -> bytes:
    descriptors = b"".join(cscds), b"".join(segments)
    header = CopyParameterHeader(
        list_identifier=7,
        cscd_descriptor_list_length=len(descriptors[0]),
        segment_descriptor_list_length=len(descriptors[1]),
    )
    return header.replace(**fields).pack() + b"".join(descriptors)


def blocks(source: int, destination: int, count: int, **fields: int) -> bytes:
    made = BlockSegment(source_lba=source, destination_lba=destination, block_device_number_of_blocks=count)
    return made.replace(**fields).pack()


def cdb(data: bytes) -> ExtendedCopyLid1:
    return ExtendedCopyLid1(parameter_list_length=len(data))


def refused(data: bytes, unit: Device | None = None) -> tuple[int, int]:
    return refusal(unit or device(), cdb(data), offered=data)


def store_of_numbers() -> Bytes:
    store = Bytes()
    store.content[:] = b"".join(block.to_bytes(2) * (BLOCK // 2) for block in range(CAPACITY))
    return store


@pytest.mark.clause("SPC4r37 5.17.7")
@pytest.mark.clause("SPC4r37 6.4.6.1")
@pytest.mark.clause("SPC4r37 6.4.6.3")
def test_blocks_are_copied_in_the_order_of_the_segments():
    unit, store = device(), store_of_numbers()
    data = parameters([cscd(unit)], [blocks(0, 100, 4), blocks(101, 200, 2)])
    before = bytes(store.content)
    run(unit, cdb(data), offered=data, store=store)
    assert store.read(100 * BLOCK, 4 * BLOCK) == before[: 4 * BLOCK]
    assert store.read(200 * BLOCK, 2 * BLOCK) == before[BLOCK : 3 * BLOCK]
    assert unit.copies.find(A, 7) == CopyRecord(0, CopyState.DONE, 2, 6 * BLOCK, 2)


@pytest.mark.clause("SPC4r37 6.4.5.2")
@pytest.mark.parametrize("number", [0, 2])
def test_the_unit_is_known_by_its_designators(number: int):
    unit = device()
    name = unit_designators(unit)[number][3]
    data = parameters([cscd(unit, number)], [blocks(0, 8, 1)])
    if len(name) <= 20:
        run(unit, cdb(data), offered=data)
    else:
        assert refused(data, unit) == UNREACHABLE


@pytest.mark.clause("SPC4r37 6.4.6.10")
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 2000)), max_size=4))
def test_any_bytes_are_copied_as_a_model_does_it(ranges: list[tuple[int, int, int]]):
    """Law: ranges are copied one after the other, and one that overlaps with itself as it was."""
    unit, store = device(), store_of_numbers()
    segments = []
    model = bytearray(store.content)
    for source, destination, length in ranges:
        (lba, offset), (to, into) = divmod(source, BLOCK), divmod(destination, BLOCK)
        made = OffsetSegment(number_of_bytes=length, source_lba=lba, destination_lba=to)
        segments.append(made.replace(source_byte_offset=offset, destination_byte_offset=into).pack())
        model[destination : destination + length] = bytes(model[source : source + length])
    data = parameters([cscd(unit)], segments)
    run(unit, cdb(data), offered=data, store=store)
    assert store.content == model


def test_without_a_list_or_segments_nothing_is_done():
    unit = device(read_only=True)
    run(unit, cdb(b""))
    data = parameters([], [])
    run(unit, cdb(data), offered=data)
    assert unit.copies.find(A, 7) == CopyRecord(0, CopyState.DONE)


UNIT = device()
SEGMENT = blocks(0, 8, 1)
WRONG_LISTS = {
    "a header that is cut off": (parameters([], [])[:-1], LIST_LENGTH_ERROR),
    "a CSCD descriptor that is cut off": (
        parameters([cscd(UNIT)[:-1]], []),
        LIST_LENGTH_ERROR,
    ),
    "a segment descriptor that is cut off": (parameters([cscd(UNIT)], [SEGMENT[:-1]]), LIST_LENGTH_ERROR),
    "a list that is shorter than its lengths": (parameters([cscd(UNIT)], [SEGMENT])[:-1], LIST_LENGTH_ERROR),
    "too many CSCD descriptors": (parameters([cscd(UNIT)] * (MAX_CSCDS + 1), []), (5, 0x2606)),
    "a CSCD descriptor of another type": (parameters([cscd(UNIT, descriptor_type_code=0xE0)], []), (5, 0x2607)),
    "a reserved type of LU ID": (parameters([cscd(UNIT, lu_id_type=2)], []), INVALID_FIELD_IN_LIST),
    "too many segment descriptors": (parameters([cscd(UNIT)], [SEGMENT] * (MAX_SEGMENTS + 1)), (5, 0x2608)),
    "a segment descriptor of another type": (
        parameters([cscd(UNIT)], [blocks(0, 8, 1, descriptor_type_code=0x03)]),
        (5, 0x2609),
    ),
    "a wrong descriptor length": (
        parameters([cscd(UNIT)], [blocks(0, 8, 1, descriptor_length=0x14)]),
        INVALID_FIELD_IN_LIST,
    ),
    "inline data": (parameters([], [], inline_data_length=1), (5, 0x260B)),
    "a reserved list ID usage": (parameters([], [], list_id_usage=1), INVALID_FIELD_IN_LIST),
    "an identifier that is not to be used": (parameters([], [], list_id_usage=3), INVALID_FIELD_IN_LIST),
    "a CSCD that is not there": (
        parameters([cscd(UNIT)], [blocks(0, 8, 1, destination_cscd_descriptor_id=1)]),
        UNREACHABLE,
    ),
    "another unit": (parameters([cscd(UNIT)[:8] + bytes(20) + cscd(UNIT)[28:]], [SEGMENT]), UNREACHABLE),
    "a null device": (parameters([cscd(UNIT, null=True)], [SEGMENT]), UNREACHABLE),
    "a tape": (parameters([cscd(UNIT, peripheral_device_type=1)], [SEGMENT]), WRONG_TYPE),
    "blocks of another length": (parameters([cscd(UNIT, block=4096)], [SEGMENT]), WRONG_TYPE),
    "a source beyond the end": (parameters([cscd(UNIT)], [blocks(CAPACITY - 1, 0, 2)]), OUT_OF_RANGE),
    "a destination beyond the end": (parameters([cscd(UNIT)], [blocks(0, 2**64 - 1, 1)]), OUT_OF_RANGE),
    "a segment that is too long": (
        parameters([cscd(UNIT)], [OffsetSegment(number_of_bytes=MAX_SEGMENT_BYTES + 1).pack()]),
        INVALID_FIELD_IN_LIST,
    ),
    "an offset beyond its block": (
        parameters([cscd(UNIT)], [OffsetSegment(source_byte_offset=BLOCK).pack()]),
        INVALID_FIELD_IN_LIST,
    ),
}


@pytest.mark.clause("SPC4r37 6.4.5.1")
@pytest.mark.clause("SPC4r37 6.4.5.4")
@pytest.mark.parametrize(("data", "sense"), WRONG_LISTS.values(), ids=WRONG_LISTS)
def test_wrong_list_is_refused_and_nothing_is_copied(data: bytes, sense: tuple[int, int]):
    unit = device()
    assert refused(data, unit) == sense
    assert unit.copies.find(A, 7) is None


def test_less_data_than_announced_is_refused():
    data = parameters([cscd(UNIT)], [SEGMENT])
    assert refusal(device(), cdb(data), offered=data[:-1]) == LIST_LENGTH_ERROR


def test_a_list_that_is_too_long_is_not_fetched():
    most = CopyParameterHeader.size + MAX_DESCRIPTOR_BYTES
    assert wanted_by_extended_copy(device(), ExtendedCopyLid1(parameter_list_length=most)) == most
    long = ExtendedCopyLid1(parameter_list_length=most + 1)
    assert wanted_by_extended_copy(device(), long) == 0
    assert refusal(device(), long, offered=bytes(most + 1)) == LIST_LENGTH_ERROR


def test_a_unit_that_must_not_be_written_is_not():
    unit = device(read_only=True)
    data = parameters([cscd(unit)], [SEGMENT])
    assert refused(data, unit) == WRITE_PROTECTED


def test_a_copy_without_an_identifier_is_not_known():
    unit = device()
    data = parameters([cscd(unit)], [SEGMENT], list_id_usage=3, list_identifier=0)
    run(unit, cdb(data), offered=data)
    assert unit.copies.find(A, 0) is None


@pytest.mark.clause("SPC4r37 6.4.6.1")
def test_this_unit_needs_no_descriptor_and_a_descriptor_no_block_length():
    unit, store = device(), store_of_numbers()
    this = {"source_cscd_descriptor_id": 0xFFFF, "destination_cscd_descriptor_id": 0}
    data = parameters([cscd(unit, block=0)], [blocks(3, 8, 1, **this)])
    run(unit, cdb(data), offered=data, store=store)
    assert store.read(8 * BLOCK, BLOCK) == store.read(3 * BLOCK, BLOCK)


# EXTENDED COPY(LID4)


def parameters_lid4(cscds: list[bytes], segments: list[bytes], **fields: int) -> bytes:
    """As `parameters`; the first CSCD descriptor is number 1."""
    descriptors = b"".join(cscds), b"".join(segments)
    header = CopyParameterHeaderLid4(
        list_identifier=0x12345678,
        cscd_descriptor_list_length=len(descriptors[0]),
        segment_descriptor_list_length=len(descriptors[1]),
    )
    return header.replace(**fields).pack() + b"".join(descriptors)


def cdb_lid4(data: bytes) -> ExtendedCopyLid4:
    return ExtendedCopyLid4(parameter_list_length=len(data))


FIRST = {"source_cscd_descriptor_id": 1, "destination_cscd_descriptor_id": 1}
SEGMENT_LID4 = blocks(0, 8, 2, **FIRST)


@pytest.mark.clause("SPC4r37 6.4.2")
def test_the_long_list_copies_as_the_short_one():
    unit, store = device(), store_of_numbers()
    data = parameters_lid4([cscd(unit)], [SEGMENT_LID4, blocks(9, 30, 1, **FIRST)])
    assert not run(unit, cdb_lid4(data), offered=data, store=store).sense
    assert store.read(8 * BLOCK, 2 * BLOCK) == store.read(0, 2 * BLOCK)
    assert store.read(30 * BLOCK, BLOCK) == store.read(BLOCK, BLOCK)
    assert unit.copies.find(A, 0x12345678) == CopyRecord(1, CopyState.DONE, 2, 3 * BLOCK, 2)
    assert run(unit, ExtendedCopyLid4()).status is Status.GOOD


@pytest.mark.clause("SPC4r37 6.4.2")
def test_how_many_segments_are_done_is_said_when_that_is_wanted():
    unit = device()
    data = parameters_lid4([cscd(unit)], [SEGMENT_LID4], g_sense=True)
    done = run(unit, cdb_lid4(data), offered=data)
    assert (done.status, done.sense) == (Status.GOOD, Sense(SenseKey.COMPLETED, 0x0020, command_specific=1))


WRONG_LONG_LISTS = {
    "another format": (parameters_lid4([], [], parameter_list_format=2), INVALID_FIELD_IN_LIST),
    "a header of another length": (
        parameters_lid4([], [], header_cscd_descriptor_list_length=0),
        INVALID_FIELD_IN_LIST,
    ),
    "a header of another type": (parameters_lid4([], [], header_cscd_descriptor_type_code=0), INVALID_FIELD_IN_LIST),
    "a header that is cut off": (parameters_lid4([], [])[:-1], LIST_LENGTH_ERROR),
    "a CSCD that is the header": (parameters_lid4([cscd(UNIT)], [SEGMENT]), UNREACHABLE),
    "inline data": (parameters_lid4([], [], inline_data_length=4), (5, 0x260B)),
    "a copy that could not be aborted": (
        parameters_lid4([], [], list_id_usage=3, list_identifier=0, immed=True),
        INVALID_FIELD_IN_LIST,
    ),
}


@pytest.mark.clause("SPC4r37 6.4.2")
@pytest.mark.parametrize(("data", "sense"), WRONG_LONG_LISTS.values(), ids=WRONG_LONG_LISTS)
def test_wrong_long_list_is_refused(data: bytes, sense: tuple[int, int]):
    unit = device()
    assert refusal(unit, cdb_lid4(data), offered=data) == sense
    assert unit.copies == CopyLog()


def test_a_long_list_that_is_too_long_is_not_fetched():
    most = CopyParameterHeaderLid4.size + MAX_DESCRIPTOR_BYTES
    assert wanted_by_extended_copy(device(), ExtendedCopyLid4(parameter_list_length=most)) == most
    assert wanted_by_extended_copy(device(), ExtendedCopyLid4(parameter_list_length=most + 1)) == 0


# At a whole unit


@pytest.mark.clause("SPC4r37 5.17.4.3")
@pytest.mark.parametrize("tells", [False, True])
def test_a_copy_goes_on_in_the_background(tells: bool):
    bench = Bench()
    bench.memory.content[:BLOCK] = b"\x77" * BLOCK
    data = parameters_lid4([cscd(bench.device)], [SEGMENT_LID4], immed=True, g_sense=tells)
    task = bench.send(NEAR, cdb_lid4(data), expects_data=True)
    bench.give(task, data)
    assert bench.status(task) is Status.GOOD
    end = bench.outcome(task)
    assert isinstance(end, Completed)
    told = FixedSense.unpack(end.sense) if end.sense else None
    assert (told is not None) == tells
    assert told is None or (told.sense_key, told.additional_sense_code) == (0xF, 0x0020)
    record = bench.device.copies.find(NEAR, 0x12345678)
    assert record == CopyRecord(1, CopyState.BACKGROUND)
    bench.end()
    assert record.state is CopyState.DONE
    assert bench.memory.read(8 * BLOCK, BLOCK) == b"\x77" * BLOCK
    assert bench.unit.open_tasks == 0


def start(bench: Bench):
    """Sends a copy of two segments of NEAR."""
    data = parameters([cscd(bench.device)], [blocks(0, 8, 1), blocks(0, 16, 1)])
    task = bench.send(NEAR, cdb(data), expects_data=True)
    bench.give(task, data)
    return task


@pytest.mark.clause("SPC4r37 6.4.3.2")
def test_an_identifier_that_is_in_use_is_refused():
    bench = Bench()
    first = start(bench)
    assert bench.device.copies.find(NEAR, 7) == CopyRecord(0, CopyState.FOREGROUND)
    assert bench.sense(start(bench)) == (5, 0x0016)
    bench.perform()
    assert bench.status(first) is Status.GOOD
    second = start(bench)
    bench.perform()
    assert bench.status(second) is Status.GOOD


def test_a_medium_that_fails_aborts_the_copy():
    bench = Bench()
    task = start(bench)

    def fail(offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        if offset_bytes == 16 * BLOCK:
            raise MediumError(Fault.WRITE_FAILED, offset_bytes)

    bench.memory.write = fail  # type: ignore[method-assign]  # of this store only
    bench.perform()
    assert bench.sense(task) == FAILURE
    told = Sense(SenseKey.COPY_ABORTED, 0x0D01, command_specific=1)
    assert bench.device.copies.find(NEAR, 7) == CopyRecord(0, CopyState.FAILED, 1, BLOCK, 1, told)


@pytest.mark.clause("SPC4r37 6.24")
def test_a_copy_that_is_aborted_is_known_as_that():
    bench = Bench()
    task = start(bench)
    bench.manage(Function.ABORT_TASK_SET, NEAR)
    bench.perform()
    assert bench.status(task) is None
    assert bench.device.copies.find(NEAR, 7) == CopyRecord(0, CopyState.TERMINATED)


def test_a_copy_whose_medium_is_gone_has_failed():
    bench = Bench()
    task = start(bench)
    bench.perform(error=MediumError(Fault.GONE))
    told = Sense(SenseKey.NOT_READY, 0x0403)
    assert bench.sense(task) == (2, 0x0403)
    assert bench.device.copies.find(NEAR, 7) == CopyRecord(0, CopyState.FAILED, sense=told)


@pytest.mark.clause("SPC4r37 5.17.4.7")
def test_a_copy_is_aborted_by_its_identifier():
    bench = Bench()
    task = start(bench)
    abort = bench.send(NEAR, CopyOperationAbort(list_identifier=7))
    assert (bench.status(task), bench.status(abort)) == (None, None)
    bench.perform()
    assert bench.sense(task) == (COPY_ABORTED, 0x2F02)
    assert bench.status(abort) is Status.GOOD
    assert bench.sense(bench.send(NEAR, CopyOperationAbort(list_identifier=7))) == INVALID_FIELD_IN_CDB


def test_results_go_with_the_nexus_and_with_a_reset():
    for end in (lambda bench: bench.unit.detach(NEAR), lambda bench: bench.manage(Function.LOGICAL_UNIT_RESET, NEAR)):
        bench = Bench()
        start(bench)
        bench.perform()
        end(bench)
        assert bench.device.copies.find(NEAR, 7) is None


def test_a_reservation_of_another_nexus_keeps_a_copy_away():
    bench = Bench()
    bench.send(FAR, Reserve6())
    assert bench.status(start(bench)) is Status.RESERVATION_CONFLICT
