"""The cases RM-01 to RM-20: REGISTER AND MOVE. The drawing of the nexuses is in `world`.

N4 is the nexus of node d through port P; it has no session unless a test says otherwise.
"""

import pytest

from iscsi_target.scsi.layouts.reservation_pages import MoveParameterList, TransportIdHeader
from iscsi_target.scsi.layouts.transport_id import DEVICE_FORMAT, PORT_FORMAT, pack_transport_id
from iscsi_target.scsi.nexus import InitiatorPort, Nexus
from iscsi_target.scsi.reservations.personality import OutAction
from tests.conformance.reservations.seen import Seen, seen
from tests.conformance.reservations.world import (
    EA,
    EAAR,
    EARO,
    IN_CDB,
    IN_LIST,
    K1,
    K2,
    K4,
    K9,
    LIST_LENGTH,
    N1,
    N1Q,
    N2,
    N2Q,
    N3,
    N4,
    P_ID,
    RC,
    RELEASED,
    TYPES,
    WE,
    WEAR,
    WERO,
    A,
    D,
    G,
    Holding,
    P,
    Told,
    World,
    moving,
)

SINGLE_HOLDER = [kind for kind in TYPES if kind not in (WEAR, EAAR)]
FIBRE_CHANNEL = 0
KEYS = {N1: K1, N2: K2}


def held(kind: int = WERO, keys: dict[Nexus, int] = KEYS) -> World:
    """A world in which these nexuses are registered and N1 holds the reservation; N4 has a session too."""
    world = World(nexuses=(N1, N2, N3, N1Q, N2Q, N4))
    for nexus, key in keys.items():
        assert world.register(nexus, key) == G
    assert world.reserve(N1, K1, kind) == G
    return world


def move_to(world: World, transport_id: bytes, length: int | None = None, port: int = P_ID) -> Told:
    """N1 moves its reservation to whatever these bytes name; `length` is what the list says of them."""
    fields = MoveParameterList(
        reservation_key=K1,
        service_action_reservation_key=K9,
        relative_target_port_identifier=port,
        transportid_length=len(transport_id) if length is None else length,
    )
    return world.out(N1, OutAction.REGISTER_AND_MOVE, fields.pack() + transport_id)


@pytest.mark.case("RM-01")
@pytest.mark.clause("SPC4r37 5.13.8")
@pytest.mark.parametrize("kind", SINGLE_HOLDER)
def test_rm_01_the_reservation_moves_and_the_issuer_stays_registered(kind: int):
    world = held(kind)
    assert world.move(N1, K1, K9, N4) == G
    assert seen(world) == Seen({N1: K1, N2: K2, N4: K9}, (kind, N4), 3, {})
    assert world.holding(N1) == Holding(K9, kind)
    assert world.write(N4) == G
    assert world.write(N1) == (G if kind in (WERO, EARO) else RC)
    assert world.release(N1, K1, kind) == G, "it holds nothing, so nothing is released"
    assert seen(world) == Seen({N1: K1, N2: K2, N4: K9}, (kind, N4), 3, {})


@pytest.mark.case("RM-02")
@pytest.mark.clause("SPC4r37 5.13.8")
@pytest.mark.parametrize("kind", SINGLE_HOLDER)
def test_rm_02_with_unreg_the_issuer_is_not_registered_any_more(kind: int):
    world = held(kind)
    assert world.move(N1, K1, K9, N4, unreg=True) == G
    assert seen(world) == Seen({N2: K2, N4: K9}, (kind, N4), 3, {})
    assert world.holding(N4) == Holding(K9, kind)
    assert world.write(N1) == RC
    assert world.move(N1, K1, K9, N4) == RC


@pytest.mark.case("RM-03")
@pytest.mark.clause("SPC4r37 5.13.8")
@pytest.mark.parametrize("new", [K9, K4])
@pytest.mark.parametrize("unreg", [False, True])
def test_rm_03_a_destination_that_is_registered_gets_the_new_key(new: int, unreg: bool):
    world = held(keys={N1: K1, N2: K2, N4: K4})
    assert world.move(N1, K1, new, N4, unreg=unreg) == G
    rest = {N2: K2, N4: new}
    assert seen(world) == Seen(rest if unreg else rest | {N1: K1}, (WERO, N4), 4, {})


@pytest.mark.case("RM-04")
@pytest.mark.clause("SPC4r37 5.13.8")
@pytest.mark.parametrize("unreg", [False, True])
def test_rm_04_the_new_holder_cannot_have_the_key_zero(unreg: bool):
    world = held()
    before = seen(world)
    assert world.move(N1, K1, 0, N4, unreg=unreg) == IN_LIST
    assert seen(world) == before


@pytest.mark.case("RM-05")
@pytest.mark.clause("SPC4r37 5.13.8")
@pytest.mark.parametrize("new", [K1, K9])
def test_rm_05_the_holder_cannot_move_the_reservation_to_itself(new: int):
    world = held()
    before = seen(world)
    assert world.move(N1, K1, new, N1) == IN_LIST
    assert seen(world) == before


@pytest.mark.case("RM-06")
@pytest.mark.clause("SPC4r37 5.13.8")
def test_rm_06_nor_to_its_own_initiator_port_through_another_target_port():
    world = held()
    before = seen(world)
    assert world.move(N1, K1, K9, N1Q) == IN_LIST
    assert seen(world) == before


@pytest.mark.case("RM-06")
@pytest.mark.clause("SPC4r37 5.13.8")
def test_rm_06_but_to_another_port_of_the_same_initiator():
    world = held()
    other = Nexus(InitiatorPort(A.name, b"\x80\0\0\0\0\2"), P)
    assert world.move(N1, K1, K9, other) == G
    assert seen(world) == Seen({N1: K1, N2: K2, other: K9}, (WERO, other), 3, {})


@pytest.mark.case("RM-07")
@pytest.mark.clause("SPC4r37 5.13.8")
def test_rm_07_without_a_reservation_there_is_nothing_to_move():
    world = held()
    assert world.release(N1, K1, WERO) == G
    assert world.preempt(N1, K1, K2) == G
    before = seen(world)
    assert world.move(N1, K1, K9, N4) == IN_CDB
    assert seen(world) == before
    assert (before.registered, before.reserved) == ({N1: K1}, None)


@pytest.mark.case("RM-08")
@pytest.mark.clause("SPC4r37 5.13.8")
@pytest.mark.parametrize("kind", SINGLE_HOLDER)
def test_rm_08_a_registrant_that_holds_nothing_cannot_move_the_reservation(kind: int):
    world = held(kind)
    before = seen(world)
    assert world.move(N2, K2, K9, N4) == RC
    assert seen(world) == before


@pytest.mark.case("RM-09")
@pytest.mark.clause("SPC4r37 5.13.8")
@pytest.mark.parametrize("kind", [None, *TYPES])
def test_rm_09_a_nexus_that_is_not_registered_cannot_move_the_reservation(kind: int | None):
    world = World() if kind is None else held(kind)
    before = seen(world)
    assert world.move(N3, 0, K9, N4) == RC
    assert world.move(N3, 0, K9, N4, transportid_length=8) == RC  # whatever the list has: table 70
    assert seen(world) == before


@pytest.mark.case("RM-10")
@pytest.mark.clause("SPC4r37 5.13.8")
@pytest.mark.parametrize("kind", [WEAR, EAAR])
@pytest.mark.parametrize("nexus, key", KEYS.items())
def test_rm_10_an_all_registrants_reservation_cannot_be_moved(kind: int, nexus: Nexus, key: int):
    world = held(kind)
    before = seen(world)
    assert world.move(nexus, key, K9, N4) == RC
    assert seen(world) == before


@pytest.mark.case("RM-11")
@pytest.mark.clause("SPC4r37 5.13.8")
@pytest.mark.parametrize("key", [0, K2, K9])
def test_rm_11_the_holders_own_key_is_needed(key: int):
    world = held()
    before = seen(world)
    assert world.move(N1, key, K9, N4) == RC
    assert seen(world) == before


@pytest.mark.case("RM-12")
@pytest.mark.clause("SPC4r37 6.16.4")
@pytest.mark.parametrize("port", [0, 3, 0xFFFF])
def test_rm_12_a_target_port_that_does_not_exist_is_refused(port: int):
    world = held()
    before = seen(world)
    assert world.move(N1, K1, K9, N4, relative_target_port_identifier=port) == IN_LIST
    assert seen(world) == before


@pytest.mark.case("RM-13")
@pytest.mark.clause("SPC4r37 6.16.4")
@pytest.mark.parametrize("length", [0, 4, 20, 23, 25, 26, 27, 47])
def test_rm_13_a_transport_id_is_at_least_24_bytes_and_a_multiple_of_four(length: int):
    world = held()
    before = seen(world)
    whole = pack_transport_id(D)
    assert len(whole) > length
    assert move_to(world, whole[:length]) == IN_LIST
    assert move_to(world, whole, length) == IN_LIST
    assert seen(world) == before


@pytest.mark.case("RM-14")
@pytest.mark.clause("SPC4r37 6.16.4")
@pytest.mark.parametrize("more", [4, 1000, 0xFFFFFF00])
def test_rm_14_a_transport_id_that_is_longer_than_the_list_is_refused(more: int):
    """Of the two codes that the standard leaves open it is PARAMETER LIST LENGTH ERROR."""
    world = held()
    before = seen(world)
    whole = pack_transport_id(D)
    assert move_to(world, whole, len(whole) + more) == LIST_LENGTH
    assert move_to(world, whole[:-4], len(whole)) == LIST_LENGTH
    assert seen(world) == before


@pytest.mark.case("RM-14")
@pytest.mark.clause("SPC4r37 6.16.4")
def test_rm_14_nor_may_its_length_cut_it():
    world = held()
    before = seen(world)
    whole = pack_transport_id(D)
    assert move_to(world, whole[:-4]) == LIST_LENGTH
    assert seen(world) == before


@pytest.mark.case("RM-15")
@pytest.mark.clause("SPC4r37 6.16.1")
@pytest.mark.parametrize("length", [0, 1, 16, 20, 23])
def test_rm_15_a_list_shorter_than_its_fixed_part_is_refused(length: int):
    world = held()
    before = seen(world)
    assert world.out(N1, OutAction.REGISTER_AND_MOVE, moving(K1, K9, N4)[:length]) == LIST_LENGTH
    assert seen(world) == before


@pytest.mark.case("RM-16")
@pytest.mark.clause("SPC4r37 7.6.4.6")
def test_rm_16_a_transport_id_that_names_a_device_is_refused():
    world = held()
    before = seen(world)
    text = f"{D.name}\0".encode()
    text += bytes(-len(text) % 4)
    header = TransportIdHeader(format_code=DEVICE_FORMAT, protocol_identifier=5, additional_length=len(text))
    assert move_to(world, header.pack() + text) == IN_LIST
    assert seen(world) == before


@pytest.mark.case("RM-17")
@pytest.mark.clause("SPC4r37 7.6.4.6")
@pytest.mark.parametrize("protocol", [protocol for protocol in range(16) if protocol != 5])
def test_rm_17_a_transport_id_of_another_protocol_is_refused(protocol: int):
    world = held()
    before = seen(world)
    own = pack_transport_id(D)
    header = TransportIdHeader.unpack(own).replace(protocol_identifier=protocol, format_code=PORT_FORMAT)
    assert move_to(world, header.pack() + own[header.size :]) == IN_LIST
    fibre_channel = TransportIdHeader(protocol_identifier=FIBRE_CHANNEL).pack().ljust(24, b"\1")
    assert move_to(world, fibre_channel) == IN_LIST
    assert seen(world) == before


@pytest.mark.case("RM-18")
@pytest.mark.clause("SPC4r37 5.13.8")
@pytest.mark.parametrize("scope, kind", [(0, EA), (0xF, 0xF), (1, 0)])
def test_rm_18_scope_and_type_of_the_cdb_are_ignored(scope: int, kind: int):
    world = held(WE)
    parameters = moving(K1, K9, N4)
    assert world.out(N1, OutAction.REGISTER_AND_MOVE, parameters, scope=scope, type=kind) == G
    assert seen(world) == Seen({N1: K1, N2: K2, N4: K9}, (WE, N4), 3, {})


@pytest.mark.case("RM-19")
@pytest.mark.clause("SPC4r37 6.16.4")
def test_rm_19_aptpl_becomes_active_and_the_moved_reservation_survives_a_power_loss():
    world = held()
    assert world.saves == []
    assert world.move(N1, K1, K9, N4, aptpl=True) == G
    assert seen(world) == Seen({N1: K1, N2: K2, N4: K9}, (WERO, N4), 3, {})
    assert world.unit.device.reservations.aptpl
    restored = seen(world.power_cycle())
    assert restored == Seen({N1: K1, N2: K2, N4: K9}, (WERO, N4), 0, {})


@pytest.mark.case("RM-19")
@pytest.mark.clause("SPC4r37 6.16.4")
def test_rm_19_a_move_without_aptpl_ends_it():
    world = World(nexuses=(N1, N2, N3, N1Q, N2Q, N4))
    assert world.register(N1, K1, aptpl=True) == G
    assert world.reserve(N1, K1, WERO) == G
    assert seen(world.power_cycle()).registered == {N1: K1}
    assert world.move(N1, K1, K9, N4) == G
    assert not world.unit.device.reservations.aptpl
    assert seen(world) == Seen({N1: K1, N4: K9}, (WERO, N4), 2, {})
    assert seen(world.power_cycle()) == Seen({}, None, 0, {})


def held_by_nobody_here() -> World:
    """A world in which N4 holds without a session, and N2 is registered."""
    world = World()
    assert world.register(N1, K1) == G
    assert world.register(N2, K2) == G
    assert world.reserve(N1, K1, EARO) == G
    assert world.move(N1, K1, K9, N4, unreg=True) == G
    return world


@pytest.mark.case("RM-20")
@pytest.mark.clause("SPC4r37 5.13.8")
def test_rm_20_the_new_holder_needs_no_session():
    world = held_by_nobody_here()
    assert seen(world) == Seen({N2: K2, N4: K9}, (EARO, N4), 3, {})
    assert world.holding(N1) == Holding(K9, EARO)
    assert world.read_block(N1) == RC
    assert world.clear(N1, K1) == RC
    assert world.write(N2) == G


@pytest.mark.case("RM-20")
@pytest.mark.clause("SPC4r37 5.13.8")
def test_rm_20_a_holder_that_logs_in_finds_its_reservation():
    world = held_by_nobody_here()
    world.attach(N4)
    assert world.write(N4) == G
    assert world.release(N4, K9, EARO) == G
    assert seen(world) == Seen({N2: K2, N4: K9}, None, 3, {N2: [RELEASED]})


@pytest.mark.case("RM-20")
@pytest.mark.clause("SPC4r37 5.13.8")
def test_rm_20_a_registrant_preempts_a_holder_without_a_session():
    world = held_by_nobody_here()
    assert world.preempt(N2, K2, K9, EARO) == G
    assert seen(world) == Seen({N2: K2}, (EARO, N2), 4, {})
    world.attach(N4)
    assert world.pending(N4) == []
    assert world.write(N4) == RC


@pytest.mark.case("RM-20")
@pytest.mark.clause("SPC4r37 5.13.8")
def test_rm_20_a_registrant_clears_what_a_holder_without_a_session_holds():
    world = held_by_nobody_here()
    assert world.clear(N2, K2) == G
    assert seen(world) == Seen({}, None, 4, {})
    assert world.write(N1) == G
