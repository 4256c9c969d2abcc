"""Initiators against a `Target`, all in one thread: bytes to and fro, a medium that answers at once or when told to.

    A, B, ... ---- portal group 1 ("10.0.0.1:3260") or 2 ---- NODE: LUN 0 == "disk0", LUN 1 == "disk1"

`Lab` is the driver of the machine. `Host` is one connection of an initiator: it builds requests from their layouts,
reads what comes back with a `PduReader` and takes note of it, and never answers anything by itself.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import count
from typing import Any, Literal, NamedTuple, TypeVar

from iscsi_target.config.values import SERVED
from iscsi_target.iscsi import requests, responses
from iscsi_target.iscsi.ahs import AdditionalHeaders, pack_additional_headers
from iscsi_target.iscsi.chap import Authentication
from iscsi_target.iscsi.framing import Buffer, PduReader, frame
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.iscsi.responses import RESPONSES, Response
from iscsi_target.iscsi.task_management import TaskManagement
from iscsi_target.iscsi.text import Pair, encode, parse_listing
from iscsi_target.scsi.layouts.block_cdb import Read10, Write10
from iscsi_target.scsi.layouts.cdb import RequestSense, TestUnitReady
from iscsi_target.scsi.layouts.lun import pack_lun
from iscsi_target.scsi.operations import MediumError, Operation, Outcome, WouldBlock
from iscsi_target.scsi.state.task import Ticket
from iscsi_target.scsi.status import Status
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.storage.ram import RamStore
from iscsi_target.target import (
    Action,
    Announce,
    Close,
    Event,
    Fill,
    Operated,
    Perform,
    Persist,
    Portal,
    Send,
    Setting,
    Target,
    TargetNode,
    Timeouts,
)
from iscsi_target.wire.layout import Layout
from tests.unit.scsi.unit_bench import BLOCK, BLOCKS, make_device

NODE = "iqn.2026-01.org.example:node"
ADDRESS = "10.0.0.1:3260"
READY = TestUnitReady()
SESSION, CONNECTION = 0, 1  # reason codes of a logout

Result = Outcome | MediumError
T = TypeVar("T")


class Pdu(NamedTuple):
    """One PDU of the target."""

    header: Response
    data: bytes


class Ended(NamedTuple):
    """How a command ended: its status, sense key and code (None without sense), and data."""

    status: int
    sense: tuple[int, int] | None
    data: bytes


def disk_node(**changes) -> TargetNode:
    values: dict[str, Any] = {"name": NODE, "luns": {0: "disk0", 1: "disk1"}}
    return TargetNode(**values | changes)


def one_address(tags: Iterable[int] = (1,)) -> dict[int, list[Portal]]:
    return {tag: [Portal(f":{3259 + tag}")] for tag in tags}


class Lab:
    """Drives one target.

    slow        True leaves operations at the medium until `finish`
    unit_type   what its logical units are
    target_type what its target is
    """

    unit_type = LogicalUnit
    target_type = Target

    def __init__(
        self,
        nodes: Iterable[TargetNode] = (),
        portals: Mapping[int, list[Portal]] | None = None,
        timeouts: Timeouts | None = None,
        preferences: Preferences | None = None,
        discovery: Authentication | None = None,
    ) -> None:
        self.slow = False
        self.now = 100.0
        self.stores = {name: RamStore(BLOCKS * BLOCK) for name in ("disk0", "disk1", "disk2")}
        self.units = {name: self.unit_type(name, make_device(), partial(self.attempt, name)) for name in self.stores}
        self.at_medium: dict[Ticket, Perform] = {}
        self.saving: dict[Ticket, Persist] = {}
        self.performed: list[Perform] = []
        self.events: list[Event] = []
        self.operated: dict[int, Status] = {}
        self.remarked: list[tuple[object, bytes]] = []  # what is to be known of a PDU, and the PDU
        self.hosts: dict[int, Host] = {}
        self.portals = one_address((1, 2)) if portals is None else portals
        self.discovery = discovery or Authentication()
        self._numbers = count(1)
        self.target = self.target_type(
            Setting(
                nodes=list(nodes) or [disk_node(portal_group_tags=(1, 2))],
                units=list(self.units.values()),
                portals=self.portals,
                discovery=self.discovery,
                preferences=preferences or SERVED,
                timeouts=timeouts or Timeouts(),
                entropy=bytes,
            )
        )

    def connect(self, name: str = "a", portal_group_tag: int = 1, address: str = ADDRESS) -> "Host":
        host = Host(self, next(self._numbers), f"iqn.2026-01.org.example:{name}")
        self.hosts[host.number] = host
        self.run(self.target.connected(host.number, portal_group_tag, address, self.now))
        return host

    def session(self, name: str = "a", **login) -> "Host":
        """Returns a host in full feature phase whose units have nothing to tell it."""
        host = self.connect(name)
        host.login(**login)
        assert host.logged_in
        [active] = [active for active in self.target._active.values() if active.session.tsih == host.tsih]
        for lun in active.luns:
            host.command(RequestSense(allocation_length=18), lun, read=18)
        host.received.clear()
        return host

    def run(self, actions: Iterable[Action]) -> None:
        """Executes actions as the driver does."""
        for action in actions:
            match action:
                case Send(connection, buffers, remarks):
                    sent = b"".join(bytes(buffer) for buffer in buffers)
                    self.hosts[connection].take_in(sent)
                    self.remarked += [(about, sent[offset : offset + length]) for offset, length, about in remarks]
                case Fill(connection, place):
                    self.hosts[connection].place = place
                case Close(connection):
                    self.hosts[connection].closed = True
                case Perform(ticket):
                    assert ticket not in self.at_medium
                    self.at_medium[ticket] = action
                    if not self.slow:
                        self.finish(ticket)
                case Persist(ticket):
                    self.saving[ticket] = action
                case Announce(event):
                    self.events.append(event)
                case Operated(number, entry):
                    self.operated[number] = entry.told.status

    def attempt(self, unit: str, operation: Operation) -> Result | Literal[WouldBlock.BLOCKS]:
        """What the medium of a unit does at once: nothing here."""
        return WouldBlock.BLOCKS

    def perform(self, unit: str, operation: Operation) -> Result:
        """What the medium of a unit makes of an operation."""
        return operation.perform(self.stores[unit])

    def finish(self, ticket: Ticket | None = None, error: MediumError | None = None) -> None:
        """Lets the medium finish an operation, the oldest when none is named."""
        action = self.at_medium.pop(ticket or next(iter(self.at_medium)))
        self.performed.append(action)
        result = error or self.perform(action.unit, action.operation)
        self.run(self.target.finished(action.ticket, result, self.now))

    def finish_all(self) -> None:
        while self.at_medium:
            self.finish()

    def persist(self) -> None:
        ticket = next(iter(self.saving))
        del self.saving[ticket]
        self.run(self.target.finished(ticket, None, self.now))

    def wait(self, seconds: float) -> None:
        """Lets time pass, and calls the machine whenever it wants to be called."""
        end = self.now + seconds
        while (deadline := self.target.deadline()) <= end:
            self.now = max(self.now, deadline)
            self.run(self.target.elapsed(self.now))
        self.now = end

    def reconfigure(self, *nodes: TargetNode, portals: Mapping[int, list[Portal]] | None = None) -> None:
        units = list(self.units.values())
        if portals is not None:
            self.portals = portals
        self.run(self.target.reconfigure(nodes, units, self.portals, self.discovery, self.now))

    def announced(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    def block(self, lba: int, unit: str = "disk0") -> bytes:
        return bytes(self.stores[unit].read(lba * BLOCK, BLOCK))

    @property
    def clean(self) -> bool:
        """True when nothing is left anywhere of any connection."""
        return (
            self.target.drained
            and not self.target.sessions()
            and not self.target._dispatcher._desk._waits
            and not any(unit.open_tasks for unit in self.units.values())
        )


class Stream:
    """What the connections of a session share: CmdSN and initiator task tags."""

    def __init__(self) -> None:
        self.cmd_sn = 1
        self.tags = count(1)


class Host:
    """One connection of an initiator.

    received    what the target sent and nobody has taken yet
    stream      of its session
    """

    def __init__(self, lab: Lab, number: int, name: str) -> None:
        self.lab = lab
        self.number = number
        self.name = name
        self.received: list[Pdu] = []
        self.place: memoryview | None = None  # where the target wants the next bytes
        self.closed = False
        self.logged_in = False
        self.stream = Stream()
        self.isid = bytes([0x80, 0, 0, 0, 0, 1])
        self.tsih = 0
        self.cid = 0
        self.digests = {"header_digest": False, "data_digest": False}
        self._reader = PduReader()

    @property
    def cmd_sn(self) -> int:
        return self.stream.cmd_sn

    @cmd_sn.setter
    def cmd_sn(self, number: int) -> None:
        self.stream.cmd_sn = number

    # Bytes

    def take_in(self, sent: bytes) -> None:
        assert not self.closed
        for raw in self._reader.feed(sent):
            pdu = Pdu(RESPONSES[raw.basic.opcode].unpack(raw.header), bytes(raw.data))
            self.received.append(pdu)
            if isinstance(pdu.header, responses.LoginResponse):
                self._logged_in(pdu.header)

    def _logged_in(self, header: responses.LoginResponse) -> None:
        if header.transit and header.next_stage == 3 and not header.status_class:
            self.logged_in = True
            self.tsih = header.tsih
            self._reader.enter_full_feature_phase(limit_bytes=2**24 - 1, **self.digests)

    def feed(self, data: Buffer) -> None:
        """Sends bytes as they are."""
        while data and not self.closed:
            taken, data = self._put(data)
            self.lab.run(self.lab.target.received(self.number, [taken], self.lab.now))

    def _put(self, data: Buffer) -> tuple[Buffer, Buffer]:
        """Puts bytes where the target has a place for them, if it has; returns what it gets now, and later."""
        place, self.place = self.place, None
        if place is None:
            return data, b""
        length = min(len(data), len(place))
        place[:length] = data[:length]
        return place[:length], data[length:]

    def pack(self, header: requests.Request, data: bytes = b"", additional: bytes = b"") -> bytes:
        digests = self.digests if self.logged_in else {}
        return b"".join(bytes(buffer) for buffer in frame(header, data, additional, **digests))

    def send(self, header: requests.Request, data: bytes = b"", additional: bytes = b"") -> None:
        self.feed(self.pack(header, data, additional))

    def cut(self) -> None:
        self.closed = True
        self.lab.run(self.lab.target.disconnected(self.number, self.lab.now))

    def take(self, kind: type[T]) -> list[Pdu]:
        """Returns the PDUs of a kind that have come and forgets all that have come."""
        found = [pdu for pdu in self.received if isinstance(pdu.header, kind)]
        self.received.clear()
        return found

    def take_one(self, kind: type[T]) -> T:
        [pdu] = self.take(kind)
        assert isinstance(pdu.header, kind)
        return pdu.header

    def next_tag(self) -> int:
        return next(self.stream.tags)

    def next_cmd_sn(self, immediate: bool = False) -> int:
        number = self.cmd_sn
        if not immediate:
            self.cmd_sn = (self.cmd_sn + 1) % 2**32
        return number

    def _number(self, values: dict) -> None:
        if "cmd_sn" not in values:
            values["cmd_sn"] = self.next_cmd_sn(immediate=bool(values.get("immediate")))

    # Login

    def login_request(self, **fields) -> requests.LoginRequest:
        values: dict[str, Any] = {
            "transit": True,
            "current_stage": 1,
            "next_stage": 3,
            "isid": self.isid,
            "tsih": self.tsih,
            "cid": self.cid,
            "cmd_sn": self.cmd_sn,
        }
        return requests.LoginRequest(**values | fields)

    def login(self, target: str | None = NODE, offers: Iterable[Pair] = (), **fields) -> None:
        """Logs in with one request; a target of None is a discovery session."""
        kind = [("SessionType", "Discovery")] if target is None else [("TargetName", target)]
        self.digests = {
            "header_digest": ("HeaderDigest", "CRC32C") in offers,
            "data_digest": ("DataDigest", "CRC32C") in offers,
        }
        self.send(self.login_request(**fields), encode([("InitiatorName", self.name), *kind, *offers]))

    def join(self, cid: int, offers: Iterable[Pair] = (), portal_group_tag: int = 1, **login) -> "Host":
        """Returns a further connection that has asked to be in this one's session."""
        other = self.lab.connect(self.name.rpartition(":")[2], portal_group_tag)
        other.isid, other.tsih, other.cid, other.stream = self.isid, self.tsih, cid, self.stream
        other.login(offers=offers, **login)
        return other

    def login_status(self) -> int:
        """Returns class and detail of the login response that has come."""
        header = self.take_one(responses.LoginResponse)
        return header.status_class << 8 | header.status_detail

    # Full feature phase

    def command(self, cdb: Layout, lun: int = 0, *, read: int = 0, write: bytes = b"", **fields) -> int:
        """Sends a command; as much of its data as `data` says goes with it. Returns its tag."""
        return self.raw_command(cdb.pack(), pack_lun(lun), read=read, write=write, **fields)

    def raw_command(self, cdb: bytes, lun: bytes, *, read: int = 0, write: bytes = b"", **fields) -> int:
        data = fields.pop("data", b"")
        tag = fields.pop("tag", None) or self.next_tag()
        values: dict[str, Any] = {
            "lun": lun,
            "read": bool(read),
            "write": bool(write),
            "initiator_task_tag": tag,
            "expected_data_transfer_length": len(write) or read,
            "cdb": cdb[:16].ljust(16, b"\0"),
            "attributes": 1,
        } | fields
        self._number(values)
        additional = pack_additional_headers(AdditionalHeaders(cdb[16:])) if len(cdb) > 16 else b""
        self.send(requests.ScsiCommand(**values), data, additional)
        return tag

    def read(self, lba: int, lun: int = 0, **fields) -> int:
        return self.command(Read10(lba=lba, transfer_length=1), lun, read=BLOCK, **fields)

    def write(self, lba: int, blocks: bytes, lun: int = 0, **fields) -> int:
        """Sends a write with all its data as immediate data, unless `data` says otherwise."""
        cdb = Write10(lba=lba, transfer_length=len(blocks) // BLOCK)
        return self.command(cdb, lun, write=blocks, **{"data": blocks} | fields)

    def ask_to_write(self, lba: int, blocks: int = 1, lun: int = 0, **fields) -> int:
        """Sends a write without any data: the target has to ask for it."""
        return self.write(lba, bytes(blocks * BLOCK), lun, data=b"", **fields)

    def data_out(self, asked: responses.ReadyToTransfer, data: bytes, **fields) -> None:
        """Answers an R2T with one PDU."""
        values: dict[str, Any] = {
            "final": True,
            "lun": asked.lun,
            "initiator_task_tag": asked.initiator_task_tag,
            "target_transfer_tag": asked.target_transfer_tag,
            "buffer_offset": asked.buffer_offset,
        }
        self.send(requests.DataOut(**values | fields), data)

    def manage(self, function: int, lun: int | bytes = 0, referenced: int = NO_TAG, **fields) -> int:
        """Sends a task management function, immediate as initiators do; returns its tag."""
        tag = self.next_tag()
        values: dict[str, Any] = {
            "immediate": True,
            "function": function,
            "lun": lun if isinstance(lun, bytes) else pack_lun(lun),
            "initiator_task_tag": tag,
            "referenced_task_tag": referenced,
            "cmd_sn": self.cmd_sn,
        }
        self.send(requests.TaskManagementRequest(**values | fields))
        return tag

    def abort(self, referenced: int, **fields) -> int:
        return self.manage(TaskManagement.ABORT_TASK, referenced=referenced, **fields)

    def ask(self, text: Iterable[Pair], **fields) -> list[Pair]:
        """Sends a text request in one PDU; returns the answer of one PDU."""
        values: dict[str, Any] = {"initiator_task_tag": self.next_tag()} | fields
        self._number(values)
        self.send(requests.TextRequest(**values), encode(text))
        return [pair for pdu in self.take(responses.TextResponse) for pair in parse_listing(pdu.data)]

    def logout(self, reason: int = SESSION, cid: int = 0, **fields) -> None:
        values: dict[str, Any] = {"reason_code": reason, "cid": cid, "initiator_task_tag": self.next_tag()} | fields
        self._number(values)
        self.send(requests.LogoutRequest(**values))

    # What came

    def ended(self, tag: int) -> Ended | None:
        """Returns how a command ended, or None when it has not; a second response fails."""
        mine = [pdu for pdu in self.received if pdu.header.initiator_task_tag == tag]
        data = b"".join(pdu.data for pdu in mine if isinstance(pdu.header, responses.DataIn))
        collapsed = [
            pdu.header for pdu in mine if isinstance(pdu.header, responses.DataIn) and pdu.header.status_present
        ]
        alone = [pdu for pdu in mine if isinstance(pdu.header, responses.ScsiResponse)]
        assert len(collapsed) + len(alone) <= 1
        if collapsed:
            return Ended(collapsed[0].status, None, data)
        if not alone:
            return None
        [(header, sense)] = alone
        assert isinstance(header, responses.ScsiResponse)
        described = (sense[4] & 0xF, int.from_bytes(sense[14:16])) if sense else None
        return Ended(header.status, described, data)

    def outcome(self, tag: int) -> Ended:
        ended = self.ended(tag)
        assert ended is not None, f"no response to {tag}: {self.received}"
        return ended

    def attention(self, lun: int = 0) -> int | None:
        """Returns the code that TEST UNIT READY reports, or None."""
        ended = self.outcome(self.command(READY, lun))
        return None if ended.sense is None else ended.sense[1]

    def managed(self, tag: int) -> int | None:
        """Returns the response to a task management function, or None."""
        found = [
            pdu.header.response
            for pdu in self.received
            if isinstance(pdu.header, responses.TaskManagementResponse) and pdu.header.initiator_task_tag == tag
        ]
        assert len(found) <= 1
        return found[0] if found else None
