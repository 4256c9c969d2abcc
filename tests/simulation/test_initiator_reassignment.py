"""The initiator's machine against the target's at ErrorRecoveryLevel 2: connections are lost, and PDUs on the others.

    Session -- LossyPeer ──some are cut──> Target: CountingLab ──> stores
            -- LossyPeer <──some come again──

What is under way on a connection that is cut goes on on another one, or on this one when it comes again.
A seed determines a run; ISCSI_TARGET_SEEDS=2000 has more of them.
"""

import os
import random

import pytest

from iscsi_target.initiator.events import (
    ConnectionLost,
    Event,
    LoggedIn,
    MessageReceived,
    PduReceived,
    RequestRejected,
    TaskLost,
)
from iscsi_target.initiator.session import Settings
from iscsi_target.iscsi.errors import RejectReason
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.iscsi.responses import AsyncMessage, LogoutResponse, NopIn, Reject, TaskManagementResponse
from tests.back_to_back_steps import BYTES, MAX_NUMBER, WORK, Step, release, reset
from tests.simulation.test_initiator_recovery import CONNECTIONS, LENGTHS, TIMEOUT_S, LossyPeer, LossyWorld

SEEDS = range(int(os.environ.get("ISCSI_TARGET_SEEDS", "24")))
RUN_STEPS = 400
WAITS_S = [0, 0, 2]
RETAINS_S = [8, 20, 3600]
STEPS = [*WORK, *BYTES, *BYTES, *BYTES, reset]
RARE: dict[Step, float] = {reset: 0.2}
CUTS = 0.02
RETURNS = 0.05
OUTAGE_S = 60


class MortalPeer(LossyPeer):
    """Tells the world of all that its login brings about."""

    def log_in(self) -> None:
        self.events: list[Event] = []
        while not any(isinstance(event, LoggedIn) for event in self.events):
            assert self.sent or self.came or self.lab.at_medium, "the login has stopped"
            self.move_out(len(self.sent))
            self.events += self.move_in(len(self.came))
            if not self.came and self.lab.at_medium:  # a session before must be over first
                self.lab.finish()


class MortalWorld(LossyWorld):
    """An initiator that loses connections, and has them come again."""

    peer_type = MortalPeer

    def __init__(self, source: random.Random, settings: Settings, preferences: Preferences, connections: int) -> None:
        self.lossy = False
        self.retain_s = preferences.default_time2retain
        super().__init__(source, settings, preferences, connections)
        self.lossy = True
        self.returns = 0

    def _connect(self, cid: int) -> None:
        super()._connect(cid)
        peer = self.peers[-1]
        assert isinstance(peer, MortalPeer)
        for event in peer.events:
            if not isinstance(event, LoggedIn):
                self._take(event)
        if self.lossy:
            self.damage(self.source)
        self.collect()

    def lose_one(self) -> None:
        """Cuts a connection, with what is on its way both ways."""
        peer = self.source.choice(self.peers)
        if not peer.closed:
            peer.cut()
        self.bury(peer)

    def bury(self, peer) -> None:
        self.peers.remove(peer)
        for event in peer.connection.lose("cut"):
            self._take(event)
        if not self.peers:
            self.come_again()
        self.collect()

    def come_again(self) -> None:
        """Has one of the connections come again that are gone, or one that is there once more."""
        there = {peer.connection.cid: peer for peer in self.peers}
        gone = [cid for cid in range(self.connections) if cid not in there]
        cid = self.source.choice(gone) if gone else self.source.choice(list(there))
        if self.session.reassignment.is_under_way(cid):
            return
        self.returns += 1
        replaced = there.get(cid)
        if replaced is not None:
            self.peers.remove(replaced)
        self._connect(cid)

    def tick(self) -> None:
        if not self.session.leaving:
            for peer in [peer for peer in self.peers if peer.closed or peer.connection.closing]:
                self.bury(peer)
        before = self.now
        super().tick()
        self.lab.wait(self.now - before)

    def lose_all(self) -> None:
        """Cuts all connections for longer than the target keeps anything, and begins another session."""
        for peer in self.peers:
            if not peer.closed:
                peer.cut()
            for event in peer.connection.lose("cut"):
                self._take(event)
        self.peers.clear()
        end = self.now + WAITS_S[-1] + self.retain_s + TIMEOUT_S
        while self.now < end:
            self.tick()
        assert not self.session.requests
        assert not self.claims
        assert not self.others
        self.lossy = False
        self._log_in()
        self.lossy = True
        self.damage(self.source)

    def _take(self, event: Event) -> None:
        match event:
            case ConnectionLost(tags=tags, kept=kept):
                assert set(kept) <= set(self.claims) | self.others
                assert not set(tags) & set(self.claims)
                self.others -= set(tags)
            case TaskLost(tag=tag):
                if tag in self.others:
                    self.others.remove(tag)
                else:
                    claim = self.claims.pop(tag)
                    self._doubt(claim)
                    self.lingering.append(claim)
            case RequestRejected(tag, RejectReason.LONG_OPERATION_REJECT | RejectReason.IMMEDIATE_COMMAND_REJECT):
                self.others.remove(tag)  # a function, of which there are too many
            case MessageReceived(header=AsyncMessage(async_event=2)):
                pass  # a connection of the session is gone
            case PduReceived(header=Reject() | TaskManagementResponse() | NopIn() | LogoutResponse()):
                pass
            case _:
                super()._take(event)


def preferences(source: random.Random, seed: int) -> Preferences:
    wait_s, retain_s = source.choice(WAITS_S), source.choice(RETAINS_S)
    return Preferences(
        header_digest=("CRC32C",),
        data_digest=("CRC32C",),
        error_recovery_level=2,
        default_time2wait=wait_s,
        default_time2retain=retain_s,
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
def test_every_command_ends_once_though_connections_are_lost(seed: int, connections: int):
    """Law: no task is stuck or done twice, every acknowledged write is there, and nothing is left at the end."""
    source = random.Random(seed)
    theirs = preferences(source, seed)
    settings = Settings(theirs, first_cmd_sn=source.choice([1, 0xFFFFFF00]), timeout_s=TIMEOUT_S)
    ours = Preferences(
        max_recv_data_segment_length=source.choice(LENGTHS),
        max_connections=CONNECTIONS,
        error_recovery_level=2,
        default_time2wait=theirs.default_time2wait,
        default_time2retain=theirs.default_time2retain,
    )
    world = MortalWorld(source, settings, ours, connections)
    for _ in range(RUN_STEPS):
        step = source.choice(STEPS)
        if source.random() < RARE.get(step, 1):
            step(world, source.randrange(MAX_NUMBER))
        chance = source.random()
        if chance < CUTS:
            world.lose_one()
        elif chance < CUTS + RETURNS and len(world.peers) < connections:
            world.come_again()
        elif chance < CUTS + RETURNS + 0.02:
            world.tick()
        elif chance < CUTS + RETURNS + 0.022 and theirs.default_time2retain < OUTAGE_S:
            world.lose_all()
    world.damage(None)
    release(world)
    world.check()
    assert world.answered > RUN_STEPS // 80
