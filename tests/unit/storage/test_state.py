"""StateFile: identities and saved state of units 0 and 1, in a directory that one server owns."""

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.task import UnitState
from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.state import SERIAL_LENGTH, StateFile

CACHING = (0x08, 0x00)
CONTROL_EXTENSION = (0x0A, 0x01)

WRITER = """
import sys
from iscsi_target.scsi.task import UnitState
from iscsi_target.storage.state import StateFile
state = StateFile.open(sys.argv[1])
number = int.from_bytes(state.load("unit0").mode_pages.get((8, 0), b""), "big")
print("identity", state.unit_identity("unit0").serial, flush=True)
while True:
    number += 1
    state.save("unit0", UnitState({(8, 0): number.to_bytes(8, "big")}))
    print("saved", number, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.sqlite"


@pytest.fixture
def state(path):
    opened = StateFile.open(path)
    yield opened
    opened.close()


def reopened(state: StateFile, path: Path) -> StateFile:
    state.close()
    return StateFile.open(path)


def alter(path: Path, *statements: str) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        database.execute(statement).fetchall()
    database.close()


def test_a_unit_keeps_its_identity(path):
    state = StateFile.open(path)
    first = state.unit_identity("unit0")
    assert state.unit_identity("unit0") == first
    state = reopened(state, path)
    assert state.unit_identity("unit0") == first
    state.close()


@pytest.mark.clause("SPC4r37 7.8.6.6.3")
def test_an_naa_is_eight_bytes_of_type_3(state):
    naa = state.unit_identity("unit0").naa
    assert len(naa) == 8
    assert naa.hex().startswith("3")


def test_identities_differ_in_the_first_eight_characters_of_the_serial(state):
    identities = [state.unit_identity(f"unit{n}") for n in range(100)]
    assert len({identity.serial[:8] for identity in identities}) == 100
    assert len({identity.naa for identity in identities}) == 100
    assert {len(identity.serial) for identity in identities} == {SERIAL_LENGTH}


def test_a_random_number_that_another_unit_has_is_drawn_again(state, monkeypatch):
    first = state.unit_identity("unit0")
    characters = iter(first.serial[:8] + "ZZZZZZZZ" + "NEWSERIAZZZZZZZZ")
    monkeypatch.setattr("secrets.choice", lambda _: next(characters))
    assert state.unit_identity("unit1").serial.startswith("NEWSERIA")


def test_state_is_what_was_saved_last(path):
    state = StateFile.open(path)
    assert state.load("unit0") == UnitState()
    state.save("unit0", UnitState({CACHING: b"\x08\x12", CONTROL_EXTENSION: b"\x4a\x01"}))
    state.save("unit1", UnitState({CACHING: b"other"}))
    state.save("unit0", UnitState({CACHING: b"\x08\x12\x04"}))
    state = reopened(state, path)
    assert state.load("unit0") == UnitState({CACHING: b"\x08\x12\x04"})
    assert state.load("unit1") == UnitState({CACHING: b"other"})
    state.close()


def test_threads_may_call_at_once(state):
    def run(number: int) -> bytes:
        unit = f"unit{number % 4}"
        state.unit_identity(unit)
        state.save(unit, UnitState({CACHING: unit.encode()}))
        return state.load(unit).mode_pages[CACHING]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(run, range(40))) == [f"unit{n % 4}".encode() for n in range(40)]


def test_a_second_server_in_the_directory_is_refused(state, path):
    with pytest.raises(StorageError, match=f"in use by the server with process id {os.getpid()}") as caught:
        StateFile.open(path.with_name("other.sqlite"))
    assert "a state directory of its own" in caught.value.remedy
    assert caught.value.where == path.parent


def test_closing_gives_the_directory_up(path):
    StateFile.open(path).close()
    StateFile.open(path).close()


def test_a_newer_state_file_is_refused_and_left_alone(path):
    StateFile.open(path).close()
    alter(path, "PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(StorageError, match="schema version 99") as caught:
        StateFile.open(path)
    assert "newer server" in caught.value.remedy
    assert path.read_bytes() == before


def test_the_database_of_another_program_is_refused_and_left_alone(path):
    path.parent.mkdir()
    alter(path, "CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(StorageError, match="another program"):
        StateFile.open(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_with_a_remedy(path):
    path.parent.mkdir()
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(StorageError, match="corrupt") as caught:
        StateFile.open(path)
    assert "restore a backup" in caught.value.remedy


def test_a_damaged_database_is_refused_with_a_remedy(path):
    state = StateFile.open(path)
    for number in range(200):
        state.unit_identity(f"unit{number}")
    state.close()
    image = bytearray(path.read_bytes())
    image[4096:] = os.urandom(len(image) - 4096)
    path.write_bytes(image)
    with pytest.raises(StorageError, match="corrupt") as caught:
        StateFile.open(path)
    assert "restore a backup" in caught.value.remedy


def test_a_state_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError) as caught:
        StateFile.open(tmp_path / "file" / "deeper" / "state.sqlite")
    assert caught.value.remedy


def test_a_failed_opening_leaves_the_directory_unlocked(path):
    path.parent.mkdir()
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(StorageError):
        StateFile.open(path)
    path.unlink()
    StateFile.open(path).close()


def test_state_directory_and_file_are_private(state, path):
    assert path.parent.stat().st_mode & 0o077 == 0
    assert path.stat().st_mode & 0o077 == 0


def test_a_save_that_does_not_fit_is_no_space_and_changes_nothing(state):
    state.save("unit0", UnitState({CACHING: b"before"}))
    pages = state._database.execute("PRAGMA page_count").fetchone()[0]
    state._database.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    with pytest.raises(MediumError) as caught:
        state.save("unit0", UnitState({CACHING: bytes(1 << 20)}))
    assert caught.value.fault is Fault.NO_SPACE
    assert state.load("unit0") == UnitState({CACHING: b"before"})
    state.save("unit0", UnitState({CACHING: b"after"}))
    assert state.load("unit0") == UnitState({CACHING: b"after"})


def test_a_save_in_a_read_only_database_is_read_only(state):
    state.unit_identity("unit0")
    state._database.execute("PRAGMA query_only = ON")
    with pytest.raises(MediumError) as caught:
        state.save("unit0", UnitState({CACHING: b"x"}))
    assert caught.value.fault is Fault.READ_ONLY


def test_a_save_that_the_disk_refuses_is_a_write_failure(state):
    program = f"""
import resource, sys
from iscsi_target.scsi.task import UnitState
from iscsi_target.scsi.operations import MediumError
from iscsi_target.storage.state import StateFile
state = StateFile.open(sys.argv[1])
state.save("unit0", UnitState({{{CACHING}: b"before"}}))
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    state.save("unit0", UnitState({{{CACHING}: bytes(1 << 20)}}))
except MediumError as error:
    print(error.fault.name, state.load("unit0").mode_pages[{CACHING}])
"""
    other = Path(state._where).parent.parent / "other" / "state.sqlite"
    ended = subprocess.run([sys.executable, "-c", program, other], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "WRITE_FAILED b'before'"


def test_what_was_saved_outlives_kill_9(path):
    serials = set()
    for round_number in range(1, 4):
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            serials.add(process.stdout.readline())
            lines = [process.stdout.readline() for _ in range(7 * round_number)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        acknowledged = max(int(each.split()[1]) for each in lines if each.endswith("\n"))
        state = StateFile.open(path)
        found = int.from_bytes(state.load("unit0").mode_pages[CACHING], "big")
        state.close()
        assert found in (acknowledged, acknowledged + 1), lines
    assert len(serials) == 1


def test_the_write_ahead_log_is_synchronous(state):
    assert state._database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert state._database.execute("PRAGMA synchronous").fetchone()[0] == 2
