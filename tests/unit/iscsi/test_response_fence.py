"""A response fence over connections that the test acknowledges for: connections 0 and 1 of one session."""

import pytest

from iscsi_target.iscsi.connection import Connection, Departure, FixedNumbers
from iscsi_target.iscsi.login import Endpoint, LoginPhase
from iscsi_target.iscsi.response_fence import ResponseFence
from iscsi_target.wire.serial import MODULUS


class Bench:
    """A fence and what was sent.

    log    names of responses, and the CIDs of pings
    """

    def __init__(self, connections: int = 2, stat_sn: int = 10) -> None:
        self.connections: dict[int, Connection] = {}
        for cid in range(connections):
            connection = Connection(cid, 1, "", LoginPhase(Endpoint({}), 1, bytes), {})
            connection.cid, connection.stat_sn = cid, stat_sn
            self.connections[cid] = connection
        self.log: list[str | int] = []
        self.fence = ResponseFence(self.connections, lambda connection: self.log.append(connection.cid))

    def put(self, name: str, cid: int = 0, *, fenced: bool = False) -> None:
        connection = self.connections[cid]

        def send() -> None:
            connection.stat_sn = (connection.stat_sn + 1) % MODULUS
            self.log.append(name)

        self.fence.put(connection, send, fenced=fenced)

    def acknowledge(self, cid: int, exp_stat_sn: int) -> None:
        self.fence.acknowledge(self.connections[cid], exp_stat_sn)

    def lose(self, cid: int) -> None:
        self.fence.lose(self.connections.pop(cid))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_responses_without_a_fence_go_out_at_once(bench: Bench):
    bench.put("a")
    bench.put("b", 1)
    assert bench.log == ["a", "b"]
    assert not bench.fence.stands


def test_fence_of_one_connection_is_none():
    bench = Bench(1)
    bench.put("fenced", fenced=True)
    bench.put("after")
    assert bench.log == ["fenced", "after"]


@pytest.mark.clause("RFC7143 4.2.2.3.3")
def test_fenced_response_waits_for_all_connections_and_what_follows_for_its_own(bench: Bench):
    bench.put("fenced", fenced=True)
    bench.put("after", 1)
    assert bench.log == [0, 1]
    bench.acknowledge(0, 10)
    assert bench.log == [0, 1]
    bench.acknowledge(1, 9)
    assert bench.log == [0, 1]
    bench.acknowledge(1, 10)
    assert bench.log == [0, 1, "fenced", 0]
    bench.acknowledge(1, 11)
    bench.acknowledge(0, 10)
    assert bench.fence.stands
    bench.acknowledge(0, 11)
    assert bench.log == [0, 1, "fenced", 0, "after"]
    assert not bench.fence.stands


def test_a_fence_behind_a_fence_stands_in_its_turn(bench: Bench):
    bench.put("first", fenced=True)
    bench.put("second", 1, fenced=True)
    for cid in (0, 1):
        bench.acknowledge(cid, 10)
    bench.acknowledge(0, 11)
    assert bench.log == [0, 1, "first", 0, 0, 1]
    for cid, exp_stat_sn in ((0, 11), (1, 10), (1, 11)):
        bench.acknowledge(cid, exp_stat_sn)
    assert bench.log == [0, 1, "first", 0, 0, 1, "second", 1]
    assert not bench.fence.stands


def test_numbers_go_round():
    bench = Bench(stat_sn=MODULUS - 1)
    bench.put("fenced", fenced=True)
    for cid in (0, 1):
        bench.acknowledge(cid, MODULUS - 1)
    bench.acknowledge(0, MODULUS - 1)
    assert bench.fence.stands
    bench.acknowledge(0, 0)
    assert not bench.fence.stands


@pytest.mark.parametrize("before_it", [True, False])
def test_nothing_is_awaited_of_a_connection_that_is_lost(bench: Bench, before_it: bool):
    bench.put("fenced", fenced=True)
    bench.put("after", 1)
    bench.acknowledge(1, 10)
    if not before_it:
        bench.acknowledge(0, 10)
    bench.lose(0)
    assert [each for each in bench.log if isinstance(each, str)] == ["fenced", "after"]
    assert not bench.fence.stands


def test_nothing_is_awaited_of_a_connection_that_is_leaving(bench: Bench):
    bench.connections[1].phase = Departure(FixedNumbers(1))
    bench.put("fenced", fenced=True)
    bench.acknowledge(0, 10)
    assert bench.log == [0, "fenced", 0]
