"""A unit that is killed again and again while it is sanitized, whose medium has a cache that a crash loses.

Node A; port P; unit 0 (see unit_bench), whose medium is sanitized in eight steps a pass. Every run is determined by its
seed. A life of the unit ends at any point: before an operation came to the medium, in the middle of it, or after it
and before the unit heard of it; and so with the state file.
"""

import random

import pytest

from iscsi_target.scsi.commands.format_unit import FormatUnit, PatternDescriptor, ShortHeader
from iscsi_target.scsi.commands.sanitize import OverwriteHeader, Sanitize
from iscsi_target.scsi.layouts.block_cdb import Read10
from iscsi_target.scsi.operations import Fault, MediumError, Operation
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.scsi.state.task import Collect, Completed, Perform, Persist, Rest, Task, Ticket, UnitAction, UnitState
from iscsi_target.scsi.status import Status
from iscsi_target.scsi.unit import sanitizer
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.wire.layout import Layout
from tests.unit.scsi.unit_bench import BLOCK, BLOCKS, READY, A, Memory, make_device

LENGTH = BLOCK * BLOCKS
STEPS = 8
FORMER = b"former data".ljust(BLOCK, b"!")
PATTERN = bytes(range(256)) * 2
SEEDS = range(60)
IN_PROGRESS, FORMATTING = b"\x04\x1b", b"\x04\x04"
FAILED, FORMAT_FAILED, CORRUPTED = b"\x31\x03", b"\x31\x01", b"\x31\x00"


class CrashingMemory(Memory):
    """A store whose writes are on stable storage after a flush; of the others a crash may lose any."""

    def __init__(self) -> None:
        super().__init__()
        self.content[:] = FORMER * BLOCKS
        self._stable = bytes(self.content)
        self._unflushed: list[tuple[int, bytes]] = []

    def write(self, offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        super().write(offset_bytes, data)
        self._unflushed.append((offset_bytes, bytes(data)))

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        self.write(offset_bytes, bytes(length_bytes))

    def flush(self) -> None:
        self._stable = bytes(self.content)
        self._unflushed.clear()

    def crash(self, chance: random.Random) -> None:
        self.content[:] = self._stable
        for offset, data in self._unflushed:
            if chance.random() < 0.5:
                self.content[offset : offset + len(data)] = data
        self.flush()


class World:
    """What outlives the unit: its medium and its state file; and the life that it has now.

    begun    True from when the state file has an operation for the first time
    ended    how the last command ended, or None
    """

    def __init__(self, seed: int, sanitize: Layout, data: bytes) -> None:
        self.random = random.Random(seed)
        self.memory = CrashingMemory()
        self.stored = UnitState()
        self.begun = False
        self.lives = 0
        self.inputs = 0
        self._tag = 0
        self.live()
        self.task = self.send(sanitize.pack(), data)

    def live(self) -> None:
        """Begins a life, as when a server is started."""
        self.lives += 1
        device = make_device()
        device.features = device.features._replace(sanitize_s=0.8)
        device.sanitization = self.stored.sanitization
        self.unit = LogicalUnit("unit0", device)
        self.at_medium: tuple[Ticket, Operation] | None = None
        self.saving: tuple[Ticket, UnitState] | None = None
        self.rests: list[Ticket] = []
        self.unit.attach(A)
        self.take(self.unit.resume())
        self.unit.nexuses.take(A)

    def die(self) -> None:
        """Ends a life; what was under way has come to any point."""
        if self.at_medium is not None and self.random.random() < 0.7:
            self.at_medium[1].perform(self.memory)
        if self.saving is not None and self.random.random() < 0.5:
            self.store(self.saving[1])
        self.memory.crash(self.random)

    def store(self, state: UnitState) -> None:
        self.stored = state
        self.begun = self.begun or state.sanitization is not None

    def send(self, cdb: bytes, data: bytes = b"") -> Task:
        self._tag += 1
        task = Task(A, self._tag, cdb.ljust(16, b"\0"), expects_data=bool(data), data_out=data or None)
        self.ended: Completed | None = None
        self.take(self.unit.accept(task))
        return task

    def take(self, actions: list[UnitAction]) -> None:
        for action in actions:
            match action:
                case Perform(ticket, operation):
                    assert self.at_medium is None
                    self.at_medium = ticket, operation
                case Persist(ticket, state):
                    assert self.saving is None
                    self.saving = ticket, state
                case Rest(ticket):
                    self.rests.append(ticket)
                case Completed():
                    self.ended = action
                case Collect():
                    raise AssertionError("its data came with it")
                case _:
                    pass

    def go_on(self, error: MediumError | None = None) -> bool:
        """Gives the unit the next input; returns False when it waits for nothing."""
        self.inputs += 1
        if self.rests:
            self.take(self.unit.rested(self.rests.pop()))
        elif self.at_medium is not None:
            (ticket, operation), self.at_medium = self.at_medium, None
            self.take(self.unit.finished(ticket, error or operation.perform(self.memory)))
        elif self.saving is not None:
            (ticket, state), self.saving = self.saving, None
            self.store(state)
            self.take(self.unit.finished(ticket, None))
        else:
            return False
        return True

    def sense(self, cdb: bytes) -> bytes:
        """Returns the code that a command is told; nothing for GOOD."""
        self.send(cdb)
        while self.ended is None and self.at_medium is not None:
            self.go_on()
        assert self.ended is not None
        return b"" if self.ended.status is Status.GOOD else bytes(self.ended.sense[12:14])


def overwriting(passes: int, *, invert: bool) -> tuple[Sanitize, bytes]:
    header = OverwriteHeader(invert=invert, overwrite_count=passes, initialization_pattern_length=BLOCK)
    data = header.pack() + PATTERN
    return Sanitize(service_action=Method.OVERWRITE, parameter_list_length=len(data)), data


def formatting() -> tuple[FormatUnit, bytes]:
    descriptor = PatternDescriptor(initialization_pattern_type=1, initialization_pattern_length=BLOCK)
    return FormatUnit(fmtdata=True), ShortHeader(fov=True, ip=True, immed=True).pack() + descriptor.pack() + PATTERN


KINDS: dict[str, tuple[tuple[Layout, bytes], bytes]] = {
    "block erase": ((Sanitize(service_action=Method.BLOCK_ERASE), b""), bytes(LENGTH)),
    "cryptographic erase": ((Sanitize(service_action=Method.CRYPTOGRAPHIC_ERASE, immed=True), b""), bytes(LENGTH)),
    "overwrite": (overwriting(1, invert=False), PATTERN * BLOCKS),
    "three inverted overwrites": (overwriting(3, invert=True), PATTERN * BLOCKS),
    "format": ((FormatUnit(), b""), bytes(LENGTH)),
    "format with a pattern": (formatting(), PATTERN * BLOCKS),
}


def check_usable(world: World, wanted: bytes) -> None:
    """Law: a unit that is usable again has nothing of what it had, and never loses that."""
    assert world.memory.content == wanted
    world.memory.crash(world.random)
    assert world.memory.content == wanted


@pytest.fixture(autouse=True)
def often_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets what is stored be some steps behind."""
    monkeypatch.setattr(sanitizer, "CHECKPOINT_BYTES", 3 * LENGTH // STEPS)


@pytest.mark.clause("SBC3r36 4.11.2")
@pytest.mark.parametrize("kind", KINDS)
def test_killed_once_at_every_point_it_goes_on_and_ends(kind: str):
    """Law: wherever a life ends, the next one goes on, or nothing was begun and nothing is lost."""
    (sanitize, data), wanted = KINDS[kind]
    point = 0
    while True:
        world = World(point, sanitize, data)
        alive = all(world.go_on() for _ in range(point))
        if not alive:
            break
        world.die()
        world.live()
        if not world.begun:
            assert world.memory.content == FORMER * BLOCKS
            assert world.sense(READY.pack()) == b""
        else:
            while world.go_on():
                pass
            assert world.sense(READY.pack()) == b""
            check_usable(world, wanted)
            assert world.stored.sanitization is None
        point += 1
    assert point > STEPS


@pytest.mark.clause("SBC3r36 4.11.2")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_killed_again_and_again_it_never_shows_what_it_had(kind: str, seed: int):
    """Law: from when it is on disk, no life answers a read before everything is gone; and it ends."""
    (sanitize, data), wanted = KINDS[kind]
    world = World(seed, sanitize, data)
    read = Read10(lba=world.random.randrange(BLOCKS), transfer_length=1).pack()
    while world.lives < 40:
        for _ in range(world.random.randrange(12)):
            if not world.go_on():
                break
            if world.stored.sanitization is not None:
                assert world.sense(read) == (FORMATTING if isinstance(sanitize, FormatUnit) else IN_PROGRESS)
        if world.begun and world.stored.sanitization is None and world.saving is None:
            break
        world.die()
        world.live()
        if not world.begun:
            world.send(sanitize.pack(), data)
    while world.go_on():
        pass
    assert world.sense(read) == b""
    check_usable(world, wanted)


@pytest.mark.clause("SBC3r36 4.11.3")
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "cdb, told, told_meanwhile",
    [(Sanitize(service_action=Method.BLOCK_ERASE), FAILED, IN_PROGRESS), (FormatUnit(), CORRUPTED, FORMATTING)],
)
def test_a_failure_survives_every_life_until_it_is_mended(seed: int, cdb: Layout, told: bytes, told_meanwhile: bytes):
    """Law: a unit that could not be sanitized refuses commands in every life, or tries again if that is not stored."""
    world = World(seed, cdb, b"")
    while world.at_medium is None:
        world.go_on()
    world.go_on(MediumError(Fault.WRITE_FAILED, 0))
    assert world.ended is not None
    assert world.ended.sense[12:14] == (told if told == FAILED else FORMAT_FAILED)
    for _ in range(3):
        world.die()
        world.live()
        failed = world.stored.sanitization
        assert failed is not None
        assert world.sense(READY.pack()) == (told if failed.failed else told_meanwhile)
    world.send(cdb.pack())
    while world.go_on():
        pass
    assert world.sense(READY.pack()) == b""
    check_usable(world, bytes(LENGTH))


def test_what_is_stored_lags_behind_so_that_there_is_something_to_do_twice():
    """The checkpoints of this simulation are where a crash loses some steps, or it would prove little."""
    world = World(1, Sanitize(service_action=Method.BLOCK_ERASE), b"")
    behind: list[int] = []
    while world.go_on():
        now, stored = world.unit.device.sanitization, world.stored.sanitization
        if isinstance(now, Sanitization) and stored is not None:
            behind.append(now.done_bytes - stored.done_bytes)
    assert max(behind) > 0


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_gives_the_same_lives(seed: int):
    """Law: the machine is deterministic."""
    (sanitize, data), _ = KINDS["three inverted overwrites"]
    runs = []
    for _ in range(2):
        world = World(seed, sanitize, data)
        runs.append([(world.go_on(), world.stored, bytes(world.memory.content)) for _ in range(30)])
    assert runs[0] == runs[1]
