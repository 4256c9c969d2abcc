"""Has name services tell initiators of the targets that a server has, as long as it serves them.

What is registered follows the configuration and the portals that are listened at. A name service that does not answer
holds nothing up.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from iscsi_target.config.address import Address
from iscsi_target.config.values import Configuration, TargetEntry

if TYPE_CHECKING:  # loaded only when there is a name service
    from iscsi_target.discovery.isns.registrar import Offer, Registrar
    from iscsi_target.discovery.slp.responder import Responder

Portals = Mapping[int, Sequence[Address]]  # portal group tag -> the addresses that initiators are told


class Advertising:
    """The name services of one server.

    tasks    owns the tasks of their drivers
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._registrar: Registrar | None = None
        self._responder: Responder | None = None

    async def prepare(self, configuration: Configuration) -> None:
        """Opens what a configuration wants opened beside what is open.

        raises    ConfigError when that cannot be; nothing has changed then
        """
        if configuration.slp is None:
            return
        if self._responder is None:
            from iscsi_target.discovery.slp.responder import Responder

            self._responder = Responder(self._tasks)
        await self._responder.prepare(configuration.slp)

    def abandon(self, configuration: Configuration) -> None:
        """Closes what was prepared beside what a configuration wants."""
        if self._responder is not None:
            self._responder.keep(() if configuration.slp is None else configuration.slp.listen)

    async def adopt(self, configuration: Configuration, portals: Portals) -> None:
        """Advertises what a prepared configuration has from now on; what is not in it any more is withdrawn."""
        self._answer(configuration, portals)
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

    def _answer(self, configuration: Configuration, portals: Portals) -> None:
        if self._responder is None:
            return
        if configuration.slp is None:
            self._responder.close()
            return
        from iscsi_target.discovery.slp.services import services_of

        self._responder.adopt(configuration.slp, services_of(configuration.targets, _tagged(portals)))

    async def close(self) -> None:
        """Withdraws everything."""
        if self._responder is not None:
            self._responder.close()
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
    return Offer(nodes, tuple(_tagged(portals)))


def _tagged(portals: Portals) -> Iterator[tuple[Address, int]]:
    """Yields each address with the tag of its portal group."""
    return ((address, tag) for tag, addresses in portals.items() for address in addresses)
