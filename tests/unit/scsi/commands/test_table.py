"""The command table: its rows, and the check of reserved bits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.commands.command import Command
from iscsi_target.scsi.commands.command_lookup import find
from iscsi_target.scsi.commands.table import TABLE
from iscsi_target.scsi.layouts import block_cdb as sbc
from iscsi_target.scsi.state.task import Done
from iscsi_target.scsi.status import CheckCondition, StatusError
from iscsi_target.wire.layout import Layout
from tests.unit.scsi.command_bench import Bytes, device, run

ROWS = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
CDB_BYTES = 16
EVERYBODY = {"INQUIRY", "REPORT LUNS", "REQUEST SENSE", "RELEASE(6)", "RELEASE(10)"}
EVERYBODY |= {"READ CAPACITY(10)", "READ CAPACITY(16)"}


def own_cdb(row: Command, **values: int) -> Layout:
    """A CDB of a row; rows that share a layout differ in their service action."""
    action = {} if row.service_action is None else {"service_action": row.service_action}
    return row.layout(**values | action)


def test_no_two_rows_have_the_same_code():
    codes = [(row.operation_code, row.service_action) for row in TABLE]
    assert len(codes) == len(set(codes))
    for code in {code for code, _ in codes}:
        assert len({action is None for other, action in codes if other == code}) == 1


@pytest.mark.clause("SPC4r37 6.1")
@pytest.mark.clause("SBC3r36 5.1")
@ROWS
def test_every_row_is_found_by_its_own_cdb(row):
    assert find(own_cdb(row).pack().ljust(CDB_BYTES, b"\0")) is row


@ROWS
def test_group_codes_give_the_length_of_the_cdb(row):
    length = {0: 6, 1: 10, 2: 10, 4: 16, 5: 12}[row.operation_code // 32]
    assert row.layout.size == length


@pytest.mark.clause("SPC4r37 4.5.2.4.2")
@ROWS
def test_each_bit_that_usage_data_leaves_out_is_refused_and_pointed_at(row):
    """The CDB usage data and the bits that are accepted are the same thing."""
    blank = int.from_bytes(own_cdb(row).pack(), "big")
    usage = int.from_bytes(row.usage(), "big")
    for bit in range(row.layout.size * 8 - 16):
        raw = (blank | 1 << bit).to_bytes(row.layout.size, "big").ljust(CDB_BYTES, b"\0")
        if usage & 1 << bit or blank & 1 << bit:
            row.unpack(raw)
        else:
            with pytest.raises(CheckCondition) as raised:
                row.unpack(raw)
            assert raised.value.sense.code == 0x2400
            assert raised.value.sense.field is not None
            assert raised.value.sense.field.byte <= row.layout.size - 1 - bit // 8


@ROWS
def test_what_follows_the_cdb_is_padding(row):
    raw = own_cdb(row).pack()
    assert row.unpack(raw + b"\xff" * 10) == row.unpack(raw)


@ROWS
def test_only_what_the_standard_names_escapes_a_unit_attention(row):
    assert row.attention == (row.name not in {"INQUIRY", "REPORT LUNS", "REQUEST SENSE"})


@pytest.mark.clause("SPC2r20 5.5.1")
@ROWS
def test_only_harmless_commands_pass_an_spc_2_reservation(row):
    assert (Access.SPC2 in row.access) == (row.name in EVERYBODY)


@pytest.mark.clause("SBC3r36 4.17")
def test_starting_and_allowing_removal_are_granted_to_everybody():
    everybody = Access.SPC2 | Access.ALWAYS
    cases = {
        sbc.StartStopUnit(start=True): everybody | Access.LOST,
        sbc.StartStopUnit(): Access.AS_WRITE,
        sbc.StartStopUnit(start=True, loej=True): everybody | Access.LOST,
        sbc.StartStopUnit(start=True, power_condition=3): Access.AS_WRITE,
        sbc.PreventAllowMediumRemoval(): everybody,
        sbc.PreventAllowMediumRemoval(prevent=1): Access.AS_WRITE,
    }
    for cdb, columns in cases.items():
        assert find(cdb.pack()).columns(cdb) == columns


@ROWS
def test_a_row_that_writes_never_has_the_columns_of_a_read(row):
    if row.name.startswith(("WRITE", "UNMAP", "COMPARE", "SYNCHRONIZE", "MODE SELECT")):
        assert row.access == Access.AS_WRITE


# The laws of all commands


FLAGS = {"thin": st.booleans(), "removable": st.booleans(), "read_only": st.booleans()}
UNITS = st.builds(device, **FLAGS)


@st.composite
def legal_cdbs(draw):
    """A row and a CDB of it in which every field that is evaluated has any value, mostly a small one."""
    row = draw(st.sampled_from(TABLE))
    ones = row.layout.unpack(row.layout.usage())
    values = {"operation_code": row.operation_code}
    for name, most in zip(row.layout.fields, ones, strict=True):
        if name in ("operation_code", "service_action", "control") or name in row.row.unsupported:
            continue
        values[name] = draw(st.one_of(st.integers(0, min(most, 3)), st.integers(0, most)))
    return own_cdb(row, **values)


@given(UNITS, legal_cdbs(), st.binary(max_size=2048), st.booleans())
def test_a_legal_cdb_ends_in_a_reply_or_a_status(unit, cdb, offered, loaded):
    """Law: no CDB whose bits are all evaluated, and no Data-Out, makes anything else than these."""
    unit.loaded = loaded
    try:
        done = run(unit, cdb, offered=offered, store=Bytes())
    except StatusError:
        return
    assert isinstance(done, Done)
    allowed = getattr(cdb, "allocation_length", None)
    assert allowed is None or len(done.data_in) <= allowed


@given(
    UNITS,
    st.one_of(
        st.binary(min_size=16, max_size=16),
        st.builds(
            lambda row, rest: own_cdb(row).pack()[:2] + rest,
            st.sampled_from(TABLE),
            st.binary(min_size=14, max_size=14),
        ),
    ),
    st.binary(max_size=600),
)
def test_any_bytes_end_in_a_reply_or_a_status(unit, cdb, offered):
    """Law: 16 random bytes, or random bytes after a known code, never end in anything else."""
    try:
        assert isinstance(run(unit, cdb, offered=offered, store=Bytes()), Done)
    except StatusError:
        return


@given(legal_cdbs(), UNITS)
def test_data_out_is_bounded(cdb, unit):
    """Law: no CDB makes a unit fetch more than the maximum transfer length or a 16-bit parameter list."""
    row = find(cdb.pack())
    bound = unit.features.limits.max_transfer_blocks * unit.geometry.block_length_bytes
    assert 0 <= row.data_out(unit, cdb) <= max(bound, 65535)
