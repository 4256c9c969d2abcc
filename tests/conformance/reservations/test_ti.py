"""The cases TI-01 to TI-23: the TransportIDs of REGISTER with SPEC_I_PT. The drawing of the nexuses is in `world`.

Unless a test says otherwise N1 sends the command and nobody is registered. What is refused leaves the state, the
unit attentions and the state file as they are. What the standard leaves open is decided in
`iscsi_target.scsi.reservations.transitions`; besides, what follows the first NUL of a TransportID is ignored (TI-13).
"""

import pytest

from iscsi_target.scsi.layouts.reservation_pages import TransportIdHeader, TransportIdList
from iscsi_target.scsi.layouts.transport_id import pack_transport_id
from iscsi_target.scsi.nexus import InitiatorPort, Nexus
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.reservations.reservations import Reservations
from iscsi_target.scsi.reservations.transitions import MAX_REGISTRATIONS
from iscsi_target.scsi.state.task import UnitState
from tests.conformance.reservations.world import (
    IN_LIST,
    K1,
    K2,
    K9,
    LIST_LENGTH,
    N1,
    N1Q,
    N2,
    N2Q,
    N3,
    N4,
    NO_RESOURCES,
    RC,
    WE,
    A,
    B,
    C,
    D,
    G,
    P,
    Q,
    Told,
    World,
    basic,
    listed,
)

A_ID, B_ID, C_ID = map(pack_transport_id, (A, B, C))
B_NAME, B_ISID = B.name.encode(), B.isid.hex().encode()
UNKNOWN_NAME = b"iqn.2026-01.org.example:unknown"


def transport_id(text: bytes, *, code: int = 1, protocol: int = 5, length: int | None = None) -> bytes:
    """Any TransportID; length: ADDITIONAL LENGTH, which otherwise is that of the text, padded as it should be."""
    text = text if length is not None else text.ljust(max(20, (len(text) + 4) // 4 * 4), b"\0")
    header = TransportIdHeader(
        format_code=code, protocol_identifier=protocol, additional_length=len(text) if length is None else length
    )
    return header.pack() + text


def device_id(name: bytes) -> bytes:
    return transport_id(name, code=0)


def of_length(ids: bytes, length: int) -> bytes:
    """TransportIDs with any length before them."""
    return TransportIdList(transportid_parameter_data_length=length).pack() + ids


def register(world: World, tail: bytes, *, key: int = K1, old: int = 0) -> Told:
    """REGISTER with SPEC_I_PT by N1; tail: all that follows the basic parameter list."""
    return world.out(N1, OutAction.REGISTER, basic(old, key, spec_i_pt=True) + tail)


def refuses(tail: bytes, world: World | None = None) -> Told:
    """Sends a list that is to register nobody and returns what came of it."""
    world = world or World()
    before = world.snapshot()
    told = register(world, tail)
    assert world.snapshot() == before
    return told


def registers(tail: bytes, *nexuses: Nexus, world: World | None = None) -> None:
    """Sends a list, which has to register exactly these with one step of PRGENERATION, and N1."""
    world = world or World()
    generation, registered = world.generation, world.registered
    assert register(world, tail) == G
    assert world.registered == registered | dict.fromkeys((N1, *nexuses), K1)
    assert world.generation == generation + 1
    assert world.holding(N1) is None
    assert world.pending_of_all() == {}


# The length of the list


@pytest.mark.case("TI-01")
@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("tail", (b"", bytes(1), bytes(3)), ids=len)
def test_ti_01_a_list_without_the_length_of_its_transport_ids_is_refused(tail):
    assert refuses(tail) == LIST_LENGTH


@pytest.mark.case("TI-02")
@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("more", (1, 4, len(C_ID), 0xFFFF_FFFF - len(B_ID)))
def test_ti_02_a_length_of_more_than_what_follows_is_refused(more):
    assert refuses(of_length(B_ID, len(B_ID) + more)) == LIST_LENGTH


@pytest.mark.case("TI-03")
@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("trailing", (b"\0", bytes(4), C_ID), ids=len)
def test_ti_03_a_length_of_less_than_what_follows_is_refused(trailing):
    assert refuses(of_length(B_ID + trailing, len(B_ID))) == LIST_LENGTH
    assert refuses(of_length(trailing, 0)) == LIST_LENGTH


@pytest.mark.case("TI-04")
@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("surplus", (-3, -2, -1, 1, 2, 3))
def test_ti_04_a_length_that_is_no_multiple_of_four_is_refused(surplus):
    assert refuses(listed((B_ID + bytes(3))[: len(B_ID) + surplus])) == LIST_LENGTH


@pytest.mark.case("TI-05")
@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("kept", range(1, len(C_ID)))
def test_ti_05_a_second_transport_id_that_is_cut_off_keeps_the_first_from_being_registered(kept):
    assert refuses(listed(B_ID + C_ID[:kept])) == LIST_LENGTH


# The TransportID itself


@pytest.mark.case("TI-06")
@pytest.mark.clause("SPC4r37 7.6.4.1")
@pytest.mark.parametrize("protocol", [protocol for protocol in range(16) if protocol != 5])
def test_ti_06_a_transport_id_of_another_protocol_is_refused(protocol):
    text = B_NAME + b",i,0x" + B_ISID
    assert refuses(listed(transport_id(text, protocol=protocol))) == IN_LIST
    assert refuses(listed(C_ID + transport_id(text, protocol=protocol))) == IN_LIST


@pytest.mark.case("TI-07")
@pytest.mark.clause("SPC4r37 7.6.4.6")
def test_ti_07_a_device_name_registers_every_known_port_of_that_name():
    second, third = InitiatorPort(B.name, b"\x80\0\0\0\0\2"), InitiatorPort(B.name, b"\x80\0\0\0\0\3")
    known = {Nexus(third, Q): K9}  # registered, though not logged in
    world = World(
        nexuses=(N1, N2, N3, Nexus(second, Q)), stored=UnitState(reservations=Reservations(registrations=known))
    )
    registers(listed(device_id(B_NAME)), N2, Nexus(second, P), Nexus(third, P), world=world)
    assert refuses(listed(device_id(UNKNOWN_NAME))) == IN_LIST
    assert refuses(listed(C_ID + device_id(UNKNOWN_NAME))) == IN_LIST


@pytest.mark.case("TI-08")
@pytest.mark.clause("SPC4r37 7.6.4.6")
def test_ti_08_a_port_that_was_never_seen_is_registered_and_is_so_when_it_logs_in():
    world = World()
    registers(listed(B_ID + pack_transport_id(D)), N2, N4, world=world)
    world.attach(N4)
    assert world.reserve(N4, K1, WE) == G
    assert world.write(N4) == G
    assert world.write(N2) == RC
    assert world.holder == N4


@pytest.mark.case("TI-09")
@pytest.mark.clause("SPC4r37 7.6.4.6")
@pytest.mark.parametrize("code", (2, 3))
def test_ti_09_a_reserved_format_is_refused(code):
    assert refuses(listed(transport_id(B_NAME + b",i,0x" + B_ISID, code=code))) == IN_LIST


@pytest.mark.case("TI-10")
@pytest.mark.clause("SPC4r37 7.6.4.6")
@pytest.mark.parametrize("code, text", [(0, b"iqn.a"), (1, b"iqn.a,i,0x80")])
@pytest.mark.parametrize("length", (0, 4, 16, 19))
def test_ti_10_an_additional_length_below_20_is_refused(length, code, text):
    found = transport_id(text.ljust(length, b"\0")[:length], code=code, length=length)
    assert refuses(listed(found)) == IN_LIST
    assert refuses(listed(found + C_ID)) == IN_LIST


@pytest.mark.case("TI-11")
@pytest.mark.clause("SPC4r37 7.6.4.6")
@pytest.mark.parametrize("length", (45, 46, 47))
def test_ti_11_an_additional_length_that_is_no_multiple_of_four_is_refused(length):
    text = B_NAME + b",i,0x" + B_ISID
    assert refuses(listed(transport_id(text.ljust(length, b"\0"), length=length))) == IN_LIST
    assert refuses(listed(transport_id(text.ljust(48, b"\0"), length=length))) == IN_LIST


@pytest.mark.case("TI-12")
@pytest.mark.clause("SPC4r37 7.6.4.6")
def test_ti_12_a_name_without_nul_is_refused():
    port_name = B_NAME + b"xx,i,0x" + B_ISID
    assert refuses(listed(transport_id(port_name, length=len(port_name)))) == IN_LIST
    device_name = b"iqn.2026-01.org.example:four"
    world = World(nexuses=(N1, Nexus(InitiatorPort(device_name.decode(), bytes(6)), P)))
    assert refuses(listed(transport_id(device_name, code=0, length=len(device_name))), world) == IN_LIST


@pytest.mark.case("TI-13")
@pytest.mark.clause("SPC4r37 7.6.4.6")
@pytest.mark.parametrize("rest", (b"\0x", b"\0\xff\xff\xff\xff\xff", b"\0,i,0x800000000002"))
def test_ti_13_what_follows_the_first_nul_is_not_part_of_the_name(rest):
    registers(listed(transport_id(B_NAME + b",i,0x" + B_ISID + rest)), N2)
    registers(listed(device_id(B_NAME + rest)), N2)


@pytest.mark.case("TI-14")
@pytest.mark.clause("SPC4r37 7.6.4.6")
@pytest.mark.parametrize(
    "text",
    [
        B_NAME,
        B_NAME + b",i,0x",
        B_NAME + b",i,0X" + B_ISID,
        B_NAME + b",I,0x" + B_ISID,
        B_NAME + b",i," + B_ISID,
        B_NAME + b",t,0x" + B_ISID,
        B_NAME + b" ,i,0x" + B_ISID,
        B_NAME + b",i,0x " + B_ISID,
        B_NAME + b",i,0x" + B_ISID[1:],
        B_NAME + b",i,0x" + B_ISID[2:],
        B_NAME + b",i,0x" + B_ISID + b"0",
        B_NAME + b",i,0x" + B_ISID + b"00",
        B_NAME + b",i,0x" + B_ISID + b"\n",
        B_NAME + b",i,0x" + B_ISID[:-1] + b"g",
        B_NAME + b",i,0x" + B_ISID + b",i,0x" + B_ISID,
        b",i,0x" + B_ISID,
        b"disk,i,0x" + B_ISID,
        B_NAME + b"\xff,i,0x" + B_ISID,
        B_NAME + b",i,0x" + "\uff11".encode() * 12,
    ],
)
def test_ti_14_what_is_not_a_name_the_separator_and_twelve_digits_is_refused(text):
    assert refuses(listed(transport_id(text))) == IN_LIST


@pytest.mark.case("TI-15")
@pytest.mark.clause("RFC7143 4.2.7.1")
@pytest.mark.parametrize(
    "text", [b"iqn.2026-01.org.example:b,i,0xABCDEF00000a", b"IQN.2026-01.ORG.Example:B,i,0xabcdef00000A"]
)
def test_ti_15_a_name_and_an_isid_are_the_same_in_any_case(text):
    nexus = Nexus(InitiatorPort(B.name, bytes.fromhex("abcdef00000a")), P)
    world = World(nexuses=(N1, nexus))
    registers(listed(transport_id(text)), nexus, world=world)
    assert world.reserve(nexus, K1, WE) == G


@pytest.mark.case("TI-16")
@pytest.mark.clause("SPC4r37 7.6.4.6")
def test_ti_16_a_name_of_more_than_223_bytes_is_refused():
    longest = "iqn.".ljust(223, "n")
    port = InitiatorPort(longest, bytes(6))
    found = pack_transport_id(port)
    assert len(found) == 248
    world = World(nexuses=(N1, Nexus(port, P)))
    registers(listed(found), Nexus(port, P), world=world)
    registers(listed(device_id(longest.encode())), Nexus(port, P), world=World(nexuses=(N1, Nexus(port, P))))
    assert refuses(listed(transport_id(longest.encode() + b"n,i,0x000000000000"))) == IN_LIST
    assert refuses(listed(device_id(longest.encode() + b"n"))) == IN_LIST
    padded = transport_id((B_NAME + b",i,0x" + B_ISID).ljust(248, b"\0"), length=248)
    assert refuses(listed(padded)) == IN_LIST
    assert refuses(listed(transport_id(b"n" * 65000, length=65000))) == IN_LIST


# The list as a whole


@pytest.mark.case("TI-17")
@pytest.mark.clause("SPC4r37 6.16.3")
def test_ti_17_a_port_that_is_listed_twice_is_refused():
    assert refuses(listed(B_ID + C_ID + B_ID)) == IN_LIST
    other_spelling = transport_id(B_NAME.upper() + b",i,0x" + B_ISID)
    assert refuses(listed(B_ID + other_spelling)) == IN_LIST
    assert refuses(listed(device_id(B_NAME) + device_id(B_NAME))) == IN_LIST
    assert refuses(listed(A_ID + A_ID)) == IN_LIST


@pytest.mark.case("TI-18")
@pytest.mark.clause("SPC4r37 5.13.7")
@pytest.mark.parametrize("key", (K1, K2), ids=("with the same key", "with another key"))
def test_ti_18_a_listed_port_that_is_registered_already_is_refused(key):
    world = World()
    world.register(N2, key)
    assert refuses(listed(B_ID), world) == IN_LIST
    assert refuses(listed(C_ID + B_ID), world) == IN_LIST
    assert refuses(listed(device_id(B_NAME)), world) == IN_LIST
    assert world.registered == {N2: key}
    elsewhere = World()
    elsewhere.register(N2Q, key)
    registers(listed(B_ID), N2, world=elsewhere)


@pytest.mark.case("TI-19")
@pytest.mark.clause("SPC4r37 6.16.3")
def test_ti_19_the_port_of_the_issuer_in_the_list_is_the_entry_that_is_implied():
    registers(listed(A_ID))
    registers(listed(A_ID + B_ID), N2)
    registers(listed(device_id(A.name.encode()) + B_ID), N2)
    for ids in (B_ID, A_ID + B_ID):
        world = World()
        assert world.register_listed(N1, K1, ids, all_tg_pt=True) == G
        assert world.registered == dict.fromkeys((N1Q, N1, N2, N2Q), K1)
        assert world.generation == 1


@pytest.mark.case("TI-20")
@pytest.mark.clause("SPC4r37 6.16.3")
def test_ti_20_an_empty_list_registers_the_issuer_alone():
    registers(listed(b""))


@pytest.mark.case("TI-21")
@pytest.mark.clause("SPC4r37 5.13.7")
def test_ti_21_a_list_for_which_there_is_no_room_registers_nobody():
    def filled(left: int) -> World:
        names = (f"iqn.2026-01.org.example:host-{number}" for number in range(MAX_REGISTRATIONS - left))
        others = {Nexus(InitiatorPort(name, bytes(6)), P): K9 for name in names}
        return World(stored=UnitState(reservations=Reservations(registrations=others)))

    assert refuses(listed(B_ID + C_ID), filled(2)) == NO_RESOURCES
    registers(listed(B_ID + C_ID), N2, N3, world=filled(3))


@pytest.mark.case("TI-22")
@pytest.mark.clause("SPC4r37 5.13.7")
def test_ti_22_all_target_ports_of_all_listed_ports_are_registered_at_once():
    world = World()
    assert world.register_listed(N1, K1, B_ID + C_ID, all_tg_pt=True) == G
    assert world.registered == dict.fromkeys((N1, N1Q, N2, N2Q, N3, Nexus(C, Q)), K1)
    assert world.generation == 1
    assert world.pending_of_all() == {}


@pytest.mark.case("TI-23")
@pytest.mark.clause("SPC4r37 5.13.7")
@pytest.mark.parametrize(
    "tail", (listed(B_ID + C_ID), listed(device_id(UNKNOWN_NAME)), of_length(B_ID[:-4], len(B_ID)), b"")
)
def test_ti_23_without_a_key_nothing_happens_and_the_list_is_ignored(tail):
    world = World()
    assert register(world, tail, key=0) == G
    assert world.registered == {}
    assert (world.generation, world.pending_of_all()) == (1, {})


@pytest.mark.clause("SPC4r37 5.13.7")
@pytest.mark.parametrize("tail", (listed(B_ID), listed(device_id(UNKNOWN_NAME)), of_length(B_ID, 8), b""))
def test_the_list_is_ignored_where_the_keys_decide_alone(tail):
    world = World()
    before = world.snapshot()
    assert register(world, tail, old=K9) == RC
    assert world.snapshot() == before
    world.register(N1, K1)
    before = world.snapshot()
    assert register(world, tail, old=K9) == RC
    assert register(world, tail, old=K1) == IN_LIST
    assert register(world, tail, old=K1, key=0) == IN_LIST
    assert world.snapshot() == before
