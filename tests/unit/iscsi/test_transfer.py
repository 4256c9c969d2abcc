"""The data of one task: what is asked for, what is taken, what is refused."""

import pytest

from iscsi_target.iscsi.errors import ProtocolError, RejectReason
from iscsi_target.iscsi.events import Condition
from iscsi_target.iscsi.framing import Buffer
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import DataOut
from iscsi_target.iscsi.transfer import (
    AHEAD_BYTES,
    MAX_FRAGMENTS,
    DataInPart,
    DataLost,
    DataOutTransfer,
    IncorrectAmountOfData,
    Ordering,
    Residual,
    Solicitation,
    UnexpectedUnsolicitedData,
    residual,
    split,
)

IN_ORDER = Ordering(max_burst=1000, max_outstanding=1, pdus_in_order=True)
ANY_ORDER = IN_ORDER._replace(pdus_in_order=False)


def transfer(length=2000, immediate=b"", unsolicited=0, ordering=IN_ORDER, wanted=None) -> DataOutTransfer:
    made = DataOutTransfer(ordering, length, immediate=len(immediate), unsolicited=unsolicited)
    made.want(length if wanted is None else wanted, immediate)
    return made


def give(to: DataOutTransfer, tag: int, offset: int, data: Buffer, **fields: object) -> None:
    header = DataOut(target_transfer_tag=tag, buffer_offset=offset, final=True)
    to.receive(header.replace(**fields), data)


@pytest.mark.clause("RFC7143 11.8")
def test_data_is_asked_for_burst_by_burst():
    made = transfer(2500)
    assert made.solicit(7) == Solicitation(7, 0, 0, 1000)
    assert made.solicit(8) is None
    give(made, 7, 0, b"a" * 1000)
    assert made.solicit(8) == Solicitation(8, 1, 1000, 1000)
    give(made, 8, 1000, b"b" * 1000)
    assert made.solicit(9) == Solicitation(9, 2, 2000, 500)
    assert not made.whole
    give(made, 9, 2000, b"c" * 500)
    assert made.whole
    assert made.data == b"a" * 1000 + b"b" * 1000 + b"c" * 500
    assert made.solicit(10) is None
    assert made.r2ts == 3


@pytest.mark.clause("RFC7143 13.17")
def test_as_many_r2ts_are_out_as_were_negotiated():
    made = transfer(5000, ordering=IN_ORDER._replace(max_outstanding=3))
    offsets = [asked.offset for asked in (made.solicit(tag) for tag in range(4)) if asked]
    assert offsets == [0, 1000, 2000]
    give(made, 2, 2000, b"x" * 1000)
    assert made.solicit(3) == Solicitation(3, 3, 3000, 1000)


def test_immediate_and_unsolicited_data_come_before_the_first_r2t():
    made = transfer(2000, b"i" * 100, 400)
    assert made.solicit(1) is None
    assert not made.quiet
    give(made, NO_TAG, 100, b"u" * 250, data_sn=0, final=False)
    give(made, NO_TAG, 350, b"u" * 150, data_sn=1)
    assert made.solicit(1) == Solicitation(1, 0, 500, 1000)
    assert made.data[:500] == b"i" * 100 + b"u" * 400


def test_data_that_the_command_does_not_want_is_thrown_away():
    made = transfer(1000, b"i" * 300, 300, wanted=400)
    give(made, NO_TAG, 300, b"u" * 300)
    assert made.whole
    assert made.data == b"i" * 300 + b"u" * 100


def test_command_that_wants_more_than_there_is_gets_what_there_is():
    made = transfer(100, wanted=5000)
    assert made.solicit(1) == Solicitation(1, 0, 0, 100)
    assert made.wanted == 100


def test_command_that_wants_nothing_is_whole_at_once():
    assert transfer(1000, wanted=0).whole
    assert transfer(0, wanted=512).whole


def test_data_may_come_where_it_is_to_be():
    made = transfer(2000)
    assert made.solicit(1) is not None
    room = made.room(DataOut(target_transfer_tag=1, buffer_offset=0, data_segment_length=1000))
    assert room is not None
    room[:] = bytes(1000 * [7])
    give(made, 1, 0, room)
    assert made.solicit(2) is not None
    give(made, 2, 1000, bytes(1000 * [8]))
    assert made.data == bytes(1000 * [7] + 1000 * [8])


def test_data_that_was_on_its_way_to_a_former_buffer_is_copied():
    made = transfer(2000, immediate=bytes(100), unsolicited=500)
    room = made.room(DataOut(target_transfer_tag=NO_TAG, buffer_offset=100, data_segment_length=500))
    assert room is not None
    made.want(1500, b"")
    room[:] = bytes(500 * [7])
    give(made, NO_TAG, 100, room)
    assert made.data[:600] == bytes(100) + bytes(500 * [7])


@pytest.mark.parametrize(("tag", "length"), [(2, 1000), (1, 2001)], ids=["nobody asked", "not all wanted"])
def test_there_is_room_only_for_what_is_wanted(tag, length):
    made = transfer(2000)
    made.solicit(1)
    assert made.room(DataOut(target_transfer_tag=tag, data_segment_length=length)) is None


def test_room_is_bounded_however_much_is_wanted():
    made = transfer(16 << 20, ordering=IN_ORDER._replace(max_burst=16 << 20))
    made.solicit(1)
    first = DataOut(target_transfer_tag=1, data_segment_length=100)
    assert made.room(first.replace(buffer_offset=15 << 20)) is None
    assert len(made.data) == 0
    assert made.room(first) is not None
    assert len(made.data) == AHEAD_BYTES


@pytest.mark.parametrize("offset", [0, 99, 501, 1000])
def test_there_is_no_room_beside_the_sequence(offset: int):
    made = transfer(2000, immediate=bytes(100), unsolicited=500)
    header = DataOut(target_transfer_tag=NO_TAG, buffer_offset=offset, data_segment_length=100)
    assert made.room(header) is None
    assert len(made.data) == 100


def test_buffer_is_no_longer_than_what_has_come():
    made = transfer(1 << 24, b"i" * 10, ordering=Ordering(1 << 20, 1, True))
    assert len(made.data) == 10
    made.solicit(1)
    assert len(made.data) == 10
    give(made, 1, 10, b"x" * 500, final=False)
    assert len(made.data) == 510


@pytest.mark.clause("RFC7143 11.7.5")
@pytest.mark.parametrize("data_sn", [0, 2])
def test_wrong_data_sn_loses_the_task(data_sn):
    made = transfer()
    made.solicit(1)
    give(made, 1, 0, b"x" * 500, data_sn=0, final=False)
    with pytest.raises(DataLost):
        give(made, 1, 500, b"x" * 500, data_sn=data_sn)


@pytest.mark.clause("RFC7143 11.7.5")
def test_data_sn_starts_anew_in_every_sequence():
    made = transfer(1500)
    made.solicit(1)
    give(made, 1, 0, b"x" * 500, data_sn=0, final=False)
    give(made, 1, 500, b"x" * 500, data_sn=1)
    made.solicit(2)
    give(made, 2, 1000, b"x" * 500, data_sn=0)
    assert made.whole


@pytest.mark.clause("RFC7143 13.18")
@pytest.mark.parametrize("offset", [0, 600])
def test_with_pdus_in_order_a_gap_or_overlap_loses_the_task(offset):
    made = transfer()
    made.solicit(1)
    give(made, 1, 0, b"x" * 500, data_sn=0, final=False)
    with pytest.raises(DataLost):
        give(made, 1, offset, b"x" * 300, data_sn=1)


@pytest.mark.clause("RFC7143 13.18")
def test_without_order_pdus_may_come_in_any_order_but_not_twice():
    made = transfer(1000, ordering=ANY_ORDER)
    made.solicit(1)
    give(made, 1, 600, b"c" * 400, data_sn=0, final=False)
    give(made, 1, 0, b"a" * 300, data_sn=1, final=False)
    give(made, 1, 300, b"", data_sn=2, final=False)
    with pytest.raises(DataLost):
        give(made, 1, 299, b"b" * 2, data_sn=3, final=False)
    made = transfer(1000, ordering=ANY_ORDER)
    made.solicit(1)
    give(made, 1, 600, b"c" * 400, data_sn=0, final=False)
    give(made, 1, 0, b"a" * 300, data_sn=1, final=False)
    give(made, 1, 300, b"b" * 300, data_sn=2)
    assert made.whole
    assert made.data == b"a" * 300 + b"b" * 300 + b"c" * 400


@pytest.mark.parametrize(("offset", "length"), [(0, 500), (100, 100), (499, 2), (0, 1000), (250, 250)])
def test_without_order_each_overlap_is_noticed(offset, length):
    made = transfer(1000, ordering=ANY_ORDER)
    made.solicit(1)
    give(made, 1, 0, b"a" * 500, data_sn=0, final=False)
    with pytest.raises(DataLost):
        give(made, 1, offset, b"b" * length, data_sn=1)


def test_without_order_the_fragments_are_limited():
    made = transfer(1 << 20, ordering=Ordering(1 << 20, 1, False))
    made.solicit(1)
    for number in range(MAX_FRAGMENTS):
        give(made, 1, 2 * number, b"x", data_sn=number, final=False)
    with pytest.raises(DataLost):
        give(made, 1, 2 * MAX_FRAGMENTS, b"x", data_sn=MAX_FRAGMENTS, final=False)


@pytest.mark.clause("RFC7143 11.4.7.2")
@pytest.mark.parametrize(
    ("offset", "length", "final"),
    [
        pytest.param(0, 999, True, id="too little"),
        pytest.param(0, 1001, True, id="too much"),
        pytest.param(1, 1000, True, id="beyond the end"),
        pytest.param(0, 1001, False, id="too much already"),
        pytest.param(2**32 - 1, 1, True, id="far out"),
    ],
)
def test_wrong_amount_of_data(offset, length, final):
    made = transfer(ordering=ANY_ORDER)
    made.solicit(1)
    with pytest.raises(IncorrectAmountOfData) as caught:
        give(made, 1, offset, b"x" * length, final=final)
    assert caught.value.condition is Condition.INCORRECT_AMOUNT_OF_DATA
    assert made.wanted == 0
    assert made.quiet == final


def test_each_failure_has_its_condition():
    assert UnexpectedUnsolicitedData.condition is Condition.UNEXPECTED_UNSOLICITED_DATA
    assert DataLost.condition is Condition.PROTOCOL_SERVICE_CRC_ERROR


def test_after_a_failure_the_rest_of_the_sequence_is_swallowed_and_nothing_more_is_asked():
    made = transfer(3000)
    made.solicit(1)
    with pytest.raises(DataLost):
        give(made, 1, 0, b"x", data_sn=5, final=False)
    give(made, 1, 5, b"xxx", data_sn=77, final=False)
    assert not made.quiet
    give(made, 1, 2**31, b"xxx", data_sn=0)
    assert made.quiet
    assert made.solicit(2) is None
    assert made.data == b""


@pytest.mark.clause("RFC7143 11.7.4")
@pytest.mark.parametrize("tag", [2, NO_TAG])
def test_data_under_a_tag_that_is_not_open_is_a_protocol_error(tag):
    made = transfer()
    made.solicit(1)
    with pytest.raises(ProtocolError) as caught:
        give(made, tag, 0, b"x" * 1000)
    assert caught.value.reason is RejectReason.PROTOCOL_ERROR
    give(made, 1, 0, b"x" * 1000)


def test_data_after_the_final_pdu_of_a_sequence_is_a_protocol_error():
    made = transfer()
    made.solicit(1)
    give(made, 1, 0, b"x" * 1000)
    with pytest.raises(ProtocolError):
        give(made, 1, 0, b"x" * 1000)


@pytest.mark.clause("RFC7143 11.7.3")
def test_split_ends_a_sequence_at_every_burst():
    parts = list(split(bytes(range(25)), burst=10, segment=4))
    assert [(part.offset, len(part.data), part.final) for part in parts] == [
        (0, 4, False),
        (4, 4, False),
        (8, 2, True),
        (10, 4, False),
        (14, 4, False),
        (18, 2, True),
        (20, 4, False),
        (24, 1, True),
    ]
    assert b"".join(part.data for part in parts) == bytes(range(25))


def test_split_of_nothing_is_one_empty_part():
    assert list(split(b"", 10, 4)) == [DataInPart(0, memoryview(b""), True)]


def test_split_of_an_exact_burst_ends_once():
    assert [part.final for part in split(bytes(20), 10, 10)] == [True, True]


@pytest.mark.clause("RFC7143 11.4.5.1")
@pytest.mark.parametrize(
    ("expected", "actual", "result"),
    [
        (512, 512, Residual(False, False, 0)),
        (512, 500, Residual(False, True, 12)),
        (500, 512, Residual(True, False, 12)),
        (0, 1 << 33, Residual(True, False, 0xFFFFFFFF)),
    ],
)
def test_residual(expected, actual, result):
    assert residual(expected, actual) == result
