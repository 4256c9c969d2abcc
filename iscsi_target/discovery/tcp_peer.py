"""A TCP connection of somebody who asks a name service something: cut when it is idle, greedy, or one too many."""

import asyncio
from typing import NamedTuple


class Bounds(NamedTuple):
    """What the peers of one address may take.

    connections   at one time; past it the oldest is cut
    idle_s        how long one may be without a byte
    """

    connections: int
    idle_s: float


Peers = dict["TcpPeer", None]


class TcpPeer(asyncio.Protocol):
    """One connection; a subclass says what comes of the data that it receives.

    others      the open ones, the oldest first
    bounds      what all of them may take

    transport   of the connection, when there is one
    """

    def __init__(self, others: Peers, bounds: Bounds) -> None:
        self.transport: asyncio.WriteTransport | None = None
        self._others = others
        self._bounds = bounds
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the peer in, and cuts the oldest when there are too many."""
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        self._others[self] = None
        if len(self._others) > self._bounds.connections:
            next(iter(self._others)).abort()
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Notes that the peer is not idle."""
        self._wait()

    def pause_writing(self) -> None:
        """Cuts the peer: who reads no answers needs none."""
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the peer."""
        self._others.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()

    def abort(self) -> None:
        """Cuts the connection."""
        assert self.transport is not None
        self.transport.abort()

    def _wait(self) -> None:
        """Gives the peer its time anew."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._bounds.idle_s, self.abort)
