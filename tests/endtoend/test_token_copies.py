r"""Copies by tokens, and by EXTENDED COPY, over the wire, between units of RAM and of files.

node A ──session──> one server ── LUN 0: RAM, blocks of 512
node B ──session──>            \─ LUN 1: a file, blocks of 4096
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

import iscsi_target
from iscsi_target.client.outcome import Outcome
from iscsi_target.client.session import ClientSession
from iscsi_target.config.address import Address
from iscsi_target.config.values import Backing, Configuration, PortalGroup, TargetEntry, Unit
from iscsi_target.iscsi.task_management import TaskManagement
from iscsi_target.scsi.layouts import cdb as spc
from iscsi_target.scsi.layouts.cdb import Inquiry
from iscsi_target.scsi.layouts.copy_cdb import BlockSegment, ExtendedCopyLid1
from iscsi_target.scsi.layouts.token_cdb import (
    CopyOperationStatus,
    PopulateToken,
    ReceiveRodTokenInformation,
    WriteUsingToken,
)
from iscsi_target.scsi.state.copy_log import CopyState
from tests.unit.scsi.commands.test_extended_copy import parameters
from tests.unit.scsi.token_bench import ZERO_TOKEN, Ranges, populate_list, write_list

MEBIBYTE = 1 << 20
RAM_BLOCK, FILE_BLOCK = 512, 4096
COPIED_BYTES = 40 * MEBIBYTE
POLL_S, LIMIT_S = 0.02, 60.0
NODE = "iqn.2026-11.org.example:disks"
LID = 5


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """Serves both units and yields their URLs."""
    configuration = Configuration(
        state=tmp_path / "state",
        portal_groups=(PortalGroup(1, (Address("127.0.0.1", 0),)),),
        units=(
            Unit("ram", Backing.RAM, None, 64 * MEBIBYTE),
            Unit("file", Backing.FILE, tmp_path / "image", 128 * MEBIBYTE, block_length_bytes=FILE_BLOCK),
        ),
        targets=(TargetEntry(NODE, {0: "ram", 1: "file"}),),
    )
    async with iscsi_target.serve(configuration) as server:
        yield server.url("ram"), server.url("file")


async def settle(session: ClientSession) -> None:
    """Lets both units tell what has happened to them."""
    for lun in (0, 1):
        while not (await session.command(lun, spc.TestUnitReady())).good:
            pass


class Told(NamedTuple):
    """What RECEIVE ROD TOKEN INFORMATION has told."""

    status: CopyOperationStatus
    sense: bytes
    token: bytes


async def told(session: ClientSession, lun: int) -> Told:
    cdb = ReceiveRodTokenInformation(list_identifier=LID, allocation_length=1024)
    outcome = await session.command(lun, cdb, read_length=1024)
    assert outcome.good, outcome
    status = CopyOperationStatus.unpack(outcome.data)
    sense = outcome.data[CopyOperationStatus.size :][: status.sense_data_length]
    return Told(status, sense, outcome.data[-512:])


async def make(session: ClientSession, lun: int, ranges: Ranges) -> bytes:
    """Returns a new token."""
    data = populate_list(ranges)
    cdb = PopulateToken(list_identifier=LID, parameter_list_length=len(data))
    outcome = await session.command(lun, cdb, data_out=data)
    assert outcome.good, outcome
    return (await told(session, lun)).token


async def use(session: ClientSession, lun: int, token: bytes, ranges: Ranges, **fields: int) -> Outcome:
    data = write_list(token, ranges, **fields)
    cdb = WriteUsingToken(list_identifier=LID, parameter_list_length=len(data))
    return await session.command(lun, cdb, data_out=data)


async def finished(session: ClientSession, lun: int) -> tuple[Told, int]:
    """Returns what is told at the end of a copy, and how often it went on when it was asked for."""
    until, asked = time.monotonic() + LIMIT_S, 0
    while time.monotonic() < until:
        found = await told(session, lun)
        if found.status.copy_operation_status != CopyState.BACKGROUND:
            return found, asked
        asked += 1
        await asyncio.sleep(POLL_S)
    raise AssertionError("the copy does not end")


async def fill(session: ClientSession, length_bytes: int) -> bytes:
    content = random.Random(5).randbytes(length_bytes)
    for start in range(0, length_bytes, MEBIBYTE):
        await session.write(start // RAM_BLOCK, content[start : start + MEBIBYTE])
    return content


async def read_all(session: ClientSession, lba: int, length_bytes: int, block: int) -> bytes:
    parts = [
        await session.read(lba + start // block, min(MEBIBYTE, length_bytes - start) // block)
        for start in range(0, length_bytes, MEBIBYTE)
    ]
    return b"".join(parts)


@pytest.mark.clause("SBC3r36 4.28")
@pytest.mark.clause("SPC4r37 5.17.6.6")
async def test_a_large_copy_between_two_units_goes_on_in_the_background(tmp_path: Path):
    async with (
        serving(tmp_path) as (ram, file),
        iscsi_target.connect(ram) as session,
        iscsi_target.connect(file) as other,
    ):
        await settle(session)
        content = await fill(session, COPIED_BYTES)
        half = COPIED_BYTES // 2 // RAM_BLOCK
        token = await make(session, 0, [(half, half), (0, half)])
        begun = time.monotonic()
        outcome = await use(session, 1, token, [(1000, COPIED_BYTES // FILE_BLOCK)], immed=True)
        assert outcome.good, outcome
        found, asked = await finished(session, 1)
        rate = COPIED_BYTES / MEBIBYTE / (time.monotonic() - begun)
        print(f"copied at {rate:.0f} MiB/s, asked {asked} times meanwhile")
        assert found.status.copy_operation_status == CopyState.DONE
        assert found.status.transfer_count == COPIED_BYTES // FILE_BLOCK
        copied = await read_all(other, 1000, COPIED_BYTES, FILE_BLOCK)
        assert copied == content[COPIED_BYTES // 2 :] + content[: COPIED_BYTES // 2]


@pytest.mark.clause("SBC3r36 5.46")
async def test_a_copy_within_a_unit_and_zeros(tmp_path: Path):
    async with serving(tmp_path) as (ram, _), iscsi_target.connect(ram) as session:
        await settle(session)
        content = await fill(session, 4 * MEBIBYTE)
        blocks = 3 * MEBIBYTE // RAM_BLOCK
        token = await make(session, 0, [(8, blocks)])
        assert (await use(session, 0, token, [(50000, blocks)])).good
        assert await read_all(session, 50000, 3 * MEBIBYTE, RAM_BLOCK) == content[4096:][: 3 * MEBIBYTE]
        assert (await use(session, 0, ZERO_TOKEN, [(50001, 2)])).good
        expected = content[4096 : 4096 + 512] + bytes(1024) + content[4096 + 1536 : 4096 + 2048]
        assert await session.read(50000, 4) == expected


@pytest.mark.clause("SPC4r37 5.17.3")
async def test_extended_copy_between_units_in_both_directions(tmp_path: Path):
    async with serving(tmp_path) as (ram, _), iscsi_target.connect(ram) as node:
        await settle(node)
        content = await fill(node, 4 * MEBIBYTE)
        there = await extended_copy(node, 0, (0, 1), BlockSegment(block_device_number_of_blocks=8192))
        back = BlockSegment(block_device_number_of_blocks=1024, destination_lba=65536)
        assert there.good
        assert (await extended_copy(node, 0, (1, 0), back)).good
        assert await read_all(node, 65536, 4 * MEBIBYTE, RAM_BLOCK) == content


async def extended_copy(session: ClientSession, lun: int, luns: tuple[int, int], segment: BlockSegment) -> Outcome:
    """Sends EXTENDED COPY of one segment from the first of two LUNs to the second."""
    descriptors = [await cscd(session, each) for each in luns]
    data = parameters(descriptors, [segment.replace(destination_cscd_descriptor_id=1).pack()])
    return await session.command(lun, ExtendedCopyLid1(parameter_list_length=len(data)), data_out=data)


async def cscd(session: ClientSession, lun: int) -> bytes:
    """Returns the CSCD descriptor of a unit by the first designator that it tells."""
    page = Inquiry(evpd=True, page_code=0x83, allocation_length=255)
    data = (await session.command(lun, page, read_length=255)).data
    return bytes([0xE4, 0, 0, 0]) + data[4:8] + data[8 : 8 + data[7]].ljust(20, b"\0") + bytes(4)


@pytest.mark.clause("SPC4r37 5.17.6.2.3.3")
async def test_a_write_by_another_node_cancels_the_token(tmp_path: Path):
    async with (
        serving(tmp_path) as (ram, _),
        iscsi_target.connect(ram) as session,
        iscsi_target.connect(ram) as other,
    ):
        await settle(session)
        await settle(other)
        await fill(session, MEBIBYTE)
        await other.write(0, bytes(RAM_BLOCK))  # goes the short way, as do those that follow
        token = await make(session, 0, [(100, 8)])
        await other.write(108, bytes(RAM_BLOCK))
        assert (await use(session, 1, token, [(0, 1)])).good
        await other.write(107, bytes(RAM_BLOCK))
        outcome = await use(session, 1, token, [(0, 1)])
        assert (outcome.sense_key, outcome.additional_sense_code) == (5, 0x2308)


@pytest.mark.clause("SPC4r37 5.17.5")
async def test_after_a_reset_nothing_of_a_copy_is_written(tmp_path: Path):
    async with (
        serving(tmp_path) as (ram, file),
        iscsi_target.connect(ram) as session,
        iscsi_target.connect(file) as other,
    ):
        await settle(session)
        await settle(other)
        await fill(session, COPIED_BYTES)
        token = await make(session, 0, [(0, COPIED_BYTES // RAM_BLOCK)])
        assert (await use(session, 1, token, [(0, COPIED_BYTES // FILE_BLOCK)], immed=True)).good
        await other.manage(TaskManagement.LOGICAL_UNIT_RESET, 1)
        await settle(other)
        zeros = bytes(MEBIBYTE)
        for start in range(0, COPIED_BYTES, MEBIBYTE):
            await other.write(start // FILE_BLOCK, zeros)
        await settle(session)
        assert not any(await read_all(other, 0, COPIED_BYTES, FILE_BLOCK))


async def test_the_page_of_third_party_copy_fits_what_windows_asks_for(tmp_path: Path):
    async with serving(tmp_path) as (ram, _), iscsi_target.connect(ram) as session:
        await settle(session)
        outcome = await session.command(0, Inquiry(evpd=True, page_code=0x8F, allocation_length=4096), read_length=4096)
        assert outcome.good
        assert outcome.data[4:8].hex() == "00000020", "the block device ROD limits come first"
