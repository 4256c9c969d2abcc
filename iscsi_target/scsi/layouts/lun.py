"""Logical unit numbers on the wire: peripheral device addressing below 256, flat space addressing up to 16383.

Both forms of a small number are understood; numbers below 256 are written in the peripheral form, which every initiator
reads.
"""

from iscsi_target.scsi.layouts.pages import FlatLun, PeripheralLun
from iscsi_target.wire.layout import B2, B6, U8, U48, Layout

MAX_LUN = 0x3FFF  # flat space addressing; SAM5r21 4.7.7.3
FLAT_SPACE = 0x4000


class AddressedLun(Layout):
    """The first level of a LUN, before its addressing method is known.

    Source: SAM5r21 4.7.3
    """

    address_method: B2 = 0
    high: B6 = 0
    low: U8 = 0
    further_levels: U48 = 0


def pack_lun(lun: int) -> bytes:
    """Returns the 8 bytes of a LUN, 0..16383.

    Source: SAM5r21 4.7.7.2, 4.7.7.3
    """
    if lun <= 0xFF:
        return PeripheralLun(lun=lun).pack()
    return FlatLun(address=FLAT_SPACE + lun).pack()


def unpack_lun(field: bytes) -> int | None:
    """Returns the number that an 8-byte LUN means, or None for one that no unit here can have.

    Source: SAM5r21 4.7.7.2, 4.7.7.3
    """
    address = AddressedLun.unpack(field)
    if address.further_levels or address.address_method > 1 or (address.address_method == 0 and address.high):
        return None
    return address.high * 0x100 + address.low
