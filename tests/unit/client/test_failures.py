"""What a failure says of itself."""

from iscsi_target.client.failures import CommandFailed
from iscsi_target.client.outcome import Outcome
from iscsi_target.iscsi.transfer import NO_RESIDUAL
from iscsi_target.scsi.sense_data import FixedSense
from iscsi_target.scsi.status import Status


def said(status: int, sense: bytes = b"", lacking: str = "") -> str:
    return str(CommandFailed("Read16", Outcome(status, sense, b"", NO_RESIDUAL, NO_RESIDUAL, 0), lacking))


def test_failure_says_all_in_a_line():
    fixed = FixedSense(sense_key=6, additional_sense_code=0x2900).pack()
    assert said(Status.CHECK_CONDITION, fixed) == "Read16: CHECK_CONDITION, UNIT_ATTENTION 2900h"
    assert said(0x77) == "Read16: status 0x77"
    assert said(Status.GOOD, lacking="but nothing came") == "Read16: GOOD, but nothing came"


def test_sense_key_that_there_is_not_is_said_as_a_number():
    sense = FixedSense(sense_key=0xC).pack()
    assert said(Status.CHECK_CONDITION, sense) == "Read16: CHECK_CONDITION, sense key 0xc 0000h"
