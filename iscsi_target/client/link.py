"""The TCP connection under a connection of the machine: bytes in, events up; what is queued goes out."""

import asyncio
from collections.abc import Callable, Sequence

from iscsi_target.initiator.connection import Connection
from iscsi_target.initiator.events import Event

Deliver = Callable[[Sequence[Event]], None]


class Link(asyncio.Protocol):
    """Drives one connection.

    transport     connected; closed when the machine wants to, or with `close`
    connection    of the machine
    deliver       takes events, also that the connection is lost

    closed        is set when the transport is gone
    """

    def __init__(self, transport: asyncio.Transport, connection: Connection, deliver: Deliver) -> None:
        self._transport = transport
        self._connection = connection
        self._deliver = deliver
        self._writable = asyncio.Event()
        self._writable.set()
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Hands bytes to the machine and sends what it queues."""
        events = self._connection.receive(data)
        self.flush()
        self._deliver(events)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the machine that the transport is gone."""
        reason = "the connection is closed" if exc is None else str(exc) or type(exc).__name__
        events = self._connection.lose(reason)
        self._writable.set()
        self.closed.set()
        self._deliver(events)

    def pause_writing(self) -> None:
        """Lets `drain` wait, and what is queued stay with the machine: the target is slower than this side."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Lets `drain` go on, and sends what waits."""
        self._writable.set()
        self.flush()

    async def drain(self) -> None:
        """Returns when the transport has room, or is gone."""
        await self._writable.wait()

    def flush(self) -> None:
        """Sends what the machine has queued, as soon as there is room; closes after it when the machine wants to."""
        closing = self._connection.closing
        if self._transport.is_closing() or not (closing or self._writable.is_set()):
            return
        if output := self._connection.take_output():
            self._transport.writelines(output)
        if closing:
            self._transport.close()

    def close(self) -> None:
        """Ends the connection at once; what is not sent is lost."""
        self._transport.abort()
