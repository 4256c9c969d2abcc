"""Reads a configuration file and reports every mistake in it at once, each with its place and a remedy.

The tables of the file are pydantic models, which find wrong types, unknown keys and wrong values. Each unit, portal
group and target is judged on its own, so that a mistake in one does not hide those in the others; `checks` then
judges what only shows when they are seen together. Values come out as `config` declares them.
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from iscsi_target.config.address import Address
from iscsi_target.config.values import (
    DEFAULT_PERSONALITY,
    DEFAULT_PORTAL_GROUP,
    MAX_BUSY_POLL_US,
    ConfigError,
    parse_address,
)
from iscsi_target.iscsi.parameters import MAX_CONNECTIONS
from iscsi_target.scsi.profiles import DEFAULT_PROFILE, PROFILES
from iscsi_target.scsi.reservations.personalities import PERSONALITIES
from iscsi_target.target import Limits
from iscsi_target.wire.names import InadmissibleValue, iscsi_name

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MAX_FILE_BYTES = 4 << 20  # of a configuration; more is a wrong file
MAX_SIZE_BYTES = (1 << 63) - 1  # what a file offset can say
MAX_PORTAL_GROUP_TAG = 65535  # RFC7143 13.9
MAX_SEGMENT_BYTES = (1 << 24) - 1  # RFC7143 13.12, 13.13, 13.14
MIN_SEGMENT_BYTES = 512
MAX_OPEN = 30_000  # sessions or connections: each may need one of the 65535 session handles (TSIH)
POWERS = {"K": 10, "M": 20, "G": 30, "T": 40, "P": 50}

SIZE = re.compile(r"\s*(\d{1,19})\s*(?:([KMGTP])iB|B)?\s*", re.ASCII)
NODE_NAME = re.compile(r"iqn\.\d{4}-(?:0[1-9]|1[0-2])\.[^:.]+(?:\.[^:.]+)*(?::.+)?|eui\..+|naa\..+", re.ASCII)
UNIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAA_DIGITS = {"2": 16, "3": 16, "5": 16, "6": 32}  # NAA -> length; SPC4r37 7.8.6.6

# What to do about a value that has a wrong type or range, by key
REMEDIES: Mapping[str, str] = {
    "listen": 'write listen = ["0.0.0.0:3260"]',
    "advertise": 'write advertise = ["192.0.2.1:3260"]',
    "name": 'write name = "iqn.2026-11.org.example:disk0"',
    "luns": 'write luns = { 0 = "disk0" }',
    "portal_groups": "write portal_groups = [1]",
    "moved_to": 'write moved_to = "192.0.2.2:3260"',
    "chap": 'write chap = [{ user = "u", secret_file = "u.secret" }]',
    "mutual_chap": 'write mutual_chap = { user = "target", secret_file = "target.secret" }',
    "file": 'write file = "disk0.img"',
    "device": 'write device = "/dev/sdb"',
    "size": 'write bytes, or a text such as "512MiB" or "1GiB"',
    "block_size": "write 512 or 4096",
    "max_connections": f"write a number of 1 to {MAX_CONNECTIONS}",
    "error_recovery_level": "write 0, 1 or 2",
    "time2wait": "write seconds, 0 to 3600",
    "time2retain": "write seconds, 0 to 3600",
    "max_outstanding_r2t": "write a number of 1 to 16",
    "soft_threshold": "write percent of the size, 1 to 99",
    "rule": 'write rule = "on scsi-command where opcode=WRITE(10), nth=3: delay 2s"',
    "pool": 'write pool = "pool0", and define [pools.pool0]',
    "personality": f"write one of {', '.join(PERSONALITIES)}",
    "profile": f"write one of {', '.join(PROFILES)}; see `iscsi-target profiles`",
    "profiles": 'write profiles = { "iqn.1998-01.com.vmware:*" = "esxi" }',
}

# pydantic's type of an error -> what is wrong, and what to do when REMEDIES knows nothing better
PHRASES: Mapping[str, tuple[str, str]] = {
    "bool_type": ("is neither true nor false", "write true or false, without quotes"),
    "int_type": ("is not a whole number", "write digits, without quotes"),
    "float_type": ("is not a number", "write digits, without quotes"),
    "string_type": ("is not a text", "put it into quotes"),
    "list_type": ("is not an array", "put it into [ ]"),
    "dict_type": ("is not a table", "put it into {{ }}"),
    "string_too_long": ("has more than {max_length} characters", "shorten it"),
    "string_too_short": ("is empty", "write a text, or leave the key out"),
    "string_pattern_mismatch": ("has a character that is not printable ASCII", "replace it"),
    "too_short": ("is empty", "write a value, or leave the key out"),
    "greater_than": ("is not more than {gt}", "write more than {gt}"),
    "greater_than_equal": ("is less than {ge}", "write {ge} or more"),
    "less_than_equal": ("is more than {le}", "write {le} or less"),
    "literal_error": ("is not {expected}", "write {expected}"),
}

Key = tuple[str | int, ...]


class Mistake(NamedTuple):
    """Something wrong in a configuration file.

    key       where: table and key names, and positions in arrays
    what      what is wrong
    remedy    what to do
    warning   True when the file can be used all the same
    """

    key: Key
    what: str
    remedy: str
    warning: bool = False


class Wrong(ValueError):
    """Says what is wrong with a value, and the remedy."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


def _size(found: object) -> object:
    if not isinstance(found, str):
        return found
    match = SIZE.fullmatch(found)
    if match is None:
        raise Wrong(f"{found!r} is not a size", REMEDIES["size"])
    return int(match[1]) << POWERS.get(match[2], 0)


def _address(found: object) -> object:
    if not isinstance(found, str):
        raise Wrong(f"{found!r} is not the text of an address", 'write "192.0.2.2:3260"')
    try:
        return parse_address(found)
    except ValueError as error:
        raise Wrong(str(error), 'write "192.0.2.1:3260" or "[2001:db8::1]:3260"') from error


def _iscsi_name(found: object) -> object:
    if not isinstance(found, str):
        return found
    try:
        name = iscsi_name(found)
    except InadmissibleValue as error:
        raise Wrong(f"{found!r} is {error}", REMEDIES["name"]) from error
    if not NODE_NAME.fullmatch(name):
        raise Wrong(f"{found!r} is not iqn.YYYY-MM. and a reversed domain name", REMEDIES["name"])
    return name


def _path(found: object) -> object:
    if isinstance(found, str) and "\0" in found:
        raise Wrong("has a NUL character", "write the name of a file")
    return found


def _naa(found: object) -> object:
    if not isinstance(found, str):
        return found
    digits = found.lower().removeprefix("naa.").removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]+", digits) or len(digits) != NAA_DIGITS.get(digits[:1]):
        raise Wrong(f"{found!r} is no NAA identifier", "write 16 hex digits that begin with 2, 3 or 5, or 32 with 6")
    return bytes.fromhex(digits)


def _personality(found: object) -> object:
    return _one_of(found, PERSONALITIES, "personality")


def _profile(found: object) -> object:
    return _one_of(found, PROFILES, "profile")


def _one_of(found: object, known: Collection[str], what: str) -> object:
    if not isinstance(found, str) or found in known:
        return found
    close = difflib.get_close_matches(found.lower(), known, n=1)
    raise Wrong(f"{found!r} is no {what}", f"did you mean {close[0]}?" if close else REMEDIES[what])


Size = Annotated[int, BeforeValidator(_size), Field(gt=0, le=MAX_SIZE_BYTES)]
PathText = Annotated[str, BeforeValidator(_path), Field(min_length=1)]
PortalAddress = Annotated[Address, BeforeValidator(_address)]
IscsiName = Annotated[str, BeforeValidator(_iscsi_name)]
PersonalityName = Annotated[str, BeforeValidator(_personality)]
ProfileName = Annotated[str, BeforeValidator(_profile)]
Naa = Annotated[bytes, BeforeValidator(_naa)]
SegmentLength = Annotated[int, BeforeValidator(_size), Field(ge=MIN_SEGMENT_BYTES, le=MAX_SEGMENT_BYTES)]
Count = Annotated[int, Field(gt=0, le=MAX_OPEN)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
ASCII = r"^[ -~]*$"


class Table(BaseModel):
    """A table of the file: no unknown keys, and no guessing at types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


class PortalGroupTable(Table):
    """`[portal_groups.TAG]`."""

    listen: list[PortalAddress] = Field(min_length=1)
    advertise: list[PortalAddress] = []


class PoolTable(Table):
    """`[pools.NAME]`."""

    size: Size
    soft_threshold: int | None = Field(default=None, ge=1, le=99)


class UnitTable(Table):
    """`[units.NAME]`."""

    file: PathText | None = None
    device: PathText | None = None
    ram: bool = False
    size: Size | None = None
    block_size: Literal[512, 4096] = 512
    physical_block_size: Size = 4096
    read_only: bool = False
    removable: bool = False
    thin: bool = True
    write_same_unmap: Literal["zeros", "any"] = "zeros"
    personality: PersonalityName = DEFAULT_PERSONALITY
    vendor: str | None = Field(default=None, max_length=8, pattern=ASCII)
    product: str | None = Field(default=None, max_length=16, pattern=ASCII)
    revision: str | None = Field(default=None, max_length=4, pattern=ASCII)
    serial: str | None = Field(default=None, min_length=1, max_length=252, pattern=ASCII)
    naa: Naa | None = None
    rotation_rate: int = Field(default=1, ge=0, le=0xFFFE)
    explicit_alua: bool = True
    standby_reads: bool = False
    compare_and_write: bool = True
    write_same: bool = True
    sanitize_seconds: float = Field(default=0.0, ge=0, le=86400)
    pool: str | None = None


class AccountTable(Table):
    """A CHAP user and the secret, or the file that holds it."""

    user: str = Field(min_length=1, max_length=255)
    secret: str | None = None
    secret_file: PathText | None = None


class AuthenticationTable(Table):
    """`chap` and `mutual_chap`, the same for discovery and for each target."""

    chap: list[AccountTable] = []
    mutual_chap: AccountTable | None = None


class TargetTable(AuthenticationTable):
    """`[[targets]]`."""

    name: IscsiName
    alias: str = Field(default="", max_length=255)
    portal_groups: list[int] = Field(default=[DEFAULT_PORTAL_GROUP], min_length=1)
    luns: dict[str, str] = {}
    initiators: list[IscsiName] | None = None
    profile: ProfileName = DEFAULT_PROFILE
    profiles: dict[str, ProfileName] = {}
    abort_of_finished_task: Literal["does-not-exist", "complete"] | None = None
    wrong_direction: Literal["tolerated", "refused"] | None = None
    online: bool = True
    moved_to: PortalAddress | None = None
    moved_permanently: bool = False


class LimitsTable(Table):
    """`[limits]`: how much initiators may have open at a time."""

    connections: Count = Limits().connections
    connections_per_address: Count = Limits().connections_per_address
    pending_logins: Count = Limits().pending_logins
    sessions: Count = Limits().sessions
    sessions_per_target: Count = Limits().sessions_per_target
    sessions_per_initiator: Count = Limits().sessions_per_initiator


class SessionTable(Table):
    """`[session]`: the target's own side of the negotiation, and how long it waits.

    Source: RFC7143 13
    """

    header_digest: list[Literal["None", "CRC32C"]] = Field(default=["None", "CRC32C"], min_length=1)
    data_digest: list[Literal["None", "CRC32C"]] = Field(default=["None", "CRC32C"], min_length=1)
    max_recv_data_segment_length: SegmentLength = 262144
    max_burst_length: SegmentLength = 1048576
    first_burst_length: SegmentLength = 262144
    initial_r2t: bool = False
    immediate_data: bool = True
    max_outstanding_r2t: int = Field(default=16, ge=1, le=16)
    error_recovery_level: int = Field(default=0, ge=0, le=2)
    time2wait: int = Field(default=0, ge=0, le=3600)
    time2retain: int = Field(default=20, ge=0, le=3600)
    max_connections: int = Field(default=MAX_CONNECTIONS, ge=1, le=MAX_CONNECTIONS)
    login_timeout: Seconds = 30.0
    nop_interval: Seconds = 15.0
    nop_timeout: Seconds = 15.0
    data_out_timeout: Seconds = 60.0
    logout_timeout: Seconds = 10.0


KEYS: Mapping[str, str] = {
    "state": 'write state = "/var/lib/iscsi-target"',
    "pools": "write [pools.NAME]",
    "units": "write [units.NAME]",
    "portal_groups": "write [portal_groups.TAG]",
    "target_port_groups": "write [target_port_groups.NUMBER]",
    "targets": "write [[targets]]",
    "discovery": "write [discovery]",
    "session": "write [session]",
    "limits": "write [limits]",
    "isns": "write [isns]",
    "slp": "write [slp]",
    "faults": "write [[faults]]",
    "busy_poll_us": f"write busy_poll_us = 50, or another number from 0 (off) to {MAX_BUSY_POLL_US}",
}
Kind = TypeVar("Kind", bound=Table)


class Document:
    """The tables of a file, each judged on its own; what is wrong is collected in `mistakes`.

    path, text     the file
    mistakes       grows while tables are asked for
    raises         ConfigError when the file cannot be read or is not TOML
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = _read(path)
        self.mistakes: list[Mistake] = []
        self._doubtful: list[Key] = []  # what is left out of tables that are used although something in them is wrong
        try:
            self._tables: Mapping[str, object] = tomllib.loads(self.text)
        except (ValueError, RecursionError) as error:  # numbers of thousands of digits and deep nesting, too
            raise ConfigError(str(path), f"is not TOML: {error}", remedy="see https://toml.io") from error
        for key in self._tables:
            if key not in KEYS:
                self.mistakes.append(_unknown((key,), KEYS))

    def state(self) -> str | None:
        """Returns the state directory that the file names, or None."""
        found = self._tables.get("state")
        if found is None or (isinstance(found, str) and found and "\0" not in found):
            return found
        self.mistakes.append(Mistake(("state",), "is not the name of a directory", KEYS["state"]))
        return None

    def busy_poll_us(self) -> int:
        """Returns how long to ask for more input before sleeping; 0 when the file does not say or says it wrongly."""
        found = self._tables.get("busy_poll_us", 0)
        if isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= MAX_BUSY_POLL_US:
            return found
        self.mistakes.append(Mistake(("busy_poll_us",), "is not a number of microseconds", KEYS["busy_poll_us"]))
        return 0

    def names(self, key: str) -> frozenset[str]:
        """Returns the names of the tables under a key, right or wrong."""
        found = self._tables.get(key)
        return frozenset(found) if isinstance(found, dict) else frozenset()

    def single(self, kind: type[Kind], key: str) -> Kind:
        """Returns the table of a key; its defaults when there is none or it is wrong."""
        return self._judge(kind, (key,), self._tables.get(key, {})) or kind()

    def optional(self, kind: type[Kind], key: str) -> Kind | None:
        """Returns the table of a key; None when there is none or it is wrong."""
        return self._judge(kind, (key,), self._tables[key]) if key in self._tables else None

    def named(self, kind: type[Kind], key: str) -> dict[str, Kind]:
        """Returns the tables under a key that are right, by name."""
        found = self._tables.get(key, {})
        if not isinstance(found, dict):
            self.mistakes.append(Mistake((key,), "is not a table of tables", KEYS[key]))
            return {}
        judged = {name: self._judge(kind, (key, name), table) for name, table in found.items()}
        return {name: table for name, table in judged.items() if table is not None}

    def listed(self, kind: type[Kind], key: str) -> dict[int, Kind]:
        """Returns the tables of an array, by position, without what is wrong in them."""
        found = self._tables.get(key, [])
        if not isinstance(found, list):
            self.mistakes.append(Mistake((key,), "is not an array of tables", KEYS[key]))
            return {}
        judged = {index: self._salvage(kind, (key, index), table) for index, table in enumerate(found)}
        return {index: table for index, table in judged.items() if table is not None}

    def doubts(self, key: Key) -> bool:
        """Says whether a mistake at a key may only follow from what was left out."""
        return any(key[: len(out)] == out or out[: len(key)] == key for out in self._doubtful)

    def _salvage(self, kind: type[Kind], key: Key, table: object) -> Kind | None:
        """Returns a table without what is wrong in it, so that the rest can be compared with the other tables."""
        before = len(self.mistakes)
        judged = self._judge(kind, key, table)
        if judged is not None or not isinstance(table, dict):
            return judged
        wrong = [mistake.key for mistake in self.mistakes[before:]]
        self._doubtful += wrong
        try:
            return kind.model_validate(_without(table, [at[len(key) :] for at in wrong]))
        except ValidationError:
            return None

    def _judge(self, kind: type[Kind], key: Key, table: object) -> Kind | None:
        try:
            return kind.model_validate(table)
        except ValidationError as invalid:
            self.mistakes.extend(_mistake(kind, key, error) for error in invalid.errors(include_url=False))
            return None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(str(path), (error.strerror or str(error)).lower(), remedy="name a readable file") from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(str(path), "is too long for a configuration", remedy="name the right file")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), f"is not UTF-8: {error}", remedy="save it as UTF-8") from error


def _without(table: Mapping[str, object], places: Iterable[Key]) -> dict[str, object]:
    """Returns a table without some of its entries; a place in an array takes the whole array's key with it."""
    kept = dict(table)
    for name, *deeper in places:
        inner = kept.get(str(name))
        if deeper and isinstance(inner, dict):
            kept[str(name)] = _without(inner, [tuple(deeper)])
        else:
            kept.pop(str(name), None)
    return kept


def _mistake(kind: type[Table], key: Key, error: "ErrorDetails") -> Mistake:
    """Puts what pydantic found into words."""
    where = key + error["loc"]
    context = error.get("ctx", {})
    wrong = context.get("error")
    name = str(where[-1])
    match error["type"]:
        case "value_error" if isinstance(wrong, Wrong):
            return Mistake(where, wrong.what, wrong.remedy)
        case "extra_forbidden":
            return _unknown(where, _fields(kind, error["loc"]))
        case "missing":
            return Mistake(where, "is missing", REMEDIES.get(name, f"add {name} ="))
        case "model_type":
            return Mistake(where, "is not a table", "write it as a table")
    what, remedy = PHRASES.get(error["type"], (error["msg"], f"correct {name}"))
    limits = {limit: str(value).removesuffix(".0") for limit, value in context.items()}
    return Mistake(where, what.format_map(limits), REMEDIES.get(name, remedy.format_map(limits)))


def _fields(kind: type[Table], location: Key) -> Iterable[str]:
    """Returns the keys that the table at a location may have."""
    return AccountTable.model_fields if {"chap", "mutual_chap"} & set(location) else kind.model_fields


def _unknown(key: Key, known: Iterable[str]) -> Mistake:
    close = difflib.get_close_matches(str(key[-1]), known, n=1)
    remedy = f"did you mean {close[0]}?" if close else f"the keys here are {', '.join(sorted(known))}"
    return Mistake(key, "is unknown", remedy)
