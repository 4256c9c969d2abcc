"""The figures as text and as JSON."""

import json
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tools.benchmark.limits import LIMITS
from tools.benchmark.rounds import Row, Rows, ratio


def table(rows: Rows) -> Iterator[str]:
    """Yields the lines of the table of all figures.

    `ratio` is that of the first peer to the line's. `us/cmd` is the target's processor time for a command;
    `server`, `client` and `others` are the processors that they took, others with what the host took away. A client
    that takes more than the target, or busy others, make a figure that says little.
    """
    yield (
        f"{'workload':25} {'peer':12} {'median':>8} {'unit':9} {'lowest':>8} {'highest':>8} {'MB/s':>5} {'ratio':>6}"
        f" {'us/cmd':>7} {'server':>6} {'client':>6} {'others':>6} {'p50 us':>7} {'p99 us':>7}"
    )
    previous = ""
    for (workload, _), row in rows.items():
        if workload != previous:
            yield ""
        previous = workload
        yield _line(row, rows).rstrip()


def _line(row: Row, rows: Rows) -> str:
    start = f"{row.workload.name:25} {row.peer:12}"
    if not row.runs:
        return f"{start} {row.failure or 'not measured'}"
    values = [run.value for run in row.runs]
    size_bytes = row.workload.size_bytes if row.workload.unit == "IOPS" else 0
    first = next(other for other in rows.values() if other.workload.name == row.workload.name)
    beside = None if first is row else ratio(first, row)
    columns = [f"{_short(value):>8}" for value in (row.value, min(values), max(values))]
    columns.insert(1, f"{row.workload.unit:9}")
    columns += [
        _or_blank(row.value * size_bytes / 1e6, "5.0f"),
        _or_blank(beside or 0, "6.2f"),
        _or_blank(row.middle("server_us"), "7.1f"),
    ]
    columns += [_or_blank(row.middle(name), "6.2f") for name in ("server_busy", "client_busy", "others_busy")]
    columns += [_or_blank(row.middle(name), "7.0f") for name in ("p50_us", "p99_us")]
    return " ".join([start, *columns, row.runs[-1].note])


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def _or_blank(value: float, form: str) -> str:
    return format(value, form) if value else " " * int(form[: form.index(".")])


def verdicts(rows: Rows) -> Iterator[str]:
    """Yields a line for every limit that was measured."""
    for limit in LIMITS:
        figure = limit.figure(rows)
        if figure is not None:
            verdict = "met" if limit.is_met(figure) else "NOT MET"
            yield f"{limit.subject:60} {figure:9.2f}  {limit.demand:8} {verdict}"


class Memory(NamedTuple):
    """Resident memory of a peer, bytes, before the first run and after the last."""

    peer: str
    before: int
    after: int


def as_json(rows: Rows, memory: Sequence[Memory]) -> Iterator[str]:
    """Yields a JSON object for every workload and peer, for every limit, and for every peer's memory."""
    for row in rows.values():
        known = {"workload": row.workload.name, "peer": row.peer, "unit": row.workload.unit, "median": row.value}
        known |= {"size_bytes": row.workload.size_bytes, "failure": row.failure, "cpus": os.cpu_count()}
        yield json.dumps(known | {"runs": [run._asdict() for run in row.runs]})
    for limit in LIMITS:
        figure = limit.figure(rows)
        if figure is not None:
            yield json.dumps({"limit": limit._asdict(), "figure": figure, "met": limit.is_met(figure)})
    yield from (json.dumps({"memory": sizes._asdict()}) for sizes in memory)


def as_text(rows: Rows, memory: Sequence[Memory]) -> Iterator[str]:
    """Yields the lines of all that was measured."""
    yield from table(rows)
    yield ""
    yield from verdicts(rows)
    if memory:
        yield ""
        yield "resident memory, MB, before the first run and after the last"
        yield from (f"{peer:12} {before / 1e6:8.1f} {after / 1e6:8.1f}" for peer, before, after in memory)
