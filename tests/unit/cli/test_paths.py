"""`iscsi-target paths` against answers of the test; a running server is in tests/endtoend."""

import json
from pathlib import Path

import pytest

from iscsi_target.cli import main
from iscsi_target.cli import paths as command

PORT = {"target": "iqn.2026-01.org.example:t", "portal_group_tag": 2, "relative_identifier": 5}
GROUP = {"group": 7, "state": "standby", "goal": "standby", "preferred": False, "changed": "none", "ports": [PORT]}


@pytest.fixture
def server(monkeypatch):
    """What the server answers; what it was asked is in `server["asked"]`."""
    answers = {"unit": "disk0", "groups": [GROUP]}
    talk: dict = {"answer": answers, "asked": []}

    def ask_once(state: Path, request: dict) -> dict:
        talk["asked"].append((state, request))
        return talk["answer"]

    monkeypatch.setattr(command, "ask_once", ask_once)
    return talk


def test_show_prints_groups_and_ports(server, capsys):
    assert main(["paths", "show", "disk0", "--state", "here"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "target port group 7: standby",
        "    iqn.2026-01.org.example:t,t,0x0002 (relative target port 5)",
    ]
    assert server["asked"] == [(Path("here"), {"request": "paths", "unit": "disk0"})]


def test_show_tells_transitions_and_preference(server, capsys):
    group = GROUP | {"state": "transitioning", "goal": "active/optimized", "preferred": True, "ports": []}
    server["answer"] = {"unit": "disk0", "groups": [group]}
    main(["paths", "show", "disk0"])
    assert capsys.readouterr().out == "target port group 7: transitioning to active/optimized, preferred\n"


def test_symmetric_access_is_told(server, capsys):
    server["answer"] = {"unit": "disk0", "groups": []}
    main(["paths", "show", "disk0"])
    assert "configure [target_port_groups.NUMBER]" in capsys.readouterr().out


def test_set_names_group_and_state(server, capsys):
    assert main(["paths", "set", "disk0", "7", "offline", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == [GROUP]
    [(_, request)] = server["asked"]
    assert request == {"request": "set_path", "unit": "disk0", "group": 7, "state": "offline"}


def test_an_answer_that_is_not_understood_is_told(server, capsys):
    server["answer"] = {"unit": "disk0"}
    assert main(["paths", "show", "disk0"]) == 2
    assert "speaks otherwise" in capsys.readouterr().err
