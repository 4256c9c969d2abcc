"""Lets an operator ask a running server: a Unix socket named `control` in the state directory.

Who may open the socket may use it: its mode is 0600. The state directory is locked by the server that uses it, so a
socket that is found there is one that a dead server left, and is replaced. A socket's address has room for 107 bytes
only, so it is bound, and connected to, by way of /proc/self/fd: a path that is short enough for SQLite, which takes
some 500 bytes, is short enough here.

A connection carries one request, a JSON object on a line, and the answer, which is one or more of them; then the server
closes it. An answer that is an error has `error`, what is wrong, and `remedy`, what to do about it. With UNIT the name
of a unit and KEY a reservation key in hexadecimal as a text:

    {"request": "units"}                            {"units": [UNIT, ...]}
    {"request": "reservations", "unit": UNIT}       who is registered and who holds what, on one line
    {"request": "log", "unit": UNIT}                the timeline, an entry a line, and then {"entries": COUNT}
    {"request": "watch", "unit": UNIT}              {"watching": UNIT}, and then every new entry as it comes, until the
                                                    client closes its side; {"left_out": COUNT} where it read too slowly
    {"request": "clear", "unit": UNIT}              what was done: status, the timeline's entry, who was removed,
                                                    and whether the reservation was released
    {"request": "preempt", "unit": UNIT, "key": KEY}             likewise
    {"request": "preempt_and_abort", "unit": UNIT, "key": KEY}   likewise, when all aborted commands are over
    {"request": "paths", "unit": UNIT}              the target port groups that lead to it, and their states
    {"request": "set_path", "unit": UNIT, "group": NUMBER, "state": STATE}   the same, when the change has begun
    {"request": "media", "unit": UNIT}              the medium: what it is, whether it is loaded, who prevents removal
    {"request": "eject", "unit": UNIT}              likewise, of when it is out; an error while removal is prevented
    {"request": "eject_by_force", "unit": UNIT}     likewise, whoever prevents it
    {"request": "load", "unit": UNIT}               likewise, of when it is in again
    {"request": "insert", "unit": UNIT, "file": PATH}            likewise, of the medium with that absolute path
    {"request": "pools"}                            {"pools": [POOL, ...]}: how full each is, and by which units
    {"request": "targets"}                          {"targets": [TARGET, ...]}: how each stands, and its sessions
    {"request": "set_target", "target": NAME, "state": STATE}    likewise; the state is "online" or "offline", or with
                                                    "address": "HOST:PORT" also "moved" or "moved_permanently"
    {"request": "faults"}                           the rules by which the target misbehaves, with their counts
    {"request": "add_fault", "rule": RULE, "name": NAME}         {"added": NAME}; without a name it gets a number
    {"request": "remove_faults", "names": [NAME, ...]}           the rules that are left
    {"request": "clear_faults"}                     likewise: none
    {"request": "watch_faults"}                     as "watch", of every rule that fires

Nobody who connects can hold up the server or make it grow: there is a limit to clients here, and there are those of
`control_wire`. Who watches may read as slowly as he likes: a pager stops at every page.

A bug here must not take the initiators down, so the task of a client catches `Exception`, as the driver's tasks do.
"""

import asyncio
import contextlib
import errno
import logging
import os
import re
import socket
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.reservations.reservation_record import Record
from iscsi_target.scsi.reservations.rules import Rule
from iscsi_target.scsi.state.port_groups import ENTERABLE
from iscsi_target.scsi.state.timeline import Entry, entry_record
from iscsi_target.scsi.status import Status
from iscsi_target.server import fault_desk, targets
from iscsi_target.server.control_wire import MAX_REQUEST_BYTES, Client, Feed, error_line
from iscsi_target.server.driver import Driver
from iscsi_target.server.faults import Faults
from iscsi_target.server.media_changer import MediaChanger
from iscsi_target.server.pools import Pools
from iscsi_target.server.records import groups_record, pool_record, registration_record, reservations_record
from iscsi_target.server.refused import Refused
from iscsi_target.server.targets import Targets
from iscsi_target.server.units import OpenUnit
from iscsi_target.storage.faults import StorageError, refusal
from iscsi_target.target import FaultFired, Order, ReservationNoted

log = logging.getLogger(__name__)

SOCKET_NAME = "control"
MAX_CLIENTS = 16  # at one time; some that watch, and an operator

ORDERS = {
    "clear": OutAction.CLEAR,
    "preempt": OutAction.PREEMPT,
    "preempt_and_abort": OutAction.PREEMPT_AND_ABORT,
}
CHANGES = ("eject", "eject_by_force", "load", "insert")
OF_UNITS = ("reservations", "log", "watch", *ORDERS, "paths", "set_path", "media", *CHANGES)
REQUESTS = ("units", "pools", *OF_UNITS, "targets", "set_target", *fault_desk.REQUESTS, "watch_faults")

_KEY = re.compile(r"(?:0[xX])?([0-9a-fA-F]{1,16})")


class Served(NamedTuple):
    """What can be asked about.

    units     the units that are served now, by name; the server changes it
    opening   the names of units that are between closing and opening; likewise
    changer   changes their media
    pools     of which some of them allocate
    faults    the rules by which the target misbehaves
    targets   how they stand
    """

    units: Mapping[str, OpenUnit]
    opening: Collection[str]
    changer: MediaChanger
    pools: Pools
    faults: Faults
    targets: Targets


class Control:
    """The control socket of one server.

    directory   the state directory, locked by the server
    driver      carries orders out and tells of new entries
    served      what it can be asked about
    tasks       owns the tasks of the clients
    """

    def __init__(
        self,
        directory: Path,
        driver: Driver,
        served: Served,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._directory = directory
        self._driver = driver
        self._units, self._opening, self._changer, self._pools, self._faults, self._targets = served
        self._tasks = tasks
        self._clients: set[asyncio.Task[None]] = set()
        self._descriptor = -1  # of the state directory while the socket is open
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listens.

        raises    StorageError when the directory cannot hold a socket
        """
        try:
            descriptor, bound = await asyncio.to_thread(_bind, self._directory)
            with contextlib.ExitStack() as undo:
                undo.callback(os.close, descriptor)
                undo.callback(bound.close)
                undo.callback(_remove_stale, descriptor)
                self._server = await asyncio.start_unix_server(self._accept, sock=bound, limit=MAX_REQUEST_BYTES)
                undo.pop_all()
        except OSError as error:
            raise _no_socket(self._directory / SOCKET_NAME, error) from error
        self._descriptor = descriptor

    def close(self) -> None:
        """Removes the socket and cuts every client; does nothing when it is not open."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        try:
            os.unlink(SOCKET_NAME, dir_fd=self._descriptor)
        except FileNotFoundError:  # somebody has tidied up
            pass
        except OSError as error:
            log.warning("%s stays: %s", self._directory / SOCKET_NAME, error.strerror)
        os.close(self._descriptor)
        for client in self._clients:
            client.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:
            writer.transport.abort()
        elif len(self._clients) >= MAX_CLIENTS:
            refused = Refused(f"{MAX_CLIENTS} clients are connected", "end one of them, or wait for its order")
            writer.write(error_line(refused))
            writer.close()
        else:
            client = self._tasks.create_task(self._serve(Client(reader, writer)))
            self._clients.add(client)
            client.add_done_callback(self._clients.discard)

    async def _serve(self, client: Client) -> None:
        try:
            await self._answer(client)
        except OSError as error:  # it is gone, or reads nothing
            log.debug("control client cut: %s", error)
        except Exception:
            log.exception("internal error; the control client is cut")
        finally:
            client.cut()

    async def _answer(self, client: Client) -> None:
        try:
            request = await client.request()
            if request is not None:
                await self._carry_out(client, request)
        except Refused as refused:
            await client.refuse(refused)

    async def _carry_out(self, client: Client, request: Record) -> None:
        wanted = request.get("request")
        if wanted == "units":
            await client.send({"units": list(self._units)})
            return
        if wanted == "pools":
            await client.send({"pools": [pool_record(self._pools, name, self._units) for name in self._pools.by_name]})
            return
        if wanted in ("targets", "set_target"):
            await client.send(await targets.carry_out(self._targets, request))
            return
        if wanted == "watch_faults":
            await self._watch_faults(client)
            return
        if wanted in fault_desk.REQUESTS:
            await client.send(fault_desk.carry_out(self._faults, str(wanted), request))
            return
        if wanted not in REQUESTS:
            raise Refused(f"there is no request {wanted!r}", f"ask for one of {', '.join(REQUESTS)}")
        name, opened = self._unit(request)
        if wanted == "reservations":
            await client.send({"unit": name, **reservations_record(opened.device)})
        elif wanted == "log":
            await client.send_entries(opened.logical_unit.timeline)
        elif wanted == "watch":
            await self._watch(client, name)
        elif wanted in ("paths", "set_path"):
            if wanted == "set_path":
                self._set_path(request, name, opened)
            await client.send({"unit": name, "groups": groups_record(opened.device)})
        elif wanted == "media":
            await client.send(self._changer.described(name))
        elif wanted in CHANGES:
            await client.send(await self._change(str(wanted), name, request))
        else:
            key = 0 if wanted == "clear" else _key(request)
            await client.send(await self._order(Order(name, ORDERS[str(wanted)], key), opened))

    async def _change(self, wanted: str, name: str, request: Record) -> Record:
        """Changes the medium of a unit, which goes on to its end when the client leaves meanwhile."""
        if wanted == "load":
            return await self._changer.load(name)
        if wanted == "insert":
            return await self._changer.insert(name, _file(request))
        return await self._changer.eject(name, force=wanted == "eject_by_force")

    def _unit(self, request: Record) -> tuple[str, OpenUnit]:
        name = request.get("unit")
        if isinstance(name, str) and name not in self._units and name in self._opening:
            raise _unopened(name)
        if not isinstance(name, str) or name not in self._units:
            served = ", ".join(self._units) or "none"
            raise Refused(f"there is no unit {name!r}" if name is not None else "no unit is named", f"units: {served}")
        return name, self._units[name]

    async def _watch(self, client: Client, unit: str) -> None:
        feed = Feed[ReservationNoted](lambda event: event.unit == unit, lambda event: entry_record(event.entry))
        self._driver.observers.add(feed.noted)
        try:
            await client.watch(unit, feed)
        finally:
            self._driver.observers.discard(feed.noted)

    async def _watch_faults(self, client: Client) -> None:
        feed = Feed[FaultFired](lambda event: True, FaultFired._asdict)
        self._faults.observers.add(feed.noted)
        try:
            await client.watch("faults", feed)
        finally:
            self._faults.observers.discard(feed.noted)

    def _set_path(self, request: Record, name: str, opened: OpenUnit) -> None:
        if name not in self._driver.media:  # the machine gets it next
            raise _unopened(name)
        number, state = request.get("group"), ENTERABLE.get(str(request.get("state")))
        if type(number) is not int or number not in opened.device.port_groups:
            known = ", ".join(map(str, opened.device.port_groups)) or "none; configure [target_port_groups.NUMBER]"
            raise Refused(f"unit {name} has no target port group {number!r}", f"groups: {known}")
        if state is None:
            raise Refused(f"{request.get('state')!r} is no state", f"take one of {', '.join(ENTERABLE)}")
        log.info("unit %s: the operator makes target port group %d %s", name, number, state)
        self._driver.regroup(name, {number: state})

    async def _order(self, order: Order, opened: OpenUnit) -> Record:
        if order.unit not in self._driver.media:  # the machine gets it next
            raise _unopened(order.unit)
        had = opened.device.reservations
        entry = await self._driver.operate(order)
        has = opened.device.reservations
        if entry.told.status is not Status.GOOD:
            raise _failure(order, entry, lost=has.lost)
        removed = {
            nexus: key
            for nexus, key in had.registrations.items()
            if nexus not in has.registrations and order.key in (0, key)
        }
        return {
            "unit": order.unit,
            "status": entry.told.status.name,
            "entry": entry_record(entry),
            "removed": [registration_record(nexus, key) for nexus, key in removed.items()],
            "released": had.reservation is not None and has.reservation is None,
        }


def _bind(directory: Path) -> tuple[int, socket.socket]:
    """Returns a descriptor of the directory and a socket that is bound in it, for its owner only.

    raises    OSError
    """
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(descriptor)
        bound.bind(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")
        # Nobody can connect before it listens, so it is never open to others.
        os.chmod(SOCKET_NAME, stat.S_IRUSR | stat.S_IWUSR, dir_fd=descriptor)
    except BaseException:
        bound.close()
        os.close(descriptor)
        raise
    return descriptor, bound


def _no_socket(where: Path, error: OSError) -> StorageError:
    if error.errno == errno.EADDRINUSE:
        what = "cannot make the control socket: something that is no socket has its name"
        return StorageError(what, where, "move it away and restart the server")
    return refusal("make the control socket", where, error)


def _remove_stale(descriptor: int) -> None:
    """Removes the socket of a dead server; anything else by its name is not ours and makes bind fail."""
    try:
        found = os.stat(SOCKET_NAME, dir_fd=descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISSOCK(found.st_mode):
        os.unlink(SOCKET_NAME, dir_fd=descriptor)


def _key(request: Record) -> int:
    found = request.get("key")
    match = _KEY.fullmatch(found) if isinstance(found, str) else None
    key = int(match[1], 16) if match else 0
    if not key:
        raise Refused(f"{found!r} is no reservation key", "give 1 to 16 hexadecimal digits that are not all zero")
    return key


def _file(request: Record) -> str:
    found = request.get("file")
    if not isinstance(found, str) or not Path(found).is_absolute() or "\0" in found:
        raise Refused(f"{found!r} is no absolute path", "name the file or device of the medium")
    return found


def _unopened(unit: str) -> Refused:
    return Refused(f"unit {unit} is about to be opened", "try again")


def _failure(order: Order, entry: Entry, *, lost: bool) -> Refused:
    unknown = entry.explanation.rule is Rule.KEY_UNKNOWN
    if unknown and lost:
        what = f"unit {order.unit}: the stored reservations are lost, and nobody knows the keys, so nothing is changed"
        return Refused(what, f"`iscsi-target reservations clear {order.unit}` ends that")
    if unknown:
        what = f"unit {order.unit}: no nexus is registered with the key {order.key:#x}, so nothing is changed"
        return Refused(what, f"`iscsi-target reservations show {order.unit}` lists the keys")
    what = f"unit {order.unit}: {entry.explanation.rule.text}, so nothing is changed"
    return Refused(what, "see what the server's log says about it, and give it again")
