"""CHAP on the target's side: our challenge, the check of its response, our response to the initiator's.

The exchange has no state of its own beyond `Challenge`; `login` knows where in it an initiator is. What computes is
loaded when somebody logs in with CHAP.

Decisions. A user that does not exist and a response that is wrong take the same path, the same time and the
same words. An initiator that asks the target to authenticate itself, when no mutual secret is configured, is
refused: it asked for a proof that it cannot get, so going on could only make it fail later and less clearly.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final, NamedTuple

from iscsi_target.iscsi import text
from iscsi_target.iscsi.errors import LoginStatus
from iscsi_target.wire.layout import U8, Layout
from iscsi_target.wire.names import InadmissibleValue

CHAP_KEYS: Final = frozenset({"CHAP_A", "CHAP_I", "CHAP_C", "CHAP_N", "CHAP_R"})
MAX_CHALLENGE_BYTES: Final = 1024  # RFC7143 12.1.3
MIN_SECRET_BYTES: Final = 12  # RFC7143 9.2.1: 96 bits
MAX_IDENTIFIER: Final = 255  # RFC 1994, one byte
_WRONG: Final = "CHAP user or response is wrong"


class Algorithm(IntEnum):
    """Names the CHAP algorithms by their registered numbers.

    Source: RFC7143 12.1.3; IANA PPP authentication algorithms
    """

    MD5 = 5
    SHA1 = 6
    SHA256 = 7
    SHA3_256 = 8

    @property
    def digest_bytes(self) -> int:
        """Returns the length of a response, which is also the length of our challenges."""
        return _DIGESTS[self][1]

    @property
    def hash_name(self) -> str:
        """Returns the name that hashlib knows the algorithm by."""
        return _DIGESTS[self][0]


_DIGESTS: Final = {
    Algorithm.MD5: ("md5", 16),
    Algorithm.SHA1: ("sha1", 20),
    Algorithm.SHA256: ("sha256", 32),
    Algorithm.SHA3_256: ("sha3_256", 32),
}


def computes(algorithm: Algorithm) -> bool:
    """Says whether this host computes an algorithm; one in FIPS mode has no MD5.

    Source: RFC7143 12.1.3
    """
    import hashlib

    try:
        hashlib.new(algorithm.hash_name)
    except ValueError:
        return False
    return True


class ChapAccount(NamedTuple):
    """A CHAP name and its secret.

    user      text, at most 255 bytes; a leading "0x" or "0b" has no meaning
    secret    at least MIN_SECRET_BYTES where no IPsec protects the connection; never shown
    Source: RFC7143 9.2.1, 12.1.3
    """

    user: str
    secret: bytes

    def __repr__(self) -> str:
        return f"ChapAccount(user={self.user!r})"


class Authentication(NamedTuple):
    """What an initiator must prove, and what the target can prove to it.

    accounts     whoever logs in must be one of them; none means AuthMethod=None
    mutual       the target's own name and secret; an account with the same secret cannot log in
    algorithms   those that may be used, as far as this host computes them
    Source: RFC7143 9.2.1, 12.1
    """

    accounts: tuple[ChapAccount, ...] = ()
    mutual: ChapAccount | None = None
    algorithms: tuple[Algorithm, ...] = tuple(Algorithm)

    @property
    def required(self) -> bool:
        """Says whether an initiator must authenticate itself."""
        return bool(self.accounts)


class Identifier(Layout):
    """The identifier as it is hashed.

    Source: RFC 1994 4.1
    """

    identifier: U8 = 0


class Challenge(NamedTuple):
    """What the initiator was asked.

    algorithm     chosen from its list
    identifier    0..255
    value         as many random bytes as the algorithm's response has
    Source: RFC7143 12.1.3
    """

    algorithm: Algorithm
    identifier: int
    value: bytes


def challenge(authentication: Authentication, offered: Mapping[str, str], entropy: Callable[[int], bytes]) -> Challenge:
    """Chooses the first algorithm of the initiator's CHAP_A that may be used, and makes a challenge.

    offered   the pairs of the initiator's request
    entropy   returns so many random bytes
    raises    LoginRefused when there is no CHAP_A, or none of its algorithms may be used
    Source: RFC7143 6.2.1, 12.1.3
    """
    algorithm = _choose(authentication, _require(offered, "CHAP_A"))
    identifier = Identifier.unpack(entropy(Identifier.size)).identifier
    return Challenge(algorithm, identifier, entropy(algorithm.digest_bytes))


def _choose(authentication: Authentication, listed: str) -> Algorithm:
    for value in listed.split(","):
        for algorithm in authentication.algorithms:
            if value == str(algorithm.value) and computes(algorithm):
                return algorithm
    raise LoginStatus.AUTHENTICATION_FAILURE.refusal(f"no CHAP algorithm of {listed!r} may be used here")


def announce(asked: Challenge) -> list[text.Pair]:
    """Returns the pairs that tell the initiator its challenge.

    Source: RFC7143 12.1.3
    """
    return [
        ("CHAP_A", str(asked.algorithm.value)),
        ("CHAP_I", str(asked.identifier)),
        ("CHAP_C", text.hexadecimal(asked.value)),
    ]


def respond(asked: Challenge, secret: bytes) -> bytes:
    """Computes the response to a challenge.

    Source: RFC 1994 4.1, RFC7143 12.1.3
    """
    import hashlib

    identifier = Identifier(identifier=asked.identifier).pack()
    return hashlib.new(asked.algorithm.hash_name, identifier + secret + asked.value).digest()


def verify(authentication: Authentication, asked: Challenge, offered: Mapping[str, str]) -> list[text.Pair]:
    """Checks the initiator's response and answers its own challenge, if it has one.

    asked     the challenge that the response answers
    offered   the pairs of the request: CHAP_N, CHAP_R and, for mutual authentication, CHAP_I and CHAP_C
    returns   the pairs of our own response; none when the initiator did not ask for it
    raises    LoginRefused when the initiator is not who it says, or asks for what must not be answered
    Source: RFC7143 9.2.1, 12.1.3
    """
    from hmac import compare_digest

    user, response = _require(offered, "CHAP_N"), _require(offered, "CHAP_R")
    if not _authentic(authentication, asked, user, _read(response, asked.algorithm.digest_bytes)):
        raise LoginStatus.AUTHENTICATION_FAILURE.refusal(_WRONG)
    if "CHAP_I" not in offered and "CHAP_C" not in offered:
        return []
    returned = Challenge(asked.algorithm, _identifier(offered), _challenge_value(offered))
    if compare_digest(returned.value, asked.value):
        raise LoginStatus.AUTHENTICATION_FAILURE.refusal("the initiator sent our own challenge back")
    if authentication.mutual is None:
        raise LoginStatus.AUTHENTICATION_FAILURE.refusal("mutual CHAP is asked for, and no mutual secret is configured")
    own = respond(returned, authentication.mutual.secret)
    return [("CHAP_N", authentication.mutual.user), ("CHAP_R", text.hexadecimal(own))]


def _authentic(authentication: Authentication, asked: Challenge, user: str, response: bytes) -> bool:
    """Compares with every account, found or not, so that the time tells nothing about a user.

    A response that the mutual secret would give is refused: the same secret then serves both directions, or
    the initiator had the target answer its own challenge on another connection.
    """
    from hmac import compare_digest

    genuine = False
    for account in authentication.accounts:
        same_user = compare_digest(account.user.encode(), user.encode())
        same_response = compare_digest(respond(asked, account.secret), response)
        genuine |= same_user & same_response
    if authentication.mutual is not None:
        genuine &= not compare_digest(respond(asked, authentication.mutual.secret), response)
    return genuine


def _read(response: str, length_bytes: int) -> bytes:
    try:
        value = text.binary(response, length_bytes)
    except InadmissibleValue as error:
        raise LoginStatus.AUTHENTICATION_FAILURE.refusal(f"CHAP_R is {error}") from None
    if len(value) != length_bytes:
        raise LoginStatus.AUTHENTICATION_FAILURE.refusal(f"CHAP_R has {len(value)} bytes, not {length_bytes}")
    return value


def _identifier(offered: Mapping[str, str]) -> int:
    try:
        identifier = text.number(_require(offered, "CHAP_I"))
    except InadmissibleValue as error:
        raise LoginStatus.AUTHENTICATION_FAILURE.refusal(f"CHAP_I is {error}") from None
    if identifier > MAX_IDENTIFIER:
        raise LoginStatus.AUTHENTICATION_FAILURE.refusal(f"CHAP_I is {identifier}, more than {MAX_IDENTIFIER}")
    return identifier


def _challenge_value(offered: Mapping[str, str]) -> bytes:
    try:
        return text.binary(_require(offered, "CHAP_C"), MAX_CHALLENGE_BYTES)
    except InadmissibleValue as error:
        raise LoginStatus.AUTHENTICATION_FAILURE.refusal(f"CHAP_C is {error}") from None


def _require(offered: Mapping[str, str], key: str) -> str:
    if key not in offered:
        raise LoginStatus.MISSING_PARAMETER.refusal(f"{key} is missing")
    return offered[key]
