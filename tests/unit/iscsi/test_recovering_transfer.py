from itertools import count

import pytest

from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.recovering_transfer import MAX_GAPS, MAX_TRIES, RecoveringSequence, RecoveringTransfer
from iscsi_target.iscsi.requests import DataOut
from iscsi_target.iscsi.transfer import MAX_FRAGMENTS, DataLost, IncorrectAmountOfData, Ordering, Solicitation


def transfer(expected: int = 1000, unsolicited: int = 0, *, in_order: bool = True) -> RecoveringTransfer:
    made = RecoveringTransfer(Ordering(600, 2, in_order), expected, immediate=0, unsolicited=unsolicited)
    made.want(expected, b"")
    return made


def give(to: RecoveringTransfer, tag: int, offset: int, length: int, **fields: int) -> None:
    header = DataOut(target_transfer_tag=tag, buffer_offset=offset)
    to.receive(header.replace(**fields), bytes([tag & 0xFF]) * length)


def asked(of: RecoveringTransfer, tags: count) -> list[tuple[int, int, int]]:
    found = []
    while (solicitation := of.solicit(next(tags))) is not None:
        found.append((solicitation.r2t_sn, solicitation.offset, solicitation.length))
    return found


def test_what_is_missing_is_asked_for_before_anything_new():
    moved, tags = transfer(2000), count(1)
    assert asked(moved, tags) == [(0, 0, 600), (1, 600, 600)]
    give(moved, 1, 100, 500, data_sn=1, final=True)
    assert asked(moved, tags) == [(2, 0, 100)]
    assert not moved.whole


def test_gap_is_asked_for_in_bursts():
    moved = transfer(1000, unsolicited=1000)
    give(moved, NO_TAG, 1000, 0, data_sn=5, final=True)
    assert asked(moved, count(1)) == [(0, 0, 600), (1, 600, 400)]


def test_sequence_may_come_a_second_time_from_its_beginning():
    moved = transfer(600)
    assert moved.solicit(7) == Solicitation(7, 0, 0, 600)
    give(moved, 7, 0, 200)
    give(moved, 7, 0, 200)
    give(moved, 7, 200, 400, data_sn=1, final=True)
    assert moved.whole
    assert moved.data == bytes([7]) * 600


def test_sequence_with_many_gaps_is_asked_for_as_a_whole():
    sequence = RecoveringSequence(0, 1000, r2t_sn=0)
    for number in range(MAX_GAPS):
        sequence.accept(DataOut(data_sn=2 * number + 1, buffer_offset=20 * number + 10), 10, in_order=True)
    assert sequence.gaps == [(0, 1000)]


def test_fragments_of_a_sequence_are_limited():
    sequence = RecoveringSequence(0, 10 * MAX_FRAGMENTS, r2t_sn=0)
    for number in range(MAX_FRAGMENTS):
        sequence.accept(DataOut(data_sn=number, buffer_offset=2 * number), 1, in_order=False)
    with pytest.raises(DataLost):
        sequence.accept(DataOut(data_sn=MAX_FRAGMENTS, buffer_offset=2 * MAX_FRAGMENTS), 1, in_order=False)


@pytest.mark.parametrize("offset, length", [(500, 200), (0, 400)])
def test_too_much_or_too_little_is_no_loss(offset: int, length: int):
    moved = transfer(600)
    moved.solicit(1)
    with pytest.raises(IncorrectAmountOfData):
        give(moved, 1, offset, length, final=True)


def test_transfer_gives_up_after_so_many_tries():
    moved, tags = transfer(600), count(1)
    for number in range(MAX_TRIES + 1):
        assert len(asked(moved, count(number * 10))) == 1
        lost = DataOut(target_transfer_tag=number * 10, final=True)
        assert moved.lose(lost) is (number == MAX_TRIES)
    assert asked(moved, tags) == []
    assert moved.quiet


def test_what_was_owed_on_a_lost_connection_is_asked_for_anew():
    moved = transfer(1000, unsolicited=600)
    give(moved, NO_TAG, 0, 300)
    moved.forgo()
    assert moved.quiet
    assert not moved.whole
    moved.resume(0)
    assert asked(moved, count(1)) == [(0, 300, 300), (1, 600, 400)]


@pytest.mark.parametrize("seen, number", [(0, 1), (1, 1), (2, 2), (3, 1)])
def test_r2ts_are_numbered_from_what_the_initiator_has_had(seen: int, number: int):
    moved = transfer(1200)
    asked(moved, count(1))
    give(moved, 1, 0, 100)
    moved.forgo()
    moved.resume(seen)
    assert asked(moved, count(10))[0][0] == number


def test_nothing_is_asked_for_that_is_not_wanted():
    moved = transfer(1000, unsolicited=600)
    moved.forgo()
    moved.want(100, b"")
    assert asked(moved, count(1)) == [(0, 0, 100)]
    give(moved, 1, 0, 100, final=True)
    assert moved.whole
