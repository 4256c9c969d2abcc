"""The state file: what of a server's logical units outlives the process, in one SQLite database.

It holds who a unit is (serial number, NAA identifier), what initiators have saved in it, and the relative identifiers
of target ports. A change is one transaction and is on stable storage when the call returns (write-ahead log,
synchronous=FULL).

The NAA identifier is of type 3h, locally assigned, with 60 random bits. Types 5h and 6h begin with the IEEE
company identifier of an organisation; this project has none, and a borrowed one would claim to be somebody
else's device.

Persistent reservations are a text (JSON) with a checksum over it and the name of its unit. A text that is not what was
saved is never believed, not even in part: the unit then has lost its reservations, and says so until they are
replaced. A sanitize operation that has not ended is kept in the same way, and a damaged one has failed. What no
checksum covers, such as a row that is not there any more, shows when the database is opened: every table that counts
here is also in an index, and the two are compared.

A new kind of state is a step appended to `_STEPS` and a pair of functions beside `_replace_mode_pages` and
`_mode_pages`, called in the same transaction; nothing saves in parts.
"""

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from iscsi_target.scsi.nexus import TargetPort
from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.reservations.reservation_record import from_record, to_record
from iscsi_target.scsi.reservations.reservations import Reservations
from iscsi_target.scsi.state import sanitization
from iscsi_target.scsi.state.task import UnitState
from iscsi_target.storage import host
from iscsi_target.storage.faults import StorageError, refusal
from iscsi_target.wire.crc32c import crc32c

APPLICATION_ID = 0x69534373  # "iSCs", what file(1) and this module know the database by
SERIAL_LENGTH = 16
SERIAL_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # without I, L, O and U, which are misread
NAA_LENGTH_BYTES = 8
MAX_PORT_IDENTIFIER = 65535  # SPC4r37 7.8.6.8
BUSY_TIMEOUT_S = 5.0  # for an operator who looks into the database with a tool

# Step n brings a database from user_version n to n + 1. Steps are appended, never changed.
# ESXi and Hyper-V tell units apart by the first 8 characters of the serial number, hence the second index.
_STEPS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE unit (name TEXT PRIMARY KEY NOT NULL, serial TEXT NOT NULL, naa BLOB NOT NULL UNIQUE)",
        "CREATE UNIQUE INDEX unit_serial ON unit (substr(serial, 1, 8))",
        "CREATE TABLE mode_page (unit TEXT NOT NULL REFERENCES unit (name), page INTEGER NOT NULL,"
        " subpage INTEGER NOT NULL, contents BLOB NOT NULL, PRIMARY KEY (unit, page, subpage))",
    ),
    (
        "CREATE TABLE reservations (unit TEXT PRIMARY KEY NOT NULL REFERENCES unit (name), record TEXT NOT NULL,"
        " checksum INTEGER NOT NULL)",
        "CREATE TABLE target_port (target TEXT NOT NULL, portal_group_tag INTEGER NOT NULL,"
        f" identifier INTEGER NOT NULL UNIQUE CHECK (identifier BETWEEN 1 AND {MAX_PORT_IDENTIFIER}),"
        " PRIMARY KEY (target, portal_group_tag))",
    ),
    (
        "CREATE TABLE sanitization (unit TEXT PRIMARY KEY NOT NULL REFERENCES unit (name), record TEXT NOT NULL,"
        " checksum INTEGER NOT NULL)",
    ),
    (
        "CREATE TABLE identifying_information (unit TEXT NOT NULL REFERENCES unit (name), type INTEGER NOT NULL,"
        " contents BLOB NOT NULL, PRIMARY KEY (unit, type))",
    ),
)

_FAULTS = {sqlite3.SQLITE_FULL: Fault.NO_SPACE, sqlite3.SQLITE_READONLY: Fault.READ_ONLY}


class StoredIdentity(NamedTuple):
    """Who a logical unit is, the same for ever.

    serial   SERIAL_LENGTH characters; the first 8 differ from those of every other unit
    naa      NAA_LENGTH_BYTES bytes, type 3h
    Source: SPC4r37 7.8.6.6.3, 7.8.18
    """

    serial: str
    naa: bytes


class StateFile:
    """The open state file; any thread may call it, one is served at a time, every call may block."""

    def __init__(self, where: Path, database: sqlite3.Connection, lock_descriptor: int) -> None:
        self._where = where
        self._database = database
        self._lock_descriptor = lock_descriptor
        self._calls = threading.Lock()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "StateFile":
        """Opens the state file and locks its directory against other servers; creates both when missing.

        path     the database file; the directory that holds it is the state directory
        raises   StorageError when the directory is in use or not accessible, the file corrupt, newer, foreign
        """
        where = Path(os.path.realpath(path))
        directory = where.parent
        try:
            _make_directory(directory)
            lock_descriptor = _lock_directory(directory)
        except OSError as error:
            raise refusal("use it as state directory", directory, error) from error
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, lock_descriptor)
            opened = cls(where, _open_database(where), lock_descriptor)
            undo.pop_all()
        return opened

    @property
    def directory(self) -> Path:
        """The state directory."""
        return self._where.parent

    def unit_identity(self, unit: str) -> StoredIdentity:
        """Returns the identity of a unit; the first call for a name chooses it at random and stores it.

        raises   StorageError
        """
        with self._calls, _refusing(self._where), _transaction(self._database):
            return _ensure_unit(self._database, unit)

    def port_identifiers(self, ports: Collection[TargetPort]) -> dict[TargetPort, int]:
        """Returns the relative identifiers of target ports; the first call for a port stores the lowest that is free.

        ports    in the order in which those without an identifier are given one
        raises   StorageError, also when no identifier is free
        Source: SPC4r37 7.8.6.8
        """
        with self._calls, _refusing(self._where), _transaction(self._database):
            known = _port_identifiers(self._database)
            missing = [port for port in dict.fromkeys(ports) if port not in known]
            given = set(known.values())
            free = (identifier for identifier in range(1, MAX_PORT_IDENTIFIER + 1) if identifier not in given)
            if len(missing) > MAX_PORT_IDENTIFIER - len(given):
                what = f"each of the {MAX_PORT_IDENTIFIER} relative target port identifiers has been given to a port"
                raise StorageError(what, self._where, "use another state directory, which gives units new identities")
            for port, identifier in zip(missing, free, strict=False):
                self._database.execute("INSERT INTO target_port VALUES (?, ?, ?)", (*port, identifier))
                known[port] = identifier
            return {port: known[port] for port in ports}

    def save(self, unit: str, state: UnitState) -> None:
        """Replaces the state of a unit; on stable storage when it returns, unchanged when it raises.

        raises   MediumError of NO_SPACE, READ_ONLY or WRITE_FAILED; the next save may succeed
        """
        with self._calls:
            try:
                with _transaction(self._database):
                    _ensure_unit(self._database, unit)
                    _replace_mode_pages(self._database, unit, state)
                    _replace_reservations(self._database, unit, state)
                    _replace_sanitization(self._database, unit, state)
                    _replace_identifying_information(self._database, unit, state)
            except sqlite3.Error as error:
                raise MediumError(_FAULTS.get(_code(error), Fault.WRITE_FAILED)) from error

    def load(self, unit: str) -> UnitState:
        """Returns what was saved last for a unit; an empty state when nothing was.

        What is damaged is not believed: reservations are lost then, and a sanitize operation has failed.

        raises   StorageError
        """
        with self._calls, _refusing(self._where):
            return UnitState(
                _mode_pages(self._database, unit),
                _reservations(self._database, unit),
                _sanitization(self._database, unit),
                _identifying_information(self._database, unit),
            )

    def forget_medium(self, unit: str) -> None:
        """Removes what is kept of a unit's medium, reservations included; on stable storage when it returns.

        raises   StorageError
        """
        with self._calls, _refusing(self._where), _transaction(self._database):
            _replace_reservations(self._database, unit, UnitState())
            _replace_sanitization(self._database, unit, UnitState())

    def close(self) -> None:
        """Closes the database and unlocks the state directory."""
        with self._calls:
            self._database.close()
            os.close(self._lock_descriptor)


def _ensure_unit(database: sqlite3.Connection, unit: str) -> StoredIdentity:
    select = "SELECT serial, naa FROM unit WHERE name = ?"
    insert = "INSERT INTO unit (name, serial, naa) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
    row = database.execute(select, (unit,)).fetchone()
    while row is None:  # again when another unit has the same random number
        database.execute(insert, (unit, *_random_identity()))
        row = database.execute(select, (unit,)).fetchone()
    return StoredIdentity(row[0], row[1])


def _random_identity() -> StoredIdentity:
    # The alphabet has 32 characters, so each is as likely as another.
    serial = "".join(SERIAL_ALPHABET[byte % len(SERIAL_ALPHABET)] for byte in os.urandom(SERIAL_LENGTH))
    return StoredIdentity(serial, bytes.fromhex(f"3{os.urandom(NAA_LENGTH_BYTES).hex()[1:]}"))


def _replace_mode_pages(database: sqlite3.Connection, unit: str, state: UnitState) -> None:
    database.execute("DELETE FROM mode_page WHERE unit = ?", (unit,))
    database.executemany(
        "INSERT INTO mode_page (unit, page, subpage, contents) VALUES (?, ?, ?, ?)",
        [(unit, page, subpage, contents) for (page, subpage), contents in state.mode_pages.items()],
    )


def _mode_pages(database: sqlite3.Connection, unit: str) -> dict[tuple[int, int], bytes]:
    rows = database.execute(
        "SELECT page, subpage, contents FROM mode_page WHERE unit = ? ORDER BY page, subpage", (unit,)
    )
    return {(page, subpage): contents for page, subpage, contents in rows}


def _replace_identifying_information(database: sqlite3.Connection, unit: str, state: UnitState) -> None:
    database.execute("DELETE FROM identifying_information WHERE unit = ?", (unit,))
    database.executemany(
        "INSERT INTO identifying_information (unit, type, contents) VALUES (?, ?, ?)",
        [(unit, kind, contents) for kind, contents in state.identifying_information.items()],
    )


def _identifying_information(database: sqlite3.Connection, unit: str) -> dict[int, bytes]:
    return dict(database.execute("SELECT type, contents FROM identifying_information WHERE unit = ?", (unit,)))


def _replace_reservations(database: sqlite3.Connection, unit: str, state: UnitState) -> None:
    database.execute("DELETE FROM reservations WHERE unit = ?", (unit,))
    if state.reservations is None:
        return
    assert state.reservations == state.reservations.stored, "only what outlives a power loss is stored"
    insert = "INSERT INTO reservations (unit, record, checksum) VALUES (?, ?, ?)"
    database.execute(insert, _checked_row(unit, to_record(state.reservations)))


def _reservations(database: sqlite3.Connection, unit: str) -> Reservations | None:
    # As bytes, because a damaged text may be of no encoding.
    select = "SELECT CAST(record AS BLOB), checksum FROM reservations WHERE unit = ?"
    row = database.execute(select, (unit,)).fetchone()
    if row is None:
        return None
    try:
        state = from_record(_checked(unit, row))
    except (ValueError, RecursionError):  # of JSON, of its encoding, of its checksum, or InvalidRecord
        return Reservations(lost=True)
    return state if state == state.stored else Reservations(lost=True)


def _replace_sanitization(database: sqlite3.Connection, unit: str, state: UnitState) -> None:
    database.execute("DELETE FROM sanitization WHERE unit = ?", (unit,))
    if state.sanitization is not None:
        insert = "INSERT INTO sanitization (unit, record, checksum) VALUES (?, ?, ?)"
        database.execute(insert, _checked_row(unit, sanitization.to_record(state.sanitization)))


def _sanitization(database: sqlite3.Connection, unit: str) -> sanitization.Sanitization | None:
    select = "SELECT CAST(record AS BLOB), checksum FROM sanitization WHERE unit = ?"
    row = database.execute(select, (unit,)).fetchone()
    if row is None:
        return None
    try:
        return sanitization.from_record(_checked(unit, row))
    except (ValueError, RecursionError):
        return sanitization.LOST


def _checked_row(unit: str, record: Mapping[str, object]) -> tuple[str, str, int]:
    text = json.dumps(record, separators=(",", ":"))
    return unit, text, _checksum(unit, text.encode())


def _checked(unit: str, row: tuple[bytes, int]) -> object:
    """Returns the record in a row; raises ValueError for a text that is not what was saved."""
    text, checksum = row
    if _checksum(unit, text) != checksum:
        raise ValueError("the checksum is another one")
    found: object = json.loads(text)
    return found


def _checksum(unit: str, record: bytes) -> int:
    return crc32c(unit.encode(), b"\0", record)


def _port_identifiers(database: sqlite3.Connection) -> dict[TargetPort, int]:
    rows = database.execute("SELECT target, portal_group_tag, identifier FROM target_port")
    return {TargetPort(target, tag): identifier for target, tag, identifier in rows}


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Commits what is done inside, or leaves the database as it was."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


@contextlib.contextmanager
def _refusing(where: Path) -> Iterator[None]:
    """Turns what SQLite says into a StorageError."""
    try:
        yield
    except sqlite3.Error as error:
        raise _refusal(where, error) from error
    except UnicodeDecodeError as error:  # of SQLite's own message about a damaged schema
        raise _corrupt(where, "its schema is no text") from error


def _refusal(where: Path, error: sqlite3.Error) -> StorageError:
    match _code(error):
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_ERROR:  # the last: a table is not there
            return _corrupt(where, str(error))
        case sqlite3.SQLITE_FULL:
            return StorageError("the disk is full", where, "free some space")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            remedy = "give the user that runs the server write access to it and to its directory"
            return StorageError(f"it cannot be written: {error}", where, remedy)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StorageError("another program has locked it", where, "end that program")
        case _:
            remedy = "see what the kernel log says about it"
            return StorageError(f"SQLite cannot use it: {error}", where, remedy)


def _corrupt(where: Path, symptom: str) -> StorageError:
    remedy = (
        "stop the initiators; then restore a backup, whose persistent reservations are as old as it is, or move it and"
        " its -wal file away, which gives every unit a new identity and no persistent reservations"
    )
    return StorageError(f"it is corrupt ({symptom})", where, remedy)


def _code(error: sqlite3.Error) -> int:
    """Returns the primary result code; errors of the Python module itself have none and count as misuse."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE)
    return code & 0xFF


def _make_directory(directory: Path) -> None:
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    host.sync_directory(directory.parent)


def _lock_directory(directory: Path) -> int:
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, descriptor)
        if not host.lock(descriptor, exclusive=True):
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            remedy = "stop that server, or give this one a state directory of its own"
            raise StorageError(f"it is in use by the server with process id {holder}", directory, remedy)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        undo.pop_all()
    return descriptor


def _open_database(where: Path) -> sqlite3.Connection:
    with _refusing(where):
        try:
            os.close(os.open(where, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise refusal("open it", where, error) from error
        database = sqlite3.connect(where, BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        with contextlib.ExitStack() as undo:
            undo.callback(database.close)
            _prepare(database, where)
            host.sync_directory(where.parent)
            undo.pop_all()
        return database


def _prepare(database: sqlite3.Connection, where: Path) -> None:
    version = _number(database, "PRAGMA user_version")
    if not 0 <= version <= len(_STEPS):
        what = f"it is of schema version {version}, this server knows versions up to {len(_STEPS)}"
        raise StorageError(what, where, "use the newer server that wrote it, or another state directory")
    if _is_foreign(database):
        raise StorageError("it is the database of another program", where, "name another file as state file")
    if where.stat().st_size and not _number(database, "PRAGMA page_count"):
        raise _corrupt(where, "it ends within its header")  # SQLite would take it for empty
    symptom = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if symptom != "ok":
        raise _corrupt(where, symptom)
    if database.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise _corrupt(where, "something is stored of a unit that is not there")
    mode = database.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StorageError("its file system cannot hold a write-ahead log", where, "use a local file system")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA foreign_keys = ON")
    _upgrade(database, version)


def _upgrade(database: sqlite3.Connection, version: int) -> None:
    if version == len(_STEPS):
        return
    with _transaction(database):  # all in one, since each is a wait for the disk
        for statement in chain.from_iterable(_STEPS[version:]):
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {len(_STEPS)}")


def _is_foreign(database: sqlite3.Connection) -> bool:
    if _number(database, "PRAGMA application_id") == APPLICATION_ID:
        return False
    objects = _number(database, "SELECT count(*) FROM sqlite_master")
    return objects > 0 or _number(database, "PRAGMA user_version") > 0


def _number(database: sqlite3.Connection, statement: str) -> int:
    number: int = database.execute(statement).fetchone()[0]
    return number
