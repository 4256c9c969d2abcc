"""THE negotiation table: every key of RFC 7143, who may send it when, and what comes of an offer.

`negotiate` is a function from what holds and what the initiator offers to the answers and what holds then. It
never volunteers a key: open-iscsi fails a login on a key that it did not speak of. The declarations that a target
must make come from `declare` and `login`. Keys whose value is a text (names, aliases) and the keys of the
security methods are only admitted or rejected here; `login` and `chap` read them.

Where RFC 7143 leaves a choice: an offer out of range is answered `Reject` and changes nothing; a boolean is
always answered; IFMarker and OFMarker get `No`, not `Reject`, which is allowed too but means a failed negotiation
to some; FirstBurstLength is always answered with a number, because initiators parse one, and never exceeds
MaxBurstLength.

Initiators of one kind offer the same again and again, and what comes of an offer depends on nothing else, so
`negotiate` remembers the last few outcomes: a login costs a look-up instead of a settlement of each key. It does not
remember texts, which name the initiator or prove who it is.
"""

from collections.abc import Callable, Sequence
from enum import Enum, Flag, IntEnum, auto
from functools import cache, lru_cache
from operator import and_, or_
from typing import Final, NamedTuple

from iscsi_target.iscsi import text
from iscsi_target.iscsi.errors import LoginStatus, ProtocolError, RejectReason
from iscsi_target.iscsi.parameters import (
    CRC32C,
    MAX_LENGTH_BYTES,
    MIN_LENGTH_BYTES,
    RFC3720,
    Parameters,
    Preferences,
)
from iscsi_target.wire.names import InadmissibleValue

__all__ = [
    "BY_NAME",
    "IDENTITY_KEYS",
    "TABLE",
    "Circumstances",
    "Key",
    "Parameters",
    "Preferences",
    "Scope",
    "Senders",
    "Stage",
    "Use",
    "admitted",
    "conclude",
    "declare",
    "negotiate",
    "negotiate_text",
]


class Stage(IntEnum):
    """Names the stages of a connection, with their codes in CSG and NSG.

    Source: RFC7143 11.12.3
    """

    SECURITY = 0
    OPERATIONAL = 1
    FULL_FEATURE = 3


class Use(Enum):
    """Says when a key may be sent: the column `Use` of chapter 13.

    Source: RFC7143 13
    """

    SECURITY = auto()
    INITIALIZE_ONLY = auto()
    LEADING_ONLY = auto()
    FULL_FEATURE_ONLY = auto()
    ALL = auto()


class Scope(Enum):
    """Says what a key's value holds for.

    Source: RFC7143 13
    """

    CONNECTION = auto()
    SESSION = auto()


class Senders(Flag):
    """Says who may send a key.

    Source: RFC7143 13
    """

    INITIATOR = auto()
    TARGET = auto()
    BOTH = INITIATOR | TARGET


class Settled(NamedTuple):
    """What comes of one offered value: the answer (None to a declaration), and what holds then."""

    answer: str | None
    parameters: Parameters


class Text(NamedTuple):
    """A declaration whose value `login` or `chap` reads."""

    def settle(self, _value: str, _preferences: Preferences, parameters: Parameters) -> Settled:
        """Leaves the value to its reader."""
        return Settled(None, parameters)


class Obsolete(NamedTuple):
    """A key of RFC 3720 that has one answer."""

    answer: str

    def settle(self, _value: str, _preferences: Preferences, parameters: Parameters) -> Settled:
        """Answers without regard to the value."""
        return Settled(self.answer, parameters)


class DeclaredNumber(NamedTuple):
    """A number that the initiator declares about itself."""

    least: int
    most: int
    store: Callable[[Parameters, int], Parameters]

    def settle(self, value: str, _preferences: Preferences, parameters: Parameters) -> Settled:
        """Takes the number over, one that is too large as the largest; raises InadmissibleValue for one too small."""
        declared = min(text.number(value), self.most)
        if declared < self.least:
            raise InadmissibleValue(f"{declared} is less than {self.least}")
        return Settled(None, self.store(parameters, declared))


class Number(NamedTuple):
    """A number of which the smaller or the larger of both sides' holds."""

    least: int
    most: int
    choose: Callable[[int, int], int]
    preferred: Callable[[Preferences, Parameters], int]
    store: Callable[[Parameters, int], Parameters]

    def settle(self, value: str, preferences: Preferences, parameters: Parameters) -> Settled:
        """Answers with the result; raises InadmissibleValue when the offer is out of range."""
        offer = _within(value, self.least, self.most)
        result = self.choose(offer, self.preferred(preferences, parameters))
        return Settled(str(result), self.store(parameters, result))


class Boolean(NamedTuple):
    """A boolean of which the conjunction or the disjunction of both sides' holds."""

    combine: Callable[[bool, bool], bool]
    preferred: Callable[[Preferences], bool]
    store: Callable[[Parameters, bool], Parameters]

    def settle(self, value: str, preferences: Preferences, parameters: Parameters) -> Settled:
        """Answers with the result; raises InadmissibleValue when the offer is no boolean."""
        result = self.combine(text.boolean(value), self.preferred(preferences))
        return Settled("Yes" if result else "No", self.store(parameters, result))


class Choice(NamedTuple):
    """A list of which the first value that we support holds."""

    default: str
    supported: Callable[[Preferences], tuple[str, ...]]
    store: Callable[[Parameters, str], Parameters]

    def settle(self, value: str, preferences: Preferences, parameters: Parameters) -> Settled:
        """Answers with the choice.

        raises    InadmissibleValue when there is none and the default may stay; LoginRefused when it may not
        Source: RFC7143 6.2.1
        """
        supported = self.supported(preferences)
        for item in text.items(value):
            if item in supported:
                return Settled(item, self.store(parameters, item))
        if self.default not in supported:
            raise LoginStatus.INITIATOR_ERROR.refusal(f"none of {value!r} is allowed, only {supported}")
        raise InadmissibleValue("nothing in the list is supported")


def _within(value: str, least: int, most: int) -> int:
    result = text.number(value)
    if not least <= result <= most:
        raise InadmissibleValue(f"{result} is not in {least}..{most}")
    return result


class Key(NamedTuple):
    """A row of the table.

    discovery   whether the key means something in a discovery session
    Source: RFC7143 13
    """

    name: str
    use: Use
    scope: Scope
    senders: Senders
    discovery: bool
    kind: Text | Obsolete | DeclaredNumber | Number | Boolean | Choice
    clause: str


_SECURITY, _IO, _LO = Use.SECURITY, Use.INITIALIZE_ONLY, Use.LEADING_ONLY
_FFPO, _ALL = Use.FULL_FEATURE_ONLY, Use.ALL
_CO, _SW = Scope.CONNECTION, Scope.SESSION
_I, _T, _BOTH = Senders.INITIATOR, Senders.TARGET, Senders.BOTH

_HEADER_DIGEST = Choice(
    text.NONE, lambda ours: ours.header_digest, lambda now, value: now._replace(header_digest=value == CRC32C)
)
_DATA_DIGEST = Choice(
    text.NONE, lambda ours: ours.data_digest, lambda now, value: now._replace(data_digest=value == CRC32C)
)
_MAX_CONNECTIONS = Number(
    1,
    65535,
    min,
    lambda ours, _: ours.max_connections,
    lambda now, value: now._replace(max_connections=value),
)
_INITIAL_R2T = Boolean(or_, lambda ours: ours.initial_r2t, lambda now, value: now._replace(initial_r2t=value))
_IMMEDIATE_DATA = Boolean(and_, lambda ours: ours.immediate_data, lambda now, value: now._replace(immediate_data=value))
_MAX_RECV_DATA_SEGMENT_LENGTH = DeclaredNumber(
    MIN_LENGTH_BYTES, MAX_LENGTH_BYTES, lambda now, value: now._replace(initiator_max_recv=value)
)
_MAX_BURST_LENGTH = Number(
    MIN_LENGTH_BYTES,
    MAX_LENGTH_BYTES,
    min,
    lambda ours, _: ours.max_burst_length,
    lambda now, value: now._replace(max_burst_length=value),
)
_FIRST_BURST_LENGTH = Number(
    MIN_LENGTH_BYTES,
    MAX_LENGTH_BYTES,
    min,
    lambda ours, now: min(ours.first_burst_length, now.max_burst_length),
    lambda now, value: now._replace(first_burst_length=value),
)
_TIME2WAIT = Number(
    0,
    3600,
    max,
    lambda ours, _: ours.default_time2wait,
    lambda now, value: now._replace(default_time2wait=value),
)
_TIME2RETAIN = Number(
    0,
    3600,
    min,
    lambda ours, _: ours.default_time2retain,
    lambda now, value: now._replace(default_time2retain=value),
)
_MAX_OUTSTANDING_R2T = Number(
    1,
    65535,
    min,
    lambda ours, _: ours.max_outstanding_r2t,
    lambda now, value: now._replace(max_outstanding_r2t=value),
)
_DATA_PDU_IN_ORDER = Boolean(
    or_, lambda ours: ours.data_pdu_in_order, lambda now, value: now._replace(data_pdu_in_order=value)
)
_DATA_SEQUENCE_IN_ORDER = Boolean(
    or_,
    lambda ours: ours.data_sequence_in_order,
    lambda now, value: now._replace(data_sequence_in_order=value),
)
_ERROR_RECOVERY_LEVEL = Number(
    0,
    2,
    min,
    lambda ours, _: ours.error_recovery_level,
    lambda now, value: now._replace(error_recovery_level=value),
)
_TASK_REPORTING = Choice(
    RFC3720, lambda ours: ours.task_reporting, lambda now, value: now._replace(task_reporting=value)
)
_PROTOCOL_LEVEL = Number(
    0, 31, min, lambda ours, _: ours.protocol_level, lambda now, value: now._replace(protocol_level=value)
)

# FirstBurstLength follows MaxBurstLength, since the table's order is the order in which offers are settled.
TABLE: Final[tuple[Key, ...]] = (
    #   name                        use        scope senders discovery kind              clause
    Key("AuthMethod", _SECURITY, _CO, _BOTH, True, Text(), "RFC7143 12.1"),
    Key("CHAP_A", _SECURITY, _CO, _BOTH, True, Text(), "RFC7143 12.1.3"),
    Key("CHAP_I", _SECURITY, _CO, _BOTH, True, Text(), "RFC7143 12.1.3"),
    Key("CHAP_C", _SECURITY, _CO, _BOTH, True, Text(), "RFC7143 12.1.3"),
    Key("CHAP_N", _SECURITY, _CO, _BOTH, True, Text(), "RFC7143 12.1.3"),
    Key("CHAP_R", _SECURITY, _CO, _BOTH, True, Text(), "RFC7143 12.1.3"),
    Key("HeaderDigest", _IO, _CO, _BOTH, True, _HEADER_DIGEST, "RFC7143 13.1"),
    Key("DataDigest", _IO, _CO, _BOTH, True, _DATA_DIGEST, "RFC7143 13.1"),
    Key("MaxConnections", _LO, _SW, _BOTH, False, _MAX_CONNECTIONS, "RFC7143 13.2"),
    Key("SendTargets", _FFPO, _SW, _I, True, Text(), "RFC7143 13.3"),
    Key("TargetName", _IO, _SW, _BOTH, True, Text(), "RFC7143 13.4"),
    Key("InitiatorName", _IO, _SW, _I, True, Text(), "RFC7143 13.5"),
    Key("TargetAlias", _ALL, _SW, _T, True, Text(), "RFC7143 13.6"),
    Key("InitiatorAlias", _ALL, _SW, _I, True, Text(), "RFC7143 13.7"),
    Key("TargetAddress", _ALL, _SW, _T, True, Text(), "RFC7143 13.8"),
    Key("TargetPortalGroupTag", _IO, _SW, _T, True, Text(), "RFC7143 13.9"),
    Key("InitialR2T", _LO, _SW, _BOTH, False, _INITIAL_R2T, "RFC7143 13.10"),
    Key("ImmediateData", _LO, _SW, _BOTH, False, _IMMEDIATE_DATA, "RFC7143 13.11"),
    Key("MaxRecvDataSegmentLength", _ALL, _CO, _BOTH, True, _MAX_RECV_DATA_SEGMENT_LENGTH, "RFC7143 13.12"),
    Key("MaxBurstLength", _LO, _SW, _BOTH, False, _MAX_BURST_LENGTH, "RFC7143 13.13"),
    Key("FirstBurstLength", _LO, _SW, _BOTH, False, _FIRST_BURST_LENGTH, "RFC7143 13.14"),
    Key("DefaultTime2Wait", _LO, _SW, _BOTH, True, _TIME2WAIT, "RFC7143 13.15"),
    Key("DefaultTime2Retain", _LO, _SW, _BOTH, True, _TIME2RETAIN, "RFC7143 13.16"),
    Key("MaxOutstandingR2T", _LO, _SW, _BOTH, False, _MAX_OUTSTANDING_R2T, "RFC7143 13.17"),
    Key("DataPDUInOrder", _LO, _SW, _BOTH, False, _DATA_PDU_IN_ORDER, "RFC7143 13.18"),
    Key("DataSequenceInOrder", _LO, _SW, _BOTH, False, _DATA_SEQUENCE_IN_ORDER, "RFC7143 13.19"),
    Key("ErrorRecoveryLevel", _LO, _SW, _BOTH, True, _ERROR_RECOVERY_LEVEL, "RFC7143 13.20"),
    Key("SessionType", _LO, _SW, _I, True, Text(), "RFC7143 13.21"),
    Key("TaskReporting", _LO, _SW, _BOTH, False, _TASK_REPORTING, "RFC7143 13.23"),
    Key("iSCSIProtocolLevel", _LO, _SW, _BOTH, False, _PROTOCOL_LEVEL, "RFC7143 13.24"),
    Key("IFMarker", _IO, _CO, _BOTH, True, Obsolete("No"), "RFC7143 13.25"),
    Key("OFMarker", _IO, _CO, _BOTH, True, Obsolete("No"), "RFC7143 13.25"),
    Key("IFMarkInt", _IO, _CO, _BOTH, True, Obsolete(text.IRRELEVANT), "RFC7143 13.25"),
    Key("OFMarkInt", _IO, _CO, _BOTH, True, Obsolete(text.IRRELEVANT), "RFC7143 13.25"),
)
BY_NAME: Final = {key.name: key for key in TABLE}
MAX_REMEMBERED: Final = 64  # outcomes; a laboratory has a few kinds of initiators, each with some stages
_TEXTS: Final = frozenset(key.name for key in TABLE if isinstance(key.kind, Text))
_SOME_TEXT: Final = ""  # what stands for the value of any text, as none changes what is answered
_ORDER: Final = {key.name: index for index, key in enumerate(TABLE)}

IDENTITY_KEYS: Final = frozenset({"InitiatorName", "TargetName", "SessionType"})
_IN_SECURITY_STAGE: Final = IDENTITY_KEYS | {
    "InitiatorAlias",
    "TargetAlias",
    "TargetAddress",
    "TargetPortalGroupTag",
}


class Circumstances(NamedTuple):
    """Where an offer is made.

    leading     whether this is the connection that begins the session
    discovery   whether the session is a discovery session
    Source: RFC7143 13
    """

    stage: Stage
    leading: bool
    discovery: bool


def admitted(name: str, circumstances: Circumstances) -> bool:
    """Says whether the initiator may send a key now; an unknown key may always come and is not understood.

    Source: RFC7143 12, 13
    """
    return name not in BY_NAME or name in _admitted(circumstances)


@cache
def _admitted(circumstances: Circumstances) -> frozenset[str]:
    return frozenset(key.name for key in TABLE if _admits(key, circumstances))


def _admits(key: Key, circumstances: Circumstances) -> bool:
    if Senders.INITIATOR not in key.senders:
        return False
    match key.use:
        case Use.ALL:
            return True
        case Use.SECURITY:
            return circumstances.stage is Stage.SECURITY
        case Use.FULL_FEATURE_ONLY:
            return circumstances.stage is Stage.FULL_FEATURE
        case Use.INITIALIZE_ONLY | Use.LEADING_ONLY:
            if key.name in IDENTITY_KEYS:  # every connection's login carries them; `login` compares
                return circumstances.stage is not Stage.FULL_FEATURE
            leading = circumstances.leading or key.use is Use.INITIALIZE_ONLY
            return leading and circumstances.stage is Stage.OPERATIONAL


def negotiate(
    preferences: Preferences,
    circumstances: Circumstances,
    parameters: Parameters,
    offered: Sequence[text.Pair],
) -> tuple[list[text.Pair], Parameters]:
    """Answers the pairs of one request, each key at most once.

    preferences     the target's own values
    parameters      what holds
    offered         the initiator's pairs
    returns         the answers in the order of the offers, and what holds then
    raises          ProtocolError when a reply word is proposed as a value; LoginRefused when a digest that is
                    demanded is not offered
    Source: RFC7143 6.2, 13
    """
    if circumstances.discovery:
        preferences = preferences._replace(error_recovery_level=0)  # RFC7143 7.4.1
    heard = tuple(
        pair if pair[0] not in _TEXTS or pair[1] in text.REPLIES else (pair[0], _SOME_TEXT) for pair in offered
    )
    answers, parameters = _negotiate(preferences, circumstances, parameters, heard)
    return list(answers), parameters


@lru_cache(MAX_REMEMBERED)
def _negotiate(
    preferences: Preferences, circumstances: Circumstances, parameters: Parameters, offered: tuple[text.Pair, ...]
) -> tuple[tuple[text.Pair, ...], Parameters]:
    answers: dict[str, str] = {}
    for name, value in sorted(offered, key=lambda pair: _ORDER.get(pair[0], len(TABLE))):
        settled = _settle(preferences, circumstances, parameters, (name, value))
        parameters = settled.parameters
        if settled.answer is not None:
            answers[name] = settled.answer
    return tuple((name, answers[name]) for name, _ in offered if name in answers), parameters


def _settle(preferences: Preferences, circumstances: Circumstances, parameters: Parameters, pair: text.Pair) -> Settled:
    name, value = pair
    if name not in BY_NAME:
        return Settled(text.NOT_UNDERSTOOD, parameters)
    if value in text.REPLIES:
        _check_reply(BY_NAME[name], value)
        return Settled(None, parameters)
    if not admitted(name, circumstances):
        return Settled(text.REJECT, parameters)
    if circumstances.discovery and not BY_NAME[name].discovery:
        return Settled(text.IRRELEVANT, parameters)
    try:
        return BY_NAME[name].kind.settle(value, preferences, parameters)
    except InadmissibleValue:
        return Settled(text.REJECT, parameters)


def _check_reply(key: Key, value: str) -> None:
    """Lets a reply word pass where it can only answer a declaration of ours; Windows sends such."""
    if Senders.TARGET not in key.senders or not isinstance(key.kind, Text | DeclaredNumber):
        raise ProtocolError(RejectReason.PROTOCOL_ERROR, f"{key.name}={value} is offered, a word for answers only")


def negotiate_text(parameters: Parameters, offered: Sequence[text.Pair]) -> tuple[list[text.Pair], Parameters]:
    """Answers the pairs of a Text Request in full feature phase, but for SendTargets.

    offered   the initiator's pairs; SendTargets, which the session answers, gets no answer here
    returns   the answers in the order of the offers, and what holds then
    raises    ProtocolError when a reply word is proposed as a value
    Source: RFC7143 6.4, 13
    """
    circumstances = Circumstances(Stage.FULL_FEATURE, leading=False, discovery=False)
    return negotiate(Preferences(), circumstances, parameters, offered)


def declare(preferences: Preferences, parameters: Parameters) -> tuple[list[text.Pair], Parameters]:
    """Returns what the target declares about itself in the operational stage, and what holds then.

    Source: RFC7143 13.12
    """
    length = preferences.max_recv_data_segment_length
    return [("MaxRecvDataSegmentLength", str(length))], parameters._replace(target_max_recv=length)


def conclude(preferences: Preferences, parameters: Parameters) -> Parameters:
    """Returns what holds when a login ends.

    returns   the parameters, FirstBurstLength not above MaxBurstLength even when only one of them was offered
    raises    LoginRefused when a digest is demanded and the initiator did not speak of it
    Source: RFC7143 13.1, 13.14
    """
    digests = (
        ("HeaderDigest", parameters.header_digest, preferences.header_digest),
        ("DataDigest", parameters.data_digest, preferences.data_digest),
    )
    for name, in_use, supported in digests:
        if (CRC32C if in_use else text.NONE) not in supported:
            raise LoginStatus.INITIATOR_ERROR.refusal(f"{name} must be one of {supported}")
    first_burst_length = min(parameters.first_burst_length, parameters.max_burst_length)
    return parameters._replace(first_burst_length=first_burst_length)
