"""What discovery says of nodes N and M, portals in groups 1 and 2."""

from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.login import Endpoint, LoginPhase
from iscsi_target.target.nodes import Portal, TargetNode, send_targets

N = TargetNode("iqn.2026-01.org.example:n", portal_group_tags=(1, 2))
M = TargetNode("iqn.2026-01.org.example:m", portal_group_tags=(2,))
NODES = {node.name: node for node in (N, M)}


def ask(name: str, portals: dict[int, list[Portal]], tag: int = 1) -> list[tuple[str, str]]:
    login = LoginPhase(Endpoint({}), tag, bytes)
    connection = Connection(1, tag, "[fe80::1]:3260", login, {})
    return send_targets(NODES, portals, connection, name)


def test_every_portal_of_every_group_gets_one_address():
    portals = {1: [Portal("h1:3260"), Portal("[::2]:3260")], 2: [Portal("h3:3261")]}
    assert ask("All", portals) == [
        ("TargetName", N.name),
        ("TargetAddress", "h1:3260,1"),
        ("TargetAddress", "[::2]:3260,1"),
        ("TargetAddress", "h3:3261,2"),
        ("TargetName", M.name),
        ("TargetAddress", "h3:3261,2"),
    ]


def test_portal_without_host_is_told_with_the_host_connected_to():
    assert ask(N.name, {1: [Portal(":3260")]}) == [("TargetName", N.name), ("TargetAddress", "[fe80::1]:3260,1")]


def test_portal_without_host_is_told_to_who_came_through_another_group_too():
    portals = {1: [Portal(":3260")], 2: [Portal(":3261")]}
    expected = [("TargetAddress", "[fe80::1]:3260,1"), ("TargetAddress", "[fe80::1]:3261,2")]
    assert ask(N.name, portals, tag=1)[1:] == expected


def test_same_address_of_a_group_is_told_once():
    assert len(ask(N.name, {1: [Portal(":3260"), Portal("[fe80::1]:3260")]})) == 2


def test_name_is_compared_without_regard_to_case():
    assert ask(N.name.upper(), {})[0] == ("TargetName", N.name)


def test_unknown_name_gets_nothing():
    assert ask("iqn.2026-01.org.example:x", {}) == []


def test_all_is_written_as_the_standard_writes_it():
    assert ask("ALL", {}) == []
