"""tshark understands what the target wrote down of a login, writes, reads and a logout."""

from pathlib import Path

import pytest

from tests.conftest import Tool
from tests.endtoend.conftest import Serve
from tests.endtoend.initiators import LOGINS, Initiators, Login, run

LOGIN_COMMAND, LOGIN_RESPONSE, LOGOUT_COMMAND, LOGOUT_RESPONSE = "0x03", "0x23", "0x06", "0x26"
SCSI_COMMAND, SCSI_RESPONSE, DATA_IN, R2T = "0x01", "0x21", "0x25", "0x31"


@pytest.mark.parametrize("login", LOGINS, ids=str)
def test_a_trace_decodes_as_iscsi_without_a_malformed_pdu(
    login: Login, serve: Serve, qemu_io: Path, tool: Tool, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.pcapng"
    target = serve(login, "--trace", str(trace))
    Initiators(target, login).qemu_io(qemu_io, "write -P 0x21 0 2M", "read -P 0x21 0 2M", "flush")
    ports = {url.split("/")[2].rpartition(":")[2] for url in target.urls}
    assert target.terminate() == 0

    decode: list[str | Path] = [tool("tshark"), "-r", trace]
    for port in ports:
        decode += ["-d", f"tcp.port=={port},iscsi"]
    opcodes = run([*decode, "-Y", "iscsi", "-T", "fields", "-e", "iscsi.opcode"]).replace(",", "\n").split()
    assert {LOGIN_COMMAND, LOGIN_RESPONSE, SCSI_COMMAND, SCSI_RESPONSE, DATA_IN, R2T} <= set(opcodes)
    assert opcodes.count(LOGOUT_COMMAND) == opcodes.count(LOGOUT_RESPONSE) >= 1
    assert run([*decode, "-Y", "_ws.malformed or _ws.short or tcp.analysis.lost_segment"]) == ""
    assert run([*decode, "-Y", "tcp and not iscsi and tcp.len > 0 and not tcp.segments"]).count("\n") <= len(opcodes)
