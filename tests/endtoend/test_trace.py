"""tshark understands what the target wrote down of a login, writes, reads and a logout."""

from pathlib import Path

import pytest

from tests.conftest import Tool
from tests.endtoend.conftest import Serve
from tests.endtoend.initiators import LOGINS, Initiators, Login, run

LOGIN_COMMAND, LOGIN_RESPONSE, LOGOUT_COMMAND, LOGOUT_RESPONSE = "0x03", "0x23", "0x06", "0x26"
SCSI_COMMAND, SCSI_RESPONSE, DATA_IN, R2T = "0x01", "0x21", "0x25", "0x31"

# libiscsi asks for 64 bytes of an INQUIRY page that is longer; tshark 4.0 calls its last, cut designator malformed,
# although the PDU is whole.
TRUNCATED_BY_THE_INITIATOR = "(scsi_sbc.opcode == 0x12 and iscsi.datasegmentlength == 64)"


@pytest.mark.parametrize("login", LOGINS, ids=str)
def test_a_trace_decodes_as_iscsi_without_a_malformed_pdu(
    login: Login, serve: Serve, qemu_io: Path, tool: Tool, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.pcapng"
    target = serve(login, "--trace", str(trace))
    Initiators(target, login).qemu_io(qemu_io, "write -P 0x21 0 2M", "read -P 0x21 0 2M", "flush")
    ports = [portal.rpartition(":")[2] for portal in target.portals]
    assert target.terminate() == 0

    decode: list[str | Path] = [tool("tshark"), "-r", trace]
    for port in ports:
        decode += ["-d", f"tcp.port=={port},iscsi"]
    opcodes = run([*decode, "-Y", "iscsi", "-T", "fields", "-e", "iscsi.opcode"]).replace(",", "\n").split()
    assert {LOGIN_COMMAND, LOGIN_RESPONSE, SCSI_COMMAND, SCSI_RESPONSE, DATA_IN, R2T} <= set(opcodes)
    assert opcodes.count(LOGOUT_COMMAND) == opcodes.count(LOGOUT_RESPONSE) >= 1
    assert run([*decode, "-Y", f"_ws.malformed and not {TRUNCATED_BY_THE_INITIATOR}"]) == ""
    assert run([*decode, "-Y", "tcp.analysis.lost_segment or tcp.analysis.retransmission"]) == ""
