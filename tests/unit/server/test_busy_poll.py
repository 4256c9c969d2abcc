"""BusyPoll: how long a callback is due on an event loop whose clock the test sets."""

import asyncio
from collections.abc import Callable

import pytest

from iscsi_target.server.busy_poll import LONGEST_TURN_S, BusyPoll

LIMIT_S = 50e-6


class Loop(asyncio.AbstractEventLoop):
    """Keeps the callbacks that are due."""

    def __init__(self) -> None:
        self.now = 10.0
        self.due: list[Callable[..., object]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback, *args, context=None):  # type: ignore[override] # returns no handle
        self.due.append(callback)

    def pass_once(self) -> None:
        due, self.due = self.due, []
        for callback in due:
            callback()


def nothing() -> bool:
    """A connection that wants no input."""
    return False


class Asked:
    """A connection that is asked for input; each time takes a microsecond, and some bring input."""

    def __init__(self, loop: Loop, *, brings: int = 0) -> None:
        self.loop = loop
        self.poll = BusyPoll(loop, LIMIT_S)
        self.brings = brings
        self.count = 0

    def ask(self) -> bool:
        self.count += 1
        self.loop.now += 1e-6
        if self.brings:
            self.brings -= 1
            self.poll.touched(self.ask)
        return True


@pytest.fixture
def loop() -> Loop:
    return Loop()  # type: ignore[abstract] # it has what BusyPoll asks for


def test_after_input_the_loop_stays_awake_until_the_limit(loop):
    BusyPoll(loop, LIMIT_S).touched(nothing)
    for _ in range(9):
        loop.now += LIMIT_S / 10
        loop.pass_once()
        assert len(loop.due) == 1
    loop.now += LIMIT_S / 5
    loop.pass_once()
    assert loop.due == []


def test_more_input_begins_anew_with_one_callback(loop):
    poll = BusyPoll(loop, LIMIT_S)
    for _ in range(5):
        poll.touched(nothing)
        loop.now += 0.9 * LIMIT_S
        loop.pass_once()
        assert len(loop.due) == 1


def test_after_it_slept_input_wakes_it_again(loop):
    poll = BusyPoll(loop, LIMIT_S)
    for _ in range(2):
        poll.touched(nothing)
        loop.now += LIMIT_S
        loop.pass_once()
        assert loop.due == []


def test_without_a_limit_the_loop_is_left_alone(loop):
    BusyPoll(loop, 0.0).touched(nothing)
    assert loop.due == []


def test_connection_that_input_comes_from_again_is_asked_directly_until_the_limit(loop):
    asked = Asked(loop)
    asked.poll.touched(asked.ask)
    assert asked.count == 0
    asked.poll.touched(asked.ask)
    assert asked.count == pytest.approx(LIMIT_S / 1e-6, abs=1)
    assert len(loop.due) == 1


def test_input_while_it_is_asked_begins_anew(loop):
    asked = Asked(loop, brings=20)
    asked.poll.touched(asked.ask)
    asked.poll.touched(asked.ask)
    assert asked.count == pytest.approx(20 + LIMIT_S / 1e-6, abs=1)


def test_others_have_a_turn_however_much_comes(loop):
    asked = Asked(loop, brings=10**6)
    asked.poll.touched(asked.ask)
    asked.poll.touched(asked.ask)
    assert asked.count == pytest.approx(LONGEST_TURN_S / 1e-6, abs=1)


def test_connection_that_wants_no_input_is_asked_no_more(loop):
    calls = []
    poll = BusyPoll(loop, LIMIT_S)

    def ask() -> bool:
        calls.append(1)
        return False

    poll.touched(ask)
    poll.touched(ask)
    assert len(calls) == 1


def test_when_input_comes_from_several_none_is_asked_directly(loop):
    one, other = Asked(loop), Asked(loop)
    poll = BusyPoll(loop, LIMIT_S)
    for each in (one, other, one, other):
        poll.touched(each.ask)
    assert one.count + other.count == 0
