"""The requests of a session that are no SCSI: pings, text, logout and SNACK.

Each function takes a PDU that is in its turn, queues what answers it, and returns what the target must know.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from iscsi_target.iscsi import snack
from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.errors import ProtocolError, RejectReason
from iscsi_target.iscsi.events import Event, LogoutRequested
from iscsi_target.iscsi.framing import RawPdu
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.requests import LogoutRequest, NopOut, SnackRequest, TextRequest
from iscsi_target.iscsi.responses import NopIn

if TYPE_CHECKING:  # a session has these functions in its tables
    from iscsi_target.iscsi.session import Session

LOGOUT_SESSION, LOGOUT_CONNECTION, LOGOUT_RECOVERY = 0, 1, 2  # RFC7143 11.14.1
LOGOUT_DONE, LOGOUT_CID_NOT_FOUND, LOGOUT_RECOVERY_NOT_SUPPORTED = 0, 1, 2  # RFC7143 11.15.1


def nop_out(session: "Session", connection: Connection, pdu: RawPdu) -> Iterable[Event]:
    """Answers a ping, unless it is itself an answer.

    Source: RFC7143 11.18, 11.19.3
    """
    header = pdu.basic
    assert isinstance(header, NopOut)
    if header.initiator_task_tag != NO_TAG:
        reply = NopIn(initiator_task_tag=header.initiator_task_tag)
        connection.send(reply, bytes(pdu.data[: connection.parameters.initiator_max_recv]))
    return ()


def text_request(session: "Session", connection: Connection, pdu: RawPdu) -> Iterable[Event]:
    """Takes a part of an exchange of text, which may change what is negotiated.

    raises    ProtocolError
    Source: RFC7143 11.10
    """
    request = pdu.basic
    assert isinstance(request, TextRequest)
    connection.agree(session.text(connection).receive(connection, request, bytes(pdu.data), connection.parameters))
    return ()


def logout_request(session: "Session", connection: Connection, pdu: RawPdu) -> Iterable[Event]:
    """Tells of a logout, or answers one that cannot be.

    raises    ProtocolError for a reserved reason
    Source: RFC7143 11.14
    """
    header = pdu.basic
    assert isinstance(header, LogoutRequest)
    tag = header.initiator_task_tag
    reason, lost = header.reason_code, session.lost
    if reason == LOGOUT_SESSION:
        return (LogoutRequested(connection, tag, None),)
    if reason not in (LOGOUT_CONNECTION, LOGOUT_RECOVERY):
        raise ProtocolError(RejectReason.INVALID_PDU_FIELD, f"logout reason {reason} is reserved")
    if reason == LOGOUT_RECOVERY and lost is None:
        session.respond_logout(connection, tag, response=LOGOUT_RECOVERY_NOT_SUPPORTED)
        return ()
    leaving = session.connections.get(header.cid)
    if leaving is None and lost is not None:
        leaving = lost.of_cid(header.cid)
    if leaving is None:
        session.respond_logout(connection, tag, response=LOGOUT_CID_NOT_FOUND)
        return ()
    return (LogoutRequested(connection, tag, leaving, reason == LOGOUT_RECOVERY),)


def snack_request(session: "Session", connection: Connection, pdu: RawPdu) -> Iterable[Event]:
    """Sends again what is asked for.

    raises    ProtocolError when that cannot be
    Source: RFC7143 11.16
    """
    header = pdu.basic
    assert isinstance(header, SnackRequest)
    snack.answer(session, connection, header)
    return ()


def unknown(_session: "Session", _connection: Connection, pdu: RawPdu) -> Iterable[Event]:
    """Refuses what has no place in a session.

    raises    ProtocolError
    Source: RFC7143 11.17.1
    """
    reason = f"opcode {pdu.basic.opcode:#x} has no place in this session"
    raise ProtocolError(RejectReason.COMMAND_NOT_SUPPORTED, reason)
