"""How workloads are measured that are more than one load: a cold disk beside a neighbour, logins, starts."""

import json
import resource
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tools.benchmark import starts
from tools.benchmark.peers import NEIGHBOUR, Peer
from tools.benchmark.process import memory_bytes
from tools.benchmark.session import Identity, Session, place_of
from tools.benchmark.workloads import BenchmarkFailed, Measured, Workload, load_command, measured, output_of
from tools.served import ServedTarget

IDLE_SESSIONS = 2000
SPARE_FILES = 200
NEIGHBOUR_IDENTITY = 1000
READ_BYTES = 4096


def with_cold_disk(workload: Workload, peer: Peer, seconds: float) -> Measured:
    """Reads places that are not in the page cache, each once; the latencies are those of a cached neighbour."""
    peer.forget()
    command = [sys.executable, "-m", "tools.benchmark.load", peer.url(NEIGHBOUR), "--random", "--seconds", str(seconds)]
    command += ["--identity", str(NEIGHBOUR_IDENTITY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as neighbour:
        try:
            found = measured(output_of(load_command(workload, peer, seconds), seconds))
            printed, _ = neighbour.communicate(timeout=seconds + 20)
        finally:
            neighbour.kill()
    if neighbour.returncode:
        raise BenchmarkFailed(f"{workload.name}: {printed.strip()}")
    beside = json.loads(printed)
    rate = beside["ios"] / beside["elapsed_s"]
    return found._replace(p50_us=beside["p50_us"], p99_us=beside["p99_us"], note=f"neighbour {rate:.0f} IOPS")


def with_logins(workload: Workload, peer: Peer, seconds: float) -> Measured:
    """Logs in and out."""
    command = [sys.executable, "-m", "tools.benchmark.logins", peer.url(), "--in-flight", str(workload.depth)]
    return measured(output_of([*command, "--seconds", str(seconds), "--server", str(peer.pid)], seconds))


def with_registrants(workload: Workload, peer: Peer, seconds: float) -> Measured:
    """Compares I/O under a held reservation with I/O under none."""
    command = [sys.executable, "-m", "tools.benchmark.registrants", peer.url(), *["--writes"] * workload.writes]
    found = json.loads(output_of([*command, "--seconds", str(seconds), "--server", str(peer.pid)], 3 * seconds))
    return Measured(found["rate"], note=f"processor time {found['server_us']:.3f}")


def with_idle_sessions(workload: Workload, peer: Peer, seconds: float) -> Measured:
    """Returns the memory of a server of its own that has answered one READ in each of many open sessions."""
    allow_files(IDLE_SESSIONS + SPARE_FILES)
    with tempfile.TemporaryDirectory(prefix="iscsi-target-bench-") as state, ServedTarget(Path(state)) as served:
        before = memory_bytes(served.pid)
        with ExitStack() as opened:
            sessions = []
            for number in range(IDLE_SESSIONS):
                who = Identity(number, source=f"127.0.{number >> 7}.{1 + number % 128}")
                sessions.append(opened.enter_context(Session(place_of(served.url()), who)))
                sessions[-1].read(0, READ_BYTES)
            after = memory_bytes(served.pid)
            for session in sessions:  # all are still there
                session.read(0, READ_BYTES)
    each = (after - before) / IDLE_SESSIONS
    return Measured(after / 1e6, note=f"{before / 1e6:.1f} MB without, {each / 1e3:.1f} kB each")


def allow_files(count: int) -> None:
    """Lets this process, and those that it starts, open as many files; as far as the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def with_serve(workload: Workload, peer: Peer, seconds: float) -> Measured:
    """Starts `iscsi-target serve` and reads once."""
    return Measured(starts.served_ms())


def with_embedding(workload: Workload, peer: Peer, seconds: float) -> Measured:
    """Starts a server inside a program and reads once."""
    return Measured(float(output_of([sys.executable, "-m", "tools.benchmark.starts"], seconds)))


SCENES: tuple[Workload, ...] = (
    Workload("cold-read-4k-qd32", with_cold_disk, depth=32, options=("--random", "--once"), started=True),
    Workload("reservation-read", with_registrants, "held/none", for_us=True),
    Workload("reservation-write", with_registrants, "held/none", writes=True, for_us=True),
    Workload("logins", with_logins, "logins/s", depth=8),
    Workload("idle-sessions", with_idle_sessions, "MB", for_us=True),
    Workload("start-serve", with_serve, "ms", for_us=True),
    Workload("start-embedded", with_embedding, "ms", for_us=True),
)
