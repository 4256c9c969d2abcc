"""Every transcript in `scenarios` comes out the same with the kernel's initiator and the programs of Debian 12.

With REWRITE_TRANSCRIPTS set, transcripts take what came out instead; `git diff` shows what that changes.
"""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.conftest import PRELUDE, Service
from tests.guest.transcripts import Scene, Step, matches, parse, perform, rewrite
from tools.guests.machine import Guest

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.transcript"))
SCENE_TIMEOUT_S = 300.0
REWRITE = bool(os.environ.get("REWRITE_TRANSCRIPTS"))


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_scenario(file: Path, service: Service, request: pytest.FixtureRequest) -> None:
    scenes = parse(file.read_text())
    guests = {place: request.getfixturevalue(place) for place in {scene.place for scene in scenes} - {"host"}}
    expected = [step for scene in scenes for step in scene.steps]
    actual = [step for scene in scenes for step in _played(scene, service, guests)]
    if REWRITE:
        rewrite(file, actual)
    differences = [
        line
        for then, now in zip(expected, actual, strict=True)
        if not matches(then.lines, now.lines)
        for line in (f"$ {then.command}", *difflib.ndiff(then.lines, now.lines))
    ]
    assert REWRITE or not differences, "\n".join(differences)


def _played(scene: Scene, service: Service, guests: dict[str, Guest]) -> Iterator[Step]:
    if scene.action:
        service.act(scene.action)
    else:
        steps = [Step(PRELUDE, ()), *scene.steps]
        yield from perform(guests[scene.place].run, steps, service.environment, SCENE_TIMEOUT_S)[1:]
