"""The initiator's machine and the target's machine, back to back: every byte between them is moved by the test.

    Session -- Peer: connection ──sent──> ... ──> Target: Lab ──> stores
            -- Peer: connection <── ... <──came──

`World` gives the initiator work and keeps account of what each block may hold. Each write carries a number of its own
in every block, so what reaches a store, and how often, is known. No two commands that are open concern the same block.
"""

from collections import Counter

from iscsi_target.initiator.command import Command
from iscsi_target.initiator.events import (
    CommandCompleted,
    ConnectionLost,
    Event,
    LoggedIn,
    LoggedOut,
    MessageReceived,
    PduReceived,
    PingAnswered,
    RequestRejected,
    TaskAborted,
    TaskManagementCompleted,
    TextAnswered,
)
from iscsi_target.initiator.login import Identity
from iscsi_target.initiator.session import CLOSE_CONNECTION, Session, Settings
from iscsi_target.iscsi.framing import PduReader
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.iscsi.requests import REQUEST_HEADERS, ScsiCommand
from iscsi_target.iscsi.responses import AsyncMessage, DataIn, ReadyToTransfer, ScsiResponse
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.scsi.layouts.block_cdb import Read16, Write16
from iscsi_target.scsi.layouts.lun import pack_lun
from iscsi_target.scsi.operations import Operation, Write
from iscsi_target.wire.serial import distance
from tests.initiator import ADDRESS, NODE, READY, Host, Lab, Result
from tests.unit.scsi.unit_bench import BLOCK

LUN = pack_lun(0)
NAME = "iqn.2026-01.org.example:a"
ISID = bytes([0x80, 0, 0, 0, 0, 1])
AREA = 512  # blocks in use
GOOD, CHECK_CONDITION = 0, 2
UNIT_ATTENTION = 6
NUMBER_BYTES = 4


def content(number: int, blocks: int) -> bytes:
    return number.to_bytes(NUMBER_BYTES) * (blocks * BLOCK // NUMBER_BYTES)


def numbers_in(data: bytes) -> list[int]:
    """The number in each block; every block must be of one write."""
    found = []
    for start in range(0, len(data), BLOCK):
        [number] = {
            int.from_bytes(data[place : place + NUMBER_BYTES]) for place in range(start, start + BLOCK, NUMBER_BYTES)
        }
        found.append(number)
    return found


class CountingLab(Lab):
    """Counts how often each write reached the store; operations wait at the medium."""

    def __init__(self, preferences: Preferences) -> None:
        super().__init__(preferences=preferences)
        self.slow = True
        self.written: Counter[int] = Counter()

    def perform(self, unit: str, operation: Operation) -> Result:
        if isinstance(operation, Write):
            [number] = set(numbers_in(bytes(operation.data)))
            self.written[number] += 1
        return super().perform(unit, operation)


class Peer(Host):
    """One connection with the initiator's machine at its end.

    sent, came    bytes on their way to the target, and from it
    """

    def __init__(self, lab: Lab, session: Session, cid: int) -> None:
        super().__init__(lab, next(lab._numbers), NAME)
        self.session = session
        self.connection = self.session.connect(cid)
        self.sent = b""
        self.came = b""
        self._sniffer = PduReader(REQUEST_HEADERS)
        lab.hosts[self.number] = self
        lab.run(lab.target.connected(self.number, 1, ADDRESS, lab.now))
        self.collect()

    def take_in(self, sent: bytes) -> None:
        self.came += self.spoil(sent, outward=False)

    def spoil(self, sent: bytes, *, outward: bool) -> bytes:
        """What the link makes of whole PDUs."""
        return sent

    def collect(self) -> None:
        """Puts what the machine has queued on the way to the target, and looks at it."""
        queued = b"".join(bytes(buffer) for buffer in self.connection.take_output())
        self.sent += self.spoil(queued, outward=True)
        for pdu in self._sniffer.feed(queued):
            if isinstance(pdu.basic, ScsiCommand):
                self._check_window(pdu.basic)

    def _check_window(self, command: ScsiCommand) -> None:
        """No command may go out beyond the window that the target has opened."""
        [active] = self.lab.target._active.values()
        assert distance(command.cmd_sn, active.session.numbers.maximum) >= 0

    def move_out(self, size: int) -> None:
        moved, self.sent = self.sent[:size], self.sent[size:]
        self.feed(moved)

    def log_in(self) -> None:
        """Moves bytes and operations until the login is done."""
        events: list[Event] = []
        while not events:
            assert self.sent or self.came or self.lab.at_medium, "the login has stopped"
            self.move_out(len(self.sent))
            events = self.move_in(len(self.came))
            if not self.came and self.lab.at_medium:  # a session before must be over first
                self.lab.finish()
        [event] = events
        assert isinstance(event, LoggedIn)

    def move_in(self, size: int) -> list[Event]:
        moved, self.came = self.came[:size], self.came[size:]
        events = self.connection.receive(moved)
        for event in events:
            if isinstance(event, LoggedIn):
                self._sniffer.enter_full_feature_phase(
                    limit_bytes=2**24 - 1,
                    header_digest=event.parameters.header_digest,
                    data_digest=event.parameters.data_digest,
                )
        self.collect()
        return events


class Claim:
    """Blocks that an open command concerns; number is that of a write, None of a read."""

    def __init__(self, lba: int, blocks: int, number: int | None) -> None:
        self.range = range(lba, lba + blocks)
        self.number = number


class World:
    """An initiator at work.

    peer_type     what its connections are
    tolerated     sense keys with which a read or write may end
    connections   how many its session has, unless one is logging out
    allowed       what each block may hold: the numbers of writes
    """

    peer_type: type[Peer] = Peer
    tolerated: tuple[int, ...] = (UNIT_ATTENTION,)

    def __init__(self, settings: Settings, preferences: Preferences, connections: int = 1) -> None:
        self.lab = CountingLab(preferences)
        self.settings = settings
        self.connections = connections
        self.allowed: dict[int, set[int]] = {lba: {0} for lba in range(AREA)}
        self.claims: dict[int, Claim] = {}
        self.lingering: list[Claim] = []  # lost with their session, but perhaps still at the medium
        self.others: set[int] = set()  # tags of what is no read and no write
        self.answered = 0
        self._number = 0
        self._log_in()
        for _ in range(2):  # the unit has something to tell first
            self.look(1)
            self.settle()

    def _log_in(self) -> None:
        """Begins a session, which takes the place of the one before."""
        self.session = Session(Identity(NAME, ISID, NODE), self.settings, bytes)
        self.peers: list[Peer] = []
        self._connect(0)
        [active] = self.lab.target._active.values()
        assert self.session.parameters == active.session.parameters
        for cid in range(1, self.connections):
            self._connect(cid)

    def _connect(self, cid: int) -> None:
        peer = self.peer_type(self.lab, self.session, cid)
        peer.log_in()
        self.peers.append(peer)

    def peer(self, choice: int) -> Peer:
        """Returns one of the connections."""
        return self.peers[choice % len(self.peers)]

    # Work

    def _free(self, lba: int, blocks: int) -> bool:
        claimed = [*self.claims.values(), *self.lingering]
        return not any(place in claim.range for claim in claimed for place in range(lba, lba + blocks))

    def write(self, lba: int, blocks: int) -> None:
        if self._free(lba, blocks):
            self._number += 1
            command = Command(LUN, Write16(lba=lba, transfer_length=blocks).pack(), content(self._number, blocks))
            self._command(command, Claim(lba, blocks, self._number))

    def read(self, lba: int, blocks: int) -> None:
        if self._free(lba, blocks):
            cdb = Read16(lba=lba, transfer_length=blocks).pack()
            self._command(Command(LUN, cdb, read_length=blocks * BLOCK), Claim(lba, blocks, None))

    def _command(self, command: Command, claim: Claim) -> None:
        self.claims[self.session.command(command, self.peer(claim.range.start).connection)] = claim
        self.collect()

    def look(self, count: int) -> None:
        """Sends commands that do nothing."""
        for number in range(count):
            self._other(self.session.command(Command(LUN, READY.pack()), self.peer(number).connection))

    def _other(self, tag: int) -> None:
        self.others.add(tag)
        self.collect()

    def collect(self) -> None:
        """Takes over what the machine wants to send."""
        for peer in self.peers:
            peer.collect()

    def ping(self, size: int) -> None:
        self._other(self.session.ping(bytes(size), self.peer(size).connection))

    def ask(self, which: str) -> None:
        pairs = [("SendTargets", which), ("X-com.example", "1")]
        self._other(self.session.ask(pairs, self.peer(len(which)).connection))

    def abort(self, choice: int) -> None:
        """Aborts one of the open reads and writes, or takes it back."""
        if self.claims:
            tag = list(self.claims)[choice % len(self.claims)]
            if self.session.withdraw(tag):
                del self.claims[tag]
            else:
                self._manage(TaskManagement.ABORT_TASK, tag)

    def reset(self) -> None:
        self._manage(TaskManagement.LOGICAL_UNIT_RESET)

    def _manage(self, function: TaskManagement, *referenced: int) -> None:
        connection = self.peer(self.answered).connection
        if referenced:
            self._other(self.session.manage(function, LUN, connection, referenced_task_tag=referenced[0]))
        else:
            self._other(self.session.manage(function, LUN, connection))

    # Bytes

    def move_out(self, size: int) -> None:
        self.peer(size).move_out(size)

    def move_in(self, size: int) -> None:
        self._move_in(self.peer(size), size)

    def _move_in(self, peer: Peer, size: int) -> None:
        for event in peer.move_in(size):
            self._take(event)
        self.collect()

    def finish(self, choice: int) -> None:
        waiting = list(self.lab.at_medium)
        if waiting:
            self.lab.finish(waiting[choice % len(waiting)])
        if not self.lab.at_medium:
            self.lingering.clear()

    def cut(self, choice: int) -> None:
        """Loses a connection, and with it the session with all that is under way, and comes again."""
        first = self.peer(choice)
        if not first.closed:
            first.cut()
        assert all(peer.closed for peer in self.peers)
        for peer in self.peers:
            for event in peer.connection.lose("cut"):
                self._take(event)
        assert not self.claims
        assert not self.others
        self._log_in()

    def leave(self, choice: int) -> None:
        """Logs a connection out, asking on any of them, and lets it come again when it has gone."""
        if len(self.peers) < self.connections or self.connections == 1:
            return
        leaving = self.peer(choice)
        asking = self.peer(choice + self.answered % 2)
        if asking.closed or leaving.closed:
            return
        self.release()
        self._other(self.session.log_out(asking.connection, CLOSE_CONNECTION, leaving=leaving.connection))
        self.settle()
        assert leaving.closed
        self.peers.remove(leaving)
        self._connect(leaving.connection.cid)

    def settle(self) -> None:
        """Moves everything until nothing more happens."""
        while any(peer.sent or peer.came for peer in self.peers) or self.lab.at_medium:
            for peer in self.peers:
                peer.move_out(len(peer.sent))
                self._move_in(peer, len(peer.came))
            self.finish(0)
        self.finish(0)

    def release(self) -> None:
        """Lets what a rule holds back go out behind other PDUs, and everything come to its end."""
        self.settle()
        for number in range(4 * self.connections):
            self.ping(number)
        self.settle()

    # Account

    def _take(self, event: Event) -> None:
        match event:
            case CommandCompleted():
                self.answered += 1
                if event.tag in self.others:
                    self.others.remove(event.tag)
                else:
                    self._complete(self.claims.pop(event.tag), event)
            case TaskAborted(tag):
                if tag in self.others:
                    self.others.remove(tag)
                else:
                    self._doubt(self.claims.pop(tag))
            case ConnectionLost(tags=tags):
                assert set(tags) <= set(self.claims) | self.others
                lost = [self.claims.pop(tag) for tag in tags if tag in self.claims]
                for claim in lost:
                    self._doubt(claim)
                self.lingering += lost
                self.others -= set(tags)
            case TaskManagementCompleted(tag, response):
                assert response in (ManagementResponse.FUNCTION_COMPLETE, ManagementResponse.TASK_DOES_NOT_EXIST)
                self.others.remove(tag)
            case PingAnswered(tag) | TextAnswered(tag):
                self.others.remove(tag)
            case LoggedOut(tag, response):
                assert response == 0
                self.others.discard(tag)
            case PduReceived(header=ScsiResponse() | DataIn() | ReadyToTransfer()) if self.connections > 1:
                pass  # it was on its way on another connection when its command was aborted
            case MessageReceived(header=AsyncMessage(async_event=5)) if self.connections > 1:
                pass  # FastAbort tells of a reset where it did not come from
            case RequestRejected() | _:
                raise AssertionError(f"unexpected: {event}")

    def _complete(self, claim: Claim, completed: CommandCompleted) -> None:
        if completed.status != GOOD:
            assert completed.status == CHECK_CONDITION
            assert completed.sense[2] & 0xF in self.tolerated
            assert claim.number is None or not self.lab.written[claim.number]
        elif claim.number is not None:
            for lba in claim.range:
                self.allowed[lba] = {claim.number}
        else:
            for lba, number in zip(claim.range, numbers_in(completed.data), strict=True):
                assert number in self.allowed[lba], f"block {lba}"

    def _doubt(self, claim: Claim) -> None:
        """Takes into account that a write may or may not have been done."""
        if claim.number is not None:
            for lba in claim.range:
                self.allowed[lba] |= {claim.number}

    def check(self) -> None:
        """Everything must be answered, every acknowledged write readable, and nothing left anywhere."""
        assert not self.session.requests
        assert not self.claims
        assert not self.others
        for lba, allowed in self.allowed.items():
            assert numbers_in(self.lab.block(lba))[0] in allowed, f"block {lba}"
        assert max(self.lab.written.values(), default=1) == 1
        self.session.log_out(self.peer(self.answered).connection)
        self.collect()
        self.settle()
        for peer in self.peers:
            peer.cut()
        assert self.lab.clean
