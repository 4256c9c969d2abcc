"""Handlers that move or compare blocks: READ, WRITE, VERIFY, WRITE AND VERIFY, COMPARE AND WRITE.

A handler checks the CDB and returns the operation; a task set keeps it from running beside another that it
overlaps. When the initiator sends less Data-Out than the CDB asks for, a write stores the whole blocks that
came, as the residual then says; what compares is refused, as nothing may be called equal that was not seen.
"""

from iscsi_target.scsi.commands.block_range import check_length, check_writable, checked_range, wanted_bytes
from iscsi_target.scsi.layouts.block_cdb import (
    CompareAndWrite,
    OrWrite16,
    Read6,
    Read10,
    Read12,
    Read16,
    Verify10,
    Verify12,
    Verify16,
    Write6,
    Write10,
    Write12,
    Write16,
    WriteAndVerify10,
    WriteAndVerify12,
    WriteAndVerify16,
)
from iscsi_target.scsi.operations import (
    Buffer,
    Compare,
    Mismatch,
    Outcome,
    Read,
    Verify,
    Write,
)
from iscsi_target.scsi.operations import CompareAndWrite as CompareAndWriteOperation
from iscsi_target.scsi.operations import OrWrite as OrWriteOperation
from iscsi_target.scsi.operations import WriteAndVerify as WriteAndVerifyOperation
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Done, Reply, Work
from iscsi_target.scsi.status import InvalidFieldInCdb, Miscompare

SIX_BYTE_ZERO = 256  # blocks that TRANSFER LENGTH 0 means in READ(6) and WRITE(6). Source: SBC2r16 5.5
MEDIUM_ONLY, COMPARE_ALL, COMPARE_ONE_BLOCK = 0b00, 0b01, 0b11  # BYTCHK. Source: SBC3r36 5.29

LongRead = Read10 | Read12 | Read16
LongWrite = Write10 | Write12 | Write16
AnyVerify = Verify10 | Verify12 | Verify16
AnyWriteAndVerify = WriteAndVerify10 | WriteAndVerify12 | WriteAndVerify16


def read_6(device: Device, cdb: Read6, call: Call) -> Reply:
    """Answers READ(6); raises LbaOutOfRange.

    Source: SBC2r16 5.5
    """
    return _read(device, cdb.lba, cdb.transfer_length or SIX_BYTE_ZERO, flush=False)


def read(device: Device, cdb: LongRead, call: Call) -> Reply:
    """Answers READ(10), (12) and (16); FUA brings what is cached to stable storage first.

    raises   LbaOutOfRange; InvalidFieldInCdb beyond the maximum transfer length
    Source: SBC3r36 5.11
    """
    blocks = cdb.transfer_length
    if blocks > device.features.limits.max_transfer_blocks:
        raise InvalidFieldInCdb(type(cdb), "transfer_length")
    return _read(device, cdb.lba, blocks, flush=cdb.fua)


def _read(device: Device, lba: int, blocks: int, *, flush: bool) -> Reply:
    offset, length = checked_range(device, lba, blocks)
    if not length:
        return Done()
    return Work(Read(offset, length, flush), _data_in)


def _data_in(outcome: Outcome) -> Done:
    assert isinstance(outcome, (bytes, bytearray))  # a union would be made anew for every read
    return Done(outcome)


def wanted_by_write_6(device: Device, cdb: Write6) -> int:
    """Returns the bytes of Data-Out that WRITE(6) asks for."""
    return (cdb.transfer_length or SIX_BYTE_ZERO) * device.geometry.block_length_bytes


def wanted_by_write(device: Device, cdb: LongWrite | OrWrite16 | AnyWriteAndVerify) -> int:
    """Returns the bytes of Data-Out that WRITE, ORWRITE or WRITE AND VERIFY asks for."""
    return wanted_bytes(device, cdb.transfer_length, device.features.limits.max_transfer_blocks)


def write_6(device: Device, cdb: Write6, call: Call) -> Reply:
    """Answers WRITE(6); raises WriteProtected, LbaOutOfRange.

    Source: SBC2r16 5.24
    """
    return _write(device, cdb.lba, cdb.transfer_length or SIX_BYTE_ZERO, call, fua=False)


def write(device: Device, cdb: LongWrite, call: Call) -> Reply:
    """Answers WRITE(10), (12) and (16); with FUA, or without a write cache, it is on stable storage before GOOD.

    raises   WriteProtected; LbaOutOfRange; InvalidFieldInCdb beyond the maximum transfer length
    Source: SBC3r36 5.33
    """
    check_length(cdb, "transfer_length", device.features.limits.max_transfer_blocks)
    return _write(device, cdb.lba, cdb.transfer_length, call, fua=cdb.fua)


def _write(device: Device, lba: int, blocks: int, call: Call, *, fua: bool) -> Reply:
    check_writable(device)
    offset, _ = checked_range(device, lba, blocks)
    data = _whole_blocks(device, call)
    if not data:
        return Done()
    return Work(Write(offset, data, flush=fua or not device.write_cache))


def or_write(device: Device, cdb: OrWrite16, call: Call) -> Reply:
    """Answers ORWRITE(16); raises as `write`.

    Source: SBC3r36 5.5
    """
    offset, data = _to_write(device, cdb, call)
    if not data:
        return Done()
    return Work(OrWriteOperation(offset, data, flush=cdb.fua or not device.write_cache))


def _to_write(device: Device, cdb: OrWrite16 | AnyWriteAndVerify, call: Call) -> tuple[int, Buffer]:
    """Returns where a CDB writes, in bytes, and what, after the checks of `write`."""
    check_length(cdb, "transfer_length", device.features.limits.max_transfer_blocks)
    check_writable(device)
    offset, _ = checked_range(device, cdb.lba, cdb.transfer_length)
    return offset, _whole_blocks(device, call)


def _whole_blocks(device: Device, call: Call) -> Buffer:
    part = len(call.data_out) % device.geometry.block_length_bytes
    return memoryview(call.data_out)[: len(call.data_out) - part] if part else call.data_out


def write_and_verify(device: Device, cdb: AnyWriteAndVerify, call: Call) -> Reply:
    """Answers WRITE AND VERIFY; what is verified is what stable storage gives back.

    raises   WriteProtected; LbaOutOfRange; InvalidFieldInCdb for a reserved BYTCHK or beyond the maximum
             transfer length; Miscompare when the medium gives back something else
    Source: SBC3r36 5.37
    """
    if cdb.bytchk not in (MEDIUM_ONLY, COMPARE_ALL):
        raise InvalidFieldInCdb(type(cdb), "bytchk")
    offset, data = _to_write(device, cdb, call)
    if not data:
        return Done()
    return Work(WriteAndVerifyOperation(offset, data, cdb.bytchk == COMPARE_ALL), _equal)


def _equal(outcome: Outcome) -> Done:
    if isinstance(outcome, Mismatch):
        raise Miscompare(outcome.offset_bytes)
    return Done()


def wanted_by_verify(device: Device, cdb: AnyVerify) -> int:
    """Returns the bytes of Data-Out that VERIFY asks for: none, all that is compared, or one block."""
    if not cdb.verification_length:
        return 0
    if cdb.bytchk == COMPARE_ALL:
        limit = device.features.limits.max_transfer_blocks
        return wanted_bytes(device, cdb.verification_length, limit)
    return device.geometry.block_length_bytes if cdb.bytchk == COMPARE_ONE_BLOCK else 0


def verify(device: Device, cdb: AnyVerify, call: Call) -> Reply:
    """Answers VERIFY(10), (12) and (16).

    raises   LbaOutOfRange; InvalidFieldInCdb for a reserved BYTCHK, beyond the maximum transfer length, or when
             there is less Data-Out than there is to compare; Miscompare with the offset in the Data-Out
    Source: SBC3r36 5.29
    """
    if cdb.bytchk not in (MEDIUM_ONLY, COMPARE_ALL, COMPARE_ONE_BLOCK):
        raise InvalidFieldInCdb(type(cdb), "bytchk")
    check_length(cdb, "verification_length", device.features.limits.max_transfer_blocks)
    offset, length = checked_range(device, cdb.lba, cdb.verification_length)
    if not length:
        return Done()
    if cdb.bytchk == MEDIUM_ONLY:
        return Work(Verify(offset, length))
    if len(call.data_out) < wanted_by_verify(device, cdb):
        raise InvalidFieldInCdb(type(cdb), "verification_length")
    return _compare(device, cdb, call, offset)


def _compare(device: Device, cdb: AnyVerify, call: Call, offset: int) -> Work:
    if cdb.bytchk == COMPARE_ALL:
        return Work(Compare(offset, call.data_out), _equal)

    def finish(outcome: Outcome) -> Done:
        if isinstance(outcome, Mismatch):
            raise Miscompare(outcome.offset_bytes % device.geometry.block_length_bytes)
        return Done()

    return Work(Compare(offset, call.data_out, cdb.verification_length), finish)


def has_compare_and_write(device: Device) -> bool:
    """Returns True when there is COMPARE AND WRITE."""
    return device.features.limits.max_caw_blocks > 0


def wanted_by_compare_and_write(device: Device, cdb: CompareAndWrite) -> int:
    """Returns the bytes of Data-Out that COMPARE AND WRITE asks for: as much to compare as to write."""
    limit = device.features.limits.max_caw_blocks
    return 2 * wanted_bytes(device, cdb.number_of_logical_blocks, limit)


def compare_and_write(device: Device, cdb: CompareAndWrite, call: Call) -> Reply:
    """Answers COMPARE AND WRITE.

    raises   WriteProtected; LbaOutOfRange; InvalidFieldInCdb beyond the maximum compare and write length, or when
             the initiator's Data-Out is not of the length that the CDB asks for; Miscompare, nothing written
    Source: SBC3r36 5.2
    """
    field = "number_of_logical_blocks"
    check_length(cdb, field, device.features.limits.max_caw_blocks)
    check_writable(device)
    offset, length = checked_range(device, cdb.lba, cdb.number_of_logical_blocks)
    if len(call.data_out) != 2 * length or call.expected_length not in (None, 2 * length):
        raise InvalidFieldInCdb(CompareAndWrite, field)
    if not length:
        return Done()
    compare, written = call.data_out[:length], call.data_out[length:]
    flush = cdb.fua or not device.write_cache
    return Work(CompareAndWriteOperation(offset, compare, written, flush), _equal)
