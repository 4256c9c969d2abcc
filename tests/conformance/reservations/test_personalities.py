"""What other targets answer in the cases on which they differ, one row for each case and target that is imitated.

A row is told to the unit of its personality and to a strict one: the former answers as the row says, and the latter
must answer something else, or there is nothing to imitate.
"""

import pytest

from iscsi_target.scsi.reservations.personalities import PERSONALITIES
from tests.conformance.reservations import differences_in_effects, differences_in_requests
from tests.conformance.reservations.differences import Difference
from tests.conformance.reservations.world import World

ROWS = [*differences_in_requests.differs.rows, *differences_in_effects.differs.rows]

PAIRS = [(row, who) for row in ROWS for who in sorted(row.who)]
EACH = pytest.mark.parametrize(
    ("row", "who"),
    [
        pytest.param(row, who, marks=[pytest.mark.case(row.case)] if row.case[2] == "-" else [], id=f"{row.case}-{who}")
        for row, who in PAIRS
    ],
)


@EACH
def test_imitated_target_answers_as_the_real_one(row: Difference, who: str) -> None:
    assert row.story(World(personality=PERSONALITIES[who])) == row.told


@EACH
def test_strict_target_answers_something_else(row: Difference, who: str) -> None:
    assert row.story(World()) != row.told


def test_every_personality_has_cases():
    assert {who for _, who in PAIRS} == set(PERSONALITIES) - {"strict"}
