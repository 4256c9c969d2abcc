"""How a segment is cut into pieces, and what is told other copy managers; drawing in command_bench."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.commands.token_copy import PIECE_BYTES
from iscsi_target.scsi.commands.unit_copy import (
    Reached,
    Segment,
    pieces,
    read_for_copy,
    write_for_copy,
)
from iscsi_target.scsi.layouts.copy_cdb import ReadForCopy, WriteForCopy
from iscsi_target.scsi.operations import CopyRange, Read, Write
from iscsi_target.scsi.state.task import Call
from iscsi_target.scsi.status import LbaOutOfRange, WriteProtected
from tests.unit.scsi.command_bench import BLOCK, CAPACITY, A, device

offsets, lengths = st.integers(0, 3 * PIECE_BYTES), st.integers(0, 3 * PIECE_BYTES)


@given(source=offsets, destination=offsets, length=lengths, padding=st.integers(0, 4095), same=st.booleans())
def test_pieces_carry_every_byte_once_and_end_with_a_block(
    source: int, destination: int, length: int, padding: int, *, same: bool
):
    """Law: the pieces move what was there before, byte after byte, and only the last one may end within a block."""
    unit, other = device(block_length_bytes=4096), device(block_length_bytes=4096)
    reached = Reached(unit), Reached(unit if same else other)
    found = list(pieces(Segment(*reached, CopyRange(source, destination, length), padding)))
    ranges = [each for each, _ in found]
    in_order = sorted(ranges)
    at = 0
    for each in in_order:
        assert each == (source + at, destination + at, each.length_bytes)
        assert 0 < each.length_bytes <= PIECE_BYTES
        at += each.length_bytes
        assert at == length or (destination + at) % 4096 == 0
    assert at == length
    assert [zeros for each, zeros in found if each == in_order[-1]] == ([padding] if length else [])
    assert sum(zeros for _, zeros in found) == (padding if length else 0)
    if same:
        for number, done in enumerate(ranges):
            for later in ranges[number + 1 :]:
                assert not _meet(done.destination_bytes, done.length_bytes, later.source_bytes, later.length_bytes)


def _meet(one: int, one_length: int, other: int, other_length: int) -> bool:
    return one < other + other_length and other < one + one_length


@pytest.mark.clause("SPC4r37 5.17.3")
def test_another_copy_manager_may_read_and_write_what_there_is():
    unit, end = device(), CAPACITY * BLOCK
    last = {"offset_bytes": end - BLOCK, "length_bytes": BLOCK}
    call = Call(A, b"\1" * BLOCK, ())
    assert read_for_copy(unit, ReadForCopy(**last), call).operation == Read(end - BLOCK, BLOCK)
    assert write_for_copy(unit, WriteForCopy(**last), call).operation == Write(end - BLOCK, b"\1" * BLOCK, False)
    beyond = {"offset_bytes": end - BLOCK, "length_bytes": BLOCK + 1}
    with pytest.raises(LbaOutOfRange):
        read_for_copy(unit, ReadForCopy(**beyond), call)
    with pytest.raises(LbaOutOfRange):
        write_for_copy(unit, WriteForCopy(**beyond), call)
    with pytest.raises(WriteProtected):
        write_for_copy(device(read_only=True), WriteForCopy(**last), call)
