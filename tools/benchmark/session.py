"""An initiator's session in plain struct and blocking sockets: login, single commands, logout.

It shares no code with the target, so that it neither hides a mistake of the target nor loads the target's modules into
a process whose start is measured. What it offers at login is what libiscsi offers, so that both clients load a target
alike. `load` takes the session from here and keeps many commands in flight.
"""

import socket
import struct
from collections.abc import Mapping
from typing import NamedTuple, Self

BHS_BYTES = 48
BLOCK_BYTES = 512
SEGMENT_BYTES = 262144  # MaxRecvDataSegmentLength, MaxBurstLength and FirstBurstLength that libiscsi offers
PATIENCE_S = 20  # without a byte of the target
NO_TAG = 0xFFFFFFFF

LOGIN, LOGIN_RESPONSE = 0x43, 0x23
COMMAND, COMMAND_RESPONSE, DATA_IN = 0x01, 0x21, 0x25
LOGOUT, LOGOUT_RESPONSE = 0x46, 0x26
NOP_IN, NOP_OUT = 0x20, 0x40
FINAL, READS, WRITES, SIMPLE = 0x80, 0x40, 0x20, 0x01
SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3
CHECK_CONDITION = 0x02

_LOGIN = struct.Struct(">BBHI6sHIHxxII16x")
_LOGOUT = struct.Struct(">BBHI8xIHxxII16x")
_COMMAND = struct.Struct(">BBHI8sIIII16s")
_NOP_OUT = struct.Struct(">BBHI8sIIII16x")
_NUMBERS = struct.Struct(">II")  # StatSN, ExpCmdSN


class SessionFailed(Exception):
    """Says what a target did that ends the measurement."""


class Place(NamedTuple):
    """Where a unit is: host and port of a portal, name of the target, LUN."""

    host: str
    port: int
    target: str
    lun: int


class Identity(NamedTuple):
    """Who logs in.

    number    makes the initiator name and ISID different from those of others
    digests   offers CRC32C for headers and data, and nothing else
    source    the local address to come from; empty: the kernel chooses
    """

    number: int = 0
    digests: bool = False
    source: str = ""

    @property
    def name(self) -> str:
        """The initiator name."""
        return f"iqn.2026-11.org.example:bench-{self.number}"

    @property
    def isid(self) -> bytes:
        """The initiator session ID: random format, and the number."""
        return b"\x80\0\0" + self.number.to_bytes(3, "big")


ANYBODY = Identity()


class Pdu(NamedTuple):
    """What the target sent: a basic header segment and its data."""

    header: bytes
    data: bytes


def place_of(url: str) -> Place:
    """Takes a libiscsi URL apart.

    raises    SessionFailed when it has credentials, which this client cannot use
    """
    if "@" in url:
        raise SessionFailed("this client knows no CHAP: leave the credentials out, or use --only iscsi-perf,qemu")
    portal, target, lun = url.removeprefix("iscsi://").split("/")
    host, _, port = portal.rpartition(":")
    return Place(host.strip("[]"), int(port), target, int(lun))


def crc32c(data: bytes) -> int:
    """Returns the CRC-32C of a digest; imported late, since few sessions need it."""
    import fastcrc

    return fastcrc.crc32.iscsi(data)


def padded(size: int) -> int:
    """Returns a size with the padding to whole words."""
    return size + 3 & ~3


def login_request(who: Identity, stages: tuple[int, int], pairs: Mapping[str, str], numbers: tuple[int, int]) -> bytes:
    """Returns a Login Request with transit.

    stages    the current and the next one
    numbers   CmdSN and ExpStatSN
    """
    text = b"".join(f"{key}={value}\0".encode() for key, value in pairs.items())
    current, following = stages
    flags = FINAL | current << 2 | following
    header = _LOGIN.pack(LOGIN, flags, 0, len(text), who.isid, 0, 1, 0, *numbers)
    return header + text.ljust(padded(len(text)), b"\0")


def logout_request(numbers: tuple[int, int]) -> bytes:
    """Returns a Logout Request that closes the session."""
    return _LOGOUT.pack(LOGOUT, FINAL, 0, 0, 2, 0, *numbers)


def security_keys(who: Identity, target: str) -> dict[str, str]:
    """Returns what the first Login Request says."""
    return {"InitiatorName": who.name, "SessionType": "Normal", "TargetName": target, "AuthMethod": "None"}


def operational_keys(who: Identity) -> dict[str, str]:
    """Returns what the second Login Request says."""
    digest = "CRC32C" if who.digests else "None"
    return {
        "HeaderDigest": digest,
        "DataDigest": digest,
        "InitialR2T": "No",
        "ImmediateData": "Yes",
        "MaxRecvDataSegmentLength": str(SEGMENT_BYTES),
        "MaxBurstLength": str(SEGMENT_BYTES),
        "FirstBurstLength": str(SEGMENT_BYTES),
        "MaxOutstandingR2T": "1",
        "MaxConnections": "1",
        "ErrorRecoveryLevel": "0",
        "DefaultTime2Wait": "2",
        "DefaultTime2Retain": "0",
        "DataPDUInOrder": "Yes",
        "DataSequenceInOrder": "Yes",
    }


class Session:
    """A session with one connection; a context manager that closes it.

    place    the unit
    who      the initiator
    keys     what the target answered at login
    """

    def __init__(self, place: Place, who: Identity = ANYBODY) -> None:
        self.place = place
        self.who = who
        self.keys: dict[str, str] = {}
        self.cmd_sn = 1
        self.exp_stat_sn = 0
        self.digests = False
        source = (who.source, 0) if who.source else None
        self.socket = socket.create_connection((place.host, place.port), PATIENCE_S, source)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(None)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", PATIENCE_S, 0))
        self._log_in()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    @property
    def lun(self) -> bytes:
        """The LUN as it stands in a header."""
        return struct.pack(">H6x", self.place.lun)

    def _log_in(self) -> None:
        self._exchange((SECURITY, OPERATIONAL), security_keys(self.who, self.place.target))
        self._exchange((OPERATIONAL, FULL_FEATURE), operational_keys(self.who))
        self.digests = self.keys.get("DataDigest") == "CRC32C"
        if self.who.digests and not (self.digests and self.keys.get("HeaderDigest") == "CRC32C"):
            raise SessionFailed("the target does not do CRC32C digests")

    def _exchange(self, stages: tuple[int, int], pairs: Mapping[str, str]) -> None:
        while True:
            self.socket.sendall(login_request(self.who, stages, pairs, (self.cmd_sn, self.exp_stat_sn)))
            answer = self.receive()
            if answer.header[0] != LOGIN_RESPONSE or answer.header[36]:
                raise SessionFailed(f"login refused: {answer.header.hex()}")
            words = (word.partition(b"=") for word in answer.data.rstrip(b"\0").split(b"\0"))
            self.keys |= {key.decode(): value.decode() for key, _, value in words}
            if answer.header[1] & FINAL:
                return
            pairs = {}

    def receive(self) -> Pdu:
        """Returns the next PDU that is no ping; its digests are verified, and pings are answered."""
        while True:
            pdu = self._receive()
            if pdu.header[0] & 0x3F != NOP_IN:
                return pdu
            self.answer(pdu.header)

    def answer(self, ping: bytes) -> None:
        """Answers a NOP-In, given its header, if it wants that."""
        lun, transfer_tag = ping[8:16], int.from_bytes(ping[20:24], "big")
        if transfer_tag != NO_TAG:
            numbers = (NO_TAG, transfer_tag, self.cmd_sn, self.exp_stat_sn)
            header = _NOP_OUT.pack(NOP_OUT, FINAL, 0, 0, lun, *numbers)
            self.socket.sendall(header + (crc32c(header).to_bytes(4, "little") if self.digests else b""))

    def _receive(self) -> Pdu:
        header = self._receive_part(BHS_BYTES)
        data = self._receive_part(int.from_bytes(header[5:8], "big"))
        if header[0] & 0x3F in (LOGIN_RESPONSE, COMMAND_RESPONSE, LOGOUT_RESPONSE) or header[1] & 1:
            self.exp_stat_sn = _NUMBERS.unpack_from(header, 24)[0] + 1 & 0xFFFFFFFF
        return Pdu(header, data)

    def _receive_part(self, size: int) -> bytes:
        whole = padded(size)
        part = self._receive_exactly(whole + 4 if self.digests and size else whole)
        if self.digests and size and int.from_bytes(part[whole:], "little") != crc32c(part[:whole]):
            raise SessionFailed("a digest of the target is wrong")
        return part[:size]

    def _receive_exactly(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            some = self.socket.recv(size - len(received))
            if not some:
                raise SessionFailed("the target closed the connection")
            received += some
        return bytes(received)

    def execute(self, cdb: bytes, data_out: bytes = b"", read_bytes: int = 0) -> Pdu:
        """Performs one command, its data sent as immediate data, and returns the response with all Data-In.

        raises    SessionFailed when the status is not GOOD; a unit attention is not told but the command repeated
        """
        while True:
            status, answer = self._attempt(cdb, data_out, read_bytes)
            if status == 0:
                return answer
            if status != CHECK_CONDITION or answer.data[2:3] != b"\x06":  # the sense key of fixed sense data
                raise SessionFailed(f"status {status:02x}h, sense {answer.data.hex()}")

    def _attempt(self, cdb: bytes, data_out: bytes, read_bytes: int) -> tuple[int, Pdu]:
        flags = FINAL | SIMPLE | (READS if read_bytes else WRITES if data_out else 0)
        sizes = (len(data_out), read_bytes or len(data_out))
        self.socket.sendall(self._command(flags, cdb, sizes) + self._segment(data_out))
        self.cmd_sn = self.cmd_sn + 1 & 0xFFFFFFFF
        received = bytearray()
        while True:
            header, data = self.receive()
            opcode = header[0] & 0x3F
            if opcode == DATA_IN:
                received += data
            if opcode == COMMAND_RESPONSE:
                return header[3], Pdu(header, data[2:] if header[3] else bytes(received))
            if opcode == DATA_IN and header[1] & 1:
                return header[3], Pdu(header, bytes(received))

    def _command(self, flags: int, cdb: bytes, sizes: tuple[int, int]) -> bytes:
        immediate_bytes, expected_bytes = sizes
        numbers = (1, expected_bytes, self.cmd_sn, self.exp_stat_sn)
        header = _COMMAND.pack(COMMAND, flags, 0, immediate_bytes, self.lun, *numbers, cdb)
        return header + (crc32c(header).to_bytes(4, "little") if self.digests else b"")

    def _segment(self, data: bytes) -> bytes:
        whole = data.ljust(padded(len(data)), b"\0")
        return whole + (crc32c(whole).to_bytes(4, "little") if self.digests and data else b"")

    def read(self, lba: int, size_bytes: int) -> bytes:
        """Reads with READ(16) and returns the data."""
        cdb = struct.pack(">BxQIxx", 0x88, lba, size_bytes // BLOCK_BYTES)
        return self.execute(cdb, read_bytes=size_bytes).data

    def size_bytes(self) -> int:
        """Returns the size of the unit, with READ CAPACITY(16)."""
        cdb = struct.pack(">BB8xIxx", 0x9E, 0x10, 32)
        last, block_bytes = struct.unpack_from(">QI", self.execute(cdb, read_bytes=32).data)
        if block_bytes != BLOCK_BYTES:
            raise SessionFailed(f"the unit has blocks of {block_bytes} bytes, not {BLOCK_BYTES}")
        return int(last + 1) * BLOCK_BYTES

    def log_out(self) -> None:
        """Closes the session; the target has answered when it returns."""
        assert not self.digests
        self.socket.sendall(logout_request((self.cmd_sn, self.exp_stat_sn)))
        while self.receive().header[0] & 0x3F != LOGOUT_RESPONSE:
            pass
