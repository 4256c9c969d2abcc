"""Every command under every type of reservation, from the holder, another registrant and an unregistered nexus.

The cells are in `matrix`. Commands find their lines by operation code and service action, so a command that joins the
table is tested from then on, and one that no line names fails. What the target does not have is refused as unknown,
whatever is reserved. The drawing of the nexuses is in `world`: N1 holds, N2 is registered, N3 is not.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import pytest

from iscsi_target.scsi.access import Access
from iscsi_target.scsi.commands.buffer_commands import Mode, ReadBuffer, WriteBuffer
from iscsi_target.scsi.commands.command import Command, Row, command
from iscsi_target.scsi.commands.defect_data import ReadDefectData10, ReadDefectData12
from iscsi_target.scsi.commands.diagnostics import ReceiveDiagnosticResults, SendDiagnostic
from iscsi_target.scsi.commands.format_unit import FormatUnit
from iscsi_target.scsi.commands.identifying_information import ReportIdentifyingInformation, SetIdentifyingInformation
from iscsi_target.scsi.commands.sanitize import OverwriteHeader, Sanitize
from iscsi_target.scsi.commands.table import TABLE
from iscsi_target.scsi.commands.target_port_groups import ReportTargetPortGroups, SetDescriptor, SetTargetPortGroups
from iscsi_target.scsi.commands.timestamp import ReportTimestamp, SetTimestamp
from iscsi_target.scsi.commands.write_atomic import WriteAtomic16
from iscsi_target.scsi.layouts import block_cdb as sbc
from iscsi_target.scsi.layouts import cdb as spc
from iscsi_target.scsi.layouts.copy_cdb import ExtendedCopyLid1, ExtendedCopyLid4, ReceiveCopyOperatingParameters
from iscsi_target.scsi.layouts.pages import ModeHeader6, ModeHeader10, UnmapBlockDescriptor, UnmapHeader
from iscsi_target.scsi.layouts.token_cdb import PopulateToken, WriteUsingToken
from iscsi_target.scsi.nexus import Nexus
from iscsi_target.scsi.reservations.personality import STRICT, OutAction
from iscsi_target.scsi.state.task import Done
from iscsi_target.wire.layout import U8, U32, Layout
from tests.conformance.reservations import matrix
from tests.conformance.reservations.matrix import Code, Line, lines
from tests.conformance.reservations.world import (
    BLOCK,
    BLOCKS,
    EA,
    INVALID_RELEASE,
    K1,
    K2,
    N1,
    N2,
    N3,
    N4,
    RC,
    TYPES,
    WE,
    G,
    Told,
    World,
    basic,
    check,
    moving,
)
from tests.unit.scsi.token_bench import ZERO_TOKEN, populate_list, write_list

ROLES = {"holder": N1, "registrant": N2, "unregistered": N3}
KEYS = {N1: K1, N2: K2, N3: 0}
INVALID_OPERATION_CODE, INVALID_FIELD_IN_CDB = check(5, 0x2000), check(5, 0x2400)
ONE_BLOCK = bytes([7]) * BLOCK

Sample = tuple[Layout, bytes]  # a CDB and its Data-Out


def _with_list(layout: type[Layout], data: bytes, **values: int) -> Sample:
    return layout(parameter_list_length=len(data), **values), data  # type: ignore[call-arg]  # all of these have it


UNMAPPED = (
    UnmapHeader(unmap_data_length=22, unmap_block_descriptor_data_length=16).pack()
    + UnmapBlockDescriptor(number_of_logical_blocks=1).pack()
)

# A command that ends with GOOD for each layout. One that joins the table is tested before it has a sample here: it is
# sent with its fields zero, and where it is allowed it may be refused for any reason but a reservation.
SAMPLES: tuple[Sample, ...] = (
    *((layout(), b"") for layout in (spc.TestUnitReady, spc.Reserve6, spc.Reserve10, spc.Release6, spc.Release10)),
    (spc.PersistentReserveIn(allocation_length=255), b""),
    (spc.RequestSense(allocation_length=18), b""),
    (spc.Inquiry(allocation_length=36), b""),
    (spc.ReportLuns(allocation_length=16), b""),
    (spc.ModeSense6(page_code=0x3F, allocation_length=255), b""),
    (spc.ModeSense10(page_code=0x3F, allocation_length=255), b""),
    (spc.LogSense(page_code=0x03, pc=1, allocation_length=255), b""),
    (spc.LogSelect(pcr=True), b""),
    _with_list(spc.ModeSelect6, ModeHeader6().pack(), pf=1),
    _with_list(spc.ModeSelect10, ModeHeader10().pack(), pf=1),
    (spc.ReportSupportedOperationCodes(allocation_length=4), b""),
    (spc.ReportSupportedTaskManagementFunctions(allocation_length=4), b""),
    *((layout(transfer_length=1), b"") for layout in (sbc.Read6, sbc.Read10, sbc.Read12, sbc.Read16)),
    *((layout(transfer_length=1), ONE_BLOCK) for layout in (sbc.Write6, sbc.Write10, sbc.Write12, sbc.Write16)),
    *(
        (layout(transfer_length=1), ONE_BLOCK)
        for layout in (sbc.WriteAndVerify10, sbc.WriteAndVerify12, sbc.WriteAndVerify16, sbc.OrWrite16)
    ),
    *((layout(verification_length=1), b"") for layout in (sbc.Verify10, sbc.Verify12, sbc.Verify16)),
    *((layout(number_of_logical_blocks=1), ONE_BLOCK) for layout in (sbc.WriteSame10, sbc.WriteSame16)),
    (sbc.CompareAndWrite(number_of_logical_blocks=1), bytes(BLOCK) + ONE_BLOCK),
    _with_list(sbc.Unmap, UNMAPPED),
    (sbc.GetLbaStatus(allocation_length=24), b""),
    *((layout(), b"") for layout in (sbc.PreFetch10, sbc.PreFetch16, sbc.SynchronizeCache10, sbc.SynchronizeCache16)),
    (sbc.ReadCapacity10(), b""),
    (ExtendedCopyLid1(), b""),
    (ExtendedCopyLid4(), b""),
    (ReportTimestamp(allocation_length=12), b""),
    (SetTimestamp(), b""),
    (ReportIdentifyingInformation(allocation_length=8), b""),
    (ReportTargetPortGroups(allocation_length=255), b""),
    _with_list(SetTargetPortGroups, bytes(4) + SetDescriptor(target_port_group=1).pack()),
    (ReceiveDiagnosticResults(allocation_length=5), b""),
    (SendDiagnostic(selftest=True), b""),
    (ReadBuffer(mode=Mode.ECHO_DESCRIPTOR, allocation_length=4), b""),
    (WriteBuffer(mode=Mode.ECHO, parameter_list_length=BLOCK), ONE_BLOCK),
    _with_list(SetIdentifyingInformation, b"label"),
    (ReceiveCopyOperatingParameters(allocation_length=255), b""),
    _with_list(PopulateToken, populate_list([(0, 1)])),
    _with_list(WriteUsingToken, write_list(ZERO_TOKEN, [(0, 1)])),
    *((layout(allocation_length=8), b"") for layout in (ReadDefectData10, ReadDefectData12)),
    (WriteAtomic16(transfer_length=1), ONE_BLOCK),
    (Sanitize(), b""),
    (FormatUnit(), b""),
    (sbc.ReadCapacity16(allocation_length=32), b""),
)
BY_LAYOUT = {type(cdb): (cdb, data) for cdb, data in SAMPLES}

# CDBs of one operation code that stand in different lines, by the `variant` of the line
VARIANTS = {
    "PREVENT=0": (sbc.PreventAllowMediumRemoval(),),
    "PREVENT=1": (sbc.PreventAllowMediumRemoval(prevent=1),),
    "start": (sbc.StartStopUnit(start=True), sbc.StartStopUnit(start=True, loej=True)),
    "other": (
        sbc.StartStopUnit(),
        sbc.StartStopUnit(loej=True),
        sbc.StartStopUnit(start=True, power_condition=2),
        sbc.StartStopUnit(power_condition=3),
    ),
}
# Service actions that want another CDB and Data-Out than the others of their layout
OF_ACTION: dict[Code, Sample] = {
    (0x48, 0x01): _with_list(
        Sanitize, OverwriteHeader(overwrite_count=1, initialization_pattern_length=1).pack() + b"x"
    )
}
PERSONALITIES = {"CRH=0": STRICT._replace(compatible_handling=False)}


def out_sample(action: OutAction, nexus: Nexus, kind: int) -> Sample:
    """A service action with the key of the nexus, and everything else as it has to be."""
    key = KEYS[nexus]
    lists = {
        OutAction.REGISTER: basic(key, 0xE5),
        OutAction.REGISTER_AND_IGNORE_EXISTING_KEY: basic(0xBAD, 0xE5),
        OutAction.PREEMPT: basic(key, K2 if nexus == N1 else K1),
        OutAction.PREEMPT_AND_ABORT: basic(key, K2 if nexus == N1 else K1),
        OutAction.REGISTER_AND_MOVE: moving(key, 0xE5, N4),
        OutAction.REPLACE_LOST_RESERVATION: basic(0, 0xE5),
    }
    return _with_list(spc.PersistentReserveOut, lists.get(action, basic(key)), service_action=action, type=kind)


class Probe(NamedTuple):
    """One command to send, and the line that says what becomes of it."""

    line: Line
    row: Command
    cdb: Layout
    data: bytes

    def sample(self, nexus: Nexus, kind: int) -> Sample:
        if self.row.layout is spc.PersistentReserveOut:
            return out_sample(OutAction(self.row.service_action or 0), nexus, kind)
        return self.cdb, self.data

    @property
    def allowed(self) -> Told | None:
        """What an allowed command comes to, None when that is not known."""
        if self.row.layout is spc.PersistentReserveOut:
            return INVALID_RELEASE if self.row.service_action == OutAction.REPLACE_LOST_RESERVATION else G
        return G if self.row.layout in BY_LAYOUT or self.line.variant in VARIANTS else None


MATRIX = [*lines(matrix.SPC), *lines(matrix.RESERVE_OUT), *lines(matrix.SBC), *lines(matrix.RESERVE)]
CODES = {code for line in MATRIX for code in line.codes}


def code_of(row: Command) -> Code:
    return row.operation_code, row.service_action


def unlisted(table: Iterable[Command]) -> list[str]:
    """The commands of a table that no line names."""
    return [row.name for row in table if code_of(row) not in CODES]


def absent(table: Iterable[Command]) -> list[tuple[Code, Line]]:
    """What the lines name and a table does not have."""
    has = {code_of(row) for row in table}
    return [(code, line) for line in MATRIX for code in line.codes if code not in has]


def probes(line: Line, table: Iterable[Command]) -> Iterator[Probe]:
    for row in table:
        if code_of(row) not in line.codes:
            continue
        if line.variant in VARIANTS:
            yield from (Probe(line, row, cdb, b"") for cdb in VARIANTS[line.variant])
        else:
            cdb, data = OF_ACTION.get(code_of(row)) or BY_LAYOUT.get(row.layout, (row.layout(), b""))
            action = {} if row.service_action is None else {"service_action": int(row.service_action)}
            yield Probe(line, row, cdb.replace(**action), data)


def parameters(table: str) -> Callable:
    """Every command of a table of `matrix`, every type and every role."""
    found = [(probe, f"{probe.row.name}-{line.variant}") for line in lines(table) for probe in probes(line, TABLE)]
    return pytest.mark.parametrize(
        "probe, kind, role",
        [
            pytest.param(probe, kind, role, id=f"{name.rstrip('-')}-{number}-{kind}-{role}")
            for number, (probe, name) in enumerate(found)
            for kind in TYPES
            for role in ROLES
        ],
    )


def snapshot(world: World) -> tuple:
    """Everything that a command which meets a conflict must leave as it is."""
    device = world.unit.device
    flags = device.loaded, device.stopped, frozenset(device.preventing)
    content = bytes(world.store.read(0, BLOCK * BLOCKS))
    return device.reservations, device.spc2_reservation, device.modes, flags, content, world.pending_of_all()


def check_cell(probe: Probe, kind: int, role: str) -> None:
    world = World(personality=PERSONALITIES.get(probe.line.variant, STRICT))
    nexus = ROLES[role]
    assert world.register(N1, K1) == G
    assert world.register(N2, K2) == G
    assert world.reserve(N1, K1, kind) == G
    before = snapshot(world)
    told = world.send(nexus, *probe.sample(nexus, kind))
    match probe.line.cell(TYPES.index(kind), list(ROLES).index(role)):
        case "A" if probe.allowed is not None:
            assert told == probe.allowed
        case "A":
            assert told != RC
        case "N":
            assert told == G
            assert snapshot(world) == before
        case cell:
            assert cell == "C"
            assert told == RC
            assert snapshot(world) == before


@pytest.mark.clause("SPC4r37 5.13.1")
@parameters(matrix.SPC)
def test_command_of_spc(probe: Probe, kind: int, role: str):
    check_cell(probe, kind, role)


@pytest.mark.clause("SPC4r37 5.13.1")
@parameters(matrix.RESERVE_OUT)
def test_service_action_of_persistent_reserve_out(probe: Probe, kind: int, role: str):
    check_cell(probe, kind, role)


@pytest.mark.clause("SBC3r36 4.17")
@parameters(matrix.SBC)
def test_command_of_sbc(probe: Probe, kind: int, role: str):
    check_cell(probe, kind, role)


@pytest.mark.clause("SPC4r37 5.13.3")
@parameters(matrix.RESERVE)
def test_reserve_and_release(probe: Probe, kind: int, role: str):
    check_cell(probe, kind, role)


def raw_cdb(code: Code) -> bytes:
    operation_code, service_action = code
    if operation_code == 0x7F:  # variable length: ADDITIONAL CDB LENGTH in byte 7, the service action after it
        return bytes([operation_code, 0, 0, 0, 0, 0, 0, 24]) + (service_action or 0).to_bytes(2) + bytes(22)
    return bytes([operation_code, service_action or 0]).ljust(16, b"\0")


@pytest.mark.clause("SPC4r37 4.2.5.2")
@pytest.mark.parametrize(
    "code", [pytest.param(code, id=f"{code[0]:02X}-{code[1] or 0:02X}-{line}") for code, line in absent(TABLE)]
)
@pytest.mark.parametrize("kind", [WE, EA])
@pytest.mark.parametrize("role", ROLES)
def test_command_that_the_target_does_not_have_is_unknown_to_everybody(code: Code, kind: int, role: str):
    world = World()
    world.register(N1, K1)
    world.register(N2, K2)
    world.reserve(N1, K1, kind)
    before = snapshot(world)
    shared = any(row.operation_code == code[0] and row.service_action is not None for row in TABLE)
    assert world.send(ROLES[role], raw_cdb(code)) == (INVALID_FIELD_IN_CDB if shared else INVALID_OPERATION_CODE)
    assert snapshot(world) == before


# The matrix itself


class LogSense(Layout):
    """A command that the matrix names and the target may have one day."""

    operation_code: U8 = 0x4D
    _1: U32 = 0
    _2: U32 = 0
    control: U8 = 0


class Vendor(Layout):
    """A command that no standard names."""

    operation_code: U8 = 0xC5
    _1: U32 = 0
    control: U8 = 0


def _later(layout: type[Layout]) -> tuple[Command, ...]:
    row = Row(name=layout.__name__, access=Access.ALWAYS, clause="SPC4r37 6.1")
    return *(row for row in TABLE if row.operation_code != 0x4D), command(row, layout, lambda device, cdb, call: Done())


def test_every_command_of_the_table_has_a_line():
    assert not unlisted(TABLE)


def test_a_command_without_a_line_would_be_noticed():
    assert unlisted(_later(Vendor)) == ["Vendor"]


def test_a_command_that_joins_the_table_is_tested_by_its_line():
    table = _later(LogSense)
    [line] = [line for line in MATRIX if (0x4D, None) in line.codes]
    assert [(probe.row.name, type(probe.cdb)) for probe in probes(line, table)] == [("LogSense", LogSense)]
    assert (0x4D, None) not in {code for code, _ in absent(table)}


def test_every_command_that_the_target_has_is_known_to_be_good_where_it_is_allowed():
    unknown = {probe.row.name for line in MATRIX for probe in probes(line, TABLE) if probe.allowed is None}
    want_a_copy = {f"RECEIVE COPY STATUS({lid})" for lid in ("LID1", "LID4")}
    want_a_copy |= {"RECEIVE COPY FAILURE DETAILS(LID1)", "COPY OPERATION ABORT", "RECEIVE ROD TOKEN INFORMATION"}
    assert unknown >= want_a_copy, "each wants a copy that was there before"
    unknown -= want_a_copy
    assert not unknown, "give it a sample, or name it here with the reason"


def test_every_line_has_a_letter_for_every_type_and_role():
    assert len(MATRIX) == 83
    for line in MATRIX:
        groups = line.cells.split()
        assert [len(group) for group in groups] == [len(ROLES)] * len(TYPES)
        assert set(line.cells) <= set("ACN ")
        assert all(group[0] == group[1] for group in groups[4:]), "a registrant is a holder"


def test_no_operation_code_stands_in_two_lines_but_for_variants():
    plain = [code for line in MATRIX if not line.variant for code in line.codes]
    assert len(plain) == len(set(plain))
    assert not set(plain) & {code for line in MATRIX if line.variant for code in line.codes}
