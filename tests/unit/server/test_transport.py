"""One channel, and the peer's end of its connection as a plain socket."""

import asyncio
import socket
from collections.abc import Iterable, Sequence

import pytest

from iscsi_target.config.address import Address
from iscsi_target.scsi.operations import Buffer
from iscsi_target.server import transport
from iscsi_target.server.poller import Lobby, Poller
from iscsi_target.server.transport import HIGH_WATER_BYTES, Channel, address_of


class Owner:
    """Notes what a channel reports and lets a test wait for it."""

    def __init__(self):
        self.received = bytearray()
        self.sent = bytearray()
        self.ended: list[str] = []
        self.congestion: list[bool] = []
        self.changed = asyncio.Event()

    def channel_received(self, number: int, received: Sequence[memoryview]) -> None:
        self.received += b"".join(received)
        self.changed.set()

    def channel_sent(self, number: int, sent: Iterable[Buffer]) -> None:
        self.sent += b"".join(sent)

    def channel_lost(self, number: int, reason: str) -> None:
        self.ended.append(f"lost: {reason}")
        self.changed.set()

    def channel_closed(self, number: int) -> None:
        self.ended.append("closed")
        self.changed.set()

    def channel_congested(self, number: int) -> None:
        self.congestion.append(True)

    def channel_relieved(self, number: int) -> None:
        self.congestion.append(False)
        self.changed.set()

    async def until(self, condition):
        async with asyncio.timeout(5):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
def owner():
    return Owner()


@pytest.fixture
async def pair(owner):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = socket.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
    poller = Poller(asyncio.get_running_loop())
    channel = Channel(1, accepted, memoryview(bytearray(1 << 16)), poller, owner)
    channel.start()
    peer.setblocking(False)
    yield channel, peer
    channel.abort()
    poller.close()
    peer.close()


async def read(peer: socket.socket, length: int) -> bytes:
    found = b""
    async with asyncio.timeout(5):
        while len(found) < length:
            part = await asyncio.get_running_loop().sock_recv(peer, 1 << 20)
            if not part:
                break
            found += part
    return found


def congestion_control(connected: socket.socket) -> bytes:
    return connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


@pytest.mark.parametrize("own", ["127.0.0.1", "127.0.0.2"])
async def test_congestion_is_of_no_concern_between_ends_on_one_machine(owner, own):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = socket.create_connection(listening.getsockname(), source_address=(own, 0))
        accepted, _ = listening.accept()
    before = congestion_control(accepted)
    poller = Poller(asyncio.get_running_loop())
    channel = Channel(1, accepted, memoryview(bytearray(1 << 16)), poller, owner)
    assert congestion_control(accepted) == (b"reno" if own == "127.0.0.1" else before)
    channel.abort()
    poller.close()
    peer.close()


async def test_input_is_told_by_another_watcher_from_when_it_moves(pair, owner):
    channel, peer = pair
    lobby = Lobby(asyncio.get_running_loop())
    channel.move(lobby)
    peer.send(b"one")
    await owner.until(lambda: owner.received == b"one")
    channel.hold()
    channel.move(Poller(asyncio.get_running_loop()))
    channel.release()
    peer.send(b"two")
    await owner.until(lambda: owner.received == b"onetwo")
    lobby.close()


async def test_bytes_of_the_peer_reach_the_owner(pair, owner):
    _, peer = pair
    peer.send(b"hello")
    await owner.until(lambda: owner.received == b"hello")


async def test_input_that_is_not_read_yet_shows(pair, owner):
    channel, peer = pair
    channel.hold()
    assert not channel.has_input
    peer.send(b"x")
    assert channel.has_input
    channel.release()
    await owner.until(lambda: owner.received)
    assert not channel.has_input
    peer.close()
    assert channel.has_input


async def test_input_goes_to_its_place_first_and_what_follows_where_other_input_goes(pair, owner):
    channel, peer = pair
    place = bytearray(5)
    channel.fill(memoryview(place))
    peer.send(b"in placebeyond")
    await owner.until(lambda: len(owner.received) == 14)
    assert owner.received == b"in placebeyond"
    assert place == b"in pl"
    peer.send(b"later")
    await owner.until(lambda: len(owner.received) == 19)
    assert place == b"in pl"


async def test_place_is_for_the_next_input_only_however_little_that_is(pair, owner):
    channel, peer = pair
    place = bytearray(5)
    channel.fill(memoryview(place))
    peer.send(b"in")
    await owner.until(lambda: owner.received == b"in")
    peer.send(b"put")
    await owner.until(lambda: owner.received == b"input")
    assert place == b"in\0\0\0"


async def test_buffers_leave_in_order(pair, owner):
    channel, peer = pair
    channel.send([b"one ", memoryview(b"two "), b"", bytearray(b"three")])
    assert await read(peer, 13) == b"one two three"
    assert owner.sent == b"one two three"


async def test_more_buffers_than_one_call_takes_leave_in_order(pair):
    channel, peer = pair
    buffers = [index.to_bytes(4, "big") for index in range(transport.BUFFERS_PER_SEND * 2 + 5)]
    channel.send(buffers)
    assert await read(peer, 4 * len(buffers)) == b"".join(buffers)


async def test_output_that_the_kernel_does_not_take_waits_and_stops_reading(pair, owner):
    channel, peer = pair
    output = bytes(range(256)) * (HIGH_WATER_BYTES // 32)
    channel.send([output])
    assert channel.unsent_bytes > HIGH_WATER_BYTES
    peer.send(b"unread until the output is gone")
    await asyncio.sleep(0)
    assert not owner.received
    assert owner.congestion == [True]
    assert await read(peer, len(output)) == output
    await owner.until(lambda: owner.received)
    assert owner.congestion == [True, False]


async def test_output_sent_while_older_output_waits_comes_after_it(pair):
    channel, peer = pair
    first = bytes(HIGH_WATER_BYTES * 8)
    channel.send([first])
    channel.send([b"second"])
    assert (await read(peer, len(first) + 6)).endswith(b"\0second")


async def test_peer_that_reads_nothing_is_cut(owner, pair, monkeypatch):
    monkeypatch.setattr(transport, "SEND_STALL_S", 0.01)
    channel, _ = pair
    channel.send([bytes(HIGH_WATER_BYTES * 8)])
    await owner.until(lambda: owner.ended)
    assert "read nothing" in owner.ended[0]


async def test_close_sends_what_waits_before_the_end(pair, owner):
    channel, peer = pair
    output = bytes(HIGH_WATER_BYTES * 4)
    channel.send([output, b"bye"])
    channel.close()
    assert await read(peer, len(output) + 4) == output + b"bye"
    peer.close()
    await owner.until(lambda: owner.ended)
    assert owner.ended == ["closed"]


async def test_close_of_a_peer_that_stays_ends_after_a_while(pair, owner, monkeypatch):
    monkeypatch.setattr(transport, "LINGER_S", 0.01)
    channel, _ = pair
    channel.close()
    await owner.until(lambda: owner.ended)
    assert owner.ended == ["closed"]


async def test_input_after_close_is_thrown_away(pair, owner):
    channel, peer = pair
    channel.close()
    peer.send(b"too late")
    peer.shutdown(socket.SHUT_WR)
    await owner.until(lambda: owner.ended)
    assert not owner.received


async def test_end_of_stream_loses_the_channel(pair, owner):
    _, peer = pair
    peer.close()
    await owner.until(lambda: owner.ended)
    assert owner.ended == ["lost: closed by the peer"]


async def test_failed_send_is_reported_later_and_once(pair, owner):
    channel, peer = pair
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    channel.send([bytes(1024)])
    channel.send([bytes(1024)])
    assert not owner.ended
    await owner.until(lambda: owner.ended)
    assert len(owner.ended) == 1


async def test_aborted_channel_reports_nothing(pair, owner):
    channel, _ = pair
    channel.abort()
    channel.send([b"x"])
    channel.close()
    await asyncio.sleep(0)
    assert not owner.ended


@pytest.mark.parametrize(
    "name, printed",
    [
        (("192.0.2.1", 3260), "192.0.2.1:3260"),
        (("2001:db8::1", 3260, 0, 0), "[2001:db8::1]:3260"),
        (("::ffff:192.0.2.1", 3260, 0, 0), "192.0.2.1:3260"),
        (("fe80::1%eth0", 1, 0, 2), "[fe80::1]:1"),
    ],
)
def test_address_prints_as_initiators_write_it(name, printed):
    assert str(address_of(name)) == printed


def test_name_of_another_family_is_no_address():
    with pytest.raises(ValueError, match="not an internet address"):
        address_of("/run/socket")


def test_ipv6_address_is_in_brackets():
    assert str(Address("::1", 0)) == "[::1]:0"


async def test_output_that_is_stopped_waits_and_then_goes_out_in_order(pair, owner):
    channel, peer = pair
    channel.let_flow(reads=True, writes=False)
    channel.send([b"one"])
    channel.send([b"two"])
    await asyncio.sleep(0)
    assert not owner.sent
    assert channel.unsent_bytes == 6
    channel.let_flow(reads=True, writes=True)
    channel.send([b"three"])
    assert await read(peer, 11) == b"onetwothree"


async def test_output_that_waits_in_the_kernel_s_way_can_be_stopped(pair, owner):
    channel, peer = pair
    large = bytes(8 << 20)
    channel.send([large])
    channel.let_flow(reads=True, writes=False)
    before = channel.unsent_bytes
    assert before
    peer.recv(1 << 20)
    await asyncio.sleep(0)
    assert channel.unsent_bytes == before
    channel.let_flow(reads=True, writes=True)
    rest = await read(peer, before)
    assert len(rest) >= before


async def test_input_that_is_stopped_is_read_later(pair, owner):
    channel, peer = pair
    channel.let_flow(reads=False, writes=True)
    peer.send(b"later")
    channel.release()  # which ends a hold, but not this
    await asyncio.sleep(0)
    assert not owner.received
    channel.let_flow(reads=True, writes=True)
    await owner.until(lambda: owner.received == b"later")


async def test_stopped_output_ends_the_connection_when_it_waits_too_long(pair, owner, monkeypatch):
    monkeypatch.setattr(transport, "SEND_STALL_S", 0.01)
    channel, _ = pair
    channel.let_flow(reads=True, writes=False)
    channel.send([b"never"])
    await owner.until(lambda: owner.ended)
    assert owner.ended == ["lost: the peer read nothing for 0 s"]


async def test_a_closed_channel_does_not_wait_for_stopped_output(pair, owner, monkeypatch):
    monkeypatch.setattr(transport, "LINGER_S", 0.01)
    channel, _ = pair
    channel.let_flow(reads=False, writes=False)
    channel.send([b"never"])
    channel.close()
    await owner.until(lambda: owner.ended)
    assert owner.ended == ["closed"]
