"""What is kept of what went out; protocol rules are in tests/conformance/test_error_recovery."""

import pytest

from iscsi_target.iscsi import retention
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.responses import DataIn, NopIn, ReadyToTransfer, Response, ScsiResponse
from iscsi_target.iscsi.retention import Retention

LAST = 2**32 - 1


def keep(kept: Retention, *headers: Response, data: bytes = b"") -> None:
    for header in headers:
        kept.note(header.pack(), data)


def status(stat_sn: int, tag: int = 1) -> ScsiResponse:
    return ScsiResponse(initiator_task_tag=tag, stat_sn=stat_sn % 2**32)


def part(data_sn: int, tag: int = 1) -> DataIn:
    return DataIn(initiator_task_tag=tag, data_sn=data_sn)


def numbers(found: list[retention.Sent] | None) -> list[int] | None:
    return None if found is None else [sent.header.stat_sn for sent in found]


def test_statuses_are_kept_over_the_end_of_the_numbers():
    kept = Retention(LAST)
    keep(kept, status(LAST), status(0, 2), status(1, 3))
    assert numbers(kept.statuses(LAST, 0)) == [LAST, 0, 1]
    kept.acknowledge(1)
    assert kept.statuses(0, 1) is None
    assert numbers(kept.statuses(1, 1)) == [1]


@pytest.mark.parametrize("exp_stat_sn", [4, 8, LAST])
def test_acknowledgement_that_cannot_be_is_ignored(exp_stat_sn: int):
    kept = Retention(5)
    keep(kept, status(5), status(6, 2))
    kept.acknowledge(exp_stat_sn)
    assert numbers(kept.statuses(5, 0)) == [5, 6]


def test_what_has_no_status_of_its_own_is_no_status():
    kept = Retention(5)
    keep(kept, NopIn(initiator_task_tag=NO_TAG, stat_sn=5), part(0), ReadyToTransfer(initiator_task_tag=1, r2t_sn=1))
    assert kept.statuses(5, 0) == []
    assert kept.statuses(5, 1) is None


def test_tag_that_is_in_use_again_has_only_its_new_data():
    kept = Retention(5)
    keep(kept, part(0), part(1), data=b"old")
    keep(kept, part(0), data=b"new")
    found = kept.data(1, 0, length=0)
    assert found is not None
    assert [bytes(sent.data) for sent in found] == [b"new"]


def test_data_of_an_aborted_task_is_forgotten():
    kept = Retention(5)
    keep(kept, part(0), data=bytes(100))
    kept.discard(1)
    assert kept.data(1, 0, length=0) is None
    assert kept.acknowledge_data(1, 1), "it may have been on its way"


def test_oldest_data_is_forgotten_when_there_is_too_much(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retention, "MAX_KEPT_BYTES", 2 * (retention.PDU_BYTES + 10))
    kept = Retention(5)
    for tag in (1, 2, 3):
        keep(kept, part(0, tag), data=bytes(10))
    assert [kept.data(tag, 0, length=0) is None for tag in (1, 2, 3)] == [True, False, False]
    assert kept.acknowledge_data(2, 1)
    keep(kept, part(1, 3), data=bytes(10))
    assert kept.data(3, 0, length=0) is not None


def test_data_with_r2ts_before_it_cannot_be_cut_again():
    """R2Ts and Data-In of a bidirectional command share their numbers."""
    kept = Retention(5)
    keep(kept, ReadyToTransfer(initiator_task_tag=1), part(1), status(5))
    assert kept.cut_again(1, 9, burst=1024, segment=512) is None


def test_data_without_a_status_cannot_be_cut_again():
    kept = Retention(5)
    keep(kept, part(0))
    assert kept.cut_again(1, 9, burst=1024, segment=512) is None


def test_residual_of_a_status_in_data_in_stays_when_it_stands_alone():
    kept = Retention(5)
    header = DataIn(initiator_task_tag=1, stat_sn=5, status_present=True, underflow=True, residual_count=3)
    keep(kept, header, data=b"1234")
    found = kept.cut_again(1, 9, burst=1024, segment=512)
    assert found is not None
    alone = found[-1].header
    assert isinstance(alone, ScsiResponse)
    assert (alone.underflow, alone.residual_count, alone.stat_sn, alone.snack_tag) == (True, 3, 5, 9)


def test_long_answers_that_are_not_acknowledged_are_limited(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retention, "MAX_STATUS_BYTES", 25)
    kept = Retention(5)
    for stat_sn in (5, 6, 7):
        assert not kept.is_full
        keep(kept, NopIn(initiator_task_tag=stat_sn, stat_sn=stat_sn), data=bytes(10))
    assert kept.is_full
    kept.acknowledge(6)
    assert not kept.is_full


def last(data_sn: int, stat_sn: int, tag: int = 1) -> DataIn:
    return DataIn(initiator_task_tag=tag, data_sn=data_sn, status_present=True, final=True, stat_sn=stat_sn)


def test_status_in_data_in_goes_with_its_data_and_alone_when_that_is_gone(monkeypatch: pytest.MonkeyPatch):
    kept = Retention(5)
    keep(kept, part(0), last(1, 5), data=b"data")
    found = kept.statuses(5, 1)
    assert found is not None
    assert [(type(sent.header), sent.data) for sent in found] == [(DataIn, b"data")]
    assert kept.acknowledge_data(1, 2)
    found = kept.statuses(5, 1)
    assert found == [retention.Sent(ScsiResponse(initiator_task_tag=1, stat_sn=5, exp_data_sn=2), b"")]


def test_statuses_keep_no_data_that_is_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retention, "MAX_KEPT_BYTES", retention.PDU_BYTES + 10)
    kept = Retention(5)
    for tag in range(3):
        keep(kept, last(0, 5 + tag, tag), data=bytes(10))
    assert [len(sent.data) for sent in kept._statuses.values()] == [0, 0, 0]


def test_parts_that_are_left_do_not_keep_the_whole():
    kept = Retention(5)
    whole = memoryview(bytes(100))
    for number in range(3):
        kept.note(part(number).pack(), whole[number * 10 : number * 10 + 10])
    assert kept.acknowledge_data(1, 2)
    found = kept.data(1, 2, length=0)
    assert found is not None
    assert [type(sent.data) for sent in found] == [bytes]


def test_acknowledged_status_leaves_what_a_newer_task_of_its_tag_has_sent():
    kept = Retention(5)
    keep(kept, last(0, 5), data=b"old")
    keep(kept, ReadyToTransfer(initiator_task_tag=1, r2t_sn=0))
    kept.acknowledge(6)
    assert kept.data(1, 0, length=0) is not None
