"""INQUIRY and the VPD pages; drawing in command_bench."""

import pytest

from iscsi_target.scsi.commands.inquiry import PAGES
from iscsi_target.scsi.layouts.cdb import Inquiry
from iscsi_target.scsi.layouts.inquiry_pages import (
    BlockDeviceCharacteristics,
    BlockLimits,
    DesignationDescriptor,
    ExtendedInquiryData,
    LogicalBlockProvisioning,
    StandardInquiryData,
    VpdHeader,
)
from iscsi_target.scsi.nexus import TargetPort
from tests.unit.scsi.command_bench import INVALID_FIELD_IN_CDB, LIMITS, A, P, device, refusal, run


def vpd(unit, page_code):
    data = run(unit, Inquiry(evpd=True, page_code=page_code, allocation_length=4096)).data_in
    header = VpdHeader.unpack(data)
    assert (header.page_code, header.page_length) == (page_code, len(data) - VpdHeader.size)
    assert (header.peripheral_qualifier, header.peripheral_device_type) == (0, 0)
    return data[VpdHeader.size :]


@pytest.mark.clause("SPC4r37 6.6.2")
@pytest.mark.clause("SPC4r37 4.3.1")
def test_standard_data_says_what_the_unit_is():
    data = run(device(removable=True), Inquiry(allocation_length=260)).data_in
    values = StandardInquiryData.unpack(data)
    assert values.additional_length == len(data) - 5 == 91
    assert (values.version, values.response_data_format, values.hisup, values.cmdque) == (5, 2, True, True)
    assert (values.rmb, values.tpgs, values.third_party_copy, values.protect) == (True, 0, True, False)
    assert (values.vendor, values.product, values.revision) == (b"EXAMPLE ", b"DISK".ljust(16), b"0001")
    assert values.version_descriptor_3 == 0x04C0


def test_multip_is_set_when_a_second_port_leads_to_the_unit():
    unit = device()
    unit.ports = {**unit.ports, TargetPort(P.name, 2): next(iter(unit.ports.values()))}
    assert StandardInquiryData.unpack(run(unit, Inquiry(allocation_length=96)).data_in).multip


@pytest.mark.clause("SPC4r37 6.6")
@pytest.mark.parametrize("length", (0, 5, 36, 95, 96, 255))
def test_the_allocation_length_only_cuts(length):
    whole = run(device(), Inquiry(allocation_length=65535)).data_in
    assert run(device(), Inquiry(allocation_length=length)).data_in == whole[:length]


def test_a_page_code_needs_evpd_and_a_page():
    assert refusal(device(), Inquiry(page_code=0x83, allocation_length=96)) == INVALID_FIELD_IN_CDB
    assert refusal(device(), Inquiry(evpd=True, page_code=0x88, allocation_length=96)) == INVALID_FIELD_IN_CDB


@pytest.mark.clause("SPC4r37 7.8.16")
@pytest.mark.clause("SPC4r37 7.8.2")
def test_page_00_lists_just_the_pages_that_work_ascending():
    assert list(vpd(device(), 0x00)) == sorted(PAGES) == [0x00, 0x80, 0x83, 0x86, 0x87, 0x8F, 0xB0, 0xB1, 0xB2]
    for code in PAGES:
        vpd(device(), code)


@pytest.mark.clause("SPC4r37 7.8.18")
def test_page_80_is_the_serial_number():
    assert vpd(device(), 0x80) == b"abc123"


@pytest.mark.clause("SPC4r37 7.8.6")
@pytest.mark.clause("SPC4r37 7.8.6.1")
@pytest.mark.clause("SPC4r37 7.8.6.8")
@pytest.mark.clause("SPC4r37 7.8.6.9")
@pytest.mark.clause("SPC4r37 7.8.6.11")
def test_page_83_names_unit_and_port_with_naa_first():
    data, found = vpd(device(), 0x83), []
    while data:
        header = DesignationDescriptor.unpack(data)
        end = DesignationDescriptor.size + header.designator_length
        found.append((header.association, header.designator_type, header.code_set, data[4:end]))
        assert (header.piv, header.protocol_identifier) == ((True, 5) if header.association else (False, 0))
        data = data[end:]
    assert found == [
        (0, 3, 1, bytes.fromhex("6001405000000001")),
        (0, 1, 2, b"EXAMPLE abc123"),
        (0, 8, 3, b"naa.6001405000000001\0\0\0\0"),
        (1, 4, 1, b"\0\0\0\7"),
        (1, 5, 1, b"\0\0\0\2"),
        (1, 8, 3, b"iqn.2025-01.org.example:disks,t,0x0001\0\0"),
        (2, 8, 3, b"iqn.2025-01.org.example:disks\0\0\0"),
    ]


def test_names_of_any_length_fit_a_designator():
    unit = device()
    port = TargetPort("iqn." + "x" * 219, 65535)
    unit.ports = {port: unit.ports[P]}
    nexus = A._replace(target_port=port)
    data = run(unit, Inquiry(evpd=True, page_code=0x83, allocation_length=4096), nexus=nexus).data_in
    assert VpdHeader.unpack(data).page_length == len(data) - VpdHeader.size


@pytest.mark.clause("SPC4r37 7.8.7")
def test_page_86_is_honest():
    values = ExtendedInquiryData.unpack(vpd(device(), 0x86))
    assert (values.simpsup, values.ordsup, values.headsup, values.v_sup) == (True, True, True, True)
    assert values.prior_sup
    assert not any((values.group_sup, values.uask_sup, values.wu_sup, values.spt, values.nv_sup))


@pytest.mark.clause("SPC4r37 7.8.9")
def test_page_87_says_that_all_pages_are_shared():
    assert vpd(device(), 0x87) == b"\x3f\xff\0\0"


@pytest.mark.clause("SBC3r36 6.5.3")
def test_page_b0_gives_the_limits_and_none_of_unmap_on_a_unit_that_is_not_thin():
    data = vpd(device(), 0xB0)
    assert len(data) == 0x3C
    thin, full = BlockLimits.unpack(data), BlockLimits.unpack(vpd(device(thin=False), 0xB0))
    assert (thin.maximum_transfer_length, thin.maximum_compare_and_write_length) == (256, 1)
    assert (thin.maximum_unmap_lba_count, thin.maximum_unmap_block_descriptor_count) == (1024, 16)
    assert (thin.optimal_unmap_granularity, thin.ugavalid, thin.wsnz) == (8, True, False)
    assert thin.maximum_write_same_length == LIMITS.max_write_same_blocks
    assert (full.maximum_unmap_lba_count, full.maximum_unmap_block_descriptor_count, full.ugavalid) == (0, 0, False)


@pytest.mark.clause("SBC4r22 6.6.4")
def test_page_b0_gives_the_atomic_lengths_where_writes_can_be_atomic():
    limits = LIMITS._replace(max_atomic_blocks=64, atomic_granularity=8)
    for most, unit_of in ((64, 8), (0, 0)):
        unit = device()
        unit.features = unit.features._replace(limits=limits._replace(max_atomic_blocks=most))
        page = BlockLimits.unpack(vpd(unit, 0xB0))
        assert page.maximum_atomic_transfer_length == most
        assert (page.atomic_alignment, page.atomic_transfer_length_granularity) == (unit_of, unit_of)
        assert not page.maximum_atomic_transfer_length_with_atomic_boundary + page.maximum_atomic_boundary_size


def test_page_b1_gives_the_rotation_rate():
    data = vpd(device(rotation_rate=7200), 0xB1)
    assert len(data) == 0x3C
    assert BlockDeviceCharacteristics.unpack(data).medium_rotation_rate == 7200


@pytest.mark.clause("SBC3r36 6.5.2")
@pytest.mark.parametrize("thin", (False, True))
def test_page_b1_says_that_deallocated_blocks_can_be_verified(thin):
    assert BlockDeviceCharacteristics.unpack(vpd(device(thin=thin), 0xB1)).vbuls is thin


@pytest.mark.clause("SBC3r36 6.5.2")
@pytest.mark.parametrize("thin", (False, True))
def test_page_b1_says_that_what_was_erased_can_be_read(thin):
    page = BlockDeviceCharacteristics.unpack(vpd(device(thin=thin), 0xB1))
    assert (page.wabereq, page.wacereq) == (0b01, 0b01)


@pytest.mark.clause("SBC3r36 6.5.4")
def test_page_b2_tells_thin_from_full_provisioning():
    thin = LogicalBlockProvisioning.unpack(vpd(device(), 0xB2))
    assert (thin.lbpu, thin.lbpws, thin.lbpws10, thin.lbprz, thin.anc_sup) == (True, True, True, True, False)
    assert thin.provisioning_type == 2
    assert LogicalBlockProvisioning.unpack(vpd(device(thin=False), 0xB2)) == LogicalBlockProvisioning()


@pytest.mark.clause("SBC3r36 6.5.3")
@pytest.mark.clause("SBC3r36 6.5.4")
def test_pages_b0_and_b2_offer_nothing_that_the_unit_does_without():
    unit = device()
    limits = unit.features.limits._replace(max_caw_blocks=0, max_write_same_blocks=0)
    unit.features = unit.features._replace(limits=limits)
    page_b0 = BlockLimits.unpack(vpd(unit, 0xB0))
    assert (page_b0.maximum_compare_and_write_length, page_b0.maximum_write_same_length) == (0, 0)
    page_b2 = LogicalBlockProvisioning.unpack(vpd(unit, 0xB2))
    assert (page_b2.lbpu, page_b2.lbpws, page_b2.lbpws10) == (True, False, False)
