"""Judges the tables of a configuration file together and makes the configuration of them.

Here stands what no single table shows: names that are not defined, files and addresses that are used twice. Files of
units are looked at, never opened, created or changed.
"""

import difflib
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from iscsi_target.config import faults, name_services, port_groups, profiles
from iscsi_target.config.address import Address
from iscsi_target.config.lines import dotted, line_of
from iscsi_target.config.secrets import Secrets
from iscsi_target.config.tables import (
    MAX_PORTAL_GROUP_TAG,
    UNIT_NAME,
    AuthenticationTable,
    Document,
    Key,
    LimitsTable,
    Mistake,
    PoolTable,
    PortalGroupTable,
    SessionTable,
    TargetTable,
    UnitTable,
)
from iscsi_target.config.values import (
    DEFAULT_PORTAL_GROUP,
    SERVED,
    WILDCARDS,
    Backing,
    ConfigError,
    ConfigErrors,
    Configuration,
    PoolEntry,
    PortalGroup,
    TargetEntry,
    Unit,
    default_configuration,
    default_state,
)
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.iscsi.standing import OFFLINE, ONLINE, Standing, moved_to
from iscsi_target.scsi.layouts.lun import MAX_LUN
from iscsi_target.target import Limits, Timeouts

NUMBER = re.compile(r"\d{1,9}", re.ASCII)  # of a LUN or tag; longer ones are wrong in any case
MAX_PHYSICAL_BLOCKS = 1 << 15  # logical blocks per physical block; a 4-bit exponent, SBC3r36 5.16.2


class Judged(NamedTuple):
    """What became of a file: its configuration, None when it has mistakes, and a line for each mistake and warning."""

    configuration: Configuration | None
    mistakes: tuple[str, ...]
    warnings: tuple[str, ...]


def judge(path: Path, state: Path | None = None) -> Judged:
    """Reads a configuration file and finds everything that is wrong with it.

    path      the file
    state     the state directory that the command line gives; it goes before the file's
    raises    ConfigError when the file cannot be read or is not TOML
    """
    document = Document(path)
    configuration = _configuration(document, state)
    ordered = sorted((line_of(document.text, mistake.key), mistake) for mistake in document.mistakes)
    mistakes = tuple(_describe(path, line, mistake) for line, mistake in ordered if not mistake.warning)
    warnings = tuple(_describe(path, line, mistake) for line, mistake in ordered if mistake.warning)
    return Judged(None if mistakes else configuration, mistakes, warnings)


def load(path: Path, state: Path | None = None) -> Configuration:
    """Returns the configuration of a file; arguments as for judge.

    raises    ConfigErrors with every mistake, ConfigError as judge
    """
    judged = judge(path, state)
    if judged.configuration is None:
        raise ConfigErrors(str(path), judged.mistakes)
    return judged.configuration


def state_directory(path: Path) -> Path:
    """Returns the state directory of a configuration file, right or wrong as the rest of the file may be.

    A server that was started before a mistake was made in its file is found all the same.

    raises    ConfigError when the file cannot be read, is not TOML, or may name a directory that is not understood
    """
    document = Document(path)
    named = document.state()
    for mistake in document.mistakes if named is None else ():
        if mistake.key == ("state",) or mistake.remedy.endswith("mean state?"):
            where = _place(path, line_of(document.text, mistake.key))
            raise ConfigError(where, f"{dotted(mistake.key)} {mistake.what}", remedy=mistake.remedy)
    return _resolved(path, named)


def _resolved(path: Path, state: str | None) -> Path:
    """Returns the state directory that a file names, or does not name."""
    return path.parent / state if state else default_state()


def _describe(path: Path, line: int, mistake: Mistake) -> str:
    return f"{_place(path, line)}: {dotted(mistake.key)} {mistake.what}; {mistake.remedy}"


def _place(path: Path, line: int) -> str:
    return f"{path}:{line}" if line else str(path)


def _configuration(document: Document, state: Path | None) -> Configuration:
    """Returns the configuration of the tables that are right; what is wrong is in document.mistakes afterwards."""
    named_state = document.state()
    directory = state or _resolved(document.path, named_state)
    session = document.single(SessionTable, "session")
    secrets = Secrets(document)
    tables = document.named(UnitTable, "units")
    units = [_unit(name, table, directory) for name, table in tables.items()]
    targets = document.listed(TargetTable, "targets")
    rules = faults.faults(document)
    mistakes = document.mistakes
    first_hand = len(mistakes)
    configuration = Configuration(
        state=directory,
        portal_groups=tuple(_portal_groups(document)) or default_configuration(directory).portal_groups,
        units=tuple(units),
        targets=tuple(_target(index, table, secrets) for index, table in targets.items()),
        discovery=secrets.authentication(document.single(AuthenticationTable, "discovery"), ("discovery",)),
        preferences=_preferences(session),
        timeouts=_timeouts(session),
        limits=Limits(**document.single(LimitsTable, "limits").model_dump()),
        busy_poll_us=document.busy_poll_us(),
        target_port_groups=port_groups.target_port_groups(document),
        pools=_pools(document),
        isns=name_services.isns(document),
        slp=name_services.slp(document),
        faults=rules,
    )
    mistakes.extend(_session_mistakes(session))
    mistakes.extend(_name_mistakes(document))
    for unit in units:
        mistakes.extend(_one_backing(unit.name, tables[unit.name]))
        mistakes.extend(_unit_mistakes(unit, directory))
        mistakes.extend(_pool_mistakes(unit, document.names("pools")))
    mistakes.extend(_shared_files(units))
    mistakes.extend(_shared_identities(units))
    mistakes.extend(_shared_addresses(configuration.portal_groups))
    mistakes.extend(_useless_advertisements(configuration.portal_groups))
    tags = {int(tag) for tag in document.names("portal_groups") if _is_tag(tag)} or {DEFAULT_PORTAL_GROUP}
    mistakes.extend(port_groups.mistakes(document, configuration.target_port_groups, tags))
    mistakes.extend(_targets_mistakes(targets, document.names("units"), tags))
    if not any(mistake.key[0] == "targets" for mistake in mistakes) and not targets:
        remedy = 'add [[targets]] with name = "iqn...." and luns = { 0 = "disk0" }'
        mistakes.append(Mistake(("targets",), "is missing", remedy))
    mistakes.extend(secrets.reflections())
    mistakes[first_hand:] = [mistake for mistake in mistakes[first_hand:] if not document.doubts(mistake.key)]
    return configuration


def _pools(document: Document) -> tuple[PoolEntry, ...]:
    tables = document.named(PoolTable, "pools")
    return tuple(PoolEntry(name, table.size, table.soft_threshold) for name, table in tables.items())


# Sessions and portal groups


def _preferences(table: SessionTable) -> Preferences:
    recovers = table.error_recovery_level == 2  # below it nothing outlives a connection
    return SERVED._replace(
        header_digest=tuple(table.header_digest),
        data_digest=tuple(table.data_digest),
        max_recv_data_segment_length=table.max_recv_data_segment_length,
        initial_r2t=table.initial_r2t,
        immediate_data=table.immediate_data,
        max_burst_length=table.max_burst_length,
        first_burst_length=table.first_burst_length,
        max_outstanding_r2t=table.max_outstanding_r2t,
        max_connections=table.max_connections,
        error_recovery_level=table.error_recovery_level,
        default_time2wait=table.time2wait if recovers else 0,
        default_time2retain=table.time2retain if recovers else 0,
    )


def _timeouts(table: SessionTable) -> Timeouts:
    return Timeouts(
        login_s=table.login_timeout,
        nop_interval_s=table.nop_interval,
        nop_answer_s=table.nop_timeout,
        data_out_s=table.data_out_timeout,
        logout_s=table.logout_timeout,
    )


def _session_mistakes(table: SessionTable) -> Iterator[Mistake]:
    if table.first_burst_length > table.max_burst_length:
        remedy = "make it at most max_burst_length (RFC7143 13.14)"
        yield Mistake(("session", "first_burst_length"), "is more than max_burst_length", remedy)


def _portal_groups(document: Document) -> Iterator[PortalGroup]:
    for name, table in document.named(PortalGroupTable, "portal_groups").items():
        if _is_tag(name):
            yield PortalGroup(int(name), tuple(table.listen), tuple(table.advertise))


def _is_tag(text: str) -> bool:
    return _is_number(text, MAX_PORTAL_GROUP_TAG) and text == str(int(text))


def _is_number(text: str, most: int) -> bool:
    return NUMBER.fullmatch(text) is not None and int(text) <= most


def _name_mistakes(document: Document) -> Iterator[Mistake]:
    for name in document.names("portal_groups"):
        if not _is_tag(name):
            remedy = f"use a number of 0 to {MAX_PORTAL_GROUP_TAG} without leading zeros"
            yield Mistake(("portal_groups", name), "is not a portal group tag", remedy)
    for key, what in (("units", "unit"), ("pools", "pool")):
        for name in document.names(key):
            if not UNIT_NAME.fullmatch(name):
                remedy = "use at most 64 letters, digits, dots, hyphens and underscores"
                yield Mistake((key, name), f"is not a name for a {what}", remedy)


def _shared_addresses(groups: Iterable[PortalGroup]) -> Iterator[Mistake]:
    """Finds addresses that cannot be bound together: a wildcard takes its port on every address of its family."""
    bound: list[tuple[Address, int]] = []
    for group in groups:
        for address in group.listen:
            for other, tag in bound:
                if address.port and _clash(address, other):
                    what = f"{address} clashes with {other} of portal group {tag}"
                    yield Mistake(("portal_groups", str(group.tag), "listen"), what, "choose another port or drop one")
            bound.append((address, group.tag))


def _useless_advertisements(groups: Iterable[PortalGroup]) -> Iterator[Mistake]:
    for group in groups:
        for address in group.advertise:
            if address.port == 0 or address.host in WILDCARDS:
                what = f"{address} is nothing that an initiator can connect to"
                remedy = "write the address and port that lead here, or leave advertise out"
                yield Mistake(("portal_groups", str(group.tag), "advertise"), what, remedy)


def _clash(one: Address, other: Address) -> bool:
    hosts = {one.host, other.host}
    same_family = (":" in one.host) == (":" in other.host)
    return one.port == other.port and (len(hosts) == 1 or (same_family and bool(hosts & WILDCARDS.keys())))


# Units


def _unit(name: str, table: UnitTable, directory: Path) -> Unit:
    backing = Backing.RAM if table.ram else Backing.DEVICE if table.device else Backing.FILE
    path = table.device or table.file
    return Unit(
        name=name,
        backing=backing,
        path=None if table.ram or path is None else directory / path,
        size_bytes=table.size,
        block_length_bytes=table.block_size,
        physical_block_bytes=max(table.physical_block_size, table.block_size),
        read_only=table.read_only,
        removable=table.removable,
        thin=table.thin,
        unmaps_any_pattern=table.write_same_unmap == "any",
        personality=table.personality,
        vendor=table.vendor,
        product=table.product,
        revision=table.revision,
        serial=table.serial,
        naa=table.naa,
        rotation_rate=table.rotation_rate,
        explicit_alua=table.explicit_alua,
        standby_reads=table.standby_reads,
        compare_and_write=table.compare_and_write,
        write_same=table.write_same,
        sanitize_s=table.sanitize_seconds,
        pool=table.pool,
    )


def _unit_mistakes(unit: Unit, directory: Path) -> Iterator[Mistake]:
    key = ("units", unit.name)
    blocks, rest = divmod(unit.physical_block_bytes, unit.block_length_bytes)
    if rest or blocks & (blocks - 1) or blocks > MAX_PHYSICAL_BLOCKS:
        what = f"is not block_size ({unit.block_length_bytes}) times a power of two"
        yield Mistake((*key, "physical_block_size"), what, "write 4096")
    if unit.size_bytes is not None and unit.size_bytes % unit.block_length_bytes:
        what = f"is not a multiple of block_size ({unit.block_length_bytes})"
        yield Mistake((*key, "size"), what, "round it to whole blocks")
    if unit.backing is Backing.RAM and unit.size_bytes is None:
        yield Mistake((*key, "size"), "is missing", 'a unit in RAM needs one: write size = "64MiB"')
    if unit.path is not None:
        yield from _path_mistakes(unit, key, directory)


def _path_mistakes(unit: Unit, key: Key, directory: Path) -> Iterator[Mistake]:
    assert unit.path is not None
    where = (*key, unit.backing.value)
    try:
        found = unit.path.stat()
    except FileNotFoundError:
        yield from _missing_file_mistakes(unit, key, directory)
    except OSError as error:
        yield Mistake(where, f"{unit.path}: {(error.strerror or str(error)).lower()}", "give the server access to it")
    else:
        if unit.backing is Backing.DEVICE and not stat.S_ISBLK(found.st_mode):
            yield Mistake(where, f"{unit.path} is not a block device", "write file = for a file")
        elif stat.S_ISREG(found.st_mode):
            yield from _size_mistakes(unit, key, found.st_size)
        elif not stat.S_ISBLK(found.st_mode):
            yield Mistake(where, f"{unit.path} is neither a file nor a block device", "name one")


def _size_mistakes(unit: Unit, key: Key, found_bytes: int) -> Iterator[Mistake]:
    if found_bytes < unit.block_length_bytes:
        what = f"{unit.path} has {found_bytes} bytes, which is not one block"
        yield Mistake((*key, unit.backing.value), what, "give it a size with truncate(1)")
        return
    wanted_bytes = found_bytes if unit.size_bytes is None else unit.size_bytes
    what = f"is {wanted_bytes} where {unit.path} has {found_bytes} bytes"
    if wanted_bytes < found_bytes:
        remedy = f"leave it out, or write size = {found_bytes}, or use truncate(1), which loses what is beyond"
        yield Mistake((*key, "size"), what, remedy)
    elif wanted_bytes > found_bytes and unit.read_only:
        yield Mistake((*key, "size"), f"{what}, and read_only forbids to make it longer", "leave it out")


def _missing_file_mistakes(unit: Unit, key: Key, directory: Path) -> Iterator[Mistake]:
    assert unit.path is not None
    where = (*key, unit.backing.value)
    if unit.backing is Backing.DEVICE:
        yield Mistake(where, f"{unit.path} does not exist", "name a block device")
    elif unit.read_only:
        yield Mistake(where, f"{unit.path} does not exist and read_only forbids to create it", "name an image")
    elif unit.size_bytes is None:
        yield Mistake(where, f"{unit.path} does not exist", "name an image, or give a size to create one")
    elif unit.path.parent != directory and not unit.path.parent.is_dir():
        yield Mistake(where, f"{unit.path.parent} is no directory", f"mkdir -p {unit.path.parent}, or correct the path")


def _pool_mistakes(unit: Unit, pools: Collection[str]) -> Iterator[Mistake]:
    where = ("units", unit.name, "pool")
    if unit.pool is None:
        return
    if unit.pool not in pools:
        yield Mistake(where, f"names the pool {unit.pool!r}, which is not defined", _suggest(unit.pool, pools, "pools"))
    if not unit.thin:
        yield Mistake(where, "is of no use with thin = false", "drop one of them")
    if unit.backing is Backing.DEVICE:
        yield Mistake(where, "needs a unit that tells what it has allocated", "use a file, or leave pool out")


def _one_backing(name: str, table: UnitTable) -> Iterator[Mistake]:
    given = [key for key in ("file", "device", "ram") if getattr(table, key)]
    if len(given) != 1:
        what = "has neither file, device nor ram" if not given else f"has {' and '.join(given)}"
        yield Mistake(("units", name), what, "give it exactly one of them")


def _shared_files(units: Iterable[Unit]) -> Iterator[Mistake]:
    users: dict[object, str] = {}
    for unit in units:
        if unit.path is None:
            continue
        found = _file_identity(unit.path)
        if found in users:
            what = f"is the file of unit {users[found]} too"
            yield Mistake(("units", unit.name, unit.backing.value), what, "give each unit a file of its own")
        users.setdefault(found, unit.name)


def _file_identity(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return path.resolve()
    return (found.st_dev, found.st_ino)


def _shared_identities(units: Iterable[Unit]) -> Iterator[Mistake]:
    users: dict[object, str] = {}
    for unit in units:
        for name, found in (("serial", unit.serial), ("naa", unit.naa)):
            if found is not None and users.setdefault(found, unit.name) != unit.name:
                what = f"is that of unit {users[found]} too"
                remedy = "give each unit its own: initiators take two units with one for the same"
                yield Mistake(("units", unit.name, name), what, remedy)


# Targets


def _target(index: int, table: TargetTable, secrets: Secrets) -> TargetEntry:
    return TargetEntry(
        name=table.name,
        luns={int(lun): unit for lun, unit in table.luns.items() if _is_number(lun, MAX_LUN)},
        alias=table.alias,
        portal_groups=tuple(table.portal_groups),
        authentication=secrets.authentication(table, ("targets", index)),
        initiators=None if table.initiators is None else frozenset(table.initiators),
        chosen=profiles.chosen(table),
        standing=_standing(table),
    )


def _standing(table: TargetTable) -> Standing:
    if table.moved_to is None:
        return ONLINE if table.online else OFFLINE
    return moved_to(str(table.moved_to), permanent=table.moved_permanently)


def _standing_mistakes(key: Key, table: TargetTable) -> Iterator[Mistake]:
    if table.moved_to is None:
        if table.moved_permanently:
            yield Mistake((*key, "moved_permanently"), "does not say where to", 'add moved_to = "192.0.2.2:3260"')
        return
    if not table.online:
        yield Mistake(
            (*key, "online"), "is of no use with moved_to, as such a target takes nobody in", "drop one of them"
        )
    if table.moved_to.port == 0 or table.moved_to.host in WILDCARDS:
        what = f"{table.moved_to} is nothing that an initiator can connect to"
        yield Mistake((*key, "moved_to"), what, "write the address and port of the portal that has the target now")


def _targets_mistakes(
    targets: Mapping[int, TargetTable], units: Collection[str], tags: Collection[int]
) -> Iterator[Mistake]:
    for index, table in targets.items():
        yield from _target_mistakes(("targets", index), table, units, tags)
        yield from profiles.mistakes(("targets", index), table)
    yield from _repeated_targets(targets)


def _target_mistakes(key: Key, table: TargetTable, units: Collection[str], tags: Collection[int]) -> Iterator[Mistake]:
    numbers: dict[int, str] = {}
    names: dict[str, str] = {}
    for lun, unit in table.luns.items():
        where = (*key, "luns", lun)
        if not _is_number(lun, MAX_LUN):
            yield Mistake(where, "is not a LUN", f"use a number of 0 to {MAX_LUN}")
        elif numbers.setdefault(int(lun), lun) != lun:
            yield Mistake(where, f"is the same LUN as {numbers[int(lun)]}", "give each unit a LUN of its own")
        if unit not in units:
            yield Mistake(where, f"names the unit {unit!r}, which is not defined", _suggest(unit, units, "units"))
        elif names.setdefault(unit, lun) != lun:
            yield Mistake(where, f"names the unit {unit!r}, which is LUN {names[unit]} already", "drop one of them")
    for tag in table.portal_groups:
        if tag not in tags:
            what = f"names portal group {tag}, which is not defined"
            yield Mistake((*key, "portal_groups"), what, f"define [portal_groups.{tag}] or use one of {sorted(tags)}")
    yield from _standing_mistakes(key, table)
    if len(set(table.portal_groups)) < len(table.portal_groups):
        yield Mistake((*key, "portal_groups"), "names a portal group twice", "drop one of them")


def _suggest(name: str, known: Collection[str], table: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"define [{table}.{name}]"


def _repeated_targets(targets: Mapping[int, TargetTable]) -> Iterator[Mistake]:
    seen: dict[str, int] = {}
    for index, table in targets.items():
        if seen.setdefault(table.name, index) != index:
            what = f"is the name of targets[{seen[table.name]}] too"
            yield Mistake(("targets", index, "name"), what, "give each target a name of its own")
