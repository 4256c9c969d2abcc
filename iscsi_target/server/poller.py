"""Finds out which connections have input: one epoll for all of them, and one descriptor for the event loop.

The event loop makes an object and takes a turn for each descriptor that is ready, which is a third of what a batch of
four reads costs. Here it is a call.

Connections that have not logged in have an epoll of their own, of which few are served at a time. A login takes as long
as a hundred reads, and hundreds of them may come at once, when a cluster starts; those who have logged in do not wait
for them.

The poller may also ask again and again for input after the last, instead of letting the event loop sleep; off unless
configured. To put the process to sleep and to wake it takes longer than a read that is cached. With one command at a
time this is most of what an initiator waits for. The price is a processor that is busy as long as there is a command
now and then, and which the initiator lacks if it runs on the same machine.
"""

import asyncio
import select
from collections.abc import Callable

MOST_READY = 16  # connections that are served before listeners, timers and results of threads have their turn
MOST_GREETED = 2  # likewise of those that have not logged in
LONGEST_TURN_S = 0.0005  # after which no more is asked for before they have
LONGEST_PAUSE_S = 0.00002  # in which nothing comes before they have


class Watcher:
    """Calls what belongs to a descriptor when it is ready to be read, from callbacks of an event loop.

    loop   the event loop
    most   how many to serve at a time
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self._loop = loop
        self._most = most
        self._watched: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        loop.add_reader(self._epoll.fileno(), self._readable)

    def watch(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Has `ready` called whenever there is input, or an error or the end, until `forget`."""
        self._watched[descriptor] = ready
        self._epoll.register(descriptor, select.EPOLLIN)

    def forget(self, descriptor: int) -> None:
        """Watches a descriptor no more; it must still be open."""
        del self._watched[descriptor]
        self._epoll.unregister(descriptor)

    def close(self) -> None:
        """Watches nothing any more."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
        self._watched.clear()

    def _readable(self) -> None:
        self._serve()

    def _serve(self) -> int:
        """Calls what is ready, and returns how many they were."""
        if self._epoll.closed:
            return 0
        events = self._epoll.poll(0, self._most)
        for descriptor, _ in events:
            ready = self._watched.get(descriptor)
            if ready is not None:  # None when one before it has ended it
                ready()
        return len(events)


class Lobby(Watcher):
    """Watches connections that have not logged in."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, MOST_GREETED)


class Poller(Watcher):
    """Watches connections that have logged in.

    loop      the event loop
    busy_s    how long after the last input to ask for more; 0 never
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, busy_s: float = 0.0) -> None:
        super().__init__(loop, MOST_READY)
        self._busy_s = busy_s
        self._polling = False
        self._until = 0.0

    def _readable(self) -> None:
        """Serves what has input, and what else has got some meanwhile, as long as it is several connections."""
        end = self._loop.time() + LONGEST_TURN_S
        while self._serve() > 1 and self._loop.time() < end:
            pass
        if self._busy_s and not self._polling:
            self._until = self._loop.time() + self._busy_s
            self._poll()

    def _poll(self) -> None:
        """Asks until nothing has come for long enough.

        The event loop has a turn when nothing comes for a moment, since it may have the result that is waited for.
        """
        self._polling = False
        now = self._loop.time()
        end, pause = now + LONGEST_TURN_S, now + LONGEST_PAUSE_S
        while now < min(end, pause):
            if self._serve():
                self._until, pause = now + self._busy_s, now + LONGEST_PAUSE_S
            elif now >= self._until:
                return
            now = self._loop.time()
        self._polling = True  # not before, so that a bug in what is served ends no more than this turn
        self._loop.call_soon(self._poll)
