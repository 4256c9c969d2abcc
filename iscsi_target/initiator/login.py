"""The initiator's side of a login: Login Requests out, Login Responses in, until the full feature phase.

Decision. Without credentials the login begins in the operational stage, which saves a round trip; with them, it begins
in the security stage. Everything is offered at once and the stage is left as soon as the target agrees.
"""

from collections import deque
from typing import Final, NamedTuple

from iscsi_target.initiator.errors import LoginRejected, violation
from iscsi_target.initiator.negotiation import Negotiation
from iscsi_target.initiator.proof import Proof
from iscsi_target.iscsi import text
from iscsi_target.iscsi.errors import ProtocolError
from iscsi_target.iscsi.keys import Stage
from iscsi_target.iscsi.parameters import DEFAULT_SEGMENT_BYTES
from iscsi_target.iscsi.requests import LoginRequest
from iscsi_target.iscsi.responses import LoginResponse

VERSION: Final = 0  # RFC7143 11.12.4
MAX_RESPONSES: Final = 128  # of one login; the longest text in segments of 512 bytes
REDIRECTION: Final = 1  # RFC7143 11.13.5


class Identity(NamedTuple):
    """Who logs in to what.

    isid           6 bytes; with the name, it makes the initiator port
    target_name    None for a discovery session
    alias          for people; empty when there is none
    Source: RFC7143 4.2.7, 13.4 to 13.7
    """

    initiator_name: str
    isid: bytes
    target_name: str | None
    alias: str = ""

    @property
    def discovery(self) -> bool:
        """Says whether the session is a discovery session."""
        return self.target_name is None

    def declare(self) -> list[text.Pair]:
        """Returns what the first request of every login says."""
        alias = [("InitiatorAlias", self.alias)] if self.alias else []
        if self.target_name is None:
            return [("InitiatorName", self.initiator_name), *alias, ("SessionType", "Discovery")]
        normal = [("SessionType", "Normal"), ("TargetName", self.target_name)]
        return [("InitiatorName", self.initiator_name), *alias, *normal]


class Login:
    """The machine of one connection's login.

    identity       who logs in
    negotiation    settles the operational parameters
    proof          settles the authentication; None leaves it out
    template       a Login Request with ISID, TSIH, CID and tag

    tsih           what the target calls the session, when the login is done
    Source: RFC7143 6.3
    """

    def __init__(
        self, identity: Identity, negotiation: Negotiation, proof: Proof | None, template: LoginRequest
    ) -> None:
        self._identity = identity
        self._negotiation = negotiation
        self._proof = proof
        self._template = template.replace(version_max=VERSION, version_min=VERSION)
        self._stage = Stage.OPERATIONAL if proof is None else Stage.SECURITY
        self._unsent: deque[bytes] = deque()
        self._collector = text.TextCollector()
        self._responses = 0
        self._may_transit = False  # as our last request asked
        self.tsih = 0

    def begin(self) -> tuple[LoginRequest, bytes]:
        """Returns the first request and its text."""
        return self._say(self._identity.declare() + self._open_stage())

    def _open_stage(self) -> list[text.Pair]:
        if self._stage is Stage.SECURITY and self._proof is not None:
            return self._proof.begin()
        return self._negotiation.begin()

    def _say(self, pairs: list[text.Pair]) -> tuple[LoginRequest, bytes]:
        self._unsent.extend(text.split(pairs, DEFAULT_SEGMENT_BYTES))
        return self._next_request()

    def _next_request(self) -> tuple[LoginRequest, bytes]:
        """Returns the next segment of what is to be said; the last one may ask to leave the stage."""
        segment = self._unsent.popleft()
        request = self._template.replace(current_stage=self._stage)
        if self._unsent:
            self._may_transit = False
            return request.replace(continue_=True), segment
        security = self._stage is Stage.SECURITY
        self._may_transit = not security or (self._proof is not None and self._proof.complete)
        if self._may_transit:
            request = request.replace(transit=True, next_stage=self._next_stage)
        return request, segment

    @property
    def _next_stage(self) -> Stage:
        return Stage.OPERATIONAL if self._stage is Stage.SECURITY else Stage.FULL_FEATURE

    def receive(self, response: LoginResponse, segment: bytes) -> tuple[LoginRequest, bytes] | None:
        """Takes one Login Response.

        returns    the next request and its text, or None when the login is done
        raises     LoginRejected when the target refuses; ProtocolError when it breaks a rule; LoginRefused when a
                   digest that is demanded is not agreed to
        Source: RFC7143 6.3, 11.13
        """
        self._check(response, segment)
        if response.continue_:
            self._collector.extend(segment)
            self._may_transit = False
            return self._template.replace(current_stage=self._stage), b""
        if self._unsent:
            if segment:
                raise violation("a Login Response has text while the request is incomplete")
            return self._next_request()
        pairs = self._collector.finish(segment)
        said: list[text.Pair] = []
        if self._stage is Stage.SECURITY and self._proof is not None:
            said = self._proof.receive(dict(pairs))
        said += self._negotiation.receive(self._stage, pairs)
        if not response.transit:
            return self._say(said)
        if said:
            raise violation("the target leaves a stage in which it is owed an answer")
        return self._leave_stage(response)

    def _leave_stage(self, response: LoginResponse) -> tuple[LoginRequest, bytes] | None:
        self._stage = self._next_stage
        if self._stage is not Stage.FULL_FEATURE:
            return self._say(self._open_stage())
        self._negotiation.conclude()
        self.tsih = response.tsih
        return None

    def _check(self, response: LoginResponse, segment: bytes) -> None:
        """Refuses a response that cannot follow the last request."""
        if response.status_class:
            raise LoginRejected(response.status_class, response.status_detail, _address(response, segment))
        self._responses += 1
        if self._responses > MAX_RESPONSES:
            raise violation(f"a login of more than {MAX_RESPONSES} responses")
        if response.initiator_task_tag != self._template.initiator_task_tag:
            raise violation("a Login Response has another task's tag")
        if response.version_active != VERSION or response.current_stage != self._stage:
            raise violation("a Login Response has another version or stage")
        if response.transit and (
            response.continue_ or not self._may_transit or response.next_stage != self._next_stage
        ):
            raise violation("the target moves to a stage that it was not asked to")
        if response.transit and response.next_stage == Stage.FULL_FEATURE and not response.tsih:
            raise violation("the target gives the session no TSIH")


def _address(response: LoginResponse, segment: bytes) -> str:
    """Returns where a redirection leads to."""
    if response.status_class != REDIRECTION:
        return ""
    try:
        return dict(text.parse_listing(segment)).get("TargetAddress", "")
    except ProtocolError:
        return ""
