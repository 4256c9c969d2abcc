"""A unit that is sanitized in a server that is killed, or stopped, in the middle of it.

    session ──> "disk0", in a file, of a server that is a process of its own, which takes its time to sanitize

What is on the disk is looked at when no server runs.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from iscsi_target.scsi.commands.sanitize import OverwriteHeader, Sanitize
from iscsi_target.scsi.layouts.block_cdb import Write16
from iscsi_target.scsi.layouts.cdb import Inquiry, RequestSense
from iscsi_target.scsi.state.sanitization import METHODS, Method
from tests.endtoend.reserving import insist
from tests.endtoend.wire_initiator import Initiator, session
from tests.initiator import READY
from tools.served import ServedTarget

SIZE = 8 << 20
SECONDS = 2
PATTERN = bytes(range(1, 129))
FORMER = b"former data".ljust(512, b"!")
IN_PROGRESS = (2, 0x041B)
LIMIT_S = 30.0  # generous: a loaded machine is no reason to fail

CONFIGURATION = """
[units.disk0]
file = "{image}"
size = {size}
sanitize_seconds = {seconds}
[[targets]]
name = "iqn.2026-11.org.example:sanitized"
luns = {{ 0 = "disk0" }}
"""

Answer = TypeVar("Answer")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "disk0.img"


@pytest.fixture
def target(tmp_path: Path, image: Path) -> Iterator[ServedTarget]:
    image.write_bytes(FORMER * (SIZE // len(FORMER)))
    file = tmp_path / "config.toml"
    file.write_text(CONFIGURATION.format(image=image, size=SIZE, seconds=SECONDS))
    with ServedTarget(tmp_path / "state", [str(file)]) as served:
        yield served
        assert "Traceback" not in log_of(served)


def log_of(target: ServedTarget) -> str:
    """Returns what the server has said since it was last started."""
    return (target.state / "serve.out").read_text() + target.errors


def ask(target: ServedTarget, question: Callable[[Initiator], Awaitable[Answer]]) -> Answer:
    """Lets somebody log in, ask, and log out."""

    async def visit() -> Answer:
        async with asyncio.timeout(LIMIT_S), session(target.url()) as initiator:
            return await question(initiator)

    return asyncio.run(visit())


async def readiness(initiator: Initiator) -> tuple[int, int]:
    """Returns the sense key and the code that TEST UNIT READY tells, zeros when the unit is ready."""
    outcome, _ = await insist(initiator, READY)
    return outcome.key, outcome.code


async def progress(initiator: Initiator) -> int:
    outcome = await initiator.execute(RequestSense(allocation_length=18), read_bytes=18)
    assert outcome.status == 0
    return int.from_bytes(outcome.data_in[16:18])


async def begin(initiator: Initiator, method: Method) -> None:
    data = b""
    if method is Method.OVERWRITE:
        data = OverwriteHeader(overwrite_count=1, initialization_pattern_length=len(PATTERN)).pack() + PATTERN
    cdb = Sanitize(service_action=method, immed=True, parameter_list_length=len(data))
    outcome, _ = await insist(initiator, cdb, data)
    assert outcome.status == 0


async def begin_and_come_to_a_third(initiator: Initiator, method: Method) -> None:
    await begin(initiator, method)
    while await progress(initiator) < 0x10000 // 3:
        pass
    assert await readiness(initiator) == IN_PROGRESS


async def wait_for_the_end(initiator: Initiator) -> None:
    while (told := await readiness(initiator)) != (0, 0):
        assert told == IN_PROGRESS


def check_gone(image: Path, method: Method) -> None:
    """Nothing of what the unit had is in the file, and what was erased takes no place on the disk."""
    content = image.read_bytes()
    assert len(content) == SIZE
    if method is Method.OVERWRITE:
        assert content == PATTERN * (SIZE // len(PATTERN))
    else:
        assert content == bytes(SIZE)
        assert image.stat().st_blocks == 0


@pytest.mark.clause("SBC3r36 4.11.2")
@pytest.mark.parametrize("method", METHODS)
def test_it_goes_on_after_kill_9(target: ServedTarget, image: Path, method: Method):
    ask(target, lambda initiator: begin_and_come_to_a_third(initiator, method))
    target.kill9()
    assert FORMER in image.read_bytes()
    target.restart()
    assert ask(target, readiness) == IN_PROGRESS
    ask(target, wait_for_the_end)
    assert target.terminate() == 0
    assert "unit disk0: it is still being sanitized" in log_of(target)
    check_gone(image, method)
    target.restart()
    assert ask(target, readiness) == (0, 0)


@pytest.mark.clause("SBC3r36 4.11.2")
def test_a_server_that_is_stopped_does_not_wait_for_it_and_it_goes_on(target: ServedTarget, image: Path):
    ask(target, lambda initiator: begin_and_come_to_a_third(initiator, Method.OVERWRITE))
    assert target.terminate() == 0
    assert FORMER in image.read_bytes()
    assert "has failed" not in log_of(target)
    target.restart()
    ask(target, wait_for_the_end)
    target.kill9()
    check_gone(image, Method.OVERWRITE)


@pytest.mark.clause("SBC3r36 4.11.2")
def test_the_server_answers_others_meanwhile_and_says_what_happens(target: ServedTarget):
    async def look(initiator: Initiator) -> list[int]:
        await begin(initiator, Method.BLOCK_ERASE)
        seen = [await progress(initiator)]
        while (told := await readiness(initiator)) == IN_PROGRESS:
            outcome = await initiator.execute(Inquiry(allocation_length=36), read_bytes=36)
            assert outcome.status == 0
            seen.append(await progress(initiator))
        assert told == (0, 0)
        return seen[:-1]

    seen = ask(target, look)
    assert target.terminate() == 0  # everything is in the log then
    assert seen == sorted(seen)
    assert len(set(seen)) > 10
    for said in ("sanitize by block erase has begun, asked for by iqn.", "sanitize by block erase has ended"):
        assert said in log_of(target)


@pytest.mark.clause("SBC3r36 4.11.3")
def test_a_medium_that_cannot_be_written_fails_it_and_a_restart_does_not_mend_that(target: ServedTarget, image: Path):
    async def fail(initiator: Initiator) -> tuple[int, int]:
        await begin(initiator, Method.OVERWRITE)
        os.truncate(image, SIZE // 2)  # what is beyond is not there any more
        while (told := await readiness(initiator)) == IN_PROGRESS:
            pass
        return told

    async def mend(initiator: Initiator) -> None:
        assert await readiness(initiator) == (3, 0x3103)
        refused, _ = await insist(initiator, Write16(transfer_length=1), bytes(512))
        assert (refused.key, refused.code) == (3, 0x3103)
        await begin(initiator, Method.BLOCK_ERASE)
        await wait_for_the_end(initiator)

    assert ask(target, fail) == (3, 0x3103)
    assert target.terminate() == 0
    assert "sanitize by overwrite has failed" in log_of(target)
    os.truncate(image, SIZE)
    target.restart()
    ask(target, mend)
    assert target.terminate() == 0
    assert "it could not be sanitized" in log_of(target)
    check_gone(image, Method.BLOCK_ERASE)
