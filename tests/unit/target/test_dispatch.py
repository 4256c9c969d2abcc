"""Commands on their way to units and back. Hosts A and B, one node with LUN 0 and 1 (see tests/initiator)."""

import pytest

from iscsi_target.iscsi.header import Opcode
from iscsi_target.iscsi.responses import ReadyToTransfer, ScsiResponse
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.block_cdb import Read10, Write10
from iscsi_target.scsi.layouts.cdb import ModeSelect10, PersistentReserveOut, ReportLuns
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.layouts.pages import ModeHeader10
from iscsi_target.scsi.layouts.reservation_pages import BasicParameterList
from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.profiles import PROFILES, Chosen
from iscsi_target.scsi.reservations.personality import OutAction, ReservationType
from iscsi_target.scsi.reservations.rules import Rule
from iscsi_target.scsi.state.device import PortIdentity
from iscsi_target.scsi.state.port_groups import AccessState, PortGroup
from iscsi_target.scsi.state.timeline import Entry
from iscsi_target.scsi.status import Status
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.target import Order, ReservationNoted, Target
from iscsi_target.target.alarms import NEVER
from iscsi_target.wire.layout import Layout
from tests.initiator import READY, Host, Lab, disk_node
from tests.unit.scsi.unit_bench import BLOCK, make_device

ONES, TWOS = bytes([1]) * BLOCK, bytes([2]) * BLOCK
DONE = ManagementResponse.FUNCTION_COMPLETE


@pytest.fixture
def lab() -> Lab:
    return Lab()


def select_control(host: Host, save: bool = False, **fields) -> int:
    parameters = ModeHeader10().pack() + ControlPage(ps=False, **fields).pack()
    cdb = ModeSelect10(pf=True, sp=save, parameter_list_length=len(parameters))
    return host.command(cdb, write=parameters, data=parameters)


def test_write_is_fetched_by_r2t_and_answered(lab: Lab, a: Host):
    tag = a.ask_to_write(2)
    a.data_out(a.take_one(ReadyToTransfer), ONES)
    assert a.outcome(tag).status == 0
    assert lab.block(2) == ONES


def test_responses_come_in_the_order_of_the_medium(lab: Lab, a: Host):
    lab.slow = True
    first, second = a.read(0), a.read(1)
    newest = list(lab.at_medium)[-1]
    lab.finish(newest)
    assert a.ended(first) is None
    assert a.outcome(second).status == 0
    lab.finish()
    assert a.outcome(first).status == 0


def test_fault_of_the_medium_becomes_sense(lab: Lab, a: Host):
    lab.slow = True
    tag = a.read(0)
    lab.finish(error=MediumError(Fault.READ_FAILED))
    assert a.outcome(tag).sense == (3, 0x1100)


def test_status_of_a_saved_page_waits_for_the_state_file(lab: Lab, a: Host):
    tag = select_control(a, save=True, d_sense=True)
    assert a.ended(tag) is None
    assert not lab.target.drained
    lab.persist()
    assert a.outcome(tag).status == 0


def test_logout_waits_for_the_state_file(lab: Lab, a: Host):
    select_control(a, save=True, d_sense=True)
    a.logout()
    assert not a.closed
    lab.persist()
    assert a.closed
    assert lab.clean


def test_status_for_tasks_that_another_aborts_goes_out_when_tas_is_set(lab: Lab, a: Host, b: Host):
    select_control(a, tas=True)
    assert b.attention() == AttentionCode.MODE_PARAMETERS_CHANGED
    lab.slow = True
    tags = [b.write(0, ONES), b.ask_to_write(1)]
    function = a.manage(TaskManagement.CLEAR_TASK_SET)
    assert b.ended(tags[0]) is None
    lab.finish_all()
    assert a.managed(function) == DONE
    assert b.outcome(tags[0]).status == 0x40
    asked = next(pdu.header for pdu in b.received if isinstance(pdu.header, ReadyToTransfer))
    b.data_out(asked, ONES)
    assert b.outcome(tags[1]).status == 0x40


def test_task_that_breaks_the_transfer_while_it_is_aborted_ends_once(lab: Lab, a: Host):
    lab.slow = True
    a.write(0, ONES)
    tag = a.ask_to_write(0, 2)
    asked = next(pdu.header for pdu in a.received if isinstance(pdu.header, ReadyToTransfer))
    function = a.manage(TaskManagement.ABORT_TASK_SET)
    a.data_out(asked, ONES, data_sn=3)
    lab.finish_all()
    assert (a.ended(tag), a.managed(function)) == (None, DONE)


@pytest.mark.clause("SAM5r21 5.9.2")
@pytest.mark.clause("RFC7143 11.4.7.2")
@pytest.mark.parametrize("naca", [False, True])
def test_data_out_that_fails_begins_an_aca_condition_if_that_is_wanted(a: Host, naca: bool):
    tag = a.command(Write10(lba=0, transfer_length=2, control=4 * naca), write=bytes(2 * BLOCK), data=b"")
    asked = next(pdu.header for pdu in a.received if isinstance(pdu.header, ReadyToTransfer))
    a.data_out(asked, ONES, data_sn=3)
    assert a.outcome(tag).status == Status.CHECK_CONDITION
    expected = Status.ACA_ACTIVE if naca else Status.GOOD
    assert a.outcome(a.command(READY)).status == expected
    a.manage(TaskManagement.CLEAR_ACA)
    assert a.outcome(a.command(READY)).status == Status.GOOD


def test_abort_of_a_task_of_another_unit_does_not_find_it(lab: Lab, a: Host):
    lab.slow = True
    tag = a.write(0, ONES, lun=0)
    assert a.managed(a.abort(tag, lun=1)) == ManagementResponse.TASK_DOES_NOT_EXIST
    lab.finish()
    assert a.outcome(tag).status == 0


def test_abort_of_a_task_of_another_initiator_does_not_find_it(lab: Lab, a: Host, b: Host):
    lab.slow = True
    tag = a.write(0, ONES)
    assert b.managed(b.abort(tag)) == ManagementResponse.TASK_DOES_NOT_EXIST
    lab.finish()
    assert a.outcome(tag).status == 0


def test_two_functions_for_one_task_are_both_answered(lab: Lab, a: Host):
    lab.slow = True
    tag = a.write(0, ONES)
    functions = [a.abort(tag), a.abort(tag), a.manage(TaskManagement.LOGICAL_UNIT_RESET)]
    assert [a.managed(function) for function in functions] == [None] * 3
    lab.finish()
    assert [a.managed(function) for function in functions] == [DONE] * 3


def test_task_tag_may_be_used_again_after_an_abort(lab: Lab, a: Host):
    tag = a.ask_to_write(0)
    a.abort(tag)
    a.received.clear()
    again = a.write(1, TWOS, tag=tag)
    assert a.outcome(again).status == 0
    assert lab.block(1) == TWOS


def test_task_tag_in_use_is_rejected(lab: Lab, a: Host):
    lab.slow = True
    tag = a.read(0)
    a.read(1, tag=tag)
    assert [pdu.header.opcode for pdu in a.received] == [Opcode.REJECT]
    lab.finish_all()
    assert a.outcome(tag).status == 0


def test_reserved_task_attribute_is_rejected_and_the_next_command_works(a: Host):
    a.read(0, attributes=6)
    assert [pdu.header.opcode for pdu in a.received] == [Opcode.REJECT]
    assert a.outcome(a.read(0)).status == 0


def test_function_answered_after_its_session_ended_is_not_sent(lab: Lab, a: Host):
    lab.slow = True
    a.write(0, ONES)
    a.manage(TaskManagement.ABORT_TASK_SET)
    a.cut()
    lab.finish()
    assert lab.clean


def test_reset_by_one_whose_session_ends_meanwhile_still_ends_the_others(lab: Lab, a: Host, b: Host):
    lab.slow = True
    tag = b.write(0, ONES)
    a.manage(TaskManagement.TARGET_COLD_RESET)
    a.cut()
    lab.finish()
    assert b.closed
    assert b.ended(tag) is None
    assert lab.clean


def test_tickets_of_a_unit_and_of_its_successor_differ(lab: Lab, a: Host):
    lab.slow = True
    a.write(0, ONES)
    lab.units["disk0"] = LogicalUnit("disk0", make_device())
    lab.reconfigure(disk_node(portal_group_tags=(1, 2)))
    assert a.attention(0) == AttentionCode.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED
    tag = a.write(0, TWOS)
    assert len(lab.at_medium) == 2
    lab.finish_all()
    assert a.outcome(tag).status == 0
    a.cut()
    assert lab.clean


def test_report_luns_counts_as_told_of_changed_luns(lab: Lab, a: Host):
    lab.reconfigure(disk_node(portal_group_tags=(1, 2), luns={0: "disk0"}))
    a.command(ReportLuns(allocation_length=256), 0, read=256)
    assert a.attention(0) is None


def test_idle_means_that_nothing_is_at_a_medium(lab: Lab, a: Host):
    target: Target = lab.target
    lab.slow = True
    a.read(0)
    assert not target._dispatcher.idle
    lab.finish()
    assert target._dispatcher.idle


@pytest.mark.parametrize("length", [0, 1])
def test_write_whose_initiator_has_less_than_it_says_ends_without_data(a: Host, length: int):
    tag = a.command(Write10(lba=0, transfer_length=2), write=bytes(length), data=bytes(length))
    assert a.ended(tag) is not None
    assert a.outcome(a.command(READY)).status == 0


# Reservations: what the operator orders, and what is to be known of a response

CONFLICT = Status.RESERVATION_CONFLICT


def reserve_out(host: Host, action: OutAction, kind: int = 0, **fields) -> int:
    parameters = BasicParameterList(**fields).pack()
    cdb = PersistentReserveOut(service_action=action, type=kind, parameter_list_length=len(parameters))
    return host.command(cdb, write=parameters, data=parameters)


def register(host: Host, key: int, aptpl: bool = False) -> None:
    tag = reserve_out(host, OutAction.REGISTER, service_action_reservation_key=key, aptpl=aptpl)
    if aptpl:
        host.lab.persist()
    assert host.outcome(tag).status == Status.GOOD


def reserve(host: Host, key: int) -> None:
    tag = reserve_out(host, OutAction.RESERVE, ReservationType.WRITE_EXCLUSIVE, reservation_key=key)
    assert host.outcome(tag).status == Status.GOOD


def preempt_and_abort(host: Host, key: int, victim: int) -> int:
    fields = {"reservation_key": key, "service_action_reservation_key": victim}
    return reserve_out(host, OutAction.PREEMPT_AND_ABORT, ReservationType.WRITE_EXCLUSIVE, **fields)


def operate(lab: Lab, action: OutAction, key: int = 0) -> int:
    number = 1000 + len(lab.operated)
    lab.run(lab.target.operate(number, Order("disk0", action, key), lab.now))
    return number


def remarks(lab: Lab) -> list[tuple[Rule, int, int]]:
    """Returns rule, tag and status of the responses of which something is to be known, and forgets them."""
    found = []
    for about, pdu in lab.remarked:
        assert isinstance(about, Entry)
        header = ScsiResponse.unpack(pdu)
        assert header.opcode == Opcode.SCSI_RESPONSE
        found.append((about.explanation.rule, header.initiator_task_tag, header.status))
    lab.remarked.clear()
    return found


def test_conflict_is_noted_and_its_response_carries_the_entry(lab: Lab, a: Host, b: Host):
    register(a, 0xA)
    reserve(a, 0xA)
    lab.remarked.clear()
    tag = b.write(1, ONES)
    assert b.outcome(tag).status == CONFLICT
    noted = lab.announced(ReservationNoted)[-1]
    assert (noted.connection, noted.tag, noted.unit) == (b.number, tag, "disk0")
    assert remarks(lab) == [(Rule.HOLDER_ONLY, tag, CONFLICT)]
    assert not lab.target._dispatcher._noted_of


def test_each_response_of_a_batch_carries_its_own_entry_and_others_none(lab: Lab, a: Host, b: Host):
    register(a, 0xA)
    reserve(a, 0xA)
    lab.remarked.clear()
    feed, batch = b.feed, bytearray()
    b.feed = batch.extend  # type: ignore[method-assign, assignment]  # so that all commands come at once
    first, read, second = b.write(1, ONES), b.read(1), b.write(2, TWOS)
    b.feed = feed  # type: ignore[method-assign]  # as it was
    b.feed(batch)
    assert b.outcome(read).status == Status.GOOD
    assert remarks(lab) == [(Rule.HOLDER_ONLY, first, CONFLICT), (Rule.HOLDER_ONLY, second, CONFLICT)]


@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_entry_waits_for_the_response_of_a_preempt_and_abort_that_waits(lab: Lab, a: Host, b: Host):
    register(a, 0xA)
    register(b, 0xB)
    lab.slow = True
    b.write(1, ONES)
    lab.remarked.clear()
    tag = preempt_and_abort(a, 0xA, victim=0xB)
    assert lab.announced(ReservationNoted)[-1].tag == tag
    assert a.ended(tag) is None
    assert not remarks(lab)
    lab.finish_all()
    assert remarks(lab) == [(Rule.REGISTRATIONS_REMOVED, tag, Status.GOOD)]


def test_entry_of_a_command_that_ends_without_a_response_is_forgotten(lab: Lab, a: Host, b: Host):
    register(a, 0xA)
    register(b, 0xB)
    lab.slow = True
    b.write(1, ONES)
    lab.remarked.clear()
    tag = preempt_and_abort(a, 0xA, victim=0xB)
    a.abort(tag)
    lab.finish_all()
    assert a.ended(tag) is None
    a.command(READY, tag=tag)
    assert not remarks(lab)
    assert not lab.target._dispatcher._noted_of


@pytest.mark.clause("SPC4r37 5.13.11.2.7")
def test_operator_clears_and_the_registrants_are_told(lab: Lab, a: Host, b: Host):
    register(a, 0xA)
    register(b, 0xB)
    reserve(a, 0xA)
    number = operate(lab, OutAction.CLEAR)
    assert lab.operated == {number: Status.GOOD}
    noted = lab.announced(ReservationNoted)[-1]
    assert (noted.connection, noted.tag, noted.entry.explanation.rule) == (None, number, Rule.CLEARED)
    assert [a.attention(), b.attention()] == [AttentionCode.RESERVATIONS_PREEMPTED] * 2
    assert b.outcome(b.write(1, ONES)).status == Status.GOOD


def test_operator_who_preempts_an_unknown_key_is_refused_and_changes_nothing(lab: Lab, a: Host):
    register(a, 0xA)
    before = lab.units["disk0"].device.reservations
    number = operate(lab, OutAction.PREEMPT, 0xC)
    assert lab.operated == {number: CONFLICT}
    assert lab.announced(ReservationNoted)[-1].entry.explanation.rule is Rule.KEY_UNKNOWN
    assert lab.units["disk0"].device.reservations == before


@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_operator_who_aborts_waits_for_what_is_at_the_medium(lab: Lab, a: Host):
    register(a, 0xA)
    lab.slow = True
    a.write(1, ONES)
    number = operate(lab, OutAction.PREEMPT_AND_ABORT, 0xA)
    assert not lab.operated
    lab.finish_all()
    assert lab.operated == {number: Status.GOOD}


def test_order_goes_before_what_waits_in_the_task_set(lab: Lab, a: Host):
    register(a, 0xA)
    lab.slow = True
    a.read(1)
    waiting = a.write(2, ONES, attributes=2)  # ORDERED
    number = operate(lab, OutAction.PREEMPT, 0xA)
    assert lab.operated == {number: Status.GOOD}
    assert a.ended(waiting) is None


def test_order_is_out_of_reach_of_a_reset(lab: Lab, a: Host):
    register(a, 0xA, aptpl=True)
    number = operate(lab, OutAction.CLEAR)
    a.manage(TaskManagement.LOGICAL_UNIT_RESET)
    assert not lab.operated
    lab.persist()
    assert lab.operated == {number: Status.GOOD}
    assert not lab.units["disk0"].device.reservations.registrations


def test_order_for_a_unit_that_does_not_exist_is_an_error(lab: Lab):
    with pytest.raises(KeyError):
        lab.target.operate(1, Order("disk9", OutAction.CLEAR), lab.now)


def slow_path(lab: Lab, a: Host) -> None:
    """Lets every command for the medium of disk0 be held back for two seconds."""
    device = lab.units["disk0"].device
    [active] = lab.target._active.values()
    device.ports = {active.nexus.target_port: PortIdentity(1, 1)}
    device.port_groups = {1: PortGroup(AccessState.ACTIVE_NON_OPTIMIZED, delay_s=2.0)}


def test_what_is_held_back_goes_on_in_time(lab: Lab, a: Host):
    slow_path(lab, a)
    tag = a.write(0, ONES)
    lab.wait(1.0)
    assert a.ended(tag) is None
    lab.wait(1.0)
    assert a.outcome(tag).status == Status.GOOD


def test_what_is_aborted_while_it_is_held_back_is_not_kept_until_its_time_is_over(lab: Lab, a: Host):
    slow_path(lab, a)
    for _ in range(100):
        a.write(0, ONES)
        assert a.managed(a.manage(TaskManagement.ABORT_TASK_SET)) == DONE
    assert lab.target._dispatcher.deadline == NEVER
    assert len(lab.target._dispatcher._rests) == 0


# What initiators disagree about


def as_profile(lab: Lab, name: str) -> None:
    """Gives the target a profile for all initiators, sessions that are there included."""
    lab.reconfigure(disk_node(portal_group_tags=(1, 2), chosen=Chosen(PROFILES[name].choices)))


@pytest.mark.clause("RFC7143 11.6.1")
def test_an_abort_of_a_finished_task_may_be_called_complete(lab: Lab, a: Host):
    tag = a.write(0, ONES)
    assert a.outcome(tag).status == Status.GOOD
    assert a.managed(a.abort(tag)) == ManagementResponse.TASK_DOES_NOT_EXIST
    as_profile(lab, "esxi")
    assert a.managed(a.abort(tag)) == DONE
    as_profile(lab, "standard")
    assert a.managed(a.abort(tag)) == ManagementResponse.TASK_DOES_NOT_EXIST


@pytest.mark.parametrize("cdb", [Read10(lba=0, transfer_length=1), READY])
def test_data_out_that_a_command_never_takes_is_ignored_or_refused(lab: Lab, a: Host, cdb: Layout):
    for data in (ONES, b""):
        assert a.outcome(a.command(cdb, write=ONES, data=data)).status == Status.GOOD
    as_profile(lab, "exacting")
    for data in (ONES, b""):
        assert a.outcome(a.command(cdb, write=ONES, data=data)).sense == (5, 0x2400)
    assert a.outcome(a.write(0, ONES)).status == Status.GOOD
    assert a.outcome(a.read(0)).data == ONES
