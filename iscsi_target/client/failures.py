"""Why something that a program asked of a session did not come about."""

from iscsi_target.client.outcome import Outcome
from iscsi_target.scsi.status import SenseKey, Status


class ClientError(Exception):
    """The base of all failures here."""


class NotLoggedIn(ClientError):
    """Says that a login failed.

    status    class in the high byte, detail in the low one; 0 when it was not the target that refused
    Source: RFC7143 11.13.5
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class QueryRefused(ClientError):
    """Says that an iSNS server does not answer a query.

    status    as in RFC4171 5.4; 0 when it is no answer
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class SessionEnded(ClientError):
    """Says that the session is over, so that a request will not be answered."""


class Aborted(ClientError):
    """Says that a task management function of the session has ended the command."""


class Rejected(ClientError):
    """Says that the target rejected the PDU of a request.

    reason    as in RFC7143 11.17.1
    header    the 48 bytes that were rejected
    """

    def __init__(self, reason: int, header: bytes) -> None:
        super().__init__(f"the target rejected the request, reason {reason:#04x}")
        self.reason = reason
        self.header = header


class CommandFailed(ClientError):
    """Says that a command of the view of a disk did not end with GOOD, or with less than was asked for.

    outcome    what it ended with
    lacking    what is missing, where that is not GOOD
    """

    def __init__(self, command: str, outcome: Outcome, lacking: str = "") -> None:
        status = outcome.status.name if isinstance(outcome.status, Status) else f"status {outcome.status:#04x}"
        super().__init__(f"{command}: {status}{_sense(outcome)}{lacking and f', {lacking}'}")
        self.outcome = outcome


def _sense(outcome: Outcome) -> str:
    if not outcome.sense:
        return ""
    key = outcome.sense_key
    name = key.name if isinstance(key, SenseKey) else f"sense key {key:#x}"
    return f", {name} {outcome.additional_sense_code:04x}h"
