"""Lets the event loop ask again and again for input after the last, instead of sleeping; off unless configured.

To put the process to sleep and to wake it takes longer than a read that is cached. With one command at a time this is
most of what an initiator waits for. The price is a processor that is busy as long as there is a command now and
then, and which the initiator lacks if it runs on the same machine.

An event loop does not sleep while a callback is due. So one is, which does nothing but say that it is due again.
"""

import asyncio


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

    def touched(self) -> None:
        """Begins anew, because there was input."""
        if not self._limit_s:
            return
        self._until = self._loop.time() + self._limit_s
        if not self._polling:
            self._polling = True
            self._loop.call_soon(self._poll)

    def _poll(self) -> None:
        if self._loop.time() < self._until:
            self._loop.call_soon(self._poll)
        else:
            self._polling = False
