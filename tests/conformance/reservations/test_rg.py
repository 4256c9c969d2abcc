"""The cases RG-01 to RG-31: REGISTER and REGISTER AND IGNORE EXISTING KEY. The drawing of the nexuses is in `world`."""

import pytest

from iscsi_target.scsi.layouts.transport_id import pack_transport_id
from iscsi_target.scsi.nexus import InitiatorPort, Nexus
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.reservations.transitions import MAX_REGISTRATIONS
from tests.conformance.reservations.world import (
    ALL_REGISTRANTS,
    BLOCK,
    EA,
    EAAR,
    EARO,
    IN_LIST,
    K1,
    K2,
    K3,
    K9,
    N1,
    N1Q,
    N2,
    N3,
    NO_RESOURCES,
    RC,
    REGISTRANTS_ONLY,
    REGISTRATIONS_PREEMPTED,
    RELEASED,
    TYPES,
    WE,
    WEAR,
    WERO,
    B,
    G,
    Holding,
    P,
    World,
    attention,
    basic,
    world_with,
)

POWER_ON = 0x2900


@pytest.mark.case("RG-01")
@pytest.mark.clause("SPC4r37 5.13.7")
def test_rg_01_a_key_registers_an_unregistered_nexus():
    world = World()
    assert world.register(N1, K1) == G
    assert world.registered == {N1: K1}
    assert world.keys() == [K1]
    assert world.generation == 1
    assert world.holding() is None
    assert world.pending_of_all() == {}


@pytest.mark.case("RG-02")
@pytest.mark.clause("SPC4r37 6.15.2")
def test_rg_02_register_without_a_key_registers_nobody_and_counts():
    world = world_with({N2: K2}, WERO)
    reservation = world.state.reservation
    assert world.register(N1, 0) == G
    assert world.registered == {N2: K2}
    assert world.state.reservation == reservation
    assert world.generation == 2
    assert world.pending_of_all() == {}


@pytest.mark.case("RG-03")
@pytest.mark.clause("SPC4r37 5.13.7")
@pytest.mark.parametrize("new", [K1, 0])
def test_rg_03_an_unregistered_nexus_has_no_reservation_key(new):
    world = world_with({N2: K9})
    before = world.snapshot()
    assert world.register(N1, new, old=K9) == RC
    assert world.snapshot() == before


@pytest.mark.case("RG-04")
@pytest.mark.clause("SPC4r37 5.13.7")
@pytest.mark.parametrize("old", [0, K1, K9])
def test_rg_04_register_and_ignore_registers_whatever_the_reservation_key_is(old):
    world = World()
    assert world.ignore(N1, K1, old=old) == G
    assert world.registered == {N1: K1}
    assert world.generation == 1
    assert world.pending_of_all() == {}


@pytest.mark.case("RG-05")
@pytest.mark.clause("SPC4r37 6.15.2")
@pytest.mark.parametrize("old", [0, K2])
def test_rg_05_register_and_ignore_without_a_key_registers_nobody_and_counts(old):
    world = world_with({N2: K2}, WERO)
    reservation = world.state.reservation
    assert world.ignore(N1, 0, old=old) == G
    assert world.registered == {N2: K2}
    assert world.state.reservation == reservation
    assert world.generation == 2
    assert world.pending_of_all() == {}


@pytest.mark.case("RG-06")
@pytest.mark.clause("SPC4r37 5.13.7")
@pytest.mark.parametrize("kind", TYPES)
def test_rg_06_another_key_of_a_registrant_leaves_the_reservation_alone(kind):
    world = world_with({N2: K2, N1: K1}, kind)
    before = world.holding()
    reservation = world.state.reservation
    assert world.register(N1, K3, old=K1) == G
    assert world.registered == {N2: K2, N1: K3}
    assert world.keys() == [K2, K3]
    assert world.holding() == before == Holding(0 if kind in ALL_REGISTRANTS else K2, kind)
    assert world.state.reservation == reservation
    assert world.generation == 3
    assert world.pending_of_all() == {}


@pytest.mark.case("RG-07")
@pytest.mark.clause("SPC4r37 5.13.7")
def test_rg_07_another_key_of_the_holder_is_the_key_of_the_reservation():
    world = world_with({N1: K1}, WE)
    assert world.holding() == Holding(K1, WE)
    assert world.register(N1, K2, old=K1) == G
    assert world.holding() == Holding(K2, WE)
    assert world.holder == N1
    assert world.generation == 2
    assert world.pending_of_all() == {}
    assert world.release(N1, K1, WE) == RC
    assert world.release(N1, K2, WE) == G


@pytest.mark.case("RG-08")
@pytest.mark.clause("SPC4r37 5.13.7")
@pytest.mark.parametrize("new", [K3, K1, 0])
def test_rg_08_a_registrant_that_names_another_key_conflicts(new):
    world = world_with({N1: K1, N2: K2}, WERO)
    before = world.snapshot()
    assert world.register(N1, new, old=K2) == RC
    assert world.snapshot() == before


@pytest.mark.case("RG-09")
@pytest.mark.clause("SPC4r37 5.13.7")
@pytest.mark.parametrize("new", [K1, 0])
def test_rg_09_a_registrant_that_forgot_its_registration_conflicts(new):
    world = world_with({N1: K1})
    before = world.snapshot()
    assert world.register(N1, new) == RC
    assert world.snapshot() == before


@pytest.mark.case("RG-10")
@pytest.mark.clause("SPC4r37 5.13.7")
def test_rg_10_the_same_key_again_changes_nothing_and_counts():
    world = world_with({N1: K1, N2: K2}, WERO)
    before = world.state
    assert world.register(N1, K1, old=K1) == G
    assert world.state == before._replace(generation=before.generation + 1)
    assert world.pending_of_all() == {}


@pytest.mark.case("RG-11")
@pytest.mark.clause("SPC4r37 5.13.7")
def test_rg_11_register_and_ignore_changes_the_key_whatever_the_reservation_key_is():
    world = world_with({N1: K1, N2: K2}, WE)
    assert world.ignore(N1, K3, old=K9) == G
    assert world.registered == {N1: K3, N2: K2}
    assert world.holding() == Holding(K3, WE)
    assert world.holder == N1
    assert world.generation == 3
    assert world.pending_of_all() == {}


@pytest.mark.case("RG-12")
@pytest.mark.clause("SPC4r37 5.13.7")
def test_rg_12_two_nexuses_may_be_registered_with_one_key():
    world = world_with({N1: K1}, EA)
    assert world.register(N2, K1) == G
    assert world.registered == {N1: K1, N2: K1}
    assert world.keys(N1) == [K1, K1]
    assert world.holder == N1
    assert world.generation == 2
    assert world.register(N2, 0, old=K1) == G
    assert world.registered == {N1: K1}
    assert world.holder == N1
    assert world.pending_of_all() == {}


@pytest.mark.case("RG-13")
@pytest.mark.clause("SPC4r37 5.13.11.2.3")
@pytest.mark.parametrize("kind", TYPES)
def test_rg_13_a_registrant_that_unregisters_leaves_the_reservation_of_another_alone(kind):
    world = world_with({N2: K2, N1: K1, N3: K3}, kind)
    before = world.state
    assert world.register(N1, 0, old=K1) == G
    assert world.registered == {N2: K2, N3: K3}
    assert world.state.reservation == before.reservation
    assert world.generation == before.generation + 1
    assert world.pending_of_all() == {}


def unregister_the_holder(kind, told):
    world = world_with({N1: K1, N2: K2}, kind)
    assert world.register(N1, 0, old=K1) == G
    assert world.registered == {N2: K2}
    assert world.pending_of_all() == told
    assert world.holding() is None
    assert world.generation == 3
    if told:
        assert world.write(N2) == attention(RELEASED)
    assert world.write(N2) == world.write(N3) == G


@pytest.mark.case("RG-14")
@pytest.mark.clause("SPC4r37 5.13.11.2.3")
def test_rg_14_a_write_exclusive_holder_that_unregisters_releases_and_nobody_is_told():
    unregister_the_holder(WE, {})


@pytest.mark.case("RG-15")
@pytest.mark.clause("SPC4r37 5.13.11.2.3")
def test_rg_15_an_exclusive_access_holder_that_unregisters_releases_and_nobody_is_told():
    unregister_the_holder(EA, {})


@pytest.mark.case("RG-16")
@pytest.mark.clause("SPC4r37 5.13.11.2.3")
def test_rg_16_a_write_exclusive_registrants_only_holder_that_unregisters_tells_the_registrants():
    unregister_the_holder(WERO, {N2: [RELEASED]})


@pytest.mark.case("RG-17")
@pytest.mark.clause("SPC4r37 5.13.11.2.3")
def test_rg_17_an_exclusive_access_registrants_only_holder_that_unregisters_tells_the_registrants():
    unregister_the_holder(EARO, {N2: [RELEASED]})


@pytest.mark.clause("SPC4r37 5.13.11.2.3")
@pytest.mark.parametrize(
    "kind",
    [pytest.param(WEAR, marks=pytest.mark.case("RG-18")), pytest.param(EAAR, marks=pytest.mark.case("RG-19"))],
)
def test_rg_18_rg_19_an_all_registrants_reservation_stays_while_one_is_registered(kind):
    world = world_with({N1: K1, N2: K2}, kind)
    before = world.state
    assert world.register(N1, 0, old=K1) == G
    assert world.registered == {N2: K2}
    assert world.state.reservation == before.reservation
    assert world.generation == before.generation + 1
    assert world.pending_of_all() == {}
    assert [each.holder for each in world.full_status(N2)] == [True]
    assert (world.write(N1), world.write(N2)) == (RC, G)


@pytest.mark.case("RG-20")
@pytest.mark.clause("SPC4r37 5.13.11.2.3")
@pytest.mark.parametrize("kind", ALL_REGISTRANTS)
def test_rg_20_an_all_registrants_reservation_goes_with_the_last_registration(kind):
    world = world_with({N1: K1}, kind)
    assert world.register(N1, 0, old=K1) == G
    assert world.registered == {}
    assert world.holding() is None
    assert world.generation == 2
    assert world.pending_of_all() == {}
    assert world.write(N2) == G


@pytest.mark.case("RG-21")
@pytest.mark.clause("SPC4r37 5.13.7")
@pytest.mark.parametrize("kind", TYPES)
def test_rg_21_register_and_ignore_unregisters_a_holder_as_register_does(kind):
    world = world_with({N1: K1, N2: K2}, kind)
    assert world.ignore(N1, 0, old=K9) == G
    assert world.registered == {N2: K2}
    assert world.generation == 3
    assert world.pending_of_all() == ({N2: [RELEASED]} if kind in REGISTRANTS_ONLY else {})
    assert world.holding() == (Holding(0, kind) if kind in ALL_REGISTRANTS else None)
    if kind in ALL_REGISTRANTS:
        assert world.ignore(N2, 0, old=K9) == G
        assert world.registered == {}
        assert world.holding() is None
        assert world.generation == 4
        assert world.pending_of_all() == {}


@pytest.mark.case("RG-22")
@pytest.mark.clause("SPC4r37 5.13.7")
def test_rg_22_a_full_table_takes_no_other_registration():
    world = world_with({N1: K1}, WERO)
    others = {
        Nexus(InitiatorPort(f"iqn.2026-01.org.example:{n}", bytes(6)), P): K9 for n in range(MAX_REGISTRATIONS - 1)
    }
    full = world.state._replace(registrations={**world.registered, **others})
    world.unit.device.reservations = full
    assert world.register(N2, K2) == NO_RESOURCES
    assert world.ignore(N2, K2) == NO_RESOURCES
    assert world.state == full
    assert world.pending_of_all() == {}
    assert world.register(N1, K3, old=K1) == G  # needs no room
    assert world.registered == {**full.registrations, N1: K3}
    assert len(world.keys()) == MAX_REGISTRATIONS


@pytest.mark.case("RG-23")
@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("kind", TYPES)
def test_rg_23_a_reservation_keeps_nobody_from_registering(kind):
    world = world_with({N1: K1}, kind)
    reservation = world.state.reservation
    assert world.register(N2, K2) == G
    assert world.ignore(N3, K3) == G
    assert world.registered == {N1: K1, N2: K2, N3: K3}
    assert world.generation == 3
    assert world.state.reservation == reservation
    assert world.pending_of_all() == {}


@pytest.mark.case("RG-24")
@pytest.mark.clause("SPC4r37 5.13.1")
def test_rg_24_registering_opens_a_registrants_only_reservation_and_tells_nobody():
    world = world_with({N1: K1}, EARO)
    assert world.write(N2, fill=7) == RC
    assert world.block() == bytes(BLOCK)
    assert world.register(N2, K2) == G
    assert world.pending_of_all() == {}
    assert world.write(N2, fill=7) == G
    assert world.block() == bytes([7]) * BLOCK
    assert world.generation == 2
    assert world.holder == N1


@pytest.mark.case("RG-25")
@pytest.mark.clause("SPC4r37 5.13.10")
def test_rg_25_whoever_registers_holds_an_all_registrants_reservation_and_may_release_it():
    world = world_with({N1: K1}, WEAR)
    assert world.register(N2, K2) == G
    assert world.release(N2, K2, WEAR) == G
    assert world.pending_of_all() == {N1: [RELEASED]}
    assert world.holding() is None
    assert world.registered == {N1: K1, N2: K2}
    assert world.generation == 2


@pytest.mark.case("RG-26")
@pytest.mark.clause("SPC4r37 5.13.7")
@pytest.mark.parametrize("new", [K1, K2, 0])
def test_rg_26_a_registered_nexus_cannot_register_others(new):
    world = world_with({N1: K1}, WERO)
    before = world.snapshot()
    assert world.register_listed(N1, new, pack_transport_id(B), old=K1) == IN_LIST
    assert world.snapshot() == before


@pytest.mark.case("RG-27")
@pytest.mark.clause("SPC4r37 6.16.3")
def test_rg_27_a_registrant_of_one_port_may_extend_its_registration_to_all():
    world = world_with({N1: K1}, WE)
    assert world.register(N1, K2, old=K1, all_tg_pt=True) == G
    assert world.registered == {N1: K2, N1Q: K2}
    assert world.holder == N1
    assert world.generation == 2
    assert world.pending_of_all() == {}


@pytest.mark.case("RG-27")
@pytest.mark.clause("SPC4r37 6.16.3")
def test_rg_27_a_registrant_of_all_ports_may_change_its_key_through_one():
    world = World()
    world.register(N1, K1, all_tg_pt=True)
    assert world.register(N1, K2, old=K1) == G
    assert world.registered == {N1: K2, N1Q: K1}
    assert world.generation == 2
    assert world.pending_of_all() == {}


@pytest.mark.case("RG-28")
@pytest.mark.clause("SPC4r37 6.16.3")
def test_rg_28_unregistering_through_all_ports_leaves_no_registration_of_the_initiator_port():
    world = world_with({N2: K2})
    world.register(N1, K1, all_tg_pt=True)
    assert world.reserve(N1Q, K1, WERO) == G
    assert world.ignore(N1, 0, old=K9, all_tg_pt=True) == G
    assert world.registered == {N2: K2}
    assert world.pending_of_all() == {N2: [RELEASED]}
    assert world.holding() is None
    assert world.generation == 3


@pytest.mark.case("RG-29")
@pytest.mark.clause("SPC4r37 6.16.3")
def test_rg_29_all_ports_register_nexuses_that_have_not_logged_in():
    world = World(nexuses=(N1, N2, N3))
    assert world.register(N1, K1, all_tg_pt=True) == G
    assert world.registered == {N1: K1, N1Q: K1}
    assert world.keys() == [K1, K1]
    assert world.generation == 1
    assert world.reserve(N1, K1, EARO) == G
    world.attach(N1Q)
    assert world.write(N1Q) == G
    assert world.write(N2) == RC
    assert world.register(N1Q, 0, old=K1) == G
    assert world.registered == {N1: K1}
    assert world.pending_of_all() == {}


@pytest.mark.case("RG-30")
@pytest.mark.clause("SPC4r37 5.13.5.1")
def test_rg_30_a_stored_registration_is_there_when_the_initiator_port_logs_in_again():
    before = World()
    before.register(N1, K1, aptpl=True)
    before.reserve(N1, K1, EA)
    world = before.power_cycle(nexuses=(N2,))
    assert world.registered == {N1: K1}
    world.attach(N1, quiet=False)
    assert world.pending_of_all() == {N1: [POWER_ON]}
    assert world.write(N1) == attention(POWER_ON)
    assert world.write(N1) == G
    assert world.write(N2) == RC
    assert world.holding(N1) == Holding(K1, EA)
    assert world.generation == 0


@pytest.mark.case("RG-31")
@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("action", [OutAction.PREEMPT, OutAction.PREEMPT_AND_ABORT])
def test_rg_31_register_during_a_preempt_comes_after_it(action):
    world = world_with({N1: K1, N2: K2}, WERO, by=N2, aptpl=True)
    before = world.state
    world.hold_saves = True
    preempt = world.start_out(N1, action, basic(K1, K2), type=WERO)
    register = world.start_out(N3, OutAction.REGISTER, basic(0, K2, aptpl=True))
    assert not {preempt, register} & world.ended.keys()
    assert world.state == before
    world.finish_save()
    assert world.ended[preempt] == G
    assert register not in world.ended
    assert world.registered == {N1: K1}
    world.finish_save()
    assert world.ended[register] == G
    assert world.registered == {N1: K1, N3: K2}  # the key was not there to be preempted
    assert world.holder == N1
    assert world.generation == before.generation + 2
    assert world.pending_of_all() == {N2: [REGISTRATIONS_PREEMPTED]}


@pytest.mark.case("RG-31")
@pytest.mark.clause("SPC4r37 5.13.1")
def test_rg_31_preempt_during_a_register_comes_after_it():
    world = World()
    world.register(N1, K1, aptpl=True)
    world.hold_saves = True
    register = world.start_out(N2, OutAction.REGISTER, basic(0, K2, aptpl=True))
    preempt = world.start_out(N1, OutAction.PREEMPT, basic(K1, K2))
    assert not {preempt, register} & world.ended.keys()
    world.finish_save()
    assert world.ended[register] == G
    assert preempt not in world.ended
    assert world.registered == {N1: K1, N2: K2}
    world.finish_save()
    assert world.ended[preempt] == G
    assert world.registered == {N1: K1}
    assert world.generation == 3


@pytest.mark.case("RG-31")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_rg_31_register_while_preempted_tasks_are_aborted_meets_the_state_after_the_preempt():
    world = world_with({N1: K1, N2: K2}, WERO)
    world.slow = True
    write = world.start_write(N2)
    preempt = world.preempt_and_abort(N1, K1, K2, WERO)
    assert preempt not in world.ended
    assert world.register(N3, K3) == G
    assert world.registered == {N1: K1, N3: K3}
    assert world.generation == 4
    world.finish_all()
    assert (world.ended[preempt], world.ended[write]) == (G, None)
    assert world.registered == {N1: K1, N3: K3}
    assert world.generation == 4
