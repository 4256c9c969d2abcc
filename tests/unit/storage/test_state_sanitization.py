"""What the state file keeps of sanitize operations. Units 0 and 1."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from iscsi_target.scsi.state.sanitization import LOST as NOTHING_KNOWN
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.scsi.state.task import UnitState
from iscsi_target.storage.state import StateFile

CACHING = (0x08, 0x00)
SANITIZATION = Sanitization(Method.OVERWRITE, 1 << 20, pattern=bytes(512), passes=3, done_bytes=1 << 16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def state(path: Path) -> Iterator[StateFile]:
    opened = StateFile.open(path)
    yield opened
    opened.close()


def test_a_sanitize_operation_is_kept_until_it_is_replaced(state: StateFile):
    state.save("unit0", UnitState(sanitization=SANITIZATION))
    state.save("unit1", UnitState())
    assert state.load("unit0") == UnitState(sanitization=SANITIZATION)
    assert state.load("unit1") == UnitState()
    failed = SANITIZATION._replace(failed=True)
    state.save("unit0", UnitState(sanitization=failed))
    assert state.load("unit0").sanitization == failed
    state.save("unit0", UnitState())
    assert state.load("unit0") == UnitState()


@pytest.mark.clause("SBC3r36 4.11.3")
@pytest.mark.parametrize(
    "damage",
    ["record = replace(record, '1048576', '1048577')", "record = x'ff'", "checksum = checksum + 1", "record = '[]'"],
)
def test_a_damaged_sanitize_operation_has_failed(state: StateFile, path: Path, damage: str):
    state.save("unit0", UnitState({CACHING: b"x"}, sanitization=SANITIZATION))
    with sqlite3.connect(path) as database:
        database.execute(f"UPDATE sanitization SET {damage}")
    database.close()
    assert state.load("unit0") == UnitState({CACHING: b"x"}, sanitization=NOTHING_KNOWN)


@pytest.mark.parametrize("state_of_other", [UnitState(), UnitState(sanitization=SANITIZATION)])
def test_forgetting_a_medium_forgets_its_operation_and_no_other(state: StateFile, state_of_other: UnitState):
    state.save("unit0", UnitState({CACHING: b"x"}, sanitization=SANITIZATION))
    state.save("unit1", state_of_other)
    state.forget_medium("unit0")
    assert state.load("unit0") == UnitState({CACHING: b"x"})
    assert state.load("unit1") == state_of_other
