"""What rows of the command table have in common: the columns of reservations and of paths, and makers of like rows.

The table itself is in `table`, and so are all rows that are like no other.
"""

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.commands import block
from iscsi_target.scsi.commands.command import Command, Row, command, shortened
from iscsi_target.scsi.commands.persistent_reserve_in import persistent_reserve_in
from iscsi_target.scsi.commands.persistent_reserve_out import (
    command_name,
    persistent_reserve_out,
    wanted_by_persistent_reserve_out,
)
from iscsi_target.scsi.commands.sanitize import EXIT_FAILURE_MODE, mended_by_sanitize
from iscsi_target.scsi.commands.shortcut import read_shortcut, write_shortcut
from iscsi_target.scsi.layouts import cdb as spc
from iscsi_target.scsi.reservations.personality import InAction, OutAction
from iscsi_target.scsi.state.port_groups import Reachable
from iscsi_target.scsi.state.sanitization import Method

EVERYBODY = Access.SPC2 | Access.ALWAYS
UNCONDITIONALLY = EVERYBODY | Access.LOST
ALWAYS, AS_READ, AS_WRITE = Access.ALWAYS, Access.AS_READ, Access.AS_WRITE
STANDBY, UNAVAILABLE, OFFLINE, EVERYWHERE = (
    Reachable.STANDBY,
    Reachable.UNAVAILABLE,
    Reachable.OFFLINE,
    Reachable.EVERYWHERE,
)
RESERVE_10_UNSUPPORTED = ("third_party", "long_id", "extent", "third_party_device_id", "parameter_list_length")
RESERVE_6_UNSUPPORTED = ("third_party", "third_party_device_id", "extent")


def read_row(name: str, clause: str) -> Row:
    """Returns the row of a command that reads the medium and has RDPROTECT."""
    return Row(name=name, access=AS_READ, clause=clause, medium_access=True, unsupported=("rdprotect",))


def verify_row(name: str, clause: str) -> Row:
    """Returns the row of a command that reads the medium and has VRPROTECT."""
    return Row(name=name, access=AS_READ, clause=clause, medium_access=True, unsupported=("vrprotect",))


def write_row(name: str, clause: str, *unsupported: str) -> Row:
    """Returns the row of a command that writes the medium and has WRPROTECT."""
    return Row(
        name=name,
        access=AS_WRITE,
        clause=clause,
        medium_access=True,
        unsupported=("wrprotect", *unsupported),
    )


def long_read(name: str, clause: str, layout: type[block.LongRead]) -> Command:
    """Returns the row of a READ that is used all the time."""
    return shortened(command(read_row(name, clause), layout, block.read), read_shortcut)


def long_write(name: str, clause: str, layout: type[block.LongWrite]) -> Command:
    """Returns the row of a WRITE that is used all the time."""
    return shortened(command(write_row(name, clause), layout, block.write, block.wanted_by_write), write_shortcut)


def medium_row(name: str, clause: str, access: Access) -> Row:
    """Returns the row of another command that needs the medium."""
    return Row(name=name, access=access, clause=clause, medium_access=True)


def sanitize_row(action: int, *unsupported: str) -> Row:
    """Returns the row of a service action of SANITIZE."""
    what = "exit failure mode" if action == EXIT_FAILURE_MODE else str(Method(action))
    return Row(
        name=f"SANITIZE, {what.upper()}",
        access=AS_WRITE,
        clause="SBC3r36 5.24",
        medium_access=True,
        unsupported=unsupported,
        exclusive=True,
        service_action=action,
        head_of_queue=True,
        mends=mended_by_sanitize,
    )


def reservation_row(name: str, clause: str, access: Access, *unsupported: str) -> Row:
    """Returns the row of a command that makes or ends an SPC-2 reservation."""
    return Row(name=name, access=access, clause=clause, exclusive=True, unsupported=unsupported)


def reserve_in(action: InAction) -> Command:
    """Returns the row of a service action of PERSISTENT RESERVE IN."""
    row = Row(
        name=f"PERSISTENT RESERVE IN, {action}",
        access=ALWAYS,
        clause="SPC4r37 6.15",
        service_action=action,
        available=lambda device: action in device.personality.in_actions,
        reachable=STANDBY,
    )
    return command(row, spc.PersistentReserveIn, persistent_reserve_in)


def reserve_out(action: OutAction, access: Access) -> Command:
    """Returns the row of a service action of PERSISTENT RESERVE OUT."""
    row = Row(
        name=command_name(action),
        access=access,
        clause="SPC4r37 6.16",
        exclusive=True,
        service_action=action,
        available=lambda device: action in device.personality.out_actions,
        reachable=STANDBY,
    )
    return command(row, spc.PersistentReserveOut, persistent_reserve_out, wanted_by_persistent_reserve_out)
