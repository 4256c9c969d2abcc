"""How a target stands towards those who log in: it takes them in, is offline, or has moved elsewhere."""

from typing import NamedTuple

from iscsi_target.iscsi.errors import LoginStatus

MOVED = (LoginStatus.TARGET_MOVED_TEMPORARILY, LoginStatus.TARGET_MOVED_PERMANENTLY)


class Standing(NamedTuple):
    """What logins to a target are told.

    status    SUCCESS for a target that takes them in, SERVICE_UNAVAILABLE for one that is offline, or one of MOVED
    address   of one that has moved: "host:port" or "[v6]:port", without a portal group tag
    Source: RFC7143 11.13.5, 13.8
    """

    status: LoginStatus = LoginStatus.SUCCESS
    address: str = ""

    @property
    def admits(self) -> bool:
        """True when the target takes logins in."""
        return self.status is LoginStatus.SUCCESS

    def check(self, name: str) -> None:
        """Raises LoginRefused unless the target takes logins in.

        name    of the target
        """
        if self.status in MOVED:
            raise self.status.refusal(f"{name} has moved to {self.address}", self.address)
        if not self.admits:
            raise self.status.refusal(f"{name} is offline")

    def __str__(self) -> str:
        match self.status:
            case LoginStatus.SUCCESS:
                return "online"
            case LoginStatus.TARGET_MOVED_TEMPORARILY:
                return f"moved temporarily to {self.address}"
            case LoginStatus.TARGET_MOVED_PERMANENTLY:
                return f"moved permanently to {self.address}"
            case _:
                return "offline"


def moved_to(address: str, *, permanent: bool) -> Standing:
    """Returns the standing of a target that has moved to "host:port"."""
    return Standing(MOVED[permanent], address)


ONLINE = Standing()
OFFLINE = Standing(LoginStatus.SERVICE_UNAVAILABLE)
