"""How a copy is cut into pieces, and what is told another copy manager; drawing in command_bench."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.commands.token_copy import PIECE_BYTES, ZEROS_BYTES, Piece, fetch_rod, pieces, zeros
from iscsi_target.scsi.layouts.token_cdb import FetchRod
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.rod_tokens import Extent, InvalidTokenOperation, RodToken, TokenError
from iscsi_target.scsi.state.task import Call, Done, Work
from tests.unit.scsi.command_bench import A, device

TOKEN = RodToken(bytes(512), A, (Extent(0, 1024),), 60, 0, 0)
lengths = st.lists(st.integers(1, 3 * PIECE_BYTES), min_size=1, max_size=5)


def extents_of(sizes: list[int], start: int) -> list[Extent]:
    """Returns extents of some sizes, each 7 bytes behind the one before."""
    found = []
    for size in sizes:
        found.append(Extent(start, size))
        start += size + 7
    return found


@given(sources=lengths, destinations=lengths, offset=st.integers(0, PIECE_BYTES))
def test_pieces_carry_byte_after_byte(sources: list[int], destinations: list[int], offset: int):
    """Law: the pieces, one after the other, are the sources from the offset on, and the destinations from the start."""
    parts = list(pieces(extents_of(sources, 0), extents_of(destinations, 0), offset_bytes=offset, padding_bytes=0))
    copied = min(max(sum(sources) - offset, 0), sum(destinations))
    assert sum(part.length_bytes for part in parts) == copied
    assert all(0 < part.length_bytes <= PIECE_BYTES for part in parts)
    assert all(part.length_bytes == sum(each.length_bytes for each in part.sources) for part in parts)
    taken = (each for part in parts for each in part.sources)
    assert _merged(taken) == _cut(extents_of(sources, 0), offset, copied)
    assert _merged((part[1], part[2]) for part in parts) == _cut(extents_of(destinations, 0), 0, copied)


def _merged(ranges) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, length in ranges:
        if merged and sum(merged[-1]) == start:
            merged[-1] = (merged[-1][0], merged[-1][1] + length)
        else:
            merged.append((start, length))
    return merged


def _cut(extents: list[Extent], skipped: int, kept: int) -> list[tuple[int, int]]:
    found = []
    for start, length in extents:
        begin = min(skipped, length)
        size = min(length - begin, kept)
        skipped, kept = skipped - begin, kept - size
        if size:
            found.append((start + begin, size))
    return found


@given(sources=lengths, blocks=st.lists(st.integers(1, 1024), min_size=1, max_size=5), offset=st.integers(0, 99))
def test_every_piece_is_of_whole_blocks_of_the_destination(sources: list[int], blocks: list[int], offset: int):
    """Law: whatever the extents of the source are, no piece begins or ends within a block of the destination."""
    places = [Extent(4096 * (2000 * number), 4096 * count) for number, count in enumerate(blocks)]
    padding = -(sum(sources) - offset) % 4096
    for part in pieces(extents_of(sources, 0), places, offset_bytes=offset, padding_bytes=padding):
        assert part.destination % 4096 == part.length_bytes % 4096 == 0


def test_padding_follows_the_last_byte():
    parts = list(pieces([Extent(0, 512)], [Extent(4096, 8192)], offset_bytes=0, padding_bytes=3584))
    assert parts == [Piece((Extent(0, 512),), 4096, 4096)]


def test_no_padding_where_there_is_no_room():
    parts = list(pieces([Extent(0, 4608)], [Extent(4096, 4096)], offset_bytes=0, padding_bytes=3584))
    assert parts == [Piece((Extent(0, 4096),), 4096, 4096)]


def test_zeros_are_cut_too():
    assert list(zeros([Extent(512, ZEROS_BYTES + 512), Extent(0, 512)])) == [
        Piece((), 512, ZEROS_BYTES),
        Piece((), 512 + ZEROS_BYTES, 512),
        Piece((), 0, 512),
    ]


def ask(unit: Device, raw: bytes, *, delete: bool = False) -> Done | Work:
    return fetch_rod(unit, FetchRod(length_bytes=512, delete=delete), Call(A, raw, (), received_s=5.0))


@pytest.mark.clause("SPC4r37 5.17.6.6")
def test_a_token_that_is_valid_is_answered_with_data_and_used():
    unit = device()
    unit.tokens = unit.tokens.with_new(TOKEN)
    assert isinstance(ask(unit, TOKEN.raw), Work)
    assert unit.tokens.live[TOKEN.raw].used_s == 5


@pytest.mark.parametrize("why", [TokenError.TOKEN_UNKNOWN, TokenError.TOKEN_DELETED, TokenError.TOKEN_CANCELLED])
def test_a_token_that_is_not_valid_is_refused(why: TokenError):
    unit = device()
    if why is TokenError.TOKEN_DELETED:
        unit.tokens = unit.tokens.with_new(TOKEN)
        assert ask(unit, TOKEN.raw, delete=True) == Done()
    elif why is TokenError.TOKEN_CANCELLED:
        unit.tokens = unit.tokens.with_new(TOKEN).cancelled()
    with pytest.raises(InvalidTokenOperation) as refused:
        ask(unit, TOKEN.raw)
    assert refused.value.sense.code == why
