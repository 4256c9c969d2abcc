"""What a target answers to SendTargets."""

from collections.abc import Iterable
from typing import NamedTuple

from iscsi_target.iscsi.text import Pair


class DiscoveredTarget(NamedTuple):
    """A target and where it can be reached.

    addresses    "host[:port],tag", of which the tag is that of the portal group
    Source: RFC7143 Appendix C
    """

    name: str
    addresses: tuple[str, ...]


def read_targets(pairs: Iterable[Pair]) -> list[DiscoveredTarget]:
    """Puts the pairs of an answer together; addresses without a name before them have no meaning.

    Source: RFC7143 Appendix C
    """
    listed: list[tuple[str, list[str]]] = []
    for key, value in pairs:
        if key == "TargetName":
            listed.append((value, []))
        elif key == "TargetAddress" and listed:
            listed[-1][1].append(value)
    return [DiscoveredTarget(name, tuple(addresses)) for name, addresses in listed]
