"""TaskReporting: fences of responses over several connections, and FastAbort, by hosts A and B on one node.

A ---- connections a, second ---- NODE: LUN 0 == "disk0", LUN 1 == "disk1" (see tests/initiator)
B ---- connection b ----
"""

import pytest

from iscsi_target.iscsi.header import NO_TAG
from iscsi_target.iscsi.parameters import FAST_ABORT, RESPONSE_FENCE, RFC3720
from iscsi_target.iscsi.requests import NopOut
from iscsi_target.iscsi.responses import AsyncMessage, LoginResponse, NopIn, ReadyToTransfer, Reject
from iscsi_target.iscsi.task_management import ManagementResponse, TaskManagement
from iscsi_target.iscsi.text import parse
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts.cdb import PersistentReserveOut
from iscsi_target.scsi.layouts.lun import pack_lun
from iscsi_target.scsi.layouts.mode_pages import ControlPage
from iscsi_target.scsi.layouts.reservation_pages import BasicParameterList
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.status import Status
from tests.initiator import READY, Host, Lab
from tests.unit.scsi.unit_bench import BLOCK

ONES = bytes([1]) * BLOCK
DONE = ManagementResponse.FUNCTION_COMPLETE
RESET, CLEAR = TaskManagement.LOGICAL_UNIT_RESET, TaskManagement.CLEAR_TASK_SET
KEY_A, KEY_B = 0xA, 0xB


@pytest.fixture
def lab() -> Lab:
    return Lab()


def session(lab: Lab, name: str, reporting: str) -> Host:
    return lab.session(name, offers=[("MaxConnections", "4"), ("TaskReporting", reporting)])


def join(host: Host, cid: int = 1) -> Host:
    other = host.join(cid)
    assert other.logged_in
    other.received.clear()
    return other


def acknowledge(host: Host) -> None:
    """Acknowledges all that has come on a connection, as the answer to a ping."""
    [*_, last] = [pdu.header for pdu in host.received]
    takes_number = not (isinstance(last, NopIn) and last.initiator_task_tag == NO_TAG)
    host.send(
        NopOut(
            immediate=True,
            initiator_task_tag=NO_TAG,
            cmd_sn=host.cmd_sn,
            exp_stat_sn=last.stat_sn + takes_number,
        )
    )


def pings(host: Host) -> list[NopIn]:
    return [pdu.header for pdu in host.received if isinstance(pdu.header, NopIn)]


def messages(host: Host) -> list[tuple[int, bytes]]:
    headers = [pdu.header for pdu in host.received]
    return [(header.async_event, header.lun) for header in headers if isinstance(header, AsyncMessage)]


def reserve(host: Host, action: OutAction, *, own: int = 0, service: int = 0) -> int:
    parameters = BasicParameterList(reservation_key=own, service_action_reservation_key=service).pack()
    cdb = PersistentReserveOut(service_action=action, type=1, parameter_list_length=len(parameters))
    return host.command(cdb, write=parameters, data=parameters)


# Negotiation


@pytest.mark.clause("RFC7143 13.23")
@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        (f"{RFC3720},{RESPONSE_FENCE}", RFC3720),
        (f"{RESPONSE_FENCE},{RFC3720}", RESPONSE_FENCE),
        (f"{FAST_ABORT},{RESPONSE_FENCE},{RFC3720}", FAST_ABORT),
        (f"X-nothing,{FAST_ABORT}", FAST_ABORT),
    ],
)
def test_the_first_offer_is_taken_that_is_known(lab: Lab, offered: str, answered: str):
    a = lab.connect("a")
    a.login(offers=[("TaskReporting", offered)])
    [pdu] = a.take(LoginResponse)
    assert dict(parse(pdu.data))["TaskReporting"] == answered


# Fences


@pytest.mark.clause("RFC7143 4.2.2.3.3")
@pytest.mark.parametrize("reporting", [RESPONSE_FENCE, FAST_ABORT])
def test_response_of_a_function_waits_for_what_went_out_before_on_every_connection(lab: Lab, reporting: str):
    a = session(lab, "a", reporting)
    second = join(a)
    second.read(0)
    function = a.manage(RESET)
    assert (a.managed(function), len(pings(a)), len(pings(second))) == (None, 1, 1)
    acknowledge(a)
    assert a.managed(function) is None
    acknowledge(second)
    assert a.managed(function) == DONE


@pytest.mark.clause("RFC7143 4.2.2.3.3")
def test_no_response_overtakes_a_fenced_one(lab: Lab):
    a = session(lab, "a", RESPONSE_FENCE)
    second = join(a)
    function = a.manage(TaskManagement.ABORT_TASK_SET)
    behind = [second.read(0), a.read(1), second.write(2, ONES)]
    acknowledge(a)
    acknowledge(second)
    assert a.managed(function) == DONE
    assert [second.ended(tag) or a.ended(tag) for tag in behind] == [None] * 3
    acknowledge(second)
    assert second.ended(behind[0]) is None
    acknowledge(a)
    assert [host.outcome(tag).status for host, tag in zip((second, a, second), behind, strict=True)] == [0, 0, 0]
    assert second.outcome(second.read(0)).status == 0


@pytest.mark.clause("RFC7143 4.2.2.3.3")
def test_a_session_with_one_connection_needs_no_fence(lab: Lab):
    a = session(lab, "a", RESPONSE_FENCE)
    assert a.managed(a.manage(RESET)) == DONE
    assert pings(a) == []


@pytest.mark.clause("RFC7143 13.23")
def test_nothing_is_fenced_where_it_was_not_negotiated(lab: Lab):
    a = lab.session("a", offers=[("MaxConnections", "4")])
    join(a)
    assert a.managed(a.manage(RESET)) == DONE
    assert a.attention() == AttentionCode.BUS_DEVICE_RESET_FUNCTION_OCCURRED


@pytest.mark.clause("RFC7143 4.2.2.3.4")
def test_attention_after_a_reset_is_fenced_for_others(lab: Lab, b: Host):
    a = session(lab, "a", RESPONSE_FENCE)
    second = join(a)
    b.manage(RESET)
    told = second.command(READY)
    behind = a.command(READY)
    assert (second.ended(told), a.ended(behind)) == (None, None)
    acknowledge(a)
    acknowledge(second)
    assert second.outcome(told).sense == (6, AttentionCode.BUS_DEVICE_RESET_FUNCTION_OCCURRED)
    assert a.ended(behind) is None
    acknowledge(second)
    assert a.outcome(behind).status == 0


@pytest.mark.clause("RFC7143 4.2.2.3.4")
def test_allegiance_is_fenced_from_its_beginning_to_its_end(lab: Lab):
    a = session(lab, "a", RESPONSE_FENCE)
    second = join(a)

    def fenced(host: Host, tag: int) -> None:
        assert (host.ended(tag), host.managed(tag)) == (None, None)
        acknowledge(a)
        acknowledge(second)
        assert host.ended(tag) or host.managed(tag) == DONE
        acknowledge(host)

    bad = b"\x00\xff\0\0\0\x04"  # TEST UNIT READY with reserved bits and NACA
    fenced(a, a.raw_command(bad, bytes(8)))
    held = second.command(READY)
    fenced(second, held)
    assert second.outcome(held).status == Status.ACA_ACTIVE
    fenced(a, a.manage(TaskManagement.CLEAR_ACA))
    assert a.outcome(a.command(READY)).status == 0


@pytest.mark.clause("RFC7143 4.2.2.3.4")
def test_response_of_preempt_and_abort_is_fenced(lab: Lab, b: Host):
    a = session(lab, "a", RESPONSE_FENCE)
    second = join(a)
    for host, key in ((a, KEY_A), (b, KEY_B)):
        assert host.outcome(reserve(host, OutAction.REGISTER, service=key)).status == 0
    lab.slow = True
    victim = b.write(0, ONES)
    tag = reserve(a, OutAction.PREEMPT_AND_ABORT, own=KEY_A, service=KEY_B)
    lab.finish_all()
    assert a.ended(tag) is None
    acknowledge(second)
    acknowledge(a)
    assert a.outcome(tag).status == 0
    written = len(lab.performed)
    assert b.ended(victim) is None
    lab.finish_all()
    assert len(lab.performed) == written


@pytest.mark.clause("RFC7143 4.2.2.3.3")
def test_what_waits_behind_a_fence_can_be_aborted(lab: Lab):
    a = session(lab, "a", RESPONSE_FENCE)
    second = join(a)
    a.manage(TaskManagement.ABORT_TASK_SET)
    read = second.read(0)
    second.manage(TaskManagement.ABORT_TASK_SET)
    for _ in range(4):
        acknowledge(a)
        acknowledge(second)
    assert second.ended(read) is None
    assert lab.target.sessions()[0].open_tasks == 0


@pytest.mark.clause("RFC7143 4.2.2.3.3")
def test_a_fence_does_not_outlast_a_connection_that_leaves(lab: Lab):
    a = session(lab, "a", RESPONSE_FENCE)
    second = join(a)
    function = a.manage(RESET)
    acknowledge(a)
    a.logout(1, cid=1)
    assert second.closed
    assert a.managed(function) == DONE
    acknowledge(a)
    assert a.outcome(a.read(0)).status == Status.CHECK_CONDITION
    assert a.outcome(a.read(0)).status == 0


@pytest.mark.clause("RFC7143 4.2.2.3.3")
def test_commands_that_find_no_room_behind_a_fence_go_on_after_it(lab: Lab):
    a = session(lab, "a", RESPONSE_FENCE)
    second = join(a)
    a.manage(TaskManagement.ABORT_TASK_SET)
    large = bytes.fromhex("28000000000000100000")
    tags = [second.raw_command(large, bytes(8), read=12 << 20) for _ in range(2)]
    for _ in range(2):
        acknowledge(a)
        acknowledge(second)
    assert all(second.ended(tag) for tag in tags)


# FastAbort


@pytest.mark.clause("RFC7143 4.2.3.4")
@pytest.mark.parametrize("function", [RESET, CLEAR, TaskManagement.TARGET_WARM_RESET])
def test_initiator_whose_tasks_another_one_ends_is_told_once_for_a_lun(lab: Lab, b: Host, function: TaskManagement):
    a = session(lab, "a", FAST_ABORT)
    second, third = join(a, 1), join(a, 2)
    for host in (a, a, second):
        host.ask_to_write(0)
    third.ask_to_write(0, lun=1)
    b.manage(function)
    everywhere = function is TaskManagement.TARGET_WARM_RESET
    assert messages(a) == messages(second) == [(5, pack_lun(0))]
    assert messages(third) == ([(5, pack_lun(1))] if everywhere else [])


@pytest.mark.clause("RFC7143 4.2.3.4")
def test_initiator_that_aborts_is_told_on_its_other_connections(lab: Lab):
    a = session(lab, "a", FAST_ABORT)
    second, third = join(a, 1), join(a, 2)
    a.ask_to_write(0)
    second.ask_to_write(0)
    a.manage(TaskManagement.ABORT_TASK_SET)
    assert (messages(a), messages(second), messages(third)) == ([], [(5, pack_lun(0))], [])


@pytest.mark.clause("RFC7143 4.2.3.5")
@pytest.mark.parametrize("reporting", [RFC3720, RESPONSE_FENCE])
def test_nobody_is_told_who_has_not_agreed_to_fast_abort(lab: Lab, reporting: str):
    a, b = session(lab, "a", reporting), session(lab, "b", FAST_ABORT)
    a.ask_to_write(0)
    b.ask_to_write(0)
    b.manage(RESET)
    assert messages(a) == []


@pytest.mark.clause("RFC7143 4.2.3.4")
@pytest.mark.parametrize("function", [TaskManagement.ABORT_TASK, TaskManagement.ABORT_TASK_SET])
def test_nobody_is_told_of_tasks_that_are_not_his(lab: Lab, b: Host, function: TaskManagement):
    a = session(lab, "a", FAST_ABORT)
    a.ask_to_write(0)
    own = b.ask_to_write(0)
    b.manage(function, referenced=own)
    assert messages(a) == []


@pytest.mark.clause("RFC7143 4.2.3.4")
def test_tags_of_ended_tasks_stay_valid_and_their_data_changes_nothing(lab: Lab, b: Host):
    a = session(lab, "a", FAST_ABORT)
    a.ask_to_write(0)
    [asked] = [pdu.header for pdu in a.received if isinstance(pdu.header, ReadyToTransfer)]
    assert b.managed(b.manage(RESET)) == DONE
    a.data_out(asked, ONES)
    a.send(NopOut(immediate=True, lun=pack_lun(0), initiator_task_tag=NO_TAG, cmd_sn=a.cmd_sn))
    a.data_out(asked, ONES)
    assert lab.block(0) == bytes(BLOCK)
    assert not [pdu for pdu in a.received if isinstance(pdu.header, Reject)]
    assert lab.target.sessions()[1].open_tasks == 0


@pytest.mark.clause("RFC7143 4.2.3.4")
def test_task_that_ends_with_a_status_has_it_without_the_data_that_was_asked_for(lab: Lab, b: Host):
    device = lab.units["disk0"].device
    device.modes = device.modes.select(ControlPage(tas=True).pack(), 0)
    a = session(lab, "a", FAST_ABORT)
    tag = a.ask_to_write(0)
    assert b.managed(b.manage(CLEAR)) == DONE
    assert messages(a) == [(5, pack_lun(0))]
    assert a.outcome(tag).status == Status.TASK_ABORTED
