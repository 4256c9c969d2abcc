"""What initiators write on the label of a unit; drawing in command_bench."""

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.commands.identifying_information import (
    ANY_BYTES,
    MAX_BYTES,
    SUPPORTED,
    TEXT,
    ReportIdentifyingInformation,
    SetIdentifyingInformation,
    set_identifying_information,
    wanted_by_set_identifying_information,
)
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call
from tests.unit.scsi.command_bench import (
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_LIST,
    LIST_LENGTH_ERROR,
    A,
    device,
    refusal,
    run,
)


def label(unit: Device, kind: int = ANY_BYTES, allocation_length: int = 1024) -> bytes:
    cdb = ReportIdentifyingInformation(information_type=kind, allocation_length=allocation_length)
    return bytes(run(unit, cdb).data_in)


def setting(information: bytes, kind: int = ANY_BYTES) -> SetIdentifyingInformation:
    return SetIdentifyingInformation(information_type=kind, parameter_list_length=len(information))


@pytest.mark.clause("SPC4r37 6.32")
@pytest.mark.parametrize("kind", [ANY_BYTES, TEXT])
def test_a_new_unit_has_none(kind: int):
    assert label(device(), kind) == bytes(4)


@pytest.mark.clause("SPC4r37 6.43")
@pytest.mark.parametrize("kind, information", [(ANY_BYTES, b"\xff\0\x01" * 100), (TEXT, "Größe\0".encode())])
def test_what_was_set_is_reported_and_the_others_are_told(kind: int, information: bytes):
    unit = device()
    done = run(unit, setting(information, kind), offered=information)
    assert done.attention == AttentionCode.DEVICE_IDENTIFIER_CHANGED
    assert label(unit, kind) == bytes(2) + len(information).to_bytes(2, "big") + information
    assert label(unit, kind, 6) == label(unit, kind)[:6]
    assert label(unit, ANY_BYTES + TEXT - kind) == bytes(4)


@pytest.mark.clause("SPC4r37 6.43")
def test_an_empty_list_takes_it_away():
    unit = device()
    run(unit, setting(b"label"), offered=b"label")
    run(unit, setting(b""))
    assert label(unit) == bytes(4)


@pytest.mark.clause("SPC4r37 6.43")
def test_nothing_holds_before_it_is_stored():
    unit = device()
    save = set_identifying_information(unit, setting(b"label"), Call(A, b"label", (0,)))
    assert save.state.identifying_information == {ANY_BYTES: b"label"}
    assert label(unit) == bytes(4)
    save.finish()
    assert unit.kept().identifying_information == {ANY_BYTES: b"label"}


@pytest.mark.clause("SPC4r37 6.32")
def test_the_types_that_there_are_can_be_asked_for():
    assert label(device(), SUPPORTED) == bytes.fromhex("00000008 00000200 04000100")


@pytest.mark.parametrize("kind", [1, 3, 64, SUPPORTED])
def test_other_types_are_refused(kind: int):
    assert refusal(device(), setting(b"", kind)) == INVALID_FIELD_IN_CDB
    if kind != SUPPORTED:
        assert refusal(device(), ReportIdentifyingInformation(information_type=kind)) == INVALID_FIELD_IN_CDB


@pytest.mark.clause("SPC4r37 5.6")
@pytest.mark.parametrize("kind", [ANY_BYTES, TEXT])
def test_more_than_there_is_room_for_is_refused_and_not_fetched(kind: int):
    cdb = setting(bytes(MAX_BYTES[kind] + 1), kind)
    assert wanted_by_set_identifying_information(device(), cdb) == 0
    assert refusal(device(), cdb, offered=bytes(1024)) == INVALID_FIELD_IN_CDB


def test_a_list_that_ends_too_early_is_refused():
    assert refusal(device(), setting(b"label"), offered=b"lab") == LIST_LENGTH_ERROR


@pytest.mark.clause("SPC4r37 5.6")
@pytest.mark.parametrize("text", [b"no end", b"\0two ends\0", b"\xff\0"])
def test_a_text_is_utf_8_with_one_nul_at_its_end(text: bytes):
    unit = device()
    assert refusal(unit, setting(text, TEXT), offered=text) == INVALID_FIELD_IN_LIST
    assert label(unit, TEXT) == bytes(4)
