"""`iscsi-target profiles`: prints the initiator profiles and the reason for each choice."""

from collections.abc import Iterator
from enum import Enum
from textwrap import wrap

from iscsi_target.scsi.profiles import PROFILES, STANDARD, Profile

WIDTH = 100


def run() -> int:
    """Prints every profile, of all but the standard one only what it chooses otherwise; returns the exit status."""
    print("\n\n".join("\n".join(_lines(name, profile)) for name, profile in PROFILES.items()))
    return 0


def _lines(name: str, profile: Profile) -> Iterator[str]:
    yield f"{name}: for {profile.initiators}"
    for choice, value in profile.choices._asdict().items():
        if profile is STANDARD or value != getattr(STANDARD.choices, choice):
            yield f"  {choice} = {_toml(value)}"
            yield from wrap(profile.reasons[choice], WIDTH, initial_indent="      ", subsequent_indent="      ")


def _toml(value: object) -> str:
    """Returns a value as the configuration has it."""
    return f'"{value.value}"' if isinstance(value, Enum) else str(value).lower()
