"""A session at ErrorRecoveryLevel 2 whose connections are cut again and again; a seed determines a run.

    Initiator ══connections that are cut, what is on them being lost══> Target: CountingLab ──> stores

The initiator logs in again, with the CID of a lost connection or another one, logs out what is lost for recovery, sends
commands again that the target has not had, and takes all others to a connection that works.
"""

import random
from itertools import pairwise
from typing import Any

import pytest

from iscsi_target.config.values import SERVED
from iscsi_target.iscsi.requests import DataOut, ScsiCommand
from iscsi_target.iscsi.responses import (
    DataIn,
    LoginResponse,
    LogoutResponse,
    ReadyToTransfer,
    Reject,
    ScsiResponse,
    TaskManagementResponse,
)
from iscsi_target.iscsi.service_requests import LOGOUT_CID_NOT_FOUND, LOGOUT_DONE, LOGOUT_RECOVERY
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.scsi.layouts.block_cdb import Read16, Write16
from tests.back_to_back import GOOD, LUN, CountingLab, content, numbers_in
from tests.initiator import Host
from tests.unit.scsi.unit_bench import BLOCK

BATCH, SEEDS = 16, 96
COMMANDS, BLOCKS, CONNECTIONS = 24, 6, 3
MAX_ROUNDS = 200
OFFERS = [
    ("ErrorRecoveryLevel", "2"),
    ("MaxConnections", "4"),
    ("MaxRecvDataSegmentLength", "512"),
    ("MaxBurstLength", "1024"),
    ("FirstBurstLength", "512"),
]
OF_CONNECTIONS = OFFERS[2:3]


class Command:
    """A command, where it is, and what has come for it."""

    def __init__(self, header: ScsiCommand, number: int, lba: int, data_out: bytes, immediate: int) -> None:
        self.header = header
        self.number = number
        self.lba = lba
        self.data_out = data_out
        self.immediate = data_out[:immediate]
        self.data: dict[int, bytes] = {}  # by offset
        self.seen = 0  # Data-In and R2Ts
        self.host: Host


class World:
    """One initiator, its connections and its target."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lab = CountingLab(SERVED._replace(error_recovery_level=2, default_time2retain=20))
        self.lab.slow = False
        first = self.lab.session(offers=OFFERS)
        self.lab.slow = True
        self.hosts = [first]
        self.lost: list[Host] = []
        self.commands: dict[int, Command] = {}
        self.exp_stat_sn: dict[Host, int] = {}
        self.exp_cmd_sn = first.cmd_sn
        self.blocks = dict.fromkeys(range(COMMANDS * BLOCKS), 0)
        self.cids = 1

    # What may happen

    def begin(self, number: int) -> None:
        """Sends a write of a number of its own, or a read of blocks that nothing writes meanwhile."""
        host, lba = self.random.choice(self.hosts), number * BLOCKS
        blocks = self.random.randint(1, BLOCKS)
        data_out = content(number + 1, blocks) if self.random.random() < 0.6 else b""
        cdb = (Write16 if data_out else Read16)(lba=lba, transfer_length=blocks).pack()
        header = ScsiCommand(
            read=not data_out,
            write=bool(data_out),
            attributes=1,
            lun=LUN,
            initiator_task_tag=host.next_tag(),
            expected_data_transfer_length=blocks * BLOCK,
            cmd_sn=host.next_cmd_sn(),
            cdb=cdb,
        )
        command = Command(header, number + 1, lba, data_out, min(len(data_out), self.random.choice([0, 512])))
        self.commands[header.initiator_task_tag] = command
        if self.random.random() < 0.1:  # it is lost with its connection
            command.host = host
            self.cut(host)
        else:
            self.send(command, host)

    def send(self, command: Command, host: Host) -> None:
        command.host = host
        host.send(command.header.replace(exp_stat_sn=self.exp_stat_sn.get(host, 0)), command.immediate)

    def cut(self, host: Host) -> None:
        """Loses a connection, with what has come and nobody has looked at."""
        host.received.clear()
        host.cut()
        self.hosts.remove(host)
        self.lost.append(host)
        if not self.hosts:
            self.join()

    def join(self) -> None:
        """Adds a connection, perhaps in the place of one that is lost, or of one that works."""
        leading = (self.hosts + self.lost)[0]
        taken = self.random.choice([*self.lost, *self.hosts]) if self.random.random() < 0.5 else None
        if taken is None:
            self.cids += 1
        cid = self.cids if taken is None else taken.cid
        replaced = [other for other in self.hosts if other.cid == cid]
        host = leading.join(cid, OF_CONNECTIONS)
        self.exp_cmd_sn = max(self.exp_cmd_sn, host.take_one(LoginResponse).exp_cmd_sn)
        assert host.logged_in
        self.hosts.append(host)
        for other in replaced:
            assert other.closed
            self.hosts.remove(other)
            self.lost.append(other)

    def recover(self) -> None:
        """Takes to a connection what was on those that are lost; that one may be lost meanwhile."""
        host = self.random.choice(self.hosts)
        for lost in list(self.lost):
            self.collect(host)
            if host not in self.hosts:
                return
            if lost.cid not in [other.cid for other in self.hosts]:  # else it is logged out already
                host.logout(LOGOUT_RECOVERY, cid=lost.cid, immediate=True, cmd_sn=host.cmd_sn)
            self.collect(host)
            for command in [each for each in self.commands.values() if each.host is lost]:
                if host not in self.hosts:
                    return
                if command.header.cmd_sn >= self.exp_cmd_sn:
                    self.send(command, host)
                else:
                    self.take_over(command, host)
                self.collect(host)
            self.lost.remove(lost)

    def take_over(self, command: Command, host: Host) -> None:
        tag = command.header.initiator_task_tag
        command.host = host
        asked = host.manage(
            TaskManagement.TASK_REASSIGN, referenced=tag, ref_cmd_sn=command.header.cmd_sn, exp_data_sn=command.seen
        )
        assert host.managed(asked) == ManagementResponse.FUNCTION_COMPLETE

    # What comes

    def collect(self, host: Host) -> None:
        while host.received:
            came, host.received = host.received, []
            for header, data in came:
                self.take(host, header, data)

    def take(self, host: Host, header: Any, data: bytes) -> None:
        self.exp_cmd_sn = max(self.exp_cmd_sn, header.exp_cmd_sn)
        command = self.commands.get(header.initiator_task_tag)
        ended = isinstance(header, ScsiResponse)
        match header:
            case DataIn():
                assert command is not None
                command.data[header.buffer_offset] = data
                command.seen = header.data_sn + 1
                ended = bool(header.status_present)
            case ReadyToTransfer():
                assert command is not None
                command.seen = header.r2t_sn + 1
                self.give(host, command, header)
            case LogoutResponse():
                assert header.response in (LOGOUT_DONE, LOGOUT_CID_NOT_FOUND)
            case Reject():
                raise AssertionError(f"unexpected: {header}")
        if ended or isinstance(header, TaskManagementResponse | LogoutResponse):
            self.exp_stat_sn[host] = header.stat_sn + 1
        if ended:
            assert command is not None
            assert header.status == GOOD
            self.end(command)

    def give(self, host: Host, command: Command, asked: ReadyToTransfer) -> None:
        """Answers an R2T; the connection may be lost in the middle of that."""
        start, end = asked.buffer_offset, asked.buffer_offset + asked.desired_data_transfer_length
        cuts = [start, *range(start + 512, end, 512), end] if self.random.random() < 0.7 else [start, end]
        for data_sn, (first, last) in enumerate(pairwise(cuts)):
            if host in self.hosts and self.random.random() < 0.05:
                self.cut(host)
            if host not in self.hosts:
                return
            header = DataOut(
                final=last == end,
                lun=LUN,
                initiator_task_tag=asked.initiator_task_tag,
                target_transfer_tag=asked.target_transfer_tag,
                data_sn=data_sn,
                buffer_offset=first,
            )
            host.send(header, command.data_out[first:last])

    def end(self, command: Command) -> None:
        del self.commands[command.header.initiator_task_tag]
        blocks = command.header.expected_data_transfer_length // BLOCK
        if command.header.write:
            assert self.lab.written[command.number] == 1
            self.blocks |= dict.fromkeys(range(command.lba, command.lba + blocks), command.number)
        else:
            data = b"".join(part for _, part in sorted(command.data.items()))
            assert numbers_in(data) == [self.blocks[command.lba + ahead] for ahead in range(blocks)]

    # The whole

    def run(self) -> None:
        for number in range(COMMANDS):
            self.begin(number)
            self.happen()
        for _ in range(MAX_ROUNDS):
            if not self.commands:
                break
            self.recover()
            self.lab.finish_all()
            for host in self.hosts:
                self.collect(host)
        assert not self.commands, "some commands never end"
        assert max(self.lab.written.values(), default=1) == 1
        for lba, number in self.blocks.items():
            assert numbers_in(self.lab.block(lba)) == [number]
        self.hosts[0].logout()
        assert self.lab.clean

    def happen(self) -> None:
        chance = self.random.random
        if chance() < 0.3 and len(self.hosts) < CONNECTIONS:
            self.join()
        if chance() < 0.4:
            self.collect(self.random.choice(self.hosts))
        if self.lab.at_medium and chance() < 0.5:
            self.lab.finish(self.random.choice(list(self.lab.at_medium)))
        if chance() < 0.15:
            self.cut(self.random.choice(self.hosts))
        if self.lost and chance() < 0.3:
            self.recover()


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_every_command_ends_once_whichever_connections_are_lost(first: int):
    for seed in range(first, first + BATCH):
        try:
            World(seed).run()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
