"""What was promised is still there: after kill -9, after a restart, with a full disk and with a truncated image.

    sessions A, B, C, D of one initiator ──> the default unit of a server that is a process of its own

A process that is killed loses what only it knew. What the kernel had taken survives it, so these tests prove the order
of write, flush and status as far as the process goes; that a flush reaches the disk is `fdatasync`'s promise, not ours.
"""

import asyncio
import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from iscsi_target.scsi.layouts.block_cdb import Read16, SynchronizeCache16, Unmap, Write16
from iscsi_target.scsi.layouts.cdb import Inquiry, ModeSelect6, ModeSense6
from iscsi_target.scsi.layouts.pages import UnmapBlockDescriptor, UnmapHeader
from iscsi_target.wire.layout import Layout
from tests.conftest import IN_CI
from tests.endtoend.reserving import insist
from tests.endtoend.wire_initiator import (
    ConnectionEnded,
    Initiator,
    Outcome,
    Wire,
    log_in,
    place_of,
    session,
)
from tools.served import ServedTarget

ROUNDS = 20 if IN_CI else 5
SEED = 20261102
WORKERS = 4
BLOCKS_PER_WORKER = 256  # few, so that blocks are overwritten often
MAX_LIFE_S = 0.4  # of a server that is killed at any instant
LONG_LIFE_S = 10.0
BLOCK_BYTES = 512
MIB_BLOCKS = (1 << 20) // BLOCK_BYTES
CACHING_PAGE, WCE = 0x08, 0x04
START_TIMEOUT_S = 20

SPACE_EXHAUSTED = (0x07, 0x2707)
INTERNAL_FAILURE = (0x04, 0x4400)

CONFIGURATION = """
[units.disk0]
file = "{image}"
size = "64MiB"
[[targets]]
name = "iqn.2026-11.org.example:durable"
luns = {{ 0 = "disk0" }}
"""


async def done(initiator: Initiator, cdb: Layout, data_out: bytes = b"", read_bytes: int = 0) -> Outcome:
    """Performs a command, again when the unit had something to tell first; it must succeed."""
    outcome, _ = await insist(initiator, cdb, data_out, read_bytes)
    assert outcome.status == 0, outcome
    return outcome


async def read(initiator: Initiator, lba: int, blocks: int = 1) -> bytes:
    outcome = await done(initiator, Read16(lba=lba, transfer_length=blocks), read_bytes=blocks * BLOCK_BYTES)
    return outcome.data_in


async def caching_page(initiator: Initiator) -> bytearray:
    """Returns the current caching mode page."""
    cdb = ModeSense6(dbd=True, page_code=CACHING_PAGE, allocation_length=255)
    return bytearray((await done(initiator, cdb, read_bytes=255)).data_in[4:])


async def write_cache_enabled(initiator: Initiator) -> bool:
    return bool((await caching_page(initiator))[2] & WCE)


async def select_write_cache(initiator: Initiator, *, enabled: bool) -> Outcome:
    """Sets WCE and saves it."""
    page = await caching_page(initiator)
    page[0] &= 0x3F
    page[2] = (page[2] & ~WCE) | (WCE if enabled else 0)
    parameter_list = bytes(4) + page
    return await initiator.execute(
        ModeSelect6(pf=True, sp=True, parameter_list_length=len(parameter_list)), parameter_list
    )


async def identity(initiator: Initiator) -> tuple[bytes, bytes]:
    """Returns VPD pages 80h and 83h."""
    serial, identification = [
        (await done(initiator, Inquiry(evpd=True, page_code=page, allocation_length=255), read_bytes=255)).data_in
        for page in (0x80, 0x83)
    ]
    return serial, identification


class Death(NamedTuple):
    """When a server is killed: after some time, or right after a worker of one kind has had so many acknowledgements.

    worker    None when only time counts
    """

    seconds: float
    worker: type | None = None
    acknowledgements: int = 0


class Life:
    """The time from here to the death of a server."""

    def __init__(self, target: ServedTarget, death: Death) -> None:
        self._target = target
        self._worker = death.worker
        self._left = death.acknowledgements
        self.over = False
        asyncio.get_running_loop().call_later(death.seconds, target.kill9)

    def acknowledged(self, worker: object) -> None:
        """Notes that the server has promised something, and kills it when it was to live until then."""
        if type(worker) is self._worker:
            self._left -= 1
            if not self._left:
                self._target.kill9()
                self.over = True


class Promises:
    """What a worker may find in each of its blocks: what was promised last, or anything that it tried since."""

    def __init__(self, first: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.first = first
        self.kept = 0
        self._allowed: dict[int, list[bytes]] = {}

    async def work(self, initiator: Initiator, life: Life) -> None:
        """Writes until the server is gone."""
        while not life.over:
            if self.random.random() < 0.5:
                self._keep(await self._write(initiator, fua=True))
            else:
                written = [await self._write(initiator, fua=False) for _ in range(self.random.randrange(1, 6))]
                await done(initiator, SynchronizeCache16())
                for lba in written:
                    self._keep(lba)
            life.acknowledged(self)

    async def _write(self, initiator: Initiator, *, fua: bool) -> int:
        lba = self.first + self.random.randrange(BLOCKS_PER_WORKER)
        block = self.random.randbytes(BLOCK_BYTES)
        self._allowed.setdefault(lba, [bytes(BLOCK_BYTES)]).append(block)
        await done(initiator, Write16(lba=lba, transfer_length=1, fua=fua), block)
        return lba

    def _keep(self, lba: int) -> None:
        """Notes that the block written last is promised."""
        self._allowed[lba] = self._allowed[lba][-1:]
        self.kept += 1

    async def check(self, initiator: Initiator) -> None:
        """Reads all blocks; what is there now is what stays."""
        for lba, allowed in self._allowed.items():
            found = await read(initiator, lba)
            assert found in allowed, f"block {lba} lost what was promised for it"
            self._allowed[lba] = [found]


class SavedCache:
    """What the saved caching page may say after a restart."""

    def __init__(self) -> None:
        self.saves = 0
        self._allowed = [True]

    async def work(self, initiator: Initiator, life: Life) -> None:
        """Turns the write cache on and off until the server is gone; does not try what may then count as done."""
        while not life.over:
            enabled = not self._allowed[-1]
            self._allowed.append(enabled)
            outcome = await select_write_cache(initiator, enabled=enabled)
            assert outcome.status == 0, outcome
            self._allowed = [enabled]
            self.saves += 1
            life.acknowledged(self)

    async def check(self, initiator: Initiator) -> None:
        """Reads the page; what is there now is what stays."""
        found = await write_cache_enabled(initiator)
        assert found in self._allowed
        self._allowed = [found]


async def live_and_die(
    target: ServedTarget, workers: Sequence[Promises | SavedCache], death: Death
) -> tuple[bytes, bytes]:
    """Checks what earlier lives promised, lets the workers go on, kills the server; returns who the unit was."""
    place = place_of(target.url())
    async with AsyncExitStack() as wires:
        initiators = []
        for index in range(len(workers)):
            wire = await Wire.open(place)
            wires.callback(wire.close)
            initiators.append(await log_in(wire, place, isid=b"\x80" + index.to_bytes(5)))
        who = await identity(initiators[0])
        for worker, initiator in zip(workers, initiators, strict=True):
            await worker.check(initiator)
        life = Life(target, death)
        async with asyncio.TaskGroup() as tasks:
            for worker, initiator in zip(workers, initiators, strict=True):
                tasks.create_task(until_killed(worker, initiator, life))
    return who


async def until_killed(worker: Promises | SavedCache, initiator: Initiator, life: Life) -> None:
    try:
        await worker.work(initiator, life)
    except ConnectionEnded:
        pass


def test_what_was_acknowledged_survives_kill_9_at_any_instant(tmp_path):
    chance = random.Random(SEED)
    promises = [Promises(index * BLOCKS_PER_WORKER, SEED + index) for index in range(WORKERS)]
    saved = SavedCache()
    identities = set()
    workers: list[Promises | SavedCache] = [*promises, saved]
    with ServedTarget(tmp_path) as target:
        for number in range(ROUNDS):
            death = (
                Death(chance.uniform(0, MAX_LIFE_S)),
                Death(LONG_LIFE_S, SavedCache, chance.randrange(1, 20)),
                Death(LONG_LIFE_S, Promises, chance.randrange(1, 200)),
            )[number % 3]
            identities.add(asyncio.run(live_and_die(target, workers, death)))
            target.restart()
        identities.add(asyncio.run(live_and_die(target, workers, Death(0))))
    assert len(identities) == 1, "the unit became another one"
    assert sum(each.kept for each in promises) > ROUNDS
    assert saved.saves > 0


# Two servers


def refused(*options: str | Path) -> str:
    """Starts a server that must not start, and returns the line that says why."""
    command = [sys.executable, "-m", "iscsi_target", "serve", *map(str, options), "--listen", "127.0.0.1:0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)
    assert ended.returncode == 2, ended
    [line] = ended.stderr.splitlines()
    return line


def configured(folder: Path, image: Path) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "target.toml"
    file.write_text(CONFIGURATION.format(image=image))
    return file


def test_second_server_on_the_state_directory_is_refused_and_told_who_has_it(tmp_path):
    with ServedTarget(tmp_path) as target:
        line = refused("--state", tmp_path)
        assert f"{tmp_path}: it is in use by the server with process id {target.pid}; stop that server" in line
        target.kill9()
        target.restart()


def test_second_server_on_the_image_is_refused(tmp_path):
    image = tmp_path / "disk.img"
    with ServedTarget(tmp_path / "one", [str(configured(tmp_path / "one", image))]):
        line = refused(configured(tmp_path / "two", image), "--state", tmp_path / "two")
        assert str(image) in line
        assert "in use" in line


# Media that fail


class Failing(NamedTuple):
    """A server whose image can be spoilt from outside."""

    target: ServedTarget
    image: Path

    @property
    def url(self) -> str:
        return self.target.url()


@contextmanager
def serving(folder: Path, image: Path) -> Iterator[Failing]:
    with ServedTarget(folder, [str(configured(folder, image))]) as target:
        yield Failing(target, image)
        assert target.terminate() == 0
        assert "Traceback" not in target.errors


@pytest.fixture
def tiny_disk(tmp_path) -> Iterator[Path]:
    """A mounted file system of 8 MiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=START_TIMEOUT_S)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a tmpfs cannot be mounted: it takes root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=START_TIMEOUT_S)


async def write(initiator: Initiator, lba: int, blocks: int = MIB_BLOCKS) -> Outcome:
    data = bytes([lba % 251 + 1]) * (blocks * BLOCK_BYTES)
    return await initiator.execute(Write16(lba=lba, transfer_length=blocks, fua=True), data)


async def fill(initiator: Initiator) -> int:
    """Writes until that fails, and returns how many MiB it could."""
    for count in range(64):
        outcome = await write(initiator, count * MIB_BLOCKS)
        if outcome.status:
            assert (outcome.key, outcome.code) == SPACE_EXHAUSTED
            return count
    raise AssertionError("the medium is not bounded")


async def check_served(initiator: Initiator, written: int) -> None:
    """What was written before the medium failed can be read and written."""
    await initiator.ready()
    for lba in range(0, written * MIB_BLOCKS, MIB_BLOCKS):
        assert await read(initiator, lba) == bytes([lba % 251 + 1]) * BLOCK_BYTES
    if written:
        assert (await write(initiator, 0)).status == 0


async def test_full_disk_is_space_exhausted_until_something_is_unmapped(tmp_path, tiny_disk):
    with serving(tmp_path / "state", tiny_disk / "disk.img") as failing:
        async with session(failing.url) as initiator:
            await initiator.ready()
            written = await fill(initiator)
            assert written == 7 or written == 8
            await check_served(initiator, written)
            descriptor = UnmapBlockDescriptor(lba=0, number_of_logical_blocks=2 * MIB_BLOCKS)
            header = UnmapHeader(
                unmap_data_length=6 + descriptor.size, unmap_block_descriptor_data_length=descriptor.size
            )
            parameter_list = header.pack() + descriptor.pack()
            await done(initiator, Unmap(parameter_list_length=len(parameter_list)), parameter_list)
            assert (await write(initiator, 0)).status == 0


async def test_full_disk_fails_a_save_of_mode_pages_and_nothing_else(tmp_path, tiny_disk):
    with serving(tiny_disk, tmp_path / "disk.img") as failing:
        async with session(failing.url) as initiator:
            await initiator.ready()
            filler = tiny_disk / "filler"
            with pytest.raises(OSError, match="No space left"):
                filler.write_bytes(bytes(16 << 20))
            outcomes = [await select_write_cache(initiator, enabled=index % 2 == 1) for index in range(8)]
            assert any(outcome.status for outcome in outcomes), "every save succeeded on a full disk"
            assert (await write(initiator, 0)).status == 0
            filler.unlink()
            assert (await select_write_cache(initiator, enabled=False)).status == 0
        failing.target.kill9()
        failing.target.restart()
        async with session(failing.url) as initiator:
            assert not await write_cache_enabled(initiator)


async def test_file_size_limit_is_space_exhausted_until_it_is_raised(tmp_path):
    with serving(tmp_path, tmp_path / "disk.img") as failing:
        async with session(failing.url) as initiator:
            await initiator.ready()
            _, hard = resource.prlimit(failing.target.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(failing.target.pid, resource.RLIMIT_FSIZE, (4 << 20, hard))
            written = await fill(initiator)
            assert written == 4
            await check_served(initiator, written)
            resource.prlimit(failing.target.pid, resource.RLIMIT_FSIZE, (hard, hard))
            assert (await write(initiator, 8 * MIB_BLOCKS)).status == 0


async def test_truncated_image_is_an_internal_failure_beyond_its_end_and_served_below(tmp_path):
    with serving(tmp_path, tmp_path / "disk.img") as failing:
        async with session(failing.url) as initiator:
            await initiator.ready()
            for mib in range(4):
                assert (await write(initiator, mib * MIB_BLOCKS)).status == 0
            os.truncate(failing.image, 2 << 20)
            gone = Read16(lba=2 * MIB_BLOCKS, transfer_length=1)
            for cdb, data_out in ((gone, b""), (Write16(lba=2 * MIB_BLOCKS, transfer_length=1), bytes(BLOCK_BYTES))):
                outcome = await initiator.execute(cdb, data_out, read_bytes=0 if data_out else BLOCK_BYTES)
                assert (outcome.key, outcome.code) == INTERNAL_FAILURE
            assert failing.image.stat().st_size == 2 << 20
            await check_served(initiator, 2)
            os.truncate(failing.image, 64 << 20)
            assert await read(initiator, 2 * MIB_BLOCKS) == bytes(BLOCK_BYTES)
