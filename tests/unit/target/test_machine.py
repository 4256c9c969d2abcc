"""The target machine itself: limits, clocks, events, numbers. Protocol rules are in tests/conformance."""

import pytest

from iscsi_target.iscsi.connection import MAX_QUEUED_BYTES
from iscsi_target.iscsi.errors import LoginStatus
from iscsi_target.iscsi.header import Opcode
from iscsi_target.iscsi.parameters import Preferences
from iscsi_target.iscsi.requests import NopOut, ScsiCommand
from iscsi_target.iscsi.responses import DataIn, NopIn
from iscsi_target.scsi.commands.sanitize import Sanitize
from iscsi_target.scsi.layouts.block_cdb import Read10, Write10
from iscsi_target.scsi.operations import Fault, MediumError
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.scsi.state.task import Milestone
from iscsi_target.scsi.unit.logical_unit import LogicalUnit
from iscsi_target.target import (
    NEVER,
    Announce,
    Close,
    LoginFailed,
    ProtocolViolated,
    SanitizeNoted,
    Send,
    SessionEnded,
    SessionStarted,
    Setting,
    Target,
    Timeouts,
)
from tests.initiator import ADDRESS, NODE, Host, Lab, disk_node
from tests.unit.scsi.unit_bench import BLOCK, BLOCKS

ONES = bytes([1]) * BLOCK


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_one_batch_leaves_in_one_send(lab: Lab, a: Host):
    pings = [NopOut(immediate=True, initiator_task_tag=tag, cmd_sn=a.cmd_sn) for tag in (1, 2, 3)]
    actions = lab.target.received(a.number, [b"".join(a.pack(ping) for ping in pings)], lab.now)
    assert [type(action) for action in actions] == [Send]


def test_send_comes_before_close(lab: Lab):
    a = lab.connect()
    a.login("iqn.2026-01.org.example:nobody")
    assert a.login_status() == LoginStatus.TARGET_NOT_FOUND
    b = lab.connect()
    actions = lab.target.received(b.number, [b.pack(b.login_request(version_min=9))], lab.now)
    assert [type(action) for action in actions] == [Announce, Send, Close]


def test_bytes_of_the_call_are_not_kept(lab: Lab, a: Host):
    lab.slow = True
    header = ScsiCommand(
        write=True,
        initiator_task_tag=77,
        expected_data_transfer_length=BLOCK,
        cmd_sn=a.next_cmd_sn(),
        cdb=Write10(transfer_length=1).pack().ljust(16, b"\0"),
    )
    whole = bytearray(a.pack(header, ONES))
    lab.run(lab.target.received(a.number, [memoryview(whole)], lab.now))
    whole[:] = bytes(len(whole))
    lab.finish()
    assert lab.block(0) == ONES


def test_unknown_and_lost_connections_are_let_pass(lab: Lab, a: Host):
    assert lab.target.received(999, [b"x"], lab.now) == []
    assert lab.target.disconnected(999, lab.now) == []
    a.logout()
    assert lab.target.disconnected(a.number, lab.now) == []


def test_connection_that_speaks_no_iscsi_is_closed(lab: Lab):
    a = lab.connect()
    a.feed(b"GET / HTTP/1.1\r\nHost: storage.example.org\r\n\r\n".ljust(48, b"\0"))
    assert a.closed
    assert not a.received
    assert lab.announced(ProtocolViolated)
    assert lab.clean


def test_events_tell_of_sessions_and_refusals(lab: Lab, a: Host):
    a.logout()
    b = lab.connect("b")
    b.login("iqn.2026-01.org.example:nobody")
    assert lab.announced(SessionStarted) == [SessionStarted(a.number, a.name, a.isid.hex(), NODE, a.tsih)]
    assert lab.announced(SessionEnded) == [SessionEnded(a.name, a.isid.hex(), NODE, a.tsih)]
    assert [event.connection for event in lab.announced(LoginFailed)] == [b.number]


def test_deadline_is_none_without_connections(lab: Lab, a: Host):
    assert lab.target.deadline() < NEVER
    a.cut()
    lab.run(lab.target.elapsed(lab.now))
    assert lab.target.deadline() == NEVER


def test_deadline_has_passed_never_after_elapsed():
    lab = Lab(timeouts=Timeouts(login_s=1))
    lab.connect()
    lab.now += 5
    lab.run(lab.target.elapsed(lab.now))
    assert lab.target.deadline() == NEVER


def test_ping_is_not_late_though_the_answer_may_take_longer():
    lab = Lab(timeouts=Timeouts(nop_interval_s=10, nop_answer_s=100))
    a = lab.session()
    lab.wait(10)
    assert a.take(NopIn)
    lab.wait(1)
    a.read(0)
    a.received.clear()
    lab.wait(10)
    assert a.take(NopIn)


def test_clock_of_a_login_that_waited_starts_when_it_is_admitted():
    lab = Lab(timeouts=Timeouts(login_s=100, nop_interval_s=10))
    old = lab.session()
    lab.slow = True
    old.write(0, ONES)
    new = lab.connect("a")
    new.login()
    lab.wait(50)
    lab.finish()
    assert new.logged_in
    new.received.clear()
    lab.wait(9)
    assert not new.received
    lab.wait(1)
    assert new.take(NopIn)


def test_login_that_waits_too_long_is_cut_and_the_old_session_still_ends():
    lab = Lab(timeouts=Timeouts(login_s=30))
    old = lab.session()
    lab.slow = True
    old.write(0, ONES)
    new = lab.connect("a")
    new.login()
    lab.wait(30)
    assert new.closed
    lab.finish()
    assert lab.clean


def test_login_that_waited_is_refused_when_the_target_drains_meanwhile(lab: Lab, a: Host):
    lab.slow = True
    a.write(0, ONES)
    new = lab.connect("a")
    new.login()
    lab.run(lab.target.drain(lab.now))
    assert new.closed
    lab.finish()
    assert lab.clean


def test_drained_needs_the_last_operation_back(lab: Lab, a: Host):
    lab.slow = True
    a.write(0, ONES)
    a.cut()
    lab.run(lab.target.drain(lab.now))
    assert not lab.target.drained
    lab.finish()
    assert lab.target.drained


def test_sessions_are_summed_up(lab: Lab, a: Host):
    discovery = lab.connect("d", portal_group_tag=2)
    discovery.login(None)
    lab.slow = True
    a.write(0, ONES)
    first, second = lab.target.sessions()
    assert (first.initiator, first.connections, first.open_tasks) == (a.name, (a.number,), 1)
    assert (second.initiator, second.target, second.open_tasks) == (discovery.name, "", 0)


def test_sessions_of_a_node_without_units_can_be_reset():
    lab = Lab([disk_node(luns={})])
    a = lab.connect()
    a.login()
    assert a.managed(a.manage(6)) == 0
    a.cut()
    assert lab.clean


def test_session_is_not_sent_off_twice_by_a_second_reload(lab: Lab, a: Host):
    other = disk_node(name="iqn.2026-01.org.example:other")
    lab.reconfigure(other)
    lab.wait(5)
    lab.reconfigure(other)
    lab.wait(5)
    assert a.closed
    assert lab.clean


def test_session_that_is_ending_is_left_alone_by_a_reload(lab: Lab, a: Host):
    lab.slow = True
    a.write(0, ONES)
    a.logout()
    lab.reconfigure(disk_node(luns={}))
    lab.finish()
    assert a.closed
    assert lab.clean


def test_rejected_pdu_does_not_end_the_session(lab: Lab, a: Host):
    a.feed(bytes([0x1C]).ljust(48, b"\0"))
    assert [pdu.header.opcode for pdu in a.received] == [Opcode.REJECT]
    assert not a.closed
    assert lab.announced(ProtocolViolated)


def test_addresses_are_those_of_the_connection(lab: Lab):
    a = lab.connect(address="192.0.2.7:3260")
    a.login(None)
    assert a.ask([("SendTargets", "All")])[1] == ("TargetAddress", "192.0.2.7:3260,1")
    assert ADDRESS != "192.0.2.7:13260"


def test_a_bug_while_one_connection_is_served_keeps_no_output_of_another_back(monkeypatch):
    lab = Lab()
    broken, other = lab.session("a"), lab.session("b")
    connections = [lab.target._links[host.number].connection for host in (broken, other)]
    drop = lab.target._drop

    def fail_once(number):
        monkeypatch.setattr(lab.target, "_drop", drop)
        raise AssertionError("bug")

    monkeypatch.setattr(lab.target, "_drop", fail_once)
    connections[0].close()
    connections[1].ping(5)
    with pytest.raises(AssertionError, match="bug"):
        lab.target.sent(other.number, lab.now)
    lab.run(lab.target.disconnected(broken.number, lab.now))
    assert [type(pdu.header) for pdu in other.received] == [NopIn]


# Reads of one batch


READ_BLOCKS = 250  # of each read


class AtOnceLab(Lab):
    """A lab whose media do everything at once."""

    def attempt(self, unit, operation):
        return self.perform(unit, operation)


def reads(host: Host, count: int) -> bytes:
    """Returns reads in one batch."""
    cdb = Read10(transfer_length=READ_BLOCKS).pack().ljust(16, b"\0")
    headers = [
        ScsiCommand(
            read=True,
            initiator_task_tag=host.next_tag(),
            expected_data_transfer_length=READ_BLOCKS * BLOCK,
            cmd_sn=host.next_cmd_sn(),
            cdb=cdb,
        )
        for _ in range(count)
    ]
    return b"".join(map(host.pack, headers))


def test_batch_of_reads_leaves_in_sends_of_a_bounded_size_one_after_another():
    lab = AtOnceLab()
    a, count = lab.session("a"), 41
    sends: list[Send] = []
    actions = lab.target.received(a.number, [reads(a, count)], lab.now)
    while actions:
        [send] = actions
        assert isinstance(send, Send)
        sends.append(send)
        lab.run(actions)
        actions = lab.target.sent(a.number, lab.now)
    lengths = [sum(map(len, send.buffers)) for send in sends]
    assert [send.more for send in sends] == [True] * (len(sends) - 1) + [False]
    assert all(MAX_QUEUED_BYTES <= length < MAX_QUEUED_BYTES + 2 * READ_BLOCKS * BLOCK for length in lengths[:-1])
    last = [pdu.header for pdu in a.received if isinstance(pdu.header, DataIn) and pdu.header.status_present]
    assert [header.initiator_task_tag for header in last] == list(range(3, 3 + count))
    assert lab.target.sessions()[0].open_tasks == 0


def test_what_waits_for_its_send_waits_for_no_other_input():
    lab = AtOnceLab()
    a, b = lab.session("a"), lab.session("b")
    [send] = lab.target.received(a.number, [reads(a, 40)], lab.now)
    lab.run([send])
    assert lab.target.elapsed(lab.now) == []
    [other] = lab.target.received(b.number, [reads(b, 1)], lab.now)
    assert isinstance(other, Send)
    assert (other.connection, other.more) == (b.number, False)
    assert lab.target.sent(b.number, lab.now) == []
    assert lab.target.sent(a.number, lab.now) != []


def test_more_is_sent_of_no_connection_that_is_gone_or_has_no_session(lab: Lab, a: Host):
    assert lab.target.sent(999, lab.now) == []
    assert lab.target.sent(lab.connect().number, lab.now) == []
    discovering = lab.connect()
    discovering.login(None)
    assert lab.target.sent(discovering.number, lab.now) == []


def test_session_that_is_ending_is_answered_nothing():
    lab = AtOnceLab()
    a = lab.session("a")
    for is_ending in (False, True):
        [active] = lab.target._active.values()
        active.ending = is_ending
        for _ in range(2):  # the second one could go the express way
            a.command(Read10(transfer_length=1), read=BLOCK, attributes=1)
        assert bool(a.received) is not is_ending
        a.received.clear()


# What units do by themselves


def unfinished(lab: Lab, name: str = "disk0", seconds: float = 0.0) -> Target:
    """Returns a target that has just started, one of whose units was left unfinished."""
    device = lab.units[name].device
    device.features = device.features._replace(sanitize_s=seconds)
    device.sanitization = Sanitization(Method.BLOCK_ERASE, BLOCKS * BLOCK)
    lab.units[name] = LogicalUnit(name, device)
    lab.target = Target(
        Setting(
            nodes=[disk_node(portal_group_tags=(1, 2))],
            units=list(lab.units.values()),
            portals=lab.portals,
            discovery=lab.discovery,
            preferences=Preferences(),
            timeouts=Timeouts(),
            entropy=bytes,
        )
    )
    return lab.target


def test_a_unit_that_was_left_unfinished_goes_on_before_anybody_comes(lab: Lab):
    target = unfinished(lab)
    assert target.deadline() <= lab.now
    lab.run(target.elapsed(lab.now))
    assert {action.unit for action in lab.performed} == {"disk0"}
    lab.persist()
    [noted] = lab.announced(SanitizeNoted)
    assert (noted.unit, noted.milestone, noted.initiator) == ("disk0", Milestone.ENDED, "")
    assert target.deadline() == NEVER


def test_a_unit_that_rests_is_woken_in_time(lab: Lab):
    target = unfinished(lab, seconds=8.0)
    lab.run(target.elapsed(lab.now))
    for step in range(8):
        assert target.deadline() == lab.now + 1.0
        lab.wait(0.5)
        assert len(lab.performed) == step
        lab.wait(0.5)
        assert len(lab.performed) == step + 1
        lab.persist()


def test_a_unit_that_is_added_unfinished_goes_on(lab: Lab):
    lab.units["disk1"].device.sanitization = Sanitization(Method.BLOCK_ERASE, BLOCKS * BLOCK)
    lab.units["disk1"] = LogicalUnit("disk1", lab.units["disk1"].device)
    lab.reconfigure(disk_node(portal_group_tags=(1, 2)))
    assert not lab.performed
    lab.wait(0.0)
    assert len(lab.performed) == 8


def begin(lab: Lab, a: Host) -> None:
    lab.slow = True
    a.command(Sanitize(service_action=Method.BLOCK_ERASE, immed=True))
    lab.persist()
    assert len(lab.at_medium) == 1


def test_a_unit_that_is_taken_away_is_halted(lab: Lab, a: Host):
    begin(lab, a)
    del lab.units["disk0"]
    lab.reconfigure(disk_node(portal_group_tags=(1, 2)))
    lab.finish(error=MediumError(Fault.GONE))
    assert not lab.at_medium
    assert not lab.saving
    assert [noted.milestone for noted in lab.announced(SanitizeNoted)] == [Milestone.BEGUN]


def test_draining_does_not_wait_for_what_units_do_by_themselves(lab: Lab, a: Host):
    begin(lab, a)
    lab.run(lab.target.drain(lab.now))
    a.cut()
    assert not lab.target.drained
    lab.finish()
    assert lab.target.drained
    assert not lab.at_medium
