"""The state file gives back what was saved, or says that it is lost, and never anything else.

Nodes A and B reach unit 0 through one port. The random states have registrations of any names, ISIDs and keys.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from iscsi_target.scsi.nexus import OPERATOR, InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import ReservationType
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations
from iscsi_target.scsi.state.sanitization import LOST as NOTHING_KNOWN
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.scsi.state.task import UnitState
from iscsi_target.storage.faults import StorageError
from iscsi_target.storage.state import StateFile
from iscsi_target.wire.names import InadmissibleValue, iscsi_name

PORT = TargetPort("iqn.2026-01.org.example:p", 1)
A = Nexus(InitiatorPort("iqn.2026-01.org.example:a", bytes(6)), PORT)
B = Nexus(InitiatorPort("iqn.2026-01.org.example:b", bytes(6)), PORT)
HELD = Reservations(
    registrations={A: 0xABC, B: (1 << 64) - 1},
    reservation=Reservation(ReservationType.WRITE_EXCLUSIVE_REGISTRANTS_ONLY, B, Cause("RESERVE", B, 1.25)),
    aptpl=True,
)
LOST = Reservations(lost=True)
PAGES = {(0x08, 0x00): b"\x08\x12"}
UNDER_WAY = Sanitization(Method.OVERWRITE, 1 << 20, pattern=b"x" * 512, passes=2, done_bytes=1 << 16)
SEED = 20261105


@st.composite
def names(draw: st.DrawFn) -> str:
    try:
        return iscsi_name("iqn." + draw(st.text(min_size=1, max_size=40)))
    except InadmissibleValue:
        assume(False)
        raise


NEXUSES = st.builds(
    Nexus,
    st.builds(InitiatorPort, names(), st.binary(min_size=6, max_size=6)),
    st.builds(TargetPort, names(), st.integers(0, 0xFFFF)),
)
CAUSES = st.builds(
    Cause, st.text(), st.just(OPERATOR) | NEXUSES, st.floats(0, 1e10, allow_nan=False, allow_infinity=False)
)


@st.composite
def stored_states(draw: st.DrawFn) -> Reservations | None:
    if draw(st.integers(0, 9)) == 0:
        return LOST if draw(st.booleans()) else None
    registrations = draw(st.dictionaries(NEXUSES, st.integers(1, (1 << 64) - 1), max_size=4))
    reserved = draw(st.booleans())
    reservation = None
    if registrations and reserved:
        kind = draw(st.sampled_from(ReservationType))
        holder = None if kind.all_registrants else draw(st.sampled_from(list(registrations)))
        reservation = Reservation(kind, holder, draw(CAUSES))
    return Reservations(registrations=registrations, reservation=reservation, aptpl=True)


MODE_PAGES = st.dictionaries(st.tuples(st.integers(0, 0x3F), st.integers(0, 0xFF)), st.binary(max_size=40), max_size=3)


@st.composite
def sanitizations(draw: st.DrawFn) -> Sanitization | None:
    if draw(st.booleans()):
        return None
    having = dict.fromkeys(Method, st.just(False)) | {Method.OVERWRITE: st.just(True), Method.FORMAT: st.booleans()}
    method, blocks, passes = draw(st.sampled_from(Method)), draw(st.integers(0, 1 << 40)), draw(st.integers(1, 31))
    done = draw(st.integers(0, blocks * passes))
    return Sanitization(
        method=method,
        length_bytes=blocks * 512,
        unrestricted=draw(st.booleans()),
        pattern=draw(st.binary(min_size=512, max_size=512)) if draw(having[method]) else b"",
        passes=passes,
        invert=draw(st.booleans()),
        done_bytes=done * 512,
        failed=draw(st.booleans()),
    )


LABELS = st.dictionaries(st.integers(0, 127), st.binary(max_size=16))
UNIT_STATES = st.builds(UnitState, MODE_PAGES, stored_states(), sanitizations(), LABELS)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state") / "state.sqlite"


@pytest.fixture(scope="module")
def state(path: Path) -> Iterator[StateFile]:
    opened = StateFile.open(path)
    yield opened
    opened.close()


@given(saved=UNIT_STATES, other=UNIT_STATES)
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_what_is_loaded_is_what_was_saved_last(state, saved, other):
    """Law: load after save is the identity, for every unit by itself and whatever was there before."""
    state.save("unit0", saved)
    state.save("unit1", other)
    for unit, expected in (("unit0", saved), ("unit1", other)):
        loaded = state.load(unit)
        assert loaded == expected
        if loaded.reservations is not None:
            assert list(loaded.reservations.registrations) == list(expected.reservations.registrations)


# Damage


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A state file in which unit 0 is reserved and being sanitized."""
    path = tmp_path_factory.mktemp("sound") / "state.sqlite"
    state = StateFile.open(path)
    state.save("unit0", UnitState(PAGES, HELD, UNDER_WAY, {0: b"label"}))
    state.save("unit1", UnitState())
    state.port_identifiers([PORT])
    state.close()
    return path.read_bytes()


def found_in(image: bytes, folder: Path) -> Reservations | StorageError | None:
    """Returns what becomes of the reservations of unit 0 when the state file is this."""
    found = loaded_from(image, folder)
    return found if isinstance(found, StorageError) else found.reservations


def loaded_from(image: bytes, folder: Path) -> UnitState | StorageError:
    """Returns what becomes of unit 0 when the state file is this."""
    for stale in folder.glob("state.sqlite*"):
        stale.unlink()
    path = folder / "state.sqlite"
    path.write_bytes(image)
    try:
        state = StateFile.open(path)
        try:
            return state.load("unit0")
        finally:
            state.close()
    except StorageError as error:
        return error


def changed(image: bytes, at: int, bit: int) -> bytes:
    altered = bytearray(image)
    altered[at] ^= 1 << bit
    return bytes(altered)


def places(sound: bytes) -> list[int]:
    """Returns bytes of every region: the header, the whole record and what is around it, and any others in use."""
    record = sound.index(b'{"generation"')
    in_use = [at for at, byte in enumerate(sound) if byte]
    around = range(record - 24, record + len(sound[record:].split(b"\0")[0]), 3)
    return sorted({*range(100), *around, *random.Random(SEED).sample(in_use, 300)})


def test_a_changed_bit_never_makes_other_reservations_of_those_that_were_saved(sound, tmp_path):
    """Law: the server refuses the file, or the reservations are lost, or they are as they were; in no case are they
    others, and in no case none."""
    chance = random.Random(SEED)
    found = {at: found_in(changed(sound, at, chance.randrange(8)), tmp_path) for at in places(sound)}
    for at, outcome in found.items():
        assert isinstance(outcome, StorageError) or outcome in (HELD, LOST), f"byte {at}: {outcome}"
    assert any(isinstance(outcome, StorageError) for outcome in found.values())
    assert HELD in found.values()


def test_a_changed_bit_of_the_record_loses_the_reservations_and_stops_no_server(sound, tmp_path):
    """Law: every byte of the record is covered by its checksum."""
    chance = random.Random(SEED)
    begin = sound.index(b'{"generation"')
    end = sound.index(b'"time":1.25', begin)
    for at in range(begin, end, 7):
        assert found_in(changed(sound, at, chance.randrange(8)), tmp_path) == LOST, f"byte {at}"


def test_a_changed_bit_never_ends_a_sanitize_operation(sound, tmp_path):
    """Law: the server refuses the file, or the unit cannot be used, or the operation goes on as it was; in no case is
    it another, and in no case none."""
    begin = sound.index(b'{"method"')
    end = begin + len(sound[begin:].split(b"\0")[0])
    chance = random.Random(SEED)
    places = [*range(begin - 24, begin + 40), *range(begin + 40, end - 80, 101), *range(end - 80, end)]
    for at in places:
        found = loaded_from(changed(sound, at, chance.randrange(8)), tmp_path)
        if not isinstance(found, StorageError):
            assert found.sanitization in (UNDER_WAY, NOTHING_KNOWN), f"byte {at}: {found.sanitization}"
            assert at < begin or found.sanitization == NOTHING_KNOWN, f"byte {at}"


def test_a_truncated_file_is_refused(sound, tmp_path):
    """Law: a part of a state file never looks like one without reservations; an empty file is a new one."""
    lengths = [*range(1, 100, 7), *range(100, len(sound), 997), *range(4096, len(sound), 4096)]
    for length in lengths:
        assert isinstance(found_in(sound[:length], tmp_path), StorageError), length
    assert found_in(b"", tmp_path) is None
