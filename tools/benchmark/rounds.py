"""Takes the turns: every workload on every peer, A B C A B C, so that a slow minute of the machine hits all alike.

The first round warms up and is not counted; of the others the median counts, of values and of ratios. Every run begins
with the files in the page cache, unless it drops them itself. A run during which other processes took the processors is
done again, some times at most, and the one with the least of that counts: what decides is never the figure itself.
"""

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import NamedTuple

from tools.benchmark.peers import Peer
from tools.benchmark.session import SessionFailed
from tools.benchmark.workloads import BenchmarkFailed, Measured, Workload
from tools.served import NotServing

QUIET_BUSY = 0.2  # processors that others may take during a run


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


def ratio(one: Row, other: Row) -> float | None:
    """Returns how many times the other's value one has: the median of the ratios of each round.

    Both are measured within seconds in a round, while the machine may be twice as fast some minutes later.
    """
    both = zip(one.runs, other.runs, strict=False)
    found = [run.value / beside.value for run, beside in both if beside.value]
    return median(found) if found else None


Rows = dict[tuple[str, str], Row]  # (workload, peer) -> figures


def pairs(workloads: Sequence[Workload], peers: Sequence[Peer]) -> Iterator[tuple[Workload, Peer]]:
    """Yields what is measured in one round, in order."""
    for workload in workloads:
        for peer in peers:
            if _suits(workload, peer):
                yield workload, peer


def _suits(workload: Workload, peer: Peer) -> bool:
    """Tells whether a workload says something about a peer."""
    if workload.for_us:
        return peer.name == "ours"
    return (workload.depth == 1 or not peer.only_latency) and (peer.pid > 0 or not workload.started)


class Pace(NamedTuple):
    """How long it is measured.

    rounds    counted ones; one more comes before them
    seconds   that a run takes, about
    again     times that a disturbed run is done again
    """

    rounds: int
    seconds: float
    again: int = 0


def measure(workloads: Sequence[Workload], peers: Sequence[Peer], pace: Pace, progress: Callable[[str], None]) -> Rows:
    """Runs every workload on every peer in turns.

    progress   is told what runs
    returns    figures; a pair that failed once is not run again
    """
    rows = {(w.name, peer.name): Row(w, peer.name, ()) for w, peer in pairs(workloads, peers)}
    for number in range(pace.rounds + 1):
        for workload, peer in pairs(workloads, peers):
            row = rows[workload.name, peer.name]
            if row.failure:
                continue
            progress(f"round {number} of {pace.rounds}: {workload.name} on {peer.name}")
            found = _run(row, peer, pace if number else pace._replace(again=0))
            rows[workload.name, peer.name] = found if number or found.failure else row
    return rows


def _run(row: Row, peer: Peer, pace: Pace) -> Row:
    try:
        figures = _least_disturbed(row.workload, peer, pace)
    except (BenchmarkFailed, NotServing, SessionFailed, OSError) as failed:
        return row._replace(runs=(), failure=str(failed))
    return row._replace(runs=(*row.runs, figures))


def _least_disturbed(workload: Workload, peer: Peer, pace: Pace) -> Measured:
    found: list[Measured] = []
    while len(found) <= pace.again:
        peer.warm()
        found.append(workload.measure(workload, peer, pace.seconds))
        if workload.writes:
            peer.settle()
        if found[-1].others_busy <= QUIET_BUSY:
            break
    return min(found, key=lambda run: run.others_busy)
