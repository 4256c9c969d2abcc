"""One TCP connection of an initiator: bytes in, events out, buffers queued; StatSN; the phases of its life.

A connection starts in `LoginExchange`, waits in `Admission` while the target decides about the session, and then hands
every PDU to its `Session`. It closes itself after what is queued, never before.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from iscsi_target.iscsi.errors import LoginRefused, LoginStatus, ProtocolError, RejectReason, StreamLost
from iscsi_target.iscsi.events import Event, LoginCompleted, LoginFailed, ProtocolViolated
from iscsi_target.iscsi.framing import NO_DIGESTS, Buffer, Digests, Incoming, PduReader, RawPdu
from iscsi_target.iscsi.header import NO_TAG, Opcode
from iscsi_target.iscsi.login import LoginPhase, LoginStep, Negotiated
from iscsi_target.iscsi.numbering import WINDOW_COMMANDS
from iscsi_target.iscsi.parameters import Parameters
from iscsi_target.iscsi.requests import REQUEST_HEADERS, LoginRequest
from iscsi_target.iscsi.responses import LoginResponse, NopIn, Reject, Response
from iscsi_target.iscsi.retention import Retention
from iscsi_target.iscsi.text import encode
from iscsi_target.wire.serial import advance

MAX_QUEUED_BYTES = 2 << 20  # of data; bounds what a batch holds in memory, and of large reads how long it lasts: 0.7 ms


class Remark(NamedTuple):
    """Says of which PDU in an output something is to be known.

    offset, length   where the PDU is, in bytes from the beginning of the output
    about            what is to be known; it is not looked at here
    """

    offset: int
    length: int
    about: object


class Numbers(Protocol):
    """Where ExpCmdSN and MaxCmdSN of an outgoing PDU come from."""

    expected: int
    maximum: int


class Phase(Protocol):
    """What a connection is doing: it takes the PDUs."""

    def receive(self, connection: "Connection", pdu: RawPdu) -> Iterable[Event]:
        """Handles one PDU and returns what it brings about; raises StreamLost when the connection cannot go on."""

    @property
    def numbers(self) -> Numbers:
        """The command window to report."""


class Tap(Protocol):
    """What stands between a connection and its phase: it may lose, change or keep back PDUs."""

    def keeps(self, incoming: Incoming) -> bool:
        """Takes all that has come and returns True, or touches nothing and returns False."""

    def receive(self, connection: "Connection", pdu: RawPdu) -> Iterable[Event]:
        """Takes a PDU in the place of the connection's phase."""

    def send(self, connection: "Connection", header: bytes, data: Buffer) -> None:
        """Takes a PDU that is to be queued."""


class FixedNumbers:
    """The command window as a login reports it: no command has been taken yet.

    A connection that joins a session has to prove first that it may, so it reports a MaxCmdSN that no window has, and
    the initiator ignores both numbers until the final Login Response has those of the session.

    Source: RFC7143 4.2.2.1, 11.13
    """

    def __init__(self, cmd_sn: int, *, joins: bool = False) -> None:
        self.expected = cmd_sn
        self.maximum = advance(cmd_sn, -2 if joins else WINDOW_COMMANDS - 1)


class LoginExchange:
    """The connection is logging in.

    Source: RFC7143 6.3
    """

    def __init__(self, login: LoginPhase) -> None:
        self._login = login
        self._started = False
        self.numbers: Numbers = FixedNumbers(0)

    def receive(self, connection: "Connection", pdu: RawPdu) -> Iterator[Event]:
        """Takes one Login Request and queues the response; the final one is left to the target's decision."""
        if pdu.basic.opcode != Opcode.LOGIN_REQUEST and not self._started:
            raise StreamLost(RejectReason.PROTOCOL_ERROR, "the first PDU of a connection is no Login Request")
        request = pdu.basic if isinstance(pdu.basic, LoginRequest) else LoginRequest.unpack(pdu.header)
        self.numbers = FixedNumbers(request.cmd_sn, joins=request.tsih != 0)
        self._started = True
        try:
            yield from self._answer(connection, pdu, request)
        except LoginRefused as refusal:
            yield connection.refuse(refusal, request)
        except ProtocolError as error:
            yield connection.refuse(LoginStatus.INITIATOR_ERROR.refusal(error.text), request)

    def _answer(self, connection: "Connection", pdu: RawPdu, request: LoginRequest) -> Iterator[Event]:
        if pdu.basic.opcode != Opcode.LOGIN_REQUEST:
            raise LoginStatus.INVALID_DURING_LOGIN.refusal(f"opcode {pdu.basic.opcode:#x} came during the login")
        step = self._login.receive(request, bytes(pdu.data))
        if step.completed is None:
            connection.send(step.response, step.data)
            return
        connection.phase = Admission(step, step.completed, request)
        yield LoginCompleted(step.completed)


class Admission:
    """The login is done on this side; nothing may come until the target has decided."""

    def __init__(self, step: LoginStep, negotiated: Negotiated, request: LoginRequest) -> None:
        self.step = step
        self.negotiated = negotiated
        self.request = request
        self.numbers: Numbers = FixedNumbers(request.cmd_sn, joins=request.tsih != 0)

    def receive(self, connection: "Connection", pdu: RawPdu) -> Iterable[Event]:
        """Refuses: the initiator must wait for the final Login Response."""
        raise StreamLost(RejectReason.PROTOCOL_ERROR, f"opcode {pdu.basic.opcode:#x} came before the login's end")


class Departure:
    """The initiator has asked to leave: what it still sends is ignored until the response closes the connection."""

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers

    def receive(self, connection: "Connection", pdu: RawPdu) -> Iterable[Event]:
        """Ignores the PDU."""
        return ()


class Connection:
    """The machine of one connection.

    number              the driver's name for it, never used again
    portal_group_tag    of the portal that it came to
    local_address       "host:port" that the initiator connected to
    touched             where the connection enters itself when it has something to send or wants to close

    parameters          what holds on it
    most_in, most_out   as of the parameters
    digests             of outgoing PDUs
    stat_sn             the next StatSN
    queued_bytes        how much data is queued
    reader              cuts what comes into PDUs
    tap                 what PDUs go through, both ways, or None
    retention           keeps what may have to be sent again; None where nothing ever is
    """

    def __init__(
        self,
        number: int,
        portal_group_tag: int,
        local_address: str,
        login: LoginPhase,
        touched: dict["Connection", None],
    ) -> None:
        self.number = number
        self.portal_group_tag = portal_group_tag
        self.local_address = local_address
        self.cid = 0
        self.phase: Phase = LoginExchange(login)
        self.parameters = Parameters()
        self.most_in, self.most_out = self.parameters.most_in, self.parameters.most_out
        self.closing = False
        self.congested = False  # more is queued on it than its peer fetches; the driver knows
        self.reader = PduReader(REQUEST_HEADERS)
        self.tap: Tap | None = None
        self.retention: Retention | None = None
        self.stat_sn = 0
        self.digests = NO_DIGESTS
        self._output: list[Buffer] = []
        self.queued_bytes = 0
        self._remarks: list[Remark] = []
        self._touched = touched

    def receive(self, incoming: Incoming) -> Iterator[Event]:
        """Takes one PDU, or what there is of it, and yields what it brings about.

        Each event must be acted upon before the next is asked for. What comes after the end is thrown away.
        """
        if self.closing:
            incoming.position = incoming.end
            return
        if self.tap is not None and self.tap.keeps(incoming):
            return
        try:
            source = self.reader.gather(incoming) if self.reader.has_part else incoming
            pdu = None if source is None else self.reader.take(source)
            if pdu is not None:
                yield from (self.phase if self.tap is None else self.tap).receive(self, pdu)
        except StreamLost as error:
            yield self._lose(error)

    def deliver(self, pdu: RawPdu) -> Iterator[Event]:
        """Takes a PDU that the tap has kept back, as `receive` does."""
        try:
            yield from self.phase.receive(self, pdu)
        except StreamLost as error:
            yield self._lose(error)

    def _lose(self, error: StreamLost) -> ProtocolViolated:
        if error.header and not isinstance(self.phase, LoginExchange):
            self.reject(error.reason, error.header)
        self.close()
        return ProtocolViolated(self.number, error.text)

    @property
    def is_plain(self) -> bool:
        """True when PDUs may be taken and queued without a look at each of them.

        A PDU begins with what comes next, there is no tap, and nothing is in the way of what is sent, or kept of it.
        """
        if self.tap is not None or self.retention is not None:
            return False
        return not (self.reader.has_part or self.congested or self.closing)

    def send(self, header: Response, data: Buffer = b"", *, status: bool = True, about: object = None) -> None:
        """Queues one PDU, filling StatSN, ExpCmdSN and MaxCmdSN.

        status    False for a PDU that does not take a StatSN
        about     what is to be known of the PDU where it goes out, or None
        Source: RFC7143 4.2.2.2
        """
        stat_sn, exp_cmd_sn, max_cmd_sn = self.stamp()
        if not status:
            self.stat_sn = stat_sn
        numbered = header.replace(
            stat_sn=stat_sn, exp_cmd_sn=exp_cmd_sn, max_cmd_sn=max_cmd_sn, data_segment_length=len(data)
        )
        begin = self.queued
        self.queue(numbered.pack(), data)
        if about is not None:
            self.remark(begin, about)

    def stamp(self) -> tuple[int, int, int]:
        """Returns StatSN, ExpCmdSN and MaxCmdSN of a PDU that takes a StatSN, and is to be queued next."""
        stat_sn = self.stat_sn
        self.stat_sn = advance(stat_sn)
        numbers = self.phase.numbers
        return stat_sn, numbers.expected, numbers.maximum

    def queue(self, header: bytes, data: Buffer) -> None:
        """Queues one PDU that is numbered already, whose header has the length of the data."""
        if self.retention is not None:
            self.retention.note(header, data)
        self._queue(header, data)

    def send_again(self, header: Response, data: Buffer) -> None:
        """Queues a PDU that went out before, as it was but for ExpCmdSN and MaxCmdSN.

        Source: RFC7143 11.16
        """
        numbers = self.phase.numbers
        self._queue(header.replace(exp_cmd_sn=numbers.expected, max_cmd_sn=numbers.maximum).pack(), data)

    def _queue(self, header: bytes, data: Buffer) -> None:
        if self.tap is not None:
            self.tap.send(self, header, data)
            return
        output = self._output
        if not output:
            self._touched[self] = None
        self.queued_bytes += len(data)
        output += self.digests.added_to(header, data)

    def queue_whole(self, pdus: list[Buffer], data_bytes: int, stat_sn: int) -> None:
        """Queues the buffers of PDUs that are numbered and framed already.

        data_bytes   how much of them is data
        stat_sn      the number of the next PDU that takes one
        """
        self._touched[self] = None
        self._output += pdus
        self.queued_bytes += data_bytes
        self.stat_sn = stat_sn

    @property
    def queued(self) -> int:
        """How many buffers are queued; where the next PDU begins."""
        return len(self._output)

    def remark(self, begin: int, about: object) -> None:
        """Says something of the PDU that was queued last.

        begin     what `queued` was before it
        about     what is to be known of it where it goes out
        """
        ahead, length = (sum(map(len, part)) for part in (self._output[:begin], self._output[begin:]))
        if length:  # the tap may have lost it
            self._remarks.append(Remark(ahead, length, about))

    def close(self) -> None:
        """Lets the connection end after what is queued."""
        self.closing = True
        self._touched[self] = None

    @property
    def full(self) -> bool:
        """True when so much is queued that it is to be sent before anything is added to it."""
        return self.queued_bytes >= MAX_QUEUED_BYTES

    def take_output(self) -> tuple[list[Buffer], Sequence[Remark]]:
        """Returns the queued buffers, and what is to be known of PDUs in them, and forgets them."""
        output, self._output = self._output, []
        self.queued_bytes = 0
        if not self._remarks:
            return output, ()
        remarks, self._remarks = self._remarks, []
        return output, remarks

    def agree(self, parameters: Parameters) -> None:
        """Sets what holds from now on; digests stay as they are after the login."""
        self.parameters = parameters
        self.most_in, self.most_out = parameters.most_in, parameters.most_out

    def admit(self, phase: Phase, tsih: int, of_session: Parameters) -> None:
        """Ends the login: sends the final response and hands the connection to its session.

        of_session   what holds in the session
        Source: RFC7143 6.3, 11.13
        """
        admission = self.phase
        assert isinstance(admission, Admission)
        negotiated = admission.negotiated
        parameters = of_session.with_connection(negotiated.parameters)
        self.agree(parameters)
        self.phase = phase
        self.cid = negotiated.cid
        self.send(admission.step.response.replace(tsih=tsih), admission.step.data)
        self.digests = Digests(parameters.header_digest, parameters.data_digest)
        self.reader.enter_full_feature_phase(
            limit_bytes=parameters.target_max_recv,
            header_digest=parameters.header_digest,
            data_digest=parameters.data_digest,
            recovers=parameters.error_recovery_level > 0,
        )
        if parameters.error_recovery_level:
            self.retention = Retention(self.stat_sn)

    def refuse_admission(self, refusal: LoginRefused) -> LoginFailed:
        """Ends a login that the target does not admit."""
        admission = self.phase
        assert isinstance(admission, Admission)
        return self.refuse(refusal, admission.request)

    def refuse(self, refusal: LoginRefused, request: LoginRequest) -> LoginFailed:
        """Queues the Login Response of a refusal; the connection closes after it.

        Source: RFC7143 11.13.5, 13.8
        """
        moved = [("TargetAddress", refusal.address)] if refusal.address else []
        self.send(
            LoginResponse(
                isid=request.isid,
                tsih=request.tsih,
                initiator_task_tag=request.initiator_task_tag,
                status_class=refusal.status_class,
                status_detail=refusal.status_detail,
            ),
            encode(moved),
        )
        self.close()
        return LoginFailed(refusal.reason)

    def reject(self, reason: RejectReason, rejected: Buffer) -> None:
        """Queues a Reject with the header of what is rejected.

        Source: RFC7143 11.17
        """
        self.send(Reject(reason=reason), bytes(rejected))

    def ping(self, tag: int) -> None:
        """Queues a NOP-In that the initiator must answer.

        tag    the target transfer tag of the ping
        Source: RFC7143 11.19
        """
        self.send(NopIn(initiator_task_tag=NO_TAG, target_transfer_tag=tag), status=False)
