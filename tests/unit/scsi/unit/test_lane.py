"""What a lane answers, and what it leaves to the unit untouched. Nodes A and B; port P; unit 0 (see unit_bench).

The lane is A's. READ(10), WRITE(10) and TEST UNIT READY of A have gone the long way once, unless a test says otherwise,
and the medium does everything at once.
"""

from dataclasses import fields
from typing import Literal

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.block_cdb import (
    CompareAndWrite,
    Read10,
    Read16,
    ReadCapacity16,
    StartStopUnit,
    Verify10,
    Write10,
)
from iscsi_target.scsi.layouts.cdb import Inquiry, Reserve6
from iscsi_target.scsi.operations import Fault, MediumError, Operation, Outcome, Read, WouldBlock, Write
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Function, Task, TaskAttribute
from iscsi_target.scsi.unit import lane as lane_module
from iscsi_target.wire.layout import Layout
from tests.unit.scsi.unit_bench import BLOCK, BLOCKS, READY, A, B, Bench, transferred

SIMPLE, ORDERED, HEAD = TaskAttribute.SIMPLE, TaskAttribute.ORDERED, TaskAttribute.HEAD_OF_QUEUE
READ = Read10(lba=3, transfer_length=1)
WRITE = Write10(lba=3, transfer_length=1)
ONES, TWOS = bytes([1]) * BLOCK, bytes([2]) * BLOCK
ATTRIBUTES = tuple(each.name for each in fields(Device) if each.name != "epoch")

Answer = Outcome | MediumError | Literal[WouldBlock.BLOCKS]


class ShortBench(Bench):
    """A bench whose medium does at once what it is asked.

    attempted   what it was asked
    instead     what it answers without doing it; nothing at first
    """

    def __init__(self) -> None:
        self.attempted: list[Operation] = []
        self.instead: list[Answer] = []
        super().__init__(attempt=self.attempt)
        self.lane = self.unit.lane(A)

    def attempt(self, operation: Operation) -> Answer:
        self.attempted.append(operation)
        return self.instead[0] if self.instead else operation.perform(self.memory)

    def send_whole(self, cdb: Layout, data: bytes = b"") -> None:
        """Sends a command of A with its data the long way."""
        self._next += 1
        packed, length = cdb.pack().ljust(16, b"\0"), len(data)
        task = Task(A, self._next, packed, SIMPLE, bool(data), (0,), length, data_out=data)
        self.record(self.unit.accept(task))

    def answer(self, cdb: Layout | bytes, data: bytes = b"", *, expected: int | None = None) -> bytes | None:
        packed = (cdb if isinstance(cdb, bytes) else cdb.pack()).ljust(16, b"\0")
        done = self.lane.answer(packed, transferred(packed, data) if expected is None else expected, data)
        return None if done is None else bytes(done)

    def state(self) -> list[object]:
        """Returns all that a lane must leave alone when it does not answer, but for what the medium was asked."""
        tasks, device, nexuses = self.unit._tasks, self.unit.device, self.unit.nexuses
        found: list[object] = [getattr(device, name) for name in (*ATTRIBUTES, "epoch")]
        found += [set(device.preventing), bytes(self.memory.content), list(self.actions)]
        found += [len(tasks), len(tasks.order), len(tasks.turns), list(tasks.startable)]
        for nexus in (A, B):
            standing = nexuses.standing(nexus)
            found += [standing.attentions, standing.epoch, dict(standing.admitted)]
        return found

    def leaves(self, cdb: Layout | bytes, data: bytes = b"", *, attempts: int = 0, expected: int | None = None) -> bool:
        """Returns True when the lane does not answer; nothing may have been done then, and the medium not be asked."""
        before, attempted = self.state(), len(self.attempted)
        done = self.answer(cdb, data, expected=expected)
        assert done is not None or self.state() == before
        assert done is not None or len(self.attempted) - attempted == attempts
        return done is None


@pytest.fixture
def fresh() -> ShortBench:
    return ShortBench()


@pytest.fixture
def bench(fresh: ShortBench) -> ShortBench:
    for cdb, data in ((READ, b""), (WRITE, ONES), (READY, b"")):
        fresh.send_whole(cdb, data)
    fresh.actions.clear()
    fresh.attempted.clear()
    return fresh


def stay_at_medium(bench: ShortBench, cdb: Layout, data: bytes = b"") -> None:
    """Sends a command of A whose operation does not end."""
    bench.instead = [WouldBlock.BLOCKS]
    bench.send_whole(cdb, data)
    bench.instead = []
    bench.attempted.clear()
    assert bench.at_medium


# What is answered


def test_read_is_answered_with_the_blocks(bench: ShortBench):
    assert bench.answer(READ) == ONES
    assert bench.attempted == [Read(3 * BLOCK, BLOCK)]


def test_write_is_answered_when_it_is_done(bench: ShortBench):
    assert bench.answer(WRITE, TWOS) == b""
    assert bench.attempted == [Write(3 * BLOCK, TWOS)]
    assert bench.memory.read(3 * BLOCK, BLOCK) == TWOS


def test_answer_leaves_no_task_no_turn_and_no_action(bench: ShortBench):
    before = bench.state()
    assert bench.answer(READ) is not None
    assert bench.state() == before


def test_each_command_is_admitted_by_itself(bench: ShortBench):
    assert bench.leaves(Read16(lba=3, transfer_length=1), expected=BLOCK)
    bench.send_whole(Read16(lba=3, transfer_length=1))
    assert bench.answer(Read16(lba=3, transfer_length=1), expected=BLOCK) == ONES


def test_readers_at_the_medium_are_in_the_way_of_no_reader(bench: ShortBench):
    stay_at_medium(bench, READ)
    assert bench.answer(READ) == ONES


# What is left to the unit


def test_nothing_is_answered_that_was_not_admitted_before(fresh: ShortBench):
    assert fresh.leaves(READ)
    assert fresh.leaves(WRITE, ONES)


def test_what_another_nexus_was_admitted_to_does_not_count(fresh: ShortBench):
    fresh.send(B, READ)
    assert fresh.leaves(READ)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_everything_that_may_change_in_a_device_ends_what_was_admitted(name: str, bench: ShortBench):
    setattr(bench.device, name, getattr(bench.device, name))
    assert bench.leaves(READ)
    bench.send_whole(READ)
    assert bench.answer(READ) == ONES
    assert bench.leaves(WRITE, ONES)  # was admitted in the epoch before


def test_reset_of_the_unit_ends_what_was_admitted(bench: ShortBench):
    bench.manage(Function.LOGICAL_UNIT_RESET, B)
    bench.unit.nexuses.take(A)
    assert bench.leaves(READ)


def test_pending_attention_is_not_taken(bench: ShortBench):
    bench.unit.nexuses.establish_for(A, AttentionCode.MODE_PARAMETERS_CHANGED)
    assert bench.leaves(READ)
    assert bench.unit.nexuses.first(A) == AttentionCode.MODE_PARAMETERS_CHANGED


def test_attention_of_another_nexus_does_not_matter(bench: ShortBench):
    bench.unit.nexuses.establish_for(B, AttentionCode.MODE_PARAMETERS_CHANGED)
    assert bench.answer(READ) == ONES


@pytest.mark.parametrize("attribute", [ORDERED, HEAD])
def test_older_task_that_others_wait_for_is_not_overtaken(attribute: TaskAttribute, bench: ShortBench):
    bench.send(B, WRITE.replace(lba=9), attribute, expects_data=True)
    assert bench.leaves(READ)


def test_older_task_that_nobody_waits_for_is_overtaken(bench: ShortBench):
    bench.send(B, WRITE.replace(lba=9), expects_data=True)
    assert bench.answer(READ) == ONES


def test_full_task_set_refuses_what_would_be_answered(bench: ShortBench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lane_module, "MAX_TASKS_PER_NEXUS", 2)
    for lba in (8, 9):
        assert not bench.leaves(READ)
        bench.send(A, WRITE.replace(lba=lba), expects_data=True)
    assert bench.leaves(READ)


@pytest.mark.parametrize("lba", [3, 100])
def test_writer_at_the_medium_is_in_the_way(lba: int, bench: ShortBench):
    stay_at_medium(bench, WRITE.replace(lba=lba), TWOS)
    assert bench.leaves(READ)
    assert bench.leaves(WRITE, TWOS)


def test_reader_at_the_medium_is_in_the_way_of_a_writer(bench: ShortBench):
    stay_at_medium(bench, READ)
    assert bench.leaves(WRITE, TWOS)


def test_turn_that_waits_is_not_overtaken(bench: ShortBench):
    stay_at_medium(bench, READ)
    bench.send_whole(WRITE, TWOS)
    assert bench.leaves(READ)


@pytest.mark.parametrize("answer", [WouldBlock.BLOCKS, MediumError(Fault.READ_FAILED, 0)])
def test_medium_that_blocks_or_fails_leaves_the_command_as_it_was(answer: Answer, bench: ShortBench):
    bench.instead = [answer]
    assert bench.leaves(READ, attempts=1)
    assert bench.leaves(WRITE, TWOS, attempts=1)


@pytest.mark.parametrize("byte", [1, 6, 9])
def test_bit_that_must_be_zero_is_left(byte: int, bench: ShortBench):
    cdb = bytearray(READ.pack())
    cdb[byte] |= 0x80 if byte == 6 else 4
    assert bench.leaves(bytes(cdb))


def test_blocks_that_do_not_exist_are_left(bench: ShortBench):
    assert bench.leaves(READ.replace(lba=BLOCKS))
    assert bench.leaves(READ.replace(lba=BLOCKS - 1, transfer_length=2))
    assert bench.leaves(READ.replace(transfer_length=257))
    assert bench.leaves(READ.replace(transfer_length=0))
    assert bench.leaves(WRITE.replace(lba=BLOCKS), ONES)


def test_empty_cdb_is_left(bench: ShortBench):
    assert bench.lane.answer(b"", 0, b"") is None


@pytest.mark.parametrize(
    "cdb",
    [
        READY,
        ReadCapacity16(allocation_length=32),
        Inquiry(allocation_length=36),
        Reserve6(),
        StartStopUnit(start=True),
        Verify10(lba=3, verification_length=1),
        READ.replace(fua=True),
    ],
)
def test_what_is_not_plain_is_left_though_it_has_gone_the_long_way(cdb: Layout, fresh: ShortBench):
    fresh.send_whole(cdb)
    assert fresh.leaves(cdb)


@pytest.mark.parametrize("data", [b"", ONES[:-1], ONES + b"1", ONES + ONES])
def test_data_of_another_length_than_the_command_asks_for_is_left(data: bytes, bench: ShortBench):
    assert bench.leaves(WRITE, data)


def test_data_for_a_command_that_asks_for_none_is_left(bench: ShortBench):
    assert bench.leaves(READ, ONES)


@pytest.mark.parametrize("expected", [0, BLOCK - 1, BLOCK + 1, 2 * BLOCK])
def test_transfer_of_another_length_than_the_initiator_expects_is_left(expected: int, bench: ShortBench):
    assert bench.leaves(READ, expected=expected)
    assert bench.leaves(WRITE, ONES, expected=expected)


def test_compare_and_write_that_failed_after_it_wrote_is_not_done_again(bench: ShortBench):
    """Done once more it would compare with what it has written itself, and call it a miscompare."""
    cdb, data = CompareAndWrite(lba=3, number_of_logical_blocks=1), ONES + TWOS
    bench.send_whole(cdb, data)
    assert bench.memory.read(3 * BLOCK, BLOCK) == TWOS
    bench.attempted.clear()
    assert bench.leaves(cdb, TWOS + ONES)
