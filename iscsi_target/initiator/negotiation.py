"""The initiator's side of the negotiation table: offers, what the answers come to, answers to the target's offers.

The results are those of the table in `keys`, which are the same from both ends: an answer is right when we would have
given it to the same value. Keys whose value is a text are only kept; `proof` reads those of CHAP.

Decision. iSCSIProtocolLevel and TaskReporting are offered only when they are to differ from what holds without them,
because not every target knows them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from iscsi_target.initiator.errors import violation
from iscsi_target.iscsi import keys, text
from iscsi_target.iscsi.errors import LoginRefused
from iscsi_target.iscsi.keys import BY_NAME, TABLE, Key, Settled, Stage, Use
from iscsi_target.iscsi.parameters import MAX_LENGTH_BYTES, MIN_LENGTH_BYTES, RFC3720, Parameters, Preferences
from iscsi_target.wire.names import InadmissibleValue

SEGMENT_KEY: Final = "MaxRecvDataSegmentLength"  # the one that each side declares for itself
MAX_ANSWERS: Final = 1024  # keys of a target; chapters 12 and 13 define some 50
_SELDOM: Final = {"TaskReporting": RFC3720, "iSCSIProtocolLevel": "1"}  # and what is not offered
_ORDER: Final = {key.name: index for index, key in enumerate(TABLE)}
ANYTHING: Final = Preferences(
    max_burst_length=MAX_LENGTH_BYTES,
    first_burst_length=MAX_LENGTH_BYTES,
    max_outstanding_r2t=65535,
    max_connections=65535,
    error_recovery_level=2,
    default_time2retain=3600,
    task_reporting=(RFC3720, "ResponseFence", "FastAbort"),
    protocol_level=31,
)
"""Whatever is answered to this is taken as it is."""


def offer(preferences: Preferences, *, discovery: bool, leading: bool = True) -> list[text.Pair]:
    """Returns what an initiator offers and declares in the operational stage.

    preferences    its own values; a list is offered in its order
    discovery      leaves out what means nothing in a discovery session
    leading        False leaves out what only the first connection of a session may negotiate
    Source: RFC7143 6.2, 13
    """
    return [
        (key.name, value)
        for key in TABLE
        if (value := _offered(key, preferences))
        and (key.discovery or not discovery)
        and (leading or key.use is not Use.LEADING_ONLY)
        and _SELDOM.get(key.name) != value
    ]


def _offered(key: Key, preferences: Preferences) -> str:
    match key.kind:
        case keys.DeclaredNumber():
            return str(preferences.max_recv_data_segment_length)
        case keys.Number(preferred=number):
            return str(number(preferences, Parameters(max_burst_length=preferences.max_burst_length)))
        case keys.Boolean(preferred=boolean):
            return "Yes" if boolean(preferences) else "No"
        case keys.Choice(supported=supported):
            return ",".join(supported(preferences))
        case keys.Text() | keys.Obsolete():
            return ""


class Negotiation:
    """Knows what is offered and what holds on a connection.

    preferences    the initiator's own values
    overrides      pairs that are offered instead, or besides; what is answered to them is taken as it is
    of_session     what holds in the session that the connection joins; None for its first one

    parameters     what holds
    answers        the last value of every key that the target sent
    Source: RFC7143 6.2, 6.3
    """

    def __init__(
        self,
        preferences: Preferences,
        overrides: Mapping[str, str],
        *,
        discovery: bool,
        of_session: Parameters | None = None,
    ) -> None:
        self._preferences = preferences
        self._overrides = dict(overrides)
        self._discovery = discovery
        self._leading = of_session is None
        self._outstanding: set[str] = set()
        self.parameters = (of_session or Parameters()).with_connection(Parameters())
        self.answers: dict[str, str] = {}

    def begin(self) -> list[text.Pair]:
        """Returns what is offered when the operational stage begins."""
        offered = dict(offer(self._preferences, discovery=self._discovery, leading=self._leading)) | self._overrides
        return self.propose(pair for pair in offered.items() if self._leading or not _of_leading_only(pair[0]))

    def propose(self, pairs: Iterable[text.Pair]) -> list[text.Pair]:
        """Takes note of pairs that are sent to the target, and returns them."""
        proposed = list(pairs)
        for name, value in proposed:
            if name == SEGMENT_KEY:
                self._declare_segment(value)
            elif name not in BY_NAME or not isinstance(BY_NAME[name].kind, keys.Text):
                self._outstanding.add(name)
        return proposed

    def _declare_segment(self, value: str) -> None:
        """Takes note of a length that we declare; of a wrong one the target has to say that it is."""
        try:
            length = min(text.number(value), MAX_LENGTH_BYTES)
        except InadmissibleValue:
            return
        if length >= MIN_LENGTH_BYTES:
            self.parameters = self.parameters._replace(initiator_max_recv=length)

    def receive(self, stage: Stage, pairs: Sequence[text.Pair]) -> list[text.Pair]:
        """Takes the target's pairs and returns the answers to those that it offers itself.

        raises    ProtocolError when an answer does not follow from its offer, or a value is none
        Source: RFC7143 6.2, 13
        """
        answers: list[text.Pair] = []
        for name, value in sorted(pairs, key=lambda pair: _ORDER.get(pair[0], len(TABLE))):
            self._note(name, value)
            if name == SEGMENT_KEY:
                self._take_segment(value)
            elif name in self._outstanding:
                self._outstanding.remove(name)
                self._take(name, value)
            elif value not in text.REPLIES and (answered := self._answer(stage, name, value)):
                answers.append((name, answered))
        return answers

    def _note(self, name: str, value: str) -> None:
        self.answers[name] = value
        if len(self.answers) > MAX_ANSWERS:
            raise violation(f"the target has sent more than {MAX_ANSWERS} keys")

    def _take_segment(self, value: str) -> None:
        if value in text.REPLIES:  # to our own declaration, as some do
            return
        try:
            length = text.number(value)
        except InadmissibleValue as error:
            raise violation(f"{SEGMENT_KEY} is {error}") from None
        if not MIN_LENGTH_BYTES <= length <= MAX_LENGTH_BYTES:
            raise violation(f"{SEGMENT_KEY}={length} is out of range")
        self.parameters = self.parameters._replace(target_max_recv=length)

    def _take(self, name: str, value: str) -> None:
        """Takes the answer to an offer."""
        if value in text.REPLIES or name not in BY_NAME:
            return
        overridden = name in self._overrides
        settled = self._settle(name, value, ANYTHING if overridden else self._preferences)
        if not overridden and settled.answer is not None and not _means_the_same(settled.answer, value):
            raise violation(f"{name}={value} is no answer to what was offered")
        self.parameters = settled.parameters

    def _answer(self, stage: Stage, name: str, value: str) -> str | None:
        """Settles what the target offers itself, and returns the answer if one is due."""
        if name not in BY_NAME:
            return text.NOT_UNDERSTOOD
        key = BY_NAME[name]
        if isinstance(key.kind, keys.Text):
            return None
        if stage is not Stage.OPERATIONAL and key.use is not Use.ALL:
            return text.REJECT
        if self._discovery and not key.discovery:
            return text.IRRELEVANT
        settled = self._settle(name, value, self._preferences)
        self.parameters = settled.parameters
        return settled.answer

    def _settle(self, name: str, value: str, preferences: Preferences) -> Settled:
        try:
            return BY_NAME[name].kind.settle(value, preferences, self.parameters)
        except (InadmissibleValue, LoginRefused) as error:
            raise violation(f"{name}={value}: {error}") from None

    def conclude(self) -> Parameters:
        """Ends the negotiation of a login and returns what holds.

        raises    LoginRefused when a digest is demanded and the target did not agree to it
        Source: RFC7143 13.1, 13.14
        """
        demanded = self._preferences
        if "HeaderDigest" in self._overrides:
            demanded = demanded._replace(header_digest=ANYTHING.header_digest)
        if "DataDigest" in self._overrides:
            demanded = demanded._replace(data_digest=ANYTHING.data_digest)
        self._outstanding.clear()
        self.parameters = keys.conclude(demanded, self.parameters)
        return self.parameters


def _of_leading_only(name: str) -> bool:
    return name in BY_NAME and BY_NAME[name].use is Use.LEADING_ONLY


def _means_the_same(one: str, other: str) -> bool:
    try:
        return text.number(one) == text.number(other)
    except InadmissibleValue:
        return one == other
