"""What is advertised of a target: a URL for each portal, and attributes.

Who may log in is security policy, which must not be told without IPsec; so requests can be narrowed to what an
initiator may use, but the attributes themselves are in no reply.

Source: RFC4018 4
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple
from urllib.parse import quote

from iscsi_target.config.address import Address
from iscsi_target.config.values import WILDCARDS, TargetEntry
from iscsi_target.discovery.slp.strings import Attributes, folded

SERVICE_TYPE: Final = "service:iscsi:target"
ANY_INITIATOR, ANY_ADDRESS, ANY_CREDENTIAL = "iscsi", "any", "any"


class Service(NamedTuple):
    """A target at a portal.

    address         the portal; a wildcard stands for the address at which a request arrives
    attributes      what is told
    searchable      what requests may be narrowed by: these and who may log in, folded
    """

    address: Address
    name: str
    attributes: Attributes
    searchable: Attributes

    def url(self, local_host: str) -> str:
        """Returns the URL for who reaches us at a host.

        Source: RFC4018 4.1
        """
        address = Address(local_host, self.address.port) if self.address.host in WILDCARDS else self.address
        return f"{SERVICE_TYPE}://{address}/{quote(self.name, safe=':-.')}"


def services_of(targets: Iterable[TargetEntry], portals: Iterable[tuple[Address, int]]) -> Iterator[Service]:
    """Yields a service for each target and each portal that leads to it.

    portals    each with the tag of its portal group
    """
    places = list(portals)
    for target in targets:
        for address, tag in places:
            if tag in target.portal_groups:
                told = _attributes(target, tag)
                searchable = {key: tuple(map(folded, values)) for key, values in {**told, **_policy(target)}.items()}
                yield Service(address, target.name, told, searchable)


def _attributes(target: TargetEntry, tag: int) -> Attributes:
    alias = {"alias": (target.alias,)} if target.alias else {}
    return {"iscsi-name": (target.name,), "portal-group": (str(tag),), "transports": ("tcp",), **alias}


def _policy(target: TargetEntry) -> Attributes:
    users = tuple(account.user for account in target.authentication.accounts)
    return {
        "auth-name": (ANY_INITIATOR,) if target.initiators is None else tuple(sorted(target.initiators)),
        "auth-addr": (ANY_ADDRESS,),
        "auth-cred": users or (ANY_CREDENTIAL,),
    }
