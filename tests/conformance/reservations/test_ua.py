"""The cases UA-01 to UA-09: in which order nexuses are told what, and many of them at once. Drawing: see `world`."""

from random import Random
from typing import NamedTuple

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.block_cdb import Read10
from iscsi_target.scsi.layouts.cdb import Inquiry, PersistentReserveOut, ReportLuns, RequestSense
from iscsi_target.scsi.layouts.transport_id import pack_transport_id
from iscsi_target.scsi.nexus import InitiatorPort, Nexus
from iscsi_target.scsi.reservations.personality import InAction, OutAction
from iscsi_target.scsi.state.task import Function, TaskAttribute
from iscsi_target.scsi.status import Status
from iscsi_target.wire.layout import Layout
from tests.conformance.reservations.hosts import hold_and_register, host, out
from tests.conformance.reservations.seen import Seen, seen
from tests.conformance.reservations.world import (
    EA,
    K1,
    K2,
    K3,
    N1,
    N2,
    N2Q,
    N3,
    RC,
    REGISTRATIONS_PREEMPTED,
    RELEASED,
    TYPES,
    WE,
    WERO,
    B,
    G,
    P,
    Told,
    World,
    attention,
    basic,
)
from tests.initiator import READY, Lab

GONE = [REGISTRATIONS_PREEMPTED]
NEXUS_LOSS = AttentionCode.I_T_NEXUS_LOSS_OCCURRED
RESET = AttentionCode.BUS_DEVICE_RESET_FUNCTION_OCCURRED


def reserved(kind: int) -> World:
    """A world in which all three nexuses are registered and N1 holds."""
    world = World()
    for nexus, key in ((N1, K1), (N2, K2), (N3, K3)):
        assert world.register(nexus, key) == G
    assert world.reserve(N1, K1, kind) == G
    return world


@pytest.mark.case("UA-01")
@pytest.mark.clause("SAM5r21 5.3.3")
def test_ua_01_a_conflict_comes_before_what_became_of_reservations():
    """The attention stays for the first command that is admitted."""
    world = reserved(WERO)
    assert world.preempt(N1, K1, K1, WE) == G
    before = seen(world)
    assert before == Seen({N1: K1, N2: K2, N3: K3}, (WE, N1), 4, {N2: [RELEASED], N3: [RELEASED]})
    assert world.write(N2) == RC
    assert world.write(N2) == RC
    assert seen(world) == before
    assert world.read_block(N2) == attention(RELEASED)
    assert world.read_block(N2) == G
    assert world.write(N2) == RC
    assert world.pending_of_all() == {N3: [RELEASED]}


@pytest.mark.case("UA-01")
@pytest.mark.clause("SAM5r21 5.3.3")
def test_ua_01_a_reset_and_a_lost_nexus_come_before_the_conflict():
    world = reserved(WE)
    world.manage(N1, Function.LOGICAL_UNIT_RESET)
    assert world.write(N2) == attention(RESET)
    assert world.write(N2) == RC
    world.detach(N2)
    world.attach(N2, quiet=False)
    assert world.write(N2) == attention(NEXUS_LOSS)
    assert world.write(N2) == RC
    others: dict[Nexus, list[int]] = {nexus: [RESET] for nexus in world.nexuses if nexus != N2}
    assert seen(world) == Seen({N1: K1, N2: K2, N3: K3}, (WE, N1), 3, others)


@pytest.mark.case("UA-02")
@pytest.mark.clause("SAM5r21 5.14")
def test_ua_02_a_nexus_that_is_preempted_twice_is_told_once():
    """It is registered in between by another one, with SPEC_I_PT, so that it has not sent anything itself."""
    world = World()
    assert world.register(N1, K1) == G
    assert world.register(N2, K2) == G
    assert world.preempt(N1, K1, K2) == G
    assert world.register_listed(N3, K3, pack_transport_id(B)) == G
    assert seen(world) == Seen({N1: K1, N3: K3, N2: K3}, None, 4, {N2: GONE})
    assert world.preempt(N1, K1, K3) == G
    assert seen(world) == Seen({N1: K1}, None, 5, {N2: GONE, N3: GONE})
    assert world.send(N2, READY) == attention(REGISTRATIONS_PREEMPTED)
    assert world.send(N2, READY) == G


@pytest.mark.case("UA-03")
@pytest.mark.clause("SAM5r21 5.14")
def test_ua_03_a_release_and_a_preemption_are_told_in_their_order():
    world = reserved(WERO)
    assert world.release(N1, K1, WERO) == G
    assert world.preempt(N1, K1, K2) == G
    told = {N2: [RELEASED, REGISTRATIONS_PREEMPTED], N3: [RELEASED]}
    assert seen(world) == Seen({N1: K1, N3: K3}, None, 4, told)
    answers = [world.send(N2, READY) for _ in range(3)]
    assert answers == [attention(RELEASED), attention(REGISTRATIONS_PREEMPTED), G]


@pytest.mark.case("UA-04")
@pytest.mark.clause("SAM5r21 5.14")
@pytest.mark.parametrize("cdb", [Inquiry(allocation_length=96), ReportLuns(allocation_length=16)])
def test_ua_04_inquiry_and_report_luns_succeed_and_leave_the_attention(cdb: Layout):
    world = reserved(EA)
    assert world.preempt(N1, K1, K2) == G
    before = seen(world)
    assert before.told == {N2: GONE}
    assert world.send(N2, cdb) == G
    assert seen(world) == before
    tag = world.start(N2, RequestSense(allocation_length=18))
    assert world.ended[tag] == G
    assert (world.data[tag][2] & 0xF, world.data[tag][12:14]) == (6, b"\x2a\5")
    assert world.pending_of_all() == {}


@pytest.mark.case("UA-05")
@pytest.mark.clause("SAM5r21 5.14")
def test_ua_05_a_victim_that_logs_in_again_is_told_of_the_lost_nexus_instead():
    world = reserved(WERO)
    assert world.preempt(N1, K1, K2, WERO) == G
    assert world.pending_of_all() == {N2: GONE}
    world.detach(N2)
    world.attach(N2, quiet=False)
    assert seen(world) == Seen({N1: K1, N3: K3}, (WERO, N1), 4, {N2: [NEXUS_LOSS]})
    assert world.register(N2, K2) == attention(NEXUS_LOSS)
    assert world.register(N2, K2) == G
    assert seen(world) == Seen({N1: K1, N3: K3, N2: K2}, (WERO, N1), 5, {})


@pytest.mark.case("UA-06")
@pytest.mark.clause("SAM5r21 5.14")
def test_ua_06_retries_raise_nothing_new():
    """A host that tries again within its limit of a few seconds or tries gets its answer on the second one."""
    world = reserved(WERO)
    assert world.preempt(N2, K2, K1, WERO) == G
    assert world.send(N1, READY) == attention(REGISTRATIONS_PREEMPTED)
    for _ in range(10):
        assert world.write(N1) == RC
        assert world.reserve(N1, K1, WERO) == RC
        assert world.preempt(N2, K2, K1, WERO) == RC
        assert world.reserve(N2, K2, WERO) == G
        for action in InAction:
            world.read(N1, action)
        assert seen(world) == Seen({N2: K2, N3: K3}, (WERO, N2), 4, {})
    assert world.ignore(N1, K1) == G
    assert seen(world) == Seen({N2: K2, N3: K3, N1: K1}, (WERO, N2), 5, {})


# Many at once

CROWD = [Nexus(InitiatorPort(f"iqn.2026-01.org.example:n{number}", b"\x80\0\0\0\0\1"), P) for number in range(100)]
KEYS = {nexus: number for number, nexus in enumerate(CROWD, 1)}
COUNTED = (OutAction.REGISTER, OutAction.REGISTER_AND_IGNORE_EXISTING_KEY, OutAction.CLEAR, OutAction.PREEMPT)
ACTIONS = (*COUNTED, OutAction.PREEMPT, OutAction.PREEMPT, OutAction.RESERVE, OutAction.RELEASE)


class Order(NamedTuple):
    """A PERSISTENT RESERVE OUT command of one nexus."""

    nexus: Nexus
    action: OutAction
    parameters: bytes
    type: int


def draw_order(random: Random, nexus: Nexus) -> Order:
    """Draws an order of a nexus that is registered with its key of `KEYS`."""
    key = random.choice((random.choice(list(KEYS.values())), KEYS[nexus]))
    parameters = basic(KEYS[nexus], key, aptpl=random.random() < 0.9)
    action = random.choice(ACTIONS)
    if action is OutAction.CLEAR and random.random() < 0.8:
        action = OutAction.PREEMPT
    return Order(nexus, action, parameters, random.choice(TYPES))


def crowded() -> World:
    """A world in which the whole crowd is registered, to survive a power loss, and the first of it holds."""
    world = World(nexuses=CROWD)
    for nexus, key in KEYS.items():
        assert world.register(nexus, key, aptpl=True) == G
    assert world.reserve(CROWD[0], 1, WERO) == G
    return world


@pytest.mark.case("UA-07")
@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("seed", range(4))
def test_ua_07_a_hundred_at_once_come_out_as_one_after_the_other(seed: int):
    """All of them are there before the first save is over; the order in which they end is the serial order."""
    random = Random(seed)
    orders = [draw_order(random, nexus) for nexus in random.sample(CROWD, len(CROWD))]
    world = crowded()
    world.hold_saves = True
    tags = {world.start_out(order.nexus, order.action, order.parameters, type=order.type): order for order in orders}
    assert world.unit.open_tasks > len(CROWD) / 2
    while world.at_state_file:
        assert len(world.at_state_file) == 1
        world.finish_save()
    assert world.unit.open_tasks == 0

    serial = crowded()
    came: dict[Order, Told | None] = {tags[tag]: told for tag, told in world.ended.items() if tag in tags}
    assert len(came) == len(CROWD)
    again = {order: serial.out(order.nexus, order.action, order.parameters, type=order.type) for order in came}
    assert again == came
    assert seen(serial) == seen(world)
    assert serial.stored == world.stored
    counted = sum(told == G for order, told in came.items() if order.action in COUNTED)
    assert world.generation == len(CROWD) + counted
    assert 0 < counted < len(CROWD)


# What has arrived and has not started


@pytest.mark.case("UA-08")
@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("frees", [False, True])
def test_ua_08_a_read_that_has_not_started_sees_the_new_state(frees: bool):
    world = World()
    assert world.register(N1, K1) == G
    if frees:
        assert world.reserve(N1, K1, EA) == G
    world.slow = True
    writing = world.start_write(N1)
    action = OutAction.RELEASE if frees else OutAction.RESERVE
    cdb = PersistentReserveOut(service_action=action, type=EA, parameter_list_length=len(basic()))
    changing = world.start(N1, cdb, basic(K1), TaskAttribute.ORDERED)
    reading, writing_too = world.start(N2, Read10(lba=1, transfer_length=1)), world.start_write(N2, 2)
    assert not world.ended.keys() & {writing, changing, reading, writing_too}
    world.finish()
    assert (world.ended[writing], world.ended[changing]) == (G, G)
    assert len(world.at_medium) == (2 if frees else 0)
    world.finish_all()
    assert [world.ended[task] for task in (reading, writing_too)] == [G if frees else RC] * 2
    assert seen(world) == Seen({N1: K1}, None if frees else (EA, N1), 1, {})


@pytest.mark.case("UA-08")
@pytest.mark.clause("SPC4r37 5.13.1")
def test_ua_08_a_read_that_waits_for_the_command_before_it_sees_the_new_state():
    lab = Lab()
    a, b = host(lab, "a"), host(lab, "b")
    missing, early = b.next_cmd_sn(), b.next_cmd_sn()
    reading = b.read(0, cmd_sn=early)
    assert a.outcome(out(a, OutAction.REGISTER, basic(0, K1))).status == Status.GOOD
    assert a.outcome(out(a, OutAction.RESERVE, basic(K1), EA)).status == Status.GOOD
    b.command(RequestSense(allocation_length=18), read=18, cmd_sn=missing)
    assert b.outcome(reading).status == Status.RESERVATION_CONFLICT
    assert not lab.performed


# Other target ports


@pytest.mark.case("UA-09")
@pytest.mark.clause("SPC4r37 5.13.11.2.5")
def test_ua_09_a_nexus_through_another_target_port_is_told():
    world = World()
    assert world.register(N1, K1) == G
    assert world.register(N2Q, K2) == G
    assert world.preempt(N1, K1, K2) == G
    assert seen(world) == Seen({N1: K1}, None, 3, {N2Q: GONE})
    assert world.send(N2, READY) == G, "the same initiator port, but another nexus, which was not registered"
    assert world.send(N2Q, READY) == attention(REGISTRATIONS_PREEMPTED)


@pytest.mark.case("UA-09")
@pytest.mark.clause("SPC4r37 5.13.11.2.4.3")
def test_ua_09_a_host_behind_another_portal_group_is_told():
    lab = Lab()
    a, b = host(lab, "a", 2), host(lab, "b", 1)
    hold_and_register(a, b)
    assert b.outcome(out(b, OutAction.PREEMPT, basic(K2, K1), WERO)).status == Status.GOOD
    assert [a.attention() for _ in range(2)] == [REGISTRATIONS_PREEMPTED, None]
    assert b.attention() is None
    assert lab.units["disk0"].device.reservations.generation == 3
