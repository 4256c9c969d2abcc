"""Keeps the targets of this process registered with an iSNS server: the asyncio driver of `Registration`.

It finds out what only a running host knows: the addresses that names stand for, the address from which the server is
reached, which stands for a wildcard, and the ports at which ESI and SCN arrive.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, NamedTuple, assert_never

import asyncio_dgram

from iscsi_target.config.address import Address
from iscsi_target.config.values import WILDCARDS, IsnsEntry, StatusTransport
from iscsi_target.discovery.isns.description import Description, NodeEntry, PortalEntry
from iscsi_target.discovery.isns.pdu import Message, pack
from iscsi_target.discovery.isns.registration import (
    NEVER,
    Action,
    Open,
    Registration,
    Send,
    Shut,
    Tell,
    Warn,
)
from iscsi_target.discovery.isns.status_port import TcpStatusPort, UdpStatusPort

log = logging.getLogger(__name__)

END_S: Final = 2.0  # for the server to take the deregistration
PREPARE_AGAIN_S: Final = 5.0  # after an address could not be found out

StatusPort = TcpStatusPort | UdpStatusPort


class Offer(NamedTuple):
    """What is to be registered, as it is configured.

    portals    where initiators find the target, and the tag of the portal group; wildcards and names too
    """

    nodes: tuple[NodeEntry, ...]
    portals: tuple[tuple[Address, int], ...]


class Registrar:
    """Keeps an offer registered until it is closed.

    tasks    owns the tasks that open connections and look up addresses
    """

    def __init__(self, entry: IsnsEntry, tasks: asyncio.TaskGroup) -> None:
        self.entry = entry
        self.servers: frozenset[str] = frozenset()
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._machine = Registration()
        self._connection: _Connection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._status_ports: dict[str, StatusPort] = {}
        self._settled = asyncio.Event()

    def want(self, offer: Offer) -> None:
        """Registers an offer instead of what is registered."""
        if self._preparing is not None:
            self._preparing.cancel()
        self._preparing = self._tasks.create_task(self._prepare(offer))

    async def close(self) -> None:
        """Deregisters, waits END_S for the server at most, and lets go of everything."""
        if self._preparing is not None:
            self._preparing.cancel()
        self.input(self._machine.want, None)
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self._settled.wait()
        self._execute([Shut()])
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        for port in self._status_ports.values():
            port.close()
        self._status_ports.clear()

    def notified(self, message: Message) -> None:
        """Takes an ESI or SCN of the server."""
        self.input(self._machine.notified, message)

    # What is to be registered

    async def _prepare(self, offer: Offer) -> None:
        """Finds out the addresses of an offer and has the machine register it; tries until that is possible."""
        told = ""
        while True:
            try:
                description = await self._describe(offer)
            except (OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA cannot encode
                if str(error) != told:
                    told = str(error)
                    log.warning("not registered with iSNS server %s yet: %s", self.entry.server, told)
                await asyncio.sleep(PREPARE_AGAIN_S)
            else:
                self.input(self._machine.want, description)
                return

    async def _describe(self, offer: Offer) -> Description:
        found = await self._loop.getaddrinfo(*self.entry.server, type=socket.SOCK_STREAM)
        self.servers = frozenset(str(place[0]) for *_, place in found)
        portals: dict[Address, PortalEntry] = {}
        for address, tag in offer.portals:
            host = await self._host(address)
            if not host:
                log.warning("portal %s is not registered with iSNS: for want of an address; advertise one", address)
                continue
            port = await self._status_port(host)
            portals.setdefault(Address(host, address.port), PortalEntry(host, address.port, tag, port))
        return Description(
            entity=self.entry.entity or next((node.name for node in offer.nodes), ""),
            nodes=offer.nodes,
            portals=tuple(portals.values()),
            period_s=self.entry.registration_period_s,
            esi_interval_s=self.entry.esi_interval_s,
            status_by_udp=self.entry.status_transport is StatusTransport.UDP,
        )

    async def _host(self, address: Address) -> str:
        """Returns the IP address that a portal has for initiators; none when that of a wildcard is not known.

        A wildcard stands for the address from which the iSNS server is reached, if that is of its family.
        """
        if address.host not in WILDCARDS:
            found = await self._loop.getaddrinfo(*address, type=socket.SOCK_STREAM)
            return str(found[0][4][0])
        towards = await asyncio_dgram.connect(tuple(self.entry.server))
        try:
            host = str(towards.sockname[0])
            return host if (":" in host) == (":" in address.host) else ""
        finally:
            towards.close()

    async def _status_port(self, host: str) -> int:
        """Returns the port at which ESI and SCN for the portals of a host arrive; 0: at none.

        It is of all addresses where it is configured, and where the host is none of ours, but another translates it.
        """
        if self.entry.status_transport is StatusTransport.NONE:
            return 0
        wildcard = "::" if ":" in host else "0.0.0.0"
        if self.entry.status_port or wildcard in self._status_ports:
            return await self._open_status_port(wildcard)
        try:
            return await self._open_status_port(host)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            return await self._open_status_port(wildcard)

    async def _open_status_port(self, host: str) -> int:
        if host not in self._status_ports:
            udp = self.entry.status_transport is StatusTransport.UDP
            port = UdpStatusPort(self, self._tasks) if udp else TcpStatusPort(self)
            await port.open(host, self.entry.status_port)
            self._status_ports[host] = port
        return self._status_ports[host].port

    # The machine

    def input(self, call: Callable[..., list[Action]], *arguments: object) -> None:
        """Gives the machine input; the time is added as the last argument."""
        try:
            self._execute(call(*arguments, self._loop.time()))
        except Exception:
            log.exception("internal error; what came from iSNS server %s is passed over", self.entry.server)

    def _execute(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Open():
                    self._opening = self._tasks.create_task(self._open())
                case Send(message):
                    if self._connection is not None:
                        self._connection.send(message)
                case Shut():
                    self._shut()
                case Tell(text):
                    log.info("iSNS server %s %s", self.entry.server, text)
                case Warn(text):
                    log.warning("iSNS server %s %s", self.entry.server, text)
                case _:
                    assert_never(action)
        self._set_timer()
        if self._machine.settled:
            self._settled.set()
        else:
            self._settled.clear()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._machine.deadline() < NEVER:
            self._timer = self._loop.call_at(self._machine.deadline(), self.input, self._machine.elapsed)

    async def _open(self) -> None:
        try:
            _, connection = await self._loop.create_connection(lambda: _Connection(self), *self.entry.server)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA cannot encode
            self.input(self._machine.lost, f"cannot be reached: {getattr(error, 'strerror', None) or error}")
            return
        if connection.is_closed:  # before anybody could be told
            self.input(self._machine.lost, "has closed the connection")
        else:
            self._connection = connection
            self.input(self._machine.opened)

    def _shut(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def received(self, connection: "_Connection", data: bytes) -> None:
        """Takes what the server sent."""
        if connection is self._connection:
            self.input(self._machine.received, data)

    def lost(self, connection: "_Connection", reason: str) -> None:
        """Takes notice that the server closed a connection."""
        if connection is self._connection:
            self._connection = None
            self.input(self._machine.lost, reason)


class _Connection(asyncio.Protocol):
    """The connection to the server."""

    def __init__(self, registrar: Registrar) -> None:
        self._registrar = registrar
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._registrar.received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._registrar.lost(self, f"has closed the connection{f': {exc}' if exc else ''}")

    @property
    def is_closed(self) -> bool:
        """Says whether the connection has ended."""
        return self._transport is None or self._transport.is_closing()

    def send(self, message: Message) -> None:
        """Sends a message."""
        assert self._transport is not None
        self._transport.write(pack(message))

    def close(self) -> None:
        """Closes the connection; what is being sent is lost."""
        assert self._transport is not None
        self._transport.abort()
