"""A target that does what a test says, at the other end of the initiator's machine; no sockets.

session <---- bytes ----> Desk: reads the requests, and answers with what it is told, numbered as it should be
"""

from typing import NamedTuple, TypedDict

from iscsi_target.initiator.command import Command
from iscsi_target.initiator.events import Event
from iscsi_target.initiator.faults import FaultScript
from iscsi_target.initiator.login import Identity
from iscsi_target.initiator.session import Session, Settings
from iscsi_target.iscsi.framing import PduReader, frame
from iscsi_target.iscsi.requests import REQUEST_HEADERS, LoginRequest, Request
from iscsi_target.iscsi.responses import DataIn, LoginResponse, Response
from iscsi_target.iscsi.text import Pair, encode, parse

NAME = "iqn.2026-01.org.example:a"
NODE = "iqn.2026-01.org.example:node"
ISID = bytes([0x80, 0, 0, 0, 0, 1])
LUN = bytes(8)
READY = Command(LUN, bytes(6))
WINDOW = 8


class Sent(NamedTuple):
    """A PDU of the initiator."""

    header: Request
    data: bytes
    additional: bytes

    @property
    def pairs(self) -> dict[str, str]:
        return dict(parse(self.data))


class Digests(TypedDict):
    header_digest: bool
    data_digest: bool


class Desk:
    """One session with one connection.

    window    how many commands it takes beyond those that it has seen
    """

    def __init__(
        self, settings: Settings | None = None, *, target: str | None = NODE, faults: FaultScript | None = None
    ) -> None:
        self.session = Session(Identity(NAME, ISID, target), settings or Settings(), bytes, faults)
        self.connection = self.session.connect()
        self.window = WINDOW
        self.stat_sn = 100
        self.exp_cmd_sn = self.session.settings.first_cmd_sn
        self.digests = Digests(header_digest=False, data_digest=False)
        self._reader = PduReader(REQUEST_HEADERS)

    def sent(self) -> list[Sent]:
        """What the initiator has sent since the last call."""
        stream = b"".join(bytes(buffer) for buffer in self.connection.take_output())
        found = [
            Sent(pdu.basic, bytes(pdu.data), bytes(pdu.additional))  # type: ignore[arg-type]  # it is a request
            for pdu in self._reader.feed(stream)
        ]
        for header, _, _ in found:
            if hasattr(header, "cmd_sn") and not header.immediate:
                self.exp_cmd_sn = (header.cmd_sn + 1) % 2**32
        return found

    def one(self) -> Sent:
        [only] = self.sent()
        return only

    def reply(self, header: Response, data: bytes = b"", *, status: bool = True, **numbers: int) -> list[Event]:
        """Sends a PDU with StatSN, ExpCmdSN and MaxCmdSN; `numbers` replace them."""
        values = {
            "stat_sn": self.stat_sn,
            "exp_cmd_sn": self.exp_cmd_sn,
            "max_cmd_sn": (self.exp_cmd_sn + self.window - 1) % 2**32,
        } | numbers
        if isinstance(header, DataIn):
            status = header.status_present
        self.stat_sn = (self.stat_sn + status) % 2**32
        return self.feed(b"".join(frame(header.replace(**values), data, **self.digests)))

    def feed(self, received: bytes) -> list[Event]:
        return self.connection.receive(received)

    def log_in(self, *answers: Pair) -> Event:
        """Ends the login with the answers to its first request."""
        request = self.one().header
        assert isinstance(request, LoginRequest)
        [event] = self.reply(
            LoginResponse(
                transit=True,
                current_stage=request.current_stage,
                next_stage=3,
                tsih=7,
                initiator_task_tag=request.initiator_task_tag,
            ),
            encode(answers),
        )
        named = dict(answers)
        self.digests = Digests(
            header_digest=named.get("HeaderDigest") == "CRC32C", data_digest=named.get("DataDigest") == "CRC32C"
        )
        self._reader.enter_full_feature_phase(limit_bytes=2**24 - 1, **self.digests)
        return event


def logged_in(*answers: Pair, settings: Settings | None = None, faults: FaultScript | None = None) -> Desk:
    """Returns a desk whose initiator is in full feature phase."""
    desk = Desk(settings, faults=faults)
    desk.log_in(*answers)
    return desk
