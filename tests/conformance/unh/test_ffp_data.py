"""Titles 8.1 to 9.4, 16.3 and 19.1 of the full feature phase: data in both directions. Host A (see tests/initiator)."""

from typing import NamedTuple

import pytest

from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.responses import DataIn, ReadyToTransfer, ScsiResponse
from iscsi_target.iscsi.text import Pair
from iscsi_target.scsi.layouts.block_cdb import Read10
from tests.initiator import Host, Lab
from tests.unit.scsi.unit_bench import BLOCK

FIRST_BURST = 2 * BLOCK
BLOCKS = b"".join(bytes([number]) * BLOCK for number in range(1, 5))
MANY = 40  # blocks, more than a data segment of 8192 bytes holds


@pytest.fixture
def lab() -> Lab:
    return Lab()


def asked(host: Host) -> list[ReadyToTransfer]:
    return [pdu.header for pdu in host.received if isinstance(pdu.header, ReadyToTransfer)]


def segments(host: Host, blocks: int) -> list[int]:
    """Returns the lengths of the data segments in which a read comes."""
    host.command(Read10(transfer_length=blocks), read=blocks * BLOCK)
    return [len(pdu.data) for pdu in host.take(DataIn)]


@pytest.mark.case("FFP-8.1")
@pytest.mark.clause("RFC7143 11.8.4")
def test_ffp_8_1_outstanding_r2ts_have_transfer_tags_of_their_own(lab: Lab):
    a = lab.session(offers=[("MaxBurstLength", "512"), ("MaxOutstandingR2T", "2")])
    tags = [a.ask_to_write(lba, blocks=2) for lba in (0, 2)]
    found = asked(a)
    assert len({header.target_transfer_tag for header in found} - {NO_TAG}) == 4
    for header in reversed(found):
        number = tags.index(header.initiator_task_tag) * 2 + header.buffer_offset // BLOCK
        a.data_out(header, BLOCKS[number * BLOCK : (number + 1) * BLOCK])
    assert [a.outcome(tag).status for tag in tags] == [0, 0]
    assert b"".join(lab.block(lba) for lba in range(4)) == BLOCKS


@pytest.mark.case("FFP-9.3.2")
@pytest.mark.clause("RFC7143 13.12")
def test_ffp_9_3_2_segments_are_of_8192_bytes_where_the_initiator_declares_nothing(a: Host):
    assert segments(a, MANY) == [8192, 8192, MANY * BLOCK - 2 * 8192]


@pytest.mark.case("FFP-9.3.3")
@pytest.mark.clause("RFC7143 13.12")
def test_ffp_9_3_3_what_is_declared_later_holds_for_what_comes_after_it(a: Host):
    assert segments(a, 4) == [4 * BLOCK]
    assert a.ask([("MaxRecvDataSegmentLength", "1024")]) == []
    assert segments(a, 4) == [1024, 1024]
    assert a.ask([("MaxRecvDataSegmentLength", "65536")]) == []
    assert segments(a, MANY) == [MANY * BLOCK]


@pytest.mark.case("FFP-9.4")
@pytest.mark.clause("RFC7143 11.7.5")
def test_ffp_9_4_data_sn_goes_on_from_one_sequence_to_the_next(lab: Lab):
    a = lab.session(offers=[("MaxBurstLength", "1024"), ("MaxRecvDataSegmentLength", "512")])
    a.command(Read10(transfer_length=6), read=6 * BLOCK)
    headers = [pdu.header for pdu in a.take(DataIn)]
    found = [(header.data_sn, header.final) for header in headers if isinstance(header, DataIn)]
    assert found == [(number, number % 2 == 1) for number in range(6)]


class Way(NamedTuple):
    """How much of a write comes unasked.

    offers      what is negotiated
    immediate   bytes that go with the command
    unasked     bytes that follow it unasked
    """

    offers: list[Pair]
    immediate: int
    unasked: int


def terms(initial_r2t: str, immediate_data: str) -> list[Pair]:
    return [
        ("InitialR2T", initial_r2t),
        ("ImmediateData", immediate_data),
        ("FirstBurstLength", str(FIRST_BURST)),
    ]


def ask_the_rest(lab: Lab, way: Way) -> list[ReadyToTransfer]:
    """Writes four blocks, as much unasked as the way has it, answers the R2Ts and returns them."""
    a = lab.session(offers=way.offers)
    tag = a.write(0, BLOCKS, data=BLOCKS[: way.immediate], final=not way.unasked)
    if way.unasked:
        assert not a.received
        unasked = BLOCKS[way.immediate : way.immediate + way.unasked]
        a.data_out(ReadyToTransfer(initiator_task_tag=tag, buffer_offset=way.immediate), unasked)
    found = asked(a)
    for header in found:
        end = header.buffer_offset + header.desired_data_transfer_length
        a.data_out(header, BLOCKS[header.buffer_offset : end])
    assert a.outcome(tag).status == 0
    assert b"".join(lab.block(lba) for lba in range(4)) == BLOCKS
    return found


@pytest.mark.case("FFP-16.3.1")
@pytest.mark.clause("RFC7143 13.11")
def test_ffp_16_3_1_immediate_data_is_taken_and_the_rest_asked_for(lab: Lab):
    [asking] = ask_the_rest(lab, Way(terms("Yes", "Yes"), FIRST_BURST, 0))
    assert (asking.buffer_offset, asking.desired_data_transfer_length) == (FIRST_BURST, len(BLOCKS) - FIRST_BURST)


@pytest.mark.case("FFP-16.3.2")
@pytest.mark.clause("RFC7143 13.10")
def test_ffp_16_3_2_immediate_and_unsolicited_data_make_up_the_first_burst(lab: Lab):
    [asking] = ask_the_rest(lab, Way(terms("No", "Yes"), BLOCK, FIRST_BURST - BLOCK))
    assert asking.buffer_offset == FIRST_BURST


@pytest.mark.case("FFP-16.3.3")
@pytest.mark.clause("RFC7143 13.10")
def test_ffp_16_3_3_all_is_asked_for_where_nothing_may_come_unasked(lab: Lab):
    [asking] = ask_the_rest(lab, Way(terms("Yes", "No"), 0, 0))
    assert (asking.buffer_offset, asking.desired_data_transfer_length) == (0, len(BLOCKS))


@pytest.mark.case("FFP-16.3.4")
@pytest.mark.clause("RFC7143 13.10")
def test_ffp_16_3_4_unsolicited_data_alone_is_the_first_burst(lab: Lab):
    [asking] = ask_the_rest(lab, Way(terms("No", "No"), 0, FIRST_BURST))
    assert asking.buffer_offset == FIRST_BURST


@pytest.mark.case("FFP-16.3.5")
@pytest.mark.clause("RFC7143 13.14")
def test_ffp_16_3_5_nothing_is_asked_for_when_the_first_burst_has_it_all(lab: Lab):
    offers = [("InitialR2T", "No"), ("FirstBurstLength", str(len(BLOCKS)))]
    assert ask_the_rest(lab, Way(offers, BLOCK, 3 * BLOCK)) == []


@pytest.mark.case("FFP-19.1")
@pytest.mark.clause("RFC7143 11.4.5.1")
@pytest.mark.parametrize(
    ("expected", "residual"),
    [(BLOCK, (True, False, BLOCK)), (2 * BLOCK, (False, False, 0)), (3 * BLOCK, (False, True, BLOCK))],
)
def test_ffp_19_1_no_more_comes_than_is_expected_and_the_difference_is_told(a: Host, expected, residual):
    a.command(Read10(transfer_length=2), read=expected)
    [pdu] = a.take(DataIn)
    assert isinstance(pdu.header, DataIn)
    assert len(pdu.data) == min(expected, 2 * BLOCK)
    assert (pdu.header.overflow, pdu.header.underflow, pdu.header.residual_count) == residual


@pytest.mark.case("FFP-19.1")
@pytest.mark.clause("RFC7143 11.4.5.1")
def test_ffp_19_1_no_more_is_asked_for_than_the_command_has(lab: Lab, a: Host):
    tag = a.ask_to_write(0, 2, expected_data_transfer_length=BLOCK)
    [asking] = asked(a)
    assert asking.desired_data_transfer_length == BLOCK
    a.data_out(asking, BLOCKS[:BLOCK])
    [pdu] = a.take(ScsiResponse)
    assert isinstance(pdu.header, ScsiResponse)
    assert pdu.header.initiator_task_tag == tag
    assert (pdu.header.overflow, pdu.header.residual_count) == (True, BLOCK)
    assert lab.block(1) == bytes(BLOCK)
