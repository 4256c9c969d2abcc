"""The cases S2-01 to S2-12: RESERVE and RELEASE of SPC-2. The drawing of the nexuses is in `world`."""

import pytest

from iscsi_target.scsi.layouts import cdb as spc
from iscsi_target.scsi.layouts.cdb import (
    Inquiry,
    PersistentReserveIn,
    Release6,
    Release10,
    ReportLuns,
    RequestSense,
    Reserve6,
    Reserve10,
)
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.reservations.personality import InAction, OutAction
from iscsi_target.scsi.state.task import Function
from tests.conformance.reservations.world import (
    EA,
    IN_CDB,
    K1,
    K2,
    K3,
    N1,
    N2,
    N3,
    RC,
    TYPES,
    WE,
    WERO,
    G,
    Told,
    World,
    basic,
    moving,
)

RESERVES = pytest.mark.parametrize("reserve", [Reserve6(), Reserve10()], ids=["6", "10"])
BOTH = pytest.mark.parametrize(
    "cdb", [Reserve6(), Reserve10(), Release6(), Release10()], ids=["RESERVE6", "RESERVE10", "RELEASE6", "RELEASE10"]
)
PARAMETERS = {action: basic(K1, K2) for action in OutAction} | {OutAction.REGISTER_AND_MOVE: moving(K1, K2, N3)}


def reserved_by(nexus: Nexus) -> World:
    world = World()
    assert world.send(nexus, Reserve6()) == G
    return world


def spc2_holder(world: World) -> Nexus | None:
    return world.unit.device.spc2_reservation.holder


def send_in(world: World, nexus: Nexus, action: InAction) -> Told:
    return world.send(nexus, PersistentReserveIn(service_action=action, allocation_length=8192))


@pytest.mark.case("S2-01")
@pytest.mark.clause("SPC2r20 7.22")
@RESERVES
def test_s2_01_reserve_of_a_free_unit_excludes_the_others(reserve):
    world = World()
    assert world.send(N1, reserve) == G
    assert spc2_holder(world) == N1
    assert world.write(N2) == RC
    assert world.read_block(N2) == RC
    assert world.send(N2, spc.TestUnitReady()) == RC
    assert world.send(N2, reserve) == RC
    assert world.write(N1) == G
    assert world.send(N1, reserve) == G
    assert world.generation == 0
    assert not world.pending_of_all()


@pytest.mark.case("S2-02")
@pytest.mark.clause("SPC2r20 5.5.1")
def test_s2_02_reserved_unit_refuses_persistent_reservations_to_others():
    world = reserved_by(N1)
    for action_in in InAction:
        assert send_in(world, N2, action_in) == RC
    for action, parameters in PARAMETERS.items():
        assert world.out(N2, action, parameters, type=WE) == RC
    assert (world.registered, world.generation, spc2_holder(world)) == ({}, 0, N1)
    assert not world.pending_of_all()


@pytest.mark.case("S2-03")
@pytest.mark.clause("SPC2r20 5.5.1")
def test_s2_03_reserved_unit_refuses_persistent_reservations_to_its_holder_too():
    world = reserved_by(N1)
    assert world.register(N1, K1) == RC
    for action_in in InAction:
        assert send_in(world, N1, action_in) == RC
    for action, parameters in PARAMETERS.items():
        assert world.out(N1, action, parameters, type=WE) == RC
    assert (world.registered, world.generation, spc2_holder(world)) == ({}, 0, N1)
    assert not world.pending_of_all()
    assert world.send(N1, Release6()) == G
    assert world.register(N1, K1) == G


@pytest.mark.case("S2-04")
@pytest.mark.clause("SPC4r37 5.13.3")
@BOTH
def test_s2_04_any_registration_excludes_reserve_and_release(cdb):
    world = World()
    world.register(N1, K1)
    for nexus in (N1, N2):
        assert world.send(nexus, cdb) == RC
    assert (spc2_holder(world), world.generation) == (None, 1)
    assert world.write(N2) == G
    assert not world.pending_of_all()


@pytest.mark.case("S2-05")
@pytest.mark.clause("SPC4r37 5.13.3")
@BOTH
@pytest.mark.parametrize("kind", TYPES)
def test_s2_05_reserve_and_release_of_a_persistent_holder_are_good_and_do_nothing(cdb, kind):
    world = World()
    world.register(N1, K1)
    world.reserve(N1, K1, kind)
    before = world.unit.device.reservations
    assert world.send(N1, cdb) == G
    assert world.unit.device.reservations == before
    assert spc2_holder(world) is None
    assert not world.pending_of_all()


@pytest.mark.case("S2-06")
@pytest.mark.clause("SPC4r37 5.13.3")
@BOTH
def test_s2_06_reserve_and_release_of_a_registrant_are_good_and_do_nothing(cdb):
    world = World()
    world.register(N1, K1)
    world.register(N2, K2)
    world.reserve(N1, K1, WERO)
    before = world.unit.device.reservations
    assert world.send(N2, cdb) == G
    assert world.unit.device.reservations == before
    assert spc2_holder(world) is None
    assert world.write(N1) == G
    assert not world.pending_of_all()


@pytest.mark.case("S2-07")
@pytest.mark.clause("SPC4r37 5.13.3")
@BOTH
@pytest.mark.parametrize("kind", [WE, EA])
def test_s2_07_reserve_and_release_of_a_registrant_conflict_with_a_type_of_one_holder(cdb, kind):
    world = World()
    world.register(N1, K1)
    world.register(N2, K2)
    world.reserve(N1, K1, kind)
    before = world.unit.device.reservations
    assert world.send(N2, cdb) == RC
    assert world.unit.device.reservations == before
    assert spc2_holder(world) is None
    assert not world.pending_of_all()


@pytest.mark.case("S2-08")
@pytest.mark.clause("SPC4r37 5.13.3")
@BOTH
@pytest.mark.parametrize("kind", TYPES)
def test_s2_08_reserve_and_release_of_an_unregistered_nexus_conflict_with_every_type(cdb, kind):
    world = World()
    world.register(N1, K1)
    world.reserve(N1, K1, kind)
    before = world.unit.device.reservations
    assert world.send(N3, cdb) == RC
    assert world.unit.device.reservations == before
    assert spc2_holder(world) is None
    assert not world.pending_of_all()


@pytest.mark.case("S2-09")
@pytest.mark.clause("SPC2r20 7.17")
@pytest.mark.parametrize("release", [Release6(), Release10()], ids=["6", "10"])
def test_s2_09_release_of_another_nexus_is_good_and_releases_nothing(release):
    world = reserved_by(N1)
    assert world.send(N2, release) == G
    assert spc2_holder(world) == N1
    assert world.write(N2) == RC
    assert world.send(N1, release) == G
    assert world.write(N2) == G
    assert world.generation == 0
    assert not world.pending_of_all()


@pytest.mark.case("S2-10")
@pytest.mark.clause("SPC2r20 5.5.1")
@pytest.mark.parametrize("end", ["logout", "power", Function.LOGICAL_UNIT_RESET, Function.TARGET_RESET])
def test_s2_10_session_end_reset_and_power_loss_release(end):
    world = reserved_by(N1)
    if isinstance(end, Function):
        number = world.manage(N2, end)
        assert world.managed == [number]
        told = 0x2903 if end is Function.LOGICAL_UNIT_RESET else 0x2902
        assert world.pending_of_all() == {nexus: [told] for nexus in world.nexuses}
        world.send(N2, RequestSense(allocation_length=18))
    elif end == "logout":
        world.detach(N1)
        assert not world.pending_of_all()
    else:
        world = world.power_cycle()
    assert spc2_holder(world) is None
    assert world.write(N2) == G
    assert world.register(N2, K3) == G
    assert world.generation == 1


@pytest.mark.case("S2-10")
@pytest.mark.clause("SPC2r20 5.5.1")
def test_s2_10_logout_of_another_nexus_releases_nothing():
    world = reserved_by(N1)
    world.detach(N2)
    assert spc2_holder(world) == N1
    assert world.write(N3) == RC


@pytest.mark.case("S2-11")
@pytest.mark.clause("SPC2r20 7.21")
@pytest.mark.parametrize(
    "cdb",
    [
        Reserve10(third_party=True, third_party_device_id=1),
        Reserve10(third_party=True),
        Reserve10(long_id=True),
        Reserve10(extent=True),
        Reserve6(third_party=True),
        Reserve6(extent=True),
        Release6(third_party=True),
        Release10(third_party=True),
    ],
    ids=str,
)
def test_s2_11_third_party_and_extent_reservations_are_refused(cdb):
    world = World()
    assert world.send(N1, cdb) == IN_CDB
    assert (spc2_holder(world), world.generation) == (None, 0)
    assert not world.pending_of_all()
    assert world.write(N2) == G


@pytest.mark.case("S2-12")
@pytest.mark.clause("SPC2r20 5.5.1")
@pytest.mark.parametrize(
    "cdb",
    [
        Inquiry(allocation_length=36),
        ReportLuns(allocation_length=16),
        RequestSense(allocation_length=18),
        Release6(),
        Release10(),
    ],
    ids=lambda cdb: type(cdb).__name__,
)
def test_s2_12_harmless_commands_of_others_never_conflict(cdb):
    world = reserved_by(N1)
    assert world.send(N2, cdb) == G
    assert spc2_holder(world) == N1
    assert world.generation == 0
    assert not world.pending_of_all()
