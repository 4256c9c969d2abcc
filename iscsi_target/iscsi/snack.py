"""SNACK requests: what an initiator has missed is sent again, and what it has is forgotten.

Source: RFC7143 11.16
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.errors import ProtocolError, RejectReason
from iscsi_target.iscsi.requests import SnackRequest
from iscsi_target.iscsi.responses import ReadyToTransfer
from iscsi_target.iscsi.retention import DATA_ACK, DATA_OR_R2T, R_DATA, STATUS, Retention, Sent

MAX_QUEUED_BUFFERS = 4096  # behind which nothing is sent again: many small SNACKs must not ask for a lot at once

if TYPE_CHECKING:  # a session answers by this
    from iscsi_target.iscsi.session import Session


def answer(session: "Session", connection: Connection, request: SnackRequest) -> None:
    """Does what a SNACK asks for.

    raises    ProtocolError when it cannot be done, or nothing is ever sent again at ErrorRecoveryLevel 0
    Source: RFC7143 11.16
    """
    if connection.retention is None:
        raise _refused(f"SNACK of type {request.kind} came at ErrorRecoveryLevel 0")
    if request.kind != DATA_ACK and (connection.full or connection.queued > MAX_QUEUED_BUFFERS):
        raise _refused("too much is to be sent before it")
    if request.kind not in _ANSWERS:
        raise ProtocolError(RejectReason.INVALID_PDU_FIELD, f"there is no SNACK of type {request.kind}")
    _ANSWERS[request.kind](session, connection, connection.retention, request)


def _statuses(_session: "Session", connection: Connection, kept: Retention, request: SnackRequest) -> None:
    found = kept.statuses(request.begin_run, request.run_length)
    if found is None:
        raise _refused(f"StatSN {request.begin_run} and the {request.run_length} from there on are not kept")
    _send(connection, found)


def _data(session: "Session", connection: Connection, kept: Retention, request: SnackRequest) -> None:
    tag = request.initiator_task_tag
    found = kept.data(tag, request.begin_run, length=request.run_length)
    if found is None:
        raise _refused(f"DataSN {request.begin_run} and the {request.run_length} from there on are not kept")
    if any(len(sent.data) > connection.parameters.initiator_max_recv for sent in found):
        raise _refused("Data-In would be longer than the initiator takes now: it needs an R-Data SNACK")
    task = session.tasks.get(tag)
    _send(
        connection,
        [
            sent
            for sent in found
            if not isinstance(sent.header, ReadyToTransfer)
            or (task is not None and task.transfer.expects(sent.header.target_transfer_tag))
        ],
    )


def _data_again(_session: "Session", connection: Connection, kept: Retention, request: SnackRequest) -> None:
    parameters, tag = connection.parameters, request.initiator_task_tag
    if request.begin_run or request.run_length:
        raise ProtocolError(RejectReason.INVALID_PDU_FIELD, "an R-Data SNACK asks for a part of the data")
    found = kept.cut_again(
        tag,
        request.target_transfer_tag,
        burst=parameters.max_burst_length,
        segment=parameters.initiator_max_recv,
    )
    if found is None:
        raise _refused(f"the Data-In of task {tag:#x} is not kept")
    _send(connection, found)


def _data_ack(_session: "Session", _connection: Connection, kept: Retention, request: SnackRequest) -> None:
    """Takes an acknowledgement; Data-In asks for one under the task's own tag."""
    if not kept.acknowledge_data(request.target_transfer_tag, request.begin_run):
        raise ProtocolError(RejectReason.INVALID_DATA_ACK, f"DataSN {request.begin_run} has not been reached")


def _send(connection: Connection, found: list[Sent]) -> None:
    for sent in found:
        connection.send_again(sent.header, sent.data)


def _refused(text: str) -> ProtocolError:
    return ProtocolError(RejectReason.SNACK_REJECT, text)


_Answer = Callable[["Session", Connection, Retention, SnackRequest], None]
_ANSWERS: Mapping[int, _Answer] = {DATA_OR_R2T: _data, STATUS: _statuses, DATA_ACK: _data_ack, R_DATA: _data_again}
