"""The figures as text and as JSON."""

import json
import os
from collections.abc import Iterator, Sequence

from tools.benchmark.limits import LIMITS
from tools.benchmark.rounds import Row, Rows


def table(rows: Rows) -> Iterator[str]:
    """Yields the lines of the table of all figures; `ours/` is the ratio of this target to the peer of the line."""
    yield (
        f"{'workload':26} {'peer':12} {'median':>9} {'unit':9} {'MB/s':>6} {'lowest':>9} {'highest':>9} {'ours/':>6}"
        f" {'us/IO':>7} {'server':>6} {'client':>6} {'p50 us':>7} {'p99 us':>7}"
    )
    previous = ""
    for (workload, _), row in rows.items():
        if workload != previous:
            yield ""
        previous = workload
        yield _line(row, rows)


def _line(row: Row, rows: Rows) -> str:
    start = f"{row.workload.name:26} {row.peer:12}"
    if not row.runs:
        return f"{start} {row.failure or 'not measured'}"
    values = [run.value for run in row.runs]
    rate = row.value * row.workload.size_bytes / 1e6
    first = next(other for other in rows.values() if other.workload.name == row.workload.name)
    return (
        f"{start} {row.value:9.0f} {row.workload.unit:9} {rate if row.workload.unit == 'IOPS' else 0:6.0f}"
        f" {min(values):9.0f} {max(values):9.0f} {first.value / row.value if row.value else 0:6.2f}"
        f" {row.middle('server_us'):7.1f} {row.middle('server_busy'):6.2f} {row.middle('client_busy'):6.2f}"
        f" {row.middle('p50_us'):7.0f} {row.middle('p99_us'):7.0f}"
    )


def verdicts(rows: Rows) -> Iterator[str]:
    """Yields a line for every limit that was measured."""
    for limit in LIMITS:
        figure = limit.figure(rows)
        if figure is not None:
            verdict = "met" if limit.is_met(figure) else "NOT MET"
            yield f"{limit.subject:60} {figure:9.2f}  {limit.demand:8} {verdict}"


def as_json(rows: Rows) -> Iterator[str]:
    """Yields a JSON object for every workload and peer, then one for every limit."""
    for row in rows.values():
        known = {"workload": row.workload.name, "peer": row.peer, "unit": row.workload.unit, "median": row.value}
        known |= {"size_bytes": row.workload.size_bytes, "failure": row.failure, "cpus": os.cpu_count()}
        yield json.dumps(known | {"runs": [run._asdict() for run in row.runs]})
    for limit in LIMITS:
        figure = limit.figure(rows)
        if figure is not None:
            yield json.dumps({"limit": limit._asdict(), "figure": figure, "met": limit.is_met(figure)})


def memory(sizes: Sequence[tuple[str, int, int]]) -> Iterator[str]:
    """Yields the lines of the memory of each peer: name, bytes at the start, bytes at the end."""
    yield "resident memory, MB: at the start, after all runs"
    yield from (f"{name:12} {before / 1e6:8.1f} {after / 1e6:8.1f}" for name, before, after in sizes)
