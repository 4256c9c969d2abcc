"""A medium that an operator takes out and puts in, under tasks of nodes A and B; drawing in unit_bench."""

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.block_cdb import PreventAllowMediumRemoval, StartStopUnit, Write10
from iscsi_target.scsi.operations import Write
from iscsi_target.scsi.state.task import Function, TaskAttribute
from iscsi_target.scsi.status import Status
from tests.unit.scsi.unit_bench import BLOCK, READY, A, B, Bench

NO_MEDIUM = (2, 0x3A00)
NACA, OBSOLETE = 0x04, 0x01  # bits of CONTROL
FAILS = READY.replace(control=NACA | OBSOLETE)
CHANGED = AttentionCode.MEDIUM_MAY_HAVE_CHANGED


@pytest.fixture
def bench() -> Bench:
    return Bench(removable=True)


def unload(bench: Bench) -> None:
    bench.record(bench.unit.unload())


@pytest.mark.clause("SBC3r36 4.9")
def test_without_a_medium_the_unit_is_not_ready_until_one_is_loaded_and_everybody_is_told(bench):
    unload(bench)
    assert bench.sense(bench.read(A, 0)) == NO_MEDIUM
    assert bench.sense(bench.send(B, READY)) == NO_MEDIUM
    bench.unit.load()
    assert (bench.attention(A), bench.attention(B)) == (CHANGED, CHANGED)
    assert (bench.attention(A), bench.attention(B)) == (None, None)


@pytest.mark.clause("SBC3r36 4.9")
def test_what_is_at_the_medium_ends_by_itself_and_what_waits_for_it_ends_with_it(bench):
    writes = bench.write(A, 0, 0x11)
    waits = bench.write(A, 0, 0x22)
    collects = bench.send(B, Write10(lba=8, transfer_length=1), expects_data=True)
    ordered = bench.send(B, READY, TaskAttribute.ORDERED)
    behind = bench.read(B, 9)
    unload(bench)
    assert [bench.sense(task) for task in (waits, collects, behind)] == [NO_MEDIUM] * 3
    assert bench.outcome(writes) is None
    bench.perform()
    assert bench.status(writes) is Status.GOOD
    assert bench.sense(ordered) == NO_MEDIUM
    assert bench.memory.read(0, BLOCK) == b"\x11" * BLOCK
    assert not bench.at_medium


@pytest.mark.clause("SAM5r21 5.9.3")
@pytest.mark.parametrize("naca", [False, True])
def test_an_aca_task_that_ends_with_the_medium_ends_the_condition_or_begins_another(bench, naca):
    writes = bench.write(B, 0)
    waits = bench.write(A, 1)
    bench.send(A, FAILS)
    cdb = Write10(lba=8, transfer_length=1, control=NACA if naca else 0)
    collects = bench.send(A, cdb, TaskAttribute.ACA, expects_data=True)
    bench.end()
    unload(bench)
    assert bench.sense(collects) == NO_MEDIUM
    assert bench.device.faulted == ({A} if naca else set())
    if naca:
        assert bench.outcome(writes) is None
        bench.manage(Function.CLEAR_ACA, A)
    assert [bench.status(task) for task in (writes, waits)] == [Status.GOOD] * 2


@pytest.mark.clause("SAM5r21 5.9.2")
def test_what_ends_with_the_medium_keeps_that_to_itself_while_an_aca_condition_holds_it_up(bench):
    tasks = [bench.send(nexus, Write10(transfer_length=1), expects_data=True) for nexus in (A, B)]
    bench.write(A, 9)
    tasks.append(bench.write(A, 9))
    bench.send(A, FAILS)
    bench.perform()
    unload(bench)
    assert [bench.outcome(task) for task in tasks] == [None] * 3
    bench.unit.load()
    bench.give(tasks[0], bytes(BLOCK))
    bench.manage(Function.CLEAR_ACA, A)
    assert [bench.sense(task) for task in tasks] == [NO_MEDIUM] * 3
    assert not bench.at_medium
    assert not bench.unit.open_tasks


def test_nothing_that_was_meant_for_one_medium_goes_to_the_next(bench):
    collects = bench.send(A, Write10(lba=8, transfer_length=1), expects_data=True)
    unload(bench)
    bench.unit.load()
    bench.give(collects, b"\x33" * BLOCK)
    assert bench.sense(collects) == NO_MEDIUM
    assert not [operation for operation in bench.at_medium.values() if isinstance(operation, Write)]


def test_what_an_initiator_has_ejected_can_be_removed_for_good(bench):
    bench.send(A, StartStopUnit(loej=True, no_flush=True))
    assert not bench.device.loaded
    collects = bench.send(B, Write10(lba=8, transfer_length=1), expects_data=True)
    unload(bench)
    assert bench.sense(collects) == NO_MEDIUM
    assert bench.device.statistics.unloads == 1


@pytest.mark.clause("SBC3r36 5.10")
def test_removal_ends_its_prevention(bench):
    bench.send(A, PreventAllowMediumRemoval(prevent=1))
    unload(bench)
    assert bench.device.preventing == set()
    assert bench.device.statistics.unloads == 1


def test_a_unit_that_was_stopped_is_started_by_loading(bench):
    bench.send(A, StartStopUnit(no_flush=True))
    unload(bench)
    bench.unit.load()
    bench.attention(A)
    assert bench.status(bench.send(A, READY)) is Status.GOOD
