"""A text request of an initiator: the question in one PDU or many, the answer likewise, negotiation in between."""

from collections import deque

from iscsi_target.initiator.errors import violation
from iscsi_target.initiator.negotiation import Negotiation
from iscsi_target.iscsi import text
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.keys import Stage
from iscsi_target.iscsi.requests import TextRequest
from iscsi_target.iscsi.responses import TextResponse

MAX_LISTED = 1 << 16  # pairs of an exchange: targets and addresses of a large laboratory, many times over
MAX_LISTED_BYTES = 1 << 22  # of the same
MAX_RESPONSES = 1024  # of one exchange; an answer of that length in segments of 8 KiB, and negotiation


class TextConversation:
    """The machine of one exchange of text in full feature phase.

    pairs          what is asked or offered
    tag            the initiator task tag of all its requests
    negotiation    of the connection

    answered       all pairs of the target so far
    Source: RFC7143 11.10, 11.11
    """

    def __init__(self, pairs: list[text.Pair], tag: int, negotiation: Negotiation) -> None:
        self.tag = tag
        self.answered: list[text.Pair] = []
        self._negotiation = negotiation
        self._collector = text.TextCollector(MAX_LISTED_BYTES)
        self._unsent: deque[bytes] = deque()
        self._target_transfer_tag = NO_TAG
        self._responses = 0
        self._received_bytes = 0
        self._pairs = pairs

    def begin(self) -> None:
        """Makes the first request ready, when those of others are done; what is declared in it holds from now on."""
        self._say(self._negotiation.propose(self._pairs))

    def _say(self, pairs: list[text.Pair]) -> None:
        self._unsent.extend(text.split(pairs, self._negotiation.parameters.target_max_recv))

    def request(self) -> tuple[TextRequest, bytes]:
        """Returns the next request, still without CmdSN, and its text."""
        segment = self._unsent.popleft() if self._unsent else b""
        more = len(self._unsent) > 0
        header = TextRequest(
            final=not more,
            continue_=more,
            initiator_task_tag=self.tag,
            target_transfer_tag=self._target_transfer_tag,
        )
        return header, segment

    def receive(self, response: TextResponse, segment: bytes) -> bool:
        """Takes a response; returns True when the exchange is over, False when there is another request to send.

        raises    ProtocolError when the response cannot be
        Source: RFC7143 11.11
        """
        self._responses += 1
        if self._responses > MAX_RESPONSES:
            raise violation(f"an exchange of more than {MAX_RESPONSES} Text Responses")
        self._received_bytes += len(segment)
        if self._received_bytes > MAX_LISTED_BYTES:
            raise violation(f"an answer of more than {MAX_LISTED_BYTES} bytes")
        if response.final == (response.target_transfer_tag != NO_TAG) or (response.final and response.continue_):
            raise violation("the F and C bits of a Text Response and its tag contradict each other")
        self._target_transfer_tag = response.target_transfer_tag
        if response.continue_:
            self._collector.extend(segment)
            return False
        if self._unsent:
            if response.final or segment:
                raise violation("a Text Response answers a request that is not complete")
            return False
        pairs = text.parse_listing(self._collector.join(segment), MAX_LISTED, MAX_LISTED_BYTES)
        self.answered += pairs
        if len(self.answered) > MAX_LISTED:
            raise violation(f"an answer of more than {MAX_LISTED} pairs")
        answers = self._negotiation.receive(Stage.FULL_FEATURE, pairs)
        if response.final:
            return True
        self._say(answers)
        return False
