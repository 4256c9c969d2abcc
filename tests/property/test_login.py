"""Laws of text, negotiation and login."""

from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.initiator.negotiation import Negotiation
from iscsi_target.iscsi import chap, keys, text
from iscsi_target.iscsi.errors import LoginRefused, ProtocolError
from iscsi_target.iscsi.keys import Circumstances, Parameters, Preferences, Stage
from iscsi_target.iscsi.login import Authentication, ChapAccount, Endpoint, LoginPhase, LoginTarget
from iscsi_target.iscsi.requests import LoginRequest
from iscsi_target.wire.names import InadmissibleValue, iscsi_name

ALICE = ChapAccount("alice", b"a secret of alice")
DISK, VAULT = "iqn.2001-04.com.example:disk", "iqn.2001-04.com.example:vault"
ENDPOINT = Endpoint(
    {
        DISK: LoginTarget(DISK),
        VAULT: LoginTarget(VAULT, authentication=Authentication((ALICE,), ChapAccount("vault", b"another"))),
    }
)
NORMAL = Circumstances(Stage.OPERATIONAL, leading=True, discovery=False)

lengths = st.one_of(st.integers(512, 2**24 - 1), st.sampled_from([512, 8192, 65536, 262144, 2**24 - 1]))
digest_lists = st.permutations(["None", "CRC32C", "Y-com.example"]).flatmap(
    lambda listed: st.integers(1, 3).map(lambda count: tuple(listed[:count]))
)
yes_or_no = st.sampled_from(["Yes", "No"])

PREFERENCES = st.builds(
    Preferences,
    header_digest=st.sampled_from([("None",), ("None", "CRC32C")]),
    data_digest=st.sampled_from([("None",), ("None", "CRC32C")]),
    initial_r2t=st.booleans(),
    immediate_data=st.booleans(),
    max_burst_length=lengths,
    first_burst_length=lengths,
    max_outstanding_r2t=st.integers(1, 65535),
    max_connections=st.integers(1, 65535),
    error_recovery_level=st.integers(0, 2),
    default_time2wait=st.integers(0, 3600),
    default_time2retain=st.integers(0, 3600),
    data_pdu_in_order=st.booleans(),
    data_sequence_in_order=st.booleans(),
    protocol_level=st.integers(0, 31),
)

VALUES: dict[str, st.SearchStrategy[str]] = {
    "HeaderDigest": digest_lists.map(",".join),
    "DataDigest": digest_lists.map(",".join),
    "InitialR2T": yes_or_no,
    "ImmediateData": yes_or_no,
    "MaxBurstLength": lengths.map(str),
    "FirstBurstLength": lengths.map(hex),
    "MaxOutstandingR2T": st.integers(1, 65535).map(str),
    "MaxConnections": st.integers(1, 65535).map(str),
    "ErrorRecoveryLevel": st.integers(0, 2).map(str),
    "DefaultTime2Wait": st.integers(0, 3600).map(str),
    "DefaultTime2Retain": st.integers(0, 3600).map(str),
    "DataPDUInOrder": yes_or_no,
    "DataSequenceInOrder": yes_or_no,
    "iSCSIProtocolLevel": st.integers(0, 31).map(str),
}
FIELDS = {
    "HeaderDigest": "header_digest",
    "DataDigest": "data_digest",
    "InitialR2T": "initial_r2t",
    "ImmediateData": "immediate_data",
    "MaxBurstLength": "max_burst_length",
    "FirstBurstLength": "first_burst_length",
    "MaxOutstandingR2T": "max_outstanding_r2t",
    "MaxConnections": "max_connections",
    "ErrorRecoveryLevel": "error_recovery_level",
    "DefaultTime2Wait": "default_time2wait",
    "DefaultTime2Retain": "default_time2retain",
    "DataPDUInOrder": "data_pdu_in_order",
    "DataSequenceInOrder": "data_sequence_in_order",
    "iSCSIProtocolLevel": "protocol_level",
}
junk = st.one_of(st.text(st.characters(codec="ascii"), max_size=20), st.sampled_from(["Reject", "None", "", "0x", "~"]))
OFFERS = st.fixed_dictionaries({}, optional=VALUES)
ANY_OFFERS = st.fixed_dictionaries({}, optional={name: value | junk for name, value in VALUES.items()})


@st.composite
def shuffled_pairs(draw, offers):
    return draw(st.permutations(list(draw(offers).items())))


def conclude_as_initiator(offered, answers) -> Parameters:
    """What our initiator makes of an offer of any kind and the target's answers."""
    negotiation = Negotiation(Preferences(), dict(offered), discovery=False)
    negotiation.propose(offered)
    assert negotiation.receive(Stage.OPERATIONAL, answers) == []
    return negotiation.conclude()


@given(PREFERENCES, shuffled_pairs(ANY_OFFERS))
def test_both_ends_agree(preferences, offered):
    """Law: what the target settles on is what the initiator reads from its own offer and the answers."""
    try:
        answers, parameters = keys.negotiate(preferences, NORMAL, Parameters(), offered)
    except ProtocolError:
        return
    assert keys.conclude(preferences, parameters) == conclude_as_initiator(offered, answers)


@given(PREFERENCES, shuffled_pairs(OFFERS))
def test_every_offer_is_answered_within_it(preferences, offered):
    """Law: an answer never exceeds what either side can do, and only offered keys are answered, in their order."""
    answers, _ = keys.negotiate(preferences, NORMAL, Parameters(), offered)
    assert [name for name, _ in answers] == [name for name, _ in offered]
    for name, value in answers:
        offer = dict(offered)[name]
        match keys.BY_NAME[name].kind:
            case keys.Number(choose=choose) if name != "FirstBurstLength":
                assert int(value) == choose(int(offer, 0), getattr(preferences, FIELDS[name]))
            case keys.Number():
                assert int(value) <= min(int(offer, 0), preferences.first_burst_length)
            case keys.Boolean(combine=combine):
                assert (value == "Yes") == combine(offer == "Yes", getattr(preferences, FIELDS[name]))


@given(PREFERENCES, shuffled_pairs(OFFERS), st.data())
def test_offer_in_several_requests_gives_the_same(preferences, offered, data):
    """Law: it makes no difference in which request of the stage a key is offered.

    But for FirstBurstLength: its answer must not exceed the MaxBurstLength that holds when it is given.
    """
    offered = [pair for pair in offered if pair[0] != "FirstBurstLength"]
    cut = data.draw(st.integers(0, len(offered)))
    _, whole = keys.negotiate(preferences, NORMAL, Parameters(), offered)
    _, first = keys.negotiate(preferences, NORMAL, Parameters(), offered[:cut])
    _, both = keys.negotiate(preferences, NORMAL, first, offered[cut:])
    assert keys.conclude(preferences, both) == keys.conclude(preferences, whole)


names = st.from_regex(r"[A-Z][A-Za-z0-9.+@_#-]{0,62}", fullmatch=True)
values = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs", "Cc"]), max_size=60)
pair_lists = st.lists(st.tuples(names, values), unique_by=lambda pair: pair[0], max_size=20)


@given(pair_lists)
def test_parse_undoes_encode(pairs):
    """Law: parse(encode(pairs)) = pairs."""
    assert text.parse(text.encode(pairs)) == pairs


@given(pair_lists, st.integers(1, 200))
def test_split_joins_to_the_whole(pairs, limit):
    """Law: the segments join to the text, none is longer than the limit, and only a lone one is empty."""
    segments = text.split(pairs, limit)
    assert b"".join(segments) == text.encode(pairs)
    assert all(len(segment) <= limit for segment in segments)
    assert all(segments) or segments == [b""]


@given(st.binary(max_size=300))
def test_random_text_raises_only_protocol_errors(segment):
    """Law: text is pairs or a ProtocolError."""
    try:
        text.parse(segment)
    except ProtocolError:
        pass


PARTS = st.binary(max_size=6) | st.tuples(names, values).map("=".join).map(str.encode)


@given(st.lists(PARTS, max_size=8).map(b"\0".join), st.sampled_from([b"", b"\0"]))
def test_an_empty_pair_changes_nothing(parts, end):
    """Law: a text that can be read at once says what it does with an empty pair, with which it is read bit by bit."""

    def reading(segment: bytes) -> list[text.Pair] | str:
        try:
            return text.parse(segment)
        except ProtocolError as error:
            return str(error)

    assert reading(parts + end) == reading(b"\0" + parts + end)


@given(st.text(max_size=60) | st.from_regex(r"0[xXbB][0-9a-zA-Z+/=]*", fullmatch=True))
def test_values_are_read_or_inadmissible(value):
    """Law: every reader of a value returns or raises InadmissibleValue."""
    for read in (
        text.number,
        text.boolean,
        text.items,
        iscsi_name,
        lambda it: text.binary(it, 64),
    ):
        try:
            read(value)
        except InadmissibleValue:
            pass


@given(st.binary(min_size=1, max_size=1024))
def test_binary_undoes_hexadecimal(value):
    """Law: binary(hexadecimal(value)) = value."""
    assert text.binary(text.hexadecimal(value), 1024) == value


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).map(lambda tail: "iqn." + tail))
def test_normalising_a_name_twice_is_normalising_it_once(name):
    """Law: iscsi_name is idempotent."""
    try:
        once = iscsi_name(name)
    except InadmissibleValue:
        return
    assert iscsi_name(once) == once


def fresh() -> LoginPhase:
    return LoginPhase(ENDPOINT, 1, lambda length: bytes(range(length)))


IDENTITY = [("InitiatorName", "iqn.2001-04.com.example:a"), ("TargetName", DISK)]


@given(shuffled_pairs(OFFERS), st.lists(st.integers(0, 2000), max_size=20))
def test_any_chunking_by_the_c_bit_gives_the_same(offered, cuts):
    """Law: the answer depends on the text, not on how it was cut into requests."""
    segment = text.encode([*IDENTITY, *offered])
    final = LoginRequest(current_stage=1, next_stage=3, transit=True)
    whole = fresh().receive(final, segment)
    login = fresh()
    places = sorted({cut % len(segment) for cut in cuts} - {0})
    for start, end in zip([0, *places], places, strict=False):
        step = login.receive(LoginRequest(current_stage=1, continue_=True), segment[start:end])
        assert step.data == b""
        assert step.completed is None
    assert login.receive(final, segment[places[-1] if places else 0 :]) == whole


def prove(data: bytes) -> bytes:
    """The answer of an initiator that knows alice's secret to the challenge in data, if there is one."""
    asked = dict(text.parse(data))
    if "CHAP_C" not in asked:
        return b""
    challenge = chap.Challenge(
        chap.Algorithm(int(asked["CHAP_A"])), int(asked["CHAP_I"]), text.binary(asked["CHAP_C"], 1024)
    )
    return text.encode([("CHAP_N", "alice"), ("CHAP_R", text.hexadecimal(chap.respond(challenge, ALICE.secret)))])


SENSIBLE = [
    text.encode(IDENTITY),
    text.encode([IDENTITY[0], ("TargetName", VAULT), ("AuthMethod", "CHAP,None")]),
    text.encode([IDENTITY[0], ("SessionType", "Discovery")]),
    text.encode([("AuthMethod", "CHAP")]),
    text.encode([("AuthMethod", "None,CHAP")]),
    text.encode([("CHAP_A", "8,7,6,5")]),
    text.encode([("CHAP_N", "alice"), ("CHAP_R", "0x00")]),
    text.encode([("CHAP_N", "alice"), ("CHAP_R", "0b" + "A" * 24), ("CHAP_I", "1"), ("CHAP_C", "0x11")]),
    text.encode([("HeaderDigest", "CRC32C"), ("MaxBurstLength", "512"), ("X-a", "b")]),
    text.encode([("MaxRecvDataSegmentLength", "99"), ("InitialR2T", "Reject")]),
    b"",
]


@st.composite
def mutated(draw):
    segment = bytearray(draw(st.sampled_from(SENSIBLE)))
    for _ in range(draw(st.integers(0, 3)) if segment else 0):
        segment[draw(st.integers(0, len(segment) - 1))] = draw(st.integers(0, 255))
    return bytes(segment)


headers = st.builds(
    LoginRequest,
    transit=st.booleans(),
    continue_=st.sampled_from([False, False, False, True]),
    current_stage=st.sampled_from([0, 0, 0, 1, 1, 2, 3]),
    next_stage=st.sampled_from([0, 1, 1, 2, 3]),
    version_min=st.sampled_from([0, 0, 0, 0, 1]),
    tsih=st.sampled_from([0, 0, 0, 1]),
)
inputs = st.one_of(mutated(), st.sampled_from(SENSIBLE), st.binary(max_size=100), st.just("prove"))


@given(st.lists(st.tuples(headers, inputs), max_size=8))
def test_hostile_logins_are_answered_or_refused(requests):
    """Law: random and mutated requests raise only ProtocolError and LoginRefused, answers are well formed, and
    nobody comes to the vault without a proof."""
    login = fresh()
    proven = False
    last = b""
    for request, data in requests:
        if data == "prove":
            data = prove(last)
            proven = proven or bool(data)
        try:
            step = login.receive(request, data)
        except (ProtocolError, LoginRefused):
            return
        assert len(step.data) <= 8192
        assert not step.response.transit or request.transit
        last = step.data if not step.response.continue_ else b""
        text.parse(step.data)
        if step.completed is not None:
            assert step.response.transit
            assert step.response.next_stage == 3
            assert step.completed.target_name != VAULT or proven
            return


@given(st.binary(min_size=48, max_size=48), st.binary(max_size=200))
def test_random_header_is_answered_or_refused(header, data):
    """Law: any 48 bytes as a Login Request raise only ProtocolError and LoginRefused."""
    try:
        fresh().receive(LoginRequest.unpack(header), data)
    except (ProtocolError, LoginRefused):
        pass
