"""Names the two ends of an I_T nexus.

Everything that outlives a session (registrations, attentions, known initiators) is keyed by these names and never by
a session object, so that the same initiator port is the same after a reconnect or a restart.
"""

from typing import NamedTuple


class InitiatorPort(NamedTuple):
    """An iSCSI initiator port.

    name    the initiator's iSCSI name, normalised, at most 223 bytes
    isid    6 bytes
    Source: RFC7143 4.4.2, SPC4r37 7.6.4.6
    """

    name: str
    isid: bytes

    def __str__(self) -> str:
        return f"{self.name},i,0x{self.isid.hex()}"


class TargetPort(NamedTuple):
    """An iSCSI target port.

    name              the target's iSCSI name, normalised, at most 223 bytes
    portal_group_tag  0..65535
    Source: RFC7143 4.4.2, SPC4r37 7.6.4.6
    """

    name: str
    portal_group_tag: int

    def __str__(self) -> str:
        return f"{self.name},t,0x{self.portal_group_tag:04x}"


class Nexus(NamedTuple):
    """The relationship between an initiator port and a target port.

    Source: SAM5r21 3.1.52
    """

    initiator_port: InitiatorPort
    target_port: TargetPort

    def __str__(self) -> str:
        return f"{self.initiator_port} -> {self.target_port}"


# Where the commands of an operator come from, in place of a nexus; no iSCSI name is like these.
OPERATOR = Nexus(InitiatorPort("operator", bytes(6)), TargetPort("operator", 0))
