"""Accepts connections at portals. Says nothing about what happens to them, and never spins when descriptors run out.

While there is no room for more they wait in the kernel: a cluster that starts may send thousands at once.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from iscsi_target.config.address import Address
from iscsi_target.config.values import ConfigError
from iscsi_target.server.transport import address_of

log = logging.getLogger(__name__)

BACKLOG = 4096  # connections that the kernel completes before we accept them
ACCEPTS_PER_TURN = 4  # before the connections that are there already have their turn
ROOM_PAUSE_S = 0.005  # until it is asked again whether there is room
ACCEPT_PAUSE_S = 1.0  # after the process or the system ran out of descriptors or memory

Place = tuple[int, tuple[object, ...]]  # an address family, and what `bind` of its sockets takes

EXHAUSTION = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """One listening socket of a portal group.

    listening            a bound and listening socket; the listener closes it
    portal_group_tag     may be changed while it listens, for a reload that moves a portal
    inherited            may be set to True: the service manager owns the socket, and a reload leaves it
    accepted             is given each new connection and the tag
    has_room             returns False while no more are to be accepted
    """

    def __init__(
        self,
        listening: socket.socket,
        portal_group_tag: int,
        accepted: Callable[[socket.socket, int], None],
        has_room: Callable[[], bool],
    ) -> None:
        listening.setblocking(False)
        self.address = address_of(listening.getsockname())
        self.portal_group_tag = portal_group_tag
        self.inherited = False
        self._socket = listening
        self._descriptor = listening.fileno()
        self._accepted = accepted
        self._has_room = has_room
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins to accept."""
        self._pause = None
        self._loop.add_reader(self._descriptor, self._acceptable)

    def close(self) -> None:
        """Stops listening; accepted connections stay."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._descriptor)
        self._socket.close()

    def _acceptable(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if not self._has_room():
                self._rest(ROOM_PAUSE_S)
                return
            try:
                accepted, _peer = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in EXHAUSTION:
                    reason = f"{error.strerror}; raise the limit of open files (LimitNOFILE)"
                    log.error("portal %s cannot accept: %s", self.address, reason)
                    self._rest(ACCEPT_PAUSE_S)
                    return
                continue  # this one was reset before it was accepted; the next may be fine
            self._accepted(accepted, self.portal_group_tag)

    def _rest(self, pause_s: float) -> None:
        self._loop.remove_reader(self._descriptor)
        self._pause = self._loop.call_later(pause_s, self.start)


async def bind(address: Address) -> socket.socket:
    """Returns a listening socket at an address; an IPv6 socket takes no IPv4 connections.

    raises    ConfigError when the address cannot be resolved or bound
    """
    family, place = _numeric(address) or await _looked_up(address)
    listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(place)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(f"portal {address}", (error.strerror or str(error)).lower(), remedy=_remedy(error)) from error
    return listening


def _numeric(address: Address) -> Place | None:
    """Returns where an address in digits is; None for a name, and for an address with a zone."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address.host)
        except (OSError, ValueError):  # ValueError: no text that a C function takes
            continue
        return family, address
    return None


async def _looked_up(address: Address) -> Place:
    """Returns where a name is; asking for that takes a thread, and Python's tables of international names."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA cannot encode
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"portal {address}", reason, remedy="write an address of this host") from error
    family, _, _, _, place = found[0]
    return family, place


def _remedy(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "stop what listens there, or choose another port with --listen or listen ="
        case errno.EACCES:
            return "a port below 1024 needs CAP_NET_BIND_SERVICE; choose a higher one"
        case errno.EADDRNOTAVAIL:
            return "no interface of this host has the address"
    return ""
