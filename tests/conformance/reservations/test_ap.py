"""The cases AP-01 to AP-14: power loss, the state file, lost reservations. The drawing of the nexuses is in `world`."""

import pytest

from iscsi_target.scsi.layouts import cdb as spc
from iscsi_target.scsi.layouts.block_cdb import Read10, StartStopUnit, SynchronizeCache10, Write10
from iscsi_target.scsi.layouts.reservation_pages import CapabilitiesData
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.operations import Fault
from iscsi_target.scsi.reservations.personality import InAction, OutAction
from iscsi_target.scsi.reservations.reservations import Reservations
from iscsi_target.scsi.state.task import Function, UnitState
from tests.conformance.reservations.world import (
    EARO,
    INVALID_RELEASE,
    K1,
    K2,
    K3,
    K9,
    LOST,
    N1,
    N1Q,
    N2,
    N3,
    NO_RESOURCES,
    P_ID,
    Q_ID,
    RC,
    TYPES,
    WE,
    WEAR,
    WERO,
    G,
    P,
    World,
    basic,
    check,
    moving,
)

POWER_ON = 0x2900
IN_LIST = check(5, 0x2600)
NO_RESERVATION_RESOURCES = check(5, 0x5502)
TARGET_FAILURE = check(4, 0x4400)
FAULTS = pytest.mark.parametrize("fault", [Fault.NO_SPACE, Fault.READ_ONLY])


def persistent(kind: int = WERO) -> World:
    """N1 holds a reservation, N2 is registered, and all of it is to survive a power loss."""
    world = World()
    assert world.register(N1, K1, aptpl=True) == G
    assert world.register(N2, K2, aptpl=True) == G
    assert world.reserve(N1, K1, kind) == G
    return world


def lost_world() -> World:
    return World(stored=UnitState(reservations=Reservations(lost=True)))


def unreserved() -> World:
    """N1 is registered, persistently, and nobody holds anything."""
    world = World()
    world.register(N1, K1, aptpl=True)
    return world


def persists(world: World) -> bool:
    """PTPL_A of REPORT CAPABILITIES."""
    return CapabilitiesData.unpack(world.read(N3, InAction.REPORT_CAPABILITIES)).ptpl_a


@pytest.mark.case("AP-01")
@pytest.mark.clause("SPC4r37 5.13.5.1")
def test_ap_01_power_loss_takes_everything_without_aptpl():
    world = World()
    world.register(N1, K1)
    world.register(N2, K2)
    world.reserve(N1, K1, WERO)
    assert not world.saves
    after = world.power_cycle(nexuses=())
    for nexus in (N1, N2, N3):
        after.attach(nexus, quiet=False)
    assert after.pending_of_all() == {nexus: [POWER_ON] for nexus in (N1, N2, N3)}
    assert after.write(N3) == check(6, POWER_ON)
    assert (after.registered, after.holding(), after.keys(), after.generation) == ({}, None, [], 0)
    assert after.write(N3) == G


@pytest.mark.case("AP-02")
@pytest.mark.clause("SPC4r37 5.13.5.1")
@pytest.mark.parametrize("kind", TYPES)
def test_ap_02_registrations_and_reservation_survive_power_loss_with_aptpl(kind):
    world = persistent(kind)
    assert world.register(N1Q, K3, aptpl=True) == G
    before = world.full_status()
    assert world.generation == 3
    after = world.power_cycle()
    assert after.generation == 0
    assert after.registered == {N1: K1, N2: K2, N1Q: K3}
    assert after.full_status() == before
    assert [(each.key, each.port) for each in before] == [(K1, P_ID), (K2, P_ID), (K3, Q_ID)]
    assert after.holding() == world.holding()
    assert after.write(N3) == RC
    assert after.write(N1) == G
    assert not after.pending_of_all()


@pytest.mark.case("AP-02")
@pytest.mark.clause("SPC4r37 5.13.5.1")
def test_ap_02_registration_through_every_port_survives_for_every_port():
    world = World()
    world.register(N1, K1, aptpl=True, all_tg_pt=True)
    after = world.power_cycle()
    assert after.registered == {N1: K1, N1Q: K1}
    assert [each.port for each in after.full_status()] == [P_ID, Q_ID]
    assert after.generation == 0


@pytest.mark.case("AP-03")
@pytest.mark.clause("SPC4r37 5.13.5.1")
def test_ap_03_last_registrant_decides_about_aptpl_for_all():
    world = persistent()
    assert world.register(N3, K3, aptpl=False) == G
    assert world.stored.reservations is None
    after = world.power_cycle()
    assert (after.registered, after.holding(), after.generation) == ({}, None, 0)
    assert after.write(N3) == G


@pytest.mark.case("AP-04")
@pytest.mark.clause("SPC4r37 5.13.5.1")
def test_ap_04_registering_again_with_aptpl_persists_what_is_there_already():
    world = World()
    world.register(N1, K1)
    world.register(N2, K2)
    world.reserve(N1, K1, EARO)
    assert not persists(world)
    assert world.register(N1, K1, old=K1, aptpl=True) == G
    assert (world.generation, persists(world)) == (3, True)
    after = world.power_cycle()
    assert after.registered == {N1: K1, N2: K2}
    assert after.holding() == (K1, EARO)
    assert after.holder == N1
    assert after.generation == 0
    assert not world.pending_of_all()


@pytest.mark.case("AP-05")
@pytest.mark.clause("SPC4r37 6.16.3")
@pytest.mark.parametrize("action", [OutAction.RESERVE, OutAction.RELEASE, OutAction.PREEMPT, OutAction.CLEAR])
@pytest.mark.parametrize("aptpl", [False, True])
def test_ap_05_aptpl_of_other_service_actions_changes_nothing(action, aptpl):
    world = World()
    world.register(N1, K1, aptpl=not aptpl)
    world.register(N2, K2, aptpl=not aptpl)
    victim = K2 if action is OutAction.PREEMPT else 0
    assert world.out(N1, action, basic(K1, victim, aptpl=aptpl), type=WE) == G
    assert persists(world) is (not aptpl)
    assert (world.stored.reservations is not None) is (not aptpl)
    assert world.generation == (2 if action in (OutAction.RESERVE, OutAction.RELEASE) else 3)


@pytest.mark.case("AP-06")
@pytest.mark.clause("SPC4r37 5.13.5.1")
def test_ap_06_register_that_conflicts_leaves_aptpl_alone():
    world = persistent()
    stored = world.stored
    assert world.register(N2, K3, old=K9, aptpl=False) == RC
    assert world.register(N3, K3, old=K9, aptpl=False) == RC
    assert persists(world)
    assert world.stored == stored
    assert world.generation == 2
    after = world.power_cycle()
    assert after.registered == {N1: K1, N2: K2}
    assert after.holding() == (K1, WERO)
    assert not world.pending_of_all()


def changes() -> list:
    """Each service action with a parameter list that changes what is stored, sent by N1, who holds WERO if it can."""
    cases = {
        OutAction.REGISTER: basic(K1, K3, aptpl=True),
        OutAction.RESERVE: basic(K1),
        OutAction.RELEASE: basic(K1),
        OutAction.CLEAR: basic(K1),
        OutAction.PREEMPT: basic(K1, K2),
        OutAction.PREEMPT_AND_ABORT: basic(K1, K2),
        OutAction.REGISTER_AND_IGNORE_EXISTING_KEY: basic(K9, 0),
        OutAction.REGISTER_AND_MOVE: moving(K1, K3, N3, aptpl=1, unreg=1),
        OutAction.REPLACE_LOST_RESERVATION: basic(0, K1, aptpl=True),
    }
    return [pytest.param(action, data, id=str(action)) for action, data in cases.items()]


def same(one: Reservations, other: Reservations) -> bool:
    """True when two states differ in no more than PRGENERATION, which no power loss leaves."""
    return one.stored == other.stored


@pytest.mark.case("AP-07")
@pytest.mark.clause("SPC4r37 5.13.5.1")
@pytest.mark.parametrize("action, parameters", changes())
def test_ap_07_crash_leaves_the_old_or_the_new_state_and_good_means_the_new_one(action, parameters):
    worlds = {OutAction.RESERVE: unreserved, OutAction.REPLACE_LOST_RESERVATION: lost_world}
    world = worlds.get(action, persistent)()
    old = world.unit.device.reservations
    world.hold_saves = True
    tag = world.start_out(N1, action, parameters, type=WERO)
    assert tag not in world.ended, "GOOD before the state is stored"
    assert world.unit.device.reservations == old
    assert same(world.power_cycle().unit.device.reservations, old)
    [(ticket, state)] = world.at_state_file.items()
    crashed_later = World(stored=state)
    world.finish_save()
    assert ticket not in world.at_state_file
    assert world.ended[tag] == G
    new = world.unit.device.reservations
    assert not same(new, old)
    assert same(crashed_later.unit.device.reservations, new)
    assert same(world.power_cycle().unit.device.reservations, new)


def refused_while_lost() -> list:
    cdbs = [
        spc.TestUnitReady(),
        Read10(transfer_length=1),
        Write10(transfer_length=1),
        SynchronizeCache10(),
        StartStopUnit(),
        spc.ModeSense6(page_code=0x3F, allocation_length=255),
        spc.Reserve6(),
        spc.Release6(),
        *(spc.PersistentReserveIn(service_action=action, allocation_length=255) for action in InAction),
    ]
    return [pytest.param(cdb, id=str(cdb)) for cdb in cdbs]


@pytest.mark.case("AP-08")
@pytest.mark.clause("SPC4r37 5.13.5.3.2")
@pytest.mark.parametrize("cdb", refused_while_lost())
def test_ap_08_lost_reservations_refuse_commands_to_everybody(cdb):
    world = lost_world()
    for nexus in (N1, N2):
        assert world.send(nexus, cdb) == LOST
    assert world.unit.device.reservations == Reservations(lost=True)
    assert not world.pending_of_all()


@pytest.mark.case("AP-08")
@pytest.mark.clause("SPC4r37 5.13.5.3.2")
@pytest.mark.parametrize("action", list(OutAction)[:-1], ids=str)
def test_ap_08_lost_reservations_refuse_every_other_service_action(action):
    world = lost_world()
    parameters = moving(0, K1, N2) if action is OutAction.REGISTER_AND_MOVE else basic(0, K1)
    assert world.out(N1, action, parameters, type=WE) == LOST
    assert world.unit.device.reservations == Reservations(lost=True)
    assert not world.saves


@pytest.mark.case("AP-08")
@pytest.mark.clause("SPC4r37 5.13.5.2")
@pytest.mark.parametrize(
    "cdb",
    [
        spc.Inquiry(allocation_length=36),
        spc.ReportLuns(allocation_length=16),
        spc.RequestSense(allocation_length=18),
        StartStopUnit(start=True),
    ],
    ids=str,
)
def test_ap_08_lost_reservations_leave_what_the_standard_lists(cdb):
    world = lost_world()
    assert world.send(N1, cdb) == G
    assert world.unit.device.reservations == Reservations(lost=True)


@pytest.mark.case("AP-08")
@pytest.mark.clause("SPC4r37 5.13.5.3.2")
@pytest.mark.parametrize("function", [Function.LOGICAL_UNIT_RESET, Function.TARGET_RESET, Function.CLEAR_TASK_SET])
def test_ap_08_lost_reservations_stay_lost_over_resets_and_power_loss(function):
    before = lost_world()
    before.manage(N1, function)
    for nexus in before.pending_of_all():
        before.send(nexus, spc.RequestSense(allocation_length=18))
    assert before.write(N1) == LOST
    after = before.power_cycle().power_cycle()
    assert after.write(N1) == LOST
    assert after.read_block(N1) == LOST


@pytest.mark.case("AP-09")
@pytest.mark.clause("SPC4r37 5.13.7")
@FAULTS
def test_ap_09_register_that_cannot_be_stored_changes_nothing(fault):
    world = persistent()
    before, stored = world.unit.device.reservations, world.stored
    world.disk_fault = fault
    assert world.register(N3, K3, aptpl=True) == NO_RESOURCES
    assert world.register(N3, K3, aptpl=False) == NO_RESOURCES
    assert world.register(N1, K9, old=K1, aptpl=True) == NO_RESOURCES
    assert world.register(N1, 0, old=K1, aptpl=True) == NO_RESOURCES
    assert world.ignore(N3, K3, aptpl=True) == NO_RESOURCES
    assert world.move(N1, K1, K3, N3, aptpl=1) == NO_RESOURCES
    assert (world.unit.device.reservations, world.stored) == (before, stored)
    assert not world.pending_of_all()
    world.disk_fault = None
    assert world.register(N3, K3, aptpl=True) == G
    assert world.generation == 3


@pytest.mark.case("AP-09")
@pytest.mark.clause("SPC4r37 5.13.5.1")
@FAULTS
def test_ap_09_other_changes_that_cannot_be_stored_change_nothing_either(fault):
    world = World()
    world.register(N1, K1, aptpl=True)
    world.register(N2, K2, aptpl=True)
    world.disk_fault = fault
    before = world.unit.device.reservations
    assert world.reserve(N1, K1, WE) == NO_RESERVATION_RESOURCES
    assert world.clear(N1, K1) == TARGET_FAILURE
    assert world.preempt(N1, K1, K2) == TARGET_FAILURE
    assert world.ended[world.preempt_and_abort(N1, K1, K2)] == TARGET_FAILURE
    assert world.unit.device.reservations == before
    world.disk_fault = None
    world.reserve(N1, K1, WERO)
    world.disk_fault = fault
    before = world.unit.device.reservations
    assert world.release(N1, K1, WERO) == TARGET_FAILURE
    assert world.unit.device.reservations == before
    assert not world.pending_of_all()
    assert world.write(N3) == RC


@pytest.mark.case("AP-09")
@pytest.mark.clause("SPC4r37 5.13.5.1")
@FAULTS
def test_ap_09_what_is_not_to_be_stored_needs_no_state_file(fault):
    world = World()
    world.disk_fault = fault
    assert world.register(N1, K1) == G
    assert world.reserve(N1, K1, WE) == G
    assert world.generation == 1


@pytest.mark.case("AP-10")
@pytest.mark.clause("SPC4r37 5.13.11.3")
def test_ap_10_replace_lost_reservation_is_refused_when_nothing_was_lost():
    world = World()
    replace = OutAction.REPLACE_LOST_RESERVATION
    assert world.out(N1, replace, basic(0, K1), type=WE) == INVALID_RELEASE
    world.register(N1, K1)
    world.register(N2, K2)
    world.reserve(N1, K1, WERO)
    before = world.unit.device.reservations
    for nexus in (N1, N2):
        assert world.out(nexus, replace, basic(0, K3), type=WE) == INVALID_RELEASE
    assert world.out(N3, replace, basic(0, K3), type=WE) == RC
    assert world.unit.device.reservations == before
    assert not world.pending_of_all()


@pytest.mark.case("AP-11")
@pytest.mark.clause("SPC4r37 5.13.11.3")
@pytest.mark.parametrize("kind", TYPES)
def test_ap_11_replace_lost_reservation_registers_the_issuer_with_a_new_reservation(kind):
    world = lost_world()
    assert world.out(N1, OutAction.REPLACE_LOST_RESERVATION, basic(0, K1, aptpl=True), type=kind) == G
    assert world.registered == {N1: K1}
    assert world.holding() == (0 if kind >= WEAR else K1, kind)
    assert (world.generation, persists(world)) == (0, True)
    assert not world.pending_of_all()
    assert world.write(N2) == RC
    assert world.write(N1) == G
    assert world.register(N2, K2, aptpl=True) == G
    assert world.generation == 1
    after = world.power_cycle()
    assert after.registered == {N1: K1, N2: K2}
    assert after.holding() == world.holding()


@pytest.mark.case("AP-11")
@pytest.mark.clause("SPC4r37 5.13.11.3")
def test_ap_11_replacement_without_aptpl_ends_the_loss_for_good():
    world = lost_world()
    assert world.out(N1, OutAction.REPLACE_LOST_RESERVATION, basic(0, K1), type=WE) == G
    assert not persists(world)
    after = world.power_cycle()
    assert after.unit.device.reservations == Reservations()
    assert after.write(N2) == G


@pytest.mark.case("AP-11")
@pytest.mark.clause("SPC4r37 5.13.11.3")
def test_ap_11_replacement_that_is_refused_leaves_the_loss():
    world = lost_world()
    replace = OutAction.REPLACE_LOST_RESERVATION
    assert world.out(N1, replace, basic(K1, K1), type=WE) == IN_LIST
    assert world.out(N1, replace, basic(0, 0), type=WE) == IN_LIST
    assert world.out(N1, replace, basic(0, K1), type=0xF) == check(5, 0x2400)
    assert world.out(N1, replace, basic(0, K1), type=WE, scope=1) == check(5, 0x2400)
    world.disk_fault = Fault.NO_SPACE
    assert world.out(N1, replace, basic(0, K1), type=WE) == NO_RESOURCES
    assert world.unit.device.reservations == Reservations(lost=True)
    assert world.write(N1) == LOST
    assert not world.pending_of_all()


@pytest.mark.case("AP-12")
@pytest.mark.clause("SPC4r37 6.15.5")
def test_ap_12_registration_through_a_port_that_is_gone_is_kept_without_its_identifier():
    world = World()
    world.register(N1, K1, aptpl=True)
    world.register(N1Q, K2, aptpl=True)
    world.reserve(N1Q, K2, WERO)
    without = world.power_cycle(ports=(P,), nexuses=(N1, N2, N3))
    assert without.keys() == [K1, K2]
    assert without.holding() == (K2, WERO)
    assert [(each.key, each.holder, each.port) for each in without.full_status()] == [(K1, False, P_ID), (K2, True, 0)]
    assert without.write(N2) == RC
    assert without.write(N1) == G
    again = without.power_cycle(ports=world.ports, nexuses=world.nexuses)
    assert [each.port for each in again.full_status()] == [P_ID, Q_ID]
    assert again.holder == N1Q
    assert again.write(N1Q) == G
    assert again.generation == 0


@pytest.mark.case("AP-12")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.3")
def test_ap_12_holder_through_a_port_that_is_gone_can_be_preempted():
    world = World()
    world.register(N2, K2, aptpl=True)
    world.register(N1Q, K1, aptpl=True)
    world.reserve(N1Q, K1, WE)
    without = world.power_cycle(ports=(P,), nexuses=(N1, N2, N3))
    assert without.preempt(N2, K2, K1, WE) == G
    assert without.registered == {N2: K2}
    assert without.holder == N2
    assert without.generation == 1
    assert not without.pending_of_all()


@pytest.mark.case("AP-13")
@pytest.mark.clause("SPC4r37 6.15.4")
def test_ap_13_restored_unit_says_that_it_persists():
    world = persistent()
    assert persists(world)
    after = world.power_cycle()
    assert persists(after)
    assert after.generation == 0
    assert after.clear(N1, K1) == G
    assert persists(after.power_cycle()), "CLEAR does not change APTPL"


@pytest.mark.case("AP-14")
@pytest.mark.clause("SPC4r37 5.13.5.1")
@pytest.mark.parametrize("aptpl", [False, True])
def test_ap_14_unit_that_the_operator_takes_offline_for_a_while_keeps_what_a_power_loss_keeps(aptpl):
    """The standard does not know an operator. A unit that is taken out of the configuration is gone with all that is
    not stored, as without power; everybody is told of a power on. One that is only opened anew with other settings
    keeps everything: `tests/unit/server/test_server.py`.
    """
    world = World()
    world.register(N1, K1, aptpl=aptpl)
    world.reserve(N1, K1, WE)
    for nexus in world.nexuses:
        world.detach(nexus)
    opened = World(stored=world.stored, nexuses=())
    returned: list[Nexus] = [N1, N2]
    for nexus in returned:
        opened.attach(nexus, quiet=False)
    assert opened.pending_of_all() == {nexus: [POWER_ON] for nexus in returned}
    assert opened.registered == ({N1: K1} if aptpl else {})
    assert opened.write(N2) == check(6, POWER_ON)
    assert opened.write(N2) == (RC if aptpl else G)
    assert opened.generation == 0
