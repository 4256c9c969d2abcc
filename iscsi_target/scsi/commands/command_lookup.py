"""How a CDB finds its row in the command table, and what is answered where there is no unit to have one."""

from collections.abc import Mapping

from iscsi_target.scsi.commands import primary
from iscsi_target.scsi.commands.command import Command
from iscsi_target.scsi.commands.inquiry import absent_inquiry
from iscsi_target.scsi.commands.table import TABLE
from iscsi_target.scsi.layouts import cdb as spc
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Done
from iscsi_target.scsi.status import InvalidFieldInCdb, InvalidOperationCode, LogicalUnitNotSupported
from iscsi_target.wire.layout import LayoutError

_ROWS: Mapping[tuple[int, int | None], Command] = {(row.operation_code, row.service_action): row for row in TABLE}
_PLAIN: Mapping[bytes, Command] = {  # by the first byte of the CDB
    row.first_byte: row for row in TABLE if row.service_action is None
}
_CODES_WITH_ACTIONS = frozenset(row.operation_code for row in TABLE if row.service_action is not None)


def find(cdb: bytes) -> Command:
    """Returns the row of a CDB.

    cdb      as received
    raises   InvalidOperationCode; InvalidFieldInCdb for a service action that the operation code does not have
    Source: SPC4r37 4.2.5.2, 4.2.5.3
    """
    try:
        first = spc.ServiceActionCdb.unpack(cdb)
    except LayoutError:
        raise InvalidOperationCode from None
    code = first.operation_code
    if code in _CODES_WITH_ACTIONS:
        row = _ROWS.get((code, first.service_action))
        if row is None:
            raise InvalidFieldInCdb(spc.ServiceActionCdb, "service_action")
        return row
    row = _ROWS.get((code, None))
    if row is None:
        raise InvalidOperationCode
    return row


def find_available(cdb: bytes, device: Device) -> Command:
    """Returns the row of a CDB that a device has.

    raises   as `find`, and for a command that only other devices have
    Source: SPC4r37 4.2.5.2, 4.2.5.3
    """
    plain = _PLAIN.get(cdb[:1])
    if plain is not None and plain.available(device):
        return plain
    try:
        row = find(cdb)
    except InvalidFieldInCdb:
        if not _has_code(device, spc.ServiceActionCdb.unpack(cdb).operation_code):
            raise InvalidOperationCode from None
        raise
    if row.available(device):
        return row
    if not _has_code(device, row.operation_code):
        raise InvalidOperationCode
    raise InvalidFieldInCdb(row.layout, "service_action")


def _has_code(device: Device, operation_code: int) -> bool:
    return any(row.available(device) for row in TABLE if row.operation_code == operation_code)


def absent_unit(cdb: bytes, luns: tuple[int, ...]) -> Done:
    """Answers a command for a LUN that has no logical unit.

    luns     the LUNs that the nexus sees, ascending
    raises   LogicalUnitNotSupported for everything but INQUIRY, REPORT LUNS and REQUEST SENSE
    Source: SAM5r21 5.11, SPC4r37 6.6.2, 6.33, 6.39
    """
    try:
        row = find(cdb)
    except (InvalidOperationCode, InvalidFieldInCdb):
        raise LogicalUnitNotSupported from None
    if row.attention:  # what answers whatever the state of the unit is what needs none
        raise LogicalUnitNotSupported
    match row.unpack(cdb):
        case spc.Inquiry() as fields:
            return absent_inquiry(fields)
        case spc.ReportLuns() as fields:
            return primary.lun_list(fields, luns)
        case spc.RequestSense() as fields:
            return primary.sense_data(fields, LogicalUnitNotSupported().sense)
        case _:
            raise LogicalUnitNotSupported
