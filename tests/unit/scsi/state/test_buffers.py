"""What the buffers of a unit keep. Nodes A and B; port P."""

from iscsi_target.scsi.state.buffers import DATA_BYTES, Buffers
from tests.unit.scsi.command_bench import A, B


def test_nothing_was_put_into_new_buffers():
    buffers = Buffers()
    assert buffers.echo(A) is None
    assert buffers.data == bytes(DATA_BYTES)


def test_each_nexus_has_an_echo_buffer_that_goes_with_it():
    buffers = Buffers()
    buffers.keep(A, b"a")
    buffers.keep(B, b"b")
    buffers.leave(A)
    assert buffers.echo(A) is None
    assert buffers.echo(B) == b"b"


def test_a_part_of_the_data_buffer_is_written_and_the_rest_stays():
    buffers = Buffers()
    buffers.write(0, b"1234")
    buffers.write(DATA_BYTES - 1, b"9")
    buffers.write(1, b"56")
    assert buffers.data == b"1564" + bytes(DATA_BYTES - 5) + b"9"


def test_clear_leaves_nothing():
    buffers = Buffers()
    buffers.keep(A, b"a")
    buffers.write(0, b"1")
    buffers.clear()
    assert buffers == Buffers()
