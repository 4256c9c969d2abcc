"""From the text of an action to the action."""

import pytest

from iscsi_target.faults.acting import action
from iscsi_target.faults.actions import (
    FOR_GOOD,
    Answer,
    Attention,
    Change,
    Corrupt,
    Cut,
    Delay,
    Drop,
    Duplicate,
    Hang,
    Part,
    Refuse,
    Reorder,
    Stall,
)
from iscsi_target.faults.kinds import KINDS
from iscsi_target.faults.reading import RuleError
from iscsi_target.iscsi.errors import LoginStatus
from iscsi_target.scsi.status import Sense, SenseKey, Status


@pytest.mark.parametrize(
    "kind, text, wanted",
    [
        ("any", "drop", Drop()),
        ("any", " Duplicate ", Duplicate()),
        ("any", "close", Cut()),
        ("any", "delay 200ms", Delay(0.2)),
        ("any", "delay\t 200ms", Delay(0.2)),
        ("any", "reorder", Reorder(1)),
        ("data-in", "reorder 0x10", Reorder(16)),
        ("any", "stall", Stall(FOR_GOOD)),
        ("any", "stall 2s", Stall(2.0)),
        ("out", "corrupt header digest", Corrupt(Part.HEADER_DIGEST)),
        ("data-in", "corrupt data-digest", Corrupt(Part.DATA_DIGEST)),
        ("data-out", "corrupt data", Corrupt(Part.DATA)),
        ("any", "corrupt header-digest", Corrupt(Part.HEADER_DIGEST)),
        ("data-out", "corrupt data digest", Corrupt(Part.DATA_DIGEST)),
        ("data-in", "corrupt data at 0x10", Corrupt(Part.DATA, 16)),
        ("scsi-response", "change stat_sn by 1", Change("stat_sn", by=1, to=None)),
        ("scsi-response", "change exp_cmd_sn by -3", Change("exp_cmd_sn", by=-3, to=None)),
        ("r2t", "change target_transfer_tag to 0xffffffff", Change("target_transfer_tag", by=None, to=0xFFFFFFFF)),
        ("out", "change stat_sn by 1", Change("stat_sn", by=1, to=None)),
        ("scsi-command", "hang", Hang()),
        ("scsi-command", "answer busy", Answer(Status.BUSY)),
        ("scsi-command", "answer TASK SET FULL", Answer(Status.TASK_SET_FULL)),
        ("scsi-command", "answer reservation-conflict", Answer(Status.RESERVATION_CONFLICT)),
        (
            "scsi-command",
            "answer sense 3/11/0",
            Answer(Status.CHECK_CONDITION, Sense(SenseKey.MEDIUM_ERROR, 0x1100)),
        ),
        (
            "scsi-command",
            "answer sense 3h/11h/04h",
            Answer(Status.CHECK_CONDITION, Sense(SenseKey.MEDIUM_ERROR, 0x1104)),
        ),
        ("scsi-command", "attention 29/00", Attention(0x2900)),
        ("login-request", "refuse 0301", Refuse(LoginStatus.SERVICE_UNAVAILABLE)),
        ("login-request", "refuse out-of-resources", Refuse(LoginStatus.OUT_OF_RESOURCES)),
    ],
)
def test_actions(kind: str, text: str, wanted: object):
    assert action(text, KINDS[kind]) == wanted


@pytest.mark.parametrize(
    "kind, text, said",
    [
        ("any", "", "is no action"),
        ("any", "dorp", "did you mean drop"),
        ("any", "drop it", "too much after drop"),
        ("any", "delay", "200ms, 2s or 1min"),
        ("any", "reorder 0", "a number of 1 to 64"),
        ("any", "reorder 65", "a number of 1 to 64"),
        ("any", "stall for good", "200ms, 2s or 1min"),
        ("data-in", "corrupt", "does not say what"),
        ("data-in", "corrupt data at 16777216", "beyond any data segment"),
        ("data-in", "change", "is no change"),
        ("data-in", "change stat_sn", "is no change"),
        ("data-in", "change statsn by 1", "did you mean stat_sn"),
        ("data-in", "change lun by 1", "names no number"),
        ("scsi-response", "change status to 0x100", "at most 255"),
        ("scsi-response", "change status to -1", "does not fit"),
        ("out", "change data_sn by 1", "names no number in the header of out"),
        ("data-out", "hang", "use it with scsi-command"),
        ("in", "answer busy", "use it with scsi-command"),
        ("scsi-command", "answer", "is no status"),
        ("scsi-command", "answer good", "is no status"),
        ("scsi-command", "answer sense 3", "such as sense 3/11/00"),
        ("scsi-command", "answer sense c/11/00", "reserved sense key"),
        ("scsi-command", "attention", "such as attention 29/00"),
        ("scsi-command", "attention 129/00", "such as attention 29/00"),
        ("scsi-command", "refuse 0301", "use it with login-request"),
        ("login-request", "refuse", "is no login status"),
        ("login-request", "refuse 0000", "is no login status"),
        ("login-request", "refuse 0101", "is no login status"),
    ],
)
def test_what_is_wrong_is_said_with_a_remedy(kind: str, text: str, said: str):
    with pytest.raises(RuleError) as wrong:
        action(text, KINDS[kind])
    assert said in str(wrong.value)
    assert wrong.value.remedy
