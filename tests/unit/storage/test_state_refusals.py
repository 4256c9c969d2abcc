"""What a StateFile says when SQLite fails in the middle of its life."""

import sqlite3
from contextlib import closing

import pytest

from iscsi_target.scsi.nexus import TargetPort
from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.state import StateFile

PORT = TargetPort("iqn.2026-01.org.example:p", 1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.sqlite"


def test_a_database_that_lacks_a_table_is_corrupt(path):
    StateFile.open(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE target_port")
    state = StateFile.open(path)
    with pytest.raises(StorageError, match=r"it is corrupt \(no such table: target_port\)") as caught:
        state.port_identifiers([PORT])
    assert "restore a backup" in caught.value.remedy
    state.close()


def test_a_database_whose_version_is_older_than_its_tables_is_corrupt(path):
    StateFile.open(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 1")
    with pytest.raises(StorageError, match=r"it is corrupt \(table reservations already exists\)"):
        StateFile.open(path)


def test_a_call_after_the_end_is_not_taken_for_damage(path):
    state = StateFile.open(path)
    state.close()
    with pytest.raises(StorageError, match="SQLite cannot use it: Cannot operate on a closed database"):
        state.unit_identity("unit0")
