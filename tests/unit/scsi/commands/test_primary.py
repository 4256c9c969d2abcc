"""TEST UNIT READY, REQUEST SENSE, REPORT LUNS and SPC-2 reservations; drawing in command_bench."""

import pytest

from iscsi_target.scsi.commands.primary import report_luns
from iscsi_target.scsi.layouts import cdb as spc
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.scsi.state.task import Call
from iscsi_target.scsi.status import ReservationConflict
from tests.unit.scsi.command_bench import INVALID_FIELD_IN_CDB, MEDIUM_NOT_PRESENT, A, B, device, refusal, run


def luns_reported(select_report, luns, allocation_length=4096):
    cdb = spc.ReportLuns(select_report=select_report, allocation_length=allocation_length)
    return report_luns(device(), cdb, Call(A, b"", luns)).data_in


@pytest.mark.clause("SPC4r37 6.47")
def test_a_unit_is_ready_unless_stopped_or_ejected():
    unit = device()
    assert run(unit, spc.TestUnitReady()).data_in == b""
    unit.stopped = True
    assert refusal(unit, spc.TestUnitReady()) == (2, 0x0402)
    unit.loaded = False
    assert refusal(unit, spc.TestUnitReady()) == MEDIUM_NOT_PRESENT


def test_a_stopped_unit_with_a_removable_medium_is_called_ready():
    unit = device(removable=True)
    unit.stopped = True
    assert run(unit, spc.TestUnitReady()).data_in == b""


@pytest.mark.clause("SPC4r37 6.39")
def test_request_sense_has_the_format_that_desc_asks_for():
    fixed = run(device(), spc.RequestSense(allocation_length=252)).data_in
    descriptor = run(device(), spc.RequestSense(desc=True, allocation_length=252)).data_in
    assert (fixed[:1], len(fixed), descriptor[:1], len(descriptor)) == (b"\x70", 18, b"\x72", 8)
    assert run(device(), spc.RequestSense(allocation_length=4)).data_in == fixed[:4]


def test_request_sense_says_why_the_unit_is_not_ready():
    unit = device()
    unit.stopped = True
    assert run(unit, spc.RequestSense(desc=True, allocation_length=4)).data_in == b"\x72\x02\x04\x02"
    unit.loaded = False
    assert run(unit, spc.RequestSense(desc=True, allocation_length=4)).data_in == b"\x72\x02\x3a\x00"


@pytest.mark.clause("SBC3r36 4.11.2")
def test_request_sense_says_how_far_a_sanitize_operation_is():
    unit = device()
    unit.sanitization = Sanitization(Method.BLOCK_ERASE, 1 << 20, done_bytes=1 << 19)
    fixed = run(unit, spc.RequestSense(allocation_length=18)).data_in
    assert (fixed[2], fixed[12:14], fixed[15:18]) == (2, b"\x04\x1b", b"\x80\x80\0")
    descriptor = run(unit, spc.RequestSense(desc=True, allocation_length=32)).data_in
    assert bytes(descriptor) == b"\x72\x02\x04\x1b\0\0\0\x08" + b"\x02\x06\0\0\x80\x80\0\0"


@pytest.mark.clause("SPC4r37 6.33")
@pytest.mark.parametrize("select_report, listed", [(0, True), (1, False), (2, True), (0x10, False), (0x11, True)])
def test_each_select_report_value_lists_its_kind_of_unit(select_report, listed):
    data = luns_reported(select_report, (0, 255, 256))
    expected = [b"\0\0", b"\0\xff", b"\x41\0"] if listed else []
    assert data == (8 * len(expected)).to_bytes(4, "big") + bytes(4) + b"".join(e + bytes(6) for e in expected)


@pytest.mark.parametrize("select_report", (3, 0x0F, 0x12, 0x13, 0xFF))
def test_reserved_select_reports_and_subsidiaries_are_refused(select_report):
    assert refusal(device(), spc.ReportLuns(select_report=select_report, allocation_length=16)) == INVALID_FIELD_IN_CDB


def test_a_short_allocation_length_leaves_the_lun_list_length():
    assert luns_reported(0, (0, 1), 8) == luns_reported(0, (0, 1))[:8]


@pytest.mark.clause("SPC2r20 7.21")
@pytest.mark.clause("SPC2r20 7.16")
@pytest.mark.parametrize("reserve, release", [(spc.Reserve6, spc.Release6), (spc.Reserve10, spc.Release10)])
def test_a_reservation_is_the_nexus_own_until_it_releases(reserve, release):
    unit = device()
    run(unit, reserve())
    run(unit, reserve())
    with pytest.raises(ReservationConflict):
        run(unit, reserve(), nexus=B)
    run(unit, release(), nexus=B)
    assert unit.spc2_reservation.holder == A
    run(unit, release())
    run(unit, reserve(), nexus=B)
    assert unit.spc2_reservation.holder == B


@pytest.mark.parametrize(
    "cdb",
    (
        spc.Reserve6(third_party=True),
        spc.Reserve6(extent=True),
        spc.Reserve6(extent_list_length=1),
        spc.Release6(third_party=True),
        spc.Reserve10(third_party=True),
        spc.Reserve10(long_id=True),
        spc.Reserve10(parameter_list_length=8),
        spc.Release10(extent=True),
    ),
)
def test_third_parties_and_extents_are_refused(cdb):
    assert refusal(device(), cdb) == INVALID_FIELD_IN_CDB


def test_a_unit_whose_format_failed_and_whose_medium_is_gone_has_no_medium():
    unit = device(removable=True)
    unit.sanitization = Sanitization(Method.FORMAT, 512, failed=True)
    assert refusal(unit, spc.TestUnitReady()) == (3, 0x3100)
    unit.loaded = False
    assert refusal(unit, spc.TestUnitReady()) == (2, 0x3A00)
