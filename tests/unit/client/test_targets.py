"""Answers to SendTargets."""

from iscsi_target.client.targets import DiscoveredTarget, read_targets


def test_addresses_belong_to_the_name_before_them():
    pairs = [
        ("TargetAddress", "lost"),
        ("TargetName", "a"),
        ("TargetAddress", "1"),
        ("TargetAddress", "2"),
        ("TargetName", "b"),
        ("X-other", "y"),
    ]
    assert read_targets(pairs) == [DiscoveredTarget("a", ("1", "2")), DiscoveredTarget("b", ())]
