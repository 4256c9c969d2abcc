"""Which commands go the express way, and that all others are left where they are.

initiator ---- Connection ---- Session; the answering function is the test's
"""

from functools import partial
from typing import Any

import pytest

from iscsi_target.iscsi.connection import MAX_QUEUED_BYTES, Departure
from iscsi_target.iscsi.express import answer_plain
from iscsi_target.iscsi.framing import Buffer, Incoming
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.numbering import WINDOW_COMMANDS
from iscsi_target.iscsi.requests import NopOut, ScsiCommand
from iscsi_target.iscsi.responses import DataIn, ScsiResponse
from tests.transcript import LUN, Pdu, Transcript, receive

BLOCK = 512
ONES = bytes([1]) * BLOCK
CDB = bytes(range(16))
READ = ScsiCommand(
    read=True, attributes=1, expected_data_transfer_length=BLOCK, initiator_task_tag=7, cmd_sn=1, cdb=CDB
)
WRITE = READ.replace(read=False, write=True)


class Express:
    """A session whose commands are answered as the test says.

    asked   what the answering function was given
    data    what a read returns; None leaves all commands
    """

    def __init__(self, **parameters: Any) -> None:
        self.transcript = Transcript(**parameters)
        self.asked: list[tuple[bytes, bytes, int, bytes]] = []
        self.data: bytes | None = ONES
        self.answers = {lun: partial(self.answer, lun) for lun in (READ.lun, LUN)}

    def answer(self, lun: bytes, cdb: bytes, expected: int, data_out: Buffer) -> bytes | None:
        self.asked.append((lun, cdb, expected, bytes(data_out)))
        return b"" if data_out and self.data is not None else self.data

    def visit(self, received: bytes) -> tuple[list[Pdu], int]:
        """Returns what is sent, and how many bytes are left."""
        incoming = Incoming(received)
        answer_plain(self.transcript.session, self.transcript.connection, incoming, self.answers)
        return self.transcript.answers(), incoming.end - incoming.position

    def send(self, *commands: tuple[ScsiCommand, bytes]) -> tuple[list[Pdu], int]:
        return self.visit(b"".join(self.transcript.pack(header, data) for header, data in commands))

    def leaves(self, header: ScsiCommand, data: bytes = b"") -> bool:
        return self.send((header, data)) == ([], len(self.transcript.pack(header, data)))


@pytest.fixture
def way() -> Express:
    return Express()


def test_read_is_answered_with_its_data_and_status_in_one_pdu(way: Express):
    [pdu], left = way.send((READ, b""))
    assert pdu == Pdu(
        DataIn(
            final=True,
            status_present=True,
            data_segment_length=BLOCK,
            initiator_task_tag=7,
            stat_sn=1,
            exp_cmd_sn=2,
            max_cmd_sn=WINDOW_COMMANDS + 1,
        ),
        ONES,
    )
    assert left == 0
    assert way.asked == [(LUN, CDB, BLOCK, b"")]


def test_write_with_all_its_data_is_answered(way: Express):
    [pdu], left = way.send((WRITE, ONES))
    assert pdu.header == ScsiResponse(initiator_task_tag=7, stat_sn=1, exp_cmd_sn=2, max_cmd_sn=WINDOW_COMMANDS + 1)
    assert left == 0
    assert way.asked == [(LUN, CDB, BLOCK, ONES)]


def test_commands_are_numbered_one_after_the_other(way: Express):
    pdus, _ = way.send((READ, b""), (WRITE.replace(cmd_sn=2), ONES), (READ.replace(cmd_sn=3), b""))
    assert [(pdu.header.stat_sn, pdu.header.exp_cmd_sn) for pdu in pdus] == [(1, 2), (2, 3), (3, 4)]
    assert way.transcript.connection.stat_sn == 4
    assert (way.transcript.session.numbers.expected, way.transcript.session.numbers.maximum) == (4, WINDOW_COMMANDS + 3)


def test_first_command_that_is_not_plain_and_what_follows_stay(way: Express):
    ping = way.transcript.pack(NopOut(initiator_task_tag=9, cmd_sn=2))
    later = way.transcript.pack(READ.replace(cmd_sn=3))
    pdus, left = way.visit(way.transcript.pack(READ) + ping + later)
    assert len(pdus) == 1
    assert left == len(ping + later)


def test_command_that_nobody_answers_stays(way: Express):
    way.data = None
    assert way.leaves(READ)
    assert way.leaves(WRITE, ONES)
    assert way.transcript.session.numbers.expected == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"cmd_sn": 2},
        {"cmd_sn": 0},
        {"initiator_task_tag": NO_TAG},
        {"immediate": True},
        {"final": False},
        {"attributes": 0},
        {"attributes": 2},
        {"expected_data_transfer_length": 2 * BLOCK},
        {"expected_data_transfer_length": BLOCK + 1},
    ],
)
def test_command_that_is_not_like_the_others_stays(changes: dict[str, int], way: Express):
    assert way.leaves(WRITE.replace(**changes), ONES)
    if "expected_data_transfer_length" not in changes:
        assert way.leaves(READ.replace(**changes))
    assert way.asked == []


def test_data_that_needs_padding_stays(way: Express):
    way.data = ONES[:-2]
    assert way.leaves(READ.replace(expected_data_transfer_length=BLOCK - 2))
    assert way.leaves(WRITE.replace(expected_data_transfer_length=BLOCK - 2), ONES[:-2])


def test_command_with_both_directions_or_none_stays(way: Express):
    assert way.leaves(READ.replace(write=True), ONES)
    assert way.leaves(READ.replace(read=False))
    assert way.leaves(READ, ONES)


def test_command_with_additional_headers_stays(way: Express):
    received = way.transcript.pack(READ, additional=bytes(4))
    assert way.visit(received) == ([], len(received))


def test_pdu_that_is_not_whole_stays(way: Express):
    for received in (way.transcript.pack(READ)[:47], way.transcript.pack(WRITE, ONES)[:-1]):
        assert way.visit(received) == ([], len(received))


def test_bytes_that_belong_to_a_pdu_that_has_begun_stay(way: Express):
    sent = way.transcript.pack(READ)
    assert list(receive(way.transcript.connection, sent[:20])) == []
    assert way.visit(sent) == ([], len(sent))


def test_tag_that_is_in_use_stays(way: Express):
    way.transcript.act = lambda event: None
    way.transcript.feed(way.transcript.pack(READ))
    assert way.leaves(READ.replace(cmd_sn=2))
    assert len(way.send((READ.replace(cmd_sn=2, initiator_task_tag=8), b""))[0]) == 1


DIGESTS = [{"header_digest": True}, {"data_digest": True}, {"header_digest": True, "data_digest": True}]


@pytest.mark.parametrize("parameters", DIGESTS)
def test_digests_are_checked_and_made(parameters: dict[str, bool]):
    way = Express(**parameters)
    pdus, left = way.send((READ, b""), (WRITE.replace(cmd_sn=2), ONES), (READ.replace(cmd_sn=3), b""))
    assert [pdu.data for pdu in pdus] == [ONES, b"", ONES]
    assert left == 0
    assert [data_out for *_, data_out in way.asked] == [b"", ONES, b""]


@pytest.mark.parametrize("parameters", DIGESTS)
def test_command_whose_digest_is_wrong_stays(parameters: dict[str, bool]):
    way = Express(**parameters)
    for place in (16, -1):  # the tag, and what comes last
        sent = bytearray(way.transcript.pack(WRITE, ONES))
        sent[place] ^= 1
        if place == 16 and "header_digest" not in parameters:
            continue
        if place == -1 and "data_digest" not in parameters:
            continue
        assert way.visit(bytes(sent)) == ([], len(sent))
    assert way.asked == []


@pytest.mark.parametrize("parameters", DIGESTS)
def test_command_stays_until_its_last_digest_has_come(parameters: dict[str, bool]):
    way = Express(**parameters)
    received = way.transcript.pack(WRITE, ONES)[:-1]
    assert way.visit(received) == ([], len(received))


@pytest.mark.parametrize(
    "parameters",
    [{"initiator_max_recv": 511}, {"max_burst_length": 511}],
    ids=lambda parameters: next(iter(parameters)),
)
def test_read_that_needs_more_than_one_pdu_stays(parameters: dict[str, int]):
    assert Express(**parameters).leaves(READ)


@pytest.mark.parametrize(
    "parameters", [{"immediate_data": False}, {"first_burst_length": 511}, {"target_max_recv": 511}]
)
def test_data_that_was_not_allowed_stays(parameters: dict[str, int]):
    assert Express(**parameters).leaves(WRITE, ONES)


def test_nothing_goes_this_way_while_a_request_waits_for_its_turn(way: Express):
    way.transcript.feed(way.transcript.pack(READ.replace(cmd_sn=2, initiator_task_tag=8)))
    assert way.leaves(READ)


@pytest.mark.parametrize("attribute", ["congested", "closing"])
def test_nothing_goes_this_way_on_a_connection_that_takes_nothing(attribute: str, way: Express):
    setattr(way.transcript.connection, attribute, True)
    assert way.leaves(READ)


def test_nothing_goes_this_way_on_a_connection_that_is_leaving(way: Express):
    way.transcript.connection.phase = Departure(way.transcript.session.numbers)
    assert way.leaves(READ)


def test_no_more_is_read_than_may_be_queued():
    way = Express(initiator_max_recv=65536)
    way.data = bytes(65536)
    big = READ.replace(expected_data_transfer_length=65536)
    pdus, left = way.send(*((big.replace(cmd_sn=number), b"") for number in range(1, 101)))
    assert len(pdus) == MAX_QUEUED_BYTES // 65536
    assert left == 48 * (100 - len(pdus))


def test_session_that_holds_commands_back_gets_no_others_this_way(way: Express):
    way.transcript.connection.congested = True
    way.transcript.feed(way.transcript.pack(READ))
    way.transcript.connection.congested = False
    assert way.transcript.session.parks
    assert way.leaves(READ.replace(cmd_sn=2, initiator_task_tag=8))
