"""How much a target lets initiators have at a time, and the refusal of a session beyond it."""

from collections.abc import Iterable
from typing import NamedTuple

from iscsi_target.iscsi.errors import LoginStatus
from iscsi_target.scsi.nexus import Nexus


class Limits(NamedTuple):
    """What may be open at a time.

    connections                at all
    connections_per_address    of one address, behind which may be a whole cluster; the others stay for others
    pending_logins             connections that have not logged in; more wait, and the oldest is cut for them
    sessions                   normal ones; a laboratory that tries how a cluster grows has two thousand
    sessions_per_target        of all initiators
    sessions_per_initiator     by its name, at all targets; an initiator has one for each path
    """

    connections: int = 4096
    connections_per_address: int = 3072
    pending_logins: int = 512
    sessions: int = 4096
    sessions_per_target: int = 4096
    sessions_per_initiator: int = 4096

    def check(self, active: Iterable[Nexus], count: int, nexus: Nexus) -> None:
        """Raises LoginRefused when there is no room for the session of another nexus.

        active   the nexuses that have one, which are looked at only when some limit may be reached
        count    how many they are
        Source: RFC7143 11.13.5
        """
        if count >= self.sessions:
            raise LoginStatus.OUT_OF_RESOURCES.refusal(f"{self.sessions} sessions are open")
        if count < min(self.sessions_per_target, self.sessions_per_initiator):
            return
        target, initiator = nexus.target_port.name, nexus.initiator_port.name
        nexuses = list(active)
        if sum(each.target_port.name == target for each in nexuses) >= self.sessions_per_target:
            raise LoginStatus.OUT_OF_RESOURCES.refusal(f"{self.sessions_per_target} sessions are open with {target}")
        if sum(each.initiator_port.name == initiator for each in nexuses) >= self.sessions_per_initiator:
            raise LoginStatus.OUT_OF_RESOURCES.refusal(f"{initiator} has {self.sessions_per_initiator} sessions open")


DEFAULT_LIMITS = Limits()
