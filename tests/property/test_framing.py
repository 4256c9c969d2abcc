"""Streams of bytes in any pieces, right and wrong, into the reader, a connection that logs in, and a session."""

from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iscsi_target.iscsi import events
from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.errors import StreamLost
from iscsi_target.iscsi.framing import DIGEST_BYTES, PduReader, frame
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.login import Endpoint, LoginPhase, LoginTarget
from iscsi_target.iscsi.numbering import WINDOW_COMMANDS
from iscsi_target.iscsi.open_task import Response
from iscsi_target.iscsi.requests import (
    REQUESTS,
    AnyRequest,
    DataOut,
    LoginRequest,
    NopOut,
    Request,
    ScsiCommand,
    SnackRequest,
    TaskManagementRequest,
    TextRequest,
)
from iscsi_target.iscsi.responses import DataIn, LoginResponse, NopIn, ReadyToTransfer, ScsiResponse
from iscsi_target.iscsi.responses import Response as TargetPdu
from iscsi_target.iscsi.scsi_requests import MAX_IMMEDIATE_TASKS
from iscsi_target.iscsi.service_requests import LOGOUT_DONE
from iscsi_target.iscsi.session import Session
from iscsi_target.iscsi.text import encode
from tests.transcript import INITIATOR, LARGEST, NODE, Pdu, Transcript, receive, unpack_all, whole

LIMIT = 1024
FIRST_CMD_SN = 2**32 - 3
LOGIN = encode([("InitiatorName", INITIATOR), ("TargetName", NODE)])
TEXTS = (b"", LOGIN, b"SendTargets=All\0", b"SendTargets=", b"MaxRecvDataSegmentLength=512\0", b"\xff=\0")

datas = st.just(b"") | st.binary(max_size=8) | st.sampled_from(TEXTS)
additionals = st.sampled_from([b""] * 20 + [bytes.fromhex("0005020000000004")] * 3 + [bytes(4), bytes(300)])
bits = st.booleans()
small = st.integers(0, 4)
tags = st.integers(0, 2) | st.just(NO_TAG)
FIELDS: dict[str, st.SearchStrategy[object]] = {
    "immediate": st.sampled_from([False, False, True]),
    "final": bits,
    "continue_": st.sampled_from([False, False, False, True]),
    "read": bits,
    "write": st.sampled_from([True, True, False]),
    "attributes": st.sampled_from([0, 1, 1, 1, 4, 5]),
    "expected_data_transfer_length": st.integers(0, 8),
    "initiator_task_tag": st.sampled_from([1] * 12 + [2, 3, NO_TAG]),
    "target_transfer_tag": tags,
    "referenced_task_tag": small,
    "ref_cmd_sn": small,
    "data_sn": st.sampled_from([0, 0, 1]),
    "buffer_offset": st.sampled_from([0, 0, 1, 2, 3, 4]),
    "reason_code": small,
    "function": small,
    "cid": st.just(7),
}
T = TypeVar("T")
Lay = Callable[[AnyRequest], memoryview | None]
KINDS = [*REQUESTS.values(), ScsiCommand, ScsiCommand, DataOut, DataOut, DataOut, TextRequest]


def rarely(strategy: st.SearchStrategy[list[T]]) -> st.SearchStrategy[list[T]]:
    return st.integers(0, 4).flatmap(lambda dice: strategy if dice == 4 else st.just([]))


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """A header of defaults with fields that matter; now and then one of random bytes under a known opcode."""
    kind = draw(st.sampled_from(KINDS))
    header = kind()
    if draw(st.integers(0, 19)) == 19:
        header = kind.unpack(draw(st.binary(min_size=48, max_size=48)))
        return header.replace(opcode=kind().opcode, total_ahs_length=0, data_segment_length=0)
    return header.replace(**{name: draw(strategy) for name, strategy in FIELDS.items() if name in header.fields})


def in_sequence(pdus: list[tuple[Request, bytes, bytes]]) -> list[tuple[Request, bytes, bytes]]:
    """Gives each request its CmdSN."""
    cmd_sn, numbered = FIRST_CMD_SN, []
    for header, data, additional in pdus:
        if "cmd_sn" in header.fields:
            numbered.append((header.replace(cmd_sn=cmd_sn % 2**32), data, additional))
            cmd_sn += not header.immediate
        else:
            numbered.append((header, data, additional))
    return numbered


@st.composite
def streams(draw: st.DrawFn, digests: st.SearchStrategy[bool] = bits) -> bytes:
    """PDUs one after another, some perhaps out of their turn or twice, some bytes perhaps changed."""
    header_digest, data_digest = draw(digests), draw(digests)
    pdus = in_sequence(draw(st.lists(st.tuples(requests(), datas, additionals), min_size=3, max_size=15)))
    for place in draw(rarely(st.lists(st.integers(0, len(pdus) - 2), max_size=3))):
        pdus[place], pdus[place + 1] = pdus[place + 1], pdus[draw(st.integers(0, 1)) * place]
    stream = bytearray()
    for pdu in pdus:
        stream += whole(frame(*pdu, header_digest=header_digest, data_digest=data_digest))
    changes = st.lists(st.tuples(st.integers(0, len(stream) - 1), st.integers(0, 255)), max_size=2)
    for place, byte in draw(rarely(changes)):
        stream[place] = byte
    return bytes(stream)


plain_streams = streams(st.just(False))


def cut(stream: bytes, random: Random) -> Iterator[bytes]:
    places = sorted(random.randrange(len(stream) + 1) for _ in range(random.randrange(12)))
    for start, end in zip([0, *places], [*places, len(stream)], strict=True):
        yield stream[start:end]


def read(pieces: Iterator[bytes], *, header_digest: bool, data_digest: bool, lay: Lay | None = None) -> list[Any]:
    """Returns the PDUs, and the error that ended them if one did."""
    reader = PduReader()
    if lay is not None:
        reader.lay = lay
    reader.enter_full_feature_phase(limit_bytes=LIMIT, header_digest=header_digest, data_digest=data_digest)
    found: list[Any] = []
    try:
        for piece in pieces:
            found.extend(
                (pdu.basic, bytes(pdu.header), bytes(pdu.additional), bytes(pdu.data)) for pdu in reader.feed(piece)
            )
    except StreamLost as lost:
        found.append((lost.reason, lost.text, lost.header))
    return found


@given(streams() | st.binary(max_size=300), st.randoms(use_true_random=False), bits, bits)
def test_any_pieces_give_the_same_pdus_and_the_same_error(stream, random, header_digest, data_digest):
    """Law: feed in any pieces = feed whole = feed byte by byte."""
    digests = {"header_digest": header_digest, "data_digest": data_digest}
    expected = read(iter([stream]), **digests)
    assert read(cut(stream, random), **digests) == expected
    assert read((stream[at : at + 1] for at in range(len(stream))), **digests) == expected


@given(streams(), st.randoms(use_true_random=False), bits, bits)
def test_data_may_lie_anywhere(stream, random, header_digest, data_digest):
    """Law: where the data of a PDU is laid while it comes changes neither the PDU nor the error."""
    digests = {"header_digest": header_digest, "data_digest": data_digest}
    laid = []

    def lay(basic: AnyRequest) -> memoryview | None:
        laid.append(bytearray(basic.data_segment_length + 2))
        return memoryview(laid[-1])[1:-1] if random.random() < 0.7 else None

    expected = read(iter([stream]), **digests)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iscsi_target.iscsi.framing.LONG_BYTES", DIGEST_BYTES + 1)
        assert read(cut(stream, random), **digests, lay=lay) == expected
    assert all(buffer[0] == buffer[-1] == 0 for buffer in laid)


@given(
    st.lists(st.tuples(requests(), st.binary(max_size=LIMIT), st.sampled_from([b"", bytes(8)])), max_size=6), bits, bits
)
def test_what_is_framed_is_read_back(pdus, header_digest, data_digest):
    """Law: the reader gives back header, additional headers and data of every PDU that was framed."""
    digests = {"header_digest": header_digest, "data_digest": data_digest}
    stream = b"".join(whole(frame(*pdu, **digests)) for pdu in pdus)
    found = read(iter([stream]), **digests)
    assert len(found) == len(pdus)
    for (basic, header, additional, data), pdu in zip(found, pdus, strict=True):
        assert (additional, data) == (pdu[2], pdu[1])
        lengths = {"total_ahs_length": len(additional) // 4, "data_segment_length": len(data)}
        assert REQUESTS[basic.opcode].unpack(header) == pdu[0].replace(**lengths)


class Side:
    """Does with events what a target might, by chance: respond, collect, forget, later, never."""

    def __init__(self, random: Random, session: Session) -> None:
        self.random = random
        self.session = session
        self.waiting: list[int] = []

    def act(self, event: events.Event) -> None:
        match event:
            case events.CommandReceived(tag):
                self.command(tag)
            case events.DataOutCompleted(tag, data):
                assert len(data) <= LARGEST
                self.respond(tag)
            case events.DataOutFailed(tag):
                self.respond(tag)
            case events.TaskManagementRequested() as asked:
                self.session.withdraw(lambda command: command.tag == asked.referenced_task_tag)
                self.session.skip(asked.ref_cmd_sn, asked.cmd_sn)
                self.session.discard(asked.referenced_task_tag)
                self.session.respond_management(asked.connection, asked.tag, response=0)
            case events.LogoutRequested(connection, tag):
                self.session.silence(connection)
                self.session.respond_logout(connection, tag, response=LOGOUT_DONE)
                connection.close()
            case _:
                pass

    def command(self, tag: int) -> None:
        match self.random.randrange(4):
            case 0:
                self.respond(tag)
            case 1:
                self.waiting.append(tag)
            case _:
                completed = self.session.collect(tag, self.random.randrange(10))
                if completed is not None:
                    self.act(completed)

    def respond(self, tag: int) -> None:
        sense = self.random.choice([b"", bytes(18)])
        data = bytes(self.random.randrange(10))
        self.session.respond(tag, Response(2 if sense else 0, sense, data, self.random.randrange(10)))

    def go_on(self) -> None:
        while self.waiting and self.random.randrange(2):
            tag = self.waiting.pop()
            if self.random.randrange(2):
                self.session.discard(tag)
            else:
                self.respond(tag)


def takes_no_number(header: TargetPdu) -> bool:
    if isinstance(header, NopIn):
        return header.initiator_task_tag == NO_TAG
    return isinstance(header, ReadyToTransfer) or (hasattr(header, "status_present") and not header.status_present)


def check_numbers(pdus: list[Pdu]) -> None:
    """StatSN goes up by one with each PDU that takes one; MaxCmdSN and ExpCmdSN never go back."""
    expected = pdus[0].header.stat_sn if pdus else 0
    for (header, _), (before, _) in zip(pdus, pdus[:1] + pdus, strict=False):
        assert header.stat_sn == expected
        expected += not takes_no_number(header)
        if not isinstance(header, LoginResponse):
            assert (header.exp_cmd_sn - before.exp_cmd_sn) % 2**32 < 2**31
            assert (header.max_cmd_sn - before.max_cmd_sn) % 2**32 < 2**31
            assert (header.max_cmd_sn + 1 - header.exp_cmd_sn) % 2**32 <= WINDOW_COMMANDS


@settings(max_examples=100)
@given(plain_streams | st.binary(max_size=300), st.randoms(use_true_random=False), bits, bits)
def test_session_survives_any_stream(stream, random, initial_r2t, in_order):
    """Law: whatever comes in full feature phase, in whatever pieces, nothing is raised; numbers stay in order."""
    transcript = Transcript(
        initial_r2t=initial_r2t,
        data_pdu_in_order=in_order,
        target_max_recv=LIMIT,
        first_cmd_sn=FIRST_CMD_SN,
        first_burst_length=random.choice([2, 4, 512]),
        max_burst_length=random.choice([1, 3, 512]),
        max_outstanding_r2t=random.choice([1, 3]),
    )
    side = Side(random, transcript.session)
    transcript.act = side.act
    sent: list[Pdu] = []
    for piece in cut(stream, random):
        if transcript.connection.closing:
            break
        sent += transcript.feed(piece)
        side.go_on()
        sent += transcript.answers()
        assert transcript.session.open_tasks <= WINDOW_COMMANDS + MAX_IMMEDIATE_TASKS
    check_numbers(sent)


class Rascal:
    """An initiator that mostly keeps the rules: it answers R2Ts, and now and then breaks any rule on purpose."""

    def __init__(self, transcript: Transcript, random: Random) -> None:
        self.transcript = transcript
        self.random = random
        self.asked: list[ReadyToTransfer] = []
        self.unasked: list[tuple[int, int, int]] = []  # initiator task tag, offset and length of unsolicited data
        self.sent: list[Pdu] = []
        self.ended: Counter[int] = Counter()
        self.tag = 0

    def step(self) -> None:
        choices = [self.command, self.command, self.data, self.data, self.data, self.unasked_data]
        choices += [self.other, self.again, self.nonsense]
        self.hear(self.transcript.feed(self.random.choice(choices)()))

    def hear(self, pdus: list[Pdu]) -> None:
        self.sent += pdus
        for header, _ in pdus:
            if isinstance(header, ReadyToTransfer):
                self.asked.append(header)
            elif isinstance(header, ScsiResponse) or (isinstance(header, DataIn) and header.status_present):
                self.ended[header.initiator_task_tag] += 1

    def pack(self, header: Request, data: bytes = b"", additional: bytes = b"") -> bytes:
        if self.random.randrange(8) == 0:
            name = self.random.choice([name for name in FIELDS if name in header.fields])
            value = getattr(header, name)
            header = header.replace(**{name: not value if isinstance(value, bool) else self.random.randrange(8)})
        if "cmd_sn" in header.fields:
            header = header.replace(cmd_sn=self.transcript.cmd_sn)
            self.transcript.cmd_sn = (self.transcript.cmd_sn + (not header.immediate)) % 2**32
        return self.transcript.pack(header, data, additional)

    def command(self) -> bytes:
        self.tag += 1
        write, final = bool(self.random.randrange(4)), bool(self.random.randrange(2))
        expected = self.random.randrange(30)
        burst = min(expected, self.transcript.parameters.first_burst_length)
        immediate = self.random.randrange(burst + 1) if write else 0
        if self.transcript.parameters.initial_r2t or not write:
            final = True
        if not final and immediate < burst:
            self.unasked.append((self.tag, immediate, burst - immediate))
        additional = bytes.fromhex("0005020000000004") if self.random.randrange(5) == 0 else b""
        header = ScsiCommand(
            write=write,
            read=not write or bool(additional),
            final=final,
            attributes=1,
            immediate=self.random.randrange(5) == 0,
            expected_data_transfer_length=expected,
            initiator_task_tag=self.tag,
        )
        return self.pack(header, bytes(immediate), additional)

    def data(self) -> bytes:
        if not self.asked:
            return b""
        asked = self.asked.pop(self.random.randrange(len(self.asked)))
        half = self.random.randrange(asked.desired_data_transfer_length + 1)
        return self.part(asked, 0, half, False) + self.part(asked, half, asked.desired_data_transfer_length, True)

    def part(self, asked: ReadyToTransfer, start: int, end: int, final: bool) -> bytes:
        header = DataOut(
            final=final,
            data_sn=int(final),
            initiator_task_tag=asked.initiator_task_tag,
            target_transfer_tag=asked.target_transfer_tag,
            buffer_offset=asked.buffer_offset + start,
        )
        return self.pack(header, bytes(end - start))

    def unasked_data(self) -> bytes:
        if not self.unasked:
            return b""
        tag, offset, length = self.unasked.pop(self.random.randrange(len(self.unasked)))
        return self.pack(DataOut(final=True, initiator_task_tag=tag, buffer_offset=offset), bytes(length))

    def other(self) -> bytes:
        kind = self.random.choice([NopOut, TextRequest, TaskManagementRequest, SnackRequest])
        text = self.random.choice(TEXTS) if kind in (NopOut, TextRequest) else b""
        return self.pack(kind(initiator_task_tag=self.random.randrange(1, self.tag + 2)), text)

    def again(self) -> bytes:
        header = NopOut(initiator_task_tag=5, cmd_sn=(self.transcript.cmd_sn - self.random.randrange(200)) % 2**32)
        return self.transcript.pack(header)

    def nonsense(self) -> bytes:
        kind = self.random.choice(list(REQUESTS.values()))
        header = kind.unpack(self.random.randbytes(48)).replace(total_ahs_length=0, data_segment_length=0)
        return self.transcript.pack(header)


@given(st.randoms(use_true_random=True), bits, bits, st.sampled_from([1, 3]))
def test_session_survives_an_initiator_that_mostly_keeps_the_rules(random, initial_r2t, in_order, max_outstanding):
    """Law: nothing is raised; a tag has no more responses than commands; numbers stay in order, memory in bounds."""
    transcript = Transcript(
        initial_r2t=initial_r2t,
        data_pdu_in_order=in_order,
        first_cmd_sn=FIRST_CMD_SN,
        first_burst_length=random.choice([2, 4, 20]),
        max_burst_length=random.choice([3, 8, 512]),
        max_outstanding_r2t=max_outstanding,
    )
    side, rascal = Side(random, transcript.session), Rascal(transcript, random)
    transcript.act = side.act
    for _ in range(80):
        if transcript.connection.closing:
            break
        rascal.step()
        side.go_on()
        rascal.hear(transcript.answers())
    check_numbers(rascal.sent)
    started = [one for one in transcript.events if isinstance(one, events.CommandReceived | events.DataOutFailed)]
    commands = Counter(event.tag for event in started)
    assert rascal.ended <= commands


ENDPOINT = Endpoint({NODE: LoginTarget(NODE)})


@st.composite
def logins(draw: st.DrawFn) -> bytes:
    """Login Requests that are nearly right, and what may follow."""
    header = LoginRequest(
        transit=draw(bits),
        continue_=draw(st.sampled_from([False, False, True])),
        current_stage=draw(st.sampled_from([0, 1, 1, 2])),
        next_stage=draw(st.sampled_from([1, 3, 3])),
        tsih=draw(st.sampled_from([0, 0, 1])),
        cmd_sn=FIRST_CMD_SN,
    )
    pdus = [(header.replace(transit=draw(bits)), draw(st.sampled_from(TEXTS))) for _ in range(draw(st.integers(0, 3)))]
    return b"".join(whole(frame(*pdu)) for pdu in [*pdus, (header, LOGIN)]) + draw(plain_streams)


@settings(max_examples=100)
@given(logins() | plain_streams, st.randoms(use_true_random=False))
def test_connection_survives_any_stream_from_its_first_byte(stream, random):
    """Law: whatever comes on a new connection, nothing is raised; it is admitted, refused or closed."""
    connection = Connection(1, 1, "10.0.0.1:3260", LoginPhase(ENDPOINT, 1, bytes), {})
    reader, sides = PduReader(), list[Side]()
    reader.enter_full_feature_phase(limit_bytes=LARGEST, header_digest=False, data_digest=False)
    sent: list[Pdu] = []
    for piece in cut(stream, random):
        if connection.closing:
            break
        for event in receive(connection, piece):
            if isinstance(event, events.LoginCompleted):
                session = Session(event.negotiated, 1, FIRST_CMD_SN, lambda connection, value: [])
                session.admit(connection)
                sides.append(Side(random, session))
            for side in sides:
                side.act(event)
        for side in sides:
            side.go_on()
        sent += unpack_all(reader, whole(connection.take_output()[0]))
    check_numbers([pdu for pdu in sent if not isinstance(pdu.header, LoginResponse)])
