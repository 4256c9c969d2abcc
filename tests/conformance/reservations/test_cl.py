"""The cases CL-01 to CL-08: CLEAR. The drawing of the nexuses is in `world`."""

import pytest

from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.reservations.reservations import Reservations
from tests.conformance.reservations.world import (
    BLOCK,
    EA,
    K1,
    K2,
    K3,
    K9,
    N1,
    N1Q,
    N2,
    N3,
    PREEMPTED,
    RC,
    TYPES,
    WE,
    WERO,
    G,
    attention,
    basic,
    world_of_two,
)

POWER_ON = 0x2900


@pytest.mark.case("CL-01")
@pytest.mark.clause("SPC4r37 5.13.11.2.7")
@pytest.mark.parametrize("kind", TYPES)
def test_cl_01_clear_leaves_nothing_and_tells_the_other_registrants(kind):
    world = world_of_two(kind)
    assert world.clear(N1, K1) == G
    assert world.state == Reservations(generation=3)
    assert world.pending_of_all() == {N2: [PREEMPTED]}
    assert world.keys() == []
    assert world.holding() is None
    assert world.write(N2) == attention(PREEMPTED)
    assert [world.write(nexus) for nexus in (N1, N2, N3)] == [G, G, G]


@pytest.mark.case("CL-02")
@pytest.mark.clause("SPC4r37 5.13.11.2.7")
@pytest.mark.parametrize("kind", TYPES)
def test_cl_02_a_registrant_that_holds_nothing_may_clear(kind):
    world = world_of_two(kind)
    assert world.clear(N2, K2) == G
    assert world.state == Reservations(generation=3)
    assert world.pending_of_all() == {N1: [PREEMPTED]}


@pytest.mark.case("CL-03")
@pytest.mark.clause("SPC4r37 5.13.11.2.7")
def test_cl_03_clear_without_a_reservation_removes_all_registrations():
    world = world_of_two()
    assert world.register(N1Q, K1) == G
    assert world.register(N3, K3) == G
    assert world.clear(N1, K1) == G
    assert world.state == Reservations(generation=5)
    # A nexus is told, so the same initiator port through another target port is too
    assert world.pending_of_all() == {N2: [PREEMPTED], N3: [PREEMPTED], N1Q: [PREEMPTED]}


@pytest.mark.case("CL-04")
@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("kind", [None, *TYPES])
@pytest.mark.parametrize("nexus, key", [(N1, K2), (N1, 0), (N2, K1), (N2, K9), (N3, 0), (N3, K1)])
def test_cl_04_clear_with_another_key_than_its_own_conflicts(kind, nexus, key):
    world = world_of_two(kind)
    before = world.snapshot()
    assert world.clear(nexus, key) == RC
    assert world.snapshot() == before


@pytest.mark.case("CL-05")
@pytest.mark.clause("SPC4r37 5.13.7")
def test_cl_05_clear_again_conflicts_since_nobody_is_registered():
    world = world_of_two(WERO)
    assert world.clear(N1, K1) == G
    before = world.state
    told = world.pending_of_all()
    assert world.clear(N1, K1) == RC
    assert world.clear(N1, 0) == RC
    assert world.state == before
    assert world.pending_of_all() == told == {N2: [PREEMPTED]}


@pytest.mark.case("CL-06")
@pytest.mark.clause("SPC4r37 5.13.11.2.7")
@pytest.mark.parametrize("data", [True, False])
def test_cl_06_clear_aborts_no_task(data):
    world = world_of_two(WERO)
    world.slow = True
    write = world.start_write(N2, fill=7, data=data)
    assert world.clear(N1, K1) == G
    assert write not in world.ended
    assert world.pending_of_all() == {N2: [PREEMPTED]}
    if not data:
        assert world.write(N2) == attention(PREEMPTED)
        world.give(write, bytes([7]) * BLOCK)
    world.finish_all()
    assert world.ended[write] == G
    assert world.block() == bytes([7]) * BLOCK
    assert world.state == Reservations(generation=3)


@pytest.mark.case("CL-07")
@pytest.mark.clause("SPC4r37 5.13.5.1")
@pytest.mark.parametrize("kind", [None, *TYPES])
def test_cl_07_what_was_cleared_does_not_come_back_after_a_power_loss(kind):
    world = world_of_two(kind, aptpl=True)
    assert world.power_cycle().registered == {N1: K1, N2: K2}
    assert world.clear(N2, K2) == G
    assert world.generation == 3
    assert world.state.aptpl  # CLEAR does not change it
    after = world.power_cycle(nexuses=())
    assert after.state == Reservations(aptpl=True)
    for nexus in (N1, N2, N3):
        after.attach(nexus, quiet=False)
        assert after.pending(nexus) == [POWER_ON]


@pytest.mark.case("CL-08")
@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("kind", [None, WE, EA])
@pytest.mark.parametrize("fields", [{"type": 15}, {"scope": 15}, {"type": 2, "scope": 1}, {"type": WERO}])
def test_cl_08_scope_type_and_service_action_reservation_key_mean_nothing_to_clear(kind, fields):
    world = world_of_two(kind)
    assert world.out(N1, OutAction.CLEAR, basic(K1, K9), **fields) == G
    assert world.state == Reservations(generation=3)
    assert world.pending_of_all() == {N2: [PREEMPTED]}
