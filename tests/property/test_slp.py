"""An SLP agent and whatever is sent to it."""

from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.config.address import Address
from iscsi_target.config.values import TargetEntry
from iscsi_target.discovery.slp.agent import MAX_DATAGRAM_BYTES, Asking, Offer, answer
from iscsi_target.discovery.slp.predicate import parse
from iscsi_target.discovery.slp.services import services_of
from iscsi_target.discovery.slp.strings import StringError
from tests import slp

TARGETS = [TargetEntry(f"iqn.2026-11.org.example:{number}", {}, "a, (b)") for number in range(40)]
OFFER = Offer(tuple(services_of(TARGETS, [(Address("192.0.2.1", 3260), 1)])), ("DEFAULT",), 300)
HERE = Asking("192.0.2.1", max_bytes=MAX_DATAGRAM_BYTES)
FILTERS = st.recursive(
    st.sampled_from(["(alias=*)", "(alias=a*)", "(portal-group>=1)", "(x=y)", "(iscsi-name=*:7)"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda each: f"(&{''.join(each)})"),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: f"(|{''.join(each)})"),
        inner.map(lambda each: f"(!{each})"),
    ),
    max_leaves=8,
)
TEXTS = st.one_of(st.text(max_size=30), st.sampled_from(["DEFAULT", slp.TARGETS, "(a=b)", "service:service-agent"]))


@given(st.sampled_from([1, 6, 9, 3, 200]), st.lists(TEXTS, max_size=6), st.binary(max_size=20), st.booleans())
def test_any_message_gets_a_reply_that_fits_or_none(function, texts, rest, multicast):
    """Law: whatever is sent, a reply is a message that fits a datagram; who asked all agents gets no error."""
    message = slp.message(function, b"".join(map(slp.text, texts)) + rest)
    reply = answer(message, OFFER, HERE._replace(multicast=multicast))
    assert len(reply) <= MAX_DATAGRAM_BYTES
    if reply:
        read = slp.read(reply)
        assert not (multicast and read.error)


@given(st.binary(max_size=100))
def test_any_bytes_get_no_reply_or_one_that_can_be_read(message):
    """Law: bytes that are no message are passed over."""
    reply = answer(message, OFFER, HERE)
    assert not reply or slp.read(reply)


@given(FILTERS)
def test_a_filter_and_its_opposite_part_the_services(text):
    """Law: every service fits a filter or its opposite, and none both."""
    attributes = [each.searchable for each in OFFER.services]
    fits, opposite = parse(text), parse(f"(!{text})")
    assert all(fits.holds(each) is not opposite.holds(each) for each in attributes)


@given(st.text(alphabet="()&|!=<>~*\\ab1", max_size=40))
def test_any_text_is_a_filter_or_refused(text):
    """Law: reading a filter ends, and fails only in the one way."""
    try:
        parse(text).holds({"a": ("b", "1"), "b": ("a",)})
    except StringError:
        pass
