"""Offers, and what the answers to them come to."""

import pytest

from iscsi_target.initiator.negotiation import ANYTHING, MAX_ANSWERS, Negotiation, offer
from iscsi_target.iscsi.errors import LoginRefused, ProtocolError
from iscsi_target.iscsi.keys import Stage
from iscsi_target.iscsi.parameters import Parameters, Preferences

USUAL = Preferences()


def begun(preferences: Preferences = USUAL, discovery: bool = False, **overrides: str) -> Negotiation:
    negotiation = Negotiation(preferences, overrides, discovery=discovery)
    negotiation.begin()
    return negotiation


def answer(negotiation: Negotiation, **answers: str) -> list:
    return negotiation.receive(Stage.OPERATIONAL, list(answers.items()))


def test_everything_is_offered_but_what_older_targets_do_not_know():
    assert dict(offer(USUAL, discovery=False)) == {
        "HeaderDigest": "None,CRC32C",
        "DataDigest": "None,CRC32C",
        "MaxConnections": "1",
        "InitialR2T": "No",
        "ImmediateData": "Yes",
        "MaxRecvDataSegmentLength": "262144",
        "MaxBurstLength": "1048576",
        "FirstBurstLength": "262144",
        "DefaultTime2Wait": "0",
        "DefaultTime2Retain": "0",
        "MaxOutstandingR2T": "16",
        "DataPDUInOrder": "No",
        "DataSequenceInOrder": "No",
        "ErrorRecoveryLevel": "0",
    }


def test_keys_of_rfc_7144_are_offered_when_they_are_to_differ():
    offered = dict(offer(USUAL._replace(protocol_level=2, task_reporting=("FastAbort", "RFC3720")), discovery=False))
    assert (offered["iSCSIProtocolLevel"], offered["TaskReporting"]) == ("2", "FastAbort,RFC3720")


def test_first_burst_is_not_offered_above_the_burst():
    assert dict(offer(USUAL._replace(max_burst_length=1024), discovery=False))["FirstBurstLength"] == "1024"


def test_discovery_session_offers_only_what_means_something_there():
    offered = dict(offer(USUAL, discovery=True))
    assert "HeaderDigest" in offered
    assert "InitialR2T" not in offered


def test_answers_are_what_holds():
    negotiation = begun()
    answer(
        negotiation, HeaderDigest="CRC32C", InitialR2T="Yes", MaxBurstLength="512", MaxRecvDataSegmentLength="0x1000"
    )
    held = negotiation.conclude()
    assert held.header_digest
    assert held.initial_r2t
    assert (held.max_burst_length, held.target_max_recv, held.initiator_max_recv) == (512, 4096, 262144)
    assert held.first_burst_length == 512  # nobody answered, and no first burst is above the burst


@pytest.mark.parametrize("reply", ["Reject", "Irrelevant", "NotUnderstood"])
def test_offer_that_is_not_taken_leaves_the_default(reply: str):
    negotiation = begun()
    answer(negotiation, InitialR2T=reply, MaxOutstandingR2T=reply, MaxRecvDataSegmentLength=reply)
    assert negotiation.parameters == Parameters(initiator_max_recv=262144)


@pytest.mark.clause("RFC7143 6.2.1")
@pytest.mark.parametrize(
    ("preferences", "answers"),
    [
        (USUAL._replace(header_digest=("None",)), {"HeaderDigest": "CRC32C"}),
        (USUAL, {"DataDigest": "None,CRC32C"}),
        (USUAL, {"DataDigest": "CRC64"}),
        (USUAL._replace(initial_r2t=True), {"InitialR2T": "No"}),
        (USUAL._replace(immediate_data=False), {"ImmediateData": "Yes"}),
        (USUAL, {"ImmediateData": "yes"}),
        (USUAL._replace(max_burst_length=1024), {"MaxBurstLength": "1025"}),
        (USUAL._replace(default_time2wait=5), {"DefaultTime2Wait": "4"}),
        (USUAL, {"MaxOutstandingR2T": "0"}),
        (USUAL, {"MaxRecvDataSegmentLength": "511"}),
        (USUAL, {"MaxRecvDataSegmentLength": "many"}),
    ],
)
def test_answer_that_does_not_follow_from_the_offer_is_an_error(preferences: Preferences, answers: dict):
    with pytest.raises(ProtocolError):
        answer(begun(preferences), **answers)


def test_answers_to_overrides_are_taken_as_they_are():
    negotiation = begun(USUAL._replace(data_digest=("None",)), MaxBurstLength="512", DataDigest="CRC32C", X="1")
    answer(negotiation, MaxBurstLength="4096", DataDigest="CRC32C", X="2")
    held = negotiation.conclude()
    assert (held.max_burst_length, held.data_digest) == (4096, True)
    assert negotiation.answers["X"] == "2"


def test_offers_of_the_target_are_answered_as_the_table_has_it():
    negotiation = Negotiation(USUAL, {}, discovery=False)
    offered = {"ImmediateData": "No", "MaxBurstLength": "8192", "X-1": "y", "TargetAlias": "disk", "IFMarker": "Yes"}
    assert dict(answer(negotiation, **offered)) == {
        "ImmediateData": "No",
        "MaxBurstLength": "8192",
        "X-1": "NotUnderstood",
        "IFMarker": "No",
    }
    assert not negotiation.parameters.immediate_data
    assert negotiation.answers["TargetAlias"] == "disk"


def test_offers_of_the_target_outside_their_stage_or_session_are_refused():
    offered = [("MaxBurstLength", "8192")]
    for stage in (Stage.SECURITY, Stage.FULL_FEATURE):
        assert begun().receive(stage, []) == []
        assert Negotiation(USUAL, {}, discovery=False).receive(stage, offered) == [("MaxBurstLength", "Reject")]
    discovery = Negotiation(USUAL, {}, discovery=True)
    assert discovery.receive(Stage.OPERATIONAL, offered) == [("MaxBurstLength", "Irrelevant")]


def test_digest_that_is_demanded_and_not_agreed_to_ends_the_login():
    negotiation = begun(USUAL._replace(header_digest=("CRC32C",)))
    answer(negotiation, HeaderDigest="Reject")
    with pytest.raises(LoginRefused, match="HeaderDigest"):
        negotiation.conclude()


def test_length_that_is_no_length_is_for_the_target_to_refuse():
    for wrong in ("many", "1"):
        assert begun(MaxRecvDataSegmentLength=wrong).parameters.initiator_max_recv == 8192


def test_keys_without_end_are_an_error():
    negotiation = Negotiation(Preferences(), {}, discovery=False)
    negotiation.receive(Stage.FULL_FEATURE, [(f"X-{number}", "") for number in range(MAX_ANSWERS)])
    with pytest.raises(ProtocolError, match="keys"):
        negotiation.receive(Stage.FULL_FEATURE, [("X-one-more", "")])


def test_anything_takes_every_answer():
    negotiation = Negotiation(ANYTHING, {}, discovery=False)
    negotiation.begin()
    answer(negotiation, ErrorRecoveryLevel="2", MaxConnections="65535", TaskReporting="FastAbort", InitialR2T="No")
    held = negotiation.parameters
    assert (held.error_recovery_level, held.max_connections, held.task_reporting) == (2, 65535, "FastAbort")


@pytest.mark.clause("RFC7143 13")
def test_later_connection_negotiates_only_what_is_its_own():
    held = Parameters(max_burst_length=512, max_connections=2, header_digest=True, target_max_recv=4096)
    negotiation = Negotiation(USUAL, {"MaxBurstLength": "1024", "X": "1"}, discovery=False, of_session=held)
    offered = dict(negotiation.begin())
    assert set(offered) == {"HeaderDigest", "DataDigest", "MaxRecvDataSegmentLength", "X"}
    assert negotiation.parameters == Parameters(max_burst_length=512, max_connections=2, initiator_max_recv=262144)
