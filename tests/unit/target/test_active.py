"""What a session knows of its units: node with LUN 0 and 1, units disk0, disk1, disk2."""

import pytest

from iscsi_target.iscsi.login import Negotiated, Parameters, SessionType
from iscsi_target.iscsi.session import Session
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.lun import pack_lun
from iscsi_target.scsi.profiles import PROFILES, Choices, Chosen
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.target.active import ActiveSession
from iscsi_target.target.nodes import TargetNode
from tests.unit.scsi.unit_bench import A, make_device

CHANGED = AttentionCode.REPORTED_LUNS_DATA_HAS_CHANGED


def node(**luns: str) -> TargetNode:
    return TargetNode("n", luns={int(lun.removeprefix("lun")): name for lun, name in luns.items()})


@pytest.fixture
def units() -> dict[str, LogicalUnit]:
    return {name: LogicalUnit(name, make_device()) for name in ("disk0", "disk1", "disk2")}


@pytest.fixture
def active(units: dict[str, LogicalUnit]) -> ActiveSession:
    negotiated = Negotiated("a", "", b"\x80\0\0\0\0\x07", 0, 0, SessionType.NORMAL, "n", Parameters())
    session = Session(negotiated, 5, 1, lambda connection, value: [])
    active = ActiveSession(session, A, node(lun0="disk0", lun1="disk1"))
    active.attach(units)
    return active


def told(unit: LogicalUnit) -> set[int]:
    codes = set()
    while (code := unit.nexuses.take(A)) is not None:
        codes.add(code)
    return codes


def test_luns_are_those_that_lead_to_a_unit(active: ActiveSession, units: dict[str, LogicalUnit]):
    assert active.luns == (0, 1)
    active.remap(node(lun3="disk0", lun2="nothing", lun9="disk2"), units)
    assert active.luns == (3, 9)
    assert active.unit(pack_lun(2)) is None
    assert active.unit(b"\xc1" + bytes(7)) is None  # a well-known logical unit
    assert active.unit(pack_lun(9)) is units["disk2"]


def test_unit_that_goes_is_named_and_waits_to_be_left(active: ActiveSession, units: dict[str, LogicalUnit]):
    assert active.remap(node(lun0="disk0"), units) == [units["disk1"]]
    assert list(active.leaving) == [units["disk1"]]
    assert active.unit(pack_lun(1)) is None


@pytest.mark.clause("SPC4r37 6.33")
def test_units_that_stay_learn_that_the_luns_changed(active: ActiveSession, units: dict[str, LogicalUnit]):
    told(units["disk0"])
    active.remap(node(lun0="disk0", lun2="disk2"), units)
    assert told(units["disk0"]) == {CHANGED}
    assert CHANGED not in told(units["disk2"])


def test_without_a_change_nobody_is_told(active: ActiveSession, units: dict[str, LogicalUnit]):
    told(units["disk0"])
    assert active.remap(node(lun0="disk0", lun1="disk1"), units) == []
    assert told(units["disk0"]) == set()


def test_swapped_luns_are_a_change(active: ActiveSession, units: dict[str, LogicalUnit]):
    told(units["disk0"])
    assert active.remap(node(lun0="disk1", lun1="disk0"), units) == []
    assert told(units["disk0"]) == {CHANGED}


def test_unit_of_the_same_name_that_is_another_is_attached_anew(active: ActiveSession, units: dict[str, LogicalUnit]):
    other = LogicalUnit("disk1", make_device())
    assert active.remap(active.node, units | {"disk1": other}) == [units["disk1"]]
    assert active.unit(pack_lun(1)) is other


def test_unit_that_comes_back_too_early_is_attached_after_it_left(active: ActiveSession, units: dict[str, LogicalUnit]):
    active.remap(node(lun0="disk0"), units)
    assert active.remap(node(lun0="disk0", lun1="disk1"), units) == []
    assert active.unit(pack_lun(1)) is None
    units["disk1"].detach(A)
    active.leaving.clear()
    active.remap(active.node, units)
    assert active.unit(pack_lun(1)) is units["disk1"]


def test_one_unit_at_two_luns_is_attached_once(units: dict[str, LogicalUnit], active: ActiveSession):
    active.remap(node(lun0="disk0", lun7="disk0"), units)
    assert active.unit(pack_lun(0)) is active.unit(pack_lun(7)) is units["disk0"]


def test_detached_session_is_forgotten_by_its_units(active: ActiveSession, units: dict[str, LogicalUnit]):
    active.detach()
    assert not any(A in unit.nexuses for unit in units.values())


def test_summary_names_both_ends(active: ActiveSession):
    summary = active.summary()
    assert (summary.initiator, summary.isid, summary.target, summary.tsih) == ("a", "800000000007", "n", 5)
    assert (summary.portal_group_tag, summary.connections, summary.open_tasks) == (1, (), 0)


def test_seat_is_the_same_for_every_command_until_the_units_change(
    active: ActiveSession, units: dict[str, LogicalUnit]
):
    field = pack_lun(0)
    seat = active.seat(field)
    assert seat is not None
    assert active.seat(field) is seat
    assert active.seat(pack_lun(9)) is None
    active.remap(active.node, units)
    again = active.seat(field)
    assert again is not None
    assert again is not seat
    assert again.unit is seat.unit
    active.detach()
    assert active.seat(field) is None


def test_units_know_how_the_initiator_is_to_be_treated(active: ActiveSession, units: dict[str, LogicalUnit]):
    assert units["disk0"].nexuses.standing(A).choices == Choices()
    choices = PROFILES["esxi"].choices
    other = node(lun0="disk0", lun2="disk2")._replace(chosen=Chosen(patterns={A.initiator_port.name: choices}))
    active.remap(other, units)
    assert active.choices is choices
    assert [units[name].nexuses.standing(A).choices for name in ("disk0", "disk2")] == [choices] * 2
