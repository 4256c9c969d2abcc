"""The cases NX-07 to NX-14 that concern a logical unit and no session; for the others see `test_nx`.

The drawing of the nexuses is in `world`.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from iscsi_target.config.values import Backing, Unit
from iscsi_target.scsi.layouts.cdb import PersistentReserveOut, RequestSense, Reserve6
from iscsi_target.scsi.operations import Fault
from iscsi_target.scsi.reservations.personality import OutAction, ReservationType
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations
from iscsi_target.scsi.state.task import Function, UnitState
from iscsi_target.server.paths import Paths
from iscsi_target.server.units import Home, OpenUnit, open_unit
from iscsi_target.storage.state import StateFile
from tests.conformance.reservations.world import (
    K1,
    K2,
    K3,
    N1,
    N1Q,
    N2,
    N3,
    RC,
    TYPES,
    WE,
    WERO,
    G,
    World,
    basic,
    check,
)

RESET_FUNCTION, CLEARED = 0x2903, 0x2F00


@pytest.mark.case("NX-07")
@pytest.mark.clause("SPC4r37 6.16.3")
def test_nx_07_all_tg_pt_registers_the_initiator_port_at_every_target_port():
    world = World()
    world.register(N1, K1, all_tg_pt=True)
    world.reserve(N1, K1, WERO)
    assert world.registered == {N1: K1, N1Q: K1}
    assert world.write(N1Q) == G
    assert world.write(N2) == RC
    assert world.holder == N1
    assert world.generation == 1
    assert not world.pending_of_all()


@pytest.mark.case("NX-08")
@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("kind", TYPES)
def test_nx_08_logical_unit_reset_keeps_persistent_reservations(kind):
    world = World()
    world.register(N1, K1)
    world.register(N2, K2)
    world.reserve(N1, K1, kind)
    before = world.unit.device.reservations
    number = world.manage(N3, Function.LOGICAL_UNIT_RESET)
    assert world.managed == [number]
    assert world.unit.device.reservations == before
    assert world.generation == 2
    assert world.pending_of_all() == {nexus: [RESET_FUNCTION] for nexus in world.nexuses}
    assert world.write(N3) == check(6, RESET_FUNCTION)
    assert world.write(N3) == RC
    assert world.keys() == [K1, K2]


@pytest.mark.case("NX-08")
@pytest.mark.clause("SPC2r20 5.5.1")
def test_nx_08_logical_unit_reset_ends_an_spc_2_reservation():
    world = World()
    world.send(N1, Reserve6())
    world.manage(N2, Function.LOGICAL_UNIT_RESET)
    assert world.unit.device.spc2_reservation.holder is None
    assert world.send(N2, RequestSense(allocation_length=18)) == G
    assert world.write(N2) == G


@pytest.mark.case("NX-10")
@pytest.mark.clause("SAM5r21 7.5")
@pytest.mark.parametrize("function", [Function.ABORT_TASK_SET, Function.CLEAR_TASK_SET])
def test_nx_10_clearing_the_task_set_leaves_reservations_alone(function):
    world = World()
    world.register(N1, K1)
    world.register(N2, K2)
    world.reserve(N1, K1, WERO)
    before = world.unit.device.reservations
    waiting = [world.start_write(nexus, data=False) for nexus in (N1, N2)]
    number = world.manage(N1, function)
    assert world.managed == [number]
    assert world.unit.device.reservations == before
    assert world.holding() == (K1, WERO)
    assert world.generation == 2
    assert world.ended[waiting[0]] is None
    cleared = function is Function.CLEAR_TASK_SET
    assert (waiting[1] in world.ended) is cleared
    assert world.pending_of_all() == ({N2: [CLEARED]} if cleared else {})
    assert world.write(N3) == RC


@pytest.mark.case("NX-11")
@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("fault", [None, Fault.NO_SPACE])
def test_nx_11_aborted_service_action_is_done_wholly_or_not_at_all(fault):
    world = World()
    world.register(N1, K1, aptpl=True)
    world.register(N2, K2, aptpl=True)
    world.reserve(N2, K2, WERO)
    before = world.unit.device.reservations
    world.hold_saves = True
    tag = world.start_out(N1, OutAction.PREEMPT, basic(K1, K2), type=WE)
    number = world.manage(N2, Function.CLEAR_TASK_SET)
    assert world.managed == [], "the function is over when the task is"
    assert world.unit.device.reservations == before
    world.disk_fault = fault
    world.finish_save()
    assert world.managed == [number]
    assert world.ended[tag] is None
    if fault is None:
        assert world.registered == {N1: K1}
        assert (world.holder, world.generation) == (N1, 3)
        assert world.pending_of_all() == {N1: [CLEARED], N2: [0x2A05]}
    else:
        assert world.unit.device.reservations == before
        assert world.pending_of_all() == {N1: [CLEARED]}
    after = world.power_cycle().unit.device.reservations
    assert after.stored == world.unit.device.reservations.stored


@pytest.mark.case("NX-11")
@pytest.mark.clause("SPC4r37 5.13.1")
def test_nx_11_service_action_that_waits_for_its_list_is_not_done_at_all():
    world = World()
    world.register(N1, K1)
    parameters = basic(K1)
    cdb = PersistentReserveOut(service_action=OutAction.RESERVE, type=WE, parameter_list_length=len(parameters))
    tag = world.start(N1, cdb, None)
    assert tag in world.collecting
    number = world.manage(N2, Function.CLEAR_TASK_SET)
    assert world.managed == [number]
    assert world.ended[tag] is None
    assert (world.holding(), world.generation) == (None, 1)
    assert world.pending_of_all() == {N1: [CLEARED]}


@pytest.mark.case("NX-11")
@pytest.mark.clause("SPC4r37 5.13.1")
def test_nx_11_service_action_behind_one_that_is_being_stored_is_not_done_at_all():
    world = World()
    world.register(N1, K1, aptpl=True)
    world.register(N2, K2, aptpl=True)
    world.hold_saves = True
    first = world.start_out(N1, OutAction.RESERVE, basic(K1), type=WE)
    second = world.start_out(N2, OutAction.CLEAR, basic(K2))
    world.manage(N3, Function.CLEAR_TASK_SET)
    assert second in world.ended
    world.finish_save()
    assert (world.ended[first], world.ended[second]) == (None, None)
    assert world.registered == {N1: K1, N2: K2}
    assert (world.holder, world.generation) == (N1, 2)
    assert world.pending_of_all() == {N1: [CLEARED], N2: [CLEARED]}


@pytest.mark.case("NX-12")
@pytest.mark.clause("SPC4r37 5.13.1")
def test_nx_12_reservation_outlives_a_change_of_the_capacity():
    world = World()
    world.register(N1, K1)
    world.reserve(N1, K1, WE)
    before = world.unit.device.reservations
    world.unit.resize(32)
    assert world.unit.device.reservations == before
    assert world.pending_of_all() == {nexus: [0x2A09] for nexus in world.nexuses}
    assert world.write(N2) == RC
    assert world.write(N1) == check(6, 0x2A09)
    assert world.write(N1) == G


# The unit as the server opens it, from its configuration and the state file

STORED = Reservations(
    registrations={N1: K1, N2: K3},
    reservation=Reservation(ReservationType.WRITE_EXCLUSIVE, N1, Cause("PERSISTENT RESERVE OUT, RESERVE", N1, 1.0)),
    aptpl=True,
)


@pytest.fixture
def state_file(tmp_path: Path) -> Iterator[StateFile]:
    opened = StateFile.open(tmp_path / "state" / "state.sqlite")
    yield opened
    opened.close()


def open_file_unit(state_file: StateFile, image: Path) -> OpenUnit:
    with ThreadPoolExecutor(1) as executor:
        opened = open_unit(Unit("disk", Backing.FILE, image, 1 << 20), Home(state_file, executor), Paths())
    opened.medium._backend.close()
    return opened


@pytest.mark.case("NX-14")
@pytest.mark.clause("SPC4r37 5.13.5.1")
def test_nx_14_new_unit_of_an_old_name_has_no_reservations(state_file: StateFile, tmp_path: Path):
    """A unit is as old as the file that has its blocks. One whose file was removed is not the one that was reserved,
    whatever its name, and its identity stays only because a name has one identity.
    """
    image = tmp_path / "image"
    open_file_unit(state_file, image)
    state_file.save("disk", UnitState(reservations=STORED))
    assert open_file_unit(state_file, image).device.reservations == STORED
    image.unlink()
    assert open_file_unit(state_file, image).device.reservations == Reservations()
    assert state_file.load("disk").reservations is None
    assert open_file_unit(state_file, image).device.reservations == Reservations()
