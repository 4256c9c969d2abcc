"""The results of copies of nodes A and B."""

from iscsi_target.scsi.copy_log import MAX_KEPT, CopyLog, CopyResult, CopyState
from tests.unit.scsi.command_bench import A, B

DONE = CopyResult(CopyState.DONE, 2, 5 << 10)
RUNNING = CopyResult(CopyState.IN_PROGRESS)


def test_results_are_those_of_a_nexus_and_an_identifier():
    log = CopyLog()
    log.note(A, 7, DONE)
    log.note(B, 7, RUNNING)
    assert (log.find(A, 7), log.find(B, 7), log.find(A, 8)) == (DONE, RUNNING, None)
    log.forget(A, 7)
    log.forget(A, 7)
    assert log.find(A, 7) is None
    log.leave(B)
    assert log.find(B, 7) is None


def test_the_last_results_of_a_nexus_are_kept():
    log = CopyLog()
    for identifier in range(MAX_KEPT):
        log.note(A, identifier, DONE)
    log.note(A, 0, RUNNING)  # is the newest now
    log.note(A, MAX_KEPT, DONE)
    assert log.find(A, 0) == RUNNING
    assert log.find(A, 1) is None
    assert log.find(A, 2) == DONE
    log.clear()
    assert log.find(A, 0) is None
