"""Stands between a connection and its session while there are rules, and does to its PDUs what the rules say.

What concerns a command and not its PDU (an answer, a delay, a unit attention) is only noted here: it is done when the
command is in its turn, by `misbehaving`. So are stalls, of which the tap keeps what must wait.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple, Protocol, TypeVar

from iscsi_target.faults.actions import (
    Answer,
    Attention,
    Change,
    Corrupt,
    Cut,
    Delay,
    Drop,
    Duplicate,
    Hang,
    Part,
    Refuse,
    Reorder,
    Stall,
)
from iscsi_target.faults.rulebook import Armed, Rulebook
from iscsi_target.faults.rules import Subject
from iscsi_target.iscsi.connection import Connection, LoginExchange
from iscsi_target.iscsi.events import Event
from iscsi_target.iscsi.framing import NOTHING, Buffer, Incoming, RawPdu, wrong_data_digest, wrong_header_digest
from iscsi_target.iscsi.header import BasicHeader
from iscsi_target.iscsi.requests import DataOut, LoginRequest, ScsiCommand
from iscsi_target.iscsi.responses import RESPONSES, DataIn, ReadyToTransfer, ScsiResponse
from iscsi_target.scsi.layouts.lun import unpack_lun
from iscsi_target.target.link import Link
from iscsi_target.wire.choice import Choice
from iscsi_target.wire.layout import Layout

MAX_DISPLACED = 64  # PDUs of a connection that others are to pass; they are kept, and can be large
MAX_COMMANDS = 512  # that are remembered; a session has far fewer open, and a hostile one must not add to them
FLIPPED = 0xFF

_RESPONSE_HEADERS = Choice[Layout](RESPONSES, BasicHeader)
_OF_COMMANDS = (ScsiCommand, DataOut, ScsiResponse, DataIn, ReadyToTransfer)

Header = TypeVar("Header", bound=Layout)
Value = TypeVar("Value")


class Stalled:
    """A direction in which nothing moves on a connection.

    armed   the rule that wants it so
    pdu     what waits to be delivered, when it is input that is stalled
    kept    what came behind it, before the driver stopped reading
    """

    def __init__(self, armed: Armed, pdu: RawPdu | None = None) -> None:
        self.armed = armed
        self.pdu = pdu
        self.kept: list[bytes] = []


class Displaced:
    """A PDU that others are to pass.

    armed     the rule that wants it so
    passing   how many are still to
    incoming  the PDU when it has come in, else None
    outgoing  its buffers when it is to go out, digests as they were when it was
    """

    def __init__(
        self, armed: Armed, passing: int, *, incoming: RawPdu | None = None, outgoing: Sequence[Buffer] = ()
    ) -> None:
        self.armed = armed
        self.passing = passing
        self.incoming = incoming
        self.outgoing = outgoing


class Desk(Protocol):
    """Who is told what a tap cannot do by itself."""

    def fired(self, link: Link, armed: Armed, subject: Subject) -> None:
        """A rule has fired."""

    def stalled(self, link: Link, stalled: Stalled, seconds: float) -> None:
        """Nothing moves on a connection in one direction, for so long or FOR_GOOD."""

    def displaced(self, link: Link, displaced: Displaced) -> None:
        """A PDU waits for others to pass it, and is to go on when they do not come."""

    def passed(self, displaced: Displaced) -> None:
        """A PDU has gone on, as those that were to pass it have come."""


class _Known(NamedTuple):
    """What is remembered of a command."""

    lun: int | None
    cdb: bytes


class Tap:
    """The tap of one connection.

    link       the connection and its session
    book       the rules
    desk       is told of what happens

    reading    what keeps input back, or None
    writing    what keeps output back, or None
    displaced  what others are to pass, oldest first
    fates      what is to become of commands that are not in their turn yet, by initiator task tag
    """

    def __init__(self, link: Link, book: Rulebook, desk: Desk) -> None:
        self._link = link
        self._book = book
        self._desk = desk
        self._initiator = ""
        self._target = ""
        self._known: dict[int, _Known] = {}
        self._cut = False
        self.reading: Stalled | None = None
        self.writing: Stalled | None = None
        self.displaced: list[Displaced] = []
        self.fates: dict[int, Armed] = {}

    def forgive(self, removed: Collection[Armed]) -> None:
        """Takes back what rules have in mind for commands whose turn has not come."""
        self.fates = {tag: armed for tag, armed in self.fates.items() if armed not in removed}

    # Input

    def keeps(self, incoming: Incoming) -> bool:
        """Takes what has come while input is stalled; returns False when it is not."""
        if self.reading is None:
            return False
        self.reading.kept.append(bytes(incoming.take(incoming.end)))
        return True

    def receive(self, connection: Connection, pdu: RawPdu) -> Iterable[Event]:
        """Hands a PDU on, or does with it what a rule says."""
        if isinstance(pdu.basic, LoginRequest):
            self._note_names(pdu.data)
        subject = self._subject(pdu.basic, len(pdu.data))
        armed = self._judge(subject)
        if isinstance(pdu.basic, ScsiCommand):
            self.fates.pop(pdu.basic.initiator_task_tag, None)
        events: Iterable[Event]
        if armed is None:
            events = connection.phase.receive(connection, pdu)
        elif isinstance(armed.rule.action, Reorder) and len(self.displaced) < MAX_DISPLACED:
            self._displace(Displaced(armed, armed.rule.action.passing, incoming=pdu.kept()))
            return ()
        else:
            events = self._suffer_in(connection, pdu, armed)
        return chain(events, self._follow_in(connection)) if self.displaced else events

    def _follow_in(self, connection: Connection) -> Iterator[Event]:
        """Hands on what enough PDUs have passed with the one that came."""
        for displaced in self._passed(incoming=True):
            assert displaced.incoming is not None
            yield from connection.phase.receive(connection, displaced.incoming)

    def _suffer_in(self, connection: Connection, pdu: RawPdu, armed: Armed) -> Iterator[Event]:
        match armed.rule.action:
            case Drop():
                return
            case Cut():
                connection.close()
                return
            case Refuse(status):
                if isinstance(connection.phase, LoginExchange) and isinstance(pdu.basic, LoginRequest):
                    yield connection.refuse(status.refusal(f"the rule {armed.name} wants it so"), pdu.basic)
                    return
            case Answer() | Attention() | Delay() | Hang() if isinstance(pdu.basic, ScsiCommand):
                _remember(self.fates, pdu.basic.initiator_task_tag, armed)
            case Delay(seconds) | Stall(seconds):
                self.reading = Stalled(armed, pdu.kept())
                self._desk.stalled(self._link, self.reading, seconds)
                return
            case Duplicate():
                yield from connection.phase.receive(connection, pdu)
            case Corrupt(Part.HEADER_DIGEST):
                if connection.reader.recovers:
                    return
                raise wrong_header_digest()
            case Corrupt(Part.DATA_DIGEST):
                if not connection.reader.recovers:
                    raise wrong_data_digest(pdu.header)
                pdu = pdu._replace(data=NOTHING, damaged=True)
            case Corrupt(Part.DATA, offset):
                pdu = pdu._replace(data=memoryview(_flip(pdu.data, offset)))
            case Change() as change:
                basic = _changed(pdu.basic, change)
                pdu = pdu._replace(basic=basic, header=memoryview(basic.pack()))
        yield from connection.phase.receive(connection, pdu)

    def _note_names(self, data: memoryview) -> None:
        """Reads who logs in to what; what is wrong with it is for the login to say."""
        for pair in bytes(data).split(b"\0"):
            key, _, value = pair.partition(b"=")
            if key == b"InitiatorName":
                self._initiator = value.decode(errors="replace").casefold()
            elif key == b"TargetName":
                self._target = value.decode(errors="replace").casefold()

    # Output

    def send(self, connection: Connection, header: bytes, data: Buffer) -> None:
        """Queues a PDU, or does with it what a rule says."""
        if self._cut:
            return
        basic = _RESPONSE_HEADERS.unpack(header)
        armed = self._judge(self._subject(basic, len(data)))
        if isinstance(basic, ScsiResponse) or (isinstance(basic, DataIn) and basic.status_present):
            self._known.pop(basic.initiator_task_tag, None)
        if armed is None:
            self._put(connection, header, data)
        elif isinstance(armed.rule.action, Reorder) and len(self.displaced) < MAX_DISPLACED:
            self._displace(
                Displaced(armed, armed.rule.action.passing, outgoing=connection.digests.added_to(header, data))
            )
            return
        else:
            self._suffer_out(connection, basic, data, armed)
        if self.displaced:
            for displaced in self._passed(incoming=False):
                self.put_late(displaced)

    def _suffer_out(self, connection: Connection, basic: Layout, data: Buffer, armed: Armed) -> None:
        flipped: Part | None = None
        match armed.rule.action:
            case Drop():
                return
            case Cut():
                self._cut = True
                connection.close()
                return
            case Delay(seconds) | Stall(seconds) if self.writing is None:
                self.writing = Stalled(armed)
                self._desk.stalled(self._link, self.writing, seconds)
            case Duplicate():
                self._put(connection, basic.pack(), data)
            case Corrupt(Part.DATA, offset):
                data = _flip(data, offset)
            case Corrupt(part):
                flipped = part
            case Change() as change:
                basic = _changed(basic, change)
        self._put(connection, basic.pack(), data, flipped)

    def _put(self, connection: Connection, header: bytes, data: Buffer, flipped: Part | None = None) -> None:
        """Queues a PDU of which one digest may be wrong."""
        buffers = connection.digests.added_to(header, data)
        if flipped is not None:
            place = 1 if flipped is Part.HEADER_DIGEST else -1  # as `added_to` has them
            buffers[place] = bytes(byte ^ FLIPPED for byte in buffers[place])
        connection.queue_whole(buffers, len(data), connection.stat_sn)

    # What others pass

    def _displace(self, displaced: Displaced) -> None:
        self.displaced.append(displaced)
        self._desk.displaced(self._link, displaced)

    def _passed(self, *, incoming: bool) -> Iterator[Displaced]:
        """Counts a PDU that passes those of its direction, and takes out those that enough have passed."""
        for displaced in [each for each in self.displaced if (each.incoming is not None) is incoming]:
            displaced.passing -= 1
            if not displaced.passing and self.take_out(displaced):
                self._desk.passed(displaced)
                yield displaced

    def take_out(self, displaced: Displaced) -> bool:
        """Takes out what is to go on now; returns False when it has gone on already."""
        if displaced not in self.displaced:
            return False
        self.displaced.remove(displaced)
        return True

    def put_late(self, displaced: Displaced) -> None:
        """Queues a PDU that was taken out."""
        connection, buffers = self._link.connection, list(displaced.outgoing)
        if not self._cut:
            connection.queue_whole(buffers, sum(map(len, buffers)), connection.stat_sn)

    # Rules

    def _judge(self, subject: Subject) -> Armed | None:
        armed = self._book.judge(subject)
        if armed is not None:
            self._desk.fired(self._link, armed, subject)
        return armed

    def _subject(self, basic: Layout, data_bytes: int) -> Subject:
        session, connection = self._link.session, self._link.connection
        if session is not None:
            self._initiator = session.negotiated.initiator_name
            self._target = session.negotiated.target_name or ""
        lun = unpack_lun(getattr(basic, "lun")) if "lun" in basic.fields else None  # noqa: B009  # not of all layouts
        known = _Known(lun, b"")
        if isinstance(basic, ScsiCommand):
            known = _Known(lun, basic.cdb)
            _remember(self._known, basic.initiator_task_tag, known)
        elif isinstance(basic, _OF_COMMANDS):
            known = self._known.get(basic.initiator_task_tag, known)
        return Subject(
            basic,
            self._initiator,
            self._target,
            connection.portal_group_tag,
            connection.cid if session is not None else None,
            *known,
            data_bytes,
            *connection.digests,
        )


def _remember(memory: dict[int, Value], tag: int, value: Value) -> None:
    """Remembers something under a tag; when there is too much, the oldest is forgotten."""
    memory.pop(tag, None)
    memory[tag] = value
    if len(memory) > MAX_COMMANDS:
        del memory[next(iter(memory))]


def _changed(header: Header, change: Change) -> Header:
    """Returns a header with one field changed."""
    [width] = [field.width_bits for field in header.declared if field.name == change.field]
    before: int = getattr(header, change.field)
    number = change.to if change.to is not None else before + (change.by or 0)
    return header.replace(**{change.field: number % (1 << width)})


def _flip(data: Buffer, offset: int) -> bytes:
    """Returns data of which one byte is wrong."""
    whole = bytes(data)
    wrong = bytes(byte ^ FLIPPED for byte in whole[offset : offset + 1])
    return whole[:offset] + wrong + whole[offset + 1 :]
