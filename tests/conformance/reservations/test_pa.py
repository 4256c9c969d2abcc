"""The cases PA-01 to PA-12: PREEMPT AND ABORT. The drawing of the nexuses is in `world`.

The last tests are with hosts A and B on one node, A by portal group 1 or 2 (see tests/initiator).
"""

import pytest

from iscsi_target.iscsi.header import Opcode
from iscsi_target.scsi.layouts.block_cdb import PreventAllowMediumRemoval, Read10
from iscsi_target.scsi.layouts.cdb import ModeSelect10, PersistentReserveOut, RequestSense
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.layouts.pages import ModeHeader10
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.state.task import TaskAttribute
from iscsi_target.scsi.status import Status
from tests.conformance.reservations.hosts import asked, hold_and_register, host, out
from tests.conformance.reservations.seen import Seen, seen
from tests.conformance.reservations.world import (
    ABORTED,
    BLOCK,
    CLEARED,
    EA,
    EAAR,
    K1,
    K2,
    K3,
    K9,
    N1,
    N1Q,
    N2,
    N2Q,
    N3,
    N4,
    RC,
    REGISTRATIONS_PREEMPTED,
    TYPES,
    WE,
    WEAR,
    WERO,
    G,
    Told,
    World,
    basic,
)
from tests.initiator import Lab
from tests.unit.scsi.unit_bench import READY

GONE = [REGISTRATIONS_PREEMPTED]
GONE_AND_CLEARED = [REGISTRATIONS_PREEMPTED, CLEARED]
OLD_BLOCK, NEW_BLOCK = bytes([7]) * BLOCK, bytes([9]) * BLOCK
ONES, TWOS, NOTHING = bytes([1]) * BLOCK, bytes([2]) * BLOCK, bytes(BLOCK)
PARAMETERS = basic(K2, K1)
FAILS = READY.replace(control=0x05)  # NACA, and a bit that is refused
PREEMPT_AND_ABORT = PersistentReserveOut(
    service_action=OutAction.PREEMPT_AND_ABORT, type=WERO, parameter_list_length=len(PARAMETERS)
)


def slow_world(keys: dict[Nexus, int], kind: int | None = WERO, *, tas: bool = False) -> World:
    """A world with a slow medium in which these nexuses are registered and the first of them made a reservation."""
    world = World(nexuses=dict.fromkeys((N1, N2, N3, N4, N1Q, N2Q, *keys)))
    if tas:
        parameters = ModeHeader10().pack() + ControlPage(tas=True, ps=False).pack()
        assert world.send(N3, ModeSelect10(pf=True, parameter_list_length=len(parameters)), parameters) == G
        for nexus in world.nexuses:
            world.send(nexus, RequestSense(allocation_length=18))
    for nexus, key in keys.items():
        assert world.register(nexus, key) == G
    if kind is not None:
        first = next(iter(keys))
        assert world.reserve(first, keys[first], kind) == G
    assert world.pending_of_all() == {}
    world.slow = True
    return world


class Victim:
    """Writes of one nexus, one in each place that a task can be in; `at_medium` of them are at the medium."""

    at_medium = 2

    def __init__(self, world: World, nexus: Nexus) -> None:
        self.world = world
        others = len(world.at_medium)
        self.first = world.start_write(nexus, 0, 7)
        self.second = world.start_write(nexus, 1, 7)
        self.in_turn = world.start_write(nexus, 0, 9)
        self.collecting = world.start_write(nexus, 3, 9, data=False)
        self.dormant = world.start_write(nexus, 4, 9, attribute=TaskAttribute.ORDERED)
        assert len(world.at_medium) == others + self.at_medium
        assert not world.ended.keys() & set(self.tags)
        self.waiting, _ = world.collecting[self.collecting]

    @property
    def tags(self) -> list[int]:
        return [self.first, self.second, self.in_turn, self.collecting, self.dormant]

    @property
    def never_performed(self) -> list[int]:
        return self.tags[self.at_medium :]

    def send_late_data(self) -> None:
        """Gives the Data-Out of the write that waited for it, though it may have ended."""
        self.world._run(self.world.unit.data_received(self.waiting, NEW_BLOCK))

    def check_nothing_more_is_written(self) -> None:
        """The two that were at the medium have been written, and whatever follows, nothing else is."""
        self.send_late_data()
        assert not self.world.at_medium
        assert [self.world.block(lba) for lba in (0, 1, 3, 4)] == [OLD_BLOCK, OLD_BLOCK, NOTHING, NOTHING]


def preempt_and_abort_at_once(world: World, nexus: Nexus, key: int, victim: int, kind: int = WERO) -> int:
    """Starts PREEMPT AND ABORT as HEAD OF QUEUE, so that it does not wait for what is dormant, and returns its tag."""
    parameters = basic(key, victim)
    cdb = PREEMPT_AND_ABORT.replace(type=kind, parameter_list_length=len(parameters))
    return world.start(nexus, cdb, parameters, TaskAttribute.HEAD_OF_QUEUE)


@pytest.mark.case("PA-01")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_pa_01_answers_when_the_last_task_of_the_victim_is_over_and_those_end_in_silence():
    world = slow_world({N1: K1, N2: K2, N3: K3})
    victim = Victim(world, N1)
    tag = preempt_and_abort_at_once(world, N2, K2, K1)
    assert seen(world) == Seen({N2: K2, N3: K3}, (WERO, N2), 4, {N1: GONE_AND_CLEARED})
    assert [world.ended[aborted] for aborted in victim.never_performed] == [None] * 3
    for task in (victim.first, victim.second):
        assert tag not in world.ended
        assert task not in world.ended
        world.finish()
        assert world.ended[task] is None
    assert world.ended[tag] == G
    victim.check_nothing_more_is_written()
    assert seen(world) == Seen({N2: K2, N3: K3}, (WERO, N2), 4, {N1: GONE_AND_CLEARED})
    assert world.unit.open_tasks == 0


@pytest.mark.case("PA-01")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_pa_01_a_victim_without_tasks_is_not_told_that_commands_were_cleared():
    world = slow_world({N1: K1, N2: K2})
    tag = world.preempt_and_abort(N2, K2, K1, EA)
    assert world.ended[tag] == G
    assert seen(world) == Seen({N2: K2}, (EA, N2), 3, {N1: GONE})


@pytest.mark.case("PA-01")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_pa_01_a_failing_operation_of_the_victim_ends_the_wait_too():
    world = slow_world({N1: K1, N2: K2})
    writing = world.start_write(N1)
    tag = world.preempt_and_abort(N2, K2, K1, WERO)
    [ticket] = world.at_medium
    del world.at_medium[ticket]
    assert tag not in world.ended
    world._run(world.unit.finished(ticket, MediumError(Fault.WRITE_FAILED)))
    assert (world.ended[writing], world.ended[tag]) == (None, G)


@pytest.mark.case("PA-02")
@pytest.mark.clause("SPC4r37 7.5.8")
def test_pa_02_with_tas_every_task_of_the_victim_ends_with_task_aborted():
    world = slow_world({N1: K1, N2: K2, N3: K3}, tas=True)
    victim = Victim(world, N1)
    tag = preempt_and_abort_at_once(world, N2, K2, K1)
    assert seen(world) == Seen({N2: K2, N3: K3}, (WERO, N2), 4, {N1: GONE})
    assert [world.ended[aborted] for aborted in victim.never_performed] == [ABORTED] * 3
    for task in (victim.first, victim.second):
        assert tag not in world.ended
        assert task not in world.ended
        world.finish()
        assert world.ended[task] == ABORTED
    assert world.ended[tag] == G
    victim.check_nothing_more_is_written()
    assert seen(world) == Seen({N2: K2, N3: K3}, (WERO, N2), 4, {N1: GONE})


@pytest.mark.case("PA-03")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_pa_03_tasks_of_a_registrant_that_is_not_preempted_go_on():
    world = slow_world({N1: K1, N2: K2, N3: K3})
    victim = world.start_write(N1, 0, 7)
    at_medium = world.start_write(N3, 1, 2)
    behind_the_victim = world.start_write(N3, 0, 2)
    collecting = world.start_write(N3, 2, 2, data=False)
    tag = world.preempt_and_abort(N2, K2, K1, WERO)
    assert tag not in world.ended
    world.finish()
    assert (world.ended[victim], world.ended[tag]) == (None, G), "it waits for no task of another nexus"
    assert not world.ended.keys() & {at_medium, behind_the_victim, collecting}
    world.give(collecting, TWOS)
    world.finish_all()
    assert [world.ended[task] for task in (at_medium, behind_the_victim, collecting)] == [G] * 3
    assert [world.block(lba) for lba in range(3)] == [TWOS] * 3
    assert seen(world) == Seen({N2: K2, N3: K3}, (WERO, N2), 4, {N1: GONE_AND_CLEARED})


@pytest.mark.case("PA-04")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
@pytest.mark.parametrize("tas", [False, True])
def test_pa_04_a_holder_that_preempts_itself_aborts_its_other_tasks_only(tas: bool):
    world = slow_world({N1: K1, N2: K2}, tas=tas)
    other = world.start_write(N2, 6, 2)
    victim = Victim(world, N1)
    tag = preempt_and_abort_at_once(world, N1, K1, K1)
    assert [world.ended[aborted] for aborted in victim.never_performed] == [None] * 3
    for task in list(world.at_medium)[1:]:
        assert tag not in world.ended
        world.finish(task)
    assert [world.ended[aborted] for aborted in victim.tags] == [None] * 5
    assert world.ended[tag] == G
    assert other not in world.ended
    world.finish()
    assert world.ended[other] == G
    victim.check_nothing_more_is_written()
    assert seen(world) == Seen({N1: K1, N2: K2}, (WERO, N1), 3, {})


@pytest.mark.case("PA-05")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_pa_05_without_a_reservation_the_tasks_of_who_lost_its_registration_are_aborted():
    world = slow_world({N1: K1, N2: K2}, kind=None)
    victim = Victim(world, N2)
    tag = preempt_and_abort_at_once(world, N1, K1, K2, WE)
    assert tag not in world.ended
    world.finish_all()
    assert [world.ended[aborted] for aborted in victim.tags] == [None] * 5
    assert world.ended[tag] == G
    victim.check_nothing_more_is_written()
    assert seen(world) == Seen({N1: K1}, None, 3, {N2: GONE_AND_CLEARED})


@pytest.mark.case("PA-06")
@pytest.mark.clause("SPC4r37 5.13.11.2.5")
@pytest.mark.parametrize("kind", [None, *TYPES])
def test_pa_06_a_key_that_nobody_has_conflicts_and_aborts_nothing(kind: int | None):
    world = slow_world({N1: K1, N2: K2}, kind)
    victim = Victim(world, N1)
    before = seen(world)
    tag = preempt_and_abort_at_once(world, N2, K2, K9)
    assert world.ended[tag] == RC
    assert seen(world) == before
    assert not world.ended.keys() & set(victim.tags)
    victim.send_late_data()
    world.finish_all()
    assert [world.ended[task] for task in victim.tags] == [G] * 5
    assert [world.block(lba) for lba in (0, 1, 3, 4)] == [NEW_BLOCK, OLD_BLOCK, NEW_BLOCK, NEW_BLOCK]


@pytest.mark.case("PA-07")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
@pytest.mark.parametrize("kind", [WEAR, EAAR])
def test_pa_07_the_key_zero_aborts_the_tasks_of_every_registered_nexus(kind: int):
    world = slow_world({N1: K1, N2: K2, N3: K3}, kind)
    tags = [world.start_write(nexus, lba, 7) for lba, nexus in enumerate((N1, N2, N3))]
    waiting = [world.start_write(nexus, lba, 9) for lba, nexus in enumerate((N1, N2, N3))]
    tag = world.preempt_and_abort(N2, K2, 0, kind)
    assert [world.ended[task] for task in waiting] == [None] * 3
    for task in tags:
        assert not world.ended.keys() & {tag, task}
        world.finish()
        assert world.ended[task] is None
    assert world.ended[tag] == G
    assert not world.at_medium
    assert [world.block(lba) for lba in range(3)] == [OLD_BLOCK] * 3
    assert seen(world) == Seen({N2: K2}, (kind, None), 4, {N1: GONE_AND_CLEARED, N3: GONE_AND_CLEARED})


@pytest.mark.case("PA-08")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_pa_08_reads_of_a_nexus_that_is_not_registered_go_on():
    world = slow_world({N1: K1, N2: K2})
    world.store.write(5 * BLOCK, TWOS)
    reading = world.start(N4, Read10(lba=5, transfer_length=1))
    behind_the_victim = world.start_write(N1, 0, 7), world.start(N4, Read10(transfer_length=1))
    tag = world.preempt_and_abort(N2, K2, K1, WERO)
    world.finish(list(world.at_medium)[1])
    assert world.ended[tag] == G
    assert reading not in world.ended
    world.finish_all()
    assert (world.ended[reading], world.data[reading]) == (G, TWOS)
    assert [world.ended[task] for task in behind_the_victim] == [None, G]
    assert seen(world) == Seen({N2: K2}, (WERO, N2), 3, {N1: GONE_AND_CLEARED})


@pytest.mark.case("PA-09")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
@pytest.mark.parametrize("action, prevented_by", [(OutAction.PREEMPT, {N1, N3}), (OutAction.PREEMPT_AND_ABORT, {N3})])
def test_pa_09_the_victim_prevents_the_removal_of_the_medium_no_longer(action: OutAction, prevented_by: set[Nexus]):
    world = slow_world({N1: K1, N2: K2, N3: K3})
    for nexus in (N1, N3):
        assert world.send(nexus, PreventAllowMediumRemoval(prevent=1)) == G
    assert world.out(N2, action, PARAMETERS, type=WERO) == G
    assert world.unit.device.preventing == prevented_by
    assert seen(world) == Seen({N2: K2, N3: K3}, (WERO, N2), 4, {N1: GONE})


@pytest.mark.case("PA-09")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_pa_09_a_registrant_that_holds_nothing_prevents_no_longer_either():
    world = slow_world({N1: K1, N2: K2, N3: K3})
    assert world.send(N3, PreventAllowMediumRemoval(prevent=1)) == G
    assert world.ended[world.preempt_and_abort(N2, K2, K3)] == G
    assert world.unit.device.preventing == set()
    assert seen(world) == Seen({N1: K1, N2: K2}, (WERO, N1), 4, {N3: GONE})


@pytest.mark.case("PA-10")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
@pytest.mark.parametrize("tas, end", [(False, None), (True, ABORTED)])
def test_pa_10_a_write_that_waits_for_its_data_is_aborted_and_late_data_does_nothing(tas: bool, end):
    world = slow_world({N1: K1, N2: K2}, tas=tas)
    tag = world.start_write(N1, 0, 9, data=False)
    waiting, _ = world.collecting[tag]
    told = world.ended[world.preempt_and_abort(N2, K2, K1, WERO)]
    assert (told, world.ended[tag]) == (G, end)
    after = seen(world)
    assert world.unit.data_received(waiting, NEW_BLOCK) == []
    assert world.block() == NOTHING
    assert seen(world) == after == Seen({N2: K2}, (WERO, N2), 3, {N1: GONE if tas else GONE_AND_CLEARED})


@pytest.mark.case("PA-11")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_pa_11_tasks_through_every_target_port_are_aborted():
    world = slow_world({N1: K1, N1Q: K1, N2: K2, N2Q: K2})
    tags = [world.start_write(nexus, lba, 7) for lba, nexus in enumerate((N1, N1Q))]
    other = world.start_write(N2Q, 2, 2)
    tag = world.preempt_and_abort(N2, K2, K1, WERO)
    for task in tags:
        assert not world.ended.keys() & {tag, task}
        world.finish()
        assert world.ended[task] is None
    assert world.ended[tag] == G
    world.finish_all()
    assert world.ended[other] == G
    expected = {N1: GONE_AND_CLEARED, N1Q: GONE_AND_CLEARED}
    assert seen(world) == Seen({N2: K2, N2Q: K2}, (WERO, N2), 5, expected)


@pytest.mark.case("PA-12")
@pytest.mark.clause("SPC4r37 6.15.2")
@pytest.mark.parametrize("kind, victim", [(None, K1), (WERO, K1), (WERO, K3), (WEAR, 0)])
def test_pa_12_the_generation_moves_by_one_whatever_is_removed_and_aborted(kind: int | None, victim: int):
    world = slow_world({N1: K1, N1Q: K1, N2: K2, N3: K3}, kind)
    for nexus in (N1, N1Q, N3):
        world.start_write(nexus, 1)
    tag = world.preempt_and_abort(N2, K2, victim, WERO)
    assert world.generation == 5
    world.finish_all()
    assert world.ended[tag] == G
    assert world.generation == 5


# Hosts with sessions


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.mark.case("PA-10")
@pytest.mark.clause("RFC7143 4.2.3.3")
def test_pa_10_late_data_out_pdus_are_swallowed(lab: Lab):
    a, b = host(lab, "a"), host(lab, "b")
    hold_and_register(a, b)
    tag = a.ask_to_write(0, blocks=2)
    request = asked(a)
    a.data_out(request, ONES, final=False)
    fence = out(b, OutAction.PREEMPT_AND_ABORT, PARAMETERS, WERO)
    assert b.outcome(fence).status == Status.GOOD
    a.data_out(request, ONES, data_sn=1, buffer_offset=BLOCK)
    assert a.ended(tag) is None
    assert Opcode.REJECT not in [pdu.header.opcode for pdu in a.received]
    assert not a.closed
    assert not lab.performed
    assert (lab.block(0), lab.block(1)) == (NOTHING, NOTHING)
    assert [session.open_tasks for session in lab.target.sessions()] == [0, 0]
    assert [a.attention() for _ in range(3)] == [*GONE_AND_CLEARED, None]
    assert lab.units["disk0"].device.reservations.generation == 3


@pytest.mark.case("PA-11")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_pa_11_the_victim_behind_another_portal_group_is_fenced(lab: Lab):
    a, b = host(lab, "a", 2), host(lab, "b", 1)
    hold_and_register(a, b)
    lab.slow = True
    at_medium, in_turn = a.write(0, ONES), a.write(0, TWOS)
    collecting = a.ask_to_write(1)
    fence = out(b, OutAction.PREEMPT_AND_ABORT, PARAMETERS, WERO)
    assert b.ended(fence) is None
    lab.finish()
    assert b.outcome(fence).status == Status.GOOD
    assert not lab.at_medium
    a.data_out(asked(a), TWOS)
    assert [a.ended(tag) for tag in (at_medium, in_turn, collecting)] == [None] * 3
    assert len(lab.performed) == 1
    assert (lab.block(0), lab.block(1)) == (ONES, NOTHING)
    assert a.outcome(a.write(2, ONES)).status == Status.RESERVATION_CONFLICT
    assert [a.attention() for _ in range(3)] == [*GONE_AND_CLEARED, None]


@pytest.mark.case("PA-09")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
@pytest.mark.parametrize("kind", [WERO, WEAR])
def test_pa_09_the_aca_condition_of_the_victim_is_cleared(kind: int):
    world = slow_world({N1: K1, N2: K2, N3: K3}, kind)
    held = world.start_write(N3)
    assert world.send(N1, FAILS) == Told(Status.CHECK_CONDITION, (5, 0x2400))
    world.finish_all()
    assert held not in world.ended
    assert world.ended[world.preempt_and_abort(N2, K2, K1, kind)] == G
    assert world.unit.device.faulted == frozenset()
    assert world.ended[held] == G


@pytest.mark.case("PA-09")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_pa_09_the_aca_condition_of_a_bystander_stays():
    world = slow_world({N1: K1, N2: K2, N3: K3})
    world.send(N3, FAILS)
    assert world.ended[world.preempt_and_abort(N2, K2, K1, WERO)] == G
    assert world.unit.device.faulted == {N3}


@pytest.mark.case("PA-09")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_pa_09_the_key_zero_of_all_registrants_clears_every_aca_condition():
    world = slow_world({N1: K1, N2: K2}, WEAR)
    world.send(N4, FAILS)
    task = world.start(N4, READY, attribute=TaskAttribute.ORDERED)
    assert world.ended[task] == Told(Status.ACA_ACTIVE)
    assert world.ended[world.preempt_and_abort(N2, K2, 0, WEAR)] == G
    assert world.unit.device.faulted == frozenset()
