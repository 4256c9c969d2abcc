"""How sessions begin, take in connections, let them go, and end: of logins that are complete, logouts and losses.

A nexus has one session at a time. A session that ends, whatever the reason, first aborts the tasks of its nexus on
every unit and waits until the last operation of them is back from the medium; only then is the nexus detached and,
where a login waited for it, the new session admitted. When several logins come for one nexus, the last one counts.

A connection that is logged out of a session that goes on is let go in the same way: its tasks are aborted, and when
the last operation of them is back, whoever waited for it has its answer. A login that names a connection of a session
replaces it like that. Of the only connection of a session this comes to the same as reinstating the session, but for
its TSIH and what was negotiated for the session, which stay; the initiator learns of it as of the loss of a nexus.

A connection that is lost without a logout ends its session with all other connections: below ErrorRecoveryLevel 2 the
tasks that were on it cannot be carried on, and only a new session tells the initiator so (RFC7143 7.1.4.4). At that
level the session goes on, see `recovery`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain

from iscsi_target.iscsi import events
from iscsi_target.iscsi.connection import Admission, Connection
from iscsi_target.iscsi.errors import LoginRefused, LoginStatus
from iscsi_target.iscsi.farewell import announce_drop
from iscsi_target.iscsi.login import Negotiated
from iscsi_target.iscsi.service_requests import LOGOUT_CID_NOT_FOUND, LOGOUT_DONE
from iscsi_target.iscsi.session import Session
from iscsi_target.iscsi.text import Pair
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.state.task import Function, ManagementRequest
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.target.actions import (
    ConnectionJoined,
    ConnectionLeft,
    ConnectionLost,
    Event,
    LoginFailed,
    SessionEnded,
    SessionStarted,
    SessionSummary,
)
from iscsi_target.target.active import ActiveSession, check_room, continued, summarise
from iscsi_target.target.dispatch import Dispatcher
from iscsi_target.target.limits import Limits
from iscsi_target.target.link import Link
from iscsi_target.target.nodes import Portal, TargetNode, send_targets
from iscsi_target.target.recovery import Recovery
from iscsi_target.target.tsihs import Tsihs


class Sessions:
    """The sessions of a target.

    links        the connections that there are, by number; whoever owns this changes it
    dispatcher   knows the normal sessions
    announce     is told what an operator may want to know
    watch        is told of a link whose clock has changed
    limits       how many there may be
    """

    def __init__(
        self,
        links: Mapping[int, Link],
        dispatcher: Dispatcher,
        announce: Callable[[Event], None],
        watch: Callable[[Link], None],
        limits: Limits,
    ) -> None:
        self._links = links
        self._dispatcher = dispatcher
        self._active = dispatcher.active
        self._announce = announce
        self._watch = watch
        self.limits = limits
        self._discoveries: dict[Session, None] = {}
        self._recovery = Recovery(links, dispatcher, self._end)
        dispatcher.dismiss = self.dismiss
        self._tsihs = Tsihs()
        self._nodes: Mapping[str, TargetNode] = {}
        self._units: Mapping[str, LogicalUnit] = {}
        self._portals: Mapping[int, Sequence[Portal]] = {}
        self._draining = False

    def adopt(
        self,
        nodes: Mapping[str, TargetNode],
        units: Mapping[str, LogicalUnit],
        portals: Mapping[int, Sequence[Portal]],
    ) -> None:
        """Takes what logins find from now on, all but the portals by name."""
        self._nodes, self._units, self._portals = nodes, units, portals

    def drain(self) -> None:
        """Lets nobody in any more, and waits for nobody who has lost all connections."""
        self._draining = True
        for active in [active for active in self._active.values() if not active.session.connections]:
            self._end(active)

    def summaries(self) -> tuple[SessionSummary, ...]:
        """Returns the sessions that are open now, normal ones first."""
        normal = [active.summary() for active in self._active.values()]
        return tuple(normal + [summarise(session, "", 0) for session in self._discoveries])

    # Beginning

    def admit(self, link: Link, replaced: Session | None = None) -> None:
        """Decides about a login that is complete on the initiator's side.

        replaced    the session that has ended for it
        Source: RFC7143 6.3.5, 6.3.4
        """
        connection = link.connection
        if connection.number not in self._links or connection.closing:
            return
        try:
            if self._draining:
                raise LoginStatus.SERVICE_UNAVAILABLE.refusal("the target is shutting down")
            admission = connection.phase
            assert isinstance(admission, Admission)
            if admission.negotiated.discovery:
                self._admit_discovery(link, admission)
            elif admission.negotiated.tsih and replaced is None:
                self._join(link, admission.negotiated)
            else:
                self._admit_normal(link, admission, replaced)
        except LoginRefused as refusal:
            self._announce(LoginFailed(connection.number, connection.refuse_admission(refusal).reason))

    def _admit_discovery(self, link: Link, admission: Admission) -> None:
        if admission.negotiated.tsih:
            raise LoginStatus.SESSION_DOES_NOT_EXIST.refusal("a discovery session has one connection")
        session = self._open(link, admission.negotiated, admission.request.cmd_sn)
        self._discoveries[session] = None

    def _admit_normal(self, link: Link, admission: Admission, replaced: Session | None) -> None:
        negotiated = admission.negotiated
        nexus = self._nexus(link, negotiated)
        if (active := self._active.get(nexus)) is not None:
            self._reinstate(active, link)
            return
        self.limits.check(self._active, len(self._active), nexus)
        if negotiated.tsih and replaced is not None:
            negotiated = continued(negotiated, replaced)
        session = self._open(link, negotiated, admission.request.cmd_sn)
        active = ActiveSession(session, nexus, self._nodes[nexus.target_port.name])
        self._active[nexus] = link.active = active
        active.attach(self._units)

    def _nexus(self, link: Link, negotiated: Negotiated) -> Nexus:
        assert negotiated.target_name is not None
        initiator_port = InitiatorPort(negotiated.initiator_name, negotiated.isid)
        name = self._nodes[negotiated.target_name].name
        return Nexus(initiator_port, TargetPort(name, link.connection.portal_group_tag))

    def _open(self, link: Link, negotiated: Negotiated, first_cmd_sn: int) -> Session:
        """Makes a session of a login and sends the final response."""
        target = negotiated.target_name or ""
        told = partial(self._send_targets, target)
        session = Session(negotiated, self._tsihs.take(negotiated.tsih), first_cmd_sn, told)
        self._take_in(link, session)
        self._announce(SessionStarted(link.connection.number, *_names(session), target=target, tsih=session.tsih))
        return session

    def _take_in(self, link: Link, session: Session) -> None:
        session.admit(link.connection)
        link.admitted(session, self._dispatcher.now)
        self._watch(link)

    def _send_targets(self, own: str, connection: Connection, value: str) -> list[Pair]:
        return send_targets(self._nodes, self._portals, connection, value or own)

    # Further connections

    def _join(self, link: Link, negotiated: Negotiated) -> None:
        """Takes a connection into the session that its login names, in the place of one of the same CID.

        Source: RFC7143 6.3.1, 6.3.4
        """
        active, cid = self._named(link, negotiated), negotiated.cid
        old = active.of_cid(cid)
        if old not in active.session.connections.values():
            check_room(active.session)
        if old not in active.retiring and active.session.lost is not None:
            self._recovery.replace(active, cid)
            old = None
        if old is None:
            self._take_in(link, active.session)
            link.active = active
            self._announce(ConnectionJoined(link.connection.number, *_whole(active)))
        elif all(connection is old for connection in active.staying):
            self._reinstate(active, link)
        else:
            old.close()
            link.awaited = active
            self._supersede(active, old)
            self._retire(active, old, link.connection, lambda: self.admit(link))

    def _supersede(self, active: ActiveSession, leaving: Connection) -> None:
        """Cuts the logins that waited for the place of a connection; a connection that goes on gets its answer."""
        waiting = active.retiring.get(leaving, {})
        for login in [each for each in waiting if each not in active.staying]:
            del waiting[login]
            login.close()

    def _named(self, link: Link, negotiated: Negotiated) -> ActiveSession:
        """Returns the session that a login names; raises LoginRefused when it is none for that connection.

        Source: RFC7143 11.13.5
        """
        nexus, tsih = self._nexus(link, negotiated), negotiated.tsih
        active = self._active.get(nexus)
        if active is not None and not active.ending and active.session.tsih == tsih:
            return active
        for other in self._active.values():
            same_port = other.nexus.initiator_port == nexus.initiator_port and other.node.name == nexus.target_port.name
            if same_port and other.session.tsih == tsih and not other.ending:
                tag = other.nexus.target_port.portal_group_tag
                raise LoginStatus.CANNOT_INCLUDE_IN_SESSION.refusal(f"session {tsih} is in portal group {tag}")
        raise LoginStatus.SESSION_DOES_NOT_EXIST.refusal(f"there is no session {tsih}")

    def _retire(
        self, active: ActiveSession, leaving: Connection, waiting: Connection, then: Callable[[], None]
    ) -> None:
        """Takes leave of a connection of a session that goes on; who waits for that goes on in the order of asking.

        Source: RFC7143 11.14.5
        """
        if leaving in active.retiring:
            active.retiring[leaving][waiting] = then
            return
        active.retiring[leaving] = {waiting: then}
        active.session.silence(leaving)
        self._dispatcher.end_tasks(active, leaving, lambda: self._retired(active, leaving))

    def _retired(self, active: ActiveSession, leaving: Connection) -> None:
        """Goes on when a connection has no task any more; the end of the session has seen to it itself."""
        waiting = active.retiring.pop(leaving, None)
        if waiting is None:
            return
        if (link := self._links.get(leaving.number)) is not None:
            link.active = None
        if leaving not in waiting:
            active.session.lose(leaving)
        self._announce(ConnectionLeft(leaving.number, *_whole(active)))
        for then in waiting.values():
            then()
        leaving.close()

    # Ending

    def dismiss(self, active: ActiveSession) -> None:
        """Ends a session with all its connections."""
        active.session.close()
        if not active.session.connections:
            self._end(active)

    def _reinstate(self, active: ActiveSession, link: Link) -> None:
        """Ends the session that a login replaces, and admits the login when all its tasks are over.

        Whoever waited for that end before, to log out or to log in, is cut.

        Source: RFC7143 6.3.4, 6.3.5
        """
        for old in [*active.session.connections.values(), *active.afterwards, *chain(*active.retiring.values())]:
            old.close()
        active.session.connections.clear()
        active.retiring.clear()
        active.afterwards = {link.connection: lambda: self.admit(link, active.session)}
        link.awaited = active
        self._end(active)

    def _end(self, active: ActiveSession) -> None:
        """Ends a session: aborts its tasks everywhere, waits for them, detaches the nexus, and then goes on."""
        if active.ending:
            return
        active.ending = True
        for lost in list(active.session.lost or ()):
            self._recovery.forget(active, lost)
        for waiting in active.retiring.values():
            active.afterwards = waiting | active.afterwards
        active.retiring.clear()
        units = [*active.leaving, *active.attached.values()]
        request = ManagementRequest(0, Function.NEXUS_LOSS, active.nexus)
        self._dispatcher.manage(units, request, lambda _: self._ended(active))

    def _ended(self, active: ActiveSession) -> None:
        active.detach()
        del self._active[active.nexus]
        self._tsihs.release(active.session.tsih)
        for connection in active.session.connections.values():
            self._links[connection.number].active = None
        initiator, isid, target, tsih = _whole(active)
        self._announce(SessionEnded(initiator, isid, target, tsih))
        for then in active.afterwards.values():
            then()

    def lose(self, link: Link) -> None:
        """Notes that a connection is gone; its session ends with it unless it was logged out."""
        if link.session is None:
            if link.awaited is not None:
                for waiting in (link.awaited.afterwards, *link.awaited.retiring.values()):
                    waiting.pop(link.connection, None)
            return
        active, session = link.active, link.session
        outlived = link.is_recoverable
        session.lose(link.connection)
        if session in self._discoveries:
            del self._discoveries[session]
            self._tsihs.release(session.tsih)
            self._announce(SessionEnded(*_names(session), target="", tsih=session.tsih))
        elif active is None or active.ending or link.connection in active.retiring:
            return
        elif outlived:
            self._recovery.lose(active, link.connection)
            self._announce(ConnectionLost(link.connection.number, *_whole(active)))
        else:
            for connection in session.connections.values():
                announce_drop(session, connection, whole=True)
            session.close()
            self._end(active)

    def logout(self, link: Link, event: events.LogoutRequested) -> None:
        """Lets an initiator go, or one of its connections; the response follows when the tasks concerned are over.

        Source: RFC7143 11.14
        """
        session, active, asking, leaving = link.session, link.active, event.connection, event.leaving
        assert session is not None
        respond = partial(session.respond_logout, asking, event.tag)
        if active is not None and leaving in active.retiring:
            respond(response=LOGOUT_CID_NOT_FOUND)
        elif active is not None and leaving is not None and event.recovers:
            respond(response=LOGOUT_DONE)
            self._recovery.log_out(active, leaving)
            self._announce(ConnectionLeft(leaving.number, *_whole(active)))
        elif active is not None and leaving is not None and any(each is not leaving for each in active.staying):
            if active.session.lost is not None:
                self._recovery.forget(active, leaving)
            self._retire(active, leaving, asking, lambda: respond(response=LOGOUT_DONE))
        else:
            self._close(session, active, asking, lambda: respond(response=LOGOUT_DONE))

    def _close(
        self, session: Session, active: ActiveSession | None, asking: Connection, respond: Callable[[], None]
    ) -> None:
        """Closes a session that has been logged out, or its only connection."""

        def close() -> None:
            for then in waited_for:
                then()
            respond()
            session.close()

        departing = () if active is None else active.retiring.values()
        waited_for = [waiting[asking] for waiting in departing if asking in waiting]
        for connection in session.connections.values():
            session.silence(connection)
        if active is None:
            close()
        else:
            active.afterwards[asking] = close
            self._end(active)

    # Other LUNs

    def remap(self, active: ActiveSession, node: TargetNode) -> None:
        """Gives a session other LUNs and takes leave of the units that it loses."""
        for unit in active.remap(node, self._units):
            self._take_leave(active, unit)

    def _take_leave(self, active: ActiveSession, unit: LogicalUnit) -> None:
        request = ManagementRequest(0, Function.NEXUS_LOSS, active.nexus)
        self._dispatcher.manage([unit], request, lambda _: self._left(active, unit))

    def _left(self, active: ActiveSession, unit: LogicalUnit) -> None:
        unit.detach(active.nexus)
        del active.leaving[unit]
        if not active.ending:
            self.remap(active, active.node)


def _names(session: Session) -> tuple[str, str]:
    return session.negotiated.initiator_name, session.negotiated.isid.hex()


def _whole(active: ActiveSession) -> tuple[str, str, str, int]:
    """Returns initiator, ISID, target and TSIH as events have them."""
    return *_names(active.session), active.node.name, active.session.tsih
