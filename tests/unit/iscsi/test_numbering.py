"""The command window: order, duplicates, what falls outside, how it opens and closes."""

from collections.abc import Callable

import pytest

from iscsi_target.iscsi.numbering import WINDOW_COMMANDS, CommandWindow

pytestmark = pytest.mark.clause("RFC7143 4.2.2.1")
LAST = 2**32 - 1


def admit(window: CommandWindow[str], cmd_sn: int) -> list[str]:
    window.admit(cmd_sn, f"request {cmd_sn}")
    return list(window.release())


def requests(*numbers: int) -> list[str]:
    return [f"request {number}" for number in numbers]


def test_request_in_its_turn_is_released_at_once():
    window = CommandWindow[str](5)
    assert admit(window, 5) == requests(5)
    assert window.expected == 6


def test_early_request_waits_for_those_before_it():
    window = CommandWindow[str](5)
    assert window.is_early(7)
    assert admit(window, 7) == []
    assert admit(window, 6) == []
    assert not window.is_early(5)
    assert admit(window, 5) == requests(5, 6, 7)
    assert window.expected == 8


def test_expected_has_moved_past_a_request_when_it_is_released():
    window = CommandWindow[str](5)
    window.admit(6, "later")
    window.admit(5, "now")
    assert [window.expected for _ in window.release()] == [6, 7]


def test_duplicate_falls_away_before_and_after_its_turn():
    window = CommandWindow[str](5)
    window.admit(6, "first")
    window.admit(6, "second")
    window.admit(5, "five")
    assert list(window.release()) == ["five", "first"]
    assert admit(window, 5) == []
    assert admit(window, 6) == []
    assert window.expected == 7


def test_numbers_outside_the_window_fall_away():
    window = CommandWindow[str](5, size=4)
    assert window.maximum == 8
    assert admit(window, 9) == []
    assert admit(window, 4) == []
    assert admit(window, 5) == requests(5)
    assert window.is_early(9)  # of an immediate request behind a full window
    assert admit(window, 9) == []
    assert not window.is_early(10)


def test_window_wraps_around():
    window = CommandWindow[str](LAST, size=4)
    assert window.maximum == 2
    assert admit(window, 1) == []
    assert admit(window, LAST) == requests(LAST)
    assert admit(window, 0) == requests(0, 1)
    assert window.expected == 2


def test_open_tasks_keep_the_window_closed():
    window = CommandWindow[str](1, size=4)
    for number in range(1, 5):
        admit(window, number)
        window.open(number)
    assert (window.expected, window.maximum) == (5, 4)
    assert admit(window, 5) == []
    window.open(3)
    assert window.maximum == 5
    assert admit(window, 5) == requests(5)


def test_maximum_never_goes_back():
    window = CommandWindow[str](1, size=4)
    window.open(3)
    assert window.maximum == 4


def test_standard_window_has_room_for_an_initiators_queue():
    window = CommandWindow[str](1)
    assert window.maximum == WINDOW_COMMANDS == 128


@pytest.mark.clause("RFC7143 11.6.1")
def test_skipped_number_lets_those_pass_that_waited_for_it():
    window = CommandWindow[str](5)
    admit(window, 6)
    assert window.skip(5)
    assert list(window.release()) == requests(6)
    assert window.expected == 7
    assert admit(window, 5) == []


@pytest.mark.clause("RFC7143 11.6.1")
def test_skipped_number_further_on_is_passed_in_its_turn():
    window = CommandWindow[str](5)
    assert window.skip(6)
    assert admit(window, 6) == []
    assert admit(window, 7) == []
    assert admit(window, 5) == requests(5, 7)
    assert window.expected == 8


@pytest.mark.clause("RFC7143 11.6.1")
def test_skip_drops_a_request_that_waits():
    window = CommandWindow[str](5)
    admit(window, 6)
    assert window.skip(6)
    assert admit(window, 5) == requests(5)
    assert window.expected == 7


@pytest.mark.clause("RFC7143 11.6.1")
@pytest.mark.parametrize("number", [4, 5 + WINDOW_COMMANDS])
def test_number_outside_the_window_cannot_be_skipped(number):
    assert not CommandWindow[str](5).skip(number)


def test_what_is_discarded_is_still_to_come():
    window = CommandWindow[str](5)
    window.admit(6, "left")
    window.admit(7, "stays")
    window.defer(7, "left")
    window.defer(7, "stays too")
    window.discard(lambda request: request == "left")
    assert sorted(window.waiting) == ["stays", "stays too"]
    assert window.pass_on(5)
    assert list(window.release()) == []
    assert window.admit(6, "again")
    assert list(window.release()) == ["again", "stays too", "stays"]


def test_duplicate_of_what_waits_is_not_admitted():
    window = CommandWindow[str](5)
    assert window.admit(6, "first")
    assert not window.admit(6, "second")


def test_a_number_that_was_skipped_up_to_is_taken_once():
    window = CommandWindow[str](5)
    window.admit(6, "first")
    assert window.skip(5)
    assert window.expected == 6
    assert window.pass_on(6)
    assert window.early == 0
    assert list(window.release()) == []


@pytest.mark.parametrize(
    "disturb",
    [
        lambda window: window.admit(3, "early"),
        lambda window: window.defer(3, "immediate"),
        lambda window: window.skip(3),
    ],
)
def test_window_is_not_steady_while_a_number_before_its_turn_is_known(disturb: Callable[[CommandWindow[str]], object]):
    window: CommandWindow[str] = CommandWindow(1, 8)
    assert window.is_steady(0)
    disturb(window)
    assert not window.is_steady(0)


def test_window_is_steady_when_it_is_as_far_open_as_the_tasks_allow():
    window: CommandWindow[str] = CommandWindow(1, 2)
    assert window.pass_on(1)
    assert window.is_steady(1)
    assert not window.is_steady(0)  # it is to be opened first
    assert window.pass_on(2)
    assert not window.is_steady(2)  # it is closed
