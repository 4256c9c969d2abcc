"""What a target is told about itself: nodes, their LUNs, portals and time limits; and what discovery says of them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from iscsi_target.iscsi.chap import Authentication
from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.login import LoginTarget
from iscsi_target.iscsi.standing import ONLINE, Standing
from iscsi_target.iscsi.text import Pair
from iscsi_target.scsi.profiles import Chosen

ALL_TARGETS = "All"


class Portal(NamedTuple):
    """A network portal as initiators are told of it.

    address    "host:port" or "[v6]:port"; ":port" stands for the host that the asking initiator connected to
    Source: RFC7143 4.4.1
    """

    address: str


class Timeouts(NamedTuple):
    """How long the target waits, in seconds.

    login_s           from the connection to the end of the login; slow initiators need 15 to 30
    nop_interval_s    without a byte from the initiator before it is pinged
    nop_answer_s      for the answer to a ping
    data_out_s        for all the Data-Out of one task; an ORDERED or HEAD OF QUEUE task holds up others meanwhile
    logout_s          after a request to log out, until the connection is cut
    """

    login_s: float = 30.0
    nop_interval_s: float = 15.0
    nop_answer_s: float = 15.0
    data_out_s: float = 60.0
    logout_s: float = 10.0


class TargetNode(NamedTuple):
    """One iSCSI target.

    name                 its iSCSI name, normalised
    portal_group_tags    the portal groups it is reachable through
    luns                 LUN 0..16383 -> name of the unit
    initiators           the names that may log in, normalised; None lets every initiator in
    chosen               how initiators are treated where they disagree
    standing             whether it takes logins in
    Source: RFC7143 4.4.1
    """

    name: str
    alias: str = ""
    portal_group_tags: tuple[int, ...] = (1,)
    luns: Mapping[int, str] = MappingProxyType({})
    authentication: Authentication = Authentication()
    initiators: frozenset[str] | None = None
    chosen: Chosen = Chosen()
    standing: Standing = ONLINE

    def serves(self, portal_group_tag: int) -> bool:
        """Returns True when sessions through a portal group may go on."""
        return self.standing.admits and portal_group_tag in self.portal_group_tags

    @property
    def login_target(self) -> LoginTarget:
        """Returns what a login has to know of it."""
        tags = frozenset(self.portal_group_tags)
        return LoginTarget(self.name, self.alias, tags, self.authentication, self.initiators, self.standing)


def send_targets(
    nodes: Mapping[str, TargetNode],
    portals: Mapping[int, Sequence[Portal]],
    connection: Connection,
    name: str,
) -> list[Pair]:
    """Answers SendTargets: each target with one address a portal, nothing for a name that is unknown.

    A normal session may ask for All too, which the standard keeps to discovery sessions: libiscsi's
    iSCSISendTargets.Simple (1.20) wants an answer there.

    name    "All", or the name of one target
    Source: RFC7143 Appendix C
    """
    if name != ALL_TARGETS and name.lower() not in nodes:
        return []
    pairs: list[Pair] = []
    for node in nodes.values() if name == ALL_TARGETS else [nodes[name.lower()]]:
        pairs.append(("TargetName", node.name))
        for tag in node.portal_group_tags:
            addresses = dict.fromkeys(_told(portal, connection) for portal in portals.get(tag, ()))
            pairs += [("TargetAddress", f"{address},{tag}") for address in addresses]
    return pairs


def _told(portal: Portal, connection: Connection) -> str:
    """Returns a portal's address as an initiator on this connection can use it."""
    if not portal.address.startswith(":"):
        return portal.address
    host, _, _ = connection.local_address.rpartition(":")
    return host + portal.address
