"""One row of the command table by itself."""

import pytest

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.commands.command import Row, command, shortened
from iscsi_target.scsi.commands.shortcut import write_shortcut
from iscsi_target.scsi.layouts.block_cdb import WriteSame16
from iscsi_target.scsi.state.task import Done
from iscsi_target.scsi.status import InvalidFieldInCdb, ReservedBitInCdb

ROW = Row(name="X", access=Access.AS_WRITE, clause="", unsupported=("wrprotect",))
X = command(
    ROW,
    WriteSame16,
    lambda device, cdb, call: Done(),
    relaxed=lambda cdb: Access.ALWAYS if cdb.ndob else None,
)


def test_codes_come_from_the_layout():
    assert (X.operation_code, X.service_action, X.name) == (0x93, None, "X")


@pytest.mark.clause("SPC4r37 4.5.2.4.2")
def test_reserved_bits_and_unsupported_fields_are_pointed_at():
    with pytest.raises(InvalidFieldInCdb) as raised:
        X.unpack(WriteSame16(wrprotect=1).pack())
    assert raised.value.sense.field == WriteSame16.location("wrprotect")
    for cdb, place in ((b"\x93\x04" + bytes(14), (1, 2)), (WriteSame16(control=0x46).pack(), (15, 6))):
        with pytest.raises(ReservedBitInCdb) as reserved:
            X.unpack(cdb)
        assert reserved.value.sense.field == place


@pytest.mark.clause("SAM5r21 5.2")
def test_naca_is_the_one_bit_of_control_that_is_evaluated():
    assert X.unpack(WriteSame16(control=0x04).pack()) == WriteSame16(control=0x04)
    for bit in range(8):
        if 1 << bit != 0x04:
            with pytest.raises(ReservedBitInCdb):
                X.unpack(WriteSame16(control=1 << bit).pack())


def test_a_cdb_that_is_too_short_is_refused():
    with pytest.raises(InvalidFieldInCdb):
        X.unpack(b"\x93")


def test_columns_may_depend_on_the_cdb():
    assert X.columns(WriteSame16()) == Access.AS_WRITE
    assert X.columns(WriteSame16(ndob=True)) == Access.ALWAYS


def test_usage_has_the_code_and_ones_for_what_is_evaluated():
    assert X.usage() == bytes.fromhex("9319" + "ff" * 12 + "1f04")


@pytest.mark.parametrize("changes", [{"attention": False}, {"exclusive": True}, {"service_action": 3}])
def test_what_has_more_to_it_than_others_has_no_shortcut(changes: dict):
    plain = command(ROW, WriteSame16, lambda device, cdb, call: Done())
    assert plain.shortcut is None
    assert shortened(plain, write_shortcut).shortcut is not None
    for other in (command(ROW._replace(**changes), WriteSame16, lambda device, cdb, call: Done()), X):
        with pytest.raises(AssertionError):
            shortened(other, write_shortcut)


def test_command_knows_its_first_byte():
    assert X.first_byte == b"\x93"
