"""Runs an iSNS server on sockets: the asyncio driver of `NameServer`.

Clients come by TCP and by UDP. Whoever sends faster than he is answered, or does not read answers, waits or is cut; the
connection that has been silent for longest goes when there are too many.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final, assert_never

import asyncio_dgram

from iscsi_target.config.address import Address
from iscsi_target.config.values import ConfigError
from iscsi_target.discovery.isns.delivery import deliver
from iscsi_target.discovery.isns.name_server import Action, NameServer, Note, Notify, Probe, Reply
from iscsi_target.discovery.isns.pdu import FramingError, Message, MessageReader, pack, unpack_datagram
from iscsi_target.discovery.isns.registering import Terms
from iscsi_target.discovery.isns.schedule import NEVER
from iscsi_target.server.listener import bind
from iscsi_target.server.transport import address_of

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 512
MAX_CONNECTIONS_PER_PEER: Final = 64
MAX_REQUEST_BYTES: Final = 1 << 20
MAX_WAITING_REQUESTS: Final = 64  # of a connection; past it, it is not read
UNREAD_BYTES: Final = 4 << 20  # of answers; a client that leaves more unread is cut
MAX_DELIVERIES: Final = 64  # at one time
MAX_WAITING_DELIVERIES: Final = 4096  # past it, notifications and inquiries are dropped
MAX_DATAGRAM_BYTES: Final = 1400  # of an answer by UDP, whose sender may be forged; who wants more comes by TCP


class Service:
    """An iSNS server at one address, inside `async with`.

    address    where it listens, by TCP and UDP; port 0 takes a free port, which `address` is afterwards
    raises     ConfigError on entering when it cannot listen there
    """

    def __init__(self, address: Address, terms: Terms) -> None:
        self.address = address
        self._loop = asyncio.get_running_loop()
        self._machine = NameServer(terms, time.time() - self._loop.time())
        self._tasks = asyncio.TaskGroup()
        self._places = asyncio.Semaphore(MAX_DELIVERIES)
        self._deliveries: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.connections: dict[_Connection, None] = {}  # the one that has been silent for longest first
        self.peers: Counter[str] = Counter()

    async def __aenter__(self) -> "Service":
        await self._listen()
        await self._tasks.__aenter__()
        self._reading = self._tasks.create_task(self._read())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._server.close()
        self._reading.cancel()
        self._datagrams.close()
        for delivery in self._deliveries:
            delivery.cancel()
        for connection in tuple(self.connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def _listen(self) -> None:
        listening = await bind(self.address)
        self.address = address_of(listening.getsockname())
        try:
            self._datagrams = await asyncio_dgram.bind(tuple(self.address))
        except OSError as error:
            listening.close()
            remedy = "choose another address with --listen, or stop what listens there"
            raise ConfigError(
                f"{self.address} by UDP", (error.strerror or str(error)).lower(), remedy=remedy
            ) from error
        self._server = await self._loop.create_server(lambda: _Connection(self), sock=listening)

    async def _read(self) -> None:
        """Answers requests that come as datagrams."""
        while True:
            try:
                datagram, sender = await self._datagrams.recv()
                answer = self._answered(datagram)
                if 0 < len(answer) <= MAX_DATAGRAM_BYTES:
                    await self._datagrams.send(answer, sender)
            except asyncio_dgram.TransportClosed:
                log.error("%s by UDP is lost: restart the server", self.address)
                return
            except OSError as error:
                log.debug("an answer did not arrive: %s", error)
            except Exception:
                log.exception("internal error; a datagram is not answered")

    def _answered(self, datagram: bytes) -> bytes:
        try:
            message = unpack_datagram(datagram)
        except FramingError:
            return b""
        return self.request(message, "a datagram")

    # The machine

    def request(self, message: Message, peer: str) -> bytes:
        """Returns the answer to a request as bytes, and does what else comes of it."""
        answers: list[bytes] = []
        for action in self._machine.received(message, self._loop.time()):
            if isinstance(action, Reply):
                answers.append(pack(action.message, from_server=True))
                if action.refusal:
                    log.debug("request %#06x of %s refused: %s", message.function_id, peer, action.refusal)
            else:
                self._execute([action])
        self._set_timer()
        return b"".join(answers)

    def _execute(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Notify() | Probe():
                    self._deliver(action)
                case Note(text):
                    log.info("%s", text)
                case Reply():
                    raise AssertionError("only requests are answered")
                case _:
                    assert_never(action)

    def _input(self, call: Callable[[], list[Action]]) -> None:
        try:
            self._execute(call())
        except Exception:
            log.exception("internal error; what time has come for is passed over")
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._machine.deadline() < NEVER:
            self._timer = self._loop.call_at(self._machine.deadline(), self._elapsed)

    def _elapsed(self) -> None:
        self._input(lambda: self._machine.elapsed(self._loop.time()))

    def _deliver(self, action: Notify | Probe) -> None:
        if len(self._deliveries) >= MAX_WAITING_DELIVERIES:
            log.warning("%d deliveries wait; one more is dropped", MAX_WAITING_DELIVERIES)
            return
        delivery = self._tasks.create_task(self._notify(action) if isinstance(action, Notify) else self._probe(action))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)

    async def _notify(self, action: Notify) -> None:
        async with self._places:
            for place in action.places:
                if await deliver(action.message, place):
                    return
        log.debug("a notification reached nobody at %s", action.places)

    async def _probe(self, action: Probe) -> None:
        async with self._places:
            answered = await deliver(action.message, action.place)
        self._input(lambda: self._machine.probed(action.portal, answered=answered, now=self._loop.time()))


class _Connection(asyncio.Protocol):
    """A client's connection; its requests are answered one a turn of the event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._reader = MessageReader(MAX_REQUEST_BYTES)
        self._requests: deque[Message] = deque()
        self._transport: asyncio.Transport | None = None
        self._peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=UNREAD_BYTES)
        self._peer = str(transport.get_extra_info("peername")[0])
        self._service.peers[self._peer] += 1
        self._service.connections[self] = None
        if self._service.peers[self._peer] > MAX_CONNECTIONS_PER_PEER:
            self.abort()
        elif len(self._service.connections) > MAX_CONNECTIONS:
            next(iter(self._service.connections)).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._requests.clear()
        del self._service.connections[self]
        self._service.peers[self._peer] -= 1
        if not self._service.peers[self._peer]:
            del self._service.peers[self._peer]

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._service.connections[self] = self._service.connections.pop(self)
        idle = not self._requests
        try:
            self._requests.extend(self._reader.feed(data))
        except FramingError as error:
            log.debug("%s sends %s", self._peer, error)
            self.abort()
            return
        if len(self._requests) > MAX_WAITING_REQUESTS:
            self._transport.pause_reading()
        if idle and self._requests:
            self._answer()

    def _answer(self) -> None:
        if not self._requests or self._transport is None or self._transport.is_closing():
            return
        try:
            self._transport.write(self._service.request(self._requests.popleft(), self._peer))
        except Exception:
            log.exception("internal error; the connection of %s is closed", self._peer)
            self.abort()
            return
        if self._requests:
            asyncio.get_running_loop().call_soon(self._answer)
        else:
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self.abort()

    def abort(self) -> None:
        """Cuts the connection."""
        assert self._transport is not None
        self._transport.abort()
