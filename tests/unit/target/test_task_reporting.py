"""Which responses of commands are fenced."""

import pytest

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.cdb import PersistentReserveOut
from iscsi_target.scsi.nexus import OPERATOR
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.state.task import Completed, Task
from iscsi_target.scsi.status import Sense, SenseKey, Status
from iscsi_target.target.task_reporting import is_fenced

PLAIN = bytes(16)  # TEST UNIT READY
NACA = bytes(5) + b"\x04" + bytes(10)


def completed(status: Status, cdb: bytes = PLAIN, sense: bytes = b"") -> Completed:
    return Completed(Task(OPERATOR, 1, cdb), status, sense)


def out(action: OutAction) -> bytes:
    return PersistentReserveOut(service_action=action).pack().ljust(16, b"\0")


@pytest.mark.clause("RFC7143 4.2.2.3.4")
@pytest.mark.parametrize(
    "code",
    [
        AttentionCode.BUS_DEVICE_RESET_FUNCTION_OCCURRED,
        AttentionCode.SCSI_BUS_RESET_OCCURRED,
        AttentionCode.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR,
    ],
)
def test_attention_after_the_end_of_several_tasks_is_fenced_in_both_formats(code: AttentionCode):
    sense = Sense(SenseKey.UNIT_ATTENTION, code)
    assert is_fenced(completed(Status.CHECK_CONDITION, sense=sense.fixed()))
    assert is_fenced(completed(Status.CHECK_CONDITION, sense=sense.descriptor()))


@pytest.mark.clause("RFC7143 4.2.2.3.4")
def test_what_begins_an_allegiance_and_what_it_holds_off_is_fenced():
    error = Sense(SenseKey.ILLEGAL_REQUEST, 0x2400).fixed()
    assert is_fenced(completed(Status.CHECK_CONDITION, NACA, error))
    assert is_fenced(completed(Status.ACA_ACTIVE))
    assert not is_fenced(completed(Status.CHECK_CONDITION, PLAIN, error))


@pytest.mark.clause("RFC7143 4.2.2.3.4")
@pytest.mark.parametrize("action", OutAction)
def test_of_reservations_only_preempt_and_abort_is_fenced(action: OutAction):
    assert is_fenced(completed(Status.GOOD, out(action))) is (action is OutAction.PREEMPT_AND_ABORT)


@pytest.mark.parametrize("status", [Status.GOOD, Status.BUSY, Status.RESERVATION_CONFLICT, Status.TASK_ABORTED])
def test_other_responses_are_not_fenced(status: Status):
    assert not is_fenced(completed(status))


def test_other_attentions_are_not_fenced():
    sense = Sense(SenseKey.UNIT_ATTENTION, AttentionCode.MODE_PARAMETERS_CHANGED).fixed()
    assert not is_fenced(completed(Status.CHECK_CONDITION, sense=sense))
