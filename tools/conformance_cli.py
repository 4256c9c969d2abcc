"""The command line of `tools/conformance`: which tests run against what, and how their results are printed."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence

from tools.lab import lab, run_lab
from tools.suite import DEFAULT_TIMEOUT_S, Result, SuiteUnavailable, Verdict, run_suite, summarise


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/conformance",
        description="Runs every test of the installed iscsi-test-cu against a unit, one process a test. Exit code 0"
        " when none failed or hung, with --lab when none was skipped either.",
    )
    parser.add_argument(
        "--lab", action="store_true", help="start this target with a unit for every test, and run each on its own"
    )
    parser.add_argument("url", nargs="?", help="iscsi://[USER%%SECRET@]HOST:PORT/TARGET/LUN")
    parser.add_argument("url2", nargs="?", help="the same unit by another path, for the MultipathIO tests")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="SUITE or SUITE.TEST, * and ?")
    parser.add_argument("--timeout", type=float, default=DEFAULT_TIMEOUT_S, metavar="S", help="seconds for each test")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, the totals last")
    parser.add_argument("--dataloss", action="store_true", help="required: the suite overwrites what is on the unit")
    return parser.parse_args(arguments)


def _print_result(result: Result, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result._asdict() | {"verdict": result.verdict.value}), flush=True)
    else:
        print(f"{result.name} {result.verdict.value} {result.reason}".rstrip(), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `tools/conformance` and returns its exit code: 0, 1 when a test failed or hung, 2 when nothing could run."""
    options = _arguments(sys.argv[1:] if arguments is None else arguments)
    if options.lab == bool(options.url):
        print("conformance: name a unit by its URL, or say --lab", file=sys.stderr)
        return 2
    if not options.dataloss and not options.lab:
        print("conformance: the suite overwrites the unit; say --dataloss when that may be", file=sys.stderr)
        return 2
    results: list[Result] = []
    try:
        for result in _results(options):
            results.append(result)
            _print_result(result, options.json)
    except SuiteUnavailable as unavailable:
        print(f"conformance: {unavailable}", file=sys.stderr)
        return 2
    if not results:
        print(f"conformance: no test matches {' '.join(options.only)}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({v.value: sum(r.verdict is v for r in results) for v in Verdict} | {"tests": len(results)}))
    else:
        print(summarise(results))
    wrong = {Verdict.FAIL, Verdict.HANG} | ({Verdict.SKIP} if options.lab else set())
    return int(any(result.verdict in wrong for result in results))


def _results(options: argparse.Namespace) -> Iterator[Result]:
    if options.lab:
        with lab() as target:
            yield from run_lab(target, options.only, options.timeout)
    else:
        yield from run_suite([options.url, *filter(None, [options.url2])], options.only, options.timeout)
