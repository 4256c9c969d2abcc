"""A trace of one connection between the target (port 3260) and a peer, read back with python-pcapng."""

import threading
from ipaddress import ip_address

import pytest
from pcapng import FileScanner
from pcapng.blocks import EnhancedPacket

from iscsi_target.config.address import Address
from iscsi_target.config.values import ConfigError
from iscsi_target.server import trace as trace_module
from iscsi_target.server.trace import MAX_SEGMENT_BYTES, Ipv4Header, Ipv6Header, TcpFlag, TcpHeader, Trace

LOCAL, PEER = Address("192.0.2.1", 3260), Address("192.0.2.2", 50000)
LOCAL6, PEER6 = Address("2001:db8::1", 3260), Address("2001:db8::2", 50000)


def packets(path):
    """Returns (IP header, TCP header, payload) of every packet."""
    found = []
    with path.open("rb") as file:
        for block in FileScanner(file):
            if isinstance(block, EnhancedPacket):
                packet = block.packet_data
                kind = Ipv4Header if Ipv4Header.unpack(packet).version == 4 else Ipv6Header
                payload = packet[kind.size + TcpHeader.size :]
                found.append((kind.unpack(packet), TcpHeader.unpack(packet, kind.size), payload))
    return found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trace.pcapng"


def test_connection_begins_with_a_handshake_and_ends_with_fin(path):
    trace = Trace(path)
    trace.opened(1, LOCAL, PEER)
    trace.closed(1)
    trace.close()
    flags = [TcpFlag(tcp.control_bits) for _, tcp, _ in packets(path)]
    fin = TcpFlag.FIN | TcpFlag.ACK
    assert flags == [TcpFlag.SYN, TcpFlag.SYN | TcpFlag.ACK, TcpFlag.ACK, fin, fin, TcpFlag.ACK]


@pytest.mark.parametrize("local, peer, kind", [(LOCAL, PEER, Ipv4Header), (LOCAL6, PEER6, Ipv6Header)])
def test_packet_has_the_addresses_ports_and_bytes_of_its_direction(path, local, peer, kind):
    trace = Trace(path)
    trace.opened(1, local, peer)
    trace.received(1, memoryview(b"request"))
    trace.sent(1, [b"resp", memoryview(b"onse")])
    trace.close()
    request, response = packets(path)[3:]
    assert isinstance(request[0], kind)
    assert request[0].source_address == ip_address(peer.host).packed
    assert (request[1].source_port, request[1].destination_port, request[2]) == (50000, 3260, b"request")
    assert response[0].source_address == ip_address(local.host).packed
    assert (response[1].source_port, response[1].destination_port, response[2]) == (3260, 50000, b"response")


def test_numbers_follow_the_bytes_of_both_directions(path):
    trace = Trace(path)
    trace.opened(1, LOCAL, PEER)
    trace.received(1, b"x" * 48)
    trace.sent(1, [b"y" * 100])
    trace.received(1, b"z")
    trace.close()
    numbers = [(tcp.sequence_number, tcp.acknowledgment_number) for _, tcp, _ in packets(path)[3:]]
    assert numbers == [(1, 1), (1, 49), (49, 101)]


def test_bytes_that_are_too_many_for_a_packet_are_cut(path):
    trace = Trace(path)
    trace.opened(1, LOCAL, PEER)
    payload = bytes(range(256)) * 1000
    trace.received(1, payload)
    trace.close()
    parts = packets(path)[3:]
    assert b"".join(part for _, _, part in parts) == payload
    assert all(len(part) <= MAX_SEGMENT_BYTES for _, _, part in parts)
    assert all(ip.total_length == 40 + len(part) for ip, _, part in parts)


def test_connections_are_kept_apart(path):
    trace = Trace(path)
    trace.opened(1, LOCAL, PEER)
    trace.opened(2, LOCAL, PEER._replace(port=50001))
    trace.received(2, b"two")
    trace.received(1, b"one")
    trace.close()
    assert [(tcp.source_port, part) for _, tcp, part in packets(path)[6:]] == [(50001, b"two"), (50000, b"one")]


def test_bytes_that_the_queue_does_not_take_leave_a_gap_in_the_numbers(path, monkeypatch, caplog):
    held = threading.Event()
    write = trace_module._PacketWriter.write

    def wait_and_write(self, entry):
        held.wait(5)
        write(self, entry)

    monkeypatch.setattr(trace_module._PacketWriter, "write", wait_and_write)
    monkeypatch.setattr(trace_module, "MAX_QUEUED_BYTES", 1000)
    trace = Trace(path)
    trace.opened(1, LOCAL, PEER)
    trace.received(1, b"a" * 1000)
    trace.received(1, b"b" * 50)
    monkeypatch.setattr(trace_module, "MAX_QUEUED_BYTES", 1 << 20)
    trace.received(1, b"c")
    held.set()
    trace.close()
    assert [(tcp.sequence_number, part[:1]) for _, tcp, part in packets(path)[3:]] == [(1, b"a"), (1051, b"c")]
    assert "lacks 50 bytes" in caplog.text


def test_disk_that_fails_ends_the_trace_and_not_the_server(path, monkeypatch, caplog):
    def fail(self, entry):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trace_module._PacketWriter, "write", fail)
    trace = Trace(path)
    trace.opened(1, LOCAL, PEER)
    trace.received(1, b"x")
    trace.close()
    assert "No space left on device" in caplog.text


def test_file_that_cannot_be_written_is_a_mistake(tmp_path):
    with pytest.raises(ConfigError, match="No such file or directory"):
        Trace(tmp_path / "missing" / "trace.pcapng")
