"""Speaks with the service manager that started the process: readiness, inherited sockets, watchdog.

The protocols are a datagram to a socket and two environment variables, which is less than a dependency. The environment
comes in as an argument, so that several servers in one process, and tests, do not fight over it.

Source: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3)
"""

import os
import socket
import time
from collections.abc import Mapping
from typing import NamedTuple

FIRST_INHERITED_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
MAX_INHERITED_SOCKETS = 256  # more portals than any target has; bounds a wrong LISTEN_FDS


class InheritedSocket(NamedTuple):
    """A listening socket that the service manager opened; name is its FileDescriptorName, or empty."""

    name: str
    listener: socket.socket


class Notifier:
    """Tells the service manager how the service is doing; does nothing when there is none.

    address    the value of NOTIFY_SOCKET, or empty
    """

    def __init__(self, address: str) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Notifier":
        """Returns the notifier that NOTIFY_SOCKET asks for."""
        return cls(environment.get("NOTIFY_SOCKET", ""))

    def ready(self, status: str) -> None:
        """Reports that the service serves, at start and at the end of a reload."""
        self.send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Reports that a reload begins; `ready` reports its end."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        """Reports that the service ends."""
        self.send("STOPPING=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Reports one line for `systemctl status`."""
        self.send(f"STATUS={status}")

    def alive(self) -> None:
        """Feeds the watchdog."""
        self.send("WATCHDOG=1")

    def send(self, *assignments: str) -> None:
        """Sends assignments in one datagram; a service manager that is gone or slow is no error of the service."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(assignments).encode(), self._address)
        except OSError:
            pass


def watchdog_interval_s(environment: Mapping[str, str]) -> float | None:
    """Returns how often to feed the watchdog, half of what WATCHDOG_USEC allows, or None when there is none."""
    limit = environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID", str(os.getpid()))
    if not limit.isdecimal() or int(limit) == 0 or meant != str(os.getpid()):
        return None
    return int(limit) / 2_000_000


def inherited_sockets(environment: Mapping[str, str]) -> tuple[InheritedSocket, ...]:
    """Returns the listening TCP sockets that were passed to this process; what else was passed is left alone.

    environment    LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES are read from it
    """
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return ()
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    inherited = []
    for index in range(min(int(count), MAX_INHERITED_SOCKETS)):
        listener = _adopt(FIRST_INHERITED_DESCRIPTOR + index)
        if listener is not None:
            inherited.append(InheritedSocket(names[index] if index < len(names) else "", listener))
    return tuple(inherited)


def _adopt(descriptor: int) -> socket.socket | None:
    try:
        os.set_inheritable(descriptor, False)
        listener = socket.socket(fileno=descriptor)
    except OSError:
        return None
    internet = listener.family in (socket.AF_INET, socket.AF_INET6) and listener.type == socket.SOCK_STREAM
    if not internet or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()
        return None
    listener.setblocking(False)
    return listener
