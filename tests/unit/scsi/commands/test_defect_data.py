"""READ DEFECT DATA; drawing in command_bench."""

import pytest

from iscsi_target.scsi.commands.defect_data import ReadDefectData10, ReadDefectData12
from tests.unit.scsi.command_bench import INVALID_FIELD_IN_CDB, device, refusal, run

LAYOUTS = (ReadDefectData10, ReadDefectData12)


@pytest.mark.clause("SBC3r36 5.17")
@pytest.mark.clause("SBC3r36 5.18")
@pytest.mark.clause("SBC3r36 5.17.2")
@pytest.mark.clause("SBC3r36 5.18.2")
@pytest.mark.parametrize("form", range(7))
@pytest.mark.parametrize(("lists", "bits"), [((False, False), 0x00), ((True, False), 0x10), ((False, True), 0x08)])
def test_the_lists_that_are_asked_for_are_empty_in_the_format_that_is_asked_for(form, lists, bits):
    fields = {"req_plist": lists[0], "req_glist": lists[1], "defect_list_format": form, "allocation_length": 255}
    assert run(device(), ReadDefectData10().replace(**fields)).data_in == bytes([0, bits | form, 0, 0])
    assert run(device(), ReadDefectData12().replace(**fields)).data_in == bytes([0, bits | form, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_reserved_format_is_refused(layout):
    assert refusal(device(), layout(defect_list_format=7, allocation_length=255)) == INVALID_FIELD_IN_CDB


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_allocation_length_cuts(layout):
    for length in range(4):
        assert len(run(device(), layout(allocation_length=length)).data_in) == length


def test_an_index_beyond_the_last_descriptor_returns_none():
    assert len(run(device(), ReadDefectData12(address_descriptor_index=5, allocation_length=255)).data_in) == 8
