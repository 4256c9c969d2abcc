"""What `--help` says, and what each command takes."""

import pytest

from iscsi_target.cli.parser import parser
from iscsi_target.faults.guide import GUIDE

COMMANDS = ["serve", "check", "isns", "reservations", "paths", "media", "pools", "faults", "targets", "profiles"]


def help_of(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as left:
        parser().parse_args([*words, "--help"])
    assert left.value.code == 0
    said: str = capsys.readouterr().out
    return said


def test_every_command_is_in_the_help_and_has_one_of_its_own(capsys):
    said = help_of(capsys)
    for command in COMMANDS:
        assert f"\n    {command}" in said
        assert f"iscsi-target {command}" in help_of(capsys, command)


def test_whoever_adds_a_fault_finds_how_to_write_a_rule(capsys):
    assert GUIDE.strip() in help_of(capsys, "faults", "add")


@pytest.mark.parametrize(
    "words", [[], ["faults"], ["targets", "move", "iqn.a"], ["faults", "remove"], ["serve", "a", "b"]]
)
def test_what_is_missing_or_too_much_is_a_mistake(words, capsys):
    with pytest.raises(SystemExit) as left:
        parser().parse_args(words)
    assert left.value.code == 2
    assert capsys.readouterr().err


def test_a_server_is_named_by_its_state_or_its_configuration():
    given = parser().parse_args(["faults", "list", "--state", "/s"])
    assert (str(given.state), given.configuration) == ("/s", None)
    with pytest.raises(SystemExit):
        parser().parse_args(["faults", "list", "--state", "/s", "--config", "/c"])
