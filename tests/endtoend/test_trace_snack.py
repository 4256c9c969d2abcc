"""tshark understands what the target wrote down of SNACKs, and of what is sent again for them."""

import asyncio
from pathlib import Path

import pytest

from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import NopOut, SnackRequest
from iscsi_target.iscsi.responses import DataIn, NopIn, ScsiResponse
from iscsi_target.iscsi.retention import DATA_ACK, DATA_OR_R2T, STATUS
from iscsi_target.scsi.layouts.block_cdb import Read10, Write10
from iscsi_target.scsi.layouts.lun import pack_lun
from tests.conftest import Tool
from tests.endtoend.conftest import CONFIGURATION, SIZE_BYTES
from tests.endtoend.initiators import run
from tests.endtoend.wire_initiator import Initiator, session
from tools.served import ServedTarget

BLOCKS = 8
CONTENT = bytes(range(256)) * (BLOCKS * 2)
KEYS = {"ErrorRecoveryLevel": "1", "MaxRecvDataSegmentLength": "1024", "MaxBurstLength": "2048"}
SNACK = "0x10"


async def recover(node: Initiator) -> None:
    """Has data of a command and a status sent again, and acknowledges data."""
    await node.ready()
    assert (await node.execute(Write10(transfer_length=BLOCKS), CONTENT)).status == 0
    written = node._stat_sn - 1
    await node.wire.send(SnackRequest(kind=STATUS, initiator_task_tag=NO_TAG, begin_run=written, run_length=1))
    status = (await node.wire.receive()).header
    assert isinstance(status, ScsiResponse)
    assert status.stat_sn == written

    assert (await node.execute(Read10(transfer_length=BLOCKS), read_bytes=len(CONTENT))).data_in == CONTENT
    tag = node.last_tag
    lun = pack_lun(node.place.lun)
    again = SnackRequest(kind=DATA_OR_R2T, lun=lun, initiator_task_tag=tag, begin_run=1, run_length=2)
    await node.wire.send(again)
    for number in (1, 2):
        header, data = await node.wire.receive()
        assert isinstance(header, DataIn)
        assert (header.data_sn, data) == (number, CONTENT[number * 1024 : (number + 1) * 1024])
    await node.wire.send(
        SnackRequest(kind=DATA_ACK, lun=lun, initiator_task_tag=NO_TAG, target_transfer_tag=tag, begin_run=2)
    )
    await node.send(NopOut(immediate=True))
    assert isinstance((await node.receive()).header, NopIn)


@pytest.mark.parametrize("digest", ["None", "CRC32C"])
def test_snacks_decode_without_complaint(digest: str, tool: Tool, tmp_path: Path) -> None:
    trace, file = tmp_path / "trace.pcapng", tmp_path / "target.toml"
    plain = CONFIGURATION.format(name="iqn.2026-11.org.example:disks", size=SIZE_BYTES, authentication="")
    file.write_text(plain + "\n[session]\nerror_recovery_level = 1\n")
    file.chmod(0o600)

    async def talk(url: str) -> None:
        async with session(url, KEYS | {"HeaderDigest": digest, "DataDigest": digest}) as node:
            await recover(node)

    with ServedTarget(tmp_path, [str(file), "--trace", str(trace)]) as target:
        asyncio.run(talk(target.url(0)))
        port = target.portals[0].rpartition(":")[2]
        assert target.terminate() == 0

    decode: list[str | Path] = [tool("tshark"), "-r", trace, "-d", f"tcp.port=={port},iscsi"]
    assert run([*decode, "-Y", "_ws.malformed or tcp.analysis.lost_segment or tcp.analysis.retransmission"]) == ""
    assert run([*decode, "-Y", "_ws.expert.severity >= 0x00600000 and iscsi"]) == ""
    kinds = run([*decode, "-Y", f"iscsi.opcode == {SNACK}", "-T", "fields", "-e", "iscsi.snack.type"]).split()
    assert [int(kind, 0) for kind in kinds] == [STATUS, DATA_OR_R2T, DATA_ACK]
