"""The kinds of PDU."""

from iscsi_target.faults.kinds import KINDS, NAMES, number_fields
from iscsi_target.iscsi.requests import REQUESTS, ScsiCommand
from iscsi_target.iscsi.responses import RESPONSES


def test_there_is_a_kind_for_every_layout():
    for layouts, incoming in ((REQUESTS, True), (RESPONSES, False)):
        for layout in layouts.values():
            kind = KINDS[NAMES[layout]]
            assert (kind.layout, kind.incoming, kind.outgoing) == (layout, incoming, not incoming)


def test_groups_have_no_layout_of_their_own():
    assert KINDS["in"].layout is KINDS["any"].layout is None
    assert set(KINDS["any"].layouts) == {*KINDS["in"].layouts, *KINDS["out"].layouts}


def test_numbers_of_a_group_are_those_that_all_have():
    assert "stat_sn" in KINDS["out"].numbers()
    assert "data_sn" not in KINDS["out"].numbers()
    assert "data_sn" in KINDS["data-in"].numbers()


def test_bytes_and_reserved_fields_are_no_numbers():
    assert "cmd_sn" in number_fields(ScsiCommand)
    assert "immediate" in number_fields(ScsiCommand)
    assert not {"cdb", "lun", "_1"} & set(number_fields(ScsiCommand))


def test_only_a_scsi_command_is_a_command():
    assert [name for name, kind in KINDS.items() if kind.is_command] == ["scsi-command"]
