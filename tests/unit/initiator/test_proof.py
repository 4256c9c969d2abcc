"""CHAP on the initiator's side, against the target's side of it and against a target that cheats."""

import pytest

from iscsi_target.initiator.proof import Credentials, Proof
from iscsi_target.iscsi import chap, text
from iscsi_target.iscsi.chap import Algorithm, Authentication, ChapAccount
from iscsi_target.iscsi.errors import LoginRefused, ProtocolError

ALICE = ChapAccount("alice", b"a secret of alice")
VAULT = ChapAccount("vault", b"a secret of vault")


def entropy(length: int) -> bytes:
    return bytes(range(1, length + 1))


def challenged(credentials: Credentials, authentication: Authentication) -> tuple[Proof, chap.Challenge, dict]:
    """Goes as far as the initiator's response; returns it with the challenge."""
    proof = Proof(credentials, entropy)
    proof.begin()
    asked = chap.challenge(authentication, dict(proof.receive({"AuthMethod": "CHAP"})), bytes)
    assert not proof.complete
    response = dict(proof.receive(dict(chap.announce(asked))))
    assert proof.complete
    return proof, asked, response


@pytest.mark.parametrize("algorithm", Algorithm)
def test_target_takes_the_response_by_every_algorithm(algorithm: Algorithm):
    authentication = Authentication((ALICE,), algorithms=(algorithm,))
    proof, asked, response = challenged(Credentials(ALICE), authentication)
    assert asked.algorithm is algorithm
    assert chap.verify(authentication, asked, response) == []
    assert proof.receive({}) == []
    assert proof.complete


def test_md5_is_offered_before_the_number_that_tgt_takes_for_another():
    proof = Proof(Credentials(ALICE), entropy)
    assert proof.receive({"AuthMethod": "CHAP"}) == [("CHAP_A", "8,6,5,7")]


def test_wrong_secret_is_refused_by_the_target():
    authentication = Authentication((ALICE,))
    _, asked, response = challenged(Credentials(ALICE._replace(secret=b"of somebody else")), authentication)
    with pytest.raises(LoginRefused):
        chap.verify(authentication, asked, response)


def test_target_proves_itself():
    authentication = Authentication((ALICE,), VAULT)
    proof, asked, response = challenged(Credentials(ALICE, VAULT), authentication)
    assert proof.receive(dict(chap.verify(authentication, asked, response))) == []


@pytest.mark.clause("RFC7143 12.1.3")
@pytest.mark.parametrize(
    "cheat",
    [
        {},
        {"CHAP_N": "vault"},
        {"CHAP_N": "vault", "CHAP_R": "0x00"},
        {"CHAP_N": "vault", "CHAP_R": "nothing"},
        {"CHAP_N": "vault", "CHAP_R": "0x" + "00" * 32},
    ],
)
def test_target_that_does_not_prove_itself_is_left(cheat: dict):
    proof, _, _ = challenged(Credentials(ALICE, VAULT), Authentication((ALICE,), VAULT))
    with pytest.raises(ProtocolError):
        proof.receive(cheat)


def test_target_with_another_name_than_its_own_is_left():
    authentication = Authentication((ALICE,), VAULT._replace(user="other"))
    proof, asked, response = challenged(Credentials(ALICE, VAULT), authentication)
    with pytest.raises(ProtocolError, match="not the one"):
        proof.receive(dict(chap.verify(authentication, asked, response)))


def test_no_proof_is_offered_only_when_none_is_wanted_in_return():
    assert Proof(Credentials(ALICE), entropy).begin() == [("AuthMethod", "CHAP,None")]
    assert Proof(Credentials(ALICE, VAULT), entropy).begin() == [("AuthMethod", "CHAP")]


def test_target_may_want_no_proof():
    proof = Proof(Credentials(ALICE), entropy)
    assert proof.receive({"AuthMethod": "None"}) == []
    assert proof.complete
    assert proof.receive({}) == []


@pytest.mark.parametrize("answered", [{}, {"AuthMethod": "Reject"}, {"AuthMethod": "KRB5"}])
def test_method_that_was_not_offered_is_an_error(answered: dict):
    with pytest.raises(ProtocolError):
        Proof(Credentials(ALICE), entropy).receive(answered)


def test_no_method_is_an_error_when_the_target_was_to_prove_itself():
    with pytest.raises(ProtocolError):
        Proof(Credentials(ALICE, VAULT), entropy).receive({"AuthMethod": "None"})


@pytest.mark.parametrize(
    "change", [{"CHAP_A": "9"}, {"CHAP_A": "x"}, {"CHAP_I": "256"}, {"CHAP_C": "17"}, {"CHAP_C": "0x" + "11" * 1025}]
)
def test_challenge_that_is_none_is_an_error(change: dict):
    asked = {"CHAP_A": "5", "CHAP_I": "1", "CHAP_C": text.hexadecimal(bytes(16))} | change
    proof = Proof(Credentials(ALICE), entropy)
    proof.receive({"AuthMethod": "CHAP"})
    with pytest.raises(ProtocolError):
        proof.receive(asked)


def test_equal_secrets_are_told():
    assert Credentials(ALICE, VAULT).secrets_differ
    assert Credentials(ALICE).secrets_differ
    assert not Credentials(ALICE, VAULT._replace(secret=ALICE.secret)).secrets_differ
