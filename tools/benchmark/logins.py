"""Logs in and out again and again, several at a time:   python -m tools.benchmark.logins URL [--help]

A login is what open-iscsi and libiscsi do without CHAP: a TCP connection, a security stage and an operational stage of
one exchange each, then a logout; it counts when the target has answered the logout. All requests are packed before the
clock runs. One process does several thousand logins a second, which is more than a target does.
"""

import argparse
import select
import socket
import sys
import time
from collections.abc import Sequence

from tools.benchmark.load import Figures
from tools.benchmark.process import clocks
from tools.benchmark.session import (
    BHS_BYTES,
    FINAL,
    FULL_FEATURE,
    LOGIN_RESPONSE,
    OPERATIONAL,
    SECURITY,
    Identity,
    Place,
    Session,
    SessionFailed,
    login_request,
    logout_request,
    operational_keys,
    padded,
    place_of,
    security_keys,
)

RECEIVE_BYTES = 1 << 16
POLL_S = 1.0


class Login:
    """One login after another, by one initiator; `step` is called when its socket is ready.

    place   the unit
    who     the initiator
    """

    def __init__(self, place: Place, who: Identity) -> None:
        self.ended = 0
        self._address = (place.host, place.port)
        security = login_request(who, (SECURITY, OPERATIONAL), security_keys(who, place.target), (1, 0))
        operational = login_request(who, (OPERATIONAL, FULL_FEATURE), operational_keys(who), (1, 1))
        self._requests = (security, operational, logout_request((1, 1)))
        self.begin()

    def begin(self) -> None:
        """Connects anew."""
        self._stage = 0
        self._received = b""
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket.connect(self._address)
        except BlockingIOError:
            pass

    def connected(self) -> None:
        """Sends the first request."""
        self.socket.send(self._requests[0])

    def answered(self) -> bool:
        """Takes what the target sent; True when it has logged the initiator out.

        raises    SessionFailed when the target refuses, or wants another exchange
        """
        some = self.socket.recv(RECEIVE_BYTES)
        if not some:
            raise SessionFailed("the target closed the connection")
        self._received += some
        header = self._received[:BHS_BYTES]
        if len(header) < BHS_BYTES or len(self._received) < BHS_BYTES + padded(int.from_bytes(header[5:8], "big")):
            return False
        if header[0] == LOGIN_RESPONSE and (header[36] or not header[1] & FINAL):
            raise SessionFailed(f"login refused: {header.hex()}")
        self._received = b""
        self._stage += 1
        if self._stage == len(self._requests):
            self.socket.close()
            self.ended += 1
            return True
        self.socket.send(self._requests[self._stage])
        return False


def storm(place: Place, in_flight: int, seconds: float, server_pid: int) -> Figures:
    """Keeps some logins in flight for some time.

    raises    SessionFailed
    """
    poll = select.epoll()
    logins: dict[int, Login] = {}
    for number in range(in_flight):
        _watch(poll, logins, Login(place, Identity(number + 1)))
    before, ended = clocks(server_pid), 0
    while time.perf_counter() < before.elapsed_s + seconds:
        for descriptor, events in poll.poll(POLL_S):
            login = logins[descriptor]
            if events & select.EPOLLOUT:
                login.connected()
                poll.modify(descriptor, select.EPOLLIN)
            elif login.answered():
                ended += 1
                del logins[descriptor]
                login.begin()
                _watch(poll, logins, login)
    spent = clocks(server_pid).since(before)
    for login in logins.values():
        login.socket.close()
    return Figures(ended, spent)


def _watch(poll: select.epoll, logins: dict[int, Login], login: Login) -> None:
    logins[login.socket.fileno()] = login
    poll.register(login.socket.fileno(), select.EPOLLOUT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the logins and prints their figures as a JSON object; returns the exit code: 0, or 1 when they failed."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark.logins", description="Logs in and out.")
    parser.add_argument("url")
    parser.add_argument("--in-flight", type=int, default=8, help="logins at a time")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--server", type=int, default=0, help="the target's process, to count its processor time")
    options = parser.parse_args(arguments)
    place = place_of(options.url)
    try:
        with Session(place) as session:
            session.log_out()
        print(storm(place, options.in_flight, options.seconds, options.server).as_json())
    except (SessionFailed, OSError) as failed:
        print(f"logins: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
