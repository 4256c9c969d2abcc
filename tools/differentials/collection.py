"""Collects the differences of many sequences: how often each kind was seen, and the smallest sequence that shows it."""

from collections.abc import Iterator
from typing import NamedTuple

from tools.differentials.compare import Kind, compare
from tools.differentials.side import Played, Side, play_on
from tools.differentials.steps import Sequence, Step

SMALL = 4  # steps of a sequence that is not made any smaller


class Seen(NamedTuple):
    """What is known of a kind of difference.

    times      how often it was seen
    sequence   the smallest that shows it, as far as is known; its last step does
    """

    times: int
    sequence: Sequence


Collected = dict[Kind, Seen]


def collect(into: Collected, sequence: Sequence, ours: Played, theirs: Played) -> None:
    """Adds the differences of one sequence."""
    for kind, number in compare(sequence, ours, theirs):
        shown = sequence._replace(steps=sequence.steps[: number + 1])
        times, known = into.get(kind, Seen(0, shown))
        into[kind] = Seen(times + 1, min(known, shown, key=lambda each: len(each.steps)))


async def shortened(sequence: Sequence, kind: Kind, ours: Side, theirs: Side) -> Sequence:
    """Returns the sequence without the steps that a difference does not need, found by trying."""
    while len(sequence.steps) > SMALL:
        for fewer in _without_one(sequence.steps):
            shorter = sequence._replace(steps=fewer)
            mine, its = await play_on((ours, theirs), shorter)
            if any(found.kind == kind for found in compare(shorter, mine, its)):
                sequence = shorter
                break
        else:
            break
    return sequence


def _without_one(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    """Returns the steps without each of them but the last, which shows the difference."""
    for number in range(len(steps) - 1):
        yield steps[:number] + steps[number + 1 :]
