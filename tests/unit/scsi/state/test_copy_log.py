"""The copy operations of nodes A and B."""

import pytest

from iscsi_target.scsi.nexus import InitiatorPort, Nexus
from iscsi_target.scsi.state.copy_log import MAX_KEPT, MAX_RUNNING, CopyLog, CopyRecord, CopyState
from iscsi_target.scsi.status import Busy, CheckCondition, MediumNotPresent, ReservationConflict, Status
from tests.unit.scsi.command_bench import A, B, P


def done() -> CopyRecord:
    return CopyRecord(0x11, CopyState.DONE, copied_bytes=512)


def running() -> CopyRecord:
    return CopyRecord(0x11, CopyState.BACKGROUND)


def test_copies_are_those_of_a_nexus_and_an_identifier():
    log = CopyLog()
    log.start(A, 7, done())
    log.start(B, 7, running())
    assert (log.find(A, 7), log.find(B, 7), log.find(A, 8)) == (done(), running(), None)


@pytest.mark.clause("SPC4r37 5.17.4.2")
def test_an_identifier_is_not_used_again_while_its_copy_goes_on():
    log = CopyLog()
    record = running()
    log.start(A, 7, record)
    with pytest.raises(CheckCondition) as refused:
        log.start(A, 7, running())
    assert str(refused.value) == "ILLEGAL_REQUEST 00/16"
    record.end(None)
    log.start(A, 7, done())
    assert log.find(A, 7) == done()


def test_the_oldest_copy_that_is_over_goes():
    log = CopyLog()
    log.start(A, 0, running())
    for identifier in range(1, MAX_KEPT + 1):
        log.start(A, identifier, done())
    assert (log.find(A, 0), log.find(A, 1), log.find(A, 2)) == (running(), None, done())


def test_only_so_many_copies_go_on_at_one_time():
    log = CopyLog()
    for identifier in range(MAX_RUNNING):
        log.start((A, B)[identifier % 2], identifier, running())
    log.start(A, 98, done())
    with pytest.raises(Busy):
        log.start(A, 99, running())
    assert log.find(A, 99) is None
    first = log.find(A, 0)
    assert first is not None
    first.end(None)
    log.start(A, 99, running())


@pytest.mark.clause("SPC4r37 5.17.5")
def test_a_nexus_that_is_lost_leaves_what_goes_on_and_nothing_else():
    log = CopyLog()
    record = running()
    log.start(A, 7, record)
    log.start(A, 8, done())
    log.leave(A)
    log.leave(B)
    assert (log.find(A, 7), log.find(A, 8)) == (record, None)
    record.end(None)
    log.start(B, 1, done())
    assert log.find(A, 7) is None, "when it is over too, nothing is left"


def test_nexuses_that_come_and_go_leave_nothing():
    log = CopyLog()
    for number in range(3 * MAX_RUNNING):
        nexus = Nexus(InitiatorPort("iqn.2025-01.org.example:n", number.to_bytes(6)), P)
        record = running()
        log.start(nexus, 1, record)
        log.leave(nexus)
        record.end(None)
    log.start(A, 1, done())
    assert log == _with(A)


def test_a_nexus_may_leave_twice():
    log = CopyLog()
    record = running()
    log.start(A, 7, record)
    log.leave(A)
    record.end(None)
    log.leave(A)
    log.start(B, 1, done())
    assert log == _with(B)


def _with(nexus: Nexus) -> CopyLog:
    log = CopyLog()
    log.start(nexus, 1, done())
    return log


def test_a_reset_forgets_all():
    log = CopyLog()
    log.start(A, 7, running())
    log.leave(A)
    log.clear()
    log.start(B, 7, done())
    assert (log.find(A, 7), log.find(B, 7)) == (None, done())


@pytest.mark.clause("SPC4r37 6.24")
def test_the_status_is_that_of_the_end():
    record = running()
    assert (record.status, record.state.is_over) == (Status.GOOD, False)
    assert done().status is Status.GOOD
    record.end(None)
    assert (record.status, record.sense, record.state.is_over) == (Status.TASK_ABORTED, None, True)
    error = MediumNotPresent()
    record.end(error)
    assert (record.status, record.sense) == (Status.CHECK_CONDITION, error.sense)
    record.end(ReservationConflict())
    assert (record.state, record.sense) == (CopyState.FAILED, None)
