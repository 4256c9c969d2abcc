"""What a unit says that it can do is what it does, whatever target it imitates: RSOC against the dispatch of CDBs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.commands.command_lookup import find_available
from iscsi_target.scsi.commands.supported import ALL_COMMANDS, EITHER, NOT_SUPPORTED
from iscsi_target.scsi.commands.table import TABLE
from iscsi_target.scsi.layouts.cdb import (
    PersistentReserveIn,
    PersistentReserveOut,
    ReportSupportedOperationCodes,
    ServiceActionCdb,
)
from iscsi_target.scsi.layouts.pages import AllCommandsHeader, CommandDescriptor, OneCommandHeader
from iscsi_target.scsi.reservations.personalities import PERSONALITIES
from iscsi_target.scsi.state.device import Device
from iscsi_target.scsi.state.task import UnitState
from iscsi_target.scsi.status import InvalidFieldInCdb, InvalidOperationCode
from tests.conformance.reservations.world import N1, G, P, Q, World, make_device

CDB_BYTES = 16
CODES = range(0x100)
ACTIONS = range(0x20)
RESERVING = (PersistentReserveIn, PersistentReserveOut)

personalities = pytest.mark.parametrize("name", PERSONALITIES)


def device(name: str) -> Device:
    return make_device(PERSONALITIES[name], (P, Q), UnitState())


def report(world: World, options: int, code: int = 0, action: int = 0) -> bytes:
    """RSOC of a world."""
    cdb = ReportSupportedOperationCodes(
        reporting_options=options,
        requested_operation_code=code,
        requested_service_action=action,
        allocation_length=0xFFFF,
    )
    tag = world.start(N1, cdb)
    assert world.ended[tag] == G
    return world.data[tag]


def advertised(world: World) -> set[tuple[int, int | None]]:
    """Returns (operation code, service action or None) of every command that RSOC lists."""
    data = report(world, ALL_COMMANDS)
    header = AllCommandsHeader.unpack(data)
    assert header.command_data_length == len(data) - header.size
    found = [CommandDescriptor.unpack(data, at) for at in range(header.size, len(data), CommandDescriptor.size)]
    listed = [(each.operation_code, each.service_action if each.servactv else None) for each in found]
    assert len(set(listed)) == len(listed)
    return set(listed)


def cdb(code: int, action: int) -> bytes:
    return ServiceActionCdb(operation_code=code, service_action=action).pack().ljust(CDB_BYTES, b"\0")


@personalities
def test_every_command_that_is_advertised_is_found_and_no_other(name: str):
    """Law: for all operation codes and service actions, what RSOC lists is dispatched and nothing else is.

    A service action is refused with INVALID FIELD IN CDB when the operation code has others, and with INVALID COMMAND
    OPERATION CODE when it has none.
    Source: SPC4r37 6.35, 4.2.5.2, 4.2.5.3
    """
    unit, listed = device(name), advertised(World(personality=PERSONALITIES[name]))
    for code in CODES:
        actions = {action for other, action in listed if other == code}
        for action in ACTIONS:
            if None in actions or action in actions:
                row = find_available(cdb(code, action), unit)
                assert (row.operation_code, row.service_action) in listed
            else:
                with pytest.raises(InvalidFieldInCdb if actions else InvalidOperationCode):
                    find_available(cdb(code, action), unit)


@personalities
def test_rsoc_of_one_command_agrees_with_the_list(name: str):
    """Law: the answer for one command is that of the list, for every service action of 5Eh and 5Fh.

    Source: SPC4r37 6.35.3
    """
    world = World(personality=PERSONALITIES[name])
    listed = advertised(world)
    for layout in RESERVING:
        code = layout().operation_code
        for action in ACTIONS:
            answer = OneCommandHeader.unpack(report(world, EITHER, code, action))
            assert (answer.support != NOT_SUPPORTED) is ((code, action) in listed)


@personalities
def test_service_actions_are_those_of_the_personality(name: str):
    """Law: a personality has the service actions that its data says, and none of those means no such commands."""
    personality, listed = PERSONALITIES[name], advertised(World(personality=PERSONALITIES[name]))
    for layout, actions in zip(RESERVING, (personality.in_actions, personality.out_actions), strict=True):
        code = layout().operation_code
        assert {action for other, action in listed if other == code} == {int(action) for action in actions}


@personalities
@given(action=st.sampled_from(ACTIONS), layout=st.sampled_from(RESERVING))
def test_what_is_not_advertised_changes_nothing(
    name: str, action: int, layout: type[PersistentReserveIn | PersistentReserveOut]
):
    """Law: a service action that a unit does not have is refused and changes nothing."""
    world = World(personality=PERSONALITIES[name])
    code = layout().operation_code
    if (code, action) in advertised(world):
        return
    before = world.state
    told = world.send(N1, layout(service_action=action), bytes(24))
    codes = {row.operation_code for row in TABLE if row.available(world.unit.device)}
    assert told.sense == (5, 0x2400 if code in codes else 0x2000)
    assert world.state == before
