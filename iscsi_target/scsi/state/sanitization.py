"""A sanitize operation, or the formatting of a unit, as a value: what is to be done, how far it is, and what commands
are told meanwhile.

It is cut into steps, each one operation of the medium that ends on stable storage, so that a step that is done stays
done whatever happens. What is kept of it over a restart is this value: it goes on where it was, or a little before.

Nothing of a store is encrypted, so there is no key that a cryptographic erase could change. It does what a block erase
does: every byte that is allocated is overwritten with zeros, which are brought to stable storage, and a thin unit gives
the blocks back then. What is under the store is out of reach: a file system that writes elsewhere what is written anew,
a snapshot of it, or a drive that does so, may still have what was there. An overwrite leaves all blocks mapped, since
what it wrote is to be read, so a unit in a pool needs room for all of them.

Source: SBC3r36 4.11
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from iscsi_target.scsi.operations import Erase, WriteSame
from iscsi_target.scsi.status import (
    CheckCondition,
    FormatCommandFailed,
    FormatInProgress,
    MediumFormatCorrupted,
    SanitizeCommandFailed,
    SanitizeInProgress,
)
from iscsi_target.wire.bits import inverted

STEPS = 64  # at least, as far as the unit is large enough, so that there is progress to see
SMALLEST_STEP_BYTES = 64 << 10  # a multiple of all that a store allocates together
LARGEST_STEP_BYTES = 64 << 20  # bounds how long a thread of the medium is kept
WHOLE = 1 << 16  # PROGRESS INDICATION counts in parts of it. Source: SPC4r37 4.5.2.4.4
MAX_PASSES = 31  # OVERWRITE COUNT has five bits

Record = Mapping[str, object]


class Method(IntEnum):
    """How a medium is sanitized; the values are those of the service actions. FORMAT UNIT is none of them.

    Source: SBC3r36 5.24.2
    """

    FORMAT = 0x00
    OVERWRITE = 0x01
    BLOCK_ERASE = 0x02
    CRYPTOGRAPHIC_ERASE = 0x03

    def __str__(self) -> str:
        return self.name.replace("_", " ").lower()


WITHOUT_PATTERN = frozenset(Method) - {Method.OVERWRITE}


class InvalidSanitization(ValueError):
    """Says that a record is none of a sanitize operation."""


class Sanitization(NamedTuple):
    """A sanitize operation that is under way, or has failed.

    method         how
    length_bytes   of the unit's blocks when it began
    unrestricted   True when EXIT FAILURE MODE may end it after a failure (AUSE)
    pattern        one logical block for an overwrite, or for a format that is given one, else nothing
    passes         how often everything is overwritten, 1..MAX_PASSES
    invert         True when each pass but the last writes the inversion of what the next one does
    done_bytes     of all passes together, on stable storage
    failed         True when the medium failed it
    medium         which one it is of, as `Device.medium`
    Source: SBC3r36 4.11.1, 4.11.3, 5.24
    """

    method: Method
    length_bytes: int
    unrestricted: bool = False
    pattern: bytes = b""
    passes: int = 1
    invert: bool = False
    done_bytes: int = 0
    failed: bool = False
    medium: str = ""

    @property
    def is_failed_format(self) -> bool:
        """True for a format that has failed: a medium may be ejected and loaded then, unlike after a failed sanitize.

        Source: SBC3r36 4.9
        """
        return self.failed and self.method is Method.FORMAT

    @property
    def total_bytes(self) -> int:
        """What there is to do in all."""
        return self.length_bytes * self.passes

    @property
    def is_done(self) -> bool:
        """True when nothing is left to do."""
        return self.done_bytes >= self.total_bytes

    @property
    def progress(self) -> int:
        """PROGRESS INDICATION, 0..65535.

        Source: SPC4r37 4.5.2.4.4
        """
        return min(self.done_bytes * WHOLE // self.total_bytes, WHOLE - 1) if self.total_bytes else 0

    @property
    def step_bytes(self) -> int:
        """How much the next step does; 0 when there is none."""
        if self.is_done:
            return 0
        even = -(-self.length_bytes // STEPS)
        even += -even % SMALLEST_STEP_BYTES
        return min(even, LARGEST_STEP_BYTES, self.length_bytes - self.done_bytes % self.length_bytes)

    def operation(self, *, deallocate: bool) -> WriteSame | Erase:
        """Returns what the medium has to do for the next step, of which there is one.

        deallocate   True when erased blocks are given back
        """
        done, offset = divmod(self.done_bytes, self.length_bytes)
        if not self.pattern:
            return Erase(offset, self.step_bytes, deallocate)
        is_inverted = self.invert and (self.passes - done) % 2 == 0
        pattern = inverted(self.pattern) if is_inverted else self.pattern
        return WriteSame(offset, self.step_bytes, pattern, flush=True)

    def advanced(self) -> "Sanitization":
        """Returns it after its next step."""
        return self._replace(done_bytes=self.done_bytes + self.step_bytes)

    def fitted(self, length_bytes: int, block_length_bytes: int) -> "Sanitization":
        """Returns it for a unit that may have got another shape: then it begins anew, and covers all of that."""
        block_bytes = len(self.pattern) or block_length_bytes
        if (length_bytes, block_length_bytes) == (self.length_bytes, block_bytes):
            return self
        copies = -(-block_length_bytes // block_bytes)
        pattern = (self.pattern * copies)[:block_length_bytes]
        return self._replace(length_bytes=length_bytes, pattern=pattern, done_bytes=0)

    def found_on(self, medium: str) -> "Sanitization":
        """Returns it for the medium that the unit has after a restart.

        One that is always new has nothing to be sanitized, but is to become what was asked for. Another one than was
        meant has data that nobody wanted to lose: it is left alone, and the operation has failed.

        medium   as `Device.medium`
        """
        if self.failed:
            return self
        if medium == "":
            return self._replace(done_bytes=0)
        return self if medium == self.medium else self._replace(failed=True, medium=medium)

    @property
    def refusal(self) -> CheckCondition:
        """What commands are told that are not allowed, and what REQUEST SENSE returns.

        For the time after a failure the standard names no pollable sense data; who polls is told of the failure.
        Source: SBC3r36 4.11.2, 4.11.3, 5.3.1
        """
        if self.method is Method.FORMAT:
            return MediumFormatCorrupted() if self.failed else FormatInProgress(self.progress)
        return SanitizeCommandFailed() if self.failed else SanitizeInProgress(self.progress)

    @property
    def failure(self) -> CheckCondition:
        """What the command that began it is told when it has failed.

        Source: SBC3r36 4.11.3, 5.3.1
        """
        return FormatCommandFailed() if self.method is Method.FORMAT else SanitizeCommandFailed()


METHODS = tuple(method for method in Method if method is not Method.FORMAT)  # those of SANITIZE

# Of which nothing is known but that there was one: it can only be done once more. Source: SBC3r36 4.11.3
LOST = Sanitization(Method.BLOCK_ERASE, 0, failed=True)


def to_record(state: Sanitization) -> Record:
    """Returns it as values that JSON knows."""
    return state._asdict() | {"method": int(state.method), "pattern": state.pattern.hex()}


def from_record(record: object) -> Sanitization:
    """Returns what `to_record` was given; raises InvalidSanitization for what it cannot have returned."""
    if not isinstance(record, dict) or set(record) != set(Sanitization._fields):
        raise InvalidSanitization("it has not the fields of a sanitize operation")
    values = record | {"method": _method(record["method"]), "pattern": _pattern(record["pattern"])}
    state = Sanitization(**values)
    if not isinstance(record["medium"], str):
        raise InvalidSanitization("its medium is no text")
    for name in ("unrestricted", "invert", "failed"):
        if not isinstance(record[name], bool):
            raise InvalidSanitization(f"{name} is no truth value")
    for name, least in (("length_bytes", 0), ("passes", 1), ("done_bytes", 0)):
        if type(record[name]) is not int or record[name] < least:
            raise InvalidSanitization(f"{name} is no number from {least} on")
    can_have_pattern = (Method.OVERWRITE, Method.FORMAT) if state.pattern else tuple(WITHOUT_PATTERN)
    if state.passes > MAX_PASSES or state.method not in can_have_pattern:
        raise InvalidSanitization("its method cannot have that")
    if state.pattern and (state.length_bytes % len(state.pattern) or state.done_bytes % len(state.pattern)):
        raise InvalidSanitization("its pattern is no block")
    if state.done_bytes > state.total_bytes:
        raise InvalidSanitization("more is done than there is")
    return state


def _method(found: object) -> Method:
    if type(found) is not int or found not in Method.__members__.values():
        raise InvalidSanitization(f"{found!r} is no method")
    return Method(found)


def _pattern(found: object) -> bytes:
    if not isinstance(found, str):
        raise InvalidSanitization("its pattern is no text")
    try:
        return bytes.fromhex(found)
    except ValueError as error:
        raise InvalidSanitization("its pattern is not hexadecimal") from error
