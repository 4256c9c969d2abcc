"""What every command has to pass when it starts, in this order: a unit attention of a reset or a lost nexus, the
reservations, any other unit attention, the state of its path, a sanitize operation, the medium. It is done once; a
reservation that is made later does not matter.

Of a command with a shortcut the answer depends on the nexus, its attentions and the state of the device only, so that
it is kept with the nexus until one of them changes: `lane` needs one look-up then, whatever is registered.
"""

from collections.abc import Mapping

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.attention import precedes_reservation_conflict
from iscsi_target.scsi.commands.command import Command
from iscsi_target.scsi.commands.primary import sense_data
from iscsi_target.scsi.layouts.cdb import RequestSense
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.profiles import Choices, WrongDirection
from iscsi_target.scsi.reservations.personality import Quirk
from iscsi_target.scsi.reservations.rules import Rule
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.port_groups import QUALIFIERS, AccessState, Reachable
from iscsi_target.scsi.state.task import Done
from iscsi_target.scsi.status import (
    InvalidFieldInCdb,
    LogicalUnitNotAccessible,
    MediumNotPresent,
    NotReadyInitialisingRequired,
    UnitAttention,
)
from iscsi_target.scsi.unit.nexus_table import NexusTable
from iscsi_target.wire.layout import Layout

# What grants a command in a state that is not active. Source: SPC4r37 5.15.2.4
GRANTS: Mapping[AccessState, Reachable] = {
    AccessState.STANDBY: Reachable.STANDBY,
    AccessState.UNAVAILABLE: Reachable.UNAVAILABLE,
    AccessState.OFFLINE: Reachable.OFFLINE,
    AccessState.TRANSITIONING: Reachable.TRANSITIONING,
}


def examine(nexus: Nexus, command: Command, cdb: Layout, device: Device, nexuses: NexusTable) -> Done | None:
    """Checks whether a command may be handled; a unit attention that it reports is cleared.

    nexus     whose it is
    cdb       of the command's layout
    returns   None when it may, or the answer of a REQUEST SENSE that reports a unit attention
    raises    StatusError when it may not
    Source: SAM5r21 5.3.3, 5.14, SPC4r37 5.13.1, 5.13.5.3.2
    """
    access = device.personality.access.get(command.name)
    if access is None:
        access = command.columns(cdb)
    conflict = device.spc2_reservation.conflict(nexus, access) or device.reservations.conflict(nexus, access)
    if command.attention or isinstance(cdb, RequestSense):
        code = nexuses.first(nexus)
        if code is not None and (conflict is None or _precedes_conflict(code, device)):
            if isinstance(cdb, RequestSense):
                nexuses.withdraw(nexus, code)
                return sense_data(cdb, UnitAttention(code).sense)
            nexuses.take(nexus, interlocked=device.modes.interlocks_attentions)
            raise UnitAttention(code)
    if conflict is not None:
        raise device.personality.refusal(conflict)
    if device.reservations.lost and Access.LOST not in access:
        raise device.personality.refusal(Rule.INFORMATION_LOST)
    path = device.path(nexus) if device.port_groups else None
    if path is not None and not path.state.is_active:
        choices = nexuses.standing(nexus).choices
        _check_path(path.state, command, standby_reads=device.features.standby_reads or choices.standby_reads)
    if command.medium_access and not device.loaded and _is_missed(device):
        raise MediumNotPresent
    if device.sanitization is not None:
        if not command.passes(cdb, device.sanitization):
            raise device.sanitization.refusal
    elif command.medium_access and device.stopped:
        raise NotReadyInitialisingRequired
    if command.shortcut is not None and not device.faulted and (path is None or path.is_quick):
        cancels_tokens = device.tokens.live and Access.WRITE_EXCLUSIVE not in command.access
        if not cancels_tokens:
            nexuses.admit(nexus, command, device)
    return None


def _is_missed(device: Device) -> bool:
    """Returns True when that the medium is not there matters more than what is done to it."""
    return device.sanitization is None or device.sanitization.is_failed_format


def mind_direction(command: Command, choices: Choices) -> None:
    """Refuses a command that comes with Data-Out which it never takes, if that is chosen for its initiator."""
    if choices.wrong_direction is WrongDirection.REFUSED:
        raise InvalidFieldInCdb(command.layout, "operation_code")


def _check_path(state: AccessState, command: Command, *, standby_reads: bool) -> None:
    """Refuses what is not processed through a target port group that is not active.

    standby_reads   True lets pass in standby what is granted to everybody under a Write Exclusive reservation, as it
                    changes nothing
    Source: SPC4r37 5.15.2.4
    """
    reads = state is AccessState.STANDBY and standby_reads and Access.WRITE_EXCLUSIVE in command.access
    if GRANTS[state] not in command.row.reachable and not reads:
        raise LogicalUnitNotAccessible(QUALIFIERS[state])


def _precedes_conflict(code: int, device: Device) -> bool:
    return precedes_reservation_conflict(code) or device.personality.has(Quirk.ATTENTION_BEFORE_CONFLICT)
