"""Task management functions that ask and change nothing; they exist in sessions that negotiated iSCSIProtocolLevel=2.

A task is in a task set from when its command is in its turn until its response is on its way, whether a unit has it or
the session does, because it waits for room or for the rest of its Data-Out.
"""

from typing import NamedTuple

from iscsi_target.iscsi.events import TaskManagementRequested
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.scsi.layouts.pages import EventInformation
from iscsi_target.scsi.status import UnitAttention
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.target.active import ActiveSession

QUERIES = (TaskManagement.QUERY_TASK, TaskManagement.QUERY_TASK_SET, TaskManagement.QUERY_ASYNCHRONOUS_EVENT)
ONE_EVENT, SEVERAL_EVENTS = 0b01, 0b10  # UADE DEPTH. Source: SAM5r21 7.10


class Answer(NamedTuple):
    """What a query comes to.

    information   the Additional Response Information, 3 bytes
    """

    response: ManagementResponse
    information: bytes = bytes(3)


NOTHING = Answer(ManagementResponse.FUNCTION_COMPLETE)


def answer(active: ActiveSession, event: TaskManagementRequested, unit: LogicalUnit) -> Answer:
    """Answers one of `QUERIES` about a unit.

    Source: RFC7144 4, SAM5r21 7.8, 7.9, 7.10
    """
    match event.function:
        case TaskManagement.QUERY_ASYNCHRONOUS_EVENT:
            return _event(active, unit)
        case TaskManagement.QUERY_TASK:
            task = active.session.tasks.get(event.referenced_task_tag)
            found = task is not None and active.unit(task.received.lun) is unit
        case _:
            found = any(active.unit(task.received.lun) is unit for task in active.session.tasks.values())
    return Answer(ManagementResponse.FUNCTION_SUCCEEDED) if found else NOTHING


def _event(active: ActiveSession, unit: LogicalUnit) -> Answer:
    pending = unit.nexuses.standing(active.nexus).attentions.pending
    if not pending:
        return NOTHING
    depth = ONE_EVENT if len(pending) == 1 else SEVERAL_EVENTS
    sense = UnitAttention(pending[0]).sense
    information = EventInformation(uade_depth=depth, sense_key=sense.key, additional_sense_code=sense.code)
    return Answer(ManagementResponse.FUNCTION_SUCCEEDED, information.pack())
