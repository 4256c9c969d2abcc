"""MODE SENSE and MODE SELECT: headers and block descriptors around the pages of `mode_pages`."""

from typing import TypeVar

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.cdb import ModeSelect6, ModeSelect10, ModeSense6, ModeSense10
from iscsi_target.scsi.layouts.mode_pages import ModePages, PageControl
from iscsi_target.scsi.layouts.pages import LongBlockDescriptor, ModeHeader6, ModeHeader10, ShortBlockDescriptor
from iscsi_target.scsi.operations import Flush
from iscsi_target.scsi.state.device import Device, Geometry
from iscsi_target.scsi.state.task import Call, Done, Reply, Save, Work
from iscsi_target.scsi.status import InvalidFieldInCdb, InvalidFieldInParameterList, ParameterListLengthError
from iscsi_target.wire.layout import Layout, LayoutError

HeaderT = TypeVar("HeaderT", bound=Layout)

CAPACITY_UNKNOWN = 0xFFFF_FFFF  # NUMBER OF LOGICAL BLOCKS that does not fit a short descriptor


def mode_sense_6(device: Device, cdb: ModeSense6, call: Call) -> Done:
    """Answers MODE SENSE(6).

    raises   InvalidFieldInCdb for a page that is not supported
    Source: SPC4r37 6.13, SBC3r36 6.4
    """
    pages = _pages(device, cdb)
    descriptor = b"" if cdb.dbd else _short_descriptor(device.geometry)
    header = ModeHeader6(
        mode_data_length=ModeHeader6.size - 1 + len(descriptor) + len(pages),
        wp=is_write_protected(device),
        dpofua=True,
        block_descriptor_length=len(descriptor),
    )
    return Done((header.pack() + descriptor + pages)[: cdb.allocation_length])


def mode_sense_10(device: Device, cdb: ModeSense10, call: Call) -> Done:
    """Answers MODE SENSE(10), with a long block descriptor when LLBAA allows it.

    raises   InvalidFieldInCdb for a page that is not supported
    Source: SPC4r37 6.14, SBC3r36 6.4
    """
    pages = _pages(device, cdb)
    descriptor = b""
    if not cdb.dbd:
        descriptor = (_long_descriptor if cdb.llbaa else _short_descriptor)(device.geometry)
    header = ModeHeader10(
        mode_data_length=ModeHeader10.size - 2 + len(descriptor) + len(pages),
        wp=is_write_protected(device),
        dpofua=True,
        longlba=cdb.llbaa and not cdb.dbd,
        block_descriptor_length=len(descriptor),
    )
    return Done((header.pack() + descriptor + pages)[: cdb.allocation_length])


def is_write_protected(device: Device) -> bool:
    """Returns True when no command may write the medium, whatever the reason.

    Source: SBC3r36 4.12, 6.4.1
    """
    return device.features.read_only or device.software_write_protect


def _pages(device: Device, cdb: ModeSense6 | ModeSense10) -> bytes:
    pages = device.modes.sense(PageControl(cdb.page_control), cdb.page_code, cdb.subpage_code)
    if pages is None:
        raise InvalidFieldInCdb(type(cdb), "subpage_code" if device.modes.supports(cdb.page_code) else "page_code")
    return pages


def _short_descriptor(geometry: Geometry) -> bytes:
    return ShortBlockDescriptor(
        number_of_logical_blocks=min(geometry.length_blocks, CAPACITY_UNKNOWN),
        logical_block_length=geometry.block_length_bytes,
    ).pack()


def _long_descriptor(geometry: Geometry) -> bytes:
    return LongBlockDescriptor(
        number_of_logical_blocks=geometry.length_blocks, logical_block_length=geometry.block_length_bytes
    ).pack()


def parameter_list_length(device: Device, cdb: ModeSelect6 | ModeSelect10) -> int:
    """Returns the bytes of Data-Out that MODE SELECT asks for."""
    return cdb.parameter_list_length


def mode_select_6(device: Device, cdb: ModeSelect6, call: Call) -> Reply:
    """Answers MODE SELECT(6); raises and returns as `mode_select_10`.

    Source: SPC4r37 6.11
    """
    if not cdb.parameter_list_length:
        return Done()
    parameters = _parameter_list(cdb, call)
    header = _header(ModeHeader6, parameters)
    pages_at = _skip_descriptors(device, parameters, header, ShortBlockDescriptor)
    return _select(device, cdb, parameters, pages_at)


def mode_select_10(device: Device, cdb: ModeSelect10, call: Call) -> Reply:
    """Answers MODE SELECT(10).

    returns  Save when the values are to be saved too; Work when the write cache was switched off
    raises   ParameterListLengthError for a list that ends too early; InvalidFieldInParameterList for a block
             descriptor that would change the medium and for page bits that cannot be changed; InvalidFieldInCdb
             for pages that are not in the standard's format
    Source: SPC4r37 6.12
    """
    if not cdb.parameter_list_length:
        return Done()
    parameters = _parameter_list(cdb, call)
    header = _header(ModeHeader10, parameters)
    descriptor = LongBlockDescriptor if header.longlba else ShortBlockDescriptor
    pages_at = _skip_descriptors(device, parameters, header, descriptor)
    return _select(device, cdb, parameters, pages_at)


def _parameter_list(cdb: ModeSelect6 | ModeSelect10, call: Call) -> bytes:
    if len(call.data_out) < cdb.parameter_list_length:
        raise ParameterListLengthError
    return bytes(call.data_out)


def _header(layout: type[HeaderT], parameters: bytes) -> HeaderT:
    try:
        return layout.unpack(parameters)
    except LayoutError:
        raise ParameterListLengthError from None


def _skip_descriptors(
    device: Device,
    parameters: bytes,
    header: ModeHeader6 | ModeHeader10,
    descriptor: type[LongBlockDescriptor] | type[ShortBlockDescriptor],
) -> int:
    """Returns where the pages start; the one block descriptor that is allowed changes nothing.

    Mode data length and the device-specific parameter mean nothing here: initiators send back what they read.
    Source: SPC4r37 7.5.5, SBC3r36 6.4.2
    """
    layout = type(header)
    if header.medium_type:
        raise InvalidFieldInParameterList(layout.location("medium_type").byte)
    if not header.block_descriptor_length:
        return layout.size
    if header.block_descriptor_length != descriptor.size:
        raise InvalidFieldInParameterList(layout.location("block_descriptor_length").byte)
    try:
        wanted = descriptor.unpack(parameters, layout.size)
    except LayoutError:
        raise ParameterListLengthError from None
    blocks = device.geometry.length_blocks
    if wanted.number_of_logical_blocks not in (0, blocks, min(blocks, CAPACITY_UNKNOWN)):
        raise InvalidFieldInParameterList(layout.size + descriptor.location("number_of_logical_blocks").byte)
    if wanted.logical_block_length != device.geometry.block_length_bytes:
        raise InvalidFieldInParameterList(layout.size + descriptor.location("logical_block_length").byte)
    return layout.size + descriptor.size


def _select(device: Device, cdb: ModeSelect6 | ModeSelect10, parameters: bytes, pages_at: int) -> Reply:
    pages = parameters[pages_at:]
    if pages and not cdb.pf:
        raise InvalidFieldInCdb(type(cdb), "pf")
    changed = device.modes.select(pages, pages_at)
    if not cdb.sp:
        return _adopt(device, changed)
    saved = changed.save()
    return Save(device.kept(modes=saved), lambda: _adopt(device, saved))


def _adopt(device: Device, modes: ModePages) -> Done | Work:
    """Lets mode pages hold; what the write cache kept until it was switched off is brought to stable storage.

    Source: SPC4r37 6.11, SBC3r36 6.4.5
    """
    before, device.modes = device.modes, modes
    attention = AttentionCode.MODE_PARAMETERS_CHANGED if modes.current != before.current else None
    if before.write_cache and not modes.write_cache:
        return Work(Flush(), attention=attention)
    return Done(attention=attention)
