"""Runs a target: opens its units, binds its portals, lets a driver run the machine, reloads, drains and ends.

A server has no global state, so a process may have several, each with a state directory of its own. It installs no
signal handler and prints nothing: that is the command line's business. It enters with the units open and every portal
listening, so that whoever is told "ready" can connect.

A reload changes what it can without touching sessions that have no part in the change. New units are opened and new
portals bound first; when that fails, nothing has changed. A unit whose settings changed is closed before it is opened
again, because its file is locked; initiators see it disappear and come back. Only what it answers like and is called
changes while it is in use.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, TypeVarTuple

from iscsi_target.config.address import Address
from iscsi_target.config.values import WILDCARDS, ConfigError, Configuration, PortalGroup, TargetEntry, Unit
from iscsi_target.scsi.nexus import TargetPort
from iscsi_target.scsi.operations import Flush, MediumError
from iscsi_target.scsi.state.port_groups import AccessState
from iscsi_target.scsi.state.task import UnitState
from iscsi_target.server.advertising import Advertising
from iscsi_target.server.control import Control, Served
from iscsi_target.server.driver import Driver, Settings
from iscsi_target.server.faults import Faults
from iscsi_target.server.listener import Listener, bind
from iscsi_target.server.media_changer import MediaChanger
from iscsi_target.server.paths import all_ports, carried_over, paths_of, regrouped, settled
from iscsi_target.server.pools import Pools
from iscsi_target.server.targets import Targets
from iscsi_target.server.units import (
    Home,
    OpenUnit,
    become,
    can_become,
    open_unit,
    personality_of,
    tell_room,
)
from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.medium import worker_threads
from iscsi_target.storage.state import StateFile
from iscsi_target.target import MisbehavingTarget, Portal, SessionSummary, Setting, TargetNode

if TYPE_CHECKING:
    from iscsi_target.server.systemd import InheritedSocket
    from iscsi_target.server.trace import Trace

log = logging.getLogger(__name__)

STATE_FILE = "state.sqlite"
DRAIN_GRACE_S = 2.0  # on top of logout_s, for tasks that are at their medium

Place = tuple[Address, int]  # a configured address and, for port 0, the portal group it is for
Listeners = dict[Place, Listener]
Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class Server:
    """A target at work, inside `async with`.

    configuration   what to serve
    trace           pcapng file to write what goes over the connections to, or None
    inherited       listening sockets from the service manager; a portal group that gets one for another
                    address than it is configured for binds none itself
    raises          ConfigError, StorageError on entering; nothing is left open then

    faults          the rules by which it misbehaves
    targets         which of them take logins in
    """

    def __init__(
        self, configuration: Configuration, *, trace: Path | None = None, inherited: "Sequence[InheritedSocket]" = ()
    ) -> None:
        self.configuration = configuration
        self._trace_path = trace
        self._inherited = inherited
        self._units: dict[str, OpenUnit] = {}
        self._former: dict[str, OpenUnit] = {}  # closed, and to be opened again as soon as that is possible
        self._opening: set[str] = set()  # names of units that are being opened again
        self._listeners: Listeners = {}
        self._port_identifiers: dict[TargetPort, int] = {}
        self._supplied: set[int] = set()  # tags of portal groups whose addresses the service manager chose
        self._cleanup = AsyncExitStack()
        self._changing = asyncio.Lock()
        self.targets = Targets(self._changing, lambda: self._reconfigure(self.configuration), lambda: self.sessions)

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._cleanup.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._cleanup.aclose()

    # What a program may ask

    @property
    def portals(self) -> tuple[Address, ...]:
        """The addresses that are listened at, with the port that the kernel chose for port 0."""
        return tuple(listener.address for listener in self._listeners.values())

    @property
    def urls(self) -> tuple[str, ...]:
        """The libiscsi URL of every LUN of every target, at the first portal of the target that is listened at."""
        return tuple(
            self._url(portal, entry.name, lun)
            for entry in self.configuration.targets
            for portal in self._portals_of(entry)[:1]
            for lun in sorted(entry.luns)
        )

    def url(self, unit: str) -> str:
        """Returns iscsi://host:port/target/lun of a unit, for libiscsi and QEMU; never holds a secret.

        unit      the unit's name; the first target that has it is taken
        raises    KeyError when no target has the unit, or none that is listened at, as after `drain`
        """
        for entry in self.configuration.targets:
            for portal in self._portals_of(entry)[:1]:
                for lun, name in sorted(entry.luns.items()):
                    if name == unit:
                        return self._url(portal, entry.name, lun)
        raise KeyError(unit)

    @property
    def sessions(self) -> tuple[SessionSummary, ...]:
        """The sessions that are open now."""
        return self._target.sessions()

    def _portals_of(self, entry: TargetEntry) -> list[Address]:
        """Returns the addresses that lead to a target."""
        tags = entry.portal_groups
        return [found.address for found in self._listeners.values() if found.portal_group_tag in tags]

    def _url(self, portal: Address, target: str, lun: int) -> str:
        host = WILDCARDS.get(portal.host, portal.host)
        return f"iscsi://{Address(host, portal.port)}/{target}/{lun}"

    # The start

    async def _start(self) -> None:
        self._executor = worker_threads()
        self._pools = Pools(self._tell_room)
        self._cleanup.callback(self._executor.shutdown)
        trace = await self._open_trace()
        self._state = await self._blocking(StateFile.open, self.configuration.state / STATE_FILE)
        self._cleanup.push_async_callback(self._blocking, self._state.close)
        self._home = Home(self._state, self._executor, self._pools)
        self._cleanup.push_async_callback(self._close_units, self._units)
        self._pools.prepare(self.configuration.pools)
        await self._open_units(self.configuration, self.configuration.units, self._units)
        self._cleanup.callback(self._close_listeners)
        self._listeners = await self._bind(self.configuration, self._inherited)
        self.targets.configure(self.configuration.targets)
        self._target = self._build()
        tasks = await self._cleanup.enter_async_context(asyncio.TaskGroup())
        settings = Settings(self.configuration.busy_poll_us, self.configuration.limits)
        self._driver = Driver(self._target, tasks, self._save, trace, settings)
        self.faults = Faults(self._target, self._driver)
        self.faults.configure(self.configuration.faults)
        self._driver.media.update((name, opened.medium) for name, opened in self._units.items())
        self._driver.input(self._target.elapsed)  # what units have left unfinished goes on
        self._cleanup.callback(self._driver.end)
        self._cleanup.callback(self._close_listeners)
        await self._open_control(tasks)
        for listener in self._listeners.values():
            listener.start()
        self._advertising = Advertising(tasks)
        self._cleanup.push_async_callback(self._advertising.close)
        await self._advertising.prepare(self.configuration)
        await self._advertising.adopt(self.configuration, self._told_addresses(self.configuration))

    async def _open_control(self, tasks: asyncio.TaskGroup) -> None:
        """Opens the control socket; a file system that has no sockets is no reason not to serve."""
        changer = MediaChanger(self._home, self._driver, self._units, self._changing)
        control = Control(
            self.configuration.state,
            self._driver,
            Served(self._units, self._opening, changer, self._pools, self.faults, self.targets),
            tasks,
        )
        self._cleanup.callback(control.close)
        try:
            await control.open()
        except StorageError as error:
            log.error("there is no control socket, so nobody can ask this server: %s", error)

    async def _open_trace(self) -> "Trace | None":
        if self._trace_path is None:
            return None
        from iscsi_target.server.trace import Trace

        trace = await self._blocking(Trace, self._trace_path)
        self._cleanup.push_async_callback(self._blocking, trace.close)
        return trace

    def _build(self) -> MisbehavingTarget:
        return MisbehavingTarget(
            Setting(
                nodes=self._nodes(self.configuration),
                units=[opened.logical_unit for opened in self._units.values()],
                portals=self._portals(self.configuration),
                discovery=self.configuration.discovery,
                preferences=self.configuration.preferences,
                timeouts=self.configuration.timeouts,
                entropy=os.urandom,
                epoch_s=time.time() - asyncio.get_running_loop().time(),
                limits=self.configuration.limits,
            )
        )

    async def _open_units(
        self, configuration: Configuration, units: Iterable[Unit], opened: dict[str, OpenUnit]
    ) -> None:
        """Opens units into a dictionary, which holds those that are open even when a later one fails.

        What is reserved in a unit of which `_former` has the closed one holds on, and so do the states of its paths.
        """
        ports = all_ports(configuration)
        self._port_identifiers.update(await self._blocking(self._state.port_identifiers, ports))
        for unit in units:
            paths = paths_of(configuration, unit.name, self._port_identifiers)
            former = self._former.get(unit.name)
            if former is not None:
                paths = paths._replace(groups=carried_over(paths.groups, former.device.port_groups))
            opened[unit.name] = await self._blocking(open_unit, unit, self._home, paths, former)

    def _tell_room(self, pool: str) -> None:
        for opened in self._units.values():
            if opened.configured.pool == pool:
                tell_room(opened, self._pools)

    async def _bind(self, configuration: Configuration, inherited: "Sequence[InheritedSocket]" = ()) -> Listeners:
        """Returns listeners for all portals that have none yet."""
        bound = self._adopt(configuration.portal_groups, inherited)
        missing = [
            (address, group.tag)
            for group in configuration.portal_groups
            for address in group.listen
            if group.tag not in self._supplied and _place(address, group.tag) not in self._listeners | bound
        ]
        try:
            for address, tag in missing:
                bound[_place(address, tag)] = Listener(await bind(address), tag, self._accept, self._has_room)
        except BaseException:
            for listener in bound.values():
                listener.close()
            raise
        return bound

    def _adopt(self, groups: Sequence[PortalGroup], inherited: "Sequence[InheritedSocket]") -> Listeners:
        """Gives inherited sockets to portal groups, by address, by name, or else to the first."""
        adopted: Listeners = {}
        for name, listening in inherited:
            listener = Listener(listening, groups[0].tag, self._accept, self._has_room)
            listener.inherited = True
            group = _group_of(groups, listener.address, name) or groups[0]
            listener.portal_group_tag = group.tag
            if listener.address not in group.listen:
                self._supplied.add(group.tag)
            adopted[_place(listener.address, group.tag)] = listener
        return adopted

    def _accept(self, accepted: socket.socket, portal_group_tag: int) -> None:
        self._driver.accept(accepted, portal_group_tag)

    def _has_room(self) -> bool:
        return self._driver.has_room()

    async def _save(self, unit: str, state: UnitState) -> None:
        await self._blocking(self._state.save, unit, state)

    async def _blocking(self, call: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call, *arguments)

    # Changes

    async def reload(self, configuration: Configuration) -> None:
        """Serves another configuration from now on; sessions of targets that stay are not dropped.

        raises    ConfigError, StorageError when it cannot be served; the old one is served on then
        """
        async with self._changing:
            self._refuse_restart_only_changes(configuration)
            self.faults.check(configuration.faults)
            for unit in configuration.units:
                personality_of(unit)
            fresh = [unit for unit in configuration.units if unit.name not in self._units]
            opened: dict[str, OpenUnit] = {}
            self._pools.prepare(configuration.pools)
            try:
                await self._open_units(configuration, fresh, opened)
                await self._grow(configuration)
                await self._advertising.prepare(configuration)
                bound = await self._bind(configuration)
            except BaseException:
                self._advertising.abandon(self.configuration)
                await self._close_units(opened)
                self._pools.adopt(self.configuration.pools)
                raise
            self._units.update(opened)
            self._listeners.update(bound)
            await self._switch(configuration, bound)
            await self._advertising.adopt(configuration, self._told_addresses(configuration))

    async def _grow(self, configuration: Configuration) -> None:
        """Makes the media of units longer that stay open; who uses them is told by `_switch`."""
        for unit in configuration.units:
            had = self._units.get(unit.name)
            if had is not None and can_become(had.configured, unit):
                await self._blocking(had.medium.grow, None if had.changed_medium else unit.size_bytes)

    async def _switch(self, configuration: Configuration, bound: Listeners) -> None:
        """Changes over to a configuration whose new units and portals are open."""
        wanted = {unit.name: unit for unit in configuration.units}
        for name, had in list(self._units.items()):
            if name in wanted and can_become(had.configured, wanted[name]):
                self._units[name] = become(had, wanted[name])
        leaving = {name: had for name, had in self._units.items() if had.configured != wanted.get(name)}
        changed = [(had.configured, wanted[name]) for name, had in leaving.items() if name in wanted]
        for name in leaving:
            del self._units[name]
        self._former.update(leaving)
        self._opening.update(old.name for old, _ in changed)
        self._reconfigure(configuration)
        self._close_listeners(except_for=self._retag(configuration))
        for listener in bound.values():
            listener.start()
        for name in leaving:  # what is being saved must be there before the unit is opened again
            await self._driver.saved(name)
        await self._close_units(leaving)
        for old, new in changed:
            await self._reopen(configuration, old, new)
        self._opening.clear()
        self._former = {name: had for name, had in self._former.items() if name in wanted and name not in self._units}
        if changed:
            self._reconfigure(configuration)

    async def _reopen(self, configuration: Configuration, old: Unit, new: Unit) -> None:
        """Opens a unit as it is configured now, or else as it was before, or else leaves it out."""
        for unit in (new, old):
            try:
                await self._open_units(configuration, [unit], self._units)
            except (StorageError, ConfigError) as error:
                log.error("unit %s: %s", unit.name, error)
            else:
                return

    def _reconfigure(self, configuration: Configuration) -> None:
        before, self.configuration = self.configuration, configuration
        self.targets.configure(configuration.targets)
        self.faults.configure(configuration.faults)
        self._pools.adopt(configuration.pools)
        self._driver.limit(configuration.limits)
        moving: dict[str, dict[int, AccessState]] = {}
        for name, opened in (*self._units.items(), *self._former.items()):
            device = opened.device
            had, has = (paths_of(each, name, self._port_identifiers) for each in (before, configuration))
            device.ports = has.ports
            device.port_groups, moving[name] = regrouped(device.port_groups, had.groups, after=has.groups)
        for name, closed in self._former.items():
            closed.device.port_groups = settled(closed.device.port_groups, moving.pop(name))
        self._driver.media = {name: opened.medium for name, opened in self._units.items()}
        self._driver.input(
            self._target.reconfigure,
            self._nodes(configuration),
            [opened.logical_unit for opened in self._units.values()],
            self._portals(configuration),
            configuration.discovery,
        )
        for name, wanted in moving.items():
            if wanted:
                self._driver.regroup(name, wanted)

    def _refuse_restart_only_changes(self, configuration: Configuration) -> None:
        for name in ("state", "preferences", "timeouts", "busy_poll_us"):
            if getattr(configuration, name) != getattr(self.configuration, name):
                key = "session" if name in ("preferences", "timeouts") else name
                raise ConfigError(key, "cannot change while the server runs", remedy="restart it, or undo this change")

    def _retag(self, configuration: Configuration) -> set[Place]:
        """Gives listeners the portal group that their address has now; returns the places that stay."""
        tags = {
            _place(address, group.tag): group.tag for group in configuration.portal_groups for address in group.listen
        }
        known = {group.tag for group in configuration.portal_groups}
        for place, listener in self._listeners.items():
            listener.portal_group_tag = tags.get(place, listener.portal_group_tag)
            if listener.portal_group_tag not in known:
                listener.portal_group_tag = configuration.portal_groups[0].tag
        return {place for place, listener in self._listeners.items() if listener.inherited} | set(tags)

    def _nodes(self, configuration: Configuration) -> list[TargetNode]:
        return [
            TargetNode(
                name=entry.name,
                alias=entry.alias,
                portal_group_tags=entry.portal_groups,
                luns={lun: unit for lun, unit in entry.luns.items() if unit in self._units},
                authentication=entry.authentication,
                initiators=entry.initiators,
                chosen=entry.chosen,
                standing=self.targets.standing(entry),
            )
            for entry in configuration.targets
        ]

    def _portals(self, configuration: Configuration) -> dict[int, list[Portal]]:
        """Returns what each portal group tells initiators; at a wildcard, the port alone."""
        portals: dict[int, list[Portal]] = {}
        for tag, addresses in self._told_addresses(configuration).items():
            texts = (f":{address.port}" if address.host in WILDCARDS else str(address) for address in addresses)
            portals[tag] = [Portal(text) for text in dict.fromkeys(texts)]
        return portals

    def _told_addresses(self, configuration: Configuration) -> dict[int, Sequence[Address]]:
        """Returns the addresses of each portal group that initiators are to use, wildcards among them."""
        return {
            group.tag: group.advertise
            or [found.address for found in self._listeners.values() if found.portal_group_tag == group.tag]
            for group in configuration.portal_groups
        }

    # The end

    async def drain(self) -> None:
        """Accepts no more connections and asks every initiator to log out; returns when none is left.

        Those that do not are cut after the configured time, which is when it returns at the latest.
        """
        self._close_listeners()
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(self.configuration.timeouts.logout_s + DRAIN_GRACE_S),
                asyncio.TaskGroup() as ends,
            ):
                ends.create_task(self._advertising.close())
                await self._driver.drain()

    def _close_listeners(self, except_for: Collection[Place] = ()) -> None:
        for place in [place for place in self._listeners if place not in except_for]:
            self._listeners.pop(place).close()

    async def _close_units(self, units: dict[str, OpenUnit]) -> None:
        """Waits for what the media still do, flushes and closes them, and empties the dictionary."""
        while units:
            name, opened = units.popitem()
            result = None if opened.medium.read_only else await opened.medium.perform(Flush())
            if isinstance(result, MediumError):
                log.error("unit %s: %s while it was closed; check its medium", name, result)
            await opened.medium.close()


def _place(address: Address, tag: int) -> Place:
    return address, -1 if address.port else tag


def _group_of(groups: Sequence[PortalGroup], address: Address, name: str) -> PortalGroup | None:
    """Returns the portal group that lists an address, or whose tag is the name of an inherited socket."""
    for group in groups:
        if address in group.listen or name == str(group.tag):
            return group
    return None
