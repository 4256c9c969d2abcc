"""Who waits for which answer of the machine, and what nobody waits for."""

import asyncio
from collections.abc import Iterable
from typing import TypeVar

from iscsi_target.client.failures import Aborted, Rejected, SessionEnded
from iscsi_target.client.link import Link
from iscsi_target.client.mailbox import Mailbox
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
        case ConnectionLost(_, reason, _):
            raise SessionEnded(reason)
        case answer:
            assert isinstance(answer, kind)
            return answer


class Channel:
    """A session of the machine and its leading connection.

    machine      has no connection yet
    transport    connected to a portal; the login begins at once

    login        is done when the login is
    ended        why the session is over; empty while it is not
    messages     Asynchronous Messages
    unclaimed    PDUs that answer no request
    """

    def __init__(self, machine: Session, transport: asyncio.Transport) -> None:
        self.machine = machine
        self.connection = machine.connect()
        self.login: asyncio.Future[LoggedIn | LoginFailed] = asyncio.get_running_loop().create_future()
        self.ended = ""
        self.messages: Mailbox[MessageReceived] = Mailbox()
        self.unclaimed: Mailbox[PduReceived] = Mailbox()
        self._answers: dict[int, Pending] = {}
        self._link = Link(transport, self.connection, self._deliver)
        transport.set_protocol(self._link)
        self._link.flush()

    async def ready(self) -> None:
        """Returns when a request may be made: there is room for what it sends; raises SessionEnded."""
        await self._link.drain()
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
        """Sends what is queued."""
        self._link.flush()

    async def close(self) -> None:
        """Ends the connection, if it is not at its end, and returns when it is."""
        self._link.close()
        await self._link.closed.wait()

    async def closed(self) -> None:
        """Returns when the connection is at its end."""
        await self._link.closed.wait()

    def _deliver(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case LoggedIn() | LoginFailed():
                    if not self.login.done():
                        self.login.set_result(event)
                    if isinstance(event, LoginFailed):
                        self._end(event.reason)
                case MessageReceived():
                    self.messages.put(event)
                case PduReceived():
                    self.unclaimed.put(event)
                case ConnectionLost():
                    for tag in event.tags:
                        self.settle(event, tag)
                    self._end(event.reason)
                case _:
                    self.settle(event, event.tag)

    def _end(self, reason: str) -> None:
        self.ended = reason
        self.messages.close(reason)
        self.unclaimed.close(reason)
