"""The initiator's machine against the target's at ErrorRecoveryLevel 1, over a link that damages and loses PDUs.

    Session -- LossyPeer ──some PDUs are damaged──> Target: CountingLab ──> stores
            -- LossyPeer <──or lost─────

A seed determines a run; ISCSI_TARGET_SEEDS=2000 has more of them.
"""

import os
import random

import pytest

from iscsi_target.initiator.events import Event, PduReceived
from iscsi_target.initiator.session import Settings
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.iscsi.responses import Reject, TaskManagementResponse
from tests.back_to_back import UNIT_ATTENTION, Peer, World
from tests.back_to_back_steps import MAX_NUMBER, STEPS, Step, cut, leave, release, reset

SEEDS = range(int(os.environ.get("ISCSI_TARGET_SEEDS", "24")))
RUN_STEPS = 400
CONNECTIONS = 3
HEADER, DIGEST = 48, 4
IN_A_ROW = 2  # header digests; both sides give up after more
SPOILED = 0.06
TIMEOUT_S = 5.0
MAX_ROUNDS = 100
ABORTED_COMMAND = 0xB
RARE: dict[Step, float] = {cut: 0.05, reset: 0.1, leave: 0}
LENGTHS = [512, 1024, 4096, 8192]


def pdu_size(stream: bytes) -> tuple[int, int]:
    """Where the data of the first PDU begins, and where it ends, both digests in use."""
    begin = HEADER + 4 * stream[4] + DIGEST
    length = int.from_bytes(stream[5:8])
    return begin, begin + length + -length % 4 + (DIGEST if length else 0)


class LossyPeer(Peer):
    """Damages or loses PDUs once it is told to."""

    def __init__(self, *arguments) -> None:
        self.random: random.Random | None = None
        self.headers_lost = {True: 0, False: 0}
        super().__init__(*arguments)

    def spoil(self, sent: bytes, *, outward: bool) -> bytes:
        if self.random is None:
            return sent
        spoiled = b""
        while sent:
            begin, end = pdu_size(sent)
            spoiled += self._spoil(sent[:begin], sent[begin:end], outward=outward)
            sent = sent[end:]
        return spoiled

    def _spoil(self, header: bytes, data: bytes, *, outward: bool) -> bytes:
        assert self.random is not None
        chance = self.random.random()
        if chance < SPOILED and self.headers_lost[outward] < IN_A_ROW:
            self.headers_lost[outward] += 1
            return bytes([header[0], header[1] ^ 1]) + header[2:] + data
        self.headers_lost[outward] = 0
        if data and chance < 2 * SPOILED:
            return header + data[:-1] + bytes([data[-1] ^ 1])
        return header + data


class LossyWorld(World):
    """An initiator at work over such links, whose time passes."""

    peer_type = LossyPeer
    tolerated = (UNIT_ATTENTION, ABORTED_COMMAND)

    def __init__(self, source: random.Random, settings: Settings, preferences: Preferences, connections: int) -> None:
        self.source = source
        self.now = 1000.0
        super().__init__(settings, preferences, connections)

    def _log_in(self) -> None:
        super()._log_in()
        self.damage(self.source)

    def damage(self, source: random.Random | None) -> None:
        for peer in self.peers:
            assert isinstance(peer, LossyPeer)
            peer.random = source

    def tick(self) -> None:
        self.now = max(self.now + 0.1, min(self.session.deadline(), self.now + TIMEOUT_S))
        for event in self.session.elapsed(self.now):
            self._take(event)
        self.collect()

    def settle(self) -> None:
        for _ in range(MAX_ROUNDS):
            super().settle()
            if not self.session.requests:
                return
            self.tick()
        raise AssertionError(f"stuck: {list(self.session.requests)}")

    def _take(self, event: Event) -> None:
        match event:
            case PduReceived(header=Reject() | TaskManagementResponse()):
                pass  # of a SNACK for what is not there, or to a function that was sent again
            case _:
                super()._take(event)


def preferences(source: random.Random, seed: int) -> Preferences:
    return Preferences(
        header_digest=("CRC32C",),
        data_digest=("CRC32C",),
        error_recovery_level=1,
        initial_r2t=bool(seed & 1),
        immediate_data=bool(seed & 2),
        max_recv_data_segment_length=source.choice(LENGTHS),
        max_burst_length=source.choice(LENGTHS),
        first_burst_length=source.choice(LENGTHS),
        max_outstanding_r2t=source.randint(1, 4),
        max_connections=CONNECTIONS,
    )


@pytest.mark.parametrize("connections", [1, CONNECTIONS])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_command_ends_once_though_the_link_damages_and_loses(seed: int, connections: int):
    """Law: no task is stuck or done twice, every acknowledged write is there, and nothing is left at the end."""
    source = random.Random(seed)
    settings = Settings(preferences(source, seed), first_cmd_sn=source.choice([1, 0xFFFFFF00]), timeout_s=TIMEOUT_S)
    ours = Preferences(
        max_recv_data_segment_length=source.choice(LENGTHS), max_connections=CONNECTIONS, error_recovery_level=1
    )
    world = LossyWorld(source, settings, ours, connections)
    for _ in range(RUN_STEPS):
        step = source.choice(STEPS)
        if source.random() < RARE.get(step, 1):
            step(world, source.randrange(MAX_NUMBER))
        if source.random() < 0.02:
            world.tick()
        elif source.random() < 0.01:
            world.settle()
    release(world)
    world.damage(None)
    world.check()
    assert world.answered > RUN_STEPS // 40
