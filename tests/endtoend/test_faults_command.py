"""What the installed initiators make of a target that misbehaves on order.

libiscsi's tools, qemu-io ──> unit 0 <── `iscsi-target faults`
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Tool
from tests.endtoend.conftest import Serve
from tests.endtoend.initiators import LOGINS, PLAIN, Finished, Initiators, attempt, run
from tools.served import ServedTarget

HEADER_DIGEST = next(login for login in LOGINS if login.name == "header_digest")


@pytest.fixture
def target(serve: Serve) -> ServedTarget:
    return serve(PLAIN)


def faults(target: ServedTarget, *words: str) -> Finished:
    command = [sys.executable, "-m", "iscsi_target", "faults", *words, "--state", str(target.state)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    return Finished(done.returncode, done.stdout, done.stderr)


def add(target: ServedTarget, rule: str) -> str:
    added = faults(target, "add", rule)
    assert added.exit_code == 0, added.errors
    return added.output.removeprefix("added ").strip()


def counts(target: ServedTarget) -> list[tuple[int, int]]:
    listed = json.loads(faults(target, "list", "--json").output)["faults"]
    return [(rule["matched"], rule["fired"]) for rule in listed]


def write(target: ServedTarget, qemu_io: Path) -> Finished:
    unit = Initiators(target, PLAIN).image()
    return attempt([qemu_io, "-t", "none", "-c", "write -P 0x11 0 64k", "--image-opts", unit])


def test_qemu_tries_again_when_it_is_told_busy_twice(target: ServedTarget, qemu_io: Path) -> None:
    add(target, "on scsi-command where opcode=WRITE(10), times=2: answer busy")
    assert "failed" not in write(target, qemu_io).output
    [(matched, fired)] = counts(target)
    assert (matched >= 3, fired) == (True, 2)
    assert faults(target, "clear").exit_code == 0
    assert "read 65536/65536" in Initiators(target, PLAIN).qemu_io(qemu_io, "read -P 0x11 0 64k")


def test_qemu_reports_a_medium_error(target: ServedTarget, qemu_io: Path) -> None:
    add(target, "on scsi-command where opcode=WRITE(10), cdb.lba=0: answer sense 3/0c/02")
    assert "write failed: Input/output error" in write(target, qemu_io).output


def test_libiscsi_tells_of_a_login_that_is_refused(target: ServedTarget, tool: Tool) -> None:
    name = add(target, "on login-request: refuse service-unavailable")
    refused = Initiators(target, PLAIN).attempt_libiscsi(tool("iscsi-inq"))
    assert refused.exit_code != 0
    assert "0x301" in refused.errors.lower() or "769" in refused.errors or "unavailable" in refused.errors.lower()
    assert faults(target, "remove", name).exit_code == 0
    Initiators(target, PLAIN).libiscsi(tool("iscsi-inq"))


def test_qemu_notices_a_wrong_header_digest_and_reads_again(serve: Serve, qemu_io: Path) -> None:
    target = serve(HEADER_DIGEST)
    add(target, "on data-in where opcode=READ(10), times=1: corrupt header-digest")
    assert "read 4096/4096" in Initiators(target, HEADER_DIGEST).qemu_io(qemu_io, "read 0 4k")
    [(matched, fired)] = counts(target)
    assert (matched >= 2, fired) == (True, 1)


def test_the_trace_and_the_log_tell_when_a_rule_fires(serve: Serve, tool: Tool, tmp_path: Path) -> None:
    trace = tmp_path / "trace.pcapng"
    target = serve(PLAIN, "--trace", str(trace))
    add(target, "on scsi-command where opcode=INQUIRY, times=1: delay 10ms")
    Initiators(target, PLAIN).libiscsi(tool("iscsi-inq"))
    assert target.terminate() == 0
    comments = run([tool("tshark"), "-r", trace, "-Y", "frame.comment", "-T", "fields", "-e", "frame.comment"])
    assert comments.count("fault 1 for scsi-command: on scsi-command where opcode=INQUIRY, times=1: delay 10ms") == 1


def test_a_rule_that_is_not_understood_is_one_line_and_status_2(target: ServedTarget) -> None:
    refused = faults(target, "add", "on scsi-command where opcode=WRIT(10): drop")
    assert refused.exit_code == 2
    assert refused.errors.count("\n") == 1
    assert "opcode=WRIT(10) names no command; did you mean 'WRITE(10)'?" in refused.errors
