"""An initiator of our own, for what no installed one does: single PDUs, digests on data, every kind of misbehaviour.

`Wire` is one TCP connection that sends and receives PDUs, valid or not. `Initiator` is a well-behaved session on one:
it performs one command at a time, answers pings and keeps Asynchronous Messages for the test to look at.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from iscsi_target.iscsi.framing import Buffer, PduReader, frame
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import (
    DataOut,
    LoginRequest,
    LogoutRequest,
    NopOut,
    ScsiCommand,
    TaskManagementRequest,
    TextRequest,
)
from iscsi_target.iscsi.responses import (
    RESPONSES,
    AsyncMessage,
    DataIn,
    LoginResponse,
    LogoutResponse,
    NopIn,
    ReadyToTransfer,
    Response,
    ScsiResponse,
)
from iscsi_target.scsi.layouts.cdb import TestUnitReady
from iscsi_target.scsi.layouts.lun import pack_lun
from iscsi_target.scsi.status import Status
from iscsi_target.wire.layout import Layout

ANSWER_TIMEOUT_S = 20.0  # generous: a loaded machine is no reason to fail
RECEIVE_BYTES = 1 << 18
MAX_RECV_BYTES = 1 << 18  # what we declare
INITIATOR_NAME = "iqn.2026-11.org.example:initiator"
ISID = bytes.fromhex("800000000001")

UNIT_ATTENTION = 0x06

Numbered = NopOut | ScsiCommand | TaskManagementRequest | TextRequest | LogoutRequest


class ConnectionEnded(Exception):
    """Says that the target closed the connection, or reset it."""


class Received(NamedTuple):
    """A PDU of the target."""

    header: Response
    data: bytes


class Outcome(NamedTuple):
    """What a command came to; key and code are those of fixed sense data, zero when there is none."""

    status: int
    key: int
    code: int
    data_in: bytes


class Place(NamedTuple):
    """Where a unit is.

    host, port    of a portal
    target, lun   of the unit
    """

    host: str
    port: int
    target: str
    lun: int


def place_of(url: str) -> Place:
    """Takes a libiscsi URL apart."""
    portal, target, lun = url.removeprefix("iscsi://").split("/")
    host, _, port = portal.rpartition(":")
    return Place(host.strip("[]"), int(port), target, int(lun))


def text(pairs: Mapping[str, str]) -> bytes:
    """Returns key=value pairs as they stand in a data segment."""
    return b"".join(f"{key}={value}\0".encode() for key, value in pairs.items())


class Wire:
    """One TCP connection to a target.

    connected    a socket, which the wire closes; it may be made unreadable or slow by the test
    """

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self.socket = connected
        self.header_digest = False
        self.data_digest = False
        self._reader = PduReader()
        self._received: deque[Received] = deque()

    @classmethod
    async def open(cls, place: Place, source: str = "", receive_buffer_bytes: int = 0) -> "Wire":
        """Connects; source is a local address to come from, such as 127.0.0.9."""
        connecting = socket.socket(socket.AF_INET6 if ":" in place.host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            if receive_buffer_bytes:
                connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            if source:
                connecting.bind((source, 0))
            connecting.setblocking(False)
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(connecting, (place.host, place.port))
        except BaseException:
            connecting.close()
            raise
        return cls(connecting)

    async def send(self, header: Layout, data: Buffer = b"", additional: bytes = b"") -> None:
        """Sends one PDU."""
        await self.send_bytes(self.packed(header, data, additional))

    def packed(self, header: Layout, data: Buffer = b"", additional: bytes = b"") -> bytes:
        """Returns one PDU as `send` would send it."""
        digests = {"header_digest": self.header_digest, "data_digest": self.data_digest}
        return b"".join(frame(header, data, additional, **digests))

    async def send_bytes(self, buffer: Buffer) -> None:
        """Sends bytes; raises ConnectionEnded, or TimeoutError when the target takes none."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await asyncio.get_running_loop().sock_sendall(self.socket, buffer)
        except (BrokenPipeError, ConnectionError) as error:
            raise ConnectionEnded(str(error)) from error

    async def receive(self) -> Received:
        """Returns the next PDU; raises ConnectionEnded, or TimeoutError when none comes."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while not self._received:
                await self._receive_some()
        return self._received.popleft()

    async def _receive_some(self) -> None:
        try:
            received = await asyncio.get_running_loop().sock_recv(self.socket, RECEIVE_BYTES)
        except ConnectionError as error:
            raise ConnectionEnded(str(error)) from error
        if not received:
            raise ConnectionEnded("closed by the target")
        for pdu in self._reader.feed(received):
            header = RESPONSES[pdu.basic.opcode].unpack(pdu.header)
            self._received.append(Received(header, bytes(pdu.data)))

    async def ended(self, within_s: float = ANSWER_TIMEOUT_S) -> None:
        """Returns when the target has closed the connection, whatever comes before; raises TimeoutError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(within_s):
            try:
                while await loop.sock_recv(self.socket, RECEIVE_BYTES):
                    pass
            except ConnectionError:
                pass

    def enter_full_feature_phase(self, *, header_digest: bool, data_digest: bool) -> None:
        """Sets the digests that hold from now on, both ways."""
        self.header_digest, self.data_digest = header_digest, data_digest
        self._reader.enter_full_feature_phase(
            limit_bytes=(1 << 24) - 1, header_digest=header_digest, data_digest=data_digest
        )

    def reset(self) -> None:
        """Ends the connection with a TCP reset, as a host that lost its power and came back does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Closes the socket."""
        self.socket.close()


class Initiator:
    """A session with one connection that keeps the rules; one command at a time.

    wire     in full feature phase
    place    the unit that commands go to
    """

    def __init__(self, wire: Wire, place: Place, cmd_sn: int) -> None:
        self.wire = wire
        self.place = place
        self.messages: list[AsyncMessage] = []
        self.pings = 0
        self.left = False
        self._cmd_sn = cmd_sn
        self._tag = 0
        self._stat_sn = 0

    @property
    def last_tag(self) -> int:
        """The initiator task tag of the last request."""
        return self._tag

    async def send(self, request: Numbered, data: Buffer = b"") -> int:
        """Sends a request with the next tag and CmdSN, and returns the tag."""
        await self.wire.send(self.numbered(request), data)
        return self._tag

    def numbered(self, request: Numbered) -> Numbered:
        """Returns a request with the next tag and CmdSN."""
        self._tag += 1
        numbered = request.replace(initiator_task_tag=self._tag, cmd_sn=self._cmd_sn, exp_stat_sn=self._stat_sn)
        if not request.immediate:
            self._cmd_sn = (self._cmd_sn + 1) % 2**32
        return numbered

    async def execute(self, cdb: Layout, data_out: Buffer = b"", read_bytes: int = 0) -> Outcome:
        """Performs a command to its end; raises TimeoutError when it has none, as when somebody else reset the unit."""
        command = ScsiCommand(
            lun=pack_lun(self.place.lun),
            read=read_bytes > 0,
            write=len(data_out) > 0,
            expected_data_transfer_length=len(data_out) or read_bytes,
            cdb=cdb.pack().ljust(16, b"\0"),
        )
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await self._answer_to(await self.send(command), data_out)

    async def _answer_to(self, tag: int, data_out: Buffer) -> Outcome:
        data_in = bytearray()
        while True:
            match await self.receive():
                case Received(ReadyToTransfer() as r2t, _):
                    await self.satisfy(tag, r2t, data_out)
                case Received(DataIn() as part, data):
                    assert part.buffer_offset == len(data_in)
                    data_in += data
                    if part.status_present:
                        return Outcome(part.status, 0, 0, bytes(data_in))
                case Received(ScsiResponse() as response, sense):
                    return _outcome(response, sense, bytes(data_in))
                case other:
                    raise AssertionError(f"not an answer to a command: {other}")

    async def ready(self) -> None:
        """Performs TEST UNIT READY until the unit has told everything that happened to it.

        It is busy as long as another initiator has an ACA condition there.
        """
        while (outcome := await self.execute(TestUnitReady())).status:
            assert outcome.key == UNIT_ATTENTION or outcome.status == Status.BUSY, outcome

    async def wait_for_message(self) -> None:
        """Returns when an Asynchronous Message has come; nothing else may."""
        while not self.messages:
            received = await self._receive()
            assert received is None, received

    async def receive(self) -> Received:
        """The next PDU that is neither a ping, which is answered, nor an Asynchronous Message, which is kept."""
        while True:
            received = await self._receive()
            if received is not None:
                return received

    async def _receive(self) -> Received | None:
        received = await self.wire.receive()
        header = received.header
        if not isinstance(header, DataIn | ReadyToTransfer) or getattr(header, "status_present", False):
            self._stat_sn = (header.stat_sn + 1) % 2**32
        if isinstance(header, NopIn) and header.target_transfer_tag != NO_TAG:
            self.pings += 1
            await self._answer(header)
        elif isinstance(header, AsyncMessage):
            self.messages.append(header)
        else:
            return received
        return None

    async def _answer(self, ping: NopIn) -> None:
        answer = NopOut(
            immediate=True,
            initiator_task_tag=NO_TAG,
            target_transfer_tag=ping.target_transfer_tag,
            cmd_sn=self._cmd_sn,
            exp_stat_sn=self._stat_sn,
        )
        await self.wire.send(answer)

    async def satisfy(self, tag: int, r2t: ReadyToTransfer, data_out: Buffer) -> None:
        """Sends what one R2T asks for, in PDUs of at most what the target takes."""
        view = memoryview(data_out)
        end = r2t.buffer_offset + r2t.desired_data_transfer_length
        for data_sn, offset in enumerate(range(r2t.buffer_offset, end, MAX_RECV_BYTES)):
            part = view[offset : min(offset + MAX_RECV_BYTES, end)]
            header = DataOut(
                final=offset + len(part) == end,
                initiator_task_tag=tag,
                target_transfer_tag=r2t.target_transfer_tag,
                exp_stat_sn=self._stat_sn,
                data_sn=data_sn,
                buffer_offset=offset,
            )
            await self.wire.send(header, part)

    async def logout(self) -> None:
        """Closes the session and waits until the target has closed the connection."""
        await self.send(LogoutRequest())
        while not isinstance((await self.receive()).header, LogoutResponse):
            pass
        await self.wire.ended()
        self.left = True


def _outcome(response: ScsiResponse, data: bytes, data_in: bytes) -> Outcome:
    sense = data[2:]
    key, code = (sense[2] & 0x0F, int.from_bytes(sense[12:14])) if sense else (0, 0)
    return Outcome(response.status, key, code, data_in)


OPERATIONAL = {
    "HeaderDigest": "None",
    "DataDigest": "None",
    "MaxRecvDataSegmentLength": str(MAX_RECV_BYTES),
    "InitialR2T": "No",
    "ImmediateData": "Yes",
}


def identity(place: Place, name: str = INITIATOR_NAME) -> dict[str, str]:
    """Returns what a normal session's first Login Request says of its ends."""
    return {"InitiatorName": name, "SessionType": "Normal", "TargetName": place.target}


async def log_in(
    wire: Wire, place: Place, keys: Mapping[str, str] = {}, *, isid: bytes = ISID, name: str = INITIATOR_NAME
) -> Initiator:
    """Logs in with one Login Request in the operational stage; raises AssertionError when it is refused.

    keys    replace those of OPERATIONAL
    """
    pairs = identity(place, name) | OPERATIONAL | dict(keys)
    request = LoginRequest(transit=True, current_stage=1, next_stage=3, isid=isid, cmd_sn=1, initiator_task_tag=1)
    await wire.send(request, text(pairs))
    received = await wire.receive()
    response = received.header
    assert isinstance(response, LoginResponse), response
    assert (response.status_class, response.next_stage) == (0, 3), response
    digests = {key: f"{key}=CRC32C".encode() in received.data for key in ("HeaderDigest", "DataDigest")}
    wire.enter_full_feature_phase(header_digest=digests["HeaderDigest"], data_digest=digests["DataDigest"])
    return Initiator(wire, place, response.exp_cmd_sn)


@asynccontextmanager
async def session(
    url: str, keys: Mapping[str, str] = {}, *, isid: bytes = ISID, name: str = INITIATOR_NAME, source: str = ""
) -> AsyncIterator[Initiator]:
    """A session with the unit at a libiscsi URL; logs out at the end, unless an exception ends it or it has left."""
    place = place_of(url)
    wire = await Wire.open(place, source)
    try:
        initiator = await log_in(wire, place, keys, isid=isid, name=name)
        yield initiator
        if not initiator.left:
            await initiator.logout()
    finally:
        wire.close()
