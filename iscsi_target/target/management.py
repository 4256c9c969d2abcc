"""Waiting for aborted tasks: a step that follows when every logical unit concerned has reported that they are over."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count

from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.scsi.state.task import Function, Managed, ManagementRequest, UnitAction
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.target.queries import QUERIES

FUNCTIONS = {
    TaskManagement.ABORT_TASK: Function.ABORT_TASK,
    TaskManagement.ABORT_TASK_SET: Function.ABORT_TASK_SET,
    TaskManagement.CLEAR_ACA: Function.CLEAR_ACA,
    TaskManagement.CLEAR_TASK_SET: Function.CLEAR_TASK_SET,
    TaskManagement.LOGICAL_UNIT_RESET: Function.LOGICAL_UNIT_RESET,
    TaskManagement.TARGET_WARM_RESET: Function.TARGET_RESET,
    TaskManagement.TARGET_COLD_RESET: Function.TARGET_RESET,
    TaskManagement.I_T_NEXUS_RESET: Function.NEXUS_RESET,
}

# Their LUN field is reserved. Source: RFC7143 11.5.1, RFC7144 4
WHOLE_TARGET = (
    TaskManagement.TARGET_WARM_RESET,
    TaskManagement.TARGET_COLD_RESET,
    TaskManagement.I_T_NEXUS_RESET,
)
LATER_LEVEL = (*QUERIES, TaskManagement.I_T_NEXUS_RESET)  # that need iSCSIProtocolLevel=2. Source: RFC7144 4

REFUSALS = {
    TaskManagement.TASK_REASSIGN: ManagementResponse.REASSIGNMENT_NOT_SUPPORTED,
}


class _Wait:
    """What follows when `missing` units have reported."""

    __slots__ = ("found", "missing", "then")

    def __init__(self, missing: int, then: Callable[[bool], None]) -> None:
        self.missing = missing
        self.found = False
        self.then = then


class ManagementDesk:
    """Gives out management requests and calls back when all units have dealt with one.

    execute    does what a unit wants done
    """

    def __init__(self, execute: Callable[[LogicalUnit, Iterable[UnitAction]], None]) -> None:
        self._execute = execute
        self._numbers = count(1)
        self._waits: dict[int, _Wait] = {}

    def request(self, units: Iterable[LogicalUnit], request: ManagementRequest, then: Callable[[bool], None]) -> None:
        """Asks every unit; `then(found)` is called after the last has reported, at once when there is no unit.

        request    its number is chosen here
        found      True when any unit found the task that ABORT TASK means
        """
        self.request_each([(unit, request) for unit in units], then)

    def request_each(
        self, requests: Sequence[tuple[LogicalUnit, ManagementRequest]], then: Callable[[bool], None]
    ) -> None:
        """Makes each request of its unit; `then` is called as by `request`."""
        if not requests:
            then(False)
            return
        number = next(self._numbers)
        self._waits[number] = _Wait(len(requests), then)
        for unit, request in requests:
            self._execute(unit, unit.manage(request._replace(number=number)))

    def reported(self, managed: Managed) -> None:
        """Notes that one unit is done."""
        wait = self._waits[managed.number]
        wait.missing -= 1
        wait.found = wait.found or managed.found
        if not wait.missing:
            del self._waits[managed.number]
            wait.then(wait.found)
