"""The control socket of a server with one unit in RAM, asked by plain Unix sockets.

client ---- "control" in the state directory ---- Server ---- unit "disk0", where A and B may be registered
"""

import asyncio
import errno
import json
import os
import socket
import stat
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from iscsi_target.config.values import ram_configuration
from iscsi_target.scsi.nexus import InitiatorPort, Nexus, TargetPort
from iscsi_target.scsi.reservations.personality import ReservationType
from iscsi_target.scsi.reservations.reservation_record import to_record
from iscsi_target.scsi.reservations.reservations import Cause, Reservation, Reservations, Spc2Reservation
from iscsi_target.scsi.reservations.rules import Rule
from iscsi_target.scsi.state.timeline import GOOD, Entry, Explanation
from iscsi_target.server import control as control_module
from iscsi_target.server import control_wire
from iscsi_target.server.control import SOCKET_NAME, Control, Served
from iscsi_target.server.control_wire import MAX_REQUEST_BYTES, MAX_WAITING_ENTRIES, Client
from iscsi_target.server.media_changer import MediaChanger
from iscsi_target.server.server import Server
from iscsi_target.storage.faults import StorageError
from iscsi_target.target import ReservationNoted

PORT = TargetPort("iqn.2026-11.org.iscsi-target:disk0", 1)
A, B = (Nexus(InitiatorPort(f"iqn.2026-01.org.example:{name}", bytes(6)), PORT) for name in "ab")
HELD = Reservations(
    {A: 0xA, B: 0xB}, Reservation(ReservationType.WRITE_EXCLUSIVE, A, Cause("RESERVE", A, 1.0)), generation=3
)
WATCH = {"request": "watch", "unit": "disk0"}
CLEAR = {"request": "clear", "unit": "disk0"}


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
async def server(state):
    async with Server(ram_configuration(state, 1 << 20)) as running:
        running._units["disk0"].device.reservations = HELD
        yield running


class Asking:
    """A client's end of a connection."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    def say(self, request):
        self.writer.write(json.dumps(request).encode() + b"\n")

    async def next(self):
        """Returns the next answer, None when the server has closed the connection."""
        async with asyncio.timeout(5):
            line = await self.reader.readline()
        return json.loads(line) if line else None


@asynccontextmanager
async def connected(state):
    descriptor = os.open(state, os.O_PATH)
    try:
        client = Asking(*await asyncio.open_unix_connection(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"))
    finally:
        os.close(descriptor)
    try:
        yield client
    finally:
        client.writer.close()
        with suppress(ConnectionError):
            await client.writer.wait_closed()


async def ask(state, request):
    """Returns all that is answered to a request."""
    answers = []
    async with connected(state) as client:
        client.say(request)
        while (answer := await client.next()) is not None:
            answers.append(answer)
    return answers


async def refusal(state, request):
    [answer] = await ask(state, request)
    assert set(answer) == {"error", "remedy"}
    return f"{answer['error']}; {answer['remedy']}"


def changer(server):
    return MediaChanger(server._home, server._driver, {}, asyncio.Lock())


# The socket


async def test_only_the_owner_may_use_the_socket(server, state):
    found = (state / SOCKET_NAME).stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600


async def test_socket_is_removed_at_the_end(state):
    async with Server(ram_configuration(state, 1 << 20)):
        pass
    assert not (state / SOCKET_NAME).exists()


async def test_socket_that_somebody_removed_is_no_error_at_the_end(state):
    async with Server(ram_configuration(state, 1 << 20)):
        (state / SOCKET_NAME).unlink()


async def test_socket_of_a_dead_server_is_replaced(state):
    state.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(state / SOCKET_NAME))
    async with Server(ram_configuration(state, 1 << 20)):
        assert await ask(state, {"request": "units"}) == [{"units": ["disk0"]}]


@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
async def test_file_that_is_no_socket_is_kept_and_the_server_serves_without(state, caplog, kind):
    state.mkdir()
    place = state / SOCKET_NAME
    {"file": place.touch, "directory": place.mkdir, "dangling link": lambda: place.symlink_to("nowhere")}[kind]()
    before = place.lstat()
    async with Server(ram_configuration(state, 1 << 20)) as server:
        assert server.portals
    assert place.lstat() == before
    assert (
        f"{place}: cannot make the control socket: something that is no socket has its name; "
        "move it away and restart the server"
    ) in caplog.text


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def served(server, *opening):
    return Served({}, opening, changer(server), server._pools, server.faults, server.targets)


async def test_socket_that_cannot_listen_leaves_nothing_open_and_nothing_behind(server, tmp_path, monkeypatch):
    async def fail(*arguments, sock, **options):
        made.append(sock)
        raise OSError(errno.ENOBUFS, "No buffer space available")

    made: list[socket.socket] = []
    monkeypatch.setattr(asyncio, "start_unix_server", fail)
    async with asyncio.TaskGroup() as tasks:
        control = Control(
            tmp_path,
            server._driver,
            Served({}, (), changer(server), server._pools, server.faults, server.targets),
            tasks,
        )
        open_before = descriptors()
        with pytest.raises(StorageError, match="cannot make the control socket: No buffer space available"):
            await control.open()
        assert descriptors() == open_before
        control.close()
    assert made[0].fileno() == -1
    assert not (tmp_path / SOCKET_NAME).exists()


async def test_state_directory_may_have_any_length(tmp_path):
    state = tmp_path.joinpath(*["x" * 100] * 3)
    async with Server(ram_configuration(state, 1 << 20)):
        assert await ask(state, {"request": "units"}) == [{"units": ["disk0"]}]


# What can be asked


async def test_reservations_are_told_with_who_the_unit_is(server, state):
    [told] = await ask(state, {"request": "reservations", "unit": "disk0"})
    assert told["reservations"] == to_record(HELD)
    assert told["identity"] == {"vendor": "ISCSITGT", "product": "Virtual disk", "revision": "0001"}
    [port] = told["ports"]
    assert (port["target"], port["portal_group_tag"], port["relative_identifier"]) == (PORT.name, 1, 1)
    assert (told["unit"], told["personality"], told["spc2_holder"]) == ("disk0", "strict", None)
    assert told["has_persistent_reservations"] is True
    assert (told["capabilities"]["crh"], told["capabilities"]["ptpl_a"]) == (True, False)


async def test_holder_of_an_spc2_reservation_is_told(server, state):
    server._units["disk0"].device.spc2_reservation = Spc2Reservation(A)
    [told] = await ask(state, {"request": "reservations", "unit": "disk0"})
    assert told["spc2_holder"]["initiator"] == A.initiator_port.name


async def test_log_ends_with_the_count_of_its_entries(server, state, monkeypatch):
    monkeypatch.setattr(control_wire, "ENTRIES_PER_WRITE", 2)
    for _ in range(3):
        await ask(state, CLEAR)
    *entries, end = await ask(state, {"request": "log", "unit": "disk0"})
    assert [entry["rule"] for entry in entries] == ["CLEARED"] * 3
    assert [entry["number"] for entry in entries] == [1, 2, 3]
    assert end == {"entries": 3}


async def test_clear_tells_who_was_removed(server, state):
    [done] = await ask(state, CLEAR)
    assert (done["status"], done["entry"]["rule"], done["entry"]["nexus"]) == ("GOOD", "CLEARED", None)
    assert done["released"] is True
    assert [(lost["initiator"], lost["key"]) for lost in done["removed"]] == [
        (A.initiator_port.name, "0xa"),
        (B.initiator_port.name, "0xb"),
    ]
    assert not server._units["disk0"].device.reservations.registrations


@pytest.mark.parametrize("verb", ["preempt", "preempt_and_abort"])
@pytest.mark.parametrize("key", ["b", "0xB", "000b"])
async def test_preempt_removes_the_registrations_with_the_key(server, state, verb, key):
    [done] = await ask(state, {"request": verb, "unit": "disk0", "key": key})
    assert [lost["initiator"] for lost in done["removed"]] == [B.initiator_port.name]
    assert done["released"] is False
    assert server._units["disk0"].device.reservations.registrations == {A: 0xA}


async def test_key_that_nobody_has_is_an_error_and_changes_nothing(server, state):
    said = await refusal(state, {"request": "preempt", "unit": "disk0", "key": "0xc"})
    assert said == (
        "unit disk0: no nexus is registered with the key 0xc, so nothing is changed; "
        "`iscsi-target reservations show disk0` lists the keys"
    )
    assert server._units["disk0"].device.reservations == HELD


@pytest.mark.parametrize("verb", ["preempt", "preempt_and_abort"])
async def test_preempt_of_lost_reservations_says_that_they_are_lost_and_what_ends_that(server, state, verb):
    server._units["disk0"].device.reservations = Reservations(lost=True)
    assert await refusal(state, {"request": verb, "unit": "disk0", "key": "0xa"}) == (
        "unit disk0: the stored reservations are lost, and nobody knows the keys, so nothing is changed; "
        "`iscsi-target reservations clear disk0` ends that"
    )
    assert server._units["disk0"].device.reservations == Reservations(lost=True)
    await ask(state, CLEAR)
    assert not server._units["disk0"].device.reservations.lost


@pytest.mark.parametrize("stored", [Reservations({A: 1}, aptpl=True), Reservations(lost=True)], ids=["kept", "lost"])
async def test_order_that_cannot_be_stored_says_so(server, state, monkeypatch, stored):
    server._units["disk0"].device.reservations = stored

    async def fail(unit, saved):
        raise RuntimeError("disk full")

    monkeypatch.setattr(server._driver, "_save", fail)
    said = await refusal(state, CLEAR)
    assert said.startswith("unit disk0: the change could not be written to the state file, so nothing is changed")
    assert server._units["disk0"].device.reservations == stored


async def test_watching_tells_every_new_entry(server, state):
    async with connected(state) as watching:
        watching.say(WATCH)
        assert await watching.next() == {"watching": "disk0"}
        await ask(state, CLEAR)
        await ask(state, CLEAR)
        assert [(await watching.next())["number"] for _ in range(2)] == [1, 2]


async def test_one_who_watches_and_leaves_is_forgotten(server, state):
    async with connected(state) as watching:
        watching.say(WATCH)
        await watching.next()
        assert len(server._driver.observers) == 1
        watching.writer.write_eof()
        assert await watching.next() is None
    assert not server._driver.observers


async def test_end_of_the_server_ends_watching(state):
    async with Server(ram_configuration(state, 1 << 20)):
        client = connected(state)
        watching = await client.__aenter__()
        watching.say(WATCH)
        await watching.next()
    assert await watching.next() is None
    await client.__aexit__(None, None, None)


# Mistakes and malice


async def test_unknown_unit_is_an_error_that_lists_the_units(server, state):
    said = await refusal(state, {"request": "log", "unit": "disk9"})
    assert said == "there is no unit 'disk9'; units: disk0"
    assert await refusal(state, {"request": "log"}) == "no unit is named; units: disk0"


async def test_unit_that_the_machine_does_not_have_yet_is_an_error(server, state):
    server._units["disk1"] = server._units["disk0"]
    try:
        said = await refusal(state, {"request": "clear", "unit": "disk1"})
    finally:
        del server._units["disk1"]
    assert said == "unit disk1 is about to be opened; try again"


async def test_unit_that_is_closed_and_opened_again_is_said_to_come(server, tmp_path):
    async with asyncio.TaskGroup() as tasks:
        control = Control(
            tmp_path,
            server._driver,
            Served({}, ("disk0",), changer(server), server._pools, server.faults, server.targets),
            tasks,
        )
        await control.open()
        said = await refusal(tmp_path, {"request": "log", "unit": "disk0"})
        other = await refusal(tmp_path, {"request": "log", "unit": "disk9"})
        nameless = await refusal(tmp_path, {"request": "log", "unit": ["disk0"]})
        control.close()
    assert nameless == "there is no unit ['disk0']; units: none"
    assert said == "unit disk0 is about to be opened; try again"
    assert other == "there is no unit 'disk9'; units: none"


async def test_bug_in_an_order_is_not_taken_for_a_unit_that_is_not_there(server, state, monkeypatch, caplog):
    async def fail(order):
        raise KeyError("a bug")

    monkeypatch.setattr(server._driver, "operate", fail)
    assert await ask(state, CLEAR) == []
    assert "KeyError: 'a bug'" in caplog.text


@pytest.mark.parametrize("key", [None, 11, "", "0", "0x0", "xyz", "-1", "1_0", "1" * 17])
async def test_key_that_is_none_is_an_error(server, state, key):
    said = await refusal(state, {"request": "preempt", "unit": "disk0", "key": key})
    assert f"{key!r} is no reservation key" in said


@pytest.mark.parametrize("line", [b"\n", b"units\n", b"[1]\n", b"[" * 4000 + b"\n", b"\xff\xfe\n", b"{}\n"])
async def test_nonsense_is_answered_with_an_error(server, state, line):
    async with connected(state) as client:
        client.writer.write(line)
        answer = await client.next()
        assert set(answer) == {"error", "remedy"}
        assert await client.next() is None


async def test_request_that_is_too_long_is_refused(server, state):
    async with connected(state) as client:
        client.writer.write(b"x" * 3 * MAX_REQUEST_BYTES)
        assert "has more than 4096 bytes" in (await client.next())["error"]


async def test_client_that_leaves_without_a_request_is_forgotten(server, state):
    async with connected(state) as client:
        client.writer.write_eof()
        assert await client.next() is None
    assert await ask(state, {"request": "units"}) == [{"units": ["disk0"]}]


async def test_silent_client_is_cut(server, state, monkeypatch):
    monkeypatch.setattr(control_wire, "REQUEST_S", 0.01)
    async with connected(state) as client:
        assert await client.next() is None


@pytest.fixture
def cut(monkeypatch):
    """An event: the server has cut a client."""
    happened = asyncio.Event()
    abort = Client.cut

    def note(client):
        happened.set()
        abort(client)

    monkeypatch.setattr(Client, "cut", note)
    return happened


async def test_client_that_does_not_read_is_cut(server, state, monkeypatch, cut):
    monkeypatch.setattr(control_wire, "STALL_S", 0.01)
    entry = noted(1).entry
    timeline = type("Unit", (), {"timeline": [entry] * 2048})
    monkeypatch.setitem(server._units, "disk0", server._units["disk0"]._replace(logical_unit=timeline))
    async with connected(state) as client:
        client.writer.transport.pause_reading()
        client.say({"request": "log", "unit": "disk0"})
        async with asyncio.timeout(5):
            await cut.wait()
    monkeypatch.undo()


@asynccontextmanager
async def stalled(server, state, monkeypatch):
    """One who watches and reads nothing for as long as the server would wait for anybody else."""
    monkeypatch.setattr(control_wire, "STALL_S", 0)
    async with connected(state) as watching:
        watching.say(WATCH)
        await watching.next()
        watching.writer.transport.pause_reading()
        [observer] = server._driver.observers
        for number in range(MAX_WAITING_ENTRIES):  # more than the kernel takes
            observer(noted(number))
        assert await ask(state, {"request": "units"}) == [{"units": ["disk0"]}]
        assert observer.__self__._waiting
        yield watching


async def test_one_who_watches_may_read_as_slowly_as_he_likes(server, state, monkeypatch, cut):
    async with stalled(server, state, monkeypatch) as watching:
        watching.writer.transport.resume_reading()
        numbers = [(await watching.next())["number"] for _ in range(MAX_WAITING_ENTRIES)]
        assert numbers == list(range(MAX_WAITING_ENTRIES))
        assert len(server._driver.observers) == 1


async def test_one_who_watches_and_leaves_without_reading_is_forgotten(server, state, monkeypatch, cut):
    async with stalled(server, state, monkeypatch) as watching:
        cut.clear()
        watching.writer.write_eof()
        async with asyncio.timeout(5):
            await cut.wait()
        assert not server._driver.observers


async def test_client_past_the_limit_is_told_so(server, state, monkeypatch):
    monkeypatch.setattr(control_module, "MAX_CLIENTS", 1)
    async with connected(state) as watching:
        watching.say(WATCH)
        await watching.next()
        async with connected(state) as second:
            assert (await second.next())["error"] == "1 clients are connected"
            assert await second.next() is None


async def test_bug_cuts_the_client_and_not_the_server(server, state, monkeypatch, caplog):
    monkeypatch.setattr(control_module, "reservations_record", lambda opened: 1 / 0)
    assert await ask(state, {"request": "reservations", "unit": "disk0"}) == []
    assert "ZeroDivisionError" in caplog.text
    assert await ask(state, {"request": "units"}) == [{"units": ["disk0"]}]


def noted(number, unit="disk0"):
    return ReservationNoted(None, 0, unit, Entry(number, 0.0, A, "WRITE(10)", GOOD, Explanation(Rule.CLEARED, 0)))


# Media


async def test_media_are_changed_by_requests(state, tmp_path):
    other = tmp_path / "other.img"
    other.write_bytes(bytes(4096))
    configuration = ram_configuration(state, 1 << 20)
    removable = configuration._replace(units=(configuration.units[0]._replace(removable=True),))
    async with Server(removable):
        unit = {"unit": "disk0"}
        [found] = await ask(state, {"request": "media", **unit})
        assert (found["medium"], found["loaded"], found["preventing"]) == ("RAM", True, [])
        assert await refusal(state, {"request": "load", **unit}) == (
            "unit disk0 has a medium; `iscsi-target media eject disk0` takes it out"
        )
        [found] = await ask(state, {"request": "eject", **unit})
        assert not found["loaded"]
        [found] = await ask(state, {"request": "load", **unit})
        [found] = await ask(state, {"request": "eject_by_force", **unit})
        assert not found["loaded"]
        for wrong in ({}, {"file": 1}, {"file": "other.img"}, {"file": "/a\0b"}):
            assert "is no absolute path" in await refusal(state, {"request": "insert", **unit, **wrong})
        [found] = await ask(state, {"request": "insert", **unit, "file": str(other)})
        assert (found["medium"], found["size_bytes"]) == (str(other.resolve()), 4096)
