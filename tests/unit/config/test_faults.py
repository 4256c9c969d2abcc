"""Faults on order in a configuration file."""

import pytest

from iscsi_target.config.values import FaultEntry
from iscsi_target.faults.grammar import parse
from tests.unit.config.conftest import Find


def test_rules_are_taken_in_their_order(find: Find):
    judged = find(
        '[[faults]]\nrule = \'on "scsi command" where nth=3: delay 2s\'\nname = "slow"\n'
        '[[faults]]\nrule = "on in where portal_group=2: drop"\n'
    )
    assert judged.configuration is not None
    assert judged.configuration.faults == (
        FaultEntry(parse('on "scsi command" where nth=3: delay 2s'), "slow"),
        FaultEntry(parse("on in where portal_group=2: drop")),
    )


def test_without_any_a_target_behaves(find: Find):
    judged = find("")
    assert judged.configuration is not None
    assert judged.configuration.faults == ()


@pytest.mark.parametrize(
    "table, said",
    [
        ('rule = "on scsi-comand: drop"', "faults[0].rule is wrong: 'scsi-comand' is no kind of PDU; did you mean"),
        ('rule = "on in where opcode=WRIT(10): drop"', "faults[0].rule is wrong: opcode=WRIT(10) names no command"),
        ("rule = 3", 'faults[0].rule is not a text; write rule = "on scsi-command'),
        ('name = "a"', "faults[0].rule is missing"),
        ('rule = "on in: drop"\nname = "a b"', "faults[0].name cannot be: 'a b' is no name of a rule"),
        (
            'rule = "on in: drop"\nname = "a"\n[[faults]]\nrule = "on out: drop"\nname = "a"',
            "faults[1].name cannot be: there is a rule 'a' already",
        ),
        ('rule = "on in: drop"\nrules = 1', "faults[0].rules is unknown; did you mean rule?"),
    ],
)
def test_mistakes_have_a_place_and_a_remedy(find: Find, table: str, said: str):
    judged = find(f"[[faults]]\n{table}\n")
    assert judged.configuration is None
    assert len(judged.mistakes) == 1
    assert said in judged.mistakes[0]
    assert "config.toml:" in judged.mistakes[0]
