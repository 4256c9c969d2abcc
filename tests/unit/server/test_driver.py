"""A driver and a machine that answers by the book of the test: what it is told is in `calls`."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest

from iscsi_target.iscsi.connection import Remark
from iscsi_target.scsi.nexus import OPERATOR
from iscsi_target.scsi.operations import Fault, Flush, MediumError, Read
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.reservations.rules import Rule
from iscsi_target.scsi.state.sanitization import Method, Sanitization
from iscsi_target.scsi.state.task import Milestone, Ticket, UnitState
from iscsi_target.scsi.state.timeline import GOOD, Entry, Explanation
from iscsi_target.server import admission
from iscsi_target.server import driver as driver_module
from iscsi_target.server.driver import Driver
from iscsi_target.server.transport import Channel
from iscsi_target.target import (
    NEVER,
    Action,
    Announce,
    Close,
    ConnectionJoined,
    Limits,
    Operated,
    Order,
    Perform,
    Persist,
    ReservationNoted,
    SanitizeNoted,
    Send,
    SessionStarted,
)

TICKET = Ticket()


class Machine:
    """Answers each input with what the test has put into `answers`, by the bytes received or the input's name."""

    def __init__(self):
        self.calls: list[tuple[object, ...]] = []
        self.answers: dict[object, list[Action] | Exception] = {}
        self.ordered: list[Callable[[int], Action]] = []
        self.wake = NEVER
        self.drained = False
        self.changed = asyncio.Event()

    def _answer(self, key, *call):
        self.calls.append(call)
        self.changed.set()
        found = self.answers.get(key, [])
        if isinstance(found, Exception):
            raise found
        return list(found)

    def connected(self, connection, tag, local_address, now):
        return self._answer("connected", "connected", connection, tag, local_address)

    def received(self, connection, parts, now):
        received = b"".join(parts)
        return self._answer(received, "received", connection, received)

    def disconnected(self, connection, now):
        return self._answer("disconnected", "disconnected", connection)

    def finished(self, ticket, result, now):
        return self._answer("finished", "finished", ticket, result)

    def elapsed(self, now):
        self.wake = NEVER
        return self._answer("elapsed", "elapsed")

    def congested(self, connection):
        self.calls.append(("congested", connection))

    def halt(self):
        self.calls.append(("halt",))

    def sent(self, connection, now):
        return self._answer("sent", "sent", connection)

    def operate(self, number, order, now):
        return [action(number) for action in self.ordered]

    def drain(self, now):
        return self._answer("drain", "drain")

    def deadline(self):
        return self.wake

    async def until(self, name):
        async with asyncio.timeout(5):
            while not any(call[0] == name for call in self.calls):
                self.changed.clear()
                await self.changed.wait()
        return next(call for call in self.calls if call[0] == name)


class Medium:
    """Answers operations as the test says."""

    def __init__(self, performed):
        self.performed = performed

    def submit(self, operation, done):
        asyncio.get_running_loop().call_soon(done, self.performed)


class Setting:
    """The driver with what surrounds it, and connected peers."""

    def __init__(self, machine, driver, listening):
        self.saved: list[tuple[str, UnitState]] = []
        self.machine = machine
        self.driver = driver
        self.listening = listening
        self.peers: list[socket.socket] = []
        self.disk = asyncio.Event()  # set while the disk answers
        self.disk.set()

    def connect(self) -> socket.socket:
        peer = socket.create_connection(self.listening.getsockname())
        peer.setblocking(False)
        self.peers.append(peer)
        self.driver.accept(self.listening.accept()[0], 1)
        return peer


class Trace:
    """Notes what it is told, and is behind when the test says so."""

    def __init__(self):
        self.behind = False
        self.notes: list[tuple[object, ...]] = []
        self.changed = asyncio.Event()

    def _note(self, *note):
        self.notes.append(note)
        self.changed.set()

    async def until(self, *note):
        async with asyncio.timeout(5):
            while note not in self.notes:
                self.changed.clear()
                await self.changed.wait()

    def opened(self, number, local, peer):
        self._note("opened", number)

    def received(self, number, received):
        self._note("received", number, bytes(received))

    def sent(self, number, sent):
        self._note("sent", number, b"".join(sent))

    def comment(self, number, *, ahead, length, text):
        self._note("comment", number, ahead, length, text)

    def closed(self, number):
        self._note("closed", number)


@pytest.fixture
def trace():
    return Trace()


@pytest.fixture
async def setting(trace):
    machine: Any = Machine()

    async def save(unit, state):
        if state.mode_pages:
            raise RuntimeError("disk full")
        await found.disk.wait()
        found.saved.append((unit, state))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with asyncio.TaskGroup() as tasks:
            found = Setting(machine, Driver(machine, tasks, save, trace), listening)
            yield found
            found.driver.end()
        for peer in found.peers:
            peer.close()


async def receive(peer: socket.socket) -> bytes:
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recv(peer, 4096)


async def test_input_is_answered_in_one_send(setting):
    setting.machine.answers[b"ping"] = [Send(1, [b"a", b"b"]), Send(1, [b"c"])]
    peer = setting.connect()
    peer.send(b"ping")
    assert await receive(peer) == b"abc"


async def test_machine_is_asked_for_more_after_the_others_had_their_turn(setting):
    setting.machine.answers[b"much"] = [Send(1, [b"one "], more=True)]
    setting.machine.answers["sent"] = [Send(1, [b"two"])]
    busy, other = setting.connect(), setting.connect()
    busy.send(b"much")
    other.send(b"little")
    await setting.machine.until("sent")
    assert await receive(busy) == b"one two"
    names = [call[0] for call in setting.machine.calls]
    assert names == ["connected", "connected", "received", "received", "sent"]


async def test_operation_is_performed_and_its_result_told(setting):
    setting.driver.media["disk0"] = Medium(b"late")
    setting.machine.answers[b"read"] = [Perform(TICKET, Read(0, 512), "disk0")]
    setting.connect().send(b"read")
    assert await setting.machine.until("finished") == ("finished", TICKET, b"late")


async def test_what_results_that_came_together_send_on_a_connection_leaves_in_one_call(setting, monkeypatch):
    sent: list[tuple[int, list[bytes]]] = []
    monkeypatch.setattr(Channel, "send", lambda channel, buffers: sent.append((channel.number, list(buffers))))
    setting.driver.media["disk0"] = Medium(b"late")
    perform = Perform(TICKET, Read(0, 512), "disk0")
    answers = [
        [Send(1, [b"a", b"b"])],
        [Send(2, [b"c"])],
        [Send(1, [b"d"])],
        [Send(1, [b"e"], more=True)],
        [],
        [Send(2, [b"f"])],
    ]
    setting.machine.answers[b"reads"] = [perform] * len(answers)
    monkeypatch.setattr(setting.machine, "finished", lambda ticket, result, now: answers.pop(0))
    one, _ = setting.connect(), setting.connect()
    one.send(b"reads")
    await setting.machine.until("sent")
    assert sent == [(1, [b"a", b"b", b"d"]), (2, [b"c"]), (1, [b"e"]), (2, [b"f"])]


async def test_a_result_that_the_machine_fails_at_keeps_no_other_from_it(setting, monkeypatch):
    setting.driver.media["disk0"] = Medium(b"late")
    setting.machine.answers[b"reads"] = [Perform(TICKET, Read(0, 512), "disk0")]
    setting.machine.answers["finished"] = AssertionError("bug")
    bad, good = setting.connect(), setting.connect()
    bad.send(b"reads")
    good.send(b"reads")
    assert await receive(bad) == await receive(good) == b""
    assert sum(call[0] == "finished" for call in setting.machine.calls) == 2


async def test_operation_of_a_unit_that_is_gone_fails(setting):
    setting.machine.answers[b"flush"] = [Perform(TICKET, Flush(), "disk0")]
    setting.connect().send(b"flush")
    _, _, result = await setting.machine.until("finished")
    assert isinstance(result, MediumError)
    assert result.fault is Fault.GONE


async def test_saved_state_is_reported_with_none(setting):
    setting.machine.answers[b"save"] = [Persist(TICKET, UnitState(), "disk0")]
    setting.connect().send(b"save")
    assert await setting.machine.until("finished") == ("finished", TICKET, None)
    assert setting.saved == [("disk0", UnitState())]


async def test_unit_is_saved_when_nothing_of_it_is_under_way(setting):
    await setting.driver.saved("disk0")
    setting.disk.clear()
    setting.driver.input(lambda now: [Persist(TICKET, UnitState(), "disk0")])
    waiting = asyncio.ensure_future(setting.driver.saved("disk0"))
    await setting.driver.saved("disk1")
    await asyncio.sleep(0)
    assert not waiting.done()
    setting.disk.set()
    await waiting
    assert setting.saved == [("disk0", UnitState())]


async def test_state_that_cannot_be_saved_is_reported_as_failed_write(setting):
    setting.machine.answers[b"save"] = [Persist(TICKET, UnitState({(8, 0): b"page"}), "disk0")]
    setting.connect().send(b"save")
    _, _, result = await setting.machine.until("finished")
    assert result.fault is Fault.WRITE_FAILED


async def test_exception_of_the_machine_closes_that_connection_and_no_other(setting, caplog):
    setting.machine.answers[b"boom"] = AssertionError("a fact that is none")
    setting.machine.answers[b"ping"] = [Send(2, [b"pong"])]
    bad, good = setting.connect(), setting.connect()
    bad.send(b"boom")
    assert await receive(bad) == b""
    assert ("disconnected", 1) in setting.machine.calls
    good.send(b"ping")
    assert await receive(good) == b"pong"
    [logged] = [found for found in caplog.records if found.levelno == logging.ERROR]
    assert logged.exc_info
    assert "connection 1" in logged.getMessage()


async def test_exception_after_an_operation_closes_the_connection_that_asked_for_it(setting):
    setting.driver.media["disk0"] = Medium(b"late")
    setting.machine.answers[b"read"] = [Perform(TICKET, Read(0, 512), "disk0")]
    setting.machine.answers["finished"] = AssertionError("bug")
    peer = setting.connect()
    peer.send(b"read")
    assert await receive(peer) == b""


async def test_close_sends_what_came_before_it(setting):
    setting.machine.answers[b"quit"] = [Send(1, [b"bye"]), Close(1)]
    peer = setting.connect()
    peer.send(b"quit")
    assert await receive(peer) == b"bye"
    assert await receive(peer) == b""


async def test_lost_connection_is_reported_to_the_machine(setting):
    setting.connect().close()
    assert await setting.machine.until("disconnected") == ("disconnected", 1)


async def test_connection_past_the_limit_is_refused(setting):
    setting.driver._admission.limits = Limits(connections=1)
    setting.connect()
    assert await receive(setting.connect()) == b""
    assert [call for call in setting.machine.calls if call[0] == "connected"] == [
        ("connected", 1, 1, f"127.0.0.1:{setting.listening.getsockname()[1]}")
    ]


async def test_connection_that_there_is_no_descriptor_for_is_refused_and_the_log_says_what_to_do(
    setting, monkeypatch, caplog
):
    monkeypatch.setattr(admission, "affordable_connections", lambda: 1)
    setting.connect()
    assert await receive(setting.connect()) == b""
    assert "raise the limit of open files (LimitNOFILE" in caplog.text


async def test_connection_past_the_limit_of_its_address_is_refused(setting):
    setting.driver._admission.limits = Limits(connections_per_address=1)
    setting.connect()
    assert await receive(setting.connect()) == b""


async def test_place_of_a_closed_connection_is_free_again(setting):
    setting.driver._admission.limits = Limits(connections=1)
    setting.connect().close()
    await setting.machine.until("disconnected")
    setting.connect()
    assert len([call for call in setting.machine.calls if call[0] == "connected"]) == 2


async def test_oldest_connection_without_login_makes_room(setting):
    setting.driver._admission.limits = Limits(pending_logins=1)
    oldest = setting.connect()
    setting.connect()
    assert await receive(oldest) == b""
    assert ("disconnected", 1) in setting.machine.calls


@pytest.mark.parametrize("kind", [SessionStarted, ConnectionJoined])
async def test_connection_with_a_session_does_not_make_room(setting, kind):
    setting.driver._admission.limits = Limits(pending_logins=1)
    started = kind(connection=1, initiator="iqn.x", isid="80", target="iqn.y", tsih=1)
    setting.machine.answers["connected"] = [Announce(started)]
    setting.connect()
    setting.machine.answers.clear()
    setting.connect()
    assert not [call for call in setting.machine.calls if call[0] == "disconnected"]


async def test_machine_is_woken_at_its_deadline(setting):
    setting.machine.wake = asyncio.get_running_loop().time() + 0.01
    setting.connect()
    await setting.machine.until("elapsed")


async def test_deadline_that_is_past_is_not_put_off_by_input(setting, monkeypatch):
    loop = asyncio.get_running_loop()
    now_s = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now_s)
    setting.machine.wake = now_s - 1
    setting.driver.input(setting.machine.drain)
    timer = setting.driver._timer
    now_s += driver_module.MIN_TIMER_S / 2
    setting.driver.input(setting.machine.drain)
    assert setting.driver._timer is timer
    assert not timer.cancelled()


async def test_drain_returns_when_the_machine_is_drained(setting):
    setting.machine.drained = True
    async with asyncio.timeout(5):
        await setting.driver.drain()
    assert ("drain",) in setting.machine.calls


async def test_trace_sees_what_goes_over_a_connection_from_its_beginning_to_its_end(setting, trace):
    setting.machine.answers[b"quit"] = [Send(1, [b"b", b"ye"]), Close(1)]
    peer = setting.connect()
    peer.send(b"quit")
    assert await receive(peer) == b"bye"
    peer.close()
    await trace.until("closed", 1)
    assert trace.notes == [("opened", 1), ("received", 1, b"quit"), ("sent", 1, b"bye"), ("closed", 1)]


async def test_connection_is_not_read_while_the_trace_is_behind(setting, trace):
    trace.behind = True
    peer = setting.connect()
    peer.send(b"first")
    await setting.machine.until("received")
    peer.send(b"second")
    for _ in range(10):
        await asyncio.sleep(0)
    assert [note for note in trace.notes if note[0] == "received"] == [("received", 1, b"first")]
    trace.behind = False
    await trace.until("received", 1, b"second")


async def test_trace_is_told_where_the_remarks_of_each_send_will_be(setting, trace):
    setting.machine.answers[b"three"] = [
        Send(1, [b"ab", b"CC"], (Remark(2, 2, "on CC"),)),
        Send(1, [b"de", b"F"], (Remark(2, 1, "on F"),)),
    ]
    peer = setting.connect()
    peer.send(b"three")
    assert await receive(peer) == b"abCCdeF"
    told = [note for note in trace.notes if note[0] in ("comment", "sent")]
    assert told == [
        ("comment", 1, 2, 2, "on CC"),
        ("sent", 1, b"abCC"),
        ("comment", 1, 2, 1, "on F"),
        ("sent", 1, b"deF"),
    ]


async def test_remark_counts_the_output_that_a_congested_peer_has_not_taken(setting, trace):
    much = bytes(32 << 20)  # more than any socket buffer
    setting.machine.answers[b"much"] = [Send(1, [much])]
    setting.machine.answers["drain"] = [Send(1, [b"say"], (Remark(0, 3, "on say"),))]
    peer = setting.connect()
    peer.send(b"much")
    await setting.machine.until("received")
    setting.driver.input(setting.machine.drain)
    [(_, _, ahead, _, _)] = [note for note in trace.notes if note[0] == "comment"]
    gone = sum(len(note[2]) for note in trace.notes if note[0] == "sent")
    assert 0 < ahead == len(much) - gone
    assert ("congested", 1) in setting.machine.calls


async def test_remark_on_a_connection_that_is_gone_is_dropped(setting, trace):
    setting.machine.answers["drain"] = [Send(7, [b"say"], (Remark(0, 3, "on say"),))]
    setting.driver.input(setting.machine.drain)
    assert not trace.notes


ORDER = Order("disk0", OutAction.CLEAR)
CLEARED = Entry(1, 0.0, OPERATOR, "CLEAR", GOOD, Explanation(Rule.CLEARED, 1))


async def test_order_returns_what_it_came_to(setting):
    setting.machine.ordered = [lambda number: Operated(number, CLEARED)]
    assert await setting.driver.operate(ORDER) == CLEARED
    assert not setting.driver._orders


async def test_observers_are_told_of_new_entries(setting):
    event = ReservationNoted(None, 1, "disk0", CLEARED)
    setting.machine.answers["drain"] = [Announce(event)]
    told: list[ReservationNoted] = []
    setting.driver.observers.add(told.append)
    setting.driver.input(setting.machine.drain)
    setting.driver.observers.discard(told.append)
    setting.driver.input(setting.machine.drain)
    assert told == [event]


async def test_units_are_halted_before_anything_else_ends(setting):
    setting.connect()
    setting.driver.end()
    names = [call[0] for call in setting.machine.calls]
    assert names.index("halt") < names.index("disconnected")


async def test_what_happens_to_a_sanitize_operation_is_logged(setting, caplog):
    caplog.set_level(logging.INFO)
    noted = SanitizeNoted("disk0", Milestone.ENDED, Sanitization(Method.BLOCK_ERASE, 512), "")
    setting.driver.input(lambda now: [Announce(noted)])
    assert "unit disk0: sanitize by block erase has ended" in caplog.text
