"""What can happen in a world of two machines, each step with a number that says how much of it.

A test chooses the steps: hypothesis, or a seed.
"""

from collections.abc import Callable

from iscsi_target.initiator.faults import Delay, Duplicate, Rule
from iscsi_target.iscsi.requests import ScsiCommand
from tests.back_to_back import AREA, World

MAX_BLOCKS = 20
MAX_NUMBER = 4000


def place(number: int) -> tuple[int, int]:
    """LBA and blocks that a number stands for."""
    blocks = 1 + number % MAX_BLOCKS
    return min(number % AREA, AREA - blocks), blocks


def write(world: World, number: int) -> None:
    world.write(*place(number))


def read(world: World, number: int) -> None:
    world.read(*place(number))


def look(world: World, number: int) -> None:
    world.look(150 if number % 20 == 0 else 1)  # more than the window, or one


def ping(world: World, number: int) -> None:
    world.ping(number % 513)


def ask(world: World, number: int) -> None:
    world.ask(["", "All", "iqn.2026-01.org.example:node"][number % 3])


def abort(world: World, number: int) -> None:
    world.abort(number)


def reset(world: World, _number: int) -> None:
    world.reset()


def move_out(world: World, number: int) -> None:
    world.move_out(1 + number if number % 3 else 1 << 20)


def move_in(world: World, number: int) -> None:
    world.move_in(1 + number if number % 3 else 1 << 20)


def finish(world: World, number: int) -> None:
    for _ in range(1 + number % 5):
        world.finish(number)


def cut(world: World, number: int) -> None:
    world.cut(number)


def leave(world: World, number: int) -> None:
    world.leave(number)


def duplicate(world: World, number: int) -> None:
    world.session.faults.add(Rule(ScsiCommand, Duplicate(), nth=1 + number % 4))


def delay(world: World, number: int) -> None:
    """Only where no unsolicited data can come before its command."""
    if world.session.parameters.initial_r2t:
        world.session.faults.add(Rule(ScsiCommand, Delay(1 + number % 3), nth=1 + number % 2))


def release(world: World) -> None:
    """Lets what a rule holds back go out behind other PDUs, and everything come to its end."""
    world.release()


Step = Callable[[World, int], None]
WORK: list[Step] = [write, read, write, read, write, look, ping, ask, abort]
BYTES: list[Step] = [move_out, move_in, finish]
TROUBLE: list[Step] = [reset, cut, leave, duplicate, delay]
STEPS = [*WORK, *BYTES, *BYTES, *BYTES, *TROUBLE]
