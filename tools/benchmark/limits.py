"""What is demanded of this target, as one table: how it must stand beside its peers, or beside itself."""

from typing import NamedTuple

from tools.benchmark.rounds import Rows, ratio


class Limit(NamedTuple):
    """One demand: the value of a workload, or its ratio to another one.

    workload        what is measured
    peer            on which the figure is taken
    other           the workload that it is divided by, or empty
    other_peer      on which that is taken
    least           the lowest value or ratio that is enough, or None
    most            the highest that is, or None
    """

    workload: str
    peer: str
    other: str = ""
    other_peer: str = ""
    least: float | None = None
    most: float | None = None

    def figure(self, rows: Rows) -> float | None:
        """Returns the value or ratio, None when it was not measured."""
        row = rows.get((self.workload, self.peer))
        if row is None or not row.runs:
            return None
        if not self.other:
            return row.value
        base = rows.get((self.other, self.other_peer))
        return None if base is None else ratio(row, base)

    def is_met(self, figure: float) -> bool:
        """Tells whether a figure is enough."""
        return (self.least is None or figure >= self.least) and (self.most is None or figure <= self.most)

    @property
    def demand(self) -> str:
        """The limit in words."""
        return f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}"

    @property
    def subject(self) -> str:
        """What the figure is, in words."""
        if not self.other:
            return self.workload
        if self.other == self.workload:
            return f"{self.workload}: {self.peer} / {self.other_peer}"
        return f"{self.workload} / {self.other}"


def _beside(workload: str, least: dict[str, float], peer: str = "ours") -> list[Limit]:
    return [Limit(workload, peer, workload, other, least=ratio) for other, ratio in least.items()]


def _all() -> list[Limit]:
    found: list[Limit] = []
    for kind in ("read", "write"):
        found += _beside(f"{kind}-4k-qd32", {"tgtd": 2.5, "tgtd-1thread": 2.0, "istgt": 1.8})
        found += _beside(f"{kind}-4k-8x-qd4", {"tgtd": 2.5, "istgt": 1.5})
        found += _beside(f"{kind}-4k-qd1", {"tgtd": 1.0, "tgtd-1thread": 1.0, "istgt": 1.0})
        found += _beside(f"{kind}-4k-qd1", {"tgtd": 2.5}, "ours-busy")
    for name in ("read-256k-qd8", "write-256k-qd8", "read-1m-qd8", "write-1m-qd8"):
        found += _beside(name, {"tgtd": 1.5, "tgtd-1thread": 1.5, "istgt": 1.0})
        digests = f"{name}-digests"
        found.append(Limit(digests, "ours", name, "ours", least=0.8))
        found += _beside(digests, {"tgtd": 3.0, "istgt": 3.0})
    for kind in ("read", "write"):
        found.append(Limit(f"reservation-{kind}", "ours", least=0.97))
    found.append(Limit("logins", "ours", least=1000))
    found.append(Limit("idle-sessions", "ours", most=100))
    found.append(Limit("start-serve", "ours", most=150))
    found.append(Limit("start-embedded", "ours", most=50))
    return found


LIMITS: tuple[Limit, ...] = tuple(_all())
