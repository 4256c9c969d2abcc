"""Lets the event loop ask again and again for input after the last, instead of sleeping; off unless configured.

To put the process to sleep and to wake it takes longer than a read that is cached. With one command at a time this is
most of what an initiator waits for. The price is a processor that is busy as long as there is a command now and
then, and which the initiator lacks if it runs on the same machine.

As long as input comes from one connection only, this connection is asked directly, as a turn of the event loop takes as
long as half a command; now and then the others have a turn. Otherwise the event loop is kept awake: it does not sleep
while a callback is due, so one is, which does nothing but say that it is due again.
"""

import asyncio
from collections.abc import Callable

LONGEST_TURN_S = 0.0005  # for which one connection is asked before the event loop has a turn


class BusyPoll:
    """Keeps an event loop awake.

    loop       the event loop
    limit_s    how long after the last input; 0 never
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_s: float) -> None:
        self._loop = loop
        self._limit_s = limit_s
        self._until = 0.0
        self._polling = False
        self._asking = False
        self._last: Callable[[], bool] | None = None

    def touched(self, ask: Callable[[], bool]) -> None:
        """Begins anew, because there was input.

        ask   looks for more input of the same connection, and says False when that makes no sense any more
        """
        if not self._limit_s:
            return
        now = self._loop.time()
        self._until = now + self._limit_s
        if ask == self._last and not self._asking:
            self._ask_on(ask, now + LONGEST_TURN_S)
        self._last = ask
        if not self._polling:
            self._polling = True
            self._loop.call_soon(self._poll)

    def _ask_on(self, ask: Callable[[], bool], end: float) -> None:
        self._asking = True
        try:
            while self._loop.time() < min(self._until, end) and ask():
                pass
        finally:
            self._asking = False

    def _poll(self) -> None:
        if self._loop.time() < self._until:
            self._loop.call_soon(self._poll)
        else:
            self._polling = False
