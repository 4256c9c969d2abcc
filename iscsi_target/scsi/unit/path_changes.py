"""Carries out changes of the target port groups of one logical unit, whoever wants them, and tells the nexuses.

A group that gets another goal while it is transitioning arrives there with the last change, whatever it was to become
before. A command whose change comes to nothing by that has failed. Only an operator or a new configuration can do it,
as no command is taken for a group that is transitioning.
"""

from collections.abc import Collection, Mapping

from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.port_groups import AccessState, StatusCode, arrived, departed
from iscsi_target.scsi.state.task import Done, Forget, Rest, Ticket, UnitAction
from iscsi_target.scsi.status import SetTargetPortGroupsFailed
from iscsi_target.scsi.unit.endings import Endings
from iscsi_target.scsi.unit.nexus_table import NexusTable
from iscsi_target.scsi.unit.open_task import MOVING, OpenTask, Over


class PathChange(Ticket):
    """A change that lasts.

    groups   that arrive with it
    entry    the SET TARGET PORT GROUPS that is over with it, or None
    """

    __slots__ = ("entry", "groups")

    def __init__(self, groups: Collection[int], entry: OpenTask | None) -> None:
        self.groups = frozenset(groups)
        self.entry = entry


class PathChanges:
    """Changes the target port groups of one unit.

    device, nexuses, endings   of the unit
    outbox                     where the actions go
    """

    def __init__(self, device: Device, nexuses: NexusTable, endings: Endings, outbox: list[UnitAction]) -> None:
        self._device = device
        self._nexuses = nexuses
        self._endings = endings
        self._outbox = outbox
        self._under_way: list[PathChange] = []  # no two of them have a group in common

    def begin(self, wanted: Mapping[int, AccessState], entry: OpenTask | None = None) -> None:
        """Begins to change states; every nexus is told when it is done, but the one that asked.

        wanted   of groups that there are
        entry    the SET TARGET PORT GROUPS that is over then, or None for a change that no initiator asked for
        Source: SPC4r37 5.15.2.6, 5.15.2.7
        """
        before = self._device.port_groups
        goals = {number: state for number, state in wanted.items() if before[number].goal is not state}
        cause = StatusCode.IMPLICITLY if entry is None else StatusCode.BY_COMMAND
        self._supersede(goals)
        self._device.port_groups = departed(before, goals, cause)
        change = PathChange(goals, entry)
        lasts_s = max((before[number].transition_s for number in goals), default=0.0)
        self._under_way.append(change)
        if not lasts_s:
            self.finish(change)
            return
        if entry is not None:
            entry.phase = MOVING
        self._outbox.append(Rest(change, lasts_s))

    def _supersede(self, groups: Collection[int]) -> None:
        """Takes groups out of the changes that are under way; what is left of a change goes on without its command.

        Source: SPC4r37 5.15.2.7, 6.45
        """
        for change in self._under_way.copy():
            if change.groups.isdisjoint(groups):
                continue
            change.groups -= frozenset(groups)
            if not change.groups:
                self._under_way.remove(change)
                self._outbox.append(Forget(change))
            entry, change.entry = change.entry, None
            if entry is not None and not isinstance(entry.phase, Over):
                self._endings.fail(entry, SetTargetPortGroupsFailed())

    def finish(self, change: PathChange) -> None:
        """Ends a change."""
        self._under_way.remove(change)
        self._device.port_groups = arrived(self._device.port_groups, change.groups)
        asked: Nexus | None = None if change.entry is None else change.entry.task.nexus
        if change.groups:
            self._nexuses.establish(AttentionCode.ASYMMETRIC_ACCESS_STATE_CHANGED, except_nexus=asked)
        if change.entry is not None and not isinstance(change.entry.phase, Over):
            self._endings.complete(change.entry, Done())
