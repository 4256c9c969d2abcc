"""`iscsi-target reservations` asks a real server what happened to two nodes of a cluster, and overrules them.

node A ---- 0x123abc, holds Write Exclusive, registrants only ---- unit "disk" (LUN 0)
node B ---- not registered, or with 0xb
"""

import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing, contextmanager
from select import select

import pytest

from iscsi_target.iscsi.requests import ScsiCommand
from iscsi_target.iscsi.responses import ReadyToTransfer
from iscsi_target.scsi.attention import AttentionCode
from iscsi_target.scsi.layouts import cdb
from iscsi_target.scsi.layouts.block_cdb import Write10
from iscsi_target.scsi.layouts.lun import pack_lun
from iscsi_target.scsi.reservations.personality import OutAction
from iscsi_target.scsi.status import Status
from iscsi_target.server.control import MAX_CLIENTS, SOCKET_NAME
from iscsi_target.server.server import STATE_FILE
from tests.endtoend.cluster_node import Path
from tests.endtoend.initiators import PLAIN
from tests.endtoend.wire_initiator import UNIT_ATTENTION, session

A, B = "iqn.2026-11.org.example:node-a", "iqn.2026-11.org.example:node-b"
KEY_A, KEY_B = 0x123ABC, 0xB
WRITE_EXCLUSIVE, REGISTRANTS_ONLY = 1, 5
BLOCK = bytes([7]) * 512
GOOD, CONFLICT = Status.GOOD, Status.RESERVATION_CONFLICT


async def out(node, action, **fields):
    assert await Path(node).out(action, **fields) == GOOD


async def write(node, lba=0):
    return await node.execute(Write10(lba=lba, transfer_length=1), BLOCK)


def line_of(state, *words):
    return [sys.executable, "-m", "iscsi_target", "reservations", *words, "--state", str(state)]


def command(target, *words):
    """Runs `iscsi-target reservations` on the server's state directory."""
    return subprocess.run(line_of(target.state, *words), capture_output=True, text=True, timeout=60, check=False)


def printed(target, *words):
    done = command(target, *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@contextmanager
def running(state, *words):
    process = subprocess.Popen(line_of(state, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def control_socket(state):
    """A Unix socket and its address, however long the path of the state directory is."""
    descriptor = os.open(state, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.settimeout(20)
            yield made, f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


async def test_show_and_log_say_who_holds_what_and_why_a_write_conflicted(serve):
    target = serve(PLAIN)
    assert "there are NO registered reservation keys" in printed(target, "show", "disk")
    async with session(target.url(0), name=A) as a, session(target.url(0), name=B) as b:
        await a.ready()
        await b.ready()
        await out(a, OutAction.REGISTER, new=KEY_A)
        await out(a, OutAction.RESERVE, kind=REGISTRANTS_ONLY, key=KEY_A)
        assert (await write(b)).status == CONFLICT
        assert (await write(b)).status == CONFLICT

    assert printed(target, "show", "disk") == (
        "  ISCSITGT  Virtual disk      0001\n"
        "  Peripheral device type: disk\n"
        "  PR generation=0x1, 1 registered reservation key follows:\n"
        "    0x123abc\n"
        "  PR generation=0x1, Reservation follows:\n"
        "    Key=0x123abc\n"
        "    scope: LU_SCOPE,  type: Write Exclusive, registrants only\n"
    )
    registered, reserved, conflict = printed(target, "log", "disk").splitlines()
    assert f"REGISTER from {A},i,0x800000000001: GOOD: the nexus is registered" in registered
    assert f"RESERVE from {A},i,0x800000000001: GOOD: the nexus holds the reservation" in reserved
    assert re.search(
        rf"WRITE\(10\) from {re.escape(B)},i,0x800000000001: RESERVATION CONFLICT: .*\(SPC4r37 5\.13\.1\); "
        rf"Write Exclusive, registrants only, held by {re.escape(A)},i,0x800000000001 with key 0x123abc; "
        r"made by .*RESERVE from .* \(2 times\)$",
        conflict,
    )
    entry = json.loads(printed(target, "log", "disk", "--json").splitlines()[-1])
    assert (entry["rule"], entry["status"], entry["holder"]["initiator"]) == ("REGISTRANTS_ONLY", CONFLICT.name, A)


async def begin(node, *outputs):
    """Registers until all who watch have begun, which is when they tell of it; seldom, so that no pipe fills up."""
    waiting = set(outputs)
    async with asyncio.timeout(30):
        while waiting:
            await out(node, OutAction.REGISTER_AND_IGNORE_EXISTING_KEY, new=KEY_A)
            waiting -= set(select(list(waiting), [], [], 0.5)[0])


async def test_watch_tells_what_happens_until_it_is_interrupted(serve):
    target = serve(PLAIN)
    with running(target.state, "watch", "disk", "--json") as watch, running(target.state, "watch", "disk") as other:
        async with session(target.url(0), name=A) as a:
            await a.ready()
            await begin(a, watch.stdout, other.stdout)
        first = json.loads(watch.stdout.readline())
        assert first["rule"] in ("REGISTERED", "KEY_CHANGED")
        assert f"from {A}" in other.stdout.readline()
        watch.send_signal(signal.SIGINT)
        assert watch.wait(20) == 0
        assert target.terminate() == 0
        assert other.wait(20) == 2
        assert other.stderr.read() == (
            f"iscsi-target: state {target.state}: the server ended, or cut the connection; start it and watch again\n"
        )


async def test_operator_who_preempts_and_aborts_ends_a_write_that_waits(serve):
    target = serve(PLAIN)
    async with session(target.url(0), name=A) as a, session(target.url(0), name=B) as b:
        await a.ready()
        await b.ready()
        await out(a, OutAction.REGISTER, new=KEY_A)
        await out(b, OutAction.REGISTER, new=KEY_B)
        await out(a, OutAction.RESERVE, kind=REGISTRANTS_ONLY, key=KEY_A)
        header = ScsiCommand(
            lun=pack_lun(0),
            write=True,
            expected_data_transfer_length=len(BLOCK),
            cdb=Write10(transfer_length=1).pack().ljust(16, b"\0"),
        )
        tag = await b.send(header)
        r2t = (await b.receive()).header
        assert isinstance(r2t, ReadyToTransfer)

        done = printed(target, "preempt", "disk", f"{KEY_B:x}", "--abort").splitlines()
        assert "PREEMPT AND ABORT from the operator: GOOD" in done[0]
        assert done[1] == f"removed: key 0xb of {B},i,0x800000000001 at {a.place.target},t,0x0001"
        await b.satisfy(tag, r2t, BLOCK)  # too late
        outcome = await b.execute(cdb.TestUnitReady())
        assert outcome.key == UNIT_ATTENTION
        await b.ready()
        assert (await write(b)).status == CONFLICT
        assert (await write(a)).status == GOOD


async def test_clear_tells_every_registrant(serve):
    target = serve(PLAIN)
    async with session(target.url(0), name=A) as a, session(target.url(0), name=B) as b:
        await a.ready()
        await b.ready()
        await out(a, OutAction.REGISTER, new=KEY_A)
        await out(b, OutAction.REGISTER, new=KEY_B)
        await out(a, OutAction.RESERVE, kind=WRITE_EXCLUSIVE, key=KEY_A)
        done = printed(target, "clear", "disk").splitlines()
        assert [line.partition(":")[0] for line in done] == [
            "unit disk",
            "removed",
            "removed",
            "the reservation is released",
        ]
        for node in (a, b):
            outcome = await node.execute(cdb.TestUnitReady())
            assert (outcome.key, outcome.code) == (UNIT_ATTENTION, AttentionCode.RESERVATIONS_PREEMPTED)
        assert (await write(b)).status == GOOD
    assert "there is NO reservation held" in printed(target, "show", "disk")


async def test_mistakes_are_one_line_and_exit_status_2(serve, tmp_path):
    target = serve(PLAIN)
    for words, said in [
        (["show", "disc"], "there is no unit 'disc'; units: disk, read-only, removable, small-sectors"),
        (["preempt", "disk", "zz"], "'zz' is no reservation key"),
        (["preempt", "disk", "77"], "no nexus is registered with the key 0x77, so nothing is changed"),
    ]:
        done = command(target, *words)
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert said in line
    assert target.terminate() == 0
    done = command(target, "log", "disk")
    assert done.returncode == 2
    assert done.stderr == (
        f"iscsi-target: state {target.state}: no server uses it; "
        "start one, or name its state directory with --state or --config\n"
    )


async def test_server_that_was_killed_leaves_a_socket_that_the_next_one_replaces(serve):
    target = serve(PLAIN)
    target.kill9()
    assert (target.state / "control").exists()
    target.restart()
    assert "NO registered" in printed(target, "show", "disk")


async def test_change_of_reservations_is_an_event_of_the_server(serve):
    target = serve(PLAIN)
    async with session(target.url(0), name=A) as a:
        await a.ready()
        await out(a, OutAction.REGISTER, new=KEY_A)
    assert target.terminate() == 0
    events = [json.loads(line) for line in (target.state / "serve.out").read_text().splitlines()]
    [noted] = [event for event in events if event["event"] == "reservation_noted"]
    assert (noted["level"], noted["unit"], noted["entry"]["rule"]) == ("info", "disk", "REGISTERED")
    assert noted["message"] == f"unit disk: {noted['entry']['text']}"


async def test_lost_reservations_are_said_to_be_lost_until_they_are_cleared(serve):
    target = serve(PLAIN)
    async with session(target.url(0), name=A) as a:
        await a.ready()
        assert await Path(a).out(OutAction.REGISTER, new=KEY_A, aptpl=True) == GOOD
    assert target.terminate() == 0
    with closing(sqlite3.connect(target.state / STATE_FILE, isolation_level=None)) as database:
        assert database.execute("UPDATE reservations SET checksum = checksum + 1").rowcount == 1
    target.restart()
    for words in (["show", "disk"], ["preempt", "disk", f"{KEY_A:x}"]):
        done = command(target, *words)
        assert (done.returncode, done.stdout) == (2, "")
        [line] = done.stderr.splitlines()
        assert "unit disk: the stored reservations are lost" in line
        assert "`iscsi-target reservations clear disk`" in line
    assert "CLEAR from the operator: GOOD" in printed(target, "clear", "disk")
    assert "there are NO registered reservation keys" in printed(target, "show", "disk")


async def test_client_past_the_limit_is_told_so(serve):
    target = serve(PLAIN)
    with ExitStack() as clients:
        for _ in range(MAX_CLIENTS):
            client, address = clients.enter_context(control_socket(target.state))
            client.connect(address)
            client.sendall(b'{"request": "watch", "unit": "disk"}\n')
            assert client.makefile().readline() == '{"watching": "disk"}\n'
        for _ in range(3):  # whatever comes first, the server's refusal or the request
            done = command(target, "clear", "disk")
            assert (done.returncode, done.stderr) == (
                2,
                f"iscsi-target: state {target.state}: {MAX_CLIENTS} clients are connected;"
                " end one of them, or wait for its order\n",
            )


@pytest.mark.parametrize(
    "end, status, said",
    [
        (
            "the server dies",
            3,
            "state {state}: the server ended before it had answered; it may be done or not; "
            "see `iscsi-target reservations show disk` after a restart",
        ),
        (
            "an interrupt",
            130,
            "interrupted; the order goes on if it was given: `iscsi-target reservations log disk` shows it",
        ),
    ],
)
def test_order_without_an_answer_says_what_is_known_of_it(tmp_path, end, status, said):
    """The server is a socket of the test, which has taken in the order and does not get to the answer."""
    with control_socket(tmp_path) as (listening, address):
        listening.bind(address)
        listening.listen()
        with running(tmp_path, "preempt", "disk", "a", "--abort") as order:
            accepted, _ = listening.accept()
            with accepted:
                accepted.settimeout(20)
                assert json.loads(accepted.makefile().readline())["request"] == "preempt_and_abort"
                if end == "an interrupt":
                    order.send_signal(signal.SIGINT)
                    order.wait(20)
            output, errors = order.communicate(timeout=20)
    assert (order.returncode, output, errors) == (status, "", f"iscsi-target: {said.format(state=tmp_path)}\n")
