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
from iscsi_target.discovery.tcp_peer import Bounds, Peers, TcpPeer

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES: Final = 1 << 16
BOUNDS: Final = Bounds(connections=8, idle_s=120.0)  # of the server


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
        self._connections: Peers = {}
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


class _Connection(TcpPeer):
    """A connection of the server; anybody else is cut.

    others    the open ones, the oldest first
    """

    def __init__(self, listener: Listener, others: Peers) -> None:
        super().__init__(others, BOUNDS)
        self._listener = listener
        self._reader = MessageReader(MAX_MESSAGE_BYTES)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        if transport.get_extra_info("peername")[0] in self._listener.servers:
            super().connection_made(transport)
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        assert self.transport is not None
        try:
            for message in self._reader.feed(data):
                acknowledgement = acknowledge(message)
                if acknowledgement is None:
                    self.abort()
                    return
                self._listener.notified(message)
                self.transport.write(pack(acknowledgement))
        except FramingError:
            self.abort()
