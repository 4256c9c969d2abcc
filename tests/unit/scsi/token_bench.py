"""What tests of token-based copies share: parameter lists, and a bench on which nodes A and B make and use tokens.

The drawing is that of unit_bench. The memory has other bytes in each block, so that it shows where they came from.
"""

from iscsi_target.scsi.layouts.token_cdb import (
    BlockDeviceRange,
    CopyOperationStatus,
    PopulateToken,
    PopulateTokenHeader,
    ReceiveRodTokenInformation,
    RodTokenDescriptor,
    RodTokenDescriptorsHeader,
    RodTokenHeader,
    WriteUsingToken,
    WriteUsingTokenEnd,
    WriteUsingTokenHeader,
)
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.state.rod_tokens import BLOCK_DEVICE_ZERO, TOKEN_BYTES
from iscsi_target.scsi.state.task import Task
from tests.unit.scsi.unit_bench import BLOCK, BLOCKS, A, Bench

Ranges = list[tuple[int, int]]
ZERO_TOKEN = RodTokenHeader(rod_type=BLOCK_DEVICE_ZERO).pack().ljust(TOKEN_BYTES, b"\0")
LONG = 1024


def descriptors(ranges: Ranges) -> bytes:
    """Returns block device range descriptors of (LBA, blocks)."""
    return b"".join(BlockDeviceRange(lba=lba, number_of_logical_blocks=blocks).pack() for lba, blocks in ranges)


def populate_list(ranges: Ranges, **fields: int) -> bytes:
    listed = descriptors(ranges)
    header = PopulateTokenHeader(
        populate_token_data_length=PopulateTokenHeader.size - 2 + len(listed),
        block_device_range_descriptor_length=len(listed),
    )
    return header.replace(**fields).pack() + listed


def write_list(token: bytes, ranges: Ranges, **fields: int) -> bytes:
    listed = descriptors(ranges)
    end = WriteUsingTokenEnd(block_device_range_descriptor_length=len(listed)).pack()
    header = WriteUsingTokenHeader(write_using_token_data_length=534 + len(listed))
    return header.replace(**fields).pack() + token + end + listed


def numbered(blocks: int, block_bytes: int = BLOCK) -> bytes:
    """Returns blocks each of which has its own bytes."""
    return b"".join((number + 1).to_bytes(2) * (block_bytes // 2) for number in range(blocks))


class TokenBench(Bench):
    """A bench whose memory has other bytes in each block."""

    def __init__(self, **arguments) -> None:
        super().__init__(**arguments)
        self.memory.content[:] = self.before = numbered(BLOCKS)

    def populate(self, ranges: Ranges, nexus: Nexus = A, identifier: int = 1, **fields: int) -> Task:
        """Sends POPULATE TOKEN."""
        data = populate_list(ranges, **fields)
        cdb = PopulateToken(list_identifier=identifier, parameter_list_length=len(data))
        task = self.send(nexus, cdb, expects_data=True)
        self.give(task, data)
        return task

    def use(self, token: bytes, ranges: Ranges, nexus: Nexus = A, identifier: int = 2, **fields: int) -> Task:
        """Sends WRITE USING TOKEN."""
        data = write_list(token, ranges, **fields)
        cdb = WriteUsingToken(list_identifier=identifier, parameter_list_length=len(data))
        task = self.send(nexus, cdb, expects_data=True)
        self.give(task, data)
        return task

    def told(self, identifier: int, nexus: Nexus = A) -> tuple[CopyOperationStatus, bytes, bytes]:
        """Returns what RECEIVE ROD TOKEN INFORMATION tells: the header, sense data, and the token."""
        cdb = ReceiveRodTokenInformation(list_identifier=identifier, allocation_length=LONG)
        end = self.outcome(self.send(nexus, cdb))
        raw = bytes(end.data_in)  # type: ignore[union-attr]  # it is completed at once
        status = CopyOperationStatus.unpack(raw)
        assert status.available_data == len(raw) - 4
        at = CopyOperationStatus.size + status.length_of_the_sense_data_field
        length = RodTokenDescriptorsHeader.unpack(raw, at).rod_token_descriptors_length
        at += RodTokenDescriptorsHeader.size
        assert length == len(raw) - at
        sense = raw[CopyOperationStatus.size :][: status.sense_data_length]
        return status, sense, raw[at + RodTokenDescriptor.size :]

    def token(self, ranges: Ranges, nexus: Nexus = A, identifier: int = 1, **fields: int) -> bytes:
        """Returns a new token."""
        self.populate(ranges, nexus, identifier, **fields)
        return self.told(identifier, nexus)[2]

    def block(self, lba: int, count: int = 1) -> bytes:
        return self.memory.read(lba * BLOCK, count * BLOCK)

    def was(self, lba: int, count: int = 1) -> bytes:
        return self.before[lba * BLOCK : (lba + count) * BLOCK]
