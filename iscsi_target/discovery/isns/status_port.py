"""Where an iSNS server finds a portal: takes ESI and SCN by UDP or TCP and acknowledges them.

Only the server is listened to. What others send is dropped unread, and so is what has not the form of a message.
"""

import asyncio
import logging
from collections.abc import Callable, Container
from typing import Final, Protocol

import asyncio_dgram

from iscsi_target.discovery.isns.messages import acknowledge
from iscsi_target.discovery.isns.pdu import FramingError, Message, MessageReader, pack, unpack_datagram

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES: Final = 1 << 16
MAX_CONNECTIONS: Final = 8  # of the server, at one time; past it the oldest is closed
IDLE_S: Final = 120.0  # without a byte, a connection is closed


class Listener(Protocol):
    """Who is told what the server sends."""

    @property
    def servers(self) -> Container[str]:
        """The addresses of the server, which alone is listened to."""

    def notified(self, message: Message) -> None:
        """Takes an ESI or SCN; returns at once."""


class UdpStatusPort:
    """Takes ESI and SCN by UDP, from `open` to `close`.

    tasks    owns the task that reads
    """

    def __init__(self, listener: Listener, tasks: asyncio.TaskGroup) -> None:
        self.port = 0
        self._listener = listener
        self._tasks = tasks
        self._close: list[Callable[[], object]] = []

    async def open(self, host: str, port: int) -> None:
        """Binds; raises OSError."""
        stream = await asyncio_dgram.bind((host, port))
        self.port = stream.sockname[1]
        reading = self._tasks.create_task(self._read(stream))
        self._close = [reading.cancel, stream.close]

    def close(self) -> None:
        """Takes nothing any more."""
        for close in self._close:
            close()

    async def _read(self, stream: asyncio_dgram.aio.DatagramServer) -> None:
        while True:
            try:
                datagram, sender = await stream.recv()
                if acknowledgement := _take(self._listener, sender, datagram):
                    await stream.send(acknowledgement, sender)
            except asyncio_dgram.TransportClosed:
                log.error("the iSNS status port %d is lost: restart the server", self.port)
                return
            except OSError as error:
                log.debug("an acknowledgement did not arrive: %s", error)
            except Exception:
                log.exception("internal error; a datagram of the iSNS server is not taken")


def _take(listener: Listener, sender: object, datagram: bytes) -> bytes:
    """Returns the acknowledgement of a datagram; none when it is not taken."""
    if not isinstance(sender, tuple) or sender[0] not in listener.servers:
        return b""
    try:
        message = unpack_datagram(datagram)
    except FramingError:
        return b""
    acknowledgement = acknowledge(message)
    if acknowledgement is None:
        return b""
    listener.notified(message)
    return pack(acknowledgement)


class TcpStatusPort:
    """Takes ESI and SCN by TCP, from `open` to `close`."""

    def __init__(self, listener: Listener) -> None:
        self.port = 0
        self._listener = listener
        self._connections: list[_Connection] = []
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> None:
        """Binds; raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self._listener, self._connections), host, port)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Takes nothing any more, and closes what is open."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.abort()


class _Connection(asyncio.Protocol):
    """A connection of the server.

    others    the open ones, the oldest first
    """

    def __init__(self, listener: Listener, others: "list[_Connection]") -> None:
        self._listener = listener
        self._others = others
        self._reader = MessageReader(MAX_MESSAGE_BYTES)
        self._transport: asyncio.WriteTransport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        if transport.get_extra_info("peername")[0] not in self._listener.servers:
            transport.abort()
            return
        self._others.append(self)
        if len(self._others) > MAX_CONNECTIONS:
            self._others[0].abort()
        self._wait()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._wait()
        try:
            for message in self._reader.feed(data):
                acknowledgement = acknowledge(message)
                if acknowledgement is None:
                    self.abort()
                    return
                self._listener.notified(message)
                self._transport.write(pack(acknowledgement))
        except FramingError:
            self.abort()

    def pause_writing(self) -> None:
        self.abort()  # a server that reads no acknowledgements needs none

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self in self._others:
            self._others.remove(self)

    def abort(self) -> None:
        """Cuts the connection."""
        assert self._transport is not None
        self._transport.abort()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(IDLE_S, self.abort)
