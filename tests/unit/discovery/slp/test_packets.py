"""Messages as bytes, held against those of a user agent that shares nothing with them."""

import pytest

from iscsi_target.discovery.slp import packets
from iscsi_target.discovery.slp.packets import (
    AttributeRequest,
    ErrorCode,
    Function,
    PacketError,
    ServiceRequest,
    ServiceTypeRequest,
    unpack,
    unpack_request,
)
from tests import slp


@pytest.mark.clause("RFC2608 8")
def test_header_is_read():
    packet = unpack(slp.service_request(flags=slp.MULTICAST, xid=0x1234, language="en-US"))
    assert (packet.header.function_id, packet.header.xid, packet.language) == (Function.SRV_RQST, 0x1234, "en-US")
    assert packet.header.request_mcast


@pytest.mark.clause("RFC2608 8.1")
def test_requests_are_read():
    read = [
        unpack_request(unpack(slp.service_request("t", "(a=b)", scopes="s", previous="p", spi="i"))),
        unpack_request(unpack(slp.attribute_request("u", "g", scopes="s", previous="p", spi="i"))),
        unpack_request(unpack(slp.type_request(None, scopes="s", previous="p"))),
        unpack_request(unpack(slp.type_request("", scopes="\xe4"))),
        unpack_request(unpack(slp.type_request("name"))),
    ]
    assert read == [
        ServiceRequest("p", "t", "s", "(a=b)", "i"),
        AttributeRequest("p", "u", "s", "g", "i"),
        ServiceTypeRequest("p", None, "s"),
        ServiceTypeRequest("", "", "\xe4"),
        ServiceTypeRequest("", "name", "DEFAULT"),
    ]


def spoiled(at, value, message=None):
    message = bytearray(message or slp.service_request())
    message[at] = value
    return bytes(message)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", ErrorCode.PARSE_ERROR),
        (slp.service_request()[:13], ErrorCode.PARSE_ERROR),
        (slp.service_request()[:-1], ErrorCode.PARSE_ERROR),
        (slp.service_request() + b"\0", ErrorCode.PARSE_ERROR),
        (spoiled(0, 1), ErrorCode.VERSION_NOT_SUPPORTED),
        (spoiled(14, 0xFF), ErrorCode.PARSE_ERROR),
        (slp.service_request(language=""), ErrorCode.PARSE_ERROR),
        (slp.service_request(language="x" * 65), ErrorCode.PARSE_ERROR),
        (slp.service_request(extensions=b"\0\1"), ErrorCode.PARSE_ERROR),
        (slp.service_request(extensions=b"\0\1\0\0\1"), ErrorCode.PARSE_ERROR),
    ],
)
def test_what_is_no_message_is_refused(message, code):
    with pytest.raises(PacketError) as refused:
        unpack(message)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (slp.message(slp.SRV_RQST, b""), ErrorCode.PARSE_ERROR),
        (slp.message(slp.SRV_RQST, b"\xff\xff" + bytes(8)), ErrorCode.PARSE_ERROR),
        (slp.message(slp.SRV_RQST, b"\0\1\xff" + bytes(8)), ErrorCode.PARSE_ERROR),
        (slp.message(slp.SRV_TYPE_RQST, b"\0\0\0\1\xff\0\0"), ErrorCode.PARSE_ERROR),
        (slp.message(3, b""), ErrorCode.MESSAGE_NOT_SUPPORTED),
        (slp.service_request(extensions=b"\x40\0\0\0\0"), ErrorCode.OPTION_NOT_UNDERSTOOD),
    ],
)
def test_what_is_no_request_is_refused(message, code):
    with pytest.raises(PacketError) as refused:
        unpack_request(unpack(message))
    assert refused.value.code == code


@pytest.mark.clause("RFC2608 9.1")
def test_extension_that_need_not_be_understood_is_passed_over():
    packet = unpack(slp.service_request(extensions=b"\0\1\0\0\0data"))
    assert packet.extensions == (1,)
    assert isinstance(unpack_request(packet), ServiceRequest)


def test_replies_are_what_the_user_agent_reads():
    urls = ("service:a://1", "service:a://2")
    read = slp.read(packets.pack(Function.SRV_RPLY, packets.service_reply(ErrorCode.SUCCESS, urls, 60), 5, "de"))
    assert read == slp.Reply(slp.SRV_RPLY, 0, list(urls), False, 5, "de")
    read = slp.read(packets.pack(Function.ATTR_RPLY, packets.attribute_reply(ErrorCode.PARSE_ERROR), 5, "en"))
    assert (read.error, read.items) == (2, [""])
    read = slp.read(packets.pack(Function.SRV_TYPE_RPLY, packets.service_type_reply(ErrorCode.SUCCESS, "a,b"), 5, "en"))
    assert read.items == ["a,b"]
    body = packets.agent_advertisement("url", scopes="scopes", attributes="attributes")
    assert slp.read(packets.pack(Function.SA_ADVERT, body, 5, "en")).items == ["url", "scopes", "attributes"]
