"""Moves the bytes of one TCP connection between the kernel and whoever owns the connection, and nothing more.

It reads straight into a buffer that all connections of a server share, and writes straight from the buffers of the
machine with one gathering call, because a stream abstraction would copy both ways. What the kernel does not take at
once waits uncopied. A peer that does not read is first no longer read from, and then cut, so that it costs a bounded
amount of memory for a bounded time. Knows no PDU.

Between two ends on one machine there is nothing to be congested. There the plainest congestion control is chosen, which
every Linux has: one that paces what it sends by a timer, as BBR does, makes large reads 40 % slower.
"""

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address
from itertools import islice
from typing import Protocol

from iscsi_target.config.address import Address
from iscsi_target.scsi.operations import Buffer
from iscsi_target.server.poller import Watcher

RECEIVE_BUFFER_BYTES = 256 * 1024  # of one read; bounds what one connection does before the next has its turn
BEYOND_BYTES = 4096  # read after a place: the header that comes next, and some small commands
HIGH_WATER_BYTES = 1 << 20  # unsent output above which a connection is not read
LOW_WATER_BYTES = 256 * 1024  # unsent output below which it is read again
SEND_STALL_S = 60.0  # a peer that takes no byte of waiting output for this long is cut
LINGER_S = 2.0  # how long a closed connection may still take output and is drained, so that no reset eats the output
BUFFERS_PER_SEND = min(os.sysconf("SC_IOV_MAX"), 1024)  # the kernel's limit of a gathering write


def address_of(name: object) -> Address:
    """Returns what getsockname or getpeername gave as an address; an IPv4 address mapped into IPv6 comes back as IPv4.

    raises    ValueError when the socket is not of an internet family
    """
    match name:
        case (str(host), int(port), *_):
            if ":" not in host:
                return Address(host, port)
            plain = IPv6Address(host.partition("%")[0])
            return Address(str(plain.ipv4_mapped or plain), port)
    raise ValueError(f"not an internet address: {name!r}")


class Owner(Protocol):
    """Who is told what happens on a channel; every method returns at once."""

    def channel_received(self, number: int, received: Sequence[memoryview]) -> None:
        """Bytes have come; the views, but that of a place, are valid during the call only."""

    def channel_sent(self, number: int, sent: Iterable[Buffer]) -> None:
        """The kernel has taken these bytes."""

    def channel_lost(self, number: int, reason: str) -> None:
        """The peer has closed, or the connection failed; the channel is closed and nothing follows."""

    def channel_closed(self, number: int) -> None:
        """What `close` asked for is done."""

    def channel_congested(self, number: int) -> None:
        """More output waits than HIGH_WATER_BYTES; called from within `send`."""

    def channel_relieved(self, number: int) -> None:
        """After channel_congested, no more output waits than LOW_WATER_BYTES."""


class Channel:
    """One accepted TCP connection on an event loop.

    number     names the connection towards the owner
    buffer     where input is read to; may be shared, as it is free again when channel_received returns
    watcher    tells when there is input
    """

    def __init__(
        self, number: int, connected: socket.socket, buffer: memoryview, watcher: Watcher, owner: Owner
    ) -> None:
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = number
        self.local = address_of(connected.getsockname())
        self.peer = address_of(connected.getpeername())
        if self.peer.host == self.local.host:
            with contextlib.suppress(OSError):  # whoever sets up the machine may forbid it
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        self._socket = connected
        self._descriptor = connected.fileno()  # asyncio looks it up quicker than a socket
        self._buffer = buffer
        self._watcher = watcher
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._place: memoryview | None = None  # where the next input goes, before `buffer`
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._progress_at = 0.0
        self._stall_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._reading = False
        self._held = False
        self._congested = False
        self._reads = self._writes = True  # as `let_flow` has it
        self._ending = False  # close() was called; output still goes out, input is thrown away
        self._open = True

    @property
    def unsent_bytes(self) -> int:
        """How much output the kernel has not taken yet."""
        return self._unsent_bytes

    @property
    def has_input(self) -> bool:
        """True when something has come that is not read yet, or the end."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            pass  # which the next read finds, too
        return True

    def start(self) -> None:
        """Begins to read."""
        self._resume()

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Sends the buffers in order, now as far as the kernel takes them, the rest when it can.

        buffers   of bytes; must not change afterwards
        A failure is reported by channel_lost later, never from within this call.
        """
        if self._ending or not self._open:
            return
        idle = not self._unsent and self._writes
        taken = self._hand_over(buffers) if idle else 0
        if taken and taken == sum(map(len, buffers)):
            self._owner.channel_sent(self.number, buffers)
            return
        for buffer in buffers:
            if len(buffer):
                self._unsent.append(memoryview(buffer))
                self._unsent_bytes += len(buffer)
        if idle:
            if taken:
                self._dismiss(taken)
            self._flush()
            if self._unsent:
                self._await_writable()
        elif not self._writes:
            self._watch_progress()
        if self._unsent_bytes > HIGH_WATER_BYTES and not self._congested:
            self._congested = True
            self._pause()
            self._owner.channel_congested(self.number)

    def close(self) -> None:
        """Ends the connection after its waiting output has gone out, for which it has LINGER_S; then channel_closed."""
        if self._ending or not self._open:
            return
        self._ending = True
        self._held = False
        self._linger_timer = self._loop.call_later(LINGER_S, self._end)
        self._resume()
        if not self._unsent:
            self._finish_output()

    def abort(self) -> None:
        """Ends the connection at once, whatever waits; the owner is not told."""
        if not self._open:
            return
        if self._reading:
            self._watcher.forget(self._descriptor)
        self._open = self._reading = False
        for timer in (self._stall_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        self._loop.remove_writer(self._descriptor)
        self._unsent.clear()
        self._unsent_bytes = 0
        self._socket.close()

    # Input

    def move(self, watcher: Watcher) -> None:
        """Has another one tell when there is input from now on."""
        if self._reading:
            self._watcher.forget(self._descriptor)
            watcher.watch(self._descriptor, self._readable)
        self._watcher = watcher

    def _resume(self) -> None:
        if not self._reading and not self._held and self._open and (self._reads or self._ending):
            self._reading = True
            self._watcher.watch(self._descriptor, self._readable)

    def hold(self) -> None:
        """Stops reading until `release`."""
        self._held = not self._ending
        self._pause()

    def release(self) -> None:
        """Reads again, unless too much output waits."""
        self._held = False
        if not self._congested:
            self._resume()

    def let_flow(self, *, reads: bool, writes: bool) -> None:
        """Says whether input is read and output goes out from now on; at first both are so.

        Output that waits too long for that ends the connection, as if the peer did not take it.
        """
        self._reads = reads
        if not reads:
            self._pause()
        elif not self._congested:
            self._resume()
        if writes and not self._writes:
            self._writes = True
            self._go_on_writing()
        elif not writes:
            self._writes = False
            self._loop.remove_writer(self._descriptor)

    def _pause(self) -> None:
        if self._reading and not self._ending:
            self._reading = False
            self._watcher.forget(self._descriptor)

    def fill(self, place: memoryview) -> None:
        """Has the next input put there, and only a little beyond it, which would have to be moved, where other goes."""
        self._place = place[:RECEIVE_BUFFER_BYTES]

    def _readable(self) -> None:
        place = self._place
        try:
            if place is None:
                length = self._socket.recv_into(self._buffer)
            else:
                length = self._socket.recvmsg_into([place, self._buffer[:BEYOND_BYTES]])[0]
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(error.strerror or str(error))
            return
        self._place = None
        if length == 0:
            self._lost("closed by the peer")
        elif self._ending:
            pass
        elif place is None:
            self._owner.channel_received(self.number, (self._buffer[:length],))
        elif length <= len(place):
            self._owner.channel_received(self.number, (place[:length],))
        else:
            self._owner.channel_received(self.number, (place, self._buffer[: length - len(place)]))

    # Output

    def _hand_over(self, buffers: Sequence[Buffer]) -> int:
        """Gives the kernel the first of some buffers and returns how many bytes it took."""
        try:
            return self._socket.sendmsg(buffers[:BUFFERS_PER_SEND])
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._unsent.clear()
            self._unsent_bytes = 0
            self._loop.call_soon(self._lost, error.strerror or str(error))
        return 0

    def _flush(self) -> None:
        """Hands the kernel as much as it takes of what waits."""
        while self._unsent:
            taken = self._hand_over(list(islice(self._unsent, BUFFERS_PER_SEND)))
            if not taken:
                return
            self._dismiss(taken)

    def _dismiss(self, length: int) -> None:
        """Lets the first bytes go that wait, which the kernel has."""
        sent = []
        self._unsent_bytes -= length
        while length:
            first = self._unsent.popleft()
            sent.append(first[:length])
            if length < len(first):
                self._unsent.appendleft(first[length:])
            length -= len(sent[-1])
        self._owner.channel_sent(self.number, sent)

    def _await_writable(self) -> None:
        self._loop.add_writer(self._descriptor, self._writable)
        self._progress_at = self._loop.time()
        self._watch_progress()

    def _watch_progress(self) -> None:
        if self._stall_timer is None and self._unsent:
            self._progress_at = self._loop.time()
            self._stall_timer = self._loop.call_later(SEND_STALL_S, self._check_stall)

    def _go_on_writing(self) -> None:
        """Sends what has waited for `let_flow`."""
        if self._open and self._unsent:
            self._loop.add_writer(self._descriptor, self._writable)

    def _writable(self) -> None:
        before = self._unsent_bytes
        self._flush()
        if self._unsent_bytes < before:
            self._progress_at = self._loop.time()
        if not self._unsent and self._open:
            self._loop.remove_writer(self._descriptor)
            if self._ending:
                self._finish_output()
        if self._congested and self._unsent_bytes <= LOW_WATER_BYTES and not self._ending:
            self._congested = False
            self._resume()
            self._owner.channel_relieved(self.number)

    def _check_stall(self) -> None:
        self._stall_timer = None
        if not self._unsent:
            return
        left_s = self._progress_at + SEND_STALL_S - self._loop.time()
        if left_s <= 0:
            self._lost(f"the peer read nothing for {SEND_STALL_S:.0f} s")
        else:
            self._stall_timer = self._loop.call_later(left_s, self._check_stall)

    # The end

    def _finish_output(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._end()

    def _end(self) -> None:
        if self._open:
            self.abort()
            self._owner.channel_closed(self.number)

    def _lost(self, reason: str) -> None:
        if self._ending:
            self._end()
        elif self._open:
            self.abort()
            self._owner.channel_lost(self.number, reason)
