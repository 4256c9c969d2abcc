"""The task manager of a logical unit: what task management functions do, and what reservations do to tasks.

Both end tasks that are not their own, and are over when those are: a fence stands between. It waits for tasks that were
there before it only, so two of them cannot wait for each other.
"""

from collections.abc import Sequence

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.log_pages import RESETTABLE
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.reservations.reservation_request import (
    AllegiancesCleared,
    TasksAborted,
    Told,
    ToldAll,
    Transition,
)
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Done, Function, Managed, ManagementRequest, UnitAction
from iscsi_target.scsi.unit.endings import Endings
from iscsi_target.scsi.unit.nexus_table import NexusTable
from iscsi_target.scsi.unit.open_task import FENCING, Fate, Fence, OpenTask
from iscsi_target.scsi.unit.open_tasks import OpenTasks

RESETS = {
    Function.LOGICAL_UNIT_RESET: AttentionCode.BUS_DEVICE_RESET_FUNCTION_OCCURRED,
    Function.TARGET_RESET: AttentionCode.SCSI_BUS_RESET_OCCURRED,
}
RELIEVING = (Function.CLEAR_ACA, Function.NEXUS_LOSS, Function.NEXUS_RESET)  # they clear the ACA condition of the nexus


class TaskManager:
    """Ends tasks of one logical unit on account of others.

    device, nexuses, tasks, endings   of the unit
    outbox                            where the actions go
    """

    def __init__(
        self, device: Device, nexuses: NexusTable, tasks: OpenTasks, endings: Endings, outbox: list[UnitAction]
    ) -> None:
        self._device = device
        self._nexuses = nexuses
        self._tasks = tasks
        self._endings = endings
        self._outbox = outbox

    def manage(self, request: ManagementRequest) -> None:
        """Performs a task management function; exactly one Managed tells when all tasks in its scope are over.

        Tasks that arrive later are not in its scope. A reset takes effect at once, on everybody's attentions too.
        Source: SAM5r21 7, 6.3.3, 6.3.4, RFC7143 4.2.3
        """
        function, nexus = request.function, request.nexus
        scope = self._tasks.in_scope(request, separate=self._device.modes.separates_task_sets)
        found = self._is_found(request, scope)
        fence = Fence.around(scope, lambda: self._outbox.append(Managed(request.number, found)))
        self._endings.abort_all(scope, nexus, tell_others=function is Function.CLEAR_TASK_SET)
        if function in RESETS:
            self._reset(RESETS[function])
        if function in RELIEVING:
            self._device.relieve(nexus)
        if function is Function.NEXUS_RESET:
            self._device.forget(nexus)
            self._nexuses.establish_for(nexus, AttentionCode.I_T_NEXUS_LOSS_OCCURRED)
        fence.lower()

    def _is_found(self, request: ManagementRequest, scope: Sequence[OpenTask]) -> bool:
        match request.function:
            case Function.ABORT_TASK:
                return bool(scope)
            case Function.CLEAR_ACA:
                return request.nexus in self._device.faulted or not self._device.blocks(request.nexus)
            case _:
                return True

    def _reset(self, code: AttentionCode) -> None:
        """Brings the unit to the state after a reset; every nexus learns of it, the one that asked for it too.

        Source: SAM5r21 6.3.3, SBC3r36 5.10, 4.20
        """
        self._device.reset(hard=code is AttentionCode.SCSI_BUS_RESET_OCCURRED)
        self._device.statistics.reset(RESETTABLE)
        self._nexuses.establish(code)

    def change(self, entry: OpenTask, transition: Transition) -> None:
        """Lets a change of the reservations hold; the command is over when all tasks that it aborts are.

        Source: SPC4r37 5.13.11.2.6
        """
        self._device.reservations = transition.state
        self._endings.note_change(entry, transition)
        victims: list[Nexus] = []
        relieved: Sequence[Nexus] = victims
        for consequence in transition.consequences:
            match consequence:
                case Told(nexus, code):
                    if nexus in self._nexuses:
                        self._nexuses.establish_for(nexus, code)
                case ToldAll(code, except_nexus):
                    self._nexuses.establish(code, except_nexus=except_nexus)
                case TasksAborted(nexus):
                    self._device.preventing.discard(nexus)
                    victims.append(nexus)
                case AllegiancesCleared():
                    relieved = tuple(self._device.faulted)
        if victims:
            self._device.end_visits(*victims)
        scope = [other for other in self._tasks.preempted(victims, relieved) if other is not entry]
        entry.phase = FENCING
        fence = Fence.around(scope, lambda: self._fenced(entry))
        self._endings.abort_all(scope, entry.task.nexus, tell_others=True)
        self._device.relieve(*relieved)
        fence.lower()

    def stop_copy(self, entry: OpenTask, identifier: int) -> None:
        """Aborts a copy operation of the nexus of a command; the command is over when that is.

        Source: SPC4r37 5.17.4.7
        """
        scope = self._tasks.copying(entry.task.nexus, identifier)
        entry.phase = FENCING
        fence = Fence.around(scope, lambda: self._fenced(entry))
        for copying in scope:
            self._endings.stop_copy(copying)
        fence.lower()

    def _fenced(self, entry: OpenTask) -> None:
        if entry.fate is Fate.ITS_OWN:
            self._endings.complete(entry, Done())
        else:
            self._endings.end_aborted(entry)
