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
        events = self._connection.lose(str(exc) if exc else "the connection is closed")
        self._writable.set()
        self.closed.set()
        self._deliver(events)

    def pause_writing(self) -> None:
        """Lets `drain` wait: the target is slower than this side."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Lets `drain` go on."""
        self._writable.set()

    async def drain(self) -> None:
        """Returns when the transport has room, or is gone."""
        await self._writable.wait()

    def flush(self) -> None:
        """Sends what the machine has queued, and closes after it when the machine wants to."""
        output = self._connection.take_output()
        if self._transport.is_closing():
            return
        if output:
            self._transport.writelines(output)
        if self._connection.closing:
            self._transport.close()

    def close(self) -> None:
        """Ends the connection at once; what is not sent is lost."""
        self._transport.abort()
