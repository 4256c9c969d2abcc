"""Poller on a real event loop: socket pairs whose input it reports, and how long it asks for more."""

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest

from iscsi_target.server.poller import LONGEST_PAUSE_S, LONGEST_TURN_S, MOST_GREETED, MOST_READY, Lobby, Poller, Watcher

LIMIT_S = 50e-6


class Ends:
    """A connection: what one end sends, the poller finds at the other."""

    def __init__(self, poller: Watcher, after: Callable[[], object] = lambda: None) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.received: list[bytes] = []
        self._poller = poller
        self._after = after
        poller.watch(self.near.fileno(), self.ready)

    def ready(self) -> None:
        self.received.append(self.near.recv(100))
        self._after()

    def forget(self) -> None:
        self._poller.forget(self.near.fileno())

    def close(self) -> None:
        self.near.close()
        self.far.close()


class Bench:
    """A poller and what it watches."""

    def __init__(self, busy_s: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.poller = Poller(self.loop, busy_s)
        self.all: list[Ends] = []

    def ends(self, after: Callable[[], object] = lambda: None) -> Ends:
        self.all.append(Ends(self.poller, after))
        return self.all[-1]

    async def turns(self, count: int = 3) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    def close(self) -> None:
        self.poller.close()
        for ends in self.all:
            ends.close()


@pytest.fixture
async def bench() -> Iterator[Bench]:  # type: ignore[misc]  # pytest-asyncio makes an async generator of it
    made = Bench(0.0)
    yield made
    made.close()


@pytest.fixture
async def busy() -> Iterator[Bench]:  # type: ignore[misc]  # likewise
    made = Bench(LIMIT_S)
    yield made
    made.close()


async def test_input_is_reported_as_long_as_it_is_not_taken(bench):
    taken, left = bench.ends(), []
    other, far = socket.socketpair()
    bench.poller.watch(other.fileno(), lambda: left.append(1))
    taken.far.send(b"a")
    far.send(b"b")
    await bench.turns(4)
    assert taken.received == [b"a"]
    assert len(left) > 1
    bench.poller.forget(other.fileno())
    other.close()
    far.close()


async def test_all_that_are_ready_are_served_in_one_turn(bench):
    several = [bench.ends() for _ in range(MOST_READY)]
    for ends in several:
        ends.far.send(b"a")
    await bench.turns(2)
    assert all(ends.received == [b"a"] for ends in several)


async def test_end_of_a_connection_is_reported(bench):
    ends = bench.ends()
    ends.far.close()
    await bench.turns(2)
    assert ends.received[:1] == [b""]
    ends.forget()


async def test_what_is_forgotten_is_not_called_and_may_be_watched_again(bench):
    ends = bench.ends()
    ends.forget()
    ends.far.send(b"a")
    await bench.turns()
    assert ends.received == []
    bench.poller.watch(ends.near.fileno(), ends.ready)
    await bench.turns()
    assert ends.received == [b"a"]


async def test_one_that_was_ended_by_another_of_the_same_batch_is_not_called(bench):
    pair: list[Ends] = []
    for own in (0, 1):
        pair.append(bench.ends(lambda own=own: pair[1 - own].forget()))
    for ends in pair:
        ends.far.send(b"a")
    await bench.turns()
    assert sorted(len(ends.received) for ends in pair) == [0, 1]


async def test_poller_may_be_closed_by_what_it_calls(busy):
    ends = busy.ends(busy.poller.close)
    ends.far.send(b"a")
    await busy.turns()
    assert ends.received == [b"a"]
    ends.far.send(b"b")
    await busy.turns()
    assert ends.received == [b"a"]


async def test_several_that_never_end_let_the_event_loop_have_its_turn(bench):
    """Each answers to its input with input for itself."""
    pair: list[Ends] = []
    for own in (0, 1):
        pair.append(bench.ends(lambda own=own: pair[own].far.send(b"a")))
    for ends in pair:
        ends.far.send(b"a")
    begun = bench.loop.time()
    await bench.turns(2)
    assert len(pair[0].received) > 2
    assert bench.loop.time() - begun < 100 * LONGEST_TURN_S


class Clock:
    """An event loop's clock that the test turns, and its callbacks that are due."""

    def __init__(self) -> None:
        self.now = 10.0
        self.due: list[Callable[[], object]] = []
        self.readers: list[Callable[[], object]] = []

    def time(self) -> float:
        self.now += 1e-6
        return self.now

    def add_reader(self, descriptor: int, callback: Callable[[], object]) -> None:
        self.readers.append(callback)

    def remove_reader(self, descriptor: int) -> None:
        self.readers.clear()

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.due.append(callback)


class Asked:
    """A poller whose clock goes on by a microsecond with each look at it, and a connection with input now and then."""

    def __init__(self, busy_s: float, inputs: int) -> None:
        self.clock = Clock()
        self.poller = Poller(self.clock, busy_s)  # type: ignore[arg-type]  # it has what a Poller asks for
        self.inputs = inputs
        self.at_s: list[float] = []
        self.ends = Ends(self.poller, self.more)
        self.ends.far.send(b"a")
        self.clock.readers[0]()

    def more(self) -> None:
        self.at_s.append(self.clock.now)
        if len(self.at_s) < self.inputs:
            self.ends.far.send(b"a")

    def finish(self) -> float:
        """Lets everything come that is due; returns how long after the last input it ended."""
        while self.clock.due:
            self.clock.due.pop()()
        self.poller.close()
        self.ends.close()
        return self.clock.now - self.at_s[-1]


def test_without_a_limit_nothing_more_is_asked_for():
    asked = Asked(0.0, inputs=1)
    assert asked.clock.due == []
    assert asked.finish() < 10e-6


def test_after_the_last_input_more_is_asked_for_until_the_limit():
    assert LIMIT_S <= Asked(LIMIT_S, inputs=1).finish() < 1.2 * LIMIT_S


def test_input_begins_the_limit_anew_and_is_taken_without_the_event_loop():
    asked = Asked(LIMIT_S, inputs=20)
    assert len(asked.at_s) == 20
    assert LIMIT_S <= asked.finish() < 1.2 * LIMIT_S


def test_others_have_a_turn_however_much_comes():
    asked = Asked(LIMIT_S, inputs=10**4)
    begun_s, served = asked.at_s[0], len(asked.at_s)
    assert asked.clock.now - begun_s == pytest.approx(LONGEST_TURN_S, rel=0.2)
    asked.clock.due.pop()()
    assert len(asked.at_s) > 1.5 * served
    asked.inputs = 0
    asked.finish()


def test_asking_goes_on_when_the_event_loop_has_had_its_turn():
    limit_s = 5 * LONGEST_PAUSE_S
    asked = Asked(limit_s, inputs=1)
    turns = 0
    while asked.clock.due:
        asked.clock.due.pop()()
        turns += 1
    assert limit_s <= asked.finish() < 1.2 * limit_s
    assert 3 <= turns <= 6


def test_a_bug_in_what_is_served_does_not_end_the_asking():
    asked = Asked(LIMIT_S, inputs=1)
    while asked.clock.due:
        asked.clock.due.pop()()

    def fail() -> None:
        asked.ends.near.recv(100)
        raise ValueError

    asked.poller._watched[asked.ends.near.fileno()] = fail
    asked.ends.far.send(b"a")
    with pytest.raises(ValueError):
        asked.clock.readers[0]()
    asked.poller._watched[asked.ends.near.fileno()] = asked.ends.ready
    asked.ends.far.send(b"a")
    asked.clock.readers[0]()
    assert asked.clock.due or asked.clock.now - asked.at_s[-1] >= LIMIT_S
    asked.finish()


async def test_those_who_have_logged_in_do_not_wait_for_a_crowd_that_logs_in(bench: Bench):
    lobby, order = Lobby(bench.loop), list[str]()
    crowd = [Ends(lobby, lambda: order.append("newcomer")) for _ in range(20 * MOST_GREETED)]
    member = bench.ends(lambda: order.append("member"))
    for ends in crowd:
        ends.far.send(b"x")
    for number in range(1, 5):
        before = len(order)
        member.far.send(b"x")
        while order.count("member") < number:
            await bench.turns(1)
        assert len(order) - before <= 2 * MOST_GREETED + 1
    await bench.turns(30)
    assert order.count("newcomer") == len(crowd)
    lobby.close()
    for ends in crowd:
        ends.close()
