"""CHAP on the target's side."""

import base64
import hashlib

import pytest

from iscsi_target.iscsi import chap, text
from iscsi_target.iscsi.chap import Algorithm, Authentication, Challenge, ChapAccount
from iscsi_target.iscsi.errors import LoginRefused, LoginStatus

ALICE = ChapAccount("alice", b"a secret of alice")
TARGET = ChapAccount("disk", b"a secret of the target")
ONE_WAY = Authentication((ALICE,))
MUTUAL = Authentication((ALICE,), TARGET)


def entropy(length: int) -> bytes:
    return bytes(range(1, length + 1))


def prove(asked: Challenge, account: ChapAccount = ALICE) -> dict[str, str]:
    return {"CHAP_N": account.user, "CHAP_R": text.hexadecimal(chap.respond(asked, account.secret))}


def asked_with(algorithm: str = "5", authentication: Authentication = ONE_WAY) -> Challenge:
    return chap.challenge(authentication, {"CHAP_A": algorithm}, entropy)


def refusal(authentication: Authentication, asked: Challenge, offered: dict[str, str]) -> LoginRefused:
    with pytest.raises(LoginRefused) as caught:
        chap.verify(authentication, asked, offered)
    return caught.value


def status(refused: LoginRefused) -> int:
    return refused.status_class << 8 | refused.status_detail


def test_response_to_a_known_challenge():
    """The digest is over the identifier, the secret and the challenge, in this order."""
    asked = Challenge(Algorithm.MD5, 7, b"challenge")
    assert chap.respond(asked, b"secret") == hashlib.md5(b"\x07secretchallenge").digest()


@pytest.mark.clause("RFC7143 12.1.3")
@pytest.mark.parametrize("algorithm, length", [("5", 16), ("6", 20), ("7", 32), ("8", 32)])
def test_every_algorithm_lets_the_right_secret_in(algorithm, length):
    asked = asked_with(algorithm)
    assert len(asked.value) == length
    assert chap.verify(ONE_WAY, asked, prove(asked)) == []


@pytest.mark.clause("RFC7143 6.2.1")
def test_first_algorithm_of_the_initiators_list_that_we_support_is_chosen():
    assert asked_with("99,8,5").algorithm is Algorithm.SHA3_256
    only_md5 = Authentication((ALICE,), algorithms=(Algorithm.MD5,))
    assert asked_with("8,7,6,5", only_md5).algorithm is Algorithm.MD5


@pytest.mark.parametrize("listed", ["56", "", ",", "9", "MD5", "None", "Reject", " 5"])
def test_list_without_a_known_algorithm_is_refused(listed):
    with pytest.raises(LoginRefused) as caught:
        asked_with(listed)
    assert status(caught.value) == LoginStatus.AUTHENTICATION_FAILURE


def test_host_without_md5_does_not_offer_it(monkeypatch):
    real = hashlib.new

    def fips(name, *arguments):
        if name == "md5":
            raise ValueError("unsupported hash type md5")
        return real(name, *arguments)

    monkeypatch.setattr(hashlib, "new", fips)
    assert [algorithm for algorithm in Algorithm if not chap.computes(algorithm)] == [Algorithm.MD5]
    assert asked_with("5,7").algorithm is Algorithm.SHA256


def test_challenge_is_announced_in_lower_case_hexadecimal():
    assert chap.announce(Challenge(Algorithm.MD5, 171, b"\xab\xcd")) == [
        ("CHAP_A", "5"),
        ("CHAP_I", "171"),
        ("CHAP_C", "0xabcd"),
    ]


def test_response_may_be_base64_or_upper_case():
    asked = asked_with()
    response = chap.respond(asked, ALICE.secret)
    for form in ("0b" + base64.b64encode(response).decode(), "0X" + response.hex().upper()):
        assert chap.verify(ONE_WAY, asked, {"CHAP_N": "alice", "CHAP_R": form}) == []


def test_wrong_user_and_wrong_secret_are_refused_alike():
    asked = asked_with()
    wrong_secret = refusal(ONE_WAY, asked, prove(asked, ChapAccount("alice", b"wrong")))
    wrong_user = refusal(ONE_WAY, asked, prove(asked, ChapAccount("mallory", ALICE.secret)))
    assert status(wrong_secret) == status(wrong_user) == LoginStatus.AUTHENTICATION_FAILURE
    assert wrong_secret.reason == wrong_user.reason


def test_user_must_match_its_own_secret():
    bob = ChapAccount("bob", b"a secret of bob")
    asked = asked_with()
    both = Authentication((ALICE, bob))
    assert chap.verify(both, asked, prove(asked, bob)) == []
    refusal(both, asked, prove(asked, ChapAccount("alice", bob.secret)))


@pytest.mark.parametrize("response", ["", "0x", "abc", "0x00", "0x" + "00" * 17, "0b" + "A" * 24, "0b" + "A" * 2000])
def test_response_of_another_length_or_form_is_refused(response):
    refused = refusal(ONE_WAY, asked_with(), {"CHAP_N": "alice", "CHAP_R": response})
    assert status(refused) == LoginStatus.AUTHENTICATION_FAILURE


@pytest.mark.parametrize("user", ["0x616c696365", "0bYWxpY2U="])
def test_user_that_looks_like_a_constant_is_text(user):
    account = ChapAccount(user, b"another secret")
    asked = asked_with()
    assert chap.verify(Authentication((account,)), asked, prove(asked, account)) == []
    refusal(ONE_WAY, asked, prove(asked, ChapAccount(user, ALICE.secret)))


@pytest.mark.parametrize("missing", ["CHAP_N", "CHAP_R"])
def test_missing_key_is_a_missing_parameter(missing):
    asked = asked_with()
    offered = prove(asked)
    del offered[missing]
    assert status(refusal(ONE_WAY, asked, offered)) == LoginStatus.MISSING_PARAMETER


@pytest.mark.clause("RFC7143 12.1.3")
def test_target_proves_itself_when_asked():
    asked = asked_with("7", MUTUAL)
    answers = chap.verify(MUTUAL, asked, prove(asked) | {"CHAP_I": "200", "CHAP_C": "0x0102"})
    expected = hashlib.sha256(b"\xc8" + TARGET.secret + b"\1\2").hexdigest()
    assert answers == [("CHAP_N", "disk"), ("CHAP_R", "0x" + expected)]


def test_target_proves_nothing_when_not_asked():
    asked = asked_with("5", MUTUAL)
    assert chap.verify(MUTUAL, asked, prove(asked)) == []


def test_target_proves_nothing_to_an_initiator_that_failed():
    asked = asked_with("5", MUTUAL)
    refusal(MUTUAL, asked, prove(asked, ChapAccount("alice", b"wrong")) | {"CHAP_I": "1", "CHAP_C": "0x01"})


def test_proof_that_cannot_be_given_is_refused():
    asked = asked_with()
    refused = refusal(ONE_WAY, asked, prove(asked) | {"CHAP_I": "1", "CHAP_C": "0x01"})
    assert status(refused) == LoginStatus.AUTHENTICATION_FAILURE


@pytest.mark.clause("RFC7143 12.1.3")
def test_our_own_challenge_sent_back_is_refused():
    asked = asked_with("5", MUTUAL)
    reflected = {"CHAP_I": "9", "CHAP_C": text.hexadecimal(asked.value)}
    assert "back" in refusal(MUTUAL, asked, prove(asked) | reflected).reason


@pytest.mark.clause("RFC7143 9.2.1")
def test_same_secret_in_both_directions_is_refused():
    same = Authentication((ALICE,), ChapAccount("disk", ALICE.secret))
    asked = asked_with("5", same)
    assert status(refusal(same, asked, prove(asked))) == LoginStatus.AUTHENTICATION_FAILURE


@pytest.mark.parametrize(
    "returned, expected",
    [
        ({"CHAP_I": "1"}, LoginStatus.MISSING_PARAMETER),
        ({"CHAP_C": "0x01"}, LoginStatus.MISSING_PARAMETER),
        ({"CHAP_I": "256", "CHAP_C": "0x01"}, LoginStatus.AUTHENTICATION_FAILURE),
        ({"CHAP_I": "x", "CHAP_C": "0x01"}, LoginStatus.AUTHENTICATION_FAILURE),
        ({"CHAP_I": "1", "CHAP_C": "0x"}, LoginStatus.AUTHENTICATION_FAILURE),
        ({"CHAP_I": "1", "CHAP_C": "0x" + "00" * 1025}, LoginStatus.AUTHENTICATION_FAILURE),
    ],
)
def test_broken_challenge_of_the_initiator_is_refused(returned, expected):
    asked = asked_with("5", MUTUAL)
    assert status(refusal(MUTUAL, asked, prove(asked) | returned)) == expected


def test_secret_is_not_shown():
    assert "hush" not in repr(ChapAccount("u", b"hush-hush"))
    assert "hush" not in repr(Authentication((ChapAccount("u", b"hush-hush"),)))
