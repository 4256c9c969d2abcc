"""How the copy managers of one target know of each other and their tokens, and where they get what nobody can guess.

Each unit is a copy manager and has its own tokens. One that is sent a token of another looks here which one that is,
and then asks it for the data by way of the target, as for a command: see `token_copy`. A token leads to its data
whatever the nexus has access to; that is what tokens are for.

EXTENDED COPY has no such thing, so a copy manager comes to another unit in the name of the nexus that wants the copy:
see `unit_copy`. It may do there what the nexus may, no more and no longer.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.state.rod_tokens import RodToken

if TYPE_CHECKING:  # a device has this
    from iscsi_target.scsi.state.device import Device


class Source(NamedTuple):
    """Where the data of a token is.

    unit   the name of the unit that has it, or None when that is the one which was asked
    """

    unit: str | None
    token: RodToken


class Visit(NamedTuple):
    """Another unit that a copy manager may come to in the name of a nexus.

    unit     its name
    nexus    that is attached to it
    tenure   of the nexus there when the copy began
    Source: SPC4r37 5.17.3
    """

    unit: str
    nexus: Nexus
    tenure: object

    def holds(self, device: "Device") -> bool:
        """Returns True as long as nothing has ended there what comes of the nexus."""
        return device.tenures.get(self.nexus) is self.tenure


def _no_entropy(length_bytes: int) -> bytes:
    raise AssertionError(f"{length_bytes} random bytes are wanted, and nobody has handed in where they come from")


class CopyManagers:
    """The copy managers of one target.

    entropy   returns so many random bytes
    devices   the units, by their names
    """

    def __init__(self, entropy: Callable[[int], bytes] = _no_entropy) -> None:
        self.entropy = entropy
        self.devices: Mapping[str, Device] = {}

    def adopt(self, devices: "Mapping[str, Device]") -> None:
        """Takes other units, which are told of each other."""
        self.devices = devices
        for device in devices.values():
            device.copy_managers = self

    def find(self, raw: bytes, asked: "Device", now_s: float) -> Source | None:
        """Returns where the data of a token is, None when no unit has made it.

        asked    the device that was sent the token
        raises   InvalidTokenOperation when the token is not valid any more
        Source: SPC4r37 5.17.6.5.2.1
        """
        token = asked.tokens.find(raw, now_s)
        if token is not None:
            return Source(None, token)
        for name, device in self.devices.items():
            token = device.tokens.find(raw, now_s)
            if token is not None:
                return Source(name, token)
        return None

    def reach(self, nexus: Nexus, is_meant: "Callable[[Device], bool]") -> "tuple[Visit, Device] | None":
        """Returns the unit that is meant of those to which a nexus is attached, None when it is none of them.

        That the initiator has a session somewhere else does not count: it may have said there less of who it is.
        """
        for name, device in self.devices.items():
            if nexus in device.tenures and is_meant(device):
                return Visit(name, nexus, device.tenures[nexus]), device
        return None

    def knows(self, naa: bytes) -> bool:
        """Returns True when one of the units has an NAA designator."""
        return any(device.identity.naa == naa for device in self.devices.values())
