"""What is told of copy operations; drawing in command_bench."""

import pytest

from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.layouts.token_cdb import (
    CopyOperationAbort,
    CopyOperationStatus,
    ReceiveCopyStatusLid4,
    ReceiveRodTokenInformation,
)
from iscsi_target.scsi.state.copy_log import CopyRecord, CopyState
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.status import Sense, SenseKey
from tests.unit.scsi.command_bench import INVALID_FIELD_IN_CDB, A, B, device, refusal, run

STATUS = ReceiveCopyStatusLid4(list_identifier=0x01020304, allocation_length=255)
INFORMATION = ReceiveRodTokenInformation(list_identifier=0x01020304, allocation_length=1024)
TOKEN = bytes(range(256)) * 2
HEADER = 32


def having(record: CopyRecord) -> Device:
    unit = device()
    unit.copies.start(A, 0x01020304, record)
    return unit


@pytest.mark.clause("SPC4r37 6.24")
@pytest.mark.clause("SPC4r37 5.17.4.4")
def test_a_copy_that_goes_on_is_told_as_often_as_is_asked():
    unit = having(CopyRecord(0x11, CopyState.BACKGROUND, copied_bytes=5 * 512, steps=0x10003))
    for _ in range(2):
        assert bytes(run(unit, STATUS).data_in).hex() == (
            "0000001c" + "11" + "12" + "0003" + "00000064" + "00" + "00" + "00" + "f1" + "0000000000000005" + "00" * 8
        )


@pytest.mark.clause("SPC4r37 6.24")
def test_sense_data_are_told_in_the_format_of_the_unit():
    error = Sense(SenseKey.DATA_PROTECT, 0x2707)
    for sense in (error.fixed(), error.descriptor()):
        unit = having(CopyRecord(0x11, CopyState.FAILED, sense=error))
        if sense == error.descriptor():
            unit.modes = unit.modes.select(ControlPage(ps=False, d_sense=True).pack(), 0)
        data = bytes(run(unit, STATUS).data_in)
        told = CopyOperationStatus.unpack(data)
        assert told.available_data == len(data) - 4
        assert (told.copy_operation_status, told.extended_copy_completion_status) == (2, 2)
        assert told.estimated_status_update_delay == 0xFFFFFFFE
        assert told.length_of_the_sense_data_field == len(data) - HEADER == -(-len(sense) // 4) * 4
        assert data[HEADER:][: told.sense_data_length] == sense


def test_segments_and_bytes_are_told_of_extended_copy():
    unit = having(CopyRecord(0x00, CopyState.DONE, 3, 1000, 3))
    told = CopyOperationStatus.unpack(run(unit, STATUS).data_in)
    assert (told.segments_processed, told.transfer_count_units, told.transfer_count) == (3, 0, 1000)


@pytest.mark.clause("SPC4r37 6.26")
@pytest.mark.clause("SBC3r36 5.22")
def test_a_token_is_told_once():
    unit = having(CopyRecord(0x10, CopyState.DONE, copied_bytes=512, token=TOKEN))
    data = bytes(run(unit, INFORMATION).data_in)
    assert data[HEADER:] == (514).to_bytes(4) + bytes(2) + TOKEN
    assert CopyOperationStatus.unpack(data).available_data == len(data) - 4
    assert bytes(run(unit, INFORMATION).data_in)[HEADER:] == bytes(4)


def test_a_token_that_does_not_fit_is_told_again_unless_it_is_thrown_away():
    unit = having(CopyRecord(0x10, CopyState.DONE, token=TOKEN))
    assert len(run(unit, INFORMATION.replace(allocation_length=100)).data_in) == 100
    assert TOKEN in bytes(run(unit, INFORMATION).data_in)
    unit = having(CopyRecord(0x10, CopyState.DONE, token=TOKEN))
    assert not run(unit, INFORMATION.replace(allocation_length=0)).data_in
    assert TOKEN not in bytes(run(unit, INFORMATION).data_in)


def test_nothing_is_told_of_copies_of_others():
    unit = having(CopyRecord(0x10, CopyState.DONE, token=TOKEN))
    for cdb in (STATUS, INFORMATION):
        assert refusal(unit, cdb, nexus=B) == INVALID_FIELD_IN_CDB


@pytest.mark.clause("SPC4r37 6.3")
def test_only_a_copy_that_goes_on_can_be_aborted():
    unit = having(CopyRecord(0x10, CopyState.DONE))
    assert refusal(unit, CopyOperationAbort(list_identifier=0x01020304)) == INVALID_FIELD_IN_CDB
    assert refusal(unit, CopyOperationAbort(list_identifier=1)) == INVALID_FIELD_IN_CDB
