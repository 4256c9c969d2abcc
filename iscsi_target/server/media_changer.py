"""What an operator does to the medium of a removable unit: look at it, eject it, load it, put in another one.

The file of an ejected medium stays open, and locked, until another one is put in, because an initiator may load it
again too. A medium that was put in stays until the server ends or the unit is opened anew; then the unit has the file
that the configuration names.

One change at a time, and none beside a reload.
"""

import asyncio
import logging
from collections.abc import MutableMapping
from pathlib import Path

from iscsi_target.config.values import ConfigError
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.operations import Flush, MediumError
from iscsi_target.scsi.reservations.reservation_record import Record, nexus_record
from iscsi_target.scsi.state.sanitization import Method
from iscsi_target.server.driver import Driver
from iscsi_target.server.refused import Refused
from iscsi_target.server.units import Home, NewMedium, OpenUnit, open_medium, tell_room
from iscsi_target.storage.faults import StorageError

log = logging.getLogger(__name__)


class MediaChanger:
    """Changes media of the units of one server.

    home       what the units have in common
    driver     tells the machine
    units      the units that are served now, by name; one that gets a medium is replaced here
    changing   is held while a configuration is reloaded
    """

    def __init__(
        self, home: Home, driver: Driver, units: MutableMapping[str, OpenUnit], changing: asyncio.Lock
    ) -> None:
        self._home = home
        self._driver = driver
        self._units = units
        self._changing = changing

    def described(self, name: str) -> Record:
        """Returns what there is to know of a unit's medium at this moment."""
        opened = self._units[name]
        device = opened.device
        return {
            "unit": name,
            "removable": device.features.removable,
            "loaded": device.loaded,
            "stopped": device.stopped,
            "medium": opened.place or "RAM",
            "size_bytes": opened.medium.size_bytes,
            "read_only": device.features.read_only,
            "preventing": [nexus_record(nexus) for nexus in device.preventing],
        }

    async def eject(self, name: str, *, force: bool) -> Record:
        """Ejects the medium, when nothing is under way at it any more and all of it is on stable storage.

        force    True goes on although initiators prevent removal, which ends with it; they are told in any case
        raises   Refused
        Source: SBC3r36 4.9, 5.10
        """
        async with self._changing:
            opened = self._removable(name)
            device = opened.device
            if not device.loaded:
                raise Refused(f"unit {name} has no medium", f"`iscsi-target media load {name}` brings it back")
            if device.preventing:
                prevented = ", ".join(sorted(str(nexus.initiator_port) for nexus in device.preventing))
                opened.logical_unit.nexuses.establish(AttentionCode.OPERATOR_MEDIUM_REMOVAL_REQUEST)
                if not force:
                    what = f"unit {name}: removal is prevented by {prevented}, which is told of the request"
                    raise Refused(what, "try again when it lets go, or use --force")
                log.warning("unit %s: its medium is ejected although removal is prevented by %s", name, prevented)
            self._driver.unload(name)
            await _flush(opened)
            return self.described(name)

    async def load(self, name: str) -> Record:
        """Loads the medium that was ejected last.

        raises   Refused
        Source: SBC3r36 4.9
        """
        async with self._changing:
            opened = self._empty(name)
            opened.logical_unit.load()
            return self.described(name)

    async def insert(self, name: str, file: str) -> Record:
        """Puts the medium in a file, or on a device, into a unit whose medium is ejected, and loads it.

        raises   Refused
        Source: SBC3r36 4.9
        """
        async with self._changing:
            opened = self._empty(name)
            self._driver.unload(name)
            await _flush(opened)
            loop = asyncio.get_running_loop()
            try:
                new = await loop.run_in_executor(self._home.executor, open_medium, opened, Path(file), self._home)
            except (StorageError, ConfigError) as error:
                raise Refused(f"{error.where}: {error.what}", error.remedy) from error
            await self._exchange(name, new)
            return self.described(name)

    async def _exchange(self, name: str, new: NewMedium) -> None:
        opened = self._units[name]
        loop = asyncio.get_running_loop()
        await opened.medium.settled()
        if opened.device.loaded:  # which an initiator may do
            await loop.run_in_executor(self._home.executor, new.backend.close)
            raise Refused(f"unit {name}: an initiator has loaded its medium again", "eject it again")
        former = opened.medium.exchange(new.backend)
        now = self._units[name] = opened.with_medium(new)
        opened.logical_unit.load()
        if self._home.pools is not None:
            tell_room(now, self._home.pools)
        log.info("unit %s: %s is its medium now", name, new.place)
        await loop.run_in_executor(self._home.executor, former.close)

    def _removable(self, name: str) -> OpenUnit:
        opened = self._units.get(name)
        if opened is None:
            raise Refused(f"unit {name} is about to be opened", "try again")
        if not opened.device.features.removable:
            raise Refused(f"the medium of unit {name} is not removable", "configure it with removable = true")
        under_way = opened.device.sanitization
        if under_way is not None:
            done = "formatted" if under_way.method is Method.FORMAT else "sanitized"
            if under_way.failed:
                raise Refused(f"the medium of unit {name} could not be {done}", "let an initiator do it once more")
            raise Refused(f"unit {name} is being {done}", "wait for its end")
        return opened

    def _empty(self, name: str) -> OpenUnit:
        opened = self._removable(name)
        if opened.device.loaded:
            raise Refused(f"unit {name} has a medium", f"`iscsi-target media eject {name}` takes it out")
        return opened


async def _flush(opened: OpenUnit) -> None:
    """Returns when nothing is under way at a medium that is out, and all that was written is on stable storage.

    raises   Refused when that cannot be had
    """
    await opened.medium.settled()
    result = None if opened.medium.read_only else await opened.medium.perform(Flush())
    if isinstance(result, MediumError):
        what = f"unit {opened.configured.name}: its medium is out, but may lack what was written last: {result}"
        raise Refused(what, "check it; to use the unit again, restart the server")
