"""FORMAT UNIT. Nodes A and B; unit 0 (see unit_bench)."""

import pytest

from iscsi_target.scsi.commands import table as commands
from iscsi_target.scsi.commands.command import Command
from iscsi_target.scsi.commands.format_unit import (
    FormatUnit,
    LongHeader,
    PatternDescriptor,
    ShortHeader,
    format_unit,
    wanted_by_format_unit,
)
from iscsi_target.scsi.commands.sanitize import EXIT_FAILURE_MODE, Sanitize, always
from iscsi_target.scsi.layouts.block_cdb import Read10
from iscsi_target.scsi.layouts.cdb import Inquiry
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.state.sanitization import METHODS, Method
from iscsi_target.scsi.state.task import Call, Completed, Function, Task, TaskAttribute
from iscsi_target.scsi.status import Status
from tests.unit.scsi import command_bench
from tests.unit.scsi.command_bench import INVALID_FIELD_IN_CDB, INVALID_FIELD_IN_LIST, LIST_LENGTH_ERROR, refusal
from tests.unit.scsi.unit_bench import BLOCK, BLOCKS, READY, A, B, Bench

LENGTH = BLOCK * BLOCKS
IN_PROGRESS, CORRUPTED, FAILED = (2, 0x0404), (3, 0x3100), (3, 0x3101)
BROKEN = MediumError(Fault.WRITE_FAILED, 0)


def patterned(pattern: bytes, header: bytes = ShortHeader(fov=True, ip=True).pack(), kind: int = 1) -> bytes:
    """Returns a parameter list with an initialization pattern."""
    descriptor = PatternDescriptor(initialization_pattern_type=kind, initialization_pattern_length=len(pattern))
    return header + descriptor.pack() + pattern


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.memory.content[:] = b"u" * LENGTH
    return made


def codes_of(row: Command) -> dict[str, int]:
    """Returns the fields of a CDB that make it one of a row."""
    codes = {"operation_code": row.operation_code}
    return codes if row.service_action is None else codes | {"service_action": row.service_action}


def begin(bench: Bench, data: bytes = b"", *, longlist: bool = False) -> Task:
    """Sends FORMAT UNIT and has it stored."""
    cdb = FormatUnit(fmtdata=bool(data), longlist=longlist)
    task = bench.send(A, cdb, expects_data=bool(data))
    if data:
        bench.give(task, data)
    bench.persist()
    return task


@pytest.mark.clause("SBC3r36 5.3")
@pytest.mark.clause("SBC3r36 4.33")
def test_every_block_is_zeros_and_the_command_ends_with_that(bench: Bench):
    task = begin(bench)
    assert bench.outcome(task) is None
    bench.end()
    assert bench.status(task) is Status.GOOD
    assert bench.memory.content == bytes(LENGTH)
    assert bench.status(bench.send(B, READY)) is Status.GOOD


@pytest.mark.clause("SBC3r36 5.3.2.3")
@pytest.mark.parametrize("longlist", [False, True])
def test_a_pattern_fills_every_block_from_its_beginning(bench: Bench, longlist: bool):
    header = LongHeader(fov=True, ip=True).pack() if longlist else ShortHeader(fov=True, ip=True).pack()
    begin(bench, patterned(b"abc", header), longlist=longlist)
    bench.end()
    assert bench.memory.content == (b"abc" * BLOCK)[:BLOCK] * BLOCKS


@pytest.mark.clause("SBC3r36 5.3.2.2")
def test_immed_ends_the_command_when_it_is_stored(bench: Bench):
    task = begin(bench, ShortHeader(immed=True).pack())
    assert bench.status(task) is Status.GOOD
    assert bench.sense(bench.send(A, Read10(transfer_length=1))) == IN_PROGRESS
    bench.end()
    assert bench.status(bench.send(A, READY)) is Status.GOOD


@pytest.mark.clause("SBC3r36 5.3.1")
def test_only_three_commands_are_processed_meanwhile_and_the_others_are_told_how_far_it_is(bench: Bench):
    begin(bench)
    bench.perform()
    for row in commands.TABLE:
        if row.available(bench.device):
            task = bench.send(B, row.layout().replace(**codes_of(row)))
            processed = row.name in ("INQUIRY", "REPORT LUNS", "REQUEST SENSE")
            told = bench.outcome(task)
            assert isinstance(told, Completed)
            assert told.sense[12:14] == (b"" if processed else b"\x04\x04"), row.name
            assert told.sense[15:18] == (b"" if processed else b"\x80\x20\0"), row.name


@pytest.mark.clause("SBC3r36 5.3.1")
def test_after_a_failure_only_what_needs_the_medium_is_refused(bench: Bench):
    begin(bench)
    bench.perform(error=BROKEN)
    bench.persist()
    failed, refused = bench.device.sanitization, set()
    assert failed is not None
    there = [row for row in commands.TABLE if row.available(bench.device) and not row.row.mends(failed)]
    for row in there:
        told = bench.outcome(bench.send(B, row.layout().replace(**codes_of(row))))
        if isinstance(told, Completed) and told.sense[12:14] == b"\x31\0":
            refused.add(row.name)
    needing = {row.name for row in there if row.medium_access and row.row.sanitizing is not always}
    assert refused == needing | {"TEST UNIT READY"}
    assert {"READ(10)", "WRITE(16)", "UNMAP", "SYNCHRONIZE CACHE(10)"} <= refused


@pytest.mark.clause("SPC4r37 7.5.8")
def test_software_write_protection_can_be_taken_back_after_a_failure(bench: Bench):
    begin(bench)
    bench.perform(error=BROKEN)
    bench.persist()
    for swp, told in ((True, (7, 0x2702)), (False, None)):
        assert bench.status(bench.select(A, ControlPage(ps=False, swp=swp).pack())) is Status.GOOD
        for cdb in (FormatUnit(), Sanitize(service_action=Method.BLOCK_ERASE)):
            task = bench.send(A, cdb)
            assert (bench.sense(task) if swp else bench.outcome(task)) == told
            bench.manage(Function.ABORT_TASK_SET, A)


@pytest.mark.clause("SAM5r21 8.6")
def test_it_keeps_its_place_among_the_tasks(bench: Bench):
    before = bench.read(B, 0)
    task = bench.send(A, FormatUnit(), TaskAttribute.ORDERED)
    waiting = bench.read(A, 1)
    assert not bench.saving
    bench.perform()
    assert bench.status(before) is Status.GOOD
    bench.persist()
    assert bench.sense(waiting) == IN_PROGRESS
    assert bench.status(bench.send(A, Inquiry(allocation_length=36))) is Status.GOOD, "it holds up nobody"
    assert bench.status(bench.send(B, Inquiry(allocation_length=36), TaskAttribute.ORDERED)) is Status.GOOD
    bench.end()
    assert bench.status(task) is Status.GOOD
    assert not bench.unit.open_tasks


@pytest.mark.clause("SBC3r36 5.3.1")
def test_what_was_there_before_is_told_of_it(bench: Bench):
    reading = bench.read(B, 0)
    waiting = bench.send(B, FormatUnit(fmtdata=True), expects_data=True)
    begin(bench)
    assert bench.sense(waiting) == IN_PROGRESS
    assert bench.outcome(reading) is None, "it is at the medium"
    bench.perform()
    assert bench.sense(reading) == IN_PROGRESS


@pytest.mark.clause("SBC3r36 5.3.1")
def test_a_format_that_fails_leaves_a_corrupted_one_until_it_is_done_again(bench: Bench):
    task = begin(bench)
    bench.perform(error=BROKEN)
    bench.persist()
    assert bench.sense(task) == FAILED
    assert bench.sense(bench.send(A, READY)) == CORRUPTED
    assert bench.status(bench.send(A, Sanitize(service_action=EXIT_FAILURE_MODE))) is Status.GOOD
    assert bench.sense(bench.send(A, READY)) == CORRUPTED, "that was no SANITIZE"
    again = begin(bench)
    bench.end()
    assert bench.status(again) is Status.GOOD
    assert bench.status(bench.send(A, READY)) is Status.GOOD


@pytest.mark.clause("SBC3r36 4.11.3")
def test_a_failed_sanitize_is_not_mended_by_a_format_but_a_failed_format_by_a_sanitize(bench: Bench):
    bench.send(A, Sanitize(service_action=Method.BLOCK_ERASE))
    bench.persist()
    bench.perform(error=BROKEN)
    bench.persist()
    assert bench.sense(bench.send(A, FormatUnit())) == (3, 0x3103)
    other = Bench()
    begin(other)
    other.perform(error=BROKEN)
    other.persist()
    for method in METHODS[1:]:
        other.send(A, Sanitize(service_action=method))
        other.end()
        assert other.status(other.send(A, READY)) is Status.GOOD


def test_what_is_not_stored_is_not_begun(bench: Bench):
    task = bench.send(A, FormatUnit())
    bench.persist(MediumError(Fault.NO_SPACE))
    assert bench.sense(task) == (4, 0x4400)
    assert bench.memory.content == b"u" * LENGTH


def test_no_more_data_is_fetched_than_the_initiator_has(bench: Bench):
    task = Task(A, 77, FormatUnit(fmtdata=True).pack().ljust(16, b"\0"), expects_data=True, expected_length=4)
    bench.record(bench.unit.accept(task))
    assert bench.collects[-1].length_bytes == 4
    unit = command_bench.device()
    assert wanted_by_format_unit(unit, FormatUnit(fmtdata=True)) == 8 + 4 + BLOCK
    assert wanted_by_format_unit(unit, FormatUnit()) == 0


@pytest.mark.parametrize(
    "cdb",
    [
        FormatUnit(fmtpinfo=1),
        FormatUnit(longlist=True),
        FormatUnit(cmplst=True),
        FormatUnit(defect_list_format=3),
        FormatUnit(fmtdata=True, defect_list_format=1),
    ],
)
def test_what_the_cdb_cannot_ask_for(cdb: FormatUnit):
    assert refusal(command_bench.device(), cdb, offered=bytes(8)) == INVALID_FIELD_IN_CDB


@pytest.mark.parametrize("cdb", [FormatUnit(fmtdata=True), FormatUnit(fmtdata=True, cmplst=True, defect_list_format=5)])
@pytest.mark.parametrize("header", [ShortHeader(), ShortHeader(fov=True, dpry=True, dcrt=True, stpf=True)])
def test_options_about_defects_are_taken_as_there_are_none(cdb: FormatUnit, header: ShortHeader):
    save = format_unit(command_bench.device(), cdb, Call(command_bench.A, header.pack(), (0,)))
    assert save.state.sanitization is not None
    assert save.state.sanitization.method is Method.FORMAT


@pytest.mark.clause("SBC3r36 5.3.2")
@pytest.mark.parametrize(
    "data",
    [
        ShortHeader(protection_fields_usage=1).pack(),
        ShortHeader(defect_list_length=8).pack(),
        ShortHeader(dcrt=True).pack(),
        b"\0\4\0\0",
        patterned(b"", kind=1),
        patterned(b"x", kind=0),
        patterned(b"x", kind=2),
        patterned(bytes(BLOCK + 1)),
        patterned(b"x", ShortHeader(ip=True).pack()),
    ],
)
def test_what_the_list_cannot_ask_for(data: bytes):
    assert refusal(command_bench.device(), FormatUnit(fmtdata=True), offered=data) == INVALID_FIELD_IN_LIST


@pytest.mark.parametrize(
    "data", [b"", bytes(3), ShortHeader(fov=True, ip=True).pack(), patterned(b"abcd")[:-1], patterned(b"")[:6]]
)
def test_a_list_that_ends_too_early(data: bytes):
    assert refusal(command_bench.device(), FormatUnit(fmtdata=True), offered=data) == LIST_LENGTH_ERROR


@pytest.mark.clause("SBC3r36 5.3.2.2")
@pytest.mark.clause("SBC3r36 5.3.2.3")
@pytest.mark.parametrize(
    "data, pointer",
    [
        (ShortHeader(ip=True).pack(), "8b 0001"),
        (patterned(b"x")[:4] + b"\x20" + patterned(b"x")[5:], "8d 0004"),
        (patterned(b"x")[:4] + b"\x80" + patterned(b"x")[5:], "8f 0004"),
        (patterned(b"x")[:4] + b"\x01" + patterned(b"x")[5:], "88 0004"),
        (patterned(b"x", kind=2), "80 0005"),
    ],
)
def test_the_field_pointer_names_what_is_wrong(bench: Bench, data: bytes, pointer: str):
    task = bench.send(A, FormatUnit(fmtdata=True), expects_data=True)
    bench.give(task, data)
    assert bench.sense(task) == INVALID_FIELD_IN_LIST
    told = bench.outcome(task)
    assert isinstance(told, Completed)
    assert told.sense[15:18] == bytes.fromhex(pointer)


def test_long_headers_have_no_protection_either():
    for header in (LongHeader(p_i_information=1), LongHeader(protection_interval_exponent=1)):
        cdb = FormatUnit(fmtdata=True, longlist=True)
        assert refusal(command_bench.device(), cdb, offered=header.pack()) == INVALID_FIELD_IN_LIST


def test_a_unit_that_cannot_be_written_is_not_formatted():
    assert refusal(command_bench.device(read_only=True), FormatUnit()) == (7, 0x2700)
