"""Has name services tell initiators of the targets that a server has, as long as it serves them.

What is registered follows the configuration and the portals that are listened at. A name service that does not answer
holds nothing up.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from iscsi_target.config.address import Address
from iscsi_target.config.values import Configuration, TargetEntry

if TYPE_CHECKING:  # loaded only when there is a name service
    from iscsi_target.discovery.isns.registrar import Offer, Registrar

Portals = Mapping[int, Sequence[Address]]  # portal group tag -> the addresses that initiators are told


class Advertising:
    """The name services of one server.

    tasks    owns the tasks of their drivers
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._registrar: Registrar | None = None

    async def adopt(self, configuration: Configuration, portals: Portals) -> None:
        """Advertises what a configuration has from now on; what is not in it any more is withdrawn."""
        entry = configuration.isns
        if self._registrar is not None and self._registrar.entry != entry:
            await self._registrar.close()
            self._registrar = None
        if entry is None:
            return
        from iscsi_target.discovery.isns.registrar import Registrar

        if self._registrar is None:
            self._registrar = Registrar(entry, self._tasks)
        self._registrar.want(_offer(configuration.targets, portals))

    async def close(self) -> None:
        """Withdraws everything."""
        registrar, self._registrar = self._registrar, None
        if registrar is not None:
            await registrar.close()


def _offer(targets: Sequence[TargetEntry], portals: Portals) -> "Offer":
    from iscsi_target.discovery.isns.description import NodeEntry
    from iscsi_target.discovery.isns.registrar import Offer

    nodes = tuple(
        NodeEntry(entry.name, entry.alias, entry.portal_groups, "CHAP" if entry.authentication.required else "None")
        for entry in targets
    )
    return Offer(nodes, tuple((address, tag) for tag, addresses in portals.items() for address in addresses))
