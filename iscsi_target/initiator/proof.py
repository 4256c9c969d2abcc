"""CHAP on the initiator's side: our response to the target's challenge, our challenge, the check of its response."""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final, NamedTuple

from iscsi_target.initiator.errors import violation
from iscsi_target.iscsi import text
from iscsi_target.iscsi.chap import (
    MAX_CHALLENGE_BYTES,
    MAX_IDENTIFIER,
    Algorithm,
    Challenge,
    ChapAccount,
    Identifier,
    announce,
    computes,
    respond,
)
from iscsi_target.wire.names import InadmissibleValue

CHAP: Final = "CHAP"

# The strongest first, but for SHA-256: tgt 1.0.85 takes its number for that of SHA-1, chooses it, and refuses every
# response with login status 0200h.
USUAL_ALGORITHMS: Final = (Algorithm.SHA3_256, Algorithm.SHA1, Algorithm.MD5, Algorithm.SHA256)


class Credentials(NamedTuple):
    """What an initiator proves, and what it wants proven.

    account       its own name and secret
    mutual        name and secret of the target, which must prove itself then; another secret than the account's
    algorithms    those that may be used, as far as this host computes them, the preferred one first
    Source: RFC7143 9.2.1, 12.1.3
    """

    account: ChapAccount
    mutual: ChapAccount | None = None
    algorithms: tuple[Algorithm, ...] = USUAL_ALGORITHMS

    @property
    def secrets_differ(self) -> bool:
        """Says whether the two directions have secrets of their own, as they must.

        Source: RFC7143 9.2.1
        """
        return self.mutual is None or self.mutual.secret != self.account.secret


class _Step(Enum):
    """What the target's next answer is to bring."""

    METHOD = auto()
    CHALLENGE = auto()
    RESPONSE = auto()
    NOTHING = auto()


class Proof:
    """The machine of one authentication.

    credentials    what is proven
    entropy        returns so many random bytes
    Source: RFC7143 12.1
    """

    def __init__(self, credentials: Credentials, entropy: Callable[[int], bytes]) -> None:
        self._credentials = credentials
        self._entropy = entropy
        self._step = _Step.METHOD
        self._own = Challenge(Algorithm.MD5, 0, b"")

    @property
    def complete(self) -> bool:
        """True when everything is sent that this side has to say, so that the stage may end."""
        return self._step in (_Step.RESPONSE, _Step.NOTHING)

    def begin(self) -> list[text.Pair]:
        """Returns the offer of the method; without any proof only when the target need not prove itself."""
        return [("AuthMethod", CHAP if self._credentials.mutual else f"{CHAP},{text.NONE}")]

    def receive(self, answered: Mapping[str, str]) -> list[text.Pair]:
        """Takes what the target answered and returns what it is told next.

        raises    ProtocolError when something is missing or wrong, also a proof of the target
        Source: RFC7143 12.1.3
        """
        match self._step:
            case _Step.METHOD:
                return self._choose(_require(answered, "AuthMethod"))
            case _Step.CHALLENGE:
                return self._respond(answered)
            case _Step.RESPONSE:
                self._verify(answered)
                return []
            case _Step.NOTHING:
                return []

    def _choose(self, method: str) -> list[text.Pair]:
        if method == CHAP:
            self._step = _Step.CHALLENGE
            usable = [str(item.value) for item in self._credentials.algorithms if computes(item)]
            return [("CHAP_A", ",".join(usable))]
        if method != text.NONE or self._credentials.mutual:
            raise violation(f"AuthMethod={method} was not offered")
        self._step = _Step.NOTHING
        return []

    def _respond(self, answered: Mapping[str, str]) -> list[text.Pair]:
        asked = self._read_challenge(answered)
        account, mutual = self._credentials.account, self._credentials.mutual
        self._step = _Step.RESPONSE
        pairs = [("CHAP_N", account.user), ("CHAP_R", text.hexadecimal(respond(asked, account.secret)))]
        if mutual is None:
            return pairs
        identifier = Identifier.unpack(self._entropy(Identifier.size)).identifier
        self._own = Challenge(asked.algorithm, identifier, self._entropy(asked.algorithm.digest_bytes))
        return pairs + [pair for pair in announce(self._own) if pair[0] != "CHAP_A"]

    def _read_challenge(self, answered: Mapping[str, str]) -> Challenge:
        try:
            number = text.number(_require(answered, "CHAP_A"))
            identifier = text.number(_require(answered, "CHAP_I"))
            value = text.binary(_require(answered, "CHAP_C"), MAX_CHALLENGE_BYTES)
        except InadmissibleValue as error:
            raise violation(f"the challenge of CHAP has {error}") from None
        if number not in self._credentials.algorithms or identifier > MAX_IDENTIFIER:
            raise violation(f"CHAP_A={number} or CHAP_I={identifier} was not to be chosen")
        return Challenge(Algorithm(number), identifier, value)

    def _verify(self, answered: Mapping[str, str]) -> None:
        """Checks the target's own proof, if there is to be one."""
        from hmac import compare_digest

        self._step = _Step.NOTHING
        mutual = self._credentials.mutual
        if mutual is None:
            return
        try:
            response = text.binary(_require(answered, "CHAP_R"), self._own.algorithm.digest_bytes)
        except InadmissibleValue as error:
            raise violation(f"CHAP_R of the target is {error}") from None
        same_name = compare_digest(_require(answered, "CHAP_N").encode(), mutual.user.encode())
        if not compare_digest(respond(self._own, mutual.secret), response) or not same_name:
            raise violation("the target is not the one that the secret says")


def _require(answered: Mapping[str, str], key: str) -> str:
    if key not in answered:
        raise violation(f"the target did not send {key}")
    return answered[key]
