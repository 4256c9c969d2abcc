"""Title 17 of the full feature phase: Text Requests. Host A (see tests/initiator)."""

import pytest

from iscsi_target.iscsi.errors import RejectReason
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import TextRequest
from iscsi_target.iscsi.responses import DataIn, Reject, TextResponse
from iscsi_target.iscsi.text import Pair, encode, parse_listing
from iscsi_target.scsi.layouts.block_cdb import Read10
from tests.initiator import Host, Lab
from tests.unit.scsi.unit_bench import BLOCK

TAG = 900
SHORT: Pair = ("MaxRecvDataSegmentLength", "512")


@pytest.fixture
def lab() -> Lab:
    return Lab()


def say(host: Host, text: bytes, transfer_tag: int = NO_TAG, **fields) -> None:
    header = TextRequest(initiator_task_tag=TAG, target_transfer_tag=transfer_tag, cmd_sn=host.next_cmd_sn())
    host.send(header.replace(**fields), text)


def answer(host: Host) -> tuple[TextResponse, list[Pair]]:
    [pdu] = host.take(TextResponse)
    assert isinstance(pdu.header, TextResponse)
    return pdu.header, parse_listing(pdu.data)


def rejected(host: Host) -> int:
    return host.take_one(Reject).reason


def segment_length(host: Host) -> int:
    """Returns the longest data segment that comes."""
    host.command(Read10(transfer_length=32), read=32 * BLOCK)
    return max(len(pdu.data) for pdu in host.take(DataIn))


@pytest.mark.case("FFP-17.1.1")
@pytest.mark.clause("RFC7143 11.11.4")
def test_ffp_17_1_1_an_answer_that_says_all_has_the_tag_of_the_request_and_none_of_the_target(a: Host):
    say(a, encode([("SendTargets", "")]))
    header, _ = answer(a)
    assert (header.initiator_task_tag, header.target_transfer_tag) == (TAG, NO_TAG)


@pytest.mark.case("FFP-17.1.2")
@pytest.mark.clause("RFC7143 11.11.4")
def test_ffp_17_1_2_an_answer_that_is_to_go_on_has_a_tag_to_go_on_with(a: Host):
    say(a, encode([SHORT]), final=False)
    header, _ = answer(a)
    assert header.initiator_task_tag == TAG
    assert header.target_transfer_tag != NO_TAG
    say(a, b"", header.target_transfer_tag)
    assert answer(a)[0].target_transfer_tag == NO_TAG


@pytest.mark.case("FFP-17.2.1")
@pytest.mark.clause("RFC7143 11.11.1")
def test_ffp_17_2_1_a_request_that_says_all_has_an_answer_that_says_all(a: Host):
    say(a, encode([SHORT]))
    assert answer(a)[0].final


@pytest.mark.case("FFP-17.2.2")
@pytest.mark.clause("RFC7143 11.11.1")
def test_ffp_17_2_2_a_request_that_is_to_go_on_never_has_an_answer_that_says_all(a: Host):
    transfer_tag = NO_TAG
    for text in (b"", encode([SHORT]), b""):
        say(a, text, transfer_tag, final=False)
        header, _ = answer(a)
        assert not header.final
        transfer_tag = header.target_transfer_tag


@pytest.mark.case("FFP-17.4.1")
@pytest.mark.clause("RFC7143 13")
@pytest.mark.parametrize("pair", [("MaxBurstLength", "512"), ("InitialR2T", "Yes"), ("HeaderDigest", "CRC32C")])
def test_ffp_17_4_1_what_is_for_the_login_is_refused_after_it(a: Host, pair: Pair):
    assert a.ask([pair]) == [(pair[0], "Reject")]


@pytest.mark.case("FFP-17.4.2")
@pytest.mark.clause("RFC7143 6.2")
@pytest.mark.parametrize("discovery", [False, True])
def test_ffp_17_4_2_a_key_that_nobody_knows_is_not_understood(lab: Lab, discovery: bool):
    a = lab.connect()
    a.login(*(None,) if discovery else ())
    assert a.ask([("X-org.example.key", "1")]) == [("X-org.example.key", "NotUnderstood")]


@pytest.mark.case("FFP-17.5")
@pytest.mark.clause("RFC7143 11.10.3")
def test_ffp_17_5_another_initiator_task_tag_does_not_go_on_with_an_exchange(a: Host):
    say(a, encode([SHORT]), final=False)
    header, _ = answer(a)
    say(a, b"", header.target_transfer_tag, initiator_task_tag=TAG + 1)
    assert rejected(a) == RejectReason.PROTOCOL_ERROR
    assert segment_length(a) == 8192


@pytest.mark.case("FFP-17.6")
@pytest.mark.clause("RFC7143 6.4")
@pytest.mark.parametrize("together", [True, False], ids=["in one request", "in two requests"])
def test_ffp_17_6_a_key_that_comes_twice_in_an_exchange_is_a_protocol_error(a: Host, together: bool):
    if together:
        say(a, encode([SHORT, SHORT]))
    else:
        say(a, encode([SHORT]), final=False)
        say(a, encode([SHORT]), answer(a)[0].target_transfer_tag)
    assert rejected(a) == RejectReason.PROTOCOL_ERROR
    assert segment_length(a) == 8192
    assert a.ask([SHORT]) == []
    assert segment_length(a) == 512


@pytest.mark.case("FFP-17.7.1")
@pytest.mark.clause("RFC7143 6.4")
def test_ffp_17_7_1_what_was_said_before_a_reset_does_not_hold(a: Host):
    say(a, encode([SHORT]), final=False)
    answer(a)
    assert segment_length(a) == 8192
    say(a, encode([("X-org.example.key", "1")]))  # without a target transfer tag it begins anew
    assert answer(a)[1] == [("X-org.example.key", "NotUnderstood")]
    assert segment_length(a) == 8192


@pytest.mark.case("FFP-17.7.2")
@pytest.mark.clause("RFC7143 6.2")
@pytest.mark.parametrize("value", ["511", "many", "-1"])
def test_ffp_17_7_2_a_value_that_cannot_be_is_refused_and_the_old_one_holds(a: Host, value: str):
    assert a.ask([("MaxRecvDataSegmentLength", value)]) == [("MaxRecvDataSegmentLength", "Reject")]
    assert segment_length(a) == 8192


@pytest.mark.case("FFP-17.7.3")
@pytest.mark.clause("RFC7143 7.12")
def test_ffp_17_7_3_text_that_is_none_is_rejected_and_another_exchange_may_begin(a: Host):
    say(a, encode([SHORT]), final=False)
    say(a, b"no pair at all\0", answer(a)[0].target_transfer_tag)
    assert rejected(a) == RejectReason.PROTOCOL_ERROR
    assert segment_length(a) == 8192
    assert a.ask([SHORT]) == []
    assert segment_length(a) == 512


@pytest.mark.case("FFP-17.8.1")
@pytest.mark.clause("RFC7143 11.10.2")
def test_ffp_17_8_1_a_part_of_a_text_is_answered_without_any(a: Host):
    say(a, encode([("SendTargets", "All")]), final=False, continue_=True)
    header, pairs = answer(a)
    assert (header.final, header.continue_, pairs) == (False, False, [])
    assert header.target_transfer_tag != NO_TAG


@pytest.mark.clause("RFC7143 7.13")
@pytest.mark.case("FFP-17.8.2")
@pytest.mark.clause("RFC7143 11.10.2")
def test_ffp_17_8_2_a_request_cannot_be_a_part_and_say_all(a: Host):
    say(a, encode([SHORT]), continue_=True)
    assert rejected(a) == RejectReason.PROTOCOL_ERROR
    assert segment_length(a) == 8192


@pytest.mark.case("FFP-17.8.3")
@pytest.mark.clause("RFC7143 11.10.2")
def test_ffp_17_8_3_a_pair_may_be_cut_anywhere(a: Host):
    text, transfer_tag = encode([("X-org.example.key", "1"), SHORT]), NO_TAG
    for number in range(len(text) - 1):
        say(a, text[number : number + 1], transfer_tag, final=False, continue_=True)
        transfer_tag = answer(a)[0].target_transfer_tag
    say(a, text[-1:], transfer_tag)
    assert answer(a)[1] == [("X-org.example.key", "NotUnderstood")]
    assert segment_length(a) == 512
