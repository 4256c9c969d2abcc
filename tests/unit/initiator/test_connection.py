"""One connection of an initiator: digests, limits, its end."""

import pytest

from iscsi_target.initiator.events import ConnectionLost, LoginFailed, PingAnswered
from iscsi_target.initiator.faults import Cut, FaultScript, Rule
from iscsi_target.initiator.session import Settings
from iscsi_target.iscsi.framing import frame
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.iscsi.requests import NopOut
from iscsi_target.iscsi.responses import LoginResponse, NopIn
from tests.unit.initiator.bench import Desk, logged_in

DIGESTS = [("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")]


def test_digests_are_used_from_the_end_of_the_login_on():
    desk = logged_in(*DIGESTS)
    tag = desk.session.ping(b"data", desk.connection)
    assert desk.one().data == b"data"  # the desk's reader checks
    assert desk.reply(NopIn(initiator_task_tag=tag), b"data") == [PingAnswered(tag, b"data")]


@pytest.mark.parametrize("place", [50, 55])
def test_wrong_digest_ends_the_connection(place: int):
    desk = logged_in(*DIGESTS)
    tag = desk.session.ping(b"data", desk.connection)
    answer = bytearray(b"".join(frame(NopIn(initiator_task_tag=tag), b"data", **desk.digests)))
    answer[place] ^= 1
    [event] = desk.feed(bytes(answer))
    assert isinstance(event, ConnectionLost)
    assert "digest" in event.reason
    assert event.tags == (tag,)
    assert desk.connection.closing
    assert not desk.session.connections


def test_segment_that_is_longer_than_declared_ends_the_connection():
    desk = logged_in(settings=Settings(Preferences(max_recv_data_segment_length=512)))
    tag = desk.session.ping(bytes(600), desk.connection)
    [event] = desk.reply(NopIn(initiator_task_tag=tag), bytes(516))
    assert isinstance(event, ConnectionLost)


@pytest.mark.parametrize("opcode", [0x01, 0x3D])
def test_opcode_that_no_target_has_ends_the_connection(opcode: int):
    [event] = logged_in().feed(NopIn(opcode=opcode).pack())
    assert isinstance(event, ConnectionLost)
    assert hex(opcode) in event.reason


def test_exp_stat_sn_follows_the_status_of_the_target():
    desk = logged_in()
    desk.session.ping(b"", desk.connection)
    header, _, _ = desk.one()
    assert isinstance(header, NopOut)
    assert header.exp_stat_sn == 101
    desk.reply(NopIn(initiator_task_tag=header.initiator_task_tag))
    desk.session.ping(b"", desk.connection)
    header, _, _ = desk.one()
    assert isinstance(header, NopOut)
    assert header.exp_stat_sn == 102


def test_status_number_that_is_missing_ends_the_connection():
    desk = logged_in()
    tag = desk.session.ping(b"", desk.connection)
    [event] = desk.reply(NopIn(initiator_task_tag=tag), stat_sn=102)
    assert isinstance(event, ConnectionLost)
    assert "StatSN" in event.reason


def test_connection_is_lost_once():
    desk = logged_in()
    assert desk.connection.lose("gone") == [ConnectionLost(0, "gone", ())]
    assert desk.connection.lose("gone") == []
    assert desk.reply(NopIn()) == []


def test_connection_that_is_lost_during_the_login_is_a_failed_login():
    assert Desk().connection.lose("gone") == [LoginFailed(0, 0, "gone", "")]


def test_nothing_goes_out_after_a_cut():
    desk = logged_in(faults=FaultScript([Rule(NopOut, Cut(20))]))
    desk.session.ping(b"", desk.connection)
    desk.session.ping(b"", desk.connection)
    desk.connection.send_bytes(b"more")
    assert [len(buffer) for buffer in desk.connection.take_output()] == [20]
    assert desk.connection.closing


def test_bytes_go_out_as_they_are():
    desk = logged_in()
    desk.connection.send_bytes(b"nonsense")
    assert desk.connection.take_output() == [b"nonsense"]


def test_pdus_in_any_pieces_are_the_same():
    desk = logged_in()
    tags = [desk.session.ping(b"x" * length, desk.connection) for length in range(5)]
    stream = b"".join(
        b"".join(frame(NopIn(initiator_task_tag=tag, stat_sn=101 + index), b"x" * index))
        for index, tag in enumerate(tags)
    )
    events = [event for byte in range(len(stream)) for event in desk.feed(stream[byte : byte + 1])]
    assert events == [PingAnswered(tag, b"x" * index) for index, tag in enumerate(tags)]


def test_a_second_login_response_ends_the_connection():
    [event] = logged_in().reply(LoginResponse(current_stage=1))
    assert isinstance(event, ConnectionLost)
