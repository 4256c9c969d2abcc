"""This target and its personality of LIO differ from the real one only in what somebody has judged.

What has a judgement must be seen, too: when LIO, this target or the personality changes, the judgement goes.
"""

import pytest

from tools.differentials.cases import cases
from tools.differentials.cli import differential
from tools.differentials.laboratory import lio
from tools.differentials.report import Compared, document
from tools.differentials.seeded import seeded
from tools.guests.image import Image

SEEDS = range(200)


@pytest.fixture(scope="module")
def compared(image: Image) -> Compared:
    with lio(image) as theirs:
        return differential(theirs, [*cases(), *map(seeded, SEEDS)])


def test_every_difference_from_lio_is_judged(compared: Compared) -> None:
    assert not compared.unknown, document(compared)


def test_every_judgement_is_about_a_difference_that_there_is(compared: Compared) -> None:
    assert compared.idle == []
