"""Hostile initiators over real sockets: the target goes on serving others, and nothing of theirs stays behind.

    attackers 127.0.0.10 ... ──> target "arena",  LUN 0 = unit "arena"  (a file)
    neighbour 127.0.0.1      ──> target "home",   LUN 0 = unit "home"   (RAM)

One server in this process serves both, and one that is a process of its own is asked how much memory it took.
"""

import asyncio
import gc
import logging
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import iscsi_target
from iscsi_target.config.address import Address
from iscsi_target.config.values import Backing, Configuration, PortalGroup, TargetEntry, Unit
from iscsi_target.iscsi.connection import Connection
from iscsi_target.scsi.layouts.block_cdb import Read16, Write16
from iscsi_target.server.server import Server
from iscsi_target.target import Timeouts
from tests.endtoend.attacks import ATTACKS, Attack, command_numbers, deaf_readers, hoarded_writes
from tests.endtoend.hostile import BLOCK_BYTES, Arena
from tests.endtoend.wire_initiator import ConnectionEnded, Initiator, place_of, session
from tools.served import ServedTarget

SEED = 20261101
HOSTILE_PDUS = 2000
MAX_WAIT_S = 15.0  # of the neighbour, for one command, while everything else happens in the same process
SETTLE_S = 15.0  # until the target has forgotten the attackers
POLL_S = 0.02
MAX_GROWTH_BYTES = 64 << 20  # of memory, from before all attacks to after them
MAX_PEAK_BYTES = 256 << 20  # of memory, during GREEDY: ten sessions with some 16 MiB each, eight reads at the medium
# Makes glibc give back what is freed, so that the resident size is what the server holds and not what it once held.
RETURN_FREED_MEMORY = ("MALLOC_MMAP_THRESHOLD_", "131072")
TIMEOUTS = Timeouts(login_s=2.0, nop_interval_s=3.0, nop_answer_s=3.0, logout_s=2.0)
ARENA, HOME = "iqn.2026-11.org.example:arena", "iqn.2026-11.org.example:home"


def configuration(folder: Path) -> Configuration:
    return Configuration(
        state=folder,
        portal_groups=(PortalGroup(1, (Address("127.0.0.1", 0),)),),
        units=(
            Unit("arena", Backing.FILE, folder / "arena.img", 64 << 20),
            Unit("home", Backing.RAM, None, 16 << 20),
        ),
        targets=(TargetEntry(ARENA, {0: "arena"}), TargetEntry(HOME, {0: "home"})),
        timeouts=TIMEOUTS,
    )


# Alone, because a TARGET COLD RESET of another attacker would cut them before they have what they want.
GREEDY: tuple[Attack, ...] = (deaf_readers, command_numbers, hoarded_writes)
TOML = f"""
[session]
login_timeout = {TIMEOUTS.login_s}
nop_interval = {TIMEOUTS.nop_interval_s}
nop_timeout = {TIMEOUTS.nop_answer_s}
logout_timeout = {TIMEOUTS.logout_s}
[units.arena]
file = "arena.img"
size = "64MiB"
[units.home]
ram = true
size = "16MiB"
[[targets]]
name = "{ARENA}"
luns = {{ 0 = "arena" }}
[[targets]]
name = "{HOME}"
luns = {{ 0 = "home" }}
"""


class Neighbour:
    """A well-behaved initiator that writes, reads back and compares until it is told to stop."""

    def __init__(self, initiator: Initiator) -> None:
        self._initiator = initiator
        self._random = random.Random(SEED)
        self._stopping = False
        self.rounds = 0
        self.longest_s = 0.0

    async def run(self) -> None:
        """Works until `stop`."""
        while not self._stopping:
            await self.once()
            await asyncio.sleep(0.001)

    async def once(self) -> None:
        """Writes something, in one PDU or with R2Ts, and reads it back."""
        begun_s = asyncio.get_running_loop().time()
        blocks = self._random.choice((1, 8, 1024))
        lba = self._random.randrange(16384)
        written = self._random.randbytes(blocks * BLOCK_BYTES)
        outcome = await self._initiator.execute(Write16(lba=lba, transfer_length=blocks), written)
        assert outcome.status == 0, outcome
        outcome = await self._initiator.execute(Read16(lba=lba, transfer_length=blocks), read_bytes=len(written))
        assert outcome.status == 0, outcome
        assert outcome.data_in == written
        self.rounds += 1
        self.longest_s = max(self.longest_s, asyncio.get_running_loop().time() - begun_s)

    def stop(self) -> None:
        """Lets `run` end."""
        self._stopping = True


@asynccontextmanager
async def neighbourhood(url: str) -> AsyncIterator[Neighbour]:
    """A neighbour at work while the block runs; it must have been served all the time."""
    async with session(url, {"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"}) as initiator:
        await initiator.ready()
        neighbour = Neighbour(initiator)
        await neighbour.once()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(neighbour.run())
            yield neighbour
            neighbour.stop()
        before = neighbour.rounds
        await neighbour.once()
    assert before > 1, "the neighbour was not served meanwhile"
    assert neighbour.longest_s < MAX_WAIT_S


async def attack(url: str, how: Attack, index: int = 0) -> int:
    """Runs one attack to its end and returns the number of hostile PDUs.

    The end comes early when another attacker resets the target, or when the target has lost its patience.
    """
    arena = Arena(place_of(url), f"127.0.0.{10 + index}", SEED + index)
    try:
        await how(arena)
    except (ConnectionEnded, TimeoutError):
        pass
    finally:
        await arena.leave()
    assert arena.sent > 0
    return arena.sent


class Holdings:
    """What a server in this process has: descriptors, tasks of asyncio, and what its machines keep."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before = self.now()
        self._tasks = asyncio.all_tasks()

    def now(self) -> dict[str, int]:
        """Counts everything; the private parts are looked at because nobody else would see a leak there."""
        driver, target = self._server._driver, self._server._target
        units = [opened.logical_unit for opened in self._server._units.values()]
        return {
            "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            "sessions": len(self._server.sessions),
            "open tasks of sessions": sum(summary.open_tasks for summary in self._server.sessions),
            "open tasks of units": sum(unit.open_tasks for unit in units),
            "turns of units": sum(len(unit._tasks.turns) for unit in units),
            "connections": len(driver._channels),
            "closing connections": len(driver._closing),
            "pending logins": driver._admission.waiting,
            "peers": driver._admission._peers.total(),
            "links": len(target._links),
            "operations at media": len(target._dispatcher._performing),
            "management requests": len(target._dispatcher._desk._waits),
        }

    async def settled(self) -> None:
        """Returns when everything is as it was at first; fails when that does not come to pass."""
        for _ in range(round(SETTLE_S / POLL_S)):
            if self.now() == self._before and not asyncio.all_tasks() - self._tasks:
                return
            await asyncio.sleep(POLL_S)
        now = {what: (self._before[what], count) for what, count in self.now().items() if count != self._before[what]}
        pytest.fail(f"left behind, before and after: {now} {asyncio.all_tasks() - self._tasks}")


def memory_bytes(pid: int, key: str = "VmRSS") -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"no {key} of process {pid}")


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.errors.append(self.format(record))


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """What the server logs as an error, tracebacks included; its many warnings are not made."""
    collector, logger = _Collector(), logging.getLogger("iscsi_target")
    level = logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.ERROR)
    yield collector.errors
    logger.setLevel(level)
    logger.removeHandler(collector)


@pytest.mark.parametrize("how", ATTACKS, ids=lambda how: how.__name__)
async def test_attack_leaves_the_server_serving_and_nothing_behind(how: Attack, tmp_path, errors):
    async with iscsi_target.serve(configuration(tmp_path)) as server:
        holdings = Holdings(server)
        async with neighbourhood(server.url("home")):
            await attack(server.url("arena"), how, ATTACKS.index(how))
        await holdings.settled()
        async with session(server.url("arena")) as initiator:
            await initiator.ready()
    assert not errors


async def test_two_thousand_hostile_pdus_at_once_leave_the_server_serving_and_nothing_behind(tmp_path, errors):
    async with iscsi_target.serve(configuration(tmp_path)) as server:
        holdings = Holdings(server)
        async with neighbourhood(server.url("home")), asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(attack(server.url("arena"), how, index)) for index, how in enumerate(ATTACKS)]
        await holdings.settled()
    assert sum(each.result() for each in running) >= HOSTILE_PDUS
    assert not errors


async def test_early_commands_go_with_their_connection_and_do_not_wait_for_the_garbage_collector(tmp_path, errors):
    async with iscsi_target.serve(configuration(tmp_path)) as server:
        holdings = Holdings(server)
        gc.collect()
        gc.disable()
        try:
            await attack(server.url("arena"), command_numbers)
            await holdings.settled()
            assert not [each for each in gc.get_objects() if type(each) is Connection]
        finally:
            gc.enable()


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


async def test_memory_and_descriptors_of_a_server_process_stay_bounded_and_come_back(tmp_path, monkeypatch):
    monkeypatch.setenv(*RETURN_FREED_MEMORY)
    file = tmp_path / "target.toml"
    file.write_text(TOML)
    with ServedTarget(tmp_path / "state", [str(file)]) as target:
        arena, home = (next(url for url in target.urls if name in url) for name in (ARENA, HOME))
        async with neighbourhood(home) as neighbour:
            before, open_before = memory_bytes(target.pid), descriptors(target.pid)
            for together in (ATTACKS, GREEDY):
                async with asyncio.TaskGroup() as tasks:
                    for index, how in enumerate(together):
                        tasks.create_task(attack(arena, how, index))
            for _ in range(round(SETTLE_S / POLL_S)):
                if descriptors(target.pid) == open_before and memory_bytes(target.pid) < before + MAX_GROWTH_BYTES:
                    break
                await asyncio.sleep(POLL_S)
            assert descriptors(target.pid) == open_before
            growth, peak = memory_bytes(target.pid) - before, memory_bytes(target.pid, "VmHWM") - before
        print(f"{growth >> 20} MiB more, {peak >> 20} MiB at the most, waited {neighbour.longest_s:.2f} s at the most")
        assert growth < MAX_GROWTH_BYTES
        assert peak < MAX_PEAK_BYTES
        assert "Traceback" not in target.errors
