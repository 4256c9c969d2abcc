"""Text requests in full feature phase: SendTargets and negotiation, in one PDU or many, both ways.

One exchange is open at a time on a connection; a request without a target transfer tag resets the one before. An answer
that is longer than the initiator takes goes out in parts with the C bit, each fetched by an empty request. What the
initiator declares holds from the end of the exchange on, and after a reset it never does.
"""

from collections.abc import Callable

from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.errors import ProtocolError, RejectReason
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.keys import Parameters, negotiate_text
from iscsi_target.iscsi.requests import TextRequest
from iscsi_target.iscsi.responses import TextResponse
from iscsi_target.iscsi.text import REJECT, Pair, TextCollector, split

SEND_TARGETS = "SendTargets"
TRANSFER_TAG = 1  # of the one exchange that may be open; never NO_TAG

SendTargets = Callable[[Connection, str], list[Pair]]


class TextExchange:
    """Answers the text requests of one connection.

    send_targets    answers SendTargets=<value> on a connection; an empty list refuses the value
    Source: RFC7143 11.10, 11.11, Appendix C
    """

    def __init__(self, send_targets: SendTargets) -> None:
        self._send_targets = send_targets
        self._collector = TextCollector()
        self._parts: list[bytes] = []  # of an answer that is under way
        self._said: list[Pair] = []  # by the initiator, in the open exchange
        self._tag = NO_TAG  # the initiator task tag of the open exchange

    def receive(self, connection: Connection, header: TextRequest, text: bytes, parameters: Parameters) -> Parameters:
        """Takes one Text Request and queues the response; returns what holds from now on.

        raises    ProtocolError when the request belongs to no exchange or breaks the form; the exchange is reset
        """
        try:
            self._check(header)
            return self._answer(connection, header, text, parameters)
        except ProtocolError:
            self._reset(NO_TAG)
            raise

    def _check(self, header: TextRequest) -> None:
        if header.final and header.continue_:
            raise ProtocolError(RejectReason.PROTOCOL_ERROR, "a Text Request has both the F and the C bit")
        if header.initiator_task_tag == NO_TAG:
            raise ProtocolError(RejectReason.INVALID_PDU_FIELD, "a Text Request has no initiator task tag")
        if header.target_transfer_tag == NO_TAG:
            self._reset(header.initiator_task_tag)
        elif (header.target_transfer_tag, header.initiator_task_tag) != (TRANSFER_TAG, self._tag):
            raise ProtocolError(RejectReason.PROTOCOL_ERROR, "a Text Request continues an exchange that is not open")

    def _answer(self, connection: Connection, header: TextRequest, text: bytes, parameters: Parameters) -> Parameters:
        if header.continue_:
            self._collector.extend(text)
            self._send(connection, header, b"")
            return parameters
        if self._parts:
            if text:
                raise ProtocolError(RejectReason.PROTOCOL_ERROR, "text came while an answer was being fetched")
        else:
            pairs = self._settle(connection, self._collector.finish(text), parameters)
            self._parts = split(pairs, parameters.initiator_max_recv)
        part = self._parts.pop(0)
        if header.final and not self._parts:
            _, parameters = negotiate_text(parameters, self._said)
        self._send(connection, header, part, continued=bool(self._parts))
        return parameters

    def _settle(self, connection: Connection, offered: list[Pair], parameters: Parameters) -> list[Pair]:
        """Returns the answers to the initiator's pairs, SendTargets first.

        raises    ProtocolError for a key that has come before in the exchange
        Source: RFC7143 6.4
        """
        repeated = {key for key, _ in offered} & {key for key, _ in self._said}
        if repeated:
            raise ProtocolError(RejectReason.PROTOCOL_ERROR, f"{min(repeated)} comes twice in one exchange of text")
        answers: list[Pair] = []
        for key, value in offered:
            if key == SEND_TARGETS:
                answers += self._send_targets(connection, value) or [(SEND_TARGETS, REJECT)]
        negotiable = [pair for pair in offered if pair[0] != SEND_TARGETS]
        self._said += negotiable
        negotiated, _ = negotiate_text(parameters, negotiable)
        return answers + negotiated

    def _send(self, connection: Connection, header: TextRequest, text: bytes, *, continued: bool = False) -> None:
        final = header.final and not continued
        connection.send(
            TextResponse(
                final=final,
                continue_=continued,
                lun=header.lun,
                initiator_task_tag=header.initiator_task_tag,
                target_transfer_tag=NO_TAG if final else TRANSFER_TAG,
            ),
            text,
        )
        if final:
            self._reset(NO_TAG)

    def _reset(self, tag: int) -> None:
        self._collector = TextCollector()
        self._parts = []
        self._said = []
        self._tag = tag
