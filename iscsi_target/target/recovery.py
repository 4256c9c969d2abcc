"""How sessions at ErrorRecoveryLevel 2 outlive their connections, and for how long.

A connection that is lost, or logged out for recovery, leaves its tasks behind. They go on, and for Time2Wait and
Time2Retain the initiator may take them to another connection; then they are aborted as at a logout, and a session that
has no connection left ends as at the loss of its nexus.
"""

from collections.abc import Callable, Mapping
from functools import partial

from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.farewell import announce_loss
from iscsi_target.iscsi.recovery import LostConnections, leave_behind
from iscsi_target.target.active import ActiveSession
from iscsi_target.target.dispatch import Dispatcher
from iscsi_target.target.link import Link

MAX_LOST = 64  # lost connections of one session: all that it may have, twice


class Recovery:
    """Keeps what lost connections have left behind.

    links        the connections that there are, by number
    end          ends a session
    """

    def __init__(self, links: Mapping[int, Link], dispatcher: Dispatcher, end: Callable[[ActiveSession], None]) -> None:
        self._links = links
        self._dispatcher = dispatcher
        self._end = end

    def lose(self, active: ActiveSession, connection: Connection) -> None:
        """Takes in that a connection is gone; one of the others, if there is any, tells the initiator.

        Source: RFC7143 7.1.4.3
        """
        self._leave(active, connection)
        if staying := active.staying:
            announce_loss(active.session, staying[0], connection)

    def log_out(self, active: ActiveSession, connection: Connection) -> None:
        """Closes a connection, if it is not gone already, so that its tasks can be taken elsewhere.

        Source: RFC7143 11.14.1
        """
        lost = _lost(active)
        if connection not in lost:
            self._leave(active, connection)
            connection.close()
        lost.log_out(connection)
        self._start(active, connection)

    def replace(self, active: ActiveSession, cid: int) -> None:
        """Logs out for recovery whatever has the CID of a connection that joins.

        Source: RFC7143 6.3.4
        """
        for connection in (_lost(active).of_cid(cid), active.session.connections.get(cid)):
            if connection is not None:
                self.log_out(active, connection)

    def forget(self, active: ActiveSession, connection: Connection) -> None:
        """Keeps nothing of a connection any longer; the tasks are for the caller to end."""
        self._dispatcher.give_up(connection)
        _lost(active).forget(connection)

    def _leave(self, active: ActiveSession, connection: Connection) -> None:
        if (link := self._links.get(connection.number)) is not None:
            link.active = None
        leave_behind(active.session, connection)
        self._start(active, connection)
        while len(_lost(active)) > MAX_LOST:
            self._expire(active, next(iter(_lost(active))))
        self._dispatcher.relieved(active)

    def _start(self, active: ActiveSession, connection: Connection) -> None:
        """Begins to wait for the initiator.

        Source: RFC7143 11.15.3, 11.15.4, 13.15, 13.16
        """
        parameters = active.session.parameters
        self._dispatcher.give_up(connection)
        seconds = parameters.default_time2wait + parameters.default_time2retain
        self._dispatcher.put_off(connection, partial(self._expire, active, connection), seconds)

    def _expire(self, active: ActiveSession, connection: Connection) -> None:
        """Ends the tasks of a connection that nobody has taken elsewhere in time, or the session with the last one.

        Source: RFC7143 7.5
        """
        self.forget(active, connection)
        if active.session.connections or len(_lost(active)):
            self._dispatcher.end_tasks(active, connection, _nothing)
        else:
            self._end(active)


def _lost(active: ActiveSession) -> LostConnections:
    assert active.session.lost is not None
    return active.session.lost


def _nothing() -> None:
    pass
