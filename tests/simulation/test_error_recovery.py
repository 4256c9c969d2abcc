"""An initiator and a target at ErrorRecoveryLevel 1 over a link that damages and loses PDUs; a seed determines a run.

    Initiator ──some PDUs are damaged──> Target: CountingLab ──> stores
              <──some PDUs are lost───

Whatever is missing is asked for: commands are sent again under their CmdSN, statuses, Data-In and R2Ts by SNACK.
"""

import random
from itertools import count
from typing import Any

import pytest

from iscsi_target.config.values import SERVED
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import DataOut, NopOut, Request, ScsiCommand, SnackRequest
from iscsi_target.iscsi.responses import AsyncMessage, DataIn, NopIn, ReadyToTransfer, Reject, ScsiResponse
from iscsi_target.iscsi.retention import DATA_ACK, DATA_OR_R2T, STATUS
from iscsi_target.scsi.layouts.block_cdb import Read16, Write16
from tests.back_to_back import CHECK_CONDITION, GOOD, LUN, CountingLab, content, numbers_in
from tests.unit.scsi.unit_bench import BLOCK

BATCH, SEEDS = 16, 96
COMMANDS, BLOCKS = 24, 6
DAMAGED, LOST = 0.12, 0.15
MAX_ROUNDS = 400
OFFERS = [
    ("ErrorRecoveryLevel", "1"),
    ("HeaderDigest", "CRC32C"),
    ("DataDigest", "CRC32C"),
    ("MaxRecvDataSegmentLength", "512"),
    ("MaxBurstLength", "1024"),
    ("FirstBurstLength", "512"),
]


class Command:
    """A command, and what has come for it."""

    def __init__(self, header: ScsiCommand, number: int, lba: int, immediate: bytes, rest: bytes) -> None:
        self.header = header
        self.number = number
        self.lba = lba
        self.immediate = immediate
        self.rest = rest
        self.data: dict[int, tuple[int, bytes]] = {}  # by DataSN
        self.due: int | None = None  # Data-In PDUs, when the status has come
        self.status = GOOD

    @property
    def missing(self) -> int | None:
        """The first DataSN that has not come of those that were sent."""
        return next((number for number in range(self.due or 0) if number not in self.data), None)

    @property
    def ended(self) -> bool:
        return self.due is not None and (bool(self.header.write) or self.missing is None)


class Link:
    """One initiator, its link and its target."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lab = CountingLab(SERVED._replace(error_recovery_level=1))
        self.lab.slow = False
        self.host = self.lab.session(offers=OFFERS)
        self.lab.slow = True
        self.commands: dict[int, Command] = {}
        self.statuses: set[int] = set()
        self.exp_stat_sn = self._next_stat_sn()
        self.exp_cmd_sn = self.host.cmd_sn
        self.blocks = dict.fromkeys(range(COMMANDS * BLOCKS), 0)
        self._in_a_row = 0

    def _next_stat_sn(self) -> int:
        [link] = self.lab.target._links.values()
        return link.connection.stat_sn

    # Out

    def send(self, header: Request, data: bytes = b"") -> None:
        packed = bytearray(self.host.pack(header.replace(exp_stat_sn=self.exp_stat_sn), data))
        if self.random.random() < DAMAGED and self._in_a_row < 2:
            in_header = not data or self.random.random() < 0.5
            packed[20 if in_header else -1] ^= 1
            self._in_a_row += in_header
        else:
            self._in_a_row = 0
        self.host.feed(packed)

    def begin(self, number: int) -> None:
        """Sends a write of a number of its own, or a read of blocks that nothing writes meanwhile."""
        blocks, lba = self.random.randint(1, BLOCKS), number * BLOCKS
        whole = content(number + 1, blocks) if self.random.random() < 0.6 else b""
        size = min(len(whole), self.random.choice([0, 512]))
        cdb = (Write16 if whole else Read16)(lba=lba, transfer_length=blocks).pack()
        header = ScsiCommand(
            read=not whole,
            write=bool(whole),
            attributes=1,
            lun=LUN,
            initiator_task_tag=self.host.next_tag(),
            expected_data_transfer_length=blocks * BLOCK,
            cmd_sn=self.host.next_cmd_sn(),
            cdb=cdb,
        )
        command = Command(header, number + 1, lba, whole[:size], whole)
        self.commands[header.initiator_task_tag] = command
        self.send(header, command.immediate)

    def recover(self) -> None:
        """Asks for what has not come."""
        self.send(NopOut(immediate=True, initiator_task_tag=self.host.next_tag(), cmd_sn=self.host.cmd_sn))
        self.collect()
        self.snack(STATUS, NO_TAG, self.exp_stat_sn)
        for tag, command in list(self.commands.items()):
            if command.header.cmd_sn >= self.exp_cmd_sn:
                self.send(command.header, command.immediate)
            elif command.missing is not None:
                self.snack(DATA_OR_R2T, tag, command.missing, 1)
            elif command.header.write and not command.ended:
                self.snack(DATA_OR_R2T, tag, 0)
            self.collect()

    def snack(self, kind: int, tag: int, begin: int, length: int = 0, **fields: int) -> None:
        header = SnackRequest(kind=kind, initiator_task_tag=tag, begin_run=begin, run_length=length)
        self.send(header.replace(**fields))

    # In

    def collect(self) -> None:
        while self.host.received:
            came, self.host.received = self.host.received, []
            for header, data in came:
                if self.random.random() >= LOST:
                    self.take(header, data)

    def take(self, header: Any, data: bytes) -> None:
        self.exp_cmd_sn = max(self.exp_cmd_sn, header.exp_cmd_sn)
        command = self.commands.get(header.initiator_task_tag)
        match header:
            case DataIn() if command is not None:
                assert command.data.setdefault(header.data_sn, (header.buffer_offset, data))[1] == data
                if header.acknowledge and self.random.random() < 0.5:
                    kept = next(number for number in count() if number not in command.data)
                    self.snack(DATA_ACK, NO_TAG, kept, target_transfer_tag=header.target_transfer_tag)
                if header.status_present:
                    command.due = header.data_sn + 1
            case ScsiResponse() if command is not None:
                command.due, command.status = header.exp_data_sn, header.status
            case ReadyToTransfer() if command is not None:
                self.give(command, header)
            case AsyncMessage():
                raise AssertionError(f"unexpected: {header}")
            case NopIn() | _:
                pass
        if command is not None and command.ended:
            self.end(command)
        if self._is_done(header):
            self.statuses.add(header.stat_sn)
        while self.exp_stat_sn in self.statuses:
            self.exp_stat_sn += 1

    def _is_done(self, header: Any) -> bool:
        """Says whether a status may be acknowledged: all Data-In of its command is there, too."""
        if isinstance(header, ReadyToTransfer) or not getattr(header, "status_present", True):
            return False
        if header.initiator_task_tag == NO_TAG:
            return isinstance(header, Reject)
        return header.initiator_task_tag not in self.commands

    def give(self, command: Command, asked: ReadyToTransfer) -> None:
        start, end = asked.buffer_offset, asked.buffer_offset + asked.desired_data_transfer_length
        middle = start + self.random.choice([0, 512])
        template = DataOut(
            lun=LUN, initiator_task_tag=asked.initiator_task_tag, target_transfer_tag=asked.target_transfer_tag
        )
        parts = [(start, middle), (middle, end)] if start < middle < end else [(start, end)]
        for data_sn, (first, last) in enumerate(parts):
            header = template.replace(final=last == end, data_sn=data_sn, buffer_offset=first)
            self.send(header, command.rest[first:last])

    def end(self, command: Command) -> None:
        del self.commands[command.header.initiator_task_tag]
        blocks = command.header.expected_data_transfer_length // BLOCK
        if command.header.write:
            assert command.status in (GOOD, CHECK_CONDITION)
            assert self.lab.written[command.number] == (command.status == GOOD)
            if command.status == GOOD:
                self.blocks |= dict.fromkeys(range(command.lba, command.lba + blocks), command.number)
        else:
            data = b"".join(part for _, (_, part) in sorted(command.data.items()))
            assert numbers_in(data) == [self.blocks[command.lba + ahead] for ahead in range(blocks)]

    # The whole

    def run(self) -> None:
        for number in range(COMMANDS):
            self.begin(number)
            if self.random.random() < 0.3:
                self.collect()
            if self.lab.at_medium and self.random.random() < 0.5:
                self.lab.finish(self.random.choice(list(self.lab.at_medium)))
        for _ in range(MAX_ROUNDS):
            if not self.commands:
                break
            self.recover()
            self.lab.finish_all()
        assert not self.commands, "some commands never end"
        assert max(self.lab.written.values(), default=1) == 1
        for lba, number in self.blocks.items():
            assert numbers_in(self.lab.block(lba)) == [number]
        assert not any(unit.open_tasks for unit in self.lab.units.values())
        self.host.cut()
        assert self.lab.clean


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_every_command_ends_once_over_a_link_that_damages_and_loses(first: int):
    """Law: every command ends; a write is done once if its status is GOOD and else never; a read has what is there."""
    for seed in range(first, first + BATCH):
        try:
            Link(seed).run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
