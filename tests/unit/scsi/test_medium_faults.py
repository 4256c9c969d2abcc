"""What a medium's failure becomes."""

import pytest

from iscsi_target.scsi.medium_faults import condition
from iscsi_target.scsi.operations import Fault, MediumError


@pytest.mark.parametrize(
    "fault, expected",
    [
        (Fault.NO_SPACE, "DATA_PROTECT 27/07"),
        (Fault.READ_FAILED, "MEDIUM_ERROR 11/00"),
        (Fault.WRITE_FAILED, "MEDIUM_ERROR 0C/00"),
        (Fault.READ_ONLY, "DATA_PROTECT 27/00"),
        (Fault.TRUNCATED, "HARDWARE_ERROR 44/00"),
        (Fault.GONE, "NOT_READY 04/03"),
    ],
)
def test_every_fault_has_its_sense(fault: Fault, expected: str):
    assert str(condition(MediumError(fault), 512)) == expected


@pytest.mark.clause("SBC3r36 4.18.1")
def test_the_failed_block_is_the_information():
    assert condition(MediumError(Fault.READ_FAILED, 4096 * 7 + 1), 4096).sense.information == 7
    assert condition(MediumError(Fault.WRITE_FAILED, 512), 512).sense.information == 1
    assert condition(MediumError(Fault.READ_FAILED), 512).sense.information is None
