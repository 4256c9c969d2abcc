"""What the target says of its own commands: RSOC and REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.

Works from rows of the command table, so that what is reported is what is dispatched.
"""

from collections.abc import Iterable, Sequence

from iscsi_target.scsi.commands.command import Command
from iscsi_target.scsi.layouts.cdb import ReportSupportedOperationCodes, ReportSupportedTaskManagementFunctions
from iscsi_target.scsi.layouts.pages import (
    AllCommandsHeader,
    CommandDescriptor,
    CommandTimeoutsDescriptor,
    OneCommandHeader,
    TaskManagementData,
    TaskManagementTimeouts,
)
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Done
from iscsi_target.scsi.status import InvalidFieldInCdb

# REPORTING OPTIONS. Source: SPC4r37 6.35.1
ALL_COMMANDS, OPERATION_CODE, SERVICE_ACTION, EITHER = 0b000, 0b001, 0b010, 0b011
NOT_SUPPORTED, AS_THE_STANDARD_SAYS = 0b001, 0b011  # SUPPORT. Source: SPC4r37 6.35.3


def report_supported_operation_codes(commands: Iterable[Command], cdb: ReportSupportedOperationCodes) -> Done:
    """Answers REPORT SUPPORTED OPERATION CODES.

    commands   the rows that the device has
    raises     InvalidFieldInCdb for a reserved option, or one that does not fit the operation code
    Source: SPC4r37 6.35
    """
    if cdb.reporting_options == ALL_COMMANDS:
        data = _all_commands(commands, cdb)
    elif cdb.reporting_options in (OPERATION_CODE, SERVICE_ACTION, EITHER):
        same_code = [row for row in commands if row.operation_code == cdb.requested_operation_code]
        data = _one_command(_requested(same_code, cdb), cdb)
    else:
        raise InvalidFieldInCdb(ReportSupportedOperationCodes, "reporting_options")
    return Done(data[: cdb.allocation_length])


def _all_commands(commands: Iterable[Command], cdb: ReportSupportedOperationCodes) -> bytes:
    timeouts = CommandTimeoutsDescriptor().pack() if cdb.rctd else b""
    descriptors = b"".join(
        CommandDescriptor(
            operation_code=row.operation_code,
            service_action=row.service_action or 0,
            ctdp=cdb.rctd,
            servactv=row.service_action is not None,
            cdb_length=row.layout.size,
        ).pack()
        + timeouts
        for row in commands
    )
    return AllCommandsHeader(command_data_length=len(descriptors)).pack() + descriptors


def _requested(same_code: Sequence[Command], cdb: ReportSupportedOperationCodes) -> Command | None:
    """Returns the row that is asked for, or None when there is none.

    same_code   the rows with the requested operation code: one without service action, or any number with
    """
    with_action = any(row.service_action is not None for row in same_code)
    if cdb.reporting_options == OPERATION_CODE and with_action:
        raise InvalidFieldInCdb(ReportSupportedOperationCodes, "reporting_options")
    if cdb.reporting_options == SERVICE_ACTION and same_code and not with_action:
        raise InvalidFieldInCdb(ReportSupportedOperationCodes, "reporting_options")
    action = 0 if cdb.reporting_options == OPERATION_CODE else cdb.requested_service_action
    return next((row for row in same_code if (row.service_action or 0) == action), None)


def _one_command(row: Command | None, cdb: ReportSupportedOperationCodes) -> bytes:
    if row is None:
        return OneCommandHeader(support=NOT_SUPPORTED).pack()
    usage = row.usage()
    header = OneCommandHeader(ctdp=cdb.rctd, support=AS_THE_STANDARD_SAYS, cdb_size=len(usage))
    timeouts = CommandTimeoutsDescriptor().pack() if cdb.rctd else b""
    return header.pack() + usage + timeouts


def report_supported_task_management_functions(
    device: Device, cdb: ReportSupportedTaskManagementFunctions, call: Call
) -> Done:
    """Answers REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS, in the extended form with REPD.

    Source: SPC4r37 6.36
    """
    if cdb.repd:
        more = TaskManagementTimeouts().pack()
        data = TaskManagementData(additional_length=len(more)).pack() + more
    else:
        data = TaskManagementData().pack()
    return Done(data[: cdb.allocation_length])
