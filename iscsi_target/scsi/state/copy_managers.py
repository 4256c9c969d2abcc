"""How the copy managers of one target know of each other's tokens, and where they get what nobody can guess.

Each unit is a copy manager and has its own tokens. One that is sent a token of another looks here which one that is,
and then asks it for the data by way of the target, as for a command: see `token_copy`. A token leads to its data
whatever the nexus has access to; that is what tokens are for.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from iscsi_target.scsi.state.rod_tokens import RodToken

if TYPE_CHECKING:  # a device has this
    from iscsi_target.scsi.state.device import Device


class Source(NamedTuple):
    """Where the data of a token is.

    unit   the name of the unit that has it, or None when that is the one which was asked
    """

    unit: str | None
    token: RodToken


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

    def knows(self, naa: bytes) -> bool:
        """Returns True when one of the units has an NAA designator."""
        return any(device.identity.naa == naa for device in self.devices.values())
