"""BusyPoll: how long a callback is due on an event loop whose clock the test sets."""

import asyncio
from collections.abc import Callable

import pytest

from iscsi_target.server.busy_poll import BusyPoll

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


@pytest.fixture
def loop() -> Loop:
    return Loop()  # type: ignore[abstract] # it has what BusyPoll asks for


def test_after_input_the_loop_stays_awake_until_the_limit(loop):
    BusyPoll(loop, LIMIT_S).touched()
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
        poll.touched()
        loop.now += 0.9 * LIMIT_S
        loop.pass_once()
        assert len(loop.due) == 1


def test_after_it_slept_input_wakes_it_again(loop):
    poll = BusyPoll(loop, LIMIT_S)
    for _ in range(2):
        poll.touched()
        loop.now += LIMIT_S
        loop.pass_once()
        assert loop.due == []


def test_without_a_limit_the_loop_is_left_alone(loop):
    BusyPoll(loop, 0.0).touched()
    assert loop.due == []
