"""What the paths of a unit do to commands. Nodes A and B; unit 0 (see unit_bench).

A comes by port P in group 1; B comes by port Q in group 2.
"""

from typing import Any

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.commands.table import TABLE
from iscsi_target.scsi.commands.target_port_groups import ReportTargetPortGroups, SetDescriptor, SetTargetPortGroups
from iscsi_target.scsi.commands.timestamp import ReportTimestamp
from iscsi_target.scsi.layouts.block_cdb import GetLbaStatus, Read10, ReadCapacity10, ReadCapacity16
from iscsi_target.scsi.layouts.cdb import (
    Inquiry,
    LogSense,
    ModeSense6,
    PersistentReserveIn,
    ReportLuns,
    RequestSense,
    Reserve6,
)
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.profiles import PROFILES
from iscsi_target.scsi.state.device import PortIdentity
from iscsi_target.scsi.state.port_groups import AccessState, PortGroup, Reachable, StatusCode
from iscsi_target.scsi.state.task import Aborted, Completed, Forget, Function, Rest, Task, TaskAttribute
from iscsi_target.scsi.status import Status
from iscsi_target.wire.layout import Layout
from tests.unit.scsi.unit_bench import PORT, READY, A, Bench

Q = TargetPort("iqn.2026-01.org.example:p", 2)
B = Nexus(InitiatorPort("iqn.2026-01.org.example:b", bytes(6)), Q)
OPTIMIZED, SLOWER = AccessState.ACTIVE_OPTIMIZED, AccessState.ACTIVE_NON_OPTIMIZED
STANDBY, UNAVAILABLE, OFFLINE = AccessState.STANDBY, AccessState.UNAVAILABLE, AccessState.OFFLINE
ACTIVE = PortGroup()
CHANGED = AttentionCode.ASYMMETRIC_ACCESS_STATE_CHANGED
REFUSALS = {STANDBY: 0x040B, UNAVAILABLE: 0x040C, OFFLINE: 0x0412, AccessState.TRANSITIONING: 0x040A}


class PathBench(Bench):
    """A unit with two paths; a rest ends when a test says so.

    groups   how the group of each path begins
    """

    def __init__(self, group_1: PortGroup = ACTIVE, group_2: PortGroup = ACTIVE, **features: Any) -> None:
        super().__init__()
        self.device.ports = {PORT: PortIdentity(1, 1), Q: PortIdentity(2, 2)}
        self.device.port_groups = {1: group_1, 2: group_2}
        self.device.features = self.device.features._replace(**features)
        self.unit.attach(B)
        self.send(B, RequestSense(allocation_length=18))
        self.actions.clear()

    @property
    def rests(self) -> list[Rest]:
        return [action for action in self.actions if isinstance(action, Rest)]

    def set(self, nexus: Nexus, **wanted: AccessState) -> Task:
        """Sends SET TARGET PORT GROUPS with states by the names group_1 and group_2."""
        descriptors = [
            SetDescriptor(asymmetric_access_state=state, target_port_group=int(name[-1]))
            for name, state in wanted.items()
        ]
        data = bytes(4) + b"".join(each.pack() for each in descriptors)
        task = self.send(nexus, SetTargetPortGroups(parameter_list_length=len(data)), expects_data=True)
        self.give(task, data)
        return task

    def wake(self) -> None:
        """Lets the time of the last rest go by."""
        self.record(self.unit.rested(self.rests[-1].ticket))

    def states(self) -> list[AccessState]:
        return [group.state for group in self.device.port_groups.values()]


def bench_in(state: AccessState, **features: Any) -> PathBench:
    """A bench whose group 1 is in a state."""
    transitioning = state is AccessState.TRANSITIONING
    return PathBench(PortGroup(OPTIMIZED if transitioning else state, transitioning=transitioning), **features)


@pytest.mark.clause("SPC4r37 5.15.2.4")
@pytest.mark.parametrize("state", REFUSALS)
def test_a_path_that_is_not_active_refuses_the_medium_and_tells_its_state(state: AccessState):
    bench = bench_in(state)
    for cdb in (READY, Read10(transfer_length=1), GetLbaStatus()):
        assert bench.sense(bench.send(A, cdb)) == (2, REFUSALS[state])
    for told in (Inquiry(allocation_length=96), ReportLuns(allocation_length=16), RequestSense(allocation_length=18)):
        assert bench.status(bench.send(A, told)) is Status.GOOD
    assert bench.status(bench.send(A, ReportTargetPortGroups(allocation_length=255))) is Status.GOOD
    assert bench.status(bench.send(B, READY)) is Status.GOOD, "the other path is active"


@pytest.mark.clause("SPC4r37 5.15.2.4")
@pytest.mark.parametrize(
    "cdb",
    [
        LogSense(page_code=0, pc=1, allocation_length=4),
        ModeSense6(page_code=0x3F, allocation_length=4),
        PersistentReserveIn(allocation_length=8),
        ReadCapacity10(),
        ReadCapacity16(allocation_length=32),
    ],
)
def test_standby_takes_what_a_cluster_prepares_with(cdb: Layout):
    bench = bench_in(STANDBY)
    assert bench.status(bench.send(A, cdb)) is Status.GOOD
    other = bench_in(UNAVAILABLE)
    assert other.sense(other.send(A, cdb)) == (2, 0x040C)


@pytest.mark.clause("SPC4r37 5.15.2.4")
def test_a_row_that_grants_nothing_is_processed_on_active_paths_only():
    """The rows that grant more are those of the standard's lists, and what hosts ask of a unit that they scan."""
    granting = {row.layout.__name__ for row in TABLE if row.row.reachable is not Reachable.NOWHERE_ELSE}
    assert granting == {
        *("Inquiry", "ReportLuns", "RequestSense", "LogSelect", "LogSense", "ModeSelect6", "ModeSelect10"),
        *("ModeSense6", "ModeSense10", "ReceiveDiagnosticResults", "SendDiagnostic", "ReadBuffer", "WriteBuffer"),
        *("PersistentReserveIn", "PersistentReserveOut", "ReportTargetPortGroups", "SetTargetPortGroups"),
        *("ReportSupportedOperationCodes", "ReportSupportedTaskManagementFunctions"),
        *("ReadCapacity10", "ReadCapacity16"),
    }


def test_reads_through_standby_are_a_setting():
    bench = bench_in(STANDBY, standby_reads=True)
    for cdb in (READY, ReportTimestamp(allocation_length=12)):
        assert bench.status(bench.send(A, cdb)) is Status.GOOD
    read = bench.read(A, 0)
    bench.end()
    assert bench.status(read) is Status.GOOD
    assert bench.sense(bench.write(A, 0)) == (2, 0x040B)


def test_reads_through_standby_can_be_for_some_initiators_only():
    bench = PathBench(PortGroup(STANDBY), PortGroup(STANDBY))
    bench.unit.nexuses.standing(A).choices = PROFILES["windows"].choices
    assert bench.status(bench.send(A, READY)) is Status.GOOD
    assert bench.sense(bench.write(A, 0)) == (2, 0x040B)
    assert bench.sense(bench.send(B, READY)) == (2, 0x040B)
    bench.record(bench.unit.regroup({1: UNAVAILABLE}))
    bench.attention(A)
    assert bench.sense(bench.send(A, READY)) == (2, 0x040C)


@pytest.mark.clause("SPC4r37 5.15.2.7")
def test_a_state_that_is_set_holds_at_once_and_the_others_are_told():
    bench = PathBench(PortGroup(), PortGroup(STANDBY))
    assert bench.status(bench.set(B, group_1=STANDBY, group_2=OPTIMIZED)) is Status.GOOD
    assert bench.states() == [STANDBY, OPTIMIZED]
    assert {group.status_code for group in bench.device.port_groups.values()} == {StatusCode.BY_COMMAND}
    assert bench.status(bench.send(B, READY)) is Status.GOOD
    assert bench.attention(A) == CHANGED
    assert bench.sense(bench.send(A, READY)) == (2, 0x040B)


@pytest.mark.clause("SPC4r37 5.15.2.8")
def test_a_change_that_nobody_asked_for_is_told_to_all():
    bench = PathBench()
    bench.record(bench.unit.regroup({1: SLOWER}))
    assert bench.device.port_groups[1].status_code is StatusCode.IMPLICITLY
    assert (bench.attention(A), bench.attention(B)) == (CHANGED, CHANGED)


def test_a_state_that_holds_already_is_no_change():
    bench = PathBench()
    assert bench.status(bench.set(A, group_1=OPTIMIZED)) is Status.GOOD
    assert bench.attention(B) is None
    assert bench.device.port_groups[1].status_code is StatusCode.NONE


@pytest.mark.clause("SPC4r37 5.15.2.6")
def test_a_transition_lasts_and_its_command_is_over_with_it():
    bench = PathBench(PortGroup(transition_s=2.0))
    task = bench.set(B, group_1=STANDBY)
    assert bench.rests[0].seconds == 2.0
    assert bench.outcome(task) is None
    assert bench.sense(bench.send(A, READY)) == (2, 0x040A)
    assert bench.sense(bench.set(B, group_1=OPTIMIZED)) == (2, 0x040A)
    bench.wake()
    assert bench.status(task) is Status.GOOD
    assert bench.attention(A) == CHANGED
    assert bench.states() == [STANDBY, OPTIMIZED]


@pytest.mark.clause("SPC4r37 5.15.2.6")
@pytest.mark.parametrize("function", [Function.ABORT_TASK_SET, Function.LOGICAL_UNIT_RESET])
def test_a_transition_goes_on_without_its_command(function: Function):
    bench = PathBench(PortGroup(transition_s=2.0))
    task = bench.set(B, group_1=STANDBY)
    bench.manage(function, B)
    assert bench.outcome(task) == Aborted(task)
    bench.wake()
    assert bench.states() == [STANDBY, OPTIMIZED]
    assert bench.outcome(task) == Aborted(task)


@pytest.mark.clause("SPC4r37 5.15.2.7")
def test_a_command_whose_change_is_superseded_has_failed_and_the_states_come_with_the_last_change():
    bench = PathBench(PortGroup(transition_s=2.0))
    task = bench.set(B, group_1=STANDBY)
    bench.record(bench.unit.regroup({1: OFFLINE}))
    assert bench.sense(task) == (4, 0x670A)
    first, second = bench.rests
    assert Forget(first.ticket) in bench.actions
    assert bench.states() == [AccessState.TRANSITIONING, OPTIMIZED]
    bench.record(bench.unit.rested(second.ticket))
    assert bench.states() == [OFFLINE, OPTIMIZED]
    assert (bench.attention(A), bench.attention(B)) == (CHANGED, CHANGED)


@pytest.mark.clause("SPC4r37 5.15.2.6")
def test_a_group_that_returns_to_an_earlier_goal_arrives_with_the_last_change():
    bench = PathBench(PortGroup(transition_s=2.0))
    for state in (STANDBY, OFFLINE, STANDBY):
        bench.record(bench.unit.regroup({1: state}))
    first, second, third = bench.rests
    assert [action.ticket for action in bench.actions if isinstance(action, Forget)] == [first.ticket, second.ticket]
    assert bench.states() == [AccessState.TRANSITIONING, OPTIMIZED]
    bench.record(bench.unit.rested(third.ticket))
    assert bench.states() == [STANDBY, OPTIMIZED]


@pytest.mark.clause("SPC4r37 5.15.2.6")
def test_groups_of_a_change_that_another_one_does_not_concern_arrive_in_time():
    bench = PathBench(PortGroup(transition_s=2.0), PortGroup(transition_s=2.0))
    task = bench.set(B, group_1=STANDBY, group_2=SLOWER)
    bench.record(bench.unit.regroup({1: OFFLINE}))
    assert bench.sense(task) == (4, 0x670A)
    first, second = bench.rests
    bench.record(bench.unit.rested(first.ticket))
    assert bench.states() == [AccessState.TRANSITIONING, SLOWER]
    bench.record(bench.unit.rested(second.ticket))
    assert bench.states() == [OFFLINE, SLOWER]


def test_the_state_that_a_group_is_on_its_way_to_is_no_change():
    bench = PathBench(PortGroup(transition_s=2.0))
    task = bench.set(B, group_1=STANDBY)
    bench.record(bench.unit.regroup({1: STANDBY}))
    assert bench.states() == [AccessState.TRANSITIONING, OPTIMIZED]
    bench.wake()
    assert bench.status(task) is Status.GOOD
    assert bench.states() == [STANDBY, OPTIMIZED]


@pytest.mark.clause("SPC4r37 5.15.2.7")
def test_a_superseded_command_that_was_aborted_stays_so():
    bench = PathBench(PortGroup(transition_s=2.0))
    task = bench.set(B, group_1=STANDBY)
    bench.manage(Function.ABORT_TASK_SET, B)
    bench.record(bench.unit.regroup({1: OFFLINE}))
    assert bench.outcome(task) == Aborted(task)


def test_a_non_optimized_path_holds_back_what_needs_the_medium():
    bench = PathBench(PortGroup(SLOWER, delay_s=0.02))
    assert bench.status(bench.send(A, READY)) is Status.GOOD
    read = bench.read(A, 0)
    assert (bench.rests[0].seconds, bench.at_medium) == (0.02, {})
    bench.wake()
    bench.perform()
    assert bench.status(read) is Status.GOOD
    bench.read(B, 0)
    assert len(bench.at_medium) == 1, "the other path is quick"


def test_what_is_held_back_can_be_aborted():
    bench = PathBench(PortGroup(SLOWER, delay_s=0.02))
    read = bench.read(A, 0)
    bench.manage(Function.ABORT_TASK_SET, A)
    assert bench.outcome(read) == Aborted(read)
    assert bench.actions[1] == Forget(bench.rests[0].ticket), "nobody keeps it until its time is over"
    bench.wake()
    assert not bench.at_medium


@pytest.mark.clause("SPC4r37 5.13.1")
def test_a_reservation_that_is_made_while_a_command_is_held_back_holds_for_it():
    bench = PathBench(PortGroup(SLOWER, delay_s=0.02))
    write = bench.write(A, 0)
    assert bench.status(bench.send(B, Reserve6())) is Status.GOOD
    bench.wake()
    assert bench.status(write) is Status.RESERVATION_CONFLICT
    assert not bench.at_medium


@pytest.mark.clause("SPC4r37 5.15.2.4")
def test_a_path_that_goes_down_while_a_command_is_held_back_refuses_it():
    bench = PathBench(PortGroup(SLOWER, delay_s=0.02))
    write = bench.write(A, 0)
    bench.record(bench.unit.regroup({1: OFFLINE}))
    bench.wake()
    assert bench.sense(write) == (6, CHANGED)
    assert bench.sense(bench.write(A, 0)) == (2, 0x0412)


@pytest.mark.clause("SAM5r21 5.9.2")
def test_what_was_held_back_waits_for_the_end_of_an_aca_condition_too():
    bench = PathBench(PortGroup(SLOWER, delay_s=0.02))
    read = bench.read(A, 0)
    bench.send(A, READY.replace(control=5))
    bench.wake()
    assert not bench.at_medium
    bench.manage(Function.CLEAR_ACA, A)
    bench.perform()
    assert bench.status(read) is Status.GOOD


@pytest.mark.parametrize("group", [PortGroup(STANDBY), PortGroup(SLOWER, delay_s=0.1)])
def test_no_lane_leads_through_a_path_that_is_not_quick(group: PortGroup):
    bench = PathBench(standby_reads=True)
    bench.read(A, 0)
    bench.end()
    lane = bench.unit.lane(A)
    read = Read10(transfer_length=1).pack().ljust(16, b"\0")
    assert bench.unit.nexuses.standing(A).admitted
    bench.device.port_groups = {**bench.device.port_groups, 1: group}
    assert lane.answer(read, 512, b"") is None
    bench.read(A, 0)
    assert bench.unit.nexuses.standing(A).epoch is not bench.device.epoch


@pytest.mark.clause("SPC4r37 6.37")
def test_a_report_that_waits_when_all_groups_go_away_has_none_to_tell_of():
    bench = PathBench()
    bench.read(A, 0)
    cdb = ReportTargetPortGroups(parameter_data_format=1, allocation_length=255)
    report = bench.send(A, cdb, TaskAttribute.ORDERED)
    bench.device.port_groups = {}
    bench.end()
    end = bench.outcome(report)
    assert isinstance(end, Completed)
    assert end.data_in == bytes.fromhex("00000004 10000000")


@pytest.mark.clause("SPC4r37 6.6.2")
@pytest.mark.parametrize("explicit_access, tpgs", [(True, 0b11), (False, 0b01)])
def test_inquiry_says_who_may_change_states(explicit_access: bool, tpgs: int):
    bench = PathBench(explicit_access=explicit_access)
    end = bench.outcome(bench.send(A, Inquiry(allocation_length=96)))
    assert isinstance(end, Completed)
    assert end.data_in[5] >> 4 & 3 == tpgs
    unknown = bench.sense(bench.set(A, group_1=STANDBY)) if not explicit_access else None
    assert unknown in (None, (5, 0x2400))
