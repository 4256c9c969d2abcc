"""Requests, answers and what the server sends of itself."""

import pytest

from iscsi_target.discovery.isns.attributes import Attribute, Tag, number, pack, text
from iscsi_target.discovery.isns.faults import Refused, Status
from iscsi_target.discovery.isns.messages import (
    Answer,
    Function,
    Request,
    acknowledge,
    pack_answer,
    pack_plain,
    pack_request,
    unpack_answer,
    unpack_request,
)
from iscsi_target.discovery.isns.pdu import Message

NAME = "iqn.2026-11.org.example:a"
ENTITY = text(Tag.ENTITY_IDENTIFIER, "entity")


@pytest.mark.clause("RFC4171 5.6")
def test_request_comes_back_as_it_was_packed():
    request = Request(Function.DEV_ATTR_REG, NAME, (ENTITY,), (ENTITY, number(6, 30)), replace=True)
    message = pack_request(request, 5)
    assert (message.function_id, message.transaction_id, message.replace) == (1, 5, True)
    assert unpack_request(message) == request
    bare = Request(Function.DEV_ATTR_QRY, NAME)
    assert unpack_request(pack_request(bare, 5)) == bare


@pytest.mark.clause("RFC4171 5.6.1")
@pytest.mark.parametrize("payload", [b"", pack([ENTITY]), pack([Attribute(Tag.ISCSI_NAME)]), pack([Attribute(0)])])
def test_request_without_a_source_is_refused(payload):
    with pytest.raises(Refused) as refused:
        unpack_request(Message(Function.DEV_ATTR_QRY, 1, payload))
    assert refused.value.status == Status.SOURCE_ABSENT


@pytest.mark.parametrize("function", [0, 0x0011, 0x8001, 0xFFFF])
def test_unknown_function_is_refused(function):
    with pytest.raises(Refused) as refused:
        unpack_request(Message(function, 1, b""))
    assert refused.value.status == Status.MESSAGE_NOT_SUPPORTED


@pytest.mark.clause("RFC4171 5.7")
def test_answer_has_the_transaction_and_function_of_its_request():
    request = Message(Function.DEV_ATTR_QRY, 5, b"")
    answer = Answer(Status.SUCCESSFUL, (ENTITY,), (number(6, 30),))
    message = pack_answer(answer, request)
    assert (message.function_id, message.transaction_id) == (0x8002, 5)
    assert unpack_answer(message) == answer
    refusal = pack_answer(Answer(Status.BUSY), request)
    assert refusal.payload == b"\0\0\0\x0c"
    assert unpack_answer(refusal) == Answer(Status.BUSY)


def test_answer_without_a_status_is_refused():
    with pytest.raises(Refused):
        unpack_answer(Message(0x8002, 5, b"\0\0"))


@pytest.mark.clause("RFC4171 5.7.5.13")
def test_esi_comes_back_with_a_status_before_it():
    probe = pack_plain(Function.ESI, 9, [number(Tag.PORTAL_PORT, 3260), ENTITY])
    answer = acknowledge(probe)
    assert answer is not None
    assert (answer.function_id, answer.transaction_id) == (0x800D, 9)
    assert answer.payload == bytes(4) + probe.payload


@pytest.mark.clause("RFC4171 5.7.5.8")
def test_acknowledgement_of_an_scn_names_the_node_that_it_was_for():
    destination = text(Tag.ISCSI_NAME, NAME)
    answer = acknowledge(pack_plain(Function.SCN, 9, [destination, number(Tag.ISCSI_SCN_BITMAP, 8), destination]))
    assert answer is not None
    assert answer.payload == bytes(4) + pack([destination])


@pytest.mark.parametrize("message", [Message(1, 1, b""), Message(0x800D, 1, b""), Message(0x000D, 1, b"abcd")])
def test_what_is_no_probe_is_not_acknowledged(message):
    assert acknowledge(message) is None
