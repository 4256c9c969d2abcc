"""POPULATE TOKEN and WRITE USING TOKEN: copies of blocks by tokens, as Windows makes them (ODX).

POPULATE TOKEN only notes what the token represents, so it is over at once, with or without IMMED. WRITE USING TOKEN
checks all that it is sent before its status, with IMMED too; what fails after that is told by RECEIVE ROD TOKEN
INFORMATION. A token of another unit of the target is as good as one of the unit itself.

What is to be written must not be what the token represents: the token would be cancelled by its own use.
"""

from collections.abc import Sequence
from itertools import pairwise

from iscsi_target.scsi.commands.block_range import check_writable, checked_range
from iscsi_target.scsi.commands.token_copy import TokenCopy, pieces, zeros
from iscsi_target.scsi.commands.token_format import creator, token_bytes
from iscsi_target.scsi.layouts.token_cdb import (
    BlockDeviceRange,
    PopulateToken,
    PopulateTokenHeader,
    RodTokenHeader,
    WriteUsingToken,
    WriteUsingTokenEnd,
    WriteUsingTokenHeader,
)
from iscsi_target.scsi.state.copy_log import CopyRecord, CopyState
from iscsi_target.scsi.state.copy_managers import Source
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.rod_tokens import (
    BLOCK_DEVICE_ZERO,
    CHANGE_VULNERABLE,
    DEFAULT_INACTIVITY_S,
    MAX_INACTIVITY_S,
    MAX_RANGES,
    MAX_ROD_BYTES,
    TOKEN_BYTES,
    Extent,
    InvalidTokenOperation,
    RodToken,
    TokenError,
)
from iscsi_target.scsi.state.task import Call, Done, Reply, StartCopy
from iscsi_target.scsi.status import (
    CheckCondition,
    InvalidFieldInParameterList,
    ParameterListLengthError,
    Sense,
    SenseKey,
)

LENGTH_BYTES = 2  # of the first field of either list, which does not count itself
TOKEN_AT = WriteUsingTokenHeader.size
END_AT = TOKEN_AT + TOKEN_BYTES
WRITE_RANGES_AT = END_AT + WriteUsingTokenEnd.size
# One descriptor more than there may be, to see that there are too many
MAX_POPULATE_BYTES = PopulateTokenHeader.size + (MAX_RANGES + 1) * BlockDeviceRange.size
MAX_WRITE_BYTES = WRITE_RANGES_AT + (MAX_RANGES + 1) * BlockDeviceRange.size
TOO_MANY_SEGMENTS = 0x2608


def wanted_by_populate_token(device: Device, cdb: PopulateToken) -> int:
    """Returns the bytes of Data-Out that POPULATE TOKEN asks for: no more than a list may have."""
    return min(cdb.parameter_list_length, MAX_POPULATE_BYTES)


def wanted_by_write_using_token(device: Device, cdb: WriteUsingToken) -> int:
    """Returns the bytes of Data-Out that WRITE USING TOKEN asks for: no more than a list may have."""
    return min(cdb.parameter_list_length, MAX_WRITE_BYTES)


def populate_token(device: Device, cdb: PopulateToken, call: Call) -> Done:
    """Answers POPULATE TOKEN.

    raises   InvalidFieldInParameterList, ParameterListLengthError; LbaOutOfRange; CheckCondition for too many
             descriptors or tokens, and for a list identifier that is in use
    Source: SBC3r36 5.7
    """
    if not cdb.parameter_list_length:
        return Done()
    parameters = bytes(call.data_out)
    if len(parameters) < PopulateTokenHeader.size:
        raise ParameterListLengthError
    header = PopulateTokenHeader.unpack(parameters)
    if header.populate_token_data_length < PopulateTokenHeader.size + BlockDeviceRange.size - LENGTH_BYTES:
        raise _wrong(PopulateTokenHeader, "populate_token_data_length")
    if header.inactivity_timeout > MAX_INACTIVITY_S:
        raise _wrong(PopulateTokenHeader, "inactivity_timeout")
    if header.rtv and header.rod_type != CHANGE_VULNERABLE:
        raise _wrong(PopulateTokenHeader, "rod_type")
    length_at = PopulateTokenHeader.location("block_device_range_descriptor_length").byte
    ranges_bytes = header.block_device_range_descriptor_length
    extents = _extents(device, parameters, ranges_bytes, length_at=length_at, start=PopulateTokenHeader.size)
    size = sum(extent.length_bytes for extent in extents)
    raw = token_bytes(device, call.nexus, size)
    inactivity_s = header.inactivity_timeout or DEFAULT_INACTIVITY_S
    token = RodToken(raw, call.nexus, extents, inactivity_s, call.received_s, call.received_s)
    tokens = device.tokens.with_new(token)
    record = CopyRecord(PopulateToken.default("service_action"), CopyState.DONE, copied_bytes=size, token=raw)
    device.copies.start(call.nexus, cdb.list_identifier, record)
    device.tokens = tokens
    return Done()


def write_using_token(device: Device, cdb: WriteUsingToken, call: Call) -> Reply:
    """Answers WRITE USING TOKEN.

    raises   InvalidFieldInParameterList, ParameterListLengthError; InvalidTokenOperation; LbaOutOfRange;
             WriteProtected; CheckCondition for too many descriptors and for a list identifier that is in use; Busy when
             too many copies go on
    Source: SBC3r36 5.46
    """
    if not cdb.parameter_list_length:
        return Done()
    parameters = bytes(call.data_out)
    if len(parameters) < WRITE_RANGES_AT:
        raise ParameterListLengthError
    header, end = WriteUsingTokenHeader.unpack(parameters), WriteUsingTokenEnd.unpack(parameters, END_AT)
    ranges_bytes = end.block_device_range_descriptor_length
    whole = WRITE_RANGES_AT + max(ranges_bytes, BlockDeviceRange.size) - LENGTH_BYTES
    if header.write_using_token_data_length != whole:
        raise _wrong(WriteUsingTokenHeader, "write_using_token_data_length")
    if len(parameters) < min(whole + LENGTH_BYTES, MAX_WRITE_BYTES):
        raise ParameterListLengthError
    raw = parameters[TOKEN_AT:END_AT]
    source = _source(device, raw, call.received_s)
    length_at = END_AT + WriteUsingTokenEnd.location("block_device_range_descriptor_length").byte
    extents = _extents(device, parameters, ranges_bytes, length_at=length_at, start=WRITE_RANGES_AT)
    check_writable(device)
    state = CopyState.BACKGROUND if header.immed else CopyState.FOREGROUND
    record = CopyRecord(WriteUsingToken.default("service_action"), state)
    copy = _copy(device, record, source, extents, header.offset_into_rod * device.geometry.block_length_bytes)
    copy.delete = header.del_tkn and source is not None
    device.copies.start(call.nexus, cdb.list_identifier, record)
    return StartCopy(copy.step(), cdb.list_identifier, Done() if header.immed else None)


def _wrong(layout: type[PopulateTokenHeader | WriteUsingTokenHeader], field: str) -> InvalidFieldInParameterList:
    return InvalidFieldInParameterList(layout.location(field).byte)


def _source(device: Device, raw: bytes, now_s: float) -> Source | None:
    """Returns where the data of a token is, or None for zeros.

    raises   InvalidTokenOperation
    Source: SPC4r37 5.17.6.5.2.3, SBC3r36 5.46.2
    """
    header = RodTokenHeader.unpack(raw)
    if header.rod_token_length != RodTokenHeader.default("rod_token_length"):
        raise InvalidTokenOperation(TokenError.INVALID_TOKEN_LENGTH)
    if header.rod_type == BLOCK_DEVICE_ZERO:
        return None
    if header.rod_type != CHANGE_VULNERABLE:
        raise InvalidTokenOperation(TokenError.UNSUPPORTED_TOKEN_TYPE)
    managers = device.copy_managers
    found = managers.find(raw, device, now_s)
    if found is None:
        made_by = creator(raw)
        is_remote = made_by != device.identity.naa and not managers.knows(made_by)
        raise InvalidTokenOperation(
            TokenError.REMOTE_TOKEN_USAGE_NOT_SUPPORTED if is_remote else TokenError.TOKEN_UNKNOWN
        )
    return found


def _copy(
    device: Device, record: CopyRecord, source: Source | None, extents: Sequence[Extent], offset_bytes: int
) -> TokenCopy:
    """Returns the copy of a token to extents.

    raises   InvalidFieldInParameterList for an offset beyond what the token represents; InvalidTokenOperation when it
             is to be written to what it represents
    Source: SBC3r36 5.46.2
    """
    wanted = sum(extent.length_bytes for extent in extents)
    if source is None:
        return TokenCopy(device, record, zeros(extents), wanted)
    token = source.token
    available = token.length_bytes - offset_bytes
    if available <= 0:
        raise _wrong(WriteUsingTokenHeader, "offset_into_rod")
    if source.unit is None and token.meets(extents):
        raise InvalidTokenOperation(TokenError.CAUSE_NOT_REPORTABLE)
    padding = -available % device.geometry.block_length_bytes
    parts = pieces(token.extents, extents, offset_bytes=offset_bytes, padding_bytes=padding)
    return TokenCopy(device, record, parts, wanted, source)


def _extents(device: Device, parameters: bytes, length_bytes: int, *, length_at: int, start: int) -> tuple[Extent, ...]:
    """Returns what block device range descriptors mean, without empty ones; those that are cut off are ignored.

    length_bytes   of all of them, as the list says
    length_at      where it says so
    start          where they are
    raises         InvalidFieldInParameterList when there is none, when they overlap, or are too much; LbaOutOfRange;
                   CheckCondition when there are too many
    Source: SBC3r36 5.7.2, 5.7.3
    """
    size, count = BlockDeviceRange.size, length_bytes // BlockDeviceRange.size
    if not count:
        raise InvalidFieldInParameterList(length_at)
    if count > MAX_RANGES:
        raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, TOO_MANY_SEGMENTS))
    whole = range(start, min(start + count * size, len(parameters)) - size + 1, size)
    if not whole:
        raise ParameterListLengthError
    found = [BlockDeviceRange.unpack(parameters, at) for at in whole]
    if sum(each.number_of_logical_blocks for each in found) * device.geometry.block_length_bytes > MAX_ROD_BYTES:
        raise InvalidFieldInParameterList(start + BlockDeviceRange.location("number_of_logical_blocks").byte)
    extents = tuple(Extent(*checked_range(device, lba, blocks)) for lba, blocks in found if blocks)
    if any(one.meets(*other) for one, other in pairwise(sorted(extents))):
        raise InvalidFieldInParameterList(start)
    return extents
