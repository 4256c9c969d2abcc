"""`iscsi-target pools` against answers of the test; running servers are in tests/endtoend."""

import json
from pathlib import Path

import pytest

from iscsi_target.cli import main
from iscsi_target.cli import pools as command

SHARED = {
    "pool": "shared",
    "size_bytes": 1000,
    "used_bytes": 825,
    "used_percent": 82.5,
    "available_bytes": 175,
    "soft_threshold": 80,
    "fill": "soft_threshold_reached",
    "units": [{"unit": "a", "used_bytes": 800}, {"unit": "b", "used_bytes": 25}],
}
EMPTY = {**SHARED, "pool": "empty", "used_bytes": 0, "used_percent": 0.0, "soft_threshold": None} | {
    "fill": "normal",
    "units": [],
}


@pytest.fixture
def answer(monkeypatch):
    """What the server answers."""
    found: dict = {"pools": [SHARED, EMPTY]}

    def ask_once(state, request):
        assert (state, request) == (Path("/s"), {"request": "pools"})
        return found

    monkeypatch.setattr(command, "ask_once", ask_once)
    return found


def show(*words: str) -> int:
    return main(["pools", "show", *words, "--state", "/s"])


def test_a_person_reads_how_full_each_pool_is_and_of_what(answer, capsys):
    assert show() == 0
    assert capsys.readouterr().out.splitlines() == [
        "pool shared: 825 of 1000 bytes (82.5 %) in use, soft threshold at 80 %, reached",
        "    a: 800 bytes",
        "    b: 25 bytes",
        "pool empty: 0 of 1000 bytes (0.0 %) in use",
    ]


def test_one_pool_may_be_named_and_programs_get_it_as_it_is(answer, capsys):
    assert show("empty", "--json") == 0
    assert json.loads(capsys.readouterr().out) == EMPTY


def test_pool_that_there_is_not_is_a_mistake(answer, capsys):
    assert show("share") == 2
    assert "there is no pool 'share'; pools: shared, empty" in capsys.readouterr().err


def test_without_pools_there_is_a_hint(answer, capsys):
    answer["pools"] = []
    assert show() == 0
    assert "configure [pools.NAME]" in capsys.readouterr().out


def test_server_that_speaks_otherwise_is_a_mistake(answer, capsys):
    answer["pools"] = "none"
    assert show() == 2
    assert "speaks otherwise" in capsys.readouterr().err
