"""What clusters put on the wire, over real sockets: each node with a name and an ISID of its own.

    node a ---.                .--- portal group 1 ---.
    node b ----+--- loopback --+                      +--- unit 0
    node c ---'                '--- portal group 2 ---'

The sequences are those of Windows' validation (MS-CSVP), fence_scsi, mpathpersist and Linux' pr_ops.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path as FilePath

import pytest

from iscsi_target.iscsi.requests import ScsiCommand
from iscsi_target.iscsi.responses import ReadyToTransfer
from iscsi_target.scsi.layouts.block_cdb import Write10
from iscsi_target.scsi.layouts.lun import pack_lun
from iscsi_target.scsi.nexus import InitiatorPort
from iscsi_target.scsi.reservations.personality import OutAction, ReservationType
from iscsi_target.scsi.status import Status
from tests.conftest import Tool
from tests.endtoend.cluster_node import (
    BLOCK_BYTES,
    COMMANDS_CLEARED,
    REGISTRATIONS_PREEMPTED,
    RESERVATIONS_PREEMPTED,
    RESERVATIONS_RELEASED,
    WRITE_EXCLUSIVE_REGISTRANTS_ONLY,
    Holding,
    Path,
    initiator_name,
    paths,
)
from tests.endtoend.conftest import serving
from tests.endtoend.initiators import PLAIN, run
from tools.served import ServedTarget

WERO = WRITE_EXCLUSIVE_REGISTRANTS_ONLY
REGISTER, RESERVE, RELEASE, CLEAR = OutAction.REGISTER, OutAction.RESERVE, OutAction.RELEASE, OutAction.CLEAR
PREEMPT, PREEMPT_AND_ABORT = OutAction.PREEMPT, OutAction.PREEMPT_AND_ABORT
IGNORE = OutAction.REGISTER_AND_IGNORE_EXISTING_KEY
GOOD, CONFLICT = Status.GOOD, Status.RESERVATION_CONFLICT
ISID_A, ISID_B, ISID_C = (bytes.fromhex(f"80{number:010x}") for number in (0xA, 0xB, 0xC))
NEW_ISID_A = bytes.fromhex("80000000a0a0")
KEY_A, KEY_B, KEY_C = 0x1A2B0000_00004D53, 0x3C4D0000_00004D53, 0x5E6F0000_00004D53
TYPES = tuple(ReservationType)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, tool: Tool) -> Iterator[ServedTarget]:
    """One target for all sequences, each of which leaves it without registrations; its trace must be right too."""
    folder = tmp_path_factory.mktemp("clusters")
    with serving(folder, PLAIN, "--trace", str(folder / "clusters.pcapng")) as served:
        yield served
        assert conflicts_of_trace(served, folder / "clusters.pcapng", tool("tshark"))


def conflicts_of_trace(target: ServedTarget, trace: FilePath, tshark: FilePath) -> list[str]:
    """Ends a target and returns the comments of the packets with a conflict, of which each has one.

    No packet may be malformed, and no other packet with a response may speak of a conflict.
    """
    ports = [portal.rpartition(":")[2] for portal in target.portals]
    assert target.terminate() == 0
    decode: list[str | FilePath] = [tshark, "-r", trace]
    for port in ports:
        decode += ["-d", f"tcp.port=={port},iscsi"]
    assert run([*decode, "-Y", "_ws.malformed"]) == ""
    fields = ["-T", "fields", "-e", "frame.comment"]
    comments = run([*decode, "-Y", "scsi.status == 0x18", *fields]).splitlines()
    assert all("RESERVATION CONFLICT" in comment and "SPC" in comment for comment in comments)
    others = run([*decode, "-Y", "iscsi and not scsi.status == 0x18", *fields])
    assert "RESERVATION CONFLICT" not in others
    return comments


async def leave(*nodes: Path) -> None:
    """Removes what is registered, so that the next sequence begins with nothing."""
    for node in nodes:
        assert await node.out(IGNORE) == GOOD
    assert await nodes[0].keys() == []
    assert await nodes[0].holding() is None


# Windows: the storage tests of Validate a Configuration, as MS-CSVP puts them on the wire


@pytest.mark.parametrize("kind", TYPES, ids=str)
async def test_windows_validation_of_one_disk_from_two_nodes(target: ServedTarget, kind: ReservationType) -> None:
    """PRRegister, PRReserve, IsPRPresent from every node, PRPreempt, PRRelease, PRClear, PRUnRegister."""
    url = target.url()
    async with paths("a", ISID_A, url) as (a,), paths("b", ISID_B, url) as (b,):
        for node in (a, b):
            assert await node.out(IGNORE) == GOOD  # clean-up of what an earlier run may have left
            assert await node.holding() is None
        assert await a.write(0, 0xA0) == GOOD  # the two arbitration sectors
        assert await b.read(0) == 0xA0
        assert await a.out(IGNORE, new=KEY_A) == GOOD
        assert await a.out(RESERVE, KEY_A, kind=kind) == GOOD
        shown = 0 if kind.all_registrants else KEY_A
        assert await a.holding() == await b.holding() == Holding(shown, kind)
        assert await b.out(RESERVE, KEY_B, kind=kind) == CONFLICT  # it is not registered
        assert await b.out(IGNORE, new=KEY_B) == GOOD
        assert await b.out(PREEMPT, KEY_B, shown, kind=kind) == GOOD
        assert await a.keys() == [KEY_B]
        assert a.attentions == [REGISTRATIONS_PREEMPTED]
        assert await a.out(RESERVE, KEY_A, kind=kind) == CONFLICT
        assert await a.holding() == Holding(0 if kind.all_registrants else KEY_B, kind)
        assert await b.out(RELEASE, KEY_B, kind=kind) == GOOD
        assert await b.holding() is None
        assert await b.out(RESERVE, KEY_B, kind=kind) == GOOD
        assert await b.out(CLEAR, KEY_B) == GOOD
        assert await a.keys() == []
        assert await b.holding() is None
        assert a.attentions == [REGISTRATIONS_PREEMPTED]  # CLEAR tells registrants, and a is none
        await leave(a, b)


async def test_windows_owner_defends_its_disk_and_loses_it_when_it_does_not(target: ServedTarget) -> None:
    """The challenger registers, waits for the defence, which removes it; then the owner is gone and is preempted."""
    url = target.url()
    async with paths("a", ISID_A, url) as (a,), paths("b", ISID_B, url) as (b,):
        assert await a.out(IGNORE, new=KEY_A) == GOOD
        assert await a.out(RESERVE, KEY_A, kind=WERO) == GOOD
        assert await b.out(IGNORE, new=KEY_B) == GOOD
        assert await a.keys() == [KEY_A, KEY_B]
        assert await a.out(PREEMPT, KEY_A, KEY_B, kind=WERO) == GOOD  # the defence
        assert await b.out(PREEMPT, KEY_B, KEY_A, kind=WERO) == CONFLICT
        assert await b.write(1, 0xB0) == CONFLICT
        assert await b.keys() == [KEY_A]
        assert b.attentions == [REGISTRATIONS_PREEMPTED]
        assert await b.out(IGNORE, new=KEY_B) == GOOD
        assert await b.out(PREEMPT, KEY_B, KEY_A, kind=WERO) == GOOD  # nobody defends now
        assert await b.write(1, 0xB1) == GOOD
        assert await a.write(1, 0xA1) == CONFLICT
        assert await a.read(1) == 0xB1
        await leave(b, a)


async def test_windows_shared_volume_lets_registrants_write_and_nobody_else(target: ServedTarget) -> None:
    """A coordinator holds WERO; members write directly; a member that is removed cannot write from then on."""
    url = target.url()
    async with (
        paths("a", ISID_A, url) as (a,),
        paths("b", ISID_B, url) as (b,),
        paths("c", ISID_C, url) as (c,),
    ):
        for node, key in ((a, KEY_A), (b, KEY_B)):
            assert await node.out(IGNORE, new=key) == GOOD
        assert await a.out(RESERVE, KEY_A, kind=WERO) == GOOD
        assert await b.write(2, 0xB2) == GOOD
        assert await c.write(2, 0xC2) == CONFLICT
        assert await c.read(2) == 0xB2
        assert await a.out(PREEMPT_AND_ABORT, KEY_A, KEY_B, kind=WERO) == GOOD
        assert await b.write(2, 0xBB) == CONFLICT
        assert await a.read(2) == 0xB2
        await leave(a, b, c)


# Pacemaker: fence_scsi


async def fence_scsi_on(node: Path, key: int) -> None:
    """`fence_scsi --action=on`: registers, throws out an older ISID by preempting itself, and reserves."""
    known = key in await node.keys()
    assert await node.out(IGNORE, new=key) == GOOD
    if known:
        assert await node.out(PREEMPT, key, key, kind=WERO) == GOOD
        if key not in await node.keys():
            assert await node.out(IGNORE, new=key) == GOOD
    assert key in await node.keys()
    if await node.holding() is None:
        assert await node.out(RESERVE, key, kind=WERO) == GOOD


async def fence_scsi_off(peer: Path, own: int, victim: int) -> None:
    """`fence_scsi --action=off` on a peer of the victim."""
    assert await peer.out(IGNORE, new=own) == GOOD
    if victim in await peer.keys():
        assert await peer.out(PREEMPT_AND_ABORT, own, victim, kind=WERO) == GOOD
    assert victim not in await peer.keys()
    assert await peer.holding() is not None


async def fence_scsi_monitor(node: Path, key: int) -> bool:
    return key in await node.keys() and await node.holding() is not None


@pytest.mark.parametrize("holder", ["a", "b"])
async def test_fence_scsi_on_off_monitor(target: ServedTarget, holder: str) -> None:
    """Whoever holds the reservation: the fenced node cannot write, and comes back with `on`."""
    url = target.url()
    async with paths("a", ISID_A, url) as (a,), paths("b", ISID_B, url) as (b,):
        first, second = ((a, 0x1111), (b, 0x2222)) if holder == "a" else ((b, 0x2222), (a, 0x1111))
        for node, key in (first, second):
            await fence_scsi_on(node, key)
        assert await fence_scsi_monitor(a, 0x1111)
        assert await fence_scsi_monitor(b, 0x2222)
        assert await a.write(3, 0xA3) == GOOD
        await fence_scsi_off(b, 0x2222, 0x1111)
        assert not await fence_scsi_monitor(a, 0x1111)
        assert a.attentions == [REGISTRATIONS_PREEMPTED]
        assert await a.write(3, 0xAA) == CONFLICT
        assert await b.read(3) == 0xA3
        await fence_scsi_on(a, 0x1111)
        assert await a.write(3, 0xA4) == GOOD
        await leave(a, b)


async def test_fence_scsi_on_with_a_changed_isid_removes_the_old_registration(target: ServedTarget) -> None:
    """A host that comes back with another ISID is another nexus; preempting its own key throws the old one out."""
    url = target.url()
    async with paths("b", ISID_B, url) as (b,):
        async with paths("a", ISID_A, url) as (a,):
            await fence_scsi_on(a, 0x1111)
            await fence_scsi_on(b, 0x2222)
        async with paths("a", NEW_ISID_A, url) as (a,):
            assert await a.write(4, 0xA4) == CONFLICT
            await fence_scsi_on(a, 0x1111)
            assert (await a.keys()).count(0x1111) == 1
            status = {each.isid: each for each in await a.full_status()}
            assert status[NEW_ISID_A].holder
            assert ISID_A not in status
            assert await a.write(4, 0xA5) == GOOD
            await leave(a, b)


async def test_fence_scsi_off_swallows_the_data_of_a_write_that_was_under_way(target: ServedTarget) -> None:
    """The victim was asked for its data when it was fenced; what it sends now reaches nothing and breaks nothing."""
    url = target.url()
    async with paths("a", ISID_A, url) as (a,), paths("b", ISID_B, url) as (b,):
        await fence_scsi_on(a, 0x1111)
        await fence_scsi_on(b, 0x2222)
        assert await b.write(9, 0xB9) == GOOD
        late = b"\xaa" * BLOCK_BYTES
        command = ScsiCommand(
            lun=pack_lun(0),
            write=True,
            expected_data_transfer_length=len(late),
            cdb=Write10(lba=9, transfer_length=1).pack().ljust(16, b"\0"),
        )
        tag = await a.initiator.send(command)
        asked = (await a.initiator.receive()).header
        assert isinstance(asked, ReadyToTransfer)
        await fence_scsi_off(b, 0x2222, 0x1111)
        await a.initiator.satisfy(tag, asked, late)
        assert await a.write(9, 0xAB) == CONFLICT
        assert 0x1111 not in await a.keys()
        assert a.attentions == [REGISTRATIONS_PREEMPTED, COMMANDS_CLEARED]
        assert await b.read(9) == 0xB9
        await leave(b, a)


# multipath-tools: mpathpersist over two portals


async def test_mpathpersist_over_two_portals(target: ServedTarget) -> None:
    """Every path registers, one path reserves, every path may release; a peer removes all paths at once."""
    urls = target.url(), target.url(path=1)
    async with paths("a", ISID_A, *urls) as (a1, a2), paths("b", ISID_B, *urls) as (b1, b2):
        for path, key in ((a1, KEY_A), (a2, KEY_A), (b1, KEY_B), (b2, KEY_B)):
            assert await path.out(REGISTER, new=key) == GOOD
        assert sorted(await a1.keys()) == sorted([KEY_A, KEY_A, KEY_B, KEY_B])
        assert await a1.out(RESERVE, KEY_A, kind=WERO) == GOOD
        assert await a2.out(RESERVE, KEY_A, kind=WERO) == CONFLICT  # tolerated: another path of the host holds
        for path in (a1, a2, b1, b2):
            assert await path.write(5, 0x55) == GOOD
        assert await a2.out(RELEASE, KEY_A, kind=WERO) == GOOD  # it does not hold, so nothing is released
        assert await b1.holding() == Holding(KEY_A, WERO)
        holders = {(each.isid, each.port) for each in await b2.full_status() if each.holder}
        assert len(holders) == 1
        assert await b2.out(PREEMPT_AND_ABORT, KEY_B, KEY_A, kind=WERO) == GOOD
        assert await b1.keys() == [KEY_B, KEY_B]
        for path in (a1, a2):
            assert await path.write(5, 0xAA) == CONFLICT
        assert await a1.keys() == await a2.keys() == [KEY_B, KEY_B]
        assert a1.attentions == a2.attentions == [REGISTRATIONS_PREEMPTED]
        assert await b1.write(5, 0xB5) == GOOD
        assert await b1.holding() == Holding(KEY_B, WERO)
        await leave(b1, b2, a1, a2)


async def test_mpathpersist_registers_all_target_ports_with_one_command(target: ServedTarget) -> None:
    """`--param-alltgpt`: one command for each host port, and the other path is registered too."""
    urls = target.url(), target.url(path=1)
    async with paths("a", ISID_A, *urls) as (a1, a2):
        assert await a1.out(IGNORE, new=KEY_A, all_tg_pt=True) == GOOD
        assert len({each.port for each in await a2.full_status()}) == 2
        assert await a2.out(RESERVE, KEY_A, kind=WERO) == GOOD
        assert await a1.out(IGNORE, all_tg_pt=True) == GOOD
        assert await a1.keys() == []
        assert await a1.holding() is None


async def test_a_reservation_moves_to_the_destination_of_a_live_migration(target: ServedTarget) -> None:
    """REGISTER AND MOVE with UNREG, as a manager of virtual machines hands a guest's reservation on."""
    url = target.url()
    async with paths("a", ISID_A, url) as (a,), paths("b", ISID_B, url) as (b,):
        assert await a.out(REGISTER, new=KEY_A) == GOOD
        assert await a.out(RESERVE, KEY_A, kind=ReservationType.EXCLUSIVE_ACCESS) == GOOD
        [here] = await a.full_status()
        destination = InitiatorPort(initiator_name("b"), ISID_B)
        assert await a.move(KEY_A, KEY_A, destination, here.port, unreg=True) == GOOD
        assert await a.write(6, 0xA6) == CONFLICT
        assert await b.write(6, 0xB6) == GOOD
        [moved] = await b.full_status()
        assert (moved.name, moved.isid, moved.holder) == (initiator_name("b"), ISID_B, True)
        assert a.attentions == b.attentions == []
        await leave(b, a)


# Linux: pr_ops


@pytest.mark.parametrize("abort", [False, True])
async def test_linux_pr_ops_always_ask_for_persistence(target: ServedTarget, *, abort: bool) -> None:
    """pr_register sets APTPL with every registration; reserve, preempt, release and clear follow."""
    url = target.url()
    async with paths("a", ISID_A, url) as (a,), paths("b", ISID_B, url) as (b,):
        assert await a.out(REGISTER, new=0x10, aptpl=True) == GOOD
        assert await b.out(IGNORE, new=0x20, aptpl=True) == GOOD  # PR_FL_IGNORE_KEY
        assert (await a.capabilities()).ptpl_a
        assert await a.out(REGISTER, 0x10, 0x11, aptpl=True) == GOOD
        assert await a.out(RESERVE, 0x11, kind=ReservationType.WRITE_EXCLUSIVE) == GOOD
        assert await b.write(7, 0xB7) == CONFLICT
        action = PREEMPT_AND_ABORT if abort else PREEMPT
        assert await b.out(action, 0x20, 0x11, kind=ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY) == GOOD
        assert await b.holding() == Holding(0x20, ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY)
        assert await a.out(IGNORE, new=0x12, aptpl=True) == GOOD
        assert a.attentions == [REGISTRATIONS_PREEMPTED]
        assert await b.out(RELEASE, 0x20, kind=ReservationType.EXCLUSIVE_ACCESS_REGISTRANTS_ONLY) == GOOD
        assert await a.write(7, 0xA7) == GOOD
        assert a.attentions == [REGISTRATIONS_PREEMPTED, RESERVATIONS_RELEASED]
        assert await a.out(CLEAR, 0x12) == GOOD
        assert await b.keys() == []
        assert b.attentions == [RESERVATIONS_PREEMPTED]
        assert await b.out(IGNORE) == GOOD  # nobody is registered, so this changes nothing
        assert (await b.capabilities()).ptpl_a
        assert await b.out(REGISTER, new=0x21, aptpl=False) == GOOD
        assert not (await b.capabilities()).ptpl_a
        await leave(b)


async def test_linux_pr_ops_survive_a_crash_of_the_target(tmp_path: FilePath) -> None:
    """With APTPL the fence holds after kill -9 and a restart; without it, nothing is left."""
    with serving(tmp_path, PLAIN) as crashing:
        for aptpl in (True, False):
            async with paths("a", ISID_A, crashing.url()) as (a,), paths("b", ISID_B, crashing.url()) as (b,):
                assert await a.out(IGNORE, new=KEY_A, aptpl=aptpl) == GOOD
                if await a.holding() is None:
                    assert await a.out(RESERVE, KEY_A, kind=WERO) == GOOD
                assert await b.write(0, 0xB0) == CONFLICT
            crashing.kill9()
            crashing.restart()
            async with paths("a", ISID_A, crashing.url()) as (a,), paths("b", ISID_B, crashing.url()) as (b,):
                assert await a.keys() == ([KEY_A] if aptpl else [])
                assert await a.holding() == (Holding(KEY_A, WERO) if aptpl else None)
                assert await a.generation() == 0
                assert await b.write(0, 0xB1) == (CONFLICT if aptpl else GOOD)
                assert await a.write(0, 0xA1) == GOOD


# Arbitration


@pytest.mark.parametrize("round_", range(10))
async def test_two_nodes_that_arbitrate_at_once_have_one_winner(target: ServedTarget, round_: int) -> None:
    """Both register, both reserve at once, the loser preempts while the winner does: one holder, and it may write."""
    url = target.url()
    async with paths("a", ISID_A, url) as (a,), paths("b", ISID_B, url) as (b,):
        contenders = ((a, KEY_A), (b, KEY_B)) if round_ % 2 else ((b, KEY_B), (a, KEY_A))
        await asyncio.gather(*(node.out(IGNORE, new=key) for node, key in contenders))
        reserved = await asyncio.gather(*(node.out(RESERVE, key, kind=WERO) for node, key in contenders))
        assert sorted(reserved) == [GOOD, CONFLICT]
        rival = {KEY_A: KEY_B, KEY_B: KEY_A}
        preempted = await asyncio.gather(*(node.out(PREEMPT, key, rival[key], kind=WERO) for node, key in contenders))
        assert sorted(preempted) == [GOOD, CONFLICT]
        [(winner, key)] = [each for each, status in zip(contenders, preempted, strict=True) if status == GOOD]
        [(loser, _)] = [each for each, status in zip(contenders, preempted, strict=True) if status == CONFLICT]
        assert await winner.holding() == Holding(key, WERO)
        assert await winner.keys() == [key]
        assert await winner.write(8, 0x88) == GOOD
        assert await loser.write(8, 0x99) == CONFLICT
        assert await loser.read(8) == 0x88
        await leave(winner, loser)


# What is traced


async def test_the_trace_shows_why_a_fenced_node_meets_a_conflict(tmp_path: FilePath, tool: Tool) -> None:
    trace = tmp_path / "fence.pcapng"
    with serving(tmp_path, PLAIN, "--trace", str(trace)) as traced:
        url = traced.url()
        async with paths("a", ISID_A, url) as (a,), paths("b", ISID_B, url) as (b,):
            await fence_scsi_on(a, 0x1111)
            await fence_scsi_on(b, 0x2222)
            await fence_scsi_off(b, 0x2222, 0x1111)
            assert await a.write(0, 0xAA) == CONFLICT
        [comment] = conflicts_of_trace(traced, trace, tool("tshark"))
    assert "WRITE(10)" in comment
    assert "SPC4r37 5.13.1" in comment
    assert f"held by {initiator_name('b')},i,0x{ISID_B.hex()} with key 0x2222" in comment
    assert "registration removed by PERSISTENT RESERVE OUT, PREEMPT AND ABORT" in comment
