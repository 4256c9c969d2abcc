"""Thresholds of a thin unit: mode page, log page, VPD page and unit attentions; drawing in unit_bench."""

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.cdb import Inquiry, LogSense, ModeSense10, RequestSense
from iscsi_target.scsi.layouts.inquiry_pages import LogicalBlockProvisioning, VpdHeader
from iscsi_target.scsi.layouts.mode_pages import THRESHOLD_DEFAULTS, ControlPage, ModePages
from iscsi_target.scsi.layouts.pages import ModeHeader10
from iscsi_target.scsi.layouts.threshold_pages import LogicalBlockProvisioningPage, ReadWriteErrorRecoveryPage
from iscsi_target.scsi.resources import Resources
from iscsi_target.scsi.sense_data import FixedSense
from iscsi_target.scsi.state.task import Completed, Function, Task
from iscsi_target.scsi.status import Status
from iscsi_target.scsi.unit.thresholds import QUIET_S
from iscsi_target.wire.layout import Layout
from tests.unit.scsi.unit_bench import A, B, Bench

MIB = 1 << 20
REACHED = AttentionCode.THIN_PROVISIONING_SOFT_THRESHOLD_REACHED
AVAILABLE_AT, USED_AT = 16, 24  # of the descriptors in the mode page
PAGE = LogicalBlockProvisioningPage(ps=False)
WHOLE = 255  # allocation length


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.device.statistics.resources = Resources.of(512, 1 << 40)
    made.device.modes = ModePages.restore({}, THRESHOLD_DEFAULTS)
    use(made, used=0, available=100)
    return made


def use(bench: Bench, *, used: int, available: int, now_s: float = 0.0) -> None:
    bench.unit.thresholds.provisioned(used_bytes=used * MIB, available_bytes=available * MIB, now_s=now_s)


def set_thresholds(bench: Bench, **fields: int) -> None:
    task = bench.select(A, PAGE.replace(**fields).pack())
    assert bench.status(task) is Status.GOOD
    assert bench.attention(B) == AttentionCode.MODE_PARAMETERS_CHANGED


def answer(bench: Bench, cdb: Layout) -> bytes:
    return bytes(ended(bench, bench.send(A, cdb)).data_in)


def ended(bench: Bench, task: Task) -> Completed:
    end = bench.outcome(task)
    assert isinstance(end, Completed)
    return end


def told(bench: Bench, nexus=A) -> int | None:
    """Returns INFORMATION of a threshold that a nexus is told of next, or None when it is told of none."""
    end = ended(bench, bench.send(nexus, RequestSense(allocation_length=18)))
    sense = FixedSense.unpack(bytes(end.data_in))
    if not sense.sense_key:
        return None
    assert (sense.sense_key, sense.additional_sense_code, sense.valid) == (6, REACHED, True)
    return sense.information


@pytest.mark.clause("SBC3r36 4.7.3.7")
@pytest.mark.clause("SBC3r36 6.4.7")
def test_every_nexus_is_told_with_the_place_of_the_descriptor_when_little_is_left(bench):
    set_thresholds(bench, available_enabled=True, available_threshold_count=10)
    use(bench, used=80, available=11)
    assert (told(bench, A), told(bench, B)) == (None, None)
    use(bench, used=81, available=10)
    assert (told(bench, A), told(bench, B)) == (AVAILABLE_AT, AVAILABLE_AT)
    assert (told(bench, A), told(bench, B)) == (None, None)


@pytest.mark.clause("SBC3r36 4.7.3.7")
def test_a_threshold_of_what_is_used_is_armed_increasing(bench):
    set_thresholds(bench, used_enabled=True, used_threshold_count=5)
    use(bench, used=4, available=96)
    assert told(bench) is None
    use(bench, used=5, available=95)
    assert told(bench) == USED_AT


@pytest.mark.clause("SAM5r21 5.14")
def test_a_command_ends_with_the_attention_and_its_information(bench):
    set_thresholds(bench, used_enabled=True, used_threshold_count=1)
    use(bench, used=1, available=99)
    task = bench.read(A, 0)
    assert bench.sense(task) == (6, REACHED)
    assert FixedSense.unpack(ended(bench, task).sense).information == USED_AT


@pytest.mark.clause("SBC3r36 4.7.3.7")
def test_both_thresholds_are_told_each_with_its_own_place(bench):
    set_thresholds(
        bench, available_enabled=True, available_threshold_count=50, used_enabled=True, used_threshold_count=50
    )
    use(bench, used=50, available=50)
    assert [told(bench), told(bench), told(bench)] == [AVAILABLE_AT, USED_AT, None]


def test_an_event_comes_again_only_after_the_count_was_on_the_other_side(bench):
    set_thresholds(bench, available_enabled=True, available_threshold_count=10)
    use(bench, used=90, available=10)
    assert told(bench) == AVAILABLE_AT
    use(bench, used=91, available=9)
    assert told(bench) is None
    use(bench, used=80, available=20)
    use(bench, used=92, available=8, now_s=QUIET_S)
    assert told(bench) == AVAILABLE_AT


@pytest.mark.clause("SBC3r36 4.7.3.7")
def test_a_count_that_goes_to_and_fro_is_told_once_in_five_minutes(bench):
    set_thresholds(
        bench, available_enabled=True, available_threshold_count=10, used_enabled=True, used_threshold_count=1
    )
    use(bench, used=0, available=10, now_s=100.0)
    assert [told(bench), told(bench)] == [AVAILABLE_AT, None]
    use(bench, used=1, available=10, now_s=101.0)
    assert [told(bench), told(bench)] == [USED_AT, None]  # the other has minutes of its own
    for now_s in (200.0, 399.0):
        use(bench, used=0, available=11, now_s=now_s)
        use(bench, used=0, available=10, now_s=now_s)
        assert told(bench) is None
    bench.now_s = 400.0
    assert [told(bench), told(bench), told(bench)] == [None, AVAILABLE_AT, None]


def test_what_is_over_when_it_might_be_told_is_not_told(bench):
    set_thresholds(bench, available_enabled=True, available_threshold_count=10)
    use(bench, used=0, available=10)
    assert told(bench) == AVAILABLE_AT
    use(bench, used=0, available=20)
    use(bench, used=0, available=10, now_s=10.0)
    use(bench, used=0, available=20, now_s=QUIET_S)
    assert told(bench) is None


def test_a_threshold_that_is_set_when_it_is_reached_already_is_told_at_once(bench):
    use(bench, used=95, available=5)
    task = bench.select(A, PAGE.replace(available_enabled=True, available_threshold_count=10).pack())
    assert bench.status(task) is Status.GOOD
    assert told(bench) == AVAILABLE_AT


@pytest.mark.clause("SBC3r36 6.4.8")
def test_nobody_is_told_when_error_reporting_is_off(bench):
    set_thresholds(bench, available_enabled=True, available_threshold_count=10)
    bench.select(A, ReadWriteErrorRecoveryPage(ps=False, lbpere=False).pack())
    assert bench.attention(B) == AttentionCode.MODE_PARAMETERS_CHANGED
    use(bench, used=95, available=5)
    assert told(bench) is None


@pytest.mark.clause("SBC3r36 6.4.7")
@pytest.mark.parametrize(
    "fields", [{"situa": True}, {"used_threshold_arming": 0}, {"available_threshold_resource": 2}], ids=str
)
def test_what_is_not_done_cannot_be_set(bench, fields):
    assert bench.sense(bench.select(A, PAGE.replace(**fields).pack())) == (5, 0x2600)


@pytest.mark.clause("SBC3r36 6.4.7")
def test_thresholds_can_be_saved_and_hold_after_a_reset_and_a_restart(bench):
    task = bench.select(A, PAGE.replace(used_enabled=True, used_threshold_count=7).pack(), save=True)
    [state] = bench.saving.values()
    bench.persist()
    assert bench.status(task) is Status.GOOD
    bench.manage(Function.LOGICAL_UNIT_RESET, A)
    for modes in (bench.device.modes, ModePages.restore(state.mode_pages, THRESHOLD_DEFAULTS)):
        assert modes.thresholds is not None
        assert (modes.thresholds.used_enabled, modes.thresholds.used_threshold_count) == (True, 7)


@pytest.mark.clause("SBC3r36 6.3.4")
def test_the_log_page_has_what_is_available_to_all_and_used_by_this_unit(bench):
    use(bench, used=3, available=0x12345)
    cdb = LogSense(page_code=0x0C, pc=1, allocation_length=WHOLE)
    counts = "00012308" + "00012345" + "02000000" + "00022308" + "00000003" + "01000000"
    assert answer(bench, cdb).hex() == "8c000018" + counts
    assert 0x0C in answer(bench, LogSense(pc=1, allocation_length=WHOLE))[4:]
    assert b"\x0c\x00" in answer(bench, LogSense(pc=1, subpage_code=0xFF, allocation_length=WHOLE))[4:]


@pytest.mark.clause("SBC3r36 6.5.4")
def test_the_vpd_page_tells_how_large_a_threshold_set_is(bench):
    raw = answer(bench, Inquiry(evpd=True, page_code=0xB2, allocation_length=WHOLE))
    assert LogicalBlockProvisioning.unpack(raw[VpdHeader.size :]).threshold_exponent == 11


def test_a_unit_without_resources_has_no_thresholds_no_page_of_them_and_no_log_page():
    bench = Bench()
    raw = answer(bench, Inquiry(evpd=True, page_code=0xB2, allocation_length=WHOLE))
    assert LogicalBlockProvisioning.unpack(raw[VpdHeader.size :]).threshold_exponent == 0
    for cdb in (
        ModeSense10(page_code=0x1C, subpage_code=2, allocation_length=WHOLE),
        ModeSense10(page_code=0x01, allocation_length=WHOLE),
        LogSense(page_code=0x0C, pc=1, allocation_length=WHOLE),
    ):
        assert bench.sense(bench.send(A, cdb)) == (5, 0x2400)
    assert bench.sense(bench.select(A, PAGE.pack())) == (5, 0x2600)


def test_mode_sense_returns_the_pages_in_order_and_what_can_be_changed(bench):
    raw = answer(bench, ModeSense10(dbd=True, page_code=0x3F, subpage_code=0xFF, allocation_length=WHOLE))
    assert raw[ModeHeader10.size] & 0x3F == 0x01
    assert raw.endswith(LogicalBlockProvisioningPage().pack())
    cdb = ModeSense10(dbd=True, page_control=1, page_code=0x1C, subpage_code=2, allocation_length=WHOLE)
    changeable = answer(bench, cdb)[ModeHeader10.size :]
    assert changeable[4:].hex() == "00" * 12 + ("80000000" + "ffffffff") * 2


def test_another_default_holds_wherever_the_old_one_did(bench):
    key, modes = (0x1C, 2), ModePages.restore({}, THRESHOLD_DEFAULTS)
    other = LogicalBlockProvisioningPage(available_enabled=True, available_threshold_count=9)
    assert modes.redefined(key, other).thresholds == other
    mine = modes.select(PAGE.replace(used_enabled=True).pack() + ControlPage(swp=True).pack(), 0)
    after = mine.redefined(key, other)
    assert after.thresholds == mine.thresholds
    assert after.reset().thresholds == other
