"""Titles of the initiator's full feature phase that are about commands and their data: 6, 8 to 13 and 16.

initiator ---- Desk: a target that says what the test wants (see tests/unit/initiator/bench)
"""

import pytest

from iscsi_target.initiator.command import Command
from iscsi_target.initiator.events import CommandCompleted, ConnectionLost, RequestRejected
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import DataOut, ScsiCommand
from iscsi_target.iscsi.responses import DataIn, NopIn, ReadyToTransfer, Reject, ScsiResponse
from iscsi_target.iscsi.text import Pair
from tests.unit.initiator.bench import LUN, READY, WINDOW, Desk, Sent, logged_in

SEGMENT = 512  # what the target takes in one PDU
FIRST_BURST = 1024
TRANSFER_TAG = 4711
CONTENT = bytes(range(250)) * 12  # 3000 bytes
WRITE = Command(LUN, bytes(range(10)), CONTENT)
CHECK_CONDITION, BUSY, RESERVATION_CONFLICT = 2, 8, 0x18


def session(initial_r2t: str = "Yes", immediate_data: str = "No", *answers: Pair) -> Desk:
    agreed = [("InitialR2T", initial_r2t), ("ImmediateData", immediate_data), ("FirstBurstLength", str(FIRST_BURST))]
    return logged_in(*agreed, ("MaxRecvDataSegmentLength", str(SEGMENT)), *answers)


def send(desk: Desk, command: Command = WRITE) -> tuple[int, ScsiCommand, bytes, list[Sent]]:
    """Returns tag, header and immediate data of a command, and what follows it unasked."""
    tag = desk.session.command(command, desk.connection)
    first, *rest = desk.sent()
    assert isinstance(first.header, ScsiCommand)
    return tag, first.header, first.data, rest


def ask(desk: Desk, tag: int, number: int, offset: int, length: int) -> list[Sent]:
    """Sends an R2T and returns what answers it."""
    asked = ReadyToTransfer(
        lun=LUN,
        initiator_task_tag=tag,
        target_transfer_tag=TRANSFER_TAG + number,
        r2t_sn=number,
        buffer_offset=offset,
        desired_data_transfer_length=length,
    )
    assert desk.reply(asked, status=False) == []
    return desk.sent()


def data_out(sent: list[Sent]) -> list[DataOut]:
    headers = [one.header for one in sent]
    assert all(isinstance(header, DataOut) for header in headers)
    return [header for header in headers if isinstance(header, DataOut)]


def joined(sent: list[Sent]) -> bytes:
    return b"".join(one.data for one in sent)


def read(desk: Desk, length: int = 8) -> int:
    return send(desk, READY._replace(read_length=length))[0]


# Data-Out


@pytest.mark.case("FFI-6.1")
@pytest.mark.case("FFI-11.3")
@pytest.mark.clause("RFC7143 11.7.5")
def test_ffi_6_1_data_sn_counts_from_zero_in_each_sequence():
    desk = session()
    tag, *_ = send(desk)
    for number, offset in enumerate((0, 1500)):
        assert [header.data_sn for header in data_out(ask(desk, tag, number, offset, 1500))] == [0, 1, 2]


@pytest.mark.case("FFI-8.1")
@pytest.mark.case("FFI-16.2.4")
@pytest.mark.clause("RFC7143 13.14")
def test_ffi_8_1_the_first_burst_goes_unasked_and_the_rest_when_it_is_asked_for():
    desk = session("No", "Yes")
    tag, header, immediate, unasked = send(desk)
    assert (header.final, immediate) == (False, CONTENT[:SEGMENT])
    assert joined(unasked) == CONTENT[SEGMENT:FIRST_BURST]
    assert joined(ask(desk, tag, 0, FIRST_BURST, len(CONTENT) - FIRST_BURST)) == CONTENT[FIRST_BURST:]


@pytest.mark.case("FFI-8.2")
@pytest.mark.case("FFI-16.2.2")
@pytest.mark.clause("RFC7143 13.10")
def test_ffi_8_2_nothing_goes_unasked_where_it_must_not():
    desk = session("Yes", "No")
    tag, header, immediate, unasked = send(desk)
    assert (header.final, immediate, unasked) == (True, b"", [])
    assert joined(ask(desk, tag, 0, 0, len(CONTENT))) == CONTENT


@pytest.mark.case("FFI-8.3")
@pytest.mark.case("FFI-16.2.3")
@pytest.mark.clause("RFC7143 13.11")
def test_ffi_8_3_unsolicited_data_goes_without_immediate_data():
    _, header, immediate, unasked = send(session("No", "No"))
    assert (header.final, immediate) == (False, b"")
    assert joined(unasked) == CONTENT[:FIRST_BURST]
    assert {header.target_transfer_tag for header in data_out(unasked)} == {NO_TAG}


@pytest.mark.case("FFI-16.2.1")
@pytest.mark.case("FFI-16.3.1")
@pytest.mark.clause("RFC7143 11.3.1")
def test_ffi_16_2_1_immediate_data_alone_ends_what_goes_unasked():
    _, header, immediate, unasked = send(session("Yes", "Yes"))
    assert (header.final, immediate, unasked) == (True, CONTENT[:SEGMENT], [])


@pytest.mark.case("FFI-9.1")
@pytest.mark.case("FFI-12.1")
@pytest.mark.clause("RFC7143 11.7.4")
def test_ffi_9_1_an_r2t_is_answered_with_its_transfer_tag_offset_and_length():
    desk = session()
    tag, *_ = send(desk)
    [sent] = ask(desk, tag, 0, 100, 400)
    [header] = data_out([sent])
    assert (header.target_transfer_tag, header.initiator_task_tag, header.lun) == (TRANSFER_TAG, tag, LUN)
    assert (header.buffer_offset, sent.data, header.final) == (100, CONTENT[100:500], True)


@pytest.mark.case("FFI-11.1.1")
@pytest.mark.clause("RFC7143 13.12")
def test_ffi_11_1_1_no_data_segment_exceeds_what_the_target_declared():
    desk = session("No", "Yes")
    tag, _, immediate, unasked = send(desk)
    asked = ask(desk, tag, 0, FIRST_BURST, len(CONTENT) - FIRST_BURST)
    assert [len(data) for data in (immediate, *(one.data for one in (*unasked, *asked)))] == [
        512,
        512,
        512,
        512,
        512,
        440,
    ]


@pytest.mark.case("FFI-11.2.1")
@pytest.mark.clause("RFC7143 11.7.1")
def test_ffi_11_2_1_the_last_unsolicited_pdu_is_final():
    *_, unasked = send(session("No", "No"))
    assert [header.final for header in data_out(unasked)] == [False, True]


@pytest.mark.case("FFI-11.2.2")
@pytest.mark.case("FFI-12.2")
@pytest.mark.clause("RFC7143 11.7.1")
def test_ffi_11_2_2_the_last_pdu_of_what_was_asked_for_is_final():
    desk = session()
    tag, *_ = send(desk)
    for number, offset in enumerate((0, 1500)):
        sent = ask(desk, tag, number, offset, 1500)
        assert [header.final for header in data_out(sent)] == [False, False, True]
        assert joined(sent) == CONTENT[offset : offset + 1500]


@pytest.mark.case("FFI-11.4")
@pytest.mark.clause("RFC7143 11.7.6")
def test_ffi_11_4_offsets_lead_through_the_data_without_gap():
    desk = session("No", "Yes")
    tag, _, _, unasked = send(desk)
    asked = ask(desk, tag, 0, FIRST_BURST, len(CONTENT) - FIRST_BURST)
    assert [header.buffer_offset for header in data_out([*unasked, *asked])] == [512, 1024, 1536, 2048, 2560]


@pytest.mark.case("FFI-12.3")
@pytest.mark.clause("RFC7143 13.19")
def test_ffi_12_3_sequences_may_be_asked_for_in_any_order_where_that_was_negotiated():
    desk = session("Yes", "No", ("DataSequenceInOrder", "No"))
    tag, *_ = send(desk)
    for number, offset in enumerate((2000, 0, 1000)):
        assert joined(ask(desk, tag, number, offset, 1000)) == CONTENT[offset : offset + 1000]


@pytest.mark.case("FFI-12.4")
@pytest.mark.clause("RFC7143 11.8")
def test_ffi_12_4_commands_side_by_side_are_each_given_what_is_asked_for():
    desk = session()
    (first, *_), (second, *_) = send(desk), send(desk, WRITE._replace(data_out=CONTENT[::-1]))
    for number, offset in enumerate((0, 1500)):
        assert joined(ask(desk, second, number, offset, 1500)) == CONTENT[::-1][offset : offset + 1500]
        assert joined(ask(desk, first, number, offset, 1500)) == CONTENT[offset : offset + 1500]


# Data-In


@pytest.mark.case("FFI-10.1")
@pytest.mark.clause("RFC7143 11.7.3")
def test_ffi_10_1_a_status_in_the_last_data_in_ends_the_command():
    desk = session()
    tag = read(desk)
    assert desk.reply(DataIn(initiator_task_tag=tag), b"abcd") == []
    last = DataIn(initiator_task_tag=tag, data_sn=1, buffer_offset=4, final=True, status_present=True)
    assert desk.reply(last, b"efgh") == [CommandCompleted(tag, 0, 0, b"", b"abcdefgh")]


@pytest.mark.case("FFI-10.2")
@pytest.mark.case("FFI-13.2")
@pytest.mark.clause("RFC7143 11.7.2")
def test_ffi_10_2_nothing_acknowledges_data_at_error_recovery_level_0():
    desk = session()
    tag = read(desk)
    assert desk.reply(DataIn(initiator_task_tag=tag, acknowledge=True, final=True), b"abcd") == []
    assert desk.sent() == []


@pytest.mark.case("FFI-11.1.2")
@pytest.mark.clause("RFC7143 11.7")
def test_ffi_11_1_2_data_in_without_data_is_taken():
    desk = session()
    tag = read(desk)
    assert desk.reply(DataIn(initiator_task_tag=tag)) == []
    last = DataIn(initiator_task_tag=tag, data_sn=1, final=True, status_present=True)
    assert desk.reply(last, b"abcdefgh") == [CommandCompleted(tag, 0, 0, b"", b"abcdefgh")]


@pytest.mark.case("FFI-13.1")
@pytest.mark.clause("RFC7143 7.9")
def test_ffi_13_1_data_that_is_missing_ends_the_connection_at_error_recovery_level_0():
    desk = session()
    tag = read(desk)
    desk.reply(DataIn(initiator_task_tag=tag), b"ab")
    [event] = desk.reply(DataIn(initiator_task_tag=tag, data_sn=2, buffer_offset=4), b"ef")
    assert isinstance(event, ConnectionLost)
    assert event.tags == (tag,)
    assert desk.sent() == []


# The command and its end


@pytest.mark.case("FFI-16.1.1")
@pytest.mark.clause("RFC7143 11.3")
def test_ffi_16_1_1_a_command_with_immediate_data_says_all_that_is_to_come():
    desk = session("Yes", "Yes")
    tag, header, immediate, _ = send(desk)
    assert (header.initiator_task_tag, header.cmd_sn, header.exp_stat_sn) == (tag, 1, desk.stat_sn)
    assert (header.read, header.write, header.lun) == (False, True, LUN)
    assert (header.expected_data_transfer_length, header.data_segment_length) == (len(CONTENT), len(immediate))
    assert header.cdb == WRITE.cdb.ljust(16, b"\0")


@pytest.mark.case("FFI-16.1.2")
@pytest.mark.clause("RFC7143 11.3")
def test_ffi_16_1_2_a_command_without_immediate_data_has_no_segment():
    _, header, immediate, _ = send(session("Yes", "No"))
    assert (header.expected_data_transfer_length, header.data_segment_length) == (len(CONTENT), 0)
    assert immediate == b""


def sense(key: int, code: int) -> bytes:
    """Returns fixed sense data as it comes in a response."""
    return b"\0\x12" + bytes([0x70, 0, key]) + bytes(9) + code.to_bytes(2) + bytes(4)


@pytest.mark.clause("RFC7143 11.4.7.2")
@pytest.mark.parametrize(
    ("status", "told"),
    [
        pytest.param(CHECK_CONDITION, sense(0xB, 0x4705), marks=pytest.mark.case("FFI-16.4.1"), id="CRC error"),
        pytest.param(CHECK_CONDITION, sense(0xB, 0x0C0C), marks=pytest.mark.case("FFI-16.4.3"), id="unexpected data"),
        pytest.param(CHECK_CONDITION, sense(0xB, 0x0C0D), marks=pytest.mark.case("FFI-16.4.4"), id="not enough data"),
        pytest.param(BUSY, b"", marks=pytest.mark.case("FFI-16.4.5"), id="BUSY"),
        pytest.param(RESERVATION_CONFLICT, b"", marks=pytest.mark.case("FFI-16.4.6"), id="RESERVATION CONFLICT"),
    ],
)
def test_ffi_16_4_1_a_command_that_fails_is_told_with_status_and_sense_and_another_may_follow(status: int, told: bytes):
    desk = session()
    tag, *_ = send(desk)
    [event] = desk.reply(ScsiResponse(initiator_task_tag=tag, status=status), told)
    assert isinstance(event, CommandCompleted)
    assert (event.tag, event.status, event.sense) == (tag, status, told[2:])
    again, header, _, _ = send(desk)
    assert again != tag
    assert header.cmd_sn == 2


@pytest.mark.case("FFI-16.4.2")
@pytest.mark.clause("RFC7143 11.17")
def test_ffi_16_4_2_a_command_that_is_rejected_is_told_and_another_may_follow():
    desk = session()
    tag, header, _, _ = send(desk)
    assert desk.reply(Reject(reason=3), header.pack()) == [RequestRejected(tag, 3, header.pack())]
    again, header, _, _ = send(desk)
    assert again != tag
    assert header.cmd_sn == 2


@pytest.mark.case("FFI-16.5")
@pytest.mark.clause("RFC7143 4.2.2.1")
def test_ffi_16_5_a_response_that_closes_the_window_is_heeded_until_it_opens():
    desk = session()
    tags = [desk.session.command(READY, desk.connection) for _ in range(WINDOW + 1)]
    desk.sent()
    desk.window = 0
    desk.reply(ScsiResponse(initiator_task_tag=tags[0]))
    assert desk.sent() == []
    desk.window = 1
    desk.reply(NopIn(initiator_task_tag=NO_TAG), status=False)
    assert desk.one().header.initiator_task_tag == tags[-1]


@pytest.mark.case("FFI-16.6")
@pytest.mark.clause("RFC7143 11.4.5.1")
def test_ffi_16_6_more_data_than_there_is_room_for_ends_the_connection_and_less_is_told():
    desk = session()
    tag = read(desk)
    short = DataIn(initiator_task_tag=tag, final=True, status_present=True, underflow=True, residual_count=6)
    [event] = desk.reply(short, b"ab")
    assert isinstance(event, CommandCompleted)
    assert (event.data, event.residual.residual_count) == (b"ab", 6)
    tag = read(desk)
    [lost] = desk.reply(DataIn(initiator_task_tag=tag, final=True), b"123456789")
    assert isinstance(lost, ConnectionLost)
