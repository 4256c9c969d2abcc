"""RSOC and REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS; drawing in command_bench."""

import pytest

from iscsi_target.scsi.commands.table import TABLE
from iscsi_target.scsi.layouts.cdb import ReportSupportedOperationCodes, ReportSupportedTaskManagementFunctions
from iscsi_target.scsi.layouts.pages import (
    AllCommandsHeader,
    CommandDescriptor,
    CommandTimeoutsDescriptor,
    OneCommandHeader,
    TaskManagementData,
)
from iscsi_target.scsi.state.port_groups import PortGroup
from tests.unit.scsi.command_bench import INVALID_FIELD_IN_CDB, device, refusal, run

TIMEOUTS = CommandTimeoutsDescriptor().pack()


def ask(unit, option, code=0, action=0, *, rctd=False):
    cdb = ReportSupportedOperationCodes(
        rctd=rctd,
        reporting_options=option,
        requested_operation_code=code,
        requested_service_action=action,
        allocation_length=65535,
    )
    return run(unit, cdb).data_in


def listed(unit, *, rctd):
    data = ask(unit, 0, rctd=rctd)
    header = AllCommandsHeader.unpack(data)
    assert header.command_data_length == len(data) - AllCommandsHeader.size
    step = CommandDescriptor.size + (len(TIMEOUTS) if rctd else 0)
    starts = range(AllCommandsHeader.size, len(data), step)
    if rctd:
        assert all(data[start + 8 : start + step] == TIMEOUTS for start in starts)
    return [CommandDescriptor.unpack(data, start) for start in starts]


@pytest.mark.clause("SPC4r37 6.35.2")
@pytest.mark.parametrize("rctd", (False, True))
@pytest.mark.parametrize("thin", (False, True))
def test_all_commands_are_just_the_rows_that_the_unit_has(rctd, thin):
    unit = device(thin=thin)
    found = [(d.operation_code, d.service_action, d.servactv, d.ctdp, d.cdb_length) for d in listed(unit, rctd=rctd)]
    assert found == [
        (row.operation_code, row.service_action or 0, row.service_action is not None, rctd, row.layout.size)
        for row in TABLE
        if row.available(unit)
    ]
    assert (0x42 in {code for code, *_ in found}) is thin


@pytest.mark.clause("SPC4r37 6.35.3")
@pytest.mark.clause("SPC4r37 6.35.4")
@pytest.mark.parametrize("rctd", (False, True))
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_one_command_has_its_usage_data(row, rctd):
    options = (1, 3) if row.service_action is None else (2, 3)
    unit = device()
    unit.port_groups = {2: PortGroup()}
    for option in options:
        data = ask(unit, option, row.operation_code, row.service_action or 0, rctd=rctd)
        header = OneCommandHeader.unpack(data)
        assert (header.support, header.ctdp, header.cdb_size) == (3, rctd, row.layout.size)
        assert data[OneCommandHeader.size :] == row.usage() + (TIMEOUTS if rctd else b"")
        assert row.usage()[0] == row.operation_code


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_an_option_that_does_not_fit_the_operation_code_is_refused(row):
    option = 2 if row.service_action is None else 1
    cdb = ReportSupportedOperationCodes(reporting_options=option, requested_operation_code=row.operation_code)
    assert refusal(device(), cdb) == INVALID_FIELD_IN_CDB


@pytest.mark.parametrize("option", (4, 5, 6, 7))
def test_reserved_options_are_refused(option):
    assert refusal(device(), ReportSupportedOperationCodes(reporting_options=option)) == INVALID_FIELD_IN_CDB


@pytest.mark.parametrize(
    "option, code, action", [(1, 0xFF, 0), (2, 0xFF, 1), (2, 0xA3, 0x1F), (3, 0x12, 1), (3, 0x9E, 0)]
)
def test_an_unknown_command_is_reported_as_not_supported(option, code, action):
    assert ask(device(), option, code, action) == b"\0\1\0\0"


def test_unmap_is_not_supported_on_a_unit_that_is_not_thin():
    assert ask(device(thin=False), 1, 0x42) == b"\0\1\0\0"


def test_fields_that_are_refused_are_not_in_the_usage_data():
    usage = ask(device(), 1, 0x28)[OneCommandHeader.size :]
    assert usage == bytes.fromhex("2818ffffffff1fffff04")


@pytest.mark.clause("SPC4r37 6.36")
def test_task_management_functions_are_those_that_work():
    basic = run(device(), ReportSupportedTaskManagementFunctions(allocation_length=100)).data_in
    values = TaskManagementData.unpack(basic)
    assert values == TaskManagementData()
    assert not values.wakes
    extended = run(device(), ReportSupportedTaskManagementFunctions(repd=True, allocation_length=100)).data_in
    assert (len(basic), len(extended), extended[3]) == (4, 16, 12)
