"""StateFile: identities and saved state of units 0 and 1, in a directory that one server owns.

Nodes A and B reach the units through port PORT; P, Q and R are ports that are numbered.
"""

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.reservations.personality import ReservationType
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations
from iscsi_target.scsi.reservations.transitions import MAX_REGISTRATIONS
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.scsi.state.task import UnitState
from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.state import _STEPS, MAX_PORT_IDENTIFIER, SERIAL_ALPHABET, SERIAL_LENGTH, StateFile
from iscsi_target.wire.crc32c import crc32c

CACHING = (0x08, 0x00)
CONTROL_EXTENSION = (0x0A, 0x01)

PORT = TargetPort("iqn.2026-01.org.example:p", 1)
A = Nexus(InitiatorPort("iqn.2026-01.org.example:a", bytes(6)), PORT)
B = Nexus(InitiatorPort("iqn.2026-01.org.example:b", bytes(6)), PORT)

WRITER = """
import sys
from iscsi_target.scsi.state.task import UnitState
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
    same, other = (bytes(map(SERIAL_ALPHABET.index, serial)) for serial in (first.serial, "NEWSER1A" * 2))
    drawn = iter([same, bytes(8), other, bytes(8)])
    monkeypatch.setattr("os.urandom", lambda _: next(drawn))
    assert state.unit_identity("unit1").serial.startswith("NEWSER1A")


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
from iscsi_target.scsi.state.task import UnitState
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


# Persistent reservations


def a_state(*, key: int = 0xABC) -> Reservations:
    reservation = Reservation(ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY, B, Cause("RESERVE", B, 1.25))
    return Reservations({A: key, B: (1 << 64) - 1}, reservation, aptpl=True)


def test_reservations_are_what_was_saved_last(path):
    state = StateFile.open(path)
    state.save("unit0", UnitState({CACHING: b"x"}, a_state(key=1)))
    state.save("unit1", UnitState({}, a_state(key=2)))
    state.save("unit0", UnitState({CACHING: b"y"}, a_state(key=3)))
    state = reopened(state, path)
    assert state.load("unit0") == UnitState({CACHING: b"y"}, a_state(key=3))
    assert state.load("unit1") == UnitState({}, a_state(key=2))
    state.save("unit0", UnitState({CACHING: b"y"}))
    state = reopened(state, path)
    assert state.load("unit0") == UnitState({CACHING: b"y"})
    assert state.load("unit1").reservations == a_state(key=2)
    state.close()


def test_registrations_keep_their_order(state):
    state.save("unit0", UnitState({}, a_state()))
    loaded = state.load("unit0").reservations
    assert loaded is not None
    assert list(loaded.registrations) == [A, B]


def test_what_does_not_outlive_a_power_loss_is_not_for_the_state_file(state):
    with pytest.raises(AssertionError, match="outlives a power loss"):
        state.save("unit0", UnitState({}, a_state()._replace(generation=1)))
    assert state.load("unit0") == UnitState()


def test_forgetting_a_medium_leaves_the_mode_pages(state):
    state.save("unit0", UnitState({CACHING: b"x"}, a_state(), Sanitization(Method.BLOCK_ERASE, 1 << 20)))
    state.save("unit1", UnitState({}, a_state()))
    state.forget_medium("unit0")
    state.forget_medium("never heard of")
    assert state.load("unit0") == UnitState({CACHING: b"x"})
    assert state.load("unit1").reservations == a_state()


def test_a_state_file_of_the_first_version_is_brought_up_and_keeps_what_it_has(path, monkeypatch):
    with monkeypatch.context() as old:
        old.setattr("iscsi_target.storage.state._STEPS", _STEPS[:1])
        state = StateFile.open(path)
        identity = state.unit_identity("unit0")
        state.close()
    alter(path, f"INSERT INTO mode_page VALUES ('unit0', {CACHING[0]}, {CACHING[1]}, x'0812')")
    state = StateFile.open(path)
    assert state.unit_identity("unit0") == identity
    assert state.load("unit0") == UnitState({CACHING: b"\x08\x12"})
    state.save("unit0", UnitState({CACHING: b"\x08\x12"}, a_state()))
    assert state.load("unit0").reservations == a_state()
    state.close()


def record(unit: str, text: str | bytes) -> tuple[str, str]:
    """Returns statements that store a record with the right checksum."""
    encoded = text if isinstance(text, bytes) else text.encode()
    checksum = crc32c(unit.encode(), b"\0", encoded)
    values = f"'{unit}', CAST(x'{encoded.hex()}' AS TEXT), {checksum}"
    return f"INSERT INTO unit VALUES ('{unit}', '{unit}', x'00')", f"INSERT INTO reservations VALUES ({values})"


GOOD_RECORD = '{"generation":0,"aptpl":true,"lost":false,"registrations":[],"reservation":null}'


def test_a_record_of_the_stored_form_is_believed(path):
    StateFile.open(path).close()
    alter(path, *record("unit0", GOOD_RECORD))
    state = StateFile.open(path)
    assert state.load("unit0").reservations == Reservations(aptpl=True)
    state.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "null",
        "[]",
        "{}",
        GOOD_RECORD[:-1],
        GOOD_RECORD.replace("[]", "[[]]"),
        GOOD_RECORD.replace('"reservation":null', '"reservation":{}'),
        GOOD_RECORD.replace("true", "1"),
        GOOD_RECORD.replace('"aptpl":true', '"aptpl":false'),  # what is not to survive is not stored
        GOOD_RECORD.replace('"generation":0', '"generation":7'),
        GOOD_RECORD.replace('"lost":false', '"lost":null'),
        b"\xff\xfe not UTF-8",
        "[" * 100_000,
    ],
    ids=range(14),
)
def test_a_record_that_is_not_what_was_saved_is_lost(path, text):
    StateFile.open(path).close()
    alter(path, *record("unit0", text))
    state = StateFile.open(path)
    assert state.load("unit0").reservations == Reservations(lost=True)
    state.close()


@pytest.mark.parametrize(
    "change",
    [
        "checksum = checksum + 1",
        "checksum = 'text'",
        "record = replace(record, '0xabc', '0xabd')",
        "record = record || ' '",
        "record = 17",
        "record = x''",
        "record = substr(record, 2)",
        "record = CAST(x'ff' || CAST(record AS BLOB) AS TEXT)",
        "unit = 'unit1'",  # the record of another unit
    ],
)
def test_a_changed_row_is_lost_and_harms_nothing_else(path, change):
    state = StateFile.open(path)
    state.save("unit0", UnitState({CACHING: b"x"}, a_state()))
    state.save("unit1", UnitState({CACHING: b"y"}))
    state.save("unit2", UnitState({CACHING: b"z"}, a_state(key=5)))
    state.close()
    alter(path, f"UPDATE reservations SET {change} WHERE unit = 'unit0'")
    state = StateFile.open(path)
    unit, contents = ("unit1", b"y") if change.startswith("unit") else ("unit0", b"x")
    assert state.load(unit) == UnitState({CACHING: contents}, Reservations(lost=True))
    assert state.load("unit2") == UnitState({CACHING: b"z"}, a_state(key=5))
    state.close()


def test_lost_reservations_stay_lost_until_others_are_saved(path):
    state = StateFile.open(path)
    state.save("unit0", UnitState({}, a_state()))
    alter(path, "UPDATE reservations SET record = 'x'")
    lost = state.load("unit0").reservations
    assert lost is not None
    state.save("unit0", UnitState({CACHING: b"x"}, lost.stored))
    state = reopened(state, path)
    assert state.load("unit0") == UnitState({CACHING: b"x"}, Reservations(lost=True))
    state.save("unit0", UnitState({CACHING: b"x"}, a_state()))
    assert state.load("unit0").reservations == a_state()
    state.close()


def test_a_row_of_a_unit_that_is_not_there_makes_the_file_corrupt(path):
    state = StateFile.open(path)
    state.save("unit0", UnitState({}, a_state()))
    state.close()
    alter(path, "PRAGMA foreign_keys = OFF", "UPDATE reservations SET unit = 'unit1'")
    with pytest.raises(StorageError, match="corrupt") as caught:
        StateFile.open(path)
    assert "no persistent reservations" in caught.value.remedy


def many(count: int) -> Reservations:
    """Returns the registrations of so many initiators."""
    initiators = [InitiatorPort(f"iqn.2026-01.org.example:{n:0190}", n.to_bytes(6)) for n in range(count)]
    return Reservations({Nexus(each, PORT): 1 + n for n, each in enumerate(initiators)}, aptpl=True)


def test_as_many_registrations_as_there_may_be_are_kept(state):
    state.save("unit0", UnitState({}, many(MAX_REGISTRATIONS)))
    assert state.load("unit0").reservations == many(MAX_REGISTRATIONS)


def test_reservations_that_do_not_fit_are_no_space_and_change_nothing(path):
    state = StateFile.open(path)
    before = UnitState({CACHING: b"before"}, a_state())
    state.save("unit0", before)
    pages = state._database.execute("PRAGMA page_count").fetchone()[0]
    state._database.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    with pytest.raises(MediumError) as caught:
        state.save("unit0", UnitState({CACHING: b"after"}, many(100)))
    assert caught.value.fault is Fault.NO_SPACE
    assert state.load("unit0") == before
    state = reopened(state, path)
    assert state.load("unit0") == before
    state.close()


def test_reservations_in_a_read_only_database_are_read_only_and_change_nothing(state):
    before = UnitState({CACHING: b"before"}, a_state())
    state.save("unit0", before)
    state._database.execute("PRAGMA query_only = ON")
    for after in (UnitState({}, a_state(key=7)), UnitState({CACHING: b"before"})):
        with pytest.raises(MediumError) as caught:
            state.save("unit0", after)
        assert caught.value.fault is Fault.READ_ONLY
        assert state.load("unit0") == before
    for change in (lambda: state.forget_medium("unit0"), lambda: state.port_identifiers([P])):
        with pytest.raises(StorageError, match="cannot be written"):
            change()


@pytest.mark.parametrize("table", ["mode_page", "reservations"])
def test_a_save_that_fails_half_way_leaves_both_as_they_were(state, table):
    before = UnitState({CACHING: b"before"}, a_state())
    state.save("unit0", before)
    state._database.execute(
        f"CREATE TEMP TRIGGER fault BEFORE INSERT ON main.{table} BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(MediumError):
        state.save("unit0", UnitState({CACHING: b"after"}, a_state(key=7)))
    assert state.load("unit0") == before


# Relative target port identifiers

P, Q, R = (TargetPort("iqn.2026-01.org.example:t", 1), TargetPort("iqn.2026-01.org.example:t", 2), PORT)


def test_ports_are_numbered_in_their_order_and_keep_their_numbers(path):
    state = StateFile.open(path)
    assert state.port_identifiers([P, P, Q]) == {P: 1, Q: 2}
    assert state.port_identifiers([Q]) == {Q: 2}
    state = reopened(state, path)
    assert state.port_identifiers([R, Q, P]) == {R: 3, Q: 2, P: 1}
    state.close()


def test_the_lowest_free_number_is_taken(state):
    state.port_identifiers([P, Q, R])
    state._database.execute("DELETE FROM target_port WHERE identifier = 2")
    others = [TargetPort("iqn.2026-01.org.example:u", tag) for tag in (1, 2)]
    assert state.port_identifiers(others) == {others[0]: 2, others[1]: 4}


def test_without_a_free_number_nothing_is_given(state):
    ports = [TargetPort("iqn.2026-01.org.example:t", tag) for tag in range(MAX_PORT_IDENTIFIER)]
    assert set(state.port_identifiers(ports).values()) == set(range(1, MAX_PORT_IDENTIFIER + 1))
    with pytest.raises(StorageError, match="identifier") as caught:
        state.port_identifiers([R])
    assert "another state directory" in caught.value.remedy
    assert state.port_identifiers(ports[-1:]) == {ports[-1]: MAX_PORT_IDENTIFIER}
