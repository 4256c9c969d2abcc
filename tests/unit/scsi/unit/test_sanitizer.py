"""A sanitize operation, step by step. One unit of 1 MiB (see command_bench) in steps of 64 KiB, without its tasks."""

import pytest

from iscsi_target.scsi.operations import Erase, Fault, MediumError
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.scsi.state.task import Perform, Persist, Rest
from iscsi_target.scsi.unit import sanitizer
from iscsi_target.scsi.unit.sanitizer import Sanitizer
from tests.unit.scsi.command_bench import BLOCK, CAPACITY, device

LENGTH, STEP = CAPACITY * BLOCK, 64 << 10
STEPS = LENGTH // STEP
ERASE = Sanitization(Method.BLOCK_ERASE, LENGTH)
BROKEN = MediumError(Fault.WRITE_FAILED, 0)


@pytest.fixture
def unit() -> Device:
    made = device()
    made.sanitization = ERASE
    return made


def step(of: Sanitizer) -> Perform | Persist | Rest | None:
    return of.step(quiet=True, storing=False)


def run(of: Sanitizer, most: int = 1000) -> list[Perform | Persist | Rest]:
    """Lets everything succeed until there is nothing more to do."""
    found = []
    for _ in range(most):
        action = step(of)
        if action is None:
            break
        found.append(action)
        of.finished(None)
    return found


def test_a_unit_that_is_not_sanitized_does_nothing():
    assert step(Sanitizer("u", device())) is None


def test_what_has_failed_is_not_tried_again(unit: Device):
    unit.sanitization = ERASE._replace(failed=True)
    assert step(Sanitizer("u", unit)) is None


def test_every_step_follows_the_one_before_and_the_end_is_stored(unit: Device):
    *performed, stored = run(Sanitizer("u", unit))
    places = [
        each.operation.offset_bytes
        for each in performed
        if isinstance(each, Perform) and isinstance(each.operation, Erase)
    ]
    assert places == list(range(0, LENGTH, STEP))
    assert isinstance(stored, Persist)
    assert stored.state.sanitization is None
    assert unit.sanitization is None


def test_it_is_the_ticket_of_what_it_waits_for(unit: Device):
    own = Sanitizer("u", unit)
    action = step(own)
    assert isinstance(action, Perform)
    assert (action.ticket, action.unit) == (own, "u")
    assert step(own) is None


def test_it_begins_when_no_task_is_at_the_medium(unit: Device):
    own = Sanitizer("u", unit)
    assert own.step(quiet=False, storing=False) is None
    assert isinstance(step(own), Perform)


def test_it_stores_nothing_while_a_task_does(unit: Device):
    unit.sanitization = ERASE._replace(done_bytes=LENGTH)
    own = Sanitizer("u", unit)
    assert own.step(quiet=True, storing=True) is None
    assert not own.stores
    assert isinstance(step(own), Persist)
    assert own.stores


def test_the_device_says_how_far_it_is(unit: Device):
    own = Sanitizer("u", unit)
    for done in range(0, LENGTH, STEP):
        assert unit.sanitization is not None
        assert unit.sanitization.done_bytes == done
        step(own)
        own.finished(None)


def test_a_fault_of_the_medium_fails_it_and_that_is_stored(unit: Device):
    own = Sanitizer("u", unit)
    step(own)
    own.finished(None)
    step(own)
    own.finished(BROKEN)
    failed = ERASE._replace(done_bytes=STEP, failed=True)
    assert unit.sanitization == failed
    [stored] = run(own)
    assert isinstance(stored, Persist)
    assert stored.state.sanitization == failed


def test_an_end_that_cannot_be_stored_is_a_failure(unit: Device):
    unit.sanitization = ERASE._replace(done_bytes=LENGTH)
    own = Sanitizer("u", unit)
    step(own)
    own.finished(MediumError(Fault.NO_SPACE))
    assert unit.sanitization == ERASE._replace(done_bytes=LENGTH, failed=True)
    assert step(own) is None


def test_now_and_then_it_is_stored_how_far_it_is(unit: Device, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sanitizer, "CHECKPOINT_BYTES", 4 * STEP)
    stored = [each.state.sanitization for each in run(Sanitizer("u", unit)) if isinstance(each, Persist)]
    assert [None if each is None else each.done_bytes // STEP for each in stored] == [4, 8, 12, None]


def test_a_checkpoint_that_cannot_be_stored_stops_nothing(unit: Device, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sanitizer, "CHECKPOINT_BYTES", STEP)
    own = Sanitizer("u", unit)
    step(own)
    own.finished(None)
    assert isinstance(step(own), Persist)
    own.finished(MediumError(Fault.NO_SPACE))
    run(own)
    assert unit.sanitization is None


# Rests


@pytest.mark.parametrize("seconds", [0.5, 12.0, 3600.0])
def test_all_rests_together_take_as_long_as_the_device_says(unit: Device, seconds: float):
    unit.features = unit.features._replace(sanitize_s=seconds)
    rests = [each.seconds for each in run(Sanitizer("u", unit)) if isinstance(each, Rest)]
    assert sum(rests) == pytest.approx(seconds)
    assert len(rests) <= STEPS


def test_a_rest_comes_before_its_step_and_short_ones_are_joined(unit: Device):
    unit.features = unit.features._replace(sanitize_s=STEPS * 0.02)
    kinds = [type(each).__name__ for each in run(Sanitizer("u", unit))]
    assert kinds[:7] == ["Perform", "Perform", "Rest", "Perform", "Persist", "Perform", "Perform"]
    assert kinds[-3:] == ["Rest", "Perform", "Persist"]


def test_what_is_left_when_it_goes_on_takes_its_part_of_the_time(unit: Device):
    unit.features = unit.features._replace(sanitize_s=8.0)
    unit.sanitization = ERASE._replace(done_bytes=LENGTH * 3 // 4)
    rests = [each.seconds for each in run(Sanitizer("u", unit)) if isinstance(each, Rest)]
    assert sum(rests) == pytest.approx(2.0)


# Halting


def test_a_halted_one_takes_no_step(unit: Device):
    own = Sanitizer("u", unit)
    own.halt()
    assert step(own) is None


@pytest.mark.parametrize("result", [None, MediumError(Fault.GONE)])
def test_what_becomes_of_a_step_of_a_halted_one_means_nothing(unit: Device, result: MediumError | None):
    own = Sanitizer("u", unit)
    step(own)
    own.halt()
    own.finished(result)
    assert unit.sanitization == ERASE
    assert step(own) is None


def test_a_halted_one_still_takes_what_is_stored(unit: Device):
    unit.sanitization = ERASE._replace(done_bytes=LENGTH)
    own = Sanitizer("u", unit)
    step(own)
    own.halt()
    own.finished(None)
    assert unit.sanitization is None


def test_another_operation_is_taken_up_where_it_begins(unit: Device):
    own = Sanitizer("u", unit)
    step(own)
    own.finished(BROKEN)
    unit.sanitization = ERASE._replace(method=Method.CRYPTOGRAPHIC_ERASE)
    own.begin()
    assert len(run(own)) == STEPS + 1
    assert unit.sanitization is None
