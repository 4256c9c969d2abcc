"""Targets that are offline or have moved, and limits, in a configuration file."""

import pytest

from iscsi_target.iscsi.standing import OFFLINE, ONLINE, Standing, moved_to
from iscsi_target.target import Limits
from tests.unit.config.conftest import Find


@pytest.mark.parametrize(
    "lines, standing",
    [
        ("", ONLINE),
        ("online = true", ONLINE),
        ("online = false", OFFLINE),
        ('moved_to = "192.0.2.2"', moved_to("192.0.2.2:3260", permanent=False)),
        ('moved_to = "[2001:db8::2]:3261"', moved_to("[2001:db8::2]:3261", permanent=False)),
        ('moved_to = "a.example.org"\nmoved_permanently = true', moved_to("a.example.org:3260", permanent=True)),
    ],
)
def test_a_target_is_online_offline_or_elsewhere(find: Find, lines: str, standing: Standing):
    judged = find(lines)
    assert judged.configuration is not None, judged.mistakes
    assert judged.configuration.targets[0].standing == standing


def test_limits_are_what_they_are_said_to_be_and_else_the_defaults(find: Find):
    judged = find("[limits]\nsessions_per_initiator = 4\nconnections = 100\n")
    assert judged.configuration is not None, judged.mistakes
    assert judged.configuration.limits == Limits(sessions_per_initiator=4, connections=100)
    plain = find("")
    assert plain.configuration is not None
    assert plain.configuration.limits == Limits()


@pytest.mark.parametrize(
    "lines, said",
    [
        ("online = 3", "targets[0].online is neither true nor false; write true or false"),
        ("moved_to = 3", "targets[0].moved_to 3 is not the text of an address; write"),
        ('moved_to = "a:b"', "targets[0].moved_to 'a:b' is not HOST:PORT"),
        ('moved_to = "192.0.2.2:0"', "targets[0].moved_to 192.0.2.2:0 is nothing that an initiator can connect to"),
        ('moved_to = "0.0.0.0"', "targets[0].moved_to 0.0.0.0:3260 is nothing that an initiator can connect to"),
        ("moved_permanently = true", "targets[0].moved_permanently does not say where to; add moved_to"),
        ('moved_to = "a"\nonline = false', "targets[0].online is of no use with moved_to"),
        ("[limits]\nsessions = 0", "limits.sessions is not more than 0"),
        ("[limits]\nconnections = 30001", "limits.connections is more than 30000"),
        ("[limits]\nsession = 3", "limits.session is unknown; did you mean sessions?"),
    ],
)
def test_mistakes_have_a_remedy(find: Find, lines: str, said: str):
    judged = find(lines + "\n")
    assert judged.configuration is None
    assert len(judged.mistakes) == 1
    assert said in judged.mistakes[0]
