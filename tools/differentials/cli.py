"""The command line of `tools/differential`: compares this target with LIO and reports every difference."""

import argparse
import asyncio
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from iscsi_target.client import ClientError
from tools.differentials.cases import cases
from tools.differentials.collection import Collected, collect, shortened
from tools.differentials.laboratory import Lio, lio, sides
from tools.differentials.report import Compared, document
from tools.differentials.seeded import seeded
from tools.differentials.side import Endless, Side, play_on
from tools.differentials.steps import Sequence as Steps
from tools.guests.image import GuestUnavailable, ready_image
from tools.guests.machine import GuestFailed

SEEDS = 400
FAILED, UNAVAILABLE = 1, 125  # the latter as of tools/guest


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/differential",
        description="Boots a guest with LIO, has the same commands performed by LIO, by this target and by its"
        " personality lio, and prints every kind of difference once as Markdown: with the clause that decides it, how"
        " often it was seen, and a smallest sequence that shows it. The exit status is 1 when there is a difference"
        f" that nobody has judged yet (tools/differentials/judgements.py), and {UNAVAILABLE} when no guest can be had.",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=SEEDS,
        metavar="N",
        help=f"sequences by chance, beside the cases of the catalogue; {SEEDS}",
    )
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the seed of the first of them; 0")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the report goes; standard output")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `tools/differential` and returns its exit status."""
    options = _arguments(sys.argv[1:] if arguments is None else arguments)
    seeds = range(options.first, options.first + options.seeds)
    try:
        with lio(ready_image()) as theirs:
            compared = differential(theirs, [*cases(), *map(seeded, seeds)])
    except (GuestUnavailable, GuestFailed, OSError) as problem:
        print(f"differential: {problem}", file=sys.stderr)
        return UNAVAILABLE
    report = document(compared)
    if options.output:
        options.output.write_text(report)
    else:
        print(report, end="")
    return FAILED if compared.unknown else 0


def differential(theirs: Lio, sequences: Iterable[Steps]) -> Compared:
    """Plays sequences against LIO and this target, and returns the differences.

    raises    GuestFailed when LIO goes down
    """
    try:
        return asyncio.run(_compared(theirs, list(sequences)))
    except (ClientError, Endless) as problem:
        raise GuestFailed(f"{problem}; the end of the guest's kernel log:\n{theirs.kernel_log()}") from problem


async def _compared(theirs: Lio, sequences: Sequence[Steps]) -> Compared:
    found: tuple[Collected, Collected] = ({}, {})
    async with sides(theirs.place) as (its, *ours):
        for sequence in sequences:
            played, *mine = await play_on((its, *ours), sequence)
            for into, one in zip(found, mine, strict=True):
                collect(into, sequence, one, played)
        for into, side in zip(found, ours, strict=True):
            await _shorten(into, side, its)
    return Compared(len(sequences), *found, theirs.release)


async def _shorten(found: Collected, ours: Side, theirs: Side) -> None:
    for kind, seen in found.items():
        found[kind] = seen._replace(sequence=await shortened(seen.sequence, kind, ours, theirs))
