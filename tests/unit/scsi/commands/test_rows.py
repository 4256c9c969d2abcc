"""Makers of rows of the command table."""

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.commands.rows import (
    long_read,
    long_write,
    medium_row,
    read_row,
    reservation_row,
    reserve_in,
    reserve_out,
    sanitize_row,
    verify_row,
    write_row,
)
from iscsi_target.scsi.commands.sanitize import EXIT_FAILURE_MODE, mended_by_sanitize
from iscsi_target.scsi.layouts.block_cdb import Read10, Write10
from iscsi_target.scsi.reservations.personality import InAction, OutAction
from iscsi_target.scsi.state.sanitization import METHODS
from tests.unit.scsi.command_bench import device


def test_rows_of_the_medium_need_it_and_are_granted_what_their_kind_is():
    rows = [(read_row("r", "c"), Access.AS_READ), (verify_row("v", "c"), Access.AS_READ)]
    rows += [(write_row("w", "c"), Access.AS_WRITE), (medium_row("m", "c", Access.ALWAYS), Access.ALWAYS)]
    for row, access in rows:
        assert (row.medium_access, row.access, row.clause) == (True, access, "c")


def test_protection_is_refused_in_the_field_of_each_kind():
    assert read_row("r", "c").unsupported == ("rdprotect",)
    assert verify_row("v", "c").unsupported == ("vrprotect",)
    assert write_row("w", "c", "anchor").unsupported == ("wrprotect", "anchor")


def test_what_is_used_all_the_time_has_a_shortcut():
    assert long_read("r", "c", Read10).shortcut is not None
    assert long_write("w", "c", Write10).shortcut is not None


def test_commands_about_reservations_come_one_at_a_time():
    assert reservation_row("r", "c", Access.ALWAYS, "extent").exclusive
    assert reserve_out(OutAction.CLEAR, Access.AS_REGISTRANT).row.exclusive
    assert not reserve_in(InAction.READ_KEYS).row.exclusive


def test_a_service_action_is_there_when_the_personality_has_it():
    unit = device()
    unit.personality = unit.personality._replace(in_actions=frozenset(), out_actions=frozenset({OutAction.CLEAR}))
    assert not reserve_in(InAction.READ_KEYS).available(unit)
    assert reserve_out(OutAction.CLEAR, Access.AS_REGISTRANT).available(unit)
    assert not reserve_out(OutAction.RESERVE, Access.HOLDER).available(unit)


def test_sanitize_is_named_by_its_service_action():
    names = [sanitize_row(action).name for action in (*METHODS, EXIT_FAILURE_MODE)]
    assert names == [
        "SANITIZE, OVERWRITE",
        "SANITIZE, BLOCK ERASE",
        "SANITIZE, CRYPTOGRAPHIC ERASE",
        "SANITIZE, EXIT FAILURE MODE",
    ]
    row = sanitize_row(EXIT_FAILURE_MODE)
    assert (row.access, row.exclusive, row.head_of_queue) == (Access.AS_WRITE, True, True)
    assert row.mends is mended_by_sanitize
