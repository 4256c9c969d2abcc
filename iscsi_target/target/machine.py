"""The machine: bytes, completions and time in; actions out. It owns connections and sessions.

One call in, one list of actions out; nothing is kept of the bytes that came in. What a batch leaves to be sent is
gathered at its end, one `Send` a connection, `Close` after it.

How sessions begin, change and end is for `Sessions`, what commands come to for the `Dispatcher`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from iscsi_target.iscsi import events
from iscsi_target.iscsi.chap import Authentication
from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.express import answer_plain
from iscsi_target.iscsi.farewell import announce_drop, request_logout
from iscsi_target.iscsi.framing import Buffer, Incoming
from iscsi_target.iscsi.login import Endpoint, LoginPhase
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.scsi.operations import MediumError, Outcome
from iscsi_target.scsi.state.copy_managers import CopyManagers
from iscsi_target.scsi.state.task import Ticket, UnitAction
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.target.actions import (
    Action,
    Announce,
    Close,
    ConnectionTimedOut,
    Event,
    Fill,
    LoginFailed,
    Order,
    ProtocolViolated,
    Send,
    SessionSummary,
)
from iscsi_target.target.active import ActiveSession
from iscsi_target.target.alarms import Alarms
from iscsi_target.target.dispatch import Dispatcher
from iscsi_target.target.limits import DEFAULT_LIMITS, Limits
from iscsi_target.target.link import Due, Link
from iscsi_target.target.nodes import Portal, TargetNode, Timeouts
from iscsi_target.target.sessions import Sessions


class Setting(NamedTuple):
    """What a target begins with.

    nodes          the iSCSI targets
    units          the logical units, by the names that the nodes' LUNs use
    portals        portal group tag -> the portals that initiators are told of
    discovery      who may open a discovery session
    preferences    our side of every negotiation
    entropy        returns that many random bytes
    epoch_s        what makes seconds since the epoch of the time of an input
    limits         how many sessions there may be
    """

    nodes: Sequence[TargetNode]
    units: Sequence[LogicalUnit]
    portals: Mapping[int, Sequence[Portal]]
    discovery: Authentication
    preferences: Preferences
    timeouts: Timeouts
    entropy: Callable[[int], bytes]
    epoch_s: float = 0.0
    limits: Limits = DEFAULT_LIMITS


class Target:
    """The target machine.

    setting    what it begins with
    """

    def __init__(self, setting: Setting) -> None:
        self._preferences = setting.preferences
        self._timeouts = setting.timeouts
        self._entropy = setting.entropy
        self._actions: list[Action] = []
        self._dispatcher = Dispatcher(self._actions, setting.epoch_s)
        self._active = self._dispatcher.active
        self._links: dict[int, Link] = {}
        self._touched: dict[Connection, None] = {}
        self._alarms = Alarms()
        self._sessions = Sessions(self._links, self._dispatcher, self._announce, self._set_alarm, setting.limits)
        self._units: dict[str, LogicalUnit] = {}
        self._copy_managers = CopyManagers(setting.entropy)
        self._adopt(setting.nodes, setting.units, setting.portals, setting.discovery)

    def _adopt(
        self,
        nodes: Sequence[TargetNode],
        units: Sequence[LogicalUnit],
        portals: Mapping[int, Sequence[Portal]],
        discovery: Authentication,
    ) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._dispatcher.adopt(self._units.values(), units)
        self._units = {unit.name: unit for unit in units}
        self._copy_managers.adopt({unit.name: unit.device for unit in units})
        self._sessions.adopt(self._nodes, self._units, portals)
        targets = {node.name: node.login_target for node in nodes}
        self._endpoint = Endpoint(targets, discovery, self._preferences)

    # Inputs

    def connected(self, number: int, portal_group_tag: int, local_address: str, now: float) -> list[Action]:
        """Takes in a new connection.

        number          never used before
        local_address   "host:port" that the initiator connected to
        """
        assert number not in self._links
        self._dispatcher.now = now
        login = LoginPhase(self._endpoint, portal_group_tag, self._entropy)
        connection = Connection(number, portal_group_tag, local_address, login, self._touched)
        link = self._links[number] = Link(connection, self._timeouts, now)
        self._set_alarm(link)
        return self._take_actions()

    def received(self, number: int, parts: Sequence[Buffer], now: float) -> list[Action]:
        """Takes in bytes of a connection; nothing of them is kept by reference, but what was put into a `Fill`."""
        self._dispatcher.now = now
        link = self._links.get(number)
        if link is not None:
            if link.heard(now):
                self._set_alarm(link)
            for part in parts:
                self._receive(link, Incoming(part))
            if link.active is not None and link.active.session.fences:
                self._dispatcher.relieved(link.active)  # what was acknowledged may have ended tasks behind a fence
            reader = link.connection.reader
            if reader.has_part and (place := reader.place) is not None:
                self._actions.append(Fill(number, place))
        return self._take_actions()

    def disconnected(self, number: int, now: float) -> list[Action]:
        """Takes in the loss of a connection; one that the target closed itself may be reported too."""
        self._dispatcher.now = now
        self._drop(number)
        return self._take_actions()

    def congested(self, number: int) -> None:
        """Notes that more waits to be sent on a connection than its peer fetches; its commands wait from now on."""
        if number in self._links:
            self._links[number].connection.congested = True

    def sent(self, number: int, now: float) -> list[Action]:
        """Takes in that what a Send with `more` had is on its way, or waits in the driver, so that more may follow."""
        self._dispatcher.now = now
        if number in self._links and (active := self._links[number].active) is not None:
            self._dispatcher.relieved(active)
        return self._take_actions()

    def relieved(self, number: int, now: float) -> list[Action]:
        """Takes in that a congested connection has little left to send."""
        self._dispatcher.now = now
        link = self._links.get(number)
        if link is not None:
            link.connection.congested = False
            link.heard(now)
            self._set_alarm(link)
            if link.active is not None:
                self._dispatcher.relieved(link.active)
        return self._take_actions()

    def finished(self, ticket: Ticket, result: Outcome | MediumError, now: float) -> list[Action]:
        """Takes in what became of a Perform or a Persist; None for a Persist that is on stable storage."""
        self._dispatcher.now = now
        self._dispatcher.finished(ticket, result)
        return self._take_actions()

    def operate(self, number: int, order: Order, now: float) -> list[Action]:
        """Takes in an order of the operator; Operated with the number tells what came of it.

        raises    KeyError when there is no such unit
        """
        self._dispatcher.now = now
        self._dispatcher.operate(number, self._units[order.unit], order)
        return self._take_actions()

    def change(self, unit: str, change: Callable[[LogicalUnit], list[UnitAction]], now: float) -> list[Action]:
        """Lets an operator change something of a unit that is no order: its paths or its medium."""
        self._dispatcher.now = now
        self._dispatcher.execute(self._units[unit], change(self._units[unit]))
        return self._take_actions()

    def elapsed(self, now: float) -> list[Action]:
        """Takes in that time has passed: pings and cuts what is due, and lets units go on that have rested."""
        self._dispatcher.now = now
        self._dispatcher.elapsed()
        links = [self._links[number] for number in self._alarms.take(now)]
        for link in links:
            due = link.due(now)
            if due is Due.PING:
                link.ping(now)
            elif due is not Due.NOTHING:
                self._announce(ConnectionTimedOut(link.connection.number, due.value))
                if link.session is not None:
                    announce_drop(link.session, link.connection, whole=link.carries_session)
                link.connection.close()
        actions = self._take_actions()
        for link in links:
            if link.connection.number in self._links:
                self._set_alarm(link)
        return actions

    def deadline(self) -> float:
        """Returns when elapsed() must be called at the latest, or NEVER; it does no harm to call it earlier."""
        return min(self._alarms.next, self._dispatcher.deadline)

    def drain(self, now: float) -> list[Action]:
        """Asks every initiator to log out and lets no new one in; after the time limit they are cut. Units halt.

        Source: RFC7143 11.9.1
        """
        self._dispatcher.now = now
        self._sessions.drain()
        self.halt()
        for link in self._links.values():
            self._send_off(link)
        return self._take_actions()

    def halt(self) -> None:
        """Lets the units do nothing more by themselves: what goes on when they are opened again ends with its step."""
        self._dispatcher.halt(self._units.values())

    @property
    def drained(self) -> bool:
        """True when no connection is left and no task is open."""
        return not self._links and not self._active and self._dispatcher.idle

    def reconfigure(
        self,
        nodes: Sequence[TargetNode],
        units: Sequence[LogicalUnit],
        portals: Mapping[int, Sequence[Portal]],
        discovery: Authentication,
        now: float,
    ) -> list[Action]:
        """Takes other nodes and units. Sessions of nodes that are gone or offline are asked to leave; others go on.

        An initiator whose LUNs changed learns it by a unit attention on the units it keeps. A login that is under way
        is cut when who may log in where has changed, so that none completes under rules that hold no more.

        Source: SPC4r37 6.33 (REPORTED LUNS DATA HAS CHANGED)
        """
        self._dispatcher.now = now
        before = self._endpoint
        self._adopt(nodes, units, portals, discovery)
        if self._endpoint != before:
            for link in self._links.values():
                if link.session is None:
                    link.connection.close()
        for active in list(self._active.values()):
            node = self._nodes.get(active.node.name)
            if node is None or not node.serves(active.nexus.target_port.portal_group_tag):
                for connection in active.session.connections.values():
                    self._send_off(self._links[connection.number])
                if not active.session.connections:
                    self._sessions.dismiss(active)
            elif not active.ending:
                self._sessions.remap(active, node)
        return self._take_actions()

    def limit(self, limits: Limits) -> None:
        """Takes other limits for logins from now on; sessions that are open stay, though they be more."""
        self._sessions.limits = limits

    def sessions(self) -> tuple[SessionSummary, ...]:
        """Returns the sessions that are open now, normal ones first."""
        return self._sessions.summaries()

    # Connections

    def _receive(self, link: Link, incoming: Incoming) -> None:
        """Takes the commands at hand that can be answered as they come, then one PDU of any kind, and again."""
        connection = link.connection
        reader = connection.reader
        while incoming.position < incoming.end:
            if reader.has_part:
                if (whole := reader.gather(incoming)) is not None:
                    self._receive(link, whole)
                continue
            if (active := link.active) is not None and not active.ending:
                answer_plain(active.session, connection, incoming, active.answers)
            if incoming.position < incoming.end:
                for event in connection.receive(incoming):
                    self._handle(link, event)

    def _set_alarm(self, link: Link) -> None:
        """Has the clock of a connection looked at in time; needed whenever its deadline may have come closer."""
        self._alarms.set(link.connection.number, link.deadline)

    def _send_off(self, link: Link) -> None:
        """Asks the initiator behind a connection to log out, or cuts one that has no session yet."""
        if link.session is None:
            link.connection.close()
            return
        request_logout(link.connection, int(self._timeouts.logout_s))
        link.asked_to_leave(self._dispatcher.now)
        self._set_alarm(link)

    def _drop(self, number: int) -> None:
        """Forgets a connection, whose session may end with it."""
        link = self._links.pop(number, None)
        if link is not None:
            self._alarms.forget(number)
            self._sessions.lose(link)

    def _take_actions(self) -> list[Action]:
        """Returns what has gathered; sends come last, each before the close of its connection."""
        touched, dispatcher = self._touched, self._dispatcher
        while touched or dispatcher.unparking:
            if dispatcher.unparking:  # by a command that is over, or by the end of a session
                dispatcher.unpark()
                continue
            connection, _ = touched.popitem()  # one by one, so that a bug keeps no other output back
            if connection.number in self._links:
                self._flush(connection)
        actions = self._actions.copy()
        self._actions.clear()
        return actions

    def _send_queued(self, connection: Connection) -> None:
        full = connection.full
        output, remarks = connection.take_output()
        if output:
            self._actions.append(Send(connection.number, output, remarks, full))

    def _flush(self, connection: Connection) -> None:
        self._send_queued(connection)
        if connection.closing:
            self._actions.append(Close(connection.number))
            self._drop(connection.number)

    # Events

    def _handle(self, link: Link, event: events.Event) -> None:
        """Acts upon an event; a request is judged by its own connection, which need not be the one that was fed."""
        match event:
            case events.CommandReceived():
                if (active := self._at_work(event.connection)) is not None:
                    self._dispatcher.command(active, event)
            case events.LoginCompleted():
                self._sessions.admit(link)
            case events.LoginFailed(reason):
                self._announce(LoginFailed(link.connection.number, reason))
            case events.ProtocolViolated(connection, reason):
                self._announce(ProtocolViolated(connection, reason))
            case events.LogoutRequested():
                if event.connection.number in self._links:
                    self._sessions.logout(self._links[event.connection.number], event)
            case events.TaskManagementRequested():
                if (active := self._at_work(event.connection)) is not None:
                    self._dispatcher.take(active, event)
            case _:
                if (active := self._at_work(link.connection)) is not None:
                    self._dispatcher.take(active, event)

    def _at_work(self, connection: Connection) -> ActiveSession | None:
        """Returns the session of a connection, None when it has none, has left it, or the session ends."""
        link = self._links.get(connection.number)
        active = None if link is None else link.active
        return None if active is None or active.ending else active

    def _announce(self, event: Event) -> None:
        self._actions.append(Announce(event))
