"""A connection with its session, and its clock: when its login, silence or farewell has lasted too long."""

from enum import Enum

from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.session import Session
from iscsi_target.target.active import ActiveSession
from iscsi_target.target.nodes import Timeouts

NEVER = float("inf")


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
    """

    def __init__(self, connection: Connection, timeouts: Timeouts, now: float) -> None:
        self.connection = connection
        self.session: Session | None = None
        self.active: ActiveSession | None = None
        self._timeouts = timeouts
        self._cut_login_at = now + timeouts.login_s
        self._ping_at = NEVER
        self._cut_silent_at = NEVER
        self._cut_leaving_at = NEVER
        self._cut_owing_at = NEVER
        self._data_outs = 0  # how many Data-Out PDUs had come when `due` last looked

    def admitted(self, session: Session, now: float) -> None:
        """Starts the watch over a connection in full feature phase."""
        self.session = session
        self._cut_login_at = NEVER
        self.heard(now)

    def heard(self, now: float) -> None:
        """Notes that something came."""
        if self.session is not None:
            self._ping_at = now + self._timeouts.nop_interval_s
            self._cut_silent_at = NEVER

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
        """Returns what is to be done now."""
        self._watch_debt(now)
        if now >= self._cut_owing_at:
            return Due.CUT_OWING
        if now >= self._cut_leaving_at:
            return Due.CUT_LEAVING
        if now >= self._cut_login_at:
            return Due.CUT_LOGIN
        if now >= self._cut_silent_at:
            return Due.CUT_SILENT
        return Due.PING if now >= self._ping_at else Due.NOTHING

    @property
    def deadline(self) -> float:
        """When `due` may next say something else."""
        return min(self._cut_login_at, self._ping_at, self._cut_silent_at, self._cut_owing_at, self._cut_leaving_at)

    def _watch_debt(self, now: float) -> None:
        """Starts the clock when Data-Out is owed, and anew when some has come; looks as often as `due` is called."""
        if self.session is None or not self.session.awaits_data_out:
            self._cut_owing_at = NEVER
        elif self._cut_owing_at == NEVER or self.session.data_outs != self._data_outs:
            self._data_outs = self.session.data_outs
            self._cut_owing_at = now + self._timeouts.data_out_s
