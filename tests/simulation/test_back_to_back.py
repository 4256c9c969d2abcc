"""The initiator's machine against the target's, over long runs; every run is determined by its seed."""

import random

import pytest

from iscsi_target.initiator.session import Settings
from iscsi_target.iscsi.parameters import FAST_ABORT, RESPONSE_FENCE, RFC3720, Preferences
from tests.back_to_back import World
from tests.back_to_back_steps import MAX_NUMBER, STEPS, Step, cut, release, reset

SEEDS = range(32)
RUN_STEPS = 400
CONNECTIONS = 3
REPORTING = (RFC3720,), (RESPONSE_FENCE, RFC3720), (FAST_ABORT, RESPONSE_FENCE, RFC3720)
LENGTHS = [512, 700, 1024, 4096, 8192, 262144]
RARE: dict[Step, float] = {cut: 0.05, reset: 0.1}  # a run is to get somewhere in between


def preferences(source: random.Random, seed: int) -> Preferences:
    """What a seed negotiates; 16 seeds in a row have all combinations of the yes and no."""
    return Preferences(
        header_digest=("CRC32C",) if seed & 1 else ("None",),
        data_digest=("CRC32C",) if seed & 2 else ("None",),
        initial_r2t=bool(seed & 4),
        immediate_data=bool(seed & 8),
        max_recv_data_segment_length=source.choice(LENGTHS),
        max_burst_length=source.choice(LENGTHS),
        first_burst_length=source.choice(LENGTHS),
        max_outstanding_r2t=source.randint(1, 4),
        max_connections=CONNECTIONS,
        task_reporting=REPORTING[seed % 3],
    )


@pytest.mark.parametrize("connections", [1, CONNECTIONS])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_command_ends_and_every_acknowledged_write_is_there(seed: int, connections: int):
    source = random.Random(seed)
    settings = Settings(preferences(source, seed), first_cmd_sn=source.choice([1, 0xFFFFFF00]))
    ours = Preferences(
        max_recv_data_segment_length=source.choice(LENGTHS), max_connections=CONNECTIONS, task_reporting=REPORTING[-1]
    )
    world = World(settings, ours, connections)
    for _ in range(RUN_STEPS):
        step = source.choice(STEPS)
        if source.random() < RARE.get(step, 1):
            step(world, source.randrange(MAX_NUMBER))
    release(world)
    world.check()
    assert world.answered > RUN_STEPS // 20  # it was not all for nothing
