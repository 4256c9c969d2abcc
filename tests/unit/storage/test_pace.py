"""Pace: when writes on the event loop pause, by a clock and a count of waits that the test sets."""

import pytest

from iscsi_target.storage.pace import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    SLOW_S,
    STALL_S,
    WATCH_S,
    Pace,
    waits_of_this_thread,
)


class World:
    """The pace with its clock and its count of waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits = 7
        self.asked = 0
        self.pace = Pace(lambda: self.now, self.count)

    def count(self) -> int:
        self.asked += 1
        return self.waits

    def write(self, takes_s: float, *, waits: int = 0) -> bool:
        """Makes a write, and returns False when it was not let begin."""
        begun = self.pace.begin()
        if begun is None:
            return False
        self.now += takes_s
        self.waits += waits
        self.pace.end(begun)
        return True


@pytest.fixture
def world() -> World:
    return World()


SLOW = 2 * SLOW_S
STALLED = 2 * STALL_S
QUICK = SLOW_S / 10


def test_quick_writes_go_on_and_nothing_is_counted(world):
    assert all(world.write(QUICK, waits=1) for _ in range(1000))
    assert world.asked == 0


def test_a_write_that_stalled_lets_others_pause(world):
    world.write(STALLED)
    assert not world.write(QUICK)
    world.now += FIRST_PAUSE_S
    assert world.write(QUICK)


def test_the_second_slow_write_that_waited_lets_others_pause(world):
    assert world.write(SLOW, waits=1)
    assert world.write(QUICK, waits=1)
    assert world.write(SLOW, waits=1)
    assert not world.write(QUICK)


def test_slow_writes_that_did_not_wait_go_on(world):
    assert all(world.write(SLOW) for _ in range(1000))


def test_waits_are_counted_only_for_a_while_after_a_slow_write(world):
    world.write(SLOW, waits=1)
    world.write(QUICK)
    counted = world.asked
    assert counted
    world.now += WATCH_S
    world.write(SLOW, waits=1)
    assert world.asked == counted
    assert world.write(QUICK)


def pauses(world: World, count: int) -> list[float]:
    """Stalls as soon as each pause ends, and returns how long the pauses are."""
    found = []
    for _ in range(count):
        world.write(STALLED)
        begun = world.now
        while not world.write(QUICK):
            world.now += FIRST_PAUSE_S / 2
        found.append(world.now - begun)
    return found


def test_a_pause_is_twice_as_long_when_the_next_write_stalls_too(world):
    found = pauses(world, 5)
    expected = [min(FIRST_PAUSE_S * 2**number, LONGEST_PAUSE_S) for number in range(5)]
    assert found == pytest.approx(expected, abs=0.6 * FIRST_PAUSE_S)


def test_a_pause_has_a_limit(world):
    assert max(pauses(world, 12)) <= LONGEST_PAUSE_S + FIRST_PAUSE_S


def test_after_a_good_while_a_pause_is_short_again(world):
    long = pauses(world, 6)[-1]
    world.now += 2 * long
    assert pauses(world, 1) == pytest.approx([FIRST_PAUSE_S], abs=FIRST_PAUSE_S)


def test_the_waits_of_this_thread_are_a_number():
    assert waits_of_this_thread() >= 0
