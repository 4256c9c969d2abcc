"""Measures units with the initiators that are installed: iscsi-perf for reads, qemu-img bench for writes.

Runs of different units alternate, so that a slow minute of the machine hits all of them alike; what counts is the
median, and the ratio to the first unit. The first repeat warms up and is not counted.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tools.served import NotServing, ServedTarget

BLOCK_BYTES = 512  # of the units that iscsi-perf is told to read; it counts in blocks
GRACE_S = 60.0  # beyond the time that a run was told to take
_IOPS = re.compile(r"iops average (\d+)")
_SECONDS = re.compile(r"Run completed in ([\d.]+) seconds")


class BenchmarkFailed(Exception):
    """Says that a client ended without a figure, with what it wrote."""


class Workload(NamedTuple):
    """What is measured.

    name         as printed and chosen with --only
    size_bytes   of one request
    depth        requests in flight
    options      of the client
    measure      runs it: workload, URL, seconds -> requests a second
    writes       overwrites the unit
    """

    name: str
    size_bytes: int
    depth: int
    options: tuple[str, ...]
    measure: Callable[["Workload", str, float], float]
    writes: bool


def measure_reads(workload: Workload, url: str, seconds: float) -> float:
    """Reads with iscsi-perf and returns requests a second.

    raises    BenchmarkFailed
    """
    blocks = workload.size_bytes // BLOCK_BYTES
    command = ["iscsi-perf", "-m", str(workload.depth), "-b", str(blocks), "-t", str(max(1, round(seconds)))]
    figures = _IOPS.findall(_output([*command, *workload.options, url], seconds))
    if not figures:
        raise BenchmarkFailed(f"{workload.name}: iscsi-perf printed no figure")
    return float(figures[-1])


def measure_writes(workload: Workload, url: str, seconds: float) -> float:
    """Writes with qemu-img bench and returns requests a second; a short first run tells how many fill the time.

    raises    BenchmarkFailed
    """
    count = 200
    elapsed_s = _write(workload, url, count)
    count = min(200_000, max(count, round(count * seconds / max(elapsed_s, 0.001))))
    return count / max(_write(workload, url, count), 0.001)


def _write(workload: Workload, url: str, count: int) -> float:
    command = ["qemu-img", "bench", "-w", "-t", "none", "-f", "raw", "-d", str(workload.depth)]
    command += ["-s", str(workload.size_bytes), "-c", str(count), *workload.options, url]
    found = _SECONDS.search(_output(command, 0))
    if not found:
        raise BenchmarkFailed(f"{workload.name}: qemu-img bench printed no figure")
    return float(found[1])


def _output(command: Sequence[str], seconds: float) -> str:
    try:
        limit_s = seconds + GRACE_S
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=limit_s)
    except subprocess.TimeoutExpired as expired:
        raise BenchmarkFailed(f"{' '.join(command)}: no end after {expired.timeout:g} s") from expired
    if done.returncode != 0:
        raise BenchmarkFailed(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


WORKLOADS = (
    Workload("read-4k-random-1", 4096, 1, ("-r",), measure_reads, False),
    Workload("read-4k-random-32", 4096, 32, ("-r",), measure_reads, False),
    Workload("read-64k-sequential-16", 65536, 16, (), measure_reads, False),
    Workload("write-4k-32", 4096, 32, (), measure_writes, True),
    Workload("write-64k-16", 65536, 16, (), measure_writes, True),
    Workload("write-4k-1-flush-each", 4096, 1, ("--flush-interval=1",), measure_writes, True),
)
CLIENTS: Mapping[Callable[[Workload, str, float], float], str] = {
    measure_reads: "iscsi-perf",
    measure_writes: "qemu-img",
}


class Row(NamedTuple):
    """The figures of one workload on one unit.

    workload     its name
    unit         the place of its URL in the list, from 0
    iops         one figure a repeat
    size_bytes   of one request
    """

    workload: str
    unit: int
    iops: list[float]
    size_bytes: int

    @property
    def median_iops(self) -> float:
        """Requests a second, the middle of the repeats."""
        return median(self.iops)


def benchmark(
    urls: Sequence[str], workloads: Sequence[Workload], *, repeats: int, seconds: float
) -> dict[tuple[str, int], Row]:
    """Runs every workload on every unit, in turns.

    repeats   counted ones; one more comes before them
    seconds   that a run takes, about
    returns   (workload, unit) -> figures
    raises    BenchmarkFailed
    """
    rows = {(w.name, unit): Row(w.name, unit, [], w.size_bytes) for w in workloads for unit in range(len(urls))}
    for repeat in range(repeats + 1):
        for workload in workloads:
            for unit, url in enumerate(urls):
                iops = workload.measure(workload, url, seconds)
                if repeat:
                    rows[workload.name, unit].iops.append(iops)
    return rows


def report(rows: Mapping[tuple[str, int], Row], urls: Sequence[str]) -> Iterator[str]:
    """Yields the lines of the table; with several units the ratio is to the first."""
    yield f"{'workload':24} {'unit':>4} {'IOPS':>9} {'MB/s':>8} {'lowest':>9} {'highest':>9} {'ratio':>6}"
    for (workload, unit), row in rows.items():
        ratio = row.median_iops / rows[workload, 0].median_iops
        yield (
            f"{workload:24} {unit:4} {row.median_iops:9.0f} {row.median_iops * row.size_bytes / 1e6:8.1f}"
            f" {min(row.iops):9.0f} {max(row.iops):9.0f} {ratio:6.2f}"
        )
    yield from (f"unit {number}: {url.rpartition('@')[2]}" for number, url in enumerate(urls))


@contextmanager
def _units(urls: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yields the URLs, or that of a target started for the purpose when there are none."""
    if urls:
        yield urls
        return
    with tempfile.TemporaryDirectory(prefix="iscsi-target-bench-") as state, ServedTarget(Path(state)) as target:
        yield [target.url()]


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__)
    parser.add_argument("urls", nargs="*", metavar="URL", help="units to compare; none: a target is started")
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of each workload (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a run, about (2)")
    parser.add_argument("--only", default="", metavar="TEXT", help="workloads whose name contains TEXT")
    parser.add_argument("--dataloss", action="store_true", help="measure writes on the given URLs too")
    parser.add_argument("--json", action="store_true", help="all figures as one JSON object a line")
    return parser.parse_args(arguments)


def _chosen(options: argparse.Namespace) -> list[Workload]:
    may_write = options.dataloss or not options.urls
    wanted = [w for w in WORKLOADS if options.only in w.name and (may_write or not w.writes)]
    missing = sorted({CLIENTS[w.measure] for w in wanted if not shutil.which(CLIENTS[w.measure])})
    for client in missing:
        print(f"bench: {client} is not installed; its workloads are left out", file=sys.stderr)
    return [w for w in wanted if CLIENTS[w.measure] not in missing]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `tools/bench` and returns its exit code: 0, 1 when a run failed, 2 when nothing could run."""
    options = _arguments(sys.argv[1:] if arguments is None else arguments)
    workloads = _chosen(options)
    if not workloads or options.repeats < 1:
        print("bench: nothing to run", file=sys.stderr)
        return 2
    try:
        with _units(options.urls) as urls:
            rows = benchmark(urls, workloads, repeats=options.repeats, seconds=options.seconds)
    except (BenchmarkFailed, NotServing) as failed:
        print(f"bench: {failed}", file=sys.stderr)
        return 1
    if options.json:
        for row in rows.values():
            print(json.dumps({"median_iops": row.median_iops, "cpus": os.cpu_count()} | row._asdict()))
    else:
        print("\n".join(report(rows, urls)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
