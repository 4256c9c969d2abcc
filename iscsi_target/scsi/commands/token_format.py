"""The bytes of a ROD token: what the standard wants to be read in it, and what makes it impossible to guess.

Who has the bytes has the data, so 256 of them come from entropy, and a token that is sent is compared as a whole. The
name of the target has its place in it where it is short enough, as nearly all are; a longer one is left out.

Source: SPC4r37 5.17.6.4, 5.17.6.5.1, SBC3r36 4.28.5
"""

from iscsi_target.scsi.commands.inquiry import target_designator, unit_designators
from iscsi_target.scsi.layouts.copy_cdb import BlockDeviceParameters, IdentificationCscd
from iscsi_target.scsi.layouts.token_cdb import RodTokenCapacity, RodTokenHeader, RodTokenSize
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.rod_tokens import CHANGE_VULNERABLE, TOKEN_BYTES
from iscsi_target.wire.layout import U64, Layout

DESIGNATOR_BYTES = 20  # that a CSCD descriptor has room for
TARGET_BYTES = 128  # of the target device descriptor
RANDOM_BYTES = 256
CREATOR_AT = RodTokenHeader.size


class _Identifier(Layout):
    """What tells a token from others of its copy manager."""

    identifier: U64 = 0


def token_bytes(device: Device, nexus: Nexus, length_bytes: int) -> bytes:
    """Returns a new token.

    nexus          that has it made
    length_bytes   how much it represents
    """
    entropy = device.copy_managers.entropy
    identifier = _Identifier.unpack(entropy(_Identifier.size)).identifier
    header = RodTokenHeader(rod_type=CHANGE_VULNERABLE, copy_manager_rod_token_identifier=identifier)
    target = target_designator(nexus)
    whole = (
        header.pack()
        + _creator(device)
        + RodTokenSize(number_of_bytes_represented=length_bytes).pack()
        + _capacity(device).pack()
        + (target if len(target) <= TARGET_BYTES else b"").ljust(TARGET_BYTES, b"\0")
        + entropy(RANDOM_BYTES)
    )
    assert len(whole) == TOKEN_BYTES
    return whole


def _creator(device: Device) -> bytes:
    """Returns the identification descriptor CSCD descriptor of a unit by its NAA designator."""
    code_set, association, kind, naa = unit_designators(device)[0]
    head = IdentificationCscd(
        code_set=code_set, association=association, designator_type=kind, designator_length=len(naa)
    )
    end = BlockDeviceParameters(disk_block_length=device.geometry.block_length_bytes)
    return head.pack() + naa.ljust(DESIGNATOR_BYTES, b"\0") + end.pack()


def creator(raw: bytes) -> bytes:
    """Returns the NAA designator of the unit that has made a token, as the token says."""
    fields = IdentificationCscd.unpack(raw, CREATOR_AT)
    start = CREATOR_AT + IdentificationCscd.size
    return raw[start : start + min(fields.designator_length, DESIGNATOR_BYTES)]


def _capacity(device: Device) -> RodTokenCapacity:
    return RodTokenCapacity(
        block_length=device.geometry.block_length_bytes,
        logical_blocks_per_physical_block_exponent=device.geometry.physical_exponent,
        lbpme=device.features.thin,
        lbprz=device.features.thin,
    )
