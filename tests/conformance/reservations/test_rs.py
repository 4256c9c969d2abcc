"""The cases RS-01 to RS-16: RESERVE. The drawing of the nexuses is in `world`."""

import pytest

from iscsi_target.scsi.operations import Fault
from iscsi_target.scsi.reservations.personality import OutAction
from tests.conformance.reservations.world import (
    ALL_REGISTRANTS,
    BLOCK,
    EA,
    EAAR,
    EARO,
    IN_CDB,
    K1,
    K2,
    K3,
    K9,
    N1,
    N1Q,
    N2,
    N3,
    RC,
    TYPES,
    WE,
    WEAR,
    WERO,
    G,
    Holding,
    World,
    basic,
    check,
    world_of_two,
)

NOT_STORED = check(5, 0x5502)  # INSUFFICIENT RESERVATION RESOURCES


@pytest.mark.clause("SPC4r37 5.13.9")
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(WE, marks=pytest.mark.case("RS-01")),
        pytest.param(EA, marks=pytest.mark.case("RS-02")),
        pytest.param(WERO, marks=pytest.mark.case("RS-03")),
        pytest.param(EARO, marks=pytest.mark.case("RS-04")),
        pytest.param(WEAR, marks=pytest.mark.case("RS-05")),
        pytest.param(EAAR, marks=pytest.mark.case("RS-06")),
    ],
)
def test_rs_01_to_rs_06_a_registrant_reserves_with_each_type(kind):
    world = world_of_two()
    assert world.reserve(N1, K1, kind) == G
    assert world.holding() == Holding(0 if kind in ALL_REGISTRANTS else K1, kind)
    assert world.holder == (None if kind in ALL_REGISTRANTS else N1)
    status = world.full_status()
    assert [each.holder for each in status] == [True, kind in ALL_REGISTRANTS]
    assert status[0].scope_and_type == (0, kind)
    assert world.registered == {N1: K1, N2: K2}
    assert world.generation == 2
    assert world.pending_of_all() == {}


@pytest.mark.case("RS-07")
@pytest.mark.clause("SPC4r37 5.13.9")
@pytest.mark.parametrize("kind", TYPES)
def test_rs_07_a_holder_that_reserves_again_changes_nothing(kind):
    world = world_of_two(kind)
    before = world.snapshot()
    assert world.reserve(N1, K1, kind) == G
    assert world.snapshot() == before


@pytest.mark.case("RS-08")
@pytest.mark.clause("SPC4r37 5.13.9")
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("other", TYPES)
def test_rs_08_a_holder_cannot_change_the_type_of_its_reservation(kind, other):
    world = world_of_two(kind)
    before = world.snapshot()
    assert world.reserve(N1, K1, other) == (G if other == kind else RC)
    assert world.snapshot() == before


@pytest.mark.case("RS-09")
@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("kind", [WE, EA, WERO, EARO])
@pytest.mark.parametrize("other", TYPES)
def test_rs_09_a_registrant_cannot_reserve_what_another_holds(kind, other):
    world = world_of_two(kind)
    before = world.snapshot()
    assert world.reserve(N2, K2, other) == RC
    assert world.snapshot() == before


@pytest.mark.case("RS-10")
@pytest.mark.clause("SPC4r37 5.13.10")
@pytest.mark.parametrize("kind", ALL_REGISTRANTS)
def test_rs_10_every_registrant_may_reserve_again_what_all_hold(kind):
    world = world_of_two(kind)
    before = world.snapshot()
    assert world.reserve(N2, K2, kind) == G
    assert world.snapshot() == before


@pytest.mark.case("RS-11")
@pytest.mark.clause("SPC4r37 5.13.9")
@pytest.mark.parametrize("kind, other", [(WEAR, EAAR), (EAAR, WEAR), (WEAR, WE)])
def test_rs_11_no_registrant_can_change_the_type_of_what_all_hold(kind, other):
    world = world_of_two(kind)
    before = world.snapshot()
    assert world.reserve(N2, K2, other) == RC
    assert world.snapshot() == before


@pytest.mark.case("RS-12")
@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("first, second", [((N1, K1), (N2, K2)), ((N2, K2), (N1, K1))])
def test_rs_12_of_two_reserves_at_once_one_has_the_reservation(first, second):
    world = world_of_two(aptpl=True)
    world.hold_saves = True
    won = world.start_out(first[0], OutAction.RESERVE, basic(first[1]), type=WERO)
    lost = world.start_out(second[0], OutAction.RESERVE, basic(second[1]), type=WERO)
    assert not {won, lost} & world.ended.keys()
    assert world.holder is None
    world.finish_save()
    assert (world.ended[won], world.ended[lost]) == (G, RC)
    assert world.holder == first[0]
    assert not world.at_state_file
    assert world.generation == 2
    assert world.pending_of_all() == {}


@pytest.mark.case("RS-12")
@pytest.mark.clause("SPC4r37 5.13.5.1")
def test_rs_12_the_second_of_two_reserves_has_the_reservation_when_the_first_is_not_stored():
    world = world_of_two(aptpl=True)
    world.hold_saves = True
    first = world.start_out(N1, OutAction.RESERVE, basic(K1), type=WERO)
    second = world.start_out(N2, OutAction.RESERVE, basic(K2), type=EARO)
    world.disk_fault = Fault.NO_SPACE
    world.finish_save()
    assert world.ended[first] == NOT_STORED
    assert second not in world.ended
    assert world.state.reservation is None
    world.disk_fault = None
    world.finish_save()
    assert world.ended[second] == G
    assert (world.holder, world.holding()) == (N2, Holding(K2, EARO))
    assert world.generation == 2
    assert world.pending_of_all() == {}


@pytest.mark.case("RS-13")
@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("other", [K1, K2, K9])
def test_rs_13_the_service_action_reservation_key_means_nothing_to_reserve(other):
    world = world_of_two()
    assert world.out(N1, OutAction.RESERVE, basic(K1, other), type=EA) == G
    assert world.holding() == Holding(K1, EA)
    assert world.registered == {N1: K1, N2: K2}
    assert world.generation == 2
    assert world.pending_of_all() == {}


@pytest.mark.case("RS-14")
@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("nexus", [N2, N3])
def test_rs_14_a_write_that_is_being_processed_outlives_a_new_reservation(nexus):
    world = world_of_two()
    world.slow = True
    write = world.start_write(nexus, fill=7)
    assert world.reserve(N1, K1, EA) == G
    assert world.write(nexus, fill=8) == RC
    assert write not in world.ended
    world.finish_all()
    assert world.ended[write] == G
    assert world.block() == bytes([7]) * BLOCK
    assert world.holding() == Holding(K1, EA)
    assert world.generation == 2
    assert world.pending_of_all() == {}


@pytest.mark.case("RS-15")
@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("key", [K2, K3, 0])
def test_rs_15_reserve_with_another_key_than_its_own_conflicts(key):
    world = world_of_two()
    before = world.snapshot()
    assert world.reserve(N1, key, WE) == RC
    assert world.snapshot() == before


@pytest.mark.case("RS-16")
@pytest.mark.clause("SPC4r37 5.13.9")
@pytest.mark.parametrize("kind", TYPES)
def test_rs_16_the_same_initiator_port_through_another_target_port_is_another_nexus(kind):
    world = World()
    assert world.register(N1, K1, all_tg_pt=True) == G
    assert world.reserve(N1, K1, kind) == G
    before = world.state
    assert world.reserve(N1Q, K1, kind) == (G if kind in ALL_REGISTRANTS else RC)
    assert world.state == before
    assert world.holder == (None if kind in ALL_REGISTRANTS else N1)
    assert world.generation == 1
    assert world.pending_of_all() == {}


@pytest.mark.clause("SPC4r37 6.15.3.4")
@pytest.mark.parametrize("fields", [{"type": 0}, {"type": 2}, {"type": 4}, {"type": 15}, {"type": WE, "scope": 2}])
def test_a_type_or_scope_that_there_is_not_is_refused_and_reserves_nothing(fields):
    world = world_of_two()
    before = world.snapshot()
    assert world.out(N1, OutAction.RESERVE, basic(K1), **fields) == IN_CDB
    assert world.snapshot() == before
