"""The login phase. Host A logs in to a target with our side of the negotiation as in OURS (see tests/initiator)."""

import pytest

from iscsi_target.initiator.events import LoggedIn
from iscsi_target.initiator.session import Settings
from iscsi_target.iscsi.chap import Authentication, ChapAccount
from iscsi_target.iscsi.errors import LoginStatus
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.iscsi.requests import NopOut
from iscsi_target.iscsi.responses import LoginResponse, NopIn
from iscsi_target.iscsi.text import Pair, encode, parse
from tests.initiator import NODE, Host, Lab, disk_node
from tests.unit.initiator.bench import Desk

SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3
OURS = Preferences(
    max_recv_data_segment_length=65536,
    initial_r2t=False,
    immediate_data=True,
    max_burst_length=16384,
    first_burst_length=8192,
    max_outstanding_r2t=4,
    max_connections=1,
    error_recovery_level=0,
    default_time2wait=3,
    default_time2retain=30,
    data_pdu_in_order=True,
)
ALICE = Authentication((ChapAccount("alice", b"a secret of alice"),))


@pytest.fixture
def lab() -> Lab:
    return Lab(preferences=OURS)


def answered(host: Host) -> tuple[LoginResponse, list[Pair]]:
    [pdu] = host.take(LoginResponse)
    assert isinstance(pdu.header, LoginResponse)
    return pdu.header, parse(pdu.data)


def say(host: Host, stage: int, pairs: list[Pair], following: int | None = None) -> tuple[LoginResponse, list[Pair]]:
    """Sends one request of a login, which asks to go on to another stage or not, and returns the answer."""
    header = host.login_request(current_stage=stage, transit=following is not None, next_stage=following or 0)
    host.send(header, encode(pairs))
    return answered(host)


def names(host: Host) -> list[Pair]:
    return [("InitiatorName", host.name), ("TargetName", NODE)]


def settled(lab: Lab, *offers: Pair) -> dict[str, str]:
    """Returns the answers to offers, in a login that goes on to its end."""
    a = lab.connect()
    a.login(offers=offers)
    _, pairs = answered(a)
    assert a.logged_in
    return dict(pairs)


def refused(lab: Lab, *offers: Pair) -> int:
    """Returns the status with which offers end a login."""
    a = lab.connect()
    a.login(offers=offers)
    assert not a.logged_in
    assert a.closed
    return a.login_status()


@pytest.mark.clause("RFC7143 6.3.3")
@pytest.mark.case("LOGIN-1.1")
@pytest.mark.clause("RFC7143 6.3.1")
def test_login_1_1_the_stages_lead_to_the_full_feature_phase(lab: Lab):
    a = lab.connect()
    header, pairs = say(a, SECURITY, [*names(a), ("AuthMethod", "None")], OPERATIONAL)
    assert (header.transit, header.current_stage, header.next_stage) == (True, SECURITY, OPERATIONAL)
    assert ("AuthMethod", "None") in pairs
    header, _ = say(a, OPERATIONAL, [("MaxBurstLength", "8192")], FULL_FEATURE)
    assert (header.transit, header.current_stage, header.next_stage) == (True, OPERATIONAL, FULL_FEATURE)
    assert a.logged_in


@pytest.mark.clause("RFC7143 11.12.1")
@pytest.mark.case("LOGIN-3.1")
@pytest.mark.clause("RFC7143 11.13.6")
def test_login_3_1_a_stage_is_not_left_before_the_initiator_asks_for_it(lab: Lab):
    a = lab.connect()
    for pairs in (names(a), []):
        header, _ = say(a, OPERATIONAL, pairs)
        assert (header.transit, header.current_stage, header.next_stage) == (False, OPERATIONAL, 0)
    assert say(a, OPERATIONAL, [], FULL_FEATURE)[0].transit


@pytest.mark.case("LOGIN-3.2")
@pytest.mark.clause("RFC7143 6.3")
def test_login_3_2_a_stage_is_not_left_before_the_target_is_done_with_it():
    lab = Lab([disk_node(authentication=ALICE)])
    a = lab.connect()
    header, pairs = say(a, SECURITY, [*names(a), ("AuthMethod", "CHAP")], OPERATIONAL)
    assert ("AuthMethod", "CHAP") in pairs
    assert (header.transit, header.next_stage) == (False, 0)
    assert not say(a, SECURITY, [("CHAP_A", "5")], OPERATIONAL)[0].transit


@pytest.mark.case("LOGIN-4.1")
@pytest.mark.case("LOGIN-4.2")
@pytest.mark.clause("RFC7143 4.2.2.2")
@pytest.mark.parametrize("first", [0, 1, 2**31, 2**32 - 1])
def test_login_4_1_an_initiator_goes_on_from_any_stat_sn(first: int):
    desk = Desk()
    desk.stat_sn = first
    assert isinstance(desk.log_in(), LoggedIn)
    desk.session.ping(b"x", desk.connection)
    [sent] = desk.sent()
    assert isinstance(sent.header, NopOut)
    assert sent.header.exp_stat_sn == (first + 1) % 2**32


@pytest.mark.case("LOGIN-4.2")
@pytest.mark.clause("RFC7143 4.2.2.2")
def test_login_4_2_stat_sn_goes_on_from_the_login_to_the_full_feature_phase(lab: Lab):
    a = lab.connect()
    first = say(a, OPERATIONAL, names(a))[0].stat_sn
    assert say(a, OPERATIONAL, [])[0].stat_sn == first + 1
    assert say(a, OPERATIONAL, [], FULL_FEATURE)[0].stat_sn == first + 2
    a.send(NopOut(initiator_task_tag=9, cmd_sn=a.next_cmd_sn()))
    assert a.take_one(NopIn).stat_sn == first + 3


@pytest.mark.case("LOGIN-5.1")
@pytest.mark.clause("RFC7143 11.12.9")
@pytest.mark.parametrize("expected", [0, 1, 2**32 - 1])
def test_login_5_1_exp_stat_sn_of_the_first_request_means_nothing(lab: Lab, expected: int):
    a = lab.connect()
    a.login(exp_stat_sn=expected)
    assert a.logged_in


@pytest.mark.case("LOGIN-6.1")
@pytest.mark.clause("RFC7143 6.3")
@pytest.mark.parametrize("pair", [("MaxBurstLength", "8192"), ("MaxRecvDataSegmentLength", "512")])
def test_login_6_1_a_key_that_comes_again_ends_the_login(lab: Lab, pair: Pair):
    a = lab.connect()
    say(a, OPERATIONAL, [*names(a), pair])
    a.send(a.login_request(), encode([pair]))
    assert (a.login_status(), a.closed) == (LoginStatus.INITIATOR_ERROR, True)


@pytest.mark.case("LOGIN-6.2")
@pytest.mark.clause("RFC7143 6.3")
def test_login_6_2_immediate_data_cannot_be_negotiated_again_in_another_request(lab: Lab):
    a = lab.connect()
    assert ("ImmediateData", "No") in say(a, OPERATIONAL, [*names(a), ("ImmediateData", "No")])[1]
    a.send(a.login_request(), encode([("ImmediateData", "Yes")]))
    assert (a.login_status(), a.closed) == (LoginStatus.INITIATOR_ERROR, True)


@pytest.mark.case("LOGIN-6.3")
@pytest.mark.clause("RFC7143 6.3")
def test_login_6_3_immediate_data_cannot_be_negotiated_twice_in_one_request(lab: Lab):
    assert refused(lab, ("ImmediateData", "No"), ("ImmediateData", "Yes")) == LoginStatus.INITIATOR_ERROR


@pytest.mark.case("LOGIN-7.1")
@pytest.mark.clause("RFC7143 6.2")
def test_login_7_1_every_offer_has_an_answer_and_nothing_is_answered_unasked(lab: Lab):
    offers = [("MaxBurstLength", "512"), ("InitialR2T", "Yes"), ("DataDigest", "None"), ("X-org.example.key", "1")]
    answers = settled(lab, *offers)
    assert set(answers) - {name for name, _ in offers} == {"TargetPortalGroupTag", "MaxRecvDataSegmentLength"}
    assert set(answers) >= {name for name, _ in offers}


@pytest.mark.case("LOGIN-7.2")
@pytest.mark.clause("RFC7143 6.2.1")
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [("None,CRC32C", "None"), ("CRC32C,None", "CRC32C"), ("X-org.example.sum,CRC32C", "CRC32C"), ("MD5", "Reject")],
)
def test_login_7_2_of_a_list_the_first_that_is_supported_is_chosen(lab: Lab, offered: str, chosen: str):
    a = lab.connect()
    _, pairs = say(a, OPERATIONAL, [*names(a), ("HeaderDigest", offered)])
    assert dict(pairs)["HeaderDigest"] == chosen


@pytest.mark.case("LOGIN-7.3")
@pytest.mark.clause("RFC7143 12.1")
def test_login_7_3_methods_that_are_not_supported_end_the_login(lab: Lab):
    a = lab.connect()
    a.send(a.login_request(current_stage=SECURITY), encode([*names(a), ("AuthMethod", "KRB5,X-org.example.method")]))
    assert (a.login_status(), a.closed) == (LoginStatus.AUTHENTICATION_FAILURE, True)


@pytest.mark.case("LOGIN-7.4")
@pytest.mark.clause("RFC7143 13.14")
@pytest.mark.parametrize("value", ["16777216", "4294967296", "511", "0"])
def test_login_7_4_a_first_burst_length_out_of_its_range_is_refused(lab: Lab, value: str):
    assert settled(lab, ("FirstBurstLength", value))["FirstBurstLength"] == "Reject"


@pytest.mark.case("LOGIN-7.5")
@pytest.mark.clause("RFC7143 13.11")
@pytest.mark.parametrize("value", ["yes", "TRUE", "1", "Maybe"])
def test_login_7_5_immediate_data_that_is_no_boolean_is_refused(lab: Lab, value: str):
    assert settled(lab, ("ImmediateData", value))["ImmediateData"] == "Reject"


@pytest.mark.case("LOGIN-7.6")
@pytest.mark.clause("RFC7143 6.2")
def test_login_7_6_a_key_that_nobody_knows_is_not_understood(lab: Lab):
    assert settled(lab, ("X-org.example.key", "Yes"))["X-org.example.key"] == "NotUnderstood"


@pytest.mark.case("LOGIN-8.1")
@pytest.mark.clause("RFC7143 11.13.5")
def test_login_8_1_another_pdu_in_a_login_ends_it(lab: Lab):
    a = lab.connect()
    say(a, OPERATIONAL, names(a))
    a.send(NopOut(initiator_task_tag=1))
    assert (a.login_status(), a.closed) == (LoginStatus.INVALID_DURING_LOGIN, True)


@pytest.mark.case("LOGIN-8.1")
@pytest.mark.clause("RFC7143 6.3")
def test_login_8_1_another_pdu_in_the_place_of_a_login_ends_the_connection(lab: Lab):
    a = lab.connect()
    a.send(NopOut(initiator_task_tag=1))
    assert a.closed
    assert not a.received


@pytest.mark.case("LOGIN-9.1")
@pytest.mark.clause("RFC7143 13.1")
def test_login_9_1_no_digests_are_used_of_which_nobody_spoke(lab: Lab):
    answers = settled(lab)
    assert not {"HeaderDigest", "DataDigest"} & set(answers)


@pytest.mark.case("LOGIN-9.2")
@pytest.mark.clause("RFC7143 13.1")
@pytest.mark.parametrize(("header", "data"), [("None", "CRC32C"), ("CRC32C", "None")])
def test_login_9_2_each_digest_is_negotiated_for_itself(lab: Lab, header: str, data: str):
    answers = settled(lab, ("HeaderDigest", header), ("DataDigest", data))
    assert (answers["HeaderDigest"], answers["DataDigest"]) == (header, data)


@pytest.mark.case("LOGIN-9.3")
@pytest.mark.clause("RFC7143 13.1")
def test_login_9_3_crc32c_is_supported_and_used_from_the_login_on(lab: Lab):
    a = lab.session(offers=[("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")])
    a.send(NopOut(initiator_task_tag=9, cmd_sn=a.next_cmd_sn()), b"data")
    [pdu] = a.take(NopIn)
    assert pdu.data == b"data"


@pytest.mark.case("LOGIN-10.1")
@pytest.mark.clause("RFC7143 13.2")
@pytest.mark.parametrize(("offered", "result"), [("1", "1"), ("4", "4"), ("65535", "8"), ("0", "Reject")])
def test_login_10_1_the_smaller_number_of_connections_holds(offered: str, result: str):
    lab = Lab(preferences=OURS._replace(max_connections=8))
    assert settled(lab, ("MaxConnections", offered))["MaxConnections"] == result


@pytest.mark.clause("RFC7143 13.4")
@pytest.mark.case("LOGIN-11.1")
@pytest.mark.clause("RFC7143 13.5")
@pytest.mark.parametrize("missing", [0, 1], ids=["InitiatorName", "TargetName"])
def test_login_11_1_the_first_request_has_both_names(lab: Lab, missing: int):
    a = lab.connect()
    pairs = names(a)
    del pairs[missing]
    a.send(a.login_request(), encode(pairs))
    assert (a.login_status(), a.closed) == (LoginStatus.MISSING_PARAMETER, True)


@pytest.mark.case("LOGIN-12.1")
@pytest.mark.clause("RFC7143 13.25")
def test_login_12_1_markers_are_not_used(lab: Lab):
    offers = [("IFMarker", "Yes"), ("OFMarker", "Yes"), ("IFMarkInt", "2048~8192"), ("OFMarkInt", "2048~8192")]
    answers = settled(lab, *offers)
    assert [answers[name] for name, _ in offers] == ["No", "No", "Irrelevant", "Irrelevant"]


@pytest.mark.case("LOGIN-13.1")
@pytest.mark.clause("RFC7143 6.2.2")
@pytest.mark.parametrize("offered", ["Yes", "No"])
def test_login_13_1_a_boolean_is_answered_with_the_result(lab: Lab, offered: str):
    answers = settled(lab, ("ImmediateData", offered), ("InitialR2T", offered))
    assert answers["ImmediateData"] == offered  # both, and ours is Yes
    assert answers["InitialR2T"] == offered  # either, and ours is No


@pytest.mark.case("LOGIN-13.2")
@pytest.mark.clause("RFC7143 6.2.2")
def test_login_13_2_one_side_decides_a_boolean_that_the_other_cannot_change():
    lab = Lab(preferences=OURS._replace(immediate_data=False, initial_r2t=True))
    answers = settled(lab, ("ImmediateData", "Yes"), ("InitialR2T", "No"))
    assert (answers["ImmediateData"], answers["InitialR2T"]) == ("No", "Yes")


@pytest.mark.case("LOGIN-13.3")
@pytest.mark.clause("RFC7143 6.2.2")
@pytest.mark.parametrize("name", ["InitialR2T", "ImmediateData", "DataPDUInOrder", "DataSequenceInOrder"])
def test_login_13_3_what_is_no_boolean_is_refused(lab: Lab, name: str):
    assert settled(lab, (name, "Perhaps"))[name] == "Reject"


@pytest.mark.case("LOGIN-14.1")
@pytest.mark.clause("RFC7143 13.12")
def test_login_14_1_each_side_declares_its_own_segment_length(lab: Lab):
    answers = settled(lab, ("MaxRecvDataSegmentLength", "512"))
    assert answers["MaxRecvDataSegmentLength"] == str(OURS.max_recv_data_segment_length)


@pytest.mark.case("LOGIN-15.1")
@pytest.mark.clause("RFC7143 13.13")
@pytest.mark.parametrize(("offered", "result"), [("512", "512"), ("16777215", "16384"), ("16777216", "Reject")])
def test_login_15_1_the_smaller_burst_length_holds(lab: Lab, offered: str, result: str):
    assert settled(lab, ("MaxBurstLength", offered))["MaxBurstLength"] == result


@pytest.mark.case("LOGIN-16.1")
@pytest.mark.clause("RFC7143 13.14")
def test_login_16_1_a_first_burst_within_the_burst_length_holds(lab: Lab):
    assert settled(lab, ("MaxBurstLength", "8192"), ("FirstBurstLength", "4096"))["FirstBurstLength"] == "4096"


@pytest.mark.case("LOGIN-16.2")
@pytest.mark.clause("RFC7143 13.14")
@pytest.mark.parametrize("first", [0, 1], ids=["FirstBurstLength first", "MaxBurstLength first"])
def test_login_16_2_a_first_burst_never_exceeds_the_burst_length(lab: Lab, first: int):
    offers = [("FirstBurstLength", "8192"), ("MaxBurstLength", "1024")]
    answers = settled(lab, offers[first], offers[1 - first])
    assert (answers["FirstBurstLength"], answers["MaxBurstLength"]) == ("1024", "1024")


@pytest.mark.case("LOGIN-16.3")
@pytest.mark.clause("RFC7143 13.14")
def test_login_16_3_an_initiator_takes_the_first_burst_length_of_the_other_side():
    event = Desk(Settings()).log_in(("MaxBurstLength", "4096"), ("FirstBurstLength", "1024"))
    assert isinstance(event, LoggedIn)
    assert event.parameters.first_burst_length == 1024


@pytest.mark.case("LOGIN-17.1")
@pytest.mark.clause("RFC7143 13.16")
@pytest.mark.parametrize(("offered", "result"), [("0", "0"), ("20", "20"), ("3600", "30"), ("3601", "Reject")])
def test_login_17_1_the_shorter_time_to_retain_holds(lab: Lab, offered: str, result: str):
    assert settled(lab, ("DefaultTime2Retain", offered))["DefaultTime2Retain"] == result


@pytest.mark.case("LOGIN-18.1")
@pytest.mark.clause("RFC7143 13.15")
@pytest.mark.parametrize(("offered", "result"), [("0", "3"), ("20", "20"), ("3600", "3600"), ("3601", "Reject")])
def test_login_18_1_the_longer_time_to_wait_holds(lab: Lab, offered: str, result: str):
    assert settled(lab, ("DefaultTime2Wait", offered))["DefaultTime2Wait"] == result


@pytest.mark.case("LOGIN-19.1")
@pytest.mark.clause("RFC7143 13.17")
@pytest.mark.parametrize(("offered", "result"), [("1", "1"), ("65535", "4"), ("65536", "Reject"), ("0", "Reject")])
def test_login_19_1_the_smaller_number_of_outstanding_r2ts_holds(lab: Lab, offered: str, result: str):
    assert settled(lab, ("MaxOutstandingR2T", offered))["MaxOutstandingR2T"] == result


@pytest.mark.case("LOGIN-20.1")
@pytest.mark.clause("RFC7143 13.20")
@pytest.mark.parametrize(("offered", "result"), [("0", "0"), ("2", "0"), ("3", "Reject")])
def test_login_20_1_the_lower_error_recovery_level_holds(lab: Lab, offered: str, result: str):
    assert settled(lab, ("ErrorRecoveryLevel", offered))["ErrorRecoveryLevel"] == result


@pytest.mark.case("LOGIN-21.1")
@pytest.mark.clause("RFC7143 13.21")
def test_login_21_1_a_discovery_session_needs_no_target_and_there_is_no_third_type(lab: Lab):
    a = lab.connect()
    a.login(None)
    assert a.logged_in
    assert refused(lab, ("SessionType", "Diagnostic")) == LoginStatus.SESSION_TYPE_NOT_SUPPORTED


@pytest.mark.case("LOGIN-22.1")
@pytest.mark.clause("RFC7143 12.1")
@pytest.mark.parametrize("offered", ["None", "CHAP,None", "KRB5,None,CHAP"])
@pytest.mark.parametrize("is_due", [False, True], ids=["no proof is due", "a proof is due"])
def test_login_22_1_the_method_is_chap_where_a_proof_is_due_and_none_where_not(offered: str, is_due: bool):
    lab = Lab([disk_node(authentication=ALICE if is_due else Authentication())])
    a = lab.connect()
    a.send(
        a.login_request(current_stage=SECURITY, transit=False, next_stage=0),
        encode([*names(a), ("AuthMethod", offered)]),
    )
    header, pairs = answered(a)
    method = "CHAP" if is_due else "None"
    if method in offered.split(","):
        assert ("AuthMethod", method) in pairs
    else:
        assert (header.status_class << 8 | header.status_detail, a.closed) == (LoginStatus.AUTHENTICATION_FAILURE, True)
