"""The negotiation table and its result functions."""

import pytest

from iscsi_target.iscsi import keys
from iscsi_target.iscsi.errors import LoginRefused, ProtocolError
from iscsi_target.iscsi.keys import Circumstances, Parameters, Preferences, Senders, Stage, Use

NORMAL = Circumstances(Stage.OPERATIONAL, leading=True, discovery=False)
DISCOVERY = Circumstances(Stage.OPERATIONAL, leading=True, discovery=True)
LATER_CONNECTION = Circumstances(Stage.OPERATIONAL, leading=False, discovery=False)
SECURITY = Circumstances(Stage.SECURITY, leading=True, discovery=False)


OURS = Preferences()


def negotiate(*offered, preferences=OURS, circumstances=NORMAL):
    return keys.negotiate(preferences, circumstances, Parameters(), offered)


def answer(name, value, **ours):
    answers, _ = negotiate((name, value), preferences=Preferences(**ours))
    return dict(answers).get(name)


def test_every_key_of_chapter_13_is_in_the_table():
    clauses = {key.clause for key in keys.TABLE}
    expected = {f"RFC7143 13.{number}" for number in range(1, 26)} - {"RFC7143 13.22"}  # the format of X- keys
    assert expected <= clauses
    assert len({key.name for key in keys.TABLE}) == len(keys.TABLE)


@pytest.mark.parametrize("key", keys.TABLE, ids=lambda key: key.name)
def test_no_offer_leaves_a_key_at_its_default_and_unanswered(key):
    answers, parameters = negotiate()
    assert key.name not in dict(answers)
    assert parameters == Parameters()


@pytest.mark.clause("RFC7143 13.1")
@pytest.mark.parametrize(
    "offer, ours, expected",
    [
        ("None", ("None", "CRC32C"), "None"),
        ("None,CRC32C", ("None", "CRC32C"), "None"),
        ("CRC32C,None", ("None", "CRC32C"), "CRC32C"),
        ("CRC32C,None", ("None",), "None"),
        ("None,CRC32C", ("CRC32C",), "CRC32C"),
        ("Y-com.example.sum,CRC32C", ("None", "CRC32C"), "CRC32C"),
        ("Y-com.example.sum", ("None", "CRC32C"), "Reject"),
        ("crc32c", ("None", "CRC32C"), "Reject"),
        ("", ("None", "CRC32C"), "Reject"),
        ("CRC32C,,None", ("None", "CRC32C"), "Reject"),
    ],
)
def test_digest_is_the_first_of_the_list_that_we_support(offer, ours, expected):
    assert answer("HeaderDigest", offer, header_digest=ours) == expected
    assert answer("DataDigest", offer, data_digest=ours) == expected


def test_chosen_digest_is_in_use():
    _, parameters = negotiate(("HeaderDigest", "CRC32C"), ("DataDigest", "None"))
    assert (parameters.header_digest, parameters.data_digest) == (True, False)


def test_demanded_digest_that_is_not_offered_ends_the_login():
    demanding = Preferences(header_digest=("CRC32C",))
    with pytest.raises(LoginRefused):
        negotiate(("HeaderDigest", "None"), preferences=demanding)
    with pytest.raises(LoginRefused):
        keys.conclude(demanding, Parameters())
    assert keys.conclude(demanding, Parameters(header_digest=True)).header_digest


@pytest.mark.clause("RFC7143 13.10")
@pytest.mark.parametrize("name, field", [("InitialR2T", "initial_r2t"), ("DataPDUInOrder", "data_pdu_in_order")])
@pytest.mark.parametrize("offer", ["Yes", "No"])
@pytest.mark.parametrize("ours", [True, False])
def test_result_function_or(name, field, offer, ours):
    assert answer(name, offer, **{field: ours}) == ("Yes" if offer == "Yes" or ours else "No")


@pytest.mark.clause("RFC7143 13.11")
@pytest.mark.parametrize("offer", ["Yes", "No"])
@pytest.mark.parametrize("ours", [True, False])
def test_result_function_and(offer, ours):
    assert answer("ImmediateData", offer, immediate_data=ours) == ("Yes" if offer == "Yes" and ours else "No")


NUMBERS = [
    ("MaxConnections", "max_connections", 1, 65535, min),
    ("MaxBurstLength", "max_burst_length", 512, 2**24 - 1, min),
    ("DefaultTime2Wait", "default_time2wait", 0, 3600, max),
    ("DefaultTime2Retain", "default_time2retain", 0, 3600, min),
    ("MaxOutstandingR2T", "max_outstanding_r2t", 1, 65535, min),
    ("ErrorRecoveryLevel", "error_recovery_level", 0, 2, min),
    ("iSCSIProtocolLevel", "protocol_level", 0, 31, min),
]


@pytest.mark.clause("RFC7143 13")
@pytest.mark.parametrize("name, field, least, most, function", NUMBERS)
def test_result_function_of_numbers(name, field, least, most, function):
    middle = (least + most + 1) // 2
    for offer in (least, middle, most):
        for ours in (least, middle, most):
            answers, parameters = negotiate((name, str(offer)), preferences=Preferences(**{field: ours}))
            assert answers == [(name, str(function(offer, ours)))]
            assert getattr(parameters, field) == function(offer, ours)


@pytest.mark.clause("RFC7143 6.2.2")
@pytest.mark.parametrize("name, field, least, most, function", NUMBERS)
def test_number_out_of_range_is_rejected_and_changes_nothing(name, field, least, most, function):
    for offer in (str(most + 1), "x", "", "-1", "1~2", *([str(least - 1)] if least else [])):
        assert negotiate((name, offer)) == ([(name, "Reject")], Parameters())


def test_number_may_be_hexadecimal():
    assert answer("MaxBurstLength", "0x1000") == "4096"


@pytest.mark.parametrize("name", ["InitialR2T", "ImmediateData", "DataPDUInOrder", "DataSequenceInOrder"])
def test_value_that_is_no_boolean_is_rejected(name):
    assert negotiate((name, "Maybe")) == ([(name, "Reject")], Parameters())


@pytest.mark.clause("RFC7143 13.14")
@pytest.mark.parametrize("order", [1, -1])
def test_first_burst_does_not_exceed_max_burst_whatever_their_order(order):
    offered = [("MaxBurstLength", "65536"), ("FirstBurstLength", "262144")][::order]
    answers, parameters = negotiate(*offered)
    assert dict(answers) == {"MaxBurstLength": "65536", "FirstBurstLength": "65536"}
    assert [name for name, _ in answers] == [name for name, _ in offered]
    assert parameters.first_burst_length == 65536


@pytest.mark.clause("RFC7143 13.14")
def test_first_burst_that_is_not_offered_does_not_exceed_max_burst():
    _, parameters = negotiate(("MaxBurstLength", "512"))
    assert keys.conclude(Preferences(), parameters).first_burst_length == 512


@pytest.mark.clause("RFC7143 13.12")
def test_max_recv_data_segment_length_is_declared_and_not_answered():
    answers, parameters = negotiate(("MaxRecvDataSegmentLength", "65536"))
    assert answers == []
    assert parameters.initiator_max_recv == 65536
    assert parameters.target_max_recv == Parameters().target_max_recv


def test_declaration_of_more_than_the_largest_means_the_largest():
    answers, parameters = negotiate(("MaxRecvDataSegmentLength", "16777216"))
    assert answers == []
    assert parameters.initiator_max_recv == 2**24 - 1


def test_declaration_out_of_range_is_rejected():
    for value in ("511", "many"):
        assert negotiate(("MaxRecvDataSegmentLength", value))[0] == [("MaxRecvDataSegmentLength", "Reject")]


@pytest.mark.clause("RFC7143 6.2")
@pytest.mark.parametrize("name", ["X-com.example.key", "Nonsense", "initialR2T", "X#old", "MaxAHSLength"])
def test_unknown_key_is_not_understood(name):
    assert answer(name, "1") == "NotUnderstood"


IRRELEVANT_IN_DISCOVERY = {
    "MaxConnections": "1",
    "InitialR2T": "No",
    "ImmediateData": "Yes",
    "MaxBurstLength": "8192",
    "FirstBurstLength": "8192",
    "MaxOutstandingR2T": "1",
    "DataPDUInOrder": "Yes",
    "DataSequenceInOrder": "Yes",
    "TaskReporting": "RFC3720",
    "iSCSIProtocolLevel": "1",
}


@pytest.mark.clause("RFC7143 13")
@pytest.mark.parametrize("name", IRRELEVANT_IN_DISCOVERY)
def test_keys_of_data_transfer_are_irrelevant_in_discovery(name):
    offered = (name, IRRELEVANT_IN_DISCOVERY[name])
    assert negotiate(offered, circumstances=DISCOVERY) == ([(name, "Irrelevant")], Parameters())


@pytest.mark.parametrize(
    "name, value", [("HeaderDigest", "None"), ("DefaultTime2Wait", "2"), ("ErrorRecoveryLevel", "0")]
)
def test_other_keys_are_negotiated_in_discovery(name, value):
    assert negotiate((name, value), circumstances=DISCOVERY)[0] == [(name, value)]


@pytest.mark.clause("RFC7143 13.25")
@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("IFMarker", "Yes", "No"),
        ("OFMarker", "No", "No"),
        ("IFMarkInt", "2048~8192", "Irrelevant"),
        ("OFMarkInt", "1", "Irrelevant"),
    ],
)
def test_markers_are_declined(name, value, expected):
    assert answer(name, value) == expected


def test_task_reporting_picks_what_we_do():
    assert answer("TaskReporting", "FastAbort,ResponseFence,RFC3720") == "RFC3720"
    assert answer("TaskReporting", "FastAbort") == "Reject"


def test_defaults_hold_back_what_later_work_raises():
    offered = [("MaxConnections", "32"), ("ErrorRecoveryLevel", "2"), ("iSCSIProtocolLevel", "3")]
    assert [value for _, value in negotiate(*offered)[0]] == ["1", "0", "1"]


@pytest.mark.clause("RFC7143 13.2")
def test_leading_only_key_on_a_later_connection_is_rejected():
    assert negotiate(("MaxConnections", "1"), circumstances=LATER_CONNECTION)[0] == [("MaxConnections", "Reject")]
    assert negotiate(("HeaderDigest", "None"), circumstances=LATER_CONNECTION)[0] == [("HeaderDigest", "None")]


@pytest.mark.clause("RFC7143 12")
def test_operational_key_in_the_security_stage_is_rejected():
    answers, parameters = negotiate(("MaxBurstLength", "512"), circumstances=SECURITY)
    assert answers == [("MaxBurstLength", "Reject")]
    assert parameters == Parameters()


def test_security_key_in_the_operational_stage_is_rejected():
    assert answer("AuthMethod", "None") == "Reject"
    assert answer("CHAP_A", "5") == "Reject"


@pytest.mark.parametrize("name", ["TargetAlias", "TargetAddress", "TargetPortalGroupTag"])
def test_key_that_only_a_target_may_send_is_rejected(name):
    assert answer(name, "1") == "Reject"


@pytest.mark.parametrize("name", ["InitiatorName", "InitiatorAlias", "TargetName", "SessionType"])
def test_texts_get_no_answer_in_login(name):
    assert answer(name, "x") is None


@pytest.mark.clause("RFC7143 6.2")
@pytest.mark.parametrize("word", ["Reject", "Irrelevant", "NotUnderstood"])
def test_reply_word_as_a_proposal_is_a_protocol_error(word):
    with pytest.raises(ProtocolError, match="answers only"):
        negotiate(("InitialR2T", word))


@pytest.mark.parametrize("name", ["TargetAlias", "TargetPortalGroupTag", "MaxRecvDataSegmentLength"])
def test_reply_to_a_declaration_of_ours_passes(name):
    assert negotiate((name, "NotUnderstood")) == ([], Parameters())


@pytest.mark.clause("RFC7143 13.12")
def test_segment_length_may_be_declared_anew_in_full_feature_phase():
    before = Parameters(initial_r2t=False, initiator_max_recv=8192)
    answers, after = keys.negotiate_text(before, [("MaxRecvDataSegmentLength", "4096")])
    assert answers == []
    assert after == before._replace(initiator_max_recv=4096)


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("MaxBurstLength", "8192", "Reject"),
        ("HeaderDigest", "None", "Reject"),
        ("TargetName", "iqn.x", "Reject"),
        ("AuthMethod", "None", "Reject"),
        ("sENDtARGETS", "aLL", "NotUnderstood"),
        ("SendTargetsPlease", "All", "NotUnderstood"),
    ],
)
def test_other_keys_cannot_be_negotiated_in_full_feature_phase(name, value, expected):
    assert keys.negotiate_text(Parameters(), [(name, value)]) == ([(name, expected)], Parameters())


def test_send_targets_in_login_is_rejected():
    assert answer("SendTargets", "All") == "Reject"


def test_the_target_declares_its_segment_length():
    ours = Preferences(max_recv_data_segment_length=65536)
    declared = [("MaxRecvDataSegmentLength", "65536")]
    assert keys.declare(ours, Parameters()) == (declared, Parameters(target_max_recv=65536))


def test_parameters_begin_with_the_defaults_of_the_standard():
    assert Parameters()._asdict() == {
        "header_digest": False,
        "data_digest": False,
        "initial_r2t": True,
        "immediate_data": True,
        "max_burst_length": 262144,
        "first_burst_length": 65536,
        "initiator_max_recv": 8192,
        "target_max_recv": 8192,
        "max_outstanding_r2t": 1,
        "max_connections": 1,
        "error_recovery_level": 0,
        "default_time2wait": 2,
        "default_time2retain": 20,
        "data_pdu_in_order": True,
        "data_sequence_in_order": True,
        "task_reporting": "RFC3720",
        "protocol_level": 1,
    }


def test_rows_of_the_table_are_consistent():
    for key in keys.TABLE:
        if key.use is Use.LEADING_ONLY:
            assert key.scope is keys.Scope.SESSION
        if isinstance(key.kind, keys.Number | keys.Boolean | keys.Choice):
            assert key.senders is Senders.BOTH
