"""How tasks end, by themselves; ended in a logical unit they are in test_logical_unit and test_task_management.

Nodes A and B; port P; unit 0 (see unit_bench).
"""

from collections.abc import Callable

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.commands import command_lookup
from iscsi_target.scsi.layouts.block_cdb import Read10
from iscsi_target.scsi.layouts.cdb import Inquiry
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.operations import Read
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.scsi.state.task import Aborted, Completed, Done, Task, UnitAction, Work
from iscsi_target.scsi.status import InvalidOperationCode, Status, StatusError
from iscsi_target.scsi.unit.chronicle import Chronicle
from iscsi_target.scsi.unit.endings import Endings
from iscsi_target.scsi.unit.nexus_table import NexusTable
from iscsi_target.scsi.unit.open_task import FENCING, READY, Fate, Fence, OpenTask, Performing, Waiting
from iscsi_target.scsi.unit.open_tasks import OpenTasks
from iscsi_target.scsi.unit.task_set import Turn
from iscsi_target.wire.layout import Layout
from tests.unit.scsi.unit_bench import A, B, make_device

ERASE = Sanitization(Method.BLOCK_ERASE, 512)


class Ward:
    """Open tasks, and what went out when they ended."""

    def __init__(self) -> None:
        self.device = make_device()
        self.nexuses = NexusTable()
        for nexus in (A, B):
            self.nexuses.attach(nexus)
            self.nexuses.take(nexus)
        self.tasks = OpenTasks()
        self.outbox: list[UnitAction] = []
        self.endings = Endings(self.device, self.nexuses, self.tasks, Chronicle(self.device), self.outbox)

    def open(self, nexus: Nexus, cdb: Layout | None = None) -> OpenTask:
        cdb = cdb or Read10(transfer_length=1)
        entry = OpenTask(Task(nexus, len(self.tasks), cdb.pack()), command_lookup.find(cdb.pack()), cdb, 7, READY)
        self.tasks.enter(entry)
        return entry

    def at_medium(self, nexus: Nexus, abandon: Callable[[StatusError | None], None] = lambda _: None) -> OpenTask:
        entry = self.open(nexus)
        turn = Turn(entry.task, Read(0, 512))
        self.tasks.turns.enter(turn)
        entry.phase = Performing(turn, Work(Read(0, 512), abandon=abandon))
        return entry


@pytest.fixture
def ward() -> Ward:
    return Ward()


def test_a_complete_task_leaves_with_what_it_came_to_and_others_learn_of_it(ward: Ward):
    entry = ward.open(A)
    ward.endings.complete(entry, Done(b"data", attention=0x2A01))
    assert ward.outbox == [Completed(entry.task, Status.GOOD, b"", b"data", 7)]
    assert not len(ward.tasks)
    assert (ward.nexuses.first(A), ward.nexuses.first(B)) == (None, 0x2A01)


def test_a_task_that_fails_leaves_with_sense_data(ward: Ward):
    entry = ward.open(A)
    ward.endings.fail(entry, InvalidOperationCode())
    assert ward.outbox == [Completed(entry.task, Status.CHECK_CONDITION, InvalidOperationCode().sense.fixed(), b"", 7)]
    assert not len(ward.tasks)


def test_one_that_was_never_taken_in_is_only_answered(ward: Ward):
    ward.endings.refuse(Task(A, 1, bytes(16)), InvalidOperationCode())
    [ended] = ward.outbox
    assert isinstance(ended, Completed)
    assert ended.status is Status.CHECK_CONDITION


@pytest.mark.clause("SPC4r37 7.5.8")
@pytest.mark.parametrize(("qerr", "left"), [(0, {A, B}), (1, set()), (3, {B})])
def test_qerr_says_whom_an_error_takes_with_it(ward: Ward, qerr: int, left: set[Nexus]):
    ward.device.modes = ward.device.modes.select(ControlPage(ps=False, qerr=qerr).pack(), 0)
    failing = ward.open(A)
    for nexus in (A, B):
        ward.open(nexus)
    ward.endings.fail(failing, InvalidOperationCode())
    assert {entry.task.nexus for entry in ward.tasks.all()} == left


@pytest.mark.parametrize(("tas", "fate"), [(True, Fate.TASK_ABORTED), (False, Fate.SILENCE)])
def test_a_task_at_the_medium_only_gets_its_fate(ward: Ward, tas: bool, fate: Fate):
    ward.device.modes = ward.device.modes.select(ControlPage(ps=False, tas=tas).pack(), 0)
    abandoned: list[bool] = []
    entry = ward.at_medium(B, lambda error: abandoned.append(error is None))
    ward.endings.abort_all([entry], A, tell_others=True)
    assert (entry.fate, ward.outbox, abandoned) == (fate, [], [])
    cleared = None if tas else AttentionCode.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR
    assert ward.nexuses.first(B) == cleared
    ward.endings.end_aborted(entry)
    assert abandoned == [True]
    [ended] = ward.outbox
    assert ended == (Completed(entry.task, Status.TASK_ABORTED, wanted=7) if tas else Aborted(entry.task))


def test_a_task_that_waits_for_the_medium_gives_up_its_turn(ward: Ward):
    entry = ward.open(A)
    turn = Turn(entry.task, Read(0, 512))
    ward.tasks.turns.enter(turn)
    entry.phase = Waiting(turn, Work(Read(0, 512)))
    ward.endings.abort_all([entry], A, tell_others=False)
    assert ward.outbox == [Aborted(entry.task)]
    assert not ward.tasks.turns


def test_what_waits_for_a_task_follows_its_end(ward: Ward):
    followed: list[bool] = []
    entry = ward.open(A)
    Fence.around([entry], lambda: followed.append(True)).lower()
    assert not followed
    ward.endings.complete(entry, Done())
    assert followed == [True]


# A sanitize operation


@pytest.mark.clause("SBC3r36 4.11.2")
def test_all_make_way_but_what_is_processed_meanwhile_and_what_only_waits(ward: Ward):
    own, inquiry, waits, read, late = (
        ward.open(A),
        ward.open(B, Inquiry()),
        ward.open(B),
        ward.open(B),
        ward.at_medium(B),
    )
    waits.phase = FENCING
    ward.endings.make_way(own, ERASE)
    [ended] = ward.outbox
    assert isinstance(ended, Completed)
    assert (ended.task, ended.sense[2], ended.sense[12:14], ended.sense[15:18]) == (
        read.task,
        2,
        b"\x04\x1b",
        b"\x80\0\0",
    )
    assert [own.fate, inquiry.fate, waits.fate, late.fate] == [Fate.ITS_OWN] * 3 + [Fate.SANITIZED]
    ward.endings.end_aborted(late)
    assert len(ward.outbox) == 2


def test_a_task_that_is_being_aborted_keeps_its_fate(ward: Ward):
    ward.device.modes = ward.device.modes.select(ControlPage(ps=False, tas=True).pack(), 0)
    own, aborted = ward.open(A), ward.at_medium(B)
    ward.endings.abort_all([aborted], A, tell_others=False)
    ward.endings.make_way(own, ERASE)
    assert aborted.fate is Fate.TASK_ABORTED
