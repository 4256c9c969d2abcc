"""Runs the installed libiscsi conformance suite, one process a test, and tells a pass from a skip.

`iscsi-test-cu` counts a skipped test as passed, exits with 0 when no test matched, and repeats its tests in several
families. So each different test runs alone, is judged by what it printed, and is killed with its process group when
it does not end. The suite writes to the unit that it is given and takes its reservations away.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from fnmatch import fnmatchcase
from typing import NamedTuple

PROGRAM = "iscsi-test-cu"
PREFERRED_FAMILY = "ALL"
# This test looks at a variable before the answer that sets it can have come; what its first run in a process leaves
# there lets the second one pass. So it runs in all its families in one process, and the last run counts (1.19, 1.20).
JUDGED_BY_THE_LAST_RUN = {"iSCSITMF.LUNResetSimpleAsync"}
# It also writes to a command that it has freed, when that is answered before the reset (1.19; valgrind shows it). Freed
# memory that glibc keeps for its size alone is harmed by that no more than by any other use.
KEEPING_FREED = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=60000"}
DEFAULT_TIMEOUT_S = 60.0
DEFAULT_PORT = 3260
CONNECT_S = 5.0
MAX_REASON = 200  # characters; a reason is one line of a table

_SKIP = re.compile(r"(?:.*\[SKIPP(?:ED|ING)\]|.*?(?=\bSkipping\b))\s*(.*)")
_FAILED_STEP = re.compile(r"\[FAILED\]\s*(.*)")
_ASSERTION = re.compile(r"^\s*\d+\. (\S+:\d+\s+-\s.*?)(?:\s{4}Send .*)?$")
_COUNTS = re.compile(r"^\s*(suites|tests|asserts)\s+(\d+)\s+(\d+)\s+(\d+|n/a)\s+(\d+)")
_TEST_HEADING = re.compile(r"^  Test: ")
_TEST_END = re.compile(r"^(?:passed|FAILED)")


class Verdict(Enum):
    """How a test of the suite ended."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"
    HANG = "hang"


class Result(NamedTuple):
    """One test's end.

    name        SUITE.TEST
    verdict     pass only when nothing of it was skipped
    reason      why not pass, one line; empty for a pass
    elapsed_s   from the start of its process
    """

    name: str
    verdict: Verdict
    reason: str
    elapsed_s: float


class SuiteUnavailable(Exception):
    """Says that the suite cannot be run here: not installed, or its list of tests is unreadable."""


def parse_list(listing: str) -> dict[str, str]:
    """Reads the output of `iscsi-test-cu -l`.

    returns   SUITE.TEST -> the full name to run it by, in the suite's own order, each different test once
    """
    names: dict[str, str] = {}
    for line in listing.splitlines():
        family, _, name = line.strip().partition(".")
        if name.count(".") == 1 and (name not in names or family == PREFERRED_FAMILY):
            names[name] = f"{family}.{name}"
    return names


def installed_tests() -> dict[str, str]:
    """Returns the tests of the installed suite, as `parse_list` does, but for those that need several runs: a pattern.

    raises    SuiteUnavailable
    """
    if shutil.which(PROGRAM) is None:
        raise SuiteUnavailable(f"{PROGRAM} is not installed; on Debian: apt-get install libiscsi-bin")
    listed = subprocess.run([PROGRAM, "-l"], capture_output=True, text=True, errors="replace", check=False)
    tests = parse_list(listed.stdout)
    if not tests:
        raise SuiteUnavailable(f"{PROGRAM} -l listed no test: {listed.stderr.strip()}")
    return {name: f"*.{name}" if name in JUDGED_BY_THE_LAST_RUN else full for name, full in tests.items()}


def select(tests: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Returns the names that match a pattern, all when there is none; a pattern without a dot is a suite's name."""
    whole = [pattern if "." in pattern else f"{pattern}.*" for pattern in patterns]
    return [name for name in tests if not whole or any(fnmatchcase(name, pattern) for pattern in whole)]


def judge(output: str, errors: str, exit_code: int) -> tuple[Verdict, str]:
    """Tells from what a test printed, with -V, how it ended.

    output      standard output of the process
    errors      its standard error
    exit_code   as of subprocess: negative when a signal ended it
    returns     the verdict and its reason
    """
    if exit_code < 0:
        return Verdict.FAIL, f"killed by {signal.Signals(-exit_code).name}"
    lines = output.splitlines()
    counts = {found[1]: found for line in lines if (found := _COUNTS.match(line))}
    if "tests" not in counts:
        return Verdict.FAIL, _last_line(errors) or _last_line(output) or f"exit code {exit_code}, no summary"
    if counts["tests"][3] == "0":
        return Verdict.FAIL, "the suite ran no test"
    runs = [number for number, line in enumerate(lines) if _TEST_HEADING.match(line)]
    lines = lines[runs[-1] :] if runs else lines
    failures = [row for row in counts if counts[row][5] != "0"] if len(runs) == 1 else []
    if failures or exit_code > 1 or not any(line.startswith("passed") for line in lines):
        return Verdict.FAIL, _failure(lines)
    skipped = [found[1].strip() for line in _of_the_test(lines) if (found := _SKIP.match(line))]
    if skipped:
        return Verdict.SKIP, " | ".join(dict.fromkeys(skipped))[:MAX_REASON]
    return Verdict.PASS, ""


def _of_the_test(lines: Sequence[str]) -> Iterator[str]:
    """Yields the test's own lines: before them the tool looks at the unit, after them it clears reservations."""
    inside = False
    for line in lines:
        inside = (inside or bool(_TEST_HEADING.match(line))) and not _TEST_END.match(line)
        if inside:
            yield line


def _failure(lines: Sequence[str]) -> str:
    """Joins the first failed step, which says what happened, and the assertion, which says where in the suite."""
    step = next((found[1] for line in _of_the_test(lines) if (found := _FAILED_STEP.search(line))), "")
    assertion = next((found[1] for line in lines if (found := _ASSERTION.match(line))), "")
    joined = " | ".join(" ".join(part.split()) for part in (step, assertion) if part)
    return (joined or "failed without an assertion")[:MAX_REASON]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:MAX_REASON] if lines else ""


def run_test(full_name: str, urls: Sequence[str], timeout_s: float = DEFAULT_TIMEOUT_S) -> Result:
    """Runs one test in a process of its own.

    full_name   FAMILY.SUITE.TEST, or *.SUITE.TEST for all its families in one process
    urls        one, or two of the same unit for the multipath tests
    timeout_s   after that many seconds the test's process group is killed and the test has hung
    """
    command = [PROGRAM, "--dataloss", "--allow-sanitize", "--Verbose-scsi", "--test", full_name, *urls]
    name = full_name.partition(".")[2]
    started_s = _monotonic_s()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | KEEPING_FREED,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            reason = f"no end after {timeout_s:g} s; last: {_last_line(output.decode(errors='replace'))}"
            return Result(name, Verdict.HANG, reason[:MAX_REASON], _monotonic_s() - started_s)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    verdict, reason = judge(output.decode(errors="replace"), errors.decode(errors="replace"), process.returncode)
    return Result(name, verdict, reason, _monotonic_s() - started_s)


def _monotonic_s() -> float:
    return os.times().elapsed


def run_suite(
    urls: Sequence[str], patterns: Sequence[str] = (), timeout_s: float = DEFAULT_TIMEOUT_S
) -> Iterator[Result]:
    """Runs the installed tests that match, one after the other, and yields each result as it comes.

    urls, timeout_s   as of `run_test`
    patterns          as of `select`
    raises            SuiteUnavailable
    """
    tests = installed_tests()
    for url in urls:
        _check_reachable(url)
    for name in select(tests, patterns):
        yield run_test(tests[name], urls, timeout_s)


def _check_reachable(url: str) -> None:
    """Raises SuiteUnavailable when nothing listens where a URL points."""
    found = re.fullmatch(r"iscsi://(?:[^/@]*@)?\[?([^/]+?)\]?(?::(\d+))?/.*", url)
    if found is None:
        raise SuiteUnavailable(f"{url} is no URL of a unit; write iscsi://HOST:PORT/TARGET/LUN")
    address = found[1], int(found[2] or DEFAULT_PORT)
    try:
        socket.create_connection(address, CONNECT_S).close()
    except OSError as error:
        raise SuiteUnavailable(f"{url} cannot be reached: {error.strerror or error}; is the target running?") from None


def summarise(results: Iterable[Result]) -> str:
    """Returns the totals as one line."""
    counts = Counter(result.verdict for result in results)
    figures = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict)
    return f"{sum(counts.values())} tests: {figures}"
