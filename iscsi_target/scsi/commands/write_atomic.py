"""WRITE ATOMIC(16): a write of which all is done or nothing, whatever happens.

Towards other commands every write is atomic here, as the task set lets no two overlapping operations run together. What
this command adds is that a failure in the middle of it, the end of the process or a loss of power leaves the blocks as
they were: `storage.undo` keeps what they held until the new contents are on stable storage. So it is slow.

Atomic boundaries, which would allow a command to be several atomic writes, are not supported, and VPD page B0h says so.
"""

from iscsi_target.scsi.commands.block_range import check_length, check_writable, checked_range, wanted_bytes
from iscsi_target.scsi.operations import WriteAtomic as WriteAtomicOperation
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Done, Reply, Work
from iscsi_target.scsi.status import InvalidFieldInCdb
from iscsi_target.wire.layout import B2, B3, B6, U8, U16, U64, Bit, Layout


class WriteAtomic16(Layout):
    """WRITE ATOMIC(16).

    Source: SBC4r22 5.48
    """

    operation_code: U8 = 0x9C
    wrprotect: B3 = 0
    dpo: Bit = False
    fua: Bit = False
    _1: B3 = 0
    lba: U64 = 0
    atomic_boundary: U16 = 0
    transfer_length: U16 = 0
    _2: B2 = 0
    group_number: B6 = 0
    control: U8 = 0


def wanted_by_write_atomic(device: Device, cdb: WriteAtomic16) -> int:
    """Returns the bytes of Data-Out that WRITE ATOMIC asks for."""
    return wanted_bytes(device, cdb.transfer_length, device.features.limits.max_atomic_blocks)


def write_atomic(device: Device, cdb: WriteAtomic16, call: Call) -> Reply:
    """Answers WRITE ATOMIC(16).

    raises   WriteProtected; LbaOutOfRange; InvalidFieldInCdb beyond the maximum atomic transfer length, off the
             alignment or granularity, and when the initiator's Data-Out is shorter than what it is to be
    Source: SBC4r22 4.29, 5.48
    """
    limits = device.features.limits
    check_length(cdb, "transfer_length", limits.max_atomic_blocks)
    check_writable(device)
    offset, length = checked_range(device, cdb.lba, cdb.transfer_length)
    if cdb.transfer_length % limits.atomic_granularity:
        raise InvalidFieldInCdb(WriteAtomic16, "transfer_length")
    if cdb.lba % limits.atomic_granularity and length:
        raise InvalidFieldInCdb(WriteAtomic16, "lba")
    if len(call.data_out) < length:
        raise InvalidFieldInCdb(WriteAtomic16, "transfer_length")
    if not length:
        return Done()
    return Work(WriteAtomicOperation(offset, call.data_out, flush=cdb.fua or not device.write_cache))
