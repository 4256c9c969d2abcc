"""How targets differ in PERSISTENT RESERVE IN, in what they refuse, and in registering."""

from iscsi_target.scsi.layouts.reservation_pages import FullStatusDescriptor, ReservationHeader
from iscsi_target.scsi.reservations.personality import InAction, OutAction
from tests.conformance.reservations.differences import (
    ALL,
    B_ID,
    C_ID,
    COMMUNICATION_FAILURE,
    NOT_READY,
    Differences,
    Story,
    ask,
    counted,
    holding,
    said_length,
    three,
    with_registered,
)
from tests.conformance.reservations.world import (
    EA,
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
    N3,
    N4,
    Q_ID,
    RC,
    RELEASED,
    WE,
    WERO,
    A,
    G,
    World,
    basic,
    listed,
)

differs = Differences()

# PERSISTENT RESERVE IN


@differs("IN-02", "comstar", told=[K1])
def one_registration_for_two_ports(world: World) -> object:
    world.register(N1, K1, all_tg_pt=True)
    return world.keys()


@differs("IN-03", "lio", "tgt", "spdk", told=(IN_CDB, b""))
def keys_into_nothing(world: World) -> object:
    return ask(world, InAction.READ_KEYS, 0)


@differs("IN-04", "spdk", told=(0, 8))
def three_keys_into_a_header(world: World) -> object:
    return said_length(ask(three(world), InAction.READ_KEYS, 8)[1])


@differs("IN-05", "scst", told=(8, 8))
def half_a_key(world: World) -> object:
    world.register(N1, K1)
    return said_length(ask(world, InAction.READ_KEYS, 12)[1])


@differs("IN-09", "spdk", told=(IN_CDB, b""))
def reservation_into_a_header(world: World) -> object:
    return ask(world, InAction.READ_RESERVATION, 8)


@differs("IN-12", "lio", "tgt", "spdk", told=(IN_CDB, b""))
@differs("IN-12", "scst", told=(G, b""))
def two_bytes_of_capabilities(world: World) -> object:
    return ask(world, InAction.REPORT_CAPABILITIES, 2)


@differs("IN-14", "tgt", told=IN_CDB)
def full_status_at_all(world: World) -> object:
    return ask(world, InAction.READ_FULL_STATUS, 8192)[0]


@differs("IN-16", "lio", told=[(True, 0), (True, 0)])
@differs("IN-16", "comstar", told=[(True, 0)])
def all_target_ports_in_full_status(world: World) -> object:
    world.register(N1, K1, all_tg_pt=True)
    data = world.read(N1, InAction.READ_FULL_STATUS)
    at, found = ReservationHeader.size, []
    while at < len(data):
        fields = FullStatusDescriptor.unpack(data, at)
        found.append((fields.all_tg_pt, fields.relative_target_port_identifier))
        at += fields.size + fields.additional_descriptor_length
    return found


@differs("IN-17", "scst", told=1)
def two_descriptors_that_just_fit(world: World) -> object:
    world.register(N1, K1)
    world.register(N2, K2)
    size = len(world.read(N1, InAction.READ_FULL_STATUS))
    return (len(world.read(N1, InAction.READ_FULL_STATUS, size)) - 8) // ((size - 8) // 2)


@differs("IN-18", "lio", "spdk", told=(0, 8))
def full_status_cut(world: World) -> object:
    return said_length(three(world).read(N1, InAction.READ_FULL_STATUS, 40))


@differs("IN-18", "lio", told=2)
@differs("IN-18", "spdk", told=1)
def full_status_with_no_room_for_the_header(world: World) -> object:
    """How many of three descriptors ADDITIONAL LENGTH counts when there is room for two, but not for the header too."""
    size = (len(three(world).read(N1, InAction.READ_FULL_STATUS)) - 8) // 3
    return said_length(world.read(N1, InAction.READ_FULL_STATUS, 2 * size))[0] // size


@differs("IN-19", "comstar", told=b"\x05\x00\x00\x20" + A.name.encode().ljust(32, b"\0"))
def transport_id_in_full_status(world: World) -> object:
    world.register(N1, K1)
    return world.read(N1, InAction.READ_FULL_STATUS)[8 + FullStatusDescriptor.size :]


@differs("IN-19", "spdk", told=Q_ID << 8)
def port_in_full_status(world: World) -> object:
    world.register(N1Q, K1)
    data = world.read(N1, InAction.READ_FULL_STATUS)
    return FullStatusDescriptor.unpack(data, 8).relative_target_port_identifier


# The CDB and the parameter list


@differs("PV-02", "tgt", told=IN_CDB)
def list_of_23_bytes(world: World) -> object:
    return world.out(N1, OutAction.REGISTER, basic(0, K1)[:23])


@differs("PV-03", "tgt", told=IN_CDB)
def list_of_25_bytes(world: World) -> object:
    return world.out(N1, OutAction.REGISTER, basic(0, K1) + b"\0")


@differs("PV-06", "lio", told=IN_LIST)
def reserve_scope_1(world: World) -> object:
    world.register(N1, K1)
    return world.reserve(N1, K1, WE, scope=1)


@differs("PV-08", "lio", told=RC)
@differs("PV-08", "scst", "spdk", told=IN_CDB)
def release_scope_1(world: World) -> object:
    return holding(world, WE).release(N1, K1, WE, scope=1)


@differs("PV-10", "lio", told=RC)
@differs("PV-10", "spdk", told=IN_CDB)
def release_reserved_type(world: World) -> object:
    return holding(world, WE).release(N1, K1, 0xF)


@differs("PV-11", "lio", "scst", told=IN_CDB)
def preempt_reserved_type_that_does_not_matter(world: World) -> object:
    return three(world).preempt(N1, K1, K2, kind=0xF)


@differs("PV-14", *ALL, told=IN_CDB)
def replace_lost(world: World) -> object:
    return world.out(N1, OutAction.REPLACE_LOST_RESERVATION, basic(0, K1), type=WE)


@differs("PV-15", "tgt", told=G)
@differs("RS-15", "tgt", told=G)
def reserve_with_a_key_of_another(world: World) -> object:
    return three(world).reserve(N1, K2, WE)


@differs("PV-15", "spdk", told=IN_CDB)
def release_with_a_wrong_key(world: World) -> object:
    return holding(world, WE).release(N1, K9, WE)


@differs("PV-16", "lio", told=COMMUNICATION_FAILURE)
def stranger_reserves(world: World) -> object:
    return world.reserve(N1, K1, WE)


@differs("PV-17", "lio", told=COMMUNICATION_FAILURE)
@differs("PV-17", "spdk", told=NOT_READY)
def stranger_releases(world: World) -> object:
    return world.release(N1, K1, WE)


@differs("PV-18", "lio", told=COMMUNICATION_FAILURE)
@differs("PV-18", "spdk", told=NOT_READY)
def stranger_clears(world: World) -> object:
    return world.clear(N1, K1)


@differs("PV-20", "lio", told=COMMUNICATION_FAILURE)
@differs("RM-09", "lio", told=COMMUNICATION_FAILURE)
@differs("PV-20", "comstar", "tgt", told=IN_CDB)
@differs("RM-09", "comstar", "tgt", told=IN_CDB)
def stranger_moves(world: World) -> object:
    return world.move(N1, K1, K4, N4)


@differs("PV-22", "tgt", "spdk", told=IN_CDB)
def reserve_with_spec_i_pt(world: World) -> object:
    world.register(N1, K1)
    return world.reserve(N1, K1, WE, spec_i_pt=True)


@differs("PV-23", "scst", told=IN_LIST)
@differs("PV-23", "tgt", "spdk", told=IN_CDB)
def reserve_with_all_tg_pt(world: World) -> object:
    world.register(N1, K1)
    return world.reserve(N1, K1, WE, all_tg_pt=True)


@differs("PV-24", "tgt", "spdk", told=IN_CDB)
def reserve_with_aptpl(world: World) -> object:
    world.register(N1, K1)
    return world.reserve(N1, K1, WE, aptpl=True)


@differs("PV-25", "tgt", "spdk", told=IN_CDB)
def register_with_aptpl(world: World) -> object:
    return world.register(N1, K1, aptpl=True)


@differs("PV-26", "tgt", "spdk", told=IN_CDB)
def register_with_all_tg_pt(world: World) -> object:
    return world.register(N1, K1, all_tg_pt=True)


# Registering


@differs("RG-02", "lio", "spdk", told=0)
def register_nothing(world: World) -> object:
    return counted(world, lambda: world.register(N1, 0))


@differs("RG-05", "lio", "spdk", told=0)
def register_and_ignore_nothing(world: World) -> object:
    return counted(world, lambda: world.ignore(N1, 0))


@differs("RG-13", "lio", told=0)
def unregister(world: World) -> object:
    holding(world, WE)
    return counted(world, lambda: world.register(N2, 0, K2))


def holder_unregisters(kind: int) -> Story:
    """PRGENERATION, and who is told of what."""

    def story(world: World) -> object:
        holding(world, kind)
        moved = counted(world, lambda: world.register(N1, 0, K1))
        return moved, world.pending(N2), world.pending(N3)

    return story


for case, kind in (("RG-14", WE), ("RG-15", EA)):
    differs(case, "lio", told=(0, [], []))(holder_unregisters(kind))
    differs(case, "tgt", told=(2, [RELEASED], []))(holder_unregisters(kind))
for case, kind in (("RG-16", WERO), ("RG-17", EARO)):
    differs(case, "comstar", told=(1, [RELEASED], [RELEASED]))(holder_unregisters(kind))
    differs(case, "spdk", told=(1, [], []))(holder_unregisters(kind))


@differs("RG-26", "comstar", told=IN_CDB)
def registered_with_spec_i_pt(world: World) -> object:
    world.register(N1, K1)
    return world.register_listed(N1, K2, B_ID, K1)


@differs("RG-27", "comstar", told=IN_CDB)
def registered_changes_to_all_ports(world: World) -> object:
    world.register(N1, K1)
    return world.register(N1, K2, K1, all_tg_pt=True)


@differs("RG-28", "lio", told={N1Q: K1})
def unregister_through_all_ports(world: World) -> object:
    world.register(N1, K1, all_tg_pt=True)
    world.ignore(N1, 0, all_tg_pt=True)
    return world.registered


@differs("RG-27", "lio", told={N1: K2})
def registered_ignores_to_all_ports(world: World) -> object:
    world.register(N1, K1)
    world.ignore(N1, K2, all_tg_pt=True)
    return world.registered


@differs("RG-29", "lio", told=2)
def register_through_all_ports(world: World) -> object:
    return counted(world, lambda: world.register(N1, K1, all_tg_pt=True))


# TransportIDs


@differs("TI-01", "lio", told=(IN_LIST, {}))
def no_length_of_transport_ids(world: World) -> object:
    return with_registered(world, world.register(N1, K1, spec_i_pt=True))


@differs("TI-02", "lio", told=(IN_LIST, {}))
def transport_ids_longer_than_the_list(world: World) -> object:
    long = listed(B_ID + bytes(4))[:-4]
    return with_registered(world, world.out(N1, OutAction.REGISTER, basic(0, K1, spec_i_pt=True) + long))


@differs("TI-03", "lio", told=(IN_LIST, {}))
@differs("TI-03", "scst", told=(G, {N1: K1, N2: K1}))
def bytes_after_the_transport_ids(world: World) -> object:
    parameters = basic(0, K1, spec_i_pt=True) + listed(B_ID) + bytes(4)
    return with_registered(world, world.out(N1, OutAction.REGISTER, parameters))


@differs("TI-17", "comstar", told=(IN_CDB, {}))
def transport_id_twice(world: World) -> object:
    return with_registered(world, world.register_listed(N1, K1, B_ID + B_ID))


@differs("TI-18", "lio", told=(G, {N2: K2, N1: K1, N3: K1}))
@differs("TI-18", "scst", told=(G, {N2: K1, N1: K1, N3: K1}))
@differs("TI-18", "comstar", told=(IN_CDB, {N2: K2}))
def listed_port_is_registered(world: World) -> object:
    world.register(N2, K2)
    return with_registered(world, world.register_listed(N1, K1, B_ID + C_ID))


@differs("TI-20", "comstar", told=(LIST_LENGTH, {}))
def no_transport_id(world: World) -> object:
    return with_registered(world, world.register_listed(N1, K1, b""))


@differs("TI-22", "lio", told=6)
def two_listed_through_two_ports(world: World) -> object:
    return counted(world, lambda: world.register_listed(N1, K1, B_ID + C_ID, all_tg_pt=True))
