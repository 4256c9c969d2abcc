"""What a user sees of two thin units in a pool that is nearly full.

    qemu-io, session ──> unit 0 "a" (file) ==\
                                              pool "shared", 10 MiB, soft threshold at 50 %
                         unit 1 "b" (RAM)  ==/
"""

import asyncio
import signal
import sys
import time
from collections.abc import Iterator
from os import kill
from pathlib import Path

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.cdb import LogSense, ModeSense10, RequestSense
from iscsi_target.scsi.sense_data import FixedSense
from tests.endtoend.initiators import PLAIN, Finished, Initiators, attempt, run
from tests.endtoend.reserving import insist
from tests.endtoend.wire_initiator import session
from tests.initiator import READY
from tools.served import ServedTarget

REACHED = AttentionCode.THIN_PROVISIONING_SOFT_THRESHOLD_REACHED
LINE_TIMEOUT_S = 20.0
POLL_S = 0.01

CONFIGURATION = """
[pools.shared]
size = "{size}"
soft_threshold = 50
[units.a]
file = "a.img"
size = "64MiB"
pool = "shared"
[units.b]
ram = true
size = "64MiB"
pool = "shared"
[[targets]]
name = "iqn.2026-11.org.example:thin"
luns = {{ 0 = "a", 1 = "b" }}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written = tmp_path / "config.toml"
    written.write_text(CONFIGURATION.format(size="10MiB"))
    return written


@pytest.fixture
def target(tmp_path: Path, file: Path) -> Iterator[ServedTarget]:
    with ServedTarget(tmp_path / "state", [str(file)]) as served:
        yield served
        assert "Traceback" not in served.errors


def qemu(target: ServedTarget, program: Path, *commands: str, unit: int = 0) -> Finished:
    words: list[str | Path] = [program, "-t", "none", "-d", "unmap"]
    for command in commands:
        words += ["-c", command]
    return attempt([*words, "--image-opts", Initiators(target, PLAIN).image(unit)])


def counts(target: ServedTarget, unit: int = 0) -> tuple[int, int]:
    """Returns what is available and what is used, in MiB, of the log page."""

    async def ask() -> tuple[int, int]:
        async with session(target.url(unit)) as initiator:
            cdb = LogSense(page_code=0x0C, pc=1, allocation_length=64)
            outcome, _ = await insist(initiator, cdb, read_bytes=64)
            return int.from_bytes(outcome.data_in[8:12]), int.from_bytes(outcome.data_in[20:24])

    return asyncio.run(ask())


def said(target: ServedTarget) -> str:
    return (target.state / "serve.out").read_text() + target.errors


def await_line(target: ServedTarget, expected: str) -> None:
    """Returns when the target has said something; its output goes through a thread."""
    deadline_s = time.monotonic() + LINE_TIMEOUT_S
    while expected not in said(target):
        assert time.monotonic() < deadline_s, said(target)
        time.sleep(POLL_S)


def test_a_write_that_finds_no_room_says_so_and_changes_nothing_and_discarding_helps(
    target: ServedTarget, qemu_io: Path
) -> None:
    assert qemu(target, qemu_io, "write -P 1 0 6M").exit_code == 0
    assert qemu(target, qemu_io, "write -P 2 0 3M", unit=1).exit_code == 0
    full = qemu(target, qemu_io, "write -P 3 16M 2M")
    assert "No space left on device" in full.output + full.errors
    overwritten = qemu(target, qemu_io, "read -P 0 16M 2M", "write -P 4 0 6M", "read -P 4 0 6M")
    assert "failed" not in overwritten.output
    assert counts(target) == (1, 6)
    again = qemu(target, qemu_io, "discard 1M 2M", "write -P 3 16M 2M", "flush", "read -P 3 16M 2M", "read -P 0 1M 2M")
    assert (again.exit_code, "failed" in again.output) == (0, False)
    assert (counts(target, 0), counts(target, 1)) == ((1, 6), (1, 3))


def test_the_operator_sees_how_full_a_pool_is(target: ServedTarget, qemu_io: Path) -> None:
    assert qemu(target, qemu_io, "write 0 5M", unit=1).exit_code == 0
    root = Path(__file__).parents[2]
    words: list[str | Path] = [sys.executable, "-m", "iscsi_target", "pools", "show", "--state", target.state]
    assert run(words, {"PYTHONPATH": str(root)}).splitlines() == [
        "pool shared: 5242880 of 10485760 bytes (50.0 %) in use, soft threshold at 50 %, reached",
        "    a: 0 bytes",
        "    b: 5242880 bytes",
    ]


def test_a_larger_pool_has_room_after_a_reload(target: ServedTarget, file: Path, qemu_io: Path) -> None:
    assert qemu(target, qemu_io, "write 0 10M").exit_code == 0
    assert "No space left on device" in qemu(target, qemu_io, "write 0 1M", unit=1).output
    file.write_text(CONFIGURATION.format(size="12MiB"))
    kill(target.pid, signal.SIGHUP)
    await_line(target, '"reloaded"')
    assert qemu(target, qemu_io, "write 0 1M", unit=1).exit_code == 0
    assert counts(target, 1) == (1, 1)


def test_initiators_and_the_log_are_told_of_the_soft_threshold(target: ServedTarget, qemu_io: Path) -> None:
    async def watch() -> tuple[int, int, FixedSense]:
        async with session(target.url(1)) as initiator:
            await initiator.ready()
            page = await initiator.execute(
                ModeSense10(dbd=True, page_code=0x1C, subpage_code=2, allocation_length=64), read_bytes=64
            )
            written = await asyncio.to_thread(qemu, target, qemu_io, "write 0 5M")
            assert written.exit_code == 0
            asked = await initiator.execute(RequestSense(allocation_length=18), read_bytes=18)
            ready = await initiator.execute(READY)
            sense = FixedSense.unpack(asked.data_in)
            return ready.status, int.from_bytes(page.data_in[8 + 20 : 8 + 24]), sense

    status, threshold, sense = asyncio.run(watch())
    assert (threshold, status) == (5, 0)  # MiB
    assert (sense.sense_key, sense.additional_sense_code, sense.valid, sense.information) == (6, REACHED, True, 16)
    await_line(target, "pool shared has reached its soft threshold of 50 %: 5242880 of 10485760 bytes are in use")


def test_what_is_in_use_is_known_again_after_a_crash(target: ServedTarget, qemu_io: Path) -> None:
    assert qemu(target, qemu_io, "write -f 0 7M").exit_code == 0
    assert qemu(target, qemu_io, "write 0 1M", unit=1).exit_code == 0
    target.kill9()
    target.restart()
    assert (counts(target, 0), counts(target, 1)) == ((3, 7), (3, 0))


def test_the_check_of_a_configuration_finds_a_pool_that_is_not_there(file: Path, tmp_path: Path) -> None:
    file.write_text(CONFIGURATION.format(size="10MiB").replace('pool = "shared"', 'pool = "share"', 1))
    root = Path(__file__).parents[2]
    found = attempt([sys.executable, "-m", "iscsi_target", "check", file], {"PYTHONPATH": str(root)})
    assert found.exit_code == 2
    assert "units.a.pool names the pool 'share', which is not defined; did you mean 'shared'?" in found.errors
    file.write_text(CONFIGURATION.format(size="10MiB"))
    run([sys.executable, "-m", "iscsi_target", "check", file, "--state", tmp_path], {"PYTHONPATH": str(root)})
