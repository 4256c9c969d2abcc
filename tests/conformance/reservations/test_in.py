"""The cases IN-01 to IN-22: PERSISTENT RESERVE IN. The drawing of the nexuses is in `world`.

Reading changes nothing, so `read` compares the state before and after. What an initiator sees is written as bytes.
IN-16 is decided in `iscsi_target.scsi.reservations.transitions`.
"""

import pytest

from iscsi_target.scsi.layouts.cdb import PersistentReserveIn
from iscsi_target.scsi.nexus import InitiatorPort, Nexus
from iscsi_target.scsi.reservations.personality import InAction
from iscsi_target.scsi.reservations.reservations import Reservations
from iscsi_target.scsi.reservations.transitions import MAX_REGISTRATIONS
from iscsi_target.scsi.state.task import UnitState
from tests.conformance.reservations.world import (
    ALL_REGISTRANTS,
    EA,
    EAAR,
    IN_CDB,
    K1,
    K2,
    K3,
    N1,
    N1Q,
    N2,
    N3,
    P_ID,
    Q_ID,
    REGISTRANTS_ONLY,
    REGISTRATIONS_PREEMPTED,
    TYPES,
    WE,
    WEAR,
    G,
    Holding,
    P,
    Registrant,
    World,
    attention,
    world_of_two,
    world_with,
)

KEY = 0x1122334455667788
EVERY_ACTION = pytest.mark.parametrize("action", InAction, ids=str)


def read(world: World, action: InAction, allocation_length: int = 8192, nexus: Nexus = N3) -> bytes:
    """Sends PERSISTENT RESERVE IN, which must be GOOD and change nothing, and returns its data."""
    before = world.snapshot()
    data = world.read(nexus, action, allocation_length)
    assert world.snapshot() == before
    return data


@pytest.mark.case("IN-01")
@pytest.mark.clause("SPC4r37 6.15.2")
def test_in_01_read_keys_without_registrations_is_a_header():
    assert read(World(), InAction.READ_KEYS) == bytes(8)


@pytest.mark.case("IN-02")
@pytest.mark.clause("SPC4r37 6.15.2")
def test_in_02_equal_keys_are_listed_for_every_nexus():
    world = world_with({N1: KEY, N2: KEY})
    assert read(world, InAction.READ_KEYS) == bytes.fromhex("00000002 00000010") + KEY.to_bytes(8) * 2


@pytest.mark.case("IN-03")
@pytest.mark.clause("SPC4r37 4.2.5.6")
@EVERY_ACTION
def test_in_03_an_allocation_length_of_zero_is_good_and_brings_nothing(action):
    assert read(world_of_two(WE), action, 0) == b""


@pytest.mark.case("IN-04")
@pytest.mark.clause("SPC4r37 6.15.2")
def test_in_04_read_keys_of_the_header_alone_tells_the_whole_length():
    assert read(world_with({N1: K1, N2: K2, N3: K3}), InAction.READ_KEYS, 8) == bytes.fromhex("00000003 00000018")


@pytest.mark.case("IN-05")
@pytest.mark.clause("SPC4r37 6.15.2")
@pytest.mark.parametrize("length", range(1, 17))
def test_in_05_read_keys_is_cut_in_the_middle_of_a_key(length):
    whole = bytes.fromhex("00000001 00000008 1122334455667788")
    assert read(world_with({N1: KEY}), InAction.READ_KEYS, length) == whole[:length]


@pytest.mark.case("IN-06")
@pytest.mark.clause("SPC4r37 6.15.3")
def test_in_06_read_reservation_without_one_is_a_header():
    assert read(world_with({N1: K1}), InAction.READ_RESERVATION, 24) == bytes.fromhex("00000001 00000000")


@pytest.mark.case("IN-07")
@pytest.mark.clause("SPC4r37 6.15.3")
@pytest.mark.parametrize("nexus", (N1, N2, N3), ids=("holder", "registrant", "unregistered"))
@pytest.mark.parametrize("kind", (WE, EA, *REGISTRANTS_ONLY))
def test_in_07_read_reservation_tells_everybody_the_holders_key_and_the_type(kind, nexus):
    world = world_with({N1: KEY, N2: K2}, kind)
    descriptor = KEY.to_bytes(8) + bytes(5) + bytes([kind]) + bytes(2)
    assert read(world, InAction.READ_RESERVATION, nexus=nexus) == bytes.fromhex("00000002 00000010") + descriptor


@pytest.mark.case("IN-08")
@pytest.mark.clause("SPC4r37 6.15.3")
@pytest.mark.parametrize("kind", ALL_REGISTRANTS)
def test_in_08_read_reservation_of_all_registrants_has_the_key_zero(kind):
    world = world_of_two(kind)
    descriptor = bytes(13) + bytes([kind]) + bytes(2)
    assert read(world, InAction.READ_RESERVATION) == bytes.fromhex("00000002 00000010") + descriptor


@pytest.mark.case("IN-09")
@pytest.mark.clause("SPC4r37 6.15.3")
def test_in_09_read_reservation_of_the_header_alone_tells_the_whole_length():
    assert read(world_of_two(WE), InAction.READ_RESERVATION, 8) == bytes.fromhex("00000002 00000010")
    assert read(world_of_two(), InAction.READ_RESERVATION, 8) == bytes.fromhex("00000002 00000000")


@pytest.mark.case("IN-10")
@pytest.mark.clause("SPC4r37 5.13.1")
@EVERY_ACTION
@pytest.mark.parametrize("kind", TYPES)
def test_in_10_an_unregistered_nexus_may_read_under_every_reservation(kind, action):
    world = world_of_two(kind)
    data = read(world, action, nexus=N3)
    assert data == read(world, action, nexus=N1)
    assert data


@pytest.mark.case("IN-11")
@pytest.mark.clause("SPC4r37 6.15.4")
def test_in_11_report_capabilities_tells_what_is_built():
    # RLR_C, CRH, SIP_C, ATP_C, PTPL_C; TMV, ALLOW COMMANDS 100b, PTPL_A zero; all six types
    assert read(World(), InAction.REPORT_CAPABILITIES, 8) == bytes.fromhex("0008 9D C0 EA01 0000")


@pytest.mark.case("IN-12")
@pytest.mark.clause("SPC4r37 6.15.4")
def test_in_12_report_capabilities_is_cut_at_any_byte():
    world = World()
    whole = read(world, InAction.REPORT_CAPABILITIES)
    assert len(whole) == 8
    assert [read(world, InAction.REPORT_CAPABILITIES, length) for length in range(9)] == [
        whole[:length] for length in range(9)
    ]
    assert read(world, InAction.REPORT_CAPABILITIES, 2) == bytes.fromhex("0008")


@pytest.mark.case("IN-13")
@pytest.mark.clause("SPC4r37 6.15.4")
def test_in_13_the_last_register_decides_about_ptpl_a():
    world = World()
    world.register(N1, K1, aptpl=True)
    assert read(world, InAction.REPORT_CAPABILITIES) == bytes.fromhex("0008 9D C1 EA01 0000")
    world.register(N2, K2)
    assert read(world, InAction.REPORT_CAPABILITIES) == bytes.fromhex("0008 9D C0 EA01 0000")


@pytest.mark.case("IN-14")
@pytest.mark.clause("SPC4r37 6.15.5")
@pytest.mark.parametrize("kind", (WE, EA, *REGISTRANTS_ONLY))
def test_in_14_read_full_status_marks_the_holder_alone(kind):
    world = world_of_two(kind)
    before = world.snapshot()
    isid = N1.initiator_port.isid
    assert world.full_status() == [
        Registrant(N1.initiator_port.name, isid, K1, True, (0, kind), P_ID, False),
        Registrant(N2.initiator_port.name, isid, K2, False, (0, 0), P_ID, False),
    ]
    assert world.snapshot() == before


@pytest.mark.case("IN-15")
@pytest.mark.clause("SPC4r37 6.15.5")
@pytest.mark.parametrize("kind", (EAAR, WEAR))
def test_in_15_read_full_status_marks_every_registrant_under_all_registrants(kind):
    world = world_of_two(kind)
    before = world.snapshot()
    assert [(each.key, each.holder, each.scope_and_type) for each in world.full_status()] == [
        (K1, True, (0, kind)),
        (K2, True, (0, kind)),
    ]
    assert world.snapshot() == before


@pytest.mark.case("IN-16")
@pytest.mark.clause("SPC4r37 6.15.5")
def test_in_16_a_registration_on_all_target_ports_has_a_descriptor_for_each():
    world = World()
    assert world.register(N1, K1, all_tg_pt=True) == G
    before = world.snapshot()
    assert [(each.name, each.key, each.port, each.all_tg_pt) for each in world.full_status()] == [
        (N1.initiator_port.name, K1, P_ID, False),
        (N1.initiator_port.name, K1, Q_ID, False),
    ]
    assert world.keys() == [K1, K1]
    assert world.snapshot() == before
    assert world.generation == 1


@pytest.mark.case("IN-17")
@pytest.mark.clause("SPC4r37 6.15.5")
def test_in_17_read_full_status_into_exactly_its_length_is_whole():
    world = world_of_two()
    whole = read(world, InAction.READ_FULL_STATUS)
    assert len(whole) == 8 + 2 * (24 + 48)
    assert read(world, InAction.READ_FULL_STATUS, len(whole)) == whole
    assert read(world, InAction.READ_FULL_STATUS, len(whole) - 1) == whole[:-1]


@pytest.mark.case("IN-18")
@pytest.mark.clause("SPC4r37 6.15.5")
def test_in_18_read_full_status_that_is_cut_tells_the_whole_length():
    world = world_with({N1: K1, N2: K2, N3: K3})
    cut = read(world, InAction.READ_FULL_STATUS, 40)
    assert cut == read(world, InAction.READ_FULL_STATUS)[:40]
    assert cut[:8] == bytes.fromhex("00000003") + (3 * (24 + 48)).to_bytes(4)


@pytest.mark.case("IN-19")
@pytest.mark.clause("SPC4r37 7.6.4.6")
@pytest.mark.parametrize(
    "name, length, padding",
    [
        ("iqn.2026-01.org.example:a", 44, 2),
        ("iqn.2026-01.org.example:ab", 44, 1),
        ("iqn.2026-01.org.example:abc", 48, 4),
        ("iqn.2026-01.org.example:abcd", 48, 3),
        ("iqn.a", 24, 2),
        ("eui.02004567a425678d", 40, 3),
        ("iqn.".ljust(223, "n"), 244, 4),
    ],
)
def test_in_19_a_transport_id_is_name_separator_isid_and_padding(name, length, padding):
    nexus = Nexus(InitiatorPort(name, bytes.fromhex("00023D00000A")), P)
    world = World(nexuses=(nexus,))
    assert world.register(nexus, KEY) == G
    text = name.encode() + b",i,0x00023d00000a" + bytes(padding)
    assert len(text) == length
    descriptor = KEY.to_bytes(8) + bytes(10) + P_ID.to_bytes(2) + (4 + length).to_bytes(4)
    whole = descriptor + bytes.fromhex("4500") + length.to_bytes(2) + text
    data = read(world, InAction.READ_FULL_STATUS, nexus=nexus)
    assert data == bytes.fromhex("00000001") + len(whole).to_bytes(4) + whole


@pytest.mark.case("IN-20")
@pytest.mark.clause("SPC4r37 6.15.1")
@pytest.mark.parametrize("service_action", range(4, 32))
def test_in_20_a_reserved_service_action_is_refused(service_action):
    world = world_of_two(WE)
    before = world.snapshot()
    assert world.send(N1, PersistentReserveIn(service_action=service_action, allocation_length=8192)) == IN_CDB
    assert world.snapshot() == before


@pytest.mark.case("IN-21")
@pytest.mark.clause("SAM5r21 5.14")
@EVERY_ACTION
def test_in_21_a_unit_attention_is_reported_first_and_once(action):
    world = world_of_two()
    assert world.preempt(N1, K1, K2) == G
    assert world.pending_of_all() == {N2: [REGISTRATIONS_PREEMPTED]}
    generation, state = world.generation, world.registered
    tag = world.start(N2, PersistentReserveIn(service_action=action, allocation_length=8192))
    assert (world.ended[tag], world.data[tag]) == (attention(REGISTRATIONS_PREEMPTED), b"")
    assert world.pending_of_all() == {}
    assert read(world, action, nexus=N2)
    assert (world.generation, world.registered) == (generation, state) == (3, {N1: K1})


@pytest.mark.case("IN-22")
@pytest.mark.clause("SPC4r37 6.15.2")
@pytest.mark.parametrize(
    "count, length",
    [(MAX_REGISTRATIONS, 65528), (MAX_REGISTRATIONS + 1, 65535)],
    ids=("as many as there can be", "one more than there can be"),
)
def test_in_22_read_keys_of_many_registrations_is_cut_where_the_field_ends(count, length):
    many = {Nexus(InitiatorPort(f"iqn.2026-01.org.example:{each}", bytes(6)), P): each for each in range(1, count + 1)}
    world = World(stored=UnitState(reservations=Reservations(registrations=many, aptpl=True)))
    data = read(world, InAction.READ_KEYS, 0xFFFF)
    whole = bytes(4) + (8 * count).to_bytes(4) + b"".join(key.to_bytes(8) for key in range(1, count + 1))
    assert len(data) == length
    assert data == whole[:0xFFFF]


@pytest.mark.clause("SPC4r37 6.15.5")
def test_each_registration_is_shown_with_the_port_it_is_for():
    world = World()
    world.register(N1, K1)
    world.register(N1Q, K2)
    assert [(each.key, each.port) for each in world.full_status()] == [(K1, P_ID), (K2, Q_ID)]
    assert world.holding() is None
    world.reserve(N1Q, K2, WE)
    assert [(each.key, each.holder) for each in world.full_status()] == [(K1, False), (K2, True)]
    assert world.holding() == Holding(K2, WE)
