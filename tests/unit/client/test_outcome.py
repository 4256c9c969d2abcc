"""What a command came to, as a program looks at it."""

import pytest

from iscsi_target.client.outcome import outcome_of
from iscsi_target.initiator.events import CommandCompleted
from iscsi_target.scsi.sense_data import DescriptorSense, FixedSense
from iscsi_target.scsi.status import SenseKey, Status

FIXED = FixedSense(sense_key=6, additional_sense_code=0x2900).pack()
DESCRIPTOR = DescriptorSense(sense_key=6, additional_sense_code=0x2900).pack()


def completed(status: int = 2, sense: bytes = b"", response: int = 0):
    return outcome_of(CommandCompleted(1, response, status, sense, b""))


@pytest.mark.parametrize("sense", [FIXED, DESCRIPTOR, FIXED[:14]])
def test_both_formats_of_sense_tell_key_and_code(sense: bytes):
    outcome = completed(sense=sense)
    assert (outcome.sense_key, outcome.additional_sense_code) == (SenseKey.UNIT_ATTENTION, 0x2900)


def test_without_sense_there_is_no_key():
    assert (completed().sense_key, completed().additional_sense_code) == (SenseKey.NO_SENSE, 0)


def test_sense_key_that_there_is_not_is_a_number():
    assert completed(sense=FixedSense(sense_key=0xC).pack()).sense_key == 0xC


def test_only_good_that_was_completed_is_good():
    assert completed(0).good
    assert not completed(0, response=1).good
    assert not completed(8).good


def test_status_has_its_name_when_it_has_one():
    assert completed(0x18).status is Status.RESERVATION_CONFLICT
    assert completed(0x77).status == 0x77
