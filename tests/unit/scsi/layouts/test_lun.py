"""LUNs on the wire."""

import pytest

from iscsi_target.scsi.layouts.lun import MAX_LUN, pack_lun, unpack_lun


@pytest.mark.clause("SAM5r21 4.7.7")
@pytest.mark.clause("SAM5r21 4.7.7.2")
@pytest.mark.parametrize("lun, field", [(0, "0000"), (255, "00FF"), (256, "4100"), (MAX_LUN, "7FFF")])
def test_small_numbers_use_peripheral_and_large_ones_flat_space_addressing(lun: int, field: str):
    assert pack_lun(lun) == bytes.fromhex(field) + bytes(6)
    assert unpack_lun(pack_lun(lun)) == lun


@pytest.mark.parametrize("lun", (0, 255))
def test_flat_space_addressing_of_a_small_number_is_understood(lun: int):
    assert unpack_lun((0x4000 + lun).to_bytes(2) + bytes(6)) == lun


@pytest.mark.parametrize("field", ("0100", "8000", "C101", "FFFF"))
def test_other_buses_and_addressing_methods_name_no_unit(field: str):
    assert unpack_lun(bytes.fromhex(field) + bytes(6)) is None


@pytest.mark.clause("SAM5r21 4.7.3")
@pytest.mark.parametrize("position", range(2, 8))
def test_a_further_level_names_no_unit(position: int):
    field = bytearray(8)
    field[position] = 1
    assert unpack_lun(bytes(field)) is None
