"""Takes the turns: every workload on every peer, A B C A B C, so that a slow minute of the machine hits all alike.

The first round warms up and is not counted; of the others the median counts.
"""

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import NamedTuple

from tools.benchmark.peers import Peer
from tools.benchmark.session import SessionFailed
from tools.benchmark.workloads import BenchmarkFailed, Measured, Workload


class Row(NamedTuple):
    """The figures of one workload on one peer.

    workload   what was measured
    peer       the name of the target
    runs       one for each counted round
    failure    why there are none, or empty
    """

    workload: Workload
    peer: str
    runs: tuple[Measured, ...]
    failure: str = ""

    @property
    def value(self) -> float:
        """The median, 0 when there is none."""
        return self.middle("value")

    def middle(self, name: str) -> float:
        """Returns the median of a field of Measured, 0 when there is none."""
        return median(getattr(run, name) for run in self.runs) if self.runs else 0.0


Rows = dict[tuple[str, str], Row]  # (workload, peer) -> figures


def pairs(workloads: Sequence[Workload], peers: Sequence[Peer]) -> Iterator[tuple[Workload, Peer]]:
    """Yields what is measured in one round, in order."""
    for workload in workloads:
        for peer in peers:
            if (not peer.only_latency or workload.depth == 1) and (not workload.for_us or peer.name == "ours"):
                yield workload, peer


def measure(
    workloads: Sequence[Workload], peers: Sequence[Peer], rounds: int, seconds: float, progress: Callable[[str], None]
) -> Rows:
    """Runs every workload on every peer in turns.

    rounds     counted ones; one more comes before them
    seconds    that a run takes, about
    progress   is told what runs
    returns    figures; a pair that failed once is not run again
    """
    rows = {(w.name, peer.name): Row(w, peer.name, ()) for w, peer in pairs(workloads, peers)}
    for number in range(rounds + 1):
        for workload, peer in pairs(workloads, peers):
            row = rows[workload.name, peer.name]
            if row.failure:
                continue
            progress(f"round {number} of {rounds}: {workload.name} on {peer.name}")
            found = _run(row, peer, seconds)
            rows[workload.name, peer.name] = found if number or found.failure else row
    return rows


def _run(row: Row, peer: Peer, seconds: float) -> Row:
    try:
        figures = row.workload.measure(row.workload, peer, seconds)
    except (BenchmarkFailed, SessionFailed, OSError) as failed:
        return row._replace(runs=(), failure=str(failed))
    if row.workload.writes:
        peer.settle()
    return row._replace(runs=(*row.runs, figures))
