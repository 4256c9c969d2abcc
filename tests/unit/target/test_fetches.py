"""Copies by tokens from one unit to another; drawing in copy_bench."""

import pytest

from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.state.task import Bring
from iscsi_target.scsi.status import Status
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from tests.unit.target.copy_bench import FAR, NEAR, TwoUnits, code

pytestmark = pytest.mark.clause("SPC4r37 5.17.6.6")
GONE = MediumError(Fault.GONE)


def test_a_token_of_one_unit_is_written_to_another():
    two = TwoUnits()
    source = [(10, 3), (2, 2)]
    end = two.use(FAR, two.token(NEAR, source), [(500, 5)], del_tkn=True)
    assert end is not None
    assert end.status is Status.GOOD
    assert two.read(FAR, [(500, 5)]) == two.read(NEAR, source)
    assert not two.units[NEAR].device.tokens.live, "the unit that made it has given it up"
    assert not two.fetches


@pytest.mark.clause("SBC3r36 5.46.2")
def test_blocks_of_another_length_are_filled_up_with_zeros():
    two = TwoUnits(4096)
    before = two.read(FAR, [(20, 3)])
    token = two.token(NEAR, [(10, 10)])
    end = two.use(FAR, token, [(20, 3)])
    assert code(end) == 0x0D04
    data = two.read(NEAR, [(10, 10)])
    assert two.read(FAR, [(20, 3)]) == data + bytes(8192 - len(data)) + before[8192:]
    assert two.use(FAR, token, [(30, 1)], offset_into_rod=1) is not None
    assert two.read(FAR, [(30, 1)]) == data[4096:] + bytes(8192 - len(data))
    assert code(two.use(FAR, token, [(30, 1)], offset_into_rod=2)) == 0x2600


def test_a_block_that_comes_from_two_extents_is_written_at_once():
    two = TwoUnits(4096, at_once=False)
    token = two.token(NEAR, [(10, 3), (20, 5)])
    assert two.use(FAR, token, [(5, 1)]) is None
    before = two.read(FAR, [(5, 1)])
    assert [two.perform(), two.perform()] == [NEAR, NEAR]
    assert two.read(FAR, [(5, 1)]) == before
    assert two.perform() == FAR
    assert two.read(FAR, [(5, 1)]) == two.read(NEAR, [(10, 3), (20, 5)])
    assert not two.at_medium


def test_a_unit_that_becomes_smaller_ends_the_copy():
    two = TwoUnits(at_once=False)
    two.use(FAR, two.token(NEAR, [(10, 1), (20, 1)]), [(100, 1), (200, 1)])
    assert two.perform() == NEAR
    assert two.perform() == FAR
    two.units[FAR].resize(200)
    assert two.perform() == NEAR
    assert code(two.ends[0]) == 0x2100
    assert not two.at_medium


def test_a_write_to_the_source_ends_the_copy_to_another_unit():
    two = TwoUnits(at_once=False)
    assert two.use(FAR, two.token(NEAR, [(10, 1), (20, 1)]), [(100, 1), (200, 1)]) is None
    assert two.perform() == NEAR
    two.units[NEAR].device.tokens = two.units[NEAR].device.tokens.cancelled()
    assert two.perform() == FAR
    assert code(two.ends[0]) == 0x2308
    assert two.read(FAR, [(100, 1)]) == two.read(NEAR, [(10, 1)])
    assert not two.at_medium


def test_a_source_that_cannot_be_read_ends_the_copy():
    two = TwoUnits()
    token = two.token(NEAR, [(10, 1)])
    two.failing[NEAR] = GONE
    assert code(two.use(FAR, token, [(100, 1)])) == 0x0D01


def test_a_source_that_is_not_there_any_more_ends_the_copy():
    two = TwoUnits(at_once=False)
    token = two.token(NEAR, [(10, 1), (20, 1)])
    two.use(FAR, token, [(100, 1), (200, 1)])
    two.perform()
    two.fetches.units = {FAR: two.units[FAR]}
    two.perform()
    assert code(two.ends[0]) == 0x0D01


def test_many_small_pieces_do_not_nest(monkeypatch: pytest.MonkeyPatch):
    two = TwoUnits()
    source = [(3 * number, 2) for number in range(16)]
    target = [(500 + 4 * number, 2) for number in range(16)]
    token = two.token(NEAR, source)
    depth, ask = 0, two.fetches.ask

    def watched(unit: LogicalUnit, bring: Bring, now_s: float) -> None:
        nonlocal depth
        depth += 1
        assert depth <= 2, "what one piece leads to is asked for within it, and then no more"
        ask(unit, bring, now_s)
        depth -= 1

    monkeypatch.setattr(two.fetches, "ask", watched)
    assert two.use(FAR, token, target) is not None
    assert two.read(FAR, target) == two.read(NEAR, source)
