"""Frames messages: a message is cut into PDUs with a header each, and put together again from a stream or a datagram.

Knows nothing of what is in a message but its function. Authentication blocks are not supported: a stream that has one
cannot be followed further, so it ends there.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from iscsi_target.wire.layout import B4, B6, U16, Bit, Layout

VERSION: Final = 1
MAX_PAYLOAD_BYTES: Final = 65532  # of a PDU: what two bytes can say in whole words; RFC4171 5.1.3
MAX_MESSAGE_BYTES: Final = 4 << 20  # of all PDUs together; ours, some ten thousand objects


class PduHeader(Layout):
    """What every PDU begins with.

    Source: RFC4171 5.1
    """

    isnsp_version: U16 = VERSION
    function_id: U16
    pdu_length: U16
    from_client: Bit = False
    from_server: Bit = False
    authentication_block: Bit = False
    replaces: Bit = False
    last_pdu: Bit = True
    first_pdu: Bit = True
    _reserved_1: B4 = 0
    _reserved_2: B6 = 0
    transaction_id: U16
    sequence_id: U16 = 0


class Message(NamedTuple):
    """A message, of however many PDUs.

    function_id       a request's, or with its highest bit set that of the answer
    transaction_id    the same in a request and its answer
    payload           what follows the headers
    replace           of a registration: what the key names goes first
    """

    function_id: int
    transaction_id: int
    payload: bytes
    replace: bool = False


class FramingError(ValueError):
    """Says that a peer's bytes are no PDUs of this protocol; nothing that follows them can be understood."""


def pack(message: Message, *, from_server: bool = False) -> bytes:
    """Returns the PDUs of a message.

    from_server    whether the sender is the server; else it is a client
    Source: RFC4171 5.1
    """
    payload = message.payload
    pieces = [payload[at : at + MAX_PAYLOAD_BYTES] for at in range(0, len(payload), MAX_PAYLOAD_BYTES)] or [b""]
    return b"".join(
        PduHeader(
            function_id=message.function_id,
            pdu_length=len(piece),
            from_client=not from_server,
            from_server=from_server,
            replaces=message.replace,
            last_pdu=number == len(pieces) - 1,
            first_pdu=number == 0,
            transaction_id=message.transaction_id,
            sequence_id=number,
        ).pack()
        + piece
        for number, piece in enumerate(pieces)
    )


class MessageReader:
    """Puts messages together from bytes in any pieces.

    max_bytes    of the payload of a message
    """

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._begun: PduHeader | None = None  # the header that the next PDU has to go on from
        self._payload = bytearray()

    def feed(self, received: bytes) -> Iterator[Message]:
        """Yields the messages that are complete; the rest waits for more.

        raises    FramingError; the reader is of no use then
        """
        self._buffer += received
        while len(self._buffer) >= PduHeader.size:
            header = PduHeader.unpack(self._buffer)
            self._check(header)
            end = PduHeader.size + header.pdu_length
            if len(self._buffer) < end:
                return
            self._payload += self._buffer[PduHeader.size : end]
            del self._buffer[:end]
            self._begun = header
            if header.last_pdu:
                payload = bytes(self._payload)
                self._payload.clear()
                self._begun = None
                yield Message(header.function_id, header.transaction_id, payload, header.replaces)

    def _check(self, header: PduHeader) -> None:
        if header.isnsp_version != VERSION:
            raise FramingError(f"iSNSP version {header.isnsp_version}, where {VERSION} is the only one")
        if header.authentication_block:
            raise FramingError("an authentication block, which is not supported")
        if header.pdu_length % 4:
            raise FramingError(f"a PDU of {header.pdu_length} bytes, which are no whole words")
        if len(self._payload) + header.pdu_length > self._max_bytes:
            raise FramingError(f"a message of more than {self._max_bytes} bytes")
        begun = self._begun
        if header.first_pdu != (begun is None):
            raise FramingError("a PDU that does not follow the one before it")
        if begun is not None and (header.function_id, header.transaction_id, header.sequence_id) != (
            begun.function_id,
            begun.transaction_id,
            begun.sequence_id + 1,
        ):
            raise FramingError("a PDU of another message in the middle of one")


def unpack_datagram(datagram: bytes) -> Message:
    """Returns the message that a datagram is.

    raises    FramingError when it is not one whole message
    Source: RFC4171 5.1
    """
    messages = list(MessageReader(len(datagram)).feed(datagram))
    if len(messages) != 1 or pack(messages[0])[PduHeader.size :] != datagram[PduHeader.size :]:
        raise FramingError("a datagram that is not one message")
    return messages[0]
