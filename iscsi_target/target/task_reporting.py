"""What TaskReporting adds to the end of tasks: which responses are fenced, and who is told of tasks that others end.

The standard fences the first ACA ACTIVE after an ACA condition has been established; here every one is, which keeps no
more order than is wanted and needs no memory. PREEMPT AND ABORT ends tasks of others too, but is no task management
function, so nobody is sent a message for it; its response is fenced.
"""

from collections.abc import Iterable

from iscsi_target.iscsi.connection import Connection
from iscsi_target.iscsi.parameters import FAST_ABORT
from iscsi_target.iscsi.terminations import announce_termination
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.sense_data import DescriptorSense, FixedSense
from iscsi_target.scsi.state.task import Completed, Function, ManagementRequest
from iscsi_target.scsi.status import SenseKey, Status
from iscsi_target.scsi.unit.allegiance import asks_for_allegiance, is_preempt_and_abort
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.target.active import ActiveSession

# Source: RFC7143 4.2.3.2, RFC7144 4
OF_SEVERAL_TASKS = frozenset(
    {
        Function.ABORT_TASK_SET,
        Function.CLEAR_TASK_SET,
        Function.LOGICAL_UNIT_RESET,
        Function.TARGET_RESET,
        Function.NEXUS_RESET,
    }
)
OF_ONE_NEXUS = (Function.ABORT_TASK_SET, Function.NEXUS_RESET)
OF_ENDED_TASKS = frozenset(  # what a nexus is told after one of the functions
    {
        AttentionCode.BUS_DEVICE_RESET_FUNCTION_OCCURRED,
        AttentionCode.SCSI_BUS_RESET_OCCURRED,
        AttentionCode.I_T_NEXUS_LOSS_OCCURRED,
        AttentionCode.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR,
    }
)


def is_fenced(completed: Completed) -> bool:
    """Returns True when no response may overtake that of a command.

    Source: RFC7143 4.2.2.3.4
    """
    match completed.status:
        case Status.ACA_ACTIVE:
            return True
        case Status.CHECK_CONDITION:
            return asks_for_allegiance(completed.task.cdb) or _tells_of_ended_tasks(completed.sense)
        case Status.GOOD:
            return is_preempt_and_abort(completed.task.cdb)
        case _:
            return False


def _tells_of_ended_tasks(sense: bytes) -> bool:
    found: DescriptorSense | FixedSense = DescriptorSense.unpack(sense)
    if found.response_code != DescriptorSense.default("response_code"):
        found = FixedSense.unpack(sense)
    return found.sense_key == SenseKey.UNIT_ATTENTION and found.additional_sense_code in OF_ENDED_TASKS


def announce_terminations(
    sessions: Iterable[ActiveSession], asking: Connection, units: Iterable[LogicalUnit], request: ManagementRequest
) -> None:
    """Tells of the tasks that a function is about to end, where FastAbort was negotiated: once on each connection.

    sessions   that may have such tasks
    asking     the connection that the function came on, whose initiator knows
    units      that it is for
    request    what it asks of each of them
    Source: RFC7143 4.2.3.4, 4.2.3.5
    """
    if request.function not in OF_SEVERAL_TASKS:
        return
    concerned = list(units)
    for active in sessions:
        if active.ending or active.session.parameters.task_reporting != FAST_ABORT:
            continue
        for (connection, lun), tags in _affected(active, concerned, request).items():
            if connection is not asking:
                announce_termination(active.session, connection, lun, tags)


def _affected(
    active: ActiveSession, units: Iterable[LogicalUnit], request: ManagementRequest
) -> dict[tuple[Connection, bytes], list[int]]:
    """Returns the tags of the tasks of a session that a function ends, by their connection and LUN."""
    own = active.nexus == request.nexus
    reached = {
        unit for unit in units if own or not (request.function in OF_ONE_NEXUS or _separates(unit, request.function))
    }
    found: dict[tuple[Connection, bytes], list[int]] = {}
    for tag, (_, unit) in active.tasks.items():
        task = active.session.tasks.get(tag)
        if task is not None and unit in reached and not (own and tag in request.spared):
            found.setdefault((task.connection, task.received.lun), []).append(tag)
    return found


def _separates(unit: LogicalUnit, function: Function) -> bool:
    return function is Function.CLEAR_TASK_SET and unit.device.modes.separates_task_sets
