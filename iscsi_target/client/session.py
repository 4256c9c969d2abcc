"""A session as a program sees it: commands, task management, pings, text, and PDUs as they are.

Every call waits for its answer and raises a `ClientError` when there will be none. How long that may take is the
caller's business: `asyncio.timeout`. A call that is cancelled leaves its request open at the target; `abort` ends a
command.

What is written is not copied, so it must stay as it is until the command is answered.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable
from functools import partial
from itertools import count
from typing import Final, NamedTuple, TypeVar

from iscsi_target.client.channel import Channel, Pending, answer_of
from iscsi_target.client.failures import CommandFailed, NotLoggedIn, SessionEnded
from iscsi_target.client.outcome import Outcome, outcome_of
from iscsi_target.client.targets import DiscoveredTarget, read_targets
from iscsi_target.initiator.command import SIMPLE, Command
from iscsi_target.initiator.connection import Connection
from iscsi_target.initiator.events import (
    CommandCompleted,
    ConnectionLost,
    LoggedIn,
    LoggedOut,
    MessageReceived,
    PduReceived,
    PingAnswered,
    TaskAborted,
    TaskManagementCompleted,
    TextAnswered,
)
from iscsi_target.initiator.faults import FaultScript, Rule
from iscsi_target.initiator.session import CLOSE_CONNECTION, Numbered
from iscsi_target.iscsi.framing import Buffer
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.parameters import Parameters
from iscsi_target.iscsi.requests import Request
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.iscsi.text import Pair
from iscsi_target.scsi.layouts.block_cdb import Read16, ReadCapacity16, SynchronizeCache16, Write16
from iscsi_target.scsi.layouts.cdb import TestUnitReady
from iscsi_target.scsi.layouts.lun import pack_lun
from iscsi_target.scsi.layouts.pages import ReadCapacity16Data
from iscsi_target.scsi.status import SenseKey
from iscsi_target.wire.layout import Layout

MAX_ATTENTIONS: Final = 64  # unit attentions for which a command of the view of a disk is sent again

MAX_CID: Final = 0xFFFF  # RFC7143 11.12.7
RETURN_PAUSE_S: Final = 0.5  # after a try in vain to have a lost connection come again

AnswerT = TypeVar("AnswerT", CommandCompleted, TaskManagementCompleted, PingAnswered, TextAnswered)
Dial = Callable[[str], Awaitable[asyncio.Transport]]
Renewal = Callable[[FaultScript], Awaitable[tuple[Channel, Dial]]]


async def nowhere(_portal: str) -> asyncio.Transport:
    """Opens no transport; for a session that can have only its one connection."""
    raise NotLoggedIn(0, "it is not known where to open another connection to")


class Capacity(NamedTuple):
    """How large a unit is."""

    blocks: int
    block_bytes: int


class Managed(NamedTuple):
    """What a task management function came to.

    response       a `ManagementResponse`; any number when the target answers with one that there is not
    information    the Additional Response Information of a query, 3 bytes
    Source: RFC7143 11.6, RFC7144 4
    """

    response: int
    information: bytes = bytes(3)


class Task:
    """A command that has been sent; `await` it for its `Outcome`.

    tag    its initiator task tag
    lun    of its unit
    """

    def __init__(self, tag: int, lun: int, answer: Callable[[], Awaitable[CommandCompleted]]) -> None:
        self.tag = tag
        self.lun = lun
        self._answer = answer

    def __await__(self) -> Generator[object, None, Outcome]:
        return self._outcome().__await__()

    async def _outcome(self) -> Outcome:
        return outcome_of(await self._answer())


class ClientSession:
    """A session that is logged in; `connect` makes it.

    channel    to the target
    lun        that `read`, `write` and the rest of the view of a disk go to
    answers    what the target said to each key of the login
    dial       opens a transport for a further connection, to a portal or to the one that the session is at
    renewal    logs in again when the session is lost; None leaves that alone

    cid        the connection that requests go out on; None lets them take turns
    """

    def __init__(
        self,
        channel: Channel,
        lun: int,
        answers: dict[str, str],
        dial: Dial = nowhere,
        renewal: Renewal | None = None,
    ) -> None:
        self._channel = channel
        self._machine = channel.machine
        self._dial = dial
        self._capacity: Capacity | None = None
        self.lun = lun
        self.answers = answers
        self.cid: int | None = None
        self._renewal = renewal
        self._renewing = asyncio.Lock()
        self._returning = asyncio.Lock()
        self._joined: dict[int, str] = {}  # the portals of further connections, by CID
        self._is_over = False

    @property
    def parameters(self) -> Parameters:
        """What is negotiated."""
        return self._machine.parameters

    @property
    def ended(self) -> str:
        """Why the session is over; empty while it is not."""
        return self._channel.ended

    @property
    def tsih(self) -> int:
        """What the target calls the session."""
        return self._machine.tsih

    # Connections

    @property
    def connections(self) -> tuple[int, ...]:
        """The CIDs of the connections that are logged in."""
        return tuple(connection.cid for connection in self._machine.logged_in)

    async def reconnect(self) -> None:
        """Logs in again after the session is lost, with all connections that it had; does nothing while it is not.

        The target ends what it still has of the session before. What was open has failed with SessionEnded and may have
        been done or not; nothing of it is sent again.

        raises    SessionEnded when it was logged out, closed or is not to be renewed; else as `connect`
        Source: RFC7143 6.3.5
        """
        async with self._renewing:
            if not self.ended:
                return
            if self._is_over or self._renewal is None:
                raise SessionEnded(self.ended)
            await self._channel.close()
            await asyncio.sleep(self.parameters.default_time2wait)
            self._channel, self._dial = await self._renewal(self._machine.faults)
            self._machine = self._channel.machine
            joined, self._joined = self._joined, {}
            for cid, portal in joined.items():
                await self.join(portal, cid)

    async def _revive(self) -> None:
        if self.ended and self._renewal is not None and not self._is_over:
            await self.reconnect()

    async def _answer_to(self, pending: Pending, kind: type[AnswerT]) -> AnswerT:
        """Waits for an answer; when the last connection is lost meanwhile and may go on, has it come again."""
        while not pending.done():
            loss = self._channel.loss
            await asyncio.wait({pending, loss}, return_when=asyncio.FIRST_COMPLETED)
            if not pending.done() and not self.ended:
                await self._come_again()
        return await answer_of(pending, kind)

    async def _come_again(self) -> None:
        """Has the connection come again that was lost last, as often as it takes while the target keeps its tasks.

        Source: RFC7143 6.3.4, 7.2.2
        """
        async with self._returning:
            await asyncio.sleep(self.parameters.default_time2wait)
            while self._channel.loss.done() and not self.ended:
                lost = self._channel.loss.result()
                assert isinstance(lost, ConnectionLost)
                try:
                    await self._connect(self._joined.get(lost.cid, ""), lost.cid)
                except (NotLoggedIn, OSError):
                    await asyncio.sleep(RETURN_PAUSE_S)

    async def _connect(self, portal: str, cid: int) -> None:
        transport = await self._dial(portal)
        if transport.is_closing():  # before anybody could be told
            raise NotLoggedIn(0, "the connection is closed")
        login = self._channel.join(transport, cid)
        try:
            answer = await asyncio.shield(login)
        except BaseException:
            self._channel.drop(cid)
            raise
        if not isinstance(answer, LoggedIn):
            raise NotLoggedIn(answer.status, answer.reason)

    async def join(self, portal: str = "", cid: int | None = None) -> int:
        """Adds a connection to the session and returns its CID.

        portal    "host[:port]"; empty means where the session is
        cid       0..65535; that of a connection that there is reinstates it; None chooses a free one
        raises    SessionEnded; NotLoggedIn, as when MaxConnections is reached; OSError when nobody answers
        Source: RFC7143 4.2.4, 6.3.4
        """
        self._channel.check()
        taken = self._machine.taken
        chosen = next(number for number in count() if number not in taken) if cid is None else cid
        if not 0 <= chosen <= MAX_CID:
            raise ValueError(f"a CID is 0 to {MAX_CID}")
        if self._machine.reassignment.is_under_way(chosen):
            raise NotLoggedIn(0, f"connection {chosen} is being logged out for recovery; it can come again after that")
        await self._connect(portal, chosen)
        self._joined[chosen] = portal
        return chosen

    async def leave(self, cid: int) -> LoggedOut:
        """Logs a connection out, asking on another one if there is one; the rest of the session goes on.

        What is open on it must be answered, or it fails with SessionEnded.

        raises    SessionEnded
        Source: RFC7143 11.14
        """
        leaving = self._channel.choose(cid)
        others = [connection for connection in self._machine.logged_in if connection is not leaving]
        asking = others[0] if others else leaving
        tag = self._machine.log_out(asking, CLOSE_CONNECTION, leaving=leaving)
        answer = await answer_of(self._channel.expect(tag), LoggedOut)
        if not answer.response:
            self._joined.pop(cid, None)
            await self._channel.left(cid)
        return answer

    # Commands

    async def command(
        self,
        lun: int,
        cdb: Layout | bytes,
        *,
        data_out: Buffer = b"",
        read_length: int = 0,
        attributes: int = SIMPLE,
    ) -> Outcome:
        """Performs a command to its end, whatever that is.

        data_out       what it writes
        read_length    for how many bytes of what it returns there is room
        attributes     the task attribute: 1 SIMPLE, 2 ORDERED, 3 HEAD OF QUEUE, 4 ACA
        A session that is lost before is renewed, if it is to be.

        raises         SessionEnded, Aborted, Rejected
        Source: RFC7143 11.3
        """
        await self._revive()
        connection = self._channel.choose(self.cid)
        await self._channel.ready(connection)
        return await self._start(
            _command(lun, cdb, data_out=data_out, read_length=read_length, attributes=attributes), lun, connection
        )

    def start(
        self,
        lun: int,
        cdb: Layout | bytes,
        *,
        data_out: Buffer = b"",
        read_length: int = 0,
        attributes: int = SIMPLE,
    ) -> Task:
        """Sends a command, as soon as the target's window allows, and does not wait; arguments as `command`."""
        command = _command(lun, cdb, data_out=data_out, read_length=read_length, attributes=attributes)
        return self._start(command, lun, self._channel.choose(self.cid))

    def _start(self, command: Command, lun: int, connection: Connection) -> Task:
        tag = self._machine.command(command, connection)
        return Task(tag, lun, partial(self._answer_to, self._channel.expect(tag), CommandCompleted))

    async def manage(self, function: TaskManagement, lun: int = 0, task: Task | None = None) -> Managed:
        """Performs a task management function.

        task      the command that ABORT TASK or QUERY TASK means
        raises    SessionEnded, Rejected
        Source: RFC7143 11.5, RFC7144 4
        """
        open_task = self._machine.requests.get(task.tag) if task else None
        connection = self._channel.choose(open_task.connection.cid if open_task else self.cid)
        tag = self._machine.manage(
            function, pack_lun(lun), connection, referenced_task_tag=task.tag if task else NO_TAG
        )
        answer = await self._answer_to(self._channel.expect(tag), TaskManagementCompleted)
        known = answer.response in set(ManagementResponse)
        return Managed(ManagementResponse(answer.response) if known else answer.response, answer.information)

    async def abort(self, task: Task) -> Managed:
        """Ends a command by ABORT TASK, or takes it back when it has not gone out.

        Whoever waits for the command gets `Aborted`, unless it was answered first.
        """
        if self._machine.withdraw(task.tag):
            self._channel.settle(TaskAborted(task.tag), task.tag)
            return Managed(ManagementResponse.FUNCTION_COMPLETE)
        return await self.manage(TaskManagement.ABORT_TASK, task.lun, task)

    # The view of a disk

    async def read(self, lba: int, blocks: int) -> bytes:
        """Reads blocks; raises CommandFailed."""
        length = blocks * (await self.capacity()).block_bytes
        outcome = await self._perform(Read16(lba=lba, transfer_length=blocks), read_length=length)
        if len(outcome.data) != length:
            raise CommandFailed("Read16", outcome, f"but {len(outcome.data)} of {length} bytes came")
        return outcome.data

    async def write(self, lba: int, data: Buffer) -> None:
        """Writes blocks; raises CommandFailed, and ValueError for a part of a block."""
        size = memoryview(data).nbytes
        blocks, rest = divmod(size, (await self.capacity()).block_bytes)
        if rest:
            raise ValueError(f"{size} bytes are no whole number of blocks")
        outcome = await self._perform(Write16(lba=lba, transfer_length=blocks), data_out=data)
        if outcome.residual.residual_count:
            raise CommandFailed("Write16", outcome, f"but {outcome.residual.residual_count} bytes were not taken")

    async def flush(self) -> None:
        """Has everything that was written put on the medium; raises CommandFailed."""
        await self._perform(SynchronizeCache16())

    async def ready(self) -> None:
        """Returns when the unit is ready and has told everything that happened to it; raises CommandFailed."""
        await self._perform(TestUnitReady())

    async def capacity(self) -> Capacity:
        """Returns how large the unit is, as it said when it was first asked; raises CommandFailed."""
        if self._capacity is None:
            size = ReadCapacity16Data.size
            outcome = await self._perform(ReadCapacity16(allocation_length=size), read_length=size)
            found = ReadCapacity16Data.unpack(outcome.data.ljust(size, b"\0"))
            if not found.block_length:
                raise CommandFailed("ReadCapacity16", outcome, "but blocks have no length")
            self._capacity = Capacity(found.returned_lba + 1, found.block_length)
        return self._capacity

    async def _perform(self, cdb: Layout, *, data_out: Buffer = b"", read_length: int = 0) -> Outcome:
        """Performs a command, again when the unit has something to tell first; raises CommandFailed."""
        attentions = 0
        while True:
            outcome = await self.command(self.lun, cdb, data_out=data_out, read_length=read_length)
            if outcome.good:
                return outcome
            if outcome.sense_key != SenseKey.UNIT_ATTENTION or attentions == MAX_ATTENTIONS:
                raise CommandFailed(type(cdb).__name__, outcome)
            attentions += 1

    # Other requests

    async def ping(self, data: bytes = b"") -> bytes:
        """Sends a NOP-Out and returns the data of the answer; raises SessionEnded, Rejected.

        Source: RFC7143 11.18
        """
        tag = self._machine.ping(data, self._channel.choose(self.cid))
        return (await self._answer_to(self._channel.expect(tag), PingAnswered)).data

    async def text(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Sends pairs of text and returns the answer; what is negotiated so holds from then on.

        raises    SessionEnded, Rejected
        Source: RFC7143 11.10
        """
        tag = self._machine.ask(pairs, self._channel.choose(self.cid))
        return (await self._answer_to(self._channel.expect(tag), TextAnswered)).pairs

    async def send_targets(self, which: str = "All") -> list[DiscoveredTarget]:
        """Asks for targets and their addresses.

        which     "All" in a discovery session; a name; or, for the session's own target, ""
        Source: RFC7143 Appendix C
        """
        return read_targets(await self.text([("SendTargets", which)]))

    async def log_out(self) -> LoggedOut | None:
        """Logs out and returns the response, when all connections are closed; None when the session is over already.

        After a response other than 0 the session goes on.

        raises    SessionEnded when the connection is lost without a response
        Source: RFC7143 11.14
        """
        answer = None
        self._is_over = True
        if not self.ended and not self._machine.leaving:
            tag = self._machine.log_out(self._channel.choose(None))
            answer = await answer_of(self._channel.expect(tag), LoggedOut)
            if self._machine.connections:
                self._is_over = False
                return answer
        await self._channel.closed()
        return answer

    async def close(self) -> None:
        """Ends the connections without a logout."""
        self._is_over = True
        await self._channel.close()

    # What comes without being asked for

    async def message(self) -> MessageReceived:
        """Returns the next Asynchronous Message; raises SessionEnded when none can come."""
        return await self._channel.messages.get()

    async def receive_raw(self) -> PduReceived:
        """Returns the next PDU that answers none of the session's own requests; raises SessionEnded."""
        return await self._channel.unclaimed.get()

    # What the standard does not allow

    def number(self, request: Numbered) -> Numbered:
        """Returns a request with the next tag, CmdSN and ExpStatSN; it must be sent, as the CmdSN is taken."""
        return self._machine.number(request)

    async def send_raw(self, header: Request, data: Buffer = b"", additional: bytes = b"") -> None:
        """Sends a PDU as it is, but for its lengths and digests; `receive_raw` has what is answered.

        additional    additional header segments
        raises        SessionEnded
        """
        connection = self._channel.choose(self.cid)
        await self._channel.ready(connection)
        connection.send_raw(header, data, additional)
        self._channel.flush()

    async def send_bytes(self, sent: bytes) -> None:
        """Sends bytes that may be anything; raises SessionEnded."""
        connection = self._channel.choose(self.cid)
        await self._channel.ready(connection)
        connection.send_bytes(sent)
        self._channel.flush()

    @property
    def faults(self) -> FaultScript:
        """What outgoing PDUs are to suffer: `pending` has the rules that have not done their work."""
        return self._machine.faults

    def inject(self, *rules: Rule) -> None:
        """Adds rules for what outgoing PDUs are to suffer."""
        for rule in rules:
            self._machine.faults.add(rule)


def _command(lun: int, cdb: Layout | bytes, *, data_out: Buffer, read_length: int, attributes: int) -> Command:
    packed = cdb if isinstance(cdb, bytes) else cdb.pack()
    return Command(pack_lun(lun), packed, data_out, read_length, attributes)
