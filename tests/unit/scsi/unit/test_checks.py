"""What a command passes when it starts, in which order. Nodes A and B; port P; one unit (see command_bench)."""

import pytest

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.commands.command_lookup import find
from iscsi_target.scsi.commands.sanitize import Sanitize
from iscsi_target.scsi.layouts import cdb as spc
from iscsi_target.scsi.layouts.block_cdb import Read10, ReadCapacity10, StartStopUnit, Write10
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.reservations.personality import STRICT, OutAction, Quirk, ReservationType
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations, Spc2Reservation
from iscsi_target.scsi.reservations.rules import Rule, rule_of
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.scsi.state.task import Done
from iscsi_target.scsi.status import CheckCondition, ReservationConflict, StatusError
from iscsi_target.scsi.unit.checks import examine
from iscsi_target.scsi.unit.nexus_table import NexusTable
from iscsi_target.wire.layout import Layout
from tests.unit.scsi.command_bench import A, B, device

READY, SENSE = spc.TestUnitReady(), spc.RequestSense(allocation_length=18)
READ, WRITE = Read10(transfer_length=1), Write10(transfer_length=1)
CHANGED = AttentionCode.MODE_PARAMETERS_CHANGED
BEFORE_CONFLICTS = [
    AttentionCode.POWER_ON_OCCURRED,
    AttentionCode.SCSI_BUS_RESET_OCCURRED,
    AttentionCode.BUS_DEVICE_RESET_FUNCTION_OCCURRED,
    AttentionCode.I_T_NEXUS_LOSS_OCCURRED,
]
AFTER_CONFLICTS = [code for code in AttentionCode if code not in BEFORE_CONFLICTS and code & 0xFF00 != 0x2900]


@pytest.fixture
def unit() -> Device:
    return device(removable=True)


@pytest.fixture
def nexuses() -> NexusTable:
    table = NexusTable()
    for nexus in (A, B):
        table.attach(nexus)
        table.take(nexus)
    return table


def reserve(unit: Device, kind: ReservationType = ReservationType.EXCLUSIVE_ACCESS, *others: Nexus) -> None:
    """Lets A hold a reservation, and registers others."""
    made = Reservation(kind, A, Cause("RESERVE", A, 0.0))
    unit.reservations = Reservations(dict.fromkeys((A, *others), 1), made)


def start(unit: Device, nexuses: NexusTable, cdb: Layout, nexus: Nexus = B) -> Done | None:
    return examine(nexus, find(cdb.pack()), cdb, unit, nexuses)


def refused(unit: Device, nexuses: NexusTable, cdb: Layout, nexus: Nexus = B) -> StatusError:
    with pytest.raises(StatusError) as raised:
        start(unit, nexuses, cdb, nexus)
    return raised.value


def code_of(error: StatusError) -> int:
    assert isinstance(error, CheckCondition)
    return error.sense.code


def test_nothing_stands_in_the_way_of_a_command(unit: Device, nexuses: NexusTable):
    assert start(unit, nexuses, WRITE) is None


# Unit attentions


@pytest.mark.clause("SAM5r21 5.14")
def test_an_attention_is_reported_once_and_cleared(unit: Device, nexuses: NexusTable):
    nexuses.establish_for(B, CHANGED)
    assert start(unit, nexuses, WRITE, A) is None
    assert code_of(refused(unit, nexuses, WRITE)) == CHANGED
    assert start(unit, nexuses, WRITE) is None


@pytest.mark.clause("SAM5r21 5.14")
@pytest.mark.parametrize("cdb", [spc.Inquiry(allocation_length=5), spc.ReportLuns(allocation_length=16)])
def test_a_command_that_is_exempt_leaves_the_attention(unit: Device, nexuses: NexusTable, cdb: Layout):
    nexuses.establish_for(B, CHANGED)
    assert start(unit, nexuses, cdb) is None
    assert nexuses.first(B) == CHANGED


@pytest.mark.clause("SAM5r21 5.14")
def test_request_sense_reports_the_attention_as_its_data(unit: Device, nexuses: NexusTable):
    nexuses.establish_for(B, CHANGED)
    told = start(unit, nexuses, SENSE)
    assert told is not None
    assert (told.data_in[2] & 0xF, told.data_in[12:14]) == (6, b"\x2a\1")
    assert start(unit, nexuses, SENSE) is None


# Reservations


@pytest.mark.clause("SPC4r37 5.13.1")
def test_a_conflict_is_raised_with_its_rule(unit: Device, nexuses: NexusTable):
    reserve(unit)
    error = refused(unit, nexuses, READ)
    assert isinstance(error, ReservationConflict)
    assert rule_of(error) is Rule.HOLDER_ONLY
    assert start(unit, nexuses, READ, A) is None
    assert start(unit, nexuses, READY) is None


@pytest.mark.clause("SPC2r20 5.5.1")
def test_an_spc_2_reservation_excludes_too(unit: Device, nexuses: NexusTable):
    unit.spc2_reservation = Spc2Reservation(A)
    assert rule_of(refused(unit, nexuses, READY)) is Rule.SPC2_RESERVED
    assert start(unit, nexuses, READY, A) is None
    assert start(unit, nexuses, spc.Release6()) is None


@pytest.mark.clause("SPC4r37 5.13.1")
def test_the_columns_are_those_of_the_cdb(unit: Device, nexuses: NexusTable):
    reserve(unit)
    assert start(unit, nexuses, StartStopUnit(start=True)) is None
    assert rule_of(refused(unit, nexuses, StartStopUnit())) is Rule.HOLDER_ONLY


def test_a_personality_has_columns_of_its_own(unit: Device, nexuses: NexusTable):
    reserve(unit)
    unit.personality = STRICT._replace(access={"READ(10)": Access.ALWAYS, "TEST UNIT READY": Access.HOLDER})
    assert start(unit, nexuses, READ) is None
    assert rule_of(refused(unit, nexuses, READY)) is Rule.HOLDER_ONLY


@pytest.mark.clause("SAM5r21 5.3.3")
@pytest.mark.parametrize("code", AFTER_CONFLICTS)
def test_a_conflict_comes_first_and_the_attention_stays(unit: Device, nexuses: NexusTable, code: AttentionCode):
    reserve(unit)
    nexuses.establish_for(B, code)
    for _ in range(2):
        assert rule_of(refused(unit, nexuses, READ)) is Rule.HOLDER_ONLY
        assert nexuses.first(B) == code
    assert code_of(refused(unit, nexuses, READY)) == code
    assert nexuses.first(B) is None


@pytest.mark.clause("SAM5r21 5.3.3")
@pytest.mark.parametrize("code", BEFORE_CONFLICTS)
def test_a_reset_or_a_lost_nexus_is_told_before_the_conflict(unit: Device, nexuses: NexusTable, code: AttentionCode):
    reserve(unit)
    nexuses.establish_for(B, code)
    assert code_of(refused(unit, nexuses, READ)) == code
    assert rule_of(refused(unit, nexuses, READ)) is Rule.HOLDER_ONLY


def test_a_personality_may_tell_every_attention_before_the_conflict(unit: Device, nexuses: NexusTable):
    reserve(unit)
    unit.personality = STRICT._replace(quirks=frozenset({Quirk.ATTENTION_BEFORE_CONFLICT}))
    nexuses.establish_for(B, CHANGED)
    assert code_of(refused(unit, nexuses, READ)) == CHANGED
    assert rule_of(refused(unit, nexuses, READ)) is Rule.HOLDER_ONLY


@pytest.mark.clause("SPC4r37 5.13.1")
def test_persistent_reserve_out_is_checked_like_any_command(unit: Device, nexuses: NexusTable):
    reserve(unit, ReservationType.WRITE_EXCLUSIVE)
    preempt = spc.PersistentReserveOut(service_action=OutAction.PREEMPT)
    assert rule_of(refused(unit, nexuses, preempt)) is Rule.NOT_REGISTERED
    reserve(unit, ReservationType.WRITE_EXCLUSIVE, B)
    assert start(unit, nexuses, preempt) is None


# Lost reservations


@pytest.mark.clause("SPC4r37 5.13.5.3.2")
def test_lost_reservations_refuse_all_but_what_is_granted(unit: Device, nexuses: NexusTable):
    unit.reservations = Reservations(lost=True)
    for cdb in (READ, WRITE, spc.PersistentReserveOut()):
        error = refused(unit, nexuses, cdb)
        assert rule_of(error) is Rule.INFORMATION_LOST
        assert code_of(error) == 0x4401
    replacing = spc.PersistentReserveOut(service_action=OutAction.REPLACE_LOST_RESERVATION)
    for granted in (spc.Inquiry(), spc.ReportLuns(), SENSE, replacing):
        assert start(unit, nexuses, granted) is None


@pytest.mark.clause("SPC4r37 5.13.5.3.2")
def test_an_attention_is_told_before_lost_reservations(unit: Device, nexuses: NexusTable):
    unit.reservations = Reservations(lost=True)
    nexuses.establish_for(B, CHANGED)
    assert code_of(refused(unit, nexuses, READ)) == CHANGED
    assert code_of(refused(unit, nexuses, READ)) == 0x4401


# A sanitize operation


@pytest.mark.clause("SBC3r36 4.11.2")
def test_a_sanitize_operation_refuses_what_is_not_processed_meanwhile(unit: Device, nexuses: NexusTable):
    unit.sanitization = Sanitization(Method.BLOCK_ERASE, 1 << 20)
    for cdb in (READ, WRITE, READY, Sanitize(service_action=Method.BLOCK_ERASE)):
        assert code_of(refused(unit, nexuses, cdb)) == 0x041B
    for processed in (SENSE, ReadCapacity10(), spc.Inquiry()):
        assert start(unit, nexuses, processed) is None


@pytest.mark.clause("SBC3r36 4.11.3")
def test_after_its_failure_sanitize_is_processed_too(unit: Device, nexuses: NexusTable):
    unit.sanitization = Sanitization(Method.BLOCK_ERASE, 1 << 20, failed=True)
    for cdb in (READ, WRITE, READY):
        assert code_of(refused(unit, nexuses, cdb)) == 0x3103
    for processed in (SENSE, ReadCapacity10(), Sanitize(service_action=Method.BLOCK_ERASE)):
        assert start(unit, nexuses, processed) is None


@pytest.mark.clause("SAM5r21 5.3.3")
def test_conflicts_and_attentions_come_before_a_sanitize_operation(unit: Device, nexuses: NexusTable):
    unit.sanitization = Sanitization(Method.BLOCK_ERASE, 1 << 20)
    reserve(unit)
    assert isinstance(refused(unit, nexuses, READ), ReservationConflict)
    nexuses.establish_for(A, CHANGED)
    assert code_of(refused(unit, nexuses, READ, A)) == CHANGED
    assert code_of(refused(unit, nexuses, READ, A)) == 0x041B


# The medium


@pytest.mark.clause("SBC3r36 4.2.1")
@pytest.mark.parametrize("cdb", [READ, WRITE, ReadCapacity10()])
def test_a_medium_that_is_not_there_or_stopped_refuses_what_needs_it(unit: Device, nexuses: NexusTable, cdb: Layout):
    unit.stopped = True
    assert code_of(refused(unit, nexuses, cdb)) == 0x0402
    unit.loaded = False
    assert code_of(refused(unit, nexuses, cdb)) == 0x3A00
    assert start(unit, nexuses, SENSE) is None


@pytest.mark.clause("SAM5r21 5.3.3")
def test_conflicts_and_attentions_come_before_the_state_of_the_medium(unit: Device, nexuses: NexusTable):
    unit.loaded = False
    reserve(unit)
    assert isinstance(refused(unit, nexuses, READ), ReservationConflict)
    nexuses.establish_for(A, CHANGED)
    assert code_of(refused(unit, nexuses, READ, A)) == CHANGED
    assert code_of(refused(unit, nexuses, READ, A)) == 0x3A00


@pytest.mark.clause("SBC3r36 4.9")
def test_a_medium_that_is_gone_is_said_before_a_format_that_had_failed_on_it(unit: Device, nexuses: NexusTable):
    unit.sanitization = Sanitization(Method.FORMAT, 512, failed=True)
    assert code_of(refused(unit, nexuses, READ)) == 0x3100
    unit.loaded = False
    assert code_of(refused(unit, nexuses, READ)) == 0x3A00
    assert code_of(refused(unit, nexuses, Sanitize(service_action=2))) == 0x3A00
    assert start(unit, nexuses, StartStopUnit(loej=True, start=True)) is None
    unit.sanitization = Sanitization(Method.FORMAT, 512)
    assert code_of(refused(unit, nexuses, READ)) != 0x3A00, "it goes on, so the medium is there"
