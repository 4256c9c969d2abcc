"""READ BUFFER and WRITE BUFFER: an echo buffer for each nexus, and one data buffer of the unit.

They test the way between initiator and unit; nothing in them reaches the medium. No microcode can be downloaded, and
no error history is kept.

Source: SPC4r37 6.18, 6.49
"""

from enum import IntEnum

from iscsi_target.scsi.state.buffers import DATA_BYTES, ECHO_BYTES
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Done
from iscsi_target.scsi.status import CommandSequenceError, InvalidFieldInCdb, ParameterListLengthError
from iscsi_target.wire.layout import B3, B5, B7, U8, U16, U24, Bit, Layout

DATA_BUFFER = 0  # BUFFER ID of the only one


class Mode(IntEnum):
    """MODE of both commands; writing has no descriptors.

    Source: SPC4r37 6.18.1, 6.49.1
    """

    DATA = 0x02
    DESCRIPTOR = 0x03
    ECHO = 0x0A
    ECHO_DESCRIPTOR = 0x0B


class ReadBuffer(Layout):
    """READ BUFFER(10).

    Source: SPC4r37 6.18
    """

    operation_code: U8 = 0x3C
    mode_specific: B3 = 0
    mode: B5 = 0
    buffer_id: U8 = 0
    buffer_offset: U24 = 0
    allocation_length: U24 = 0
    control: U8 = 0


class WriteBuffer(Layout):
    """WRITE BUFFER.

    Source: SPC4r37 6.49
    """

    operation_code: U8 = 0x3B
    mode_specific: B3 = 0
    mode: B5 = 0
    buffer_id: U8 = 0
    buffer_offset: U24 = 0
    parameter_list_length: U24 = 0
    control: U8 = 0


class BufferDescriptor(Layout):
    """What there is to say of a data buffer; an OFFSET BOUNDARY of zero lets offsets be any.

    Source: SPC4r37 6.18.5
    """

    offset_boundary: U8 = 0
    buffer_capacity: U24 = 0


class EchoBufferDescriptor(Layout):
    """What there is to say of the echo buffer; EBOS says that nobody else can change what it has.

    Source: SPC4r37 6.18.9
    """

    _1: B7 = 0
    ebos: Bit = True
    _2: U8 = 0
    buffer_capacity: U16 = ECHO_BYTES


def read_buffer(device: Device, cdb: ReadBuffer, call: Call) -> Done:
    """Answers READ BUFFER.

    raises   InvalidFieldInCdb for a mode or a buffer that there is not, or an offset behind the buffer;
             CommandSequenceError when the nexus put nothing into its echo buffer
    Source: SPC4r37 6.18
    """
    match cdb.mode:
        case Mode.DATA:
            _check_data_buffer(cdb)
            data = device.buffers.data[cdb.buffer_offset :]
        case Mode.DESCRIPTOR:
            capacity = DATA_BYTES if cdb.buffer_id == DATA_BUFFER else 0
            data = BufferDescriptor(buffer_capacity=capacity).pack()
        case Mode.ECHO:
            echo = device.buffers.echo(call.nexus)
            if echo is None:
                raise CommandSequenceError
            data = echo
        case Mode.ECHO_DESCRIPTOR:
            data = EchoBufferDescriptor().pack()
        case _:
            raise InvalidFieldInCdb(ReadBuffer, "mode")
    return Done(data[: cdb.allocation_length])


def wanted_by_write_buffer(device: Device, cdb: WriteBuffer) -> int:
    """Returns the bytes of Data-Out that WRITE BUFFER asks for; none when the buffer has no room for them."""
    return cdb.parameter_list_length if cdb.parameter_list_length <= _room(cdb) else 0


def write_buffer(device: Device, cdb: WriteBuffer, call: Call) -> Done:
    """Answers WRITE BUFFER.

    raises   InvalidFieldInCdb for a mode or a buffer that there is not, or more than there is room for;
             ParameterListLengthError when less comes than was said
    Source: SPC4r37 6.49
    """
    if cdb.mode not in (Mode.DATA, Mode.ECHO):
        raise InvalidFieldInCdb(WriteBuffer, "mode")
    if cdb.mode == Mode.DATA:
        _check_data_buffer(cdb)
    if cdb.parameter_list_length > _room(cdb):
        raise InvalidFieldInCdb(WriteBuffer, "parameter_list_length")
    data = bytes(call.data_out)
    if len(data) < cdb.parameter_list_length:
        raise ParameterListLengthError
    if cdb.mode == Mode.ECHO:
        device.buffers.keep(call.nexus, data)
    else:
        device.buffers.write(cdb.buffer_offset, data)
    return Done()


def _room(cdb: WriteBuffer) -> int:
    return ECHO_BYTES if cdb.mode == Mode.ECHO else max(0, DATA_BYTES - cdb.buffer_offset)


def _check_data_buffer(cdb: ReadBuffer | WriteBuffer) -> None:
    if cdb.buffer_id != DATA_BUFFER:
        raise InvalidFieldInCdb(type(cdb), "buffer_id")
    if cdb.buffer_offset > DATA_BYTES:
        raise InvalidFieldInCdb(type(cdb), "buffer_offset")
