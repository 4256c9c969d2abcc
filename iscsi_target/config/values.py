"""Says what a server serves, as frozen values; where they come from a file, `tables` reads it and `checks` judges it.

A program that embeds a server builds these values itself, so this module imports nothing that is slow to import. The
default configuration is one sparse unit of 1 GiB on the loopback address: it is what a first try needs, and nobody else
reaches it.
"""

import os
import re
from collections.abc import Mapping
from enum import Enum
from ipaddress import IPv6Address
from pathlib import Path
from typing import NamedTuple

from iscsi_target.config.address import Address
from iscsi_target.faults.rules import Rule
from iscsi_target.iscsi.chap import Authentication
from iscsi_target.iscsi.parameters import (
    FAST_ABORT,
    MAX_CONNECTIONS,
    RESPONSE_FENCE,
    RFC3720,
    SAM_5_LEVEL,
    Preferences,
)
from iscsi_target.iscsi.standing import ONLINE, Standing
from iscsi_target.scsi.profiles import Chosen
from iscsi_target.scsi.state.port_groups import PortGroup
from iscsi_target.target import Limits, Timeouts

DEFAULT_PORT = 3260  # RFC7143 14.1
ISNS_PORT = 3205  # RFC4171 2.9
SLP_PORT = 427  # RFC2608 6.1
DEFAULT_TARGET_NAME = "iqn.2026-11.org.iscsi-target:disk0"
DEFAULT_UNIT = "disk0"
DEFAULT_PERSONALITY = "strict"
DEFAULT_SIZE_BYTES = 1 << 30
DEFAULT_PORTAL_GROUP = 1
MIN_UNIT_BYTES = 512  # one block
MAX_PORT = 65535
MAX_BUSY_POLL_US = 1_000_000  # more would keep a processor busy between one command a second
PORT = re.compile(r"\d{1,5}", re.ASCII)
HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)  # or an IPv4 address
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # all addresses of the host -> one to reach it from itself

# What a server negotiates unless it is told otherwise. Who wants one connection asks for one, and nearly all do.
SERVED = Preferences(
    protocol_level=SAM_5_LEVEL,
    max_connections=MAX_CONNECTIONS,
    task_reporting=(RFC3720, RESPONSE_FENCE, FAST_ABORT),
)


class ConfigError(Exception):
    """Says that a server cannot be started with what it was told.

    where    the file and key, or the option, or the address
    what     what is wrong with it
    remedy   what to do, or empty
    """

    def __init__(self, where: str, what: str, *, remedy: str = "") -> None:
        super().__init__(f"{where}: {what}" + (f"; {remedy}" if remedy else ""))
        self.where = where
        self.what = what
        self.remedy = remedy


class ConfigErrors(ConfigError):
    """Says that a configuration file has mistakes.

    lines    one for each mistake, with its place and a remedy
    """

    def __init__(self, where: str, lines: tuple[str, ...]) -> None:
        super().__init__(where, "\n".join(["cannot be served", *lines]))
        self.lines = lines


class Backing(Enum):
    """What a unit keeps its blocks in."""

    FILE = "file"
    DEVICE = "device"
    RAM = "ram"


class PortalGroup(NamedTuple):
    """A portal group: the addresses that it listens at and those that it tells initiators.

    tag         0..65535
    listen      what is bound; port 0 lets the kernel choose
    advertise   what SendTargets answers instead, for NAT, containers and guests; empty: the addresses listened at
    Source: RFC7143 4.4.1
    """

    tag: int
    listen: tuple[Address, ...]
    advertise: tuple[Address, ...] = ()


class PoolEntry(NamedTuple):
    """A pool: room that several thin units share.

    size_bytes      what all of them together may allocate
    soft_threshold  percent of that, 1..99, of which initiators and operator are told; None: of nothing
    Source: SBC3r36 4.7.3
    """

    name: str
    size_bytes: int
    soft_threshold: int | None = None


class Unit(NamedTuple):
    """A logical unit.

    name                    what the configuration calls it
    backing, path           where the blocks are; path is None for RAM
    size_bytes              of a RAM unit or of a file to be created; None takes what the file or device has
    block_length_bytes      512 or 4096
    physical_block_bytes    block_length_bytes times a power of two
    read_only, removable, thin   as in the device's features
    unmaps_any_pattern      as in the device's features
    personality             the name of the target that it answers like, of scsi.personalities
    vendor, product, revision    for INQUIRY, ASCII of at most 8, 16 and 4 characters; None: the personality's
    serial, naa             None: made once and kept in the state directory
    rotation_rate           1 for non-rotating, else revolutions per minute
    explicit_alua           whether SET TARGET PORT GROUPS may change states, where there are target port groups
    standby_reads           whether what only reads is processed through a target port group in standby
    compare_and_write, write_same   whether the unit has these commands
    sanitize_s              how long a sanitize operation lasts at least, in seconds, so that a laboratory can see it
    pool                    the name of the pool that it allocates from, or None
    Source: SPC4r37 6.6.2, SBC3r36 6.5.2
    """

    name: str
    backing: Backing
    path: Path | None = None
    size_bytes: int | None = None
    block_length_bytes: int = 512
    physical_block_bytes: int = 4096
    read_only: bool = False
    removable: bool = False
    thin: bool = True
    unmaps_any_pattern: bool = False
    personality: str = DEFAULT_PERSONALITY
    vendor: str | None = None
    product: str | None = None
    revision: str | None = None
    serial: str | None = None
    naa: bytes | None = None
    rotation_rate: int = 1
    explicit_alua: bool = True
    standby_reads: bool = False
    compare_and_write: bool = True
    write_same: bool = True
    sanitize_s: float = 0.0
    pool: str | None = None


class TargetEntry(NamedTuple):
    """An iSCSI target node.

    name             its iSCSI name
    luns             LUN -> name of the unit
    portal_groups    tags of the portal groups through which it is reached
    authentication   what an initiator must prove; no accounts: nothing
    initiators       the names that may log in; None: every name
    chosen           how initiators are treated where they disagree
    standing         whether it takes logins in, until the operator orders otherwise
    Source: RFC7143 4.4.1
    """

    name: str
    luns: Mapping[int, str]
    alias: str = ""
    portal_groups: tuple[int, ...] = (DEFAULT_PORTAL_GROUP,)
    authentication: Authentication = Authentication()
    initiators: frozenset[str] | None = None
    chosen: Chosen = Chosen()
    standing: Standing = ONLINE


class TargetPortGroup(NamedTuple):
    """Target ports that are always in the same asymmetric access state.

    number          1..65535
    portal_groups   tags of the portal groups whose ports are in it, of every target
    group           how it is when the server starts
    Source: SPC4r37 5.15.2
    """

    number: int
    portal_groups: tuple[int, ...]
    group: PortGroup = PortGroup()


class StatusTransport(Enum):
    """How an iSNS server tells what it has to tell: entity status inquiries and state change notifications."""

    UDP = "udp"
    TCP = "tcp"
    NONE = "none"


class IsnsEntry(NamedTuple):
    """The iSNS server with which the targets are registered.

    entity                   the identifier of the network entity; empty: the name of the first target
    registration_period_s    how long the server keeps the registration without hearing of this one
    esi_interval_s           how often the server is to look whether this one is there; 0: never
    status_transport         how the server reaches this one, if at all
    status_port              where; 0 lets the kernel choose
    Source: RFC4171 6.2, 6.3
    """

    server: Address
    entity: str = ""
    registration_period_s: int = 300
    esi_interval_s: int = 60
    status_transport: StatusTransport = StatusTransport.UDP
    status_port: int = 0


class FaultEntry(NamedTuple):
    """A rule by which the target misbehaves.

    name    empty for a number
    """

    rule: Rule
    name: str = ""


class SlpEntry(NamedTuple):
    """How targets are advertised by SLP.

    listen        where requests are taken, by UDP and TCP
    scopes        in which they are advertised
    lifetime_s    how long an asker may keep a URL, 1..65535
    multicast     whether requests to all agents are answered
    Source: RFC2608 6.1, 6.4.1
    """

    listen: tuple[Address, ...] = (Address("0.0.0.0", SLP_PORT),)
    scopes: tuple[str, ...] = ("DEFAULT",)
    lifetime_s: int = 10800
    multicast: bool = True


class Configuration(NamedTuple):
    """Everything that a server is told.

    state         directory of the state file and of files with a relative path
    discovery     who may log in for discovery
    preferences   the target's own values of the negotiable keys
    busy_poll_us  how long to ask for more input before sleeping, 0..MAX_BUSY_POLL_US
    target_port_groups   none: access is symmetric; else every portal group is in one of them
    isns, slp     where the targets are registered, and how they are advertised, or None
    """

    state: Path
    portal_groups: tuple[PortalGroup, ...]
    units: tuple[Unit, ...]
    targets: tuple[TargetEntry, ...]
    discovery: Authentication = Authentication()
    preferences: Preferences = SERVED
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    busy_poll_us: int = 0
    target_port_groups: tuple[TargetPortGroup, ...] = ()
    pools: tuple[PoolEntry, ...] = ()
    isns: IsnsEntry | None = None
    slp: SlpEntry | None = None
    faults: tuple[FaultEntry, ...] = ()

    def listening_at(self, *addresses: Address) -> "Configuration":
        """Returns the configuration with other addresses for its first portal group, and no advertised ones."""
        first = PortalGroup(self.portal_groups[0].tag, addresses)
        return self._replace(portal_groups=(first, *self.portal_groups[1:]))


def default_state(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns the directory that systemd or the XDG rules give for state."""
    given = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    home = environment.get("XDG_STATE_HOME") or Path(environment.get("HOME", "~")).expanduser() / ".local" / "state"
    return Path(home) / "iscsi-target"


def default_configuration(state: Path) -> Configuration:
    """Returns what is served without a configuration file: one sparse 1 GiB unit at 127.0.0.1:3260."""
    unit = Unit(DEFAULT_UNIT, Backing.FILE, state / f"{DEFAULT_UNIT}.img", DEFAULT_SIZE_BYTES)
    return _single_unit(state, unit, Address("127.0.0.1", DEFAULT_PORT))


def ram_configuration(state: Path, size_bytes: int) -> Configuration:
    """Returns one unit of size_bytes in RAM at a port of 127.0.0.1 that the kernel chooses.

    raises    ConfigError when size_bytes is not one block
    """
    if size_bytes < MIN_UNIT_BYTES:
        raise ConfigError("ram", f"{size_bytes} bytes are not one block", remedy=f"take {MIN_UNIT_BYTES} or more")
    return _single_unit(state, Unit(DEFAULT_UNIT, Backing.RAM, None, size_bytes), Address("127.0.0.1", 0))


def _single_unit(state: Path, unit: Unit, address: Address) -> Configuration:
    return Configuration(
        state=state,
        portal_groups=(PortalGroup(DEFAULT_PORTAL_GROUP, (address,)),),
        units=(unit,),
        targets=(TargetEntry(DEFAULT_TARGET_NAME, {0: unit.name}),),
    )


def parse_address(text: str, default_port: int = DEFAULT_PORT) -> Address:
    """Reads HOST, HOST:PORT, [IPV6] or [IPV6]:PORT.

    raises    ValueError with what is wrong
    """
    if text.startswith("["):
        host, closing, rest = text[1:].partition("]")
        if not closing or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not [IPV6]:PORT")
        try:
            IPv6Address(host)
        except ValueError as error:
            raise ValueError(f"{text!r} has no IPv6 address in its brackets") from error
    elif text.count(":") > 1:
        raise ValueError(f"{text!r} is an IPv6 address without brackets")
    else:
        host, colon, port = text.partition(":")
        rest = colon + port
        if not HOST_NAME.fullmatch(host):
            raise ValueError(f"{text!r} does not begin with the name or address of a host")
    port_text = rest[1:] if rest else str(default_port)
    if not PORT.fullmatch(port_text) or int(port_text) > MAX_PORT:
        raise ValueError(f"{text!r} is not HOST:PORT with a port of 0 to {MAX_PORT}")
    return Address(host, int(port_text))
