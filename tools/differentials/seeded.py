"""Sequences from seeds: the same seed is the same sequence, whatever runs it.

What a nexus says is mostly what it would say if all went well: it keeps in mind a key that it may be registered with,
and the type that it last reserved with. So sequences get far, and go wrong often enough.
"""

import random
from collections.abc import Callable

from iscsi_target.scsi.layouts.block_cdb import Read10, SynchronizeCache10, Verify10, Write10
from iscsi_target.scsi.layouts.cdb import Inquiry, ModeSense6, Release6, Reserve6, TestUnitReady
from iscsi_target.scsi.reservations.personality import InAction, OutAction, ReservationType
from tools.differentials.steps import (
    ALL,
    NEXUSES,
    STRANGER,
    Destination,
    Flags,
    Sequence,
    Step,
    change,
    look,
    move,
    plain,
)

STEPS = (6, 16)  # of a sequence, at least and at most
BLOCK = 512
KEYS = {"A": 0xA1, "AQ": 0xA2, "B": 0xB1, "C": 0xC1}
OTHER_KEYS = (0x51, 0x52)  # that any nexus may take
TYPES = tuple(int(kind) for kind in ReservationType)
LENGTHS = (0, 4, 7, 8, 12, 16, 24, 40, 100)
P_WRONG_KEY = 0.08
P_FLAG = 0.12
P_ASKS = 0.75


class _Author:
    """Writes one sequence.

    keys   nexus -> the key that it may be registered with, 0: none
    type   that was last reserved with
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.keys = dict.fromkeys(KEYS, 0)
        self.type = 1

    def sequence(self, name: str) -> Sequence:
        count = self.random.randint(*STEPS)
        steps = tuple(self._step() for _ in range(count))
        return Sequence(name, steps, self._chance(P_ASKS))

    def _chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def _step(self) -> Step:
        registered = [name for name, key in self.keys.items() if key]
        nexus = self.random.choice([*KEYS, *registered, *registered])
        kinds, weights = zip(*ACTIONS, strict=True)
        (write,) = self.random.choices(kinds, weights)
        found: Step = write(self, nexus)
        return found

    def _key(self, nexus: str) -> int:
        return self._any_key() if self._chance(P_WRONG_KEY) else self.keys[nexus]

    def _any_key(self) -> int:
        return self.random.choice([*KEYS.values(), *OTHER_KEYS])

    def _kind(self) -> int:
        """Returns a type, seldom one that there is not, or with a scope."""
        if self._chance(0.05):
            return self.random.choice((0, 2, 4, 9, 0xF))
        return self.random.choice(TYPES) | (0x10 if self._chance(0.04) else 0)

    def register(self, nexus: str) -> Step:
        key, new = self._key(nexus), self._new_key(nexus)
        flags = self._flags(spec_i_pt=not self.keys[nexus])
        self._registers(nexus, new, flags)
        return change(nexus, OutAction.REGISTER, (key, new), flags=flags)

    def ignore(self, nexus: str) -> Step:
        new, flags = self._new_key(nexus), self._flags(spec_i_pt=self._chance(0.1))
        self._registers(nexus, new, flags)
        return change(nexus, OutAction.REGISTER_AND_IGNORE_EXISTING_KEY, (self._any_key(), new), flags=flags)

    def _registers(self, nexus: str, new: int, flags: Flags) -> None:
        self.keys[nexus] = new
        if flags.all_tg_pt and nexus in ("A", "AQ"):
            self.keys |= {"A": new, "AQ": new}

    def _new_key(self, nexus: str) -> int:
        if self.keys[nexus] and self._chance(0.35):
            return 0
        return self.random.choice(OTHER_KEYS) if self._chance(0.25) else KEYS[nexus]

    def _flags(self, *, spec_i_pt: bool) -> Flags:
        ids = None
        if spec_i_pt and self._chance(P_FLAG * 2):
            ports = [NEXUSES[name].initiator for name in self.random.sample(["A", "B", "C"], self.random.randint(1, 2))]
            ids = (*ports, *([STRANGER] if self._chance(0.1) else []))
        return Flags(self._chance(P_FLAG), self._chance(P_FLAG), ids)

    def reserve(self, nexus: str) -> Step:
        self.type = self._kind()
        return change(nexus, OutAction.RESERVE, (self._key(nexus), 0), self.type, self._useless_flags())

    def _useless_flags(self) -> Flags:
        return Flags(self._chance(0.04), self._chance(0.04))

    def release(self, nexus: str) -> Step:
        kind = self._kind() if self._chance(0.2) else self.type
        return change(nexus, OutAction.RELEASE, (self._key(nexus), 0), kind, self._useless_flags())

    def clear(self, nexus: str) -> Step:
        key = self._key(nexus)
        if self.keys[nexus]:
            self.keys = dict.fromkeys(KEYS, 0)
        return change(nexus, OutAction.CLEAR, (key, 0), self._kind())

    def preempt(self, nexus: str) -> Step:
        action = self.random.choice((OutAction.PREEMPT, OutAction.PREEMPT_AND_ABORT))
        others = [key for name, key in self.keys.items() if name != nexus and key]
        victim = self.random.choice([*others, *others, 0, self._any_key(), self.keys[nexus]])
        self.type = self._kind()
        return change(nexus, action, (self._key(nexus), victim), self.type)

    def move(self, nexus: str) -> Step:
        where = NEXUSES[self.random.choice(list(KEYS))]
        target = self.random.choice((where.target, 1, 2))
        new = 0 if self._chance(0.1) else self._any_key()
        to = Destination(where.initiator, target, self._chance(0.3), self._chance(P_FLAG))
        return move(nexus, (self._key(nexus), new), to, self._kind())

    def look(self, nexus: str) -> Step:
        return look(nexus, self.random.choice(list(InAction)), self.random.choice((ALL, ALL, *LENGTHS)))

    def older(self, nexus: str) -> Step:
        name, cdb = self.random.choice((("RESERVE(6)", Reserve6()), ("RELEASE(6)", Release6())))
        return plain(nexus, name, cdb)

    def medium(self, nexus: str) -> Step:
        name, cdb, length = self.random.choice(
            (
                ("READ(10)", Read10(lba=0, transfer_length=1), BLOCK),
                ("VERIFY(10)", Verify10(lba=0, verification_length=1), 0),
                ("TEST UNIT READY", TestUnitReady(), 0),
                ("INQUIRY", Inquiry(allocation_length=36), 36),
                ("MODE SENSE(6)", ModeSense6(page_code=0x0A, allocation_length=64), 64),
                ("SYNCHRONIZE CACHE(10)", SynchronizeCache10(), 0),
            )
        )
        return plain(nexus, name, cdb, read_length=length)

    def write(self, nexus: str) -> Step:
        return plain(nexus, "WRITE(10)", Write10(lba=0, transfer_length=1), bytes(BLOCK))


ACTIONS: tuple[tuple[Callable[[_Author, str], Step], float], ...] = (
    (_Author.register, 5),
    (_Author.ignore, 3),
    (_Author.reserve, 4),
    (_Author.release, 2),
    (_Author.clear, 0.6),
    (_Author.preempt, 3),
    (_Author.move, 1.5),
    (_Author.look, 2),
    (_Author.older, 0.7),
    (_Author.medium, 1.5),
    (_Author.write, 1.5),
)


def seeded(seed: int) -> Sequence:
    """Returns the sequence of a seed."""
    return _Author(seed).sequence(f"seed {seed}")
