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


def commented(path):
    """Returns the comments of every packet that has a payload, with the payload."""
    with path.open("rb") as file:
        blocks = [block for block in FileScanner(file) if isinstance(block, EnhancedPacket)]
    found = [(block.options.get_all("opt_comment"), block.packet_data[Ipv4Header.size + 20 :]) for block in blocks]
    return [(comments, payload) for comments, payload in found if payload]


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


@pytest.mark.parametrize(
    "sent",
    [
        [b"aaBBBccDDee"],
        [b"a", b"aBBBccDDee"],
        [b"aaB", b"B", b"BccD", b"Dee"],
        [b"aaBBB", b"ccDDee"],
        [bytes([letter]) for letter in b"aaBBBccDDee"],
    ],
)
def test_comment_is_on_the_packet_that_completes_its_bytes_however_they_are_sent(path, sent):
    trace = Trace(path)
    trace.opened(1, LOCAL, PEER)
    trace.sent(1, [b"before"])
    trace.comment(1, ahead=2, length=3, text="about B")
    trace.comment(1, ahead=7, length=2, text="about D")
    for part in sent:
        trace.sent(1, [part])
    trace.close()
    found = commented(path)
    assert b"".join(payload for _, payload in found) == b"beforeaaBBBccDDee"
    carrying = [(*comments, payload[-1:]) for comments, payload in found if comments]
    assert carrying == [("about B", b"B"), ("about D", b"D")]
    assert not [payload for _, payload in found if {*b"BD"} & {*payload} and {*b"abcde"} & {*payload}]


def test_comments_on_bytes_side_by_side_are_on_packets_of_their_own(path):
    trace = Trace(path)
    trace.opened(1, LOCAL, PEER)
    trace.comment(1, ahead=0, length=1, text="one")
    trace.comment(1, ahead=1, length=1, text="two")
    trace.sent(1, [b"12"])
    trace.close()
    assert commented(path) == [(["one"], b"1"), (["two"], b"2")]


def test_comment_on_bytes_that_never_go_ends_with_the_connection(path):
    trace = Trace(path)
    trace.opened(1, LOCAL, PEER)
    trace.comment(1, ahead=10, length=5, text="lost")
    trace.sent(1, [b"0123456789ab"])
    trace.closed(1)
    trace.opened(1, LOCAL, PEER)
    trace.sent(1, [b"c" * 20])
    trace.close()
    assert [comments for comments, _ in commented(path)] == [[], [], []]


def test_comment_past_the_limit_is_left_out(path, monkeypatch):
    monkeypatch.setattr(trace_module, "MAX_COMMENTS", 1)
    trace = Trace(path)
    trace.opened(1, LOCAL, PEER)
    trace.comment(1, ahead=0, length=1, text="one")
    trace.comment(1, ahead=1, length=1, text="two")
    trace.sent(1, [b"12"])
    trace.close()
    assert commented(path) == [(["one"], b"1"), ([], b"2")]


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


def test_a_note_is_a_comment_on_an_empty_packet_and_moves_no_number(path):
    trace = Trace(path)
    trace.opened(1, LOCAL, PEER)
    trace.received(1, b"abc")
    trace.note(1, "fault 1")
    trace.sent(1, [b"d"])
    trace.close()
    with path.open("rb") as file:
        blocks = [block for block in FileScanner(file) if isinstance(block, EnhancedPacket)]
    assert [block.options.get_all("opt_comment") for block in blocks[3:]] == [[], ["fault 1"], []]
    _, note, _ = packets(path)[4]
    _, sent, payload = packets(path)[5]
    assert (note.sequence_number, note.acknowledgment_number) == (sent.sequence_number, sent.acknowledgment_number)
    assert payload == b"d"


def test_a_note_is_left_out_while_the_disk_is_behind(path, monkeypatch):
    monkeypatch.setattr(trace_module, "BEHIND_BYTES", -1)
    trace = Trace(path)
    trace.opened(1, LOCAL, PEER)
    trace.note(1, "fault 1")
    trace.close()
    assert len(packets(path)) == 3
