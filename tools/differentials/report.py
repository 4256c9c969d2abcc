"""The report of a comparison, as Markdown: every kind of difference once, with what decides it."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tools.differentials.collection import Collected, Seen
from tools.differentials.compare import Kind
from tools.differentials.judgements import RULINGS, UNCOVERED, Judgement, ruling, uncovered
from tools.differentials.steps import Sequence


class Compared(NamedTuple):
    """What came of a comparison.

    sequences   how many were played
    strict      the differences of this target
    imitation   those of the personality
    target      what LIO's kernel calls itself
    """

    sequences: int
    strict: Collected
    imitation: Collected
    target: str

    @property
    def unknown(self) -> list[Kind]:
        """The kinds that nothing is known of; there must be none."""
        return [kind for kind in self.strict if ruling(kind) is None] + [
            kind for kind in self.imitation if uncovered(kind) is None
        ]

    @property
    def idle(self) -> list[Judgement]:
        """The judgements of which no difference was seen; they are wrong, or the sequences are too few."""
        rulings = {ruling(kind) for kind in self.strict}
        reasons = {uncovered(kind) for kind in self.imitation}
        return [each.judgement for each in RULINGS if each not in rulings] + [
            each for each in UNCOVERED if each not in reasons
        ]


class Row(NamedTuple):
    """The kinds of which the same is said.

    values     what each side does
    times      how often they were seen
    smallest   sequence that shows one of them
    """

    values: tuple[Kind, ...]
    times: int
    smallest: Sequence


Said = tuple[str, ...]  # what is said of a difference, in cells


def document(compared: Compared) -> str:
    """Returns the report."""
    strict, imitation = _rows(compared.strict, _of_strict), _rows(compared.imitation, _of_imitation)
    parts = [
        "# This target and LIO",
        f"{compared.sequences} sequences; LIO of Linux {compared.target}. Steps are commands of the nexuses A and AQ"
        " (one initiator port through the target ports P and Q), A2 (the same name with another ISID), B and C. Numbers"
        " are the two keys. The last step of a sequence shows the difference.",
        "## What `strict` does differently",
        _table(("LIO", "Decided by", "Right is", "Differences", "Times", "Shown by"), strict),
        "## What the personality `lio` does differently",
        _table(("LIO, and why that is not imitated", "Differences", "Times", "Shown by"), imitation),
    ]
    if compared.unknown:
        parts.append("## What nobody has judged\n\n" + "\n".join(_unjudged(compared)))
    if compared.idle:
        parts.append("## What was judged and not seen\n\n" + "\n".join(f"- {_judged(each)}" for each in compared.idle))
    return "\n\n".join(parts) + "\n"


def _judged(one: Judgement) -> str:
    return f"{', '.join(one.commands)}: {one.aspect} {one.ours or '-'} here, {one.theirs or '-'} there: {one.what}"


def _rows(found: Collected, say: Callable[[Kind], Said | None]) -> Iterator[tuple[str, ...]]:
    rows: dict[Said, Row] = {}
    for kind, (times, sequence) in sorted(found.items()):
        said = say(kind)
        if said is not None:
            values, before, smallest = rows.get(said, Row((), 0, sequence))
            shortest = min(smallest, sequence, key=lambda each: len(each.steps))
            rows[said] = Row((*values, kind), before + times, shortest)
    for said, row in rows.items():
        yield (*said, _values(row.values), str(row.times), _told(row.smallest))


def _of_strict(kind: Kind) -> Said | None:
    found = ruling(kind)
    return found and (found.judgement.what, found.clause, found.right.value)


def _of_imitation(kind: Kind) -> Said | None:
    found = uncovered(kind)
    return found and (found.what,)


def _unjudged(compared: Compared) -> Iterator[str]:
    known: dict[Kind, Seen] = compared.strict | compared.imitation
    for kind in compared.unknown:
        yield f"- {' / '.join(kind)}; {known[kind].times} times; {_told(known[kind].sequence)}"


def _values(kinds: Iterable[Kind]) -> str:
    """Returns what both sides do, by aspect and command."""
    by_values: dict[tuple[str, ...], list[str]] = {}
    for kind in kinds:
        by_values.setdefault(kind[1:], []).append(kind.command)
    return "<br>".join(
        f"{', '.join(commands)}: {aspect}" + f" {ours or '-'} here, {theirs or '-'} there" * bool(ours or theirs)
        for (aspect, ours, theirs), commands in by_values.items()
    )


def _told(sequence: Sequence) -> str:
    return f"{sequence.name}: " + "; ".join(f"`{step}`" for step in sequence.steps)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)
