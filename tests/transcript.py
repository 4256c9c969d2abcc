"""One initiator and one session in full feature phase, without a SCSI side: the test says what commands come to.

    initiator ---- Connection ---- Session ---- events, which the test reads and acts upon

A transcript reads `>>` send, `<<` what comes back: every method that puts something in returns the PDUs that come out.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from iscsi_target.iscsi.connection import Admission, Connection
from iscsi_target.iscsi.events import CommandReceived, Event
from iscsi_target.iscsi.framing import Buffer, Incoming, PduReader, frame
from iscsi_target.iscsi.login import Endpoint, LoginPhase, LoginStep, Negotiated, SessionType
from iscsi_target.iscsi.open_task import Response
from iscsi_target.iscsi.parameters import Parameters
from iscsi_target.iscsi.requests import (
    DataOut,
    LoginRequest,
    LogoutRequest,
    NopOut,
    Request,
    ScsiCommand,
    TaskManagementRequest,
    TextRequest,
)
from iscsi_target.iscsi.responses import RESPONSES, LoginResponse, ReadyToTransfer
from iscsi_target.iscsi.session import Session
from iscsi_target.iscsi.text_exchange import SendTargets

INITIATOR = "iqn.2026-01.org.example:a"
NODE = "iqn.2026-01.org.example:node"
LUN = bytes(8)
Numbered = NopOut | ScsiCommand | TaskManagementRequest | TextRequest | LogoutRequest
LARGEST = 2**24 - 1

T = TypeVar("T")


class Pdu(NamedTuple):
    """A PDU of the target; its header is of the class that its opcode says."""

    header: Any
    data: bytes


def negotiated(parameters: Parameters, *, discovery: bool = False) -> Negotiated:
    return Negotiated(
        initiator_name=INITIATOR,
        initiator_alias="",
        isid=b"\x80\0\0\0\0\1",
        tsih=0,
        cid=7,
        session_type=SessionType.DISCOVERY if discovery else SessionType.NORMAL,
        target_name=None if discovery else NODE,
        parameters=parameters,
    )


def receive(connection: Connection, received: Buffer) -> Iterator[Event]:
    """Gives a connection bytes and yields what all of them bring about."""
    incoming = Incoming(received)
    while incoming.position < incoming.end:
        yield from connection.receive(incoming)


def whole(buffers: Iterable[Buffer]) -> bytes:
    return b"".join(bytes(buffer) for buffer in buffers)


def unpack_all(reader: PduReader, sent: bytes) -> Iterator[Pdu]:
    for raw in reader.feed(sent):
        yield Pdu(RESPONSES[raw.basic.opcode].unpack(raw.header), bytes(raw.data))


def only(pdus: Iterable[Pdu], kind: type[T]) -> T:
    """Returns the header of the one PDU that came."""
    [pdu] = pdus
    assert isinstance(pdu.header, kind)
    return pdu.header


class Transcript:
    """A connection in full feature phase; keywords are what was negotiated.

    events    what the session told, but for what the test has taken
    act       what is done with each event; at first, what `wants` says
    wants     how much Data-Out the commands want; None leaves them alone
    """

    def __init__(
        self,
        *,
        first_cmd_sn: int = 1,
        discovery: bool = False,
        send_targets: SendTargets = lambda connection, value: [],
        **parameters: bool | int,
    ) -> None:
        agreed = Parameters(**parameters)  # type: ignore[arg-type]  # each keyword is of its field's type
        login = negotiated(agreed, discovery=discovery)
        request = LoginRequest(cmd_sn=first_cmd_sn)
        self.connection = Connection(1, 1, "10.0.0.1:3260", LoginPhase(Endpoint({}), 1, bytes), {})
        self.session = Session(login, 1, first_cmd_sn, send_targets)
        self.connection.phase = Admission(LoginStep(LoginResponse(), b""), login, request)
        self.session.admit(self.connection)
        self._reader = PduReader()
        self.answers()
        self._reader.enter_full_feature_phase(
            limit_bytes=LARGEST, header_digest=agreed.header_digest, data_digest=agreed.data_digest
        )
        self.cmd_sn = first_cmd_sn
        self.tag = 100
        self.events: list[Event] = []
        self.act: Callable[[Event], None] = self.collect
        self.wants: int | None = None

    @property
    def parameters(self) -> Parameters:
        return self.connection.parameters

    def answers(self) -> list[Pdu]:
        """Returns the PDUs that are queued."""
        return list(unpack_all(self._reader, whole(self.connection.take_output()[0])))

    def pack(self, header: Request, data: Buffer = b"", additional: bytes = b"") -> bytes:
        agreed = self.parameters
        return whole(
            frame(header, data, additional, header_digest=agreed.header_digest, data_digest=agreed.data_digest)
        )

    def feed(self, received: Buffer) -> list[Pdu]:
        for event in receive(self.connection, received):
            if isinstance(event, CommandReceived) and not self.session.open(event):
                continue
            self.events.append(event)
            self.act(event)
        return self.answers()

    def collect(self, event: Event) -> None:
        if isinstance(event, CommandReceived) and self.wants is not None:
            completed = self.session.collect(event.tag, self.wants)
            if completed is not None:
                self.events.append(completed)

    def send(self, header: Request, data: Buffer = b"", additional: bytes = b"") -> list[Pdu]:
        """Sends a PDU as it is."""
        return self.feed(self.pack(header, data, additional))

    def number(self, header: Numbered) -> Numbered:
        """Gives a request its CmdSN and, where it has none, an initiator task tag."""
        self.tag += 1
        header = header.replace(cmd_sn=self.cmd_sn, initiator_task_tag=header.initiator_task_tag or self.tag)
        if not header.immediate:
            self.cmd_sn = (self.cmd_sn + 1) % 2**32
        return header

    def ask(self, header: Numbered, data: Buffer = b"", additional: bytes = b"") -> list[Pdu]:
        """Sends a request in its turn."""
        return self.send(self.number(header), data, additional)

    def read(self, length: int, **fields: object) -> int:
        """Sends a command that expects data, and returns its tag."""
        self.ask(ScsiCommand(read=True, expected_data_transfer_length=length).replace(**fields))
        return self.tag

    def write(self, length: int, data: bytes = b"", **fields: object) -> list[Pdu]:
        """Sends a command that has data, some of it with the command."""
        return self.ask(ScsiCommand(write=True, expected_data_transfer_length=length).replace(**fields), data)

    def give(self, asked: ReadyToTransfer, data: bytes, **fields: object) -> list[Pdu]:
        """Answers an R2T with one PDU."""
        header = DataOut(
            final=True,
            initiator_task_tag=asked.initiator_task_tag,
            target_transfer_tag=asked.target_transfer_tag,
            buffer_offset=asked.buffer_offset,
        )
        return self.send(header.replace(**fields), data)

    def give_unasked(self, data: bytes, **fields: object) -> list[Pdu]:
        """Sends unsolicited Data-Out of the last command."""
        return self.send(DataOut(final=True, initiator_task_tag=self.tag).replace(**fields), data)

    def respond(
        self, tag: int, status: int = 0, sense: bytes = b"", data_in: bytes = b"", wanted: int = 0
    ) -> list[Pdu]:
        """Says what a command came to."""
        self.session.respond(tag, Response(status, sense, data_in, wanted))
        return self.answers()

    def take(self, kind: type[T]) -> list[T]:
        """Returns the events of a kind, and forgets all."""
        taken: list[T] = [event for event in self.events if isinstance(event, kind)]
        self.events.clear()
        return taken
