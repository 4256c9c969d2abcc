r"""Copies by tokens hold what they say; two units of one target, see copy_bench.

A ---- P == unit "near"
       \\== unit "far"
"""

from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.status import Status
from tests.unit.scsi.token_bench import ZERO_TOKEN
from tests.unit.scsi.unit_bench import BLOCKS
from tests.unit.target.copy_bench import FAR, NEAR, TwoUnits

Ranges = list[tuple[int, int]]


@st.composite
def ranges(draw: st.DrawFn) -> Ranges:
    """Ranges of blocks that do not overlap, in any order."""
    cuts = sorted(draw(st.sets(st.integers(0, BLOCKS), min_size=2, max_size=12)))
    apart = [(start, end - start) for start, end in zip(cuts[::2], cuts[1::2], strict=False)]
    return draw(st.permutations(apart))


def blocks_of(wanted: Ranges) -> list[int]:
    return [lba for start, count in wanted for lba in range(start, start + count)]


@given(
    source=ranges(), target=ranges(), offset=st.integers(0, 64), to=st.sampled_from((NEAR, FAR)), immed=st.booleans()
)
def test_what_a_token_represents_is_written_block_by_block_and_nothing_else(
    source: Ranges, target: Ranges, offset: int, to: str, *, immed: bool
):
    """Law: block n of the target is block offset + n of the source, as far as there are both; the rest stays."""
    two = TwoUnits()
    from_blocks, to_blocks = blocks_of(source)[offset:], blocks_of(target)
    before = {name: two.read(name, [(0, BLOCKS)]) for name in (NEAR, FAR)}
    end = two.use(to, two.token(NEAR, source), target, offset_into_rod=offset, immed=immed)
    assert end is not None
    expected = bytearray(before[to])
    is_refused = not from_blocks or (to == NEAR and set(blocks_of(source)) & set(to_blocks))
    if not is_refused:
        for one, other in zip(from_blocks, to_blocks, strict=False):
            expected[other * 512 : other * 512 + 512] = before[NEAR][one * 512 : one * 512 + 512]
    assert two.read(to, [(0, BLOCKS)]) == expected
    is_short = len(from_blocks) < len(to_blocks)
    assert (end.status is Status.GOOD) == (not is_refused and (immed or not is_short))


@given(source=ranges(), write=ranges(), target=ranges())
def test_a_token_is_a_point_in_time_or_nothing(source: Ranges, write: Ranges, target: Ranges):
    """Law: after any write, what is copied is what was there when the token was made, or nothing is."""
    two = TwoUnits()
    before = two.read(NEAR, [(0, BLOCKS)])
    token = two.token(NEAR, source)
    two.use(NEAR, ZERO_TOKEN, write)
    kept = two.read(FAR, [(0, BLOCKS)])
    end = two.use(FAR, token, target)
    assert end is not None
    if set(blocks_of(source)) & set(blocks_of(write)):
        assert end.status is Status.CHECK_CONDITION
        assert two.read(FAR, [(0, BLOCKS)]) == kept
    else:
        for one, other in zip(blocks_of(source), blocks_of(target), strict=False):
            assert two.read(FAR, [(other, 1)]) == before[one * 512 : one * 512 + 512]
