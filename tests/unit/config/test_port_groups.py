"""Target port groups in a configuration file."""

import pytest

from iscsi_target.config.values import TargetPortGroup
from iscsi_target.scsi.state.port_groups import AccessState, PortGroup
from tests.unit.config.conftest import Find

BEFORE = """\
[portal_groups.1]
listen = ["127.0.0.1:3260"]

[portal_groups.2]
listen = ["127.0.0.1:3261"]

[units.disk0]
ram = true
size = "1MiB"

[[targets]]
name = "iqn.2026-11.org.example:disks"
portal_groups = [1, 2]
luns = { 0 = "disk0" }

"""
FIRST = "[target_port_groups.10]\nportal_groups = [1]\n"
SECOND = "[target_port_groups.20]\nportal_groups = [2]\n"


@pytest.fixture
def before() -> str:
    """Returns tables with two portal groups."""
    return BEFORE


def test_without_any_access_is_symmetric(find: Find):
    configuration = find("").configuration
    assert configuration is not None
    assert configuration.target_port_groups == ()


def test_groups_are_ordered_by_their_numbers(find: Find):
    more = 'state = "active/non-optimized"\npreferred = true\ndelay_ms = 2.5\ntransition_seconds = 3\n'
    configuration = find(SECOND + more + FIRST).configuration
    assert configuration is not None
    slower = PortGroup(AccessState.ACTIVE_NON_OPTIMIZED, preferred=True, delay_s=0.0025, transition_s=3.0)
    assert configuration.target_port_groups == (TargetPortGroup(10, (1,)), TargetPortGroup(20, (2,), slower))


@pytest.mark.parametrize(
    "text, mistake",
    [
        (FIRST, "target_port_groups leave out portal group 2; add it to one"),
        (FIRST + SECOND.replace("[2]", "[1, 2]"), "names portal group 1, which is in target port group 10 already"),
        (FIRST + SECOND.replace("[2]", "[2, 3]"), "names portal group 3, which there is not; add [portal_groups.3]"),
        (FIRST + SECOND.replace("20", "0"), "target_port_groups.0 is not the number of a target port group"),
        (FIRST + SECOND.replace("20", "65536"), "use a number of 1 to 65535 without leading zeros"),
        (FIRST + SECOND + 'state = "transitioning"\n', "target_port_groups.20.state is not"),
        (FIRST + SECOND + "delay_ms = -1\n", "target_port_groups.20.delay_ms is less than 0"),
        (FIRST + SECOND + "transition_seconds = 256\n", "target_port_groups.20.transition_seconds is more than 255"),
        (FIRST + SECOND + "prefered = true\n", "did you mean preferred?"),
        (FIRST + SECOND.replace("[2]", "[]"), "target_port_groups.20.portal_groups is empty"),
    ],
)
def test_a_mistake_is_told_with_a_remedy(find: Find, text: str, mistake: str):
    found = find(text)
    assert found.configuration is None
    assert any(mistake in line for line in found.mistakes), found.mistakes


def test_there_is_a_limit_to_groups(find: Find):
    groups = "".join(FIRST.replace("10", str(number)) for number in range(1, 66))
    assert any("has more than 64 groups" in line for line in find(groups).mistakes)
