"""`iscsi-target media` against answers of the test; running servers are in tests/endtoend."""

import json
from pathlib import Path

import pytest

from iscsi_target.cli import main
from iscsi_target.cli import media as command
from iscsi_target.cli.control_client import EXIT_INTERRUPTED, EXIT_UNDECIDED, unanswered
from iscsi_target.config.values import ConfigError

MEDIUM = {
    "unit": "cd0",
    "removable": True,
    "loaded": True,
    "stopped": False,
    "medium": "/srv/a.img",
    "size_bytes": 512,
    "read_only": True,
    "preventing": [{"initiator": "iqn.a", "isid": "00023d000001", "target": "iqn.t", "portal_group_tag": 1}],
}


@pytest.fixture
def asked(monkeypatch):
    """What the server was asked; it answers with `answer`, or raises it."""

    class Asked(list):
        answer: dict | BaseException = MEDIUM

    found = Asked()

    def ask_once(state, request):
        found.append((state, request))
        if isinstance(found.answer, BaseException):
            raise found.answer
        return found.answer

    monkeypatch.setattr(command, "ask_once", ask_once)
    return found


@pytest.mark.parametrize(
    "words, request_",
    [
        (["show", "cd0"], {"request": "media", "unit": "cd0"}),
        (["eject", "cd0"], {"request": "eject", "unit": "cd0"}),
        (["eject", "--force", "cd0"], {"request": "eject_by_force", "unit": "cd0"}),
        (["load", "cd0"], {"request": "load", "unit": "cd0"}),
        (["insert", "cd0", "/srv/b.img"], {"request": "insert", "unit": "cd0", "file": "/srv/b.img"}),
        (["insert", "cd0", "b.img"], {"request": "insert", "unit": "cd0", "file": str(Path("b.img").absolute())}),
    ],
)
def test_each_verb_is_one_request(asked, words, request_):
    assert main(["media", *words, "--state", "/s"]) == 0
    assert asked == [(Path("/s"), request_)]


def test_a_person_reads_what_the_medium_is_and_who_prevents_its_removal(asked, capsys):
    assert main(["media", "show", "cd0"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "unit cd0: loaded: /srv/a.img, 512 bytes, read-only",
        "removal is prevented by iqn.a,i,0x00023d000001",
    ]


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"loaded": False}, "unit cd0: ejected: /srv/a.img, 512 bytes"),
        ({"stopped": True}, "unit cd0: loaded, stopped: /srv/a.img, 512 bytes"),
        ({"removable": False, "medium": "RAM"}, "unit cd0: loaded, not removable: RAM, 512 bytes"),
    ],
)
def test_other_states_are_told_too(asked, capsys, changes, expected):
    asked.answer = MEDIUM | {"read_only": False, "preventing": []} | changes
    assert main(["media", "show", "cd0"]) == 0
    assert capsys.readouterr().out == expected + "\n"


def test_a_program_reads_the_answer_itself(asked, capsys):
    assert main(["media", "show", "--json", "cd0"]) == 0
    assert json.loads(capsys.readouterr().out) == MEDIUM


def test_what_is_refused_is_one_line_with_a_remedy(asked, capsys):
    asked.answer = ConfigError("state /s", "unit cd0 has no medium", remedy="load it")
    assert main(["media", "eject", "cd0"]) == 2
    assert capsys.readouterr() == ("", "iscsi-target: state /s: unit cd0 has no medium; load it\n")


@pytest.mark.parametrize("words, status", [(["show", "cd0"], 2), (["eject", "cd0"], EXIT_UNDECIDED)])
def test_an_order_of_which_nobody_knows_has_a_status_of_its_own(asked, capsys, words, status):
    asked.answer = unanswered(Path("/s"))
    assert main(["media", *words]) == status
    assert "the server ended before it had answered" in capsys.readouterr().err


def test_interrupted(asked):
    asked.answer = KeyboardInterrupt()
    assert main(["media", "load", "cd0"]) == EXIT_INTERRUPTED
