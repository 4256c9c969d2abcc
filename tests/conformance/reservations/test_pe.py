"""The cases PE-01 to PE-26: PREEMPT. The drawing of the nexuses is in `world`.

Node a also has an old nexus, by another ISID and through the same port, and a second path through port Q.
"""

import pytest

from iscsi_target.scsi.layouts.cdb import PersistentReserveOut
from iscsi_target.scsi.nexus import InitiatorPort, Nexus
from iscsi_target.scsi.reservations.personality import OutAction
from tests.conformance.reservations.seen import Seen, seen
from tests.conformance.reservations.world import (
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
    RC,
    REGISTRATIONS_PREEMPTED,
    RELEASED,
    TYPES,
    WE,
    WEAR,
    WERO,
    A,
    G,
    Holding,
    P,
    attention,
    basic,
    world_with,
)
from tests.unit.scsi.unit_bench import READY

OLD = Nexus(InitiatorPort(A.name, b"\x80\0\0\0\0\2"), P)
GONE = [REGISTRATIONS_PREEMPTED]
FREED = [RELEASED]


@pytest.mark.case("PE-01")
@pytest.mark.clause("SPC4r37 5.13.11.2.5")
def test_pe_01_without_a_reservation_registrations_are_removed_and_nothing_is_reserved():
    world = world_with({N1: K1, N2: K2, N3: K3})
    assert world.preempt(N1, K1, K2, WE) == G
    assert seen(world) == Seen({N1: K1, N3: K3}, None, 4, {N2: GONE})
    assert world.holding(N1) is None
    assert world.keys(N1) == [K1, K3]


@pytest.mark.case("PE-02")
@pytest.mark.clause("SPC4r37 5.13.11.2.5")
def test_pe_02_a_key_that_nobody_has_conflicts_without_a_reservation():
    world = world_with({N1: K1, N2: K2})
    before = seen(world)
    assert world.preempt(N1, K1, K9, WE) == RC
    assert seen(world) == before == Seen({N1: K1, N2: K2}, None, 2, {})


@pytest.mark.case("PE-03")
@pytest.mark.clause("SPC4r37 5.13.11.2.5")
def test_pe_03_the_key_zero_matches_no_registration_without_a_reservation():
    world = world_with({N1: K1, N2: K2})
    before = world.snapshot()
    assert world.preempt(N1, K1, 0, WE) == RC
    assert world.snapshot() == before


@pytest.mark.case("PE-04")
@pytest.mark.clause("SPC4r37 5.13.11.2.5")
def test_pe_04_without_a_reservation_the_own_key_removes_the_own_registration():
    world = world_with({N1: K1, N2: K2})
    assert world.preempt(N1, K1, K1) == G
    assert seen(world) == Seen({N2: K2}, None, 3, {})


@pytest.mark.case("PE-05")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.3")
def test_pe_05_the_holders_key_takes_the_reservation_over_with_another_type():
    world = world_with({N1: K1, N2: K2, N3: K3}, WE)
    assert world.preempt(N2, K2, K1, EA) == G
    assert seen(world) == Seen({N2: K2, N3: K3}, (EA, N2), 4, {N1: GONE, N3: FREED})
    assert world.holding(N2) == Holding(K2, EA)


@pytest.mark.case("PE-06")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.3")
def test_pe_06_the_same_type_tells_only_who_lost_its_registration():
    world = world_with({N1: K1, N2: K2, N3: K3}, WE)
    assert world.preempt(N2, K2, K1, WE) == G
    assert seen(world) == Seen({N2: K2, N3: K3}, (WE, N2), 4, {N1: GONE})


@pytest.mark.case("PE-07")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.3")
def test_pe_07_a_registrants_only_type_that_stays_tells_only_who_lost_its_registration():
    world = world_with({N1: K1, N2: K2, N3: K3}, WERO)
    assert world.preempt(N2, K2, K1, WERO) == G
    assert seen(world) == Seen({N2: K2, N3: K3}, (WERO, N2), 4, {N1: GONE})


@pytest.mark.case("PE-08")
@pytest.mark.clause("SPC4r37 5.13.11.2.5")
@pytest.mark.parametrize("scope_and_type", [(0, EA), (0xF, 0xF)])
def test_pe_08_another_registrants_key_leaves_the_reservation_alone(scope_and_type: tuple[int, int]):
    scope, kind = scope_and_type
    world = world_with({N1: K1, N2: K2, N3: K3}, WERO)
    assert world.preempt(N2, K2, K3, kind, scope) == G
    assert seen(world) == Seen({N1: K1, N2: K2}, (WERO, N1), 4, {N3: GONE})


@pytest.mark.case("PE-09")
@pytest.mark.clause("SPC4r37 5.13.11.2.5")
@pytest.mark.parametrize("kind", TYPES)
def test_pe_09_a_key_that_nobody_has_conflicts_with_a_reservation(kind: int):
    world = world_with({N1: K1, N2: K2}, kind)
    before = world.snapshot()
    assert world.preempt(N2, K2, K9, kind) == RC
    assert world.snapshot() == before


@pytest.mark.case("PE-10")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.1")
@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind not in (WEAR, EAAR)])
def test_pe_10_the_key_zero_is_invalid_while_one_nexus_holds(kind: int):
    world = world_with({N1: K1, N2: K2}, kind)
    before = world.snapshot()
    assert world.preempt(N2, K2, 0, kind) == IN_LIST
    assert world.snapshot() == before


@pytest.mark.case("PE-11")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.3")
def test_pe_11_the_key_zero_preempts_all_registrants():
    world = world_with({N1: K1, N2: K2, N3: K3}, WEAR)
    assert world.preempt(N2, K2, 0, WEAR) == G
    assert seen(world) == Seen({N2: K2}, (WEAR, None), 4, {N1: GONE, N3: GONE})


@pytest.mark.case("PE-12")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.3")
def test_pe_12_the_key_zero_makes_the_issuer_the_single_holder_of_another_type():
    world = world_with({N1: K1, N2: K2, N3: K3}, EAAR)
    assert world.preempt(N2, K2, 0, WE) == G
    assert seen(world) == Seen({N2: K2}, (WE, N2), 4, {N1: GONE, N3: GONE})
    assert world.holding(N2) == Holding(K2, WE)
    assert world.release(N2, K2, WE) == G
    assert world.holding(N2) is None


@pytest.mark.case("PE-13")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.1")
@pytest.mark.parametrize("kind", [WEAR, EAAR])
def test_pe_13_a_key_that_is_not_zero_only_removes_registrations_of_all_registrants(kind: int):
    world = world_with({N1: K1, N2: K2, N3: K3}, kind)
    assert world.preempt(N2, K2, K1, EARO) == G
    assert seen(world) == Seen({N2: K2, N3: K3}, (kind, None), 4, {N1: GONE})
    assert world.holding(N2) == Holding(0, kind)


@pytest.mark.case("PE-14")
@pytest.mark.clause("SPC4r37 5.13.11.2.5")
@pytest.mark.parametrize("kind", [WEAR, EAAR])
def test_pe_14_the_own_key_removes_the_own_registration_of_all_registrants(kind: int):
    world = world_with({N1: K1, N2: K2}, kind)
    assert world.preempt(N2, K2, K2, kind) == G
    assert seen(world) == Seen({N1: K1}, (kind, None), 3, {})
    assert world.preempt(N1, K1, K1, kind) == G
    assert seen(world) == Seen({}, None, 4, {}), "it goes with the last registration"


@pytest.mark.case("PE-15")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.3")
@pytest.mark.parametrize("kind, holder", [(WERO, N2), (EAAR, None)])
def test_pe_15_the_only_registrant_makes_the_reservation_anew(kind: int, holder: Nexus | None):
    world = world_with({N2: K2}, WEAR, by=N2)
    assert world.preempt(N2, K2, 0, kind) == G
    assert seen(world) == Seen({N2: K2}, (kind, holder), 2, {})


@pytest.mark.case("PE-16")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.3")
def test_pe_16_a_holder_that_preempts_itself_stays_registered_and_holds():
    world = world_with({N1: K1, N2: K2}, WERO)
    assert world.preempt(N1, K1, K1, WERO) == G
    assert seen(world) == Seen({N1: K1, N2: K2}, (WERO, N1), 3, {})


@pytest.mark.case("PE-17")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.3")
def test_pe_17_a_holder_changes_the_type_by_preempting_itself():
    world = world_with({N1: K1, N2: K2}, WERO)
    assert world.preempt(N1, K1, K1, EARO) == G
    assert seen(world) == Seen({N1: K1, N2: K2}, (EARO, N1), 3, {N2: FREED})


@pytest.mark.case("PE-18")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.3")
def test_pe_18_a_holder_throws_out_its_own_key_of_an_old_isid():
    world = world_with({OLD: K1, N1: K1, N2: K2}, WERO, by=N1)
    assert world.preempt(N1, K1, K1, WERO) == G
    assert seen(world) == Seen({N1: K1, N2: K2}, (WERO, N1), 4, {OLD: GONE})


@pytest.mark.case("PE-19")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.3")
def test_pe_19_a_host_takes_over_from_its_old_isid_with_the_same_key():
    world = world_with({OLD: K1, N1: K1, N2: K2}, WERO, by=OLD)
    assert world.preempt(N1, K1, K1, WERO) == G
    assert seen(world) == Seen({N1: K1, N2: K2}, (WERO, N1), 4, {OLD: GONE})
    assert world.holding(N1) == Holding(K1, WERO)
    assert world.write(N1) == G
    assert world.write(OLD) == RC


@pytest.mark.case("PE-20")
@pytest.mark.clause("SPC4r37 5.13.11.2.5")
def test_pe_20_the_own_key_of_one_that_does_not_hold_removes_its_registration():
    world = world_with({N1: K1, N2: K2}, WERO, by=N2)
    assert world.preempt(N1, K1, K1, WERO) == G
    assert seen(world) == Seen({N2: K2}, (WERO, N2), 3, {})


@pytest.mark.case("PE-21")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.3")
def test_pe_21_one_path_of_a_host_that_preempts_the_shared_key_throws_out_the_others():
    world = world_with({N1: K1, N1Q: K1, OLD: K1, N2: K2}, WERO)
    assert world.preempt(N1Q, K1, K1, WERO) == G
    assert seen(world) == Seen({N1Q: K1, N2: K2}, (WERO, N1Q), 5, {N1: GONE, OLD: GONE})


@pytest.mark.case("PE-22")
@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("kind", [None, *TYPES])
@pytest.mark.parametrize("nexus, key", [(N3, 0), (N3, K1), (N2, K1), (N2, 0)])
def test_pe_22_a_nexus_without_its_key_preempts_nobody(kind: int | None, nexus: Nexus, key: int):
    keys = {N1: K1, N2: K2}
    world = world_with(keys, kind)
    before = world.snapshot()
    assert world.preempt(nexus, key, K1, WE) == RC
    assert world.snapshot() == before


@pytest.mark.case("PE-23")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.3")
def test_pe_23_a_write_that_is_under_way_completes_and_the_next_one_conflicts():
    """The conflict comes before the attention, which stays for the first command that is admitted (SAM5r21 5.3.3)."""
    world = world_with({N1: K1, N2: K2}, WERO)
    world.slow = True
    writing = world.start_write(N1, fill=7)
    waiting = world.start_write(N1, 1, fill=8, data=False)
    assert world.preempt(N2, K2, K1, WERO) == G
    assert seen(world) == Seen({N2: K2}, (WERO, N2), 3, {N1: GONE})
    world.finish()
    assert world.ended[writing] == G
    assert world.block() == bytes([7]) * BLOCK
    world.give(waiting, bytes([8]) * BLOCK)
    assert world.ended[waiting] == RC, "it had not been processed yet"
    assert world.write(N1, fill=9) == RC
    assert not world.at_medium
    assert (world.block(0), world.block(1)) == (bytes([7]) * BLOCK, bytes(BLOCK))
    assert world.pending(N1) == GONE
    assert world.send(N1, READY) == attention(REGISTRATIONS_PREEMPTED)
    assert world.write(N1, fill=9) == RC
    assert world.pending_of_all() == {}


@pytest.mark.case("PE-24")
@pytest.mark.clause("SAM5r21 5.14")
def test_pe_24_a_victim_that_registers_again_is_told_first():
    world = world_with({N1: K1, N2: K2}, WERO)
    assert world.preempt(N2, K2, K1, WERO) == G
    assert world.register(N1, K1) == attention(REGISTRATIONS_PREEMPTED)
    assert seen(world) == Seen({N2: K2}, (WERO, N2), 3, {})
    assert world.register(N1, K1) == G
    assert seen(world) == Seen({N2: K2, N1: K1}, (WERO, N2), 4, {})


@pytest.mark.case("PE-25")
@pytest.mark.clause("SAM5r21 5.14")
def test_pe_25_nothing_is_kept_for_a_victim_without_a_session():
    world = world_with({N1: K1, N2: K2}, WERO)
    world.detach(N1)
    assert world.preempt(N2, K2, K1, WERO) == G
    assert seen(world) == Seen({N2: K2}, (WERO, N2), 3, {})
    world.attach(N1, quiet=False)
    assert world.pending_of_all() == {N1: [0x2907]}
    assert world.write(N1) == attention(0x2907)
    assert world.write(N1) == RC


@pytest.mark.case("PE-26")
@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("first, second", [(N1, N2), (N2, N1)])
@pytest.mark.parametrize("kind", [None, WE, WERO, WEAR])
def test_pe_26_of_two_that_preempt_each_other_the_first_wins(kind: int | None, first: Nexus, second: Nexus):
    """Under a reservation the loser meets the conflict at once, and the attention stays (SAM5r21 5.3.3)."""
    keys = {N1: K1, N2: K2}
    world = world_with(keys, kind)
    cdb = PersistentReserveOut(service_action=OutAction.PREEMPT, type=WE, parameter_list_length=len(basic()))
    tags = {nexus: world.start(nexus, cdb, None) for nexus in (second, first)}
    world.give(tags[first], basic(keys[first], keys[second]))
    world.give(tags[second], basic(keys[second], keys[first]))
    assert world.ended[tags[first]] == G
    loser = world.ended[tags[second]]
    reservation = world.unit.device.reservations.reservation
    if kind is None:
        assert reservation is None
        assert loser == attention(REGISTRATIONS_PREEMPTED)
        assert world.preempt(second, keys[second], keys[first], WE) == RC
        assert world.pending_of_all() == {}
    else:
        assert reservation is not None
        assert loser == RC
        assert world.pending_of_all() == {second: GONE}
    assert world.registered == {first: keys[first]}
    assert world.generation == 3
