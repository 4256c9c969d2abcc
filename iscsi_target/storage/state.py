"""The state file: what of a server's logical units outlives the process, in one SQLite database.

It holds who a unit is (serial number, NAA identifier) and what initiators have saved in it. A change is one
transaction and is on stable storage when the call returns (write-ahead log, synchronous=FULL).

The NAA identifier is of type 3h, locally assigned, with 60 random bits. Types 5h and 6h begin with the IEEE
company identifier of an organisation; this project has none, and a borrowed one would claim to be somebody
else's device.

A new kind of state is a step appended to `_STEPS` and a pair of functions beside `_replace_mode_pages` and
`_mode_pages`, called in the same transaction; nothing saves in parts.
"""

import contextlib
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.task import UnitState
from iscsi_target.storage import host
from iscsi_target.storage.faults import StorageError, refusal

APPLICATION_ID = 0x69534373  # "iSCs", what file(1) and this module know the database by
SERIAL_LENGTH = 16
SERIAL_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # without I, L, O and U, which are misread
NAA_LENGTH_BYTES = 8
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
)

_FAULTS = {sqlite3.SQLITE_FULL: Fault.NO_SPACE, sqlite3.SQLITE_READONLY: Fault.READ_ONLY}


class StoredIdentity(NamedTuple):
    """Who a logical unit is, the same for ever.

    serial   SERIAL_LENGTH characters; the first 8 differ from those of every other unit
    naa      NAA_LENGTH_BYTES bytes, type 3h
    Source: SPC4r37 7.8.6.6.3, 7.8.15
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

    def unit_identity(self, unit: str) -> StoredIdentity:
        """Returns the identity of a unit; the first call for a name chooses it at random and stores it.

        raises   StorageError
        """
        with self._calls, _refusing(self._where), _transaction(self._database):
            return _ensure_unit(self._database, unit)

    def save(self, unit: str, state: UnitState) -> None:
        """Replaces the state of a unit; on stable storage when it returns, unchanged when it raises.

        raises   MediumError of NO_SPACE, READ_ONLY or WRITE_FAILED; the next save may succeed
        """
        with self._calls:
            try:
                with _transaction(self._database):
                    _ensure_unit(self._database, unit)
                    _replace_mode_pages(self._database, unit, state)
            except sqlite3.Error as error:
                raise MediumError(_FAULTS.get(_code(error), Fault.WRITE_FAILED)) from error

    def load(self, unit: str) -> UnitState:
        """Returns what was saved last for a unit; an empty state when nothing was.

        raises   StorageError
        """
        with self._calls, _refusing(self._where):
            return UnitState(mode_pages=_mode_pages(self._database, unit))

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
    serial = "".join(secrets.choice(SERIAL_ALPHABET) for _ in range(SERIAL_LENGTH))
    digits = f"3{secrets.randbits(8 * NAA_LENGTH_BYTES - 4):0{2 * NAA_LENGTH_BYTES - 1}x}"
    return StoredIdentity(serial, bytes.fromhex(digits))


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


def _refusal(where: Path, error: sqlite3.Error) -> StorageError:
    match _code(error):
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
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
    remedy = "restore a backup, or move it and its -wal file away, which gives every unit a new identity"
    return StorageError(f"it is corrupt ({symptom})", where, remedy)


def _code(error: sqlite3.Error) -> int:
    """Returns the primary result code; errors of the Python module itself have none."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
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
    if version > len(_STEPS):
        what = f"it is of schema version {version}, this server knows versions up to {len(_STEPS)}"
        raise StorageError(what, where, "use the newer server that wrote it, or another state directory")
    if _is_foreign(database):
        raise StorageError("it is the database of another program", where, "name another file as state file")
    symptom = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if symptom != "ok":
        raise _corrupt(where, symptom)
    mode = database.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StorageError("its file system cannot hold a write-ahead log", where, "use a local file system")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA foreign_keys = ON")
    _upgrade(database, version)


def _upgrade(database: sqlite3.Connection, version: int) -> None:
    for number in range(version, len(_STEPS)):
        with _transaction(database):
            for statement in _STEPS[number]:
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {number + 1}")


def _is_foreign(database: sqlite3.Connection) -> bool:
    if _number(database, "PRAGMA application_id") == APPLICATION_ID:
        return False
    objects = _number(database, "SELECT count(*) FROM sqlite_master")
    return objects > 0 or _number(database, "PRAGMA user_version") > 0


def _number(database: sqlite3.Connection, statement: str) -> int:
    number: int = database.execute(statement).fetchone()[0]
    return number
