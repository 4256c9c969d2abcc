"""ErrorRecoveryLevel 1: what is lost or damaged on a connection comes again, and the connection goes on.

A ---- NODE: LUN 0 == "disk0" (see tests/initiator), with both digests, segments of 512 and bursts of 1024 bytes
"""

from typing import Any, NamedTuple

import pytest

from iscsi_target.config.values import SERVED
from iscsi_target.iscsi import retention
from iscsi_target.iscsi.errors import RejectReason
from iscsi_target.iscsi.framing import MAX_LOST
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.recovering_transfer import MAX_TRIES
from iscsi_target.iscsi.requests import DataOut, NopOut, Request, ScsiCommand, SnackRequest
from iscsi_target.iscsi.responses import (
    DataIn,
    NopIn,
    ReadyToTransfer,
    Reject,
    ScsiResponse,
    TextResponse,
)
from iscsi_target.iscsi.retention import DATA_ACK, DATA_OR_R2T, R_DATA, STATUS
from iscsi_target.scsi.layouts.block_cdb import Read10, Write10
from iscsi_target.wire.layout import Layout
from tests.initiator import READY, Host, Lab
from tests.unit.scsi.unit_bench import BLOCK

ONES, TWOS = bytes([1]) * BLOCK, bytes([2]) * BLOCK
LEVEL = ("ErrorRecoveryLevel", "1")
OFFERS = [
    LEVEL,
    ("HeaderDigest", "CRC32C"),
    ("DataDigest", "CRC32C"),
    ("MaxRecvDataSegmentLength", "512"),
    ("MaxBurstLength", "1024"),
    ("FirstBurstLength", "1024"),
    ("InitialR2T", "No"),
    ("MaxOutstandingR2T", "2"),
    ("DataSequenceInOrder", "No"),
]
CRC_ERROR = (0xB, 0x4705)


@pytest.fixture
def lab() -> Lab:
    return Lab(preferences=SERVED._replace(error_recovery_level=1))


@pytest.fixture
def a(lab: Lab) -> Host:
    return lab.session(offers=OFFERS)


class Sent(NamedTuple):
    """A PDU of the target; its header is of the class that its opcode says."""

    header: Any
    data: bytes


def took(host: Host, kind: type[Layout] = Layout) -> list[Sent]:
    """Returns the PDUs of a kind that have come and forgets all that have come."""
    came, host.received = host.received, []
    return [Sent(*pdu) for pdu in came if isinstance(pdu.header, kind)]


def spoil(host: Host, header: Request, data: bytes = b"", *, place: int = -1) -> None:
    """Sends a PDU with one byte wrong: the last one is of the data digest, byte 20 is in the header."""
    packed = bytearray(host.pack(header, data))
    packed[place] ^= 0x80
    host.feed(packed)


def write(host: Host, lba: int, length: int = BLOCK, **fields) -> ScsiCommand:
    cdb = Write10(lba=lba, transfer_length=length // BLOCK).pack().ljust(16, b"\0")
    command = ScsiCommand(write=True, attributes=1, expected_data_transfer_length=length, cdb=cdb)
    return command.replace(initiator_task_tag=host.next_tag(), cmd_sn=host.next_cmd_sn(), **fields)


def read(host: Host, blocks: int, lba: int = 0) -> list[Sent]:
    host.received.clear()
    host.command(Read10(lba=lba, transfer_length=blocks), read=blocks * BLOCK)
    return took(host, DataIn)


def snack(host: Host, kind: int, begin: int = 0, length: int = 0, **fields: int) -> list[Sent]:
    """Sends a SNACK and returns what comes."""
    host.received.clear()
    host.send(SnackRequest(kind=kind, initiator_task_tag=NO_TAG, begin_run=begin, run_length=length).replace(**fields))
    return took(host)


def refused(pdus: list[Sent]) -> int:
    [(header, _)] = pdus
    assert isinstance(header, Reject)
    return header.reason


# Negotiation


@pytest.mark.clause("RFC7143 13.20")
@pytest.mark.parametrize(("offered", "result"), [("0", "0"), ("1", "1"), ("2", "1")])
def test_lower_level_of_both_holds(lab: Lab, offered: str, result: str):
    a = lab.connect()
    a.login(offers=[("ErrorRecoveryLevel", offered)])
    assert f"ErrorRecoveryLevel={result}\0".encode() in a.received[0].data


@pytest.mark.clause("RFC7143 7.4.1")
def test_discovery_sessions_recover_from_nothing(lab: Lab):
    a = lab.connect()
    a.login(None, [LEVEL])
    assert b"ErrorRecoveryLevel=0" in a.received[0].data


# Digests


@pytest.mark.clause("RFC7143 7.8")
def test_pdu_with_a_wrong_header_digest_falls_away(lab: Lab, a: Host):
    command = write(a, 0)
    spoil(a, command, ONES, place=20)
    assert not a.received
    assert not a.closed
    a.send(command, ONES)
    assert a.outcome(command.initiator_task_tag).status == 0
    assert lab.block(0) == ONES


@pytest.mark.clause("RFC7143 7.8")
@pytest.mark.parametrize("cut", [10, 60])
def test_pdu_with_a_wrong_header_digest_falls_away_in_pieces_too(a: Host, cut: int):
    ping = NopOut(initiator_task_tag=9, cmd_sn=a.next_cmd_sn())
    packed = bytearray(a.pack(ping, bytes(100)))
    packed[20] ^= 1
    a.feed(packed[:cut])
    a.feed(packed[cut:] + a.pack(ping, b"text"))
    assert [pdu.data for pdu in a.take(NopIn)] == [b"text"]


@pytest.mark.clause("RFC7143 7.8")
def test_connection_is_lost_when_it_is_not_known_where_pdus_begin(lab: Lab, a: Host):
    for _ in range(MAX_LOST):
        spoil(a, NopOut(immediate=True, initiator_task_tag=9), place=20)
    a.send(NopOut(immediate=True, initiator_task_tag=9, cmd_sn=a.cmd_sn))
    assert not a.closed
    for _ in range(MAX_LOST + 1):
        spoil(a, NopOut(immediate=True, initiator_task_tag=9), place=20)
    assert a.closed
    assert lab.clean


@pytest.mark.clause("RFC7143 7.8")
def test_damaged_length_that_cannot_be_ends_the_connection(a: Host):
    spoil(a, NopOut(immediate=True, initiator_task_tag=9), bytes(4), place=5)
    assert a.closed


@pytest.mark.clause("RFC7143 7.8")
def test_command_with_damaged_data_is_rejected_and_may_come_again(lab: Lab, a: Host):
    command = write(a, 0)
    spoil(a, command, ONES)
    assert a.take_one(Reject).reason == RejectReason.DATA_DIGEST_ERROR
    a.send(command, ONES)
    assert a.outcome(command.initiator_task_tag).status == 0
    assert lab.block(0) == ONES


@pytest.mark.clause("RFC7143 7.8")
def test_commands_behind_a_lost_one_wait_for_it(lab: Lab, a: Host):
    command = write(a, 0)
    spoil(a, command, ONES)
    later = [a.read(0) for _ in range(100)]
    assert not any(a.ended(tag) for tag in later)
    a.send(command, ONES)
    assert all(a.outcome(tag).data == ONES for tag in later)


@pytest.mark.clause("RFC7143 7.8")
@pytest.mark.clause("RFC7143 11.8")
@pytest.mark.parametrize("solicited", [True, False])
@pytest.mark.parametrize("place", [-1, 20], ids=["data", "header"])
def test_lost_data_is_asked_for_again_when_its_sequence_ends(lab: Lab, a: Host, solicited: bool, place: int):
    command = write(a, 0, 2 * BLOCK, final=solicited)
    a.send(command)
    tag = a.take_one(ReadyToTransfer).target_transfer_tag if solicited else NO_TAG
    first = DataOut(initiator_task_tag=command.initiator_task_tag, target_transfer_tag=tag)
    spoil(a, first, TWOS, place=place)
    assert [pdu.header.reason for pdu in took(a)] == [RejectReason.DATA_DIGEST_ERROR] * (place == -1)
    a.send(first.replace(final=True, data_sn=1, buffer_offset=BLOCK), TWOS)
    asked = a.take_one(ReadyToTransfer)
    assert (asked.r2t_sn, asked.buffer_offset, asked.desired_data_transfer_length) == (int(solicited), 0, BLOCK)
    a.data_out(asked, ONES)
    assert a.outcome(command.initiator_task_tag).status == 0
    assert (lab.block(0), lab.block(1)) == (ONES, TWOS)


@pytest.mark.clause("RFC7143 7.8")
def test_task_ends_when_its_data_is_lost_again_and_again(lab: Lab, a: Host):
    command = write(a, 0)
    a.send(command)
    for _ in range(MAX_TRIES + 1):
        asked = a.take_one(ReadyToTransfer)
        lost = DataOut(initiator_task_tag=command.initiator_task_tag, target_transfer_tag=asked.target_transfer_tag)
        spoil(a, lost.replace(final=True), ONES)
        a.received = [pdu for pdu in a.received if not isinstance(pdu.header, Reject)]
    assert a.outcome(command.initiator_task_tag).sense == CRC_ERROR
    assert lab.block(0) == bytes(BLOCK)
    assert not a.closed


@pytest.mark.clause("RFC7143 7.9")
def test_only_what_is_missing_in_the_middle_is_asked_for_again(lab: Lab, a: Host):
    command = write(a, 0, 2 * BLOCK)
    a.send(command)
    asked = a.take_one(ReadyToTransfer)
    a.data_out(asked, ONES[:100], final=False)
    a.data_out(asked, TWOS, final=True, data_sn=2, buffer_offset=BLOCK)
    again = a.take_one(ReadyToTransfer)
    assert (again.buffer_offset, again.desired_data_transfer_length) == (100, BLOCK - 100)
    a.data_out(again, ONES[100:])
    assert a.outcome(command.initiator_task_tag).status == 0
    assert (lab.block(0), lab.block(1)) == (ONES, TWOS)


@pytest.mark.clause("RFC7143 13.19")
def test_one_sequence_at_a_time_is_asked_for_where_they_come_in_order(lab: Lab):
    a = lab.session(offers=[*OFFERS[:-1], ("DataSequenceInOrder", "Yes")])
    a.send(write(a, 0, 4 * BLOCK))
    assert len(took(a, ReadyToTransfer)) == 1


@pytest.mark.clause("RFC7143 7.8")
def test_command_that_waits_is_not_dropped_for_damaged_data_of_another(lab: Lab, a: Host):
    first, second = a.next_cmd_sn(), a.next_cmd_sn()
    tag = a.write(0, ONES, cmd_sn=second)
    spoil(a, DataOut(initiator_task_tag=tag, target_transfer_tag=77, final=True), TWOS)
    a.read(1, cmd_sn=first)
    assert a.outcome(tag).status == 0
    assert lab.block(0) == ONES


@pytest.mark.clause("RFC7143 7.2.1")
def test_data_that_follows_a_lost_command_is_ignored(lab: Lab, a: Host):
    command, data = write(a, 0, final=False), DataOut(final=True)
    data = data.replace(initiator_task_tag=command.initiator_task_tag)
    spoil(a, command, place=20)
    a.send(data, TWOS)
    assert not a.received
    a.send(command)
    a.send(data, ONES)
    assert a.outcome(command.initiator_task_tag).status == 0
    assert lab.block(0) == ONES


@pytest.mark.clause("RFC7143 7.2.1")
def test_command_that_waits_and_has_lost_data_is_to_come_again(lab: Lab, a: Host):
    ping = NopOut(initiator_task_tag=a.next_tag(), cmd_sn=a.next_cmd_sn())
    command, data = write(a, 0, final=False), DataOut(final=True)
    data = data.replace(initiator_task_tag=command.initiator_task_tag)
    a.send(command)
    spoil(a, data, ONES)
    a.send(ping)
    assert not a.ended(command.initiator_task_tag)
    a.send(command)
    a.send(data, ONES)
    assert a.outcome(command.initiator_task_tag).status == 0
    assert lab.block(0) == ONES


@pytest.mark.clause("RFC7143 7.2.1")
def test_command_that_comes_twice_is_done_once(lab: Lab, a: Host):
    command = write(a, 0)
    a.send(command, ONES)
    a.received.clear()
    a.send(command, TWOS)
    assert not a.received
    assert lab.block(0) == ONES


# SNACK


@pytest.mark.clause("RFC7143 11.16.6")
@pytest.mark.clause("RFC7143 11.16.7")
@pytest.mark.parametrize(("begin", "length", "numbers"), [(0, 0, [0, 1, 2, 3]), (1, 2, [1, 2]), (3, 0, [3])])
def test_data_in_is_sent_again_as_it_was(lab: Lab, a: Host, begin: int, length: int, numbers: list[int]):
    sent = read(a, 4)
    lab.stores["disk0"].write(0, ONES * 4)  # it is not what the blocks have now
    tag = sent[0].header.initiator_task_tag
    assert snack(a, DATA_OR_R2T, begin, length, initiator_task_tag=tag) == [sent[number] for number in numbers]


@pytest.mark.clause("RFC7143 11.16.1")
def test_what_is_sent_again_has_the_window_of_now(a: Host):
    [sent] = read(a, 1)
    a.send(NopOut(initiator_task_tag=99, cmd_sn=a.next_cmd_sn()))
    [(header, _)] = snack(a, DATA_OR_R2T, initiator_task_tag=sent.header.initiator_task_tag)
    assert isinstance(header, DataIn)
    assert (header.exp_cmd_sn, header.stat_sn) == (a.cmd_sn, sent.header.stat_sn)


@pytest.mark.clause("RFC7143 11.16.1")
def test_r2t_that_is_not_satisfied_is_sent_again(lab: Lab, a: Host):
    command = write(a, 0, 4 * BLOCK)
    a.send(command)
    asked = took(a, ReadyToTransfer)
    assert len(asked) == 2
    tag = command.initiator_task_tag
    assert snack(a, DATA_OR_R2T, initiator_task_tag=tag) == asked
    first = DataOut(initiator_task_tag=tag, target_transfer_tag=asked[0].header.target_transfer_tag)
    a.send(first, ONES)
    a.send(first.replace(data_sn=1, buffer_offset=BLOCK, final=True), ONES)
    assert snack(a, DATA_OR_R2T, initiator_task_tag=tag) == asked[1:]


@pytest.mark.clause("RFC7143 11.16.6")
@pytest.mark.clause("RFC7143 11.16.7")
@pytest.mark.parametrize("begin, length", [(4, 0), (0, 5), (2, 3), (0xFFFFFFFF, 0), (1, 0xFFFFFFFF)])
def test_data_that_never_went_out_is_not_sent(a: Host, begin: int, length: int):
    tag = read(a, 4)[0].header.initiator_task_tag
    assert refused(snack(a, DATA_OR_R2T, begin, length, initiator_task_tag=tag)) == RejectReason.SNACK_REJECT


@pytest.mark.clause("RFC7143 11.16.1")
def test_data_of_a_task_that_there_is_not_is_not_sent(a: Host):
    assert refused(snack(a, DATA_OR_R2T, initiator_task_tag=77)) == RejectReason.SNACK_REJECT


@pytest.mark.clause("RFC7143 11.16.1")
@pytest.mark.parametrize("length", [0, 3])
def test_statuses_are_sent_again_as_they_were(a: Host, length: int):
    sent = read(a, 1)
    a.command(READY)
    a.send(NopOut(initiator_task_tag=98, cmd_sn=a.next_cmd_sn()))
    sent += took(a)
    again = snack(a, STATUS, sent[0].header.stat_sn, length)
    assert [type(pdu.header) for pdu in again] == [DataIn, ScsiResponse, NopIn]
    assert [(pdu.header.stat_sn, pdu.header.initiator_task_tag, pdu.data) for pdu in again] == [
        (pdu.header.stat_sn, pdu.header.initiator_task_tag, pdu.data) for pdu in sent
    ]


@pytest.mark.clause("RFC7143 11.16.1")
def test_nothing_is_sent_when_no_status_is_missing(a: Host):
    a.command(READY)
    number = a.take_one(ScsiResponse).stat_sn
    assert snack(a, STATUS, number + 1) == []


@pytest.mark.clause("RFC7143 11.16.1")
@pytest.mark.parametrize("begin, length", [(1, 1), (-1, 1), (0, 2)])
def test_status_that_never_went_out_or_is_acknowledged_is_not_sent(a: Host, begin: int, length: int):
    a.command(READY)
    number = a.take_one(ScsiResponse).stat_sn
    a.send(NopOut(immediate=True, initiator_task_tag=NO_TAG, cmd_sn=a.cmd_sn, exp_stat_sn=number))
    found = snack(a, STATUS, (number + begin) % 2**32, length)
    assert refused(found) == RejectReason.SNACK_REJECT


@pytest.mark.clause("RFC7143 4.2.2.2")
def test_acknowledged_status_takes_its_data_along(a: Host):
    sent = read(a, 4)
    tag, number = sent[0].header.initiator_task_tag, sent[-1].header.stat_sn
    assert snack(a, DATA_OR_R2T, initiator_task_tag=tag, exp_stat_sn=number) == sent
    found = snack(a, DATA_OR_R2T, initiator_task_tag=tag, exp_stat_sn=number + 1)
    assert refused(found) == RejectReason.SNACK_REJECT


@pytest.mark.clause("RFC7143 11.7.2")
def test_end_of_a_sequence_asks_for_an_acknowledgement(a: Host):
    marks = [(pdu.header.final, pdu.header.acknowledge, pdu.header.target_transfer_tag) for pdu in read(a, 4)]
    tag = marks[1][2]
    assert marks == [(False, False, NO_TAG), (True, True, tag), (False, False, NO_TAG), (True, False, NO_TAG)]
    assert tag != NO_TAG


@pytest.mark.clause("RFC7143 11.16.2")
def test_acknowledged_data_is_not_sent_again(a: Host):
    sent = read(a, 4)
    asking = sent[1].header
    ask = {"target_transfer_tag": asking.target_transfer_tag}
    assert snack(a, DATA_ACK, 2, **ask) == []
    tag = asking.initiator_task_tag
    assert snack(a, DATA_OR_R2T, 2, initiator_task_tag=tag) == sent[2:]
    assert refused(snack(a, DATA_OR_R2T, 1, initiator_task_tag=tag)) == RejectReason.SNACK_REJECT
    assert refused(snack(a, DATA_ACK, 5, **ask)) == RejectReason.INVALID_DATA_ACK


@pytest.mark.clause("RFC7143 11.16.3")
@pytest.mark.parametrize(("segment", "parts"), [(1024, 2), (700, 4)])
def test_data_is_cut_again_for_another_segment_length(a: Host, segment: int, parts: int):
    a.write(0, ONES)
    a.write(1, TWOS)
    sent = read(a, 4)
    tag = sent[0].header.initiator_task_tag
    a.ask([("MaxRecvDataSegmentLength", str(segment))])
    *data, status = snack(a, R_DATA, initiator_task_tag=tag, target_transfer_tag=0x1234)
    assert [pdu.header.data_sn for pdu in data] == list(range(parts))
    assert b"".join(pdu.data for pdu in data) == ONES + TWOS + bytes(2 * BLOCK)
    assert not any(pdu.header.status_present for pdu in data)
    header = status.header
    assert isinstance(header, ScsiResponse)
    assert (header.stat_sn, header.snack_tag, header.exp_data_sn) == (sent[-1].header.stat_sn, 0x1234, parts)
    assert snack(a, DATA_OR_R2T, 1, 1, initiator_task_tag=tag) == data[1:2]
    assert snack(a, STATUS, header.stat_sn, 1)[0].header == header


@pytest.mark.clause("RFC7143 11.16.3")
def test_data_that_has_become_too_long_needs_to_be_cut_again(a: Host):
    a.ask([("MaxRecvDataSegmentLength", "1024")])
    [sent] = read(a, 2)
    a.ask([("MaxRecvDataSegmentLength", "512")])
    tag = sent.header.initiator_task_tag
    assert refused(snack(a, DATA_OR_R2T, initiator_task_tag=tag)) == RejectReason.SNACK_REJECT
    assert len(snack(a, R_DATA, initiator_task_tag=tag, target_transfer_tag=1)) == 3


@pytest.mark.clause("RFC7143 11.16")
@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        (9, {}, RejectReason.INVALID_PDU_FIELD),
        (R_DATA, {"begin_run": 1}, RejectReason.INVALID_PDU_FIELD),
        (R_DATA, {"initiator_task_tag": 77}, RejectReason.SNACK_REJECT),
    ],
)
def test_snack_that_cannot_be_is_rejected(a: Host, kind: int, fields: dict[str, int], reason: int):
    assert refused(snack(a, kind, **fields)) == reason


@pytest.mark.clause("RFC7143 11.16")
def test_text_response_is_sent_again(a: Host):
    a.send(NopOut(initiator_task_tag=98, cmd_sn=a.next_cmd_sn()))
    number = a.take_one(NopIn).stat_sn
    a.ask([("X-com.example", "1")])
    [(header, text)] = snack(a, STATUS, number + 1, 1)
    assert isinstance(header, TextResponse)
    assert text == b"X-com.example=NotUnderstood\0"


# Limits


def test_kept_data_is_limited(a: Host, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retention, "MAX_KEPT_BYTES", 4 * (BLOCK + retention.PDU_BYTES))
    old, new = read(a, 3)[0].header.initiator_task_tag, read(a, 3)[0].header.initiator_task_tag
    assert refused(snack(a, DATA_OR_R2T, initiator_task_tag=old)) == RejectReason.SNACK_REJECT
    assert len(snack(a, DATA_OR_R2T, initiator_task_tag=new)) == 3


def test_initiator_that_acknowledges_nothing_is_cut(lab: Lab, a: Host, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retention, "MAX_STATUSES", 20)
    for _ in range(30):
        if not a.closed:
            a.command(READY)
    assert a.closed
    assert lab.clean


def test_what_is_acknowledged_costs_nothing(lab: Lab, a: Host):
    for _ in range(5):
        read(a, 4)
    a.abort(a.ask_to_write(0, 4))
    last = a.received[-1].header
    a.send(NopOut(immediate=True, initiator_task_tag=NO_TAG, cmd_sn=a.cmd_sn, exp_stat_sn=last.stat_sn + 1))
    kept = lab.target._links[a.number].connection.retention
    assert kept is not None
    assert (kept._statuses, kept._tasks, kept.kept_bytes) == ({}, {}, 0)
