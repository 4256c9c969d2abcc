"""Which paths a configuration gives a unit, and what becomes of their states when it changes.

Target port group 1 has portal group 1, target port group 2 has portal group 2. disk0 is reached through both.
"""

import asyncio
import json

import pytest

from iscsi_target.config.address import Address
from iscsi_target.config.values import (
    Configuration,
    PortalGroup,
    TargetEntry,
    TargetPortGroup,
    ram_configuration,
)
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.state.device import PortIdentity
from iscsi_target.scsi.state.port_groups import AccessState, PortGroup, StatusCode
from iscsi_target.server.control import SOCKET_NAME
from iscsi_target.server.paths import THE_ONLY_GROUP, all_ports, paths_of, regrouped
from iscsi_target.server.server import Server

NAME = "iqn.2026-01.org.example:t"
P, Q = TargetPort(NAME, 1), TargetPort(NAME, 2)
A = Nexus(InitiatorPort("iqn.2026-01.org.example:a", bytes(6)), P)
OPTIMIZED, SLOWER = AccessState.ACTIVE_OPTIMIZED, AccessState.ACTIVE_NON_OPTIMIZED
STANDBY, OFFLINE = AccessState.STANDBY, AccessState.OFFLINE


@pytest.fixture
def configuration(tmp_path) -> Configuration:
    address = Address("127.0.0.1", 0)
    return ram_configuration(tmp_path / "state", 1 << 20)._replace(
        portal_groups=(PortalGroup(1, (address,)), PortalGroup(2, (address,))),
        targets=(TargetEntry(NAME, {0: "disk0"}, portal_groups=(1, 2)),),
        target_port_groups=(TargetPortGroup(1, (1,)), TargetPortGroup(2, (2,), PortGroup(STANDBY))),
    )


def with_states(configuration: Configuration, *states: AccessState) -> Configuration:
    groups = configuration.target_port_groups
    changed = (each._replace(group=PortGroup(state)) for each, state in zip(groups, states, strict=True))
    return configuration._replace(target_port_groups=tuple(changed))


async def ask(server: Server, **request: object) -> dict:
    reader, writer = await asyncio.open_unix_connection(str(server.configuration.state / SOCKET_NAME))
    writer.write(json.dumps(request).encode() + b"\n")
    answer = json.loads(await reader.readline())
    writer.close()
    return answer


def test_a_unit_has_the_groups_of_its_ports(configuration: Configuration):
    paths = paths_of(configuration, "disk0", {P: 5, Q: 6})
    assert paths.ports == {P: PortIdentity(5, 1), Q: PortIdentity(6, 2)}
    assert paths.groups == {1: PortGroup(), 2: PortGroup(STANDBY)}
    one_port = configuration._replace(targets=(TargetEntry(NAME, {0: "disk0"}, portal_groups=(2,)),))
    assert all_ports(one_port) == [Q]
    assert list(paths_of(one_port, "disk0", {Q: 6}).groups) == [2]


def test_without_groups_all_ports_are_in_one_and_alike(configuration: Configuration):
    paths = paths_of(configuration._replace(target_port_groups=()), "disk0", {P: 5, Q: 6})
    assert {identity.port_group for identity in paths.ports.values()} == {THE_ONLY_GROUP}
    assert not paths.groups


def test_a_group_keeps_its_state_unless_the_configured_one_changes():
    configured = {1: PortGroup(), 2: PortGroup(STANDBY), 3: PortGroup()}
    now = {**configured, 1: PortGroup(SLOWER, status_code=StatusCode.BY_COMMAND)}
    later = {1: PortGroup(delay_s=0.5), 2: PortGroup(OFFLINE), 4: PortGroup(SLOWER)}
    kept, wanted = regrouped(now, configured, after=later)
    assert wanted == {2: OFFLINE}
    assert kept == {
        1: PortGroup(SLOWER, status_code=StatusCode.BY_COMMAND, delay_s=0.5),
        2: PortGroup(STANDBY),
        4: PortGroup(SLOWER),
    }


async def test_a_reload_changes_states_and_tells_those_who_are_there(configuration: Configuration):
    async with Server(configuration) as server:
        unit = server._units["disk0"].logical_unit
        unit.attach(A)
        await server.reload(with_states(configuration, SLOWER, STANDBY))
        groups = unit.device.port_groups
        assert [group.state for group in groups.values()] == [SLOWER, STANDBY]
        assert [group.status_code for group in groups.values()] == [StatusCode.IMPLICITLY, StatusCode.NONE]
        assert AttentionCode.ASYMMETRIC_ACCESS_STATE_CHANGED in unit.nexuses.standing(A).attentions.pending
        unit.detach(A)


async def test_a_unit_that_is_opened_again_keeps_the_states_of_its_paths(configuration: Configuration):
    async with Server(configuration) as server:
        await ask(server, request="set_path", unit="disk0", group=1, state="offline")
        before = server._units["disk0"].logical_unit
        other = configuration._replace(units=(configuration.units[0]._replace(rotation_rate=7200),))
        await server.reload(with_states(other, OPTIMIZED, SLOWER))
        unit = server._units["disk0"].logical_unit
        assert unit is not before
        assert [group.state for group in unit.device.port_groups.values()] == [OFFLINE, SLOWER]
        await server.reload(with_states(configuration, STANDBY, SLOWER))
        unit = server._units["disk0"].logical_unit
        assert [group.state for group in unit.device.port_groups.values()] == [STANDBY, SLOWER]


async def test_a_group_that_is_transitioning_when_its_unit_is_opened_again_has_arrived(configuration: Configuration):
    slow = tuple(
        each._replace(group=each.group._replace(transition_s=60.0)) for each in configuration.target_port_groups
    )
    configuration = configuration._replace(target_port_groups=slow)
    async with Server(configuration) as server:
        answer = await ask(server, request="set_path", unit="disk0", group=1, state="offline")
        assert answer["groups"][0]["state"] == "transitioning"
        await server.reload(configuration)
        assert server._units["disk0"].device.port_groups[1].transitioning
        await server.reload(configuration._replace(units=(configuration.units[0]._replace(rotation_rate=7200),)))
        assert server._units["disk0"].device.port_groups[1].state is OFFLINE


async def test_the_operator_sees_and_changes_states(configuration: Configuration):
    async with Server(configuration) as server:
        shown = await ask(server, request="paths", unit="disk0")
        assert [(group["group"], group["state"], group["preferred"]) for group in shown["groups"]] == [
            (1, "active/optimized", False),
            (2, "standby", False),
        ]
        assert [port["portal_group_tag"] for group in shown["groups"] for port in group["ports"]] == [1, 2]
        changed = await ask(server, request="set_path", unit="disk0", group=2, state="active/non-optimized")
        assert (changed["groups"][1]["state"], changed["groups"][1]["changed"]) == (
            "active/non-optimized",
            "implicitly",
        )


@pytest.mark.parametrize(
    "request_, said",
    [
        ({"group": 3, "state": "standby"}, "unit disk0 has no target port group 3; groups: 1, 2"),
        ({"group": "1", "state": "standby"}, "unit disk0 has no target port group '1'; groups: 1, 2"),
        ({"group": True, "state": "standby"}, "unit disk0 has no target port group True; groups: 1, 2"),
        ({"group": 1, "state": "asleep"}, "'asleep' is no state; take one of active/optimized, "),
        ({"group": 1}, "None is no state; "),
    ],
)
async def test_what_cannot_be_set_is_refused(configuration: Configuration, request_: dict, said: str):
    async with Server(configuration) as server:
        answer = await ask(server, request="set_path", unit="disk0", **request_)
        assert f"{answer['error']}; {answer['remedy']}".startswith(said)
    async with Server(configuration._replace(target_port_groups=())) as server:
        answer = await ask(server, request="set_path", unit="disk0", **request_)
        assert "configure [target_port_groups.NUMBER]" in answer["remedy"]
