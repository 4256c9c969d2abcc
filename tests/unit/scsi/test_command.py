"""One row of the command table by itself."""

import pytest

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.block_cdb import WriteSame16
from iscsi_target.scsi.cdb import PersistentReserveIn
from iscsi_target.scsi.command import Row, command
from iscsi_target.scsi.status import InvalidFieldInCdb, ReservedBitInCdb
from iscsi_target.scsi.task import Done

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
    for field, cdb in (("wrprotect", WriteSame16(wrprotect=1)), ("control", WriteSame16(control=4))):
        with pytest.raises(InvalidFieldInCdb) as raised:
            X.unpack(cdb.pack())
        assert raised.value.sense.field == WriteSame16.location(field)
    with pytest.raises(ReservedBitInCdb) as reserved:
        X.unpack(b"\x93\x04" + bytes(14))
    assert reserved.value.sense.field == (1, 2)


def test_a_cdb_that_is_too_short_is_refused():
    with pytest.raises(InvalidFieldInCdb):
        X.unpack(b"\x93")


def test_columns_may_depend_on_the_cdb():
    assert X.columns(WriteSame16()) == Access.AS_WRITE
    assert X.columns(WriteSame16(ndob=True)) == Access.ALWAYS


def test_usage_has_the_code_and_ones_for_what_is_evaluated():
    assert X.usage() == bytes.fromhex("9319" + "ff" * 12 + "1f00")


@pytest.mark.parametrize(
    "changes", [{"attention": False}, {"exclusive": True}, {"repeatable": False}, {"service_action": 3}]
)
def test_what_has_more_to_it_than_others_is_not_plain(changes: dict):
    plain = command(ROW, WriteSame16, lambda device, cdb, call: Done())
    other = command(ROW._replace(**changes), WriteSame16, lambda device, cdb, call: Done())
    assert (plain.plain, other.plain, X.plain) == (True, False, False)
    assert not command(ROW._replace(unsupported=()), PersistentReserveIn, lambda device, cdb, call: Done()).plain


def test_command_knows_its_first_byte_and_whether_it_ever_wants_data():
    wanting = command(ROW, WriteSame16, lambda device, cdb, call: Done(), lambda device, cdb: 512)
    assert (X.first_byte, X.wants_data, wanting.wants_data) == (b"\x93", False, True)
