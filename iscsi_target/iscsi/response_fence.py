"""Response fences: a response that no other response of its session may overtake on another connection.

A session of several connections has an order of responses only as far as the initiator acknowledges them. A fenced
response goes out when it has acknowledged all that went out before, on every connection, and the responses behind it
wait until it has acknowledged the fenced one too. Pings ask it to.

Decision. The clause fences the responses of one logical unit; here those of all units wait in one queue, because a
fence is rare and lasts two round trips. Pings, text, Rejects and Asynchronous Messages never wait.
"""

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial

from iscsi_target.iscsi.connection import Connection, Departure
from iscsi_target.wire.serial import before

Step = Callable[[], None]


class ResponseFence:
    """Keeps the order of the responses of one session.

    connections    of the session, by CID; whoever owns them changes them and tells of those that are lost
    ping           asks the initiator for a sign of life on a connection, which acknowledges what it has
    Source: RFC7143 4.2.2.3.3

    stands         True when responses have to wait
    """

    def __init__(self, connections: Mapping[int, Connection], ping: Callable[[Connection], None]) -> None:
        self.stands = False
        self._connections = connections
        self._ping = ping
        self._steps: deque[Step] = deque()  # at most one for each open task, and three for each fenced response
        self._awaited: dict[Connection, int] = {}  # the ExpStatSN that lets the next step be taken

    def put(self, connection: Connection, send: Step, *, fenced: bool) -> None:
        """Has a response sent after those before it.

        connection   that it goes out on
        send         sends it, unless it has become pointless
        fenced       True lets it stand behind all that went before, and before all that follows
        """
        if fenced and len(self._connections) > 1:
            self._steps += (self._await_all, send, partial(self._await, connection))
        else:
            self._steps.append(send)
        self._go_on()

    def acknowledge(self, connection: Connection, exp_stat_sn: int) -> None:
        """Takes in ExpStatSN of a PDU of the initiator."""
        awaited = self._awaited.get(connection)
        if awaited is not None and not before(exp_stat_sn, awaited):
            self.lose(connection)

    def lose(self, connection: Connection) -> None:
        """Awaits nothing more of a connection, which may be gone."""
        if self._awaited.pop(connection, None) is not None:
            self._go_on()

    def _go_on(self) -> None:
        while self._steps and not self._awaited:
            self._steps.popleft()()
        self.stands = bool(self._awaited)

    def _await_all(self) -> None:
        for connection in self._connections.values():
            self._await(connection)

    def _await(self, connection: Connection) -> None:
        """Awaits that all is acknowledged that has gone out on a connection which still takes part."""
        is_there = self._connections.get(connection.cid) is connection
        if is_there and not isinstance(connection.phase, Departure):
            self._awaited[connection] = connection.stat_sn
            self._ping(connection)
