"""The login phase of one connection.

initiator A ── portal group 1 ── disk   (no authentication)
                              ── vault  (CHAP: alice; mutual: the vault itself; A and B only)
            ── portal group 2 ── far
"""

import pytest

from iscsi_target.iscsi import chap, text
from iscsi_target.iscsi.errors import LoginRefused, LoginStatus, ProtocolError
from iscsi_target.iscsi.login import (
    MAX_REQUESTS,
    Authentication,
    ChapAccount,
    Endpoint,
    LoginPhase,
    LoginTarget,
    Parameters,
    Preferences,
    SessionType,
)
from iscsi_target.iscsi.requests import LoginRequest

SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3
A = "iqn.2001-04.com.example:a"
STRANGER = "iqn.2001-04.com.example:stranger"
DISK = "iqn.2001-04.com.example:disk"
VAULT = "iqn.2001-04.com.example:vault"
FAR = "iqn.2001-04.com.example:far"
ALICE = ChapAccount("alice", b"a secret of alice")
ITSELF = ChapAccount("vault", b"a secret of the vault")
PROOF = Authentication((ALICE,), ITSELF)
TARGETS = (
    LoginTarget(DISK, alias="a disk"),
    LoginTarget(VAULT, authentication=PROOF, initiators=frozenset({A})),
    LoginTarget(FAR, portal_group_tags=frozenset({2})),
)
ENDPOINT = Endpoint({target.name: target for target in TARGETS})
TO_DISK = [("InitiatorName", A), ("TargetName", DISK)]
TO_VAULT = [("InitiatorName", A), ("TargetName", VAULT)]
DISCOVER = [("InitiatorName", A), ("SessionType", "Discovery")]
SEGMENT = ("MaxRecvDataSegmentLength", "262144")


class Initiator:
    """Sends Login Requests to a fresh machine and reads its answers."""

    def __init__(self, endpoint: Endpoint = ENDPOINT, **header: object) -> None:
        self.login = LoginPhase(endpoint, 1, lambda length: bytes(range(7, 7 + length)))
        self.header = LoginRequest(isid=b"\x80\0\0\0\0\1", cid=5, initiator_task_tag=77).replace(**header)

    def send(self, stage, pairs, to=None, **header):
        request = self.header.replace(current_stage=stage, **header)
        if to is not None:
            request = request.replace(transit=True, next_stage=to)
        return self.login.receive(request, pairs if isinstance(pairs, bytes) else text.encode(pairs))

    def refused(self, stage, pairs, to=None, **header):
        with pytest.raises(LoginRefused) as caught:
            self.send(stage, pairs, to, **header)
        return LoginStatus(caught.value.status_class << 8 | caught.value.status_detail)


def answers(step):
    return text.parse(step.data)


# The stages


@pytest.mark.clause("RFC7143 6.3")
def test_one_request_straight_to_full_feature_phase():
    step = Initiator().send(OPERATIONAL, [*TO_DISK, ("InitialR2T", "No")], FULL_FEATURE)
    assert step.response.transit
    assert (step.response.current_stage, step.response.next_stage) == (OPERATIONAL, FULL_FEATURE)
    assert step.completed is not None
    assert step.completed.parameters.initial_r2t is False
    assert step.completed.target_name == DISK


def test_response_echoes_the_connection_and_leaves_the_tsih_to_the_session():
    response = Initiator().send(OPERATIONAL, TO_DISK, FULL_FEATURE).response
    assert (response.isid, response.tsih, response.initiator_task_tag) == (b"\x80\0\0\0\0\1", 0, 77)
    assert (response.version_max, response.version_active) == (0, 0)
    assert (response.status_class, response.status_detail) == (0, 0)


def test_negotiated_names_who_logged_in_to_what():
    initiator = Initiator(tsih=9)
    pairs = [
        ("InitiatorName", A.upper()),
        ("TargetName", DISK.upper()),
        ("InitiatorAlias", "host"),
    ]
    done = initiator.send(OPERATIONAL, pairs, FULL_FEATURE).completed
    assert (done.initiator_name, done.initiator_alias, done.target_name) == (A, "host", DISK)
    assert (done.isid, done.tsih, done.cid) == (b"\x80\0\0\0\0\1", 9, 5)
    assert done.session_type is SessionType.NORMAL
    assert not done.discovery


@pytest.mark.clause("RFC7143 6.3.2")
def test_security_stage_then_operational_stage():
    initiator = Initiator()
    step = initiator.send(SECURITY, [*TO_DISK, ("AuthMethod", "CHAP,None")], OPERATIONAL)
    assert step.response.transit
    assert step.response.next_stage == OPERATIONAL
    assert step.completed is None
    assert ("AuthMethod", "None") in answers(step)
    assert "MaxRecvDataSegmentLength" not in dict(answers(step))
    assert initiator.send(OPERATIONAL, [SEGMENT], FULL_FEATURE).completed is not None


@pytest.mark.clause("RFC7143 6.3")
def test_security_stage_straight_to_full_feature_phase_keeps_the_defaults():
    step = Initiator().send(SECURITY, [*TO_DISK, ("AuthMethod", "None")], FULL_FEATURE)
    assert step.completed.parameters == Parameters()


def test_security_stage_may_be_left_without_auth_method_where_no_proof_is_due():
    assert Initiator().send(SECURITY, TO_DISK, OPERATIONAL).response.transit


@pytest.mark.clause("RFC7143 6.3")
def test_stage_is_kept_until_the_initiator_wants_to_leave():
    initiator = Initiator()
    step = initiator.send(OPERATIONAL, TO_DISK)
    assert (step.response.transit, step.response.next_stage) == (False, 0)
    assert initiator.send(OPERATIONAL, [], FULL_FEATURE).completed is not None


@pytest.mark.clause("RFC7143 11.12.3")
@pytest.mark.parametrize("current, following", [(2, 3), (3, 3), (0, 0), (0, 2), (1, 0), (1, 1), (1, 2)])
def test_reserved_or_backward_stage_is_refused(current, following):
    assert Initiator().refused(current, TO_DISK, following) is LoginStatus.INITIATOR_ERROR


@pytest.mark.clause("RFC7143 11.12.3")
def test_next_stage_is_reserved_without_the_t_bit():
    assert Initiator().send(OPERATIONAL, TO_DISK, next_stage=2).completed is None


def test_request_of_another_stage_than_the_current_is_refused():
    initiator = Initiator()
    initiator.send(SECURITY, TO_DISK, OPERATIONAL)
    assert initiator.refused(SECURITY, []) is LoginStatus.INITIATOR_ERROR
    initiator = Initiator()
    initiator.send(SECURITY, TO_DISK)
    assert initiator.refused(OPERATIONAL, []) is LoginStatus.INITIATOR_ERROR


@pytest.mark.clause("RFC7143 11.12.4")
def test_version_above_ours_is_refused():
    refused = Initiator().refused(OPERATIONAL, TO_DISK, FULL_FEATURE, version_min=1, version_max=2)
    assert refused is LoginStatus.UNSUPPORTED_VERSION
    assert Initiator().send(OPERATIONAL, TO_DISK, version_max=2).response.version_active == 0


@pytest.mark.clause("RFC7143 6.3")
@pytest.mark.parametrize("change", [{"isid": b"\x80\0\0\0\0\2"}, {"tsih": 1}, {"cid": 6}])
def test_isid_tsih_and_cid_stay_the_same_in_a_login(change):
    initiator = Initiator()
    initiator.send(OPERATIONAL, TO_DISK)
    assert initiator.refused(OPERATIONAL, [], FULL_FEATURE, **change) is LoginStatus.INITIATOR_ERROR


def test_number_of_requests_is_bounded():
    initiator = Initiator()
    initiator.send(OPERATIONAL, TO_DISK)
    for _ in range(MAX_REQUESTS - 1):
        initiator.send(OPERATIONAL, [])
    assert initiator.refused(OPERATIONAL, []) is LoginStatus.INITIATOR_ERROR


# Names


@pytest.mark.clause("RFC7143 13.5")
@pytest.mark.parametrize("pairs", [[], [("TargetName", DISK)], [("InitiatorName", A)]])
def test_missing_name_is_a_missing_parameter(pairs):
    assert Initiator().refused(OPERATIONAL, pairs, FULL_FEATURE) is LoginStatus.MISSING_PARAMETER


@pytest.mark.parametrize("name", [FAR, "iqn.2001-04.com.example:none", "nonsense", ""])
def test_target_that_is_not_here_is_not_found(name):
    pairs = [("InitiatorName", A), ("TargetName", name)]
    assert Initiator().refused(OPERATIONAL, pairs, FULL_FEATURE) is LoginStatus.TARGET_NOT_FOUND


def test_malformed_initiator_name_is_refused():
    pairs = [("InitiatorName", "x"), ("TargetName", DISK)]
    assert Initiator().refused(OPERATIONAL, pairs, FULL_FEATURE) is LoginStatus.INITIATOR_ERROR


@pytest.mark.clause("RFC7143 13.21")
def test_discovery_session_needs_no_target_name():
    done = Initiator().send(OPERATIONAL, DISCOVER, FULL_FEATURE).completed
    assert done.discovery
    assert done.target_name is None


def test_unknown_session_type_is_refused():
    pairs = [*TO_DISK, ("SessionType", "Other")]
    assert Initiator().refused(OPERATIONAL, pairs, FULL_FEATURE) is LoginStatus.SESSION_TYPE_NOT_SUPPORTED


def test_repeated_identity_of_the_same_value_passes_and_another_is_refused():
    initiator = Initiator()
    initiator.send(SECURITY, TO_DISK, OPERATIONAL)
    assert answers(initiator.send(OPERATIONAL, [*TO_DISK, ("SessionType", "Normal")])) == [SEGMENT]
    assert initiator.refused(OPERATIONAL, [("InitiatorName", STRANGER)]) is LoginStatus.INITIATOR_ERROR


def test_session_type_cannot_change_later():
    initiator = Initiator()
    initiator.send(SECURITY, TO_DISK, OPERATIONAL)
    assert initiator.refused(OPERATIONAL, [("SessionType", "Discovery")]) is LoginStatus.INITIATOR_ERROR


# What is volunteered


@pytest.mark.clause("RFC7143 13.9")
@pytest.mark.clause("RFC7143 13.6")
def test_portal_group_tag_is_in_the_first_answer_of_a_normal_session_only():
    initiator = Initiator()
    first = answers(initiator.send(SECURITY, [*TO_DISK, ("AuthMethod", "None")], OPERATIONAL))
    assert first == [("TargetAlias", "a disk"), ("TargetPortalGroupTag", "1"), ("AuthMethod", "None")]
    assert answers(initiator.send(OPERATIONAL, [], FULL_FEATURE)) == [SEGMENT]


def test_discovery_session_is_told_no_portal_group():
    assert answers(Initiator().send(OPERATIONAL, DISCOVER, FULL_FEATURE)) == [SEGMENT]


@pytest.mark.clause("RFC7143 13.12")
def test_segment_length_is_declared_once_and_holds():
    initiator = Initiator()
    assert SEGMENT in answers(initiator.send(OPERATIONAL, TO_DISK))
    step = initiator.send(OPERATIONAL, [], FULL_FEATURE)
    assert answers(step) == []
    assert step.completed.parameters.target_max_recv == 262144


def test_nothing_else_is_volunteered():
    pairs = dict(answers(Initiator().send(OPERATIONAL, TO_DISK, FULL_FEATURE)))
    assert set(pairs) == {"TargetAlias", "TargetPortalGroupTag", "MaxRecvDataSegmentLength"}


# Negotiation


OPEN_ISCSI = [
    ("HeaderDigest", "None"),
    ("DataDigest", "None"),
    ("DefaultTime2Wait", "2"),
    ("DefaultTime2Retain", "0"),
    ("IFMarker", "No"),
    ("OFMarker", "No"),
    ("ErrorRecoveryLevel", "0"),
    ("InitialR2T", "No"),
    ("ImmediateData", "Yes"),
    ("MaxBurstLength", "16776192"),
    ("FirstBurstLength", "262144"),
    ("MaxOutstandingR2T", "1"),
    ("MaxConnections", "1"),
    ("DataPDUInOrder", "Yes"),
    ("DataSequenceInOrder", "Yes"),
    SEGMENT,
]


def test_offer_of_open_iscsi_is_taken():
    initiator = Initiator()
    initiator.send(SECURITY, [*TO_DISK, ("SessionType", "Normal"), ("AuthMethod", "None")], OPERATIONAL)
    step = initiator.send(OPERATIONAL, OPEN_ISCSI, FULL_FEATURE)
    expected = dict(OPEN_ISCSI) | {"MaxBurstLength": "1048576"}
    assert dict(answers(step)) == expected
    assert step.completed.parameters.initiator_max_recv == 262144


@pytest.mark.clause("RFC7143 6.3")
def test_key_that_comes_twice_in_a_login_is_refused():
    initiator = Initiator()
    initiator.send(OPERATIONAL, [*TO_DISK, ("InitialR2T", "No")])
    assert initiator.refused(OPERATIONAL, [("InitialR2T", "No")]) is LoginStatus.INITIATOR_ERROR


def test_operational_key_rejected_in_the_security_stage_may_be_offered_in_its_own():
    initiator = Initiator()
    step = initiator.send(SECURITY, [*TO_DISK, ("InitialR2T", "No")], OPERATIONAL)
    assert ("InitialR2T", "Reject") in answers(step)
    assert ("InitialR2T", "No") in answers(initiator.send(OPERATIONAL, [("InitialR2T", "No")]))


def test_replies_to_our_declarations_pass_as_windows_sends_them():
    initiator = Initiator()
    initiator.send(OPERATIONAL, TO_DISK)
    pairs = [("TargetAlias", "NotUnderstood"), ("TargetPortalGroupTag", "Irrelevant")]
    assert answers(initiator.send(OPERATIONAL, pairs, FULL_FEATURE)) == []


def test_broken_text_is_a_protocol_error():
    with pytest.raises(ProtocolError):
        Initiator().send(OPERATIONAL, b"InitiatorName", FULL_FEATURE)


def test_demanded_digest_that_is_never_spoken_of_ends_the_login():
    endpoint = ENDPOINT._replace(preferences=Preferences(data_digest=("CRC32C",)))
    assert Initiator(endpoint).refused(OPERATIONAL, TO_DISK, FULL_FEATURE) is LoginStatus.INITIATOR_ERROR


# The C bit


@pytest.mark.clause("RFC7143 6.2")
def test_text_may_come_in_several_requests():
    initiator = Initiator()
    whole = text.encode([*TO_DISK, ("InitialR2T", "No")])
    for segment in (whole[:10], whole[10:60]):
        step = initiator.send(OPERATIONAL, segment, continue_=True)
        assert (step.data, step.response.transit, step.response.continue_) == (b"", False, False)
    step = initiator.send(OPERATIONAL, whole[60:], FULL_FEATURE)
    assert step.completed.parameters.initial_r2t is False


@pytest.mark.clause("RFC7143 11.12.2")
def test_c_bit_with_t_bit_is_refused():
    assert Initiator().refused(OPERATIONAL, TO_DISK, FULL_FEATURE, continue_=True) is LoginStatus.INITIATOR_ERROR


LONG_OFFER = [(f"X-com.example.{'long' * 10}{number}", "1") for number in range(200)]


@pytest.mark.clause("RFC7143 6.2")
def test_long_answer_goes_out_in_several_responses():
    initiator = Initiator()
    step = initiator.send(OPERATIONAL, [*TO_DISK, *LONG_OFFER], FULL_FEATURE)
    received = step.data
    assert step.response.continue_
    assert not step.response.transit
    while step.response.continue_:
        assert len(step.data) <= 8192
        step = initiator.send(OPERATIONAL, [], FULL_FEATURE)
        received += step.data
    assert step.completed is not None
    assert [value for _, value in text.parse(received)].count("NotUnderstood") == 200


def test_text_while_the_answer_is_incomplete_is_refused():
    initiator = Initiator()
    initiator.send(OPERATIONAL, [*TO_DISK, *LONG_OFFER])
    assert initiator.refused(OPERATIONAL, [("InitialR2T", "No")]) is LoginStatus.INITIATOR_ERROR


def test_stage_is_not_left_by_an_empty_request_without_the_t_bit():
    initiator = Initiator()
    initiator.send(OPERATIONAL, [*TO_DISK, *LONG_OFFER], FULL_FEATURE)
    step = initiator.send(OPERATIONAL, [])
    assert not step.response.continue_
    assert step.completed is None
    assert initiator.send(OPERATIONAL, [], FULL_FEATURE).completed is not None


# Authentication


def challenged(initiator, pairs=TO_VAULT, algorithms="5"):
    step = initiator.send(SECURITY, [*pairs, ("AuthMethod", "CHAP,None")], OPERATIONAL)
    assert not step.response.transit
    assert ("AuthMethod", "CHAP") in answers(step)
    asked = dict(answers(initiator.send(SECURITY, [("CHAP_A", algorithms)])))
    algorithm = chap.Algorithm(int(asked["CHAP_A"]))
    return chap.Challenge(algorithm, int(asked["CHAP_I"]), text.binary(asked["CHAP_C"], 1024))


def proof(asked, account=ALICE):
    return [("CHAP_N", account.user), ("CHAP_R", text.hexadecimal(chap.respond(asked, account.secret)))]


@pytest.mark.clause("RFC7143 12.1.3")
@pytest.mark.parametrize("algorithms", ["5", "7,5", "8,7,6,5"])
def test_right_secret_leads_to_the_operational_stage(algorithms):
    initiator = Initiator()
    asked = challenged(initiator, algorithms=algorithms)
    step = initiator.send(SECURITY, proof(asked), OPERATIONAL)
    assert step.response.transit
    assert step.data == b""
    assert initiator.send(OPERATIONAL, [], FULL_FEATURE).completed.target_name == VAULT


def test_proof_without_the_t_bit_waits_in_the_security_stage():
    initiator = Initiator()
    assert not initiator.send(SECURITY, proof(challenged(initiator))).response.transit
    assert initiator.send(SECURITY, [], OPERATIONAL).response.transit


@pytest.mark.clause("RFC7143 12.1.3")
def test_mutual_proof_comes_with_the_transit():
    initiator = Initiator()
    asked = challenged(initiator)
    pairs = [*proof(asked), ("CHAP_I", "3"), ("CHAP_C", "0x0102030405060708")]
    step = initiator.send(SECURITY, pairs, OPERATIONAL)
    own = chap.respond(chap.Challenge(asked.algorithm, 3, bytes(range(1, 9))), ITSELF.secret)
    assert step.response.transit
    assert answers(step) == [("CHAP_N", "vault"), ("CHAP_R", text.hexadecimal(own))]


def test_wrong_secret_ends_the_login():
    initiator = Initiator()
    pairs = proof(challenged(initiator), ChapAccount("alice", b"wrong"))
    assert initiator.refused(SECURITY, pairs, OPERATIONAL) is LoginStatus.AUTHENTICATION_FAILURE


@pytest.mark.clause("RFC7143 6.3.2")
@pytest.mark.parametrize("stage, to", [(OPERATIONAL, FULL_FEATURE), (SECURITY, OPERATIONAL), (SECURITY, FULL_FEATURE)])
def test_stage_cannot_be_passed_without_a_proof_that_is_due(stage, to):
    assert Initiator().refused(stage, TO_VAULT, to) is LoginStatus.AUTHENTICATION_FAILURE


@pytest.mark.parametrize("methods", ["None", "KRB5,None", "", "Reject", "chap"])
def test_list_without_chap_is_refused_where_a_proof_is_due(methods):
    pairs = [*TO_VAULT, ("AuthMethod", methods)]
    assert Initiator().refused(SECURITY, pairs, OPERATIONAL) is LoginStatus.AUTHENTICATION_FAILURE


def test_list_without_none_is_refused_where_no_account_exists():
    pairs = [*TO_DISK, ("AuthMethod", "CHAP")]
    assert Initiator().refused(SECURITY, pairs, OPERATIONAL) is LoginStatus.AUTHENTICATION_FAILURE


@pytest.mark.parametrize("following", [[], [("InitiatorAlias", "host")]])
def test_t_bit_does_not_skip_a_chosen_method(following):
    initiator = Initiator()
    initiator.send(SECURITY, [*TO_VAULT, ("AuthMethod", "CHAP")], OPERATIONAL)
    assert not initiator.send(SECURITY, following, OPERATIONAL).response.transit
    initiator = Initiator()
    challenged(initiator)
    assert not initiator.send(SECURITY, following, FULL_FEATURE).response.transit


def test_chap_keys_out_of_turn_are_refused():
    assert Initiator().refused(SECURITY, [*TO_VAULT, ("CHAP_A", "5")]) is LoginStatus.INITIATOR_ERROR
    initiator = Initiator()
    initiator.send(SECURITY, [*TO_VAULT, ("AuthMethod", "CHAP")])
    assert initiator.refused(SECURITY, [("CHAP_N", "alice")]) is LoginStatus.MISSING_PARAMETER
    initiator = Initiator()
    asked = challenged(initiator)
    initiator.send(SECURITY, proof(asked))
    assert initiator.refused(SECURITY, [("CHAP_I", "1"), ("CHAP_C", "0x00")]) is LoginStatus.INITIATOR_ERROR


@pytest.mark.parametrize("again", [("AuthMethod", "None"), ("CHAP_A", "6")])
def test_method_and_algorithm_cannot_be_changed(again):
    initiator = Initiator()
    challenged(initiator)
    assert initiator.refused(SECURITY, [again], OPERATIONAL) is LoginStatus.INITIATOR_ERROR


def test_operational_stage_cannot_be_entered_in_the_midst_of_a_proof():
    initiator = Initiator()
    challenged(initiator)
    assert initiator.refused(OPERATIONAL, [], FULL_FEATURE) is LoginStatus.INITIATOR_ERROR


def test_discovery_has_its_own_accounts():
    endpoint = ENDPOINT._replace(discovery=Authentication((ChapAccount("bob", b"a secret of bob"),)))
    assert Initiator(endpoint).refused(OPERATIONAL, DISCOVER, FULL_FEATURE) is LoginStatus.AUTHENTICATION_FAILURE
    initiator = Initiator(endpoint)
    asked = challenged(initiator, DISCOVER)
    assert initiator.send(SECURITY, proof(asked, endpoint.discovery.accounts[0]), FULL_FEATURE).completed.discovery


@pytest.mark.clause("RFC7143 11.13.5")
def test_initiator_that_may_not_use_the_target_is_refused_after_its_proof():
    initiator = Initiator()
    asked = challenged(initiator, [("InitiatorName", STRANGER), ("TargetName", VAULT)])
    assert initiator.refused(SECURITY, proof(asked), OPERATIONAL) is LoginStatus.AUTHORIZATION_FAILURE


@pytest.mark.parametrize("stage", [SECURITY, OPERATIONAL])
def test_list_of_initiators_counts_without_authentication_too(stage):
    target = LoginTarget(DISK, initiators=frozenset({A}))
    endpoint = Endpoint({DISK: target})
    pairs = [("InitiatorName", STRANGER), ("TargetName", DISK)]
    assert Initiator(endpoint).refused(stage, pairs, FULL_FEATURE) is LoginStatus.AUTHORIZATION_FAILURE
    assert Initiator(endpoint).send(stage, TO_DISK, FULL_FEATURE).completed is not None
