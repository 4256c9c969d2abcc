"""The bytes of a ROD token; drawing in command_bench."""

import pytest

from iscsi_target.scsi.commands.token_format import creator, token_bytes
from iscsi_target.scsi.layouts.token_cdb import RodTokenHeader
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from tests.unit.scsi.command_bench import A, device


@pytest.mark.clause("SPC4r37 5.17.6.5.1")
@pytest.mark.clause("SBC3r36 4.28.5")
def test_a_token_tells_where_it_is_from_and_how_much_it_represents():
    unit = device()
    raw = token_bytes(unit, A, 0x1234)
    assert len(raw) == 512
    header = RodTokenHeader.unpack(raw)
    assert (header.rod_type, header.rod_token_length) == (0x0080_0001, 0x1F8)
    assert raw[16:48].hex() == "e4000000" + "01030008" + "6001405000000001" + "00" * 12 + "00000200"
    assert int.from_bytes(raw[48:64]) == 0x1234
    assert not any(raw[64:96])
    assert raw[96:128].hex() == "00000200" + "0003" + "c0" + "00" * 25
    assert raw[128:132].hex() == "53a8" + "00" + f"{raw[131]:02x}"
    assert raw[132 : 132 + raw[131]].rstrip(b"\0").decode() == A.target_port.name
    assert creator(raw) == unit.identity.naa


@pytest.mark.clause("SPC4r37 5.17.6.4")
def test_no_two_tokens_are_alike_and_none_can_be_guessed():
    unit = device()
    one, other = token_bytes(unit, A, 512), token_bytes(unit, A, 512)
    assert one[8:16] != other[8:16]
    assert one[16:256] == other[16:256]
    assert sum(mine != theirs for mine, theirs in zip(one[256:], other[256:], strict=True)) > 200


def test_a_target_name_that_is_too_long_is_left_out():
    port = TargetPort("iqn.2025-01.org.example:" + "x" * 150, 1)
    raw = token_bytes(device(), Nexus(InitiatorPort("iqn.2025-01.org.example:a", bytes(6)), port), 512)
    assert (len(raw), any(raw[128:256])) == (512, False)
