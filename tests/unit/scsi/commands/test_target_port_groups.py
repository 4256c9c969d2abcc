"""REPORT TARGET PORT GROUPS and SET TARGET PORT GROUPS at a unit of ports P and Q; drawing in command_bench.

P (relative target port 7) is in group 2, Q (8) is in group 5.
"""

import pytest

from iscsi_target.scsi.commands.target_port_groups import (
    MAX_LIST_BYTES,
    ReportTargetPortGroups,
    SetDescriptor,
    SetTargetPortGroups,
    has_groups,
    lets_set,
    set_target_port_groups,
    wanted_by_set_target_port_groups,
)
from iscsi_target.scsi.nexus import TargetPort
from iscsi_target.scsi.state.device import Device, PortIdentity
from iscsi_target.scsi.state.port_groups import AccessState, PortGroup, StatusCode
from iscsi_target.scsi.state.task import Call, Done, Regroup
from iscsi_target.scsi.status import LogicalUnitNotAccessible
from tests.unit.scsi.command_bench import (
    INVALID_FIELD_IN_CDB,
    INVALID_FIELD_IN_LIST,
    LIST_LENGTH_ERROR,
    A,
    P,
    device,
    refusal,
    run,
)

Q = TargetPort("iqn.2025-01.org.example:disks", 2)
HEADER = bytes(4)


def grouped(*, explicit_access: bool = True, **fields) -> Device:
    unit = device(explicit_access=explicit_access)
    unit.ports = {P: PortIdentity(7, 2), Q: PortIdentity(8, 5)}
    unit.port_groups = {2: PortGroup(), 5: PortGroup(AccessState.STANDBY, **fields)}
    return unit


def reported(unit: Device, **fields: int) -> bytes:
    return bytes(run(unit, ReportTargetPortGroups(allocation_length=255, **fields)).data_in)


def setting(*wanted: tuple[int, int]) -> tuple[SetTargetPortGroups, bytes]:
    descriptors = [SetDescriptor(asymmetric_access_state=state, target_port_group=group) for group, state in wanted]
    data = HEADER + b"".join(each.pack() for each in descriptors)
    return SetTargetPortGroups(parameter_list_length=len(data)), data


def answered(unit: Device, *wanted: tuple[int, int]) -> Regroup | Done:
    cdb, data = setting(*wanted)
    return set_target_port_groups(unit, cdb, Call(A, data, (0,)))


@pytest.mark.clause("SPC4r37 6.37")
def test_every_group_is_reported_with_its_ports():
    assert reported(grouped()) == bytes.fromhex("00000018 004f0002 00000001 00000007 024f0005 00000001 00000008")
    assert reported(grouped(preferred=True, status_code=StatusCode.IMPLICITLY))[16:20] == bytes.fromhex("824f0005")


@pytest.mark.clause("SPC4r37 6.37")
def test_the_extended_form_says_how_long_a_transition_lasts():
    assert reported(grouped(), parameter_data_format=1)[:8] == bytes.fromhex("0000001c 10000000")
    slow = reported(grouped(transition_s=2.5), parameter_data_format=1)
    assert slow[4:8] == bytes.fromhex("10030000")
    assert slow[20:24] == bytes.fromhex("02cf0005"), "such a group has transitions"
    assert refusal(grouped(), ReportTargetPortGroups(parameter_data_format=2)) == INVALID_FIELD_IN_CDB


@pytest.mark.clause("SPC4r37 6.37")
def test_a_group_in_transition_is_reported_as_that():
    unit = grouped(transitioning=True, transition_s=1.0)
    assert reported(unit)[16:18] == bytes.fromhex("0fcf")


def test_without_groups_there_are_no_such_commands():
    assert not has_groups(device())
    assert not lets_set(device())
    assert has_groups(grouped(explicit_access=False))
    assert not lets_set(grouped(explicit_access=False))
    assert lets_set(grouped())


@pytest.mark.clause("SPC4r37 6.45")
def test_states_are_set_by_the_numbers_of_groups():
    assert answered(grouped(), (2, 3), (5, 0)) == Regroup({2: AccessState.UNAVAILABLE, 5: AccessState.ACTIVE_OPTIMIZED})
    assert isinstance(answered(grouped()), Regroup)
    assert isinstance(run(grouped(), SetTargetPortGroups()), Done)


@pytest.mark.clause("SPC4r37 6.45")
@pytest.mark.parametrize("wanted", [(3, 0), (0, 0), (2, 4), (2, 0xE), (2, 0xF)])
def test_other_groups_and_states_are_refused(wanted: tuple[int, int]):
    cdb, data = setting((5, 1), wanted)
    assert refusal(grouped(), cdb, offered=data) == INVALID_FIELD_IN_LIST


@pytest.mark.clause("SPC4r37 6.45")
def test_a_group_that_is_changing_is_not_changed():
    unit = grouped(transitioning=True)
    assert isinstance(answered(unit, (2, 1)), Regroup)
    with pytest.raises(LogicalUnitNotAccessible):
        answered(unit, (5, 0))


@pytest.mark.parametrize("length", [1, 3, 6, MAX_LIST_BYTES + 4])
def test_a_list_of_a_wrong_length_is_refused(length: int):
    cdb = SetTargetPortGroups(parameter_list_length=length)
    assert refusal(grouped(), cdb, offered=bytes(length)) == LIST_LENGTH_ERROR
    if length > MAX_LIST_BYTES:
        assert wanted_by_set_target_port_groups(grouped(), cdb) == 0


def test_a_list_that_ends_too_early_is_refused():
    cdb, data = setting((2, 1))
    assert refusal(grouped(), cdb, offered=data[:-1]) == LIST_LENGTH_ERROR
