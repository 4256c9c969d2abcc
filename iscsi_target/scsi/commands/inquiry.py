"""INQUIRY: the standard data and every VPD page, and the INQUIRY data of a LUN without a logical unit.

A VPD page exists when it is in `PAGES`; page 00h lists just these. Everything a page says is either in the
device's state or holds for every unit of this target.
"""

from collections.abc import Callable, Mapping

from iscsi_target.scsi.commands.third_party_copy import third_party_copy
from iscsi_target.scsi.layouts.cdb import Inquiry
from iscsi_target.scsi.layouts.inquiry_pages import (
    DIRECT_ACCESS_BLOCK_DEVICE,
    NOT_CAPABLE,
    UNKNOWN_DEVICE,
    BlockDeviceCharacteristics,
    BlockLimits,
    DesignationDescriptor,
    ExtendedInquiryData,
    LogicalBlockProvisioning,
    ModePagePolicyDescriptor,
    NumberedDesignator,
    StandardInquiryData,
    VpdHeader,
    VpdPageCode,
)
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.state.device import Device, Identity
from iscsi_target.scsi.state.task import Call, Done
from iscsi_target.scsi.status import InvalidFieldInCdb

PROTOCOL_ISCSI = 5  # PROTOCOL IDENTIFIER. Source: SPC4r37 7.6.1
BINARY, ASCII, UTF8 = 1, 2, 3  # CODE SET. Source: SPC4r37 7.8.6.1
LOGICAL_UNIT, TARGET_PORT, TARGET_DEVICE = 0, 1, 2  # ASSOCIATION
T10, NAA, RELATIVE_TARGET_PORT, TARGET_PORT_GROUP, SCSI_NAME = 1, 3, 4, 5, 8  # DESIGNATOR TYPE
MAX_DESIGNATOR_BYTES = 255  # DESIGNATOR LENGTH is one byte
READABLE = 0b01  # WABEREQ and WACEREQ: reads complete with GOOD. Source: SBC3r36 6.5.2
IMPLICIT, EXPLICIT = 0b01, 0b10  # TPGS. Source: SPC4r37 6.6.2
THIN_PROVISIONED = 2  # PROVISIONING TYPE. Source: SBC3r36 6.5.4
NO_UNIT = Identity(vendor="NONE", product="NO LOGICAL UNIT", revision="0", serial="", naa=b"")


def inquiry(device: Device, cdb: Inquiry, call: Call) -> Done:
    """Answers INQUIRY.

    raises   InvalidFieldInCdb for a VPD page that is not supported, or a page code without EVPD
    Source: SPC4r37 6.6
    """
    if cdb.evpd:
        page = PAGES.get(cdb.page_code)
        if page is None:
            raise InvalidFieldInCdb(Inquiry, "page_code")
        data = _with_header(cdb.page_code, page(device, call.nexus))
    elif cdb.page_code:
        raise InvalidFieldInCdb(Inquiry, "page_code")
    else:
        values = standard_data(device.identity).replace(third_party_copy=True)
        tpgs = (IMPLICIT | (EXPLICIT if device.features.explicit_access else 0)) if device.port_groups else 0
        data = values.replace(rmb=device.features.removable, multip=len(device.ports) > 1, tpgs=tpgs).pack()
    return Done(data[: cdb.allocation_length])


def absent_inquiry(cdb: Inquiry) -> Done:
    """Answers INQUIRY for a LUN without a logical unit; the only VPD page is the list of pages.

    raises   InvalidFieldInCdb for every other page
    Source: SPC4r37 6.6.2, SAM5r21 5.11
    """
    if cdb.page_code:
        raise InvalidFieldInCdb(Inquiry, "page_code")
    if cdb.evpd:
        header = VpdHeader(
            peripheral_qualifier=NOT_CAPABLE, peripheral_device_type=UNKNOWN_DEVICE, page_length=VpdPageCode.size
        )
        data = header.pack() + VpdPageCode(page_code=0).pack()
    else:
        values = standard_data(NO_UNIT)
        data = values.replace(peripheral_qualifier=NOT_CAPABLE, peripheral_device_type=UNKNOWN_DEVICE).pack()
    return Done(data[: cdb.allocation_length])


def standard_data(identity: Identity) -> StandardInquiryData:
    """Returns standard INQUIRY data with the names of a unit.

    Source: SPC4r37 6.6.2
    """
    return StandardInquiryData(
        peripheral_device_type=DIRECT_ACCESS_BLOCK_DEVICE,
        vendor=_padded(identity.vendor, 8),
        product=_padded(identity.product, 16),
        revision=_padded(identity.revision, 4),
    )


def _padded(text: str, length: int) -> bytes:
    """Returns left-aligned ASCII. Source: SPC4r37 4.3.1"""
    return text.encode("ascii", "replace").ljust(length)[:length]


def _with_header(page_code: int, content: bytes) -> bytes:
    header = VpdHeader(peripheral_device_type=DIRECT_ACCESS_BLOCK_DEVICE, page_code=page_code, page_length=len(content))
    return header.pack() + content


def _supported_pages(device: Device, nexus: Nexus) -> bytes:
    return b"".join(VpdPageCode(page_code=code).pack() for code in sorted(PAGES))


def _unit_serial_number(device: Device, nexus: Nexus) -> bytes:
    return device.identity.serial.encode("ascii", "replace")


def _device_identification(device: Device, nexus: Nexus) -> bytes:
    """Returns the designators of the unit, then those of the port that was asked, then the target's.

    NAA comes first and the vendor is followed at once by the serial number: initiators take the first
    designator, and ESXi and Hyper-V want the next eight characters unique.
    Source: SPC4r37 7.8.6
    """
    own = [_designator(of, kind, value, code_set=code_set) for code_set, of, kind, value in unit_designators(device)]
    return b"".join(
        (
            *own,
            *_port_designators(device, nexus),
            target_designator(nexus),
        )
    )


def target_designator(nexus: Nexus) -> bytes:
    """Returns the designation descriptor of the target device by which a nexus comes.

    Source: SPC4r37 7.8.6.11
    """
    return _designator(TARGET_DEVICE, SCSI_NAME, _name_string(nexus.target_port.name), code_set=UTF8)


def unit_designators(device: Device) -> list[tuple[int, int, int, bytes]]:
    """Returns what names the unit: code set, association, designator type, designator.

    Source: SPC4r37 7.8.6
    """
    identity = device.identity
    t10 = _padded(identity.vendor, 8) + identity.serial.encode("ascii", "replace")
    return [
        (BINARY, LOGICAL_UNIT, NAA, identity.naa),
        (ASCII, LOGICAL_UNIT, T10, t10),
        (UTF8, LOGICAL_UNIT, SCSI_NAME, _name_string(f"naa.{identity.naa.hex().upper()}")),
    ]


def _port_designators(device: Device, nexus: Nexus) -> list[bytes]:
    port = device.ports.get(nexus.target_port)
    numbers = []
    if port is not None:
        relative = NumberedDesignator(number=port.relative_identifier).pack()
        group = NumberedDesignator(number=port.port_group).pack()
        numbers.append(_designator(TARGET_PORT, RELATIVE_TARGET_PORT, relative, code_set=BINARY))
        numbers.append(_designator(TARGET_PORT, TARGET_PORT_GROUP, group, code_set=BINARY))
    name = _name_string(str(nexus.target_port))
    return [*numbers, _designator(TARGET_PORT, SCSI_NAME, name, code_set=UTF8)]


def _designator(association: int, designator_type: int, designator: bytes, *, code_set: int) -> bytes:
    designator = designator[:MAX_DESIGNATOR_BYTES]
    of_port = association != LOGICAL_UNIT
    header = DesignationDescriptor(
        protocol_identifier=PROTOCOL_ISCSI if of_port else 0,
        code_set=code_set,
        piv=of_port,
        association=association,
        designator_type=designator_type,
        designator_length=len(designator),
    )
    return header.pack() + designator


def _name_string(name: str) -> bytes:
    """Returns a SCSI name string: NUL-terminated, a multiple of four bytes. Source: SPC4r37 7.8.6.11"""
    text = name.encode() + b"\0"
    return text + bytes(-len(text) % 4)


def _extended_inquiry(device: Device, nexus: Nexus) -> bytes:
    return ExtendedInquiryData(prior_sup=True).pack()


def _mode_page_policy(device: Device, nexus: Nexus) -> bytes:
    """Returns one descriptor: all pages are shared by all ports. Source: SPC4r37 7.8.9"""
    return ModePagePolicyDescriptor().pack()


def _block_limits(device: Device, nexus: Nexus) -> bytes:
    limits = device.features.limits
    thin = device.features.thin
    return BlockLimits(
        maximum_compare_and_write_length=limits.max_caw_blocks,
        optimal_transfer_length_granularity=1 << device.geometry.physical_exponent,
        maximum_transfer_length=limits.max_transfer_blocks,
        optimal_transfer_length=limits.max_transfer_blocks,
        maximum_prefetch_length=limits.max_transfer_blocks,
        maximum_unmap_lba_count=limits.max_unmap_blocks if thin else 0,
        maximum_unmap_block_descriptor_count=limits.max_unmap_descriptors if thin else 0,
        optimal_unmap_granularity=limits.unmap_granularity if thin else 0,
        ugavalid=thin,
        maximum_write_same_length=limits.max_write_same_blocks,
        maximum_atomic_transfer_length=limits.max_atomic_blocks,
        atomic_alignment=limits.atomic_granularity if limits.max_atomic_blocks else 0,
        atomic_transfer_length_granularity=limits.atomic_granularity if limits.max_atomic_blocks else 0,
    ).pack()


def _block_device_characteristics(device: Device, nexus: Nexus) -> bytes:
    """Says that what was erased can be read without being written, and that a deallocated block is compared as zeros.

    Source: SBC3r36 6.5.2
    """
    features = device.features
    return BlockDeviceCharacteristics(
        medium_rotation_rate=features.rotation_rate, wabereq=READABLE, wacereq=READABLE, vbuls=features.thin
    ).pack()


def _logical_block_provisioning(device: Device, nexus: Nexus) -> bytes:
    """Returns what can be given back, and the size of a threshold set, which is zero without thresholds.

    Source: SBC3r36 6.5.4
    """
    thin, resources = device.features.thin, device.statistics.resources
    by_write_same = thin and device.features.limits.max_write_same_blocks > 0
    return LogicalBlockProvisioning(
        threshold_exponent=0 if resources is None else resources.exponent,
        lbpu=thin,
        lbpws=by_write_same,
        lbpws10=by_write_same,
        lbprz=thin,
        provisioning_type=THIN_PROVISIONED if thin else 0,
    ).pack()


PAGES: Mapping[int, Callable[[Device, Nexus], bytes]] = {
    0x00: _supported_pages,
    0x80: _unit_serial_number,
    0x83: _device_identification,
    0x86: _extended_inquiry,
    0x87: _mode_page_policy,
    0x8F: third_party_copy,
    0xB0: _block_limits,
    0xB1: _block_device_characteristics,
    0xB2: _logical_block_provisioning,
}
