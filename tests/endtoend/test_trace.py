"""tshark understands what the target wrote down of a login, writes, reads and a logout, and why a write conflicted."""

import asyncio
from pathlib import Path

import pytest

from iscsi_target.iscsi.requests import ScsiCommand
from iscsi_target.iscsi.responses import ScsiResponse
from iscsi_target.scsi.layouts.block_cdb import Read10, Write10
from iscsi_target.scsi.layouts.lun import pack_lun
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.status import Status
from tests.conftest import Tool
from tests.endtoend import cluster_node
from tests.endtoend.conftest import Serve
from tests.endtoend.initiators import LOGINS, PLAIN, Initiators, Login, run
from tests.endtoend.wire_initiator import Initiator, session

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


A, B = "iqn.2026-11.org.example:node-a", "iqn.2026-11.org.example:node-b"
KEY = 0x123ABC
WRITE_EXCLUSIVE = 1
BLOCK = bytes(512)


def command(cdb: Read10 | Write10) -> ScsiCommand:
    return ScsiCommand(
        lun=pack_lun(0),
        read=isinstance(cdb, Read10),
        write=isinstance(cdb, Write10),
        expected_data_transfer_length=len(BLOCK),
        cdb=cdb.pack().ljust(16, b"\0"),
    )


async def conflict_in_one_batch(node: Initiator) -> list[int]:
    """Sends read, write, read, write at once; returns the tags of the writes, which conflict."""
    reading, writing = command(Read10(transfer_length=1)), command(Write10(transfer_length=1))
    batch, tags = [], []
    for request, data in ((reading, b""), (writing, BLOCK), (reading, b""), (writing, BLOCK)):
        batch.append(node.wire.packed(node.numbered(request), data))
        tags.append(node.last_tag)
    await node.wire.send_bytes(b"".join(batch))
    answered = 0
    while answered < len(batch):
        header = (await node.receive()).header
        answered += isinstance(header, ScsiResponse) or bool(getattr(header, "status_present", False))
    return tags[1::2]


@pytest.mark.parametrize("digest", ["None", "CRC32C"])
def test_response_of_a_conflict_says_why_in_a_comment_and_no_other_packet_does(
    digest: str, serve: Serve, tool: Tool, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.pcapng"
    target = serve(PLAIN, "--trace", str(trace))
    keys = {"HeaderDigest": digest, "DataDigest": digest}

    async def nodes() -> list[int]:
        async with session(target.url(0), keys, name=A) as a, session(target.url(0), keys, name=B) as b:
            await a.ready()
            await b.ready()
            assert await cluster_node.Path(a).out(OutAction.REGISTER, new=KEY) == Status.GOOD
            assert await cluster_node.Path(a).out(OutAction.RESERVE, KEY, kind=WRITE_EXCLUSIVE) == Status.GOOD
            return await conflict_in_one_batch(b)

    tags = asyncio.run(nodes())
    port = target.portals[0].rpartition(":")[2]
    assert target.terminate() == 0

    decode: list[str | Path] = [tool("tshark"), "-r", trace, "-d", f"tcp.port=={port},iscsi"]
    assert run([*decode, "-Y", "_ws.malformed or tcp.analysis.lost_segment"]) == ""
    fields = ["-T", "fields", "-E", "separator=|"]
    for field in ("iscsi.opcode", "iscsi.initiatortasktag", "iscsi.scsiresponse.status", "frame.comment"):
        fields += ["-e", field]
    lines = [line.split("|") for line in run([*decode, "-Y", "frame.comment", *fields]).splitlines()]
    assert [opcode for opcode, *_ in lines] == [SCSI_RESPONSE] * 4
    assert [int(status, 16) for _, _, status, _ in lines] == [0, 0] + [Status.RESERVATION_CONFLICT] * 2
    conflicts = lines[2:]
    assert [int(tag, 16) for _, tag, _, _ in conflicts] == tags
    for *_, comment in conflicts:
        assert f"WRITE(10) from {B},i,0x800000000001: RESERVATION CONFLICT" in comment
        assert "the reservation admits only its holder to this command (SPC4r37 5.13.1)" in comment
        assert f"Write Exclusive, held by {A},i,0x800000000001 with key {KEY:#x}" in comment
