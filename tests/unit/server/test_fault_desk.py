"""Requests about faults, without a socket."""

import pytest

from iscsi_target.config.values import ram_configuration
from iscsi_target.server.fault_desk import carry_out
from iscsi_target.server.refused import Refused
from iscsi_target.server.server import Server


@pytest.fixture
async def faults(tmp_path):
    async with Server(ram_configuration(tmp_path, 1 << 20)) as server:
        yield server.faults


async def test_rules_are_listed_with_their_counts(faults):
    assert carry_out(faults, "faults", {}) == {"faults": []}
    assert carry_out(faults, "add_fault", {"rule": "on in: drop", "name": "lost"}) == {"added": "lost"}
    listed = {"name": "lost", "rule": "on in: drop", "matched": 0, "fired": 0}
    assert carry_out(faults, "faults", {}) == {"faults": [listed]}
    assert carry_out(faults, "remove_faults", {"names": ["lost"]}) == {"faults": []}


@pytest.mark.parametrize(
    "wanted, request_, said",
    [
        ("add_fault", {}, "there is no rule"),
        ("add_fault", {"rule": 3}, "there is no rule"),
        ("add_fault", {"rule": "on in: drop", "name": 3}, "its name is no text"),
        ("add_fault", {"rule": "on on: drop"}, "the rule is wrong: 'on' is no kind of PDU"),
        ("add_fault", {"rule": "on in: drop", "name": "a b"}, "is no name of a rule"),
        ("remove_faults", {}, "names is no list"),
        ("remove_faults", {"names": "1"}, "names is no list"),
        ("remove_faults", {"names": [1]}, "names is no list"),
        ("remove_faults", {"names": ["x"]}, "there is no rule 'x'"),
    ],
)
async def test_what_is_wrong_is_refused_with_a_remedy(faults, wanted, request_, said):
    with pytest.raises(Refused) as refused:
        carry_out(faults, wanted, request_)
    assert said in refused.value.what
    assert refused.value.remedy
