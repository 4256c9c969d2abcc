"""The machine of one session of an initiator: requests in, events out; connections with bytes in and out.

A session owns its connections, one CmdSN stream and the requests that are open. A request belongs to the connection
that it goes out on. What is not immediate waits here until the target's window has room for it.

Pings of the target are answered, R2Ts are satisfied, and what an Asynchronous Message asks for is done at once.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from iscsi_target.initiator import answers
from iscsi_target.initiator.command import Command, OpenCommand
from iscsi_target.initiator.connection import Connection, LoggingIn
from iscsi_target.initiator.events import ConnectionLost, Event, LoggedIn
from iscsi_target.initiator.faults import FaultScript
from iscsi_target.initiator.login import Identity, Login
from iscsi_target.initiator.negotiation import Negotiation
from iscsi_target.initiator.numbering import CommandNumbers
from iscsi_target.initiator.open_request import Function, Logout, Matter, OpenRequest, Ping
from iscsi_target.initiator.proof import Credentials, Proof
from iscsi_target.initiator.reassignment import Left, Reassignment
from iscsi_target.initiator.recoverable import RecoverableCommand
from iscsi_target.initiator.recovery import Recovery, acknowledge
from iscsi_target.initiator.text_request import TextConversation
from iscsi_target.iscsi import text
from iscsi_target.iscsi.framing import Buffer
from iscsi_target.iscsi.header import NO_TAG, Opcode
from iscsi_target.iscsi.parameters import Parameters, Preferences
from iscsi_target.iscsi.requests import (
    LoginRequest,
    LogoutRequest,
    NopOut,
    ScsiCommand,
    TaskManagementRequest,
    TextRequest,
)
from iscsi_target.iscsi.responses import LoginResponse, Response
from iscsi_target.iscsi.task_management import TaskManagement
from iscsi_target.iscsi.text import Pair

CLOSE_SESSION, CLOSE_CONNECTION = 0, 1  # RFC7143 11.14.1
MAX_RAW = 1024  # tags of PDUs that were sent raw, and are known as such
RECOVERY_TIMEOUT_S = 5.0  # a ping is answered at once, a command in its own time

Numbered = NopOut | ScsiCommand | TaskManagementRequest | TextRequest | LogoutRequest


@dataclass(frozen=True, slots=True)
class Settings:
    """How a session behaves.

    preferences      the initiator's own side of every negotiation
    overrides        pairs that a login offers instead, or besides
    credentials      what is proven; None offers no authentication
    first_cmd_sn     CmdSN of the first command
    obeys            whether a session logs out when the target asks it to
    timeout_s        from ErrorRecoveryLevel 1 on, how long nothing comes until what may be lost is asked for again
    Source: RFC7143 13
    """

    preferences: Preferences = field(default=Preferences())
    overrides: Mapping[str, str] = field(default_factory=dict)
    credentials: Credentials | None = None
    first_cmd_sn: int = 1
    obeys: bool = True
    timeout_s: float = RECOVERY_TIMEOUT_S


class Session:
    """The machine of one session.

    identity    who logs in to what
    settings    how
    entropy     returns so many random bytes
    faults      what its PDUs suffer

    tsih        the target's name for the session; 0 before there is one
    leaving     True when a logout has been asked for
    numbers     CmdSN and the window
    requests    what is not answered, by initiator task tag
    recovery    asks for what is lost, at ErrorRecoveryLevel 1
    reassignment    takes what was open on lost connections to others, at level 2
    Source: RFC7143 4.2
    """

    def __init__(
        self, identity: Identity, settings: Settings, entropy: Callable[[int], bytes], faults: FaultScript | None = None
    ) -> None:
        self.identity = identity
        self.settings = settings
        self.faults = faults or FaultScript()
        self.tsih = 0
        self.leaving = False
        self.numbers = CommandNumbers(settings.first_cmd_sn)
        self.connections: dict[int, Connection] = {}
        self.requests: dict[int, OpenRequest] = {}
        self._entropy = entropy
        self._negotiations: dict[int, Negotiation] = {}
        self._offers: dict[int, Negotiation] = {}  # of logins under way
        self._replaced: dict[int, Connection] = {}  # those whose CID logs in again
        self._left: Connection | None = None  # that is being closed after its logout
        self._waiting: deque[tuple[int, Numbered, Buffer, bytes]] = deque()
        self._texts: deque[int] = deque()  # one text request at a time: tags of those that wait, the first is open
        self._tags = 0
        self._raw: deque[int] = deque(maxlen=MAX_RAW)
        self._sent = 0
        self.recovery = Recovery(self, settings.timeout_s)
        self.reassignment = Reassignment(self)

    @property
    def parameters(self) -> Parameters:
        """What holds on the leading connection."""
        return next(iter(self._negotiations.values())).parameters

    @property
    def recovers(self) -> bool:
        """Says whether connections outlive what is lost on them."""
        return self.parameters.error_recovery_level > 0

    # Time

    def deadline(self) -> float:
        """Returns when `elapsed` is to be called next, in its time; infinity when nothing waits for time to pass."""
        return min(self.recovery.deadline(), self.reassignment.deadline()) if self.recovers else inf

    def elapsed(self, now: float) -> list[Event]:
        """Lets time pass, and returns what that brings about.

        now    seconds, by a clock that does not go back
        """
        return [*self.recovery.elapsed(now), *self.reassignment.elapsed(now)] if self.recovers else []

    # Login

    def connect(self, cid: int = 0) -> Connection:
        """Begins a login; returns the connection, which has its first request queued.

        After the first one has logged in, further ones join its session.

        raises    ValueError when names or overrides are no text
        """
        text.checked([*self.identity.declare(), *self.settings.overrides.items()])
        negotiation = Negotiation(
            self.settings.preferences,
            self.settings.overrides,
            discovery=self.identity.discovery,
            of_session=self.parameters if self.tsih else None,
        )
        credentials = self.settings.credentials
        proof = None if credentials is None else Proof(credentials, self._entropy)
        template = LoginRequest(isid=self.identity.isid, tsih=self.tsih, cid=cid, initiator_task_tag=self.next_tag())
        login = Login(self.identity, negotiation, proof, template)
        connection = Connection(cid, LoggingIn(login, self), self.faults.for_connection())
        self._offers[cid] = negotiation
        self._negotiations.setdefault(cid, negotiation)
        if cid in self.connections:
            self._replaced[cid] = self.connections[cid]
        self.connections[cid] = connection
        self.send_login(connection, *login.begin())
        return connection

    def send_login(self, connection: Connection, request: LoginRequest, segment: bytes) -> None:
        """Sends a Login Request, which is immediate and takes no CmdSN."""
        connection.send(request.replace(cmd_sn=self.numbers.next), segment)

    def establish(self, connection: Connection, login: Login, header: LoginResponse) -> Iterable[Event]:
        """Takes a connection over whose login is done."""
        cid = connection.cid
        replaced = self._replaced.pop(cid, None)
        lost = replaced.lose("its CID has logged in again") if replaced else ()
        negotiation = self._negotiations[cid] = self._offers.pop(cid)
        self.tsih = login.tsih
        connection.enter_full_feature_phase(self, negotiation.parameters)
        self._update(header.exp_cmd_sn, header.max_cmd_sn)
        logged_in = LoggedIn(cid, self.tsih, negotiation.parameters, dict(negotiation.answers))
        return (*lost, logged_in, *self.reassignment.came_again(connection))

    def give_up(self, connection: Connection) -> None:
        """Forgets a connection whose login has failed."""
        cid = connection.cid
        if self.connections.get(cid) is connection:
            del self.connections[cid]
            del self._offers[cid]
            if cid in self._replaced:
                self.connections[cid] = self._replaced.pop(cid)

    @property
    def logged_in(self) -> list[Connection]:
        """The connections in full feature phase."""
        return [connection for connection in self.connections.values() if connection.phase is self]

    @property
    def taken(self) -> set[int]:
        """The CIDs that are in use, or of which something is still to be recovered."""
        return {*self.connections, *(connection.cid for connection in self.reassignment.connections)}

    # Requests

    def command(self, command: Command, connection: Connection) -> int:
        """Sends a SCSI command when the window allows; returns its tag.

        raises    ValueError for one that cannot be sent
        Source: RFC7143 11.3
        """
        tag = self.next_tag()
        kind = RecoverableCommand if self.recovers else OpenCommand
        opened = kind(command, tag, self._negotiations[connection.cid].parameters)
        header, data, additional = opened.open()
        self._open(tag, OpenRequest(opened, connection, Opcode.SCSI_COMMAND))
        self._send(tag, header, data, additional)
        return tag

    def manage(
        self, function: TaskManagement, lun: bytes, connection: Connection, *, referenced_task_tag: int = NO_TAG
    ) -> int:
        """Sends a task management function; returns its tag.

        It is immediate where none is lost. Elsewhere it has a CmdSN, so that the target does it only once though it is
        sent again; but an ABORT TASK, which may be done twice, does not wait for the window.

        connection             that it goes out on, unless it means a command, which has its own
        referenced_task_tag    the command that ABORT TASK means
        Source: RFC7143 11.5
        """
        tag = self.next_tag()
        referenced = self.requests.get(referenced_task_tag)
        if referenced is not None and referenced.connection.phase is self:
            connection = referenced.connection
        matter = Function(function, lun, referenced_task_tag, self._sent)
        self._open(tag, OpenRequest(matter, connection, Opcode.TASK_MANAGEMENT_REQUEST))
        request = TaskManagementRequest(
            immediate=not (self.recovers and (function != TaskManagement.ABORT_TASK or self._has_room)),
            function=function,
            lun=lun,
            initiator_task_tag=tag,
            referenced_task_tag=referenced_task_tag,
            ref_cmd_sn=referenced.cmd_sn if referenced else 0,
        )
        self._send(tag, request)
        return tag

    def manage_again(self, tag: int) -> None:
        """Has a task management function performed anew, on the connection of the command that it means, if any."""
        request = self.requests[tag]
        header, _, _ = request.last
        assert isinstance(header, TaskManagementRequest)
        if (referenced := self.requests.get(header.referenced_task_tag)) is not None:
            request.connection = referenced.connection
        if request.connection.phase is self:
            request.sent = None
            self._send(tag, header)

    def withdraw(self, tag: int) -> bool:
        """Takes back a request that still waits for the window; returns False when it is too late for that."""
        request = self.requests.get(tag)
        if request is None or request.sent is not None:
            return False
        self._waiting = deque(item for item in self._waiting if item[0] != tag)
        self.forget(tag)
        return True

    def ping(self, data: bytes, connection: Connection) -> int:
        """Sends a NOP-Out that the target answers with the same data; returns its tag.

        raises    ValueError for more data than the target takes
        Source: RFC7143 11.18
        """
        most = self._negotiations[connection.cid].parameters.target_max_recv
        if len(data) > most:
            raise ValueError(f"a ping of {len(data)} bytes; the target takes {most}")
        tag = self.next_tag()
        self._open(tag, OpenRequest(Ping(), connection, Opcode.NOP_OUT))
        self._send(tag, NopOut(initiator_task_tag=tag), data)
        return tag

    def ask(self, pairs: Iterable[Pair], connection: Connection) -> int:
        """Sends a text request, after those before it are answered; returns its tag.

        raises    ValueError for pairs that are no text
        Source: RFC7143 11.10
        """
        asked = text.checked(pairs)
        tag = self.next_tag()
        conversation = TextConversation(asked, tag, self._negotiations[connection.cid])
        self._open(tag, OpenRequest(conversation, connection, Opcode.TEXT_REQUEST))
        self._texts.append(tag)
        if self._texts[0] == tag:
            self._begin_text(tag)
        return tag

    def will_ask(self, connection: Connection) -> bool:
        """Says whether a text request waits for others before it, and is to go out on a connection."""
        return any(self.requests[tag].connection is connection for tag in list(self._texts)[1:])

    def log_out(self, connection: Connection, reason: int = CLOSE_SESSION, *, leaving: Connection | None = None) -> int:
        """Asks to leave, after everything that was asked for before; returns the tag.

        connection    that the request goes out on
        leaving       that is to be closed, when it is not the session that is; None means the same connection
        Source: RFC7143 11.14
        """
        tag = self.next_tag()
        closing = leaving or connection
        self.leaving = self.leaving or reason == CLOSE_SESSION
        self._open(tag, OpenRequest(Logout(reason, closing), connection, Opcode.LOGOUT_REQUEST))
        self._send(tag, LogoutRequest(initiator_task_tag=tag, reason_code=reason, cid=closing.cid))
        return tag

    def leave(self, logout: Logout) -> Iterable[Event]:
        """Closes what a logout was about, now that the target has agreed."""
        events: list[Event] = []
        closing = [logout.leaving] if logout.reason == CLOSE_CONNECTION else list(self.connections.values())
        for self._left in closing:
            events += self._left.lose("logged out")
        return events

    def number(self, request: Numbered) -> Numbered:
        """Returns a request with the next tag, CmdSN and ExpStatSN, to be sent raw whatever the window is."""
        tag = self.next_tag()
        self._raw.append(tag)
        cmd_sn = self.numbers.next if request.immediate else self.numbers.take()
        expected = next(iter(self.connections.values())).statuses.expected
        return request.replace(initiator_task_tag=tag, cmd_sn=cmd_sn, exp_stat_sn=expected)

    @property
    def _has_room(self) -> bool:
        return self.numbers.is_open and not self._waiting

    def is_raw(self, tag: int) -> bool:
        """Says whether a tag is of a PDU that was sent raw, one of the last of them."""
        return tag in self._raw

    def next_tag(self) -> int:
        """Returns an initiator task tag that has not been used."""
        self._tags += 1
        return self._tags % NO_TAG

    def _open(self, tag: int, request: OpenRequest) -> None:
        assert tag not in self.requests
        self.requests[tag] = request

    def request(self, matter: Matter, connection: Connection, header: TaskManagementRequest | LogoutRequest) -> None:
        """Sends a request of the session's own."""
        tag = self.next_tag()
        self._open(tag, OpenRequest(matter, connection, header.opcode))
        self._send(tag, header.replace(initiator_task_tag=tag))

    def is_counted(self, request: OpenRequest) -> bool:
        """Says whether the target has taken a request, as far as that can be known."""
        return self.recovery.is_counted(request)

    def parameters_of(self, connection: Connection) -> Parameters:
        """Returns what holds on a connection."""
        return self._negotiations[connection.cid].parameters

    def _send(self, tag: int, header: Numbered, data: Buffer = b"", additional: bytes = b"") -> None:
        """Sends a request, or lets it wait until the window has room and those before it have gone out."""
        if header.immediate:
            self._bring_home(self.requests[tag])
            self._send_now(tag, header.replace(cmd_sn=self.numbers.next), data, additional)
        else:
            self._waiting.append((tag, header, data, additional))
            self.release()

    def release(self) -> None:
        """Sends what has waited, as far as the window has room and there is a connection for it."""
        while self._waiting and self.numbers.is_open:
            tag, header, data, additional = self._waiting[0]
            if not self._bring_home(self.requests[tag]):
                break
            self._waiting.popleft()
            self._send_now(tag, header.replace(cmd_sn=self.numbers.take()), data, additional)

    def _bring_home(self, request: OpenRequest) -> bool:
        """Gives a request another connection when its own is gone; returns False when there is none to send it on."""
        if request.connection.phase is not self and (there := self.logged_in or self.reassignment.connections):
            request.connection = there[0]
        return request.connection.phase is self

    def _send_now(self, tag: int, header: Numbered, data: Buffer, additional: bytes) -> None:
        request = self.requests[tag]
        request.sent = self._sent
        if isinstance(request.matter, Function):
            request.matter = request.matter._replace(sent=self._sent)
        request.cmd_sn = header.cmd_sn
        request.immediate = header.immediate
        request.last = (header, data, additional)
        request.tries = 0
        self._sent += 1
        self.send_again(tag)

    def send_again(self, tag: int) -> None:
        """Sends the last PDU of a request, with the data that follows it unasked.

        Source: RFC7143 7.2.1
        """
        request = self.requests[tag]
        request.quiet = False
        request.connection.send(*request.last)
        if isinstance(request.matter, OpenCommand):
            for part in request.matter.unsolicited():
                request.connection.send(part.header, part.data)

    # From the target

    def receive(self, connection: Connection, header: Response, data: Buffer) -> Iterable[Event]:
        """Takes one PDU in full feature phase; raises ProtocolError when it cannot be."""
        has_status = answers.has_status(header)
        if self.recovers:
            return self._recover(connection, header, data, has_status=has_status)
        if has_status:
            connection.statuses.take(header.stat_sn)
        events = answers.handle(self, connection, header, data)
        self._update(header.exp_cmd_sn, header.max_cmd_sn)
        return events

    def _recover(self, connection: Connection, header: Response, data: Buffer, *, has_status: bool) -> Iterable[Event]:
        connection.unanswered = 0
        self.numbers.update(header.exp_cmd_sn, header.max_cmd_sn)  # which tells what is to be sent again
        if request := self.requests.get(header.initiator_task_tag):
            request.quiet = False
        events: Iterable[Event] = ()
        if self.recovery.admit(connection, header, has_status=has_status):
            events = answers.handle(self, connection, header, data)
            if has_status:
                self.recovery.settle(connection, header)
        self.release()
        return events

    def miss(self, connection: Connection, header: Response) -> None:
        """Asks for a PDU again whose data is damaged."""
        self.recovery.miss(connection, header, has_status=answers.has_status(header))

    def lose(self, connection: Connection, reason: str) -> Iterable[Event]:
        """Forgets a connection that is gone, with the requests that went there."""
        if self.connections.get(connection.cid) is connection:
            del self.connections[connection.cid]
        kept, lost = self._sort(connection)
        text_ends = len(self._texts) > 0 and self._texts[0] in lost
        self._texts = deque(tag for tag in self._texts if tag not in lost)
        self._waiting = deque(item for item in self._waiting if item[0] not in lost)
        if text_ends and self._texts:
            self._begin_text(self._texts[0])
        return (ConnectionLost(connection.cid, reason, lost, kept),)

    def _sort(self, connection: Connection) -> Left:
        """Forgets the requests of a connection that is gone, but for those that outlive it."""
        parameters = self.parameters
        outlives = parameters.error_recovery_level > 1 and parameters.default_time2retain > 0
        if outlives and not self.leaving and connection is not self._left:
            return self.reassignment.leave(connection)
        lost = tuple(tag for tag, request in self.requests.items() if request.connection is connection)
        for tag in lost:
            del self.requests[tag]
        return Left((), lost)

    def abandon(self) -> None:
        """Forgets all requests, since nothing will answer any more."""
        self.requests.clear()
        self._waiting.clear()
        self._texts.clear()

    def forget(self, tag: int) -> None:
        """Takes a request for answered; the next text request has its turn."""
        request = self.requests.pop(tag)
        if isinstance(request.matter, RecoverableCommand) and request.matter.stat_sn is not None:
            acknowledge(request.connection, request.matter.stat_sn)
        if isinstance(request.matter, TextConversation):
            first = self._texts[0] == tag
            self._texts.remove(tag)
            if first and self._texts:
                self._begin_text(self._texts[0])

    def converse(self, tag: int, conversation: TextConversation) -> None:
        """Sends the next request of an exchange of text."""
        self._send(tag, *conversation.request())

    def _begin_text(self, tag: int) -> None:
        request = self.requests[tag]
        assert isinstance(request.matter, TextConversation)
        request.matter.begin()
        request.connection.admit(self._negotiations[request.connection.cid].parameters.initiator_max_recv)
        self.converse(tag, request.matter)

    def _update(self, expected: int, maximum: int) -> None:
        self.numbers.update(expected, maximum)
        self.release()
