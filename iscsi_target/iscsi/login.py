"""The login phase of one connection: Login Requests in, the text and the stage of the Login Responses out.

A `LoginPhase` checks that the requests of a login belong together, joins and cuts text at the C bit, moves through
the stages, and names who logs in to what. Values of keys are the business of `keys`, proofs that of `chap`. Sequence
numbers, the TSIH, and whether a session of that TSIH exists or may be joined belong to the connection and the target.

Decisions. The initiator task tag is echoed and not compared over a login. A repeated InitiatorName, TargetName or
SessionType of the same value is let pass, because libiscsi (until its pull request 196) repeats InitiatorName in the
operational stage; every other key that comes twice ends the login, as the standard demands. An initiator that may not
use a target is refused only after its authentication, so that the refusal tells a stranger nothing; that a target has
moved or is offline is told at once, for where it is now it proves itself, and asks for proof, anew. Operational keys
that come in the security stage are answered `Reject` and may be offered again in their own stage.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

from iscsi_target.iscsi import chap, keys, text
from iscsi_target.iscsi.chap import Algorithm, Authentication, ChapAccount
from iscsi_target.iscsi.errors import LoginStatus
from iscsi_target.iscsi.keys import Circumstances, Stage
from iscsi_target.iscsi.parameters import DEFAULT_SEGMENT_BYTES, Parameters, Preferences
from iscsi_target.iscsi.requests import LoginRequest
from iscsi_target.iscsi.responses import LoginResponse
from iscsi_target.iscsi.standing import ONLINE, Standing
from iscsi_target.wire.names import InadmissibleValue, iscsi_name

__all__ = [
    "Algorithm",
    "Authentication",
    "ChapAccount",
    "Endpoint",
    "LoginPhase",
    "LoginStep",
    "LoginTarget",
    "Negotiated",
    "Parameters",
    "Preferences",
    "SessionType",
]

VERSION: Final = 0  # RFC7143 11.12.4
MAX_REQUESTS: Final = 128  # of one login; the longest text in segments of 512 bytes


class SessionType(Enum):
    """Names the types of a session.

    Source: RFC7143 4.3, 13.21
    """

    NORMAL = "Normal"
    DISCOVERY = "Discovery"


class LoginTarget(NamedTuple):
    """What a login needs to know of a target.

    name                 iSCSI name in lower case
    alias                for people; empty when there is none
    portal_group_tags    the portal groups through which it can be reached
    authentication       what an initiator must prove
    initiators           the names that may log in, in lower case; None lets every initiator in
    standing             whether it takes logins in
    Source: RFC7143 4.2.7, 4.4
    """

    name: str
    alias: str = ""
    portal_group_tags: frozenset[int] = frozenset({1})
    authentication: Authentication = Authentication()
    initiators: frozenset[str] | None = None
    standing: Standing = ONLINE


class Endpoint(NamedTuple):
    """What a login needs to know of this side.

    targets        by name, in lower case
    discovery      what an initiator must prove for a discovery session
    preferences    our side of the negotiation
    Source: RFC7143 6.3
    """

    targets: Mapping[str, LoginTarget]
    discovery: Authentication = Authentication()
    preferences: Preferences = Preferences()


class Negotiated(NamedTuple):
    """What a login came to.

    initiator_name    in lower case
    initiator_alias   empty when there is none
    isid              6 bytes
    tsih              0 for a new session
    cid               0..65535
    target_name       in lower case; None in a discovery session
    parameters        what holds; on a later connection of a session only the keys of connection scope count
    Source: RFC7143 6.3, 11.12
    """

    initiator_name: str
    initiator_alias: str
    isid: bytes
    tsih: int
    cid: int
    session_type: SessionType
    target_name: str | None
    parameters: Parameters

    @property
    def discovery(self) -> bool:
        """Says whether the session is a discovery session."""
        return self.session_type is SessionType.DISCOVERY


class LoginStep(NamedTuple):
    """What answers one Login Request.

    response     without StatSN, ExpCmdSN and MaxCmdSN, and with the request's TSIH
    data         its text, at most 8192 bytes
    completed    what the login came to, in the step that ends it
    Source: RFC7143 11.13
    """

    response: LoginResponse
    data: bytes
    completed: Negotiated | None = None


class _Proof(Enum):
    """How far the initiator's proof is; a `chap.Challenge` stands between CHOSEN and GIVEN."""

    OPEN = auto()
    CHOSEN = auto()
    GIVEN = auto()


class _Peer(NamedTuple):
    """Who logs in, and to what."""

    initiator_name: str
    session_type: SessionType
    target: LoginTarget | None
    authentication: Authentication


class _Opening:
    """Nobody has said yet who logs in."""

    def __init__(self, endpoint: Endpoint, portal_group_tag: int) -> None:
        self._endpoint = endpoint
        self._portal_group_tag = portal_group_tag

    def identify(self, offered: Mapping[str, str]) -> _Peer:
        """Reads the names in the first request.

        raises    LoginRefused when one is missing, malformed or unknown
        Source: RFC7143 6.3, 13.4, 13.5, 13.21
        """
        if "InitiatorName" not in offered:
            raise LoginStatus.MISSING_PARAMETER.refusal("InitiatorName is missing in the first request")
        try:
            initiator_name = iscsi_name(offered["InitiatorName"])
        except InadmissibleValue as error:
            raise LoginStatus.INITIATOR_ERROR.refusal(f"InitiatorName is {error}") from None
        match offered.get("SessionType", SessionType.NORMAL.value):
            case SessionType.NORMAL.value:
                target = self._find(offered)
                return _Peer(initiator_name, SessionType.NORMAL, target, target.authentication)
            case SessionType.DISCOVERY.value:
                return _Peer(initiator_name, SessionType.DISCOVERY, None, self._endpoint.discovery)
            case other:
                raise LoginStatus.SESSION_TYPE_NOT_SUPPORTED.refusal(f"there is no SessionType {other!r}")

    def _find(self, offered: Mapping[str, str]) -> LoginTarget:
        if "TargetName" not in offered:
            raise LoginStatus.MISSING_PARAMETER.refusal("TargetName is missing in the first request")
        try:
            target = self._endpoint.targets.get(iscsi_name(offered["TargetName"]))
        except InadmissibleValue as error:
            raise LoginStatus.TARGET_NOT_FOUND.refusal(f"TargetName is {error}") from None
        if target is None or self._portal_group_tag not in target.portal_group_tags:
            name, tag = offered["TargetName"], self._portal_group_tag
            raise LoginStatus.TARGET_NOT_FOUND.refusal(f"no target {name!r} in portal group {tag}")
        target.standing.check(target.name)
        return target

    def greet(self, peer: _Peer) -> list[text.Pair]:
        """Returns what the first response declares of the target.

        Source: RFC7143 13.6, 13.9
        """
        if peer.target is None:
            return []
        alias = [("TargetAlias", peer.target.alias)] if peer.target.alias else []
        return [*alias, ("TargetPortalGroupTag", str(self._portal_group_tag))]


class _Exchange:
    """It is known who logs in: proofs and parameters are exchanged."""

    def __init__(
        self, peer: _Peer, offered: Mapping[str, str], preferences: Preferences, entropy: Callable[[int], bytes]
    ) -> None:
        self.peer = peer
        self.parameters = Parameters()
        self.initiator_alias = ""
        self._identity = {"SessionType": SessionType.NORMAL.value, **offered}
        self._preferences = preferences
        self._entropy = entropy
        self._spoken: set[str] = set()
        self._proof: _Proof | chap.Challenge = _Proof.OPEN
        self._declared = False

    def answer(self, stage: Stage, pairs: Sequence[text.Pair], *, leading: bool) -> list[text.Pair]:
        """Answers the pairs of one request.

        raises    LoginRefused, ProtocolError
        Source: RFC7143 6.3.2, 6.3.3
        """
        circumstances = Circumstances(stage, leading, self.peer.session_type is SessionType.DISCOVERY)
        self._check_once(circumstances, pairs)
        offered = dict(pairs)
        self.initiator_alias = offered.get("InitiatorAlias", self.initiator_alias)
        first = self._authenticate(offered) if stage is Stage.SECURITY else self._declare()
        negotiated, self.parameters = keys.negotiate(self._preferences, circumstances, self.parameters, pairs)
        answered = {name for name, _ in negotiated}
        return [pair for pair in first if pair[0] not in answered] + negotiated

    def _check_once(self, circumstances: Circumstances, pairs: Sequence[text.Pair]) -> None:
        """Refuses a key that comes again.

        Source: RFC7143 6.3
        """
        for name, value in pairs:
            if name in keys.IDENTITY_KEYS:
                if self._identity.get(name, "").casefold() != value.casefold():
                    raise LoginStatus.INITIATOR_ERROR.refusal(f"{name} changes during the login")
            elif value not in text.REPLIES and keys.admitted(name, circumstances):
                if name in self._spoken:
                    raise LoginStatus.INITIATOR_ERROR.refusal(f"{name} comes twice in one login")
                self._spoken.add(name)

    def _declare(self) -> list[text.Pair]:
        self._pass_without_proof()
        if self._declared:
            return []
        self._declared = True
        declared, self.parameters = keys.declare(self._preferences, self.parameters)
        return declared

    def _authenticate(self, offered: Mapping[str, str]) -> list[text.Pair]:
        answers = []
        if "AuthMethod" in offered:
            answers.append(("AuthMethod", self._choose_method(offered["AuthMethod"])))
        if chap.CHAP_KEYS.isdisjoint(offered):
            return answers
        match self._proof:
            case _Proof.CHOSEN:
                asked = chap.challenge(self.peer.authentication, offered, self._entropy)
                self._proof = asked
                return answers + chap.announce(asked)
            case chap.Challenge() as asked:
                answers += chap.verify(self.peer.authentication, asked, offered)
                self._grant()
                return answers
            case _:
                raise LoginStatus.INITIATOR_ERROR.refusal("CHAP keys come before or after CHAP was due")

    def _choose_method(self, listed: str) -> str:
        """Chooses CHAP where accounts are configured and None where not; never the other.

        Source: RFC7143 6.2.1, 12.1
        """
        method = "CHAP" if self.peer.authentication.required else text.NONE
        if method not in listed.split(","):
            raise LoginStatus.AUTHENTICATION_FAILURE.refusal(f"AuthMethod {listed!r} does not offer {method}")
        if self.peer.authentication.required:
            self._proof = _Proof.CHOSEN
        else:
            self._grant()
        return method

    def _pass_without_proof(self) -> None:
        if self._proof is _Proof.OPEN:
            if self.peer.authentication.required:
                raise LoginStatus.AUTHENTICATION_FAILURE.refusal("the initiator did not authenticate itself")
            self._grant()

    def _grant(self) -> None:
        """Lets the initiator in, if it is one of those that may use the target.

        Source: RFC7143 11.13.5
        """
        target, name = self.peer.target, self.peer.initiator_name
        if target is not None and target.initiators is not None and name not in target.initiators:
            raise LoginStatus.AUTHORIZATION_FAILURE.refusal(f"{name} may not use {target.name}")
        self._proof = _Proof.GIVEN

    def may_leave(self, stage: Stage) -> bool:
        """Says whether the stage is done on our side.

        raises    LoginRefused when the initiator means to leave the security stage without a proof that is due
        Source: RFC7143 6.3.2
        """
        if stage is Stage.SECURITY:
            self._pass_without_proof()
        return self._proof is _Proof.GIVEN

    def conclude(self, request: LoginRequest) -> Negotiated:
        """Returns what the login came to.

        raises    LoginRefused when a demanded digest was not negotiated
        Source: RFC7143 6.3
        """
        parameters = keys.conclude(self._preferences, self.parameters)
        return Negotiated(
            initiator_name=self.peer.initiator_name,
            initiator_alias=self.initiator_alias,
            isid=request.isid,
            tsih=request.tsih,
            cid=request.cid,
            session_type=self.peer.session_type,
            target_name=None if self.peer.target is None else self.peer.target.name,
            parameters=parameters,
        )


class LoginPhase:
    """The machine of one connection's login.

    endpoint            this side
    portal_group_tag    of the portal that the connection came to
    entropy             returns so many random bytes
    Source: RFC7143 6.3
    """

    def __init__(self, endpoint: Endpoint, portal_group_tag: int, entropy: Callable[[int], bytes]) -> None:
        self._endpoint = endpoint
        self._entropy = entropy
        self._phase: _Opening | _Exchange = _Opening(endpoint, portal_group_tag)
        self._stages = {Stage.SECURITY, Stage.OPERATIONAL}  # those that the next request may be in
        self._connections: set[tuple[bytes, int, int]] = set()  # ISID, TSIH, CID as the requests name them
        self._requests = 0
        self._collector = text.TextCollector()
        self._unsent: deque[bytes] = deque()

    def receive(self, request: LoginRequest, data: bytes) -> LoginStep:
        """Takes one Login Request.

        request    its header
        data       its data segment
        returns    the answer; after a step with `completed` no request may follow
        raises     LoginRefused; ProtocolError for text that breaks its form, which is an initiator error too. The
                   login is over in both cases
        Source: RFC7143 6.3, 11.12
        """
        stage = self._check(request)
        if self._unsent:
            if data or request.continue_:
                raise LoginStatus.INITIATOR_ERROR.refusal("text came while the answer was incomplete")
        elif request.continue_:
            self._collector.extend(data)
            return LoginStep(_respond(request), b"")
        else:
            answers = self._answer(request, stage, self._collector.finish(data))
            self._unsent.extend(text.split(answers, DEFAULT_SEGMENT_BYTES))
        return self._send(request, stage)

    def _answer(self, request: LoginRequest, stage: Stage, pairs: list[text.Pair]) -> list[text.Pair]:
        greeting: list[text.Pair] = []
        if isinstance(self._phase, _Opening):
            offered = dict(pairs)
            peer = self._phase.identify(offered)
            greeting = self._phase.greet(peer)
            self._phase = _Exchange(peer, offered, self._endpoint.preferences, self._entropy)
        return greeting + self._phase.answer(stage, pairs, leading=request.tsih == 0)

    def _send(self, request: LoginRequest, stage: Stage) -> LoginStep:
        """Returns the next segment of the answer; only the last may move on to the next stage.

        Source: RFC7143 6.2, 6.3
        """
        segment = self._unsent.popleft()
        response = _respond(request)
        if self._unsent:
            return LoginStep(response.replace(continue_=True), segment)
        exchange = self._phase
        assert isinstance(exchange, _Exchange)
        if not request.transit or not exchange.may_leave(stage):
            return LoginStep(response, segment)
        response = response.replace(transit=True, next_stage=request.next_stage)
        if request.next_stage == Stage.FULL_FEATURE:
            return LoginStep(response, segment, exchange.conclude(request))
        self._stages = {Stage(request.next_stage)}
        return LoginStep(response, segment)

    def _check(self, request: LoginRequest) -> Stage:
        """Returns the stage of a request whose header follows from those before it; raises LoginRefused.

        Source: RFC7143 11.12
        """
        if request.version_min > VERSION:
            raise LoginStatus.UNSUPPORTED_VERSION.refusal(f"the initiator wants version {request.version_min} or more")
        self._requests += 1
        if self._requests > MAX_REQUESTS:
            raise LoginStatus.INITIATOR_ERROR.refusal(f"a login of more than {MAX_REQUESTS} requests")
        self._connections.add((request.isid, request.tsih, request.cid))
        if len(self._connections) > 1:
            raise LoginStatus.INITIATOR_ERROR.refusal("ISID, TSIH or CID changes during the login")
        if request.current_stage not in self._stages:
            raise LoginStatus.INITIATOR_ERROR.refusal(f"stage {request.current_stage} is not the current one")
        stage = Stage(request.current_stage)
        self._stages = {stage}
        if request.transit:
            _check_transit(request)
        return stage


def _check_transit(request: LoginRequest) -> None:
    """Raises LoginRefused when a request cannot ask to leave its stage.

    Source: RFC7143 11.12.1, 11.12.2, 11.12.3
    """
    if request.continue_:
        raise LoginStatus.INITIATOR_ERROR.refusal("the T bit and the C bit are both set")
    if request.next_stage not in (Stage.OPERATIONAL, Stage.FULL_FEATURE):
        raise LoginStatus.INITIATOR_ERROR.refusal(f"stage {request.next_stage} cannot be the next one")
    if request.next_stage <= request.current_stage:
        raise LoginStatus.INITIATOR_ERROR.refusal(f"stage {request.next_stage} does not come after the current one")


def _respond(request: LoginRequest) -> LoginResponse:
    return LoginResponse(
        current_stage=request.current_stage,
        version_max=VERSION,
        version_active=VERSION,
        isid=request.isid,
        tsih=request.tsih,
        initiator_task_tag=request.initiator_task_tag,
    )
