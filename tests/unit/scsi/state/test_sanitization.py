"""Sanitize operations as values: their steps, what commands are told, their records. 1 MiB in blocks of 512."""

import json

import pytest

from iscsi_target.scsi.operations import Erase, WriteSame
from iscsi_target.scsi.state.sanitization import (
    LARGEST_STEP_BYTES,
    LOST,
    SMALLEST_STEP_BYTES,
    STEPS,
    InvalidSanitization,
    Method,
    Sanitization,
    from_record,
    to_record,
)

BLOCK, LENGTH = 512, 1 << 20
PATTERN = bytes(range(256)) * 2
INVERTED = bytes(255 - byte for byte in PATTERN)
ERASE = Sanitization(Method.BLOCK_ERASE, LENGTH)
OVERWRITE = Sanitization(Method.OVERWRITE, LENGTH, pattern=PATTERN)


def steps(begun: Sanitization) -> list[Sanitization]:
    """Returns what it is before each of its steps."""
    found = []
    while not begun.is_done:
        found.append(begun)
        begun = begun.advanced()
    return found


def operations(begun: Sanitization) -> list[WriteSame | Erase]:
    return [each.operation(deallocate=True) for each in steps(begun)]


@pytest.mark.parametrize("length", [BLOCK, LENGTH - BLOCK, LENGTH, 768 << 20, (5 << 30) + BLOCK])
@pytest.mark.parametrize("passes", [1, 3])
def test_steps_cover_every_byte_of_every_pass_once_and_in_order(length: int, passes: int):
    begun = OVERWRITE._replace(length_bytes=length, passes=passes)
    at = 0
    for each in steps(begun):
        operation = each.operation(deallocate=False)
        assert operation.offset_bytes == at % length
        assert 0 < operation.length_bytes <= LARGEST_STEP_BYTES
        assert operation.offset_bytes + operation.length_bytes <= length
        at += operation.length_bytes
    assert at == length * passes


def test_a_unit_that_is_large_enough_has_as_many_steps_as_there_is_progress_to_see():
    assert len(steps(ERASE._replace(length_bytes=64 << 20))) == STEPS
    assert len(steps(ERASE)) == LENGTH // SMALLEST_STEP_BYTES


def test_every_overwrite_is_on_stable_storage_after_its_step():
    assert all(operation.flush for operation in operations(OVERWRITE) if isinstance(operation, WriteSame))


@pytest.mark.clause("SBC3r36 5.24.2.2")
@pytest.mark.parametrize(
    ("passes", "written"), [(1, [PATTERN]), (2, [INVERTED, PATTERN]), (3, [PATTERN, INVERTED, PATTERN])]
)
def test_invert_ends_with_the_pattern_whatever_the_number_of_passes(passes: int, written: list[bytes]):
    found = operations(OVERWRITE._replace(passes=passes, invert=True))
    per_pass = len(found) // passes
    assert [operation.pattern for operation in found[::per_pass] if isinstance(operation, WriteSame)] == written


def test_without_invert_every_pass_writes_the_pattern():
    found = operations(OVERWRITE._replace(passes=2))
    assert {operation.pattern for operation in found if isinstance(operation, WriteSame)} == {PATTERN}


@pytest.mark.parametrize("method", [Method.BLOCK_ERASE, Method.CRYPTOGRAPHIC_ERASE])
@pytest.mark.parametrize("deallocate", [True, False])
def test_both_kinds_of_erase_overwrite_and_a_thin_unit_deallocates(method: Method, deallocate: bool):
    operation = ERASE._replace(method=method).operation(deallocate=deallocate)
    assert operation == Erase(0, SMALLEST_STEP_BYTES, deallocate)


def test_progress_rises_from_zero_and_never_says_that_it_is_over():
    found = [each.progress for each in steps(ERASE)]
    assert found == sorted(set(found))
    assert found[0] == 0
    assert ERASE._replace(done_bytes=LENGTH // 2).progress == 0x8000
    assert ERASE._replace(done_bytes=LENGTH).progress == 0xFFFF
    assert LOST.progress == 0


@pytest.mark.clause("SBC3r36 4.11.2")
def test_while_it_is_under_way_the_refusal_says_how_far_it_is():
    sense = ERASE._replace(done_bytes=LENGTH // 4).refusal.sense
    assert (sense.key, sense.code, sense.progress) == (2, 0x041B, 0x4000)


@pytest.mark.clause("SBC3r36 4.11.3")
def test_after_a_failure_the_refusal_says_so():
    sense = ERASE._replace(failed=True).refusal.sense
    assert (sense.key, sense.code, sense.progress) == (3, 0x3103, None)


def test_for_a_medium_of_another_length_it_begins_anew():
    half = OVERWRITE._replace(done_bytes=LENGTH // 2)
    block = len(OVERWRITE.pattern)
    assert half.fitted(LENGTH, block) is half
    assert half.fitted(2 * LENGTH, block) == OVERWRITE._replace(length_bytes=2 * LENGTH)
    erased = ERASE._replace(done_bytes=LENGTH // 2)
    assert erased.fitted(LENGTH, block) == erased.fitted(LENGTH, 8 * block) == erased


def test_with_blocks_of_another_length_an_overwrite_begins_anew_with_a_pattern_of_a_block():
    half = OVERWRITE._replace(done_bytes=LENGTH // 2)
    block = len(OVERWRITE.pattern)
    assert half.fitted(LENGTH, 8 * block) == OVERWRITE._replace(pattern=OVERWRITE.pattern * 8)
    assert half.fitted(LENGTH, block // 2) == OVERWRITE._replace(pattern=OVERWRITE.pattern[: block // 2])


def test_only_on_its_own_medium_it_goes_on():
    half = ERASE._replace(done_bytes=LENGTH // 2, medium="this")
    assert half.found_on("this") is half
    assert half.found_on("that") == half._replace(failed=True, medium="that")
    assert half.found_on("") == half._replace(done_bytes=0), "one that is always new has nobody's data"
    failed = half._replace(failed=True)
    assert failed.found_on("") == failed.found_on("that") == failed


# Records


@pytest.mark.parametrize(
    "state", [ERASE, OVERWRITE, OVERWRITE._replace(passes=31, invert=True, done_bytes=LENGTH, failed=True), LOST]
)
def test_a_record_gives_back_what_it_is_of(state: Sanitization):
    assert from_record(json.loads(json.dumps(to_record(state)))) == state


@pytest.mark.parametrize(
    "change",
    [
        {"method": 4},
        {"method": True},
        {"method": "OVERWRITE"},
        {"length_bytes": -BLOCK},
        {"length_bytes": 1.0},
        {"length_bytes": LENGTH + 1},
        {"unrestricted": 1},
        {"pattern": ""},
        {"pattern": "zz"},
        {"pattern": 7},
        {"method": 2},
        {"passes": 0},
        {"passes": 32},
        {"passes": True},
        {"invert": None},
        {"done_bytes": LENGTH + BLOCK},
        {"done_bytes": 1},
        {"failed": "no"},
        {"more": 1},
    ],
)
def test_what_is_no_record_is_refused(change: dict[str, object]):
    with pytest.raises(InvalidSanitization):
        from_record({**to_record(OVERWRITE), **change})


@pytest.mark.parametrize("record", [None, [], "x", {}])
def test_what_has_not_its_fields_is_no_record(record: object):
    with pytest.raises(InvalidSanitization):
        from_record(record)
