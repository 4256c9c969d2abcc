"""The cases NX-01 to NX-13 that concern sessions, with real PDUs; for what concerns the unit alone see `test_nx_unit`.

Hosts as in `tests/initiator`: at portal groups 1 and 2 of one node, LUN 0 == "disk0". A, B and C are on initiator ports
of their own; A is registered with K1.
"""

import pytest

from iscsi_target.iscsi.errors import LoginStatus
from iscsi_target.iscsi.responses import LoginResponse
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.scsi.layouts.cdb import PersistentReserveIn, PersistentReserveOut
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import InAction, OutAction
from iscsi_target.scsi.reservations.reservations import Reservations
from iscsi_target.scsi.status import Status
from tests import reservation_data
from tests.conformance.reservations.world import K1, K2, WE, WERO, basic
from tests.initiator import NODE, Host, Lab, disk_node
from tests.unit.scsi.unit_bench import BLOCK

ONES = bytes([1]) * BLOCK
CONFLICT = (Status.RESERVATION_CONFLICT, None)
GOOD = (Status.GOOD, None)
POWER_ON, NEXUS_LOST, BUS_RESET = 0x2900, 0x2907, 0x2902
NEW_ISID = bytes([0x80, 0, 0, 0, 0, 2])


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture
def a(lab: Lab) -> Host:
    """Holds WERO."""
    host = lab.session("a")
    assert send_out(host, OutAction.REGISTER, basic(0, K1)) == GOOD
    assert send_out(host, OutAction.RESERVE, basic(K1), type=WERO) == GOOD
    return host


@pytest.fixture
def c(lab: Lab) -> Host:
    """Is not registered."""
    return lab.session("c")


def told(host: Host, tag: int) -> tuple[int, tuple[int, int] | None]:
    """Status and sense of a command."""
    ended = host.outcome(tag)
    return ended.status, ended.sense


def send_out(host: Host, action: OutAction, parameters: bytes, **fields) -> tuple[int, tuple[int, int] | None]:
    cdb = PersistentReserveOut(service_action=action, parameter_list_length=len(parameters), **fields)
    return told(host, host.command(cdb, write=parameters, data=parameters))


def write(host: Host, lun: int = 0) -> tuple[int, tuple[int, int] | None]:
    return told(host, host.write(0, ONES, lun))


def keys(host: Host, lun: int = 0) -> list[int]:
    cdb = PersistentReserveIn(service_action=InAction.READ_KEYS, allocation_length=8192)
    ended = host.outcome(host.command(cdb, lun, read=8192))
    assert (ended.status, ended.sense) == GOOD
    return reservation_data.keys(ended.data)


def state(lab: Lab, unit: str = "disk0") -> Reservations:
    return lab.units[unit].device.reservations


def join(lab: Lab, name: str, portal_group_tag: int = 1, isid: bytes | None = None, **login) -> Host:
    """Returns a new connection on which a login was sent; unlike `Lab.session` it leaves unit attentions."""
    host = lab.connect(name, portal_group_tag, login.pop("address", "10.0.0.1:3260"))
    host.isid = isid or host.isid
    host.login(**login)
    return host


def nexus_of(host: Host, portal_group_tag: int = 1) -> Nexus:
    return Nexus(InitiatorPort(host.name, host.isid), TargetPort(NODE, portal_group_tag))


def pending(lab: Lab, host: Host) -> list[int]:
    return list(lab.units["disk0"].nexuses._attached[nexus_of(host)].attentions.pending)


@pytest.mark.case("NX-01")
@pytest.mark.clause("SPC4r37 5.13.1")
@pytest.mark.parametrize("end", ["logout", "cut"])
def test_nx_01_reservation_outlives_the_session_of_its_holder(lab: Lab, a: Host, c: Host, end: str):
    before = state(lab)
    a.logout() if end == "logout" else a.cut()
    assert a.closed
    assert write(c) == CONFLICT
    assert lab.block(0) != ONES
    assert state(lab) == before
    assert before.generation == 1
    assert not pending(lab, c)


@pytest.mark.case("NX-02")
@pytest.mark.clause("SPC4r37 5.13.5.1")
@pytest.mark.parametrize("end", ["logout", "cut"])
def test_nx_02_holder_that_logs_in_again_is_told_of_the_loss_and_holds_still(lab: Lab, a: Host, end: str):
    before = state(lab)
    a.logout() if end == "logout" else a.cut()
    again = join(lab, "a")
    assert pending(lab, again) == [NEXUS_LOST]
    assert write(again) == (Status.CHECK_CONDITION, (6, NEXUS_LOST))
    assert write(again) == GOOD
    assert keys(again) == [K1]
    assert state(lab) == before
    assert state(lab).holds(nexus_of(again))
    assert send_out(again, OutAction.RELEASE, basic(K1), type=WERO) == GOOD
    assert state(lab).reservation is None


@pytest.mark.case("NX-03")
@pytest.mark.clause("SPC4r37 5.13.7")
def test_nx_03_another_isid_is_another_nexus_and_the_old_registration_stays(lab: Lab, a: Host):
    before = state(lab)
    a.cut()
    other = join(lab, "a", isid=NEW_ISID)
    assert write(other) == (Status.CHECK_CONDITION, (6, POWER_ON))
    assert write(other) == CONFLICT
    assert send_out(other, OutAction.RELEASE, basic(K1), type=WERO) == CONFLICT
    assert keys(other) == [K1]
    assert state(lab) == before
    assert send_out(other, OutAction.REGISTER, basic(0, K1)) == GOOD
    assert write(other) == GOOD
    assert keys(other) == [K1, K1]
    assert state(lab).holds(nexus_of(a))
    assert not state(lab).holds(nexus_of(other))
    assert state(lab).generation == 2


@pytest.mark.case("NX-04")
@pytest.mark.clause("RFC7143 6.3.5")
def test_nx_04_reinstated_session_is_the_same_nexus_without_its_old_commands(lab: Lab, a: Host):
    before = state(lab)
    waiting = a.ask_to_write(0)
    lab.slow = True
    a.write(1, ONES)
    again = join(lab, "a")
    assert a.closed
    assert not again.logged_in, "the old session is over when its last operation is"
    lab.finish()
    lab.slow = False
    assert again.logged_in
    assert a.ended(waiting) is None
    assert lab.units["disk0"].open_tasks == 0
    assert pending(lab, again) == [NEXUS_LOST]
    assert again.attention() == NEXUS_LOST
    assert write(again) == GOOD
    assert state(lab) == before
    assert state(lab).holds(nexus_of(again))
    assert keys(again) == [K1]


@pytest.mark.case("NX-05")
@pytest.mark.clause("RFC7143 13.2")
def test_nx_05_session_has_one_connection_so_a_second_one_is_refused(lab: Lab, a: Host):
    before = state(lab)
    second = join(lab, "a", offers=[("MaxConnections", "4")], tsih=a.tsih, cid=1)
    assert second.login_status() == LoginStatus.TOO_MANY_CONNECTIONS
    assert second.closed
    assert not a.closed
    assert write(a) == GOOD
    assert state(lab) == before
    assert not pending(lab, a)


@pytest.mark.case("NX-05")
@pytest.mark.clause("RFC7143 6.3.4")
def test_nx_05_connection_that_takes_the_place_of_the_old_one_is_the_same_nexus(lab: Lab, a: Host):
    before = state(lab)
    again = join(lab, "a", tsih=a.tsih)
    assert a.closed
    assert again.tsih == a.tsih
    assert again.attention() == NEXUS_LOST
    assert write(again) == GOOD
    assert keys(again) == [K1]
    assert state(lab) == before


@pytest.mark.case("NX-06")
@pytest.mark.clause("RFC7143 6.3.5")
def test_nx_06_login_through_another_portal_of_the_group_reinstates(lab: Lab, a: Host, c: Host):
    before = state(lab)
    again = join(lab, "a", address="10.0.0.2:3260")
    assert a.closed
    assert again.logged_in
    assert len(lab.target.sessions()) == 2, "of A and C"
    assert again.attention() == NEXUS_LOST
    assert write(again) == GOOD
    assert write(c) == CONFLICT
    assert keys(again) == [K1]
    assert state(lab) == before


@pytest.mark.case("NX-07")
@pytest.mark.clause("SPC4r37 5.13.7")
def test_nx_07_another_portal_group_is_another_nexus(lab: Lab, a: Host):
    before = state(lab)
    other = join(lab, "a", portal_group_tag=2)
    assert other.attention() == POWER_ON
    assert not a.closed
    assert write(other) == CONFLICT
    assert write(a) == GOOD
    assert keys(other) == [K1]
    assert state(lab) == before
    assert send_out(other, OutAction.REGISTER, basic(0, K2)) == GOOD
    assert write(other) == GOOD
    assert state(lab).registrations == {nexus_of(a): K1, nexus_of(other, 2): K2}
    assert state(lab).generation == 2
    assert not pending(lab, a)


@pytest.mark.case("NX-09")
@pytest.mark.clause("SPC4r37 5.13.1")
def test_nx_09_target_warm_reset_keeps_sessions_and_reservations(lab: Lab, a: Host, c: Host):
    before = state(lab)
    tag = c.manage(TaskManagement.TARGET_WARM_RESET)
    assert c.managed(tag) == ManagementResponse.FUNCTION_COMPLETE
    assert (pending(lab, a), pending(lab, c)) == ([BUS_RESET], [BUS_RESET])
    assert (a.attention(), c.attention()) == (BUS_RESET, BUS_RESET)
    assert write(c) == CONFLICT
    assert write(a) == GOOD
    assert state(lab) == before


@pytest.mark.case("NX-09")
@pytest.mark.clause("SPC4r37 5.13.1")
def test_nx_09_target_cold_reset_ends_sessions_and_is_no_power_loss(lab: Lab, a: Host, c: Host):
    before = state(lab)
    tag = c.manage(TaskManagement.TARGET_COLD_RESET)
    assert c.managed(tag) == ManagementResponse.FUNCTION_COMPLETE
    assert a.closed
    assert c.closed
    assert state(lab) == before
    assert (before.aptpl, before.generation) == (False, 1)
    again, other = join(lab, "a"), join(lab, "c")
    for host in (again, other):
        code = host.attention()
        assert code is not None
        assert code >> 8 == 0x29
        assert host.attention() is None
    assert write(again) == GOOD
    assert write(other) == CONFLICT
    assert keys(other) == [K1]


@pytest.mark.case("NX-12")
@pytest.mark.clause("SPC4r37 5.13.1")
def test_nx_12_reservation_belongs_to_the_unit_and_not_to_its_number(lab: Lab, a: Host, c: Host):
    before = state(lab)
    lab.reconfigure(disk_node(luns={5: "disk0"}, portal_group_tags=(1, 2)))
    assert (a.attention(5), c.attention(5)) == (0x3F0E, 0x3F0E)
    assert keys(c, 5) == [K1]
    assert write(c, 5) == CONFLICT
    assert write(a, 5) == GOOD
    assert state(lab) == before


@pytest.mark.case("NX-12")
@pytest.mark.clause("SPC4r37 5.13.1")
def test_nx_12_reservation_of_a_unit_is_the_same_through_another_target():
    other = "iqn.2026-01.org.example:other"
    lab = Lab([disk_node(), disk_node(name=other, luns={7: "disk0"})])
    a, c = lab.session("a"), lab.session("c", target=other)
    send_out(a, OutAction.REGISTER, basic(0, K1))
    send_out(a, OutAction.RESERVE, basic(K1), type=WE)
    assert keys(c, 7) == [K1]
    assert write(c, 7) == CONFLICT
    assert write(a) == GOOD
    assert state(lab).generation == 1


@pytest.mark.case("NX-13")
@pytest.mark.clause("SPC4r37 5.13.11.2.1")
def test_nx_13_initiator_that_may_log_in_no_more_keeps_its_registration(lab: Lab, a: Host):
    """Only what the standard lists removes a registration, and a list of initiators is not there: who takes a host
    from it does not want the disk free for the others at that moment. PREEMPT, CLEAR or the operator removes it.
    """
    before = state(lab)
    lab.reconfigure(disk_node(portal_group_tags=(1, 2), initiators=frozenset({"iqn.2026-01.org.example:b"})))
    a.logout()
    again = lab.connect("a")
    again.login()
    assert again.login_status() == LoginStatus.AUTHORIZATION_FAILURE
    b = lab.session("b")
    assert state(lab) == before
    assert keys(b) == [K1]
    assert write(b) == CONFLICT
    assert send_out(b, OutAction.REGISTER, basic(0, K2)) == GOOD
    assert send_out(b, OutAction.PREEMPT, basic(K2, K1), type=WERO) == GOOD
    assert keys(b) == [K2]
    assert state(lab).generation == 3
    assert not pending(lab, b)


@pytest.mark.case("NX-13")
@pytest.mark.clause("SPC4r37 5.13.5.1")
def test_nx_13_initiator_that_is_let_in_again_is_registered_still(lab: Lab, a: Host):
    before = state(lab)
    a.logout()
    lab.reconfigure(disk_node(portal_group_tags=(1, 2), initiators=frozenset()))
    lab.reconfigure(disk_node(portal_group_tags=(1, 2)))
    again = join(lab, "a")
    assert isinstance(again.received[-1].header, LoginResponse)
    assert again.attention() == NEXUS_LOST
    assert write(again) == GOOD
    assert state(lab) == before
