"""The cases RL-01 to RL-13: RELEASE. The drawing of the nexuses is in `world`."""

import pytest

from iscsi_target.scsi.layouts.cdb import ModeSelect6
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.layouts.pages import ModeHeader6
from iscsi_target.scsi.reservations.personality import OutAction
from tests.conformance.reservations.world import (
    ALL_REGISTRANTS,
    EA,
    EAAR,
    EARO,
    INVALID_RELEASE,
    K1,
    K2,
    K3,
    K9,
    N1,
    N2,
    N3,
    RC,
    RELEASED,
    TYPES,
    WE,
    WEAR,
    WERO,
    G,
    Holding,
    World,
    attention,
    basic,
    world_of_two,
)

POWER_ON = 0x2900
MODE_PARAMETERS_CHANGED = 0x2A01


def released_by_n1(kind, told):
    world = world_of_two(kind)
    assert world.release(N1, K1, kind) == G
    assert world.pending_of_all() == told
    assert world.holding() is None
    assert world.registered == {N1: K1, N2: K2}
    assert world.generation == 2
    for codes in told.values():
        assert [world.write(N2) for _ in codes] == [attention(code) for code in codes]
    assert [world.write(nexus) for nexus in (N1, N2, N3)] == [G, G, G]


@pytest.mark.case("RL-01")
@pytest.mark.clause("SPC4r37 5.13.11.2.2")
def test_rl_01_the_end_of_a_write_exclusive_reservation_is_told_to_nobody():
    released_by_n1(WE, {})


@pytest.mark.case("RL-02")
@pytest.mark.clause("SPC4r37 5.13.11.2.2")
def test_rl_02_the_end_of_an_exclusive_access_reservation_is_told_to_nobody():
    released_by_n1(EA, {})


@pytest.mark.case("RL-03")
@pytest.mark.clause("SPC4r37 5.13.11.2.2")
def test_rl_03_the_end_of_a_write_exclusive_registrants_only_reservation_is_told_to_the_other_registrants():
    released_by_n1(WERO, {N2: [RELEASED]})


@pytest.mark.case("RL-04")
@pytest.mark.clause("SPC4r37 5.13.11.2.2")
def test_rl_04_the_end_of_an_exclusive_access_registrants_only_reservation_is_told_to_the_other_registrants():
    released_by_n1(EARO, {N2: [RELEASED]})


@pytest.mark.case("RL-05")
@pytest.mark.clause("SPC4r37 5.13.11.2.2")
@pytest.mark.parametrize("kind", ALL_REGISTRANTS)
def test_rl_05_any_registrant_releases_what_all_registrants_hold(kind):
    world = world_of_two(kind)
    assert world.register(N3, K3) == G
    assert world.release(N2, K2, kind) == G
    assert world.pending_of_all() == {N1: [RELEASED], N3: [RELEASED]}
    assert world.state.reservation is None
    assert world.registered == {N1: K1, N2: K2, N3: K3}
    assert world.generation == 3


@pytest.mark.case("RL-06")
@pytest.mark.clause("SPC4r37 5.13.11.2.2")
@pytest.mark.parametrize("kind", [EAAR, WEAR])
def test_rl_06_who_made_an_all_registrants_reservation_releases_it_for_all(kind):
    released_by_n1(kind, {N2: [RELEASED]})


@pytest.mark.case("RL-07")
@pytest.mark.clause("SPC4r37 5.13.11.2.2")
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("other", [*TYPES, 0, 2, 15])
def test_rl_07_a_holder_cannot_release_with_another_type(kind, other):
    world = world_of_two(kind)
    before = world.snapshot()
    if other == kind:
        assert world.release(N1, K1, kind, scope=1) == INVALID_RELEASE
    else:
        assert world.release(N1, K1, other) == INVALID_RELEASE
    assert world.snapshot() == before


@pytest.mark.case("RL-08")
@pytest.mark.clause("SPC4r37 5.13.11.2.2")
@pytest.mark.parametrize("kind", [WE, EA, WERO, EARO])
@pytest.mark.parametrize("other", [*TYPES, 15])
def test_rl_08_a_registrant_that_holds_nothing_releases_nothing_and_is_told_good(kind, other):
    world = world_of_two(kind)
    before = world.snapshot()
    assert world.release(N2, K2, other) == G
    assert world.snapshot() == before


@pytest.mark.case("RL-09")
@pytest.mark.clause("SPC4r37 5.13.11.2.2")
@pytest.mark.parametrize("kind", TYPES)
def test_rl_09_release_without_a_reservation_is_good(kind):
    world = world_of_two()
    before = world.snapshot()
    assert world.release(N1, K1, kind) == G
    assert world.snapshot() == before


@pytest.mark.case("RL-10")
@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("kind", [None, *TYPES])
@pytest.mark.parametrize("nexus, key", [(N1, K2), (N1, 0), (N2, K1), (N2, K9), (N2, 0)])
def test_rl_10_release_with_another_key_than_its_own_conflicts(kind, nexus, key):
    world = world_of_two(kind)
    before = world.snapshot()
    assert world.release(nexus, key, kind or WE) == RC
    assert world.snapshot() == before


@pytest.mark.case("RL-11")
@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("kind", [None, *TYPES])
@pytest.mark.parametrize("key", [0, K1])
def test_rl_11_release_by_an_unregistered_nexus_conflicts(kind, key):
    world = world_of_two(kind)
    before = world.snapshot()
    assert world.release(N3, key, kind or WE) == RC
    assert world.snapshot() == before


def world_with_nuar(kind):
    world = World()
    page = ModeHeader6().pack() + ControlPage(nuar=True).pack()
    assert world.send(N1, ModeSelect6(pf=True, parameter_list_length=len(page)), page) == G
    for nexus in world.pending_of_all():
        assert world.write(nexus) == attention(MODE_PARAMETERS_CHANGED)
    world.register(N1, K1)
    world.register(N2, K2)
    assert world.reserve(N1, K1, kind) == G
    return world


@pytest.mark.case("RL-12")
@pytest.mark.clause("SPC4r37 7.5.8")
@pytest.mark.parametrize("kind", TYPES)
def test_rl_12_with_nuar_nobody_is_told_of_a_release(kind):
    world = world_with_nuar(kind)
    assert world.release(N1, K1, kind) == G
    assert world.pending_of_all() == {}
    assert world.holding() is None
    assert world.registered == {N1: K1, N2: K2}
    assert world.generation == 2


@pytest.mark.case("RL-12")
@pytest.mark.clause("SPC4r37 5.13.11.2.3")
def test_rl_12_with_nuar_the_registrants_are_told_of_a_holder_that_unregisters():
    world = world_with_nuar(WERO)
    assert world.register(N1, 0, old=K1) == G
    assert world.pending_of_all() == {N2: [RELEASED]}


@pytest.mark.case("RL-13")
@pytest.mark.clause("SPC4r37 5.13.5.1")
@pytest.mark.parametrize("kind", TYPES)
def test_rl_13_a_released_reservation_does_not_come_back_after_a_power_loss(kind):
    world = world_of_two(kind, aptpl=True)
    before = world.power_cycle()
    assert before.holding() == Holding(0 if kind in ALL_REGISTRANTS else K1, kind)
    assert world.release(N1, K1, kind) == G
    assert world.generation == 2
    after = world.power_cycle(nexuses=())
    assert after.registered == {N1: K1, N2: K2}
    assert after.state.reservation is None
    assert after.state.aptpl
    assert after.generation == 0
    for nexus in (N1, N2, N3):
        after.attach(nexus, quiet=False)
        assert after.pending(nexus) == [POWER_ON]


@pytest.mark.clause("SPC4r37 6.16.3")
def test_the_service_action_reservation_key_means_nothing_to_release():
    world = world_of_two(WE)
    assert world.out(N1, OutAction.RELEASE, basic(K1, K2), type=WE) == G
    assert world.state.reservation is None
    assert world.registered == {N1: K1, N2: K2}
    assert world.generation == 2
    assert world.pending_of_all() == {}
