"""Which connections a server takes, and which of those that have not logged in makes room for another.

Nobody is cut who only waits for the server: a cluster that starts may send thousands of logins at once. So beyond the
limit of those that have not logged in more wait to be accepted, until one of them has had its time and says nothing.
"""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from iscsi_target.server.descriptors import affordable_connections
from iscsi_target.target import Limits

LOGIN_GRACE_S = 1.0  # that a connection has to log in before it may be cut for another one


class Peer(Protocol):
    """The address of the other end."""

    @property
    def host(self) -> str:
        """Without the port."""


class Connected(Protocol):
    """A connection, as far as it matters here."""

    @property
    def number(self) -> int:
        """Names it."""

    @property
    def peer(self) -> Peer:
        """Where it comes from."""

    @property
    def has_input(self) -> bool:
        """True when something has come that is not read yet."""


class Admission:
    """Knows which connections are open and which of them have not logged in.

    limits   hold for connections and logins from now on; what is open stays
    clock    returns seconds
    """

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._clock = clock
        self._open: dict[int, Connected] = {}
        self._peers: Counter[str] = Counter()
        self._pending: dict[int, float] = {}  # since when each has time to log in, the longest first

    def refusal(self, host: str) -> str:
        """Returns why another connection from an address is not taken, and nothing when it is."""
        count = len(self._open)
        if count >= self.limits.connections:
            return f"{self.limits.connections} connections are open"
        if count >= affordable_connections():
            return f"{count} connections are open; for more, raise the limit of open files (LimitNOFILE, ulimit -Hn)"
        if self._peers[host] >= self.limits.connections_per_address:
            return f"{self.limits.connections_per_address} connections from this address are open"
        return ""

    @property
    def waiting(self) -> int:
        """How many have not logged in."""
        return len(self._pending)

    @property
    def full(self) -> bool:
        """True when one has to make room for another that is to log in."""
        return len(self._pending) >= self.limits.pending_logins

    def has_room(self) -> bool:
        """Returns True when another connection may log in, or would be let in for one that had its time."""
        return not self.full or self._idle() is not None

    def first_to_go(self) -> int:
        """Returns which of those that have not logged in, of which there are some, is to make room for another."""
        idle = self._idle()
        return next(iter(self._pending)) if idle is None else idle

    def _idle(self) -> int | None:
        """Returns the first that had its time and that it is not we who keep waiting."""
        now = self._clock()
        while self._pending:
            number, since = next(iter(self._pending.items()))
            if now < since + LOGIN_GRACE_S:
                break
            if not self._open[number].has_input:
                return number
            del self._pending[number]  # it goes to the end
            self._pending[number] = now
        return None

    def admit(self, connection: Connected) -> None:
        """Notes a new connection."""
        self._open[connection.number] = connection
        self._peers[connection.peer.host] += 1
        self._pending[connection.number] = self._clock()

    def settle(self, number: int) -> None:
        """Notes that a connection has logged in, or will not."""
        self._pending.pop(number, None)

    def forget(self, number: int) -> None:
        """Notes that a connection is gone."""
        self.settle(number)
        connection = self._open.pop(number, None)
        if connection is None:
            return
        self._peers[connection.peer.host] -= 1
        if not self._peers[connection.peer.host]:
            del self._peers[connection.peer.host]
