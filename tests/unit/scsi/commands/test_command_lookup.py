"""Finding the rows of CDBs, and what LUNs without a unit answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.commands.command_lookup import absent_unit, find
from iscsi_target.scsi.layouts import block_cdb as sbc
from iscsi_target.scsi.layouts import cdb as spc
from iscsi_target.scsi.layouts.inquiry_pages import StandardInquiryData
from iscsi_target.scsi.state.task import Done
from iscsi_target.scsi.status import CheckCondition, InvalidOperationCode, StatusError

CDB_BYTES = 16


def sense_of(cdb):
    with pytest.raises(CheckCondition) as raised:
        find(cdb.ljust(CDB_BYTES, b"\0"))
    return raised.value.sense


@pytest.mark.clause("SPC4r37 4.2.5.2")
def test_unknown_codes_and_service_actions_are_told_apart():
    assert sense_of(b"\xff").code == 0x2000
    sense = sense_of(b"\x9e\x1f")
    assert (sense.code, sense.field) == (0x2400, (1, 4))
    with pytest.raises(InvalidOperationCode):
        find(b"")


@pytest.mark.clause("SAM5r21 5.11")
def test_an_absent_unit_answers_inquiry_report_luns_and_request_sense():
    inquiry = absent_unit(spc.Inquiry(allocation_length=96).pack(), ())
    values = StandardInquiryData.unpack(inquiry.data_in)
    assert (values.peripheral_qualifier, values.peripheral_device_type) == (3, 0x1F)
    assert values.vendor.strip()
    assert values.product.strip()
    assert absent_unit(spc.Inquiry(evpd=True, allocation_length=96).pack(), ()).data_in == b"\x7f\0\0\1\0"
    assert len(absent_unit(spc.ReportLuns(allocation_length=99).pack(), (1, 300)).data_in) == 24
    sense = absent_unit(spc.RequestSense(desc=True, allocation_length=99).pack(), ()).data_in
    assert sense[:4] == b"\x72\x05\x25\x00"


@pytest.mark.parametrize("cdb", (spc.TestUnitReady(), sbc.Read10(), b"\xff" * 16, b"\x9e\x1f", b"\x12"))
def test_an_absent_unit_refuses_the_rest(cdb):
    with pytest.raises(CheckCondition) as raised:
        absent_unit(cdb if isinstance(cdb, bytes) else cdb.pack(), ())
    assert raised.value.sense.code == 0x2500


def test_an_absent_unit_has_no_other_vpd_page():
    with pytest.raises(CheckCondition) as raised:
        absent_unit(spc.Inquiry(evpd=True, page_code=0x83, allocation_length=96).pack(), ())
    assert raised.value.sense.code == 0x2400


@given(st.binary(max_size=16), st.lists(st.integers(0, 16383), max_size=4))
def test_any_bytes_for_an_absent_unit_end_in_a_reply_or_a_status(cdb, luns):
    """Law: as above, without a unit."""
    try:
        assert isinstance(absent_unit(cdb, tuple(luns)), Done)
    except StatusError:
        return
