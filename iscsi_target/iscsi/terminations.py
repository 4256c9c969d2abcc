"""What a target tells an initiator whose tasks are being ended by someone else: an Asynchronous Message.

It goes out before the tasks are ended and before anything else comes in, so what the initiator has been asked for when
it reads it is of the ended tasks only. Its answer, a NOP-Out, has nothing left to do: a target transfer tag that was
given out is known for ever, and costs nothing.

Source: RFC7143 4.2.3.4, 11.9.1
"""

from collections.abc import Collection

from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.open_task import OpenTask
from iscsi_target.iscsi.responses import AsyncMessage
from iscsi_target.iscsi.session import Session

TASKS_TERMINATED = 5  # RFC7143 11.9.1


def announce_termination(session: Session, connection: Connection, lun: bytes, tags: Collection[int]) -> None:
    """Tells on a connection that all tasks for a LUN are being ended, and expects no more of their data there.

    lun     8 bytes, as in the commands
    tags    of the tasks
    Source: RFC7143 11.9.1
    """
    connection.send(AsyncMessage(async_event=TASKS_TERMINATED, lun=lun))
    for tag, task in list(session.tasks.items()):
        is_its = task.connection is connection and task.received.lun == lun
        if is_its and not task.transfer.quiet and (tag in tags or task.response is not None):
            _stop_data_out(session, tag, task)


def _stop_data_out(session: Session, tag: int, task: OpenTask) -> None:
    """Expects no more data of a task; what still comes is swallowed, and a response that waits for it goes out."""
    session.swallow(tag)
    task.transfer.abandon()
    task.collecting = False
    if task.response is not None:
        session.finish(tag, task, task.response)
