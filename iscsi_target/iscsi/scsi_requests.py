"""The requests of a session that are SCSI: commands, their Data-Out, task management functions.

Each function takes a PDU that is in its turn and returns what the target must know. Data that breaks the rules of a
transfer is the end of one task: it surfaces as `DataOutFailed`, and what the initiator still owes is swallowed.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from iscsi_target.iscsi.ahs import unpack_additional_headers
from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.errors import ProtocolError, RejectReason
from iscsi_target.iscsi.events import (
    CommandReceived,
    DataOutCompleted,
    DataOutFailed,
    Event,
    TaskManagementRequested,
)
from iscsi_target.iscsi.framing import RawPdu
from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.numbering import WINDOW_COMMANDS
from iscsi_target.iscsi.open_task import OpenTask
from iscsi_target.iscsi.parameters import SAM_5_LEVEL
from iscsi_target.iscsi.requests import DataOut, ScsiCommand, TaskManagementRequest
from iscsi_target.iscsi.transfer import (
    NO_DATA_OUT,
    DataLost,
    DataOutTransfer,
    TransferFailed,
    UnexpectedUnsolicitedData,
    check_unsolicited,
)

if TYPE_CHECKING:  # a session has these functions in its tables
    from iscsi_target.iscsi.session import Session

MAX_IMMEDIATE_TASKS = 16  # immediate commands are outside the window: no more than these above it
MAX_FUNCTIONS = 16  # task management functions that are not answered yet; ESXi repeats one four times

LAST_ATTRIBUTE = 4  # RFC7143 11.3.1.1: ACA; 5 to 7 are reserved


def scsi_command(session: "Session", connection: Connection, pdu: RawPdu) -> Iterable[Event]:
    """Takes a command, with as much of its Data-Out as came with it.

    raises    ProtocolError for one that cannot become a task
    Source: RFC7143 11.3
    """
    header = pdu.basic
    assert isinstance(header, ScsiCommand)
    immediate, _, final, read, write, attributes, priority, _, _, lun, tag, expected, cmd_sn, _, cdb = header
    if tag in session.tasks or tag == NO_TAG or immediate or attributes > LAST_ATTRIBUTE:
        _check_command(session, header)
    place = None if immediate else cmd_sn
    read_length = 0
    if pdu.additional:
        headers = unpack_additional_headers(pdu.additional)
        cdb, read_length = cdb + headers.extended_cdb, headers.expected_read_length or 0
    if priority and session.parameters.protocol_level < SAM_5_LEVEL:
        priority = 0
    about = connection, read, write, read_length if write else expected, place, priority
    if write:
        return _with_data(session, pdu, header, CommandReceived(tag, lun, cdb, attributes, expected, None, *about))
    command = CommandReceived(tag, lun, cdb, attributes, 0, b"", *about)
    if pdu.data or not final:
        return _with_data(session, pdu, header, command)
    if session.parking.is_clear(command) or session.open(command):
        return (command,)
    return ()


def _check_command(session: "Session", header: ScsiCommand) -> None:
    """Raises ProtocolError for a command that cannot become a task."""
    tag = header.initiator_task_tag
    if tag == NO_TAG:
        raise ProtocolError(RejectReason.INVALID_PDU_FIELD, "a SCSI Command has no initiator task tag")
    if tag in session.tasks:
        raise ProtocolError(RejectReason.TASK_IN_PROGRESS, f"initiator task tag {tag:#x} is in use")
    if header.immediate and len(session.tasks) >= WINDOW_COMMANDS + MAX_IMMEDIATE_TASKS:
        raise ProtocolError(RejectReason.IMMEDIATE_COMMAND_REJECT, "too many immediate commands")
    if header.attributes > LAST_ATTRIBUTE:
        raise ProtocolError(RejectReason.INVALID_PDU_FIELD, f"task attribute {header.attributes} is reserved")


def _with_data(session: "Session", pdu: RawPdu, header: ScsiCommand, command: CommandReceived) -> Iterable[Event]:
    """Takes a command that has Data-Out, some of which may have come with it."""
    tag, immediate, expected = command.tag, len(pdu.data), command.expected
    try:
        check_unsolicited(header, immediate, session.parameters)
    except UnexpectedUnsolicitedData as error:
        transfer = NO_DATA_OUT if header.final else _transfer(session, header, expected, immediate)
        transfer.fail()
        session.tasks[tag] = OpenTask(command, transfer)
        return (DataOutFailed(tag, error.condition),)
    if header.final and immediate == expected:
        command.data = pdu.data if pdu.lasting else bytes(pdu.data)
        return (command,) if session.parking.is_clear(command) or session.open(command) else ()
    task = session.tasks[tag] = OpenTask(command, _transfer(session, header, expected, immediate), pdu.data)
    if session.parking.admits(command, task):
        return (command,)
    task.transfer.want(expected, task.take_immediate())
    return ()


def _transfer(session: "Session", header: ScsiCommand, expected: int, immediate: int) -> DataOutTransfer:
    burst = min(session.parameters.first_burst_length, expected)
    unsolicited = 0 if header.final else max(0, burst - immediate)
    return session.collector(session.ordering, expected, immediate=immediate, unsolicited=unsolicited)


def data_out(session: "Session", connection: Connection, pdu: RawPdu) -> Iterable[Event]:
    """Takes Data-Out of a task; what comes for one that is gone is swallowed.

    raises    ProtocolError when nobody asked for it, or it came on another connection than its command
    Source: RFC7143 4.2.5.1, 11.7
    """
    header = pdu.basic
    assert isinstance(header, DataOut)
    tag = header.initiator_task_tag
    task = session.tasks.get(tag)
    awaited = task is not None and task.transfer.expects(header.target_transfer_tag)
    if task is None or not awaited or task.connection is not connection:
        if session.early.keep_data_out(connection, pdu, header):
            return ()
        strays = awaited and header.target_transfer_tag != NO_TAG
        if strays or not session.is_late(header):
            raise ProtocolError(RejectReason.PROTOCOL_ERROR, "Data-Out came that was not asked for")
        return ()
    try:
        task.transfer.receive(header, pdu.data)
    except TransferFailed as error:
        task.collecting = False
        return _fail(session, tag, task, error)
    return go_on(session, tag, task)


def data_out_damaged(session: "Session", connection: Connection, header: DataOut) -> Iterable[Event]:
    """Takes it that a task has lost a Data-Out PDU, which is asked for again, or ends the task after too many of them.

    Source: RFC7143 7.8
    """
    tag = header.initiator_task_tag
    task = session.tasks.get(tag)
    if task is None:
        if header.target_transfer_tag == NO_TAG:
            session.early.forget(connection, tag)
        return ()
    if task.connection is not connection or not task.transfer.expects(header.target_transfer_tag):
        return ()
    error = DataLost("the data digest of a Data-Out PDU is wrong")
    if not task.transfer.lose(header):
        return go_on(session, tag, task)
    task.collecting = False
    return _fail(session, tag, task, error)


def _fail(session: "Session", tag: int, task: OpenTask, error: TransferFailed) -> Iterator[Event]:
    yield DataOutFailed(tag, error.condition)
    yield from go_on(session, tag, task)


def go_on(session: "Session", tag: int, task: OpenTask) -> Iterable[Event]:
    """Does what a Data-Out PDU made possible: the held response, the data's completion, or the next R2T."""
    if task.response is not None:
        if task.transfer.quiet:
            session.finish(tag, task, task.response)
    elif task.collecting and task.transfer.whole:
        task.collecting = False
        return (DataOutCompleted(tag, task.transfer.data),)
    elif task.collecting:
        session.solicit(task)
    return ()


def task_management_request(session: "Session", connection: Connection, pdu: RawPdu) -> Iterable[Event]:
    """Tells of a task management function.

    raises    ProtocolError when too many are not answered yet
    Source: RFC7143 11.5
    """
    header = pdu.basic
    assert isinstance(header, TaskManagementRequest)
    if session.functions >= MAX_FUNCTIONS:
        reason = RejectReason.IMMEDIATE_COMMAND_REJECT if header.immediate else RejectReason.LONG_OPERATION_REJECT
        raise ProtocolError(reason, f"{MAX_FUNCTIONS} task management functions are not answered yet")
    session.functions += 1
    requested = TaskManagementRequested(
        connection,
        header.initiator_task_tag,
        header.function,
        header.lun,
        header.referenced_task_tag,
        header.ref_cmd_sn,
        header.cmd_sn,
    )
    return (requested,)
