"""A connection with its session, and its clock: when its login, silence or farewell has lasted too long."""

from enum import Enum

from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.open_task import OpenTask
from iscsi_target.iscsi.session import Session
from iscsi_target.target.active import ActiveSession
from iscsi_target.target.alarms import NEVER
from iscsi_target.target.nodes import Timeouts


class Due(Enum):
    """What a connection's clock says is to be done."""

    NOTHING = ""
    PING = "nothing came for a while"
    CUT_LOGIN = "the login took too long"
    CUT_SILENT = "the ping was not answered"
    CUT_OWING = "the Data-Out that is owed did not come"
    CUT_LEAVING = "the initiator did not log out in time"


class Link:
    """A connection, where it belongs and what its clock needs; times are the driver's, in seconds.

    session    None until the connection is admitted
    active     the same session at work; None for a discovery session, and when the session is over
    awaited    the session whose end its login waits for, or has waited for
    """

    def __init__(self, connection: Connection, timeouts: Timeouts, now: float) -> None:
        self.connection = connection
        self.session: Session | None = None
        self.active: ActiveSession | None = None
        self.awaited: ActiveSession | None = None
        self._timeouts = timeouts
        self._cut_login_at = now + timeouts.login_s
        self._ping_at = NEVER
        self._cut_silent_at = NEVER
        self._cut_leaving_at = NEVER
        self._debts: dict[OpenTask, float] = {}  # when the Data-Out of a task must be there

    @property
    def carries_session(self) -> bool:
        """True when its session ends with it, False when it is leaving a session that goes on."""
        return self.active is None or not (self.connection in self.active.retiring or self.is_recoverable)

    @property
    def is_recoverable(self) -> bool:
        """True when its session goes on without it, though it has not been logged out.

        An initiator that was asked to leave is not waited for.

        Source: RFC7143 7.1.4.3
        """
        lost = None if self.active is None else self.active.session.lost
        return lost is not None and not lost.closing and self._cut_leaving_at == NEVER

    def admitted(self, session: Session, now: float) -> None:
        """Starts the watch over a connection in full feature phase."""
        self.session = session
        self._cut_login_at = NEVER
        self.heard(now)

    def heard(self, now: float) -> bool:
        """Notes that something came, or that the connection is read again; returns True when it answers a ping.

        Then the next ping may be due before the answer was; otherwise no time comes closer.
        """
        if self.session is None:
            return False
        pinged = self._cut_silent_at != NEVER
        self._ping_at = now + self._timeouts.nop_interval_s
        self._cut_silent_at = NEVER
        return pinged

    def ping(self, now: float) -> None:
        """Asks the initiator of an admitted connection for a sign of life."""
        assert self.session is not None
        self.session.ping(self.connection)
        self._ping_at = NEVER
        self._cut_silent_at = now + self._timeouts.nop_answer_s

    def asked_to_leave(self, now: float) -> None:
        """Notes that the initiator was asked to log out."""
        self._cut_leaving_at = min(self._cut_leaving_at, now + self._timeouts.logout_s)

    def due(self, now: float) -> Due:
        """Returns what is to be done now.

        A congested connection is not read, so what does not come on it counts against nobody; a peer that takes nothing
        is the driver's to cut.
        """
        self._watch_debts(now)
        if now >= self._cut_leaving_at:
            return Due.CUT_LEAVING
        if now >= self._cut_login_at:
            return Due.CUT_LOGIN
        if self.connection.congested:
            return Due.NOTHING
        if now >= self._owing_until:
            return Due.CUT_OWING
        if now >= self._cut_silent_at:
            return Due.CUT_SILENT
        return Due.PING if now >= self._ping_at else Due.NOTHING

    @property
    def deadline(self) -> float:
        """When `due` may next say something else."""
        if self.connection.congested:
            return min(self._cut_login_at, self._cut_leaving_at)
        return min(self._cut_login_at, self._ping_at, self._cut_silent_at, self._owing_until, self._cut_leaving_at)

    @property
    def _owing_until(self) -> float:
        return min(self._debts.values(), default=NEVER)

    def _watch_debts(self, now: float) -> None:
        """Gives each task that the initiator owes data for its time; looks as often as `due` is called."""
        debts = self.session.debts(self.connection) if self.session is not None else ()
        due = now + self._timeouts.data_out_s
        if self.connection.congested:
            self._debts = {}
        else:
            self._debts = {task: self._debts.get(task, due) for task in debts}
