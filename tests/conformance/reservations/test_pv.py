"""The cases PV-01 to PV-30: what PERSISTENT RESERVE OUT checks in its CDB and its parameter list.

The drawing of the nexuses is in `world`. What is refused leaves the state, the unit attentions and the state file as
they are, which `refuses` compares. What the standard leaves open is told in
`iscsi_target.scsi.reservations.transitions`. Besides, a reserved bit of the CDB is refused (PV-28), and so is a
parameter list of which bytes never arrived (PV-29).
"""

import pytest

from iscsi_target.scsi.commands.persistent_reserve_out import MAX_PARAMETER_LIST_BYTES
from iscsi_target.scsi.layouts.cdb import PersistentReserveOut
from iscsi_target.scsi.layouts.transport_id import pack_transport_id
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.reservations.personality import STRICT, OutAction
from tests.conformance.reservations.world import (
    ALL_REGISTRANTS,
    EARO,
    IN_CDB,
    IN_LIST,
    INVALID_RELEASE,
    K1,
    K2,
    K4,
    K9,
    LIST_LENGTH,
    N1,
    N1Q,
    N2,
    N3,
    PREEMPTED,
    RC,
    REGISTRATIONS_PREEMPTED,
    TYPES,
    WE,
    C,
    G,
    Told,
    World,
    basic,
    listed,
    moving,
    world_of_two,
)

RESERVED_TYPES = tuple(kind for kind in range(16) if kind not in TYPES)
REGISTERING = (OutAction.REGISTER, OutAction.REGISTER_AND_IGNORE_EXISTING_KEY)
PREEMPTING = (OutAction.PREEMPT, OutAction.PREEMPT_AND_ABORT)
MOVE, REPLACE = OutAction.REGISTER_AND_MOVE, OutAction.REPLACE_LOST_RESERVATION
KEYED = (OutAction.RESERVE, OutAction.RELEASE, OutAction.CLEAR, *PREEMPTING)  # need a registration, have a basic list
BASIC = tuple(action for action in OutAction if action is not MOVE)


def each(actions):
    return pytest.mark.parametrize("action", actions, ids=str)


def parameters(action: OutAction, key: int, new: int = K2) -> bytes:
    """A parameter list of the right form for a service action."""
    return moving(key, new, N3) if action is MOVE else basic(key, new)


def refuses(world: World, nexus: Nexus, action: int, data: bytes, **cdb: int) -> Told:
    """Sends PERSISTENT RESERVE OUT that is to change nothing and returns what came of it."""
    before = world.snapshot()
    values = {"service_action": int(action), "parameter_list_length": len(data)} | cdb
    told = world.send(nexus, PersistentReserveOut(**values), data)
    assert world.snapshot() == before
    return told


# The length of the parameter list


@pytest.mark.case("PV-01")
@pytest.mark.clause("SPC4r37 6.16.1")
@each(BASIC)
def test_pv_01_an_empty_parameter_list_is_refused(action):
    assert refuses(world_of_two(), N1, action, b"") == LIST_LENGTH


@pytest.mark.case("PV-02")
@pytest.mark.clause("SPC4r37 6.16.1")
@each(BASIC)
def test_pv_02_a_parameter_list_that_lacks_a_byte_is_refused(action):
    assert refuses(world_of_two(), N1, action, basic(K1, K2)[:-1]) == LIST_LENGTH


@pytest.mark.case("PV-03")
@pytest.mark.clause("SPC4r37 6.16.1")
@each(BASIC)
def test_pv_03_a_parameter_list_with_a_byte_more_is_refused(action):
    assert refuses(world_of_two(), N1, action, basic(K1, K2) + b"\0") == LIST_LENGTH


@pytest.mark.case("PV-04")
@pytest.mark.clause("SPC4r37 6.16.1")
@each(BASIC)
def test_pv_04_a_length_that_is_24_in_its_low_byte_is_refused(action):
    assert refuses(world_of_two(), N1, action, basic(K1, K2).ljust(280, b"\0")) == LIST_LENGTH


@pytest.mark.case("PV-05")
@pytest.mark.clause("SPC4r37 6.16.1")
@pytest.mark.parametrize("length", (MAX_PARAMETER_LIST_BYTES + 1, 1 << 31, 0xFFFF_FFFF))
@each(OutAction)
def test_pv_05_a_list_that_is_too_long_to_hold_is_refused_before_any_of_it_is_asked_for(action, length):
    world = world_of_two()
    before = world.snapshot()
    tag = world.start(N1, PersistentReserveOut(service_action=action, parameter_list_length=length), None)
    assert not world.collecting
    assert world.ended[tag] == LIST_LENGTH
    assert world.snapshot() == before


# Scope and type


@pytest.mark.case("PV-06")
@pytest.mark.clause("SPC4r37 6.15.3.3")
@pytest.mark.parametrize("scope", range(1, 16))
def test_pv_06_reserve_with_another_scope_than_the_unit_is_refused(scope):
    assert refuses(world_of_two(), N1, OutAction.RESERVE, basic(K1), scope=scope, type=WE) == IN_CDB


@pytest.mark.case("PV-07")
@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize(
    "action, after, told",
    [
        (OutAction.REGISTER, {N1: K4, N2: K2}, {}),
        (OutAction.REGISTER_AND_IGNORE_EXISTING_KEY, {N1: K4, N2: K2}, {}),
        (OutAction.CLEAR, {}, {N2: [PREEMPTED]}),
    ],
    ids=str,
)
def test_pv_07_register_and_clear_ignore_scope_and_type(action, after, told):
    world = world_of_two()
    assert world.out(N1, action, basic(K1, K4), scope=15, type=15) == G
    assert world.registered == after
    assert world.holding() is None
    assert world.generation == 3
    assert world.pending_of_all() == told


@pytest.mark.case("PV-08")
@pytest.mark.clause("SPC4r37 5.13.11.2.2")
@pytest.mark.parametrize("scope", range(1, 16))
def test_pv_08_release_by_the_holder_with_another_scope_is_refused(scope):
    assert refuses(world_of_two(WE), N1, OutAction.RELEASE, basic(K1), scope=scope, type=WE) == INVALID_RELEASE


@pytest.mark.case("PV-09")
@pytest.mark.clause("SPC4r37 6.15.3.4")
@pytest.mark.parametrize("kind", RESERVED_TYPES)
def test_pv_09_reserve_with_a_reserved_type_is_refused(kind):
    assert refuses(world_of_two(), N1, OutAction.RESERVE, basic(K1), type=kind) == IN_CDB


@pytest.mark.case("PV-10")
@pytest.mark.clause("SPC4r37 5.13.11.2.2")
@pytest.mark.parametrize("kind", RESERVED_TYPES)
def test_pv_10_release_by_the_holder_with_a_reserved_type_is_refused(kind):
    assert refuses(world_of_two(WE), N1, OutAction.RELEASE, basic(K1), type=kind) == INVALID_RELEASE


@pytest.mark.case("PV-11")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.1")
@pytest.mark.parametrize("kind", RESERVED_TYPES)
@pytest.mark.parametrize("before", (None, WE, EARO, *ALL_REGISTRANTS))
@each(PREEMPTING)
def test_pv_11_preempt_ignores_the_type_when_no_reservation_results(action, before, kind):
    world = world_of_two(before)
    reservation = world.unit.device.reservations.reservation
    assert world.out(N1, action, basic(K1, K2), type=kind) == G
    assert world.registered == {N1: K1}
    assert world.unit.device.reservations.reservation == reservation
    assert world.generation == 3
    assert world.pending_of_all() == {N2: [REGISTRATIONS_PREEMPTED]}


@pytest.mark.case("PV-12")
@pytest.mark.clause("SPC4r37 6.15.3.4")
@pytest.mark.parametrize("kind", RESERVED_TYPES)
@pytest.mark.parametrize("before, victim", [(WE, K1), (EARO, K1), *((each, 0) for each in ALL_REGISTRANTS)])
@each(PREEMPTING)
def test_pv_12_preempt_with_a_reserved_type_for_the_new_reservation_is_refused(action, before, victim, kind):
    assert refuses(world_of_two(before), N2, action, basic(K2, victim), type=kind) == IN_CDB


# The service action


@pytest.mark.case("PV-13")
@pytest.mark.clause("SPC4r37 6.16.2")
@pytest.mark.parametrize("action", range(9, 32))
def test_pv_13_a_reserved_service_action_is_refused(action):
    assert refuses(world_of_two(), N1, action, basic(K1, K4), type=WE) == IN_CDB


@pytest.mark.case("PV-14")
@pytest.mark.clause("SPC4r37 5.13.11.3")
def test_pv_14_replace_lost_reservation_without_a_loss_is_refused():
    replacement = basic(0, K4)
    assert refuses(World(), N1, REPLACE, replacement, type=WE) == INVALID_RELEASE
    assert refuses(world_of_two(), N1, REPLACE, replacement, type=WE) == INVALID_RELEASE
    assert refuses(world_of_two(WE), N1, REPLACE, replacement, type=WE) == INVALID_RELEASE
    never = World(personality=STRICT._replace(out_actions=STRICT.out_actions - {REPLACE}))
    assert refuses(never, N1, REPLACE, replacement, type=WE) == IN_CDB


# The nexus and its key


@pytest.mark.case("PV-15")
@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("key", (0, K1, K9), ids=("zero", "of another nexus", "of nobody"))
@pytest.mark.parametrize("holder", (None, N1, N2), ids=("unreserved", "reserved", "own"))
@each((*KEYED, MOVE))
def test_pv_15_another_key_than_the_registered_one_conflicts(action, holder, key):
    world = world_of_two()
    if holder is not None:
        assert world.reserve(holder, world.registered[holder], WE) == G
    assert refuses(world, N2, action, parameters(action, key, K1), type=WE) == RC


def unregistered_conflicts(action: OutAction) -> None:
    for key in (0, K2, K9):
        assert refuses(World(), N1, action, parameters(action, key), type=WE) == RC
        assert refuses(world_of_two(), N3, action, parameters(action, key), type=WE) == RC
    assert refuses(world_of_two(), N1Q, action, parameters(action, K1), type=WE) == RC


@pytest.mark.case("PV-16")
@pytest.mark.clause("SPC4r37 5.13.7")
def test_pv_16_reserve_by_an_unregistered_nexus_conflicts():
    unregistered_conflicts(OutAction.RESERVE)


@pytest.mark.case("PV-17")
@pytest.mark.clause("SPC4r37 5.13.7")
def test_pv_17_release_by_an_unregistered_nexus_conflicts():
    unregistered_conflicts(OutAction.RELEASE)


@pytest.mark.case("PV-18")
@pytest.mark.clause("SPC4r37 5.13.7")
def test_pv_18_clear_by_an_unregistered_nexus_conflicts():
    unregistered_conflicts(OutAction.CLEAR)


@pytest.mark.case("PV-19")
@pytest.mark.clause("SPC4r37 5.13.7")
@each(PREEMPTING)
def test_pv_19_preempt_by_an_unregistered_nexus_conflicts(action):
    unregistered_conflicts(action)


@pytest.mark.case("PV-20")
@pytest.mark.clause("SPC4r37 5.13.8")
def test_pv_20_register_and_move_by_an_unregistered_nexus_conflicts():
    unregistered_conflicts(MOVE)


@pytest.mark.case("PV-21")
@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("kind", TYPES)
@each((*KEYED, MOVE, REPLACE))
def test_pv_21_an_unregistered_nexus_may_only_register_while_another_holds_a_reservation(action, kind):
    for key in (0, K1, K2):
        assert refuses(world_of_two(kind), N3, action, parameters(action, key), type=kind) == RC


@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("kind", TYPES)
@each(REGISTERING)
def test_an_unregistered_nexus_may_register_while_another_holds_a_reservation(action, kind):
    world = world_of_two(kind)
    reservation = world.unit.device.reservations.reservation
    assert world.out(N3, action, basic(0, K4)) == G
    assert world.registered == {N1: K1, N2: K2, N3: K4}
    assert world.unit.device.reservations.reservation == reservation
    assert world.generation == 3
    assert world.pending_of_all() == {}


@pytest.mark.clause("SPC4r37 5.13.1")
def test_a_registered_nexus_learns_that_nothing_is_lost_although_another_holds_the_reservation():
    assert refuses(world_of_two(WE), N2, REPLACE, basic(0, K4), type=WE) == INVALID_RELEASE


# The flags of the parameter list


@pytest.mark.case("PV-22")
@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("ids", (b"", listed(pack_transport_id(C))), ids=("without a list", "with a list"))
@each((*KEYED, OutAction.REGISTER_AND_IGNORE_EXISTING_KEY, REPLACE))
def test_pv_22_spec_i_pt_is_refused_for_all_but_register(action, ids):
    assert refuses(world_of_two(WE), N1, action, basic(K1, K2, spec_i_pt=True) + ids, type=WE) == IN_LIST


def compare_with_flag(action: OutAction, **flag: bool) -> None:
    """Sends a service action with and without a flag to equal units, which have to be equal afterwards too."""
    for kind in (None, WE):
        without, ignoring = world_of_two(kind), world_of_two(kind)
        assert without.out(N1, action, basic(K1, K2), type=WE) == G
        assert ignoring.out(N1, action, basic(K1, K2, **flag), type=WE) == G
        assert ignoring.snapshot() == without.snapshot()


@pytest.mark.case("PV-23")
@pytest.mark.clause("SPC4r37 6.16.3")
@each(KEYED)
def test_pv_23_all_tg_pt_is_ignored_by_all_that_do_not_register(action):
    compare_with_flag(action, all_tg_pt=True)


@pytest.mark.case("PV-24")
@pytest.mark.clause("SPC4r37 6.16.3")
@each(KEYED)
def test_pv_24_aptpl_is_ignored_by_all_that_do_not_register(action):
    compare_with_flag(action, aptpl=True)


@pytest.mark.clause("SPC4r37 6.16.3")
@each(KEYED)
def test_flags_that_are_not_supported_are_ignored_by_all_that_do_not_register(action):
    world = World(personality=STRICT._replace(persists=False, all_target_ports=False))
    world.register(N1, K1)
    world.register(N2, K2)
    assert world.out(N1, action, basic(K1, K2, aptpl=True, all_tg_pt=True), type=WE) == G


@pytest.mark.case("PV-25")
@pytest.mark.clause("SPC4r37 6.16.3")
@each(REGISTERING)
def test_pv_25_aptpl_is_refused_where_it_is_not_supported(action):
    world = World(personality=STRICT._replace(persists=False))
    assert refuses(world, N1, action, basic(0, K1, aptpl=True)) == IN_LIST
    assert world.out(N1, action, basic(0, K1)) == G
    assert (world.registered, world.generation) == ({N1: K1}, 1)


@pytest.mark.clause("SPC4r37 6.16.4")
def test_aptpl_of_register_and_move_is_refused_where_it_is_not_supported():
    world = World(personality=STRICT._replace(persists=False))
    world.register(N1, K1)
    world.reserve(N1, K1, WE)
    assert refuses(world, N1, MOVE, moving(K1, K2, N2, aptpl=True)) == IN_LIST
    assert world.move(N1, K1, K2, N2) == G


@pytest.mark.case("PV-26")
@pytest.mark.clause("SPC4r37 6.16.3")
@each(REGISTERING)
def test_pv_26_all_tg_pt_is_refused_where_it_is_not_supported(action):
    world = World(personality=STRICT._replace(all_target_ports=False))
    assert refuses(world, N1, action, basic(0, K1, all_tg_pt=True)) == IN_LIST
    assert world.out(N1, action, basic(0, K1)) == G
    assert (world.registered, world.generation) == ({N1: K1}, 1)


@pytest.mark.clause("SPC4r37 6.15.4")
def test_spec_i_pt_is_refused_where_it_is_not_supported():
    world = World(personality=STRICT._replace(specify_initiator_ports=False))
    data = basic(0, K1, spec_i_pt=True) + listed(pack_transport_id(C))
    assert refuses(world, N1, OutAction.REGISTER, data) == IN_LIST
    assert world.register(N1, K1) == G
    assert (world.registered, world.generation) == ({N1: K1}, 1)


@pytest.mark.case("PV-27")
@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize(
    "place, value", [*((place, 0xFF) for place in (16, 17, 18, 19, 21, 22, 23)), (20, 0xF0), (20, 0x02)]
)
@each(REGISTERING)
def test_pv_27_obsolete_and_reserved_bytes_of_the_list_are_ignored(action, place, value):
    world = World()
    data = bytearray(basic(0, K1))
    data[place] = value
    assert world.out(N1, action, bytes(data)) == G
    assert world.registered == {N1: K1}
    assert not world.unit.device.reservations.aptpl
    assert (world.generation, world.pending_of_all()) == (1, {})


# The CDB, and the bytes that it promises


@pytest.mark.case("PV-28")
@pytest.mark.clause("SPC4r37 4.2.5")
@pytest.mark.parametrize(
    "place, bit", [*((1, bit) for bit in (5, 6, 7)), *((at, b) for at in (3, 4) for b in range(8))]
)
@each(OutAction)
def test_pv_28_a_reserved_bit_of_the_cdb_is_refused(action, place, bit):
    world = world_of_two(WE)
    before = world.snapshot()
    data = parameters(action, K1)
    cdb = bytearray(PersistentReserveOut(service_action=action, type=WE, parameter_list_length=len(data)).pack())
    cdb[place] |= 1 << bit
    assert world.send(N1, bytes(cdb), data) == IN_CDB
    assert world.snapshot() == before


@pytest.mark.case("PV-29")
@pytest.mark.clause("RFC7143 11.3.4")
@pytest.mark.parametrize("arrived", (0, 8, 16, 23))
@each(OutAction)
def test_pv_29_a_list_of_which_bytes_did_not_arrive_is_refused(action, arrived):
    whole = parameters(action, K1)
    world = world_of_two(WE)
    assert refuses(world, N1, action, whole[:arrived], parameter_list_length=len(whole), type=WE) == LIST_LENGTH


@pytest.mark.clause("RFC7143 11.3.4")
@pytest.mark.parametrize("promised", (25, 48, 280))
@each(OutAction)
def test_a_list_that_would_do_but_for_the_bytes_that_did_not_arrive_is_refused(action, promised):
    whole = parameters(action, K1)
    told = refuses(world_of_two(WE), N1, action, whole, parameter_list_length=len(whole) + promised - 24, type=WE)
    assert told == LIST_LENGTH


@pytest.mark.clause("RFC7143 11.3.4")
def test_bytes_that_the_cdb_does_not_ask_for_are_ignored():
    world = World()
    cdb = PersistentReserveOut(service_action=OutAction.REGISTER, parameter_list_length=24)
    assert world.send(N1, cdb, basic(0, K1) + basic(0, K9)) == G
    assert world.registered == {N1: K1}


@pytest.mark.clause("RFC7143 11.3.4")
def test_transport_ids_that_did_not_arrive_are_not_guessed():
    whole = basic(0, K1, spec_i_pt=True) + listed(pack_transport_id(C))
    for arrived in range(len(whole)):
        world = World()
        told = refuses(world, N1, OutAction.REGISTER, whole[:arrived], parameter_list_length=len(whole))
        assert told == LIST_LENGTH, arrived


@pytest.mark.case("PV-30")
@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("kind", RESERVED_TYPES)
@pytest.mark.parametrize("held", TYPES)
def test_pv_30_the_reservation_of_another_is_found_before_a_reserved_type(held, kind):
    assert refuses(world_of_two(held), N3, OutAction.RESERVE, basic(K1), type=kind) == RC
