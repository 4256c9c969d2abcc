"""Which target ports lead to a unit, in which target port groups, and what a changed configuration makes of them."""

from collections.abc import Mapping
from typing import NamedTuple

from iscsi_target.config.values import Configuration
from iscsi_target.scsi.nexus import TargetPort
from iscsi_target.scsi.state.device import PortIdentity
from iscsi_target.scsi.state.port_groups import NO_GROUPS, AccessState, PortGroups, StatusCode, arrived, departed

THE_ONLY_GROUP = 1  # of all ports where none is configured, as every port reaches every unit alike then


class Paths(NamedTuple):
    """The ways to one unit.

    ports    the target ports
    groups   their target port groups; none when access is symmetric
    """

    ports: Mapping[TargetPort, PortIdentity] = {}
    groups: PortGroups = NO_GROUPS


def all_ports(configuration: Configuration) -> list[TargetPort]:
    """Returns the target ports of all targets, in the order of the configuration."""
    return [TargetPort(entry.name, tag) for entry in configuration.targets for tag in entry.portal_groups]


def paths_of(configuration: Configuration, unit: str, identifiers: Mapping[TargetPort, int]) -> Paths:
    """Returns the ways to a unit, as they are configured.

    identifiers   the relative identifier of every target port
    Source: SPC4r37 7.8.6.8, 5.15.2
    """
    group_of = {tag: each.number for each in configuration.target_port_groups for tag in each.portal_groups}
    ports = {
        port: PortIdentity(identifiers[port], group_of.get(port.portal_group_tag, THE_ONLY_GROUP))
        for entry in configuration.targets
        for port in (TargetPort(entry.name, tag) for tag in entry.portal_groups)
        if unit in entry.luns.values()
    }
    numbers = {identity.port_group for identity in ports.values()}
    return Paths(
        ports, {each.number: each.group for each in configuration.target_port_groups if each.number in numbers}
    )


def carried_over(configured: PortGroups, now: PortGroups) -> PortGroups:
    """Returns target port groups as they are configured, those that there are already in the states that they have."""
    return {
        number: group._replace(
            goal=now[number].goal, transitioning=now[number].transitioning, status_code=now[number].status_code
        )
        if number in now
        else group
        for number, group in configured.items()
    }


def regrouped(now: PortGroups, before: PortGroups, *, after: PortGroups) -> tuple[PortGroups, dict[int, AccessState]]:
    """Returns the target port groups of a unit for a changed configuration, and the states that they are to get.

    A group whose configured state has not changed keeps the one that it is in.

    now             as they are
    before, after   as they were and are configured
    """
    wanted = {
        number: group.goal
        for number, group in after.items()
        if number in before and group.goal is not before[number].goal
    }
    return carried_over(after, now), wanted


def settled(groups: PortGroups, wanted: Mapping[int, AccessState]) -> PortGroups:
    """Returns the groups of a unit that is to be opened again: in the states that they are to get, none on its way."""
    return arrived(departed(groups, wanted, StatusCode.IMPLICITLY), groups)
