"""One command: what goes out of it, and what must come back."""

import pytest

from iscsi_target.initiator.command import Command, OpenCommand
from iscsi_target.initiator.events import CommandCompleted
from iscsi_target.iscsi.ahs import AdditionalHeaders, unpack_additional_headers
from iscsi_target.iscsi.errors import ProtocolError
from iscsi_target.iscsi.parameters import Parameters
from iscsi_target.iscsi.responses import DataIn, ReadyToTransfer, ScsiResponse
from iscsi_target.iscsi.transfer import NO_RESIDUAL, Residual

LUN = b"\0\x01" + bytes(6)
CONTENT = bytes(range(250)) * 8  # 2000 bytes
EAGER = Parameters(initial_r2t=False, immediate_data=True, first_burst_length=1200, target_max_recv=512)
MODEST = Parameters()


def opened(parameters: Parameters = MODEST, data_out: bytes = b"", read_length: int = 0, cdb: bytes = bytes(6)):
    return OpenCommand(Command(LUN, cdb, data_out, read_length), 5, parameters)


def part(data_sn: int, offset: int, **fields) -> DataIn:
    return DataIn(**{"initiator_task_tag": 5, "data_sn": data_sn, "buffer_offset": offset} | fields)


def ask(r2t_sn: int, offset: int, length: int, tag: int = 77) -> ReadyToTransfer:
    return ReadyToTransfer(
        r2t_sn=r2t_sn, buffer_offset=offset, desired_data_transfer_length=length, target_transfer_tag=tag
    )


# Data-Out


@pytest.mark.clause("RFC7143 13.10")
@pytest.mark.parametrize(
    ("initial_r2t", "immediate_data", "immediate", "unsolicited"),
    [
        (True, True, 512, []),
        (True, False, 0, []),
        (False, True, 512, [(512, 512), (1024, 176)]),
        (False, False, 0, [(0, 512), (512, 512), (1024, 176)]),
    ],
)
def test_unasked_goes_only_what_was_negotiated(initial_r2t, immediate_data, immediate, unsolicited):
    command = opened(EAGER._replace(initial_r2t=initial_r2t, immediate_data=immediate_data), CONTENT)
    header, data, additional = command.open()
    assert (header.write, header.read, header.expected_data_transfer_length) == (True, False, 2000)
    assert (bytes(data), additional) == (CONTENT[:immediate], b"")
    assert header.final == (not unsolicited)
    parts = list(command.unsolicited())
    assert [(header.buffer_offset, len(data)) for header, data in parts] == unsolicited
    assert [header.final for header, _ in parts] == [False] * (len(parts) - 1) + [True] * (len(parts) > 0)
    assert [header.data_sn for header, _ in parts] == list(range(len(parts)))
    assert all(header.target_transfer_tag == 0xFFFFFFFF and header.lun == bytes(8) for header, _ in parts)


def test_command_whose_data_is_all_immediate_is_final():
    header, data, _ = opened(EAGER, CONTENT[:300]).open()
    assert header.final
    assert data == CONTENT[:300]


@pytest.mark.clause("RFC7143 11.8")
def test_r2t_is_satisfied_in_pdus_that_the_target_takes():
    parts = list(opened(EAGER, CONTENT).solicited(ask(0, 1200, 800)))
    assert b"".join(data for _, data in parts) == CONTENT[1200:]
    assert [(header.data_sn, header.buffer_offset, header.final) for header, _ in parts] == [
        (0, 1200, False),
        (1, 1712, True),
    ]
    assert {(header.target_transfer_tag, header.lun, header.initiator_task_tag) for header, _ in parts} == {
        (77, LUN, 5)
    }


@pytest.mark.parametrize(
    "wrong",
    [
        ask(1, 0, 100),
        ask(0, 0, 0),
        ask(0, 1999, 2),
        ask(0, 2000, 1),
        ask(0, 0, 1025),
        ask(0, 0, 100, tag=0xFFFFFFFF),
    ],
)
def test_r2t_that_asks_for_what_it_must_not_is_an_error(wrong: ReadyToTransfer):
    with pytest.raises(ProtocolError):
        list(opened(EAGER._replace(max_burst_length=1024), CONTENT).solicited(wrong))


@pytest.mark.clause("RFC7143 11.8")
def test_r2ts_ask_for_no_byte_twice():
    command = opened(EAGER, CONTENT)
    list(command.solicited(ask(0, 1200, 500)))
    list(command.solicited(ask(1, 1700, 300)))
    with pytest.raises(ProtocolError, match="again"):
        list(command.solicited(ask(2, 1200, 1)))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"lun": bytes(7)}, "LUN"),
        ({"cdb": b""}, "CDB"),
        ({"cdb": bytes(261)}, "CDB"),
        ({"read_length": -1}, "read_length"),
        ({"read_length": 1 << 32}, "read_length"),
        ({"attributes": 8}, "attributes"),
    ],
)
def test_command_that_cannot_be_sent_is_refused(wrong: dict, says: str):
    with pytest.raises(ValueError, match=says):
        OpenCommand(Command(LUN, bytes(6))._replace(**wrong), 5, MODEST)


def test_long_cdb_and_bidirectional_length_go_into_additional_headers():
    cdb = bytes(range(1, 33))
    header, _, additional = opened(MODEST, CONTENT, 512, cdb).open()
    assert (header.read, header.write, header.expected_data_transfer_length) == (True, True, 2000)
    assert header.cdb == cdb[:16]
    assert unpack_additional_headers(additional) == AdditionalHeaders(cdb[16:], 512)


# Data-In


def test_data_in_is_joined_and_its_last_part_brings_the_status():
    command = opened(read_length=8)
    assert command.take(part(0, 0), b"abcd") is None
    assert command.take(part(1, 4, status_present=True), b"efgh") == CommandCompleted(5, 0, 0, b"", b"abcdefgh")


def test_residual_of_the_last_part_is_told():
    completed = opened(read_length=8).take(part(0, 0, status_present=True, underflow=True, residual_count=6), b"ab")
    assert completed is not None
    assert completed.residual == Residual(False, True, 6)
    assert completed.data == b"ab"


def test_response_without_data_tells_status_and_sense():
    response = ScsiResponse(status=2, underflow=True, residual_count=8)
    assert opened(read_length=8).finish(response, b"\0\x03abcdef") == CommandCompleted(
        5, 0, 2, b"abc", b"", Residual(False, True, 8)
    )


def test_data_out_of_order_is_put_where_it_belongs_when_order_was_not_negotiated():
    command = opened(MODEST._replace(data_sequence_in_order=False), read_length=6)
    command.take(part(0, 3), b"def")
    completed = command.take(part(1, 0, status_present=True), b"abc")
    assert completed is not None
    assert completed.data == b"abcdef"


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (part(1, 0), b"a"),
        (part(0, 1), b"a"),
        (part(0, 0), b"123456789"),
        (part(0, 0, status_present=True), b"1234567"),
        (part(0, 0, status_present=True, underflow=True, residual_count=1), b"12345678"),
    ],
)
def test_data_that_is_missing_or_too_much_is_an_error(header: DataIn, data: bytes):
    with pytest.raises(ProtocolError):
        opened(read_length=8).take(header, data)


@pytest.mark.clause("RFC7143 11.4.8")
def test_response_that_counts_other_parts_than_came_is_an_error():
    command = opened(read_length=4)
    command.take(part(0, 0), b"abcd")
    with pytest.raises(ProtocolError, match="ExpDataSN"):
        command.finish(ScsiResponse(exp_data_sn=2), b"")


def test_sense_that_is_longer_than_its_pdu_is_an_error():
    with pytest.raises(ProtocolError, match="SenseLength"):
        opened().finish(ScsiResponse(status=2), b"\0\x04abc")


def test_r2ts_and_data_in_of_a_bidirectional_command_share_their_numbers():
    command = opened(EAGER._replace(initial_r2t=True), CONTENT[:600], 4)
    list(command.solicited(ask(0, 512, 88)))
    command.take(part(1, 0), b"ab")
    response = ScsiResponse(exp_data_sn=2, bidirectional_read_underflow=True, bidirectional_read_residual_count=2)
    assert command.finish(response, b"") == CommandCompleted(5, 0, 0, b"", b"ab", NO_RESIDUAL, Residual(False, True, 2))


def test_failed_target_is_not_asked_for_its_data():
    assert opened(read_length=8).finish(ScsiResponse(response=1), b"").response == 1
