"""The buffers of a unit; nodes A and B, drawing in command_bench."""

import pytest

from iscsi_target.scsi.commands.buffer_commands import Mode, ReadBuffer, WriteBuffer, wanted_by_write_buffer
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.state.buffers import DATA_BYTES, ECHO_BYTES
from iscsi_target.scsi.state.device import Device
from tests.unit.scsi.command_bench import INVALID_FIELD_IN_CDB, LIST_LENGTH_ERROR, A, B, device, refusal, run

COMMAND_SEQUENCE_ERROR = (5, 0x2C00)
ECHO = ReadBuffer(mode=Mode.ECHO, allocation_length=ECHO_BYTES)


def read(unit: Device, nexus: Nexus = A, *, allocation_length: int = DATA_BYTES, **fields: int) -> bytes:
    return bytes(run(unit, ReadBuffer(allocation_length=allocation_length, **fields), nexus=nexus).data_in)


def write(unit: Device, data: bytes, nexus: Nexus = A, **fields: int) -> None:
    run(unit, WriteBuffer(parameter_list_length=len(data), **fields), offered=data, nexus=nexus)


@pytest.mark.clause("SPC4r37 6.18.9")
def test_the_descriptor_of_the_echo_buffer():
    assert read(device(), mode=Mode.ECHO_DESCRIPTOR) == bytes.fromhex("01001000")


@pytest.mark.clause("SPC4r37 6.18.8")
def test_an_echo_is_what_the_nexus_sent_last_and_as_long():
    unit = device()
    write(unit, bytes(range(100)), mode=Mode.ECHO)
    write(unit, b"another", B, mode=Mode.ECHO, buffer_id=9, buffer_offset=70000)
    assert read(unit, mode=Mode.ECHO) == bytes(range(100))
    assert read(unit, mode=Mode.ECHO, allocation_length=3) == bytes(range(3))
    assert read(unit, B, mode=Mode.ECHO) == b"another"


@pytest.mark.clause("SPC4r37 6.18.8")
def test_without_an_echo_the_sequence_is_wrong():
    unit = device()
    assert refusal(unit, ECHO) == COMMAND_SEQUENCE_ERROR
    for end in (lambda: unit.forget(A), lambda: unit.reset(hard=False)):
        write(unit, b"gone", mode=Mode.ECHO)
        end()
        assert refusal(unit, ECHO) == COMMAND_SEQUENCE_ERROR


@pytest.mark.clause("SPC4r37 6.18.5")
def test_descriptors_of_data_buffers():
    assert read(device(), mode=Mode.DESCRIPTOR) == bytes.fromhex("00010000")
    assert read(device(), mode=Mode.DESCRIPTOR, buffer_id=1) == bytes(4)


@pytest.mark.clause("SPC4r37 6.18.4")
def test_the_data_buffer_is_everybodys():
    unit = device()
    assert read(unit, mode=Mode.DATA) == bytes(DATA_BYTES)
    write(unit, b"middle", mode=Mode.DATA, buffer_offset=10)
    write(unit, b"end", B, mode=Mode.DATA, buffer_offset=DATA_BYTES - 3)
    assert read(unit, B, mode=Mode.DATA, buffer_offset=8, allocation_length=10) == b"\0\0middle\0\0"
    assert read(unit, mode=Mode.DATA, buffer_offset=DATA_BYTES - 4) == b"\0end"
    assert read(unit, mode=Mode.DATA, buffer_offset=DATA_BYTES) == b""
    unit.reset(hard=False)
    assert read(unit, mode=Mode.DATA) == bytes(DATA_BYTES)


@pytest.mark.clause("SPC4r37 6.49.1")
@pytest.mark.clause("SPC4r37 6.18.1")
@pytest.mark.parametrize(
    "cdb",
    [
        ReadBuffer(mode=0x00),
        ReadBuffer(mode=0x1C),
        ReadBuffer(mode=Mode.DATA, buffer_id=1),
        ReadBuffer(mode=Mode.DATA, buffer_offset=DATA_BYTES + 1),
        WriteBuffer(mode=Mode.DESCRIPTOR),
        WriteBuffer(mode=0x05),
        WriteBuffer(mode=Mode.DATA, buffer_id=1),
        WriteBuffer(mode=Mode.DATA, buffer_offset=DATA_BYTES + 1),
        WriteBuffer(mode=Mode.DATA, buffer_offset=DATA_BYTES, parameter_list_length=1),
        WriteBuffer(mode=Mode.ECHO, parameter_list_length=ECHO_BYTES + 1),
        WriteBuffer(mode=Mode.ECHO, mode_specific=1),
    ],
)
def test_what_there_is_not_is_refused_and_not_fetched(cdb: ReadBuffer | WriteBuffer):
    assert refusal(device(), cdb, offered=bytes(ECHO_BYTES + 1)) == INVALID_FIELD_IN_CDB
    if isinstance(cdb, WriteBuffer) and cdb.parameter_list_length:
        assert wanted_by_write_buffer(device(), cdb) == 0


@pytest.mark.parametrize("mode", [Mode.DATA, Mode.ECHO])
def test_less_than_was_said_is_refused(mode: Mode):
    assert refusal(device(), WriteBuffer(mode=mode, parameter_list_length=5), offered=b"four") == LIST_LENGTH_ERROR
