"""What rules do to PDUs. Host A and a target that misbehaves (see tests/faults)."""

import pytest

from iscsi_target.config.values import SERVED
from iscsi_target.faults.actions import Change
from iscsi_target.iscsi.requests import LoginRequest, NopOut
from iscsi_target.iscsi.responses import DataIn, LoginResponse, NopIn, ReadyToTransfer, Reject, ScsiResponse
from iscsi_target.scsi.layouts.block_cdb import Read10
from iscsi_target.target import LoginFailed, ProtocolViolated
from iscsi_target.target import tap as tap_module
from iscsi_target.target.tap import _changed, _flip
from iscsi_target.wire.crc32c import digest
from tests.faults import FaultLab
from tests.initiator import READY, Host
from tests.unit.scsi.unit_bench import BLOCK

ONES = bytes([1]) * BLOCK
DIGESTS = [("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")]


@pytest.fixture
def lab() -> FaultLab:
    return FaultLab()


def ping(host: Host, **fields) -> None:
    host.send(NopOut(immediate=True, initiator_task_tag=host.next_tag(), cmd_sn=host.cmd_sn, **fields), b"abcd")


def data_numbers(host: Host) -> list[int]:
    return [pdu.header.data_sn for pdu in host.take(DataIn) if isinstance(pdu.header, DataIn)]


# What comes in


def test_a_lost_request_has_never_come(lab: FaultLab, a: Host):
    lab.add("on nop-out where nth=1: drop")
    ping(a)
    assert not a.received
    ping(a)
    assert len(a.take(NopIn)) == 1
    assert lab.fired == ["1 nop-out"]


def test_a_duplicate_comes_twice(lab: FaultLab, a: Host):
    lab.add("on nop-out: duplicate")
    ping(a)
    assert len(a.take(NopIn)) == 2


def test_a_command_that_comes_twice_is_done_once(lab: FaultLab, a: Host):
    lab.add("on scsi-command: duplicate")
    assert a.outcome(a.write(0, ONES)).status == 0
    assert len(lab.performed) == 1


def test_a_connection_can_be_cut_by_a_request(lab: FaultLab, a: Host):
    lab.add("on scsi-command where opcode=WRITE(10): close")
    a.read(0)
    assert not a.closed
    a.write(0, ONES)
    assert a.closed
    assert lab.block(0) == bytes(BLOCK)


def test_data_that_comes_can_be_spoilt(lab: FaultLab, a: Host):
    lab.add("on scsi-command: corrupt data at 3")
    assert a.outcome(a.write(0, ONES)).status == 0
    assert lab.block(0) == b"\x01\x01\x01\xfe" + ONES[4:]


def test_data_that_was_asked_for_belongs_to_its_command(lab: FaultLab, a: Host):
    lab.add("on data-out where opcode=WRITE(10), cdb.lba=2: corrupt data")
    for lba in (1, 2):
        a.ask_to_write(lba)
        a.data_out(a.take_one(ReadyToTransfer), ONES)
    assert lab.block(1) == ONES
    assert lab.block(2) == b"\xfe" + ONES[1:]


def test_a_field_of_a_request_can_be_another(lab: FaultLab, a: Host):
    lab.add("on nop-out: change initiator_task_tag to 77")
    ping(a)
    assert a.take_one(NopIn).initiator_task_tag == 77


def test_a_request_of_an_unknown_opcode_is_one_that_comes_in(lab: FaultLab, a: Host):
    lab.add("on in: drop")
    a.feed(b"\x1f" + bytes(47))
    assert not a.received
    assert lab.fired == ["1 unknown"]


@pytest.mark.parametrize(
    "part, reason, rejects", [("header-digest", "the header digest", 0), ("data-digest", "the data digest", 1)]
)
def test_a_digest_that_is_right_is_found_to_be_wrong(lab: FaultLab, part: str, reason: str, rejects: int):
    a = lab.session("a", offers=DIGESTS)
    lab.add(f"on nop-out: corrupt {part}")
    ping(a)
    assert [event.reason for event in lab.announced(ProtocolViolated)] == [f"{reason} is wrong"]
    assert len(a.take(Reject)) == rejects
    assert a.closed


@pytest.mark.parametrize(("part", "rejects"), [("header-digest", 0), ("data-digest", 1)])
def test_a_connection_that_recovers_outlives_a_digest_that_is_found_to_be_wrong(part: str, rejects: int):
    lab = FaultLab(preferences=SERVED._replace(error_recovery_level=1))
    a = lab.session("a", offers=[*DIGESTS, ("ErrorRecoveryLevel", "1")])
    lab.add(f"on nop-out where nth=1: corrupt {part}")
    a.received.clear()
    ping(a)
    assert [type(pdu.header) for pdu in a.received] == [Reject] * rejects
    ping(a)
    assert [answer.data for answer in a.take(NopIn)] == [b"abcd"]


def test_a_digest_that_a_request_has_not_got_is_not_waited_for(lab: FaultLab, a: Host):
    lab.add("on nop-out: corrupt data-digest")
    ping(a)
    assert len(a.take(NopIn)) == 1


def test_a_rule_may_be_about_one_connection_of_a_session(lab: FaultLab):
    first = lab.session("a", offers=[("MaxConnections", "2")])
    second = first.join(1)
    lab.add("on nop-out where cid=1: drop")
    for host in (first, second):
        ping(host)
    assert (len(first.take(NopIn)), len(second.take(NopIn))) == (1, 0)


# Logins


def test_a_login_is_refused_with_the_status_that_is_ordered(lab: FaultLab):
    lab.add("on login-request where initiator=*:a, target=*:node: refuse out-of-resources")
    a, b = lab.connect("a"), lab.connect("b")
    a.login()
    assert a.login_status() == 0x0302
    assert a.closed
    assert "the rule 1 wants it so" in lab.announced(LoginFailed)[0].reason
    b.login()
    assert b.logged_in


def test_a_login_is_held_until_its_time_is_over(lab: FaultLab):
    lab.add("on login-request: stall")
    a = lab.connect("a")
    a.login()
    assert not a.received
    lab.wait(31)
    assert a.closed
    assert lab.clean


def test_a_login_can_take_long(lab: FaultLab):
    lab.add("on login-request: delay 5s")
    a = lab.connect("a")
    a.login()
    lab.wait(4.9)
    assert not a.logged_in
    lab.wait(0.1)
    assert a.logged_in


def test_a_refusal_is_for_logins_only(lab: FaultLab, a: Host):
    lab.add("on login-request: refuse 0301")
    a.send(LoginRequest(cmd_sn=a.cmd_sn))
    assert not a.take(LoginResponse)


# What goes out


def test_a_lost_response_leaves_a_gap_in_the_numbers(lab: FaultLab, a: Host):
    lab.add("on scsi-response where nth=2: drop")
    tags = [a.command(READY) for _ in range(3)]
    assert [a.ended(tag) is not None for tag in tags] == [True, False, True]
    first, last = (pdu.header.stat_sn for pdu in a.take(ScsiResponse))
    assert last == first + 2


def test_a_response_is_sent_twice(lab: FaultLab, a: Host):
    lab.add("on scsi-response: duplicate")
    a.command(READY)
    one, other = a.take(ScsiResponse)
    assert one == other


def test_a_connection_can_be_cut_in_the_middle_of_data(lab: FaultLab):
    a = lab.session("a", offers=[("MaxRecvDataSegmentLength", "512")])
    lab.add("on data-in where pdu.data_sn=2: close")
    a.command(Read10(transfer_length=8), read=8 * BLOCK)
    assert len(a.take(DataIn)) == 2
    assert a.closed


@pytest.mark.parametrize(
    "kind, field", [("data-in", "stat_sn"), ("data-in", "data_sn"), ("data-in", "exp_cmd_sn"), ("data-in", "status")]
)
def test_numbers_of_a_response_can_be_wrong(lab: FaultLab, a: Host, kind: str, field: str):
    a.read(0)
    right = a.take_one(DataIn)
    lab.add(f"on {kind}: change {field} by 100")
    a.read(0)
    wrong = a.take_one(DataIn)
    difference = getattr(wrong, field) - getattr(right, field)
    assert 100 <= difference <= 101  # the next command may have moved it by one


@pytest.mark.parametrize("field", ["r2t_sn", "target_transfer_tag", "buffer_offset"])
def test_numbers_of_an_r2t_can_be_wrong(lab: FaultLab, a: Host, field: str):
    lab.add(f"on r2t: change {field} to 4242")
    a.ask_to_write(0)
    assert getattr(a.take_one(ReadyToTransfer), field) == 4242


def test_data_that_goes_out_can_be_spoilt_and_its_digest_is_right(lab: FaultLab):
    a = lab.session("a", offers=DIGESTS)
    lab.add("on data-in: corrupt data at 511")
    assert a.outcome(a.read(0)).data == bytes(511) + b"\xff"


@pytest.mark.parametrize("part, place", [("header-digest", 48), ("data-digest", 52 + BLOCK)])
def test_a_digest_is_wrong_and_nothing_else(lab: FaultLab, part: str, place: int):
    a = lab.session("a", offers=DIGESTS)
    came: list[bytes] = []
    a.take_in = came.append  # type: ignore[assignment, method-assign]  # what comes is no PDU
    lab.add(f"on data-in: corrupt {part}")
    a.read(0)
    [pdu] = came
    digests = {48: digest(pdu[:48]), 52 + BLOCK: digest(pdu[52:-4])}
    wrong = pdu[place : place + 4]
    assert bytes(byte ^ 0xFF for byte in wrong) == digests.pop(place)
    [(other, right)] = digests.items()
    assert pdu[other : other + 4] == right


def test_a_digest_that_is_not_there_is_not_waited_for(lab: FaultLab, a: Host):
    lab.add("on data-in: corrupt data-digest")
    assert a.outcome(a.read(0)).status == 0
    assert lab.target.faults[0].matched == 0


# Stalls


def test_output_stalls_from_a_pdu_on_and_what_was_before_goes_out(lab: FaultLab, a: Host):
    lab.add("on scsi-response where nth=2: stall 3s")
    tags = [a.command(READY) for _ in range(3)]
    assert [a.ended(tag) is not None for tag in tags] == [True, False, False]
    lab.wait(3)
    assert [a.ended(tag) is not None for tag in tags] == [True, True, True]


def test_what_is_before_a_stalled_pdu_in_one_batch_goes_out(lab: FaultLab):
    a = lab.session("a", offers=[("MaxRecvDataSegmentLength", "512")])
    lab.add("on data-in where pdu.data_sn=3: delay 1s")
    a.command(Read10(transfer_length=8), read=8 * BLOCK)
    assert data_numbers(a) == [0, 1, 2]
    lab.wait(1)
    assert data_numbers(a) == [3, 4, 5, 6, 7]


def test_input_stalls_with_all_that_is_behind_it(lab: FaultLab, a: Host):
    lab.add("on nop-out where nth=1: delay 2s")
    first = NopOut(immediate=True, initiator_task_tag=900, cmd_sn=a.cmd_sn)
    last = first.replace(initiator_task_tag=902)
    a.feed(a.pack(first, b"first") + a.pack(last, b"second"))
    tag = a.command(READY)
    assert not a.received
    lab.wait(1.9)
    assert not a.received
    lab.wait(0.2)
    assert [pdu.data for pdu in a.received if isinstance(pdu.header, NopIn)] == [b"first", b"second"]
    assert a.outcome(tag).status == 0


def test_input_may_stall_again_and_again(lab: FaultLab, a: Host):
    lab.add("on nop-out: delay 2s")
    for _ in range(3):
        ping(a)
    answered = []
    for _ in range(3):
        lab.wait(2)
        answered.append(len(a.take(NopIn)))
    assert answered == [1, 1, 1]


def test_a_stall_for_good_ends_with_the_rule(lab: FaultLab, a: Host):
    lab.add("on in: stall")
    ping(a)
    lab.wait(10)
    assert not a.received
    lab.remove("1")
    assert len(a.take(NopIn)) == 1
    assert lab.target._links[a.number].connection.tap is None


def test_a_silent_connection_is_cut_in_the_end(lab: FaultLab, a: Host):
    lab.add("on in: stall")
    ping(a)
    lab.wait(31)
    assert a.closed
    assert lab.clean


# What others pass


@pytest.mark.parametrize("passing, order", [(1, [1, 0, 2, 3]), (3, [1, 2, 3, 0])])
def test_data_goes_out_behind_what_follows_it(lab: FaultLab, passing: int, order: list[int]):
    a = lab.session("a", offers=[("MaxRecvDataSegmentLength", str(BLOCK))])
    lab.add(f"on data-in where pdu.data_sn=0: reorder {passing}")
    a.command(Read10(transfer_length=4), read=4 * BLOCK)
    assert data_numbers(a) == order
    lab.wait(5)
    assert not a.received


def test_r2ts_change_their_order(lab: FaultLab):
    a = lab.session("a", offers=[("MaxOutstandingR2T", "2"), ("MaxBurstLength", "512")])
    lab.add("on r2t where nth=1: reorder")
    a.ask_to_write(0, 2)
    assert [pdu.header.r2t_sn for pdu in a.received if isinstance(pdu.header, ReadyToTransfer)] == [1, 0]


def test_a_digest_is_as_it_was_when_the_response_was_to_go_out(lab: FaultLab):
    a = lab.session("a", offers=DIGESTS)
    lab.add("on nop-in where nth=1: reorder")
    ping(a)
    ping(a)
    later, earlier = (pdu.header.stat_sn for pdu in a.take(NopIn))
    assert later == earlier + 1


def test_a_request_that_others_pass_comes_later(lab: FaultLab, a: Host):
    lab.add("on nop-out where nth=1: reorder 2")
    for tag in (71, 72, 73, 74):
        a.send(NopOut(immediate=True, initiator_task_tag=tag, cmd_sn=a.cmd_sn))
    assert [pdu.header.initiator_task_tag for pdu in a.take(NopIn)] == [72, 73, 71, 74]


def test_commands_keep_their_order_though_one_comes_later(lab: FaultLab, a: Host):
    lab.add("on scsi-command where nth=1: reorder")
    first = a.write(0, ONES)
    assert a.ended(first) is None
    read = a.read(0)
    assert (a.outcome(first).status, a.outcome(read).data) == (0, ONES)


def test_data_that_comes_in_another_order_is_put_in_its_place(lab: FaultLab):
    a = lab.session("a", offers=[("MaxOutstandingR2T", "2"), ("MaxBurstLength", "512")])
    lab.add("on data-out where nth=1: reorder")
    tag = a.ask_to_write(0)
    for asked in [pdu.header for pdu in a.received if isinstance(pdu.header, ReadyToTransfer)]:
        a.data_out(asked, ONES[: asked.desired_data_transfer_length])
    lab.wait(1)
    assert (a.outcome(tag).status, lab.block(0)) == (0, ONES)


@pytest.mark.parametrize("kind", ["nop-out", "nop-in"])
def test_what_nothing_follows_goes_on_after_a_second_or_with_its_rule(lab: FaultLab, a: Host, kind: str):
    lab.add(f"on {kind}: reorder")
    ping(a)
    assert not a.received
    lab.wait(1)
    assert len(a.take(NopIn)) == 1
    ping(a)
    lab.remove("1")
    assert len(a.take(NopIn)) == 1
    lab.wait(5)
    assert not a.received


def test_nothing_is_left_of_what_waits_on_a_connection_that_is_lost(lab: FaultLab, a: Host):
    lab.add("on nop-out: reorder")
    ping(a)
    a.cut()
    assert len(lab.target._dispatcher._rests) == 0


def test_what_others_are_to_pass_is_bounded(lab: FaultLab, a: Host, monkeypatch):
    monkeypatch.setattr(tap_module, "MAX_DISPLACED", 1)
    lab.add("on nop-out: reorder 3")
    ping(a)
    ping(a)
    assert len(a.take(NopIn)) == 1


# What a tap keeps


def test_what_is_remembered_of_commands_is_bounded(lab: FaultLab, a: Host, monkeypatch):
    monkeypatch.setattr(tap_module, "MAX_COMMANDS", 4)
    lab.add("on scsi-command where opcode=0xff: drop")
    lab.slow = True
    for lba in range(9):
        a.read(lba)
    assert len(lab.target._taps[a.number]._known) == 4
    lab.finish_all()
    assert not lab.target._taps[a.number]._known


def test_a_changed_field_stays_within_its_width():
    assert _changed(NopIn(stat_sn=0), Change("stat_sn", by=-1, to=None)).stat_sn == 2**32 - 1
    assert _changed(NopIn(stat_sn=9), Change("stat_sn", by=None, to=0)).stat_sn == 0


def test_one_byte_is_flipped():
    assert _flip(memoryview(b"\0\0\0"), 1) == b"\0\xff\0"
