"""`iscsi-target faults` against answers of the test; running servers are in tests/endtoend."""

import json
from pathlib import Path

import pytest

from iscsi_target.cli import faults as command
from iscsi_target.cli import main
from iscsi_target.cli.control_client import EXIT_INTERRUPTED, unanswered

RULE = "on in where lun=0: drop"
LISTED = {"faults": [{"name": "1", "rule": RULE, "matched": 3, "fired": 2}]}
FIRED = {"connection": 3, "rule": "1", "text": RULE, "pdu": "nop-out", "tag": 16, "times": 2}


@pytest.fixture
def asked(monkeypatch):
    """What the server was asked; it answers with `answers`, or raises what is among them."""

    class Asked(list):
        answers: tuple = (LISTED,)

    found = Asked()

    def ask(state, request):
        found.append((state, request))
        for answer in found.answers:
            if isinstance(answer, BaseException):
                raise answer
            yield answer

    monkeypatch.setattr(command, "ask", ask)
    monkeypatch.setattr(command, "ask_once", lambda state, request: next(ask(state, request)))
    return found


@pytest.mark.parametrize(
    "words, request_",
    [
        (["list"], {"request": "faults"}),
        (["add", RULE], {"request": "add_fault", "rule": RULE, "name": ""}),
        (["add", RULE, "--name", "lost"], {"request": "add_fault", "rule": RULE, "name": "lost"}),
        (["remove", "1", "2"], {"request": "remove_faults", "names": ["1", "2"]}),
        (["clear"], {"request": "clear_faults"}),
    ],
)
def test_each_verb_is_one_request(asked, words, request_):
    assert main(["faults", *words, "--state", "/s"]) == 0
    assert asked == [(Path("/s"), request_)]


def test_a_person_reads_the_rules_and_their_counts(asked, capsys):
    assert main(["faults", "list", "--state", "/s"]) == 0
    assert capsys.readouterr().out == f"1: {RULE}\n    matched 3 times, fired 2 times\n"
    asked.answers = ({"faults": []},)
    assert main(["faults", "list", "--state", "/s"]) == 0
    assert capsys.readouterr().out == "no faults: the target behaves\n"


def test_a_person_reads_the_name_of_what_was_added(asked, capsys):
    asked.answers = ({"added": "7"},)
    assert main(["faults", "add", RULE, "--state", "/s"]) == 0
    assert capsys.readouterr().out == "added 7\n"


def test_removing_says_nothing(asked, capsys):
    assert main(["faults", "clear", "--state", "/s"]) == 0
    assert capsys.readouterr().out == ""


def test_programs_read_json(asked, capsys):
    assert main(["faults", "list", "--json", "--state", "/s"]) == 0
    assert json.loads(capsys.readouterr().out) == LISTED


def test_watching_prints_what_fires_until_it_is_interrupted(asked, capsys):
    asked.answers = ({"watching": "faults"}, FIRED, {"left_out": 4}, KeyboardInterrupt())
    assert main(["faults", "watch", "--state", "/s"]) == 0
    assert asked == [(Path("/s"), {"request": "watch_faults"})]
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"connection 3: nop-out, initiator task tag 0x10: fault 1 fires for the 2. time: {RULE}"
    assert second == "4 are missing here: they were not read fast enough"


def test_the_end_of_a_watched_server_is_told(asked, capsys):
    asked.answers = ({"watching": "faults"}, unanswered(Path("/s")))
    assert main(["faults", "watch", "--json", "--state", "/s"]) == 2
    assert "the server ended" in capsys.readouterr().err


def test_an_answer_of_another_version_is_told(asked, capsys):
    asked.answers = ({"faults": 3},)
    assert main(["faults", "list", "--state", "/s"]) == 2
    assert "speaks otherwise" in capsys.readouterr().err


def test_interrupted(asked):
    asked.answers = (KeyboardInterrupt(),)
    assert main(["faults", "add", RULE, "--state", "/s"]) == EXIT_INTERRUPTED
