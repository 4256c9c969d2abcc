"""One command that recovers what is lost of it."""

import pytest

from iscsi_target.initiator.command import Command
from iscsi_target.initiator.numbering import MAX_AHEAD, Run
from iscsi_target.initiator.recoverable import MAX_RUNS, RecoverableCommand
from iscsi_target.iscsi.errors import ProtocolError
from iscsi_target.iscsi.parameters import Parameters
from iscsi_target.iscsi.responses import DataIn, ReadyToTransfer, ScsiResponse
from tests.unit.initiator.bench import LUN

PARAMETERS = Parameters(error_recovery_level=1, max_outstanding_r2t=2)


def command(read: int = 0, write: int = 0) -> RecoverableCommand:
    return RecoverableCommand(Command(LUN, bytes(6), bytes(write), read), 1, PARAMETERS)


def r2t(number: int, offset: int, length: int) -> ReadyToTransfer:
    return ReadyToTransfer(
        r2t_sn=number, target_transfer_tag=5, buffer_offset=offset, desired_data_transfer_length=length
    )


def test_response_waits_for_data_and_counts_what_has_come():
    asked = command(read=1024)
    assert asked.finish(ScsiResponse(exp_data_sn=2), b"") is None
    assert asked.answered
    assert asked.take_news() == [Run(0, 2)]
    assert asked.take_news() == []
    assert asked.take(DataIn(data_sn=1, buffer_offset=512), bytes(512)) is None
    completed = asked.take(DataIn(data_sn=0), bytes([1]) * 512)
    assert completed is not None
    assert completed.data == bytes([1]) * 512 + bytes(512)


def test_data_beyond_what_is_expected_and_data_that_lacks_bytes_are_refused():
    with pytest.raises(ProtocolError, match="Data-In of 512 bytes at 1024 of 1024"):
        command(read=1024).take(DataIn(buffer_offset=1024), bytes(512))
    with pytest.raises(ProtocolError, match="512 bytes of Data-In have come, not 1024"):
        command(read=1024).take(DataIn(status_present=True), bytes(512))


def test_command_that_failed_needs_the_data_that_was_sent_for_it():
    asked = command(read=1024)
    assert asked.finish(ScsiResponse(status=2, exp_data_sn=1), b"") is None
    assert asked.take(DataIn(), bytes(512)) is not None


def test_r2t_of_a_command_that_is_over_is_not_missing():
    assert command(write=1024).finish(ScsiResponse(exp_data_sn=3), b"") is not None
    both = command(read=512, write=1024)
    assert both.finish(ScsiResponse(exp_data_sn=3), b"") is None
    assert both.take(DataIn(data_sn=2), bytes(512)) is not None


def test_longer_silence_asks_for_more_of_the_r2ts():
    asked = command(write=10240)
    for number in range(9):
        asked.solicited(r2t(number, number * 1024, 1024))
    assert [asked.overdue() for _ in range(4)] == [[Run(7, 0)], [Run(5, 0)], [Run(1, 0)], [Run(0, 0)]]
    asked.solicited(r2t(9, 9216, 1024))
    assert asked.overdue() == [Run(8, 0)]


def test_read_in_silence_asks_for_nothing_but_what_is_missing():
    asked = command(read=1 << 20)
    assert asked.overdue() == []
    for number in range(1, 100, 2):
        asked.take(DataIn(data_sn=number, buffer_offset=number), b"x")
    assert asked.overdue() == [Run(number, 1) for number in range(0, 2 * MAX_RUNS, 2)]
    with pytest.raises(ProtocolError, match="ahead"):
        asked.announce(MAX_AHEAD + 1)


def test_wrong_r2t_is_refused():
    for wrong in (r2t(0, 1024, 1), r2t(0, 0, 0), r2t(0, 0, 1).replace(target_transfer_tag=0xFFFFFFFF)):
        with pytest.raises(ProtocolError):
            command(write=1024).solicited(wrong)
