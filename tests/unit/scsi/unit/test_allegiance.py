"""Which commands an ACA condition keeps out, and which begin one. Nodes A and B; unit 0 (see unit_bench)."""

import pytest

from iscsi_target.scsi.layouts.block_cdb import Read6, Read10, Read16
from iscsi_target.scsi.layouts.cdb import PersistentReserveOut
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Task, TaskAttribute
from iscsi_target.scsi.status import AcaActive, Busy, StatusError
from iscsi_target.scsi.unit.allegiance import asks_for_allegiance, failed, permits
from iscsi_target.scsi.unit.open_tasks import OpenTasks
from tests.unit.scsi.unit_bench import READY, A, B, make_device

NACA = 0x04
PLAIN, ASKING = READY.pack(), READY.replace(control=NACA).pack()
FENCE = PersistentReserveOut(service_action=OutAction.PREEMPT_AND_ABORT).pack()
PREEMPT = PersistentReserveOut(service_action=OutAction.PREEMPT).pack()
SIMPLE, ACA = TaskAttribute.SIMPLE, TaskAttribute.ACA


def device(*faulted: Nexus, tst: int = 0, tmf_only: bool = False) -> Device:
    unit = make_device()
    unit.modes = unit.modes.select(ControlPage(ps=False, tst=tst, tmf_only=tmf_only).pack(), 0)
    unit.faulted = frozenset(faulted)
    return unit


def task(nexus: Nexus, cdb: bytes = PLAIN, attribute: TaskAttribute = SIMPLE) -> Task:
    return Task(nexus, 1, cdb.ljust(16, b"\0"), attribute)


def answer(unit: Device, new: Task) -> bool | type[StatusError]:
    try:
        return permits(new, unit, OpenTasks())
    except StatusError as error:
        return type(error)


@pytest.mark.clause("SAM5r21 5.2")
@pytest.mark.parametrize(
    "cdb",
    [
        Read6(control=NACA).pack(),
        Read10(control=NACA).pack(),
        Read16(control=NACA).pack(),
        bytes((0xA8, *bytes(10), NACA)),
        bytes((0x7F, NACA)),
        bytes((0x1F, *bytes(4), NACA)),
    ],
)
def test_naca_stands_in_the_last_byte_or_in_the_second_of_variable_length(cdb: bytes):
    padded = cdb.ljust(16, b"\0")
    assert asks_for_allegiance(padded)
    assert not asks_for_allegiance(padded[:1].ljust(16, b"\0"))


@pytest.mark.parametrize("code", [0x60, 0x7E, 0xC0, 0xFF])
def test_codes_without_a_known_form_ask_for_nothing(code: int):
    assert not asks_for_allegiance(bytes([code]) + bytes([NACA]) * 15)


@pytest.mark.clause("SAM5r21 5.9.3")
@pytest.mark.parametrize("cdb", [PLAIN, ASKING, FENCE])
def test_the_faulted_nexus_sends_nothing_but_one_aca_task(cdb: bytes):
    unit = device(A)
    assert answer(unit, task(A, cdb)) is AcaActive
    assert answer(unit, task(A, cdb, ACA)) is True


@pytest.mark.clause("SPC4r37 7.5.8")
def test_tmf_only_keeps_aca_tasks_out_too():
    assert answer(device(A, tmf_only=True), task(A, PLAIN, ACA)) is AcaActive


@pytest.mark.clause("SAM5r21 5.9.4")
@pytest.mark.parametrize(
    "cdb, attribute, expected",
    [(PLAIN, SIMPLE, Busy), (PREEMPT, SIMPLE, Busy), (ASKING, SIMPLE, AcaActive), (PLAIN, ACA, AcaActive)],
)
def test_another_nexus_of_the_task_set_is_kept_out(cdb: bytes, attribute: TaskAttribute, expected: type[StatusError]):
    assert answer(device(A), task(B, cdb, attribute)) is expected


@pytest.mark.clause("SAM5r21 5.9.4")
@pytest.mark.clause("SPC4r37 5.13.11.2.6")
def test_another_nexus_may_preempt_and_abort():
    assert answer(device(A), task(B, FENCE)) is True


@pytest.mark.clause("SAM5r21 5.9.4")
@pytest.mark.parametrize("attribute", [SIMPLE, ACA])
def test_another_task_set_is_not_concerned(attribute: TaskAttribute):
    assert answer(device(A, tst=1), task(B, PLAIN, attribute)) is False


@pytest.mark.clause("SAM5r21 5.9.2")
@pytest.mark.parametrize(
    "before, new, after",
    [
        ((), task(A, ASKING), {A}),
        ((), task(A), set()),
        ((A,), task(A, ASKING, ACA), {A}),
        ((A,), task(A, PLAIN, ACA), set()),
        ((A,), task(B, ASKING), {A}),
    ],
)
def test_what_fails_with_naca_begins_a_condition_and_an_aca_task_ends_one(before, new, after):
    unit = device(*before)
    failed(new, unit)
    assert unit.faulted == after


@pytest.mark.clause("SPC4r37 7.5.8")
def test_each_task_set_has_a_condition_of_its_own():
    unit = device(A, tst=1)
    failed(task(B, ASKING), unit)
    assert unit.faulted == {A, B}
    failed(task(A, PLAIN, ACA), unit)
    assert unit.faulted == {B}


def test_an_epoch_lasts_until_the_condition_changes():
    unit = device(A)
    epoch = unit.epoch
    failed(task(B), unit)
    assert unit.epoch is epoch
    failed(task(A, PLAIN, ACA), unit)
    assert unit.epoch is not epoch
