"""PERSISTENT RESERVE OUT: from CDB and parameter list to a change, or to the state file. Nodes A and B at port P.

What the lists and flags may be is in the cases PV, TI and RM, what a change comes to in RG to PA and AP.
"""

from collections.abc import Mapping

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.commands.persistent_reserve_out import (
    MAX_PARAMETER_LIST_BYTES,
    NOT_STORED,
    command_name,
    overruling,
    persistent_reserve_out,
    wanted_by_persistent_reserve_out,
)
from iscsi_target.scsi.layouts.cdb import PersistentReserveOut
from iscsi_target.scsi.layouts.reservation_pages import BasicParameterList, MoveParameterList
from iscsi_target.scsi.layouts.transport_id import pack_transport_id
from iscsi_target.scsi.nexus import OPERATOR, InitiatorPort, Nexus
from iscsi_target.scsi.reservations.personality import OutAction, ReservationType
from iscsi_target.scsi.reservations.reservation_request import TasksAborted, Told
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations, Spc2Reservation
from iscsi_target.scsi.reservations.rules import Rule, rule_of
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Call, Change, Save
from iscsi_target.scsi.status import Status, StatusError
from tests.unit.scsi.command_bench import A, B, P, device

K1, K2, K3 = 0xA1, 0xB2, 0xC3
C = Nexus(InitiatorPort("iqn.2025-01.org.example:c", b"\x80\0\0\0\0\3"), P)
WERO = ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY
MADE = Cause("PERSISTENT RESERVE OUT, RESERVE", A, 1.0)
RECEIVED_S = 77.5
RESERVED = frozenset({OutAction.RELEASE, OutAction.REGISTER_AND_MOVE})  # actions that need a reservation of A


def unit(*, aptpl: bool = True, reserved: bool = True) -> Device:
    """A and B are registered; A holds WERO."""
    found = device()
    found.reservations = Reservations(
        {A: K1, B: K2}, Reservation(WERO, A, MADE) if reserved else None, generation=4, aptpl=aptpl
    )
    return found


def parameters(action: OutAction, *, aptpl: bool = True) -> bytes:
    """What A sends to change something."""
    if action is OutAction.REGISTER_AND_MOVE:
        transport_id = pack_transport_id(C.initiator_port)
        fields = MoveParameterList(
            reservation_key=K1,
            service_action_reservation_key=K3,
            aptpl=aptpl,
            relative_target_port_identifier=7,
            transportid_length=len(transport_id),
        )
        return fields.pack() + transport_id
    new = {OutAction.PREEMPT: K2, OutAction.PREEMPT_AND_ABORT: K2}.get(action, K3)
    key = 0 if action is OutAction.REPLACE_LOST_RESERVATION else K1
    return BasicParameterList(reservation_key=key, service_action_reservation_key=new, aptpl=aptpl).pack()


def send(found: Device, action: OutAction, data: bytes, nexus: Nexus = A) -> Change | Save:
    cdb = PersistentReserveOut(service_action=action, type=WERO, parameter_list_length=len(data))
    handler = overruling if nexus == OPERATOR else persistent_reserve_out
    return handler(found, cdb, Call(nexus, data, (0,), len(data), RECEIVED_S))


def order(found: Device, action: OutAction, key: int = 0) -> Change | Save:
    return send(found, action, BasicParameterList(service_action_reservation_key=key).pack(), OPERATOR)


def transition_of(reply: Change | Save):
    change = reply.finish() if isinstance(reply, Save) else reply
    assert isinstance(change, Change)
    return change.transition


@pytest.mark.clause("SPC4r37 6.16.1")
@pytest.mark.parametrize(
    "length, wanted",
    [
        (0, 0),
        (23, 0),
        (24, 24),
        (25, 25),
        (MAX_PARAMETER_LIST_BYTES, MAX_PARAMETER_LIST_BYTES),
        (MAX_PARAMETER_LIST_BYTES + 1, 0),
        (0xFFFF_FFFF, 0),
    ],
)
def test_only_lists_of_a_sensible_length_are_asked_for(length, wanted):
    cdb = PersistentReserveOut(parameter_list_length=length)
    assert wanted_by_persistent_reserve_out(device(), cdb) == wanted


@pytest.mark.parametrize("action", OutAction, ids=str)
def test_no_list_of_another_length_than_the_cdb_says_is_read(action):
    data = parameters(action)
    for length in (0, 8, len(data) - 1, len(data) + 1, 0xFFFF_FFFF):
        cdb = PersistentReserveOut(service_action=action, type=WERO, parameter_list_length=length)
        with pytest.raises(StatusError) as caught:
            persistent_reserve_out(unit(), cdb, Call(A, data, (0,)))
        assert rule_of(caught.value) is Rule.LIST_LENGTH_WRONG


def test_names_are_those_of_the_standard():
    assert command_name(OutAction.PREEMPT_AND_ABORT) == "PERSISTENT RESERVE OUT, PREEMPT AND ABORT"


NOT_STORED_ANSWERS: Mapping[OutAction, str] = {
    OutAction.REGISTER: "5/55/04",
    OutAction.RESERVE: "5/55/02",
    OutAction.RELEASE: "4/44/00",
    OutAction.CLEAR: "4/44/00",
    OutAction.PREEMPT: "4/44/00",
    OutAction.PREEMPT_AND_ABORT: "4/44/00",
    OutAction.REGISTER_AND_IGNORE_EXISTING_KEY: "5/55/04",
    OutAction.REGISTER_AND_MOVE: "5/55/04",
    OutAction.REPLACE_LOST_RESERVATION: "5/55/04",
}


@pytest.mark.clause("SPC4r37 5.13.5.1")
@pytest.mark.parametrize("action", OutAction, ids=str)
def test_change_of_what_is_stored_goes_by_way_of_the_state_file(action):
    found = unit(reserved=action in RESERVED)
    if action is OutAction.REPLACE_LOST_RESERVATION:
        found.reservations = Reservations(lost=True)
    before = found.reservations
    reply = send(found, action, parameters(action))
    assert isinstance(reply, Save)
    assert found.reservations == before, "adopted before it is stored"
    transition = transition_of(reply)
    assert reply.state.reservations == transition.state.stored
    assert reply.state.mode_pages == found.modes.saved
    failure = reply.failure()
    assert rule_of(failure) is NOT_STORED[action]
    assert str(NOT_STORED[action].answer) == NOT_STORED_ANSWERS[action]
    assert failure.status is Status.CHECK_CONDITION


@pytest.mark.parametrize("action", list(OutAction)[:-1], ids=str)
def test_change_without_aptpl_needs_no_state_file(action):
    found = unit(aptpl=False, reserved=action in RESERVED)
    assert isinstance(send(found, action, parameters(action, aptpl=False)), Change)


def test_change_that_leaves_what_is_stored_needs_no_state_file():
    found = unit()
    again = BasicParameterList(reservation_key=K1, service_action_reservation_key=K1, aptpl=True).pack()
    assert isinstance(send(found, OutAction.REGISTER, again), Change)
    assert isinstance(send(found, OutAction.RESERVE, again), Change)


def test_taking_aptpl_back_is_stored():
    reply = send(unit(), OutAction.REGISTER, parameters(OutAction.REGISTER, aptpl=False))
    assert isinstance(reply, Save)
    assert reply.state.reservations is None


def test_reservation_remembers_the_command_that_made_it():
    transition = transition_of(send(unit(reserved=False), OutAction.RESERVE, parameters(OutAction.RESERVE)))
    assert transition.state.reservation is not None
    assert transition.state.reservation.made_by == Cause("PERSISTENT RESERVE OUT, RESERVE", A, RECEIVED_S)


def test_spc_2_reservation_refuses_its_holder_too():
    found = device()
    found.spc2_reservation = Spc2Reservation(A)
    with pytest.raises(StatusError) as caught:
        send(found, OutAction.REGISTER, parameters(OutAction.REGISTER))
    assert rule_of(caught.value) is Rule.SPC2_RESERVATION_PRESENT


@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("key, rule", [(K3, Rule.KEY_MISMATCH), (K1, Rule.SPEC_I_PT_NOT_ALLOWED)])
def test_key_is_looked_at_before_flags(key, rule):
    data = BasicParameterList(reservation_key=key, spec_i_pt=True).pack()
    with pytest.raises(StatusError) as caught:
        send(unit(), OutAction.CLEAR, data)
    assert rule_of(caught.value) is rule


# The operator


def told(transition) -> dict[Nexus, AttentionCode]:
    return {each.nexus: each.code for each in transition.consequences if isinstance(each, Told)}


def test_operator_clears_without_a_key_and_everybody_is_told():
    transition = transition_of(order(unit(), OutAction.CLEAR))
    assert transition.state == Reservations(generation=5, aptpl=True)
    assert transition.rule is Rule.CLEARED
    assert told(transition) == dict.fromkeys((A, B), AttentionCode.RESERVATIONS_PREEMPTED)
    assert transition.removed == (A, B)


def test_operator_ends_an_spc_2_reservation_by_clearing():
    found = device()
    found.spc2_reservation = Spc2Reservation(B)
    order(found, OutAction.CLEAR)
    assert found.spc2_reservation == Spc2Reservation()


def test_operator_ends_an_spc_2_reservation_only_when_the_change_is_stored():
    found = unit()  # APTPL is on
    found.spc2_reservation = Spc2Reservation(B)
    reply = order(found, OutAction.CLEAR)
    assert isinstance(reply, Save)
    assert found.spc2_reservation == Spc2Reservation(B)
    reply.finish()
    assert found.spc2_reservation == Spc2Reservation()


def test_operator_ends_the_loss_of_reservations_by_clearing():
    found = device()
    found.reservations = Reservations(lost=True)
    reply = order(found, OutAction.CLEAR)
    assert isinstance(reply, Save)
    assert reply.state.reservations is None
    assert not transition_of(reply).state.lost


def test_operator_removes_a_registrant_and_leaves_the_reservation():
    transition = transition_of(order(unit(), OutAction.PREEMPT, K2))
    assert transition.state.registrations == {A: K1}
    assert transition.state.holds(A)
    assert transition.state.generation == 5
    assert told(transition) == {B: AttentionCode.REGISTRATIONS_PREEMPTED}
    assert not [each for each in transition.consequences if isinstance(each, TasksAborted)]


def test_operator_releases_what_the_removed_nexus_held():
    transition = transition_of(order(unit(), OutAction.PREEMPT_AND_ABORT, K1))
    assert transition.state.registrations == {B: K2}
    assert transition.state.reservation is None
    assert told(transition) == {
        A: AttentionCode.REGISTRATIONS_PREEMPTED,
        B: AttentionCode.RESERVATIONS_RELEASED,
    }
    assert [each.nexus for each in transition.consequences if isinstance(each, TasksAborted)] == [A]


@pytest.mark.parametrize("action", [OutAction.PREEMPT, OutAction.PREEMPT_AND_ABORT], ids=str)
@pytest.mark.parametrize("key", [0, 0x999])
def test_operator_meets_a_conflict_when_nobody_has_the_key(action, key):
    with pytest.raises(StatusError) as caught:
        order(unit(), action, key)
    assert caught.value.status is Status.RESERVATION_CONFLICT
    assert rule_of(caught.value) is Rule.KEY_UNKNOWN


def test_nobody_else_can_give_the_orders_of_the_operator():
    cdb = PersistentReserveOut(service_action=OutAction.CLEAR, parameter_list_length=24)
    with pytest.raises(AssertionError):
        overruling(unit(), cdb, Call(A, bytes(24), (0,)))
