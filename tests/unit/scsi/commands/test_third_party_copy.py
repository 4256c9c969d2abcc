"""VPD page 8Fh; drawing in command_bench."""

import pytest

from iscsi_target.scsi.commands.table import TABLE
from iscsi_target.scsi.commands.third_party_copy import ACTIONS
from iscsi_target.scsi.layouts.cdb import Inquiry
from iscsi_target.scsi.layouts.copy_cdb import CopyDescriptorHeader
from iscsi_target.scsi.layouts.token_cdb import (
    BlockDeviceRodLimits,
    BlockRodFeatures,
    RodTokenFeatures,
    SupportedRodTypes,
)
from iscsi_target.scsi.state.rod_tokens import MAX_INACTIVITY_S, MAX_RANGES, MAX_ROD_BYTES
from tests.unit.scsi.command_bench import BLOCK, device, run


def descriptors() -> dict[int, bytes]:
    data = bytes(run(device(), Inquiry(evpd=True, page_code=0x8F, allocation_length=1024)).data_in)
    assert int.from_bytes(data[2:4]) == len(data) - 4
    found, at = {}, 4
    while at < len(data):
        header = CopyDescriptorHeader.unpack(data, at)
        assert header.descriptor_length % 4 == 0
        at += CopyDescriptorHeader.size
        found[header.descriptor_type] = data[at : at + header.descriptor_length]
        at += header.descriptor_length
    return found


@pytest.mark.clause("SPC4r37 7.8.17.2")
@pytest.mark.clause("SPC4r37 7.8.17.3")
@pytest.mark.clause("SPC4r37 7.8.17.4.2")
@pytest.mark.clause("SPC4r37 7.8.17.5")
@pytest.mark.clause("SPC4r37 7.8.17.7")
@pytest.mark.clause("SPC4r37 7.8.17.10")
def test_the_page_says_which_commands_and_descriptors_there_are():
    found = descriptors()
    assert list(found) == [0x0000, 0x0001, 0x0004, 0x0008, 0x000C, 0x0106, 0x0108, 0x8001]
    assert found[0x0001].hex() == "0e" + "8305000110111c" + "84050003040507" + "00"
    assert found[0x0004].hex() == "00000000" + "0008" + "0010" + "00000400" + "00000000" + "00" * 12
    assert found[0x0008].hex() == "03020ae4"
    assert found[0x000C].hex() == "0002ffff"
    assert found[0x8001].hex() == "00000020" * 2 + "01000000" + "0900" + "00" * 18


def test_the_commands_are_those_of_the_table():
    copying = sorted((row.operation_code, row.service_action) for row in TABLE if row.operation_code in (0x83, 0x84))
    assert copying == [(code, action) for code, actions in ACTIONS for action in actions]


@pytest.mark.clause("SBC3r36 6.5.6")
@pytest.mark.clause("SPC4r37 7.8.17.8.2")
@pytest.mark.clause("SPC4r37 7.8.17.9.1")
def test_the_page_says_what_limits_tokens():
    found = descriptors()
    limits = BlockDeviceRodLimits.unpack(found[0x0000])
    assert len(found[0x0000]) == 0x20
    assert (limits.maximum_range_descriptors, limits.maximum_inactivity_timeout) == (MAX_RANGES, MAX_INACTIVITY_S)
    features = RodTokenFeatures.unpack(found[0x0106])
    block = BlockRodFeatures.unpack(found[0x0106], RodTokenFeatures.size)
    assert features.rod_device_type_specific_features_descriptors_length == BlockRodFeatures.size == 48
    assert features.maximum_token_inactivity_timeout == MAX_INACTIVITY_S
    assert block.maximum_bytes_in_block_rod == MAX_ROD_BYTES == limits.maximum_token_transfer_size * BLOCK
    assert block.optimal_bytes_in_block_rod_transfer == limits.optimal_transfer_count * BLOCK
    types = found[0x0108]
    assert SupportedRodTypes.unpack(types).rod_type_descriptors_length == len(types) - 4 == 2 * 64
    assert types[4:12].hex() == "00800001" + "03000000"
    assert types[68:76].hex() == "ffff0001" + "02000000"
