"""A node with two paths to one unit, as multipath has it, while states of the paths change.

node A ---- portal group 1 in target port group 1, optimized ---- unit "disk"
       ---- portal group 2 in target port group 2, standby ------
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.commands.target_port_groups import SetDescriptor, SetTargetPortGroups
from iscsi_target.scsi.layouts.block_cdb import Read10, Write10
from iscsi_target.scsi.status import Status
from tests.endtoend.wire_initiator import Initiator, Outcome, session
from tools.served import ServedTarget

CONFIGURATION = """
[portal_groups.1]
listen = ["127.0.0.1:0"]

[portal_groups.2]
listen = ["127.0.0.2:0"]

[target_port_groups.1]
portal_groups = [1]
preferred = true

[target_port_groups.2]
portal_groups = [2]
state = "standby"
transition_seconds = 0.2

[units.disk]
ram = true
size = "1MiB"

[[targets]]
name = "iqn.2026-11.org.example:paths"
portal_groups = [1, 2]
luns = { 0 = "disk" }
"""
BLOCK = bytes([7]) * 512
NOT_READY, UNIT_ATTENTION = 2, 6
IN_STANDBY = (NOT_READY, 0x040B)
CHANGED = (UNIT_ATTENTION, AttentionCode.ASYMMETRIC_ACCESS_STATE_CHANGED)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[ServedTarget]:
    file = tmp_path / "target.toml"
    file.write_text(CONFIGURATION)
    with ServedTarget(tmp_path, [str(file)]) as serving:
        yield serving
    assert "Traceback" not in serving.errors


def command(target: ServedTarget, *words: str) -> str:
    """Runs `iscsi-target paths` and returns what it prints."""
    line = [sys.executable, "-m", "iscsi_target", "paths", *words, "--state", str(target.state)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=True).stdout


async def write(path: Initiator) -> Outcome:
    return await path.execute(Write10(transfer_length=1), BLOCK)


async def sense(path: Initiator) -> tuple[int, int]:
    outcome = await path.execute(Read10(transfer_length=1), read_bytes=512)
    return outcome.key, outcome.code


async def test_a_node_fails_over_and_the_operator_fails_it_back(target: ServedTarget):
    first, second = target.url(path=0), target.url(path=1)
    async with session(first) as active, session(second, isid=b"\x80\0\0\0\0\2") as standby:
        await active.ready()
        assert await sense(standby) == (UNIT_ATTENTION, AttentionCode.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED)
        assert await sense(standby) == IN_STANDBY
        assert (await write(active)).status == Status.GOOD

        wanted = SetDescriptor(asymmetric_access_state=2, target_port_group=1), SetDescriptor(target_port_group=2)
        parameters = bytes(4) + b"".join(each.pack() for each in wanted)
        cdb = SetTargetPortGroups(parameter_list_length=len(parameters))
        assert (await standby.execute(cdb, parameters)).status == Status.GOOD
        assert (await write(standby)).status == Status.GOOD
        assert await sense(active) == CHANGED
        assert await sense(active) == IN_STANDBY

        shown = await asyncio.to_thread(command, target, "set", "disk", "1", "active/optimized")
        assert shown.startswith("target port group 1: active/optimized, preferred\n")
        assert await sense(active) == CHANGED
        assert (await write(active)).status == Status.GOOD
    shown = await asyncio.to_thread(command, target, "show", "disk")
    assert "target port group 2: active/optimized\n" in shown
