"""What initiators disagree about: choices, each with a default, and profiles that make them for an initiator, as data.

A choice is here only when some initiator is known to need one way and another one, a standard or a test the other way.
What satisfies all of them is done for all and is no choice. A profile gives a reason for each choice that it makes
otherwise than the default, and `STANDARD` one for each default.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple


class AbortOfFinished(Enum):
    """What ABORT TASK of a task is told that is not there, most often because it has ended."""

    DOES_NOT_EXIST = "does-not-exist"
    COMPLETE = "complete"


class WrongDirection(Enum):
    """What becomes of a command that comes with Data-Out although it never takes any."""

    TOLERATED = "tolerated"
    REFUSED = "refused"


class Choices(NamedTuple):
    """How an initiator is treated where initiators disagree.

    standby_reads   True when what only reads is processed through a target port group in standby too
    """

    abort_of_finished_task: AbortOfFinished = AbortOfFinished.DOES_NOT_EXIST
    wrong_direction: WrongDirection = WrongDirection.TOLERATED
    standby_reads: bool = False


class Profile(NamedTuple):
    """Choices for a kind of initiators.

    initiators   whom it is for
    reasons      name of a choice -> why it is made so
    """

    initiators: str
    choices: Choices
    reasons: Mapping[str, str]


DEFAULT_PROFILE = "standard"
STANDARD = Profile(
    "all others; what the standards say",
    Choices(),
    {
        "abort_of_finished_task": (
            "RFC 7143 11.6.1 says TASK DOES NOT EXIST when the task has been answered, and libiscsi's"
            " iSCSITMF.AbortTaskSimpleAsync wants that"
        ),
        "wrong_direction": (
            "the command does what its CDB says, and the residual count tells the rest (RFC 7143 11.4.5.1); libiscsi's"
            " iSCSIResiduals.Read10Invalid wants GOOD"
        ),
        "standby_reads": (
            "reads are not among what SPC-4 5.15.2.4 has processed in standby, and Windows Server 2008 R2 is very slow"
            " when they are"
        ),
    },
)
PROFILES: Mapping[str, Profile] = {
    DEFAULT_PROFILE: STANDARD,
    "esxi": Profile(
        "VMware ESXi",
        Choices(abort_of_finished_task=AbortOfFinished.COMPLETE, standby_reads=True),
        {
            "abort_of_finished_task": "it answers TASK DOES NOT EXIST with a reset of the unit (SCST's README)",
            "standby_reads": "its discovery fails when reads through a path in standby are refused (COMSTAR)",
        },
    ),
    "windows": Profile(
        "Microsoft Windows Server 2012 and later",
        Choices(standby_reads=True),
        {"standby_reads": "its discovery fails when reads through a path in standby are refused (COMSTAR)"},
    ),
    "exacting": Profile(
        "initiators that are being developed",
        Choices(wrong_direction=WrongDirection.REFUSED),
        {"wrong_direction": "it shows a driver that sets the W bit for a command that reads"},
    ),
}


class Chosen(NamedTuple):
    """Which choices hold for which initiators of a target.

    others     for those that are not named
    patterns   name of an initiator, or the beginning of names and an asterisk -> the choices for it
    """

    others: Choices = STANDARD.choices
    patterns: Mapping[str, Choices] = MappingProxyType({})

    def of(self, name: str) -> Choices:
        """Returns the choices for an initiator; of the patterns that fit its name the longest one counts.

        name    normalised, as the patterns are
        """
        fitting = [pattern for pattern in self.patterns if _fits(pattern, name)]
        return self.patterns[max(fitting, key=len)] if fitting else self.others


def _fits(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
