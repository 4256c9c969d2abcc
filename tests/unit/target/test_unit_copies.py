"""EXTENDED COPY from one unit to another; drawing in copy_bench. Either unit may be the copy manager."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscsi_target.scsi.layouts.cdb import PersistentReserveOut
from iscsi_target.scsi.layouts.copy_cdb import ExtendedCopyLid1, ExtendedCopyLid4
from iscsi_target.scsi.layouts.reservation_pages import BasicParameterList
from iscsi_target.scsi.nexus import InitiatorPort, Nexus
from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.reservations.reservations import Spc2Reservation
from iscsi_target.scsi.state.copy_log import CopyState
from iscsi_target.scsi.state.port_groups import AccessState, PortGroup
from iscsi_target.scsi.state.task import Completed, Function, ManagementRequest
from iscsi_target.scsi.status import Status
from tests.unit.scsi.commands.test_extended_copy import blocks, cscd, parameters, parameters_lid4
from tests.unit.scsi.unit_bench import BLOCK, BLOCKS, A, B
from tests.unit.target.copy_bench import FAR, NEAR, TwoUnits, code

pytestmark = [pytest.mark.clause("SPC4r37 5.17.3"), pytest.mark.clause("SPC4r37 5.17.7.4")]
FAILURE, UNREACHABLE, INEXACT, OUT_OF_RANGE = 0x0D01, 0x0804, 0x260A, 0x0000
OTHER = {NEAR: FAR, FAR: NEAR}
FORTH = {"source_cscd_descriptor_id": 0, "destination_cscd_descriptor_id": 1}


def cscds(two: TwoUnits, source: str, *, pad: bool = False) -> list[bytes]:
    """Returns the CSCD descriptors of the source and of the other unit."""
    units = [two.units[name].device for name in (source, OTHER[source])]
    found = [bytearray(cscd(unit, block=unit.geometry.block_length_bytes)) for unit in units]
    if pad:
        found[1][28] |= 4
    return [bytes(each) for each in found]


def copy(two: TwoUnits, segments: list[bytes], *, source: str = NEAR, manager: str = NEAR, pad: bool = False):
    data = parameters(cscds(two, source, pad=pad), segments)
    return two.send(manager, ExtendedCopyLid1(parameter_list_length=len(data)), data)


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(0, 10)), max_size=4),
    st.sampled_from([(one, other) for one in OTHER for other in OTHER]),
)
def test_blocks_go_from_one_unit_to_the_other_as_a_model_does_it(
    ranges: list[tuple[int, int, int]], names: tuple[str, str]
):
    """Law: whoever carries it out, the blocks of the segments are at the destination, and nothing else changes."""
    source, manager = names
    two = TwoUnits()
    two.memories[FAR].content.reverse()
    before, model = bytes(two.memories[source].content), bytearray(two.memories[OTHER[source]].content)
    for start, place, count in ranges:
        model[place * BLOCK : (place + count) * BLOCK] = before[start * BLOCK : (start + count) * BLOCK]
    end = copy(two, [blocks(*each, **FORTH) for each in ranges], source=source, manager=manager)
    assert end is not None
    assert end.status is Status.GOOD
    assert two.memories[OTHER[source]].content == model
    assert two.memories[source].content == before
    record = two.units[manager].device.copies.find(A, 7)
    assert record is not None
    assert (record.state, record.segments) == (CopyState.DONE, len(ranges))
    assert record.copied_bytes == sum(count for _, _, count in ranges) * BLOCK
    assert not two.fetches


@pytest.mark.clause("SPC4r37 6.4.6.2")
@pytest.mark.clause("SPC4r37 6.4.6.3")
@pytest.mark.parametrize("manager", [NEAR, FAR])
def test_other_block_lengths_are_counted_as_dc_says_and_filled_up_as_pad_says(manager: str):
    two = TwoUnits(4096)
    before = bytes(two.memories[FAR].content)
    assert code(copy(two, [blocks(1, 2, 9, **FORTH)], manager=manager)) == INEXACT
    assert two.memories[FAR].content == before
    end = copy(two, [blocks(1, 2, 9, **FORTH), blocks(1, 5, 1, dc=True, **FORTH)], manager=manager, pad=True)
    assert end is not None
    assert end.status is Status.GOOD
    nine, eight = two.read(NEAR, [(1, 9)]), two.read(NEAR, [(1, 8)])
    assert two.read(FAR, [(2, 2)]) == nine + bytes(8192 - len(nine))
    assert two.read(FAR, [(5, 1)]) == eight
    assert two.read(FAR, [(4, 1)]) == before[4 * 4096 : 5 * 4096]


def test_a_range_beyond_the_end_of_the_other_unit_is_refused_before_anything_is_copied():
    two = TwoUnits()
    before = bytes(two.memories[FAR].content)
    assert code(copy(two, [blocks(0, 0, 1, **FORTH), blocks(0, BLOCKS - 1, 2, **FORTH)])) == OUT_OF_RANGE
    assert two.memories[FAR].content == before


@pytest.mark.clause("SPC4r37 6.4.5.2")
def test_a_unit_that_the_nexus_does_not_see_is_not_reached():
    two = TwoUnits()
    two.units[FAR].detach(A)
    two.units[FAR].attach(B)
    assert code(copy(two, [blocks(0, 0, 1, **FORTH)])) == UNREACHABLE


def make_standby(two: TwoUnits, name: str) -> None:
    two.units[name].device.port_groups = {1: PortGroup(AccessState.STANDBY)}


def reserve(two: TwoUnits, name: str) -> None:
    two.units[name].device.spc2_reservation = Spc2Reservation(B)


def eject(two: TwoUnits, name: str) -> None:
    two.units[name].device.loaded = False


def fail(two: TwoUnits, name: str) -> None:
    two.failing[name] = MediumError(Fault.WRITE_FAILED)


@pytest.mark.parametrize("spoil", [make_standby, reserve, eject, fail])
@pytest.mark.parametrize("source", [NEAR, FAR])
def test_the_other_unit_refuses_what_it_would_refuse_to_the_nexus(spoil, source: str):
    two = TwoUnits()
    before = {name: bytes(memory.content) for name, memory in two.memories.items()}
    spoil(two, FAR)
    end = copy(two, [blocks(0, 9, 1, **FORTH)], source=source)
    assert code(end) == FAILURE
    assert {name: bytes(memory.content) for name, memory in two.memories.items()} == before
    record = two.units[NEAR].device.copies.find(A, 7)
    assert record is not None
    assert record.state is CopyState.FAILED


def test_a_unit_attention_of_the_other_unit_stays_for_the_nexus():
    two = TwoUnits()
    two.units[FAR].load()
    end = copy(two, [blocks(0, 9, 1, **FORTH)])
    assert end is not None
    assert end.status is Status.GOOD
    assert two.units[FAR].nexuses.first(A) is not None


# What ends copies at the other unit


def under_way(*, immed: bool = False) -> TwoUnits:
    """Begins a copy of two segments from "near" to "far", whose first write is at the medium of "far"."""
    two = TwoUnits(at_once=False)
    first = {"source_cscd_descriptor_id": 1, "destination_cscd_descriptor_id": 2}
    data = parameters_lid4(cscds(two, NEAR), [blocks(0, 8, 1, **first), blocks(1, 9, 1, **first)], immed=immed)
    two.send(NEAR, ExtendedCopyLid4(parameter_list_length=len(data)), data)
    assert two.perform() == NEAR
    assert [name for name, _ in two.at_medium.values()] == [FAR]
    return two


def reset_far(two: TwoUnits) -> None:
    two.managed = 0
    request = ManagementRequest(1, Function.LOGICAL_UNIT_RESET, B)
    two.execute(two.units[FAR], two.units[FAR].manage(request))


@pytest.mark.clause("SPC4r37 5.17.5")
@pytest.mark.parametrize("immed", [False, True])
def test_a_reset_of_the_other_unit_waits_for_what_a_copy_has_there_and_ends_the_copy(immed: bool):
    two = under_way(immed=immed)
    reset_far(two)
    assert two.managed == 0, "a write is at the medium"
    assert two.perform() == FAR
    assert two.managed == 1
    after = bytes(two.memories[FAR].content)
    while two.at_medium:
        assert two.perform() == NEAR
    assert two.memories[FAR].content == after
    assert two.units[NEAR].open_tasks == two.units[FAR].open_tasks == 0
    record = two.units[NEAR].device.copies.find(A, 0x12345678)
    assert record is not None
    assert record.state is CopyState.FAILED


def lose(two: TwoUnits) -> None:
    two.execute(two.units[FAR], two.units[FAR].manage(ManagementRequest(1, Function.NEXUS_LOSS, A)))
    two.units[FAR].detach(A)
    two.units[FAR].attach(A)


def unload(two: TwoUnits) -> None:
    two.execute(two.units[FAR], two.units[FAR].unload())
    two.units[FAR].load()


@pytest.mark.parametrize("end", [reset_far, lose, unload])
def test_what_happens_at_the_other_unit_between_two_pieces_ends_the_copy(end):
    two = under_way()
    assert two.perform() == FAR
    assert [name for name, _ in two.at_medium.values()] == [NEAR], "the second piece is read"
    end(two)
    after = bytes(two.memories[FAR].content)
    assert two.perform() == NEAR
    assert not two.at_medium
    assert two.memories[FAR].content == after
    assert isinstance(two.ends[-1], Completed)
    assert code(two.ends[-1]) == FAILURE


def test_a_nexus_of_the_same_name_by_another_way_is_another_one():
    two = TwoUnits()
    two.units[FAR].detach(A)
    two.units[FAR].attach(Nexus(InitiatorPort(A.initiator_port.name, b"\0\0\0\0\0\7"), A.target_port))
    assert code(copy(two, [blocks(0, 0, 1, **FORTH)])) == UNREACHABLE


def reserve_out(two: TwoUnits, nexus: Nexus, action: OutAction, key: int, victim: int) -> Completed | None:
    data = BasicParameterList(reservation_key=key, service_action_reservation_key=victim).pack()
    cdb = PersistentReserveOut(service_action=action, parameter_list_length=len(data))
    return two.send(FAR, cdb, data, nexus)


@pytest.mark.clause("SPC4r37 5.13.11.2.6")
@pytest.mark.parametrize("immed", [False, True])
@pytest.mark.parametrize("pieces_done", [0, 1])
def test_after_preempt_and_abort_at_the_other_unit_a_copy_writes_nothing_there(pieces_done: int, immed: bool):
    two = under_way(immed=immed)
    two.units[FAR].attach(B)
    two.units[FAR].nexuses.take(B)
    reserve_out(two, A, OutAction.REGISTER, 0, 0xA)
    reserve_out(two, B, OutAction.REGISTER, 0, 0xB)
    if pieces_done:
        assert two.perform() == FAR
    end = reserve_out(two, B, OutAction.PREEMPT_AND_ABORT, 0xB, 0xA)
    if not pieces_done:
        assert end is None, "a write is at the medium"
        assert two.perform() == FAR
        end = next(each for each in two.ends if each.task.nexus == B)
    assert end is not None
    assert end.status is Status.GOOD
    after = bytes(two.memories[FAR].content)
    while two.at_medium:
        two.perform()
    assert two.memories[FAR].content == after
    record = two.units[NEAR].device.copies.find(A, 0x12345678)
    assert record is not None
    assert record.state is CopyState.FAILED
