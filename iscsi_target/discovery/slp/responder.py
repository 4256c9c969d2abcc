"""Answers SLP requests on sockets: the asyncio driver of `agent`.

Each address has a UDP socket for requests, which hears those to the multicast group of SLP too, and a TCP socket for
askers whose reply did not fit a datagram. Multicast is of IPv4 only.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Iterable
from typing import Final

import asyncio_dgram

from iscsi_target.config.address import Address
from iscsi_target.config.values import WILDCARDS, ConfigError, SlpEntry
from iscsi_target.discovery.slp.agent import MAX_DATAGRAM_BYTES, Asking, Offer, answer
from iscsi_target.discovery.slp.packets import SlpHeader
from iscsi_target.discovery.slp.services import Service
from iscsi_target.discovery.tcp_peer import Bounds, Peers, TcpPeer
from iscsi_target.server.listener import bind
from iscsi_target.server.transport import address_of

log = logging.getLogger(__name__)

GROUP: Final = "239.255.255.253"  # RFC2608 6.1
MAX_REQUEST_BYTES: Final = 8192  # by TCP
BOUNDS: Final = Bounds(connections=64, idle_s=30.0)  # at one address
UNREAD_BYTES: Final = 1 << 20  # of replies; who leaves more unread is cut


class Responder:
    """Answers for the services of a server, at the addresses of its configuration.

    tasks    owns the tasks that read
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._places: dict[Address, _Place] = {}  # by the configured address
        self.offer = Offer((), (), 1)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where requests are taken, with the port that the kernel chose for port 0."""
        return tuple(place.address for place in self._places.values())

    async def prepare(self, entry: SlpEntry) -> None:
        """Opens the addresses that are not open yet.

        raises    ConfigError when one cannot be; those that were opened are closed again
        """
        if any(self._places[each].multicast != entry.multicast for each in entry.listen if each in self._places):
            remedy = "restart it, or undo this change"
            raise ConfigError("slp.multicast", "cannot change while the server runs", remedy=remedy)
        opened: dict[Address, _Place] = {}
        try:
            for address in entry.listen:
                if address not in self._places:
                    opened[address] = _Place(self, multicast=entry.multicast)
                    await opened[address].open(address, self._tasks)
        except BaseException:
            for place in opened.values():
                place.close()
            raise
        self._places.update(opened)

    def adopt(self, entry: SlpEntry, services: Iterable[Service]) -> None:
        """Advertises these services from now on, at addresses that are prepared; closes the others."""
        self.offer = Offer(tuple(services), entry.scopes, entry.lifetime_s)
        self.keep(entry.listen)

    def keep(self, addresses: Iterable[Address]) -> None:
        """Closes all addresses but these."""
        for address in self._places.keys() - set(addresses):
            self._places.pop(address).close()

    def close(self) -> None:
        """Closes all addresses."""
        self.keep(())


class _Place:
    """An address at which requests are taken.

    multicast    whether those to the group are, too
    """

    def __init__(self, responder: Responder, *, multicast: bool) -> None:
        self.address = Address("", 0)
        self.multicast = multicast
        self._responder = responder
        self._connections: Peers = {}
        self._server: asyncio.Server | None = None
        self._reading: list[asyncio.Task[None]] = []
        self._streams: list[asyncio_dgram.aio.DatagramStream] = []

    async def open(self, address: Address, tasks: asyncio.TaskGroup) -> None:
        """Binds; raises ConfigError."""
        try:
            listening = await bind(address)
            self.address = address_of(listening.getsockname())
            loop = asyncio.get_running_loop()
            connecting = lambda: _Connection(self._responder, self._connections)  # noqa: E731  # a value
            self._server = await loop.create_server(connecting, sock=listening)
            alone = _bound(self.address.host, self.address.port)
            self._read(await asyncio_dgram.from_socket(alone), tasks, multicast=False)
        except ConfigError as error:
            raise ConfigError(f"slp.listen {address}", error.what, remedy=_remedy(address, error)) from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ConfigError(f"slp.listen {address} by UDP", reason, remedy="stop what listens there") from error
        if self.multicast and ":" not in self.address.host:
            await self._join(alone, tasks)

    async def _join(self, alone: socket.socket, tasks: asyncio.TaskGroup) -> None:
        """Has requests to the group arrive: at the socket itself if it is bound to all addresses, else at another."""
        host = self.address.host
        try:
            joining = alone if host in WILDCARDS else _bound(GROUP, self.address.port)
            membership = socket.inet_aton(GROUP) + socket.inet_aton(host)
            joining.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        except OSError as error:
            log.warning("SLP at %s hears no multicast, only requests to this host alone: %s", self.address, error)
            return
        if joining is not alone:
            self._read(await asyncio_dgram.from_socket(joining), tasks, multicast=True)

    def _read(self, stream: asyncio_dgram.aio.DatagramStream, tasks: asyncio.TaskGroup, *, multicast: bool) -> None:
        assert isinstance(stream, asyncio_dgram.aio.DatagramServer)
        self._streams.append(stream)
        self._reading.append(tasks.create_task(self._answer(stream, multicast=multicast)))

    async def _answer(self, stream: asyncio_dgram.aio.DatagramServer, *, multicast: bool) -> None:
        while True:
            try:
                datagram, asker = await stream.recv()
                asking = Asking(self._local_host(asker), multicast, MAX_DATAGRAM_BYTES)
                if reply := answer(datagram, self._responder.offer, asking):
                    await stream.send(reply, asker)
            except asyncio_dgram.TransportClosed:
                log.error("SLP at %s by UDP is lost: restart the server", self.address)
                return
            except OSError as error:
                log.debug("a reply did not arrive: %s", error)
            except Exception:
                log.exception("internal error; an SLP request is not answered")

    def _local_host(self, asker: object) -> str:
        """Returns the address at which an asker reaches us."""
        if self.address.host not in WILDCARDS or not isinstance(asker, tuple):
            return self.address.host
        with socket.socket(socket.AF_INET6 if ":" in self.address.host else socket.AF_INET, socket.SOCK_DGRAM) as way:
            way.connect(asker)  # of datagrams: it sends nothing
            return address_of(way.getsockname()).host

    def close(self) -> None:
        """Takes no more requests."""
        if self._server is not None:
            self._server.close()
        for reading in self._reading:
            reading.cancel()
        for stream in self._streams:
            stream.close()
        for connection in tuple(self._connections):
            connection.abort()


def _bound(host: str, port: int) -> socket.socket:
    """Returns a UDP socket at an address, which for the group may be shared."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        if host == GROUP:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
    except BaseException:
        bound.close()
        raise
    return bound


def _remedy(address: Address, error: ConfigError) -> str:
    if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EACCES:
        return error.remedy
    return (
        f"port {address.port} needs CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=); or write another, such as"
        f' listen = ["{Address(address.host, 4427)}"], which only askers find that are told of it'
    )


class _Connection(TcpPeer):
    """A connection of an asker.

    others    the open ones, the oldest first
    """

    def __init__(self, responder: Responder, others: Peers) -> None:
        super().__init__(others, BOUNDS)
        self._responder = responder
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.set_write_buffer_limits(high=UNREAD_BYTES)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        assert self.transport is not None
        self._received += data
        while len(self._received) >= SlpHeader.size and not self.transport.is_closing():
            length = SlpHeader.unpack(self._received).length
            if not SlpHeader.size < length <= MAX_REQUEST_BYTES:
                self.abort()
                return
            if len(self._received) < length:
                return
            message = bytes(self._received[:length])
            del self._received[:length]
            host = address_of(self.transport.get_extra_info("sockname")).host
            self.transport.write(answer(message, self._responder.offer, Asking(host)))
