"""What the installed initiators see of targets that are taken offline or have moved.

libiscsi's tools ──> target ──moved──> other target of the same name <── `iscsi-target targets`
"""

import subprocess
import sys

import pytest

from tests.conftest import Tool
from tests.endtoend.conftest import Serve
from tests.endtoend.initiators import PLAIN, Finished, Initiators
from tools.served import ServedTarget


@pytest.fixture
def target(serve: Serve) -> ServedTarget:
    return serve(PLAIN)


def targets(target: ServedTarget, verb: str, *words: str) -> Finished:
    command = [sys.executable, "-m", "iscsi_target", "targets", verb, "--state", str(target.state), *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    return Finished(done.returncode, done.stdout, done.stderr)


def name_of(target: ServedTarget) -> str:
    return target.url(0).split("/")[3]


@pytest.mark.clause("RFC7143 11.13.5")
def test_libiscsi_is_let_in_again_when_a_target_is_back(target: ServedTarget, tool: Tool) -> None:
    initiators, name = Initiators(target, PLAIN), name_of(target)
    offline = targets(target, "offline", name)
    assert (offline.exit_code, offline.output) == (0, f"{name}: offline, 0 sessions\n")
    assert initiators.attempt_libiscsi(tool("iscsi-inq")).exit_code != 0
    assert targets(target, "online", name).output == f"{name}: online, 0 sessions\n"
    initiators.libiscsi(tool("iscsi-inq"))


@pytest.mark.clause("RFC7143 13.8")
def test_libiscsi_follows_a_redirection(serve: Serve, tool: Tool) -> None:
    here, there = serve(PLAIN), serve(PLAIN)
    name = name_of(here)
    assert name_of(there) == name
    assert targets(here, "move", name, there.portals[0]).exit_code == 0
    Initiators(here, PLAIN).libiscsi(tool("iscsi-inq"))
    assert targets(there, "offline", name).exit_code == 0
    assert Initiators(here, PLAIN).attempt_libiscsi(tool("iscsi-inq")).exit_code != 0


def test_a_target_that_is_not_there_is_one_line_and_status_2(target: ServedTarget) -> None:
    refused = targets(target, "offline", "iqn.2026-11.org.example:nobody")
    assert refused.exit_code == 2
    assert "there is no target" in refused.errors
    assert refused.errors.count("\n") == 1
