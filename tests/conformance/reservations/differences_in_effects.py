"""How targets differ in releasing, clearing, preempting and moving, and in what becomes of sessions and commands."""

from iscsi_target.scsi.layouts import block_cdb as sbc
from iscsi_target.scsi.layouts.cdb import (
    ModeSelect6,
    ModeSense6,
    Release6,
    ReportLuns,
    ReportSupportedOperationCodes,
    RequestSense,
    Reserve6,
)
from iscsi_target.scsi.reservations.personality import InAction, OutAction
from iscsi_target.wire.layout import Layout
from tests.conformance.reservations.differences import (
    COMMUNICATION_FAILURE,
    NOT_READY,
    Differences,
    Story,
    ask,
    counted,
    holding,
    three,
    with_registered,
)
from tests.conformance.reservations.world import (
    EA,
    EAAR,
    EARO,
    IN_CDB,
    IN_LIST,
    K1,
    K2,
    K3,
    K9,
    N1,
    N1Q,
    N2,
    N3,
    N4,
    PREEMPTED,
    RC,
    REGISTRATIONS_PREEMPTED,
    RELEASED,
    TYPES,
    WE,
    WEAR,
    WERO,
    G,
    World,
    attention,
    check,
    moving,
)

differs = Differences()

# Releasing and clearing


def holder_releases(kind: int) -> Story:
    def story(world: World) -> object:
        assert holding(world, kind).release(N1, K1, kind) == G
        return world.pending(N2), world.pending(N3)

    return story


for case, kind in (("RL-01", WE), ("RL-02", EA)):
    differs(case, "tgt", told=([RELEASED], []))(holder_releases(kind))
for case, kind in (("RL-03", WERO), ("RL-04", EARO)):
    differs(case, "comstar", told=([RELEASED], [RELEASED]))(holder_releases(kind))
    differs(case, "tgt", "spdk", told=([], []))(holder_releases(kind))


@differs("RG-25", "spdk", told=(IN_CDB, (0, WEAR), []))
@differs("RL-05", "spdk", told=(IN_CDB, (0, WEAR), []))
def another_releases_all_registrants(world: World) -> object:
    told = holding(world, WEAR).release(N2, K2, WEAR)
    return told, world.holding(), world.pending(N1)


@differs("RL-06", "spdk", told=(G, (0, EAAR)))
def creator_releases_all_registrants(world: World) -> object:
    return holding(world, EAAR).release(N1, K1, EAAR), world.holding()


@differs("RL-07", "lio", told=RC)
@differs("RL-07", "spdk", told=IN_CDB)
def release_of_another_type(world: World) -> object:
    return holding(world, WE).release(N1, K1, EA)


@differs("RL-08", "spdk", told=IN_CDB)
def another_releases(world: World) -> object:
    return holding(world, WE).release(N2, K2, WE)


@differs("RL-10", "lio", told=(G, (K1, WE)))
@differs("RL-10", "tgt", told=(G, (K1, WE)))
def another_releases_with_a_wrong_key(world: World) -> object:
    return holding(world, WE).release(N2, K9, WE), world.holding()


@differs("CL-01", "comstar", told=(1, [PREEMPTED], [PREEMPTED], [PREEMPTED]))
@differs("CL-01", "spdk", told=(2, [], [], []))
def clear(world: World) -> object:
    holding(world, WERO)
    moved = counted(world, lambda: world.clear(N1, K1))
    return moved, world.pending(N1), world.pending(N2), world.pending(N3)


@differs("CL-05", "lio", told=COMMUNICATION_FAILURE)
@differs("CL-05", "spdk", told=NOT_READY)
def clear_twice(world: World) -> object:
    world.register(N1, K1)
    world.clear(N1, K1)
    return world.clear(N1, K1)


@differs("CL-07", "lio", told=False)
def clear_what_outlives_a_loss_of_power(world: World) -> object:
    world.register(N1, K1, aptpl=True)
    world.clear(N1, K1)
    return world.state.aptpl


# Preempting


@differs("PE-01", "comstar", told=(1, []))
@differs("PE-01", "tgt", told=(1, [PREEMPTED]))
@differs("PE-01", "spdk", told=(2, []))
def preempt_without_reservation(world: World) -> object:
    world.register(N1, K1)
    world.register(N2, K2)
    moved = counted(world, lambda: world.preempt(N1, K1, K2, WE))
    assert world.registered == {N1: K1}
    return moved, world.pending(N2)


@differs("PE-02", "spdk", told=(G, 1))
def preempt_nobody(world: World) -> object:
    world.register(N1, K1)
    before = world.generation
    return world.preempt(N1, K1, K9, WE), world.generation - before


@differs("PE-03", "lio", told=IN_LIST)
@differs("PE-03", "tgt", "spdk", told=G)
def preempt_key_zero_without_reservation(world: World) -> object:
    world.register(N1, K1)
    return world.preempt(N1, K1, 0, WE)


@differs("PE-04", "comstar", "scst", "tgt", told={N1: K1})
def preempt_own_key_without_reservation(world: World) -> object:
    world.register(N1, K1)
    assert world.preempt(N1, K1, K1, WE) == G
    return world.registered


def taken_over(old: int, new: int) -> Story:
    """N2 takes over from N1; N3 is registered too: what N1, N2 and N3 are told."""

    def story(world: World) -> object:
        assert three(world).reserve(N1, K1, old) == G
        assert world.preempt(N2, K2, K1, new) == G
        assert (world.holder, world.registered) == (N2, {N2: K2, N3: K3})
        return world.pending(N1), world.pending(N2), world.pending(N3)

    return story


differs("PE-05", "comstar", "spdk", told=([], [], []))(taken_over(WE, EA))
differs("PE-05", "tgt", told=([PREEMPTED], [], [RELEASED]))(taken_over(WE, EA))
differs("PE-06", "comstar", "spdk", told=([], [], []))(taken_over(WE, WE))
differs("PE-06", "tgt", told=([PREEMPTED], [], []))(taken_over(WE, WE))
differs("PE-07", "comstar", told=([REGISTRATIONS_PREEMPTED], [], [REGISTRATIONS_PREEMPTED]))(taken_over(WERO, WERO))


@differs("PE-08", "comstar", told=[])
def preempt_another_registrant(world: World) -> object:
    assert three(world).reserve(N1, K1, WERO) == G
    assert world.preempt(N2, K2, K3, WERO) == G
    assert world.registered == {N1: K1, N2: K2}
    return world.pending(N3)


@differs("PE-09", "spdk", told=G)
def preempt_nobody_under_a_reservation(world: World) -> object:
    return holding(world, WERO).preempt(N2, K2, K9, WERO)


@differs("PE-10", "comstar", "tgt", "spdk", told=IN_CDB)
def preempt_key_zero(world: World) -> object:
    return holding(world, WERO).preempt(N2, K2, 0, WERO)


@differs("PE-11", "tgt", told=(1, [PREEMPTED], [PREEMPTED]))
@differs("PE-11", "spdk", told=(3, [], []))
def preempt_all_registrants(world: World) -> object:
    three(world).reserve(N1, K1, WEAR)
    moved = counted(world, lambda: world.preempt(N2, K2, 0, WEAR))
    assert world.registered == {N2: K2}
    return moved, world.pending(N1), world.pending(N3)


@differs("PE-13", "lio", told=((K2, WE), [REGISTRATIONS_PREEMPTED]))
@differs("PE-13", "comstar", told=((0, WEAR), []))
def preempt_one_of_all_registrants(world: World) -> object:
    three(world).reserve(N1, K1, WEAR)
    assert world.preempt(N2, K2, K1, WE) == G
    assert world.registered == {N2: K2, N3: K3}
    return world.holding(N2), world.pending(N1)


@differs("PE-14", "lio", "scst", "comstar", "tgt", told=True)
def preempt_own_key_of_all_registrants(world: World) -> object:
    three(world).reserve(N1, K1, WEAR)
    assert world.preempt(N2, K2, K2, WEAR) == G
    return N2 in world.registered


@differs("PE-14", "lio", told=((K1, WE), {N1: K1, N2: K2, N3: K3}))
def creator_preempts_own_key_of_all_registrants(world: World) -> object:
    three(world).reserve(N1, K1, WEAR)
    assert world.preempt(N1, K1, K1, WE) == G
    return world.holding(N1), world.registered


@differs("PE-17", "comstar", told=([REGISTRATIONS_PREEMPTED], [REGISTRATIONS_PREEMPTED]))
@differs("PE-17", "spdk", told=([], []))
def holder_changes_the_type(world: World) -> object:
    assert holding(world, WERO).preempt(N1, K1, K1, EARO) == G
    assert world.holder == N1
    return world.pending(N2), world.pending(N3)


@differs("PE-20", "comstar", "tgt", told={N1: K1, N2: K2})
def preempt_own_key_under_another(world: World) -> object:
    assert holding(world, WERO).preempt(N2, K2, K2, WERO) == G
    return world.registered


@differs("PA-01", "tgt", "spdk", told=IN_CDB)
def preempt_and_abort(world: World) -> object:
    return world.ended[holding(world, WERO).preempt_and_abort(N2, K2, K1, WERO)]


def abort_reaches(bystander_registers: bool) -> Story:
    """How the write that N3 has at the medium ends when N2 preempts N1 and aborts."""

    def story(world: World) -> object:
        holding(world, WERO)
        if bystander_registers:
            world.register(N3, K3)
        world.slow = True
        cdb = sbc.Write10(lba=0, transfer_length=1) if bystander_registers else sbc.Read10(lba=0, transfer_length=1)
        tag = world.start(N3, cdb, bytes(512) if bystander_registers else b"")
        world.preempt_and_abort(N2, K2, K1, WERO)
        world.finish_all()
        return world.ended[tag]

    return story


differs("PA-03", "comstar", told=None)(abort_reaches(bystander_registers=True))
differs("PA-08", "comstar", told=None)(abort_reaches(bystander_registers=False))


# Moving


@differs("RM-01", "tgt", "spdk", told=(IN_CDB, {N1: K1}))
def move_to_a_stranger(world: World) -> object:
    holding(world, WERO, registered=False)
    return with_registered(world, world.move(N1, K1, K9, N4))


@differs("RM-04", "comstar", "scst", told=IN_CDB)
@differs("RM-04", "tgt", told=RC)
def move_to_the_key_zero(world: World) -> object:
    return holding(world, WERO).move(N1, K1, 0, N2)


@differs("RM-05", "tgt", told=(G, {N1: K1, N2: K2}))
def move_to_oneself(world: World) -> object:
    return with_registered(world, holding(world, WERO).move(N1, K1, K1, N1, unreg=1))


@differs("RM-06", "comstar", told=(G, N1Q))
def move_to_own_port_elsewhere(world: World) -> object:
    return holding(world, WERO).move(N1, K1, K9, N1Q), world.holder


@differs("RM-07", "comstar", told=RC)
def move_without_reservation(world: World) -> object:
    world.register(N1, K1)
    return world.move(N1, K1, K9, N4)


@differs("RM-08", "tgt", told=(G, N1))
def another_moves(world: World) -> object:
    return holding(world, WERO).move(N2, K2, K1, N1), world.holder


@differs("RM-12", "comstar", told=IN_CDB)
def move_to_a_port_that_there_is_not(world: World) -> object:
    return holding(world, WERO).move(N1, K1, K9, N4, relative_target_port_identifier=99)


@differs("RM-13", "tgt", told=IN_CDB)
def move_to_a_short_transport_id(world: World) -> object:
    parameters = moving(K1, K2, N2, transportid_length=20)[:44]
    return holding(world, WERO).out(N1, OutAction.REGISTER_AND_MOVE, parameters)


@differs("RM-14", "tgt", told=IN_CDB)
@differs("RM-14", "scst", told=IN_LIST)
def move_to_a_transport_id_longer_than_the_list(world: World) -> object:
    parameters = moving(K1, K2, N2, transportid_length=200)
    return holding(world, WERO).out(N1, OutAction.REGISTER_AND_MOVE, parameters)


@differs("RM-15", "tgt", told=IN_CDB)
def move_with_a_short_list(world: World) -> object:
    return holding(world, WERO).out(N1, OutAction.REGISTER_AND_MOVE, moving(K1, K2, N2)[:20])


@differs("RM-18", "scst", told=IN_CDB)
def move_with_a_scope(world: World) -> object:
    return holding(world, WERO).out(N1, OutAction.REGISTER_AND_MOVE, moving(K1, K2, N2), scope=1)


# Sessions, SPC-2 reservations, attentions


@differs("S2-03", "spdk", told=G)
def registers_what_it_reserved(world: World) -> object:
    assert world.send(N1, Reserve6()) == G
    return world.register(N1, K1)


@differs("S2-04", "comstar", told=(G, N1))
def registered_reserves(world: World) -> object:
    world.register(N1, K1)
    return world.send(N1, Reserve6()), world.unit.device.spc2_reservation.holder


@differs("S2-05", "comstar", told=(G, N1))
@differs("S2-05", "tgt", "spdk", told=(RC, None))
def holder_reserves(world: World) -> object:
    holding(world, WERO)
    return world.send(N1, Reserve6()), world.unit.device.spc2_reservation.holder


@differs("S2-06", "lio", "tgt", "spdk", told=(RC, RC))
def registrant_reserves(world: World) -> object:
    holding(world, WERO)
    return world.send(N2, Reserve6()), world.send(N2, Release6())


@differs("S2-12", "lio", "spdk", told=[RC, RC])
def spc2_reservation_and_harmless_commands(world: World) -> object:
    assert world.send(N1, Reserve6()) == G
    cdbs = (ReportLuns(allocation_length=16), RequestSense(allocation_length=18))
    return [world.send(N2, cdb) for cdb in cdbs]


@differs("UA-01", "lio", "scst", told=[attention(REGISTRATIONS_PREEMPTED), RC])
@differs("UA-01", "tgt", told=[attention(PREEMPTED), RC])
def attention_and_conflict(world: World) -> object:
    three(world).reserve(N1, K1, WERO)
    assert world.preempt(N1, K1, K2, WERO) == G
    return [world.write(N2), world.write(N2)]


# Commands against reservations: for each type, the registrant N2 and the stranger N3


def letters(cdb: Layout) -> Story:
    """C for a conflict and A for anything else."""

    def story(world: World) -> object:
        found = []
        for kind in TYPES:
            again = holding(World(personality=world.personality), kind)
            told = [again.send(nexus, cdb) for nexus in (N2, N3)]
            found.append("".join("C" if each == RC else "A" for each in told))
        return " ".join(found)

    return story


AS_WRITE = "CC CC AC AC AC AC"
AS_REGISTRANT = "AC AC AC AC AC AC"
ALWAYS = "AA AA AA AA AA AA"
NOT_EVEN_REGISTERED = "CC CC CC CC AC AC"
for name, cdb, who, told in (
    ("2.O MODE SENSE", ModeSense6(page_code=0x3F, allocation_length=255), "comstar tgt", AS_WRITE),
    ("2.O MODE SENSE", ModeSense6(page_code=0x3F, allocation_length=255), "spdk", AS_REGISTRANT),
    ("2.O MODE SELECT", ModeSelect6(), "spdk", AS_REGISTRANT),
    ("2.O READ", sbc.Read10(transfer_length=1), "comstar", "AC CC AA AC AA AC"),
    ("2.O VERIFY", sbc.Verify10(verification_length=1), "comstar", "AC CC AA AC AA AC"),
    ("2.O VERIFY", sbc.Verify10(verification_length=1), "spdk", NOT_EVEN_REGISTERED),
    ("2.O PRE-FETCH", sbc.PreFetch10(prefetch_length=1), "spdk", NOT_EVEN_REGISTERED),
    ("2.O MODE SENSE", ModeSense6(page_code=0x3F, allocation_length=255), "lio", "AA AC AA AC AA AC"),
    ("2.O READ CAPACITY", sbc.ReadCapacity10(), "lio", "AA CC AA AC AA AC"),
    ("2.O READ CAPACITY", sbc.ReadCapacity16(allocation_length=32), "lio", "AA CC AA AC AA AC"),
    ("2.O GET LBA STATUS", sbc.GetLbaStatus(allocation_length=32), "spdk", ALWAYS),
    ("2.O PREVENT", sbc.PreventAllowMediumRemoval(prevent=1), "tgt", ALWAYS),
    ("2.O STOP", sbc.StartStopUnit(), "tgt spdk", ALWAYS),
    ("2.O WRITE SAME", sbc.WriteSame10(number_of_logical_blocks=1), "spdk", NOT_EVEN_REGISTERED),
    ("2.O COMPARE AND WRITE", sbc.CompareAndWrite(number_of_logical_blocks=1), "spdk", NOT_EVEN_REGISTERED),
    ("2.O RSOC", ReportSupportedOperationCodes(allocation_length=32), "spdk", NOT_EVEN_REGISTERED),
):
    differs(name, *who.split(), told=told)(letters(cdb))


# The target without persistent reservations


@differs("openfiler", "openfiler", told=(check(5, 0x2000), check(5, 0x2000), G))
def no_persistent_reservations(world: World) -> object:
    return ask(world, InAction.READ_KEYS, 8)[0], world.register(N1, K1), world.send(N1, Reserve6())
