"""The handlers of SANITIZE; drawing in command_bench. What they begin is carried out in test_sanitize_operations."""

import pytest

from iscsi_target.scsi.commands import command_lookup
from iscsi_target.scsi.commands import table as commands
from iscsi_target.scsi.commands.sanitize import (
    EXIT_FAILURE_MODE,
    OverwriteHeader,
    Sanitize,
    always,
    asks_for_readable_page,
    asks_for_temperature,
    wanted_by_overwrite,
)
from iscsi_target.scsi.layouts.cdb import LogSense, ModeSense6, ModeSense10
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.sanitization import METHODS, Method, Sanitization
from iscsi_target.scsi.state.task import Begin, Call, Done, Leave, Reply, Save
from iscsi_target.scsi.status import CheckCondition, Sense
from iscsi_target.wire.layout import FieldPointer
from tests.unit.scsi.command_bench import BLOCK, CAPACITY, A, device

pytestmark = pytest.mark.clause("SBC3r36 5.24")

OVERWRITE, BLOCK_ERASE, CRYPTOGRAPHIC_ERASE = METHODS
LENGTH = CAPACITY * BLOCK
FAILED = Sanitization(BLOCK_ERASE, LENGTH, failed=True)
MORE = FAILED._replace(unrestricted=True)


def header(pattern_length: int = 4, count: int = 1, *, test: int = 0, invert: bool = False) -> bytes:
    return OverwriteHeader(
        invert=invert, test=test, overwrite_count=count, initialization_pattern_length=pattern_length
    ).pack()


def answer(unit: Device, cdb: Sanitize, data: bytes = b"") -> Reply:
    row = command_lookup.find(cdb.pack())
    fields = row.unpack(cdb.pack())
    assert isinstance(fields, Sanitize)
    return row.handler(unit, fields, Call(A, data[: row.data_out(unit, fields)], (0,)))


def overwrite(unit: Device, data: bytes, length: int | None = None, **bits: bool) -> Reply:
    length = len(data) if length is None else length
    return answer(unit, Sanitize(service_action=OVERWRITE, parameter_list_length=length, **bits), data)


def begun(reply: Reply) -> Begin:
    """Returns what a command begins; what is stored before must be that."""
    assert isinstance(reply, Save)
    begin = reply.finish()
    assert isinstance(begin, Begin)
    assert reply.state.sanitization == begin.sanitization
    return begin


def refused(call) -> Sense:
    with pytest.raises(CheckCondition) as raised:
        call()
    return raised.value.sense


# What is begun


@pytest.mark.clause("SBC3r36 5.24.2.2")
@pytest.mark.parametrize("pattern", [b"x", b"abc", b"\1\2\3\4", bytes(range(256)), bytes(BLOCK)])
def test_overwrite_repeats_the_pattern_and_begins_it_anew_in_every_block(pattern: bytes):
    found = begun(overwrite(device(), header(len(pattern)) + pattern)).sanitization
    assert found.pattern == (pattern * BLOCK)[:BLOCK]
    assert (found.method, found.length_bytes, found.passes, found.invert) == (OVERWRITE, LENGTH, 1, False)


@pytest.mark.clause("SBC3r36 5.24.2.2")
def test_overwrite_takes_count_and_invert_from_the_list():
    found = begun(overwrite(device(), header(count=31, invert=True) + b"abcd")).sanitization
    assert (found.passes, found.invert) == (31, True)


@pytest.mark.clause("SBC3r36 5.24.2.3")
@pytest.mark.clause("SBC3r36 5.24.2.4")
@pytest.mark.parametrize("method", [BLOCK_ERASE, CRYPTOGRAPHIC_ERASE])
def test_erase_covers_the_whole_unit(method: Method):
    assert begun(answer(device(), Sanitize(service_action=method))).sanitization == Sanitization(method, LENGTH)


@pytest.mark.parametrize("immed", [True, False])
@pytest.mark.parametrize("ause", [True, False])
def test_immed_and_ause_are_taken_in(immed: bool, ause: bool):
    replies = (
        answer(device(), Sanitize(service_action=BLOCK_ERASE, immed=immed, ause=ause)),
        overwrite(device(), header() + b"abcd", immed=immed, ause=ause),
    )
    for reply in replies:
        begin = begun(reply)
        assert (begin.immediate, begin.sanitization.unrestricted) == (immed, ause)


def test_nothing_has_changed_before_it_is_stored():
    unit = device()
    reply = answer(unit, Sanitize(service_action=BLOCK_ERASE))
    assert isinstance(reply, Save)
    assert unit.sanitization is None


# What is refused


@pytest.mark.parametrize("length", [0, 1, 4, BLOCK + 5, 0xFFFF])
def test_a_parameter_list_length_that_overwrite_cannot_have_is_refused(length: int):
    cdb = Sanitize(service_action=OVERWRITE, parameter_list_length=length)
    assert wanted_by_overwrite(device(), cdb) == 0
    sense = refused(lambda: answer(device(), cdb, bytes(length)))
    assert (sense.key, sense.code, sense.field, sense.in_cdb) == (5, 0x2400, FieldPointer(7, 7), True)


@pytest.mark.parametrize("action", [BLOCK_ERASE, CRYPTOGRAPHIC_ERASE, EXIT_FAILURE_MODE])
def test_the_others_have_no_parameter_list(action: int):
    sense = refused(lambda: answer(device(), Sanitize(service_action=action, parameter_list_length=8)))
    assert (sense.key, sense.code, sense.field) == (5, 0x2400, FieldPointer(7, 7))


@pytest.mark.parametrize("action", [0, 4, 0x1E])
def test_a_service_action_that_is_none_is_refused(action: int):
    sense = refused(lambda: command_lookup.find(Sanitize(service_action=action).pack()))
    assert (sense.key, sense.code, sense.field) == (5, 0x2400, FieldPointer(1, 4))


@pytest.mark.parametrize("byte", range(2, 7))
def test_reserved_bytes_of_the_cdb_are_refused(byte: int):
    cdb = bytearray(Sanitize(service_action=BLOCK_ERASE).pack())
    cdb[byte] = 1
    sense = refused(lambda: command_lookup.find(bytes(cdb)).unpack(bytes(cdb)))
    assert (sense.key, sense.code, sense.field) == (5, 0x2400, FieldPointer(byte, 0))


def test_the_bit_that_sbc_4_has_for_zones_is_reserved():
    cdb = bytearray(Sanitize(service_action=BLOCK_ERASE).pack())
    cdb[1] |= 0x40
    assert refused(lambda: command_lookup.find(bytes(cdb)).unpack(bytes(cdb))).field == FieldPointer(1, 6)


@pytest.mark.clause("SBC3r36 5.24.2.2")
@pytest.mark.parametrize(
    ("data", "code", "byte", "bit"),
    [
        (header(count=0) + b"abcd", 0x2400, 0, 4),
        (header(test=1) + b"abcd", 0x2600, 0, 6),
        (header(test=3) + b"abcd", 0x2600, 0, 6),
        (b"\1\x10\0\4abcd", 0x2600, 1, 4),
        (header(0) + b"abcd", 0x2600, 2, 0),
        (header(BLOCK + 1) + bytes(BLOCK), 0x2600, 2, 0),
    ],
)
def test_a_wrong_field_of_the_list_is_pointed_at(data: bytes, code: int, byte: int, bit: int):
    sense = refused(lambda: overwrite(device(), data))
    assert (sense.key, sense.code, sense.field, sense.in_cdb) == (5, code, FieldPointer(byte, bit), False)


@pytest.mark.parametrize(
    ("data", "length"), [(header(8) + b"abcd", None), (header(4) + b"ab", 8), (header(4)[:3], 8), (b"", 8)]
)
def test_a_list_that_ends_too_early_is_refused(data: bytes, length: int | None):
    sense = refused(lambda: overwrite(device(), data, length))
    assert (sense.key, sense.code) == (5, 0x1A00)


@pytest.mark.clause("SBC3r36 4.12")
@pytest.mark.parametrize("action", METHODS)
def test_a_unit_that_must_not_be_written_is_not_sanitized(action: int):
    data = header() + b"abcd" if action == OVERWRITE else b""
    cdb = Sanitize(service_action=action, parameter_list_length=len(data))
    by_software = device()
    by_software.modes = by_software.modes.select(ControlPage(ps=False, swp=True).pack(), 0)
    for protected, code in ((device(read_only=True), 0x2700), (by_software, 0x2702)):
        sense = refused(lambda unit=protected: answer(unit, cdb, data))
        assert (sense.key, sense.code) == (7, code)


# After a failure


@pytest.mark.clause("SBC3r36 5.24.2.5")
def test_exit_failure_mode_without_a_failure_does_nothing():
    assert answer(device(), Sanitize(service_action=EXIT_FAILURE_MODE)) == Done()


@pytest.mark.clause("SBC3r36 5.24.2.5")
def test_exit_failure_mode_forgets_a_failure_of_an_operation_with_ause():
    unit = device()
    unit.sanitization = MORE
    reply = answer(unit, Sanitize(service_action=EXIT_FAILURE_MODE))
    assert isinstance(reply, Save)
    assert reply.state.sanitization is None
    assert unit.sanitization == MORE
    assert reply.finish() == Leave(MORE)


@pytest.mark.clause("SBC3r36 4.11.1")
def test_without_ause_a_failure_can_only_be_mended_by_another_operation_without_it():
    unit = device()
    unit.sanitization = FAILED
    sense = refused(lambda: answer(unit, Sanitize(service_action=EXIT_FAILURE_MODE)))
    assert (sense.key, sense.code, sense.field) == (5, 0x2400, FieldPointer(1, 4))
    sense = refused(lambda: answer(unit, Sanitize(service_action=BLOCK_ERASE, ause=True)))
    assert (sense.key, sense.code, sense.field) == (5, 0x2400, FieldPointer(1, 5))
    sense = refused(lambda: overwrite(unit, header() + b"abcd", ause=True))
    assert (sense.key, sense.code, sense.field) == (5, 0x2400, FieldPointer(1, 5))
    begun(answer(unit, Sanitize(service_action=BLOCK_ERASE)))


@pytest.mark.parametrize("ause", [True, False])
def test_after_a_failure_with_ause_anything_may_be_begun(ause: bool):
    unit = device()
    unit.sanitization = MORE
    assert begun(answer(unit, Sanitize(service_action=BLOCK_ERASE, ause=ause))).sanitization.unrestricted == ause


# What is processed meanwhile


@pytest.mark.clause("SBC4r22 4.11.2")
def test_the_table_says_what_is_processed_meanwhile():
    named = {row.name for row in commands.TABLE if row.row.sanitizing is always}
    assert named == {
        "INQUIRY",
        "READ CAPACITY(10)",
        "READ CAPACITY(16)",
        "REPORT LUNS",
        "REPORT SUPPORTED OPERATION CODES",
        "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
        "REQUEST SENSE",
    }
    depends = {
        row.name for row in commands.TABLE if row.row.sanitizing in (asks_for_temperature, asks_for_readable_page)
    }
    assert depends == {"LOG SENSE", "MODE SENSE(6)", "MODE SENSE(10)"}
    assert {row.layout for row in commands.TABLE if row.row.mends(FAILED)} == {Sanitize}


@pytest.mark.clause("SBC4r22 4.11.2")
def test_only_some_pages_can_be_read_meanwhile():
    assert asks_for_temperature(LogSense(page_code=0x0D))
    assert not asks_for_temperature(LogSense(page_code=0x02))
    assert not asks_for_temperature(LogSense(page_code=0x0D, subpage_code=1))
    for layout in (ModeSense6, ModeSense10):
        readable = {code for code in range(64) if asks_for_readable_page(layout(page_code=code))}
        assert readable == {0x08, 0x0A, 0x18, 0x19, 0x1C}
        assert not asks_for_readable_page(layout(page_code=0x0A, subpage_code=1))
