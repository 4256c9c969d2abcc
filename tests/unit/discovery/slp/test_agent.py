"""What the agent replies to whom.

target A at portals P and Q, target B at P and only for one initiator
"""

import pytest

from iscsi_target.config.address import Address
from iscsi_target.config.values import TargetEntry
from iscsi_target.discovery.slp.agent import MAX_DATAGRAM_BYTES, Asking, Offer, answer
from iscsi_target.discovery.slp.packets import ErrorCode
from iscsi_target.discovery.slp.services import services_of
from tests import slp

P, Q = Address("192.0.2.1", 3260), Address("192.0.2.2", 3260)
A, B, INITIATOR = "iqn.2026-11.org.example:a", "iqn.2026-11.org.example:b", "iqn.2026-11.org.example:i"
TARGETS = (TargetEntry(A, {}, "disk"), TargetEntry(B, {}, initiators=frozenset({INITIATOR})))
OFFER = Offer(tuple(services_of(TARGETS, [(P, 1)])), ("DEFAULT", "Lab"), 300)
HERE = Asking("192.0.2.1")
URL_A, URL_B = (f"service:iscsi:target://192.0.2.1:3260/{name}" for name in (A, B))


def ask(message, offer=OFFER, asking=HERE):
    """The reply, or None."""
    reply = answer(message, offer, asking)
    return slp.read(reply) if reply else None


@pytest.mark.clause("RFC2608 8.1")
@pytest.mark.parametrize("kind", [slp.TARGETS, "service:iscsi", "SERVICE:ISCSI:Target"])
def test_request_for_targets_is_answered_with_their_urls(kind):
    reply = ask(slp.service_request(kind, xid=99, language="de"))
    assert reply == slp.Reply(slp.SRV_RPLY, 0, [URL_A, URL_B], False, 99, "de")


@pytest.mark.clause("RFC4018 4.1")
@pytest.mark.parametrize(
    ("predicate", "urls"),
    [
        (f"(iscsi-name={A})", [URL_A]),
        (f"(|(auth-name=iscsi)(auth-name={INITIATOR}))", [URL_A, URL_B]),
        ("(auth-name=iqn.other)", []),
        ("(&(portal-group=1)(!(alias=*)))", [URL_B]),
    ],
)
def test_predicate_narrows_what_is_found(predicate, urls):
    assert ask(slp.service_request(predicate=predicate)).items == urls


@pytest.mark.clause("RFC2608 6.4.1")
@pytest.mark.parametrize(("scopes", "found"), [("default", True), ("other,LAB", True), ("other", False), ("", False)])
def test_only_who_asks_in_a_scope_of_ours_is_answered(scopes, found):
    for request in (slp.service_request, slp.attribute_request, slp.type_request):
        reply = ask(request(scopes=scopes))
        assert reply.error == (0 if found else ErrorCode.SCOPE_NOT_SUPPORTED)
        assert (ask(request(scopes=scopes, flags=slp.MULTICAST)) is not None) is found


@pytest.mark.clause("RFC2608 7")
def test_who_has_had_the_reply_is_not_answered_again():
    for request in (slp.service_request, slp.attribute_request, slp.type_request):
        assert ask(request(previous="192.0.2.7,192.0.2.1")) is None
        assert ask(request(previous="192.0.2.7,192.0.2.10")) is not None


@pytest.mark.clause("RFC2608 7")
@pytest.mark.parametrize(
    ("message", "error"),
    [
        (slp.service_request("service:printer"), 0),
        (slp.service_request(predicate="(alias=nothing)"), 0),
        (slp.attribute_request("service:iscsi:target://192.0.2.3:3260/x"), 0),
        (slp.type_request("other"), 0),
        (slp.service_request(predicate="(("), ErrorCode.PARSE_ERROR),
        (slp.service_request(predicate="(alias=*)", language="fr"), ErrorCode.LANGUAGE_NOT_SUPPORTED),
        (slp.attribute_request(language="fr"), ErrorCode.LANGUAGE_NOT_SUPPORTED),
        (slp.service_request(spi="key"), ErrorCode.AUTHENTICATION_UNKNOWN),
        (slp.attribute_request(spi="key"), ErrorCode.AUTHENTICATION_UNKNOWN),
        (slp.message(slp.SRV_RQST, b"\xff"), ErrorCode.PARSE_ERROR),
        (slp.service_request(extensions=b"\x40\0\0\0\0"), ErrorCode.OPTION_NOT_UNDERSTOOD),
    ],
)
def test_error_and_nothing_found_are_told_to_who_asks_us_alone_only(message, error):
    assert ask(message).error == error
    assert ask(message, asking=HERE._replace(multicast=True)) is None


def test_dialect_of_our_language_is_ours():
    assert ask(slp.attribute_request(language="en-GB")).error == 0


@pytest.mark.parametrize(
    "message", [b"", b"rubbish" * 10, slp.message(3, b""), slp.message(8, b""), slp.message(2, b"")]
)
def test_what_is_no_request_gets_no_reply(message):
    assert answer(message, OFFER, HERE) == b""


@pytest.mark.clause("RFC2608 10.3")
def test_attributes_of_a_url_and_of_a_type():
    reply = ask(slp.attribute_request(URL_A))
    assert reply.items == [f"(iscsi-name={A}),(portal-group=1),(transports=tcp),(alias=disk)"]
    assert ask(slp.attribute_request(URL_B, "iscsi-*")).items == [f"(iscsi-name={B})"]
    assert ask(slp.attribute_request(tags="iscsi-name")).items == [f"(iscsi-name={A},{B})"]
    assert "auth" not in ask(slp.attribute_request()).items[0]


@pytest.mark.clause("RFC2608 10.1")
@pytest.mark.parametrize("authority", [None, ""])
def test_type_is_told_as_long_as_there_is_a_target(authority):
    assert ask(slp.type_request(authority)).items == [slp.TARGETS]
    assert ask(slp.type_request(authority), OFFER._replace(services=())).items == [""]


@pytest.mark.clause("RFC2608 8.6")
def test_agent_tells_of_itself():
    reply = ask(slp.service_request("service:service-agent", flags=slp.MULTICAST))
    attributes = f"(service-type={slp.TARGETS})"
    assert (reply.function, reply.items) == (
        slp.SA_ADVERT,
        ["service:service-agent://192.0.2.1", "DEFAULT,Lab", attributes],
    )
    assert ask(slp.service_request("service:service-agent", scopes="")).function == slp.SA_ADVERT
    assert ask(slp.service_request("service:service-agent", scopes="other")) is None
    assert ask(slp.service_request("service:service-agent", "(service-type=x)")) is None
    assert ask(slp.service_request("service:service-agent"), asking=Asking("::1")).items[0].endswith("//[::1]")
    assert ask(slp.service_request("service:directory-agent")) is None


def test_no_url_is_told_twice():
    offer = OFFER._replace(services=OFFER.services * 2)
    assert ask(slp.service_request(), offer).items == [URL_A, URL_B]
    assert not ask(slp.service_request(), offer).overflow


@pytest.fixture
def many():
    targets = [TargetEntry(f"iqn.2026-11.org.example:{'x' * 180}{number}", {}) for number in range(50)]
    return Offer(tuple(services_of(targets, [(P, 1)])), ("DEFAULT",), 300)


@pytest.mark.clause("RFC2608 7")
def test_reply_that_does_not_fit_a_datagram_is_cut_and_marked(many):
    by_udp, by_tcp = HERE._replace(max_bytes=MAX_DATAGRAM_BYTES), HERE
    cut, whole = ask(slp.service_request(), many, by_udp), ask(slp.service_request(), many, by_tcp)
    assert (cut.overflow, whole.overflow) == (True, False)
    assert cut.items == whole.items[: len(cut.items)]
    assert 0 < len(cut.items) < len(whole.items) == 50
    size_bytes = len(answer(slp.service_request(), many, by_udp))
    assert size_bytes <= MAX_DATAGRAM_BYTES < size_bytes + len(cut.items[0]) + 6
    cut, whole = ask(slp.attribute_request(), many, by_udp), ask(slp.attribute_request(), many, by_tcp)
    assert (cut.overflow, cut.items, whole.overflow) == (True, [""], False)
    assert len(whole.items[0]) > MAX_DATAGRAM_BYTES


def test_attributes_that_no_message_can_hold_are_marked_as_cut():
    targets = [TargetEntry(f"iqn.2026-11.org.example:{'x' * 180}{number}", {}) for number in range(400)]
    offer = Offer(tuple(services_of(targets, [(P, 1)])), ("DEFAULT",), 300)
    assert ask(slp.attribute_request(), offer).overflow
    assert len(ask(slp.service_request(), offer).items) == 400
