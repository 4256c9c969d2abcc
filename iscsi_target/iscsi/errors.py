"""The two ways in which an initiator's bytes are refused: `ProtocolError` and `LoginRefused`.

Both carry the facts that the answer needs and a sentence for a person. The session catches them and decides
whether the answer is a Reject, a Login Response or a closed connection; nothing here knows connections.
"""

from enum import IntEnum


class RejectReason(IntEnum):
    """Names the reason codes of a Reject PDU.

    Source: RFC7143 11.17.1
    """

    DATA_DIGEST_ERROR = 0x02
    SNACK_REJECT = 0x03
    PROTOCOL_ERROR = 0x04
    COMMAND_NOT_SUPPORTED = 0x05
    IMMEDIATE_COMMAND_REJECT = 0x06
    TASK_IN_PROGRESS = 0x07
    INVALID_DATA_ACK = 0x08
    INVALID_PDU_FIELD = 0x09
    LONG_OPERATION_REJECT = 0x0A
    WAITING_FOR_LOGOUT = 0x0C


class ProtocolError(Exception):
    """Says that the initiator broke a rule of RFC 7143 outside the refusals that a login has codes for.

    reason    what a Reject PDU would carry
    text      what is wrong, for a person
    Source: RFC7143 7.7, 7.13, 11.17.1
    """

    def __init__(self, reason: RejectReason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


class LoginRefused(Exception):
    """Says that a login ends with a Login Response of this status and a closed connection.

    status_class     1 redirection, 2 initiator error, 3 target error
    status_detail    the code within the class
    reason           what is wrong, for a person; holds no secret
    address          where a target has moved to; otherwise empty
    Source: RFC7143 11.13.5
    """

    def __init__(self, status_class: int, status_detail: int, *, reason: str, address: str = "") -> None:
        super().__init__(reason)
        self.status_class = status_class
        self.status_detail = status_detail
        self.reason = reason
        self.address = address


class LoginStatus(IntEnum):
    """Names the login statuses, class in the high byte and detail in the low byte.

    Source: RFC7143 11.13.5
    """

    SUCCESS = 0x0000
    TARGET_MOVED_TEMPORARILY = 0x0101
    TARGET_MOVED_PERMANENTLY = 0x0102
    INITIATOR_ERROR = 0x0200
    AUTHENTICATION_FAILURE = 0x0201
    AUTHORIZATION_FAILURE = 0x0202
    TARGET_NOT_FOUND = 0x0203
    TARGET_REMOVED = 0x0204
    UNSUPPORTED_VERSION = 0x0205
    TOO_MANY_CONNECTIONS = 0x0206
    MISSING_PARAMETER = 0x0207
    CANNOT_INCLUDE_IN_SESSION = 0x0208
    SESSION_TYPE_NOT_SUPPORTED = 0x0209
    SESSION_DOES_NOT_EXIST = 0x020A
    INVALID_DURING_LOGIN = 0x020B
    TARGET_ERROR = 0x0300
    SERVICE_UNAVAILABLE = 0x0301
    OUT_OF_RESOURCES = 0x0302

    def refusal(self, reason: str, address: str = "") -> LoginRefused:
        """Makes the exception that ends a login with this status.

        reason    what is wrong, for a person; holds no secret
        address   where a target has moved to, "host:port"
        returns   the exception, to be raised by the caller
        Source: RFC7143 11.13.5
        """
        status_class, status_detail = divmod(self.value, 0x100)
        return LoginRefused(status_class, status_detail, reason=reason, address=address)


class StreamLost(ProtocolError):
    """Says that nothing more can be understood or trusted on this connection, which closes.

    At ErrorRecoveryLevel 0 digest errors are of this kind.

    header    the 48 bytes that a Reject is to return before; when they cannot be trusted, empty, and there is no Reject
    Source: RFC7143 7.1.5, 7.8, 7.13
    """

    def __init__(self, reason: RejectReason, text: str, header: bytes = b"") -> None:
        super().__init__(reason, text)
        self.header = header
