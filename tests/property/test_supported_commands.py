"""A unit is held to its own REPORT SUPPORTED OPERATION CODES: what is listed works, what is not listed is not there.

Node A asks unit 0 for the list, and then sends what it finds there:

    A ---- P == unit 0 == medium (1024 blocks of 512 bytes)
"""

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iscsi_target.scsi.layouts import cdb as spc
from iscsi_target.scsi.layouts.block_cdb import CompareAndWrite, Read10, StartStopUnit, WriteSame10, WriteSame16
from iscsi_target.scsi.layouts.pages import AllCommandsHeader, CommandDescriptor, OneCommandHeader
from iscsi_target.scsi.operations import Operation, Outcome
from iscsi_target.scsi.sense_data import FixedSense
from iscsi_target.scsi.state.task import Completed, Task
from iscsi_target.scsi.status import Status
from iscsi_target.wire.bits import either
from tests.unit.scsi.unit_bench import A, Bench, Memory

LONGEST_LIST = 4096
CDB_BYTES = 16
ACTION_BITS = 0x1F  # of byte 1, in every command that has a SERVICE ACTION

INVALID_OPERATION_CODE, INVALID_FIELD_IN_CDB, INVALID_FIELD_IN_PARAMETER_LIST = 0x2000, 0x2400, 0x2600
EXPECTED = {
    (0x5, INVALID_FIELD_IN_CDB),
    (0x5, INVALID_FIELD_IN_PARAMETER_LIST),
    (0x5, 0x2100),  # LOGICAL BLOCK ADDRESS OUT OF RANGE
    (0x5, 0x1A00),  # PARAMETER LIST LENGTH ERROR
    (0x5, 0x2C00),  # COMMAND SEQUENCE ERROR
    (0x5, 0x2604),  # INVALID RELEASE OF PERSISTENT RESERVATION
    (0x5, 0x2608),  # TOO MANY SEGMENT DESCRIPTORS
    (0x5, 0x260B),  # INLINE DATA LENGTH EXCEEDED
    (0xE, 0x1D00),  # MISCOMPARE DURING VERIFY OPERATION
}


class Listed(NamedTuple):
    """What the unit says of one of its commands.

    usage   the CDB usage data: ones for the bits that are evaluated
    """

    operation_code: int
    service_action: int | None
    usage: bytes

    @property
    def naming(self) -> bytes:
        """Ones for the bits that say which command it is."""
        return bytes([0xFF, 0 if self.service_action is None else ACTION_BITS]).ljust(len(self.usage), b"\0")


class Alone:
    """Unit 0 with a medium that does everything at once, and node A."""

    def __init__(self) -> None:
        memory = Memory()

        def attempt(operation: Operation) -> Outcome:
            return operation.perform(memory)

        self._bench = Bench(attempt=attempt)

    def send(self, cdb: bytes, data_out: bytes = b"") -> Completed:
        """Sends a CDB and returns what came of it when everything is over."""
        task = Task(A, 1, cdb.ljust(CDB_BYTES, b"\0"), expects_data=True, luns=(0,), data_out=data_out)
        bench = self._bench
        bench.record(bench.unit.accept(task))
        bench.end()
        end = bench.outcome(task)
        assert isinstance(end, Completed), "every command ends"
        bench.actions.clear()
        return end

    def listed(self) -> list[Listed]:
        """Returns what REPORT SUPPORTED OPERATION CODES lists."""
        raw = bytes(self.send(spc.ReportSupportedOperationCodes(allocation_length=LONGEST_LIST).pack()).data_in)
        header = AllCommandsHeader.unpack(raw)
        assert header.command_data_length == len(raw) - AllCommandsHeader.size
        places = range(AllCommandsHeader.size, len(raw), CommandDescriptor.size)
        return [self._listed(CommandDescriptor.unpack(raw, place)) for place in places]

    def _listed(self, found: CommandDescriptor) -> Listed:
        cdb = spc.ReportSupportedOperationCodes(
            reporting_options=0b010 if found.servactv else 0b001,
            requested_operation_code=found.operation_code,
            requested_service_action=found.service_action,
            allocation_length=LONGEST_LIST,
        )
        raw = bytes(self.send(cdb.pack()).data_in)
        assert OneCommandHeader.unpack(raw).cdb_size == found.cdb_length
        usage = raw[OneCommandHeader.size :]
        assert len(usage) == found.cdb_length
        return Listed(found.operation_code, found.service_action if found.servactv else None, usage)


LISTED = Alone().listed()
every_listed = pytest.mark.parametrize(
    "command", LISTED, ids=lambda each: f"{each.operation_code:02X}h/{each.service_action}"
)


def filled(command: Listed, chosen: bytes) -> bytes:
    """Returns a CDB of a command with chosen bits in all its fields."""
    bits = zip(chosen, command.usage, command.naming, strict=False)
    cdb = bytearray(choice & usage & ~naming for choice, usage, naming in bits)
    cdb[0] = command.operation_code
    cdb[1] |= command.service_action or 0
    return bytes(cdb)


def unused_bits(command: Listed) -> list[int]:
    """Returns which bits of the CDB are not evaluated, from the first one, 0, on."""
    known = either(command.usage, command.naming)
    return [place for place in range(len(known) * 8) if not known[place // 8] & 0x80 >> place % 8]


def sense_of(end: Completed) -> FixedSense:
    return FixedSense.unpack(end.sense)


def is_pointed_at(sense: FixedSense, mask: bytes) -> bool:
    """Returns True when the field pointer names a byte, or with a bit pointer a bit, in a mask."""
    byte = mask[sense.field_pointer]
    return bool(byte & 1 << sense.bit_pointer) if sense.bpv else bool(byte)


few_bits = st.lists(st.sampled_from((0, 0, 0, 0, 1, 2, 8, 0x10, 0x80)), min_size=CDB_BYTES, max_size=CDB_BYTES)
cdb_bytes = st.binary(min_size=CDB_BYTES, max_size=CDB_BYTES) | few_bits.map(bytes)
data_outs = st.just(b"") | st.binary(max_size=64) | st.integers(0, 255).map(lambda byte: bytes([byte]) * 1024)


@pytest.mark.clause("SPC4r37 6.35")
@pytest.mark.clause("SPC4r37 4.2.5")
@every_listed
@settings(max_examples=40)
@given(chosen=cdb_bytes, data_out=data_outs)
def test_every_listed_command_with_any_fields_ends_as_its_clauses_say(command, chosen, data_out):
    """Law: a listed command is never unknown, and what it refuses is a field that it says it evaluates."""
    end = Alone().send(filled(command, chosen), data_out)
    if end.status is not Status.CHECK_CONDITION:
        assert end.status in (Status.GOOD, Status.CONDITION_MET, Status.RESERVATION_CONFLICT)
        return
    sense = sense_of(end)
    assert (sense.sense_key, sense.additional_sense_code) in EXPECTED
    if sense.additional_sense_code == INVALID_FIELD_IN_CDB and sense.command_data:
        assert sense.sksv
        assert is_pointed_at(sense, command.usage)


@pytest.mark.clause("SPC4r37 4.2.5.3")
@pytest.mark.clause("SPC4r37 6.35.3")
@every_listed
@settings(max_examples=20)
@given(chosen=cdb_bytes, data_out=data_outs, which=st.integers(min_value=0))
def test_a_bit_that_is_not_evaluated_is_refused_with_its_place(command, chosen, data_out, which):
    """Law: every bit that the usage data leaves zero must be zero; one that is not is pointed at, or its field is."""
    unused = unused_bits(command)
    if not unused:
        return
    place = unused[which % len(unused)]
    cdb = bytearray(filled(command, chosen))
    cdb[place // 8] |= 0x80 >> place % 8
    sense = sense_of(Alone().send(bytes(cdb), data_out))
    assert (sense.sense_key, sense.additional_sense_code) == (0x5, INVALID_FIELD_IN_CDB)
    assert (sense.sksv, sense.command_data) == (True, True)
    pointed = sense.field_pointer * 8 + (7 - sense.bit_pointer if sense.bpv else 0)
    assert set(range(pointed, place + 1)) <= set(unused)


@pytest.mark.clause("SPC4r37 4.2.5.2")
@given(code=st.integers(0, 255), rest=cdb_bytes)
def test_every_unlisted_operation_code_is_unknown(code, rest):
    """Law: an operation code that is not listed ends with INVALID COMMAND OPERATION CODE."""
    if any(code == command.operation_code for command in LISTED):
        return
    sense = sense_of(Alone().send(bytes([code]) + rest[1:]))
    assert (sense.sense_key, sense.additional_sense_code) == (0x5, INVALID_OPERATION_CODE)


@pytest.mark.clause("SPC4r37 4.2.5.3")
@given(code=st.sampled_from(sorted({each.operation_code for each in LISTED if each.service_action is not None})))
def test_every_unlisted_service_action_of_a_listed_operation_code_is_a_wrong_field(code):
    """Law: a service action that is not listed ends with INVALID FIELD IN CDB, and that is the field."""
    known = {each.service_action for each in LISTED if each.operation_code == code}
    for action in set(range(ACTION_BITS + 1)) - known:
        sense = sense_of(Alone().send(bytes([code, action]).ljust(CDB_BYTES, b"\0")))
        assert (sense.sense_key, sense.additional_sense_code) == (0x5, INVALID_FIELD_IN_CDB)
        assert (sense.sksv, sense.command_data, sense.field_pointer) == (True, True, 1)


def test_the_unit_still_works_after_all_of_them():
    unit = Alone()
    for command in LISTED:
        unit.send(filled(command, bytes(CDB_BYTES)))
    for cdb in (StartStopUnit(start=True), spc.TestUnitReady(), Read10(transfer_length=1)):
        assert unit.send(cdb.pack()).status is Status.GOOD


@pytest.mark.clause("SPC4r37 6.35")
def test_what_a_unit_is_to_do_without_is_neither_listed_nor_there():
    unit = Alone()
    device = unit._bench.device
    limits = device.features.limits._replace(max_caw_blocks=0, max_write_same_blocks=0)
    device.features = device.features._replace(limits=limits)
    missing = {each.operation_code for each in LISTED} - {each.operation_code for each in unit.listed()}
    assert missing == {CompareAndWrite().operation_code, WriteSame10().operation_code, WriteSame16().operation_code}
    for code in missing:
        sense = sense_of(unit.send(bytes([code])))
        assert (sense.sense_key, sense.additional_sense_code) == (0x5, INVALID_OPERATION_CODE)
