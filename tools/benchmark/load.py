"""Keeps a target busy, in a process of its own:   python -m tools.benchmark.load URL [--help]

The client must not be what is measured. A turn is one receive of whatever has come into one buffer, a walk over the
headers in it, and one send of as many new commands as have ended; headers are packed into buffers that are made once,
the data that is written is there already, and the data that is read is received but not looked at. Against a target
that answers 32 reads of 4 KiB at once this takes about 5 us of processor time for each, 3 of them in the kernel, so one
process asks for 200,000 a second. iscsi-perf, which makes three system calls for each, takes about 14 us. Against a
target that answers one by one, as istgt does, both take 15 us and find the same rate. What it prints tells the
processor time of client and target: the one that takes more is the limit.

What is not checked in the timed loop is checked beside it: a read with verified digests before, the length of all data
that came, the status of every command, and after writes that they can be read again.
"""

import argparse
import json
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import cycle
from typing import NamedTuple

from tools.benchmark.process import Clocks, clocks
from tools.benchmark.session import (
    BHS_BYTES,
    BLOCK_BYTES,
    COMMAND,
    COMMAND_RESPONSE,
    DATA_IN,
    FINAL,
    NO_TAG,
    NOP_IN,
    READS,
    SIMPLE,
    WRITES,
    Identity,
    Session,
    SessionFailed,
    crc32c,
    place_of,
)

RECEIVE_BYTES = 1 << 18  # stays in the processor's cache
WARM_UP_S = 0.2
MAX_JOINED_BYTES = 1 << 14  # of a buffer; beyond it a copy costs more than a system call
RANDOM_PLACES = 1 << 16  # as many different places are drawn before the clock runs
DATA_OUT, R2T = 0x05, 0x31
READ_16, WRITE_16 = 0x8800, 0x8A00

_HEAD = struct.Struct(">BBxBI8xI")  # opcode, flags, status, lengths, initiator task tag
_ANSWER = struct.Struct(">II")
_REQUEST = struct.Struct(">IIIIHQI")  # from the initiator task tag to the CDB's transfer length
_TAGS = struct.Struct(">III4xI")  # of a Data-Out, from 16: ITT, TTT, reserved, then ExpStatSN is at 28
_CRC = struct.Struct("<I")


class Plan(NamedTuple):
    """What one session does.

    writes       or reads
    size_bytes   of a command
    depth        commands in flight
    random       places all over the unit, or one after the other
    once         every place of the unit at most once: the load ends early when all have been
    """

    writes: bool = False
    size_bytes: int = 4096
    depth: int = 1
    random: bool = True
    once: bool = False


class Figures(NamedTuple):
    """What came of a load.

    ios      commands that ended in the time
    spent    the time, and the processor time of client, target and others
    p50_us   of a command's time when the depth is 1, or 0
    p99_us   likewise
    """

    ios: int
    spent: Clocks
    p50_us: float = 0.0
    p99_us: float = 0.0

    def as_json(self) -> str:
        """Returns the figures as a client prints them."""
        return json.dumps({"ios": self.ios, "p50_us": self.p50_us, "p99_us": self.p99_us} | self.spent._asdict())


def places(plan: Plan, unit_bytes: int, seed: int) -> Iterator[int]:
    """Returns the LBAs of the commands, without end unless each is wanted once."""
    count = unit_bytes // plan.size_bytes
    blocks = plan.size_bytes // BLOCK_BYTES
    drawn = random.Random(seed)
    if plan.once:
        return iter([place * blocks for place in drawn.sample(range(count), count)])
    if plan.random:
        return cycle([drawn.randrange(count) * blocks for _ in range(RANDOM_PLACES)])
    start = drawn.randrange(count)
    return cycle([(start + place) % count * blocks for place in range(count)])


class Frame:
    """PDUs in one buffer that is made once; only tags, numbers and header digests change from one use to the next.

    session   whose LUN, limits and digests they have
    """

    def __init__(self, session: Session) -> None:
        self.buffer = bytearray()
        self._session = session
        self._segment = int(session.keys.get("MaxRecvDataSegmentLength", 8192))
        self.data_outs: list[int] = []  # where the headers are

    def add_command(self, flags: int, immediate: bytes = b"") -> None:
        """Appends a command without its numbers and place, and its immediate data."""
        header = struct.pack(">BBHI8s32x", COMMAND, flags | SIMPLE, 0, len(immediate), self._session.lun)
        self._add(header, immediate)

    def add_data_outs(self, payload: bytes, offset: int) -> None:
        """Appends a sequence of Data-Out with what is written from an offset on."""
        starts = range(0, len(payload), self._segment)
        for number, start in enumerate(starts):
            part = payload[start : start + self._segment]
            flags = FINAL if start == starts[-1] else 0
            self.data_outs.append(len(self.buffer))
            numbers = (number, offset + start, 0)
            self._add(struct.pack(">BBHI8s20x3I", DATA_OUT, flags, 0, len(part), self._session.lun, *numbers), part)

    def _add(self, header: bytes, data: bytes) -> None:
        digests = self._session.digests
        self.buffer += header + bytes(4 if digests else 0) + data
        if digests and data:
            self.buffer += _CRC.pack(crc32c(data))

    def complete(self, tag: int, exp_stat_sn: int) -> None:
        """Gives the command its header digest, and its unsolicited Data-Out their tag."""
        if self._session.digests:
            seal(self.buffer, 0)
        self.address(tag, NO_TAG, exp_stat_sn=exp_stat_sn)

    def address(self, tag: int, transfer_tag: int, *, exp_stat_sn: int) -> None:
        """Gives the Data-Out their tags."""
        for position in self.data_outs:
            _TAGS.pack_into(self.buffer, position + 16, tag, transfer_tag, 0, exp_stat_sn)
            if self._session.digests:
                seal(self.buffer, position)


def seal(buffer: bytearray, position: int) -> None:
    """Writes the digest of the header at a position behind it."""
    _CRC.pack_into(buffer, position + BHS_BYTES, crc32c(bytes(buffer[position : position + BHS_BYTES])))


class Pipe:
    """Keeps the commands of a plan in flight on one session.

    session    logged in
    plan       what it does
    payload    what every command writes
    lbas       where
    """

    def __init__(self, session: Session, plan: Plan, payload: bytes, lbas: Iterator[int]) -> None:
        self.session = session
        self.plan = plan
        self.ended = 0
        self.in_flight = 0
        self.received_bytes = 0
        self.last_lba = 0
        self.latencies_s: list[float] = []
        self._sent_at = 0.0
        self.payload = payload
        self._lbas = lbas
        self._stopping = True
        self._header_bytes = BHS_BYTES + (4 if session.digests else 0)
        self._input = bytearray(RECEIVE_BYTES)
        self._window = memoryview(self._input)
        self._tail = 0  # bytes of a header that has not come whole
        self._skip = 0  # bytes of data that are still to come
        self._answers: dict[tuple[int, int], Frame] = {}
        self._frames = [self._command() for _ in range(plan.depth)]
        self._buffers = [frame.buffer for frame in self._frames]
        self._elaborate = session.digests or bool(self._frames[0].data_outs)

    def _command(self) -> Frame:
        frame = Frame(self.session)
        if not self.plan.writes:
            frame.add_command(FINAL | READS)
            return frame
        keys = self.session.keys
        first = min(self.plan.size_bytes, int(keys.get("FirstBurstLength", 65536)))
        segment = int(keys.get("MaxRecvDataSegmentLength", 8192))
        immediate = min(first, segment) if keys.get("ImmediateData", "Yes") == "Yes" else 0
        unsolicited = self.payload[immediate:first] if keys.get("InitialR2T") == "No" else b""
        frame.add_command(WRITES if unsolicited else FINAL | WRITES, self.payload[:immediate])
        frame.add_data_outs(unsolicited, immediate)
        return frame

    def start(self) -> None:
        """Sends the first commands."""
        self._stopping = False
        self._submit(range(self.plan.depth))

    def drain(self) -> None:
        """Sends no further commands, and returns when none is in flight."""
        self._stopping = True
        while self.in_flight:
            self.turn()

    def turn(self) -> None:
        """Receives what has come, and sends as many commands as have ended."""
        tail = self._tail
        received = self._receive(self._window[tail:])
        if not received:
            raise SessionFailed("the target closed the connection")
        ended = self._walk(tail + received)
        if ended:
            self.ended += len(ended)
            self.in_flight -= len(ended)
            if self.plan.depth == 1:
                self.latencies_s.append(time.perf_counter() - self._sent_at)
            if not self._stopping:
                self._submit(ended)

    def _receive(self, window: memoryview) -> int:
        """Receives; for one command at a time it asks again and again, as to sleep takes longer than the command."""
        while self.plan.depth == 1:
            with suppress(BlockingIOError):
                return self.session.socket.recv_into(window, flags=socket.MSG_DONTWAIT)
        return self.session.socket.recv_into(window)

    def _walk(self, filled: int) -> list[int]:
        """Takes the PDUs in the first `filled` bytes and returns the tags of commands that have ended."""
        ended: list[int] = []
        position, last, received_bytes = self._skip, 0, 0
        unpack, window = _HEAD.unpack_from, self._input
        header_bytes, digest_bytes = self._header_bytes, self._header_bytes - BHS_BYTES
        while position + header_bytes <= filled:
            opcode, flags, status, length, tag = unpack(window, position)
            length &= 0xFFFFFF
            if opcode == DATA_IN:
                received_bytes += length
                done = flags & 1
            else:
                done = self._other(opcode, position, tag=tag)
            if done:
                if status:
                    raise SessionFailed(f"a command ended with status {status:02x}h")
                last = position
                ended.append(tag)
            position += header_bytes
            if length:
                position += (length + 3 & ~3) + digest_bytes
        if ended:
            self.session.exp_stat_sn = _ANSWER.unpack_from(window, last + 24)[0] + 1 & 0xFFFFFFFF
        self.received_bytes += received_bytes
        self._keep(position, filled)
        return ended

    def _keep(self, position: int, filled: int) -> None:
        rest = filled - position
        self._skip = max(0, -rest)
        self._tail = max(0, rest)
        if rest > 0:
            self._input[:rest] = self._input[position:filled]

    def _other(self, opcode: int, position: int, *, tag: int) -> bool:
        if opcode == COMMAND_RESPONSE:
            return True
        if opcode == R2T:
            self._satisfy(tag, position)
        elif opcode == NOP_IN:
            self.session.answer(bytes(self._input[position : position + BHS_BYTES]))
        else:
            raise SessionFailed(f"the target sent opcode {opcode:02x}h")
        return False

    def _satisfy(self, tag: int, position: int) -> None:
        transfer_tag = _ANSWER.unpack_from(self._input, position + 20)[0]
        offset, length = _ANSWER.unpack_from(self._input, position + 40)
        frame = self._answers.get((offset, length))
        if frame is None:
            frame = self._answers[offset, length] = Frame(self.session)
            frame.add_data_outs(self.payload[offset : offset + length], offset)
        frame.address(tag, transfer_tag, exp_stat_sn=self.session.exp_stat_sn)
        self.session.socket.sendall(frame.buffer)

    def _submit(self, tags: Sequence[int]) -> None:
        """Sends a command with each of the tags."""
        session, size_bytes = self.session, self.plan.size_bytes
        blocks = size_bytes // BLOCK_BYTES
        operation = WRITE_16 if self.plan.writes else READ_16
        cmd_sn, exp_stat_sn, pack = session.cmd_sn, session.exp_stat_sn, _REQUEST.pack_into
        count = 0
        for buffer, tag, lba in zip(self._buffers, tags, self._lbas, strict=False):
            pack(buffer, 16, tag, size_bytes, cmd_sn, exp_stat_sn, operation, lba, blocks)
            cmd_sn = cmd_sn + 1 & 0xFFFFFFFF
            count += 1
            self.last_lba = lba
        session.cmd_sn = cmd_sn
        if self._elaborate:
            for frame, tag in zip(self._frames[:count], tags, strict=False):
                frame.complete(tag, exp_stat_sn)
        self.in_flight += count
        if self.plan.depth == 1:
            self._sent_at = time.perf_counter()
        self._send(self._buffers[:count])

    def _send(self, buffers: Sequence[bytearray]) -> None:
        """Sends small buffers together, and large ones without a copy."""
        if len(buffers) > 1 and len(buffers[0]) <= MAX_JOINED_BYTES:
            self.session.socket.sendall(b"".join(buffers))
            return
        for buffer in buffers:
            self.session.socket.sendall(buffer)


def run(pipes: Sequence[Pipe], seconds: float, server_pid: int) -> Figures:
    """Keeps all pipes full for some time and returns what came of it; the first moment is not counted.

    It is where each place is wanted once, as a quick target is done with a small unit in a moment.

    server_pid   the target's process, or 0
    """
    for pipe in pipes:
        pipe.start()
    if not pipes[0].plan.once:
        _turn_until(pipes, time.perf_counter() + min(WARM_UP_S, seconds / 4))
    ended, before = sum(pipe.ended for pipe in pipes), clocks(server_pid)
    for pipe in pipes:
        pipe.latencies_s.clear()
    _turn_until(pipes, before.elapsed_s + seconds)
    ios, spent = sum(pipe.ended for pipe in pipes) - ended, clocks(server_pid).since(before)
    latencies_s = sorted(latency for pipe in pipes for latency in pipe.latencies_s)
    for pipe in pipes:
        pipe.drain()
    return Figures(ios, spent, _part(latencies_s, 0.5), _part(latencies_s, 0.99))


def _part(sorted_s: Sequence[float], part: float) -> float:
    return sorted_s[int(len(sorted_s) * part)] * 1e6 if sorted_s else 0.0


def _turn_until(pipes: Sequence[Pipe], deadline_s: float) -> None:
    if len(pipes) == 1:
        turn, pipe = pipes[0].turn, pipes[0]
        while time.perf_counter() < deadline_s and pipe.in_flight:
            turn()
        return
    poll = select.epoll()
    turns = {pipe.session.socket.fileno(): pipe.turn for pipe in pipes}
    for descriptor in turns:
        poll.register(descriptor, select.EPOLLIN)
    while time.perf_counter() < deadline_s:
        for descriptor, _ in poll.poll(1):
            turns[descriptor]()
    poll.close()


def check(pipe: Pipe) -> None:
    """Looks at what a pipe has done.

    raises    SessionFailed when the lengths do not sum up, or what was written is not what is read
    """
    if pipe.plan.writes:
        if pipe.session.read(pipe.last_lba, pipe.plan.size_bytes) != pipe.payload:
            raise SessionFailed(f"LBA {pipe.last_lba} does not hold what was written")
    elif pipe.received_bytes != pipe.ended * pipe.plan.size_bytes:
        raise SessionFailed(f"{pipe.ended} reads of {pipe.plan.size_bytes} bytes brought {pipe.received_bytes}")


def load(url: str, plan: Plan, options: argparse.Namespace) -> Figures:
    """Logs in, loads a unit and logs out."""
    payload = random.randbytes(plan.size_bytes)  # of every run others, so that a write which is lost is seen
    numbers = range(options.identity, options.identity + options.sessions)
    sessions = [Session(place_of(url), Identity(number, options.digests)) for number in numbers]
    unit_bytes = sessions[0].size_bytes()
    pipes = []
    for number, session in enumerate(sessions):
        session.read(0, plan.size_bytes)
        pipes.append(Pipe(session, plan, payload, places(plan, unit_bytes, number)))
    figures = run(pipes, options.seconds, options.server)
    for pipe in pipes:
        check(pipe)
        pipe.session.socket.close()
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one load and prints its figures as a JSON object; returns the exit code: 0, or 1 when it failed."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark.load", description="Loads one unit.")
    parser.add_argument("url")
    parser.add_argument("--writes", action="store_true")
    parser.add_argument("--size", type=int, default=4096, help="bytes of a command")
    parser.add_argument("--depth", type=int, default=1, help="commands in flight on a session")
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--identity", type=int, default=1, help="number of the first initiator; others have other ones")
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--once", action="store_true", help="every place at most once")
    parser.add_argument("--digests", action="store_true")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--server", type=int, default=0, help="the target's process, to count its processor time")
    options = parser.parse_args(arguments)
    plan = Plan(options.writes, options.size, options.depth, options.random, options.once)
    try:
        figures = load(options.url, plan, options)
    except (SessionFailed, OSError) as failed:
        print(f"load: {failed}", file=sys.stderr)
        return 1
    print(figures.as_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
