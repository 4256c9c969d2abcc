"""Compares I/O under a held reservation with I/O under none:   python -m tools.benchmark.registrants URL [--help]

64 sessions are open all the time. For "held" each of them is registered and another one than the loading one holds
Write Exclusive, Registrants Only; for "none" all is cleared. Both alternate in short slices, none held held none, so
that a slow moment of the machine hits both; what is printed is held / none, of commands a second and of processor time:
the medians of what such fours come to.
"""

import argparse
import json
import random
import struct
import sys
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from tools.benchmark.load import Figures, Pipe, Plan, check, places, run
from tools.benchmark.session import Identity, Session, SessionFailed, place_of

REGISTRANTS = 64
DEPTH = 32
SLICES = "none", "held", "held", "none"
REGISTER_AND_IGNORE, RESERVE, CLEAR = 6, 1, 3
WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5
PARAMETER_BYTES = 24


class Outcome(NamedTuple):
    """What came of the slices with and those without a reservation: commands, seconds, processor time of the target."""

    ios: int = 0
    elapsed_s: float = 0.0
    server_s: float = 0.0

    def plus(self, figures: Figures) -> "Outcome":
        """Returns the sum with one more slice."""
        spent = figures.spent
        return Outcome(self.ios + figures.ios, self.elapsed_s + spent.elapsed_s, self.server_s + spent.server_s)

    @property
    def rate(self) -> float:
        """Commands a second."""
        return self.ios / self.elapsed_s

    @property
    def server_us(self) -> float:
        """Processor time of the target for a command."""
        return self.server_s / self.ios * 1e6


def reserve_out(session: Session, service_action: int, *, key: int = 0, new_key: int = 0) -> None:
    """Performs PERSISTENT RESERVE OUT.

    raises    SessionFailed
    Source: SPC4r37 6.16
    """
    kind = WRITE_EXCLUSIVE_REGISTRANTS_ONLY if service_action == RESERVE else 0
    cdb = struct.pack(">BBBxxIx6x", 0x5F, service_action, kind, PARAMETER_BYTES)
    session.execute(cdb, struct.pack(">QQ8x", key, new_key))


def hold(sessions: Sequence[Session]) -> None:
    """Registers all sessions, and lets the second one hold the reservation."""
    for number, session in enumerate(sessions, 1):
        reserve_out(session, REGISTER_AND_IGNORE, new_key=number)
    reserve_out(sessions[1], RESERVE, key=2)


def release(sessions: Sequence[Session]) -> None:
    """Removes the reservation and all registrations, whatever there is."""
    reserve_out(sessions[0], REGISTER_AND_IGNORE, new_key=1)
    reserve_out(sessions[0], CLEAR, key=1)


def compare(sessions: Sequence[Session], plan: Plan, options: argparse.Namespace) -> list[dict[str, Outcome]]:
    """Loads the unit through the first session in slices, and returns the sums of both kinds in every four of them."""
    session = sessions[0]
    payload = random.randbytes(plan.size_bytes)  # of every run others, so that a write which is lost is seen
    lbas = places(plan, session.size_bytes(), 0)
    fours = []
    for _ in range(max(1, round(options.seconds / (2 * options.slice)))):
        outcomes = {"none": Outcome(), "held": Outcome()}
        for state in SLICES:
            if state == "held":
                hold(sessions)
            session.read(0, plan.size_bytes)
            pipe = Pipe(session, plan, payload, lbas)
            outcomes[state] = outcomes[state].plus(run([pipe], options.slice, options.server))
            check(pipe)
            release(sessions)
        fours.append(outcomes)
    return fours


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares and prints the ratios as a JSON object; returns the exit code: 0, or 1 when a command failed."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark.registrants", description="Loads a held unit.")
    parser.add_argument("url")
    parser.add_argument("--writes", action="store_true")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each kind")
    parser.add_argument("--slice", type=float, default=0.1, help="seconds of a slice")
    parser.add_argument("--server", type=int, default=0, help="the target's process, to count its processor time")
    options = parser.parse_args(arguments)
    try:
        sessions = [Session(place_of(options.url), Identity(number + 1)) for number in range(REGISTRANTS)]
        fours = compare(sessions, Plan(options.writes, depth=DEPTH), options)
    except (SessionFailed, OSError) as failed:
        print(f"registrants: {failed}", file=sys.stderr)
        return 1
    rates = [four["held"].rate / four["none"].rate for four in fours]
    times = [four["held"].server_us / max(four["none"].server_us, 0.001) for four in fours]
    print(json.dumps({"rate": median(rates), "server_us": median(times)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
