"""What a user sees of a removable unit whose medium the operator changes.

libiscsi's tools, qemu-io, a session ──> unit 2 "removable" (64 MiB in RAM) <── `iscsi-target media`, other.img (32 MiB)
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.block_cdb import PreventAllowMediumRemoval
from tests.conftest import Tool
from tests.endtoend.conftest import SIZE_BYTES, Serve
from tests.endtoend.initiators import PLAIN, Finished, Initiators, attempt
from tests.endtoend.wire_initiator import session
from tests.initiator import READY
from tools.served import ServedTarget

UNIT, NAME = 2, "removable"
OTHER_BYTES = 32 << 20
NO_MEDIUM = (2, 2, 0x3A00)
CHANGED = (2, 6, AttentionCode.MEDIUM_MAY_HAVE_CHANGED)
REQUESTED = (2, 6, AttentionCode.OPERATOR_MEDIUM_REMOVAL_REQUEST)


@pytest.fixture
def target(serve: Serve) -> ServedTarget:
    return serve(PLAIN)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    image = tmp_path / "other.img"
    image.write_bytes(b"\x77" * (1 << 20))
    with image.open("r+b") as file:
        file.truncate(OTHER_BYTES)
    return image


def media(target: ServedTarget, verb: str, *words: str | Path) -> Finished:
    command = [sys.executable, "-m", "iscsi_target", "media", verb, "--state", str(target.state), NAME]
    done = subprocess.run(
        [*command, *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def qemu(target: ServedTarget, program: Path, command: str) -> Finished:
    unit = Initiators(target, PLAIN).image(UNIT)
    return attempt([program, "-t", "none", "-c", command, "--image-opts", unit])


def size_bytes(target: ServedTarget, tool: Tool) -> int:
    return int(Initiators(target, PLAIN).libiscsi(tool("iscsi-readcapacity16"), "-s", unit=UNIT))


@pytest.mark.clause("SBC3r36 4.9")
def test_the_tools_see_one_medium_then_none_then_another(
    target: ServedTarget, other: Path, tool: Tool, qemu_io: Path
) -> None:
    client = Initiators(target, PLAIN)
    assert size_bytes(target, tool) == SIZE_BYTES
    assert "failed" not in qemu(target, qemu_io, "write -P 0x11 0 64k").output
    ejected = media(target, "eject")
    assert (ejected.exit_code, ejected.output) == (0, f"unit {NAME}: ejected: RAM, {SIZE_BYTES} bytes\n")
    assert "Removable:1" in client.libiscsi(tool("iscsi-inq"), unit=UNIT).replace(" ", "")
    assert client.attempt_libiscsi(tool("iscsi-readcapacity16"), unit=UNIT).exit_code
    missing = qemu(target, qemu_io, "read 0 64k")
    assert missing.exit_code
    assert "readcapacity" in missing.errors  # of which QEMU says no more; the sense is in the next test
    inserted = media(target, "insert", other)
    assert (inserted.exit_code, inserted.output) == (0, f"unit {NAME}: loaded: {other}, {OTHER_BYTES} bytes\n")
    assert size_bytes(target, tool) == OTHER_BYTES
    found = qemu(target, qemu_io, "read -P 0x77 0 1M")
    assert (found.exit_code, "failed" in found.output) == (0, False)
    assert "failed" not in qemu(target, qemu_io, "write -P 0x22 31M 1M").output
    assert media(target, "eject").exit_code == 0
    assert other.read_bytes()[31 << 20 :] == b"\x22" * (1 << 20)


@pytest.mark.clause("SBC3r36 5.10")
def test_an_initiator_that_prevents_removal_is_asked_and_overruled_by_force(target: ServedTarget) -> None:
    async def use() -> list[tuple[int, int, int]]:
        seen: list[tuple[int, int, int]] = []
        async with session(target.url(UNIT)) as initiator:

            async def look() -> None:
                outcome = await initiator.execute(READY)
                seen.append((outcome.status, outcome.key, outcome.code))

            await initiator.ready()
            await initiator.execute(PreventAllowMediumRemoval(prevent=1))
            refused = await asyncio.to_thread(media, target, "eject")
            assert refused.exit_code == 2
            assert "removal is prevented by iqn." in refused.errors
            assert "; try again when it lets go, or use --force" in refused.errors
            await look()
            await look()
            assert (await asyncio.to_thread(media, target, "eject", "--force")).exit_code == 0
            await look()
            await look()
            assert (await asyncio.to_thread(media, target, "load")).exit_code == 0
            await look()
            await look()
        return seen

    good = (0, 0, 0)
    assert asyncio.run(use()) == [REQUESTED, good, REQUESTED, NO_MEDIUM, CHANGED, good]


def test_a_program_can_read_what_the_medium_is(target: ServedTarget, other: Path) -> None:
    shown = json.loads(media(target, "show", "--json").output)
    assert (shown["loaded"], shown["medium"], shown["size_bytes"], shown["preventing"]) == (True, "RAM", SIZE_BYTES, [])
    refused = media(target, "insert", other)
    assert (refused.exit_code, refused.output) == (2, "")
    assert "has a medium; `iscsi-target media eject removable` takes it out" in refused.errors
