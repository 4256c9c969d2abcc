"""Every personality does what it says of itself and refuses the rest: RSOC and REPORT CAPABILITIES against deeds."""

from collections.abc import Callable, Mapping

import pytest

from iscsi_target.scsi.layouts.cdb import PersistentReserveIn, ReportSupportedOperationCodes, Reserve6
from iscsi_target.scsi.layouts.pages import AllCommandsHeader, CommandDescriptor
from iscsi_target.scsi.layouts.reservation_pages import CapabilitiesData
from iscsi_target.scsi.layouts.transport_id import pack_transport_id
from iscsi_target.scsi.reservations.personalities import PERSONALITIES
from iscsi_target.scsi.reservations.personality import InAction, OutAction, Personality
from iscsi_target.scsi.reservations.reservations import Reservations
from iscsi_target.scsi.state.task import UnitState
from tests.conformance.reservations.world import (
    IN_CDB,
    K1,
    K2,
    N1,
    N1Q,
    N2,
    N3,
    RC,
    TYPES,
    WERO,
    B,
    G,
    Told,
    World,
    basic,
    check,
    moving,
)

NO_SUCH_COMMAND = check(5, 0x2000)
IN_CODE, OUT_CODE = 0x5E, 0x5F
EACH = pytest.mark.parametrize("personality", PERSONALITIES.values(), ids=PERSONALITIES)
WITH_RESERVATIONS = pytest.mark.parametrize(
    "personality", [each for each in PERSONALITIES.values() if each.in_actions], ids=lambda each: each.name
)


def advertised(world: World) -> dict[int, set[int]]:
    """What REPORT SUPPORTED OPERATION CODES says of 5Eh and 5Fh: code -> service actions."""
    tag = world.start(N1, ReportSupportedOperationCodes(allocation_length=65535))
    data, at = world.data[tag], AllCommandsHeader.size
    found: dict[int, set[int]] = {}
    while at < len(data):
        row = CommandDescriptor.unpack(data, at)
        if row.operation_code in (IN_CODE, OUT_CODE):
            found.setdefault(row.operation_code, set()).add(row.service_action)
        at += row.size
    return found


def capabilities(world: World) -> CapabilitiesData:
    return CapabilitiesData.unpack(world.read(N1, InAction.REPORT_CAPABILITIES))


def held(world: World) -> World:
    """N1 holds with K1, N2 is registered with K2."""
    assert [world.register(N1, K1), world.register(N2, K2), world.reserve(N1, K1, WERO)] == [G, G, G]
    return world


def aborting(world: World) -> Told | None:
    return world.ended[held(world).preempt_and_abort(N1, K1, K2, WERO)]


# What each service action is for; REPLACE LOST RESERVATION needs a unit that has lost its state.
DEEDS: Mapping[OutAction, Callable[[World], Told | None]] = {
    OutAction.REGISTER: lambda world: world.register(N1, K1),
    OutAction.RESERVE: lambda world: (world.register(N1, K1), world.reserve(N1, K1, WERO))[1],
    OutAction.RELEASE: lambda world: held(world).release(N1, K1, WERO),
    OutAction.CLEAR: lambda world: held(world).clear(N1, K1),
    OutAction.PREEMPT: lambda world: held(world).preempt(N1, K1, K2, WERO),
    OutAction.PREEMPT_AND_ABORT: aborting,
    OutAction.REGISTER_AND_IGNORE_EXISTING_KEY: lambda world: world.ignore(N1, K1),
    OutAction.REGISTER_AND_MOVE: lambda world: held(world).move(N1, K1, K2, N2),
    OutAction.REPLACE_LOST_RESERVATION: lambda world: world.out(
        N1, OutAction.REPLACE_LOST_RESERVATION, basic(0, K1), type=WERO
    ),
}


@EACH
@pytest.mark.clause("SPC4r37 6.35")
def test_advertised_service_actions_are_those_of_the_personality(personality: Personality) -> None:
    found = advertised(World(personality=personality))
    assert found.get(IN_CODE, set()) == personality.in_actions
    assert found.get(OUT_CODE, set()) == personality.out_actions


@WITH_RESERVATIONS
@pytest.mark.clause("SPC4r37 6.16.2")
@pytest.mark.parametrize("action", OutAction, ids=str)
def test_advertised_service_action_of_out_works_and_no_other_does(personality: Personality, action: OutAction) -> None:
    lost = Reservations(lost=True) if action is OutAction.REPLACE_LOST_RESERVATION else None
    world = World(personality=personality, stored=UnitState(reservations=lost))
    assert DEEDS[action](world) == (G if action in personality.out_actions else IN_CDB)


@WITH_RESERVATIONS
@pytest.mark.clause("SPC4r37 6.15.1")
@pytest.mark.parametrize("action", range(32))
def test_advertised_service_action_of_in_works_and_no_other_does(personality: Personality, action: int) -> None:
    told = World(personality=personality).send(N1, PersistentReserveIn(service_action=action, allocation_length=64))
    assert told == (G if action in personality.in_actions else IN_CDB)


@WITH_RESERVATIONS
@pytest.mark.clause("SPC4r37 6.16.2")
@pytest.mark.parametrize("action", range(9, 32))
def test_service_action_that_no_target_has_is_refused(personality: Personality, action: int) -> None:
    world = World(personality=personality)
    parameters = basic(0, K1)
    cdb = bytes([OUT_CODE, action, 0, 0, 0, 0, 0, 0, len(parameters), 0])
    assert world.send(N1, cdb, parameters) == IN_CDB
    assert world.registered == {}


def test_target_without_persistent_reservations_does_not_know_their_operation_codes() -> None:
    world = World(personality=PERSONALITIES["openfiler"])
    for action in range(32):
        assert world.send(N1, bytes([IN_CODE, action, 0, 0, 0, 0, 0, 0, 8, 0])) == NO_SUCH_COMMAND
        assert world.send(N1, bytes([OUT_CODE, action, 0, 0, 0, 0, 0, 0, 24, 0]), basic(0, K1)) == NO_SUCH_COMMAND


@WITH_RESERVATIONS
@pytest.mark.clause("SPC4r37 6.15.4")
def test_capabilities_are_what_the_target_does(personality: Personality) -> None:
    said = capabilities(World(personality=personality))

    def registers(**flags: bool) -> bool:
        world = World(personality=personality)
        return world.register(N1, K1, **flags) == G and world.registered != {}

    assert said.ptpl_c == registers(aptpl=True)
    assert said.atp_c == registers(all_tg_pt=True)
    assert said.sip_c == (World(personality=personality).register_listed(N1, K1, pack_transport_id(B)) == G)
    assert said.rlr_c == (OutAction.REPLACE_LOST_RESERVATION in personality.out_actions)
    world = held(World(personality=personality))
    assert said.crh == (world.send(N1, Reserve6()) == G and world.unit.device.spc2_reservation.holder is None)
    assert (said.length, said.tmv, said.allow_commands <= 5) == (8, True, True)


@WITH_RESERVATIONS
@pytest.mark.clause("SPC4r37 6.15.4")
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_that_the_mask_promises_works(personality: Personality, kind: int) -> None:
    world = World(personality=personality)
    world.register(N1, K1)
    assert world.reserve(N1, K1, kind) == G


@WITH_RESERVATIONS
@pytest.mark.clause("SPC4r37 5.13.11.2.5")
@pytest.mark.parametrize("kind", TYPES)
def test_nexus_that_was_preempted_cannot_write(personality: Personality, kind: int) -> None:
    """What is not imitated may never be let in by what is."""
    world = held(World(personality=personality))
    assert world.release(N1, K1, WERO) == G
    assert world.reserve(N1, K1, kind) == G
    assert world.preempt(N1, K1, K2, kind) == G
    before = world.block()
    while (told := world.write(N2)) != RC:
        assert told.sense is not None, "the fenced nexus wrote"
        assert told.sense[0] == 6
    assert world.block() == before


@WITH_RESERVATIONS
@pytest.mark.clause("SPC4r37 6.16.3")
def test_all_target_ports_are_registered_where_the_target_says_so(personality: Personality) -> None:
    world = World(personality=personality)
    world.register(N1, K1, all_tg_pt=True)
    assert world.registered == ({N1: K1, N1Q: K1} if personality.all_target_ports else {})


@pytest.mark.parametrize("name", ["openfiler", "tgt"])
def test_what_is_reserved_when_the_personality_changes_stays_enforced(name: str) -> None:
    world = held(World())
    world.unit.device.personality = PERSONALITIES[name]
    assert world.write(N1) == G
    assert world.write(N2) == G
    assert world.write(N3) == RC
    assert world.send(N2, Reserve6()) == RC
    world.unit.device.personality = PERSONALITIES["strict"]
    assert world.release(N1, K1, WERO) == G
    assert world.out(N1, OutAction.REGISTER_AND_MOVE, moving(K1, K2, N2)) == IN_CDB
