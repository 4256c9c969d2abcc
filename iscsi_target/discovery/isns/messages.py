"""The form of messages: which attributes stand where in a request, an answer, a probe and a notification.

What they mean is the business of who gets them.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum, IntFlag
from itertools import takewhile
from typing import Final, NamedTuple

from iscsi_target.discovery.isns import attributes
from iscsi_target.discovery.isns.attributes import DELIMITER, Attribute, Tag, Word
from iscsi_target.discovery.isns.faults import Refused, Status
from iscsi_target.discovery.isns.pdu import Message

ANSWER: Final = 0x8000  # added to a request's function


class Function(IntEnum):
    """What a message asks for.

    Source: RFC4171 5.1.2
    """

    DEV_ATTR_REG = 0x0001
    DEV_ATTR_QRY = 0x0002
    DEV_GET_NEXT = 0x0003
    DEV_DEREG = 0x0004
    SCN_REG = 0x0005
    SCN_DEREG = 0x0006
    SCN_EVENT = 0x0007
    SCN = 0x0008
    DD_REG = 0x0009
    DD_DEREG = 0x000A
    DDS_REG = 0x000B
    DDS_DEREG = 0x000C
    ESI = 0x000D


class NodeType(IntFlag):
    """What a storage node is.

    Source: RFC4171 6.4.2
    """

    TARGET = 1
    INITIATOR = 2
    CONTROL = 4


class Scn(IntFlag):
    """What a node wants to be notified of, and of what it is.

    Source: RFC4171 6.4.4
    """

    DD_MEMBER_ADDED = 1
    DD_MEMBER_REMOVED = 2
    OBJECT_UPDATED = 4
    OBJECT_ADDED = 8
    OBJECT_REMOVED = 16
    MANAGEMENT = 32
    TARGET_AND_SELF_ONLY = 64
    INITIATOR_AND_SELF_ONLY = 128


class Request(NamedTuple):
    """A request of a client.

    source       the iSCSI name of the node that asks
    key          which object it is about
    operating    what is to be registered, wanted or removed
    Source: RFC4171 5.6
    """

    function: Function
    source: str
    key: tuple[Attribute, ...] = ()
    operating: tuple[Attribute, ...] = ()
    replace: bool = False


class Answer(NamedTuple):
    """What a server answers.

    Source: RFC4171 5.7
    """

    status: int
    key: tuple[Attribute, ...] = ()
    operating: tuple[Attribute, ...] = ()


def pack_request(request: Request, transaction_id: int) -> Message:
    """Returns a request as a message."""
    source = attributes.text(Tag.ISCSI_NAME, request.source)
    payload = attributes.pack((source, *request.key, DELIMITER, *request.operating))
    return Message(request.function, transaction_id, payload, request.replace)


def unpack_request(message: Message) -> Request:
    """Reads a request.

    raises    Refused when it has not the form of one
    Source: RFC4171 5.6.1
    """
    if message.function_id not in set(Function):
        raise Refused(Status.MESSAGE_NOT_SUPPORTED, f"function {message.function_id:#06x}")
    source, *rest = attributes.unpack(message.payload) if message.payload else (DELIMITER,)
    if source.tag != Tag.ISCSI_NAME or not source.value:
        raise Refused(Status.SOURCE_ABSENT, "no iSCSI name of the source")
    key, operating = _parted(rest)
    name = attributes.read_text(source.value, attributes.MAX_NAME_BYTES).lower()
    return Request(Function(message.function_id), name, key, operating, message.replace)


def pack_answer(answer: Answer, request: Message) -> Message:
    """Returns the answer to a request as a message; one that refuses has nothing but the status."""
    payload = Word(number=answer.status).pack()
    if answer.key or answer.operating:
        payload += attributes.pack((*answer.key, DELIMITER, *answer.operating))
    return Message(request.function_id | ANSWER, request.transaction_id, payload)


def unpack_answer(message: Message) -> Answer:
    """Reads an answer; raises Refused when it has not the form of one."""
    if len(message.payload) < Word.size:
        raise Refused(Status.MESSAGE_FORMAT_ERROR, "an answer without a status")
    key, operating = _parted(list(attributes.unpack(message.payload, Word.size)))
    return Answer(Word.unpack(message.payload).number, key, operating)


def _parted(found: Sequence[Attribute]) -> tuple[tuple[Attribute, ...], tuple[Attribute, ...]]:
    """Returns what stands before the delimiter, and what after it."""
    key = tuple(takewhile(lambda attribute: attribute.tag != Tag.DELIMITER, found))
    return key, tuple(found[len(key) + 1 :])


def pack_plain(function: Function, transaction_id: int, content: Iterable[Attribute]) -> Message:
    """Returns a message of the server to a client: an ESI or an SCN, which have no source and no delimiter.

    Source: RFC4171 5.6.5.8, 5.6.5.13
    """
    return Message(function, transaction_id, attributes.pack(content))


def acknowledge(message: Message) -> Message | None:
    """Returns a client's answer to an ESI or SCN; None for what is neither, or has not their form.

    An ESI comes back as it is; of an SCN, the node that it was for.

    Source: RFC4171 5.7.5.8, 5.7.5.13
    """
    if message.function_id not in (Function.ESI, Function.SCN):
        return None
    try:
        content = tuple(attributes.unpack(message.payload))
    except Refused:
        return None
    if message.function_id == Function.SCN:
        content = content[:1]
    payload = Word(number=Status.SUCCESSFUL).pack() + attributes.pack(content)
    return Message(message.function_id | ANSWER, message.transaction_id, payload)
