"""THE command table: one row per operation code and service action.

`Access` grants: what a row does not list is denied to everyone but the holder of a reservation. What is granted follows
SPC4r37 5.13.1 tables 65 and 66 and SBC3r36 4.17. `Reachable` grants likewise: through a target port group that is not
active nothing is processed that does not list its state, as in SPC4r37 5.15.2.4. In standby more may be processed: READ
CAPACITY is, since a host that cannot learn the capacity makes a disk of another size, or none, of the path.
"""

from collections.abc import Mapping

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.commands import block, logs, media, modes, primary, provisioning
from iscsi_target.scsi.commands.buffer_commands import (
    ReadBuffer,
    WriteBuffer,
    read_buffer,
    wanted_by_write_buffer,
    write_buffer,
)
from iscsi_target.scsi.commands.command import Command, Row, command
from iscsi_target.scsi.commands.copy_rows import COPY_ROWS
from iscsi_target.scsi.commands.defect_data import ReadDefectData10, ReadDefectData12, read_defect_data
from iscsi_target.scsi.commands.diagnostics import (
    ReceiveDiagnosticResults,
    SendDiagnostic,
    receive_diagnostic_results,
    send_diagnostic,
    wanted_by_send_diagnostic,
)
from iscsi_target.scsi.commands.format_unit import FormatUnit, format_unit, wanted_by_format_unit
from iscsi_target.scsi.commands.identifying_information import (
    ReportIdentifyingInformation,
    SetIdentifyingInformation,
    report_identifying_information,
    set_identifying_information,
    wanted_by_set_identifying_information,
)
from iscsi_target.scsi.commands.inquiry import inquiry
from iscsi_target.scsi.commands.persistent_reserve_out import (
    command_name,
    overruling,
    wanted_by_persistent_reserve_out,
)
from iscsi_target.scsi.commands.rows import (
    ALWAYS,
    AS_READ,
    AS_WRITE,
    EVERYBODY,
    EVERYWHERE,
    OFFLINE,
    RESERVE_6_UNSUPPORTED,
    RESERVE_10_UNSUPPORTED,
    STANDBY,
    UNAVAILABLE,
    UNCONDITIONALLY,
    long_read,
    long_write,
    medium_row,
    reservation_row,
    reserve_in,
    reserve_out,
    sanitize_row,
    verify_row,
    write_row,
)
from iscsi_target.scsi.commands.sanitize import (
    EXIT_FAILURE_MODE,
    Sanitize,
    always,
    asks_for_readable_page,
    asks_for_temperature,
    erase,
    exit_failure_mode,
    mended_by_format,
    overwrite,
    wanted_by_overwrite,
)
from iscsi_target.scsi.commands.supported import (
    report_supported_operation_codes,
    report_supported_task_management_functions,
)
from iscsi_target.scsi.commands.target_port_groups import (
    ReportTargetPortGroups,
    SetTargetPortGroups,
    has_groups,
    lets_set,
    report_target_port_groups,
    set_target_port_groups,
    wanted_by_set_target_port_groups,
)
from iscsi_target.scsi.commands.timestamp import (
    ReportTimestamp,
    SetTimestamp,
    report_timestamp,
    set_timestamp,
    wanted_by_set_timestamp,
)
from iscsi_target.scsi.commands.write_atomic import WriteAtomic16, wanted_by_write_atomic, write_atomic
from iscsi_target.scsi.layouts import block_cdb as sbc
from iscsi_target.scsi.layouts import cdb as spc
from iscsi_target.scsi.reservations.personality import InAction, OutAction
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.sanitization import Method
from iscsi_target.scsi.state.task import Call, Done


def _report_supported_operation_codes(device: Device, cdb: spc.ReportSupportedOperationCodes, call: Call) -> Done:
    return report_supported_operation_codes((row for row in TABLE if row.available(device)), cdb)


# What an operator may do without being a nexus; no initiator can send it. Source: none, it is ours
OVERRULING: Mapping[OutAction, Command] = {
    action: command(
        Row(
            name=command_name(action),
            access=UNCONDITIONALLY,
            clause="SPC4r37 5.13.11.2",
            attention=False,
            exclusive=True,
            service_action=action,
            sanitizing=always,
        ),
        spc.PersistentReserveOut,
        overruling,
        wanted_by_persistent_reserve_out,
    )
    for action in (OutAction.CLEAR, OutAction.PREEMPT, OutAction.PREEMPT_AND_ABORT)
}

TABLE: tuple[Command, ...] = (
    command(
        Row(name="TEST UNIT READY", access=ALWAYS, clause="SPC4r37 6.47"),
        spc.TestUnitReady,
        primary.test_unit_ready,
    ),
    command(
        Row(
            name="REQUEST SENSE",
            access=UNCONDITIONALLY,
            clause="SPC4r37 6.39",
            attention=False,
            sanitizing=always,
            reachable=EVERYWHERE,
        ),
        spc.RequestSense,
        primary.request_sense,
    ),
    command(
        Row(
            name="FORMAT UNIT",
            access=AS_WRITE,
            clause="SBC3r36 5.3",
            medium_access=True,
            unsupported=("fmtpinfo",),
            exclusive=True,
            mends=mended_by_format,
            unsized=True,
        ),
        FormatUnit,
        format_unit,
        wanted_by_format_unit,
    ),
    command(medium_row("READ(6)", "SBC2r16 5.5", AS_READ), sbc.Read6, block.read_6),
    command(medium_row("WRITE(6)", "SBC2r16 5.24", AS_WRITE), sbc.Write6, block.write_6, block.wanted_by_write_6),
    command(
        Row(
            name="INQUIRY",
            access=UNCONDITIONALLY,
            clause="SPC4r37 6.6",
            attention=False,
            sanitizing=always,
            reachable=EVERYWHERE,
        ),
        spc.Inquiry,
        inquiry,
    ),
    command(
        Row(name="MODE SELECT(6)", access=AS_WRITE, clause="SPC4r37 6.11", exclusive=True, reachable=STANDBY),
        spc.ModeSelect6,
        modes.mode_select_6,
        modes.parameter_list_length,
    ),
    command(
        reservation_row("RESERVE(6)", "SPC2r20 7.22", ALWAYS, *RESERVE_6_UNSUPPORTED, "extent_list_length"),
        spc.Reserve6,
        primary.reserve,
    ),
    command(
        reservation_row("RELEASE(6)", "SPC2r20 7.17", EVERYBODY, *RESERVE_6_UNSUPPORTED),
        spc.Release6,
        primary.release,
    ),
    command(
        Row(
            name="MODE SENSE(6)",
            access=AS_READ,
            clause="SPC4r37 6.13",
            sanitizing=asks_for_readable_page,
            reachable=STANDBY,
        ),
        spc.ModeSense6,
        modes.mode_sense_6,
    ),
    command(
        Row(name="START STOP UNIT", access=AS_WRITE, clause="SBC3r36 5.25"),
        sbc.StartStopUnit,
        media.start_stop_unit,
        relaxed=media.start_stop_access,
    ),
    command(
        Row(name="RECEIVE DIAGNOSTIC RESULTS", access=AS_READ, clause="SPC4r37 6.28", reachable=STANDBY),
        ReceiveDiagnosticResults,
        receive_diagnostic_results,
    ),
    command(
        Row(name="SEND DIAGNOSTIC", access=AS_WRITE, clause="SPC4r37 6.42", reachable=STANDBY),
        SendDiagnostic,
        send_diagnostic,
        wanted_by_send_diagnostic,
    ),
    command(
        Row(name="PREVENT ALLOW MEDIUM REMOVAL", access=AS_WRITE, clause="SBC3r36 5.10"),
        sbc.PreventAllowMediumRemoval,
        media.prevent_allow_medium_removal,
        relaxed=media.prevent_access,
    ),
    command(
        medium_row("READ CAPACITY(10)", "SBC3r36 5.15", EVERYBODY)._replace(sanitizing=always, reachable=STANDBY),
        sbc.ReadCapacity10,
        media.read_capacity_10,
    ),
    long_read("READ(10)", "SBC3r36 5.11", sbc.Read10),
    long_write("WRITE(10)", "SBC3r36 5.33", sbc.Write10),
    command(
        write_row("WRITE AND VERIFY(10)", "SBC3r36 5.37"),
        sbc.WriteAndVerify10,
        block.write_and_verify,
        block.wanted_by_write,
    ),
    command(verify_row("VERIFY(10)", "SBC3r36 5.29"), sbc.Verify10, block.verify, block.wanted_by_verify),
    command(medium_row("PRE-FETCH(10)", "SBC3r36 5.8", AS_READ), sbc.PreFetch10, media.pre_fetch),
    command(
        medium_row("SYNCHRONIZE CACHE(10)", "SBC3r36 5.26", AS_WRITE),
        sbc.SynchronizeCache10,
        media.synchronize_cache,
    ),
    command(medium_row("READ DEFECT DATA(10)", "SBC3r36 5.17", AS_READ), ReadDefectData10, read_defect_data),
    command(
        Row(
            name="WRITE BUFFER",
            access=AS_WRITE,
            clause="SPC4r37 6.49",
            unsupported=("mode_specific",),
            reachable=STANDBY | UNAVAILABLE,
        ),
        WriteBuffer,
        write_buffer,
        wanted_by_write_buffer,
    ),
    command(
        Row(
            name="READ BUFFER(10)",
            access=AS_READ,
            clause="SPC4r37 6.18",
            unsupported=("mode_specific",),
            reachable=STANDBY | UNAVAILABLE,
        ),
        ReadBuffer,
        read_buffer,
    ),
    command(
        write_row("WRITE SAME(10)", "SBC3r36 5.43", "anchor")._replace(available=provisioning.has_write_same),
        sbc.WriteSame10,
        provisioning.write_same_10,
        provisioning.wanted_by_write_same_10,
    ),
    command(
        Row(
            name="UNMAP",
            access=AS_WRITE,
            clause="SBC3r36 5.28",
            medium_access=True,
            unsupported=("anchor",),
            available=provisioning.is_thin,
        ),
        sbc.Unmap,
        provisioning.unmap,
        provisioning.wanted_by_unmap,
    ),
    command(sanitize_row(Method.OVERWRITE), Sanitize, overwrite, wanted_by_overwrite),
    command(sanitize_row(Method.BLOCK_ERASE, "parameter_list_length"), Sanitize, erase),
    command(sanitize_row(Method.CRYPTOGRAPHIC_ERASE, "parameter_list_length"), Sanitize, erase),
    command(sanitize_row(EXIT_FAILURE_MODE, "parameter_list_length"), Sanitize, exit_failure_mode),
    command(
        Row(name="LOG SELECT", access=AS_WRITE, clause="SPC4r37 6.7", reachable=STANDBY),
        spc.LogSelect,
        logs.log_select,
        logs.parameter_list_length,
    ),
    command(
        Row(name="LOG SENSE", access=ALWAYS, clause="SPC4r37 6.8", sanitizing=asks_for_temperature, reachable=STANDBY),
        spc.LogSense,
        logs.log_sense,
    ),
    command(
        Row(name="MODE SELECT(10)", access=AS_WRITE, clause="SPC4r37 6.12", exclusive=True, reachable=STANDBY),
        spc.ModeSelect10,
        modes.mode_select_10,
        modes.parameter_list_length,
    ),
    command(
        reservation_row("RESERVE(10)", "SPC2r20 7.21", ALWAYS, *RESERVE_10_UNSUPPORTED),
        spc.Reserve10,
        primary.reserve,
    ),
    command(
        reservation_row("RELEASE(10)", "SPC2r20 7.16", EVERYBODY, *RESERVE_10_UNSUPPORTED),
        spc.Release10,
        primary.release,
    ),
    command(
        Row(
            name="MODE SENSE(10)",
            access=AS_READ,
            clause="SPC4r37 6.14",
            sanitizing=asks_for_readable_page,
            reachable=STANDBY,
        ),
        spc.ModeSense10,
        modes.mode_sense_10,
    ),
    *map(reserve_in, InAction),
    reserve_out(OutAction.REGISTER, ALWAYS),
    reserve_out(OutAction.RESERVE, Access.HOLDER),
    reserve_out(OutAction.RELEASE, Access.AS_REGISTRANT),
    reserve_out(OutAction.CLEAR, Access.AS_REGISTRANT),
    reserve_out(OutAction.PREEMPT, Access.AS_REGISTRANT),
    reserve_out(OutAction.PREEMPT_AND_ABORT, Access.AS_REGISTRANT),
    reserve_out(OutAction.REGISTER_AND_IGNORE_EXISTING_KEY, ALWAYS),
    reserve_out(OutAction.REGISTER_AND_MOVE, Access.HOLDER),
    reserve_out(OutAction.REPLACE_LOST_RESERVATION, Access.AS_REGISTRANT | Access.LOST),
    *COPY_ROWS,
    long_read("READ(16)", "SBC3r36 5.13", sbc.Read16),
    command(
        write_row("COMPARE AND WRITE", "SBC3r36 5.2")._replace(available=block.has_compare_and_write),
        sbc.CompareAndWrite,
        block.compare_and_write,
        block.wanted_by_compare_and_write,
    ),
    long_write("WRITE(16)", "SBC3r36 5.35", sbc.Write16),
    command(
        Row(name="ORWRITE(16)", access=AS_WRITE, clause="SBC3r36 5.5", medium_access=True, unsupported=("orprotect",)),
        sbc.OrWrite16,
        block.or_write,
        block.wanted_by_write,
    ),
    command(
        Row(
            name="WRITE ATOMIC(16)",
            access=AS_WRITE,
            clause="SBC4r22 5.48",
            medium_access=True,
            unsupported=("wrprotect", "atomic_boundary"),
            available=lambda device: device.features.limits.max_atomic_blocks > 0,
        ),
        WriteAtomic16,
        write_atomic,
        wanted_by_write_atomic,
    ),
    command(
        write_row("WRITE AND VERIFY(16)", "SBC3r36 5.39"),
        sbc.WriteAndVerify16,
        block.write_and_verify,
        block.wanted_by_write,
    ),
    command(verify_row("VERIFY(16)", "SBC3r36 5.31"), sbc.Verify16, block.verify, block.wanted_by_verify),
    command(medium_row("PRE-FETCH(16)", "SBC3r36 5.9", AS_READ), sbc.PreFetch16, media.pre_fetch),
    command(
        medium_row("SYNCHRONIZE CACHE(16)", "SBC3r36 5.27", AS_WRITE),
        sbc.SynchronizeCache16,
        media.synchronize_cache,
    ),
    command(
        write_row("WRITE SAME(16)", "SBC3r36 5.44", "anchor")._replace(available=provisioning.has_write_same),
        sbc.WriteSame16,
        provisioning.write_same_16,
        provisioning.wanted_by_write_same_16,
    ),
    command(
        medium_row("READ CAPACITY(16)", "SBC3r36 5.16", EVERYBODY)._replace(sanitizing=always, reachable=STANDBY),
        sbc.ReadCapacity16,
        media.read_capacity_16,
    ),
    command(medium_row("GET LBA STATUS", "SBC3r36 5.4", AS_READ), sbc.GetLbaStatus, provisioning.get_lba_status),
    command(
        Row(name="REPORT IDENTIFYING INFORMATION", access=ALWAYS, clause="SPC4r37 6.32"),
        ReportIdentifyingInformation,
        report_identifying_information,
    ),
    command(
        Row(
            name="REPORT LUNS",
            access=UNCONDITIONALLY,
            clause="SPC4r37 6.33",
            attention=False,
            sanitizing=always,
            reachable=EVERYWHERE,
        ),
        spc.ReportLuns,
        primary.report_luns,
    ),
    command(
        Row(
            name="REPORT SUPPORTED OPERATION CODES",
            access=AS_READ,
            clause="SPC4r37 6.35",
            sanitizing=always,
            reachable=STANDBY,
        ),
        spc.ReportSupportedOperationCodes,
        _report_supported_operation_codes,
    ),
    command(
        Row(
            name="REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
            access=AS_READ,
            clause="SPC4r37 6.36",
            sanitizing=always,
            reachable=STANDBY,
        ),
        spc.ReportSupportedTaskManagementFunctions,
        report_supported_task_management_functions,
    ),
    command(
        Row(name="SET IDENTIFYING INFORMATION", access=AS_WRITE, clause="SPC4r37 6.43", exclusive=True),
        SetIdentifyingInformation,
        set_identifying_information,
        wanted_by_set_identifying_information,
    ),
    command(
        Row(
            name="REPORT TARGET PORT GROUPS",
            access=ALWAYS,
            clause="SPC4r37 6.37",
            available=has_groups,
            reachable=EVERYWHERE,
        ),
        ReportTargetPortGroups,
        report_target_port_groups,
    ),
    command(
        Row(
            name="SET TARGET PORT GROUPS",
            access=AS_WRITE,
            clause="SPC4r37 6.45",
            available=lets_set,
            reachable=STANDBY | UNAVAILABLE | OFFLINE,
        ),
        SetTargetPortGroups,
        set_target_port_groups,
        wanted_by_set_target_port_groups,
    ),
    command(
        Row(name="REPORT TIMESTAMP", access=ALWAYS, clause="SPC4r37 6.38"),
        ReportTimestamp,
        report_timestamp,
    ),
    command(
        Row(name="SET TIMESTAMP", access=AS_WRITE, clause="SPC4r37 6.46"),
        SetTimestamp,
        set_timestamp,
        wanted_by_set_timestamp,
    ),
    long_read("READ(12)", "SBC3r36 5.12", sbc.Read12),
    long_write("WRITE(12)", "SBC3r36 5.34", sbc.Write12),
    command(
        write_row("WRITE AND VERIFY(12)", "SBC3r36 5.38"),
        sbc.WriteAndVerify12,
        block.write_and_verify,
        block.wanted_by_write,
    ),
    command(verify_row("VERIFY(12)", "SBC3r36 5.30"), sbc.Verify12, block.verify, block.wanted_by_verify),
    command(medium_row("READ DEFECT DATA(12)", "SBC3r36 5.18", AS_READ), ReadDefectData12, read_defect_data),
)
