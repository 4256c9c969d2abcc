"""Shortcuts against the handlers of their rows, for drawn CDBs and devices."""

import random

import pytest

from iscsi_target.scsi.commands.command import Command
from iscsi_target.scsi.commands.table import TABLE
from iscsi_target.scsi.layouts.mode_pages import CachingPage, ControlPage, ModePages
from iscsi_target.scsi.operations import Read, Write
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Reply, Work
from iscsi_target.scsi.status import StatusError
from iscsi_target.wire.layout import Layout, LayoutError
from tests.unit.scsi.command_bench import CAPACITY, LIMITS, A
from tests.unit.scsi.command_bench import device as make_device

TRIES = 3000
CACHING, CONTROL = (8, 0), (10, 0)  # page and subpage codes
SHORT = [command for command in TABLE if command.shortcut is not None]


def draw_device(source: random.Random) -> Device:
    device = make_device(block_length_bytes=source.choice((512, 4096)), read_only=source.random() < 0.1)
    device.modes = ModePages.restore(
        {
            CACHING: CachingPage(wce=source.random() < 0.8).pack(),
            CONTROL: ControlPage(swp=source.random() < 0.1).pack(),
        }
    )
    return device


def draw_cdb(source: random.Random, command: Command) -> bytes:
    limit = LIMITS.max_transfer_blocks
    lba = source.choice((0, 5, CAPACITY - 1, CAPACITY - 2, CAPACITY, 2**32 - 1))
    blocks = source.choice((0, 1, 2, 2, 3, limit, limit + 1))
    cdb = command.layout(lba=lba, transfer_length=blocks)  # type: ignore[call-arg]  # fields that READ and WRITE have
    packed = bytearray(cdb.pack())
    if source.random() < 0.2:
        packed[source.randrange(1, len(packed))] ^= 1 << source.randrange(8)
    return bytes(packed)


def handled(device: Device, command: Command, cdb: bytes, data_out: bytes) -> Reply | None:
    """What the long way makes of a command, or None when it is refused or wants other data."""
    try:
        value: Layout = command.unpack(cdb)
        if command.data_out(device, value) != len(data_out):
            return None
        return command.handler(device, value, Call(A, data_out, (), len(data_out)))
    except (StatusError, LayoutError):
        return None


def transferred(reply: Reply | None) -> int:
    match reply:
        case Work(Read(_, length)):
            return length
        case Work(Write(_, data)):
            return len(data)
    return 0


def test_shortcuts_are_for_reading_and_writing():
    assert {command.name for command in SHORT} == {f"{kind}({n})" for kind in ("READ", "WRITE") for n in (10, 12, 16)}


@pytest.mark.parametrize("command", SHORT, ids=lambda command: command.name)
def test_shortcut_finds_the_operation_of_the_handler_or_nothing(command: Command):
    """Law: what a shortcut finds is the handler's operation, whose bytes are as many as are expected.

    It finds all that say no more than LBA and length.
    """
    assert command.shortcut is not None
    source = random.Random(command.name)
    found = 0
    for _ in range(TRIES):
        device, cdb = draw_device(source), draw_cdb(source, command)
        block = device.geometry.block_length_bytes
        asked = command.layout.unpack(cdb).transfer_length * block  # type: ignore[attr-defined]  # as above
        expected = source.choice((asked, asked, asked, block, 0, asked + 1, max(0, asked - block)))
        expected = min(expected, 2 * LIMITS.max_transfer_blocks * block)
        writes = command.name.startswith("WRITE") if source.random() < 0.9 else source.random() < 0.5
        data_out = bytes(expected) if writes else b""
        operation = command.shortcut(device)(cdb, expected, data_out)
        reply = handled(device, command, cdb, data_out)
        if operation is not None:
            assert isinstance(reply, Work)
            assert reply.operation == operation
            assert transferred(reply) == expected
            found += 1
        elif 0 < transferred(reply) == expected:
            lba, length = (command.layout.location(name).byte for name in ("lba", "transfer_length"))
            assert any(byte for place, byte in enumerate(cdb) if 0 < place < lba or place >= length)  # it says more
    assert found > TRIES // 20
