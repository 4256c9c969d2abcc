"""Who waits for which answer of the machine, and what nobody waits for."""

import asyncio
from collections.abc import Iterable
from math import inf
from typing import TypeVar

from iscsi_target.client.failures import Aborted, Rejected, SessionEnded
from iscsi_target.client.link import Link
from iscsi_target.client.mailbox import Mailbox
from iscsi_target.initiator.connection import Connection
from iscsi_target.initiator.events import (
    Answer,
    CommandCompleted,
    ConnectionLost,
    Event,
    LoggedIn,
    LoggedOut,
    LoginFailed,
    MessageReceived,
    PduReceived,
    PingAnswered,
    RequestRejected,
    TaskAborted,
    TaskLost,
    TaskManagementCompleted,
    TextAnswered,
)
from iscsi_target.initiator.session import Session

Ending = Answer | RequestRejected | ConnectionLost
Pending = asyncio.Future[Ending]
T = TypeVar("T", CommandCompleted, TaskManagementCompleted, PingAnswered, TextAnswered, LoggedOut)


async def answer_of(pending: Pending, kind: type[T]) -> T:
    """Returns the answer of a kind, or raises what came instead; whoever is cancelled here leaves the request open."""
    match await asyncio.shield(pending):
        case TaskAborted():
            raise Aborted("a task management function has ended the command")
        case RequestRejected(_, reason, header):
            raise Rejected(reason, header)
        case ConnectionLost(reason=reason):
            raise SessionEnded(reason)
        case TaskLost(_, reason):
            raise SessionEnded(reason)
        case answer:
            assert isinstance(answer, kind)
            return answer


Login = asyncio.Future[LoggedIn | LoginFailed]


class Channel:
    """A session of the machine and its connections.

    machine      has no connection yet
    transport    of the leading connection, connected to a portal; the login begins at once

    login        is done when the leading login is
    answers      what the target said to each key of that login
    ended        why the session is over; empty while it is not
    loss         is done while no connection is left and one may come again, with what tells that it is lost
    messages     Asynchronous Messages
    unclaimed    PDUs that answer no request
    """

    def __init__(self, machine: Session, transport: asyncio.Transport) -> None:
        self.machine = machine
        self.ended = ""
        self.answers: dict[str, str] = {}
        self.messages: Mailbox[MessageReceived] = Mailbox()
        self.unclaimed: Mailbox[PduReceived] = Mailbox()
        self.loss: Pending = asyncio.get_running_loop().create_future()
        self._answers: dict[int, Pending] = {}
        self._links: dict[int, Link] = {}
        self._logins: dict[int, Login] = {}
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None
        self.login = self.join(transport, 0)
        self.connection = machine.connections[0]

    def join(self, transport: asyncio.Transport, cid: int) -> Login:
        """Begins a login on a transport; returns what is done when it is."""
        connection = self.machine.connect(cid)
        login: Login = asyncio.get_running_loop().create_future()
        self._logins[cid] = login
        link = self._links[cid] = Link(transport, connection, self._deliver)
        transport.set_protocol(link)
        link.flush()
        return login

    def choose(self, cid: int | None) -> Connection:
        """Returns the connection that a request is to go out on: one by name, or each in its turn.

        raises    SessionEnded when there is none
        """
        self.check()
        there = self.machine.logged_in or self.machine.reassignment.connections
        if cid is not None:
            there = [connection for connection in there if connection.cid == cid]
        if not there:
            raise SessionEnded("there is no such connection")
        self._turn += 1
        return there[self._turn % len(there)]

    async def ready(self, connection: Connection | None = None) -> None:
        """Returns when a request may be made: there is room for what it sends; raises SessionEnded."""
        link = self._links.get((connection or self.connection).cid)
        if link is not None:
            await link.drain()
        self.check()

    def check(self) -> None:
        """Raises SessionEnded when no request can be made any more."""
        if self.ended or self.machine.leaving:
            raise SessionEnded(self.ended or "the session is logging out")

    def expect(self, tag: int) -> Pending:
        """Sends what is queued, and returns what the answer to a request will be in."""
        pending: Pending = asyncio.get_running_loop().create_future()
        self._answers[tag] = pending
        self.flush()
        return pending

    def settle(self, answer: Ending, tag: int) -> None:
        """Gives whoever waits for a request its answer."""
        pending = self._answers.pop(tag, None)
        if pending is not None and not pending.done():
            pending.set_result(answer)

    def flush(self) -> None:
        """Sends what is queued, on every connection: an answer on one may let requests out on others."""
        for link in list(self._links.values()):
            link.flush()
        self._watch()

    def _watch(self) -> None:
        """Calls the machine when time has passed that it waits for."""
        deadline = self.machine.deadline()
        if deadline == inf or self.ended:
            return
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= max(deadline, loop.time()):
                return
            self._timer.cancel()
        self._timer = loop.call_at(max(deadline, loop.time()), self._elapse)

    def _elapse(self) -> None:
        self._timer = None
        self._deliver(self.machine.elapsed(asyncio.get_running_loop().time()))

    async def close(self) -> None:
        """Ends the connections that are not at their end, and returns when they are."""
        for link in self._links.values():
            link.close()
        await self.closed()

    async def closed(self) -> None:
        """Returns when all connections are at their end."""
        for link in list(self._links.values()):
            await link.closed.wait()

    async def left(self, cid: int) -> None:
        """Returns when a connection is at its end."""
        await self._links[cid].closed.wait()

    def drop(self, cid: int) -> None:
        """Ends a connection at once."""
        self._links[cid].close()

    def _deliver(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case LoggedIn() | LoginFailed():
                    login = self._logins.pop(event.cid, None)
                    if isinstance(event, LoggedIn):
                        self.answers = self.answers or event.answers
                        if self.loss.done():
                            self.loss = asyncio.get_running_loop().create_future()
                    if login is not None and not login.done():
                        login.set_result(event)
                case MessageReceived():
                    self.messages.put(event)
                case PduReceived():
                    self.unclaimed.put(event)
                case ConnectionLost():
                    for tag in event.tags:
                        self.settle(event, tag)
                case _:
                    self.settle(event, event.tag)
            if isinstance(event, LoginFailed | ConnectionLost | TaskLost) and not self.machine.connections:
                self._lose(event)
        self.flush()

    def _lose(self, event: LoginFailed | ConnectionLost | TaskLost) -> None:
        """Ends the session with its last connection, unless that may come again."""
        if not self.machine.reassignment:
            self._end(event.reason)
        elif isinstance(event, ConnectionLost) and not self.loss.done():
            self.loss.set_result(event)

    def _end(self, reason: str) -> None:
        self.ended = reason
        if self._timer is not None:
            self._timer.cancel()
        self.messages.close(reason)
        self.unclaimed.close(reason)
