"""`iscsi-target targets` against answers of the test; running servers are in tests/endtoend."""

import json
from pathlib import Path

import pytest

from iscsi_target.cli import main
from iscsi_target.cli import targets as command

ANSWER = {
    "targets": [
        {"target": "iqn.a", "standing": "online", "admits": True, "address": "", "sessions": 3},
        {"target": "iqn.b", "standing": "offline", "admits": False, "address": "", "sessions": 0},
    ]
}


@pytest.fixture
def asked(monkeypatch):
    """What the server was asked; it answers with `answer`."""

    class Asked(list):
        answer: dict = ANSWER

    found = Asked()

    def ask_once(state, request):
        found.append((state, request))
        return found.answer

    monkeypatch.setattr(command, "ask_once", ask_once)
    return found


@pytest.mark.parametrize(
    "words, request_",
    [
        (["show"], {"request": "targets"}),
        (["offline", "iqn.a"], {"request": "set_target", "target": "iqn.a", "state": "offline"}),
        (["online", "iqn.a"], {"request": "set_target", "target": "iqn.a", "state": "online"}),
        (
            ["move", "iqn.a", "192.0.2.2"],
            {"request": "set_target", "target": "iqn.a", "state": "moved", "address": "192.0.2.2"},
        ),
        (
            ["move", "--permanent", "iqn.a", "192.0.2.2"],
            {"request": "set_target", "target": "iqn.a", "state": "moved_permanently", "address": "192.0.2.2"},
        ),
    ],
)
def test_each_verb_is_one_request(asked, words, request_):
    assert main(["targets", *words, "--state", "/s"]) == 0
    assert asked == [(Path("/s"), request_)]


def test_a_person_reads_how_targets_stand(asked, capsys):
    assert main(["targets", "show", "--state", "/s"]) == 0
    assert capsys.readouterr().out == "iqn.a: online, 3 sessions\niqn.b: offline, 0 sessions\n"
    assert main(["targets", "offline", "IQN.b", "--state", "/s"]) == 0
    assert capsys.readouterr().out == "iqn.b: offline, 0 sessions\n"


def test_programs_read_json(asked, capsys):
    assert main(["targets", "show", "--json", "--state", "/s"]) == 0
    assert json.loads(capsys.readouterr().out) == ANSWER


def test_an_answer_of_another_version_is_told(asked, capsys):
    asked.answer = {"targets": 3}
    assert main(["targets", "show", "--state", "/s"]) == 2
    assert "speaks otherwise" in capsys.readouterr().err
