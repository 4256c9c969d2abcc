"""What a target did wrong, as the exception that ends its connection.

At ErrorRecoveryLevel 0 nothing else can be done about it. It is the `ProtocolError` that text and framing raise, so
that there is one place that catches them all: the connection.
"""

from iscsi_target.iscsi.errors import LoginRefused, LoginStatus, ProtocolError, RejectReason


def violation(text: str) -> ProtocolError:
    """Makes the exception that says that a target broke a rule.

    text    what is wrong, for a person
    Source: RFC7143 7.13
    """
    return ProtocolError(RejectReason.PROTOCOL_ERROR, text)


class LoginRejected(LoginRefused):
    """Says that the target's Login Response refused or redirected the login.

    address    where the target is now, "host[:port][,tag]"; empty unless the status redirects
    Source: RFC7143 11.13.5
    """

    def __init__(self, status_class: int, status_detail: int, address: str) -> None:
        code = status_class * 0x100 + status_detail
        name = f", {LoginStatus(code).name}" if code in set(LoginStatus) else ""
        super().__init__(status_class, status_detail, reason=f"login status {code:04x}h{name}", address=address)
