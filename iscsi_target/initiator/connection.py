"""One TCP connection of an initiator: bytes in, events out, buffers queued; ExpStatSN; login, then full feature phase.

A connection hands every PDU to its phase. Whatever a target does wrong ends in `ConnectionLost`, or in `LoginFailed`
before the full feature phase, and the connection closes after what is queued.
"""

from collections.abc import Iterable
from typing import Final, Protocol

from iscsi_target.initiator.errors import LoginRejected, violation
from iscsi_target.initiator.events import ConnectionLost, Event, LoginFailed
from iscsi_target.initiator.faults import FaultScript, Outgoing
from iscsi_target.initiator.login import Login
from iscsi_target.initiator.numbering import RecoverableStatusNumbers, StatusNumbers
from iscsi_target.iscsi.errors import LoginRefused, LoginStatus, ProtocolError
from iscsi_target.iscsi.framing import Buffer, PduReader, RawPdu
from iscsi_target.iscsi.parameters import DEFAULT_SEGMENT_BYTES, Parameters
from iscsi_target.iscsi.requests import LoginRequest, NopOut, Request, SnackRequest
from iscsi_target.iscsi.responses import RESPONSES, LoginResponse, Response

MAX_SNACKS: Final = 8192  # that wait to be sent; twice what a target can be missing of one run of numbers
MAX_PINGS: Final = 256  # of the target whose answers wait to be sent; one after the other, 1 is usual


class Phase(Protocol):
    """What a connection is doing: it takes the PDUs."""

    def receive(self, connection: "Connection", header: Response, data: Buffer) -> Iterable[Event]:
        """Handles one PDU and returns what it brings about; raises ProtocolError when it cannot be."""

    def miss(self, connection: "Connection", header: Response) -> None:
        """Takes note of a PDU whose data is damaged, where the connection outlives that."""

    def lose(self, connection: "Connection", reason: str) -> Iterable[Event]:
        """Returns what it means that the connection is gone; called once."""


class Owner(Protocol):
    """What a login needs of the session that the connection is to belong to."""

    def send_login(self, connection: "Connection", request: LoginRequest, segment: bytes) -> None:
        """Sends a Login Request with the session's CmdSN."""

    def establish(self, connection: "Connection", login: Login, header: LoginResponse) -> Iterable[Event]:
        """Takes a connection over whose login is done."""

    def give_up(self, connection: "Connection") -> None:
        """Forgets a connection whose login has failed."""


class LoggingIn:
    """The connection is logging in.

    login     the exchange
    session   takes over afterwards
    """

    def __init__(self, login: Login, session: Owner) -> None:
        self._login = login
        self._session = session

    def receive(self, connection: "Connection", header: Response, data: Buffer) -> Iterable[Event]:
        """Takes one Login Response and sends the next request."""
        if not isinstance(header, LoginResponse):
            raise violation(f"a {type(header).__name__} came during the login")
        try:
            following = self._login.receive(header, bytes(data))
        except LoginRejected as error:
            return self._fail(connection, LoginFailed(connection.cid, _code(error), error.reason, error.address))
        except LoginRefused as error:
            return self._fail(connection, LoginFailed(connection.cid, 0, error.reason, ""))
        connection.statuses.take(header.stat_sn)
        if following is not None:
            self._session.send_login(connection, *following)
            return ()
        return self._session.establish(connection, self._login, header)

    def miss(self, connection: "Connection", header: Response) -> None:
        """Does nothing: a login has no digests."""

    def lose(self, connection: "Connection", reason: str) -> Iterable[Event]:
        """Returns that the login has failed."""
        return self._fail(connection, LoginFailed(connection.cid, 0, reason, ""))

    def _fail(self, connection: "Connection", failed: LoginFailed) -> Iterable[Event]:
        self._session.give_up(connection)
        return connection.end(failed)


class Gone:
    """The connection is at its end: nothing that still comes is looked at."""

    def receive(self, connection: "Connection", header: Response, data: Buffer) -> Iterable[Event]:
        """Ignores the PDU."""
        return ()

    def miss(self, connection: "Connection", header: Response) -> None:
        """Ignores the PDU."""

    def lose(self, connection: "Connection", reason: str) -> Iterable[Event]:
        """Returns nothing: it has been told."""
        return ()


class Connection:
    """The machine of one connection.

    cid         its number within the session
    phase       what it is doing
    faults      what its PDUs suffer

    statuses    follows StatSN
    closing     True when it is to be closed after what is queued
    unanswered  how many pings have gone out since anything came, and under which tag; of the session's recovery
    """

    def __init__(self, cid: int, phase: Phase, faults: FaultScript) -> None:
        self.cid = cid
        self.phase = phase
        self.faults = faults
        self.statuses = StatusNumbers()
        self.closing = False
        self.unanswered = 0
        self.ping_tag: int | None = None
        self._recovers = False
        self._reader = PduReader()
        self._limit_bytes = DEFAULT_SEGMENT_BYTES
        self._header_digest = False
        self._data_digest = False
        self._output: list[Buffer] = []
        self._snacks = 0  # that wait in the output
        self._pings = 0  # answers to those of the target that wait in the output

    def enter_full_feature_phase(self, phase: Phase, parameters: Parameters) -> None:
        """Sets what holds from the next PDU on, both ways."""
        self.phase = phase
        self._header_digest = parameters.header_digest
        self._data_digest = parameters.data_digest
        self._recovers = parameters.error_recovery_level > 0
        if self._recovers:
            self.statuses = RecoverableStatusNumbers(self.statuses.expected)
        self._limit_bytes = 0
        self.admit(parameters.initiator_max_recv)

    def admit(self, segment_bytes: int) -> None:
        """Takes data segments up to a length; never less than before, as the target may have sent more already."""
        self._limit_bytes = max(self._limit_bytes, segment_bytes)
        self._reader.enter_full_feature_phase(
            limit_bytes=self._limit_bytes,
            header_digest=self._header_digest,
            data_digest=self._data_digest,
            recovers=self._recovers,
        )

    # From the target

    def receive(self, received: Buffer) -> list[Event]:
        """Takes bytes and returns what they bring about; what comes after the end is thrown away."""
        events: list[Event] = []
        try:
            for pdu in self._reader.feed(received):
                if self.closing:
                    break
                if pdu.damaged:
                    self.phase.miss(self, _header(pdu))
                else:
                    events += self.phase.receive(self, _header(pdu), pdu.data)
        except ProtocolError as error:
            events += self.lose(error.text)
        return events

    def lose(self, reason: str) -> list[Event]:
        """Ends the connection, as when the transport has; returns what that means, the first time."""
        phase, self.phase = self.phase, Gone()
        self.closing = True
        return list(phase.lose(self, reason))

    def end(self, event: LoginFailed | ConnectionLost) -> list[Event]:
        """Ends the connection with an event that says all."""
        self.phase = Gone()
        self.closing = True
        return [event]

    # To the target

    def send(self, header: Request, data: Buffer = b"", additional: bytes = b"") -> None:
        """Queues one PDU with the ExpStatSN that is due."""
        self.send_raw(header.replace(exp_stat_sn=self.statuses.expected), data, additional)

    def send_raw(self, header: Request, data: Buffer = b"", additional: bytes = b"") -> None:
        """Queues one PDU as it is, but for what the faults do to it; nothing after the end."""
        digests = {"header_digest": self._header_digest, "data_digest": self._data_digest}
        for outgoing in self.faults.apply(Outgoing(header, data, additional), **digests):
            if self.closing:
                return
            self._output += outgoing.pack(**digests)
            self.closing = outgoing.cut is not None

    def answer_ping(self, answer: NopOut) -> None:
        """Queues the answer to a ping of the target.

        raises    ProtocolError when the target sends more of them than it takes answers
        """
        self._pings += 1
        if self._pings > MAX_PINGS:
            raise violation(f"{MAX_PINGS} pings wait until the target takes the answers, and more come")
        self.send(answer)

    def ask_again(self, snack: SnackRequest) -> None:
        """Queues a SNACK.

        raises    ProtocolError when the target lets more be missing than it takes SNACKs
        """
        self._snacks += 1
        if self._snacks > MAX_SNACKS:
            raise violation(f"{MAX_SNACKS} SNACKs wait until the target takes them, and more is missing")
        self.send(snack)

    def send_bytes(self, buffer: Buffer) -> None:
        """Queues bytes that are no PDU."""
        if not self.closing:
            self._output.append(buffer)

    def take_output(self) -> list[Buffer]:
        """Returns the queued buffers and forgets them."""
        output, self._output = self._output, []
        self._pings = 0
        self._snacks = 0
        return output


def _header(pdu: RawPdu) -> Response:
    layout = RESPONSES.get(pdu.basic.opcode)
    if layout is None:
        raise violation(f"opcode {pdu.basic.opcode:#x} is none of a target")
    return layout.unpack(pdu.header)


def _code(error: LoginRefused) -> int:
    return LoginStatus.SUCCESS + error.status_class * 0x100 + error.status_detail
