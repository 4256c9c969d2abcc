"""What is measured: the table of workloads, each with the client that it is measured with.

Most are measured with `load`. Those with iscsi-perf or qemu-img in their name are the same work by an independent
client, which shows that our own favours nobody.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tools.benchmark.peers import Peer
from tools.benchmark.process import Clocks, clocks
from tools.benchmark.session import BLOCK_BYTES

GRACE_S = 60.0  # beyond the time that a run was told to take
QEMU_FIRST_COUNT = 400
_CREDENTIALS = re.compile(r"//[^/]*@")
_IOPS = re.compile(r"iops average (\d+)")
_SECONDS = re.compile(r"Run completed in ([\d.]+) seconds")


class BenchmarkFailed(Exception):
    """Says that a run ended without a figure, with what it wrote."""


class Measured(NamedTuple):
    """What one run came to; processor times are 0 where they are not known.

    value         in the workload's unit
    server_us     processor time of the target for each command
    server_busy   processors that the target took
    client_busy   processors that the client took
    others_busy   processors that neither of them took, or that the host took away
    p50_us        of the latency, where it was measured, or 0
    p99_us        likewise
    note          what else there is to say
    """

    value: float
    server_us: float = 0.0
    server_busy: float = 0.0
    client_busy: float = 0.0
    others_busy: float = 0.0
    p50_us: float = 0.0
    p99_us: float = 0.0
    note: str = ""

    @classmethod
    def of(cls, ios: float, elapsed_s: float, spent: Clocks) -> "Measured":
        """Returns commands a second, and what each took.

        ios         commands
        elapsed_s   in which they were done
        spent       around them, with the client's start and login, in which it takes next to nothing
        """
        others_s = spent.others_s + spent.stolen_s
        return cls(
            ios / elapsed_s,
            server_us=spent.server_s / max(1.0, ios) * 1e6,
            server_busy=spent.server_s / elapsed_s,
            client_busy=spent.client_s / elapsed_s,
            others_busy=others_s / spent.elapsed_s,
        )


class Workload(NamedTuple):
    """What is measured.

    name         as printed and chosen with --only
    measure      runs it once: workload, peer, seconds -> figures
    unit         of the value
    size_bytes   of one command
    depth        commands in flight on a session
    options      of the client
    writes       overwrites the unit
    digests      with both of them
    client       the program that must be installed, or empty
    started      wants a target that was started for it
    for_us       says something of this target alone
    """

    name: str
    measure: Callable[["Workload", Peer, float], Measured]
    unit: str = "IOPS"
    size_bytes: int = 4096
    depth: int = 1
    options: tuple[str, ...] = ()
    writes: bool = False
    digests: bool = False
    client: str = ""
    started: bool = False
    for_us: bool = False


def output_of(command: Sequence[str], seconds: float) -> str:
    """Runs a client and returns what it printed.

    raises    BenchmarkFailed
    """
    try:
        limit_s = seconds + GRACE_S
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=limit_s)
    except subprocess.TimeoutExpired as expired:
        raise BenchmarkFailed(f"{_shown(command)}: no end after {expired.timeout:g} s") from expired
    if done.returncode != 0:
        raise BenchmarkFailed(f"{(done.stderr or done.stdout).strip()} ({_shown(command)})")
    return done.stdout


def without_credentials(url: str) -> str:
    """Returns a libiscsi URL as it may be printed."""
    return _CREDENTIALS.sub("//", url)


def _shown(command: Sequence[str]) -> str:
    return " ".join(without_credentials(word) for word in command)


def load_command(workload: Workload, peer: Peer, seconds: float) -> list[str]:
    """Returns the command line of our own client."""
    command = [sys.executable, "-m", "tools.benchmark.load", peer.url(digests=workload.digests)]
    command += ["--size", str(workload.size_bytes), "--depth", str(workload.depth), "--seconds", str(seconds)]
    command += ["--server", str(peer.pid)]
    return command + ["--writes"] * workload.writes + ["--digests"] * workload.digests + list(workload.options)


def measured(printed: str) -> Measured:
    """Returns what a client of our own printed."""
    found = json.loads(printed)
    spent = Clocks(**{name: found[name] for name in Clocks._fields})
    return Measured.of(found["ios"], spent.elapsed_s, spent)._replace(p50_us=found["p50_us"], p99_us=found["p99_us"])


def with_load(workload: Workload, peer: Peer, seconds: float) -> Measured:
    """Measures with our own client."""
    return measured(output_of(load_command(workload, peer, seconds), seconds))


def with_iscsi_perf(workload: Workload, peer: Peer, seconds: float) -> Measured:
    """Reads with iscsi-perf, which counts whole seconds and blocks."""
    blocks, whole_s = workload.size_bytes // BLOCK_BYTES, max(1, round(seconds))
    command = ["iscsi-perf", "-m", str(workload.depth), "-b", str(blocks), "-t", str(whole_s), *workload.options]
    before = clocks(peer.pid, of_children=True)
    figures = _IOPS.findall(output_of([*command, peer.url()], seconds))
    if not figures:
        raise BenchmarkFailed(f"{workload.name}: iscsi-perf printed no figure")
    spent = clocks(peer.pid, of_children=True).since(before)
    return Measured.of(float(figures[-1]) * whole_s, whole_s, spent)


def with_qemu(workload: Workload, peer: Peer, seconds: float) -> Measured:
    """Writes one block after the other with qemu-img bench; a short first run tells how many fill the time."""
    elapsed_s = _write(workload, peer, QEMU_FIRST_COUNT)
    count = min(1_000_000, max(QEMU_FIRST_COUNT, round(QEMU_FIRST_COUNT * seconds / max(elapsed_s, 0.001))))
    before = clocks(peer.pid, of_children=True)
    elapsed_s = max(_write(workload, peer, count), 0.001)
    return Measured.of(count, elapsed_s, clocks(peer.pid, of_children=True).since(before))


def _write(workload: Workload, peer: Peer, count: int) -> float:
    command = ["qemu-img", "bench", "-w", "-t", "none", "-f", "raw", "-d", str(workload.depth)]
    command += ["-s", str(workload.size_bytes), "-c", str(count), *workload.options, peer.url()]
    found = _SECONDS.search(output_of(command, 0))
    if not found:
        raise BenchmarkFailed(f"{workload.name}: qemu-img bench printed no figure")
    return float(found[1])


def _sequential() -> list[Workload]:
    return [
        Workload(f"{kind}-{name}-qd8{'-digests' * digests}", with_load, "IOPS", size, 8, (), kind == "write", digests)
        for name, size in (("256k", 1 << 18), ("1m", 1 << 20))
        for kind in ("read", "write")
        for digests in (False, True)
    ]


RANDOM = ("--random",)
WORKLOADS: tuple[Workload, ...] = (
    Workload("read-4k-qd1", with_load, depth=1, options=RANDOM),
    Workload("write-4k-qd1", with_load, depth=1, options=RANDOM, writes=True),
    Workload("read-4k-qd32", with_load, depth=32, options=RANDOM),
    Workload("write-4k-qd32", with_load, depth=32, options=RANDOM, writes=True),
    Workload("read-4k-8x-qd4", with_load, depth=4, options=(*RANDOM, "--sessions", "8")),
    Workload("write-4k-8x-qd4", with_load, depth=4, options=(*RANDOM, "--sessions", "8"), writes=True),
    *_sequential(),
    Workload("iscsi-perf-read-4k-qd1", with_iscsi_perf, depth=1, options=("-r",), client="iscsi-perf"),
    Workload("iscsi-perf-read-4k-qd32", with_iscsi_perf, depth=32, options=("-r",), client="iscsi-perf"),
    Workload("iscsi-perf-read-256k-qd8", with_iscsi_perf, "IOPS", 1 << 18, 8, client="iscsi-perf"),
    Workload("iscsi-perf-read-1m-qd8", with_iscsi_perf, "IOPS", 1 << 20, 8, client="iscsi-perf"),
    Workload("qemu-write-4k-qd32", with_qemu, depth=32, writes=True, client="qemu-img"),
    Workload("qemu-write-256k-qd8", with_qemu, "IOPS", 1 << 18, 8, writes=True, client="qemu-img"),
)
