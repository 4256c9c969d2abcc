"""Lookout: reads of a page cache that has them sooner or later, on a clock that each question moves."""

from typing import Literal

import pytest

from iscsi_target.scsi.operations import BLOCKS, Read, WouldBlock
from iscsi_target.storage.lookout import LOOK_S, PATIENCE_S, Lookout
from iscsi_target.storage.page_cache import PageCache


class Fetched(PageCache):
    """Has what the test puts into `there`; a question takes `takes_s`."""

    def __init__(self) -> None:
        self.there: set[int] = set()
        self.asked: list[int] = []
        self.vain: list[float] = []
        self.takes_s = 0.0
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    def again(self, read: Read) -> bytearray | Literal[WouldBlock.BLOCKS]:
        self.asked.append(read.offset_bytes)
        self.now += self.takes_s
        return bytearray(read.length_bytes) if read.offset_bytes in self.there else BLOCKS

    def waited_in_vain(self, waited_s: float) -> None:
        self.vain.append(waited_s)


@pytest.fixture
def cache() -> Fetched:
    return Fetched()


@pytest.fixture
def lookout(cache: Fetched) -> Lookout[str]:
    """Returns one that awaits A, B and C, at 0, 1 and 2."""
    lookout: Lookout[str] = Lookout(cache.clock)
    for place, name in enumerate("ABC"):
        lookout.add(name, Read(place, 4))
    return lookout


def test_what_is_there_is_found_and_the_rest_awaited_on(cache, lookout):
    cache.there = {1}
    assert lookout.look(cache) == ([("B", bytearray(4))], [])
    cache.there = {0, 1, 2}
    assert lookout.look(cache) == ([("A", bytearray(4)), ("C", bytearray(4))], [])
    assert not lookout
    assert cache.asked == [0, 1, 2, 0, 2]
    assert cache.vain == []


def test_patience_begins_with_the_first_look(cache, lookout):
    cache.now += 10 * PATIENCE_S
    assert lookout.look(cache) == ([], [])
    cache.now += 0.9 * PATIENCE_S
    assert lookout.look(cache) == ([], [])
    assert lookout
    cache.now += 0.2 * PATIENCE_S
    assert lookout.look(cache) == ([], ["A", "B", "C"])
    assert cache.vain == [PATIENCE_S]
    assert not lookout


def test_a_late_one_among_those_that_come_is_no_reason_to_await_none(cache, lookout):
    lookout.look(cache)
    cache.now += 2 * PATIENCE_S
    cache.there = {1}
    assert lookout.look(cache) == ([("B", bytearray(4))], ["A", "C"])
    assert cache.vain == []


def test_a_look_is_short_and_the_next_begins_where_it_ended(cache, lookout):
    cache.takes_s = 0.7 * LOOK_S
    lookout.look(cache)
    assert cache.asked == [0, 1]
    lookout.look(cache)
    assert cache.asked == [0, 1, 2, 0]


def test_what_is_cleared_is_awaited_no_more(cache, lookout):
    assert lookout.clear() == ["A", "B", "C"]
    assert lookout.look(cache) == ([], [])
    assert cache.asked == []
