"""Runs `tools/bench`: starts the peers, measures, prints the table and what is met of the limits."""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tools.benchmark import plot, report
from tools.benchmark.peers import PEERS, Given, Peer
from tools.benchmark.report import Memory
from tools.benchmark.rounds import Pace, Rows, measure
from tools.benchmark.scenes import SCENES
from tools.benchmark.workloads import WORKLOADS, Workload, without_credentials
from tools.served import NotServing

DEFAULT_DIRECTORY = "/var/tmp"
MIB = 1 << 20
PACKAGES = {"iscsi-perf": "libiscsi-bin", "qemu-img": "qemu-utils and qemu-block-extra"}


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{line:78}", end="", file=sys.stderr, flush=True)


@contextmanager
def _running(options: argparse.Namespace) -> Iterator[list[Peer]]:
    """Yields the peers that could be started, or those for the given URLs."""
    if options.urls:
        yield [Given(url, place) for place, url in enumerate(options.urls)]
        return
    with tempfile.TemporaryDirectory(prefix="iscsi-target-bench-", dir=options.directory) as scratch, ExitStack() as on:
        yield list(_started(options, Path(scratch), on))


def _started(options: argparse.Namespace, scratch: Path, running: ExitStack) -> Iterator[Peer]:
    """Starts the peers that are wanted and installed; `running` ends them."""
    wanted = options.peers.split(",") if options.peers else [kind.name for kind in PEERS]
    for kind in PEERS:
        if kind.name not in wanted:
            continue
        if not kind.is_installed():
            _say(f"{kind.name} is left out: install Debian's {kind.package}")
            continue
        peer = kind(scratch, options.size * MIB)
        running.callback(peer.stop)
        try:
            peer.start()
        except NotServing as failed:
            _say(f"{kind.name} is left out: {failed}")
        else:
            yield peer


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__)
    parser.add_argument("urls", nargs="*", metavar="URL", help="units to compare; none: the peers are started")
    parser.add_argument("--peers", default="", metavar="NAMES", help=",".join(kind.name for kind in PEERS))
    parser.add_argument("--only", default="", metavar="TEXT", help="workloads whose name contains one of these, a,b,c")
    parser.add_argument("--repeats", type=int, default=5, help="counted rounds (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a run, about (2)")
    parser.add_argument("--again", type=int, default=3, help="times that a disturbed run is done again (3)")
    parser.add_argument("--size", type=int, default=512, metavar="MIB", help="size of each disk (512)")
    parser.add_argument("--directory", default=DEFAULT_DIRECTORY, help=f"where they are ({DEFAULT_DIRECTORY})")
    parser.add_argument("--dataloss", action="store_true", help="measure writes on the given URLs too")
    parser.add_argument("--json", action="store_true", help="all figures as one JSON object a line")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the ratios")
    parser.add_argument("--micro", action="store_true", help="measure single calls with pytest-benchmark instead")
    return parser.parse_args(arguments)


def _chosen(options: argparse.Namespace) -> list[Workload]:
    may_write = options.dataloss or not options.urls
    texts = options.only.split(",")
    wanted = [w for w in (*WORKLOADS, *SCENES) if any(text in w.name for text in texts) and (may_write or not w.writes)]
    missing = sorted({w.client for w in wanted if w.client and not shutil.which(w.client)})
    for client in missing:
        _say(f"the workloads of {client} are left out: install Debian's {PACKAGES[client]}")
    return [w for w in wanted if w.client not in missing]


def _micro(options: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "pytest", "tests/benchmark", "-q", "-p", "no:cacheprovider"]
    command += ["-k", options.only.replace(",", " or ")]
    command += ["--benchmark-enable", "--benchmark-sort=name", "--benchmark-columns=min,median,iqr,ops,rounds"]
    return subprocess.run(command, check=False).returncode


def _measured(options: argparse.Namespace, workloads: Sequence[Workload]) -> tuple[Rows, list[Memory]]:
    """Starts the peers and returns the figures and what memory was taken."""
    with _running(options) as peers:
        known = [peer for peer in peers if peer.pid]
        before = [peer.memory_bytes() for peer in known]
        rows = measure(workloads, peers, Pace(options.repeats, options.seconds, options.again), _progress)
        _progress("")
        memory = [Memory(peer.name, size, peer.memory_bytes()) for peer, size in zip(known, before, strict=True)]
    return rows, memory


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `tools/bench` and returns its exit code: 0, 1 when a run failed, 2 when nothing could run."""
    options = _arguments(sys.argv[1:] if arguments is None else arguments)
    if options.micro:
        return _micro(options)
    workloads = _chosen(options)
    rows, memory = _measured(options, workloads) if workloads and options.repeats > 0 else ({}, [])
    if not rows:
        _say("nothing to run")
        return 2
    lines = report.as_json(rows, memory) if options.json else report.as_text(rows, memory)
    print("\n".join(lines))
    for place, url in enumerate([] if options.json else options.urls):
        print(f"unit{place}: {without_credentials(url)}")
    if options.svg:
        options.svg.write_text(plot.svg(rows))
    return 1 if any(row.failure for row in rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
