"""Writes what goes over each connection to a pcapng file that Wireshark and tshark decode as iSCSI.

The target sees a stream of bytes, not packets, so the packets are made here: each connection begins with a TCP
handshake and ends with FIN, sequence and acknowledgement numbers fit, checksums are left zero as with checksum offload.
Wireshark knows iSCSI on port 3260; for another port N, `-d tcp.port==N,iscsi` tells it.

A comment belongs to a range of the bytes that go to the peer. They become packets of their own, and the last of them,
in which Wireshark shows the PDU that they are, has the comment.

The event loop only copies bytes into a queue. A thread makes the packets and writes them, and brings the file up to
date whenever the queue is empty, so that a running trace can be read. While the disk is `behind`, the driver reads less
from the network. Should the queue fill all the same, what does not fit is left out: the sequence numbers show the gap,
and the log says how much is missing.

Source: draft-ietf-opsawg-pcapng, RFC791 3.1, RFC8200 3, RFC9293 3.1
"""

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, IntFlag
from ipaddress import ip_address
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple

from pcapng import FileWriter
from pcapng.blocks import EnhancedPacket, InterfaceDescription, SectionHeader

from iscsi_target.config.address import Address
from iscsi_target.config.values import ConfigError
from iscsi_target.scsi.operations import Buffer
from iscsi_target.wire.layout import B4, U8, U16, U24, U32, Bytes4, Bytes16, Layout

log = logging.getLogger(__name__)

BEHIND_BYTES = (
    16 << 20
)  # queued; from here on the driver reads less, so that a trace slows a target rather than lacks bytes
MAX_QUEUED_BYTES = 256 << 20  # queued by what was under way then; what comes on top is left out of the trace
RECORD_OVERHEAD_BYTES = 256  # of a queued record, so that many small ones are bounded too
MAX_COMMENTS = 4096  # that wait on one connection for their bytes; some megabyte of text
MAX_SEGMENT_BYTES = 61_440  # of one packet; an IP packet ends at 65,535 with its headers
FILE_BUFFER_BYTES = 1 << 20
LINKTYPE_RAW = 101  # packets begin with an IPv4 or IPv6 header
TCP_PROTOCOL = 6
TCP_MODULUS = 1 << 32
FIRST_SEQUENCE = 0  # relative numbers make a trace readable without help


class TcpFlag(IntFlag):
    """Control bits of a TCP header.

    Source: RFC9293 3.1
    """

    FIN = 1
    SYN = 2
    PSH = 8
    ACK = 16


class Ipv4Header(Layout):
    """An IPv4 header without options.

    Source: RFC791 3.1
    """

    version: B4 = 4
    header_length: B4 = 5
    type_of_service: U8 = 0
    total_length: U16
    identification: U16 = 0
    fragment: U16 = 0
    time_to_live: U8 = 64
    protocol: U8 = TCP_PROTOCOL
    header_checksum: U16 = 0
    source_address: Bytes4
    destination_address: Bytes4


class Ipv6Header(Layout):
    """An IPv6 header.

    Source: RFC8200 3
    """

    version: B4 = 6
    _1: B4 = 0
    traffic_class_and_flow_label: U24 = 0
    payload_length: U16
    next_header: U8 = TCP_PROTOCOL
    hop_limit: U8 = 64
    source_address: Bytes16
    destination_address: Bytes16


class TcpHeader(Layout):
    """A TCP header without options.

    Source: RFC9293 3.1
    """

    source_port: U16
    destination_port: U16
    sequence_number: U32
    acknowledgment_number: U32
    data_offset: B4 = 5
    _1: B4 = 0
    control_bits: U8
    window: U16 = 65535
    checksum: U16 = 0
    urgent_pointer: U16 = 0


class _Moment(Enum):
    OPENED = "opened"
    RECEIVED = "received"
    SENT = "sent"
    NOTED = "noted"
    CLOSED = "closed"


class _Record(NamedTuple):
    time_us: int
    moment: _Moment
    number: int
    payload: bytes = b""
    missing_bytes: int = 0
    comment: str = ""
    ends: "tuple[Address, Address] | None" = None

    @property
    def counted_bytes(self) -> int:
        """What it counts for among all that is queued."""
        return len(self.payload) + RECORD_OVERHEAD_BYTES if self.payload or self.comment else 0


class _Comment(NamedTuple):
    """A text for the bytes from start to end, counted from the first byte that went to the peer."""

    start: int
    end: int
    text: str


@dataclass(slots=True)
class _Output:
    """What has gone to a peer, and the comments on what is still to go, in its order."""

    length_bytes: int = 0
    comments: deque[_Comment] = field(default_factory=deque)

    def cut(self, payload: bytes) -> Iterator[tuple[bytes, str]]:
        """Yields what goes out now in parts, each with its comment or an empty text."""
        position, self.length_bytes = self.length_bytes, self.length_bytes + len(payload)
        view = memoryview(payload)
        while self.comments and self.comments[0].start < self.length_bytes:
            start, end, text = self.comments[0]
            if start > position:
                yield bytes(view[: start - position]), ""
                view, position = view[start - position :], start
            if end > self.length_bytes:
                break
            self.comments.popleft()
            yield bytes(view[: end - position]), text
            view, position = view[end - position :], end
        if view:
            yield bytes(view), ""


@dataclass(slots=True)
class _Side:
    """One end of a connection and what it has sent."""

    address: Address
    sequence: int = FIRST_SEQUENCE

    def advance(self, length: int) -> None:
        self.sequence = (self.sequence + length) % TCP_MODULUS


@dataclass(slots=True)
class _Stream:
    local: _Side
    peer: _Side


class Trace:
    """Records connections into a file; its methods return at once, except `close`.

    path      the file; what it held is gone
    raises    ConfigError when the file cannot be written
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("wb", buffering=FILE_BUFFER_BYTES)
        except OSError as error:
            raise ConfigError(f"trace {path}", error.strerror or str(error), remedy="write to another file") from error
        self.missing_bytes = 0
        self._path = path
        self._queue: SimpleQueue[_Record | None] = SimpleQueue()
        self._queued_bytes = 0  # counted up by the event loop only
        self._written_bytes = 0  # counted up by the thread only
        self._outputs: dict[int, _Output] = {}
        self._gaps: dict[tuple[int, _Moment], int] = {}
        self._thread = Thread(target=self._write_all, name="trace", daemon=True)
        self._thread.start()

    @property
    def behind(self) -> bool:
        """True while the disk has much to catch up with."""
        return self._queued_bytes - self._written_bytes > BEHIND_BYTES

    def opened(self, number: int, local: Address, peer: Address) -> None:
        """Notes a new connection."""
        self._outputs[number] = _Output()
        self._queue.put(_Record(_now_us(), _Moment.OPENED, number, ends=(local, peer)))

    def received(self, number: int, received: Buffer) -> None:
        """Notes what came from the peer."""
        self._put(number, _Moment.RECEIVED, bytes(received))

    def sent(self, number: int, sent: Iterable[Buffer]) -> None:
        """Notes what went to the peer."""
        payload = b"".join(sent)
        output = self._outputs[number]
        if not output.comments:
            output.length_bytes += len(payload)
            self._put(number, _Moment.SENT, payload)
            return
        for part, comment in output.cut(payload):
            self._put(number, _Moment.SENT, part, comment)

    def comment(self, number: int, *, ahead: int, length: int, text: str) -> None:
        """Puts a comment on bytes that are still to go to the peer; one over MAX_COMMENTS is left out.

        ahead    bytes that will go before them, and after all those that `sent` has told of
        length   how many they are, at least 1; they begin where those of the comment before end, or later
        """
        output = self._outputs[number]
        if len(output.comments) < MAX_COMMENTS:
            start = output.length_bytes + ahead
            output.comments.append(_Comment(start, start + length, text))

    def note(self, number: int, text: str) -> None:
        """Puts a comment where a connection is now, on an empty packet to the peer."""
        if not self.behind:
            self._queued_bytes += RECORD_OVERHEAD_BYTES
            self._queue.put(_Record(_now_us(), _Moment.NOTED, number, comment=text))

    def closed(self, number: int) -> None:
        """Notes the end of a connection."""
        for moment in (_Moment.RECEIVED, _Moment.SENT):
            self._gaps.pop((number, moment), None)
        del self._outputs[number]
        self._queue.put(_Record(_now_us(), _Moment.CLOSED, number))

    def close(self) -> None:
        """Writes what is queued and closes the file; blocks until then."""
        self._queue.put(None)
        self._thread.join()
        if self.missing_bytes:
            log.warning("trace %s lacks %d bytes: the disk was too slow", self._path, self.missing_bytes)

    def _put(self, number: int, moment: _Moment, payload: bytes, comment: str = "") -> None:
        if self._queued_bytes - self._written_bytes > MAX_QUEUED_BYTES:
            self.missing_bytes += len(payload)
            self._gaps[number, moment] = self._gaps.get((number, moment), 0) + len(payload)
            return
        missing_bytes = self._gaps.pop((number, moment), 0) if self._gaps else 0
        self._queued_bytes += len(payload) + RECORD_OVERHEAD_BYTES
        self._queue.put(_Record(_now_us(), moment, number, payload, missing_bytes, comment))

    def _write_all(self) -> None:
        try:
            with self._file as file:
                packets = _PacketWriter(FileWriter(file, _section()))
                while (entry := self._queue.get()) is not None:
                    packets.write(entry)
                    self._written_bytes += entry.counted_bytes
                    if self._queue.empty():
                        file.flush()
        except OSError as error:
            log.error("trace %s ends here: %s; make room and restart the server", self._path, error.strerror)
            self._discard_all()

    def _discard_all(self) -> None:
        while (entry := self._queue.get()) is not None:
            self._written_bytes += entry.counted_bytes


def _now_us() -> int:
    return time.time_ns() // 1000


def _section() -> SectionHeader:
    section = SectionHeader(options={"shb_userappl": "iscsi-target"})
    section.new_member(InterfaceDescription, link_type=LINKTYPE_RAW, options={"if_name": "iscsi-target"})
    return section


class _PacketWriter:
    """Makes TCP packets of records."""

    def __init__(self, writer: FileWriter) -> None:
        self._writer = writer
        self._streams: dict[int, _Stream] = {}

    def write(self, entry: _Record) -> None:
        if entry.moment is _Moment.OPENED:
            assert entry.ends is not None
            stream = self._streams[entry.number] = _Stream(_Side(entry.ends[0]), _Side(entry.ends[1]))
            self._handshake(entry.time_us, stream)
            return
        stream = self._streams[entry.number]
        match entry.moment:
            case _Moment.RECEIVED:
                self._payload(entry, stream.peer, stream.local)
            case _Moment.SENT:
                self._payload(entry, stream.local, stream.peer)
            case _Moment.NOTED:
                self._packet(entry.time_us, (stream.local, stream.peer), TcpFlag.ACK, b"", entry.comment)
            case _Moment.CLOSED:
                del self._streams[entry.number]
                self._packet(entry.time_us, (stream.local, stream.peer), TcpFlag.FIN | TcpFlag.ACK)
                self._packet(entry.time_us, (stream.peer, stream.local), TcpFlag.FIN | TcpFlag.ACK)
                self._packet(entry.time_us, (stream.local, stream.peer), TcpFlag.ACK)

    def _handshake(self, time_us: int, stream: _Stream) -> None:
        self._packet(time_us, (stream.peer, stream.local), TcpFlag.SYN)
        self._packet(time_us, (stream.local, stream.peer), TcpFlag.SYN | TcpFlag.ACK)
        self._packet(time_us, (stream.peer, stream.local), TcpFlag.ACK)

    def _payload(self, entry: _Record, source: _Side, destination: _Side) -> None:
        source.advance(entry.missing_bytes)
        payload = memoryview(entry.payload)
        for start in range(0, len(payload), MAX_SEGMENT_BYTES):
            part = payload[start : start + MAX_SEGMENT_BYTES]
            comment = entry.comment if start + len(part) == len(payload) else ""
            self._packet(entry.time_us, (source, destination), TcpFlag.PSH | TcpFlag.ACK, part, comment)

    def _packet(
        self,
        time_us: int,
        ends: tuple[_Side, _Side],
        flags: TcpFlag,
        payload: Buffer = b"",
        comment: str = "",
    ) -> None:
        source, destination = ends
        segment = TcpHeader(
            source_port=source.address.port,
            destination_port=destination.address.port,
            sequence_number=source.sequence,
            acknowledgment_number=destination.sequence if TcpFlag.ACK in flags else 0,
            control_bits=flags,
        )
        header = _ip_header(source.address.host, destination.address.host, TcpHeader.size + len(payload))
        source.advance(len(payload) + bool(flags & (TcpFlag.SYN | TcpFlag.FIN)))
        block = self._writer.current_section.new_member(EnhancedPacket, packet_data=header + segment.pack() + payload)
        block.timestamp_high, block.timestamp_low = divmod(time_us, TCP_MODULUS)
        if comment:
            block.options["opt_comment"] = comment
        self._writer.write_block(block)


def _ip_header(source: str, destination: str, payload_length: int) -> bytes:
    addresses = ip_address(source).packed, ip_address(destination).packed
    header: Ipv4Header | Ipv6Header
    if ":" in source:
        header = Ipv6Header(
            payload_length=payload_length, source_address=addresses[0], destination_address=addresses[1]
        )
    else:
        header = Ipv4Header(
            total_length=Ipv4Header.size + payload_length,
            source_address=addresses[0],
            destination_address=addresses[1],
        )
    return header.pack()
