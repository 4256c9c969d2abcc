"""What a target tells an initiator that is to leave: Asynchronous Messages.

Source: RFC7143 11.9
"""

from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.responses import AsyncMessage
from iscsi_target.iscsi.session import Session

LOGOUT_REQUESTED, CONNECTION_DROPPED, SESSION_DROPPED = 1, 2, 3  # RFC7143 11.9.1


def request_logout(connection: Connection, seconds: int) -> None:
    """Asks the initiator to log out on a connection.

    seconds    how long it has
    Source: RFC7143 11.9.1
    """
    connection.send(AsyncMessage(async_event=LOGOUT_REQUESTED, parameter3=seconds))


def announce_drop(session: Session, connection: Connection, *, whole: bool) -> None:
    """Tells on a connection that it is about to be closed, and how the initiator may come back.

    whole    True when all connections of the session are
    Source: RFC7143 11.9.1
    """
    connection.send(
        AsyncMessage(
            async_event=SESSION_DROPPED if whole else CONNECTION_DROPPED,
            parameter1=0 if whole else connection.cid,
            parameter2=session.parameters.default_time2wait,
            parameter3=session.parameters.default_time2retain,
        )
    )


def announce_loss(session: Session, connection: Connection, lost: Connection) -> None:
    """Tells on a connection that another one is gone, and how long its tasks may be taken elsewhere.

    Source: RFC7143 7.1.4.3, 11.9.1
    """
    connection.send(
        AsyncMessage(
            async_event=CONNECTION_DROPPED,
            parameter1=lost.cid,
            parameter2=session.parameters.default_time2wait,
            parameter3=session.parameters.default_time2retain,
        )
    )
