"""ROD tokens: what each represents, how long it is valid, and why it is not any more. Values; nothing is copied.

A token is a point in time copy of the change vulnerable type. Nothing is kept beside the blocks themselves, so what it
represents is there only as long as nobody writes to these blocks: with the first write, or whatever else changes them,
the token is cancelled. A persistent copy would need a snapshot, which no store has. With access upon reference, a token
would silently represent something else after a write, and whoever copies files by tokens counts on the contrary; nor
does POPULATE TOKEN allow that type.

The point in time is when POPULATE TOKEN is processed: writes that had their turn before it are done before anything is
read for the token, and later ones cancel it before they are done.

Time is a number of seconds since the epoch, as it comes with commands: a token expires when the next command looks.

Source: SPC4r37 5.17.6, SBC3r36 4.28
"""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import NamedTuple

from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.status import CheckCondition, Sense, SenseKey

MAX_TOKENS = 64  # of one unit; every write is compared with all that they represent
MAX_TOKENS_PER_NEXUS = 16  # the oldest one goes
MAX_ENDED = 256  # of one unit of which is known how they have ended
MAX_RANGES = 16  # block device range descriptors of one command
MAX_ROD_BYTES = 256 << 20  # that a token represents, and that one command writes
OPTIMAL_ROD_BYTES = 64 << 20
LIFETIME_S = 3600  # of any token
DEFAULT_INACTIVITY_S = 60
MAX_INACTIVITY_S = 600
TOKEN_BYTES = 512
CHANGE_VULNERABLE, BLOCK_DEVICE_ZERO = 0x0080_0001, 0xFFFF_0001  # ROD TYPE. Source: SPC4r37 5.17.6.2.1
INSUFFICIENT_RESOURCES = 0x550C  # TO CREATE ROD


class TokenError(IntEnum):
    """INVALID TOKEN OPERATION and why, as additional sense codes.

    Source: SPC4r37 5.17.6.5.2.3
    """

    CAUSE_NOT_REPORTABLE = 0x2300
    UNSUPPORTED_TOKEN_TYPE = 0x2301
    REMOTE_TOKEN_USAGE_NOT_SUPPORTED = 0x2302
    TOKEN_UNKNOWN = 0x2304
    TOKEN_EXPIRED = 0x2307
    TOKEN_CANCELLED = 0x2308
    TOKEN_DELETED = 0x2309
    INVALID_TOKEN_LENGTH = 0x230A


class InvalidTokenOperation(CheckCondition):
    """A token cannot be used: 5/23/xx.

    Source: SPC4r37 5.17.6.5.2.3
    """

    def __init__(self, why: TokenError) -> None:
        super().__init__(Sense(SenseKey.ILLEGAL_REQUEST, why))


class Extent(NamedTuple):
    """A range of a medium, in bytes."""

    offset_bytes: int
    length_bytes: int

    def meets(self, offset_bytes: int, length_bytes: int) -> bool:
        """Returns True when it shares a byte with another range."""
        return offset_bytes < self.offset_bytes + self.length_bytes and self.offset_bytes < offset_bytes + length_bytes


class RodToken(NamedTuple):
    """One token that is valid.

    raw            all its bytes
    nexus          that had it made
    extents        what it represents, in this order; none overlaps another
    inactivity_s   how long it is valid when nobody uses it
    made_s         when it was made, in seconds since the epoch
    used_s         when it was used last
    """

    raw: bytes
    nexus: Nexus
    extents: tuple[Extent, ...]
    inactivity_s: float
    made_s: float
    used_s: float

    @property
    def length_bytes(self) -> int:
        """How much it represents."""
        return sum(extent.length_bytes for extent in self.extents)

    def has_expired(self, now_s: float) -> bool:
        """Returns True when its lifetime or its inactivity timeout is over.

        Source: SPC4r37 5.17.6.7
        """
        return now_s >= min(self.made_s + LIFETIME_S, self.used_s + self.inactivity_s)

    def meets(self, ranges: Iterable[tuple[int, int]]) -> bool:
        """Returns True when it represents a byte of (offset, length) ranges."""
        return any(extent.meets(*touched) for touched in ranges for extent in self.extents)


class RodTokens(NamedTuple):
    """The tokens of one unit.

    live    those that may be valid, oldest first
    ended   why others are not, oldest first
    """

    live: Mapping[bytes, RodToken] = MappingProxyType({})
    ended: Mapping[bytes, TokenError] = MappingProxyType({})

    def find(self, raw: bytes, now_s: float) -> RodToken | None:
        """Returns a token, None when it never was one of this unit.

        raises   InvalidTokenOperation when it is not valid any more
        """
        found = self.live.get(raw)
        if found is not None and found.has_expired(now_s):
            raise InvalidTokenOperation(TokenError.TOKEN_EXPIRED)
        if raw in self.ended:
            raise InvalidTokenOperation(self.ended[raw])
        return found

    def with_new(self, token: RodToken) -> "RodTokens":
        """Returns them with one more; of a nexus that has many already, the oldest one is cancelled.

        raises   CheckCondition when the unit has too many
        Source: SPC4r37 5.17.6.2.1, 5.17.6.7
        """
        kept = self.without_expired(token.made_s)
        own = [each.raw for each in kept.live.values() if each.nexus == token.nexus]
        if len(own) >= MAX_TOKENS_PER_NEXUS:
            kept = kept._ended(own[:1], TokenError.TOKEN_CANCELLED)
        if len(kept.live) >= MAX_TOKENS:
            raise CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, INSUFFICIENT_RESOURCES))
        return kept._replace(live={**kept.live, token.raw: token})

    def used(self, raw: bytes, now_s: float) -> "RodTokens":
        """Returns them after a use of one that is live, whose inactivity begins anew."""
        return self._replace(live={**self.live, raw: self.live[raw]._replace(used_s=now_s)})

    def without(self, raw: bytes) -> "RodTokens":
        """Returns them after an initiator has given up one that is live."""
        return self._ended([raw], TokenError.TOKEN_DELETED)

    def without_expired(self, now_s: float) -> "RodTokens":
        """Returns them without those that have expired."""
        expired = [each.raw for each in self.live.values() if each.has_expired(now_s)]
        return self._ended(expired, TokenError.TOKEN_EXPIRED) if expired else self

    def after_change(self, ranges: Iterable[tuple[int, int]], now_s: float) -> "RodTokens":
        """Returns them when (offset, length) ranges of the medium are to be changed."""
        ranges = tuple(ranges)
        kept = self.without_expired(now_s)
        changed = [each.raw for each in kept.live.values() if each.meets(ranges)]
        return kept._ended(changed, TokenError.TOKEN_CANCELLED) if changed else kept

    def cancelled(self) -> "RodTokens":
        """Returns them when the medium is not any more what it was."""
        return self._ended(self.live, TokenError.TOKEN_CANCELLED) if self.live else self

    def _ended(self, raws: Iterable[bytes], why: TokenError) -> "RodTokens":
        gone = dict.fromkeys(raws, why)
        ended = list({**self.ended, **gone}.items())[-MAX_ENDED:]
        return RodTokens({raw: each for raw, each in self.live.items() if raw not in gone}, dict(ended))
