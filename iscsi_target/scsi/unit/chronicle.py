"""What of a logical unit's commands goes into the timeline of its reservations, and the action that says so.

The timeline keeps entries; here it is decided which commands make one.
"""

from iscsi_target.scsi.commands.command import Command
from iscsi_target.scsi.layouts.cdb import PersistentReserveOut
from iscsi_target.scsi.reservations.reservation_request import Transition
from iscsi_target.scsi.reservations.reservations import Cause
from iscsi_target.scsi.reservations.rules import Rule, rule_of
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import Noted, Task
from iscsi_target.scsi.state.timeline import Entry, Timeline
from iscsi_target.scsi.status import StatusError, UnitAttention


def _cause(task: Task, command: Command) -> Cause:
    return Cause(command.name, task.nexus, task.received_s)


class Chronicle:
    """The timeline of one logical unit.

    device   whose reservations an entry about a refusal shows
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._timeline = Timeline()

    def entries(self) -> list[Entry]:
        """Returns what happened to the reservations lately, oldest first."""
        return self._timeline.entries()

    def changed(self, task: Task, command: Command, transition: Transition) -> Noted:
        """Adds a change of the reservations."""
        return Noted(task, self._timeline.changed(_cause(task, command), transition))

    def refused(self, task: Task, command: Command, error: StatusError) -> Noted | None:
        """Adds a conflict, or a PERSISTENT RESERVE OUT that was refused for whatever reason; None for anything else."""
        rule = rule_of(error)
        if rule is None and command.layout is PersistentReserveOut:
            rule = Rule.ATTENTION_FIRST if isinstance(error, UnitAttention) else Rule.CDB_INVALID
        if rule is None:
            return None
        states = self._device.reservations, self._device.spc2_reservation
        return Noted(task, self._timeline.refused(_cause(task, command), rule, error, *states))
