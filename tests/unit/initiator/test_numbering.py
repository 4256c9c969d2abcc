"""CmdSN, its window, and StatSN."""

import pytest

from iscsi_target.initiator.numbering import Arrivals, CommandNumbers, RecoverableStatusNumbers, Run, StatusNumbers
from iscsi_target.iscsi.errors import ProtocolError


def test_window_is_closed_before_the_target_has_spoken():
    assert not CommandNumbers(1).is_open


def test_window_is_open_up_to_max_cmd_sn_and_no_further():
    numbers = CommandNumbers(1)
    numbers.update(1, 2)
    assert (numbers.take(), numbers.is_open) == (1, True)
    assert (numbers.take(), numbers.is_open) == (2, False)


def test_numbers_wrap_around():
    numbers = CommandNumbers(0xFFFFFFFF)
    numbers.update(0xFFFFFFFF, 0)
    assert [numbers.take(), numbers.take()] == [0xFFFFFFFF, 0]
    assert not numbers.is_open


@pytest.mark.clause("RFC7143 4.2.2.1")
def test_older_words_change_nothing():
    numbers = CommandNumbers(1)
    numbers.update(5, 20)
    numbers.update(4, 19)
    assert (numbers.expected, numbers.maximum) == (5, 20)


@pytest.mark.clause("RFC7143 4.2.2.1")
def test_max_cmd_sn_that_cannot_be_is_ignored_with_its_exp_cmd_sn():
    numbers = CommandNumbers(1)
    numbers.update(1, 20)
    numbers.update(30, 28)
    assert (numbers.expected, numbers.maximum) == (1, 20)
    numbers.update(21, 20)  # a closed window is none of that kind
    assert numbers.expected == 21


def test_first_stat_sn_may_be_any_and_the_next_follow():
    statuses = StatusNumbers()
    statuses.take(0xFFFFFFFF)
    statuses.take(0)
    assert statuses.expected == 1


@pytest.mark.parametrize("wrong", [4, 6])
def test_missing_or_repeated_stat_sn_is_an_error(wrong: int):
    statuses = StatusNumbers()
    statuses.take(4)
    with pytest.raises(ProtocolError, match="StatSN"):
        statuses.take(wrong)


def test_arrivals_know_what_is_missing_around_the_end_of_the_numbers():
    arrivals = Arrivals(0xFFFFFFFE)
    assert arrivals.announce(0xFFFFFFFE) is None
    assert arrivals.announce(3) == Run(0xFFFFFFFE, 5)
    assert arrivals.announce(1) is None
    assert [arrivals.take(number) for number in (0, 2, 0)] == [True, True, False]
    assert arrivals.missing == [Run(0xFFFFFFFE, 2), Run(1, 1)]
    assert [arrivals.is_missing(number) for number in (0xFFFFFFFD, 0xFFFFFFFF, 0, 1, 3)] == [
        False,
        True,
        False,
        True,
        False,
    ]
    assert arrivals.take(0xFFFFFFFE)
    assert arrivals.take(0xFFFFFFFF)
    assert arrivals.first == 1
    assert not arrivals.take(0)


def test_status_is_acknowledged_when_all_before_it_is_settled():
    statuses = RecoverableStatusNumbers(10)
    statuses.settle(11)
    assert statuses.expected == 10
    statuses.settle(10)
    assert statuses.expected == 12
