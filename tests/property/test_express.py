"""The express way of commands against that of single PDUs, by all that an initiator is told.

    A ---- portal group 1 ---- NODE: LUN 0 == "disk0", LUN 1 == "disk1"

Two targets get the same bytes: one many PDUs at a time, so that plain commands go the express way; the other each PDU
in pieces, and nothing goes the express way there. Their media do at once what is asked of them, but for some blocks
that take a thread.
"""

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

import pytest

from iscsi_target.iscsi import express, framing
from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.express import Answer
from iscsi_target.iscsi.framing import Buffer
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import DataOut, NopOut, ScsiCommand, TaskManagementRequest
from iscsi_target.iscsi.task_management import TaskManagement
from iscsi_target.scsi.layouts import cdb as spc
from iscsi_target.scsi.layouts.block_cdb import Read10, Read16, Write10, Write16
from iscsi_target.scsi.layouts.lun import pack_lun
from iscsi_target.scsi.operations import Operation, WouldBlock, extents
from tests.initiator import Host, Lab, Result
from tests.unit.scsi.unit_bench import BLOCK, BLOCKS

SCHEDULES = 300
BATCH = 50
STEPS = 8
PLACES = 30
SLOW_BLOCKS = range(2 * BLOCK, 3 * BLOCK)
WRAPPING = (1, 2**31 - 5, 2**32 - 20)  # CmdSN of the first command
OFFERS: tuple[list[tuple[str, str]], ...] = (
    [],
    [],
    [("ImmediateData", "No")],
    [("InitialR2T", "No"), ("FirstBurstLength", "1024")],
    [("MaxRecvDataSegmentLength", "512")],
    [("MaxBurstLength", "1024"), ("FirstBurstLength", "512")],
    [("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")],
)


class Nobody(dict[bytes, Answer]):
    """Leaves every command to the way of single PDUs."""

    def get(self, field: bytes, default: object = None) -> None:  # type: ignore[override]  # there is none
        """There is no answer for any LUN."""


class Side(Lab):
    """One target and one initiator, with two connections.

    is_express   whether commands may go the express way
    """

    def __init__(self, offers: list[tuple[str, str]], cmd_sn: int, *, is_express: bool) -> None:
        super().__init__()
        self.slow = True
        leading = self.connect()
        leading.cmd_sn = cmd_sn
        leading.login(offers=[*offers, ("MaxConnections", "2")])
        for lun in (0, 1):
            for _ in range(2):
                leading.command(spc.TestUnitReady(), lun)
        self.pair = (leading, leading.join(1, offers))
        if not is_express:
            for active in self.target._active.values():
                active.answers = Nobody()

    def attempt(self, unit: str, operation: Operation) -> Result | Literal[WouldBlock.BLOCKS]:
        touched = extents(operation)
        if any(start < SLOW_BLOCKS.stop and SLOW_BLOCKS.start < start + length for start, length in touched):
            return WouldBlock.BLOCKS
        return self.perform(unit, operation)


class Stream:
    """Draws what an initiator sends."""

    def __init__(self, source: random.Random, host: Host) -> None:
        self.random = source
        self.host = host
        self._last = 0

    def batch(self) -> list[bytes]:
        return [self.pdu() for _ in range(self.random.randrange(1, 24))]

    def pdu(self) -> bytes:
        kind = self.random.random()
        if kind < 0.90:
            return self.command()
        others = (self.ping, self.abort, self.data_out, self.ready)
        return self.random.choice(others)()

    def fields(self) -> dict[str, Any]:
        """Fields of a command, most of them right."""
        chance = self.random.random
        self._last = tag = self._last if chance() < 0.02 else NO_TAG if chance() < 0.01 else self.host.next_tag()
        immediate = chance() < 0.02
        if chance() < 0.02:  # one that has come before, comes before its turn, or never may
            number = (self.host.cmd_sn + self.random.choice((-1, 1, 5, 200))) % 2**32
        else:
            number = self.host.next_cmd_sn(immediate)
        attributes = self.random.choice((1,) * 200 + (0, 2, 3, 4, 5))
        lun = pack_lun(self.random.choice((0,) * 8 + (1, 1, 2)))
        return {
            "initiator_task_tag": tag,
            "cmd_sn": number,
            "lun": lun,
            "attributes": attributes,
            "immediate": immediate,
            "exp_stat_sn": self.random.randrange(2**32),
        }

    def command(self) -> bytes:
        chance = self.random.random
        blocks = self.random.choice((1, 1, 1, 2, 2, 3, 0))
        lba = self.random.choice((*range(PLACES), *range(PLACES), BLOCKS - 1, BLOCKS))
        length = blocks * BLOCK
        expected = length if chance() < 0.95 else self.random.choice((0, 1, BLOCK, length + 2, 4 * BLOCK))
        fields = self.fields() | {"expected_data_transfer_length": expected}
        if chance() < 0.5:
            cdb = self.random.choice((Read10, Read10, Read16))(lba=lba, transfer_length=blocks, fua=chance() < 0.03)
            header = ScsiCommand(read=True, write=chance() < 0.02, cdb=cdb.pack().ljust(16, b"\0"), **fields)
            return self.packed(header, b"" if chance() < 0.98 else bytes(BLOCK))
        write = self.random.choice((Write10, Write10, Write16))(lba=lba, transfer_length=blocks, fua=chance() < 0.03)
        header = ScsiCommand(write=True, read=chance() < 0.02, final=chance() < 0.97, **fields)
        sent = expected if chance() < 0.9 else self.random.choice((0, 4, BLOCK, expected + 1))
        data = bytes([self.random.randrange(256)]) * min(sent, 4 * BLOCK)
        return self.packed(header.replace(cdb=write.pack().ljust(16, b"\0")), data)

    def packed(self, header: ScsiCommand, data: bytes) -> bytes:
        whole = bytearray(self.host.pack(header, data))
        if self.random.random() < 0.02 and not self.host.digests["header_digest"]:
            whole[self.random.choice((0, 1, 2, 3, *range(32, 48)))] ^= 1 << self.random.randrange(6)
        return bytes(whole)

    def ping(self) -> bytes:
        return self.host.pack(NopOut(initiator_task_tag=self.host.next_tag(), cmd_sn=self.host.next_cmd_sn()), b"ping")

    def abort(self) -> bytes:
        header = TaskManagementRequest(
            function=TaskManagement.ABORT_TASK,
            immediate=True,
            initiator_task_tag=self.host.next_tag(),
            referenced_task_tag=self._last,
            cmd_sn=self.host.cmd_sn,
            ref_cmd_sn=self.host.cmd_sn,
        )
        return self.host.pack(header)

    def data_out(self) -> bytes:
        return self.host.pack(DataOut(final=True, initiator_task_tag=self._last, target_transfer_tag=NO_TAG), bytes(4))

    def ready(self) -> bytes:
        cdb = spc.TestUnitReady().pack().ljust(16, b"\0")
        return self.host.pack(ScsiCommand(cdb=cdb, **self.fields()))


def in_pieces(pdu: bytes) -> Iterable[bytes]:
    """The last of which goes where the target has a place for it, if it is long."""
    return [piece for piece in (pdu[:20], pdu[20:60], pdu[60:]) if piece]


def run(seed: int) -> None:
    """Runs one schedule; what fails says its seed."""
    source = random.Random(seed)
    offers, cmd_sn = source.choice(OFFERS), source.choice(WRAPPING)
    together, apart = (Side(offers, cmd_sn, is_express=is_express) for is_express in (True, False))
    stream = Stream(source, together.pair[0])
    for _ in range(STEPS):
        which = source.randrange(2)
        pdus = stream.batch()
        together.pair[which].feed(b"".join(pdus))
        for pdu in pdus:
            for part in in_pieces(pdu):
                apart.pair[which].feed(part)
        if source.random() < 0.8:
            together.finish_all()
            apart.finish_all()
        for one, other in zip(together.pair, apart.pair, strict=True):
            assert one.received == other.received, f"seed {seed}"
            assert one.closed == other.closed
        assert together.block(0) == apart.block(0)
    for name in ("disk0", "disk1"):
        assert together.stores[name].read(0, BLOCKS * BLOCK) == apart.stores[name].read(0, BLOCKS * BLOCK)


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has even short PDUs put where they belong."""
    monkeypatch.setattr(framing, "LONG_BYTES", 100)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Counter[bool]:
    """Counts the commands that went the express way (True), and the visits after which none did (False)."""
    counted: Counter[bool] = Counter()
    queue_whole, answer_plain = Connection.queue_whole, express.answer_plain

    def count(connection: Connection, pdus: list[Buffer], data_bytes: int, stat_sn: int) -> None:
        counted[True] += (stat_sn - connection.stat_sn) % 2**32
        queue_whole(connection, pdus, data_bytes, stat_sn)

    def visit(session, connection, incoming, answers) -> None:
        before = counted[True]
        answer_plain(session, connection, incoming, answers)
        counted[False] += counted[True] == before

    monkeypatch.setattr(Connection, "queue_whole", count)
    monkeypatch.setattr("iscsi_target.target.machine.answer_plain", visit)
    return counted


@pytest.mark.parametrize("first", range(0, SCHEDULES, BATCH))
def test_initiator_cannot_tell_whether_pdus_come_together(first: int, answers: Counter[bool]):
    """Law: the same bytes bring about the same PDUs in the same order, and the same blocks, however they come."""
    for seed in range(first, first + BATCH):
        run(seed)
    assert answers[True] > 10 * BATCH
    assert answers[False] > 10 * BATCH
