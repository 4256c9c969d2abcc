"""Peers of a name service: how many there may be, and for how long. Peers A and B, on transports that are not real."""

import asyncio

import pytest

from iscsi_target.discovery.tcp_peer import Bounds, Peers, TcpPeer


class Transport(asyncio.WriteTransport):
    """Notes that it was cut."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = False

    def abort(self) -> None:
        self.cut = True


def connect(others: Peers, bounds: Bounds) -> tuple[TcpPeer, Transport]:
    peer, transport = TcpPeer(others, bounds), Transport()
    peer.connection_made(transport)
    return peer, transport


@pytest.fixture
def others() -> Peers:
    return {}


async def test_the_oldest_goes_when_there_is_one_too_many(others: Peers):
    bounds = Bounds(connections=1, idle_s=60)
    a, way_of_a = connect(others, bounds)
    b, way_of_b = connect(others, bounds)
    assert (way_of_a.cut, way_of_b.cut) == (True, False)
    for peer in (a, b):
        peer.connection_lost(None)
    assert others == {}


async def test_one_that_is_silent_goes(others: Peers):
    a, way_of_a = connect(others, Bounds(connections=2, idle_s=0))
    for _ in range(3):
        await asyncio.sleep(0)
    assert way_of_a.cut
    a.connection_lost(None)


async def test_one_that_sends_has_its_time_anew(others: Peers):
    a, _ = connect(others, Bounds(connections=2, idle_s=60))
    first = a._timer
    a.data_received(b"x")
    assert first is not None
    assert first.cancelled()
    assert a._timer is not first
    a.connection_lost(None)
    assert a._timer is not None
    assert a._timer.cancelled()


async def test_one_that_reads_no_answers_goes(others: Peers):
    a, way_of_a = connect(others, Bounds(connections=2, idle_s=60))
    a.pause_writing()
    assert way_of_a.cut
    a.connection_lost(None)
