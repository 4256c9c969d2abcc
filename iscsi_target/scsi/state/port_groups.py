"""Asymmetric access (ALUA): the target port groups that lead to a unit, and what can be asked through each.

All ports of a group are in the same state. It changes at once, or is transitioning for some time first, as a laboratory
wants it. States are the unit's: another unit behind the same ports has its own. A restart brings back those that are
configured, and nothing else does, neither a reset nor the loss of a nexus.

Source: SPC4r37 5.15.2
"""

from collections.abc import Collection, Mapping
from enum import Flag, IntEnum
from types import MappingProxyType
from typing import NamedTuple

MAX_GROUPS = 64  # of a server; a response that lists them all is bounded by it


class AccessState(IntEnum):
    """ASYMMETRIC ACCESS STATE.

    Source: SPC4r37 6.37
    """

    ACTIVE_OPTIMIZED = 0x0
    ACTIVE_NON_OPTIMIZED = 0x1
    STANDBY = 0x2
    UNAVAILABLE = 0x3
    OFFLINE = 0xE
    TRANSITIONING = 0xF

    def __str__(self) -> str:
        return self.name.lower().replace("_", "/", 1).replace("_", "-")

    @property
    def is_active(self) -> bool:
        """True when every command is processed."""
        return self in (AccessState.ACTIVE_OPTIMIZED, AccessState.ACTIVE_NON_OPTIMIZED)


# ADDITIONAL SENSE CODE QUALIFIER of what is not processed in a state. Source: SPC4r37 5.15.2.4
QUALIFIERS: Mapping[AccessState, int] = {
    AccessState.TRANSITIONING: 0x0A,
    AccessState.STANDBY: 0x0B,
    AccessState.UNAVAILABLE: 0x0C,
    AccessState.OFFLINE: 0x12,
}
ENTERABLE = {str(state): state for state in AccessState if state is not AccessState.TRANSITIONING}
SETTABLE = frozenset(  # by SET TARGET PORT GROUPS. Source: SPC4r37 6.45
    {
        AccessState.ACTIVE_OPTIMIZED,
        AccessState.ACTIVE_NON_OPTIMIZED,
        AccessState.STANDBY,
        AccessState.UNAVAILABLE,
    }
)


class StatusCode(IntEnum):
    """STATUS CODE: what changed a state last.

    Source: SPC4r37 6.37
    """

    NONE = 0
    BY_COMMAND = 1
    IMPLICITLY = 2


class Reachable(Flag):
    """In which states other than the active ones a command is processed; every flag grants, absence denies.

    Source: SPC4r37 5.15.2.4
    """

    NOWHERE_ELSE = 0
    STANDBY = 1
    UNAVAILABLE = 2
    OFFLINE = 4
    TRANSITIONING = 8
    EVERYWHERE = STANDBY | UNAVAILABLE | OFFLINE | TRANSITIONING


class PortGroup(NamedTuple):
    """One target port group of a unit.

    goal            the state that it is in, or will be in after a transition
    transitioning   True while it changes to its goal
    preferred       PREF: whether it is the one that initiators should take
    status_code     what changed it last
    delay_s         how long a command for the medium is held back while the group is active/non-optimized
    transition_s    how long a change of its state lasts
    Source: SPC4r37 6.37
    """

    goal: AccessState = AccessState.ACTIVE_OPTIMIZED
    transitioning: bool = False
    preferred: bool = False
    status_code: StatusCode = StatusCode.NONE
    delay_s: float = 0.0
    transition_s: float = 0.0

    @property
    def state(self) -> AccessState:
        """The state that it is in."""
        return AccessState.TRANSITIONING if self.transitioning else self.goal

    @property
    def held_back_s(self) -> float:
        """How long a command for the medium is held back now."""
        return self.delay_s if self.state is AccessState.ACTIVE_NON_OPTIMIZED else 0.0

    @property
    def is_quick(self) -> bool:
        """True when every command is processed and none held back."""
        return self.state.is_active and not self.held_back_s


PortGroups = Mapping[int, PortGroup]
"""By TARGET PORT GROUP, ascending; none at all when access is symmetric."""

NO_GROUPS: PortGroups = MappingProxyType({})


def departed(groups: PortGroups, wanted: Mapping[int, AccessState], cause: StatusCode) -> PortGroups:
    """Returns the groups when a change begins; those that are in the wanted state already stay as they are.

    wanted    states of groups that there are, none of them TRANSITIONING
    """
    return {
        number: group
        if wanted.get(number, group.goal) is group.goal
        else group._replace(goal=wanted[number], transitioning=group.transition_s > 0, status_code=cause)
        for number, group in groups.items()
    }


def arrived(groups: PortGroups, numbers: Collection[int]) -> PortGroups:
    """Returns the groups when a change is over that led some of them to their goals."""
    return {
        number: group._replace(transitioning=False) if number in numbers else group for number, group in groups.items()
    }
