"""A unit that changes while it is sanitized, or is in some other condition. Nodes A and B; unit 0 (see unit_bench)."""

import pytest

from iscsi_target.scsi.commands.sanitize import EXIT_FAILURE_MODE
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.status import Status
from tests.unit.scsi.sanitize_bench import BROKEN, IN_PROGRESS, LENGTH, SanitizeBench
from tests.unit.scsi.unit_bench import BLOCKS, READY


@pytest.fixture
def bench() -> SanitizeBench:
    made = SanitizeBench()
    made.memory.content[:] = b"u" * LENGTH
    return made


@pytest.mark.clause("SBC3r36 4.11.2")
@pytest.mark.parametrize("failing", [False, True])
def test_a_unit_that_grows_meanwhile_is_sanitized_to_its_new_end(bench: SanitizeBench, failing: bool):
    task = bench.sanitize()
    bench.carry_on(3)
    bench.memory.content += b"u" * LENGTH
    bench.unit.resize(2 * BLOCKS)
    if failing:  # what was under way then says nothing of what is to be done now
        bench.perform(error=BROKEN)
    bench.end()
    assert bench.status(task) is Status.GOOD
    assert bench.memory.content == bytes(2 * LENGTH)


def test_a_unit_that_cannot_be_written_any_more_waits_until_it_can(bench: SanitizeBench):
    bench.sanitize()
    bench.device.features = bench.device.features._replace(read_only=True)
    bench.perform()
    assert not bench.at_medium
    assert bench.refusal(READY) == IN_PROGRESS
    bench.device.features = bench.device.features._replace(read_only=False)
    bench.end()
    bench.record(bench.unit.resume())
    bench.end()
    assert bench.refusal(READY) is None


@pytest.mark.clause("SBC3r36 4.11.3")
@pytest.mark.parametrize("spoil", ["swp", "eject", "stop"])
def test_a_failure_can_be_mended_whatever_state_the_unit_is_in(bench: SanitizeBench, spoil: str):
    bench.fail(ause=True)
    device = bench.device
    if spoil == "swp":
        device.modes = device.modes.select(ControlPage(ps=False, swp=True).pack(), 0)
    elif spoil == "eject":
        device.loaded = False
    else:
        device.stopped = True
    again = bench.sanitize(ause=True)
    bench.end()
    assert bench.status(again) is Status.GOOD
    assert bench.device.sanitization is None


@pytest.mark.clause("SBC3r36 5.24.2.5")
def test_exit_failure_mode_writes_nothing_so_it_works_with_write_protection(bench: SanitizeBench):
    bench.fail(ause=True)
    bench.device.features = bench.device.features._replace(read_only=True)
    assert bench.status(bench.sanitize(action=EXIT_FAILURE_MODE)) is Status.GOOD
