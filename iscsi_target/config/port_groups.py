"""Reads `[target_port_groups.NUMBER]`: which portal groups are a target port group of SPC, and its first state."""

from collections.abc import Collection, Iterable, Iterator
from typing import Literal

from pydantic import Field

from iscsi_target.config.tables import Document, Mistake, Table
from iscsi_target.config.values import TargetPortGroup
from iscsi_target.scsi.state.port_groups import ENTERABLE, MAX_GROUPS, PortGroup

KEY = "target_port_groups"
MAX_GROUP = 65535  # TARGET PORT GROUP has two bytes; zero is reserved here for ports of no group. Source: SPC4r37 6.37
MAX_DELAY_MS = 60_000
MAX_TRANSITION_S = 255  # as much as IMPLICIT TRANSITION TIME can say. Source: SPC4r37 6.37


class TargetPortGroupTable(Table):
    """`[target_port_groups.NUMBER]`."""

    portal_groups: list[int] = Field(min_length=1)
    state: Literal["active/optimized", "active/non-optimized", "standby", "unavailable", "offline"] = "active/optimized"
    preferred: bool = False
    delay_ms: float = Field(default=0.0, ge=0, le=MAX_DELAY_MS)
    transition_seconds: float = Field(default=0.0, ge=0, le=MAX_TRANSITION_S)


def target_port_groups(document: Document) -> tuple[TargetPortGroup, ...]:
    """Returns the target port groups whose tables are right, by their numbers."""
    tables = document.named(TargetPortGroupTable, KEY)
    numbers = sorted(int(name) for name in tables if _is_group(name))
    return tuple(_group(number, tables[str(number)]) for number in numbers)


def mistakes(document: Document, groups: Iterable[TargetPortGroup], tags: Collection[int]) -> Iterator[Mistake]:
    """Finds what is wrong with target port groups together.

    tags    of the portal groups that there are
    """
    names = document.names(KEY)
    for name in names:
        if not _is_group(name):
            remedy = f"use a number of 1 to {MAX_GROUP} without leading zeros"
            yield Mistake((KEY, name), "is not the number of a target port group", remedy)
    if len(names) > MAX_GROUPS:
        yield Mistake((KEY,), f"has more than {MAX_GROUPS} groups", "join some of them")
    having: dict[int, int] = {}
    for group in groups:
        key = (KEY, str(group.number), "portal_groups")
        for tag in group.portal_groups:
            if tag not in tags:
                yield Mistake(key, f"names portal group {tag}, which there is not", f"add [portal_groups.{tag}]")
            elif having.setdefault(tag, group.number) != group.number:
                what = f"names portal group {tag}, which is in target port group {having[tag]} already"
                yield Mistake(key, what, "leave it in one of them")
    if names:
        for tag in sorted(set(tags) - set(having)):
            what = f"leave out portal group {tag}"
            yield Mistake((KEY,), what, "add it to one, as all ports of a unit must be in some target port group")


def _is_group(name: str) -> bool:
    return name.isascii() and name.isdigit() and name == str(int(name)) and 0 < int(name) <= MAX_GROUP


def _group(number: int, table: TargetPortGroupTable) -> TargetPortGroup:
    group = PortGroup(
        goal=ENTERABLE[table.state],
        preferred=table.preferred,
        delay_s=table.delay_ms / 1000,
        transition_s=table.transition_seconds,
    )
    return TargetPortGroup(number, tuple(table.portal_groups), group)
