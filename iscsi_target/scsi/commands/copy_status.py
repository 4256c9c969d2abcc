"""RECEIVE COPY STATUS(LID4) and RECEIVE ROD TOKEN INFORMATION, which begin alike, and COPY OPERATION ABORT.

A token is told once: who has got it whole has it, and who has not asks for a new one.
"""

from iscsi_target.scsi.layouts.token_cdb import (
    CopyOperationAbort,
    CopyOperationStatus,
    PopulateToken,
    ReceiveCopyStatusLid4,
    ReceiveRodTokenInformation,
    RodTokenDescriptor,
    RodTokenDescriptorsHeader,
    WriteUsingToken,
)
from iscsi_target.scsi.state.copy_log import CopyRecord, CopyState
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Done, StopCopy
from iscsi_target.scsi.status import InvalidFieldInCdb
from iscsi_target.wire.layout import U32, Layout

BYTES, BLOCKS = 0x00, 0xF1  # TRANSFER COUNT UNITS. Source: SPC4r37 6.24
BY_TOKEN = (PopulateToken.default("service_action"), WriteUsingToken.default("service_action"))
ASK_AGAIN_MS, NEVER_MS = 100, 0xFFFF_FFFE  # ESTIMATED STATUS UPDATE DELAY; nothing changes when it is over
COUNTER_MODULUS = 1 << 16


class _AvailableData(Layout):
    """The first field, which does not count itself."""

    available_data: U32 = 0


def receive_copy_status_lid4(device: Device, cdb: ReceiveCopyStatusLid4, call: Call) -> Done:
    """Answers RECEIVE COPY STATUS(LID4).

    raises   InvalidFieldInCdb for an identifier that is not known
    Source: SPC4r37 6.24
    """
    record = device.copies.find(call.nexus, cdb.list_identifier)
    if record is None:
        raise InvalidFieldInCdb(ReceiveCopyStatusLid4, "list_identifier")
    return Done(_status(device, record, b"")[: cdb.allocation_length])


def receive_rod_token_information(device: Device, cdb: ReceiveRodTokenInformation, call: Call) -> Done:
    """Answers RECEIVE ROD TOKEN INFORMATION.

    raises   InvalidFieldInCdb for an identifier that is not known
    Source: SPC4r37 6.26, SBC3r36 5.22
    """
    record = device.copies.find(call.nexus, cdb.list_identifier)
    if record is None:
        raise InvalidFieldInCdb(ReceiveRodTokenInformation, "list_identifier")
    tokens = RodTokenDescriptor().pack() + record.token if record.token else b""
    header = RodTokenDescriptorsHeader(rod_token_descriptors_length=len(tokens))
    data = _status(device, record, header.pack() + tokens)
    if cdb.allocation_length >= len(data) or not cdb.allocation_length:
        record.token = b""
    return Done(data[: cdb.allocation_length])


def _status(device: Device, record: CopyRecord, more: bytes) -> bytes:
    """Returns the shared third-party copy status header, its sense data, and what follows.

    Source: SPC4r37 5.17.4.4, 6.24
    """
    sense = b"" if record.sense is None else _formatted(device, record)
    field = sense + bytes(-len(sense) % 4)
    in_blocks = record.service_action in BY_TOKEN
    block = device.geometry.block_length_bytes
    status = CopyOperationStatus(
        available_data=CopyOperationStatus.size - _AvailableData.size + len(field) + len(more),
        response_to_service_action=record.service_action,
        copy_operation_status=record.state,
        operation_counter=record.steps % COUNTER_MODULUS,
        estimated_status_update_delay=NEVER_MS if record.state.is_over else ASK_AGAIN_MS,
        extended_copy_completion_status=record.status,
        length_of_the_sense_data_field=len(field),
        sense_data_length=len(sense),
        transfer_count_units=BLOCKS if in_blocks else BYTES,
        transfer_count=record.copied_bytes // block if in_blocks else record.copied_bytes,
        segments_processed=record.segments,
    )
    return status.pack() + field + more


def _formatted(device: Device, record: CopyRecord) -> bytes:
    assert record.sense is not None
    return record.sense.descriptor() if device.descriptor_sense else record.sense.fixed()


def copy_operation_abort(device: Device, cdb: CopyOperationAbort, call: Call) -> StopCopy:
    """Answers COPY OPERATION ABORT.

    raises   InvalidFieldInCdb when no copy operation with the identifier goes on
    Source: SPC4r37 5.17.4.7, 6.3
    """
    record = device.copies.find(call.nexus, cdb.list_identifier)
    if record is None or record.state not in (CopyState.FOREGROUND, CopyState.BACKGROUND):
        raise InvalidFieldInCdb(CopyOperationAbort, "list_identifier")
    return StopCopy(cdb.list_identifier)
